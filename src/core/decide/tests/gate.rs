//! Reasons not to open an attempt: each alone, and several at once.

use super::{bereft_view, parts, seen};
use crate::{
    decide::{
        View, Wish, forecast,
        gate::{self, Fault, refusals},
    },
    fixture::*,
    model::{
        Answer, ClusterDefinition, Epoch, Hearing, ManagerId, Micros, Millis, Mode, PromotionRule,
        Refusal,
    },
    state::{Command, Standing},
};

fn all(view: &View) -> Vec<Refusal> {
    refusals(view, &"app1".into(), None)
}

fn wish() -> Wish {
    Wish {
        actor: ann(),
        wanted: None,
        asserted_dead: false,
        interval_waived: false,
        switchover: None,
    }
}

fn wished(view: &View, wish: &Wish) -> Vec<Refusal> {
    refusals(view, &"app1".into(), Some(wish))
}

/// A group in another mode.
fn group_in(mode: Mode) -> Group {
    Group::with(ClusterDefinition { mode, ..definition(3) })
}

/// What no coverage comes to when only these ackers were reached.
fn no_coverage(reached: &[u64]) -> Refusal {
    Refusal::NoCoverage {
        reached: reached.iter().map(|server| name(*server)).collect(),
        restarted: Vec::new(),
        ackers: 2,
        acks: 1,
    }
}

#[test]
fn dead_primary_with_all_replicas_reached_is_refused_by_nothing() {
    assert_eq!(all(&bereft_view(&Group::adopted())), []);
}

#[test]
fn what_mariadb_acknowledged_is_not_counted_on() {
    let mut view = bereft_view(&Group::adopted());
    for server in [2, 3] {
        let facts = of_mariadb(replica_facts(server, 1, run(1, 9)));
        seen(&mut view).observations.insert(name(server), look(server, facts));
    }
    let codes: Vec<_> = all(&view).iter().map(Refusal::code).collect();
    assert_eq!(codes, ["gate.unsupported", "gate.no_candidate"]);
    let sentence = all(&view)[0].sentence();
    assert!(sentence.contains("on MariaDB an acknowledgement proves nothing"), "{sentence}");
}

#[test]
fn unknown_cluster_has_no_primary() {
    let view = bereft_view(&Group::adopted());
    let why = "there is no cluster app9".into();
    assert_eq!(refusals(&view, &"app9".into(), None), [Refusal::NoPrimary { why }]);
}

#[test]
fn cluster_without_a_primary_is_refused_by_that_alone() {
    let mut group = Group::adopted();
    group.cluster_mut().regimes.clear();
    let why = "none was adopted yet".to_owned();
    assert_eq!(all(&bereft_view(&group)), [Refusal::NoPrimary { why }]);
}

#[test]
fn paused_cluster() {
    let mut group = Group::adopted();
    let (cluster, actor) = ("app1".into(), ann());
    group.apply(Command::Pause { cluster, actor, reason: "disks".into() });
    let view = bereft_view(&group);
    assert_eq!(all(&view), [Refusal::Paused { by: "ann (disks)".into() }]);
    assert_eq!(wished(&view, &wish()), []);
}

#[test]
fn policy_that_is_not_automatic() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.automatic = false;
    let view = bereft_view(&group);
    assert_eq!(all(&view), [Refusal::NotAutomatic]);
    assert_eq!(wished(&view, &wish()), []);
}

#[test]
fn open_attempt() {
    let mut group = Group::adopted();
    group.open();
    assert_eq!(all(&bereft_view(&group)), [Refusal::AttemptOpen { epoch: Epoch(1) }]);
}

#[test]
fn last_failover_interval_unless_waived() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.last_failover_minutes = 10;
    group.cluster_mut().last_failover =
        Some(crate::state::LastFailover { epoch: Epoch(0), at_ms: 0 });
    group.state.clock_ms = 9 * 60_000 + 1;
    let view = bereft_view(&group);
    let refusal = Refusal::LastFailoverInterval { left_s: 60, minutes: 10 };
    assert_eq!(all(&view), std::slice::from_ref(&refusal));
    assert_eq!(wished(&view, &wish()), [refusal]);
    assert_eq!(wished(&view, &Wish { interval_waived: true, ..wish() }), []);
}

