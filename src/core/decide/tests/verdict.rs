//! The count of ballots.

use std::collections::BTreeMap;

use crate::{
    decide::verdict::{Outcome, count},
    fixture::*,
    model::{Answer, Epoch, Hearing, ManagerId, Micros, Policy, Tally},
};

use Answer::{Down, Unknown, Up};

fn outcome(tally: &Tally) -> Outcome {
    count(tally, Epoch(0), &Policy::default()).outcome
}

fn told(answers: [Answer; 3]) -> Outcome {
    outcome(&tally(Epoch(0), answers))
}

#[test]
fn majority_of_all_voters_is_needed() {
    for (answers, expected) in [
        ([Down, Down, Down], Outcome::Down),
        ([Down, Down, Up], Outcome::Down),
        ([Down, Up, Down], Outcome::Down),
        ([Down, Unknown, Up], Outcome::NotDown),
        ([Down, Unknown, Unknown], Outcome::NotDown),
        ([Unknown, Unknown, Unknown], Outcome::NotDown),
        ([Up, Up, Up], Outcome::NotDown),
    ] {
        assert_eq!(told(answers), expected, "{answers:?}");
    }
}

#[test]
fn silent_voters_count_against() {
    let mut two_of_five = tally(Epoch(0), [Down, Down, Up]);
    two_of_five.voters = (1..=5).map(ManagerId).collect();
    assert_eq!(outcome(&two_of_five), Outcome::NotDown);
    let mut alone = tally(Epoch(0), [Down, Down, Down]);
    alone.ballots.retain(|id, _| id.0 == 1);
    assert_eq!(outcome(&alone), Outcome::NotDown);
}

#[test]
fn ballots_of_strangers_old_ballots_and_those_of_another_epoch_count_for_nothing() {
    let mut strangers = tally(Epoch(0), [Down, Down, Down]);
    strangers.voters = [ManagerId(1), ManagerId(8), ManagerId(9)].into();
    assert_eq!(outcome(&strangers), Outcome::NotDown);
    let mut old = tally(Epoch(0), [Down, Down, Up]);
    for counted in old.ballots.values_mut() {
        counted.age = Micros(1_000_001);
    }
    assert_eq!(outcome(&old), Outcome::NotDown);
    assert_eq!(outcome(&tally(Epoch(4), [Down, Down, Down])), Outcome::NotDown);
}

#[test]
fn nobody_is_no_majority() {
    let mut nobody = tally(Epoch(0), [Down, Down, Down]);
    nobody.voters.clear();
    assert_eq!(outcome(&nobody), Outcome::NotDown);
}

fn hearing(of: [&[(u64, Hearing)]; 3]) -> Tally {
    let mut tally = tally(Epoch(0), [Down, Down, Up]);
    for (counted, heard) in tally.ballots.values_mut().zip(of) {
        let heard = heard.iter().map(|(server, hearing)| (name(*server), hearing.clone()));
        counted.ballot.hearing = heard.collect::<BTreeMap<_, _>>();
    }
    tally
}

#[test]
fn one_replica_that_hears_the_primary_by_any_ballot_turns_no_second_key() {
    let (hears, silent) = (Hearing::Hears { age: Micros(9) }, Hearing::Silent { age: Micros(9) });
    let tally = hearing([
        &[(2, silent.clone()), (3, silent.clone())],
        &[(2, Hearing::Disconnected), (3, silent)],
        &[(3, hears)],
    ]);
    let verdict = count(&tally, Epoch(0), &Policy::default());
    assert_eq!(verdict.outcome, Outcome::Unreachable);
    assert_eq!((verdict.heard_by, verdict.unheard_by), (vec![name(3)], vec![name(2)]));
}

#[test]
fn no_replica_reached_turns_no_second_key_and_one_that_does_not_listen_does() {
    let unknown = [(2, Hearing::Unknown), (3, Hearing::Unknown)];
    assert_eq!(outcome(&hearing([&unknown, &[], &[]])), Outcome::Unconfirmed);
    for deaf in [Hearing::NotListening, Hearing::Disconnected, Hearing::Silent { age: Micros(9) }] {
        assert_eq!(outcome(&hearing([&unknown, &[(2, deaf)], &[]])), Outcome::Down);
    }
}
