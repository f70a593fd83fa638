//! A session holds the lock and a statement of it hangs; the next holder kills it and waits for the
//! lock. As `killed.rs` asks MySQL, with MariaDB's statements and what holds them up there.

use std::fs;
use std::time::{Duration, Instant};

use conclave_lab::freeze::Frozen;
use conclave_lab::{Host, Lab, LabSpec, Result, Session};

use super::{follow, up_replicated};
use crate::SOON;
use crate::killed::{Case, HANGS, Holding, Release, WATCHED, by_dropping, play};

/// What makes the statement hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Its own thread stands still before the statement arrives.
    Own,
    /// A session has locked a table.
    Table,
    /// A session writes to a table, and takes its time.
    Write,
    /// A commit waits for acknowledgements.
    Commit,
    /// The applier waits for a table that a session has locked.
    ApplierOfTable,
    /// The applier waits for a row that a session has locked.
    ApplierOfRow,
    /// The applier's thread stands still.
    Applier,
    /// The receiver's thread stands still.
    Receiver,
    /// Another session's `STOP SLAVE`, as the applier's thread stands still.
    Stop,
}

const READ_ONLY: &str = "SELECT @@global.read_only";
/// Which threads run. `SHOW SLAVE STATUS` would wait like the statement itself.
const THREADS: &str = "SELECT command FROM information_schema.processlist \
    WHERE command IN ('Slave_IO', 'Slave_SQL') ORDER BY command";
const CHANGE: &str = "CHANGE MASTER TO MASTER_HOST = '10.77.3.11'";
const CLOSE: &str = "SET GLOBAL read_only = ON";

const fn source(hold: Hold) -> Case<Hold> {
    Case { statement: CLOSE, hold, server: "db1", before: "DO 0", state: READ_ONLY }
}

const fn replica(hold: Hold, statement: &'static str, before: &'static str) -> Case<Hold> {
    Case { statement, hold, server: "db2", before, state: THREADS }
}

/// With what is so when the next holder has the lock, and stays so.
const CASES: [(Case<Hold>, &str); 13] = [
    (source(Hold::Own), OPEN),
    (source(Hold::Table), OPEN),
    (source(Hold::Write), OPEN),
    (source(Hold::Commit), OPEN),
    (replica(Hold::ApplierOfTable, "STOP SLAVE", "DO 0"), STOPPED),
    (replica(Hold::ApplierOfRow, "STOP SLAVE", "DO 0"), STOPPED),
    (replica(Hold::Applier, "STOP SLAVE", "DO 0"), STOPPED),
    (replica(Hold::Receiver, "STOP SLAVE IO_THREAD", "DO 0"), "Slave_SQL 10.77.1.11"),
    (replica(Hold::Own, "START SLAVE IO_THREAD", "STOP SLAVE"), STOPPED),
    (replica(Hold::Own, CHANGE, "STOP SLAVE"), STOPPED),
    (replica(Hold::Own, "RESET SLAVE ALL", "STOP SLAVE"), STOPPED),
    (replica(Hold::Stop, CHANGE, "DO 0"), " 10.77.3.11"),
    (replica(Hold::Stop, "RESET SLAVE ALL", "DO 0"), " no source"),
];
/// Takes writes, and replicates nothing.
const OPEN: &str = "0 no source";
const STOPPED: &str = " 10.77.1.11";

const WAITS_FOR_TABLE: &str = "SELECT COUNT(*) FROM information_schema.processlist \
    WHERE command = 'Slave_SQL' AND state LIKE 'Waiting for table%'";
// Not `innodb_trx`, which stays as it is while it is asked often.
const WAITS_FOR_ROW: &str = "SELECT variable_value FROM information_schema.global_status \
    WHERE variable_name = 'Innodb_row_lock_current_waits'";

/// Holds the applier by what a session has locked, with a write that waits for it.
fn behind(lab: &Lab, replica: &Host, lock: &str, waits: &str) -> Result<Release> {
    let mut session = replica.session()?;
    session.sql(SOON, lock)?;
    lab.host("db1")?.sql("REPLACE INTO app.w VALUES (77, 'waits', NOW(6))")?;
    super::until("the applier to wait", || Ok(replica.sql_value(waits)? == "1"))?;
    Ok(by_dropping(session))
}

/// A `STOP SLAVE` that goes on when the applier does.
fn hold_stop(replica: &Host) -> Result<(Frozen, Session)> {
    let frozen = Frozen::new(replica, APPLIER)?;
    let mut session = replica.session()?;
    session.sql(HANGS, "STOP SLAVE").expect_err("the applier stands still");
    Ok((frozen, session))
}

impl Holding for Hold {
    fn is_own(&self) -> bool {
        *self == Hold::Own
    }

