//! What each stage of an attempt consists of: the steps that are planned when it is entered.

use std::collections::{BTreeMap, BTreeSet};

use super::{candidate::Field, coverage, gate, rescue, view::ClusterView};
use crate::{
    model::{
        Attempt, Election, GtidSet, HookCall, HookDefinition, HookEvent, LinkOptions, Outcome,
        Regime, Rescue, ServerName, StepEvidence, StepKind, Switchover,
    },
    state::{ClusterState, Planned, Standing},
};

fn planned(target: &ServerName, goal: StepKind) -> Planned {
    Planned { target: target.clone(), goal }
}

/// Freeze: stop every receiver, fence every server that is or may be primary. One that an earlier
/// attempt has covered is revoked for good already; unless that was by its log, and then it has to be
/// seen dead again.
pub fn freeze(cluster: &ClusterState) -> Vec<Planned> {
    let primaries: BTreeSet<_> = cluster.regimes.iter().map(|regime| &regime.primary).collect();
    let replicas = cluster.definition.servers.iter().filter(|s| !primaries.contains(&s.name));
    let stops = replicas.map(|server| planned(&server.name, StepKind::StopReceiver));
    let is_revoked = |regime: &Regime| {
        let is_counted = regime.acks == 0 || coverage::is_revoked(regime, &BTreeSet::new());
        regime.closed_with.is_some() && is_counted
    };
    let open = cluster.regimes.iter().filter(|regime| !is_revoked(regime));
    let reachable = open
        .map(|regime| &regime.primary)
        .filter(|name| cluster.definition.server(name).is_some_and(|server| server.ssh.is_some()));
    let fences = reachable.map(|name| planned(name, StepKind::Fence { vips: cluster.vips() }));
    let primary = cluster.primary();
    let calls = primary.map(|old| hooks(cluster, HookEvent::Opened, old, None, ""));
    let reads = rescue::reads(cluster);
    stops.chain(fences).chain(reads).chain(calls.into_iter().flatten()).collect()
}

/// Freeze of a planned switchover. The candidate comes level, and as many replicas as the primary can
/// spare go behind it, while writes go on; then writes end; then the other receivers are stopped.
pub fn switch(
    cluster: &ClusterState,
    view: &ClusterView,
    candidate: &ServerName,
    plan: &Switchover,
) -> Vec<Planned> {
    let Some(primary) = cluster.primary() else { return Vec::new() };
    let replicas: Vec<&ServerName> = replicas(cluster).collect();
    let ahead = spare(cluster, &replicas, candidate);
    let mut out = vec![planned(candidate, StepKind::Level { source: primary.clone() })];
    let wanted = cluster.definition.ackers_of(candidate);
    let acks = gate::wanted_acks(cluster);
    out.extend(ahead.iter().map(|name| {
        planned(name, follow(cluster, view, candidate, acks > 0 && wanted.contains(*name)))
    }));
    let able = replicas.iter().copied().chain((!plan.leaves_old).then_some(primary));
    let close = StepKind::CloseForWrites {
        candidate: candidate.clone(),
        ackers: able.filter(|name| wanted.contains(*name)).cloned().collect(),
        acks,
    };
    out.push(planned(primary, close));
    let others = cluster.definition.servers.iter().map(|server| &server.name);
    let others = others.filter(|name| *name != primary && !ahead.contains(name));
    out.extend(others.map(|name| planned(name, StepKind::StopReceiver)));
    out.extend(hooks(cluster, HookEvent::Opened, primary, None, ""));
    out
}

/// The members beside the primary.
fn replicas(cluster: &ClusterState) -> impl Iterator<Item = &ServerName> {
    let is_member = |name: &&ServerName| {
        let member = cluster.members.get(*name);
        member.is_some_and(|it| it.standing == Standing::Member && it.left_out.is_none())
    };
    let names = cluster.definition.servers.iter().map(|server| &server.name);
    names.filter(|name| !cluster.is_primary(name)).filter(is_member)
}

