//! Everything that exists in a run, and the handle that its tasks share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use conclave_core::{
    model::{ClusterDefinition, ClusterName, ServerName, StepId, StepKind},
    state::ClusterState,
};

use crate::{
    ambush::Ambush,
    client::Ledger,
    clock::{Micros, Sim, lock},
    consensus::Consensus,
    host::Host,
    invariant::{Checker, Event},
    manager::Manager,
    network::{Ix, Network},
    rng::Rng,
    server::{Server, Trx},
};

/// A handle on the world; cheap to clone. Never held locked across an `.await`.
#[derive(Clone)]
pub struct Ctx {
    /// Time and tasks.
    pub sim: Sim,
    world: Arc<Mutex<World>>,
}

impl Ctx {
    /// Makes a world that knows its own handle.
    pub fn new(sim: Sim, make: impl FnOnce(Weak<Mutex<World>>) -> World) -> Self {
        let world = Arc::new_cyclic(|me| Mutex::new(make(me.clone())));
        Self { sim, world }
    }

    /// The world.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

/// By how much the clocks of two managers differ at the start.
const HOURS: Micros = 5 * 3_600_000_000;

/// The simulated world.
pub struct World {
    /// Time and tasks.
    pub sim: Sim,
    /// Chance.
    pub rng: Rng,
    /// The one cluster that the managers look after.
    pub cluster: ClusterName,
    /// Its definition at the start.
    pub definition: ClusterDefinition,
    /// Names of the servers by their place.
    pub names: Vec<ServerName>,
    /// The servers.
    pub servers: Vec<Server>,
    /// Their hosts.
    pub hosts: Vec<Host>,
    /// Wires.
    pub network: Network,
    /// The managers' log.
    pub consensus: Consensus,
    /// The managers.
    pub managers: BTreeMap<u64, Manager>,
    /// What applications wrote and were told.
    pub ledger: Ledger,
    /// How long an application waits for the answer to a write.
    pub client_patience: Micros,
    /// Files on their way from one host to another, by name.
    pub uploads: BTreeMap<String, Vec<Trx>>,
    /// Managers look in advance whether they can log in to the hosts, and rely on it.
    pub knows_hosts: bool,
    /// Servers that another one stands in for at their address.
    pub away: BTreeMap<Ix, Server>,
    /// What an administrator wrote on replicas.
    pub errant: Vec<Trx>,
    /// A fault that waits for its moment.
    pub ambush: Option<Ambush>,
    /// The invariants, watching.
    pub checker: Checker,
    /// Readable lines of what happened; `None`: not wanted.
    pub trace: Option<Vec<String>>,
    me: Weak<Mutex<World>>,
    last_number: u64,
    /// Every step that was ever planned, and its goal.
    pub goals: BTreeMap<StepId, StepKind>,
    /// How often scripts were called, by key.
    pub calls: BTreeMap<StepId, u64>,
    /// How many calls in a hundred fail, and how many never end by themselves.
    pub hook_trouble: (u64, u64),
}

impl World {
    /// A world with nothing going on yet.
    pub fn new(
        me: Weak<Mutex<World>>,
        sim: Sim,
        seed: u64,
        definition: ClusterDefinition,
        managers: u64,
    ) -> Self {
        let names: Vec<ServerName> = definition.servers.iter().map(|s| s.name.clone()).collect();
        let uuid = |ix: usize| format!("00000000-0000-0000-0000-{:012}", ix + 1);
        let uuids: Vec<String> = (0..names.len()).map(uuid).collect();
        let server = |(ix, s): (Ix, &conclave_core::model::ServerDefinition)| {
            Server::new(ix, uuids.clone(), (s.host.clone(), s.port))
        };
        let cluster = definition.name.clone();
        let mode = definition.mode;
        Self {
            rng: Rng::new(seed),
            servers: definition.servers.iter().enumerate().map(server).collect(),
            hosts: names.iter().map(|_| Host::default()).collect(),
            network: Network::default(),
            consensus: Consensus::new(1..=managers),
            managers: (1..=managers)
                .map(|id| (id, Manager::new(id, sim.process(), id * HOURS, managers)))
                .collect(),
            ledger: Ledger::default(),
            client_patience: 2_000_000,
            uploads: BTreeMap::new(),
            knows_hosts: false,
            away: BTreeMap::new(),
            errant: Vec::new(),
            ambush: None,
            checker: Checker::new(mode),
            trace: None,
            names,
            definition,
            cluster,
            sim,
            me,
            last_number: 0,
            goals: BTreeMap::new(),
            calls: BTreeMap::new(),
            hook_trouble: (0, 0),
        }
    }

    /// The handle on this world.
    pub fn ctx(&self) -> Ctx {
        // The world is only ever reached through a handle, so one exists.
        let world = self.me.upgrade().unwrap_or_else(|| unreachable!("a world without a handle"));
        Ctx { sim: self.sim.clone(), world }
    }

    /// A number that nothing else has.
    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Where that server is in the definition.
    pub fn ix(&self, name: &ServerName) -> Option<Ix> {
        self.names.iter().position(|known| known == name)
    }

    /// The newest agreed state of the cluster.
    pub fn state(&self) -> Option<ClusterState> {
        self.consensus.newest().clusters.get(&self.cluster).cloned()
    }

    fn look_at<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> Option<T> {
        self.consensus.newest().clusters.get(&self.cluster).map(look)
    }

    /// The newest epoch; zero before the first attempt.
    pub fn epoch(&self) -> u64 {
        self.look_at(|cluster| cluster.epoch.0).unwrap_or(0)
    }

    /// An attempt is open.
    pub fn is_failing_over(&self) -> bool {
        self.look_at(|cluster| cluster.attempt.is_some()).unwrap_or(false)
    }

    /// Where the agreed primary is; the first server if there is none.
    pub fn primary(&self) -> Ix {
        let primary = self.look_at(|cluster| self.ix(cluster.primary()?));
        primary.flatten().unwrap_or(0)
    }

    /// Adds a line to the trace, if one is wanted.
    pub fn note(&mut self, line: impl FnOnce(&World) -> String) {
        if self.trace.is_some() {
            let line = format!("{} {}", stamp(self.sim.now()), line(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    /// Shows an event to every invariant.
    pub fn emit(&mut self, event: Event) {
        let mut checker = std::mem::take(&mut self.checker);
        let before = checker.violations.len();
        checker.see(&event, self);
        for violation in &checker.violations[before..] {
            self.note(|_| format!("VIOLATION {violation}"));
        }
        self.checker = checker;
    }
}

/// A moment as `seconds.microseconds`.
pub fn stamp(at: Micros) -> String {
    format!("{:4}.{:06}", at / 1_000_000, at % 1_000_000)
}
