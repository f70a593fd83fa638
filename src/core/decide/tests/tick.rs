//! The whole loop: what is asked, opened, answered, advanced.

use super::{bereft_view, seen, short};
use crate::{
    decide::{Move, View, Wish, tick},
    fixture::*,
    model::{Answer, Cause, Epoch, Micros, Millis, RestartPolicy},
    state::{Command, LastFailover},
};

fn moves(view: &View) -> Vec<String> {
    short(&tick(view))
}

fn wish() -> Wish {
    Wish {
        actor: ann(),
        wanted: Some(name(3)),
        asserted_dead: true,
        interval_waived: true,
        switchover: None,
    }
}

#[test]
fn healthy_cluster_is_asked_about_now_and_then_and_otherwise_left_alone() {
    let mut view = view(&Group::adopted(), healthy());
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).last_ask = Some(NOW.minus(Millis(2000)));
    assert_eq!(moves(&view), ["ask db1"]);
}

#[test]
fn who_does_not_lead_does_nothing() {
    let mut view = bereft_view(&Group::adopted());
    view.term = None;
    assert_eq!(tick(&view), []);
}

#[test]
fn doubt_is_asked_about_often() {
    let mut view = view(&Group::adopted(), healthy());
    seen(&mut view).doubt = Some(Micros(1));
    seen(&mut view).last_ask = Some(NOW.minus(Millis(19)));
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).last_ask = Some(NOW.minus(Millis(20)));
    assert_eq!(moves(&view), ["ask db1"]);
}

#[test]
fn dead_primary_opens_an_attempt_with_its_tally_as_evidence() {
    let view = bereft_view(&Group::adopted());
    let [Move::Propose { command }] = &tick(&view)[..] else { panic!("one proposal") };
    let tally = tally(Epoch(0), [Answer::Down, Answer::Down, Answer::Unknown]);
    let expected = Command::OpenAttempt {
        cluster: "app1".into(),
        expected: Epoch(0),
        opening: Box::new(crate::model::Opening { tally, ..opening(Epoch(0)) }),
        steps: crate::decide::stage::freeze(Group::adopted().cluster()),
    };
    assert_eq!(**command, expected);
}

#[test]
fn wish_opens_an_attempt_in_its_operators_name() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.automatic = false;
    let mut view = bereft_view(&group);
    seen(&mut view).wish = Some(wish());
    let moves = tick(&view);
    let [Move::Propose { command }] = &moves[..] else { panic!("one proposal, {moves:?}") };
    let Command::OpenAttempt { opening, .. } = &**command else { panic!("an opening") };
    let found = (&opening.cause, &opening.actor, &opening.wanted);
    assert_eq!(found, (&Cause::Manual, &ann(), &Some(name(3))));
    assert!(opening.asserted_dead && opening.interval_waived);
}

#[test]
fn refused_wish_is_answered_with_every_reason_once_all_have_voted_or_time_is_up() {
    let mut view = view(&Group::adopted(), healthy());
    seen(&mut view).wish = Some(wish());
    seen(&mut view).asked_at = Some(NOW.minus(Millis(100)));
    let mut some = tally(Epoch(0), [Answer::Up, Answer::Up, Answer::Up]);
    some.ballots.pop_last();
    seen(&mut view).tally = Some(some);
    assert_eq!(moves(&view), [""; 0]);
    let refused = "say refused: gate.primary_alive: db1 answers: a live primary is replaced by a \
                   switchover";
    seen(&mut view).asked_at = Some(NOW.minus(Millis(1500)));
    assert_eq!(moves(&view), [refused]);
    seen(&mut view).asked_at = Some(NOW);
    seen(&mut view).tally = Some(tally(Epoch(0), [Answer::Up, Answer::Up, Answer::Up]));
    assert_eq!(moves(&view), [refused]);
}

