//! What would happen now if this or that broke, and what a failover would consist of. The same
//! rules as for the real thing, asked in advance.

use serde::{Deserialize, Serialize};

use super::{
    candidate,
    gate::{self, Fault},
    stage, switchover,
    view::{FRESH, View, Wish},
};
use crate::{
    model::{ClusterName, Election, GtidSet, Ranked, Refusal, ServerName, StepKind},
    state::Planned,
};

/// What one fault would lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The fault, for a sentence: "the process of db1 dies".
    pub fault: String,
    /// Who would be promoted, if anybody.
    pub to: Option<ServerName>,
    /// Why nobody would.
    pub refusals: Vec<Refusal>,
}

/// What a failover would do, without doing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// Reasons not to.
    pub refusals: Vec<Refusal>,
    /// All servers, best first.
    pub ranking: Vec<Ranked>,
    /// Stage and step, in order.
    pub steps: Vec<(String, Planned)>,
}

/// The faults that operators ask about.
pub fn list(view: &View, name: &ClusterName) -> Vec<Forecast> {
    let Some((cluster, seen)) = view.cluster(name) else { return Vec::new() };
    let Some(primary) = cluster.primary() else { return Vec::new() };
    let to = rank(view, name, None).and_then(|field| field.best);
    let outlook = |fault: String, against: Vec<Refusal>| {
        let mut refusals = gate::standing(view, cluster, seen);
        refusals.extend(against);
        Forecast { fault, to: to.clone().filter(|_| refusals.is_empty()), refusals }
    };
    let feasible = |fault| gate::feasible(view, cluster, seen, fault, None);
    let process = feasible(Fault::Process);
    // What stands against the lesser fault is not said twice.
    let leader = match process.is_empty() {
        true => feasible(Fault::ProcessAndLeader)
            .into_iter()
            .chain(gate::leaderless(view, seen))
            .collect(),
        false => process.clone(),
    };
    vec![
        outlook(format!("the process of {primary} dies"), process),
        outlook(format!("the process of {primary} and the leader die"), leader),
        outlook(format!("the host of {primary} is lost"), feasible(Fault::Host)),
    ]
}

/// The field of candidates by what the servers have received so far.
pub fn rank(
    view: &View,
    name: &ClusterName,
    wanted: Option<&ServerName>,
) -> Option<candidate::Field> {
    let (cluster, seen) = view.cluster(name)?;
    let mut reached = seen.reached(view.now, FRESH);
    reached.retain(|server| !cluster.is_primary(server));
    let received = reached
        .into_iter()
        .filter_map(|s| Some((s.clone(), seen.facts(&s, view.now, FRESH)?.received())))
        .collect();
    Some(candidate::rank(cluster, seen, view.now, &received, wanted))
}

/// What a failover by this wish would refuse or do.
pub fn dry_run(view: &View, name: &ClusterName, wish: &Wish) -> DryRun {
    let refusals = gate::refusals(view, name, Some(wish));
    let field = rank(view, name, wish.wanted.as_ref());
    let ranking = field.as_ref().map(|field| field.ranking.clone()).unwrap_or_default();
    let mut steps = Vec::new();
    if let (Some((cluster, seen)), Some(field)) = (view.cluster(name), &field)
        && let Some(best) = &field.best
    {
        let mut recruits = seen.reached(view.now, FRESH);
        recruits.retain(|server| !cluster.is_primary(server));
        let freeze = match &wish.switchover {
            Some(plan) => switchover::steps(view, cluster, seen, wish, plan),
            None => stage::freeze(cluster),
        };
        let is_ahead = |planned: &Planned| {
            let is_following = matches!(planned.goal, StepKind::Follow { .. });
            is_following
                && freeze.iter().any(|it| it.target == planned.target && it.goal == planned.goal)
        };
        let returns = wish.switchover.as_ref().is_some_and(|plan| !plan.leaves_old);
        let old = cluster.primary().filter(|_| returns).cloned();
        let able = recruits.iter().cloned().chain(old).collect();
        let election = Election {
            candidate: best.clone(),
            donor: None,
            target: field.target.clone(),
            ackers: gate::ackers_for(cluster, best, &able, field),
            acks: gate::wanted_acks(cluster),
            ranking: ranking.clone(),
            loss: String::new(),
            rescues: Vec::new(),
            recruits,
        };
        // Nothing is left to recover once the candidate has executed the last write.
        let recover = match wish.switchover {
            Some(_) => Vec::new(),
            None => stage::recover(&election, &GtidSet::empty()),
        };
        let mut promote = stage::promote(cluster, seen, &election);
        promote.retain(|planned| !is_ahead(planned));
        let repoint = stage::repoint(cluster, seen, &election);
        let stages =
            [("freeze", freeze), ("recover", recover), ("promote", promote), ("repoint", repoint)];
        let named = |stage: &'static str, steps: Vec<Planned>| {
            steps.into_iter().map(move |step| (stage.to_owned(), step))
        };
        steps = stages.into_iter().flat_map(|(stage, steps)| named(stage, steps)).collect();
    }
    DryRun { refusals, ranking, steps }
}