#[test]
fn pause_after_an_undone_attempt() {
    let mut view = bereft_view(&Group::adopted());
    seen(&mut view).aborted_at = Some(NOW.minus(Millis(1000)));
    assert_eq!(all(&view), [Refusal::RetryPause { left_ms: 2000 }]);
    assert_eq!(wished(&view, &wish()), []);
    seen(&mut view).aborted_at = Some(NOW.minus(Millis(3000)));
    assert_eq!(all(&view), []);
}

#[test]
fn stalled_leader() {
    let mut view = bereft_view(&Group::adopted());
    view.stalled = Some((NOW.minus(Millis(900)), Micros(400_000)));
    assert_eq!(all(&view), [Refusal::LeaderStalled { span: Micros(400_000) }]);
    view.stalled = Some((NOW.minus(Millis(1000)), Micros(400_000)));
    assert_eq!(all(&view), []);
}

#[test]
fn no_majority_and_no_ballots() {
    let mut view = bereft_view(&Group::adopted());
    seen(&mut view).tally = Some(tally(Epoch(0), [Answer::Down, Answer::Unknown, Answer::Up]));
    assert_eq!(all(&view), [Refusal::NotDown { down: 1, needed: 2, voters: 3 }]);
    seen(&mut view).tally = None;
    assert_eq!(all(&view), [Refusal::NotDown { down: 0, needed: 2, voters: 3 }]);
}

#[test]
fn primary_that_a_replica_hears() {
    let mut view = bereft_view(&Group::adopted());
    if let Some(tally) = &mut seen(&mut view).tally {
        for counted in tally.ballots.values_mut() {
            counted.ballot.hearing.insert(name(3), Hearing::Hears { age: Micros(1) });
        }
    }
    let refusal = Refusal::StillHeard { by: vec![name(3)] };
    assert_eq!(all(&view), std::slice::from_ref(&refusal));
    // Whoever vouches for its death is wrong.
    assert_eq!(wished(&view, &Wish { asserted_dead: true, ..wish() }), [refusal]);
}

#[test]
fn no_replica_reached_for_the_second_key() {
    let mut view = bereft_view(&Group::adopted());
    if let Some(tally) = &mut seen(&mut view).tally {
        tally.ballots.values_mut().for_each(|counted| counted.ballot.hearing.clear());
    }
    assert_eq!(all(&view), [Refusal::NoReplicaReached]);
    assert_eq!(wished(&view, &Wish { asserted_dead: true, ..wish() }), []);
}

#[test]
fn live_primary_is_not_replaced_by_a_wish() {
    let mut view = view(&Group::adopted(), healthy());
    seen(&mut view).tally = Some(tally(Epoch(0), [Answer::Up, Answer::Down, Answer::Up]));
    assert_eq!(wished(&view, &wish()), [Refusal::PrimaryAlive { server: name(1) }]);
    let vouched = Wish { asserted_dead: true, ..wish() };
    assert_eq!(wished(&view, &vouched), [Refusal::PrimaryAlive { server: name(1) }]);
    // One manager that has an answer is enough to refute whoever vouches for the death.
    let answers = [Answer::Down, Answer::Down, Answer::Up];
    seen(&mut view).tally = Some(tally(Epoch(0), answers));
    assert_eq!(wished(&view, &vouched), [Refusal::PrimaryAlive { server: name(1) }]);
    assert_eq!(wished(&view, &wish()), []);
}

#[test]
fn word_of_an_operator_stands_in_for_ballots_only_once_all_managers_were_waited_for() {
    let mut view = bereft_view(&Group::adopted());
    let mut partial = tally(Epoch(0), [Answer::Down, Answer::Unknown, Answer::Up]);
    partial.ballots.remove(&crate::model::ManagerId(3));
    seen(&mut view).tally = Some(partial.clone());
    let vouched = Wish { asserted_dead: true, ..wish() };
    let refusal = Refusal::NotDown { down: 1, needed: 2, voters: 3 };
    assert_eq!(wished(&view, &vouched), [refusal]);
    seen(&mut view).asked_at = Some(NOW.minus(Millis(1500)));
    assert_eq!(wished(&view, &vouched), []);
    seen(&mut view).asked_at = None;
    partial.ballots = tally(Epoch(0), [Answer::Down, Answer::Unknown, Answer::Unknown]).ballots;
    seen(&mut view).tally = Some(partial);
    assert_eq!(wished(&view, &vouched), []);
}

