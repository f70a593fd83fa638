//! One simulated group: its hosts, its clients, its faults, millisecond by millisecond.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use super::{
    Setup,
    check::{Record, hash},
    client::Clients,
    flaw::Flaw,
    host::{Ask, DISK_MS, Host},
    net::{FAIR, Net},
    plan::{self, CUT, Event, Fault},
    runtime::Rng,
    violation::{Check, Violation, violated},
};
use crate::raft::{
    Compaction,
    store::{Ledger, memory::MemoryStore},
};

/// How much log the managers keep: little, so that snapshots are made and sent often.
pub const COMPACTION: Compaction = Compaction { snapshot_after: 40, keep: 15 };

/// What may come on top of that until the next snapshot is there, in entries.
const SLACK: usize = 64;

/// How long the group may take to come right, in ms.
const CONVERGE_MS: u64 = 10_000;

/// What a run was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub simulated_ms: u64,
    pub entries: u64,
    pub terms: u64,
    pub installed: u64,
    /// What clients heard.
    pub answers: BTreeMap<&'static str, u64>,
    pub faults: BTreeMap<&'static str, u64>,
    /// Of all that was seen, in its order.
    pub trace: u64,
}

pub struct World {
    pub now: u64,
    pub hosts: BTreeMap<u64, Host>,
    pub record: Record,
    pub summary: Summary,
    pub rng: Rng,
    pub setup: Setup,
    net: Net,
    stopped: BTreeSet<u64>,
    to_come: Vec<Event>,
    pub clients: Clients,
}

impl World {
    /// A group that was just formed.
    pub fn formed(setup: &Setup) -> Result<Self, Violation> {
        let mut rng = Rng::new(setup.seed);
        let net = Net::new(rng.next());
        let mut compaction = COMPACTION;
        if setup.flaw == Flaw::NeverCompacts {
            compaction.snapshot_after = 1 << 40;
        }
        let ids: Vec<u64> = (1..=setup.managers).collect();
        let made = ids.iter().map(|id| (*id, Host::new(*id, &net, compaction, rng.fork())));
        let hosts: BTreeMap<u64, Host> = made.collect();
        let (record, summary, clients) = Default::default();
        let (setup, stopped, to_come) = (setup.clone(), BTreeSet::new(), vec![]);
        let mut world =
            Self { now: 0, hosts, record, summary, rng, setup, net, stopped, to_come, clients };
        for id in &ids {
            world.start(*id)?;
        }
        world.hosts[&1].form(&ids);
        while world.leader().is_none() {
            world.step()?;
            assert!(world.now < CONVERGE_MS, "no group was formed: {}", world.describe());
        }
        Ok(world)
    }

    /// A manager that believes it leads.
    pub fn leader(&self) -> Option<u64> {
        let leads =
            |host: &&Host| host.up.as_ref().is_some_and(|up| up.node.leadership().borrow().is_me);
        self.hosts.values().filter(leads).map(|host| host.id).max_by_key(|id| {
            self.hosts[id].up.as_ref().map(|up| up.node.leadership().borrow().term)
        })
    }

