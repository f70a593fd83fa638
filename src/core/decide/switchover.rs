//! May a live primary be replaced, as an operator wishes? Every reason against it at once, before
//! anything is touched.

use std::collections::BTreeSet;

use super::{
    candidate, coverage, gate, requirement, stage, upkeep, verdict,
    view::{ClusterView, FRESH, Move, View, Wish, place},
};
use crate::{
    model::{Applier, Busy, Micros, Mode, Receiver, Refusal, ServerName, Switchover, Work},
    state::{ClusterState, Planned, Standing},
};

/// A candidate that lacks more than this has to catch up first: with writes going on it may take
/// long.
const LAG: u64 = 10_000;

/// The same by the applier's own clock, in seconds.
const LAG_SECONDS: u64 = 5;

/// Whoever is busy for longer is asked for rather than cut.
const LONG_SECONDS: u64 = 5;

/// An answer about busy sessions is good for so long.
const SURVEY: Micros = Micros(1_000_000);

/// Pause between two such questions.
const SURVEY_PAUSE: Micros = Micros(500_000);

/// Who would be the new primary: the server asked for, or the best.
pub fn candidate(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    wish: &Wish,
) -> Option<ServerName> {
    field(view, cluster, seen, wish)
        .1
        .best
        .filter(|best| wish.wanted.as_ref().is_none_or(|wanted| wanted == best))
}

fn field(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    wish: &Wish,
) -> (BTreeSet<ServerName>, candidate::Field) {
    let mut reached = seen.reached(view.now, FRESH);
    reached.retain(|name| {
        let facts = seen.facts(name, view.now, FRESH);
        !cluster.is_primary(name)
            && facts.is_some_and(|facts| upkeep::is_itself(cluster, name, facts))
    });
    let received = reached
        .iter()
        .filter_map(|name| Some((name.clone(), seen.facts(name, view.now, FRESH)?.received())))
        .collect();
    let field = candidate::rank(cluster, seen, view.now, &received, wish.wanted.as_ref());
    (reached, field)
}

