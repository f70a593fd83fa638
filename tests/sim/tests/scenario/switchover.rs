//! A planned switchover, and whatever befalls it.

use conclave_core::model::{Cause, Millis, Mode, Outcome, Refusal, Switchover};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    network::Node,
    run::Run,
    setup::Setup,
};

use super::closed;

/// How each closed attempt ended, in a word.
fn outcomes(run: &Run) -> Vec<&'static str> {
    let word = |outcome: Option<Outcome>| match outcome {
        Some(Outcome::Promoted { .. }) => "promoted",
        Some(Outcome::Aborted { .. }) => "aborted",
        Some(Outcome::Superseded { .. }) => "superseded",
        None => "open",
    };
    super::outcomes(run).into_iter().map(word).collect()
}

/// The steps of a switchover, in order.
const STEPS: [&str; 9] = [
    "level",
    "follow",
    "close_for_writes",
    "stop_receiver",
    "cut_clients",
    "detach",
    "open_for_writes",
    "take_vip",
    "wake",
];

fn plan() -> Switchover {
    Switchover { deadline_ms: Switchover::DEADLINE, leaves_old: false, cuts: false }
}

fn healthy(setup: &Setup) -> Run {
    let mut run = Run::new(setup);
    run.pass(3_000);
    run
}

fn switch(run: &mut Run, to: Option<&str>) {
    run.wish("ann", |wish| {
        wish.wanted = to.map(Into::into);
        wish.switchover = Some(plan());
    });
}

#[test]
fn planned_switchover_hands_over_without_a_failed_server() {
    let setup = Setup::quorum().policy(|policy| policy.last_failover_minutes = 480).traced();
    let mut run = healthy(&setup);
    switch(&mut run, Some("db3"));
    closed(&mut run, 5_000, 1);
    assert_eq!(run.primary(), "db3");
    assert_eq!(outcomes(&run), ["promoted"]);
    let state = run.state();
    assert!(state.formers().is_empty(), "the old primary is a replica at once");
    assert_eq!(state.interval_left_ms(0), 0, "the next failover is not held up");
    run.settle(5_000);
}

#[test]
fn five_servers_with_two_acknowledgements_switch_over_and_back() {
    let mut run = healthy(&Setup::quorum_of_five().traced());
    for (to, epoch) in [("db4", 1), ("db1", 2)] {
        switch(&mut run, Some(to));
        closed(&mut run, 8_000, epoch);
        assert_eq!(run.primary(), to);
        run.settle(10_000);
    }
    assert_eq!(outcomes(&run), ["promoted", "promoted"]);
}

#[test]
fn candidate_of_a_switchover_lost_for_good_past_entry_9_is_superseded_with_the_old_primarys_help() {
    for step in ["cut_clients", "open_for_writes", "detach", "take_vip"] {
        let setup = Setup::quorum().policy(|policy| policy.last_failover_minutes = 480).traced();
        let mut run = Run::new(&setup);
        // Of a server that has just booted a restart could not be told.
        run.pass(15_000);
        run.world(|world| {
            let (moment, blow) = (Moment::BeforeCommit, Blow::Stall(0));
            world.ambush = Some(Ambush { step: Some(step), moment, skip: 0, blow });
        });
        switch(&mut run, Some("db2"));
        run.until(8_000, step, |world| world.ambush.is_none());
        assert_eq!(run.primary(), "db2", "{step}: past entry 9");
        run.world(|world| world.power_off(1));
        closed(&mut run, 30_000, 2);
        assert_eq!((run.primary(), outcomes(&run)), ("db3".into(), vec!["superseded", "promoted"]));
        let ackers = run.state().regime().expect("a primary").ackers.clone();
        assert!(ackers.contains(&"db1".into()), "{step}: {ackers:?}");
        run.world(|world| (0..3).for_each(|ix| world.unmask(ix)));
        run.settle(60_000);
    }
}

/// A switchover to db2, struck once; the run, and whether the ambush was sprung.
fn struck(step: &'static str, moment: Moment, blow: Blow, seed: u64) -> (Run, bool) {
    let mut run = healthy(&Setup::quorum().seed(seed).traced());
    run.world(|world| {
        world.ambush = Some(Ambush { step: Some(step), moment, skip: 0, blow });
    });
    switch(&mut run, Some("db2"));
    run.pass(20_000);
    let is_sprung = run.world(|world| world.ambush.take().is_none());
    (run, is_sprung)
}

#[test]
fn leader_killed_at_any_moment_of_any_step_of_a_switchover_leaves_one_primary_that_takes_writes() {
    let mut sprung = 0;
    for (seed, step) in STEPS.into_iter().enumerate() {
        for moment in Moment::ALL {
            let (mut run, is_sprung) = struck(step, moment, Blow::Kill, seed as u64);
            sprung += usize::from(is_sprung);
            run.settle(30_000);
            assert_eq!(run.state().epoch.0, 1, "{step} {moment:?}: under the same id");
        }
    }
    assert!(sprung >= 30, "only {sprung} ambushes were sprung");
}

