//! Documents from what a manager knows. Pure: the same view gives the same document.

mod cluster;
pub(super) mod extra;
mod group;
mod harden;
mod server;

use std::collections::BTreeMap;

use conclave_core::{
    decide::forecast::{DryRun, Forecast},
    model::{ClusterName, Ranked},
    state::{ClusterState, GroupState},
};

pub use self::harden::harden;
use super::{
    desk::{Findings, Snapshot},
    document::{
        ClusterLine, ClusterListDocument, ClusterShowDocument, ExplainDocument, FORMAT,
        ForecastDocument, Health, PlanDocument, PlannedStage, RankDocument, StatusDocument,
    },
    sentence,
};

/// The group and its clusters. `notice` says why the view is not whole; empty: it is the leader's.
pub fn status(
    snapshot: &Snapshot,
    findings: &BTreeMap<ClusterName, Findings>,
    notice: &str,
) -> StatusDocument {
    let group = group::document(&snapshot.raft);
    let clusters: Vec<_> = findings
        .iter()
        .filter_map(|(name, findings)| cluster::document(&snapshot.view, name, findings))
        .collect();
    let worst = clusters.iter().map(|cluster| cluster.health).chain([group.health]).max();
    let health = worst.unwrap_or(Health::Ok);
    StatusDocument {
        format: FORMAT,
        health,
        exit_code: health.exit_code(),
        seen_by: snapshot.view.me.0,
        is_complete: notice.is_empty(),
        notice: notice.to_owned(),
        wall_ms: snapshot.view.wall_ms,
        group,
        clusters,
    }
}

/// Why a cluster would or would not be failed over; `None`: there is no such cluster.
pub fn explain(
    snapshot: &Snapshot,
    name: &ClusterName,
    findings: &Findings,
    notice: &str,
) -> Option<ExplainDocument> {
    let found = cluster::document(&snapshot.view, name, findings)?;
    Some(ExplainDocument {
        format: FORMAT,
        notice: notice.to_owned(),
        cluster: found.name,
        mode: found.mode,
        primary: found.primary,
        ranking: ranking(&findings.ranking),
        refusals: findings.refusals.iter().map(sentence::refusal).collect(),
        problems: found.problems,
        interval_left_s: found.interval_left_s,
        extra: extra::of_cluster(&snapshot.view.group.clusters[name]),
        ballots: found.ballots,
        forecasts: found.forecasts,
    })
}

/// What a failover would do.
pub fn plan(cluster: &ClusterName, run: &DryRun) -> PlanDocument {
    let mut stages: Vec<PlannedStage> = Vec::new();
    for (stage, planned) in &run.steps {
        let sentence = sentence::planned(planned);
        match stages.last_mut() {
            Some(last) if last.stage == *stage => last.steps.push(sentence),
            Some(_) | None => {
                stages.push(PlannedStage { stage: stage.clone(), steps: vec![sentence] });
            }
        }
    }
    let best = run.ranking.iter().find(|ranked| ranked.against.is_empty());
    PlanDocument {
        format: FORMAT,
        cluster: cluster.to_string(),
        candidate: best.map(|ranked| ranked.server.to_string()),
        refusals: run.refusals.iter().map(sentence::refusal).collect(),
        ranking: ranking(&run.ranking),
        stages,
    }
}

/// The clusters in one line each.
pub fn list(group: &GroupState) -> ClusterListDocument {
    let clusters = group.clusters.values().map(|cluster| ClusterLine {
        name: cluster.definition.name.to_string(),
        mode: cluster.definition.mode.as_str().into(),
        epoch: cluster.epoch.0,
        version: cluster.version,
        primary: cluster.primary().map(ToString::to_string),
        servers: cluster.definition.servers.len(),
        is_paused: cluster.pause.is_some(),
    });
    ClusterListDocument { format: FORMAT, clusters: clusters.collect() }
}

/// A definition in force.
pub fn show(cluster: &ClusterState) -> ClusterShowDocument {
    ClusterShowDocument {
        format: FORMAT,
        version: cluster.version,
        definition: cluster.definition.clone(),
    }
}

/// A ranking; the eligible ones get places from 1.
pub(super) fn ranking(ranked: &[Ranked]) -> Vec<RankDocument> {
    let mut place = 0;
    let with_place = ranked.iter().map(|ranked| RankDocument {
        server: ranked.server.to_string(),
        place: ranked.against.is_empty().then(|| {
            place += 1;
            place
        }),
        against: ranked.against.clone(),
        keys: ranked.keys.clone(),
    });
    with_place.collect()
}

fn forecast(forecast: &Forecast) -> ForecastDocument {
    ForecastDocument {
        fault: forecast.fault.clone(),
        to: forecast.to.as_ref().map(ToString::to_string),
        refusals: forecast.refusals.iter().map(sentence::refusal).collect(),
    }
}