/// Asks who is busy on the primary, while somebody waits for the answer.
pub fn survey(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Option<Move> {
    let is_wished = seen.wish.as_ref().is_some_and(|wish| wish.switchover.is_some());
    let is_due = seen.last_survey.is_none_or(|at| view.now.since(at) >= SURVEY_PAUSE);
    if !(is_wished || seen.is_survey_wanted) || !is_due || cluster.attempt.is_some() {
        return None;
    }
    Some(Move::Survey { place: Box::new(place(cluster, cluster.primary()?)?) })
}

/// Whether the answer about busy sessions that decides is there.
pub fn is_surveyed(view: &View, seen: &ClusterView) -> bool {
    seen.survey.as_ref().is_some_and(|(at, _)| view.now.since(*at) <= SURVEY)
}

/// Reasons against it.
pub fn refusals(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    wish: &Wish,
    plan: &Switchover,
) -> Vec<Refusal> {
    let mut out = gate::own_doubts(view);
    let Some(primary) = cluster.primary() else {
        out.push(Refusal::NoPrimary { why: "none was adopted yet".into() });
        return out;
    };
    if let Some(open) = &cluster.attempt {
        out.push(Refusal::AttemptOpen { epoch: open.epoch() });
        return out;
    }
    out.extend(unwell(view, cluster, seen, primary));
    out.extend(unable(view, seen, primary));
    let (reached, field) = field(view, cluster, seen, wish);
    let refused = gate::choice(cluster, &reached, &field, wish.wanted.as_ref(), |left| {
        left + usize::from(!plan.leaves_old)
    });
    out.extend(refused);
    if wish.wanted.as_ref() == Some(primary) {
        out.retain(|refusal| !matches!(refusal, Refusal::CandidateRefused { .. }));
        let why = "it is the primary already".into();
        out.push(Refusal::CandidateRefused { server: primary.clone(), why });
        return out;
    }
    let Some(candidate) = candidate(view, cluster, seen, wish) else { return out };
    out.extend(uncovered(cluster, &reached));
    let ackers = gate::ackers_for(cluster, &candidate, &reached, &field);
    out.extend(behind(view, cluster, seen, primary, &candidate));
    out.extend(unmet(view, cluster, seen, &candidate, &ackers));
    out.extend(older(view, cluster, seen, &candidate, plan));
    out.extend(busy(view, seen, primary, plan));
    out
}

/// The primary has to be up for a majority, and open.
fn unwell(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
) -> Option<Refusal> {
    let refuse = |why: String| Some(Refusal::PrimaryNotWell { server: primary.clone(), why });
    let tally = seen.tally.as_ref().filter(|tally| tally.primary == *primary);
    let verdict =
        tally.map(|tally| verdict::count(tally, cluster.epoch, &cluster.definition.policy));
    let up = verdict.as_ref().map_or(0, |verdict| verdict.up);
    let needed = view.voters.len() / 2 + 1;
    if up < needed {
        return refuse(format!("is up for {up} managers, {needed} are needed"));
    }
    match seen.facts(primary, view.now, FRESH) {
        None => refuse("does not answer the leader".into()),
        Some(facts) if !upkeep::is_itself(cluster, primary, facts) => {
            refuse("is not the server that was here before".into())
        }
        Some(facts) if !facts.is_writable() => refuse("takes no writes".into()),
        Some(facts) if facts.replica_is_running() => refuse("replicates itself".into()),
        Some(_) => None,
    }
}

/// The end of writes rests on `super_read_only` and `offline_mode`.
fn unable(view: &View, seen: &ClusterView, primary: &ServerName) -> Option<Refusal> {
    let facts = seen.facts(primary, view.now, FRESH)?;
    (!facts.has_super_read_only()).then(|| Refusal::Unsupported {
        server: primary.clone(),
        what: format!(
            "{} has no super_read_only: privileged sessions could write on after a switchover",
            facts.product()
        ),
    })
}

/// Enough of the primary's ackers can be kept from acknowledging.
fn uncovered(cluster: &ClusterState, reached: &BTreeSet<ServerName>) -> Option<Refusal> {
    let regime = cluster.regime().filter(|_| cluster.definition.mode == Mode::Quorum)?;
    (!coverage::is_revoked(regime, reached)).then(|| Refusal::NoCoverage {
        reached: regime.ackers.intersection(reached).cloned().collect(),
        restarted: Vec::new(),
        ackers: regime.ackers.len(),
        acks: regime.acks,
    })
}

/// The candidate replicates from the primary, all of it, and is close behind.
fn behind(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    candidate: &ServerName,
) -> Vec<Refusal> {
    let mut out = Vec::new();
    let facts = |name| seen.facts(name, view.now, FRESH);
    let Some((theirs, facts)) = facts(primary).zip(facts(candidate)) else { return out };
    let refuse = |why: String| Refusal::CandidateRefused { server: candidate.clone(), why };
    let source = cluster.definition.server(primary);
    let link = facts.replica.as_ref().filter(|replica| {
        source
            .is_some_and(|it| (&*it.host, it.port) == (&*replica.source_host, replica.source_port))
    });
    match link {
        None => out.push(refuse(format!("it does not replicate from {primary}"))),
        Some(link) if link.receiver != Receiver::On || link.applier != Applier::On => {
            out.push(refuse("its replication does not run".into()));
        }
        Some(link) => {
            let transactions = theirs.executed.minus(&facts.executed).count();
            let is_late = link.lag_seconds.is_none_or(|seconds| seconds > LAG_SECONDS);
            if transactions > LAG || is_late && transactions > 0 {
                let (server, seconds) = (candidate.clone(), link.lag_seconds);
                out.push(Refusal::Lagging { server, transactions, seconds });
            }
        }
    }
    let own = theirs.executed.of_origins(&[&theirs.uuid]);
    let errant = upkeep::errant(theirs, facts);
    if !errant.is_empty() && !own.is_empty() {
        out.push(refuse(format!("it has transactions that {primary} lacks: {errant}")));
    }
    for server in &cluster.definition.servers {
        let link = seen.facts(&server.name, view.now, FRESH);
        let filters = link.and_then(|facts| facts.replica.as_ref()).map(|link| &link.filters);
        if let Some(what) = filters.filter(|what| !what.is_empty()) {
            out.push(Refusal::Filters { server: server.name.clone(), what: what.clone() });
        }
    }
    out
}

/// What `quorum` mode asks of the new primary and of those who will acknowledge to it.
fn unmet(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    candidate: &ServerName,
    ackers: &BTreeSet<ServerName>,
) -> Vec<Refusal> {
    let servers = cluster.definition.servers.iter();
    let servers = servers.filter(|it| it.name == *candidate || ackers.contains(&it.name));
    let needs = servers.flat_map(|server| {
        let needs = requirement::of(view, cluster, seen, server).into_iter();
        needs.filter(|need| need.is_certain).map(|need| (server.name.clone(), need.what))
    });
    needs.map(|(server, what)| Refusal::Requirement { server, what }).collect()
}

/// Nobody replicates from a newer server.
/// **Source:** MySQL manual, "Replication Compatibility Between MySQL Versions".
fn older(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    candidate: &ServerName,
    plan: &Switchover,
) -> Vec<Refusal> {
    let facts = |name: &ServerName| seen.facts(name, view.now, FRESH);
    let Some(newest) = facts(candidate) else { return Vec::new() };
    let is_member = |name: &ServerName| {
        let standing = cluster.members.get(name).map(|member| &member.standing);
        standing == Some(&Standing::Member)
    };
    let followers = cluster.definition.servers.iter().map(|server| &server.name).filter(|name| {
        let is_out = plan.leaves_old && cluster.is_primary(name);
        *name != candidate && is_member(name) && !is_out
    });
    let older = followers.filter_map(|name| {
        let facts = facts(name)?;
        (facts.release() < newest.release()).then(|| Refusal::OlderVersion {
            server: name.clone(),
            version: facts.version.clone(),
            candidate: newest.version.clone(),
        })
    });
    older.collect()
}

/// Sessions that would lose what they have been at for long; and whoever holds tables locked.
fn busy(view: &View, seen: &ClusterView, primary: &ServerName, plan: &Switchover) -> Vec<Refusal> {
    let survey = match &seen.survey {
        Some((at, Ok(survey))) if view.now.since(*at) <= SURVEY => survey,
        Some((_, Err(why))) => {
            let (server, why) = (primary.clone(), why.clone());
            return vec![Refusal::NotSurveyed { server, why }];
        }
        Some((_, Ok(_))) | None => {
            let (server, why) = (primary.clone(), "it has not answered yet".into());
            return vec![Refusal::NotSurveyed { server, why }];
        }
    };
    let mut out = Vec::new();
    if !survey.binlog_filters.is_empty() {
        let what = survey.binlog_filters.clone();
        out.push(Refusal::Filters { server: primary.clone(), what });
    }
    let is_in_the_way = |busy: &&Busy| busy.what == Work::Locks || busy.seconds >= LONG_SECONDS;
    let sessions: Vec<String> =
        survey.busy.iter().filter(is_in_the_way).map(Busy::to_string).collect();
    if !sessions.is_empty() && !plan.cuts {
        out.push(Refusal::SessionsInTheWay { server: primary.clone(), sessions });
    }
    out
}

/// The steps of the freeze, if anybody can be promoted.
pub fn steps(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    wish: &Wish,
    plan: &Switchover,
) -> Vec<Planned> {
    let candidate = candidate(view, cluster, seen, wish);
    candidate.map(|it| stage::switch(cluster, seen, &it, plan)).unwrap_or_default()
}
