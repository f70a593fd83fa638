//! What the argument of SAFETY.md rests on, seen on real servers. Each test prints what it measured
//! (`-- --nocapture`).

// Real servers take real time: here the clock is what is waited for.
#![allow(clippy::disallowed_methods)]

mod coverage;
mod freeze;
mod half;
mod heartbeat;
mod killed;
mod restart;

use std::time::Duration;

use conclave_lab::{Lab, Result};

/// Generous: a loaded machine is not a failure.
const SOON: Duration = Duration::from_secs(60);

/// All servers follow db1 again, which runs and takes writes.
///
/// A receiver that was stopped in the middle of a transaction goes on first: without the rest of it
/// the applier could not be stopped (see [`half`]). And the source takes ackers that went away for
/// connected until it notices: it is told.
fn restore(lab: &Lab) -> Result<()> {
    let source = lab.host("db1")?;
    let dumps = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    for row in source.sql(dumps)? {
        // It may have ended in between.
        let _ = source.sql(&format!("KILL {}", row[0]));
    }
    let executed = source.sql_value("SELECT @@global.gtid_executed")?.replace('\n', "");
    for replica in lab.servers().iter().skip(1) {
        replica.sql("START REPLICA")?;
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 50)");
        let waited = replica.sql_within(SOON, &wait)?;
        assert_eq!(waited[0][0], "0", "{} does not catch up", replica.name());
    }
    lab.replicate("db1")
}