/// Replicas that the primary's commits do not need while it is still open: with the candidate, it
/// keeps as many ackers as a commit waits for.
fn spare<'a>(
    cluster: &ClusterState,
    replicas: &[&'a ServerName],
    candidate: &ServerName,
) -> Vec<&'a ServerName> {
    let Some(regime) = cluster.regime() else { return Vec::new() };
    let kept = u32::from(regime.ackers.contains(candidate));
    let mut needed = regime.acks.saturating_sub(kept);
    let mut out = Vec::new();
    for name in replicas.iter().filter(|name| **name != candidate) {
        match regime.ackers.contains(*name) && needed > 0 {
            true => needed -= 1,
            false => out.push(*name),
        }
    }
    out
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

/// The choice among the frozen servers; `None`: nobody is eligible. `needs_logs`: they alone do not
/// hold all that may have been acknowledged.
pub fn elect(
    cluster: &ClusterState,
    attempt: &Attempt,
    field: &Field,
    needs_logs: bool,
) -> Option<Election> {
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
        ackers: gate::ackers_for(cluster, &candidate, &able(attempt, &recruits), field),
        acks: gate::wanted_acks(cluster),
        ranking: field.ranking.clone(),
        loss: rescue::loss(attempt),
        rescues: rescue::plan(cluster, attempt, &field.target, needs_logs),
        recruits,
        candidate,
    })
}

