//! Whether a replica hears the primary.

use crate::{
    decide::hear::Tracker,
    fixture::*,
    model::{Hearing, Micros, Mono, Observation, Policy, Receiver, ServerFacts},
};

fn at(millis: u64, facts: ServerFacts) -> Observation {
    Observation { server: name(2), at: Mono(millis * 1000), seen: Ok(facts) }
}

/// A look at db2 whose receiver has counted so many heartbeats.
fn beats(millis: u64, heartbeats: u64) -> Observation {
    let mut facts = replica_facts(2, 1, run(1, 9));
    link(&mut facts).heartbeats = heartbeats;
    at(millis, facts)
}

fn judge(looks: &[Observation], now: u64) -> Hearing {
    let mut tracker = Tracker::default();
    looks.iter().for_each(|look| tracker.record(look));
    let primary = definition(3).servers.remove(0);
    tracker.judge(looks.last(), &primary, &Policy::default(), Mono(now * 1000))
}

#[test]
fn movement_is_hearing_and_its_absence_for_two_periods_and_a_look_is_silence() {
    let looks = [beats(0, 1), beats(500, 2), beats(1000, 2)];
    assert_eq!(judge(&looks, 1100), Hearing::Hears { age: Micros(600_000) });
    // Heartbeats come every 500 ms and looks, too: two looks may see the same count.
    assert_eq!(judge(&looks, 1999), Hearing::Hears { age: Micros(1_499_000) });
    assert_eq!(judge(&looks, 2000), Hearing::Silent { age: Micros(1_500_000) });
}

#[test]
fn received_transactions_are_movement_too() {
    let mut more = replica_facts(2, 1, run(1, 9));
    link(&mut more).retrieved = run(1, 9);
    let looks = [beats(0, 4), at(2000, more)];
    assert_eq!(judge(&looks, 2100), Hearing::Hears { age: Micros(100_000) });
}

#[test]
fn primary_whose_large_transaction_is_coming_in_is_heard() {
    let mut within = replica_facts(2, 1, run(1, 9));
    link(&mut within).read_to += 1;
    let looks = [beats(0, 4), at(2000, within)];
    assert_eq!(judge(&looks, 2100), Hearing::Hears { age: Micros(100_000) });
}

#[test]
fn link_with_a_longer_period_is_silent_later_and_one_without_heartbeats_never() {
    let slow = |period: u64| {
        let mut facts = replica_facts(2, 1, run(1, 9));
        link(&mut facts).options.heartbeat_ms = period;
        [at(0, facts.clone()), at(60_000, facts)]
    };
    assert_eq!(judge(&slow(30_000), 60_499), Hearing::Hears { age: Micros(60_499_000) });
    assert_eq!(judge(&slow(30_000), 60_500), Hearing::Silent { age: Micros(60_500_000) });
    assert_eq!(judge(&slow(0), 61_000), Hearing::Hears { age: Micros(61_000_000) });
}

#[test]
fn first_look_is_granted_the_benefit_of_the_doubt() {
    assert_eq!(judge(&[beats(0, 1)], 100), Hearing::Hears { age: Micros(100_000) });
    let looks = [beats(0, 1), beats(1600, 1)];
    assert_eq!(judge(&looks, 1700), Hearing::Silent { age: Micros(1_700_000) });
}

#[test]
fn state_of_the_receiver_decides_what_it_can_say() {
    let with = |receiver, source| {
        let mut facts = replica_facts(2, source, run(1, 9));
        link(&mut facts).receiver = receiver;
        judge(&[at(0, facts)], 100)
    };
    assert_eq!(with(Receiver::Connecting, 1), Hearing::Disconnected);
    assert_eq!(with(Receiver::Off, 1), Hearing::NotListening);
    assert_eq!(with(Receiver::On, 3), Hearing::NotListening);
    assert_eq!(judge(&[at(0, primary_facts(2, run(1, 9)))], 100), Hearing::NotListening);
}

#[test]
fn old_or_failed_look_says_nothing() {
    assert_eq!(judge(&[beats(0, 1)], 2501), Hearing::Unknown);
    assert_eq!(judge(&[no_look(2)], NOW.0 / 1000), Hearing::Unknown);
    assert_eq!(judge(&[], 0), Hearing::Unknown);
}
