//! What is wrong with a cluster, each by name. What may be done about a problem is decided by
//! [`super::tick`] and [`super::upkeep`]; this list is for people.

use super::{
    upkeep,
    verdict::{self, Outcome},
    view::{ClusterView, FRESH, View},
};
use crate::{
    model::{
        Applier, ClusterName, Mode, Policy, Problem, Receiver, Regime, SemiSync, ServerDefinition,
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
    if let Some(semi_sync) = facts.semi_sync.as_ref().filter(|_| regime.acks > 0) {
        let is_active = |name: &&ServerName| {
            let facts = seen.facts(name, view.now, FRESH);
            facts.and_then(|f| f.semi_sync.as_ref()).is_some_and(|s| s.replica_active)
        };
        let active = regime.ackers.iter().filter(is_active).count();
        if active < regime.acks as usize {
            let waiting = semi_sync.waiting;
            out.push(Problem::LastAckerLost { primary: primary.clone(), waiting });
        }
    }
    if cluster.definition.mode == Mode::Quorum {
        let missing = primary_requirements(facts, cluster.definition.acks);
        out.extend(missing.into_iter().map(|what| requirement(&primary, what)));
    }
    out
}

fn requirement(server: &ServerName, what: String) -> Problem {
    Problem::Requirement { server: server.clone(), what }
}

/// What `quorum` mode asks of the primary and does not find (SAFETY section 3).
pub fn primary_requirements(facts: &ServerFacts, acks: u32) -> Vec<String> {
    let mut out = Vec::new();
    let mut want = |is_so: bool, what: &str| {
        if !is_so {
            out.push(what.to_owned());
        }
    };
    want(facts.sync_binlog == 1, "sync_binlog = 1");
    want(facts.flush_log == 1, "innodb_flush_log_at_trx_commit = 1");
    let Some(semi_sync) = &facts.semi_sync else {
        want(false, "the semi-sync plugins");
        return out;
    };
    want(semi_sync.source_enabled, "rpl_semi_sync_source_enabled = ON");
    want(semi_sync.after_sync, "rpl_semi_sync_source_wait_point = AFTER_SYNC");
    want(semi_sync.wait_no_replica, "rpl_semi_sync_source_wait_no_replica = ON");
    want(
        semi_sync.timeout_ms >= SemiSync::LONG_MS,
        "rpl_semi_sync_source_timeout of a day or more (milliseconds)",
    );
    want(semi_sync.acks >= acks, "rpl_semi_sync_source_wait_for_replica_count as defined");
    out
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
    let wanted = cluster.definition.policy.heartbeat_ms;
    if !(1..=wanted.0).contains(&replica.options.heartbeat_ms) {
        let found =
            f64::from(u32::try_from(replica.options.heartbeat_ms).unwrap_or(u32::MAX)) / 1e3;
        let what = format!(
            "SOURCE_HEARTBEAT_PERIOD of at most {wanted} (it is {found} s): a silent primary is \
             noticed only after two of them"
        );
        out.push(requirement(name, what));
    }
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
    if cluster.definition.mode == Mode::Quorum {
        let regime = cluster.regime();
        let is_acker = regime.is_some_and(|regime| regime.ackers.contains(name));
        let semi_sync = facts.semi_sync.as_ref();
        if is_acker && facts.sync_relay_log != 1 {
            out.push(requirement(name, "sync_relay_log = 1".into()));
        }
        if is_acker && !semi_sync.is_some_and(|s| s.replica_active) {
            out.push(requirement(name, "an active semi-sync replica side".into()));
        }
        if semi_sync.is_some_and(|s| s.source_enabled) {
            let what = "rpl_semi_sync_source_enabled = OFF on a replica (its applier would hang)";
            out.push(requirement(name, what.into()));
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
