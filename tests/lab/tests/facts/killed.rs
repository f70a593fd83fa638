//! A session holds the lock and a statement of it hangs. The next holder kills it and waits for the
//! lock. Does the statement ever take effect after that? (SAFETY invariant 6.)

use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, Session, WriterSpec};

use crate::{SOON, restore};
use conclave_lab::freeze::Frozen;

/// A statement that has not been answered by then hangs.
pub(crate) const HANGS: Duration = Duration::from_millis(300);
/// How long what must not change is watched once nothing hangs any more.
pub(crate) const WATCHED: Duration = Duration::from_millis(300);

/// What makes the statement hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Its own thread stands still before the statement arrives.
    Own,
    /// The receiver's thread stands still while it makes its relay log durable.
    Receiver,
    /// Another session has locked the channel.
    Channel,
    /// A transaction holds the row in which the server keeps its source.
    Row,
    /// A commit waits for acknowledgements.
    Commit,
    /// A session has locked a table.
    Table,
}

/// A way to make a statement hang.
pub(crate) trait Holding: std::fmt::Debug {
    /// Whether it is the session's own thread that stands still.
    fn is_own(&self) -> bool;

    /// Begins to hold what a session will say next to a server; ends when it is called, or dropped.
    fn hold(&self, lab: &Lab, server: &Host, stale: &Session) -> Result<Release>;

    /// What the statement changes, by the statement that reads it.
    fn state(&self, server: &Host, ask: &str) -> Result<String> {
        server.sql_within(SOON, ask).map(|rows| rows.concat().join(" "))
    }
}

/// Lets go of what holds the statement.
pub(crate) type Release = Box<dyn FnOnce() -> Result<()>>;

/// A release by dropping what holds.
pub(crate) fn by_dropping(held: impl Sized + 'static) -> Release {
    Box::new(move || {
        drop(held);
        Ok(())
    })
}

pub(crate) struct Case<H> {
    pub statement: &'static str,
    pub hold: H,
    pub server: &'static str,
    /// Brings the server into the state that the statement changes.
    pub before: &'static str,
    /// Reads that state.
    pub state: &'static str,
}

const READ_ONLY: &str = "SELECT @@global.read_only, @@global.super_read_only";
const RECEIVER: &str = "SELECT service_state = 'OFF' \
    FROM performance_schema.replication_connection_status";
const SOURCE: &str = "SELECT IFNULL(MAX(host), '') \
    FROM performance_schema.replication_connection_configuration; \
    SELECT IFNULL(MAX(host), '') FROM mysql.slave_master_info";
const SEMI_SYNC: &str = "SELECT @@global.rpl_semi_sync_source_enabled";
const CHANGE: &str = "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.77.3.11'";

const fn replica(
    hold: Hold,
    statement: &'static str,
    before: &'static str,
    state: &'static str,
) -> Case<Hold> {
    Case { statement, hold, server: "db2", before, state }
}

const fn source(hold: Hold, statement: &'static str, before: &'static str) -> Case<Hold> {
    Case { statement, hold, server: "db1", before, state: READ_ONLY }
}

const KEEP_ROW: &str = "BEGIN; SELECT COUNT(*) FROM mysql.slave_master_info FOR SHARE";
const OPEN: &str = "SET GLOBAL read_only = OFF";
const ARM: &str = "SET GLOBAL rpl_semi_sync_source_enabled = ON";
const SHUT: &str = "SET GLOBAL super_read_only = ON";

