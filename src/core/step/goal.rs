//! The next act towards a step's goal, from what the server says now. Pure.
//!
//! Steps are goals (SAFETY invariant 10): the same look that ends a step tells whether it had to
//! be begun. A step repeated by a new leader finds where the old one stopped by looking.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    decide::{LastWrites, StepOrder, upkeep},
    model::{
        Applier, Family, GtidSet, LinkOptions, Micros, Receiver, ReplicaFacts, Rescue, ServerFacts,
        ServerName, Setting, StepKind,
    },
    ports::{Place, SqlAction},
};

/// What to do after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The goal is met.
    Met,
    /// Act, then look again.
    Act(SqlAction),
    /// Bring what is to be rescued from the dead server's host, have it applied, then look again.
    Carry(Box<Rescue>),
    /// The server is on its way; look again.
    Wait,
    /// It is as good as there; look again, but not for long: nothing that moves on it means that it
    /// is still on its way.
    Settle,
    /// The goal cannot be met by acting here.
    Impossible(String),
}

/// Servers that must be looked at, too, before this goal can be judged.
pub fn witnesses(order: &StepOrder) -> Vec<ServerName> {
    match &order.record.goal {
        StepKind::Level { source } => vec![source.clone()],
        StepKind::CloseForWrites { candidate, ackers, .. } => {
            let here = &order.place.server.name;
            let others = ackers.iter().filter(|name| *name != candidate && *name != here);
            others.chain([candidate]).cloned().collect()
        }
        StepKind::OpenForWrites { ackers, recruits, .. } => {
            ackers.union(recruits).cloned().collect()
        }
        StepKind::Follow { source, .. } => {
            let primary = order.primary.iter().filter(|primary| *primary != source);
            primary.chain([source]).cloned().collect()
        }
        StepKind::Arm { ackers, .. } => ackers.iter().cloned().collect(),
        StepKind::CutClients
        | StepKind::Reopen { .. }
        | StepKind::StopReceiver
        | StepKind::Fence { .. }
        | StepKind::CatchUp { .. }
        | StepKind::Apply { .. }
        | StepKind::ReadLog
        | StepKind::Rescue { .. }
        | StepKind::Detach
        | StepKind::TakeVip { .. }
        | StepKind::DropVips { .. }
        | StepKind::ResumeReceiver
        | StepKind::Wake
        | StepKind::MakeReadOnly
        | StepKind::Examine { .. }
        | StepKind::SaveExtra { .. }
        | StepKind::Rebuild { .. }
        | StepKind::StartServer
        | StepKind::LockOut { .. }
        | StepKind::LetIn { .. }
        | StepKind::Harden { .. }
        | StepKind::Hook { .. } => Vec::new(),
    }
}

/// Whether the witnesses must be looked at after the server itself: what it has and its source lacks
/// in a later look is errant; and who acknowledges to it must do so now, however long it took to
/// answer.
pub fn are_witnesses_later(goal: &StepKind) -> bool {
    matches!(goal, StepKind::Follow { .. } | StepKind::OpenForWrites { .. } | StepKind::Arm { .. })
}

/// How far a run of a step has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// What was done so far.
    pub acts: usize,
    /// Since the last of these, or since it began.
    pub waited: Micros,
    /// What the closed primary has executed, and for how long that has been known, if
    /// [`StepOrder::last_writes`] are waited for.
    pub closed_with: Option<(GtidSet, Micros)>,
}

