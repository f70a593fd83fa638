//! What does `super_read_only` show while the statement that switches it on still waits for a commit?
//! (SAFETY section 1, a planned switchover.)

use std::time::{Duration, Instant};

use conclave_lab::{Lab, LabSpec, Result};

use crate::SOON;
use crate::killed::HANGS;

/// db1 acknowledges nothing, as its replicas receive nothing; a commit and then the switch wait.
#[test]
fn super_read_only_is_seen_on_before_commits_under_way_have_ended() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec::default())?;
    let db1 = lab.host("db1")?;
    for replica in lab.servers().iter().skip(1) {
        replica.sql("STOP REPLICA IO_THREAD")?;
    }
    let (mut writer, mut closer) = (db1.session()?, db1.session()?);
    let insert = "INSERT INTO app.w (id, v) VALUES (1, 'under way')";
    assert!(writer.sql(HANGS, insert).is_err(), "nobody acknowledges it");
    assert!(
        closer.sql(HANGS, "SET GLOBAL super_read_only = ON").is_err(),
        "the commit holds it up"
    );
    let shown = db1.sql_value("SELECT @@global.super_read_only")?;
    let before = db1.sql_value("SELECT @@global.gtid_executed")?;
    println!("while the switch waits for a commit, super_read_only shows {shown}");
    for replica in lab.servers().iter().skip(1) {
        replica.sql("START REPLICA IO_THREAD")?;
    }
    let ended = Instant::now();
    while db1.sql_value("SELECT @@global.gtid_executed")? == before {
        assert!(ended.elapsed() < SOON, "the commit under way never ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(shown, "1", "it is seen by others too early");
    Ok(())
}