    /// A millisecond, and what it brought.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.now += 1;
        self.summary.simulated_ms = self.now;
        self.net.advance(self.now);
        let due: Vec<Event> = self.to_come.extract_if(.., |(at, _)| *at <= self.now).collect();
        for (_, fault) in due {
            self.strike(&fault)?;
        }
        for host in self.hosts.values_mut() {
            host.run(self.stopped.contains(&host.id));
        }
        self.observe()?;
        self.hear()
    }

    fn observe(&mut self) -> Result<(), Violation> {
        for host in self.hosts.values() {
            let Some(up) = &host.up else { continue };
            let id = host.id;
            if let Some(reason) = up.node.fatal().reason() {
                return violated(Check::KeepsRunning, format!("manager {id}: {reason}"));
            }
            let points = host.log.points();
            self.record.leader(id, &up.node.leadership().borrow(), &points)?;
            let (applied, state) = (up.machine.applied(), up.node.state().borrow().clone());
            if self.record.look(id, points, || host.log.written(), (applied, &state))? {
                let seen = format!("{:6} {id} {points:?} {applied:?}", self.now);
                if self.setup.is_told {
                    println!("{seen}");
                }
                self.summary.trace = hash(&(self.summary.trace, seen));
            }
        }
        self.summary.installed = self.record.installed;
        self.summary.entries = self.record.last().map_or(0, |last| last + 1);
        self.summary.terms = self.record.terms();
        Ok(())
    }

    /// Draws the next fault.
    pub fn trouble(&mut self) {
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        let leader = self.leader();
        let mut events = plan::draw(&mut self.rng, self.now, &ids, leader);
        self.to_come.append(&mut events);
    }

    /// Something goes wrong or comes right.
    pub fn strike(&mut self, fault: &Fault) -> Result<(), Violation> {
        if self.setup.is_told {
            println!("{:6} {fault:?}", self.now);
        }
        if let Some(kind) = fault.kind() {
            *self.summary.faults.entry(kind).or_default() += 1;
        }
        match fault {
            Fault::Weather(_, links, weather) => {
                links.iter().for_each(|link| self.net.set(*link, *weather));
            }
            Fault::Reset(a, b) => self.net.reset(*a, *b),
            Fault::Kill(id) => self.stop(*id, false)?,
            Fault::PowerCut(id) => self.stop(*id, true)?,
            Fault::Start(id) => self.start(*id)?,
            Fault::Pause(id) => drop(self.stopped.insert(*id)),
            Fault::Continue(id) => drop(self.stopped.remove(id)),
            Fault::Disk(id, ms) => self.hosts[id].disk_ms.store(*ms, Ordering::Relaxed),
            Fault::HandOver(to) => {
                if let Some(leader) = self.leader() {
                    self.ask(leader, Ask::HandOver(*to));
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, id: u64, is_dark: bool) -> Result<(), Violation> {
        let host = self.hosts.get_mut(&id).expect("it is there");
        if host.up.is_some() {
            host.stop(is_dark);
            let left = if is_dark { host.log.durable() } else { host.log.written() };
            host.log = MemoryStore::on_disk(left);
            self.abandon(id)?;
        }
        Ok(())
    }

    fn start(&mut self, id: u64) -> Result<(), Violation> {
        let host = self.hosts.get_mut(&id).expect("it is there");
        if host.up.is_some() {
            return Ok(());
        }
        let mut pages = host.log.written();
        self.setup.flaw.spoil(id, &mut pages, &host.shelf);
        if let Err(e) = host.start(pages) {
            return violated(Check::KeepsRunning, format!("manager {id} does not start: {e}"));
        }
        self.stopped.remove(&id);
        self.record.restarted(id);
        Ok(())
    }

    /// Puts everything right.
    pub fn heal(&mut self) -> Result<(), Violation> {
        self.to_come.clear();
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        for a in &ids {
            self.start(*a)?;
            self.hosts[a].disk_ms.store(DISK_MS, Ordering::Relaxed);
            let is_left = self.setup.flaw == Flaw::LeavesOneOut && *a == 1;
            let weather = if is_left { CUT } else { FAIR };
            ids.iter().for_each(|b| self.net.set((*a, *b), weather));
        }
        self.stopped.clear();
        Ok(())
    }

    /// Goes on until everybody agrees and decides again.
    pub fn converge(&mut self) -> Result<(), Violation> {
        let (limit, mut is_decided) = (self.now + CONVERGE_MS, false);
        while !(is_decided && self.is_level()) {
            if self.now.is_multiple_of(100) && self.clients.are_idle() && !is_decided {
                let answered = self.summary.answers.get("answered").copied();
                let state = self.hosts[&1].up.as_ref().map(|up| up.node.state().borrow().clone());
                let command = self.command(&state.unwrap_or_default());
                self.propose(command);
                while !self.clients.are_idle() && self.now < limit {
                    self.step()?;
                }
                is_decided = self.summary.answers.get("answered").copied() > answered;
            }
            if self.now >= limit {
                return violated(Check::Converges, self.describe());
            }
            self.step()?;
        }
        for host in self.hosts.values() {
            let found = host.log.written().entries.len();
            let most = (COMPACTION.snapshot_after + COMPACTION.keep) as usize + SLACK;
            if found > most {
                let what = format!("manager {} keeps {found} entries, {most} at most", host.id);
                return violated(Check::Compacted, what);
            }
        }
        Ok(())
    }

    /// All have applied all.
    fn is_level(&self) -> bool {
        let last = self.record.last();
        self.hosts.values().all(|host| {
            let applied = host.up.as_ref().and_then(|up| up.machine.applied());
            applied.map(|applied| applied.index) == last
        })
    }

    fn describe(&self) -> String {
        let status = self.hosts.values().map(|host| match &host.up {
            Some(up) => format!("{:?}", up.node.status()),
            None => format!("manager {} is down", host.id),
        });
        let all: Vec<String> = status.collect();
        format!("history up to {:?}, {}", self.record.last(), all.join("; "))
    }
}
