//! Who acknowledges the primary's commits, since when somebody does not, and what follows from it:
//! the number that commits wait for, a dead acker locked out and let in again, sessions woken that
//! wait in vain (SAFETY section 3).
//!
//! The order keeps the agreed set never smaller, and the agreed number never larger, than the real
//! one, whoever dies in between:
//!
//! ```text
//!   add an acker        log (the step begins) -> enable, or unlock its account
//!   remove an acker     disable, read back    -> log (the step ends)
//!   remove a dead one   lock its account, end its connections, commit a marker -> log
//!   more acks           set, commit a marker  -> log
//!   fewer acks          log                   -> set
//! ```

use std::collections::BTreeMap;

use super::{
    upkeep,
    view::{ClusterView, FRESH, View},
};
use crate::{
    model::{
        Actor, DeadAckerPolicy, GtidSet, LastAckerPolicy, Micros, Mode, Mono, Observation,
        Receiver, Regime, SemiSync, ServerFacts, ServerName, StepKind,
    },
    state::ClusterState,
};

/// Sessions that wait for so long while nothing is committed wait in vain.
const STUCK: Micros = Micros(3_000_000);

/// An acker that receives and was not seen to acknowledge for so long will not do so by itself: one
/// that has just connected is about to.
const IDLE: Micros = Micros(3_000_000);

/// What one manager saw of the ackers of one primary.
#[derive(Clone, Debug, Default)]
pub struct Attendance {
    primary: Option<ServerName>,
    /// Since when each acker was not seen to acknowledge.
    absent: BTreeMap<ServerName, Mono>,
    /// Since when sessions wait on the primary and this is all that it has executed.
    stuck: Option<(Mono, GtidSet)>,
}

impl Attendance {
    /// Takes a look into account. `regime` is the one in force; `here` the address of its primary.
    pub fn record(&mut self, regime: &Regime, here: (&str, u16), look: &Observation) {
        if self.primary.as_ref() != Some(&regime.primary) {
            *self = Self { primary: Some(regime.primary.clone()), ..Self::default() };
        }
        let facts = look.seen.as_ref().ok();
        if look.server == regime.primary {
            let waits = |facts: &&ServerFacts| {
                facts.is_writable() && facts.semi_sync.as_ref().is_some_and(|s| s.waiting > 0)
            };
            self.stuck = facts.filter(waits).map(|facts| match self.stuck.take() {
                Some((since, executed)) if executed == facts.executed => (since, executed),
                Some(_) | None => (look.at, facts.executed.clone()),
            });
            return;
        }
        match facts.is_some_and(|facts| facts.acknowledges_to(here)) {
            true => {
                self.absent.remove(&look.server);
            }
            false => {
                self.absent.entry(look.server.clone()).or_insert(look.at);
            }
        }
    }

    /// Since when each server was not seen to acknowledge; missing: it does, or nobody looked.
    pub fn absent(&self) -> BTreeMap<ServerName, Mono> {
        self.absent.clone()
    }

    /// Since when sessions wait on the primary while nothing is committed.
    pub fn stuck(&self) -> Option<Mono> {
        self.stuck.as_ref().map(|(since, _)| *since)
    }
}

/// Whether that server acknowledges the primary's commits, by a fresh look.
pub fn acknowledges(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerName,
) -> bool {
    let here = cluster.primary().and_then(|primary| cluster.definition.server(primary));
    let facts = seen.facts(server, view.now, FRESH);
    here.zip(facts).is_some_and(|(here, facts)| facts.acknowledges_to((&here.host, here.port)))
}

/// How many agreed ackers acknowledge now.
pub fn present(view: &View, cluster: &ClusterState, seen: &ClusterView) -> usize {
    let ackers = cluster.regime().map(|regime| &regime.ackers);
    ackers.into_iter().flatten().filter(|name| acknowledges(view, cluster, seen, name)).count()
}

