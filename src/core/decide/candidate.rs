//! Who becomes primary: filter with reasons, then rank with keys, and keep both.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    requirement,
    view::{ClusterView, FRESH},
};
use crate::{
    model::{
        Applier, Family, GtidSet, Mode, Mono, PromotionRule, Ranked, ServerDefinition, ServerFacts,
        ServerName,
    },
    state::{ClusterState, Member, Standing},
};

/// The field of candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// All servers but the old primary, best first, with reasons.
    pub ranking: Vec<Ranked>,
    /// The best eligible one.
    pub best: Option<ServerName>,
    /// The union of what they received, errant transactions left out.
    pub target: GtidSet,
    /// Transactions that only one server has and no primary of this cluster numbered.
    pub errant: BTreeMap<ServerName, GtidSet>,
}

/// Ranks the servers that `received` names; the others are listed with the reason that they were
/// not reached. `wanted` is an operator's choice.
pub fn rank(
    cluster: &ClusterState,
    view: &ClusterView,
    now: Mono,
    received: &BTreeMap<ServerName, GtidSet>,
    wanted: Option<&ServerName>,
) -> Field {
    let errant = errants(cluster, view, received);
    let none = GtidSet::empty();
    let clean = |name: &ServerName, set: &GtidSet| set.minus(errant.get(name).unwrap_or(&none));
    let target =
        received.iter().fold(GtidSet::empty(), |sum, (name, set)| sum.union(&clean(name, set)));
    let primaries: BTreeSet<_> = cluster.regimes.iter().map(|regime| &regime.primary).collect();
    let primary_rack = cluster.primary().and_then(|name| cluster.definition.server(name));
    let mut rows: Vec<(Keys, Ranked)> = Vec::new();
    for (order, server) in cluster.definition.servers.iter().enumerate() {
        if primaries.contains(&server.name) {
            continue;
        }
        let facts = view.facts(&server.name, now, FRESH);
        let got = received.get(&server.name);
        let lacks = got.map(|got| target.minus(got));
        let missing = lacks.as_ref().map_or(u64::MAX, GtidSet::count);
        let is_far = primary_rack.is_some_and(|primary| primary.rack != server.rack);
        let keys = Keys {
            is_eligible: std::cmp::Reverse(true),
            is_wanted: std::cmp::Reverse(wanted == Some(&server.name)),
            rule: server.promotion,
            missing,
            is_far,
            version: facts.map(ServerFacts::release).unwrap_or_default(),
            order,
        };
        let mut against = reasons_against(cluster, server, facts, got, errant.get(&server.name));
        against.extend(readers(cluster, &server.name, received));
        let others = received.keys().filter(|other| **other != server.name);
        let others = others.filter_map(|other| Some((other, view.facts(other, now, FRESH)?)));
        against
            .extend(facts.into_iter().flat_map(|facts| unfollowed(cluster, facts, others.clone())));
        let keys = Keys { is_eligible: std::cmp::Reverse(against.is_empty()), ..keys };
        let named = keys.named(server, facts, lacks.as_ref());
        rows.push((keys, Ranked { server: server.name.clone(), against, keys: named }));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let ranking: Vec<Ranked> = rows.into_iter().map(|(_, ranked)| ranked).collect();
    let best = ranking.iter().find(|ranked| ranked.against.is_empty());
    Field { best: best.map(|ranked| ranked.server.clone()), ranking, target, errant }
}

/// Compared in this order; smaller is better.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Keys {
    is_eligible: std::cmp::Reverse<bool>,
    is_wanted: std::cmp::Reverse<bool>,
    rule: PromotionRule,
    missing: u64,
    is_far: bool,
    version: (u32, u32),
    order: usize,
}

impl Keys {
    fn named(
        &self,
        server: &ServerDefinition,
        facts: Option<&ServerFacts>,
        lacks: Option<&GtidSet>,
    ) -> Vec<String> {
        let mut out = Vec::new();
        if self.is_wanted.0 {
            out.push("asked for by the operator".into());
        }
        out.push(match self.rule {
            PromotionRule::Prefer => "rule prefer".into(),
            PromotionRule::Allow => "rule allow".into(),
            PromotionRule::Avoid => "rule avoid".into(),
            PromotionRule::Never => "rule never".into(),
        });
        out.push(match lacks {
            None => "received set unknown".into(),
            Some(lacks) if lacks.is_empty() => "lacks no transaction".into(),
            Some(lacks) => format!("lacks {} transaction(s)", lacks.counted()),
        });
        out.push(match self.is_far {
            true => format!("rack {}", server.rack),
            false => format!("rack {}, the old primary's", server.rack),
        });
        out.extend(facts.map(|facts| format!("version {}", facts.version)));
        out
    }
}

