//! Do two stopped ackers together hold every write that the source acknowledged, whatever befalls
//! the source while they are being stopped? (SAFETY section 1, "covered".)
//!
//! A round: clients on the source's own host write; at moments that chance chooses both receivers
//! are stopped and the source is struck; what both have received is read back; the
//! strike ends, so that late acknowledgements still reach the source, with both receivers stopped;
//! the clients end. Then every acknowledged row must be in one of the two, and neither may have
//! received anything since it was read back.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;
use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, Table, Writer, WriterSpec, lost_acked, now_us};
use conclave_sim::rng::Rng;

use crate::{SOON, restore};

/// The stops and the strike begin within so many microseconds of each other: about as long as a
/// stop takes.
const SPREAD_US: u64 = 50_000;
/// As [`SPREAD_US`] where one receiver is to run on for a while, longer than a restart takes.
const LONG_SPREAD_US: u64 = 2_000_000;
/// Acknowledgements that come later than so long after the one before are not waited for.
const QUIET: Duration = Duration::from_millis(500);
/// Rounds after which a new lab is made, as binary logs grow.
const ROUNDS_PER_LAB: usize = 25;

/// What befalls the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    /// SIGKILL.
    Kill,
    /// SIGKILL, and its service manager brings it back while the receivers may still run.
    Restart,
    /// Cut off from all other hosts.
    Isolate,
    /// It hears no replica: acknowledgements are lost.
    Deaf,
    /// No replica hears it.
    Mute,
    /// Cut off from one replica only.
    Split,
    /// SIGSTOP, until both receivers are stopped.
    Hang,
}

const STRIKES: [Strike; 7] = [
    Strike::Kill,
    Strike::Isolate,
    Strike::Deaf,
    Strike::Restart,
    Strike::Mute,
    Strike::Split,
    Strike::Hang,
];

impl Strike {
    fn begin(self, lab: &Lab, source: &Host) -> Result<()> {
        match self {
            Strike::Kill => source.kill_mysqld(),
            Strike::Restart => {
                source.restart_after(Some(Duration::from_millis(1)))?;
                source.kill_mysqld()
            }
            Strike::Isolate => lab.isolate("db1"),
            Strike::Deaf => lab.cut("db2", "db1").and_then(|()| lab.cut("db3", "db1")),
            Strike::Mute => lab.cut("db1", "db2").and_then(|()| lab.cut("db1", "db3")),
            Strike::Split => lab.split("db1", "db2"),
            Strike::Hang => source.stop_mysqld(),
        }
    }

