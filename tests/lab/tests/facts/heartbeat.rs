//! What moves on a replica while its source lives, and what still moves after it hung, was killed or
//! was cut off? (SAFETY invariant 3b, `decide::hear`.)

use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, Session, Writer, WriterSpec, now_us};

use crate::{SOON, restore};

/// Everything that `decide::hear` goes by, and what it might: state, count and time of heartbeats,
/// received set, and the transaction that is under way; and how far it has read.
const LOOK: &str = "SELECT service_state, count_received_heartbeats, last_heartbeat_timestamp, \
    received_transaction_set, queueing_transaction, last_queued_transaction \
    FROM performance_schema.replication_connection_status; SHOW REPLICA STATUS";
/// Column of `SHOW REPLICA STATUS`: `Read_Source_Log_Pos`.
const READ_TO: usize = 6;
/// Columns of a look.
pub(crate) const BEATS: usize = 1;
pub(crate) const RECEIVED: usize = 3;
const QUEUEING: usize = 4;
pub(crate) const READ: usize = 6;
/// No look finds anything new for so long: two heartbeat periods of the lab's links.
const STILL: Duration = Duration::from_secs(1);

/// One look, in the order of [`LOOK`].
pub(crate) type Look = Vec<String>;

/// When something was last seen to have moved, and how often each column did.
pub(crate) struct Trace {
    begun: u64,
    look: fn(&mut Session) -> Result<Look>,
    pub last: Look,
    moved: u64,
    pub moves: [usize; 7],
    /// The longest time between two movements of heartbeats or received set.
    pause: u64,
}

fn look(session: &mut Session) -> Result<Look> {
    let rows = session.sql(SOON, LOOK)?;
    Ok([&*rows[0], &rows[1][READ_TO..=READ_TO]].concat())
}

impl Trace {
    /// The first look. What a server does not tell stays empty.
    pub fn new(session: &mut Session, look: fn(&mut Session) -> Result<Look>) -> Result<Trace> {
        let (last, now) = (look(session)?, now_us());
        Ok(Trace { begun: now, look, last, moved: now, moves: [0; 7], pause: 0 })
    }

    fn look(&mut self, session: &mut Session) -> Result<()> {
        let look = (self.look)(session)?;
        let now = now_us();
        for (column, count) in self.moves.iter_mut().enumerate() {
            *count += usize::from(look[column] != self.last[column]);
        }
        if (&look[BEATS], &look[RECEIVED]) != (&self.last[BEATS], &self.last[RECEIVED]) {
            self.pause = self.pause.max(now - self.moved);
            self.moved = now;
        }
        self.last = look;
        thread::sleep(Duration::from_millis(5));
        Ok(())
    }

    /// Heartbeats and changes of the received set by now.
    pub fn count(&self) -> [usize; 2] {
        [self.moves[BEATS], self.moves[RECEIVED]]
    }

    /// Looks until `is_enough` by the counts of heartbeats and of changes of the received set.
    pub fn until(
        &mut self,
        on: &mut Session,
        is_enough: impl Fn(usize, usize) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + SOON;
        while !is_enough(self.moves[BEATS], self.moves[RECEIVED]) {
            assert!(Instant::now() < until, "changed by now: {:?}", self.moves);
            self.look(on)?;
        }
        Ok(())
    }

    /// Looks until nothing has moved for [`STILL`]; how many milliseconds after `since` the last
    /// movement was seen, or before it.
    pub fn until_still(&mut self, session: &mut Session, since: u64) -> Result<i64> {
        let until = Instant::now() + SOON;
        while now_us() - self.moved.max(since) < STILL.as_micros() as u64 {
            assert!(Instant::now() < until, "it moves on: {:?}", self.last);
            self.look(session)?;
        }
        Ok((self.moved as i64 - since as i64) / 1000)
    }

    pub fn tell(&self, what: &str) {
        let [state, beats, stamp, received, queueing, queued, read] = self.moves;
        println!(
            "{what}: in {} ms changed: state {state}, heartbeats {beats}, their time {stamp}, \
             received {received}, queueing {queueing}, queued {queued}, read position {read}; longest pause {} ms",
            (now_us() - self.begun) / 1000,
            self.pause / 1000,
        );
    }
}

fn watch(replica: &Host) -> Result<(Session, Trace)> {
    let mut session = replica.session()?;
    let trace = Trace::new(&mut session, look)?;
    Ok((session, trace))
}

/// A client on the source's own host: what happens to the network does not touch it.
pub(crate) fn client(lab: &Lab) -> Result<Writer> {
    let address = lab.host("db1")?.ip();
    lab.write(&WriterSpec { host: "db1".into(), address, ..WriterSpec::default() })
}

