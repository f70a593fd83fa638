//! Operators: wishes, pauses, and the last-failover interval.

use conclave_core::{
    model::{Actor, Epoch, Mode, Outcome, Rejection, Stage, StepRecord},
    ports::ProposeError,
    state::{Command, Planned, Reply},
};
use conclave_sim::{run::Run, setup::Setup};

use super::{closed, cut_managers_from, outcomes, refusals};

fn ann() -> Actor {
    Actor::Operator { name: "ann".into() }
}

#[test]
fn paused_cluster_waits_for_its_operator() {
    let mut run = Run::new(&Setup::quorum().traced());
    let pause =
        Command::Pause { cluster: "app1".into(), actor: ann(), reason: "maintenance".into() };
    assert_eq!(run.operate(pause), Ok(Reply::Ok));
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert_eq!(refusals(&run), ["gate.paused"]);
    assert_eq!(run.operate(Command::Resume { cluster: "app1".into() }), Ok(Reply::Ok));
    closed(&mut run, 5_000, 1);
    run.settle(5_000);
}

/// Decided before the failover of another, and said after it.
#[test]
fn decision_of_an_older_epoch_opens_nothing() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 10_000, 1);
    let first = run.state().history.back().expect("an attempt").clone();
    let mut opening = first.opening.clone();
    opening.interval_waived = true;
    let planned =
        |step: &StepRecord| Planned { target: step.target.clone(), goal: step.goal.clone() };
    let is_freeze = |step: &&StepRecord| Stage::Freeze.allows(&step.goal);
    let steps = first.steps.iter().filter(is_freeze).map(planned).collect();
    let (cluster, expected, opening) = ("app1".into(), Epoch(0), Box::new(opening));
    let reply = run.operate(Command::OpenAttempt { cluster, expected, opening, steps });
    let wrong = Rejection::WrongEpoch { wanted: Epoch(0), found: Epoch(1) };
    assert_eq!(reply, Err(ProposeError::Rejected(wrong)));
    run.settle(10_000);
}

#[test]
fn operator_may_fail_over_a_paused_cluster_to_the_server_of_their_choice() {
    let mut run = Run::new(&Setup::quorum().traced());
    let pause = Command::Pause { cluster: "app1".into(), actor: ann(), reason: String::new() };
    assert_eq!(run.operate(pause), Ok(Reply::Ok));
    run.pass(1_000);
    run.world(|world| world.kill_server(0));
    run.pass(3_000);
    run.wish("ann", |wish| wish.wanted = Some("db3".into()));
    closed(&mut run, 5_000, 1);
    assert_eq!(run.primary(), "db3");
    run.settle(5_000);
    assert_eq!(run.said(), ["opened app1-1"]);
}

#[test]
fn wish_against_a_live_primary_is_refused_with_the_reason() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.wish("ann", |_| {});
    run.pass(3_000);
    assert_eq!(run.state().epoch.0, 0);
    assert_eq!(run.said().len(), 1, "{:?}", run.said());
    assert!(run.said()[0].contains("gate.primary_alive"), "{:?}", run.said());
}

/// A bystander who sees the managers' alarm, and not that the applications are well.
#[test]
fn operators_word_does_not_replace_a_primary_that_its_replicas_hear() {
    for mode in [Mode::Quorum, Mode::Fenced] {
        // Before the managers are sure, and after.
        for wait in [1_200, 5_000] {
            let mut run = Run::new(&Setup::new(mode, 3, 1).traced());
            run.pass(3_000);
            cut_managers_from(&run, 0);
            run.pass(wait);
            let since = run.executor.sim().now();
            run.wish("ann", |wish| wish.asserted_dead = true);
            run.pass(3_000);
            assert_eq!(run.state().epoch.0, 0, "{mode:?} {wait}: {:?}", run.said());
            assert!(run.said()[0].contains("gate.still_heard"), "{:?}", run.said());
            assert!(run.acknowledged_since(since) > 10, "clients were never disturbed");
            run.world(|world| world.network.heal());
            run.settle(10_000);
        }
    }
}

#[test]
fn two_operators_at_once_get_one_failover() {
    let mut run = Run::new(&Setup::quorum().policy(|p| p.automatic = false).traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.pass(2_000);
    run.wish("ann", |wish| wish.wanted = Some("db2".into()));
    run.pass(15);
    run.wish("bob", |wish| wish.wanted = Some("db3".into()));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 1, "{:?}", run.said());
    run.settle(5_000);
}

#[test]
fn last_failover_interval_refuses_the_second_and_an_operator_may_waive_it() {
    let mut run = Run::new(&Setup::quorum().policy(|p| p.last_failover_minutes = 10).traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 5_000, 1);
    run.world(|world| world.unmask(0));
    run.pass(10_000);
    run.world(|world| world.kill_server(1));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 1);
    assert_eq!(refusals(&run), ["gate.last_failover_interval"]);
    run.wish("ann", |wish| wish.interval_waived = true);
    closed(&mut run, 5_000, 2);
    run.world(|world| world.unmask(1));
    run.settle(20_000);
}

#[test]
fn last_failover_interval_is_counted_across_a_restart_of_all_managers_and_ends() {
    let mut run = Run::new(&Setup::quorum().policy(|p| p.last_failover_minutes = 2).traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 5_000, 1);
    run.world(|world| world.unmask(0));
    run.pass(20_000);
    run.settle(5_000);
    run.world(|world| (1..=3).for_each(|id| world.kill_manager(id)));
    run.pass(120_000);
    run.world(|world| (1..=3).for_each(|id| world.start_manager(id)));
    run.pass(5_000);
    run.world(|world| world.kill_server(1));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 1, "downtime of the group does not count as passed");
    closed(&mut run, 200_000, 2);
    run.world(|world| world.unmask(1));
    run.settle(20_000);
}

#[test]
fn undone_attempt_does_not_start_the_interval() {
    let mut run = Run::new(&Setup::quorum().policy(|p| p.last_failover_minutes = 480).traced());
    run.pass(3_000);
    run.world(|world| {
        // The candidate dies while it is being brought level.
        world.servers[1].apply_us = 400_000;
        world.servers[2].apply_us = 400_000;
    });
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.until(5_000, "stage Recover", |world| {
        let stage = world.state().and_then(|s| Some(s.attempt?.stage.code()));
        stage == Some("recover")
    });
    run.world(|world| {
        world.kill_server(1);
        world.servers[2].apply_us = 300;
    });
    closed(&mut run, 60_000, 1);
    assert!(matches!(outcomes(&run)[0], Some(Outcome::Aborted { .. })));
    run.world(|world| {
        world.servers[1].apply_us = 300;
        world.start_server(1);
    });
    // What it had received and not applied is gone with its restart: it is no evidence any more.
    run.pass(10_000);
    assert_eq!(refusals(&run), ["gate.no_coverage"]);
}
