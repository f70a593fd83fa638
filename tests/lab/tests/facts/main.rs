//! What the argument of SAFETY.md rests on, seen on real servers. Each test prints what it measured
//! (`-- --nocapture`).

// Real servers take real time: here the clock is what is waited for.
#![allow(clippy::disallowed_methods)]

mod closing;
mod coverage;
mod half;
mod heartbeat;
mod killed;
mod mariadb;
mod rescue;
mod restart;

use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, Result};

/// Generous: a loaded machine is not a failure.
const SOON: Duration = Duration::from_secs(60);
/// Column of `SHOW REPLICA STATUS`: `Replica_SQL_Running`.
const APPLIER_RUNS: usize = 11;

/// All servers follow db1 again, which runs and takes writes.
///
/// An applier that waits for the rest of a transaction is killed, as it would not stop (see
/// [`half`]). The source takes ackers that went away for connected until it notices: it is told. And
/// a write of our own releases the commits whose acknowledgements were lost.
fn restore(lab: &Lab) -> Result<()> {
    let threads =
        |what: &str| format!("SELECT id FROM information_schema.processlist WHERE {what}");
    let end = |host: &Host, what: &str| -> Result<()> {
        for row in host.sql(&threads(what))? {
            // It may have ended in between.
            let _ = host.sql(&format!("KILL {}", row[0]));
        }
        Ok(())
    };
    end(&lab.host("db1")?, "command LIKE 'Binlog Dump%'")?;
    for replica in lab.servers().iter().skip(1) {
        replica.sql_within(SOON, "STOP REPLICA IO_THREAD")?;
        let applier = "user = 'system user' AND state LIKE 'Replica has read all%'";
        let until = Instant::now() + SOON;
        while !replica.sql("SHOW REPLICA STATUS")?.iter().all(|row| row[APPLIER_RUNS] == "No") {
            assert!(Instant::now() < until, "the applier of {} runs on", replica.name());
            end(replica, applier)?;
            thread::sleep(Duration::from_millis(10));
        }
    }
    lab.replicate("db1")?;
    let marker = "REPLACE INTO app.t VALUES (0, 'marker', NOW(6))";
    lab.host("db1")?.sql_within(SOON, marker).map(|_| ())
}
