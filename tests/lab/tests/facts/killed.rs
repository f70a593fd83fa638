//! A session holds the lock and a statement of it hangs. The next holder kills it and waits for the
//! lock. Does the statement ever take effect after that? (SAFETY invariant 6.)

use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, Session, Writer, WriterSpec};

use crate::{SOON, restore};
use conclave_lab::freeze::Frozen;

/// A statement that has not been answered by then hangs.
const HANGS: Duration = Duration::from_millis(300);
/// How long what must not change is watched once nothing hangs any more.
const WATCHED: Duration = Duration::from_millis(300);

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

struct Case {
    statement: &'static str,
    hold: Hold,
    server: &'static str,
    /// Brings the server into the state that the statement changes.
    before: &'static str,
    /// Reads that state.
    state: &'static str,
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
) -> Case {
    Case { statement, hold, server: "db2", before, state }
}

const fn source(hold: Hold, statement: &'static str, before: &'static str) -> Case {
    Case { statement, hold, server: "db1", before, state: READ_ONLY }
}

const KEEP_ROW: &str = "BEGIN; SELECT COUNT(*) FROM mysql.slave_master_info FOR SHARE";
const OPEN: &str = "SET GLOBAL read_only = OFF";
const ARM: &str = "SET GLOBAL rpl_semi_sync_source_enabled = ON";
const SHUT: &str = "SET GLOBAL super_read_only = ON";

/// Two neighbours are played in turns: with a client that lives, and one whose host lost its power.
const CASES: [Case; 12] = [
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

/// What holds the statement, until it is dropped.
enum Held {
    Thread(#[allow(dead_code)] Frozen),
    Receiver(#[allow(dead_code)] Frozen, #[allow(dead_code)] Writer),
    Session(#[allow(dead_code)] Session),
    Commit(Host, #[allow(dead_code)] Session),
}

impl Held {
    fn new(lab: &Lab, case: &Case, stale: &Session) -> Result<Held> {
        let server = lab.host(case.server)?;
        let begun = |statements: &str| {
            let mut session = server.session()?;
            session.sql(SOON, statements)?;
            Ok(Held::Session(session))
        };
        match case.hold {
            Hold::Own => {
                let which = format!("processlist_id = {}", stale.id());
                Ok(Held::Thread(Frozen::new(&server, &which)?))
            }
            Hold::Receiver => hold_receiver(lab, &server),
            Hold::Row => begun(KEEP_ROW),
            Hold::Channel => {
                let (mut row, mut channel) = (server.session()?, server.session()?);
                row.sql(SOON, KEEP_ROW)?;
                let change = "CHANGE REPLICATION SOURCE TO SOURCE_CONNECT_RETRY = 2";
                channel.sql(HANGS, change).expect_err("the row is locked");
                Ok(Held::Session(row))
            }
            Hold::Table => begun("LOCK TABLES app.w WRITE"),
            Hold::Commit => {
                lab.host("db2")?.sql("STOP REPLICA IO_THREAD")?;
                let mut session = server.session()?;
                let insert = "INSERT INTO app.w VALUES (CONNECTION_ID(), 'waits', NOW(6))";
                session.sql(HANGS, insert).expect_err("nobody acknowledges");
                Ok(Held::Commit(lab.host("db2")?, session))
            }
        }
    }

    fn release(self) -> Result<()> {
        match self {
            Held::Thread(_) | Held::Receiver(..) | Held::Session(_) => Ok(()),
            Held::Commit(replica, _) => replica.sql("START REPLICA IO_THREAD").map(|_| ()),
        }
    }
}

/// Holds the receiver in the middle of its work.
fn hold_receiver(lab: &Lab, replica: &Host) -> Result<Held> {
    let writer = lab.write(&WriterSpec::default())?;
    let frozen = Frozen::while_it_syncs(replica, "name LIKE 'thread/sql/%\\_io'", 0)?;
    Ok(Held::Receiver(frozen, writer))
}

/// Whether a session's thread is still there.
fn lives(server: &Host, session: u32) -> Result<bool> {
    let ask =
        format!("SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_id = {session}");
    Ok(server.sql_value(&ask)? != "0")
}

/// Plays a case; says whether the lock was to be had while the statement hung, and the state before
/// the statement, when the lock was had, and in the end.
fn play(lab: &Lab, case: &Case, is_host_lost: bool) -> Result<(bool, [String; 3])> {
    let (server, m1) = (lab.host(case.server)?, lab.host("m1")?);
    server.sql_within(SOON, case.before)?;
    let state = || server.sql_within(SOON, case.state).map(|rows| rows.concat().join(" "));
    let before = state()?;
    let mut stale = m1.session_to(&server)?;
    stale.sql(SOON, "SELECT GET_LOCK('conclave.app1', 0)")?;
    let held = Held::new(lab, case, &stale)?;
    let hung = stale.sql(HANGS, case.statement);
    let is_hung = hung.as_ref().is_err_and(|error| error.to_string().contains("no answer"));
    assert!(is_hung, "{} with {:?} does not hang: {hung:?}", case.statement, case.hold);
    if is_host_lost {
        m1.power_off()?;
    }
    let (mut killer, mut next) = (server.session()?, server.session()?);
    // It waits for a thread that stands still while it waits for a statement.
    let killed = killer.sql(HANGS, &format!("KILL {}", stale.id()));
    assert!(case.hold == Hold::Own || killed.is_ok(), "{killed:?}");
    let wait = u8::from(killed.is_ok());
    let take = format!("SELECT GET_LOCK('conclave.app1', {wait})");
    let at_once = next.sql(SOON, &take)?[0][0] == "1";
    let mut held = Some(held);
    if !at_once {
        held.take().map(Held::release).transpose()?;
        assert_eq!(next.sql(SOON, "SELECT GET_LOCK('conclave.app1', 50)")?[0][0], "1");
    }
    let with_lock = next.sql(SOON, case.state)?.concat().join(" ");
    held.take().map(Held::release).transpose()?;
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
    Ok((at_once, [before, with_lock, after]))
}

#[test]
fn killed_statement_never_takes_effect_once_the_next_holder_has_the_lock() -> Result<()> {
    let spec = LabSpec { managers: 1, servers: 2, performance_schema: true, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let mut late = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let is_host_lost = number % 2 == 1;
        let begun = Instant::now();
        let (at_once, states) = play(&lab, case, is_host_lost)?;
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
        if states[1] != states[2] {
            late.push(line);
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
    held.release()?;
    let until = Instant::now() + SOON;
    while next.sql(SOON, RECEIVER)?[0][0] == "0" {
        assert!(Instant::now() < until, "the receiver runs on");
        thread::sleep(Duration::from_millis(10));
    }
    lab.down()
}
