//! May an operator have a server back, and how? (SAFETY invariant 11.)
//!
//! A server without anything extra is put behind the primary. One with transactions that the
//! primary lacks is rebuilt from a copy once these are saved, and only if no other server has any
//! that it numbered itself: it will give their numbers to other transactions when it is primary again.

use super::{
    upkeep,
    view::{ClusterView, FRESH, View},
};
use crate::{
    model::{ClusterName, Discard, GtidSet, ServerName, StepKind},
    state::{ClusterState, Planned, Standing},
};

/// What would be done, and every reason why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each as one sentence; empty: it would be done.
    pub refusals: Vec<String>,
    /// What would be discarded.
    pub extra: GtidSet,
    /// The steps.
    pub steps: Vec<Planned>,
}

/// What an operator's wish for a server would lead to now.
pub fn plan(view: &View, name: &ClusterName, server: &ServerName, discard: Discard) -> Plan {
    let Some((cluster, seen)) = view.cluster(name) else {
        return Plan { refusals: vec![format!("there is no cluster {name}")], ..Plan::default() };
    };
    let mut out = Plan::default();
    let Some(member) = cluster.members.get(server) else {
        out.refusals.push(format!("cluster {name} has no server {server}"));
        return out;
    };
    if let Some(open) = &cluster.attempt {
        out.refusals.push(format!("the attempt {} is open", open.id));
    }
    if cluster.primary().is_none() || cluster.primary() == Some(server) {
        out.refusals.push(format!("{server} is not a server beside a primary"));
        return out;
    }
    if seen.facts(server, view.now, FRESH).is_none() {
        out.refusals.push(format!("{server} does not answer: start its mysqld first"));
    }
    let primary = cluster.primary().into_iter();
    let follow = primary.map(|primary| {
        let acker = cluster.definition.ackers_of(primary).contains(server);
        super::stage::follow(cluster, seen, primary, acker)
    });
    let mut goals: Vec<StepKind> = Vec::new();
    match &member.standing {
        Standing::Member => out.refusals.push(format!("{server} is part of the cluster")),
        Standing::Former { .. } => {}
        Standing::Quarantined { errant, findings, saved } => {
            out.extra = errant.clone();
            out.refusals.extend(unfit(server, errant, discard, findings.as_ref()));
            if saved.is_none() {
                let has_ssh = cluster.definition.server(server).is_some_and(|s| s.ssh.is_some());
                out.refusals.push(match has_ssh {
                    true => "what it has extra is not saved yet; conclave status shows why".into(),
                    false => "what it has extra cannot be saved: its definition names no ssh \
                              login"
                        .to_owned(),
                });
            }
            out.refusals.extend(holders(view, cluster, seen, server, errant));
            let found = seen.facts(server, view.now, FRESH).filter(|facts| !facts.has_clone());
            out.refusals.extend(found.map(|facts| {
                format!(
                    "{server} runs {}, which cannot be rebuilt over SQL (CLONE): rebuild it from a \
                     backup of the primary; it is taken back once it is clean",
                    facts.product()
                )
            }));
            match donor(view, cluster, seen, server) {
                Some(donor) => goals.push(StepKind::Rebuild { donor, extra: errant.clone() }),
                None => out.refusals.push("no healthy server can be copied from".into()),
            }
        }
    }
    goals.extend(follow);
    out.steps = goals.into_iter().map(|goal| Planned { target: server.clone(), goal }).collect();
    out
}

/// What may not be discarded, by what is known of it.
fn unfit(
    server: &ServerName,
    errant: &GtidSet,
    discard: Discard,
    findings: Option<&crate::model::Findings>,
) -> Vec<String> {
    let count = errant.counted();
    match (discard, findings) {
        (_, None) => {
            vec![format!("what {server} has extra was not examined yet; conclave status shows why")]
        }
        (Discard::All, Some(_)) => Vec::new(),
        (Discard::Proved, Some(found)) => {
            let doubts = found.doubts.iter();
            doubts
                .map(|doubt| {
                    let (count, why) = (doubt.set.counted(), &doubt.why);
                    format!("{count} may have been acknowledged ({why}): {}", doubt.set)
                })
                .collect()
        }
        (Discard::Nothing, Some(found)) => vec![match found.is_all_proved() {
            true => format!(
                "{server} has {count} transaction(s) that the primary lacks, all proved never \
                 acknowledged: --discard-proved lets them go"
            ),
            false => format!(
                "{server} has {count} transaction(s) that the primary lacks, and some may have \
                 been acknowledged: only --discard-all lets them go"
            ),
        }],
    }
}

/// Servers that have, or may have, some of what is to be discarded and its server numbered itself.
pub fn holders(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerName,
    extra: &GtidSet,
) -> Vec<String> {
    let own = extra.of_origins(&[upkeep::known_uuid(cluster, server).unwrap_or_default()]);
    let others = cluster.definition.servers.iter().map(|other| &other.name);
    let others = others.filter(|other| *other != server && !own.is_empty());
    let why = others.filter_map(|other| match seen.facts(other, view.now, FRESH) {
        None => Some(format!("{other} does not answer, and may have some of what is discarded")),
        Some(facts) => {
            let has = facts.received().common(&own);
            (!has.is_empty()).then(|| format!("{other} has some of what is discarded: {has}"))
        }
    });
    why.collect()
}

/// A healthy replica, so that the primary is not burdened; else the primary, also one that restarted
/// and may wait for this very server to acknowledge before it is opened again.
pub fn donor(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerName,
) -> Option<ServerName> {
    let homes = upkeep::reader_homes(view, cluster, seen);
    let home = homes.into_iter().find(|home| *home != server).cloned();
    let waiting = || {
        let regime = cluster.regime().filter(|regime| regime.is_open)?;
        let facts = seen.facts(&regime.primary, view.now, FRESH)?;
        let is_whole = !upkeep::has_lost(view, cluster, seen, facts);
        is_whole.then(|| regime.primary.clone())
    };
    home.or_else(waiting)
}
