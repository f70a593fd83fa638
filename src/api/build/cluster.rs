//! How is one cluster?

use conclave_core::{
    decide::{ClusterView, View},
    model::{Attempt, ClusterName, Problem, Tally},
    state::ClusterState,
};

use super::{forecast, server};
use crate::api::{
    catalogue,
    desk::Findings,
    document::{
        AttemptDocument, ClusterDocument, Health, LastAttemptDocument, ProblemDocument,
        ReasonDocument, VipDocument,
    },
    sentence,
};

/// `None`: there is no such cluster.
pub(super) fn document(
    view: &View,
    name: &ClusterName,
    findings: &Findings,
) -> Option<ClusterDocument> {
    let cluster = view.group.clusters.get(name)?;
    let nothing_seen = ClusterView::default();
    let seen = view.clusters.get(name).unwrap_or(&nothing_seen);
    let left_ms = cluster.interval_left_ms(view.group.clock_ms);
    let primary = cluster.primary();
    let regime_acks = cluster.regime().map_or(0, |regime| regime.acks);
    Some(ClusterDocument {
        name: name.to_string(),
        health: health(cluster, findings),
        mode: cluster.definition.mode.as_str().into(),
        epoch: cluster.epoch.0,
        version: cluster.version,
        primary: primary.map(ToString::to_string),
        acks: regime_acks,
        automatic: cluster.definition.policy.automatic,
        paused: cluster.pause.as_ref().map(conclave_core::state::Pause::by),
        servers: server::tree(view, cluster, seen),
        vips: vips(cluster, seen),
        ballots: match &seen.tally {
            Some(tally) if is_current(tally, cluster) => sentence::ballots(tally),
            Some(_) | None => Vec::new(),
        },
        problems: findings.problems.iter().map(problem).collect(),
        attempt: cluster.attempt.as_ref().map(attempt),
        last_attempt: cluster.history.back().map(last_attempt),
        interval_left_s: left_ms.div_ceil(1000),
        chores: cluster.chores.values().map(sentence::step).collect(),
        forecasts: findings.forecasts.iter().map(forecast).collect(),
    })
}

fn is_current(tally: &Tally, cluster: &ClusterState) -> bool {
    cluster.primary() == Some(&tally.primary) && tally.epoch == cluster.epoch
}

fn health(cluster: &ClusterState, findings: &Findings) -> Health {
    if findings.problems.iter().any(Problem::is_critical) {
        return Health::Critical;
    }
    let forecasts = &findings.forecasts;
    let is_unprotected = !forecasts.is_empty() && forecasts.iter().all(|f| !f.refusals.is_empty());
    let is_odd = !findings.problems.is_empty()
        || cluster.pause.is_some()
        || cluster.attempt.is_some()
        || is_unprotected;
    if is_odd { Health::Warning } else { Health::Ok }
}

pub(super) fn problem(problem: &Problem) -> ProblemDocument {
    ProblemDocument {
        is_critical: problem.is_critical(),
        reason: ReasonDocument {
            code: problem.code().into(),
            sentence: problem.sentence(),
            remedy: catalogue::problem_remedy(problem).into(),
        },
    }
}

fn attempt(attempt: &Attempt) -> AttemptDocument {
    AttemptDocument {
        id: attempt.id.to_string(),
        stage: attempt.stage.code().into(),
        cause: sentence::cause(&attempt.opening.cause),
        by: sentence::actor(&attempt.opening.actor),
        candidate: sentence::candidate(&attempt.stage).map(ToString::to_string),
        steps: attempt.steps.iter().map(sentence::step).collect(),
    }
}

fn last_attempt(attempt: &Attempt) -> LastAttemptDocument {
    let (_, outcome) = sentence::outcome(attempt);
    LastAttemptDocument {
        id: attempt.id.to_string(),
        outcome,
        opened_wall_ms: attempt.opening.wall_ms,
    }
}

fn vips(cluster: &ClusterState, seen: &ClusterView) -> Vec<VipDocument> {
    let definition = &cluster.definition;
    let writers = definition.writer.iter().map(|vip| (vip, "writer"));
    let readers = definition.readers.iter().map(|vip| (vip, "reader"));
    let all = writers.chain(readers).map(|(vip, role)| {
        let (at, why) = match seen.vips.get(&vip.address) {
            Some(Ok(uuid)) => {
                let known =
                    |member: &conclave_core::state::Member| member.uuid.as_ref() == Some(uuid);
                let owner = cluster.members.iter().find(|(_, member)| known(member));
                match owner {
                    Some((name, _)) => (Some(name.to_string()), String::new()),
                    None => (None, format!("a server that is not defined answers: uuid {uuid}")),
                }
            }
            Some(Err(why)) => (None, why.clone()),
            None => (None, "not looked at yet".into()),
        };
        VipDocument { address: vip.address.clone(), role: role.into(), at, why }
    });
    all.collect()
}
