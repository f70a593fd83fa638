//! A small Raft among the managers: logs, terms, elections, a minority that gets nowhere, and
//! proposals whose outcome nobody knows.
//!
//! Votes are counted at one instant instead of being carried; everything else that can go wrong
//! with a log can go wrong here: an entry that only a minority has may survive its leader or not,
//! and a deposed leader believes in itself until it hears otherwise.

use std::{collections::BTreeMap, sync::Arc};

use conclave_core::{
    model::Term,
    ports::ProposeError,
    state::{Command, GroupState, Reply},
};

use crate::{
    clock::{Micros, Owner, Slot},
    invariant::Event,
    network::Node,
    world::{Ctx, World},
};

/// How long a proposal is waited for.
const PATIENCE: Micros = 5_000_000;

/// One entry; `None`: the blank entry that opens a term.
#[derive(Debug)]
pub struct Entry {
    term: u64,
    command: Option<Command>,
}

type Told = Slot<Result<Reply, ProposeError>>;

/// One manager's part of the group.
#[derive(Debug, Default)]
pub struct Voter {
    log: Vec<Arc<Entry>>,
    term: u64,
    /// It believes that it leads, in `term`.
    pub is_leader: bool,
    /// Entries it knows as committed.
    pub committed: usize,
    /// How much of its own log each other manager has; kept while leading.
    matched: BTreeMap<u64, usize>,
    /// Without a majority since then; kept while leading.
    alone_since: Option<Micros>,
}

/// The group.
pub struct Consensus {
    /// Every manager's part; durable.
    pub voters: BTreeMap<u64, Voter>,
    /// Agreed state after so many entries.
    states: Vec<Arc<GroupState>>,
    replies: Vec<Reply>,
    agreed: Vec<Arc<Entry>>,
    waiting: Vec<(u64, usize, u64, Told)>,
    /// Nobody led since then.
    headless_since: Option<Micros>,
    /// Elections held.
    pub elections: u64,
}

impl Voter {
    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    /// The term in which it leads, as far as it knows.
    pub fn leads(&self) -> Option<Term> {
        self.is_leader.then_some(Term(self.term))
    }
}

impl Consensus {
    /// A group of these managers, with empty logs.
    pub fn new(managers: impl Iterator<Item = u64>) -> Self {
        Self {
            voters: managers.map(|id| (id, Voter::default())).collect(),
            states: vec![Arc::default()],
            replies: Vec::new(),
            agreed: Vec::new(),
            waiting: Vec::new(),
            headless_since: None,
            elections: 0,
        }
    }

    /// The newest agreed state, whoever knows of it.
    pub fn newest(&self) -> Arc<GroupState> {
        self.states.last().cloned().unwrap_or_default()
    }

    /// The agreed state as far as this manager knows.
    pub fn known_to(&self, manager: u64) -> (usize, Arc<GroupState>) {
        let committed = self.voters[&manager].committed;
        (committed, self.states[committed].clone())
    }

    /// Whoever leads in the newest term.
    pub fn leader(&self) -> Option<u64> {
        let leaders = self.voters.iter().filter(|(_, voter)| voter.is_leader);
        leaders.max_by_key(|(_, voter)| voter.term).map(|(id, _)| *id)
    }