    /// Both receivers stay stopped.
    fn end(self, lab: &Lab, source: &Host) -> Result<()> {
        match self {
            Strike::Kill => source.start_mysqld(),
            Strike::Restart => source.restart_after(None).and_then(|()| source.start_mysqld()),
            Strike::Isolate | Strike::Deaf | Strike::Mute | Strike::Split => lab.heal(),
            Strike::Hang => source.cont_mysqld(),
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    rounds: usize,
    acked: usize,
    /// Acknowledged after both receivers were read back as stopped.
    late: usize,
    /// Acknowledged, and one of the two never received it.
    held_by_one: usize,
    /// Strikes that began after one receiver had been read back as stopped and before the other.
    between: usize,
    /// Strikes that began before either.
    before: usize,
    /// Acknowledged, and neither has it.
    missing: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.rounds += more.rounds;
        self.acked += more.acked;
        self.late += more.late;
        self.held_by_one += more.held_by_one;
        self.between += more.between;
        self.before += more.before;
        self.missing += more.missing;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { rounds, acked, late, held_by_one, between, before, missing } = self;
        write!(
            f,
            "{rounds} rounds (struck before both stops {before}, between them {between}), {acked} \
             acknowledged, {late} of them late, {held_by_one} held by one acker only, {missing} \
             missing from the union"
        )
    }
}

/// Stops a receiver as a step does, and reads back what the server has received.
fn stop_receiver(replica: &Host) -> Result<(String, u64)> {
    replica.sql_within(SOON, "STOP REPLICA IO_THREAD")?;
    let rows = replica.sql_within(
        SOON,
        "SELECT service_state, CONCAT(received_transaction_set, ',', @@global.gtid_executed) \
         FROM performance_schema.replication_connection_status",
    )?;
    assert_eq!(rows[0][0], "OFF", "{} reads on", replica.name());
    let received = rows[0][1].replace('\n', "");
    Ok((received.trim_matches(',').to_owned(), now_us()))
}

fn after<T>(delay_us: u64, act: impl FnOnce() -> T) -> T {
    thread::sleep(Duration::from_micros(delay_us));
    act()
}

/// Ends the clients once no more acknowledgements come.
fn settle(mut writer: Writer) -> Result<conclave_lab::History> {
    let until = Instant::now() + SOON;
    let (mut count, mut since) = (writer.acked()?.len(), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
        let acked = writer.acked()?.len();
        if acked > count {
            (count, since) = (acked, Instant::now());
        }
    }
    writer.stop()
}

/// Waits until a server has applied what it had received, and expects that it has no more.
fn apply_all(replica: &Host, received: &str) -> Result<()> {
    let until = Instant::now() + SOON;
    let ask = format!(
        "SELECT GTID_SUBSET('{received}', @@global.gtid_executed), \
         GTID_SUBTRACT(@@global.gtid_executed, '{received}')"
    );
    loop {
        let row = replica.sql_within(SOON, &ask)?.remove(0);
        let name = replica.name();
        assert_eq!(row[1], "", "{name} received more after it was read back as stopped");
        if row[0] == "1" {
            return Ok(());
        }
        assert!(Instant::now() < until, "{name} does not apply what it received");
        thread::sleep(Duration::from_millis(5));
    }
}

fn round(lab: &Lab, strike: Strike, rng: &mut Rng, writes: usize) -> Result<Tally> {
    let [source, db2, db3] = ["db1", "db2", "db3"].map(|name| lab.host(name));
    let (source, db2, db3) = (source?, db2?, db3?);
    let mut writer = lab.write(&WriterSpec {
        host: "db1".into(),
        address: source.ip(),
        table: Table::T,
        connections: 48,
        interval: Duration::ZERO,
        op_deadline: Duration::from_secs(2),
        connect_deadline: Duration::from_secs(2),
        retry_pause: Duration::from_millis(50),
        is_mixed: false,
    })?;
    let until = Instant::now() + 5 * SOON;
    while writer.acked()?.len() < writes {
        assert!(Instant::now() < until && writer.is_running(), "the clients write too slowly");
        thread::sleep(Duration::from_millis(10));
    }
    let is_long = strike == Strike::Restart || rng.chance(25);
    let spread = if is_long { LONG_SPREAD_US } else { SPREAD_US };
    let [first, second, third] = [(); 3].map(|()| rng.below(spread));
    let (stops, struck) = thread::scope(|scope| {
        let stops = [(&db2, first), (&db3, second)]
            .map(|(replica, delay)| scope.spawn(move || after(delay, || stop_receiver(replica))));
        let struck = after(third, now_us);
        let begun = strike.begin(lab, &source);
        let stops = stops.map(|stop| stop.join().expect("stopping does not panic"));
        (stops, begun.map(|()| struck))
    });
    let ([(received2, read2), (received3, read3)], struck) = match stops {
        [Ok(two), Ok(three)] => ([two, three], struck?),
        [two, three] => return Err(two.and(three).expect_err("one of them failed")),
    };
    strike.end(lab, &source)?;
    let history = settle(writer)?;
    apply_all(&db2, &received2)?;
    apply_all(&db3, &received3)?;
    let [without2, without3] = [&db2, &db3].map(|replica| lost_acked(&history, replica));
    let (without2, without3) = (BTreeSet::from_iter(without2?), BTreeSet::from_iter(without3?));
    let missing = without2.intersection(&without3).count();
    Ok(Tally {
        rounds: 1,
        acked: history.acked().count(),
        late: history.acked().filter(|op| op.completed_us > read2.max(read3)).count(),
        held_by_one: without2.symmetric_difference(&without3).count(),
        between: usize::from(read2.min(read3) < struck && struck < read2.max(read3)),
        before: usize::from(struck < read2.min(read3)),
        missing,
    })
}

fn rounds(count: usize, writes: usize, seed: u64) -> Tally {
    println!("seed {seed}, {count} rounds of {writes} acknowledged writes");
    let mut rng = Rng::new(seed);
    let offset = rng.below(STRIKES.len() as u64) as usize;
    let mut sum = Tally::default();
    let mut lab: Option<Lab> = None;
    for number in 0..count {
        let strike = STRIKES[(offset + number) % STRIKES.len()];
        let is_fit =
            number % ROUNDS_PER_LAB != 0 && lab.as_ref().is_some_and(|lab| restore(lab).is_ok());
        if !is_fit {
            // The old one first: two at a time are too much for a small machine.
            drop(lab.take());
            lab = Some(
                Lab::up_replicated(LabSpec {
                    managers: 0,
                    srv_mb: Some(1000),
                    ..LabSpec::default()
                })
                .unwrap(),
            );
        }
        let begun = Instant::now();
        let tally = round(lab.as_ref().unwrap(), strike, &mut rng, writes)
            .unwrap_or_else(|error| panic!("round {number}, {strike:?}, seed {seed}: {error}"));
        println!("{number} {strike:?}: {tally}; {:.1} s", begun.elapsed().as_secs_f32());
        sum += tally;
        assert_eq!(tally.missing, 0, "round {number}, {strike:?}, seed {seed}");
        assert!(tally.acked >= writes, "round {number}: {} acknowledged", tally.acked);
    }
    println!("in all: {sum}");
    sum
}

/// A number from the environment.
fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn stopped_ackers_hold_all_that_was_acknowledged_whatever_befalls_the_source() {
    let sum = rounds(4, 300, now_us());
    assert!(sum.held_by_one > 0, "no round would have told one acker from two: {sum}");
}

#[test]
#[ignore = "200 rounds of 10,000 writes take half an hour"]
fn two_hundred_rounds_of_stopping_under_ten_thousand_writes() {
    let (count, writes) = (given("ROUNDS", 200), given("WRITES", 10_000));
    rounds(count as usize, writes as usize, given("SEED", now_us()));
}