/// Whether sessions wait for acknowledgements that will not come, although enough servers give
/// some: a receiver was restarted between receiving and acknowledging.
pub fn has_lost_acks(view: &View, cluster: &ClusterState, seen: &ClusterView) -> bool {
    let is_long = seen.stuck.is_some_and(|since| view.now.since(since) >= STUCK);
    let acks = cluster.regime().map_or(0, |regime| regime.acks);
    is_long && acks > 0 && present(view, cluster, seen) >= acks as usize
}

/// What the primary, which takes writes, needs for its ackers' sake.
pub fn goal(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    facts: &ServerFacts,
) -> Option<StepKind> {
    if has_lost_acks(view, cluster, seen) {
        return Some(StepKind::Wake);
    }
    if cluster.pause.is_some() || seen.doubt.is_some() {
        return None;
    }
    let regime = cluster.regime()?;
    let back = let_in(view, cluster, seen, &regime.primary, facts);
    back.or_else(|| arm(view, cluster, seen, facts))
        .or_else(|| lock_out(view, cluster, seen, facts))
}

/// The number of acknowledgements that is to be agreed on and set.
fn arm(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    facts: &ServerFacts,
) -> Option<StepKind> {
    let regime = cluster.regime().filter(|_| cluster.definition.mode == Mode::Quorum)?;
    let acks = wanted(view, cluster, seen);
    let lowers = cluster.definition.policy.last_acker == LastAckerPolicy::Lower;
    let is_more = |it: &SemiSync| match acks {
        0 => it.source_enabled && lowers,
        1.. => it.acks > acks,
    };
    // Set and not agreed on: a lowering that was lost with its leader, a restart, or somebody's hand.
    let is_unfinished = acks == regime.acks && facts.semi_sync.as_ref().is_some_and(is_more);
    let is_possible = present(view, cluster, seen) >= acks as usize;
    ((acks != regime.acks || is_unfinished) && is_possible).then(|| StepKind::Arm {
        acks,
        ackers: regime.ackers.clone(),
        by: Actor::Group,
    })
}

/// As defined; where the policy says so, no more than have acknowledged lately.
pub fn wanted(view: &View, cluster: &ClusterState, seen: &ClusterView) -> u32 {
    let defined = cluster.definition.acks;
    let Some(regime) = cluster.regime() else { return defined };
    let policy = &cluster.definition.policy;
    let here = u32::try_from(present(view, cluster, seen)).unwrap_or(u32::MAX);
    match policy.last_acker {
        // A number that cannot be had now would only make writes hang.
        LastAckerPolicy::Wait if here < defined => defined.min(regime.acks),
        LastAckerPolicy::Wait => defined,
        LastAckerPolicy::Lower if here >= regime.acks => defined.min(here),
        LastAckerPolicy::Lower => {
            let patience = Micros::from(policy.last_acker_ms);
            let is_gone = |name: &&ServerName| {
                seen.absent.get(*name).is_some_and(|since| view.now.since(*since) >= patience)
            };
            let gone = regime.ackers.iter().filter(is_gone).count();
            let left = u32::try_from(regime.ackers.len() - gone).unwrap_or(u32::MAX);
            if left < regime.acks { here.max(left).min(defined) } else { regime.acks.min(defined) }
        }
    }
}

