//! What was broken at a moment? The log of actions, replayed.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Deed;

/// What is broken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Servers whose mysqld is down, and managers that are.
    pub down: BTreeSet<String>,
    /// Servers and managers that are stopped.
    pub stopped: BTreeSet<String>,
    /// Hosts without power.
    pub off: BTreeSet<String>,
    /// Hosts that neither hear nor are heard.
    pub isolated: BTreeSet<String>,
    /// `(from, to)`: `to` does not hear `from`.
    pub cuts: BTreeSet<(String, String)>,
    /// Packets lost per thousand.
    pub loss: BTreeMap<String, u32>,
    /// Milliseconds that packets are late.
    pub delay: BTreeMap<String, u64>,
}

impl World {
    /// Takes an action into account.
    pub fn apply(&mut self, deed: &Deed) {
        match deed {
            Deed::KillServer { server: name } | Deed::KillManager { manager: name } => {
                self.stopped.remove(name);
                self.down.insert(name.clone());
            }
            Deed::StopServer { server: name } | Deed::StopManager { manager: name } => {
                self.stopped.insert(name.clone());
            }
            Deed::ContinueServer { server: name } | Deed::ContinueManager { manager: name } => {
                self.stopped.remove(name);
            }
            // Down for a moment only; whoever asks looks at the actions near by, too.
            Deed::RestartServer { server: name, .. }
            | Deed::StartServer { server: name }
            | Deed::StartManager { manager: name }
            | Deed::Rebuild { server: name, .. } => {
                self.stopped.remove(name);
                self.down.remove(name);
            }
            Deed::PowerOff { host } => {
                self.stopped.remove(host);
                self.down.insert(host.clone());
                self.off.insert(host.clone());
                self.delay.remove(host);
            }
            Deed::PowerOn { host } => {
                self.down.remove(host);
                self.off.remove(host);
            }
            Deed::Isolate { host } => {
                self.isolated.insert(host.clone());
            }
            Deed::Split { a, b } => {
                self.cuts.insert((a.clone(), b.clone()));
                self.cuts.insert((b.clone(), a.clone()));
            }
            Deed::Cut { from, to } => {
                self.cuts.insert((from.clone(), to.clone()));
            }
            Deed::Loss { host, permille } => {
                self.loss.insert(host.clone(), *permille);
            }
            Deed::Delay { host, ms } => {
                self.delay.insert(host.clone(), *ms);
            }
            Deed::HealNetwork => {
                self.isolated.clear();
                self.cuts.clear();
                self.loss.clear();
                self.delay.clear();
            }
            Deed::WriteErrant { .. } | Deed::AskFailovers { .. } | Deed::AskSwitchover { .. } => {}
        }
    }

    /// Whether a question from one host to another gets an answer.
    pub fn can_talk(&self, a: &str, b: &str) -> bool {
        let is_gone = |host: &str| self.off.contains(host) || self.isolated.contains(host);
        let is_cut = |from: &str, to: &str| self.cuts.contains(&(from.into(), to.into()));
        !is_gone(a) && !is_gone(b) && !is_cut(a, b) && !is_cut(b, a)
    }

    /// Whether the process on a host works.
    pub fn is_running(&self, name: &str) -> bool {
        !self.down.contains(name) && !self.stopped.contains(name) && !self.off.contains(name)
    }

    /// How many things are broken.
    pub fn size(&self) -> usize {
        let stopped = self.stopped.len();
        let network = self.isolated.len() + self.cuts.len() + self.loss.len() + self.delay.len();
        self.down.len() + stopped + network
    }

    /// Whether this can make a primary be taken for dead, and rightly: it does not run, it cannot
    /// be heard at all, its own packets are lost or late; or a majority of the managers cannot
    /// talk to it and no replica that they reach can. One manager's broken route cannot, nor the
    /// loss of all routes from managers while a replica hears it.
    pub fn can_hurt(&self, primary: &str, servers: &[String], managers: &[String]) -> bool {
        if !self.is_running(primary) || self.isolated.contains(primary) {
            return true;
        }
        if self.loss.contains_key(primary) || self.delay.contains_key(primary) {
            return true;
        }
        let blind = managers.iter().filter(|manager| !self.can_talk(manager, primary)).count();
        let hears = |replica: &&String| {
            let is_reached = managers.iter().any(|manager| self.can_talk(manager, replica));
            self.is_running(replica) && is_reached && self.can_talk(replica, primary)
        };
        let mut replicas = servers.iter().filter(|server| *server != primary);
        blind * 2 > managers.len() && !replicas.any(|replica| hears(&replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hurts(deeds: &[Deed]) -> bool {
        let mut world = World::default();
        deeds.iter().for_each(|deed| world.apply(deed));
        let names = |names: [&str; 3]| names.map(str::to_owned);
        world.can_hurt("db1", &names(["db1", "db2", "db3"]), &names(["m1", "m2", "m3"]))
    }

    fn cut(from: &str, to: &str) -> Deed {
        Deed::Cut { from: from.into(), to: to.into() }
    }

    #[test]
    fn dead_stopped_and_isolated_primaries_are_hurt_until_they_are_repaired() {
        let kill = Deed::KillServer { server: "db1".into() };
        let start = Deed::StartServer { server: "db1".into() };
        assert!(hurts(std::slice::from_ref(&kill)));
        assert!(!hurts(&[kill, start]));
        let isolate = Deed::Isolate { host: "db1".into() };
        assert!(hurts(std::slice::from_ref(&isolate)));
        assert!(!hurts(&[isolate, Deed::HealNetwork]));
        assert!(!hurts(&[Deed::KillServer { server: "db2".into() }]));
        assert!(!hurts(&[Deed::KillManager { manager: "m1".into() }]));
    }

    #[test]
    fn managers_cut_from_a_primary_that_a_replica_hears_are_no_harm_to_it() {
        let managers = [cut("db1", "m1"), cut("m2", "db1"), cut("m3", "db1")];
        assert!(!hurts(&managers));
        let mut deeds = managers.to_vec();
        deeds.extend([cut("db1", "db2"), cut("db3", "db1")]);
        assert!(hurts(&deeds));
        // A replica that hears it and that nobody can ask does not help it.
        let mut deeds = managers.to_vec();
        deeds.extend([cut("db1", "db2"), Deed::Isolate { host: "db3".into() }]);
        assert!(hurts(&deeds));
    }

    #[test]
    fn route_of_one_manager_is_no_harm_though_no_replica_hears_the_primary() {
        assert!(!hurts(&[cut("db1", "m1"), cut("db1", "db2"), cut("db1", "db3")]));
    }
}
