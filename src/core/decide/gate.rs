//! Every reason not to open an attempt, all at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    candidate, coverage, switchover, upkeep,
    verdict::{self, Verdict},
    view::{ClusterView, FRESH, View, Wish},
    vouch,
};
use crate::{
    model::{ClusterName, GtidSet, Micros, Mode, Refusal, ServerName, Tally},
    state::ClusterState,
};

/// What would have befallen the primary: decides which fence could be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its mysqld is gone; its host answers.
    Process,
    /// Its host is gone.
    Host,
    /// Its mysqld is gone, and so is the leading manager: what that one alone knows is lost.
    ProcessAndLeader,
}

/// Ballots are younger than this while all is well and their managers answer.
const CALM_BALLOT: Micros = Micros(5_000_000);

/// How long the ballots of all managers are waited for before an operator's word stands in.
pub const PATIENCE: Micros = Micros(1_500_000);

/// Reasons not to open an attempt now, on this tally, for the group itself or for a wish.
pub fn refusals(view: &View, name: &ClusterName, wish: Option<&Wish>) -> Vec<Refusal> {
    let Some((cluster, seen)) = view.cluster(name) else {
        return vec![Refusal::NoPrimary { why: format!("there is no cluster {name}") }];
    };
    if let Some((wish, plan)) = wish.and_then(|wish| Some((wish, wish.switchover.as_ref()?))) {
        return switchover::refusals(view, cluster, seen, wish, plan);
    }
    let mut out = own_doubts(view);
    out.extend(dead(view, cluster, seen, wish));
    out.extend(agreed(view, cluster, seen, wish));
    if cluster.primary().is_some() {
        out.extend(feasible(view, cluster, seen, Fault::Process, wish));
    }
    out
}