    fn hold(&self, lab: &Lab, server: &Host, stale: &Session) -> Result<Release> {
        let stand_still = |which: &str| Frozen::new(server, which);
        match self {
            Hold::Own => stand_still(&format!("processlist_id = {}", stale.id())).map(by_dropping),
            Hold::Table => {
                let mut session = server.session()?;
                session.sql(SOON, "LOCK TABLES app.w WRITE")?;
                Ok(by_dropping(session))
            }
            Hold::Write => {
                let mut session = server.session()?;
                let insert = "INSERT INTO app.w SELECT CONNECTION_ID(), SLEEP(50), NOW(6)";
                session.sql(HANGS, insert).expect_err("it sleeps");
                let (server, id) = (server.clone(), session.id());
                Ok(Box::new(move || {
                    server.sql(&format!("KILL {id}"))?;
                    drop(session);
                    Ok(())
                }))
            }
            Hold::Commit => {
                let mut session = server.session()?;
                server.sql("SET GLOBAL rpl_semi_sync_master_enabled = ON")?;
                let insert = "INSERT INTO app.w VALUES (CONNECTION_ID(), 'waits', NOW(6))";
                session.sql(HANGS, insert).expect_err("nobody acknowledges");
                let server = server.clone();
                Ok(Box::new(move || {
                    server.sql_within(SOON, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")?;
                    drop(session);
                    Ok(())
                }))
            }
            Hold::ApplierOfTable => behind(lab, server, "LOCK TABLES app.w WRITE", WAITS_FOR_TABLE),
            Hold::ApplierOfRow => {
                let lock = "BEGIN; INSERT INTO app.w VALUES (77, 'held', NOW(6))";
                behind(lab, server, lock, WAITS_FOR_ROW)
            }
            Hold::Applier => stand_still(APPLIER).map(by_dropping),
            Hold::Receiver => stand_still(RECEIVER).map(by_dropping),
            Hold::Stop => hold_stop(server).map(by_dropping),
        }
    }

    /// And where the source is, as the server itself keeps it.
    fn state(&self, server: &Host, ask: &str) -> Result<String> {
        let told = server.sql_within(SOON, ask)?.concat().join(" ");
        let file = fs::read_to_string(server.srv().join("data/master.info")).unwrap_or_default();
        Ok(format!("{told} {}", file.lines().nth(3).unwrap_or("no source")))
    }
}

/// Rounds of [`start_behind_a_stop`].
const ROUNDS: usize = 20;
const RECEIVERS: &str = "SELECT COUNT(*) FROM information_schema.processlist \
    WHERE command = 'Slave_IO'";
const APPLIER: &str = "name = 'thread/sql/slave_sql'";
const RECEIVER: &str = "name = 'thread/sql/slave_io'";

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_killed_statement_never_takes_effect_once_the_next_holder_has_the_lock() -> Result<()> {
    let spec = LabSpec { managers: 1, performance_schema: true, ..LabSpec::default() };
    let lab = up_replicated(spec, false)?;
    let mut others = Vec::new();
    for (case, wanted) in &CASES {
        // Played with a client that lives, and with one whose host lost its power.
        for is_host_lost in [false, true] {
            let seen = play(&lab, case, is_host_lost)?;
            if seen.states[1..] != [*wanted; 2] {
                others.push((wanted, seen.line));
            }
            lab.host("db1")?.sql_within(SOON, "SET GLOBAL read_only = OFF")?;
            follow(&lab)?;
        }
    }
    assert!(others.is_empty(), "not as it was found to be: {others:#?}");
    lab.down()
}

/// What a killed `START SLAVE IO_THREAD` leaves behind: whether the receiver runs when the next
/// holder has the lock and has done `act`, and for how long after that it was seen not to run.
fn start_behind_a_stop(lab: &Lab, act: &str) -> Result<(bool, Option<Duration>)> {
    let db2 = lab.host("db2")?;
    let runs = || Ok(db2.sql_value(RECEIVERS)? == "1");
    let (mut stale, mut next) = (db2.session()?, db2.session()?);
    stale.sql(SOON, "SELECT GET_LOCK('conclave.app1', 0)")?;
    let held = hold_stop(&db2)?;
    stale.sql(HANGS, "START SLAVE IO_THREAD").expect_err("it waits for the stop");
    db2.sql(&format!("KILL {}", stale.id()))?;
    drop(held);
    assert_eq!(next.sql(SOON, "SELECT GET_LOCK('conclave.app1', 50)")?[0][0], "1");
    next.sql(SOON, act)?;
    let (begun, with_lock) = (Instant::now(), runs()?);
    let mut late = None;
    while !with_lock && late.is_none() && begun.elapsed() < WATCHED {
        let not_yet = begun.elapsed();
        late = runs()?.then_some(not_yet);
    }
    follow(lab)?;
    Ok((with_lock, late))
}

/// The one that does: the thread that it made begins when it begins, and a killed `START SLAVE` does
/// not wait for that.
#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_killed_start_of_a_receiver_takes_effect_late() -> Result<()> {
    let spec = LabSpec { managers: 0, performance_schema: true, ..LabSpec::default() };
    let lab = up_replicated(spec, false)?;
    for (act, is_late) in [("DO 0", true), ("STOP SLAVE IO_THREAD", false)] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(start_behind_a_stop(&lab, act)?);
        }
        let already = rounds.iter().filter(|(with_lock, _)| *with_lock).count();
        let late: Vec<_> = rounds.iter().filter_map(|(_, late)| *late).collect();
        println!(
            "after {act}: of {ROUNDS} receivers {already} ran already, {} began later, the last of \
             them was not there yet after {:?}",
            late.len(),
            late.iter().max(),
        );
        assert_eq!((already + late.len() > 0, !late.is_empty()), (is_late, is_late), "{act}");
    }
    lab.down()
}
