//! What is missing on each server, and the steps that set it when a person asks for it: `conclave
//! cluster harden`. Nothing here is done by the group on its own.

use super::{
    requirement::{self, Need, Remedy},
    view::{FRESH, View},
};
use crate::{
    model::{Actor, ClusterName, ServerName, StepKind, StepRecord},
    state::{ClusterState, Planned},
};

/// How often a step that a person asked for is tried.
pub const RUNS: usize = 3;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardening {
    /// The server.
    pub server: ServerName,
    /// It was reached.
    pub is_reached: bool,
    /// What is missing.
    pub needs: Vec<Need>,
    /// The step that was planned for it last and is not over, or has failed for good.
    pub step: Option<StepRecord>,
}

/// A step that is run because a person asked for it.
pub fn is_asked_for(goal: &StepKind) -> bool {
    let StepKind::Arm { by, .. } = goal else { return matches!(goal, StepKind::Harden { .. }) };
    *by != Actor::Group
}

/// Every server with what it lacks; empty: there is no such cluster.
pub fn list(view: &View, name: &ClusterName) -> Vec<Hardening> {
    let Some((cluster, seen)) = view.cluster(name) else { return Vec::new() };
    let of = |server: &crate::model::ServerDefinition| {
        let facts = seen.facts(&server.name, view.now, FRESH);
        let mut needs = requirement::of(view, cluster, seen, server);
        let replica = facts.and_then(|facts| facts.replica.as_ref());
        needs.extend(replica.and_then(|replica| requirement::of_heartbeat(cluster, replica)));
        let step = cluster.chores.get(&server.name);
        Hardening {
            server: server.name.clone(),
            is_reached: facts.is_some(),
            needs,
            step: step.filter(|step| is_asked_for(&step.goal)).cloned(),
        }
    };
    cluster.definition.servers.iter().map(of).collect()
}

impl Hardening {
    /// The step that sets what can be set over SQL; settings first, as waiting for acknowledgements
    /// rests on them. `None`: there is nothing, or another step has to end first.
    pub fn plan(&self, cluster: &ClusterState, by: &Actor) -> Option<Planned> {
        let is_busy = cluster.chores.get(&self.server).is_some_and(|step| {
            !is_asked_for(&step.goal) || step.runs.len() < RUNS || !step.has_failed()
        });
        if cluster.attempt.is_some() || is_busy {
            return None;
        }
        let set = |need: &Need| match need.remedy {
            Remedy::Set(setting) => Some(setting),
            Remedy::Arm { .. } | Remedy::Hand { .. } => None,
        };
        let arm = |need: &Need| match need.remedy {
            Remedy::Arm { acks } => Some(acks),
            Remedy::Set(_) | Remedy::Hand { .. } => None,
        };
        let settings: std::collections::BTreeSet<_> = self.needs.iter().filter_map(set).collect();
        let regime = cluster.regime().filter(|regime| regime.primary == self.server);
        let arm = || {
            let (regime, acks) = regime.zip(self.needs.iter().find_map(arm))?;
            Some(StepKind::Arm { acks, ackers: regime.ackers.clone(), by: by.clone() })
        };
        let goal = match settings.is_empty() {
            false => Some(StepKind::Harden { settings, by: by.clone() }),
            true => arm(),
        };
        Some(Planned { target: self.server.clone(), goal: goal? })
    }
}