#[test]
fn heartbeats_move_on_an_idle_source_and_received_transactions_on_a_busy_one() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec { managers: 0, servers: 2, ..LabSpec::default() })?;
    let db2 = lab.host("db2")?;
    let (mut session, mut idle) = watch(&db2)?;
    idle.until(&mut session, |beats, _| beats >= 4)?;
    idle.tell("idle");
    assert_eq!(idle.moves[RECEIVED], 0, "an idle source sent transactions");
    let writer = client(&lab)?;
    let (mut session, mut busy) = watch(&db2)?;
    busy.until(&mut session, |_, received| received >= 100)?;
    busy.tell("busy");
    drop(writer);
    lab.down()
}

/// The source is busy sending, so it sends no heartbeat, and what is not complete is not received.
#[test]
fn only_the_read_position_moves_while_a_large_transaction_comes_in() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec { managers: 0, servers: 2, ..LabSpec::default() })?;
    let (db1, db2) = (lab.host("db1")?, lab.host("db2")?);
    db1.sql("CREATE TABLE app.big (id INT PRIMARY KEY, v VARCHAR(8000))")?;
    let (mut session, mut trace) = watch(&db2)?;
    let mut client = db1.session()?;
    let insert = "SET SESSION cte_max_recursion_depth = 100000; INSERT INTO app.big WITH RECURSIVE \
        n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 6000) \
        SELECT i, REPEAT('x', 8000) FROM n";
    client.sql(Duration::from_millis(1), insert).expect_err("48 MB take longer");
    let until = Instant::now() + SOON;
    while trace.last[QUEUEING].is_empty() {
        assert!(Instant::now() < until, "it does not come in: {:?}", trace.last);
        trace.look(&mut session)?;
    }
    let (coming, begun, counts) = (trace.last[QUEUEING].clone(), now_us(), trace.count());
    let (before, mut steps) = (trace.moves[READ], 0);
    while trace.last[QUEUEING] == coming {
        assert!(Instant::now() < until, "it does not end: {:?}", trace.last);
        assert_eq!(trace.count(), counts, "heartbeats, received sets");
        steps = trace.moves[READ] - before;
        trace.look(&mut session)?;
    }
    println!("coming in for {} ms, {steps} steps forward seen", (now_us() - begun) / 1000);
    trace.tell("a large transaction");
    assert!(steps > 0, "the read position stood still, too");
    lab.down()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Hang,
    Isolate,
    Kill,
}

impl Fault {
    pub fn begin(self, lab: &Lab, source: &Host) -> Result<()> {
        match self {
            Fault::Hang => source.stop_mysqld(),
            Fault::Isolate => lab.isolate("db1"),
            Fault::Kill => source.kill_mysqld(),
        }
    }

    pub fn end(self, lab: &Lab, source: &Host) -> Result<()> {
        match self {
            Fault::Hang => source.cont_mysqld(),
            Fault::Isolate => lab.heal(),
            Fault::Kill => source.start_mysqld(),
        }
    }
}

/// Strikes the source and watches what db2 still hears, until that is nothing any more; the clients
/// and the last look.
pub(crate) fn strike(
    lab: &Lab,
    fault: Fault,
    is_busy: bool,
    watch: fn(&Host) -> Result<(Session, Trace)>,
) -> Result<(Option<Writer>, Look)> {
    let (db1, db2) = (lab.host("db1")?, lab.host("db2")?);
    let writer = is_busy.then(|| client(lab)).transpose()?;
    let (mut session, mut trace) = watch(&db2)?;
    trace.until(&mut session, |beats, received| match is_busy {
        true => received >= 20,
        false => beats >= 1,
    })?;
    let at = trace.count();
    let (asked, begun) = thread::scope(|scope| {
        let fault = scope.spawn(|| {
            let asked = now_us();
            fault.begin(lab, &db1).map(|()| (asked, now_us()))
        });
        while !fault.is_finished() {
            trace.look(&mut session)?;
        }
        fault.join().expect("a fault does not panic")
    })?;
    let last = trace.until_still(&mut session, begun)?;
    let by = trace.count();
    println!(
        "{fault:?}, {}: took {} ms; last movement seen {last} ms after it; {} heartbeats and \
         {} changes of the received set since it was asked for; the receiver is {} now",
        if is_busy { "busy" } else { "idle" },
        (begun - asked) / 1000,
        by[0] - at[0],
        by[1] - at[1],
        trace.last[0],
    );
    Ok((writer, trace.last))
}

#[test]
fn nothing_moves_on_a_replica_once_its_source_hangs_is_cut_off_or_killed() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec { managers: 0, servers: 2, ..LabSpec::default() })?;
    let db1 = lab.host("db1")?;
    for fault in [Fault::Hang, Fault::Isolate, Fault::Kill] {
        for is_busy in [false, true] {
            let (writer, _) = strike(&lab, fault, is_busy, watch)?;
            fault.end(&lab, &db1)?;
            drop(writer);
            db1.sql("SET GLOBAL rpl_semi_sync_source_enabled = ON; SET GLOBAL read_only = OFF")?;
            restore(&lab)?;
        }
    }
    lab.down()
}