    /// Entries agreed on.
    pub fn entries(&self) -> u64 {
        self.agreed.len() as u64
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

impl World {
    /// A manager process that takes part: it runs, is not stopped, and both can talk.
    fn takes_part(&self, with: u64, id: u64) -> bool {
        let talks = self.network.talk(Node::Manager(with), Node::Manager(id));
        self.managers[&id].is_awake(&self.sim) && talks
    }

    fn company(&self, of: u64) -> Vec<u64> {
        self.consensus.voters.keys().copied().filter(|id| self.takes_part(of, *id)).collect()
    }

    /// The manager died: what it wrote stays.
    pub fn leave_group(&mut self, id: u64) {
        if let Some(voter) = self.consensus.voters.get_mut(&id) {
            voter.is_leader = false;
        }
        self.consensus.waiting.retain(|(manager, ..)| *manager != id);
    }

    /// A majority has it: agreed. Applied once, and told to whoever waits.
    fn agree(&mut self, leader: u64, count: usize) {
        let log: Vec<_> = self.consensus.voters[&leader].log[..count].to_vec();
        for (index, entry) in log.into_iter().enumerate() {
            match self.consensus.agreed.get(index) {
                Some(known) => assert_eq!(known.term, entry.term, "two logs agreed at {index}"),
                None => self.apply(entry),
            }
        }
        self.learn(leader, count);
    }

    fn apply(&mut self, entry: Arc<Entry>) {
        let before = self.consensus.newest();
        let mut state = before.clone();
        let index = self.consensus.agreed.len() as u64 + 1;
        let mut reply = Reply::Ok;
        if let Some(command) = &entry.command {
            reply = Arc::make_mut(&mut state).apply(index, entry.term, command.clone());
        }
        self.consensus.agreed.push(entry.clone());
        self.consensus.states.push(state.clone());
        if let Some(cluster) = state.clusters.get(&self.cluster) {
            let steps = cluster.attempt.iter().flat_map(|attempt| &attempt.steps);
            for step in steps.chain(cluster.chores.values()) {
                self.goals.entry(step.id).or_insert_with(|| step.goal.clone());
            }
        }
        self.consensus.replies.push(reply.clone());
        if let Some(command) = &entry.command {
            self.note(|_| format!("log {index} term {}: {} -> {reply}", entry.term, told(command)));
            let (term, command) = (entry.term, command.clone());
            self.emit(Event::Committed { index, term, command, reply, before, state });
        }
    }

    /// This manager knows that so many entries are agreed.
    fn learn(&mut self, id: u64, count: usize) {
        let Some(voter) = self.consensus.voters.get_mut(&id) else { return };
        voter.committed = voter.committed.max(count.min(voter.log.len()));
        let committed = voter.committed;
        let waiting = std::mem::take(&mut self.consensus.waiting);
        for (manager, index, term, told) in waiting {
            if manager != id || index > committed {
                self.consensus.waiting.push((manager, index, term, told));
                continue;
            }
            let is_mine = self.consensus.agreed[index - 1].term == term;
            told.put(match (is_mine, &self.consensus.replies[index - 1]) {
                (true, Reply::Rejected { rejection }) => Err(rejection.clone().into()),
                (true, reply) => Ok(reply.clone()),
                (false, _) => Err(ProposeError::Unknown("the leader was deposed".into())),
            });
        }
    }

    fn step_down(&mut self, id: u64, term: u64) {
        if let Some(voter) = self.consensus.voters.get_mut(&id) {
            if voter.is_leader {
                self.note(|_| format!("m{id} leads no more"));
            }
            let voter = self.consensus.voters.get_mut(&id).filter(|voter| voter.term <= term);
            if let Some(voter) = voter {
                voter.term = term;
                voter.is_leader = false;
            }
        }
    }

    /// Counts votes for this manager; it leads if a majority would have it.
    fn stand(&mut self, id: u64) -> bool {
        let company = self.company(id);
        let last = self.consensus.voters[&id].last();
        let votes: Vec<u64> = company
            .into_iter()
            .filter(|other| self.consensus.voters[other].last() <= last)
            .collect();
        if votes.len() < self.consensus.majority() || !votes.contains(&id) {
            return false;
        }
        let terms = self.consensus.voters.values().map(|voter| voter.term);
        let term = terms.max().unwrap_or(0) + 1;
        for vote in votes {
            self.step_down(vote, term);
        }
        if let Some(voter) = self.consensus.voters.get_mut(&id) {
            voter.is_leader = true;
            voter.matched.clear();
            voter.alone_since = None;
            voter.log.push(Arc::new(Entry { term, command: None }));
        }
        self.consensus.elections += 1;
        self.note(|_| format!("m{id} leads in term {term}"));
        self.spread(id);
        true
    }

    /// The leader sends everybody what they lack.
    fn spread(&mut self, id: u64) {
        let ctx = self.ctx();
        let others: Vec<u64> =
            self.consensus.voters.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let message = {
                let me = &self.consensus.voters[&id];
                let theirs = &self.consensus.voters[&other].log;
                let same = |(mine, theirs): &(&Arc<Entry>, &Arc<Entry>)| mine.term == theirs.term;
                let start = me.log.iter().zip(theirs).take_while(same).count();
                Append {
                    from: id,
                    to: other,
                    term: me.term,
                    start,
                    entries: me.log[start..].to_vec(),
                    committed: me.committed,
                }
            };
            self.sim.spawn(Owner::WORLD, message.deliver(ctx.clone()));
        }
    }

    fn commit_what_a_majority_has(&mut self, id: u64) {
        let me = &self.consensus.voters[&id];
        let mut has: Vec<usize> = me.matched.values().copied().chain([me.log.len()]).collect();
        has.sort_unstable_by(|a, b| b.cmp(a));
        let Some(count) = has.get(self.consensus.majority() - 1).copied() else { return };
        // Only an entry of its own term proves that the majority will keep it.
        if count > me.committed && me.log[count - 1].term == me.term && me.is_leader {
            self.agree(id, count);
            self.spread(id);
        }
    }
}

/// One message of a leader.
struct Append {
    from: u64,
    to: u64,
    term: u64,
    start: usize,
    entries: Vec<Arc<Entry>>,
    committed: usize,
}

impl Append {
    async fn deliver(self, ctx: Ctx) {
        let (here, there) = (Node::Manager(self.from), Node::Manager(self.to));
        if !ctx.travel(here, there, ctx.sim.now() + PATIENCE).await {
            return;
        }
        let receiver = ctx.world().managers[&self.to].owner;
        let again = ctx.clone();
        // A stopped receiver finds the message when it goes on; a dead one never does.
        ctx.sim.spawn(receiver, async move {
            let sync = again.world().rng.range(100, 600);
            again.sim.sleep(sync).await;
            let taken = self.take(&mut again.world());
            let ctx = again.clone();
            again.sim.spawn(Owner::WORLD, async move {
                if ctx.travel(there, here, ctx.sim.now() + PATIENCE).await {
                    let sender = ctx.world().managers[&self.from].owner;
                    let again = ctx.clone();
                    ctx.sim.spawn(sender, async move { self.taken(&mut again.world(), taken) });
                }
            });
        });
    }