#[test]
fn old_up_ballots_do_not_keep_a_primary_alive() {
    let mut view = bereft_view(&Group::adopted());
    let mut old = tally(Epoch(0), [Answer::Up, Answer::Up, Answer::Up]);
    old.ballots.values_mut().for_each(|counted| counted.age = Micros(5_000_000));
    seen(&mut view).tally = Some(old);
    let refusal = Refusal::NotDown { down: 0, needed: 2, voters: 3 };
    assert_eq!(wished(&view, &wish()), [refusal]);
    assert_eq!(wished(&view, &Wish { asserted_dead: true, ..wish() }), []);
}

#[test]
fn young_acker_counts_only_if_this_leader_vouches_for_it() {
    let mut view = bereft_view(&Group::adopted());
    let told_of = |view: &mut View, uptime: u64| {
        let look = seen(view).observations.get_mut(&name(3)).expect("a look");
        look.seen.as_mut().expect("facts").uptime_seconds = uptime;
        all(view)
    };
    assert_eq!(told_of(&mut view, 3), []);
    seen(&mut view).vouched = names(&[2]);
    let refusal = Refusal::NoCoverage {
        reached: vec![name(2)],
        restarted: vec![name(3)],
        ackers: 2,
        acks: 1,
    };
    assert_eq!(told_of(&mut view, 5), [refusal]);
    assert_eq!(told_of(&mut view, 6), []);
}

#[test]
fn missing_acker_leaves_no_coverage_and_too_few_ackers() {
    let mut view = bereft_view(&Group::adopted());
    seen(&mut view).observations.insert(name(3), no_look(3));
    let few = Refusal::TooFewAckers { candidate: name(2), left: 0, acks: 1 };
    assert_eq!(all(&view), [no_coverage(&[2]), few]);
}

#[test]
fn way_to_the_dead_primarys_host_stands_in_for_coverage_but_not_for_ackers() {
    let mut view = bereft_view(&Group::with(definition(4)));
    seen(&mut view).observations.insert(name(4), no_look(4));
    assert!(matches!(&all(&view)[..], [Refusal::NoCoverage { .. }]));
    seen(&mut view).logins.insert(name(1), Err("refused".into()));
    assert!(matches!(&all(&view)[..], [Refusal::NoCoverage { .. }]));
    seen(&mut view).logins.insert(name(1), Ok(()));
    assert_eq!(all(&view), []);
    let (cluster, parts) = parts(&view);
    for fault in [Fault::Host, Fault::ProcessAndLeader] {
        let refusals = gate::feasible(&view, cluster, parts, fault, None);
        assert!(matches!(&refusals[..], [Refusal::NoCoverage { .. }]), "{refusals:?}");
    }
    seen(&mut view).observations.insert(name(3), no_look(3));
    assert!(matches!(&all(&view)[..], [Refusal::TooFewAckers { left: 0, .. }]));
}

#[test]
fn acker_vouched_for_by_an_old_ballot_only_is_no_evidence() {
    let mut view = bereft_view(&Group::adopted());
    seen(&mut view).vouched = names(&[2]);
    let told_of = |view: &mut View, age: u64| {
        for (id, counted) in &mut seen(view).tally.as_mut().expect("a tally").ballots {
            counted.ballot.vouched = names(if id.0 == 3 { &[2, 3] } else { &[2] });
            counted.age = Micros(if id.0 == 3 { age } else { 1_000 });
        }
        all(view)
    };
    assert_eq!(told_of(&mut view, 1_000_000), []);
    let refusal = Refusal::NoCoverage {
        reached: vec![name(2)],
        restarted: vec![name(3)],
        ackers: 2,
        acks: 1,
    };
    assert_eq!(told_of(&mut view, 1_000_001), [refusal]);
}

#[test]
fn primary_that_was_seen_not_to_wait_for_acknowledgements() {
    let mut view = bereft_view(&Group::adopted());
    let requirement =
        |what: &str| vec![Refusal::Requirement { server: name(1), what: what.into() }];
    seen(&mut view).unarmed = Some("a test".into());
    assert_eq!(all(&view), requirement("a test"));
    seen(&mut view).unarmed = None;
    // By the word of another manager, although this one and a third vouch for the ackers.
    if let Some(tally) = &mut seen(&mut view).tally {
        tally.ballots.values_mut().take(1).for_each(|counted| counted.ballot.is_unarmed = true);
    }
    assert_eq!(
        all(&view),
        requirement("its commits did not wait as agreed when a manager saw it last")
    );
    let fenced = group_in(Mode::Fenced);
    let mut view = bereft_view(&fenced);
    seen(&mut view).unarmed = Some("a test".into());
    assert_eq!(all(&view), []);
}

