//! What is wrong with a cluster, each by name. What may be done about a problem is decided by
//! [`super::tick`] and [`super::upkeep`]; this list is for people.

use super::{
    ackers, requirement, upkeep,
    verdict::{self, Outcome},
    view::{ClusterView, FRESH, View},
};
use crate::{
    model::{
        Applier, ClusterName, Mode, Policy, Problem, Receiver, Regime, ServerDefinition,
        ServerFacts, ServerName,
    },
    state::{ClusterState, Standing},
};

/// Every problem of a cluster, as this manager sees it; worst first.
pub fn list(view: &View, name: &ClusterName) -> Vec<Problem> {
    let Some((cluster, seen)) = view.cluster(name) else { return Vec::new() };
    let mut out = Vec::new();
    match cluster.regime() {
        None => {
            let why = upkeep::discover(view, cluster, seen).err();
            let why = why.unwrap_or_else(|| "it is being adopted".into());
            out.push(Problem::NoPrimary { why });
        }
        Some(regime) => {
            out.extend(of_ballots(cluster, seen, &regime.primary));
            out.extend(of_primary(view, cluster, seen, regime));
        }
    }
    for server in &cluster.definition.servers {
        out.extend(of_server(view, cluster, seen, server));
    }
    out.extend(of_vips(view, cluster, seen));
    out.sort_by_key(|problem| !problem.is_critical());
    out
}

fn of_ballots(cluster: &ClusterState, seen: &ClusterView, primary: &ServerName) -> Option<Problem> {
    let tally = seen.tally.as_ref().filter(|tally| tally.primary == *primary)?;
    // Status may look between two calm rounds of asking, which are further apart than a ballot
    // stays young for a verdict.
    let policy =
        Policy { ballot_age_ms: crate::model::Millis(5000), ..cluster.definition.policy.clone() };
    let verdict = verdict::count(tally, cluster.epoch, &policy);
    let primary = primary.clone();
    match verdict.outcome {
        Outcome::Down | Outcome::Unconfirmed => Some(Problem::PrimaryDown { primary }),
        Outcome::Unreachable => Some(Problem::PrimaryUnreachable { primary, by: verdict.heard_by }),
        Outcome::NotDown if verdict.down > 0 => {
            Some(Problem::PrimaryDoubtful { primary, down: verdict.down, voters: verdict.voters })
        }
        Outcome::NotDown => None,
    }
}

fn of_primary(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    regime: &Regime,
) -> Vec<Problem> {
    let mut out = Vec::new();
    let primary = regime.primary.clone();
    let Some(facts) = seen.facts(&primary, view.now, FRESH) else { return out };
    if upkeep::is_restarted(facts, seen.seen_writable, view.now) {
        out.push(Problem::PrimaryRestarted { primary: primary.clone() });
    } else if !facts.is_writable() && cluster.attempt.is_none() {
        out.push(Problem::PrimaryReadOnly { primary: primary.clone() });
    }
    let waiting = facts.semi_sync.as_ref().map_or(0, |semi_sync| semi_sync.waiting);
    if ackers::present(view, cluster, seen) < regime.acks as usize {
        out.push(Problem::LastAckerLost { primary: primary.clone(), waiting });
    }
    if ackers::has_lost_acks(view, cluster, seen) {
        out.push(Problem::AcksLost { primary: primary.clone(), waiting });
    }
    let (acks, wanted) = (regime.acks, cluster.definition.acks);
    if cluster.definition.mode == Mode::Quorum && acks < wanted {
        out.push(Problem::AcksLowered { primary: primary.clone(), acks, wanted });
    }
    let dropped = cluster.locks.get(&primary).into_iter().flatten();
    let dropped = dropped.filter(|server| !regime.ackers.contains(*server));
    out.extend(
        dropped.map(|server| Problem::AckerDropped {
            server: server.clone(),
            primary: primary.clone(),
        }),
    );
    out
}

fn requirement(server: &ServerName, what: String) -> Problem {
    Problem::Requirement { server: server.clone(), what }
}

