//! What is put right outside attempts: returning servers, a restarted primary, misplaced
//! addresses. One chore per server at a time, each a step in the record like any other.

use super::{
    ackers, classify, gate, harden, progress, rejoin, requirement, stage,
    view::{ClusterView, FRESH, Move, View},
};
use crate::{
    model::{
        Applier, ClusterName, Family, Findings, GtidSet, Micros, Mode, Mono, Outcome, Receiver,
        RestartPolicy, Saved, ServerFacts, ServerName, StepKind, StepRecord, Term,
    },
    state::{ClusterState, Command, Member, Planned, Standing},
    step::goal::is_fatal,
};

/// Pause before a failed chore is tried again.
const RETRY: Micros = Micros(3_000_000);

/// A replica that lags more than this is no home for readers.
const READER_LAG_SECONDS: u64 = 30;

/// A server younger than this was restarted: a primary that is read-only, if nobody saw it before;
/// a replica whose threads are off.
const YOUNG_SECONDS: u64 = 600;

/// Moves for a cluster without an open attempt.
pub fn next(view: &View, cluster: &ClusterState, seen: &ClusterView, term: Term) -> Vec<Move> {
    let mut moves = Vec::new();
    match cluster.primary() {
        None => moves.extend(adopt(view, cluster, seen)),
        Some(primary) => {
            moves.extend(identify(view, cluster, seen));
            for server in cluster.definition.servers.iter().map(|server| &server.name) {
                moves.extend(chore(view, cluster, seen, primary, server, term));
            }
        }
    }
    moves
}

/// Exactly one server takes writes and every other one that is reached follows it.
pub fn discover(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
) -> Result<ServerName, String> {
    let mut writable = Vec::new();
    for server in &cluster.definition.servers {
        match seen.facts(&server.name, view.now, FRESH) {
            None => return Err(format!("{} was not reached yet", server.name)),
            Some(facts) if facts.is_writable() && facts.replica.is_none() => {
                writable.push(server);
            }
            Some(_) => {}
        }
    }
    let known = |name| Some((name, &seen.facts(name, view.now, FRESH)?.uuid));
    let names = cluster.definition.servers.iter().map(|server| &server.name);
    let known: Vec<_> = names.filter_map(known).collect();
    for (at, (name, uuid)) in known.iter().enumerate() {
        if let Some((other, _)) = known[..at].iter().find(|(_, other)| other == uuid) {
            return Err(format!("{other} and {name} are one and the same server: {uuid}"));
        }
    }
    of_one_family(view, cluster, seen)?;
    let primary = match &writable[..] {
        [one] => *one,
        [] => return Err("no server takes writes".into()),
        many => {
            let names: Vec<&str> = many.iter().map(|server| server.name.as_str()).collect();
            return Err(format!("several servers take writes: {}", names.join(", ")));
        }
    };
    for server in cluster.definition.servers.iter().filter(|s| s.name != primary.name) {
        let facts = seen.facts(&server.name, view.now, FRESH);
        let source = facts.and_then(|facts| facts.replica.as_ref());
        let source = source.map(|replica| (replica.source_host.as_str(), replica.source_port));
        if source != Some((&*primary.host, primary.port)) {
            let found = source.map_or("nobody".into(), |(host, port)| format!("{host}:{port}"));
            return Err(format!(
                "{} takes writes, but {} follows {found} instead of {}:{}",
                primary.name, server.name, primary.host, primary.port
            ));
        }
    }
    Ok(primary.name.clone())
}

