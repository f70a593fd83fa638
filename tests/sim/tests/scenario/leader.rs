//! The leader or the target lost at each moment of each step.

use conclave_core::model::{Mode, Outcome, StepKind};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    network::Node,
    run::Run,
    setup::Setup,
};

/// The steps of a failover in `quorum` mode, one that needs catching up included.
const STEPS: [&str; 8] = [
    "stop_receiver",
    "fence",
    "catch_up",
    "apply",
    "detach",
    "follow",
    "open_for_writes",
    "take_vip",
];

/// A failover with a candidate that lacks transactions, struck once. The run, and whether the
/// ambush was sprung.
fn struck(step: &'static str, moment: Moment, blow: Blow, seed: u64) -> (Run, bool) {
    let mut run = Run::new(&Setup::quorum().seed(seed).prefer(1).traced());
    run.pass(2_000);
    run.world(|world| world.network.part(Node::Host(0), Node::Host(1)));
    run.pass(1_000);
    run.world(|world| {
        world.ambush = Some(Ambush { step: Some(step), moment, skip: 0, blow });
        world.kill_server(0);
    });
    run.pass(1_500);
    run.world(|world| world.network.heal());
    run.pass(20_000);
    let is_sprung = run.world(|world| world.ambush.is_none());
    (run, is_sprung)
}

/// Moments that a step has: one that acts on a host takes no lock and reads nothing back, and one
/// whose goal is met already does not act.
fn has(step: &str, moment: Moment) -> bool {
    match moment {
        Moment::BeforeLock | Moment::BeforeReadBack => !matches!(step, "fence" | "take_vip"),
        Moment::BeforeCommit | Moment::BeforeAct | Moment::BeforeClosingCommit => true,
    }
}

#[test]
fn leader_killed_at_any_moment_of_any_step_is_followed_by_one_that_finishes() {
    for (seed, step) in STEPS.into_iter().enumerate() {
        for moment in Moment::ALL {
            let (mut run, is_sprung) = struck(step, moment, Blow::Kill, seed as u64);
            let is_expected = has(step, moment) && step != "apply" || moment_of_apply(step, moment);
            assert_eq!(is_sprung, is_expected, "{step} {moment:?}");
            run.world(|world| world.unmask(0));
            run.settle(30_000);
            assert_eq!(run.primary(), "db2", "{step} {moment:?}");
            assert_eq!(run.state().epoch.0, 1, "{step} {moment:?}: under the same id");
        }
    }
}

/// Nothing is left to apply once the candidate has caught up: that step never acts.
fn moment_of_apply(step: &str, moment: Moment) -> bool {
    let acts = matches!(moment, Moment::BeforeAct | Moment::BeforeReadBack);
    step == "apply" && !acts
}

#[test]
fn leader_stopped_at_any_moment_of_any_step_changes_nothing_when_it_goes_on() {
    for (seed, step) in STEPS.into_iter().enumerate() {
        for moment in Moment::ALL {
            for span in [1_000_000, 8_000_000] {
                let blow = Blow::Stall(span);
                let (mut run, _) = struck(step, moment, blow, seed as u64);
                run.world(|world| world.unmask(0));
                run.settle(30_000);
                assert_eq!(run.primary(), "db2", "{step} {moment:?} {span}");
            }
        }
    }
}

#[test]
fn target_killed_at_any_moment_of_any_step_ends_in_one_primary() {
    for (seed, step) in STEPS.into_iter().enumerate() {
        for moment in Moment::ALL {
            let (mut run, _) = struck(step, moment, Blow::KillTarget, seed as u64);
            run.world(|world| (0..3).for_each(|ix| world.unmask(ix)));
            run.pass(1_000);
            run.settle(120_000);
        }
    }
}

#[test]
fn fence_of_a_stopped_leader_does_not_strike_a_primary_that_is_well_again() {
    for stall in [3_000_000, 5_000_000, 9_000_000] {
        let mut run = Run::new(&Setup::new(Mode::Fenced, 3, 0).traced());
        run.pass(3_000);
        run.world(|world| {
            let (moment, blow) = (Moment::BeforeAct, Blow::Stall(stall));
            world.ambush = Some(Ambush { step: Some("fence"), moment, skip: 0, blow });
            world.kill_server(0);
        });
        run.until(2_000, "the fence to begin", |world| world.ambush.is_none());
        // Its service manager is quick; nobody but the stopped leader has come by at its host.
        run.world(|world| world.start_server(0));
        run.pass(15_000);
        run.check();
        assert_eq!(run.primary(), "db1", "after {stall} us");
        run.settle(10_000);
    }
}