/// The next act. `seen` holds the witnesses that answered.
pub fn next(
    order: &StepOrder,
    facts: &ServerFacts,
    seen: &BTreeMap<ServerName, ServerFacts>,
    run: &Run,
) -> Next {
    let acts = run.acts;
    match &order.record.goal {
        StepKind::Level { source } => level(facts, seen.get(source)),
        StepKind::CloseForWrites { candidate, ackers, acks } => {
            close_for_writes(order, facts, seen, (candidate, ackers, *acks), run.waited)
        }
        StepKind::CutClients => cut_clients(facts),
        StepKind::Reopen { acks } => reopen(facts, *acks),
        StepKind::StopReceiver => stop_receiver(order, facts, run),
        StepKind::CatchUp { donor, target } => catch_up(order, facts, donor, target),
        StepKind::Apply { target } => apply(facts, target),
        StepKind::Rescue { rescue: wanted } => rescue(facts, wanted, acts),
        StepKind::Detach => detach(facts),
        StepKind::Follow { source, acker, options } => {
            follow(order, facts, seen, (source, *acker, options), acts)
        }
        StepKind::OpenForWrites { acks, .. } => open_for_writes(order, facts, seen, *acks),
        StepKind::ResumeReceiver => resume(order, facts),
        StepKind::Wake => wake(order, facts, acts),
        StepKind::MakeReadOnly => harmless(facts).map_or(Next::Met, Next::Act),
        StepKind::Arm { acks, ackers, by: _ } => arm(order, facts, seen, (*acks, ackers), acts),
        StepKind::LockOut { account, .. } => lock_out(order, facts, account, acts),
        StepKind::LetIn { account, .. } => let_in(facts, account),
        StepKind::Harden { settings, .. } => harden(facts, settings),
        StepKind::Fence { .. }
        | StepKind::TakeVip { .. }
        | StepKind::DropVips { .. }
        | StepKind::SaveExtra { .. }
        | StepKind::StartServer => {
            Next::Impossible("it acts on the host, not on the server".into())
        }
        StepKind::Examine { .. } | StepKind::ReadLog => Next::Impossible("it only looks".into()),
        StepKind::Rebuild { donor, extra } => rebuild(order, facts, donor, extra),
        StepKind::Hook { .. } => Next::Impossible("it is a script's, not the server's".into()),
    }
}

/// What comes right after an act that was carried out, without another look, as clients wait for it.
pub fn then(order: &StepOrder, facts: &ServerFacts, done: &SqlAction) -> Option<SqlAction> {
    let opens =
        matches!(order.record.goal, StepKind::OpenForWrites { .. } | StepKind::Reopen { .. });
    let is_armed = matches!(done, SqlAction::SetSemiSyncSource { on: true, .. });
    let is_shut = facts.read_only || facts.super_read_only;
    (opens && is_armed && is_shut).then_some(SqlAction::SetWritable)
}

/// The primary goes on writing, and its look is the later one: a difference that is applied within
/// milliseconds is as level as it gets.
const LEVEL: u64 = 200;

/// What is applied or received in the time that ending writes takes in any case; and what is put up
/// with where that does not come about for `PICKY`.
const NEAR: u64 = 8;
const NEAR_ENOUGH: u64 = 100;
const PICKY: Micros = Micros(700_000);

/// How long statements under way may hold up the end of writes: whoever wants to write waits behind
/// them.
const DRAIN: Micros = Micros(100_000);

fn level(facts: &ServerFacts, theirs: Option<&ServerFacts>) -> Next {
    match &facts.replica {
        Some(replica) if replica.receiver != Receiver::Off && replica.applier == Applier::On => {}
        Some(_) | None => return Next::Impossible("it does not replicate".into()),
    }
    let lacks = theirs.map(|theirs| theirs.executed.minus(&facts.executed).count());
    match lacks.is_some_and(|lacks| lacks <= LEVEL) {
        true => Next::Met,
        false => Next::Wait,
    }
}

/// With `super_read_only` read back as on, what is executed in the same look is final.
fn close_for_writes(
    order: &StepOrder,
    facts: &ServerFacts,
    seen: &BTreeMap<ServerName, ServerFacts>,
    (candidate, ackers, acks): (&ServerName, &BTreeSet<ServerName>, u32),
    waited: Micros,
) -> Next {
    let here = &order.place.server.name;
    let lacks = |of: &GtidSet| facts.executed.minus(of).count();
    if !facts.super_read_only {
        // Whoever acknowledges next has to catch up before it can: that is done while writes go on.
        let near = if waited < PICKY { NEAR } else { NEAR_ENOUGH };
        let is_near = |it: &ServerFacts| lacks(&it.received()) <= near;
        let others = ackers.iter().filter(|name| *name != here && *name != candidate);
        let ready = others.clone().filter(|name| seen.get(*name).is_some_and(is_near)).count();
        let is_level = seen.get(candidate).is_some_and(|it| lacks(&it.executed) <= near);
        return match is_level && ready >= (acks as usize).min(others.count()) {
            true => Next::Act(SqlAction::CloseForWrites { drain: DRAIN }),
            false => Next::Wait,
        };
    }
    let is_level = seen.get(candidate).is_some_and(|it| facts.executed.is_subset(&it.executed));
    let holds = |name: &&ServerName| {
        let has = |it: &ServerFacts| facts.executed.is_subset(&it.received());
        *name == here || seen.get(*name).is_some_and(has)
    };
    match is_level && ackers.iter().filter(holds).count() >= acks as usize {
        true => Next::Met,
        false => Next::Wait,
    }
}

