//! Carries values between the decisions and the world: builds the view, asks the core what to do,
//! and does it. Decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use conclave_core::{
    decide::{self, Move, StepOrder, View},
    model::{ClusterName, ManagerId, Micros, Mono, StepId, StepKind, StepOutcome, Term},
    ports::{Clock, Mysql, Place, Ports, ProposeError},
    state::{Command, GroupState},
    step,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    ballot::Booths,
    desk::wall_ms,
    live::{Frame, Live},
    ports::{self, World},
};
use crate::{
    adapters::clock::SystemClock,
    raft::{Leadership, Node},
};

/// Longest pause between two ticks while something is going on, and while nothing is.
const BUSY: Duration = Duration::from_millis(10);
const CALM: Duration = Duration::from_millis(250);

/// Pause after a proposal that was not agreed: the next tick would say it again at once.
const UNAGREED: Duration = Duration::from_millis(100);

/// How long a primary may take to say who is busy on it.
const SURVEY: Micros = Micros(1_000_000);

/// How long what is to stand by may take to open.
const STAND_BY: Micros = Micros(2_000_000);

/// How long a confirmation of leadership may take.
const CONFIRM: Duration = Duration::from_millis(500);

/// The loop of one manager.
pub struct Loop {
    node: Node,
    live: Live,
    booths: Booths,
    world: World,
    leading: Option<Leading>,
    /// The agreed state that [`Live`] has been told of: what a tick looks at is not newer, or it
    /// would begin steps of a record that is yet to be noticed, and begin them again then.
    group: Arc<GroupState>,
    /// One proposal at a time for each cluster: the next tick sees what it changed.
    proposing: BTreeSet<Option<ClusterName>>,
    tasks: JoinSet<Done>,
    /// Steps under way, to be ended when the record no longer wants them.
    steps: BTreeMap<(ClusterName, StepId), AbortHandle>,
    said: BTreeMap<ClusterName, String>,
}

/// This manager leads, confirmed by a majority at the beginning of the term.
struct Leading {
    term: Term,
    advanced_at: Mono,
    clock_ms: u64,
}

enum Done {
    Proposed(Option<ClusterName>),
    Step(ClusterName, StepId),
    Survey,
    StoodBy,
}

