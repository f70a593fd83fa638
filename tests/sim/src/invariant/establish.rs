//! Invariant 8: establish in this order: entry 9, acknowledgers, semi-sync, writable, published. An
//! opening that was on its way for long, to a server that hung or was cut off, is judged by what it
//! rested on when it was sent; and if its server was revoked meanwhile, nobody may acknowledge what it
//! lets in (SAFETY section 1, a statement that comes late).

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::{
    model::{Epoch, LastAckerPolicy, Mode, StepKind, Token},
    ports::{RemoteCommand, SqlAction},
    state::ClusterState,
};

use super::{Event, Invariant, goal, of, one_primary::can_acknowledge};
use crate::{clock::Micros, network::Ix, world::World};

/// When each replica was last seen to acknowledge each source's commits, and who was on record as
/// primary while each epoch was the newest.
#[derive(Default)]
pub struct Establish {
    connected: BTreeMap<(Ix, Ix), Micros>,
    primaries: BTreeSet<(Epoch, Ix)>,
}

/// What a step saw may be this old when it acts, and what it acts on may be this late.
const SLACK: Micros = 5_000_000;

impl Establish {
    fn look(&mut self, world: &World) {
        for server in &world.servers {
            let wire = server.link.as_ref().and_then(|link| link.wire);
            if let Some(wire) = wire.filter(|wire| wire.is_semi) {
                self.connected.insert((wire.source, server.ix), world.sim.now());
            }
        }
    }

    fn ackers(&self, ix: Ix, sent: Micros) -> usize {
        let since = sent.saturating_sub(SLACK);
        self.connected.iter().filter(|((of, _), at)| *of == ix && **at >= since).count()
    }
}

impl Invariant for Establish {
    fn name(&self) -> &'static str {
        "establish"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        if matches!(event, Event::Tick | Event::Acting { .. } | Event::Acted { .. }) {
            self.look(world);
        }
        if matches!(event, Event::Tick | Event::Acknowledged { .. } | Event::Locked { .. }) {
            return Ok(());
        }
        let group = world.consensus.newest();
        let Some(cluster) = of(&group, &world.cluster) else { return Ok(()) };
        match event {
            Event::Committed { .. } => {
                let primaries = cluster.regimes.iter().filter_map(|it| world.ix(&it.primary));
                self.primaries.extend(primaries.map(|ix| (cluster.epoch, ix)));
                Ok(())
            }
            Event::Acting { server, token, action: SqlAction::SetWritable, sent } => {
                self.opens(world, cluster, (*server, *token, *sent))
            }
            Event::Acted { server, token, action: SqlAction::SetWritable } => {
                is_harmless(world, cluster, *server, *token)
            }
            Event::RemoteActing { token, command: RemoteCommand::TakeVip { .. }, .. } => {
                publishes(cluster, *token)
            }
            Event::Locked { .. }
            | Event::Acting { .. }
            | Event::Acted { .. }
            | Event::RemoteActing { .. }
            | Event::Acknowledged { .. }
            | Event::Tick => Ok(()),
        }
    }
}

impl Establish {
    fn opens(
        &self,
        world: &World,
        cluster: &ClusterState,
        (ix, token, sent): (Ix, Token, Micros),
    ) -> Result<(), String> {
        let name = &world.names[ix];
        let (acks, is_reopened) = match goal(world, token) {
            Some(StepKind::OpenForWrites { acks, .. }) => (acks, false),
            Some(StepKind::Reopen { acks }) => (acks, true),
            _ => return Err(format!("{name} is opened by a step that is not on record")),
        };
        let is_late = token.epoch < cluster.epoch;
        let is_logged = cluster.regimes.iter().any(|regime| regime.primary == *name);
        if !(is_logged || is_late && self.primaries.contains(&(token.epoch, ix))) {
            return Err(format!("{name} is opened without entry 9"));
        }
        if cluster.definition.mode != Mode::Quorum {
            return Ok(());
        }
        let server = &world.servers[ix];
        let is_lowered = cluster.definition.policy.last_acker == LastAckerPolicy::Lower
            && cluster.regime().is_some_and(|regime| regime.primary == *name && regime.acks == 0);
        if *acks == 0 && is_lowered {
            return Ok(());
        }
        if *acks == 0 || !server.semi.source || server.semi.acks < *acks {
            return Err(format!("{name} is opened with semi-sync not on for {acks}"));
        }
        match self.ackers(ix, sent) {
            // It was never replaced: whom it waits for is a matter of the policies for that.
            _ if is_reopened => Ok(()),
            found if found >= *acks as usize => Ok(()),
            found => Err(format!("{name} is opened with {found} of {acks} ackers connected")),
        }
    }
}

/// Opened by a step of an older epoch, and revoked since.
fn is_harmless(world: &World, cluster: &ClusterState, ix: Ix, token: Token) -> Result<(), String> {
    let name = &world.names[ix];
    let is_revoked = cluster.regimes.last().is_some_and(|regime| regime.primary != *name);
    let is_promised = cluster.definition.mode == Mode::Quorum;
    match token.epoch < cluster.epoch && is_revoked && is_promised && can_acknowledge(world, ix) {
        true => Err(format!("{name} was revoked, is opened late and can acknowledge")),
        false => Ok(()),
    }
}

/// Within an attempt; a chore publishes a primary that is in force.
fn publishes(cluster: &ClusterState, token: Token) -> Result<(), String> {
    let Some(attempt) = &cluster.attempt else { return Ok(()) };
    let is_open = attempt
        .steps
        .iter()
        .any(|step| matches!(step.goal, StepKind::OpenForWrites { .. }) && step.met().is_some());
    // A primary that is closed as planned answers nobody: its address may lead on before that.
    let is_closed = attempt.closed().is_some() && attempt.stage.entry_nine().is_some();
    match is_open || is_closed || token.epoch != attempt.epoch() {
        true => Ok(()),
        false => Err(format!("{} is published before it is open", attempt.id)),
    }
}