#[test]
fn leader_stopped_at_any_moment_of_any_step_of_a_switchover_changes_nothing_when_it_goes_on() {
    for (seed, step) in STEPS.into_iter().enumerate() {
        for moment in Moment::ALL {
            for span in [1_000_000, 8_000_000] {
                let (mut run, _) = struck(step, moment, Blow::Stall(span), seed as u64);
                run.settle(30_000);
            }
        }
    }
}

#[test]
fn target_killed_at_any_moment_of_any_step_of_a_switchover_leaves_one_primary() {
    for (seed, step) in STEPS.into_iter().enumerate() {
        for moment in Moment::ALL {
            let (mut run, _) = struck(step, moment, Blow::KillTarget, seed as u64);
            run.world(|world| {
                for ix in 0..3 {
                    world.unmask(ix);
                    world.start_server(ix);
                }
            });
            run.settle(40_000);
        }
    }
}

#[test]
fn primary_that_dies_before_the_point_of_no_return_is_failed_over_by_the_next_epoch_at_once() {
    let blow = Blow::KillTarget;
    let (mut run, is_sprung) = struck("close_for_writes", Moment::BeforeAct, blow, 3);
    assert!(is_sprung);
    assert_eq!(outcomes(&run), ["superseded", "promoted"]);
    let state = run.state();
    let next = state.history.back().expect("the failover");
    assert_eq!(next.opening.cause, Cause::PrimaryDown);
    run.world(|world| world.unmask(0));
    run.settle(20_000);
}

#[test]
fn candidate_cut_off_from_the_primary_in_the_middle_leaves_the_primary_open() {
    let mut run = healthy(&Setup::quorum().traced());
    run.world(|world| {
        let moment = Moment::BeforeAct;
        let (step, blow) = (Some("close_for_writes"), Blow::Stall(300_000));
        world.ambush = Some(Ambush { step, moment, skip: 0, blow });
    });
    switch(&mut run, Some("db2"));
    run.until(5_000, "the end of writes", |world| world.ambush.is_none());
    run.world(|world| world.network.part(Node::Host(0), Node::Host(1)));
    run.until(15_000, "the undo", |world| {
        world.state().is_some_and(|state| state.epoch.0 == 1 && state.attempt.is_none())
    });
    assert_eq!(outcomes(&run), ["aborted"]);
    assert_eq!(run.primary(), "db1");
    let is_open = run.world(|world| world.servers[0].is_writable());
    assert!(is_open, "the old primary takes writes again");
    run.world(|world| world.network.heal());
    run.settle(20_000);
}

#[test]
fn candidate_that_hangs_makes_the_deadline_undo_it() {
    let mut run = healthy(&Setup::quorum().traced());
    switch(&mut run, Some("db2"));
    run.until(3_000, "the attempt", |world| {
        world.state().is_some_and(|state| state.attempt.is_some())
    });
    run.world(|world| world.hang_server(1));
    run.until(20_000, "the undo", |world| {
        world.state().is_some_and(|state| state.attempt.is_none())
    });
    let state = run.state();
    let Some(Outcome::Aborted { why, .. }) = state.history.back().and_then(|it| it.outcome.clone())
    else {
        panic!("it was not undone: {:?}", outcomes(&run));
    };
    assert!(why.contains("deadline") || why.contains("failed"), "{why}");
    run.world(|world| world.resume_server(1));
    run.settle(20_000);
    assert_eq!(run.primary(), "db1");
}

#[test]
fn two_operators_at_once_get_one_switchover() {
    let mut run = healthy(&Setup::quorum().traced());
    switch(&mut run, Some("db2"));
    run.pass(600);
    switch(&mut run, Some("db3"));
    run.pass(10_000);
    let epochs = run.state().epoch.0;
    let refused = run.said().iter().filter(|said| said.contains("gate.attempt_open")).count();
    assert!(epochs == 1 && refused == 1 || epochs == 2 && refused == 0, "{:?}", run.said());
    run.settle(10_000);
}

#[test]
fn switchover_to_the_primary_itself_or_from_a_dead_one_is_refused_with_the_reason() {
    let mut run = healthy(&Setup::quorum().policy(|policy| policy.automatic = false).traced());
    switch(&mut run, Some("db1"));
    run.pass(4_000);
    assert!(run.said()[0].contains("it is the primary already"), "{:?}", run.said());
    run.world(|world| world.kill_server(0));
    run.pass(3_000);
    switch(&mut run, Some("db2"));
    run.pass(6_000);
    let code = Refusal::PrimaryNotWell { server: "db1".into(), why: String::new() };
    assert!(run.said()[1].contains(code.code()), "{:?}", run.said());
    assert_eq!(run.state().epoch.0, 0);
    run.world(|world| world.start_server(0));
    run.settle(30_000);
}