impl Loop {
    /// A loop that has not begun.
    pub fn new(node: Node, live: Live, booths: Booths, world: World) -> Self {
        Self {
            group: Arc::default(),
            node,
            live,
            booths,
            world,
            leading: None,
            proposing: BTreeSet::new(),
            tasks: JoinSet::new(),
            steps: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// Runs until `stop` changes.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut state = self.node.state();
        let mut leadership = self.node.leadership();
        let mut pause = CALM;
        loop {
            tokio::select! {
                () = self.live.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                _ = leadership.changed() => {}
                changed = state.changed() => if changed.is_err() { break },
                Some(done) = self.tasks.join_next() => self.joined(done),
                _ = stop.changed() => break,
            }
            while let Some(done) = self.tasks.try_join_next() {
                self.joined(done);
            }
            let now = leadership.borrow_and_update().clone();
            self.follow_leadership(&now).await;
            self.absorb(state.borrow_and_update().clone());
            pause = self.tick();
        }
        self.tasks.shutdown().await;
    }

    /// Takes note of what is agreed, if it is news.
    fn absorb(&mut self, group: Arc<GroupState>) {
        if !Arc::ptr_eq(&group, &self.group) {
            self.live.agreed(&group, SystemClock.now());
            self.end_stray_steps(&group);
            self.group = group;
        }
    }

    fn joined(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Proposed(cluster)) => {
                self.proposing.remove(&cluster);
            }
            Ok(Done::Step(cluster, id)) => {
                self.steps.remove(&(cluster, id));
            }
            Ok(Done::Survey | Done::StoodBy) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a task of the leader ended by a panic"),
        }
    }

    /// A new leader acts only once a majority has confirmed it and its state is the newest.
    async fn follow_leadership(&mut self, now: &Leadership) {
        if !now.is_me {
            if self.leading.take().is_some() {
                tracing::info!(term = now.term, "this manager leads no more");
            }
            return;
        }
        let term = Term(now.term);
        if self.leading.as_ref().is_some_and(|leading| leading.term == term) {
            return;
        }
        self.leading = None;
        match timeout(CONFIRM, self.node.confirm_leadership(CONFIRM)).await {
            Ok(Ok(confirmed)) if confirmed == now.term => {
                tracing::info!(term = now.term, "this manager leads");
                self.absorb(self.node.state().borrow().clone());
                let (at, clock_ms) = (SystemClock.now(), self.group.clock_ms);
                self.leading = Some(Leading { term, advanced_at: at, clock_ms });
            }
            Ok(Ok(_)) | Ok(Err(_)) | Err(_) => {}
        }
    }

    /// What decisions may look at, now.
    fn view(&mut self) -> View {
        let now = SystemClock.now();
        let group = self.group.clone();
        let mut advanced_at = now;
        if let Some(leading) = &mut self.leading {
            if leading.clock_ms != group.clock_ms {
                leading.clock_ms = group.clock_ms;
                leading.advanced_at = now;
            }
            advanced_at = leading.advanced_at;
        }
        let voters = self.node.status().voters.keys().map(|id| ManagerId(*id)).collect();
        let term = self.leading.as_ref().map(|leading| leading.term);
        self.live.view(Frame { term, voters, group, now, advanced_at, wall_ms: wall_ms() })
    }

    /// One tick; returns how long to wait for the next one at most.
    fn tick(&mut self) -> Duration {
        if self.leading.is_none() {
            return CALM;
        }
        let view = self.view();
        for next in decide::tick(&view) {
            self.perform(&view, next);
        }
        let is_busy = view.clusters.iter().any(|(name, seen)| {
            let open = view.group.clusters.get(name).and_then(|c| c.attempt.as_ref());
            let is_asked = seen.wish.is_some() || seen.is_survey_wanted;
            seen.doubt.is_some() || is_asked || open.is_some()
        });
        if is_busy { BUSY } else { CALM }
    }

    fn perform(&mut self, view: &View, next: Move) {
        match next {
            Move::Ask { cluster, primary } => {
                let Some(state) = view.group.clusters.get(&cluster) else { return };
                let now = SystemClock.now();
                let question = self.live.question(state, &primary, &view.voters, now);
                self.booths.ask(&self.live, &question);
            }
            Move::Survey { place } => self.survey(*place),
            Move::Propose { command } => self.propose(*command),
            Move::Run { order } => self.run_step(*order),
            Move::Say { cluster, sentence, answers_wish } => {
                if answers_wish {
                    self.live.answer_wish(&cluster, &sentence);
                }
                if self.said.get(&cluster) != Some(&sentence) {
                    tracing::info!(%cluster, "{sentence}");
                    self.said.insert(cluster, sentence);
                }
            }
        }
    }

    fn survey(&mut self, place: Place) {
        let began = SystemClock.now();
        self.live.survey_began(&place.cluster, began);
        let (world, live) = (self.world.clone(), self.live.clone());
        self.tasks.spawn(async move {
            let deadline = began.plus(SURVEY);
            let answer = world.mysql().survey(&place, deadline).await;
            live.surveyed(&place.cluster, began, answer.map_err(|error| error.to_string()));
            Done::Survey
        });
    }

    fn propose(&mut self, command: Command) {
        let cluster = cluster_of(&command);
        if !self.proposing.insert(cluster.clone()) {
            return;
        }
        let (node, live) = (self.node.clone(), self.live.clone());
        self.tasks.spawn(async move {
            let code = command.code();
            tracing::debug!(command = code, "propose");
            match ports::propose(&node, command).await {
                Ok(reply) => tracing::info!(command = code, %reply, "agreed"),
                Err(ProposeError::Rejected(rejection)) => {
                    tracing::warn!(command = code, %rejection, "rejected");
                }
                Err(
                    error @ (ProposeError::NotLeader
                    | ProposeError::NoQuorum
                    | ProposeError::Unknown(_)),
                ) => {
                    tracing::warn!(command = code, %error, "not agreed");
                    tokio::time::sleep(UNAGREED).await;
                }
            }
            live.wake.notify_one();
            Done::Proposed(cluster)
        });
    }

    fn run_step(&mut self, order: StepOrder) {
        let (cluster, id) = (order.place.cluster.clone(), order.record.id);
        self.live.step_began(&cluster, id, SystemClock.now());
        self.stand_by(&order);
        let (world, live) = (self.world.clone(), self.live.clone());
        let key = (cluster.clone(), id);
        let handle = self.tasks.spawn(async move {
            let (goal, target) = (order.record.goal.code(), order.record.target.clone());
            tracing::info!(%cluster, step = %id, goal, server = %target, "step begins");
            let began = SystemClock.now();
            let end = step::run(&world, &order).await;
            let took = SystemClock.now().since(began);
            if let step::End::Recorded(outcome) = &end {
                live.step_recorded(&order, outcome, began, SystemClock.now());
            }
            log_end(&end, &format!("{cluster} step {id} {goal} on {target}, {took}"));
            live.step_ended(&cluster, id, SystemClock.now());
            Done::Step(cluster, id)
        });
        if let Some(former) = self.steps.insert(key, handle) {
            former.abort();
        }
    }

    /// Opens what later steps of a switchover need while nobody waits for it: it goes to each server in
    /// turn, and whoever is to be stopped may take the address a moment later. In a failover everybody
    /// waits already.
    fn stand_by(&mut self, order: &StepOrder) {
        let cluster = self.group.clusters.get(&order.place.cluster);
        let has_writer = cluster.is_some_and(|cluster| cluster.definition.writer.is_some());
        let is_host = order.last_writes.is_some() && has_writer;
        let is_server = matches!(order.record.goal, StepKind::Level { .. });
        let others = order.others.values().filter(|_| is_server);
        let places = others.chain([&order.place]).filter(|_| is_server || is_host);
        for place in places.cloned().collect::<Vec<_>>() {
            let world = self.world.clone();
            self.tasks.spawn(async move {
                let deadline = SystemClock.now().plus(STAND_BY);
                let stands = match is_host {
                    true => world.remote().stand_by(&place, deadline).await,
                    false => world.mysql().stand_by(&place, deadline).await,
                };
                if let Err(error) = stands {
                    tracing::debug!(server = %place.server.name, %error, "nothing stands by");
                }
                Done::StoodBy
            });
        }
    }

    /// Ends steps that are no longer in the record: their attempt is over, or their chore was
    /// replaced. A fence that still waits for a dead host must not strike when it comes back. One
    /// that has acted is left to say so: a chore leaves the record with its end.
    fn end_stray_steps(&mut self, group: &GroupState) {
        let live = &self.live;
        self.steps.retain(|(cluster, id), handle| {
            let is_wanted = group.clusters.get(cluster).is_some_and(|c| c.step(*id).is_some());
            let is_kept = is_wanted || live.has_acted(cluster, *id);
            if !is_kept {
                handle.abort();
                live.step_ended(cluster, *id, SystemClock.now());
            }
            is_kept
        });
    }
}