fn reasons_against(
    cluster: &ClusterState,
    server: &ServerDefinition,
    facts: Option<&ServerFacts>,
    received: Option<&GtidSet>,
    errant: Option<&GtidSet>,
) -> Vec<String> {
    let mut out = Vec::new();
    if server.promotion == PromotionRule::Never {
        out.push("its rule is never".into());
    }
    match cluster.members.get(&server.name).map(|member| &member.standing) {
        Some(Standing::Member) => {}
        Some(Standing::Former { .. }) => out.push("a former primary not readmitted yet".into()),
        Some(Standing::Quarantined { errant, .. }) => {
            out.push(format!("quarantined for {errant}"));
        }
        None => out.push("not a member".into()),
    }
    if cluster.members.get(&server.name).is_some_and(|member| member.left_out.is_some()) {
        out.push("left out by an operator (conclave undrain brings it back)".into());
    }
    if received.is_none() {
        out.push("not reached".into());
    }
    if let Some(errant) = errant {
        out.push(format!("errant transactions {errant}"));
    }
    if let Some(facts) = facts {
        if !facts.log_bin || !facts.log_replica_updates {
            out.push("log_bin or log_replica_updates is off: nobody could follow it".into());
        }
        let has_source = facts.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.has_source);
        match (cluster.definition.mode, facts.family()) {
            (Mode::Quorum, Family::MariaDb) => out.push(requirement::NO_QUORUM.into()),
            (Mode::Quorum, Family::Mysql) if !has_source => out.push(
                "the semi-sync source plugin is not there: its commits could not wait".into(),
            ),
            (Mode::Quorum | Mode::Fenced | Mode::BestEffort, _) => {}
        }
        if !facts.gtid_mode {
            out.push(match facts.family() {
                Family::Mysql => "gtid_mode is off".into(),
                Family::MariaDb => {
                    "gtid_strict_mode is off: its GTIDs do not tell what it has".into()
                }
            });
        }
        if let Some(Applier::Broken { code, text }) = facts.replica.as_ref().map(|r| &r.applier) {
            out.push(format!("its applier stopped with error {code}: {text}"));
        }
    }
    out
}

/// A former primary's old replicas that did not come along and were not reached now may still have it
/// for their source: they would acknowledge its commits without being on record (SAFETY section 3).
fn readers(
    cluster: &ClusterState,
    candidate: &ServerName,
    received: &BTreeMap<ServerName, GtidSet>,
) -> Option<String> {
    let attempts = &cluster.history;
    let was_primary = attempts.len() >= ClusterState::HISTORY
        || attempts.iter().any(|attempt| attempt.old_primary == *candidate);
    if cluster.definition.mode != Mode::Quorum || !was_primary {
        return None;
    }
    let is_apart = |(name, member): &(&ServerName, &Member)| {
        member.standing != Standing::Member && !received.contains_key(*name)
    };
    let mut apart = cluster.members.iter().filter(is_apart).map(|(name, _)| name);
    let reader = apart.find(|name| *name != candidate)?;
    Some(format!(
        "it was primary before, and {reader}, which may still read from it, was not reached"
    ))
}

/// Members that could not replicate from this server: it is of a newer release than they are, or of
/// another family.
/// **Source:** MySQL manual, "Replication Compatibility Between MySQL Versions".
fn unfollowed<'a>(
    cluster: &ClusterState,
    facts: &ServerFacts,
    others: impl Iterator<Item = (&'a ServerName, &'a ServerFacts)>,
) -> Vec<String> {
    let is_member = |name: &ServerName| {
        let member = cluster.members.get(name);
        member.is_some_and(|it| it.standing == Standing::Member && it.left_out.is_none())
    };
    let mine = facts.product();
    let why = others.filter(|(name, _)| is_member(name)).filter_map(|(name, theirs)| {
        let its = theirs.product();
        match theirs.family() == facts.family() {
            false => {
                Some(format!("{name} could not follow it: {its} does not replicate from {mine}"))
            }
            true => (theirs.release() < facts.release()).then(|| {
                format!(
                    "{name} could not follow it: {its} does not replicate from the newer {mine}"
                )
            }),
        }
    });
    why.collect()
}

/// Transactions that one server alone has. Those that a primary of this cluster numbered are not
/// errant: they are its tail. With nothing to compare with, nothing is called errant.
fn errants(
    cluster: &ClusterState,
    view: &ClusterView,
    received: &BTreeMap<ServerName, GtidSet>,
) -> BTreeMap<ServerName, GtidSet> {
    let primaries: BTreeSet<_> = cluster.regimes.iter().map(|regime| &regime.primary).collect();
    let uuids: Vec<&str> =
        primaries.iter().filter_map(|name| cluster.members.get(*name)?.uuid.as_deref()).collect();
    let seen_on_primaries = primaries.iter().filter_map(|name| {
        let look = view.observations.get(*name)?;
        Some(&look.seen.as_ref().ok()?.executed)
    });
    let bases = cluster.regimes.iter().map(|regime| &regime.base);
    let known = seen_on_primaries.chain(bases).fold(GtidSet::empty(), |sum, set| sum.union(set));
    let mut out = BTreeMap::new();
    for (name, set) in received {
        let others = received.iter().filter(|(other, _)| *other != name);
        let baseline = others.fold(known.clone(), |sum, (_, set)| sum.union(set));
        if baseline.is_empty() {
            continue;
        }
        let alone = set.minus(&baseline);
        let errant = alone.minus(&alone.of_origins(&uuids));
        if !errant.is_empty() {
            out.insert(name.clone(), errant);
        }
    }
    out
}
