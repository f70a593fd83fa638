//! Tests of the state machine: each command taken, and each way it is rejected.

use super::*;
use crate::{fixture::*, model::*};

#[test]
fn aborted_attempt_leaves_the_regime_as_it_was() {
    let mut group = Group::undoing();
    let before = group.cluster().regimes.clone();
    let outcome = Outcome::Aborted { why: "a test".into(), unfinished: Vec::new() };
    let close =
        Command::CloseAttempt { cluster: "app1".into(), epoch: Epoch(1), outcome, at_us: None };
    assert_eq!(group.apply(close), Reply::Ok);
    assert_eq!(group.cluster().regimes, before);
    assert_eq!(group.cluster().primary(), Some(&name(1)));
}

#[test]
fn late_stop_of_a_receiver_is_refused_once_the_attempt_is_being_undone() {
    let mut group = Group::adopted();
    group.open();
    let stops = group.steps("stop_receiver");
    assert_eq!(group.begin(stops[0]), Reply::Ok);
    let steps = crate::decide::stage::undo(group.cluster(), group.attempt());
    assert!(matches!(group.apply(undo(steps)), Reply::Opened { .. }));
    let why = "app1-1 is in stage undo: this step has its place in another stage".into();
    let rejection = Rejection::WrongStage { why };
    assert_eq!(group.begin(stops[1]), Reply::Rejected { rejection });
}

#[test]
fn undo_that_forgets_a_receiver_which_was_stopped_meanwhile_is_refused() {
    let mut group = Group::adopted();
    group.open();
    let planned = crate::decide::stage::undo(group.cluster(), group.attempt());
    group.meet("stop_receiver", &run(1, 9));
    let why = "the receiver of db2 may be stopped and is not resumed".into();
    let rejection = Rejection::WrongStage { why };
    assert_eq!(group.apply(undo(planned)), Reply::Rejected { rejection });
}

#[test]
fn quarantined_server_left_behind_stays_quarantined() {
    let mut group = Group::with(definition(4));
    let errant = run(4, 1);
    let standing = Standing::Quarantined { errant };
    group.cluster_mut().members.get_mut(&name(4)).expect("db4 is a member").standing =
        standing.clone();
    let state = std::mem::replace(&mut group, Group::repointing());
    group.cluster_mut().members = state.cluster().members.clone();
    let outcome = Outcome::Promoted { left_behind: names(&[3, 4]) };
    let close =
        Command::CloseAttempt { cluster: "app1".into(), epoch: Epoch(1), outcome, at_us: None };
    assert_eq!(group.apply(close), Reply::Ok);
    let found: Vec<Standing> =
        group.cluster().members.values().map(|member| member.standing.clone()).collect();
    let former = |vips_dropped| Standing::Former { vips_dropped };
    assert_eq!(found, [former(true), Standing::Member, former(false), standing]);
}
