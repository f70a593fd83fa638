//! When scripts are called, what waits for them, and what does not.

use super::{bereft_view, seen, short};
use crate::{
    decide::{Move, progress, stage},
    fixture::*,
    model::{
        ClusterDefinition, Epoch, GtidSet, HookDefinition, HookEvent, Millis, Stage, StepEvidence,
        StepOutcome, Term,
    },
    state::Command,
};

fn hook(name: &str, on: &[HookEvent], required: bool) -> HookDefinition {
    let deadline_ms = HookDefinition::DEADLINE;
    HookDefinition { name: name.into(), on: on.to_vec(), deadline_ms, required }
}

fn group(hooks: Vec<HookDefinition>) -> Group {
    let mut group = Group::with(ClusterDefinition { hooks, ..definition(3) });
    group.open();
    group
}

fn moves(group: &Group) -> Vec<String> {
    let mut view = bereft_view(group);
    // Long enough after any failure for another try.
    let ended: Vec<_> = group.attempt().steps.iter().map(|step| step.id).collect();
    let ago = |step| (step, NOW.minus(Millis(60_000)));
    seen(&mut view).ended = ended.into_iter().map(ago).collect();
    let (cluster, seen) = super::parts(&view);
    let moves: Vec<Move> =
        progress::next(&view, cluster, seen, cluster.attempt.as_ref().unwrap(), Term(TERM));
    short(&moves)
}

fn printed() -> StepOutcome {
    StepOutcome::Done { evidence: StepEvidence::Hook { text: "told".into() } }
}

/// Calls every script of that moment once, to that end.
fn call(group: &mut Group, event: HookEvent, outcome: &StepOutcome) {
    let steps = group.attempt().steps.iter();
    let of = steps.filter(|step| step.goal.hook().is_some_and(|call| call.event == event));
    let ids: Vec<_> = of.map(|step| step.id).collect();
    for id in ids {
        group.begin(id);
        group.end(id, outcome.clone());
    }
}

fn freeze(group: &mut Group) {
    group.meet("stop_receiver", &run(1, 9));
    group.meet("fence", &GtidSet::empty());
}

#[test]
fn scripts_called_at_the_opening_run_beside_the_freeze_and_hold_nothing_up() {
    let mut group = group(vec![hook("page", &[HookEvent::Opened], false)]);
    let expected =
        ["run fence db1", "run hook db1", "run stop_receiver db2", "run stop_receiver db3"];
    assert_eq!(moves(&group), expected);
    freeze(&mut group);
    assert_eq!(moves(&group), ["propose elect"]);
}

#[test]
fn required_script_is_waited_for_before_the_election() {
    let mut group = group(vec![hook("cut_power", &[HookEvent::Opened], true)]);
    freeze(&mut group);
    assert_eq!(moves(&group), ["run hook db1"]);
    call(&mut group, HookEvent::Opened, &failed());
    assert_eq!(moves(&group), ["run hook db1"]);
    call(&mut group, HookEvent::Opened, &printed());
    assert_eq!(moves(&group), ["propose elect"]);
}

#[test]
fn attempt_is_undone_when_a_required_script_failed_three_times() {
    let mut group = group(vec![hook("cut_power", &[HookEvent::Opened], true)]);
    freeze(&mut group);
    for _ in 0..3 {
        assert_eq!(moves(&group), ["run hook db1"]);
        call(&mut group, HookEvent::Opened, &failed());
    }
    assert_eq!(moves(&group), ["propose undo"]);
}

/// Past entry 9, with the candidate open.
fn repointing(hooks: Vec<HookDefinition>) -> Group {
    let mut group = group(hooks);
    freeze(&mut group);
    group.elect();
    group.pass();
    for code in ["detach", "follow", "open_for_writes", "take_vip"] {
        group.meet(code, &run(1, 9));
    }
    let view = bereft_view(&group);
    let steps = stage::repoint(group.cluster(), super::parts(&view).1, &election());
    let (cluster, epoch) = ("app1".into(), Epoch(1));
    group.apply(Command::EnterRepoint { cluster, epoch, steps, at_us: None });
    group
}

#[test]
fn attempt_is_closed_once_all_scripts_were_told_in_their_order() {
    let mut group =
        repointing(vec![hook("dns", &[HookEvent::Finished, HookEvent::Published], false)]);
    assert_eq!(moves(&group), ["run hook db2"]);
    call(&mut group, HookEvent::Published, &printed());
    assert_eq!(moves(&group), ["run hook db2"]);
    call(&mut group, HookEvent::Finished, &printed());
    assert_eq!(moves(&group), ["propose close_attempt"]);
}

#[test]
fn failing_script_past_entry_nine_is_tried_once_or_three_times_and_blocks_nothing() {
    for (required, tries) in [(false, 1), (true, 3)] {
        let mut group = repointing(vec![hook("dns", &[HookEvent::Published], required)]);
        for _ in 0..tries {
            assert_eq!(moves(&group), ["run hook db2"]);
            call(&mut group, HookEvent::Published, &failed());
        }
        assert_eq!(moves(&group), ["propose close_attempt"]);
    }
}

#[test]
fn undoing_tells_the_scripts_why_at_the_end() {
    let mut group = group(vec![hook("page", &[HookEvent::Undone, HookEvent::Opened], false)]);
    let steps = stage::undo(group.cluster(), group.attempt(), "nobody is eligible");
    let call_of = steps.iter().find_map(|planned| planned.goal.hook()).unwrap();
    assert_eq!((&*call_of.note, &call_of.new), ("nobody is eligible", &None));
    group.apply(undo(steps));
    assert!(matches!(group.attempt().stage, Stage::Undo { .. }));
    assert_eq!(moves(&group), ["run wake db1"]);
    group.meet("wake", &run(1, 9));
    assert_eq!(moves(&group), ["run hook db1"]);
    call(&mut group, HookEvent::Undone, &printed());
    assert_eq!(moves(&group), ["propose close_attempt"]);
}

#[test]
fn script_that_was_running_when_its_leader_was_lost_is_called_again_by_the_same_key() {
    let mut group = repointing(vec![hook("dns", &[HookEvent::Published], false)]);
    let id = group.steps("hook")[0];
    group.begin(id);
    assert_eq!(moves(&group), ["run hook db2"]);
    assert_eq!(group.steps("hook"), [id]);
}

#[test]
fn mistakes_in_hooks_are_told() {
    let mistakes = |hook: HookDefinition| {
        ClusterDefinition { hooks: vec![hook], ..definition(3) }.mistakes().join("\n")
    };
    let good = hook("notify.sh", &HookEvent::ALL, false);
    assert_eq!(mistakes(good.clone()), "");
    for name in ["../../bin/sh", ".hidden", "", "a b"] {
        assert!(
            mistakes(HookDefinition { name: name.into(), ..good.clone() }).contains("file name")
        );
    }
    assert!(mistakes(HookDefinition { on: Vec::new(), ..good.clone() }).contains("never called"));
    let endless = HookDefinition { deadline_ms: Millis(600_001), ..good.clone() };
    assert!(mistakes(endless).contains("wanted 100 to 600000"));
    let slow = HookDefinition { deadline_ms: Millis(30_000), required: true, ..good };
    assert!(mistakes(slow).contains("below policy"));
}
