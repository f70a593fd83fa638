//! What does a returned server have that the primary lacks, and can it have been acknowledged?

use conclave_core::{
    decide::rejoin::Plan,
    model::{Attempt, ServerName},
    state::{ClusterState, Standing},
};

use crate::api::{
    document::{DoubtDocument, ExtraDocument, FORMAT, RejoinDocument, SavedDocument},
    sentence,
};

/// `None`: the server is not quarantined.
pub(super) fn of_server(cluster: &ClusterState, server: &ServerName) -> Option<ExtraDocument> {
    let Standing::Quarantined { errant, findings, saved } = &cluster.members.get(server)?.standing
    else {
        return None;
    };
    let found = findings.clone().unwrap_or_default();
    let doubts = found.doubts.iter();
    let doubts = doubts
        .map(|doubt| DoubtDocument { gtids: sentence::gtids(&doubt.set), why: doubt.why.clone() });
    Some(ExtraDocument {
        server: server.to_string(),
        gtids: sentence::gtids(errant),
        is_examined: findings.is_some(),
        proved: sentence::gtids(&found.proved),
        doubts: doubts.collect(),
        saved: saved
            .as_ref()
            .map(|saved| SavedDocument { path: saved.path.clone(), sha256: saved.sha256.clone() }),
    })
}

/// What having a server back would discard and do.
pub(in crate::api) fn rejoin(
    cluster: &ClusterState,
    server: &ServerName,
    plan: &Plan,
) -> RejoinDocument {
    RejoinDocument {
        format: FORMAT,
        cluster: cluster.definition.name.to_string(),
        server: server.to_string(),
        refusals: plan.refusals.clone(),
        extra: of_server(cluster, server),
        steps: plan.steps.iter().map(sentence::planned).collect(),
    }
}

/// Of every quarantined server.
pub(super) fn of_cluster(cluster: &ClusterState) -> Vec<ExtraDocument> {
    cluster.members.keys().filter_map(|server| of_server(cluster, server)).collect()
}

/// Of those whose last time as primary was ended by this attempt.
pub(in crate::api) fn of_attempt(cluster: &ClusterState, attempt: &Attempt) -> Vec<ExtraDocument> {
    let was_revoked = |by: &Attempt, server: &ServerName| {
        by.revokes.iter().any(|regime| regime.primary == *server)
    };
    let is_last = |server: &&ServerName| {
        let mut later = cluster.history.iter().filter(|other| other.epoch() > attempt.epoch());
        was_revoked(attempt, server) && !later.any(|other| was_revoked(other, server))
    };
    let servers = cluster.members.keys().filter(is_last);
    servers.filter_map(|server| of_server(cluster, server)).collect()
}