    /// What the receiver has afterwards, or its newer term.
    fn take(&self, world: &mut World) -> Result<usize, u64> {
        let found = world.consensus.voters[&self.to].term;
        if found > self.term {
            return Err(found);
        }
        world.step_down(self.to, self.term);
        let Some(voter) = world.consensus.voters.get_mut(&self.to) else { return Ok(0) };
        if voter.log.len() < self.start {
            return Ok(0);
        }
        for (at, entry) in (self.start..).zip(&self.entries) {
            match voter.log.get(at) {
                Some(mine) if mine.term == entry.term => {}
                Some(_) => {
                    voter.log.truncate(at);
                    voter.log.push(entry.clone());
                }
                None => voter.log.push(entry.clone()),
            }
        }
        let up_to = self.start + self.entries.len();
        world.learn(self.to, self.committed.min(up_to));
        Ok(up_to)
    }

    fn taken(&self, world: &mut World, taken: Result<usize, u64>) {
        match taken {
            Err(newer) => world.step_down(self.from, newer),
            Ok(count) => {
                let Some(voter) = world.consensus.voters.get_mut(&self.from) else { return };
                if voter.is_leader && voter.term == self.term {
                    let known = voter.matched.entry(self.to).or_default();
                    *known = count.max(*known);
                    world.commit_what_a_majority_has(self.from);
                }
            }
        }
    }
}

impl Ctx {
    /// Commits a command by way of this manager.
    pub async fn propose(&self, manager: u64, command: Command) -> Result<Reply, ProposeError> {
        let told: Told = Slot::default();
        let sync = {
            let mut world = self.world();
            let Some(voter) = world.consensus.voters.get_mut(&manager).filter(|v| v.is_leader)
            else {
                return Err(ProposeError::NotLeader);
            };
            let term = voter.term;
            voter.log.push(Arc::new(Entry { term, command: Some(command) }));
            let index = voter.log.len();
            world.consensus.waiting.push((manager, index, term, told.clone()));
            world.spread(manager);
            world.rng.range(100, 600)
        };
        self.sim.sleep(sync).await;
        let until = self.sim.now() + PATIENCE;
        let unknown = || ProposeError::Unknown("no majority answered".into());
        self.sim.within(until, told.take()).await.unwrap_or_else(|| Err(unknown()))
    }

