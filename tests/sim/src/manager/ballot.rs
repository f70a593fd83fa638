//! Asking and answering for ballots. A question travels, waits while its receiver is stopped, is
//! answered from what that manager knows then, and travels back; its age counts from its sending.

use conclave_core::model::{Answer, Ballot, Evidence, ManagerId, Mono, Nonce, ServerName};

use crate::{
    clock::Owner,
    network::Node,
    world::{Ctx, World},
};

/// How long a question or an answer may be on its way.
const POST: u64 = 5_000_000;

impl World {
    /// Sends a fresh nonce to all managers.
    pub(super) fn ask(&mut self, id: u64, primary: &ServerName) {
        let ctx = self.ctx();
        let now = self.sim.now();
        let voters: Vec<u64> = self.managers.keys().copied().collect();
        let name = self.cluster.clone();
        let Some(manager) = self.managers.get_mut(&id) else { return };
        let now = Mono(now + manager.ahead);
        manager.last_nonce += 1;
        let nonce = Nonce(manager.last_nonce);
        manager.asked.insert(nonce, now);
        // Answers that take longer than this are too old to count.
        manager.asked.retain(|_, sent| now.since(*sent).0 < POST);
        let seen = manager.seen(&name);
        seen.last_ask = Some(now);
        if seen.doubt.is_some() || seen.wish.is_some() {
            seen.asked_at.get_or_insert(now);
        }
        for voter in voters {
            let question = Question { from: id, to: voter, nonce, primary: primary.clone() };
            self.sim.spawn(Owner::WORLD, question.carry(ctx.clone()));
        }
    }

    /// One manager's answer.
    fn vote(&mut self, id: u64, nonce: Nonce, primary: &ServerName) -> Option<Ballot> {
        self.refresh(id);
        let manager = &self.managers[&id];
        let cluster = manager.view.group.clusters.get(&self.cluster)?;
        let now = manager.view.now;
        let (answer, evidence) = match manager.pinged.as_ref() == Some(primary) {
            true => manager.pings.judge(&cluster.definition.policy, now),
            false => (Answer::Unknown, Evidence::NotProbed),
        };
        Some(Ballot {
            manager: ManagerId(id),
            nonce,
            answer,
            evidence,
            hearing: manager.hearing(now, cluster),
            vouched: manager
                .view
                .clusters
                .get(&self.cluster)
                .map(|seen| seen.vouched.clone())
                .unwrap_or_default(),
            is_restarted: manager.is_restarted(now, cluster),
            is_unarmed: manager
                .view
                .clusters
                .get(&self.cluster)
                .is_some_and(|seen| seen.unarmed.is_some()),
        })
    }

    fn count(&mut self, id: u64, ballot: Ballot) {
        let Some(manager) = self.managers.get_mut(&id) else { return };
        let Some(sent) = manager.asked.get(&ballot.nonce).copied() else { return };
        let is_newest = manager
            .ballots
            .get(&ballot.manager)
            .is_none_or(|(known, _)| known.nonce < ballot.nonce);
        if is_newest {
            manager.ballots.insert(ballot.manager, (ballot, sent));
        }
    }
}

struct Question {
    from: u64,
    to: u64,
    nonce: Nonce,
    primary: ServerName,
}

impl Question {
    async fn carry(self, ctx: Ctx) {
        let (here, there) = (Node::Manager(self.from), Node::Manager(self.to));
        if !ctx.travel(here, there, ctx.sim.now() + POST).await {
            return;
        }
        let voter = ctx.world().managers[&self.to].owner;
        let again = ctx.clone();
        ctx.sim.spawn(voter, async move {
            let Some(ballot) = again.world().vote(self.to, self.nonce, &self.primary) else {
                return;
            };
            let ctx = again.clone();
            again.sim.spawn(Owner::WORLD, async move {
                if !ctx.travel(there, here, ctx.sim.now() + POST).await {
                    return;
                }
                let asker = ctx.world().managers[&self.from].owner;
                let again = ctx.clone();
                ctx.sim.spawn(asker, async move { again.world().count(self.from, ballot) });
            });
        });
    }
}