/// An acker that was dead for long: as long as others are enough, it is taken out of the set.
fn lock_out(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    facts: &ServerFacts,
) -> Option<StepKind> {
    let regime = cluster.regime()?;
    let policy = &cluster.definition.policy;
    let inbound = facts.inbound.as_ref()?;
    if policy.dead_acker == DeadAckerPolicy::Wait || regime.acks == 0 {
        return None;
    }
    let others = present(view, cluster, seen);
    let is_dead = |name: &&ServerName| {
        let patience = Micros::from(policy.dead_acker_ms);
        let account = cluster.definition.server(name).map(|server| &server.replication_account);
        // Not reached by us, it may be well: then the primary sends it the binary log.
        let is_served = account.is_some_and(|account| inbound.dumps.contains(account));
        let is_reached = seen.facts(name, view.now, FRESH).is_some();
        // It is being put behind the primary right now.
        let chore = cluster.chores.get(*name).map(|step| &step.id);
        let is_attended = chore.is_some_and(|step| seen.running.contains_key(step));
        !is_attended
            && seen.absent.get(*name).is_some_and(|since| view.now.since(*since) >= patience)
            && (is_reached || !is_served)
            && !asks(view, cluster, seen, &regime.primary, name)
            && account != Some(&cluster.definition.admin_account)
            && cluster.definition.sharing_account(name).is_empty()
    };
    let server = regime.ackers.iter().find(is_dead)?;
    let is_enough = others >= regime.acks as usize && regime.ackers.len() > regime.acks as usize;
    let account = cluster.definition.server(server)?.replication_account.clone();
    is_enough.then(|| StepKind::LockOut { server: server.clone(), account })
}

/// Whether a server replicates from that one, or tries to: it is not dead, although it may not
/// acknowledge yet.
fn asks(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    at: &ServerName,
    name: &ServerName,
) -> bool {
    let replica = seen.facts(name, view.now, FRESH).and_then(|facts| facts.replica.as_ref());
    let source = replica.filter(|replica| replica.receiver != Receiver::Off);
    let source = source.map(|replica| (replica.source_host.as_str(), replica.source_port));
    let here = cluster.definition.server(at).map(|here| (here.host.as_str(), here.port));
    source.is_some() && source == here
}

/// A server that was locked out on this one, by us: on the primary it is let in when it asks for
/// it and has nothing that the primary lacks, elsewhere at once, so that it may follow if that
/// server is promoted.
pub fn let_in(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    at: &ServerName,
    facts: &ServerFacts,
) -> Option<StepKind> {
    let is_primary = cluster.primary() == Some(at);
    let may = |name: &&ServerName| {
        let theirs = seen.facts(name, view.now, FRESH);
        let is_clean = theirs.is_some_and(|theirs| {
            let is_itself = upkeep::known_uuid(cluster, name) == Some(&theirs.uuid);
            // One that is to acknowledge no more is told so first: it would, unrecorded.
            let acknowledges = theirs.semi_sync.as_ref().is_some_and(|it| it.replica_enabled);
            let is_acker = cluster.definition.ackers_of(at).contains(*name);
            is_itself && (is_acker || !acknowledges) && upkeep::errant(facts, theirs).is_empty()
        });
        is_clean && asks(view, cluster, seen, at, name)
    };
    let server = cluster.locks.get(at)?.iter().find(|name| !is_primary || may(name))?;
    let account = cluster.definition.server(server)?.replication_account.clone();
    Some(StepKind::LetIn { server: server.clone(), account })
}

/// Flagged otherwise while its receiver ran, it goes on acknowledging, or goes on without: the flag
/// counts from the next connection on.
pub fn is_flagged_in_vain(
    view: &View,
    seen: &ClusterView,
    (server, facts): (&ServerName, &ServerFacts),
    is_acker: bool,
) -> bool {
    let receives = facts.replica.as_ref().is_some_and(|replica| replica.receiver == Receiver::On);
    let Some(semi_sync) = facts.semi_sync.as_ref().filter(|_| receives) else { return false };
    match (is_acker, semi_sync.replica_active) {
        (true, true) | (false, false) => false,
        (false, true) => true,
        (true, false) => {
            let since = seen.absent.get(server);
            since.is_some_and(|since| view.now.since(*since) >= IDLE)
        }
    }
}

/// Locked out by us, it asks the primary in vain: it is not let in with what the primary lacks.
pub fn is_shut_out(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
    (server, facts): (&ServerName, &ServerFacts),
) -> bool {
    let is_locked = cluster.locks.get(primary).is_some_and(|locked| locked.contains(server));
    let theirs = seen.facts(primary, view.now, FRESH);
    is_locked && theirs.is_some_and(|theirs| !upkeep::errant(theirs, facts).is_empty())
}
