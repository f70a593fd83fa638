//! What each stage of an attempt consists of: the steps that are planned when it is entered.

use std::collections::{BTreeMap, BTreeSet};

use super::{candidate::Field, gate, view::ClusterView};
use crate::{
    model::{
        Attempt, Election, GtidSet, HookCall, HookDefinition, HookEvent, LinkOptions, Mode, Regime,
        ServerName, StepEvidence, StepKind,
    },
    state::{ClusterState, Planned, Standing},
};

fn planned(target: &ServerName, goal: StepKind) -> Planned {
    Planned { target: target.clone(), goal }
}

/// Freeze: stop every receiver, fence every server that is or may be primary. One that an earlier
/// attempt has covered is revoked for good already.
pub fn freeze(cluster: &ClusterState) -> Vec<Planned> {
    let primaries: BTreeSet<_> = cluster.regimes.iter().map(|regime| &regime.primary).collect();
    let replicas = cluster.definition.servers.iter().filter(|s| !primaries.contains(&s.name));
    let stops = replicas.map(|server| planned(&server.name, StepKind::StopReceiver));
    let open = cluster.regimes.iter().filter(|regime| regime.closed_with.is_none());
    let reachable = open
        .map(|regime| &regime.primary)
        .filter(|name| cluster.definition.server(name).is_some_and(|server| server.ssh.is_some()));
    let fences = reachable.map(|name| planned(name, StepKind::Fence { vips: cluster.vips() }));
    let primary = cluster.primary();
    let calls = primary.map(|old| hooks(cluster, HookEvent::Opened, old, None, ""));
    stops.chain(fences).chain(calls.into_iter().flatten()).collect()
}

/// The scripts that are called at that moment, of the server that then matters most.
fn hooks(
    cluster: &ClusterState,
    event: HookEvent,
    old: &ServerName,
    new: Option<&ServerName>,
    note: &str,
) -> Vec<Planned> {
    let called = cluster.definition.hooks.iter().filter(|hook| hook.on.contains(&event));
    let call = |hook: &HookDefinition| HookCall {
        name: hook.name.clone(),
        event,
        deadline_ms: hook.deadline_ms,
        required: hook.required,
        old: old.clone(),
        new: new.cloned(),
        note: note.to_owned(),
    };
    called.map(|hook| planned(new.unwrap_or(old), StepKind::Hook { call: call(hook) })).collect()
}

/// The choice among the frozen servers; `None`: nobody is eligible.
pub fn elect(cluster: &ClusterState, attempt: &Attempt, field: &Field) -> Option<Election> {
    let candidate = field.best.clone()?;
    let received = received(attempt);
    let recruits: BTreeSet<ServerName> = received.keys().cloned().collect();
    let mine = received.get(&candidate)?;
    let donor = match field.target.is_subset(mine) {
        true => None,
        false => Some(donor(&candidate, &received, field)?),
    };
    Some(Election {
        donor,
        target: field.target.clone(),
        ackers: gate::ackers_for(cluster, &candidate, &recruits, field),
        acks: gate::wanted_acks(cluster),
        ranking: field.ranking.clone(),
        loss: loss(cluster.definition.mode),
        recruits,
        candidate,
    })
}

/// The recruit that holds most of what the candidate lacks; of equal ones the one with the least
/// beyond that, because the candidate gets all that its donor has.
fn donor(
    candidate: &ServerName,
    received: &BTreeMap<ServerName, GtidSet>,
    field: &Field,
) -> Option<ServerName> {
    let others = received.iter().filter(|(name, _)| *name != candidate);
    let missing = |set: &GtidSet| field.target.minus(set).count();
    let beyond = |set: &GtidSet| set.minus(&field.target).count();
    others.min_by_key(|(_, set)| (missing(set), beyond(set))).map(|(name, _)| name.clone())
}

fn loss(mode: Mode) -> String {
    match mode {
        Mode::Quorum => "nothing that was acknowledged: the stopped servers hold it all".into(),
        Mode::Fenced | Mode::BestEffort => "replication is asynchronous: what the old primary \
            committed and no stopped server received is lost or still on its disk"
            .into(),
    }
}