/// Servers that may acknowledge the candidate's commits: those that were stopped, and the old primary
/// of a switchover.
fn able(attempt: &Attempt, recruits: &BTreeSet<ServerName>) -> BTreeSet<ServerName> {
    let returns = attempt.opening.cause.switchover().is_some_and(|plan| !plan.leaves_old);
    let old = returns.then(|| attempt.old_primary.clone());
    recruits.iter().cloned().chain(old).collect()
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

/// What the frozen servers had received.
pub fn received(attempt: &Attempt) -> BTreeMap<ServerName, GtidSet> {
    let frozen = attempt.frozen().into_iter();
    frozen
        .filter_map(|(name, evidence)| match evidence {
            StepEvidence::Server { received, .. } => Some((name, received.clone())),
            StepEvidence::Host { .. }
            | StepEvidence::Log { .. }
            | StepEvidence::Examined { .. }
            | StepEvidence::Hook { .. } => None,
        })
        .collect()
}

/// Recover: the candidate gets what it lacks and applies all of it; nothing if `executed`, what it
/// had applied when its receiver was stopped, is all there is. What dead servers alone have comes
/// last, as it was written last.
pub fn recover(election: &Election, executed: &GtidSet) -> Vec<Planned> {
    let rescue =
        |rescue: &Rescue| planned(&election.candidate, StepKind::Rescue { rescue: rescue.clone() });
    let rescues = election.rescues.iter().map(rescue);
    let target = election.target.clone();
    if target.is_subset(executed) {
        return rescues.collect();
    }
    let catch_up = election.donor.as_ref().map(|donor| {
        let goal = StepKind::CatchUp { donor: donor.clone(), target: target.clone() };
        planned(&election.candidate, goal)
    });
    let apply = planned(&election.candidate, StepKind::Apply { target: target.clone() });
    catch_up.into_iter().chain([apply]).chain(rescues).collect()
}

/// Promote: ackers behind the candidate, then writes, then the address. Who went behind it before
/// writes ended is there already; the old primary of a switchover comes along.
pub fn promote(cluster: &ClusterState, view: &ClusterView, election: &Election) -> Vec<Planned> {
    let candidate = &election.candidate;
    let attempt = cluster.attempt.as_ref();
    let switched = attempt.filter(|attempt| attempt.opening.cause.switchover().is_some());
    // Its source is closed in a switchover, and may be forgotten once it is open. The steps of one
    // server are begun in the order of their numbers.
    let detach = || planned(candidate, StepKind::Detach);
    let mut out: Vec<Planned> = switched.is_none().then(detach).into_iter().collect();
    let ackers = election.ackers.iter().filter(|name| !is_ahead(attempt, name));
    out.extend(ackers.map(|acker| planned(acker, follow(cluster, view, candidate, true))));
    let old = switched.filter(|attempt| {
        let plan = attempt.opening.cause.switchover();
        plan.is_some_and(|plan| !plan.leaves_old) && !election.ackers.contains(&attempt.old_primary)
    });
    out.extend(
        old.map(|attempt| planned(&attempt.old_primary, follow(cluster, view, candidate, false))),
    );
    out.push(planned(
        candidate,
        StepKind::OpenForWrites {
            acks: election.acks,
            ackers: election.ackers.clone(),
            recruits: election.recruits.clone(),
        },
    ));
    out.extend(switched.map(|_| detach()));
    let can_hold = cluster.definition.server(candidate).is_some_and(|s| s.ssh.is_some());
    if let Some(vip) = cluster.definition.writer.clone().filter(|_| can_hold) {
        // Nobody has fenced the old primary of a switchover: it lets go of the address by itself,
        // once that leads elsewhere. Until then it turns clients away at once.
        let old = switched.map(|attempt| &attempt.old_primary);
        let is_there = |name: &&ServerName| {
            cluster.definition.server(name).is_some_and(|server| server.ssh.is_some())
        };
        let drop = StepKind::DropVips { vips: vec![vip.clone()] };
        out.push(planned(candidate, StepKind::TakeVip { vip }));
        out.extend(old.filter(is_there).map(|name| planned(name, drop)));
    }
    out
}

/// This replica went behind the candidate before writes ended.
fn is_ahead(attempt: Option<&Attempt>, name: &ServerName) -> bool {
    attempt.is_some_and(|attempt| {
        let mut steps = attempt.steps.iter().filter(|step| step.target == *name);
        steps.any(|step| attempt.moves_ahead(&step.goal) && step.met().is_some())
    })
}

/// Repoint: every other member that was frozen. Who waits for readmission goes on waiting.
pub fn repoint(cluster: &ClusterState, view: &ClusterView, election: &Election) -> Vec<Planned> {
    let is_member = |name: &ServerName| {
        let member = cluster.members.get(name);
        member.is_some_and(|member| member.standing == Standing::Member)
    };
    let rest = election.recruits.iter().filter(|name| is_member(name));
    let attempt = cluster.attempt.as_ref();
    let rest = rest.filter(|name| {
        let is_placed = **name == election.candidate || election.ackers.contains(*name);
        !is_placed && !is_ahead(attempt, name)
    });
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
    let old = &attempt.old_primary;
    let regime = cluster.regimes.last();
    let moved = attempt.steps.iter().filter(|step| attempt.moves_ahead(&step.goal));
    let back = moved.filter(|step| step.may_have_acted()).filter_map(|step| {
        let StepKind::Follow { options, .. } = &step.goal else { return None };
        let acker = regime.is_some_and(|regime| regime.ackers.contains(&step.target));
        let (source, options) = (old.clone(), options.clone());
        Some(planned(&step.target, StepKind::Follow { source, acker, options }))
    });
    let acks = regime.map_or(0, |regime| regime.acks);
    let reopen = is_closed(cluster, attempt).then(|| planned(old, StepKind::Reopen { acks }));
    let waits = |regime: &&Regime| regime.acks > 0;
    let wake = regime.filter(waits).map(|regime| planned(&regime.primary, StepKind::Wake));
    let calls = hooks(cluster, HookEvent::Undone, old, None, why);
    reopen.into_iter().chain(resumes).chain(back).chain(wake).chain(calls).collect()
}

/// The primary may have been closed for writes by this attempt, or by the switchover that this one
/// took over when the primary was found dead.
fn is_closed(cluster: &ClusterState, attempt: &Attempt) -> bool {
    let is_superseded = |it: &&Attempt| matches!(it.outcome, Some(Outcome::Superseded { .. }));
    let before = cluster.history.iter().rev().take_while(is_superseded);
    let mut steps = [attempt].into_iter().chain(before).flat_map(|it| &it.steps);
    steps.any(|step| {
        matches!(step.goal, StepKind::CloseForWrites { .. })
            && step.target == attempt.old_primary
            && step.may_have_acted()
    })
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