#[test]
fn old_primary_that_is_left_out_waits_for_its_operator_and_comes_back() {
    let mut run = healthy(&Setup::quorum().traced());
    run.wish("ann", |wish| {
        wish.switchover = Some(Switchover { leaves_old: true, ..plan() });
    });
    closed(&mut run, 5_000, 1);
    run.pass(10_000);
    assert!(run.world(|world| world.servers[0].link.is_none()), "db1 is left alone");
    let (cluster, server) = ("app1".into(), "db1".into());
    let back = conclave_core::state::Command::LeaveOut { cluster, server, by: None };
    assert_eq!(run.operate(back), Ok(conclave_core::state::Reply::Ok));
    run.settle(20_000);
}

#[test]
fn deadline_of_a_switchover_is_kept_in_its_record() {
    let mut run = healthy(&Setup::quorum().traced());
    run.wish("ann", |wish| {
        wish.switchover = Some(Switchover { deadline_ms: Millis(1_234), ..plan() });
    });
    closed(&mut run, 5_000, 1);
    let state = run.state();
    let opening = &state.history.back().expect("an attempt").opening;
    let plan = opening.cause.switchover().expect("it was planned");
    assert_eq!(plan.deadline_ms, Millis(1_234));
}

#[test]
fn switchover_to_a_candidate_that_applies_slowly_waits_for_the_last_write() {
    let mut run = healthy(&Setup::quorum().traced());
    run.world(|world| world.servers[1].apply_us = 60_000);
    run.pass(2_000);
    switch(&mut run, Some("db2"));
    run.until(20_000, "the attempt to end", |world| {
        world.state().is_some_and(|state| state.epoch.0 == 1 && state.attempt.is_none())
    });
    run.world(|world| world.servers[1].apply_us = 300);
    run.settle(20_000);
}

/// The failover that takes over finds it alive before it has stopped anything itself.
#[test]
fn replica_on_its_way_to_the_candidate_is_put_back_by_the_failover_that_took_over_and_was_undone() {
    let mut run = healthy(&Setup::new(Mode::Fenced, 4, 0).aged().traced());
    run.world(|world| world.servers[2].apply_us = 400_000);
    run.pass(1_000);
    switch(&mut run, Some("db2"));
    run.until(5_000, "a receiver to be stopped", |world| {
        let link = world.servers[2].link.as_ref();
        link.is_some_and(|link| link.receiver == conclave_core::model::Receiver::Off)
    });
    run.world(|world| {
        world.hosts[0].has_ssh = false;
        world.power_off(0);
    });
    run.until(20_000, "the failover", |world| world.epoch() == 2);
    run.world(|world| {
        world.power_on(0);
        world.servers[2].apply_us = 300;
    });
    closed(&mut run, 40_000, 2);
    assert_eq!(outcomes(&run), ["superseded", "aborted"]);
    run.world(|world| world.hosts[0].has_ssh = true);
    run.settle(30_000);
}

/// Writes are about to end, and what the primary writes from now on does not arrive for a while.
fn last_write_on_its_way(mode: Mode) -> Run {
    let mut run = healthy(&Setup::new(mode, 3, 0).traced());
    run.world(|world| {
        // Long enough to be quicker than it, and not for a stall.
        let (step, moment) = (Some("close_for_writes"), Moment::BeforeAct);
        world.ambush = Some(Ambush { step, moment, skip: 0, blow: Blow::Stall(60_000) });
    });
    switch(&mut run, Some("db2"));
    run.until(5_000, "the end of writes to begin", |world| world.ambush.is_none());
    run.world(|world| {
        (1..3).for_each(|ix| world.network.cut(Node::Host(0), Node::Host(ix)));
    });
    run
}

/// Acknowledged by nobody but the primary, it is nowhere else when writes end.
#[test]
fn switchover_waits_for_the_last_write_before_it_cuts_anybody() {
    for mode in [Mode::Fenced, Mode::BestEffort] {
        let mut run = last_write_on_its_way(mode);
        run.pass(700);
        run.world(|world| world.network.heal());
        closed(&mut run, 20_000, 1);
        run.check();
        assert_eq!((outcomes(&run), run.primary()), (vec!["promoted"], "db2".into()), "{mode:?}");
        run.settle(20_000);
    }
}

#[test]
fn candidate_that_hangs_once_writes_have_ended_leaves_the_primary_open_again() {
    let mut run = last_write_on_its_way(Mode::Fenced);
    run.until(2_000, "the end of writes", |world| world.servers[0].super_read_only);
    run.world(|world| {
        world.hang_server(1);
        world.network.heal();
    });
    closed(&mut run, 60_000, 1);
    assert_eq!((outcomes(&run), run.primary()), (vec!["aborted"], "db1".into()));
    assert!(run.world(|world| world.servers[0].is_writable()), "it takes writes again");
    run.world(|world| world.resume_server(1));
    run.settle(30_000);
}