/// How long a receiver may go on waiting for the last writes of a primary that is closed: one that lags
/// far behind is not needed for them, but must not read on. The candidate's waits as long as it takes.
const LAST_WRITES: Micros = Micros(2_000_000);

/// That ends the replicas' connections, too [ran]: they are of no use any more by then.
fn cut_clients(facts: &ServerFacts) -> Next {
    match (facts.super_read_only, facts.offline) {
        (false, _) => Next::Impossible("it takes writes".into()),
        (true, true) => Next::Met,
        (true, false) => Next::Act(SqlAction::CutClients),
    }
}

/// Nobody is waited for: an acker that is missing is a matter of the policies for that.
fn reopen(facts: &ServerFacts, acks: u32) -> Next {
    let semi_sync = facts.semi_sync.as_ref();
    if acks > 0 && !semi_sync.is_some_and(|it| it.is_armed(acks)) {
        return match semi_sync {
            Some(_) => Next::Act(SqlAction::SetSemiSyncSource { on: true, acks }),
            None => Next::Impossible("the semi-sync plugins are not there".into()),
        };
    }
    match (facts.read_only || facts.super_read_only, facts.offline) {
        (true, _) => Next::Act(SqlAction::SetWritable),
        (false, true) => Next::Act(SqlAction::SetOffline { on: false }),
        (false, false) => Next::Met,
    }
}

/// Of a closed primary what it has is all there will be, and that comes in first.
///
/// MariaDB throws a relay log away when replication is started after both threads had stopped: its
/// applier runs before its receiver is stopped. And there a killed start of a receiver may take effect
/// late, but not after another stop (SAFETY section 7): one is always made.
fn stop_receiver(order: &StepOrder, facts: &ServerFacts, run: &Run) -> Next {
    let applier = facts.replica.as_ref().map(|replica| &replica.applier);
    match (facts.family(), facts.is_receiver_off(), applier) {
        (Family::MariaDb, false, Some(Applier::Off)) if run.acts == 0 => {
            return Next::Act(SqlAction::StartApplier);
        }
        (Family::MariaDb, true, Some(_)) if run.acts == 0 => {
            return Next::Act(SqlAction::StopReceiver);
        }
        (Family::Mysql | Family::MariaDb, true, _) => return Next::Met,
        (Family::Mysql | Family::MariaDb, false, _) => {}
    }
    let is_in = |last: &LastWrites| {
        let mine = if last.executed { facts.executed.clone() } else { facts.received() };
        let is_vain = |since: Micros| !last.executed && since >= LAST_WRITES;
        let closed_with = run.closed_with.as_ref();
        closed_with.is_some_and(|(all, since)| all.is_subset(&mine) || is_vain(*since))
    };
    match order.last_writes.as_ref().is_none_or(is_in) {
        true => Next::Act(SqlAction::StopReceiver),
        false => Next::Wait,
    }
}

fn catch_up(order: &StepOrder, facts: &ServerFacts, donor: &ServerName, target: &GtidSet) -> Next {
    if target.is_subset(&facts.received()) {
        return match facts.is_receiver_off() {
            true => Next::Met,
            false => Next::Act(SqlAction::StopReceiver),
        };
    }
    match aim(order, facts, donor, None) {
        Some(next) => next,
        None => match facts.replica.as_ref().map(|replica| &replica.receiver) {
            Some(Receiver::On | Receiver::Connecting) => Next::Wait,
            Some(Receiver::Off) | None => Next::Act(SqlAction::StartReplica),
        },
    }
}