#[test]
fn nobody_reached() {
    let mut view = bereft_view(&Group::adopted());
    for server in [2, 3] {
        seen(&mut view).observations.insert(name(server), no_look(server));
    }
    let against = vec!["db2: not reached".into(), "db3: not reached".into()];
    assert_eq!(all(&view), [no_coverage(&[]), Refusal::NoCandidate { against }]);
}

#[test]
fn what_was_there_before_the_primary_must_be_reached_too() {
    let mut group = Group::adopted();
    group.cluster_mut().regimes[0].base = run(1, 10);
    assert_eq!(all(&bereft_view(&group)), [no_coverage(&[2, 3])]);
}

#[test]
fn no_fence_without_a_login_in_fenced_mode() {
    let mut group = group_in(Mode::Fenced);
    let view = bereft_view(&group);
    assert_eq!(all(&view), []);
    group.cluster_mut().definition.servers[0].ssh = None;
    let view = bereft_view(&group);
    let why = "the definition names no ssh login for it".into();
    assert_eq!(all(&view), [Refusal::NoFence { server: name(1), why }]);
    assert_eq!(wished(&view, &Wish { asserted_dead: true, ..wish() }), []);
}

#[test]
fn no_fence_by_a_login_that_fails_in_fenced_mode() {
    let mut view = bereft_view(&group_in(Mode::Fenced));
    let why = "known_hosts knows no key of that host".to_owned();
    seen(&mut view).logins.insert(name(1), Err(why.clone()));
    assert_eq!(all(&view), [Refusal::NoFence { server: name(1), why }]);
    seen(&mut view).logins.insert(name(1), Ok(()));
    assert_eq!(all(&view), []);
}

#[test]
fn loss_of_the_leader_takes_along_what_it_alone_vouches_for() {
    let outlook = |down: usize, vouched: &[u64], uptime: u64| {
        let mut view = bereft_view(&Group::adopted());
        let look = seen(&mut view).observations.get_mut(&name(3)).expect("a look");
        look.seen.as_mut().expect("facts").uptime_seconds = uptime;
        let mut tally = tally(Epoch(0), [Answer::Up; 3]);
        for counted in tally.ballots.values_mut() {
            counted.age = Micros(3_000_000);
            counted.ballot.vouched = names(vouched);
        }
        let lost = (2..).take(down).map(ManagerId);
        lost.for_each(|manager| drop(tally.ballots.remove(&manager)));
        view.clusters.get_mut(&"app1".into()).unwrap().tally = Some(tally);
        forecast::list(&view, &"app1".into()).remove(1)
    };
    assert_eq!(outlook(0, &[2, 3], 60).to, Some(name(2)));
    let refusals = outlook(0, &[2], 60).refusals;
    assert!(matches!(&refusals[..], [Refusal::NoCoverage { .. }]), "{refusals:?}");
    let few = Refusal::NoMajority { left: 1, needed: 2, voters: 3 };
    assert_eq!(outlook(1, &[2, 3], 60).refusals, [few]);
    // Whoever leads next vouches for the young acker itself, or may not.
    assert_eq!(outlook(0, &[2, 3], 3).to, Some(name(2)));
    assert_eq!(outlook(1, &[2, 3], 3).to, None);
}

#[test]
fn lost_host_is_no_fence_in_fenced_mode_and_no_matter_in_the_others() {
    let why = "a host that does not answer cannot be seen dead over ssh".into();
    let no_fence = Refusal::NoFence { server: name(1), why };
    let modes =
        [(Mode::Quorum, vec![]), (Mode::Fenced, vec![no_fence]), (Mode::BestEffort, vec![])];
    for (mode, expected) in modes {
        let view = bereft_view(&group_in(mode));
        let (cluster, seen) = parts(&view);
        assert_eq!(gate::feasible(&view, cluster, seen, Fault::Host, None), expected, "{mode:?}");
    }
}