    /// Heartbeats and elections.
    pub async fn keep_group(self) {
        loop {
            let pause = self.world().rng.range(40_000, 60_000);
            self.sim.sleep(pause).await;
            let now = self.sim.now();
            let mut world = self.world();
            world.depose(now);
            match world.consensus.leader() {
                Some(leader) if world.managers[&leader].is_awake(&self.sim) => {
                    if world.is_behind(leader) {
                        world.spread(leader);
                    }
                }
                Some(_) | None => {}
            }
            world.elect(now);
        }
    }
}

impl World {
    fn is_behind(&self, leader: u64) -> bool {
        let me = &self.consensus.voters[&leader];
        let behind = |voter: &Voter| voter.committed < me.committed || voter.term < me.term;
        self.consensus.voters.values().any(behind)
    }

    /// A leader that is awake and hears of a newer term, or has had no majority for a while, leads
    /// no more.
    fn depose(&mut self, now: Micros) {
        let leaders: Vec<u64> = self.consensus.voters.keys().copied().collect();
        for id in leaders {
            let voter = &self.consensus.voters[&id];
            if !voter.is_leader || !self.managers[&id].is_awake(&self.sim) {
                continue;
            }
            let company = self.company(id);
            let terms = company.iter().map(|other| self.consensus.voters[other].term);
            let newest = terms.max().unwrap_or(0);
            let has_majority = company.len() >= self.consensus.majority();
            let term = voter.term;
            let Some(voter) = self.consensus.voters.get_mut(&id) else { continue };
            voter.alone_since = match has_majority {
                true => None,
                false => Some(voter.alone_since.unwrap_or(now)),
            };
            let is_alone = voter.alone_since.is_some_and(|since| now - since > 500_000);
            if newest > term || is_alone {
                self.step_down(id, newest.max(term));
            }
        }
    }

    fn elect(&mut self, now: Micros) {
        let is_led = self.consensus.leader().is_some_and(|leader| {
            let company = self.company(leader);
            company.contains(&leader) && company.len() >= self.consensus.majority()
        });
        if is_led {
            self.consensus.headless_since = None;
            return;
        }
        let since = *self.consensus.headless_since.get_or_insert(now);
        let patience = 300_000 + self.rng.below(300_000);
        if now - since < patience {
            return;
        }
        let mut ids: Vec<u64> = self.consensus.voters.keys().copied().collect();
        let first = self.rng.below(ids.len() as u64) as usize;
        ids.rotate_left(first);
        for id in ids {
            if self.managers[&id].is_awake(&self.sim) && self.stand(id) {
                self.consensus.headless_since = None;
                return;
            }
        }
    }
}

/// A command in one line.
fn told(command: &Command) -> String {
    let detail = match command {
        Command::BeginStep { step, .. } => format!(" {step}"),
        Command::EndStep { step, outcome, .. } => {
            let outcome = match outcome.evidence() {
                Some(_) => "met".to_owned(),
                None => format!("{outcome:?}"),
            };
            format!(" {step} {outcome}")
        }
        Command::OpenAttempt { opening, .. } => format!(" {:?}", opening.cause),
        Command::Elect { election, .. } => format!(
            " {} recruits {:?} ackers {:?}",
            election.candidate,
            election.recruits.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
            election.ackers.iter().map(|name| name.as_str()).collect::<Vec<_>>()
        ),
        Command::Undo { why, .. } => format!(" {why}"),
        Command::CloseAttempt { outcome, .. } => format!(" {outcome:?}"),
        Command::PlanChore { planned, .. } => {
            format!(" {} on {}", planned.goal.code(), planned.target)
        }
        Command::Quarantine { server, errant, .. } => format!(" {server} {errant}"),
        Command::Rejoin { server, rejoin, .. } => format!(" {server} {:?}", rejoin.discard),
        Command::Pause { .. }
        | Command::Resume { .. }
        | Command::ApplyDefinition { .. }
        | Command::RemoveCluster { .. }
        | Command::Adopt { .. }
        | Command::Identify { .. }
        | Command::PassPointOfNoReturn { .. }
        | Command::EnterRepoint { .. }
        | Command::LeaveOut { .. }
        | Command::AdvanceTime { .. } => String::new(),
    };
    format!("{command}{detail}")
}