/// Towards having `source` as source; `None`: it has. What was received is applied before the
/// source is changed, because changing it throws unapplied events away.
fn aim(
    order: &StepOrder,
    facts: &ServerFacts,
    source: &ServerName,
    options: Option<&LinkOptions>,
) -> Option<Next> {
    let Some(place) = order.others.get(source) else {
        return Some(Next::Impossible(format!("server {source} is not defined")));
    };
    let address = (place.server.host.as_str(), place.server.port);
    let change = |options: Option<&LinkOptions>| {
        Next::Act(SqlAction::ChangeSource {
            host: place.server.host.clone(),
            port: place.server.port,
            account: order.place.server.replication_account.clone(),
            options: options.cloned(),
        })
    };
    let Some(replica) = &facts.replica else { return Some(change(options)) };
    if (replica.source_host.as_str(), replica.source_port) == address && replica.auto_position {
        return None;
    }
    if replica.receiver != Receiver::Off {
        return Some(Next::Act(SqlAction::StopReceiver));
    }
    if !replica.retrieved.is_subset(&facts.executed) {
        return Some(applying(replica));
    }
    Some(match replica.applier {
        Applier::On => Next::Act(SqlAction::StopApplier),
        Applier::Off | Applier::Broken { .. } => change(None),
    })
}

/// Clients are cut and `read_only` stays on all the time. The server's own stop ends the run that
/// cloned; the next run finds the copy, which brings its donor's source along.
fn rebuild(order: &StepOrder, facts: &ServerFacts, donor: &ServerName, extra: &GtidSet) -> Next {
    if facts.executed.common(extra).is_empty() {
        return match (facts.super_read_only, facts.offline, &facts.replica) {
            (false, _, _) => Next::Act(SqlAction::SetReadOnly),
            (true, true, _) => Next::Act(SqlAction::SetOffline { on: false }),
            (true, false, Some(replica)) if is_stopped(replica) => {
                Next::Act(SqlAction::ForgetSource)
            }
            (true, false, Some(_)) => Next::Act(SqlAction::StopReplica),
            (true, false, None) => Next::Met,
        };
    }
    let Some(place) = order.others.get(donor) else {
        return Next::Impossible(format!("server {donor} is not defined"));
    };
    if !facts.read_only {
        return Next::Impossible("it takes writes".into());
    }
    if facts.replica_is_running() {
        return Next::Act(SqlAction::StopReplica);
    }
    match (facts.offline, facts.super_read_only) {
        (false, _) => Next::Act(SqlAction::SetOffline { on: true }),
        (true, true) => Next::Act(SqlAction::AllowRebuild),
        (true, false) => Next::Act(SqlAction::Clone {
            host: place.server.host.clone(),
            port: place.server.port,
            account: place.admin_account.clone(),
        }),
    }
}

fn is_stopped(replica: &ReplicaFacts) -> bool {
    replica.receiver == Receiver::Off && replica.applier != Applier::On
}

/// Waiting for the applier, or starting it.
fn applying(replica: &ReplicaFacts) -> Next {
    match &replica.applier {
        Applier::On => Next::Wait,
        Applier::Off => Next::Act(SqlAction::StartApplier),
        Applier::Broken { code, text } => {
            Next::Impossible(format!("its applier stopped with error {code}: {text}"))
        }
    }
}

/// Only from the primary in force: one that reads from a server which is revoked for good, or from
/// a donor, is left as it is until it is repointed.
fn resume(order: &StepOrder, facts: &ServerFacts) -> Next {
    if let Some(next) = unrescue(facts) {
        return next;
    }
    let primary = order.primary.as_ref().and_then(|name| order.others.get(name));
    let is_of = |replica: &ReplicaFacts, place: &Place| {
        (&*place.server.host, place.server.port) == (&*replica.source_host, replica.source_port)
    };
    match (&facts.replica, primary) {
        (Some(replica), Some(place))
            if replica.receiver == Receiver::Off && is_of(replica, place) =>
        {
            // A rescue stops the applier, too.
            Next::Act(match replica.applier {
                Applier::On => SqlAction::StartReceiver,
                Applier::Off | Applier::Broken { .. } => SqlAction::StartReplica,
            })
        }
        (Some(_) | None, Some(_) | None) => Next::Met,
    }
}

fn apply(facts: &ServerFacts, target: &GtidSet) -> Next {
    if target.is_subset(&facts.executed) {
        return Next::Met;
    }
    match &facts.replica {
        Some(replica) => applying(replica),
        None => Next::Impossible(format!("it has no relay log to get {target} from")),
    }
}

