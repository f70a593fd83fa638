//! The facts of the other files once more on MariaDB, which differs. By hand only, as its packages
//! are fetched first: `cargo test -p conclave-lab --test facts mariadb -- --ignored --nocapture`.

use conclave_lab::{LabSpec, Result, mariadb};

#[test]
#[ignore = "explore"]
fn explore() -> Result<()> {
    let spec = LabSpec { managers: 1, servers: 2, keep: true, name: Some("mdb".into()), performance_schema: true, ..LabSpec::default() };
    let lab = mariadb::up(spec)?;
    let db2 = lab.host("db2")?;
    println!("{}", db2.sql_value("SELECT @@version")?);
    db2.sql(&mariadb::change_source("db2", &lab.host("db1")?))?;
    db2.sql("SET GLOBAL rpl_semi_sync_slave_enabled=ON; START SLAVE")?;
    std::mem::forget(lab);
    Ok(())
}