fn of_server(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerDefinition,
) -> Vec<Problem> {
    let name = &server.name;
    let is_primary = cluster.primary() == Some(name);
    let mut out = Vec::new();
    match cluster.members.get(name).map(|member| &member.standing) {
        Some(Standing::Former { .. }) => out.push(Problem::Former { server: name.clone() }),
        Some(Standing::Quarantined { errant, .. }) => {
            out.push(Problem::Errant { server: name.clone(), gtids: errant.to_string() });
        }
        Some(Standing::Member) | None => {}
    }
    let Some(facts) = seen.facts(name, view.now, FRESH) else {
        let look = seen.observations.get(name).map(|look| look.seen.as_ref().err());
        let why = look.flatten().cloned().unwrap_or_else(|| "no look in time".into());
        out.push(Problem::ServerUnreachable { server: name.clone(), why });
        return out;
    };
    if let Some(Err(why)) = seen.logins.get(name) {
        out.push(Problem::HostUnreachable { server: name.clone(), why: why.clone() });
    }
    if let Some(wanted) = upkeep::known_uuid(cluster, name).filter(|uuid| *uuid != facts.uuid) {
        out.push(Problem::WrongIdentity {
            server: name.clone(),
            wanted: wanted.into(),
            found: facts.uuid.clone(),
        });
    }
    if let Some(other) = upkeep::namesake(cluster, name, &facts.uuid) {
        let (server, other, uuid) = (name.clone(), other.clone(), facts.uuid.clone());
        out.push(Problem::SameServer { server, other, uuid });
    }
    let needs = requirement::of(view, cluster, seen, server).into_iter();
    let certain = needs.filter(|need| need.is_certain);
    out.extend(certain.map(|need| requirement(name, need.what)));
    if !is_primary
        && !is_member(cluster, name)
        && upkeep::has_lost_its_own(view, cluster, seen, facts)
    {
        let why = "it lacks transactions that it numbered itself, and takes none with its own server \
                   id from others: rebuild it with a copy of the primary's data (CLONE)";
        out.push(Problem::ReplicaBroken { server: name.clone(), why: why.into() });
    }
    if let Some(primary) = cluster.primary().filter(|_| !is_primary) {
        if facts.is_writable() {
            let (primary, other) = (primary.clone(), name.clone());
            out.push(Problem::TwoWritable { primary, other });
        }
        out.extend(of_replica(cluster, primary, server, facts));
        let theirs = seen.facts(primary, view.now, FRESH).filter(|_| is_member(cluster, name));
        let errant = theirs.map(|theirs| upkeep::errant(theirs, facts)).unwrap_or_default();
        if !errant.is_empty() {
            out.push(Problem::Errant { server: name.clone(), gtids: errant.to_string() });
        }
    }
    out
}

fn is_member(cluster: &ClusterState, name: &ServerName) -> bool {
    cluster.members.get(name).is_some_and(|member| member.standing == Standing::Member)
}

fn of_replica(
    cluster: &ClusterState,
    primary: &ServerName,
    server: &ServerDefinition,
    facts: &ServerFacts,
) -> Vec<Problem> {
    if cluster.attempt.is_some() || !is_member(cluster, &server.name) {
        return Vec::new();
    }
    let name = &server.name;
    let broken = |why: String| Problem::ReplicaBroken { server: name.clone(), why };
    let Some(replica) = &facts.replica else { return vec![broken("it has no source".into())] };
    let mut out = Vec::new();
    let source = cluster.definition.server(primary);
    if source.is_none_or(|s| (&*s.host, s.port) != (&*replica.source_host, replica.source_port)) {
        let found = format!("{}:{}", replica.source_host, replica.source_port);
        out.push(broken(format!("it follows {found} instead of {primary}")));
    }
    let heartbeat = requirement::of_heartbeat(cluster, replica);
    out.extend(heartbeat.map(|need| requirement(name, need.what)));
    match replica.receiver {
        Receiver::On => {}
        Receiver::Connecting => out.push(broken("its receiver does not get a connection".into())),
        Receiver::Off => out.push(broken("its receiver is stopped".into())),
    }
    match &replica.applier {
        Applier::On => {}
        Applier::Off => out.push(broken("its applier is stopped".into())),
        Applier::Broken { code, text } => {
            out.push(broken(format!("its applier stopped with error {code}: {text}")));
        }
    }
    out
}

fn of_vips(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Vec<Problem> {
    let Some(primary) = cluster.primary().filter(|_| cluster.attempt.is_none()) else {
        return Vec::new();
    };
    let homes = upkeep::reader_homes(view, cluster, seen);
    let writer = cluster.definition.writer.iter().map(|vip| (vip, vec![primary]));
    let readers = cluster.definition.readers.iter().map(|vip| (vip, homes.clone()));
    let misplaced = writer.chain(readers).filter_map(|(vip, homes)| {
        let why = misplaced(cluster, seen.vips.get(&vip.address)?, &homes)?;
        Some(Problem::VipMisplaced { vip: vip.address.clone(), why })
    });
    misplaced.collect()
}

/// Why an address is not where it belongs; `None`: it is.
fn misplaced(
    cluster: &ClusterState,
    at: &Result<String, String>,
    homes: &[&ServerName],
) -> Option<String> {
    let names: Vec<&str> = homes.iter().map(|name| name.as_str()).collect();
    let wanted = names.join(" or ");
    match at {
        Ok(uuid) => {
            let is_home = |name: &&ServerName| upkeep::known_uuid(cluster, name) == Some(uuid);
            let is_right = homes.is_empty() || homes.iter().any(is_home);
            let who = cluster.members.iter().find(|(_, m)| m.uuid.as_ref() == Some(uuid));
            let who =
                who.map_or_else(|| format!("an unknown server ({uuid})"), |w| w.0.to_string());
            (!is_right).then(|| format!("{who} answers there instead of {wanted}"))
        }
        Err(why) => Some(format!("nobody answers there, wanted {wanted}: {why}")),
    }
}