/// On a channel of its own the server passes over what it has executed already, so that doing it
/// twice is harmless. Where a leader was lost while that is applied, it goes on by itself; what was
/// left of anything else is thrown away and done anew.
fn rescue(facts: &ServerFacts, wanted: &Rescue, acts: usize) -> Next {
    let is_there = wanted.gtids.is_subset(&facts.executed);
    match (&facts.rescue, is_there) {
        (None, true) => Next::Met,
        (Some(_), true) => Next::Act(SqlAction::DropRescued),
        (Some(Applier::On), false) => Next::Wait,
        (Some(Applier::Broken { code, text }), false) if acts > 0 => {
            Next::Impossible(format!("its applier stopped with error {code}: {text}"))
        }
        (Some(Applier::Off | Applier::Broken { .. }), false) => Next::Act(SqlAction::DropRescued),
        (None, false) => match &facts.replica {
            // With half a transaction it would hold that one's number, and the whole one that is
            // brought would wait for it for ever.
            Some(replica) if replica.applier == Applier::On => {
                match replica.retrieved.is_subset(&facts.executed) {
                    true => Next::Act(SqlAction::StopApplier),
                    false => Next::Wait,
                }
            }
            Some(_) | None => Next::Carry(Box::new(wanted.clone())),
        },
    }
}

/// What a rescue that failed or was given up may have left.
fn unrescue(facts: &ServerFacts) -> Option<Next> {
    facts.rescue.as_ref().map(|_| Next::Act(SqlAction::DropRescued))
}

fn detach(facts: &ServerFacts) -> Next {
    if let Some(next) = unrescue(facts) {
        return next;
    }
    let Some(replica) = &facts.replica else {
        let acknowledges = facts.semi_sync.as_ref().is_some_and(|s| s.replica_enabled);
        return match acknowledges {
            true => Next::Act(SqlAction::SetSemiSyncReplica { on: false }),
            false => Next::Met,
        };
    };
    // What a donor sent beyond the target is applied, too: forgetting the source throws it away.
    let is_level = replica.retrieved.is_subset(&facts.executed);
    match (&replica.receiver, &replica.applier) {
        (Receiver::Off, Applier::On | Applier::Off) if !is_level => applying(replica),
        (Receiver::Off, Applier::Off | Applier::Broken { .. }) => {
            Next::Act(SqlAction::ForgetSource)
        }
        (Receiver::Off, Applier::On) => Next::Act(SqlAction::StopApplier),
        (Receiver::On | Receiver::Connecting, _) => Next::Act(SqlAction::StopReplica),
    }
}

/// Judged by looks of this very step, the source's after the server's own: what was planned on rests
/// on older ones, and a server made harmless meanwhile has committed what waited in it (SAFETY
/// invariant 11).
fn follow(
    order: &StepOrder,
    facts: &ServerFacts,
    seen: &BTreeMap<ServerName, ServerFacts>,
    (source, acker, options): (&ServerName, bool, &LinkOptions),
    acts: usize,
) -> Next {
    if let Some(action) = harmless(facts) {
        return Next::Act(action);
    }
    if let Some(next) = unrescue(facts) {
        return next;
    }
    // Until its source answers nobody can tell whether it may follow.
    let Some(theirs) = seen.get(source) else { return Next::Wait };
    let mut errant = upkeep::errant(theirs, facts);
    // Behind the candidate of a switchover it may be ahead of it by what the primary writes.
    if let Some(primary) = order.primary.as_ref().filter(|primary| *primary != source)
        && !errant.is_empty()
    {
        let Some(primary) = seen.get(primary) else { return Next::Wait };
        errant = errant.minus(&errant.of_origins(&[&primary.uuid]));
        if errant.is_empty() {
            return match facts.is_receiver_off() {
                true => Next::Wait,
                false => Next::Act(SqlAction::StopReceiver),
            };
        }
    }
    if !errant.is_empty() {
        return Next::Impossible(format!("it has transactions that {source} lacks: {errant}"));
    }
    let is_flagged = |facts: &ServerFacts| {
        facts.semi_sync.as_ref().is_none_or(|semi_sync| semi_sync.replica_enabled == acker)
    };
    let is_off = facts.is_receiver_off();
    if !is_flagged(facts) && is_off {
        return Next::Act(SqlAction::SetSemiSyncReplica { on: acker });
    }
    if let Some(next) = aim(order, facts, source, Some(options)) {
        return next;
    }
    if !is_flagged(facts) {
        return Next::Act(SqlAction::StopReceiver);
    }
    let Some(replica) = &facts.replica else { return Next::Wait };
    match (&replica.receiver, &replica.receiver_error, &replica.applier) {
        (Receiver::Off, Some((code, text)), _) if is_fatal(*code) => {
            Next::Impossible(format!("its receiver stopped with error {code}: {text}"))
        }
        (_, _, Applier::Broken { code, text }) => {
            Next::Impossible(format!("its applier stopped with error {code}: {text}"))
        }
        (Receiver::Off, _, _) | (_, _, Applier::Off) => Next::Act(SqlAction::StartReplica),
        (Receiver::Connecting, _, Applier::On) => Next::Wait,
        (Receiver::On, _, Applier::On) => {
            let is_active = facts.semi_sync.as_ref().is_some_and(|s| s.replica_active);
            match (acker, is_active, acts) {
                (true, true, _) | (false, false, _) => Next::Met,
                // The flag was set while it ran: it counts from its next connection on.
                (false, true, _) | (true, false, 0) => Next::Act(SqlAction::StopReceiver),
                (true, false, _) => Next::Settle,
            }
        }
    }
}