/// Two neighbours are played in turns: with a client that lives, and one whose host lost its power.
const CASES: [Case<Hold>; 12] = [
    replica(Hold::Own, OPEN, SHUT, READ_ONLY),
    replica(Hold::Own, "START REPLICA IO_THREAD", "STOP REPLICA", RECEIVER),
    replica(Hold::Own, CHANGE, "STOP REPLICA", SOURCE),
    replica(Hold::Own, ARM, "DO 0", SEMI_SYNC),
    replica(Hold::Channel, "START REPLICA IO_THREAD", "STOP REPLICA", RECEIVER),
    replica(Hold::Channel, "STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD", RECEIVER),
    replica(Hold::Receiver, "STOP REPLICA IO_THREAD", "DO 0", RECEIVER),
    replica(Hold::Row, "STOP REPLICA", "DO 0", RECEIVER),
    replica(Hold::Row, CHANGE, "STOP REPLICA", SOURCE),
    replica(Hold::Row, "RESET REPLICA ALL", "STOP REPLICA", SOURCE),
    source(Hold::Commit, SHUT, "DO 0"),
    source(Hold::Table, "SET GLOBAL read_only = ON", "DO 0"),
];

impl Holding for Hold {
    fn is_own(&self) -> bool {
        *self == Hold::Own
    }

    fn hold(&self, lab: &Lab, server: &Host, stale: &Session) -> Result<Release> {
        let begun = |statements: &str| {
            let mut session = server.session()?;
            session.sql(SOON, statements)?;
            Ok(by_dropping(session))
        };
        match self {
            Hold::Own => {
                let which = format!("processlist_id = {}", stale.id());
                Ok(by_dropping(Frozen::new(server, &which)?))
            }
            Hold::Receiver => hold_receiver(lab, server),
            Hold::Row => begun(KEEP_ROW),
            Hold::Channel => {
                let (mut row, mut channel) = (server.session()?, server.session()?);
                row.sql(SOON, KEEP_ROW)?;
                let change = "CHANGE REPLICATION SOURCE TO SOURCE_CONNECT_RETRY = 2";
                channel.sql(HANGS, change).expect_err("the row is locked");
                Ok(by_dropping(row))
            }
            Hold::Table => begun("LOCK TABLES app.w WRITE"),
            Hold::Commit => {
                let replica = lab.host("db2")?;
                replica.sql("STOP REPLICA IO_THREAD")?;
                let mut session = server.session()?;
                let insert = "INSERT INTO app.w VALUES (CONNECTION_ID(), 'waits', NOW(6))";
                session.sql(HANGS, insert).expect_err("nobody acknowledges");
                Ok(Box::new(move || {
                    replica.sql("START REPLICA IO_THREAD")?;
                    drop(session);
                    Ok(())
                }))
            }
        }
    }
}

/// Holds the receiver in the middle of its work.
fn hold_receiver(lab: &Lab, replica: &Host) -> Result<Release> {
    let writer = lab.write(&WriterSpec::default())?;
    let frozen = Frozen::while_it_syncs(replica, "name LIKE 'thread/sql/%\\_io'", 0)?;
    Ok(by_dropping((frozen, writer)))
}

/// Whether a session's thread is still there.
fn lives(server: &Host, session: u32) -> Result<bool> {
    let ask =
        format!("SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_id = {session}");
    Ok(server.sql_value(&ask)? != "0")
}

/// What was seen of a case.
pub(crate) struct Seen {
    /// Before the statement, when the next holder had the lock, and in the end.
    pub states: [String; 3],
    /// All of it in words.
    pub line: String,
}

