//! Pings of the primary and looks at every server, each over this manager's own route.

use conclave_core::{
    decide::suspect::Ping,
    model::{Mono, Observation},
    ports::Trouble,
};

use crate::{
    clock::Owner,
    network::{Ix, Node},
    sql::Answer,
    world::{Ctx, World},
};

/// Pause between two glances at whether it is time to look.
const GLANCE: u64 = 50_000;

/// One deadline over a whole look.
const LOOK: u64 = 1_000_000;

impl Ctx {
    /// Pings the primary, and reports trouble to the leader.
    pub(super) async fn ping_loop(self, id: u64) {
        loop {
            let target = self.world().ping_target(id);
            let Some((ix, deadline)) = target else {
                self.sim.sleep(GLANCE).await;
                continue;
            };
            let began = self.sim.now();
            let ping = self.ping(id, ix, began + deadline).await;
            let pause = self.world().pinged(id, ix, began, ping);
            self.sim.sleep(pause).await;
        }
    }

    async fn ping(&self, id: u64, ix: Ix, until: u64) -> Ping {
        let answer = |_: &mut World| Answer::Now(Ok(()));
        match self.request(Node::Manager(id), ix, until, answer).await {
            Ok(()) => Ping::Answered,
            Err(error) => match error.trouble {
                Trouble::Refused => Ping::Refused,
                Trouble::Silent => Ping::Silent,
                Trouble::Denied | Trouble::Superseded | Trouble::Answered => Ping::Answered,
                Trouble::Local => Ping::Void,
            },
        }
    }

    /// Looks at one server now and then, and often while something is going on.
    pub(super) async fn look_loop(self, id: u64, ix: Ix) {
        let stagger = self.world().rng.below(GLANCE);
        self.sim.sleep(stagger).await;
        loop {
            let began = self.sim.now();
            let seen = self.look(Node::Manager(id), ix, began + LOOK).await;
            {
                let mut world = self.world();
                let server = world.names[ix].clone();
                let (name, ahead) = (world.cluster.clone(), world.managers[&id].ahead);
                let seen = seen.map_err(|error| error.to_string());
                let look = Observation { server, at: Mono(began + ahead), seen };
                if let Some(manager) = world.managers.get_mut(&id) {
                    manager.looked(&name, look);
                }
            }
            loop {
                let pause = GLANCE + self.world().rng.below(5_000);
                self.sim.sleep(pause).await;
                let world = self.world();
                if self.sim.now() >= began + world.look_pause(id) {
                    break;
                }
            }
        }
    }

    /// Tells the leader that the primary is in trouble, and since when.
    fn nudge(&self, from: u64, to: u64, age: conclave_core::model::Micros) {
        let ctx = self.clone();
        self.sim.spawn(Owner::WORLD, async move {
            let until = ctx.sim.now() + 1_000_000;
            if !ctx.travel(Node::Manager(from), Node::Manager(to), until).await {
                return;
            }
            let owner = ctx.world().managers[&to].owner;
            let again = ctx.clone();
            ctx.sim.spawn(owner, async move {
                let now = again.sim.now();
                if let Some(manager) = again.world().managers.get_mut(&to) {
                    let now = Mono(now + manager.ahead);
                    manager.nudges.insert(from, (now, age));
                }
            });
        });
    }
}

impl World {
    fn ping_target(&mut self, id: u64) -> Option<(Ix, u64)> {
        self.refresh(id);
        let manager = &self.managers[&id];
        let cluster = manager.view.group.clusters.get(&self.cluster)?;
        let deadline = cluster.definition.policy.connect_deadline_ms.0 * 1000;
        Some((self.ix(cluster.primary()?)?, deadline))
    }

    /// Records a ping; how long to wait until the next one.
    fn pinged(&mut self, id: u64, ix: Ix, began: u64, ping: Ping) -> u64 {
        self.refresh(id);
        let leader = self.consensus.leader();
        let (now, name) = (self.sim.now(), self.names[ix].clone());
        let Some(manager) = self.managers.get_mut(&id) else { return GLANCE };
        let now = Mono(now + manager.ahead);
        if manager.pinged.as_ref() == Some(&name) {
            manager.pings.record(Mono(began + manager.ahead), ping);
        }
        let Some(cluster) = manager.view.group.clusters.get(&self.cluster) else { return GLANCE };
        let policy = &cluster.definition.policy;
        let Some(since) = manager.pings.trouble() else {
            return policy.ping_interval_ms.0 * 1000;
        };
        let pause = policy.doubt_interval_ms.0 * 1000;
        let age = now.since(since);
        if let Some(leader) = leader.filter(|leader| *leader != id) {
            self.ctx().nudge(id, leader, age);
        }
        pause
    }

    /// How long after the beginning of a look the next one begins.
    fn look_pause(&self, id: u64) -> u64 {
        let manager = &self.managers[&id];
        let Some(cluster) = manager.view.group.clusters.get(&self.cluster) else {
            return 200_000;
        };
        let seen = manager.view.clusters.get(&self.cluster);
        let is_busy = cluster.attempt.is_some()
            || manager.pings.trouble().is_some()
            || seen.is_some_and(|seen| seen.doubt.is_some() || seen.wish.is_some());
        match is_busy {
            true => GLANCE,
            false => cluster.definition.policy.watch_interval_ms.0 * 1000,
        }
    }
}

impl super::Manager {
    fn looked(&mut self, name: &conclave_core::model::ClusterName, look: Observation) {
        self.trackers.entry(look.server.clone()).or_default().record(&look);
        let cluster = self.view.group.clusters.get(name);
        let is_primary = cluster.and_then(|c| c.primary()) == Some(&look.server);
        let is_writable = look.seen.as_ref().is_ok_and(|facts| facts.is_writable());
        let at = look.at;
        let here = cluster.and_then(|c| c.definition.server(c.primary()?));
        let here = here.map(|here| (here.host.clone(), here.port));
        if let Some((regime, (host, port))) = cluster.and_then(|c| c.regime()).cloned().zip(here) {
            self.vouches.record(&regime, &look);
            self.attendance.record(&regime, (&host, port), &look);
        }
        let seen = self.view.clusters.entry(name.clone()).or_default();
        seen.observations.insert(look.server.clone(), look);
        seen.vouched = self.vouches.standing(seen.observations.values());
        seen.unarmed = self.vouches.unarmed();
        (seen.absent, seen.stuck) = (self.attendance.absent(), self.attendance.stuck());
        if is_primary && is_writable {
            seen.seen_writable = Some(at);
        }
    }
}