/// Reasons not to supersede an attempt past entry 9 whose candidate was lost. The last-failover
/// interval does not count, and neither do pauses: it is finished, not begun.
pub fn superseding(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Vec<Refusal> {
    let mut out = own_doubts(view);
    out.extend(dead(view, cluster, seen, None));
    out.extend(feasible(view, cluster, seen, Fault::Process, None));
    out
}

/// Reasons not to fail over in the middle of a switchover, which an operator began and whose primary
/// was found dead.
pub fn taking_over(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Vec<Refusal> {
    let mut out = superseding(view, cluster, seen);
    let is_of_switchover = |refusal: &Refusal| {
        matches!(refusal, Refusal::AttemptOpen { .. } | Refusal::RetryPause { .. })
    };
    out.extend(agreed(view, cluster, seen, None).into_iter().filter(|it| !is_of_switchover(it)));
    out
}

/// Reasons not to replace a primary that runs but is read-only since a restart.
pub fn without_keys(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Vec<Refusal> {
    let mut out = own_doubts(view);
    out.extend(agreed(view, cluster, seen, None));
    out.extend(feasible(view, cluster, seen, Fault::Process, None));
    out
}

/// Reasons that stand before anything has happened, for forecasts.
pub fn standing(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Vec<Refusal> {
    agreed(view, cluster, seen, None)
}

/// The leader's own state.
pub(super) fn own_doubts(view: &View) -> Vec<Refusal> {
    let recent = Micros(1_000_000);
    let stalled = view.stalled.filter(|(at, _)| view.now.since(*at) < recent);
    stalled.map(|(_, span)| Refusal::LeaderStalled { span }).into_iter().collect()
}

/// The two keys.
fn dead(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    wish: Option<&Wish>,
) -> Vec<Refusal> {
    let Some(primary) = cluster.primary() else {
        return vec![Refusal::NoPrimary { why: "none was adopted yet".into() }];
    };
    let Some(tally) = seen.tally.as_ref().filter(|tally| tally.primary == *primary) else {
        let voters = view.voters.len();
        return vec![Refusal::NotDown { down: 0, needed: voters / 2 + 1, voters }];
    };
    let verdict = verdict::count(tally, cluster.epoch, &cluster.definition.policy);
    let asserted = wish.is_some_and(|wish| wish.asserted_dead);
    // Whoever vouches for a death is wrong if a single manager has an answer.
    if wish.is_some() && verdict.up >= if asserted { 1 } else { verdict.needed } {
        return vec![Refusal::PrimaryAlive { server: primary.clone() }];
    }
    let asked_for = seen.asked_at.map_or(Micros(0), |at| view.now.since(at));
    let asserted = asserted && (tally.ballots.len() >= tally.voters.len() || asked_for >= PATIENCE);
    let Verdict { outcome, down, needed, voters, heard_by, .. } = verdict;
    match outcome {
        verdict::Outcome::Down => Vec::new(),
        verdict::Outcome::Unreachable => vec![Refusal::StillHeard { by: heard_by }],
        verdict::Outcome::Unconfirmed | verdict::Outcome::NotDown if asserted => {
            match heard_by.is_empty() {
                true => Vec::new(),
                false => vec![Refusal::StillHeard { by: heard_by }],
            }
        }
        verdict::Outcome::Unconfirmed => vec![Refusal::NoReplicaReached],
        verdict::Outcome::NotDown => vec![Refusal::NotDown { down, needed, voters }],
    }
}

/// Rules that rest on the agreed state.
fn agreed(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    wish: Option<&Wish>,
) -> Vec<Refusal> {
    let mut out = Vec::new();
    if let Some(open) = &cluster.attempt {
        out.push(Refusal::AttemptOpen { epoch: open.epoch() });
    }
    let left_ms = cluster.interval_left_ms(view.group.clock_ms);
    if left_ms > 0 && !wish.is_some_and(|wish| wish.interval_waived) {
        let minutes = cluster.definition.policy.last_failover_minutes;
        out.push(Refusal::LastFailoverInterval { left_s: left_ms.div_ceil(1000), minutes });
    }
    if wish.is_none() {
        out.extend(cluster.pause.as_ref().map(|pause| Refusal::Paused { by: pause.by() }));
        if !cluster.definition.policy.automatic {
            out.push(Refusal::NotAutomatic);
        }
        let pause = Micros::from(cluster.definition.policy.retry_pause_ms).0;
        let passed = seen.aborted_at.map_or(u64::MAX, |at| view.now.since(at).0);
        if passed < pause {
            out.push(Refusal::RetryPause { left_ms: (pause - passed).div_ceil(1000) });
        }
    }
    out
}

/// Whether an attempt could succeed with what is reached now.
pub fn feasible(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    fault: Fault,
    wish: Option<&Wish>,
) -> Vec<Refusal> {
    if cluster.regime().is_none() {
        return vec![Refusal::NoPrimary { why: "none was adopted yet".into() }];
    }
    let mut out = Vec::new();
    let mut reached = seen.reached(view.now, FRESH);
    let is_itself = |name: &ServerName| {
        let facts = seen.facts(name, view.now, FRESH);
        facts.is_some_and(|facts| upkeep::is_itself(cluster, name, facts))
    };
    reached.retain(|name| !cluster.is_primary(name) && is_itself(name));
    let received: BTreeMap<ServerName, GtidSet> = reached
        .iter()
        .filter_map(|name| Some((name.clone(), seen.facts(name, view.now, FRESH)?.received())))
        .collect();
    match cluster.definition.mode {
        Mode::Quorum => {
            let vouched = vouched(view, cluster, seen, fault);
            let disks = readable(cluster, seen, fault);
            out.extend(coverage_refusals(cluster, seen, &reached, &received, (&vouched, &disks)));
        }
        Mode::Fenced => out.extend(fence_refusal(cluster, seen, fault, wish)),
        Mode::BestEffort => {}
    }
    let wanted = wish.and_then(|wish| wish.wanted.as_ref());
    let field = candidate::rank(cluster, seen, view.now, &received, wanted);
    out.extend(choice(cluster, &reached, &field, wanted, |left| left));
    out
}

/// What stands against promoting anybody, or the server asked for. `left` are the ackers it would
/// have, given how many were found among the reached.
pub(super) fn choice(
    cluster: &ClusterState,
    reached: &BTreeSet<ServerName>,
    field: &candidate::Field,
    wanted: Option<&ServerName>,
    left: impl Fn(usize) -> usize,
) -> Vec<Refusal> {
    let mut out = Vec::new();
    let asked = field.ranking.iter().find(|ranked| Some(&ranked.server) == wanted);
    match (wanted, asked, &field.best) {
        (Some(server), None, _) => {
            let why = "it is not a replica of this cluster".into();
            out.push(Refusal::CandidateRefused { server: server.clone(), why });
        }
        (Some(server), Some(ranked), _) if !ranked.against.is_empty() => {
            let why = ranked.against.join(", ");
            out.push(Refusal::CandidateRefused { server: server.clone(), why });
        }
        (_, _, None) => {
            let against = field.ranking.iter();
            let against = against.map(|r| format!("{}: {}", r.server, r.against.join(", ")));
            out.push(Refusal::NoCandidate { against: against.collect() });
        }
        (_, _, Some(candidate)) => {
            let left = left(ackers_for(cluster, candidate, reached, field).len());
            let acks = wanted_acks(cluster);
            if left < acks as usize {
                out.push(Refusal::TooFewAckers { candidate: candidate.clone(), left, acks });
            }
        }
    }
    out
}

/// The ackers that somebody vouches for, as [`super::progress`] will ask once they are stopped: this
/// leader; and other managers by their ballots, for those that have been up long enough to tell that
/// they did not restart since. After the loss of the leader whoever leads next counts as it did.
fn vouched(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    fault: Fault,
) -> BTreeSet<ServerName> {
    let limit = match fault {
        Fault::Process | Fault::Host => cluster.definition.policy.ballot_age_ms.into(),
        Fault::ProcessAndLeader => CALM_BALLOT,
    };
    let tally = seen.tally.clone().map(|mut tally| {
        tally.ballots.retain(|manager, _| *manager != view.me);
        tally
    });
    let by_others: Vec<&ServerName> = tally.iter().flat_map(|tally| tally.vouched(limit)).collect();
    let others = view.voters.iter().filter(|manager| **manager != view.me).count();
    let is_own = |server: &ServerName| match fault {
        Fault::Process | Fault::Host => seen.vouched.contains(server),
        Fault::ProcessAndLeader => by_others.iter().filter(|by| **by == server).count() >= others,
    };
    let is_old = |server: &ServerName| {
        let facts = seen.facts(server, view.now, FRESH);
        facts.is_some_and(|facts| vouch::is_older(facts, Micros(0)))
    };
    let known = by_others.iter().copied().chain(&seen.vouched);
    known.filter(|name| is_own(name) || by_others.contains(name) && is_old(name)).cloned().collect()
}

/// Whether the managers that answered lately could decide without the leader.
pub fn leaderless(view: &View, seen: &ClusterView) -> Option<Refusal> {
    let answers = seen.tally.iter().flat_map(|tally| &tally.ballots);
    let others = answers.filter(|(manager, counted)| {
        **manager != view.me && view.voters.contains(manager) && counted.age <= CALM_BALLOT
    });
    let (left, voters) = (others.count(), view.voters.len());
    let needed = voters / 2 + 1;
    (left < needed).then_some(Refusal::NoMajority { left, needed, voters })
}

/// Primaries whose own logs may give what their ackers do not (SAFETY section 1): this leader is
/// logged in to their hosts. A host that dies with its mysqld is noticed within seconds, and then the
/// attempt is undone. Whether the next leader is logged in, this one does not know.
fn readable(cluster: &ClusterState, seen: &ClusterView, fault: Fault) -> BTreeSet<ServerName> {
    let primaries = cluster.regimes.iter().map(|regime| &regime.primary);
    let is_there = |name: &&ServerName| {
        let server = cluster.definition.server(name);
        server.is_some_and(|server| server.ssh.is_some()) && seen.logins.get(*name) == Some(&Ok(()))
    };
    match fault {
        Fault::Process => primaries.filter(is_there).cloned().collect(),
        Fault::Host | Fault::ProcessAndLeader => BTreeSet::new(),
    }
}

fn coverage_refusals(
    cluster: &ClusterState,
    seen: &ClusterView,
    reached: &BTreeSet<ServerName>,
    received: &BTreeMap<ServerName, GtidSet>,
    (vouched, disks): (&BTreeSet<ServerName>, &BTreeSet<ServerName>),
) -> Vec<Refusal> {
    let told = seen.tally.as_ref().is_some_and(Tally::is_unarmed);
    let told =
        told.then(|| "its commits did not wait as agreed when a manager saw it last".to_owned());
    if let Some((what, regime)) = seen.unarmed.clone().or(told).zip(cluster.regime()) {
        return vec![Refusal::Requirement { server: regime.primary.clone(), what }];
    }
    let union = received.values().fold(GtidSet::empty(), |sum, set| sum.union(set));
    let intact: BTreeSet<ServerName> = reached.intersection(vouched).cloned().collect();
    let mut uncovered = cluster.regimes.iter().filter(|regime| !disks.contains(&regime.primary));
    let uncovered = uncovered.find(|regime| {
        !coverage::is_revoked(regime, reached) || !coverage::is_covered(regime, &intact, &union)
    });
    let refusal = uncovered.map(|regime| Refusal::NoCoverage {
        reached: regime.ackers.intersection(&intact).cloned().collect(),
        restarted: regime.ackers.intersection(&(reached - &intact)).cloned().collect(),
        ackers: regime.ackers.len(),
        acks: regime.acks,
    });
    refusal.into_iter().collect()
}

fn fence_refusal(
    cluster: &ClusterState,
    seen: &ClusterView,
    fault: Fault,
    wish: Option<&Wish>,
) -> Option<Refusal> {
    if wish.is_some_and(|wish| wish.asserted_dead) {
        return None;
    }
    let primary = cluster.primary()?;
    let has_ssh = cluster.definition.server(primary).is_some_and(|server| server.ssh.is_some());
    let why = match (fault, has_ssh) {
        (Fault::Process | Fault::ProcessAndLeader, true) => match seen.logins.get(primary) {
            Some(Err(why)) => why,
            Some(Ok(())) | None => return None,
        },
        (Fault::Process | Fault::ProcessAndLeader, false) => {
            "the definition names no ssh login for it"
        }
        (Fault::Host, _) => "a host that does not answer cannot be seen dead over ssh",
    };
    Some(Refusal::NoFence { server: primary.clone(), why: why.into() })
}

/// Acknowledgements that a new primary's commits will wait for.
pub fn wanted_acks(cluster: &ClusterState) -> u32 {
    match cluster.definition.mode {
        Mode::Quorum => cluster.definition.acks,
        Mode::Fenced | Mode::BestEffort => 0,
    }
}

/// Servers that would acknowledge `candidate`'s commits: frozen, clean, and defined as ackers.
pub fn ackers_for(
    cluster: &ClusterState,
    candidate: &ServerName,
    recruits: &BTreeSet<ServerName>,
    field: &candidate::Field,
) -> BTreeSet<ServerName> {
    if wanted_acks(cluster) == 0 {
        return BTreeSet::new();
    }
    let is_clean = |name: &ServerName| {
        let member = cluster.members.get(name);
        let is_member = |member: &crate::state::Member| {
            member.standing == crate::state::Standing::Member && member.left_out.is_none()
        };
        member.is_some_and(is_member) && !field.errant.contains_key(name)
    };
    let mut ackers = cluster.definition.ackers_of(candidate);
    let is_locked = |name: &ServerName| {
        cluster.locks.get(candidate).is_some_and(|locked| locked.contains(name))
    };
    ackers.retain(|name| recruits.contains(name) && is_clean(name) && !is_locked(name));
    ackers
}
