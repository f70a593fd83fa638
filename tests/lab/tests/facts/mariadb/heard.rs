//! What moves on a replica while its source lives, and what still moves after it hung, was cut off or
//! was killed? As `heartbeat.rs` asks MySQL, of what MariaDB tells.

use conclave_lab::{Host, Lab, LabSpec, Result, Session};

use super::{follow, pick, up_replicated};
use crate::SOON;
use crate::heartbeat::{BEATS, Fault, Look, READ, RECEIVED, Trace, client, strike};

const LOOK: &str = "SHOW STATUS LIKE 'Slave_received_heartbeats'; SHOW SLAVE STATUS";

/// State, heartbeats, `Gtid_IO_Pos` as the received set, read position; it has no other.
fn look(session: &mut Session) -> Result<Look> {
    let rows = session.sql(SOON, LOOK)?;
    let none = String::new;
    let of = |column: &str| pick(&rows[1..], column);
    let [state, received] = [of("Slave_IO_Running"), of("Gtid_IO_Pos")];
    let read = of("Read_Master_Log_Pos");
    Ok(vec![state, rows[0][1].clone(), none(), received, none(), none(), read])
}

fn watch(replica: &Host) -> Result<(Session, Trace)> {
    let mut session = replica.session()?;
    let trace = Trace::new(&mut session, look)?;
    Ok((session, trace))
}

fn up() -> Result<Lab> {
    up_replicated(LabSpec { managers: 0, ..LabSpec::default() }, false)
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_heartbeats_move_on_an_idle_source_and_positions_on_a_busy_one() -> Result<()> {
    let lab = up()?;
    let db2 = lab.host("db2")?;
    let (mut session, mut idle) = watch(&db2)?;
    idle.until(&mut session, |beats, _| beats >= 4)?;
    idle.tell("idle");
    assert_eq!([idle.moves[RECEIVED], idle.moves[READ]], [0, 0], "an idle source sent something");
    let writer = client(&lab)?;
    let (mut session, mut busy) = watch(&db2)?;
    busy.until(&mut session, |_, received| received >= 100)?;
    busy.tell("busy");
    assert!(busy.moves[READ] > 0, "the read position stood still");
    println!("busy, heartbeats: {}", busy.moves[BEATS]);
    drop(writer);
    lab.down()
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_nothing_moves_once_the_source_hangs_is_cut_off_or_killed() -> Result<()> {
    let lab = up()?;
    let db1 = lab.host("db1")?;
    for fault in [Fault::Hang, Fault::Isolate, Fault::Kill] {
        for is_busy in [false, true] {
            let (writer, last) = strike(&lab, fault, is_busy, watch)?;
            match fault {
                Fault::Kill => assert_eq!(last[0], "Connecting"),
                Fault::Hang | Fault::Isolate => assert_eq!(last[0], "Yes"),
            }
            fault.end(&lab, &db1)?;
            drop(writer);
            db1.sql("SET GLOBAL read_only = OFF")?;
            follow(&lab)?;
        }
    }
    lab.down()
}
