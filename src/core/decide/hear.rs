//! Does a replica hear the primary? (SAFETY invariant 3b: the second key.)
//!
//! "Receiver running" proves nothing: over a cut line it says so for minutes. What counts is
//! movement, of heartbeats or of what is received, as this manager sees it.

use crate::model::{
    GtidSet, Hearing, Micros, Millis, Mono, Observation, Policy, Receiver, ReplicaFacts,
    ServerDefinition,
};

/// Heartbeats, the received set, and the position up to which events were received.
type Movement = (u64, GtidSet, u64);

/// Movement on one replica's link, as one manager saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracker {
    /// What moves while the source is heard, and its identity, at the last look.
    last: Option<(Movement, String)>,
    /// When a look last showed movement.
    moved: Option<Mono>,
}

impl Tracker {
    /// Takes a look into account.
    pub fn record(&mut self, look: &Observation) {
        let Ok(facts) = &look.seen else { return };
        let Some(replica) = &facts.replica else {
            *self = Self::default();
            return;
        };
        let source = format!("{}:{}", replica.source_host, replica.source_port);
        // Within a large transaction nothing moves but the position [ran].
        let movement = (replica.heartbeats, replica.retrieved.clone(), replica.read_to);
        let seen = (movement, source);
        match &self.last {
            Some(before) if *before == seen => {}
            Some(before) if before.1 == seen.1 => self.moved = Some(look.at),
            // A first look shows no movement; grant it the benefit of being heard until the
            // next ones tell.
            Some(_) | None => self.moved = Some(look.at),
        }
        self.last = Some(seen);
    }

    /// Whether the replica hears `primary`, by a fresh look.
    pub fn judge(
        &self,
        look: Option<&Observation>,
        primary: &ServerDefinition,
        policy: &Policy,
        now: Mono,
    ) -> Hearing {
        let Some(look) = look.filter(|look| now.since(look.at) <= super::view::FRESH) else {
            return Hearing::Unknown;
        };
        let Ok(facts) = &look.seen else { return Hearing::Unknown };
        match &facts.replica {
            None => Hearing::NotListening,
            Some(replica) => self.judge_link(replica, primary, policy, now),
        }
    }

    fn judge_link(
        &self,
        replica: &ReplicaFacts,
        primary: &ServerDefinition,
        policy: &Policy,
        now: Mono,
    ) -> Hearing {
        if (replica.source_host.as_str(), replica.source_port) != (&*primary.host, primary.port) {
            return Hearing::NotListening;
        }
        match replica.receiver {
            Receiver::Off => Hearing::NotListening,
            Receiver::Connecting => Hearing::Disconnected,
            Receiver::On => {
                let age = now.since(self.moved.unwrap_or(now));
                // A link without heartbeats says nothing by its silence.
                let Some(period) = heartbeat(replica, policy) else {
                    return Hearing::Hears { age };
                };
                // Two periods, plus the pause between our own looks.
                let patience =
                    Micros::from(period).0 * 2 + Micros::from(policy.watch_interval_ms).0;
                match age.0 < patience {
                    true => Hearing::Hears { age },
                    false => Hearing::Silent { age },
                }
            }
        }
    }
}

/// Every so often something moves on this link: as defined, or more seldom if the link's own period
/// is longer. `None`: it has no heartbeats.
fn heartbeat(replica: &ReplicaFacts, policy: &Policy) -> Option<Millis> {
    let period = replica.options.heartbeat_ms;
    (period > 0).then(|| policy.heartbeat_ms.max(Millis(period)))
}
