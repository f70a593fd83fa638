//! Scripts of the operators' own: called at least once by one key, heard out, and never in the way.

use conclave_core::model::{Attempt, HookEvent, Outcome, StepOutcome, StepRecord};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    run::Run,
    setup::Setup,
};

/// The primary dies. The calls are struck once, `skip` such moments into them.
fn struck(setup: &Setup, moment: Moment, skip: u32, blow: Blow) -> Run {
    let mut run = Run::new(setup);
    run.pass(3_000);
    run.world(|world| {
        world.ambush = Some(Ambush { step: Some("hook"), moment, skip, blow });
        world.kill_server(0);
    });
    run.pass(30_000);
    assert!(run.world(|world| world.ambush.is_none()), "{moment:?} {skip} was not struck");
    run.world(|world| world.unmask(0));
    run.settle(60_000);
    run
}

fn calls(attempt: &Attempt) -> impl Iterator<Item = (HookEvent, &StepRecord)> {
    attempt.steps.iter().filter_map(|step| Some((step.goal.hook()?.event, step)))
}

/// The one attempt was finished, and each script it planned to call was called and heard.
fn assert_told(run: &Run, wanted: &[HookEvent]) {
    let history = run.state().history;
    assert_eq!(history.len(), 1, "another attempt was needed");
    let told: Vec<HookEvent> = calls(&history[0]).map(|(event, _)| event).collect();
    assert_eq!(told, wanted);
    for (event, step) in calls(&history[0]) {
        assert!(step.met().is_some(), "{event:?}: {:?}", step.runs);
        let made = run.world(|world| world.calls.get(&step.id).copied().unwrap_or_default());
        assert!(made >= 1, "{event:?} was never called");
    }
}

const FORWARD: [HookEvent; 3] = [HookEvent::Opened, HookEvent::Published, HookEvent::Finished];

#[test]
fn leader_lost_at_any_moment_of_a_call_is_followed_by_one_that_calls_by_the_same_key() {
    for moment in [Moment::BeforeCommit, Moment::BeforeAct, Moment::BeforeClosingCommit] {
        for skip in 0..3 {
            for required in [false, true] {
                let setup = Setup::quorum().seed(u64::from(skip)).hooked(required).traced();
                let run = struck(&setup, moment, skip, Blow::Kill);
                assert_eq!(run.primary(), "db2");
                assert_told(&run, &FORWARD);
            }
        }
    }
}

#[test]
fn leader_stopped_in_a_call_leaves_it_to_its_successor() {
    for skip in 0..3 {
        let setup = Setup::quorum().hooked(true).traced();
        let run = struck(&setup, Moment::BeforeAct, skip, Blow::Stall(8_000_000));
        assert_told(&run, &FORWARD);
    }
}

#[test]
fn hanging_script_is_killed_at_its_deadline_and_the_failover_goes_on() {
    let mut run = Run::new(&Setup::quorum().hooked(false).traced());
    run.pass(3_000);
    run.world(|world| {
        world.hook_trouble = (0, 100);
        world.kill_server(0);
    });
    // Far sooner than the script's deadline.
    run.until(5_000, "a new primary", |world| {
        world.state().is_some_and(|state| state.primary().is_some_and(|name| name.0 == "db2"))
    });
    run.world(|world| world.unmask(0));
    run.settle(120_000);
    let history = run.state().history;
    assert!(matches!(history[0].outcome, Some(Outcome::Promoted { .. })));
    for (event, step) in calls(&history[0]) {
        assert!(matches!(step.outcome(), Some(StepOutcome::Unknown { .. })), "{event:?}");
    }
}

#[test]
fn required_script_that_fails_undoes_the_attempt_and_its_undoing_is_told() {
    let mut run = Run::new(&Setup::quorum().hooked(true).traced());
    run.pass(3_000);
    run.world(|world| {
        world.hook_trouble = (100, 0);
        world.kill_server(0);
    });
    run.until(20_000, "an undone attempt", |world| {
        world.state().is_some_and(|state| !state.history.is_empty())
    });
    let undone = run.state().history[0].clone();
    let Some(Outcome::Aborted { why, .. }) = &undone.outcome else { panic!("{undone:?}") };
    assert!(why.contains("hook script on opened failed"), "{why}");
    let told: Vec<HookEvent> = calls(&undone).map(|(event, _)| event).collect();
    assert_eq!(told, [HookEvent::Opened, HookEvent::Undone]);
    // It does not block the next one, which finds the script well.
    run.world(|world| world.hook_trouble = (0, 0));
    run.until(60_000, "a new primary", |world| {
        world.state().is_some_and(|state| state.primary().is_some_and(|name| name.0 == "db2"))
    });
    run.world(|world| world.unmask(0));
    run.settle(120_000);
}