/// What the frozen servers had received.
pub fn received(attempt: &Attempt) -> BTreeMap<ServerName, GtidSet> {
    let frozen = attempt.frozen().into_iter();
    frozen
        .filter_map(|(name, evidence)| match evidence {
            StepEvidence::Server { received, .. } => Some((name, received.clone())),
            StepEvidence::Host { .. }
            | StepEvidence::Examined { .. }
            | StepEvidence::Hook { .. } => None,
        })
        .collect()
}

/// Recover: the candidate gets what it lacks and applies all of it; nothing if `executed`, what it
/// had applied when its receiver was stopped, is all there is.
pub fn recover(election: &Election, executed: &GtidSet) -> Vec<Planned> {
    let target = election.target.clone();
    if target.is_subset(executed) {
        return Vec::new();
    }
    let catch_up = election.donor.as_ref().map(|donor| {
        let goal = StepKind::CatchUp { donor: donor.clone(), target: target.clone() };
        planned(&election.candidate, goal)
    });
    let apply = planned(&election.candidate, StepKind::Apply { target: target.clone() });
    catch_up.into_iter().chain([apply]).collect()
}

/// Promote: ackers behind the candidate, then writes, then the address.
pub fn promote(cluster: &ClusterState, view: &ClusterView, election: &Election) -> Vec<Planned> {
    let candidate = &election.candidate;
    let mut out = vec![planned(candidate, StepKind::Detach)];
    out.extend(
        election.ackers.iter().map(|acker| planned(acker, follow(cluster, view, candidate, true))),
    );
    out.push(planned(
        candidate,
        StepKind::OpenForWrites {
            acks: election.acks,
            ackers: election.ackers.clone(),
            recruits: election.recruits.clone(),
        },
    ));
    let can_hold = cluster.definition.server(candidate).is_some_and(|s| s.ssh.is_some());
    if let Some(vip) = cluster.definition.writer.clone().filter(|_| can_hold) {
        out.push(planned(candidate, StepKind::TakeVip { vip }));
    }
    out
}

/// Repoint: every other member that was frozen. Who waits for readmission goes on waiting.
pub fn repoint(cluster: &ClusterState, view: &ClusterView, election: &Election) -> Vec<Planned> {
    let is_member = |name: &ServerName| {
        let member = cluster.members.get(name);
        member.is_some_and(|member| member.standing == Standing::Member)
    };
    let rest = election.recruits.iter().filter(|name| is_member(name));
    let rest = rest.filter(|name| **name != election.candidate && !election.ackers.contains(*name));
    let follows = rest.map(|name| planned(name, follow(cluster, view, &election.candidate, false)));
    let old = cluster.attempt.as_ref().map(|attempt| &attempt.old_primary).or(cluster.primary());
    let calls = old.into_iter().flat_map(|old| {
        let events = [HookEvent::Published, HookEvent::Finished];
        events.map(|event| hooks(cluster, event, old, Some(&election.candidate), ""))
    });
    follows.chain(calls.flatten()).collect()
}

/// Undo: every receiver that may have been stopped runs again, then whoever waits is woken, then
/// scripts are told `why`.
pub fn undo(cluster: &ClusterState, attempt: &Attempt, why: &str) -> Vec<Planned> {
    let stopped = attempt
        .steps
        .iter()
        .filter(|step| step.goal == StepKind::StopReceiver && step.may_have_acted());
    let resumes = stopped.map(|step| planned(&step.target, StepKind::ResumeReceiver));
    let waits = |regime: &&Regime| regime.acks > 0;
    let primary = cluster.regimes.last().filter(waits);
    let wake = primary.map(|regime| planned(&regime.primary, StepKind::Wake));
    let calls = hooks(cluster, HookEvent::Undone, &attempt.old_primary, None, why);
    resumes.chain(wake).chain(calls).collect()
}

/// The goal of replicating from `source`. Options are those of any link seen in the cluster, so
/// that a server without a link gets what its peers have.
pub fn follow(
    cluster: &ClusterState,
    view: &ClusterView,
    source: &ServerName,
    acker: bool,
) -> StepKind {
    let links = view
        .observations
        .values()
        .filter_map(|look| Some(look.seen.as_ref().ok()?.replica.as_ref()?.options.clone()));
    let heartbeat_ms = cluster.definition.policy.heartbeat_ms.0;
    let default = || LinkOptions { heartbeat_ms, ..LinkOptions::default() };
    let options = links.into_iter().next().unwrap_or_else(default);
    StepKind::Follow { source: source.clone(), acker, options }
}