/// The next leader has found the primary well and left no trace on its host.
#[test]
fn fence_agreed_on_while_its_leader_stood_still_does_not_strike_a_primary_that_is_well_again() {
    for seed in 0..3 {
        let mut run = Run::new(&Setup::new(Mode::Fenced, 3, 0).seed(seed).traced());
        run.pass(3_000);
        let owner = run.world(|world| {
            let (moment, blow) = (Moment::BeforeCommit, Blow::Stall(20_000));
            world.ambush = Some(Ambush { step: Some("fence"), moment, skip: 0, blow });
            world.kill_server(0);
            world.consensus.leader().map(|leader| (leader, world.managers[&leader].owner))
        });
        let (leader, owner) = owner.expect("a leader");
        run.until(2_000, "the fence to begin", |world| world.ambush.is_none());
        run.world(|world| world.start_server(0));
        let step = |run: &mut Run, micros: u64| {
            let now = run.executor.sim().now();
            run.executor.run_until(now + micros);
        };
        while run.executor.sim().is_stopped(owner) {
            step(&mut run, 50);
        }
        // What it proposes now is on its way when it stands still again, for longer.
        step(&mut run, 200);
        run.world(|world| world.stall_manager(leader, owner, 4_000_000));
        run.pass(20_000);
        run.check();
        assert_eq!((run.primary(), run.state().epoch.0), ("db1".into(), 1), "seed {seed}");
        let begun = run.state().history[0]
            .steps
            .iter()
            .any(|step| matches!(step.goal, StepKind::Fence { .. }) && !step.runs.is_empty());
        assert!(begun, "seed {seed}: it was agreed on");
        run.settle(10_000);
    }
}

#[test]
fn freeze_of_a_leader_that_stalled_is_given_up_if_the_primary_is_well_again() {
    use Moment::{BeforeAct, BeforeCommit, BeforeLock};
    let stop = "stop_receiver";
    for (step, moment) in [("fence", BeforeAct), (stop, BeforeLock), (stop, BeforeCommit)] {
        let mut run = Run::new(&Setup::quorum().traced());
        run.pass(3_000);
        let dead = run.leader() % 3 + 1;
        run.world(|world| {
            // So nobody can take over from the one that stalls.
            world.kill_manager(dead);
            let blow = Blow::Stall(6_000_000);
            world.ambush = Some(Ambush { step: Some(step), moment, skip: 0, blow });
            world.power_off(0);
        });
        run.until(5_000, "the freeze to begin", |world| world.ambush.is_none());
        run.world(|world| world.power_on(0));
        super::closed(&mut run, 20_000, 1);
        run.check();
        let outcomes = super::outcomes(&run);
        let is_undone = matches!(&outcomes[..], [Some(Outcome::Aborted { .. })]);
        assert!(is_undone, "{step} {moment:?}: {outcomes:?}");
        assert_eq!(run.primary(), "db1", "{step} {moment:?}");
        run.world(|world| world.start_manager(dead));
        run.settle(30_000);
    }
}

#[test]
fn candidate_lost_for_good_past_entry_nine_is_superseded() {
    for step in ["detach", "follow", "open_for_writes", "take_vip"] {
        let mut run = Run::new(&Setup::quorum_of_five().traced());
        // Of a server that has just booted a restart could not be told.
        run.pass(15_000);
        run.world(|world| {
            let (moment, blow) = (Moment::BeforeCommit, Blow::Stall(0));
            world.ambush = Some(Ambush { step: Some(step), moment, skip: 0, blow });
            world.kill_server(0);
        });
        run.until(5_000, step, |world| world.ambush.is_none());
        let lost = run.primary_ix();
        assert_ne!(lost, 0, "{step}: past entry 9");
        run.world(|world| world.power_off(lost));
        super::closed(&mut run, 30_000, 2);
        assert!(![0, lost].contains(&run.primary_ix()), "{step}");
        run.world(|world| (0..5).for_each(|ix| world.unmask(ix)));
        run.settle(60_000);
    }
}