/// The source refused for good: it has purged what is needed, or this server has more than it.
/// **Source:** MySQL error reference, 1236 and 13114.
pub fn is_fatal(code: u32) -> bool {
    matches!(code, 1236 | 13114)
}

fn open_for_writes(
    order: &StepOrder,
    facts: &ServerFacts,
    seen: &BTreeMap<ServerName, ServerFacts>,
    acks: u32,
) -> Next {
    let StepKind::OpenForWrites { ackers, recruits, .. } = &order.record.goal else {
        return Next::Impossible("another step".into());
    };
    if let Some(name) = recruits.iter().find(|name| reads_from_revoked(order, name, seen)) {
        return Next::Impossible(format!("{name} reads from a revoked server again"));
    }
    if facts.replica_is_running() {
        return Next::Impossible("it still receives from another server".into());
    }
    if connected(order, seen, ackers) < acks as usize {
        return Next::Wait;
    }
    let semi_sync = facts.semi_sync.as_ref();
    if acks > 0 && !semi_sync.is_some_and(|s| s.is_armed(acks) && s.acks == acks) {
        return match semi_sync {
            Some(_) => Next::Act(SqlAction::SetSemiSyncSource { on: true, acks }),
            None => Next::Impossible("the semi-sync plugins are not there".into()),
        };
    }
    match (facts.read_only || facts.super_read_only, facts.offline) {
        (true, _) => Next::Act(SqlAction::SetWritable),
        (false, true) => Next::Act(SqlAction::SetOffline { on: false }),
        (false, false) => Next::Met,
    }
}

/// How many of these servers acknowledge to this one, by their own word.
fn connected(
    order: &StepOrder,
    seen: &BTreeMap<ServerName, ServerFacts>,
    ackers: &BTreeSet<ServerName>,
) -> usize {
    let here = (order.place.server.host.as_str(), order.place.server.port);
    let facts = ackers.iter().filter_map(|name| seen.get(name));
    facts.filter(|facts| facts.acknowledges_to(here)).count()
}

fn reads_from_revoked(
    order: &StepOrder,
    name: &ServerName,
    seen: &BTreeMap<ServerName, ServerFacts>,
) -> bool {
    let Some(facts) = seen.get(name).filter(|facts| !facts.is_receiver_off()) else {
        return false;
    };
    let Some(replica) = &facts.replica else { return false };
    let revoked = order.revoked.iter().filter_map(|name| order.others.get(name));
    revoked.into_iter().any(|place| {
        (place.server.host.as_str(), place.server.port)
            == (replica.source_host.as_str(), replica.source_port)
    })
}

/// The marker's own commit is the proof: acknowledgements are of places in the binary log, so that
/// its own releases whoever waited before it. Who waits in a later look has come since.
fn wake(order: &StepOrder, facts: &ServerFacts, acts: usize) -> Next {
    match (facts.is_writable(), acts) {
        (true, 0) => Next::Act(SqlAction::WriteMarker { step: order.record.id }),
        (true, _) | (false, _) => Next::Met,
    }
}