#[test]
fn nobody_eligible() {
    let mut group = Group::adopted();
    let members = &mut group.cluster_mut().members;
    let standing = Standing::Quarantined { errant: run(2, 1), findings: None, saved: None };
    members.get_mut(&name(2)).expect("db2 is a member").standing = standing;
    group.cluster_mut().definition.servers[2].promotion = PromotionRule::Never;
    let against =
        vec![format!("db2: quarantined for {}:1", uuid(2)), "db3: its rule is never".into()];
    assert_eq!(all(&bereft_view(&group)), [Refusal::NoCandidate { against }]);
}

#[test]
fn wanted_server_that_is_unfit_or_unknown() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.servers[1].promotion = PromotionRule::Never;
    let view = bereft_view(&group);
    let refused = |server: u64, why: &str| {
        vec![Refusal::CandidateRefused { server: name(server), why: why.into() }]
    };
    let want = |server| Wish { wanted: Some(name(server)), ..wish() };
    assert_eq!(wished(&view, &want(3)), []);
    assert_eq!(wished(&view, &want(2)), refused(2, "its rule is never"));
    assert_eq!(wished(&view, &want(1)), refused(1, "it is not a replica of this cluster"));
    assert_eq!(wished(&view, &want(9)), refused(9, "it is not a replica of this cluster"));
}

#[test]
fn everything_at_once_is_listed_at_once() {
    let mut group = Group::adopted();
    let (cluster, actor) = ("app1".into(), ann());
    group.apply(Command::Pause { cluster, actor, reason: String::new() });
    group.cluster_mut().definition.policy.automatic = false;
    let mut view = bereft_view(&group);
    view.stalled = Some((NOW, Micros(400_000)));
    seen(&mut view).tally = Some(tally(Epoch(0), [Answer::Up, Answer::Down, Answer::Up]));
    seen(&mut view).aborted_at = Some(NOW);
    seen(&mut view).observations.insert(name(2), no_look(2));
    assert_eq!(
        all(&view),
        [
            Refusal::LeaderStalled { span: Micros(400_000) },
            Refusal::NotDown { down: 1, needed: 2, voters: 3 },
            Refusal::Paused { by: "ann".into() },
            Refusal::NotAutomatic,
            Refusal::RetryPause { left_ms: 3000 },
            no_coverage(&[3]),
            Refusal::TooFewAckers { candidate: name(3), left: 0, acks: 1 },
        ]
    );
}

#[test]
fn lost_candidate_is_superseded_whatever_pauses_and_intervals_say() {
    let mut group = Group::passed();
    group.cluster_mut().definition.policy.automatic = false;
    let mut view = bereft_view(&group);
    let mut ballots = tally(Epoch(1), [Answer::Down, Answer::Down, Answer::Up]);
    ballots.primary = name(2);
    seen(&mut view).tally = Some(ballots);
    seen(&mut view).observations.insert(name(2), no_look(2));
    let (cluster, seen) = parts(&view);
    // Nobody is left to acknowledge; the former primary is no acker.
    let few = Refusal::TooFewAckers { candidate: name(3), left: 0, acks: 1 };
    assert_eq!(gate::superseding(&view, cluster, seen), [few]);
}

#[test]
fn candidate_that_nobody_began_to_open_is_superseded_without_anybody_vouching_for_its_ackers() {
    let mut group = Group::passed();
    let refusals = |group: &Group| {
        let mut view = bereft_view(group);
        let mut ballots = tally(Epoch(1), [Answer::Down, Answer::Down, Answer::Up]);
        ballots.primary = name(2);
        ballots.ballots.values_mut().for_each(|counted| counted.ballot.vouched.clear());
        seen(&mut view).tally = Some(ballots);
        seen(&mut view).vouched.clear();
        seen(&mut view).observations.insert(name(2), no_look(2));
        let (cluster, seen) = parts(&view);
        gate::superseding(&view, cluster, seen).iter().map(Refusal::code).collect::<Vec<_>>()
    };
    // It had acknowledged nothing, and what it had executed is on db3 as well.
    assert_eq!(refusals(&group), ["gate.too_few_ackers"]);
    let open = group.steps("open_for_writes")[0];
    group.begin(open);
    assert_eq!(refusals(&group), ["gate.no_coverage", "gate.too_few_ackers"]);
}