#[test]
fn wish_during_an_attempt_is_refused_at_once() {
    let mut group = Group::adopted();
    group.open();
    let mut view = bereft_view(&group);
    seen(&mut view).wish = Some(wish());
    let said = moves(&view).into_iter().find(|each| each.starts_with("say"));
    let refused = "say refused: gate.attempt_open: the attempt of epoch 1 is still open";
    assert_eq!(said.as_deref(), Some(refused));
}

#[test]
fn restarted_primary_is_replaced_if_the_policy_and_a_majority_say_so() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.primary_restarted = RestartPolicy::Failover;
    let mut view = view(&group, healthy());
    let told = |restarted: [bool; 3]| {
        let mut ballots = tally(Epoch(0), [Answer::Up, Answer::Up, Answer::Up]);
        for (counted, is_restarted) in ballots.ballots.values_mut().zip(restarted) {
            counted.ballot.is_restarted = is_restarted;
        }
        ballots
    };
    seen(&mut view).tally = Some(told([true, false, false]));
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).tally = Some(told([true, false, true]));
    assert_eq!(moves(&view), ["propose open_attempt"]);
    let reopen = Group::adopted();
    let mut view = super::view(&reopen, healthy());
    seen(&mut view).tally = Some(told([true, true, true]));
    assert_eq!(moves(&view), [""; 0]);
}

#[test]
fn lost_candidate_is_superseded_by_the_next_epoch() {
    let mut group = Group::with(definition(4));
    let other = std::mem::replace(&mut group, Group::passed());
    group.cluster_mut().definition = other.cluster().definition.clone();
    group.cluster_mut().members = other.cluster().members.clone();
    let mut view = bereft_view(&group);
    let mut ballots = tally(Epoch(1), [Answer::Down, Answer::Down, Answer::Down]);
    ballots.primary = name(2);
    let seen = seen(&mut view);
    seen.tally = Some(ballots);
    seen.observations.insert(name(2), no_look(2));
    seen.observations.insert(name(4), look(4, replica_facts(4, 1, run(1, 9))));
    let moves = tick(&view);
    let [Move::Propose { command }] = &moves[..] else { panic!("one proposal, {moves:?}") };
    let Command::OpenAttempt { opening, expected, .. } = &**command else { panic!("an opening") };
    let superseded = group.attempt().id.clone();
    assert_eq!((&opening.cause, *expected), (&Cause::CandidateLost { superseded }, Epoch(1)));
}

#[test]
fn group_time_advances_only_while_an_interval_runs() {
    let mut group = Group::adopted();
    let with = |group: &Group, passed: u64| {
        let mut view = view(group, healthy());
        view.advanced_at = NOW.minus(Millis(passed));
        moves(&view)
    };
    assert_eq!(with(&group, 90_000), [""; 0]);
    group.cluster_mut().definition.policy.last_failover_minutes = 10;
    group.cluster_mut().last_failover = Some(LastFailover { epoch: Epoch(0), at_ms: 0 });
    assert_eq!(with(&group, 59_999), [""; 0]);
    assert_eq!(with(&group, 60_000), ["propose advance_time"]);
    // Near its end it is told in time, but not more than once a second.
    group.state.clock_ms = 599_500;
    assert_eq!(with(&group, 999), [""; 0]);
    assert_eq!(with(&group, 1000), ["propose advance_time"]);
    group.state.clock_ms = 600_000;
    assert_eq!(with(&group, 90_000), [""; 0]);
}

#[test]
fn clusters_are_looked_after_side_by_side() {
    let mut view = bereft_view(&Group::adopted());
    let mut group = (*view.group).clone();
    let mut other = group.clusters[&"app1".into()].clone();
    other.definition.name = "app2".into();
    group.clusters.insert("app2".into(), other);
    view.group = group.into();
    let copy = view.clusters[&"app1".into()].clone();
    view.clusters.insert("app2".into(), copy);
    assert_eq!(moves(&view), ["propose open_attempt", "propose open_attempt"]);
}