/// Plays a case.
pub(crate) fn play<H: Holding>(lab: &Lab, case: &Case<H>, is_host_lost: bool) -> Result<Seen> {
    let begun = Instant::now();
    let (server, m1) = (lab.host(case.server)?, lab.host("m1")?);
    server.sql_within(SOON, case.before)?;
    let state = || case.hold.state(&server, case.state);
    let before = state()?;
    let mut stale = m1.session_to(&server)?;
    stale.sql(SOON, "SELECT GET_LOCK('conclave.app1', 0)")?;
    let held = case.hold.hold(lab, &server, &stale)?;
    let hung = stale.sql(HANGS, case.statement);
    let is_hung = hung.as_ref().is_err_and(|error| error.to_string().contains("no answer"));
    assert!(is_hung, "{} with {:?} does not hang: {hung:?}", case.statement, case.hold);
    if is_host_lost {
        m1.power_off()?;
    }
    let (mut killer, mut next) = (server.session()?, server.session()?);
    // It waits for a thread that stands still while it waits for a statement.
    let killed = killer.sql(HANGS, &format!("KILL {}", stale.id()));
    assert!(case.hold.is_own() || killed.is_ok(), "{killed:?}");
    let wait = u8::from(killed.is_ok());
    let take = format!("SELECT GET_LOCK('conclave.app1', {wait})");
    let at_once = next.sql(SOON, &take)?[0][0] == "1";
    let mut held = Some(held);
    let mut release = || held.take().map_or(Ok(()), |release| release());
    if !at_once {
        release()?;
        assert_eq!(next.sql(SOON, "SELECT GET_LOCK('conclave.app1', 50)")?[0][0], "1");
    }
    let with_lock = state()?;
    release()?;
    let until = Instant::now() + SOON;
    while lives(&server, stale.id())? {
        assert!(Instant::now() < until, "the killed session does not end");
        thread::sleep(Duration::from_millis(10));
    }
    let mut after = state()?;
    let watched = Instant::now() + WATCHED;
    while after == with_lock && Instant::now() < watched {
        thread::sleep(Duration::from_millis(20));
        after = state()?;
    }
    drop(stale);
    if is_host_lost {
        m1.power_on(false)?;
    }
    let states = [before, with_lock, after];
    let line = format!(
        "{} on {}, held by {:?}, client {}: lock {}; state before, with the lock, in the end: \
         {states:?}; {:.1} s",
        case.statement,
        case.server,
        case.hold,
        if is_host_lost { "lost" } else { "alive" },
        if at_once { "at once" } else { "once it went on" },
        begun.elapsed().as_secs_f32(),
    );
    println!("{line}");
    Ok(Seen { states, line })
}

#[test]
fn killed_statement_never_takes_effect_once_the_next_holder_has_the_lock() -> Result<()> {
    let spec = LabSpec { managers: 1, servers: 2, performance_schema: true, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let mut late = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let seen = play(&lab, case, number % 2 == 1)?;
        if seen.states[1] != seen.states[2] {
            late.push(seen.line);
        }
        lab.host("db1")?.sql("SET GLOBAL read_only = OFF")?;
        restore(&lab)?;
    }
    assert!(late.is_empty(), "took effect late: {late:#?}");
    lab.down()
}

/// The one that does: a `STOP REPLICA` that gave up by `rpl_stop_replica_timeout`, which is a year
/// unless somebody set it.
#[test]
fn stop_of_a_receiver_that_gave_up_takes_effect_late() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec {
        managers: 0,
        servers: 2,
        performance_schema: true,
        ..LabSpec::default()
    })?;
    let db2 = lab.host("db2")?;
    assert_eq!(db2.sql_value("SELECT @@global.rpl_stop_replica_timeout")?, "31536000");
    let mut stale = db2.session()?;
    stale.sql(
        SOON,
        "SELECT GET_LOCK('conclave.app1', 0); SET GLOBAL rpl_stop_replica_timeout = 2",
    )?;
    let held = hold_receiver(&lab, &db2)?;
    let gave_up = stale.sql(SOON, "STOP REPLICA IO_THREAD").unwrap_err().to_string();
    assert!(gave_up.contains("1876"), "{gave_up}");
    drop(stale);
    let mut next = db2.session()?;
    assert_eq!(next.sql(SOON, "SELECT GET_LOCK('conclave.app1', 50)")?[0][0], "1");
    assert_eq!(next.sql(SOON, RECEIVER)?[0][0], "0");
    held()?;
    let until = Instant::now() + SOON;
    while next.sql(SOON, RECEIVER)?[0][0] == "0" {
        assert!(Instant::now() < until, "the receiver runs on");
        thread::sleep(Duration::from_millis(10));
    }
    lab.down()
}
