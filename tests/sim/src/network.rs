//! Who reaches whom, how fast, and which host answers for the writer address.
//!
//! A cut works in one direction, as a packet filter does. What was sent into a cut is not lost for
//! good: TCP sends it again, so it may arrive late, after its sender has given up.

use std::collections::{BTreeMap, BTreeSet};

use crate::{clock::Micros, world::Ctx};

/// A server by its place in the definition.
pub type Ix = usize;

/// A host in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The host of a manager.
    Manager(u64),
    /// A database host.
    Host(Ix),
    /// Where the applications run.
    Client,
}

/// Wires.
#[derive(Debug, Default)]
pub struct Network {
    cuts: BTreeSet<(Node, Node)>,
    /// Hosts without power.
    down: BTreeSet<Node>,
    /// Extra delay of everything to and from a host.
    slow: BTreeMap<Node, Micros>,
    /// Who announced the writer address last (gratuitous ARP).
    pub announced: Option<Ix>,
}

impl Network {
    /// Drops what goes from one host to another.
    pub fn cut(&mut self, from: Node, to: Node) {
        self.cuts.insert((from, to));
    }

    /// Drops what goes either way.
    pub fn part(&mut self, one: Node, other: Node) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Lets what goes from one host to another through again.
    pub fn mend(&mut self, from: Node, to: Node) {
        self.cuts.remove(&(from, to));
    }

    /// Mends every cut and takes away every extra delay.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
    }

    /// Switches a host's network off or on with its power.
    pub fn power(&mut self, node: Node, is_on: bool) {
        match is_on {
            true => self.down.remove(&node),
            false => self.down.insert(node),
        };
    }

    /// Delays everything to and from a host.
    pub fn slow(&mut self, node: Node, by: Micros) {
        self.slow.insert(node, by);
    }

    /// Whether a packet gets from here to there now.
    pub fn reaches(&self, from: Node, to: Node) -> bool {
        !self.down.contains(&from) && !self.down.contains(&to) && !self.cuts.contains(&(from, to))
    }

    /// Whether packets go both ways.
    pub fn talk(&self, one: Node, other: Node) -> bool {
        one == other || (self.reaches(one, other) && self.reaches(other, one))
    }

    /// The extra delay between two hosts.
    pub fn extra(&self, from: Node, to: Node) -> Micros {
        let of = |node| self.slow.get(&node).copied().unwrap_or(0);
        of(from) + of(to)
    }
}

/// Pause between two attempts of TCP to get something through.
const RESEND: Micros = 20_000;

impl Ctx {
    /// Carries something from here to there; false: it did not arrive by `until`.
    pub async fn travel(&self, from: Node, to: Node, until: Micros) -> bool {
        loop {
            let delay = {
                let mut world = self.world();
                let delay = 150 + world.rng.below(200) + world.network.extra(from, to);
                world.network.reaches(from, to).then_some(if from == to { 5 } else { delay })
            };
            let now = self.sim.now();
            match delay {
                Some(delay) => {
                    self.sim.sleep(delay).await;
                    if self.world().network.reaches(from, to) {
                        return true;
                    }
                }
                None if now >= until => return false,
                None => self.sim.sleep_until((now + RESEND).min(until)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Node = Node::Manager(1);
    const B: Node = Node::Host(0);

    #[test]
    fn a_cut_works_in_one_direction() {
        let mut network = Network::default();
        network.cut(A, B);
        assert!(!network.reaches(A, B) && network.reaches(B, A) && !network.talk(A, B));
        network.heal();
        assert!(network.talk(A, B));
    }

    #[test]
    fn a_host_without_power_is_silent_until_it_has_power_again_whatever_is_healed() {
        let mut network = Network::default();
        network.power(B, false);
        network.heal();
        assert!(!network.reaches(A, B) && !network.reaches(B, A));
        network.power(B, true);
        assert!(network.talk(A, B));
    }
}