/// The number is set, then a marker is committed under it: as acknowledgements are of places in the
/// binary log, so many servers then hold all that was acknowledged by fewer before (SAFETY section
/// 3). Only then is a higher number agreed on.
fn arm(
    order: &StepOrder,
    facts: &ServerFacts,
    seen: &BTreeMap<ServerName, ServerFacts>,
    (acks, ackers): (u32, &BTreeSet<ServerName>),
    acts: usize,
) -> Next {
    if !facts.is_writable() {
        return Next::Impossible("it takes no writes, so nothing of it waits".into());
    }
    let Some(semi_sync) = facts.semi_sync.as_ref().filter(|semi_sync| semi_sync.has_source) else {
        return Next::Impossible("the semi-sync source plugin is not there".into());
    };
    if acks == 0 {
        return match semi_sync.source_enabled {
            true => Next::Act(SqlAction::SetSemiSyncSource { on: false, acks }),
            false => Next::Met,
        };
    }
    let is_set = semi_sync.is_armed(acks) && semi_sync.acks == acks;
    match (acts, is_set) {
        // Writes go on meanwhile, and are no sign that anybody else is about to connect.
        (0, _) if connected(order, seen, ackers) < acks as usize => Next::Settle,
        (0, _) => Next::Act(SqlAction::SetSemiSyncSource { on: true, acks }),
        (1, true) => Next::Act(SqlAction::WriteMarker { step: order.record.id }),
        (_, true) => Next::Met,
        (_, false) => Next::Impossible("somebody else changes its semi-sync settings".into()),
    }
}

/// As in [`arm`], the marker shows that the others hold all that was acknowledged with the help of
/// the one locked out: it is acknowledged without it.
fn lock_out(order: &StepOrder, facts: &ServerFacts, account: &str, acts: usize) -> Next {
    let Some(inbound) = &facts.inbound else { return blind() };
    if !facts.is_writable() {
        return Next::Impossible("it takes no writes".into());
    }
    let is_shut = inbound.locked.contains(account) && !inbound.connected.contains(account);
    match (acts, is_shut) {
        (0, _) => Next::Act(SqlAction::LockAccount { account: account.into() }),
        (1, true) => Next::Act(SqlAction::WriteMarker { step: order.record.id }),
        (_, true) => Next::Met,
        (_, false) => Next::Impossible(format!("account {account} is still in use")),
    }
}

fn let_in(facts: &ServerFacts, account: &str) -> Next {
    let Some(inbound) = &facts.inbound else { return blind() };
    if inbound.locked.contains(account) {
        return Next::Act(SqlAction::UnlockAccount { account: account.into() });
    }
    match facts.read_only && !facts.super_read_only {
        true => Next::Act(SqlAction::SetReadOnly),
        false => Next::Met,
    }
}

fn blind() -> Next {
    let why = "the managers' account may not look at accounts and connections (it needs PROCESS, and \
               SELECT on mysql.user)";
    Next::Impossible(why.into())
}

fn harden(facts: &ServerFacts, settings: &BTreeSet<Setting>) -> Next {
    let missing = settings.iter().find(|setting| !setting.is_met(facts));
    missing.map_or(Next::Met, |setting| Next::Act(SqlAction::Persist { setting: *setting }))
}

/// The next act that takes the power to acknowledge from a server that may have clients: they are
/// cut first, because whoever waits when semi-sync is switched off is answered OK (SAFETY section
/// 3, measured).
fn harmless(facts: &ServerFacts) -> Option<SqlAction> {
    let is_source = facts.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.source_enabled);
    if (is_source || !facts.read_only) && !facts.offline && facts.has_offline_mode() {
        return Some(SqlAction::SetOffline { on: true });
    }
    // Without that, those who are connected are cut as it is made read-only.
    if !facts.read_only && !facts.has_offline_mode() {
        return Some(SqlAction::SetReadOnly);
    }
    if is_source {
        return Some(SqlAction::SetSemiSyncSource { on: false, acks: 0 });
    }
    if !facts.super_read_only {
        return Some(SqlAction::SetReadOnly);
    }
    facts.offline.then_some(SqlAction::SetOffline { on: false })
}