fn log_end(end: &step::End, what: &str) {
    match end {
        step::End::Recorded(StepOutcome::Done { .. }) => tracing::info!("{what}: done"),
        step::End::Recorded(StepOutcome::FoundDone { .. }) => {
            tracing::info!("{what}: found done");
        }
        step::End::Recorded(StepOutcome::Failed { why }) => tracing::warn!("{what}: {why}"),
        step::End::Recorded(StepOutcome::Unknown { why }) => {
            tracing::warn!("{what}: outcome unknown: {why}");
        }
        step::End::NotBegun(error) => tracing::warn!("{what}: not begun: {error}"),
        step::End::NotRecorded(_, error) => tracing::warn!("{what}: not recorded: {error}"),
    }
}

fn cluster_of(command: &Command) -> Option<ClusterName> {
    match command {
        Command::ApplyDefinition { definition, .. } => Some(definition.name.clone()),
        Command::RemoveCluster { cluster }
        | Command::Pause { cluster, .. }
        | Command::Resume { cluster }
        | Command::Adopt { cluster, .. }
        | Command::Identify { cluster, .. }
        | Command::OpenAttempt { cluster, .. }
        | Command::BeginStep { cluster, .. }
        | Command::EndStep { cluster, .. }
        | Command::Elect { cluster, .. }
        | Command::PassPointOfNoReturn { cluster, .. }
        | Command::EnterRepoint { cluster, .. }
        | Command::Undo { cluster, .. }
        | Command::CloseAttempt { cluster, .. }
        | Command::PlanChore { cluster, .. }
        | Command::Quarantine { cluster, .. }
        | Command::Rejoin { cluster, .. }
        | Command::LeaveOut { cluster, .. } => Some(cluster.clone()),
        Command::AdvanceTime { .. } => None,
    }
}
