//! Random runs: faults by chance, then everything is healed and must come right.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use conclave_core::model::{DeadAckerPolicy, LastAckerPolicy, Millis, Mode, Outcome};
use serde::Serialize;

use crate::{fault::Fault, rng::Rng, run::Run, setup::Setup};

/// How long everything may take to come right after the last fault.
const PATIENCE_MS: u64 = 400_000;

/// How the words begin that say what did not come right once everything was healed.
pub const UNSETTLED: &str = "it did not come right";

/// What came of one seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Which invariants were broken, how; and what did not come right.
    pub violations: Vec<String>,
    /// Virtual time.
    pub simulated_us: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Attempts that promoted a server.
    pub promoted: u64,
    /// Attempts that were undone.
    pub aborted: u64,
    /// Attempts that were superseded.
    pub superseded: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Elections among the managers.
    pub elections: u64,
    /// Entries of the managers' log.
    pub entries: u64,
    /// How long it took to come right after healing.
    pub settled_ms: u64,
}

/// What the seed says to start with.
fn setup(rng: &mut Rng, seed: u64) -> Setup {
    let mode = match rng.below(10) {
        0..7 => Mode::Quorum,
        7 | 8 => Mode::Fenced,
        _ => Mode::BestEffort,
    };
    let (servers, acks) = match rng.below(10) {
        0..6 => (3, 1),
        6..8 => (5, 2),
        8 => (4, 1),
        _ => (5, 1),
    };
    let mut setup = Setup::new(mode, servers, acks).seed(seed);
    setup.managers = if rng.chance(80) { 3 } else { 5 };
    setup.writers = 1;
    setup.write_every_us = rng.range(20, 200) * 1000;
    if rng.chance(30) {
        setup.definition.policy.last_failover_minutes = 1;
    }
    if rng.chance(20) {
        setup.definition.policy.primary_restarted = conclave_core::model::RestartPolicy::Failover;
    }
    if rng.chance(30) {
        setup = setup.prefer(1);
    }
    setup.relay_log_recovery = rng.chance(50);
    if seed % 2 == 1 {
        setup = setup.aged();
    }
    let policy = &mut setup.definition.policy;
    if rng.chance(30) {
        (policy.dead_acker, policy.dead_acker_ms) = (DeadAckerPolicy::Drop, Millis(2_000));
    }
    if rng.chance(20) {
        (policy.last_acker, policy.last_acker_ms) = (LastAckerPolicy::Lower, Millis(2_000));
    }
    match rng.below(4) {
        0 => setup.hooked(true),
        1 => setup.hooked(false),
        _ => setup,
    }
}

/// Plays one seed.
pub fn play(seed: u64, trace: bool) -> (Report, Run) {
    let mut rng = Rng::new(seed ^ 0x5EED);
    let mut setup = setup(&mut rng, seed);
    setup.trace = trace;
    let mut run = Run::new(&setup);
    run.world(|world| {
        world.hook_trouble = (10, 5);
        world.knows_hosts = seed % 4 < 2;
        let Setup { managers, definition, .. } = &setup;
        let (mode, servers) = (definition.mode, definition.servers.len());
        world.note(|_| format!("seed {seed}: {mode:?}, {servers} servers, {managers} managers"));
    });
    run.pass(rng.range(200, 3_000));
    let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
    // Some runs are calm, some are storms; some know all kinds of faults, and some a few only, so
    // that those are not drowned by the others.
    let pace = *rng.pick(&[300, 1_500, 6_000]).unwrap_or(&1_500);
    let share = *rng.pick(&[10, 30, 100]).unwrap_or(&100);
    let kinds: Vec<Fault> = Fault::ALL.into_iter().filter(|_| rng.chance(share)).collect();
    let end = run.executor.sim().now() + rng.range(20, 60) * 1_000_000;
    while run.executor.sim().now() < end && run.is_sound() {
        let fault = *rng.pick(&kinds).unwrap_or(&Fault::KillPrimary);
        run.world(|world| world.inject(fault));
        *faults.entry(fault.code()).or_default() += 1;
        run.pass(rng.range(pace / 10, pace * 2));
    }
    run.world(|world| world.heal());
    let healed = run.executor.sim().now();
    let mut settled_ms = PATIENCE_MS;
    while run.is_sound() && run.executor.sim().now() < healed + PATIENCE_MS * 1000 {
        run.pass(500);
        // What was still to come strikes, is healed again, and leaves nothing behind.
        run.world(|world| {
            world.ambush = None;
            world.resume();
            (0..world.servers.len()).for_each(|ix| world.unmask(ix));
            world.rebuild_quarantined();
        });
        let is_calm = run.executor.sim().now() > healed + 40_000_000;
        if is_calm && run.world(|world| world.unsettled()).is_none() {
            settled_ms = (run.executor.sim().now() - healed) / 1000;
            break;
        }
    }
    let report = run.report(seed, faults, settled_ms);
    (report, run)
}

/// Many seeds.
#[derive(Clone, Copy, Debug)]
pub struct Many {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Threads.
    pub jobs: usize,
    /// No seed is played beyond the first one that something is wrong with.
    pub until_broken: bool,
}

impl Many {
    /// Plays them and hands each report over as it comes.
    pub fn play(&self, take: impl Fn(Report) + Sync) {
        let next = AtomicU64::new(self.first);
        let end = AtomicU64::new(self.first + self.count);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end.load(Ordering::Relaxed) {
                            return;
                        }
                        let report = caught(seed);
                        if self.until_broken && !report.violations.is_empty() {
                            end.fetch_min(seed, Ordering::Relaxed);
                        }
                        take(report);
                    }
                });
            }
        });
    }
}

/// A panic is told like a violation, with its seed.
fn caught(seed: u64) -> Report {
    let played = std::panic::catch_unwind(|| play(seed, false).0);
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        let violations = vec![format!("panic: {text}")];
        Report { seed, violations, ..Report::default() }
    })
}

impl Run {
    fn is_sound(&self) -> bool {
        self.world(|world| world.checker.violations.is_empty())
    }

    fn report(&self, seed: u64, faults: BTreeMap<&'static str, u64>, settled_ms: u64) -> Report {
        self.world(|world| {
            let mut violations = world.checker.violations.clone();
            if let Some(why) = world.unsettled().filter(|_| violations.is_empty()) {
                violations.push(format!("{UNSETTLED}: {why}"));
            }
            if world.definition.mode == Mode::Quorum && violations.is_empty() {
                violations.extend(crate::invariant::lost(world, world.primary()).err());
            }
            let ended = |is_so: fn(&Outcome) -> bool| {
                let state = world.state();
                let history = state.iter().flat_map(|state| &state.history);
                history.filter(|a| a.outcome.as_ref().is_some_and(is_so)).count() as u64
            };
            Report {
                seed,
                violations,
                simulated_us: world.sim.now(),
                faults,
                promoted: ended(|outcome| matches!(outcome, Outcome::Promoted { .. })),
                aborted: ended(|outcome| matches!(outcome, Outcome::Aborted { .. })),
                superseded: ended(|outcome| matches!(outcome, Outcome::Superseded { .. })),
                acknowledged: world.ledger.acknowledged().count() as u64,
                elections: world.consensus.elections,
                entries: world.consensus.entries(),
                settled_ms,
            }
        })
    }
}