/// All servers that are reached are of one family, and of one that the mode is for.
fn of_one_family(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Result<(), String> {
    let servers = cluster.definition.servers.iter().map(|server| &server.name);
    let mut known = servers.filter_map(|name| Some((name, seen.facts(name, view.now, FRESH)?)));
    let Some((first, facts)) = known.next() else { return Ok(()) };
    let family = facts.family();
    if let Some((other, theirs)) = known.find(|(_, theirs)| theirs.family() != family) {
        let (ours, theirs) = (facts.product(), theirs.product());
        return Err(format!(
            "{first} runs {ours} and {other} {theirs}: servers of one cluster are of one family"
        ));
    }
    match (cluster.definition.mode, family) {
        (Mode::Quorum, Family::MariaDb) => Err(requirement::NO_QUORUM.into()),
        (Mode::Quorum | Mode::Fenced | Mode::BestEffort, _) => Ok(()),
    }
}

fn adopt(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Option<Move> {
    let primary = discover(view, cluster, seen).ok()?;
    let uuids = seen
        .observations
        .iter()
        .filter_map(|(name, look)| Some((name.clone(), look.seen.as_ref().ok()?.uuid.clone())));
    let executed = seen.facts(&primary, view.now, FRESH)?.executed.clone();
    let (cluster, uuids) = (name(cluster), uuids.collect());
    Some(propose(Command::Adopt { cluster, primary, executed, uuids }))
}

fn identify(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Option<Move> {
    let unknown = cluster.members.iter().filter(|(_, member)| member.uuid.is_none());
    // One at a time: of two that are the same server the first is taken for itself.
    let uuids: std::collections::BTreeMap<_, _> = unknown
        .filter_map(|(name, _)| Some((name, seen.facts(name, view.now, FRESH)?)))
        .filter(|(name, facts)| is_itself(cluster, name, facts))
        .map(|(name, facts)| (name.clone(), facts.uuid.clone()))
        .take(1)
        .collect();
    (!uuids.is_empty()).then(|| propose(Command::Identify { cluster: name(cluster), uuids }))
}

/// The chore that one server needs, planned or run.
fn chore(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    server: &ServerName,
    term: Term,
) -> Option<Move> {
    let present = cluster.chores.get(server);
    let Some(wanted) = wanted(view, cluster, seen, primary, server) else {
        // What a person asked for comes last, and is not tried for ever.
        let asked = present.filter(|step| harden::is_asked_for(&step.goal));
        let asked = asked.filter(|step| step.runs.len() < harden::RUNS);
        return asked.and_then(|step| progress::order(view, cluster, seen, step, term, RETRY));
    };
    match (present, wanted) {
        (_, Wanted::Quarantine(errant)) => Some(propose(Command::Quarantine {
            cluster: name(cluster),
            epoch: cluster.epoch,
            server: server.clone(),
            errant,
        })),
        (Some(step), Wanted::Step(goal)) if step.goal == goal => {
            let again = progress::order(view, cluster, seen, step, term, RETRY);
            let is_overtaken = again.is_some() && is_overtaken(cluster, step);
            if is_overtaken { Some(plan(cluster, server, goal)) } else { again }
        }
        (Some(step), Wanted::Step(_)) if seen.running.contains_key(&step.id) => None,
        (_, Wanted::Step(goal)) => Some(plan(cluster, server, goal)),
    }
}

fn plan(cluster: &ClusterState, server: &ServerName, goal: StepKind) -> Move {
    let planned = Planned { target: server.clone(), goal };
    propose(Command::PlanChore { cluster: name(cluster), epoch: cluster.epoch, planned })
}

/// It failed, and steps were numbered after it, one of which may have come by at its host, to drop an
/// address there: what has a lower number is refused from then on (SAFETY invariant 6).
fn is_overtaken(cluster: &ClusterState, step: &StepRecord) -> bool {
    step.goal.is_remote() && step.has_failed() && cluster.next_seq > step.id.seq + 1
}

enum Wanted {
    Step(StepKind),
    Quarantine(GtidSet),
}

fn wanted(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    server: &ServerName,
) -> Option<Wanted> {
    let Some(facts) = seen.facts(server, view.now, FRESH) else {
        return start(cluster, server);
    };
    let looked = seen.observations.get(server)?.at;
    let is_ending = seen.running.keys().any(|step| cluster.step(*step).is_none());
    if is_ending || seen.ended.values().any(|ended| looked < *ended) {
        return None; // a step may have changed what the look saw
    }
    let member = cluster.members.get(server)?;
    if !is_itself(cluster, server, facts) {
        return None; // another server behind this address: a person must look
    }
    if server == primary {
        let goal = primary_goal(view, cluster, seen, facts);
        let goal = goal.or_else(|| reader_goal(view, cluster, seen, server));
        return goal.map(Wanted::Step);
    }
    // Begun and not ended, its server may be cut off from its clients: it is ended first.
    let is_half_harmless = cluster.chores.get(server).is_some_and(|chore| {
        chore.goal == StepKind::MakeReadOnly && !chore.runs.is_empty() && facts.offline
    });
    if facts.is_writable() || is_half_harmless {
        return Some(Wanted::Step(StepKind::MakeReadOnly));
    }
    if member.left_out.is_some() {
        return leave(view, cluster, seen, primary, (server, facts)).map(Wanted::Step);
    }
    match &member.standing {
        Standing::Member => {
            let astray = stray(view, cluster, seen, primary, (server, facts));
            let goal = || {
                let locked = ackers::let_in(view, cluster, seen, server, facts);
                locked.or_else(|| reader_goal(view, cluster, seen, server)).map(Wanted::Step)
            };
            astray.or_else(goal)
        }
        Standing::Quarantined { errant, findings, saved } => {
            let may = former(view, cluster, seen, primary, (server, facts), true)?;
            let copy = saved.as_ref();
            let rebuild = || rebuild(view, cluster, seen, server);
            quarantined(cluster, server, (errant, findings.as_ref(), copy), may)
                .or_else(|| rebuild().map(Wanted::Step))
        }
        Standing::Former { vips_dropped } => {
            former(view, cluster, seen, primary, (server, facts), *vips_dropped)
        }
    }
}

/// A member that does not replicate as it should: after its restart, which leaves it without
/// threads, after an undone attempt, or because the definition changed. Pausing the cluster keeps
/// it as it is.
fn stray(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    (server, facts): (&ServerName, &ServerFacts),
) -> Option<Wanted> {
    let source = cluster.definition.server(primary)?;
    let is_astray = match &facts.replica {
        None => true,
        Some(replica) => {
            let is_behind_it =
                (&*replica.source_host, replica.source_port) == (&*source.host, source.port);
            let is_broken = matches!(replica.applier, Applier::Broken { .. })
                || replica.receiver_error.as_ref().is_some_and(|(code, _)| is_fatal(*code));
            if is_behind_it && is_broken {
                return None; // a person must look
            }
            let is_stopped = replica.receiver == Receiver::Off || replica.applier != Applier::On;
            if is_stopped && is_behind_it && !may_be_ours(cluster, server, facts) {
                return None; // somebody stopped it on purpose
            }
            let is_running = !is_stopped;
            let flag = facts.semi_sync.as_ref().map(|semi_sync| semi_sync.replica_enabled);
            let is_acker = is_acker(view, cluster, seen, primary, server);
            let is_logged = cluster.regime().is_some_and(|r| r.ackers.contains(server));
            let is_flagged = cluster.definition.mode != Mode::Quorum
                || flag.is_none_or(|on| on == is_acker)
                    && is_logged == is_acker
                    && !ackers::is_flagged_in_vain(view, seen, (server, facts), is_acker);
            let is_shut_out = ackers::is_shut_out(view, cluster, seen, primary, (server, facts));
            !(is_behind_it && is_running && is_flagged) || is_shut_out
        }
    };
    let may = cluster.definition.policy.rejoin && cluster.pause.is_none() && seen.doubt.is_none();
    match is_astray && may {
        true => follow_or_quarantine(view, cluster, seen, primary, (server, facts)),
        false => None,
    }
}

/// A server that its operator works on: it acknowledges no more, as long as the others are enough,
/// and readers are sent elsewhere. Whatever else it lacks waits until it is wanted back.
fn leave(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    (server, facts): (&ServerName, &ServerFacts),
) -> Option<StepKind> {
    let source = cluster.definition.server(primary)?;
    let is_behind_it = facts.replica.as_ref().is_some_and(|replica| {
        replica.receiver == Receiver::On
            && (&*replica.source_host, replica.source_port) == (&*source.host, source.port)
    });
    let acknowledges = facts.semi_sync.as_ref().is_some_and(|it| it.replica_enabled);
    let is_logged = cluster.regime().is_some_and(|regime| regime.ackers.contains(server));
    let is_acker = is_acker(view, cluster, seen, primary, server);
    if is_behind_it && !is_acker && (acknowledges || is_logged) {
        return Some(stage::follow(cluster, seen, primary, false));
    }
    reader_goal(view, cluster, seen, server)
}

/// Whether threads that are off may be off because of a restart, because of an attempt of ours that
/// could not put everything back, or because of a step whose leader was lost in the middle; otherwise a
/// person stopped them.
fn may_be_ours(cluster: &ClusterState, server: &ServerName, facts: &ServerFacts) -> bool {
    let last = cluster.history.back().and_then(|attempt| attempt.outcome.as_ref());
    let is_unfinished =
        matches!(last, Some(Outcome::Aborted { unfinished, .. }) if !unfinished.is_empty());
    let chore = cluster.chores.get(server).filter(|chore| !chore.runs.is_empty());
    let is_half_done = chore.is_some_and(|chore| matches!(chore.goal, StepKind::Follow { .. }));
    facts.uptime_seconds < YOUNG_SECONDS || is_unfinished || is_half_done
}

/// Whether this server is to acknowledge the primary's commits: by the definition, or because it
/// does now and without it the others that do would be too few.
fn is_acker(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    server: &ServerName,
) -> bool {
    let wanted = cluster.definition.ackers_of(primary);
    let acknowledges = |name: &&ServerName| ackers::acknowledges(view, cluster, seen, name);
    let is_needed = || {
        cluster.regime().is_some_and(|regime| {
            let others = wanted.intersection(&regime.ackers).filter(acknowledges);
            regime.ackers.contains(server) && others.count() < regime.acks as usize
        })
    };
    let is_in = cluster.members.get(server).is_some_and(|member| member.left_out.is_none());
    cluster.definition.mode == Mode::Quorum && (is_in && wanted.contains(server) || is_needed())
}

/// Behind the primary, unless it has transactions that the primary lacks.
fn follow_or_quarantine(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    (server, facts): (&ServerName, &ServerFacts),
) -> Option<Wanted> {
    let theirs = seen.facts(primary, view.now, FRESH)?;
    // Put back to an older copy, it would never get what it has numbered itself: a server skips
    // what it finds to be its own. A person must make it anew.
    let own = theirs.executed.of_origins(&[&facts.uuid]);
    if !own.is_subset(&facts.received()) {
        return None;
    }
    let errant = errant(theirs, facts);
    Some(match errant.is_empty() {
        false => Wanted::Quarantine(errant),
        true => {
            let is_acker = is_acker(view, cluster, seen, primary, server);
            Wanted::Step(stage::follow(cluster, seen, primary, is_acker))
        }
    })
}

/// A former primary, read-only by now: its addresses gone, then a replica if it is clean.
fn former(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    (server, facts): (&ServerName, &ServerFacts),
    vips_dropped: bool,
) -> Option<Wanted> {
    let has_ssh = cluster.definition.server(server).is_some_and(|s| s.ssh.is_some());
    // Tried once; what cannot be dropped does not keep the server out.
    let was_tried = cluster
        .chores
        .get(server)
        .is_some_and(|chore| matches!(chore.goal, StepKind::Follow { .. }) || chore.has_failed());
    if !vips_dropped && has_ssh && !cluster.vips().is_empty() && !was_tried {
        return Some(Wanted::Step(StepKind::DropVips { vips: cluster.vips() }));
    }
    // One that restarted may wait for this very server to acknowledge before it is opened again.
    let is_open = cluster.regime().is_some_and(|regime| regime.is_open);
    seen.facts(primary, view.now, FRESH)
        .filter(|facts| facts.is_writable() || is_open && !has_lost(view, cluster, seen, facts))?;
    let wanted = follow_or_quarantine(view, cluster, seen, primary, (server, facts))?;
    let is_wanted = cluster.members.get(server).is_some_and(|member| member.rejoin.is_some());
    match (&wanted, cluster.definition.policy.rejoin || is_wanted) {
        (Wanted::Quarantine(_), _) | (Wanted::Step(_), true) => Some(wanted),
        (Wanted::Step(_), false) => None,
    }
}

/// An operator has agreed to what is discarded, and it is saved.
fn rebuild(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerName,
) -> Option<StepKind> {
    let wish = cluster.members.get(server)?.rejoin.as_ref()?;
    if !rejoin::holders(view, cluster, seen, server, &wish.extra).is_empty() {
        return None;
    }
    let donor = rejoin::donor(view, cluster, seen, server)?;
    Some(StepKind::Rebuild { donor, extra: wish.extra.clone() })
}

fn is_being_rebuilt(cluster: &ClusterState, server: &ServerName) -> bool {
    cluster.members.get(server).is_some_and(|member| member.rejoin.is_some())
}

/// A server that stopped itself to be rebuilt, and that nothing has started again.
fn start(cluster: &ClusterState, server: &ServerName) -> Option<Wanted> {
    let defined = cluster.definition.server(server)?;
    cluster.members.get(server)?.rejoin.as_ref()?;
    let chore = cluster.chores.get(server)?;
    let is_down = match &chore.goal {
        StepKind::Rebuild { .. } => chore.has_failed(),
        other => *other == StepKind::StartServer,
    };
    (is_down && defined.ssh.is_some() && defined.service.is_some())
        .then_some(Wanted::Step(StepKind::StartServer))
}

/// A quarantined server: back in if it is clean by now (rebuilt, or its transactions have found
/// their way into the primary); what it has is judged, then copied to files.
fn quarantined(
    cluster: &ClusterState,
    server: &ServerName,
    (known, findings, saved): (&GtidSet, Option<&Findings>, Option<&Saved>),
    may: Wanted,
) -> Option<Wanted> {
    let has_ssh = cluster.definition.server(server).is_some_and(|s| s.ssh.is_some());
    match (may, findings) {
        // Rebuilt, its donor's source has to be forgotten first.
        (Wanted::Step(_), Some(_)) if is_being_rebuilt(cluster, server) => None,
        (Wanted::Step(goal), _) => Some(Wanted::Step(goal)),
        (Wanted::Quarantine(errant), _) if !errant.is_subset(known) => {
            Some(Wanted::Quarantine(errant))
        }
        (Wanted::Quarantine(_), Some(found)) if saved.is_none() && has_ssh => {
            let (extra, files) = (known.clone(), found.files.clone());
            Some(Wanted::Step(StepKind::SaveExtra { extra, files }))
        }
        (Wanted::Quarantine(_), Some(_)) => None,
        (Wanted::Quarantine(_), None) => {
            let suspicion = classify::by_record(cluster, server, known);
            Some(Wanted::Step(StepKind::Examine { extra: known.clone(), suspicion }))
        }
    }
}

/// What a server has and its primary lacks. The two looks are of different moments: what the primary
/// itself wrote in between is not errant.
pub fn errant(primary: &ServerFacts, server: &ServerFacts) -> GtidSet {
    let extra = server.received().minus(&primary.executed);
    extra.minus(&extra.of_origins(&[&primary.uuid]))
}

/// What the primary itself needs.
fn primary_goal(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    facts: &ServerFacts,
) -> Option<StepKind> {
    let regime = cluster.regime()?;
    let is_to_be_opened = match regime.is_open {
        true => is_restarted(facts, seen.seen_writable, view.now),
        // Its promotion was not completed.
        false => facts.read_only && !facts.offline && !facts.replica_is_running(),
    };
    // One that is to be replaced and cannot be is better opened again than left read-only.
    let is_to_be_kept = || match cluster.definition.policy.primary_restarted {
        RestartPolicy::Reopen => true,
        RestartPolicy::Failover => {
            gate::without_keys(view, cluster, seen).iter().any(|refusal| !refusal.is_passing())
        }
    };
    let is_to_be_opened = is_to_be_opened && !has_lost(view, cluster, seen, facts);
    if is_left_closed(cluster, seen) && !facts.is_writable() && !facts.replica_is_running() {
        return Some(StepKind::Reopen { acks: regime.acks });
    }
    if is_to_be_opened && (!regime.is_open || is_to_be_kept()) && cluster.pause.is_none() {
        // It waits for ackers, and one that asks for it may have been locked out before.
        let acks = regime.acks.min(ackers::wanted(view, cluster, seen));
        let is_short = ackers::present(view, cluster, seen) < acks as usize;
        let locked = ackers::let_in(view, cluster, seen, &regime.primary, facts);
        if let Some(goal) = locked.filter(|_| is_short) {
            return Some(goal);
        }
        return Some(StepKind::OpenForWrites {
            acks,
            ackers: regime.ackers.clone(),
            recruits: Default::default(),
        });
    }
    if let Some(goal) = ackers::goal(view, cluster, seen, facts).filter(|_| facts.is_writable()) {
        return Some(goal);
    }
    // A primary in doubt may be dying: its address is a matter of the failover then.
    let vip = cluster.definition.writer.as_ref().filter(|_| seen.doubt.is_none())?;
    let uuid = cluster.members.get(&regime.primary)?.uuid.as_ref();
    let has_ssh = cluster.definition.server(&regime.primary).is_some_and(|s| s.ssh.is_some());
    let is_elsewhere = seen.vips.get(&vip.address).is_some_and(|at| at.as_ref().ok() != uuid);
    (facts.is_writable() && is_elsewhere && has_ssh).then(|| StepKind::TakeVip { vip: vip.clone() })
}

/// An undone switchover could not open the primary again, and it was not seen open since.
fn is_left_closed(cluster: &ClusterState, seen: &ClusterView) -> bool {
    let last = cluster.history.back().filter(|attempt| {
        matches!(attempt.outcome, Some(Outcome::Aborted { .. }))
            && Some(&attempt.old_primary) == cluster.primary()
    });
    let mut steps = last.into_iter().flat_map(|attempt| &attempt.steps);
    let is_unmet = |goal: &StepKind| matches!(goal, StepKind::Reopen { .. });
    steps.any(|step| is_unmet(&step.goal) && step.met().is_none())
        && seen.seen_writable.is_none_or(|at| seen.aborted_at.is_some_and(|undone| at < undone))
}

/// A primary that takes no writes lacks what a reached server has from it, or what it had itself when
/// it was established: its disk lost it, or it was put back to an older copy. Opened, it would
/// number new transactions like those that it lost.
pub fn has_lost(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    facts: &ServerFacts,
) -> bool {
    let base = cluster.regime().map(|regime| &regime.base);
    base.is_some_and(|base| !base.is_subset(&facts.executed))
        || has_lost_its_own(view, cluster, seen, facts)
}

/// A server lacks transactions that it numbered itself and a reached server has. It takes none with
/// its own server id from others.
/// **Source:** MySQL manual, option `replicate-same-server-id`.
pub fn has_lost_its_own(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    facts: &ServerFacts,
) -> bool {
    let others = cluster.definition.servers.iter().map(|server| &server.name);
    let others = others.filter_map(|name| seen.facts(name, view.now, FRESH));
    let mut theirs = others.map(|other| other.received().of_origins(&[&facts.uuid]));
    theirs.any(|set| !set.is_subset(&facts.executed))
}

/// What a server owes the readers' addresses: each stands on a healthy replica, or on the primary
/// where there is none. It stays where it is as long as that is right.
fn reader_goal(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerName,
) -> Option<StepKind> {
    cluster.definition.server(server)?.ssh.as_ref()?;
    let homes = reader_homes(view, cluster, seen);
    let uuid = known_uuid(cluster, server)?;
    for (number, vip) in cluster.definition.readers.iter().enumerate() {
        let home = homes.get(number % homes.len().max(1));
        match seen.vips.get(&vip.address) {
            Some(Ok(at)) if at == uuid && !homes.contains(&server) && !homes.is_empty() => {
                return Some(StepKind::DropVips { vips: vec![vip.clone()] });
            }
            Some(Err(_)) if home == Some(&server) => {
                return Some(StepKind::TakeVip { vip: vip.clone() });
            }
            Some(Ok(_) | Err(_)) | None => {}
        }
    }
    None
}

/// Servers that readers may be sent to, in the definition's order.
pub fn reader_homes<'a>(
    view: &View,
    cluster: &'a ClusterState,
    seen: &ClusterView,
) -> Vec<&'a ServerName> {
    let names = || cluster.definition.servers.iter().map(|server| &server.name);
    let is_member = |name: &&ServerName| {
        let member = cluster.members.get(*name);
        member.is_some_and(|it| it.standing == Standing::Member && it.left_out.is_none())
    };
    let replicates = |name: &&ServerName| {
        let replica = seen.facts(name, view.now, FRESH).and_then(|facts| facts.replica.as_ref());
        replica.is_some_and(|replica| {
            replica.receiver == Receiver::On
                && replica.applier == Applier::On
                && replica.lag_seconds.is_some_and(|lag| lag <= READER_LAG_SECONDS)
        })
    };
    let primary = cluster.primary();
    let replicas = names().filter(|name| Some(*name) != primary);
    let healthy: Vec<_> = replicas.filter(is_member).filter(replicates).collect();
    if !healthy.is_empty() {
        return healthy;
    }
    let is_open = |name: &&ServerName| {
        seen.facts(name, view.now, FRESH).is_some_and(ServerFacts::is_writable)
    };
    names().filter(|name| Some(*name) == primary).filter(is_open).collect()
}

/// A primary found read-only that nobody made so: it restarted after it was last seen writable, or
/// it is so young that it restarted in any case.
pub fn is_restarted(facts: &ServerFacts, seen_writable: Option<Mono>, now: Mono) -> bool {
    if facts.is_writable() || facts.offline || facts.replica_is_running() {
        return false;
    }
    match seen_writable {
        Some(at) => facts.uptime_seconds <= now.since(at).0 / 1_000_000 + 1,
        None => facts.uptime_seconds < YOUNG_SECONDS,
    }
}

impl ServerFacts {
    /// It replicates from somebody right now.
    pub fn replica_is_running(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.receiver != Receiver::Off)
    }
}

fn name(cluster: &ClusterState) -> ClusterName {
    cluster.definition.name.clone()
}

fn propose(command: Command) -> Move {
    Move::Propose { command: Box::new(command) }
}

/// Whether what was found is the server that was first seen under this name; as long as none was,
/// whether it is no other member.
pub fn is_itself(cluster: &ClusterState, server: &ServerName, found: &ServerFacts) -> bool {
    match known_uuid(cluster, server) {
        Some(known) => known == found.uuid,
        None => namesake(cluster, server, &found.uuid).is_none(),
    }
}

/// Another member with that identity.
pub fn namesake<'a>(
    cluster: &'a ClusterState,
    server: &ServerName,
    uuid: &str,
) -> Option<&'a ServerName> {
    let mut others = cluster.members.keys().filter(|other| *other != server);
    others.find(|other| known_uuid(cluster, other) == Some(uuid))
}

/// The identity that a member was first seen with.
pub fn known_uuid<'a>(cluster: &'a ClusterState, server: &ServerName) -> Option<&'a str> {
    cluster.members.get(server).and_then(|member: &Member| member.uuid.as_deref())
}
