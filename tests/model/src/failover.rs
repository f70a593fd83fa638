//! One failover of three servers in `quorum` mode, by the production code: `decide::tick` proposes
//! and orders steps, `state::apply` takes them or not, `step::goal` finds each act.
//!
//! The worst case of a false verdict: every ballot says Down from the beginning, but the primary is
//! alive, cut off from the managers only, and takes writes. Any event may come next: a write, its
//! arrival at a replica, a tick, a phase of a step, the crash of a replica, a new leader. An older
//! leader goes on with the steps that it has in hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use conclave_core::{
    decide::{self, ClusterView, Move, StepOrder, View},
    model::{
        Actor, Answer, Applier, Ballot, Boot, ClusterDefinition, CountedBallot, Evidence, GtidSet,
        Hearing, LinkOptions, ManagerId, Micros, Mode, Mono, Nonce, Observation, Policy,
        PromotionRule, Receiver, ReplicaFacts, SemiSync, ServerDefinition, ServerFacts, ServerName,
        StepEvidence, StepOutcome, Tally, Term, Token,
    },
    ports::SqlAction,
    state::{ClusterState, Command, GroupState, Reply},
    step::goal::{self, Next},
};
use stateright::{Model, Property};

/// How many servers; the first one is primary at the start.
const SERVERS: usize = 3;

/// Writes of the clients after the first one.
const WRITES: u64 = 1;

/// Terms after the first one.
const TERMS: u64 = 1;

/// The time; nothing in the model is ever late.
const NOW: Mono = Mono(100_000_000);

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Failover;

/// One server. All transactions are the first primary's; what is received is applied at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// It runs.
    pub is_alive: bool,
    /// How many transactions it has.
    pub has: u64,
    /// Whom it follows.
    pub source: Option<usize>,
    /// Its receiver and its applier run.
    pub is_receiving: bool,
    /// Applications can write here.
    pub is_writable: bool,
    /// Its commits wait for acknowledgements.
    pub waits: bool,
    /// It acknowledges.
    pub acknowledges: bool,
    /// Whose session holds the lock.
    pub holder: Option<Token>,
    /// The newest actor that ever held it.
    pub newest: Option<Token>,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The lock comes next.
    Lock,
    /// The commit of its beginning comes next.
    Commit,
    /// Looks and acts come next, or the end if the goal is met; so many acts were done.
    Act(usize),
}

/// A step in some leader's hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What was ordered.
    pub order: Arc<StepOrder>,
    /// How far it is.
    pub phase: Phase,
}

/// What is agreed, and a fingerprint of it: thousands of states of the world share one.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// What is agreed.
    pub state: GroupState,
    print: u64,
}

impl Agreed {
    fn new(state: GroupState) -> Arc<Self> {
        let mut hasher = DefaultHasher::new();
        format!("{state:?}").hash(&mut hasher);
        Arc::new(Self { print: hasher.finish(), state })
    }
}

impl PartialEq for Agreed {
    /// The checker itself knows states by their fingerprints only.
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

/// The whole world.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// What is agreed.
    pub group: Arc<Agreed>,
    /// The newest leader's term.
    pub term: u64,
    /// The servers.
    pub servers: [Server; SERVERS],
    /// Steps in hand, of all leaders.
    pub runs: Vec<Run>,
    /// How many writes were sent.
    pub written: u64,
    /// How many of them were acknowledged.
    pub acknowledged: u64,
    /// An older actor acted after a newer one had held the lock.
    pub is_stale: bool,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.group.print.hash(state);
        for run in &self.runs {
            (run.order.token, run.phase).hash(state);
        }
        (self.term, &self.servers, self.written, self.acknowledged, self.is_stale).hash(state);
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A client sends a write to the old primary.
    Write,
    /// The next transaction arrives at a replica, and is acknowledged.
    Arrive(usize),
    /// A replica dies.
    Crash(usize),
    /// Another leader is elected.
    Elect,
    /// The newest leader decides.
    Tick,
    /// A step goes on, whoever runs it.
    Go(usize),
}

impl Model for Failover {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Event>) {
        actions.extend([Event::Write, Event::Elect]);
        actions.extend((1..SERVERS).flat_map(|ix| [Event::Arrive(ix), Event::Crash(ix)]));
        let is_over = state.cluster().is_some_and(|cluster| !cluster.history.is_empty());
        actions.extend((!is_over).then_some(Event::Tick));
        actions.extend((0..state.runs.len()).map(Event::Go));
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut state = last.clone();
        match event {
            Event::Write => state.write()?,
            Event::Arrive(ix) => state.arrive(ix)?,
            Event::Crash(ix) => state.crash(ix)?,
            Event::Elect => {
                state.term = (state.term <= TERMS).then_some(state.term + 1)?;
            }
            Event::Tick => state.tick(),
            Event::Go(at) => state.go(at),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one primary at most can acknowledge", |_, state: &State| {
                (0..SERVERS).filter(|ix| state.can_acknowledge(*ix)).count() <= 1
            }),
            Property::always("no acknowledged write is lost", |_, state: &State| {
                let new = state.servers[1..].iter().filter(|server| server.is_writable);
                new.into_iter().all(|server| server.has >= state.acknowledged)
            }),
            Property::always("nothing stale takes effect", |_, state: &State| !state.is_stale),
            Property::always("one attempt", |_, state: &State| {
                state.cluster().is_none_or(|cluster| cluster.epoch.0 <= 1)
            }),
            Property::sometimes("promoted by the second leader", |_, state: &State| {
                let is_over = state.cluster().is_some_and(|cluster| !cluster.history.is_empty());
                is_over && state.term > TERMS
            }),
            Property::sometimes("both writes acknowledged and kept", |_, state: &State| {
                let is_open = state.servers[1].is_writable;
                is_open && state.acknowledged == WRITES + 1
            }),
        ]
    }
}

fn name(ix: usize) -> ServerName {
    format!("db{}", ix + 1).as_str().into()
}

fn uuid(ix: usize) -> String {
    format!("00000000-0000-0000-0000-{:012}", ix + 1)
}

fn host(ix: usize) -> String {
    format!("10.0.0.{}", ix + 1)
}

fn transactions(count: u64) -> GtidSet {
    GtidSet::run(&uuid(0), 1, count)
}

fn definition() -> ClusterDefinition {
    let server = |ix: usize| ServerDefinition {
        name: name(ix),
        host: host(ix),
        port: 3306,
        rack: "r".into(),
        promotion: PromotionRule::Allow,
        acker: true,
        replication_account: "repl".into(),
        ssh: None,
        data_dir: "/var/lib/mysql".into(),
        log_bin: None,
        service: None,
    };
    ClusterDefinition {
        name: "app1".into(),
        mode: Mode::Quorum,
        acks: 1,
        admin_account: "conclave".into(),
        servers: (0..SERVERS).map(server).collect(),
        writer: None,
        readers: Vec::new(),
        hooks: Vec::new(),
        policy: Policy::default(),
    }
}

/// The first server is primary and was adopted; one transaction is everywhere.
fn start() -> State {
    let mut group = GroupState::default();
    let definition = Box::new(definition());
    group.apply(1, 1, Command::ApplyDefinition { definition, replaces: None, actor: Actor::Group });
    group.apply(
        1,
        1,
        Command::Adopt {
            cluster: "app1".into(),
            primary: name(0),
            executed: transactions(1),
            uuids: (0..SERVERS).map(|ix| (name(ix), uuid(ix))).collect(),
        },
    );
    let server = |ix: usize| Server {
        is_alive: true,
        has: 1,
        source: (ix > 0).then_some(0),
        is_receiving: ix > 0,
        is_writable: ix == 0,
        waits: ix == 0,
        acknowledges: ix > 0,
        holder: None,
        newest: None,
    };
    State {
        group: Agreed::new(group),
        term: 1,
        servers: std::array::from_fn(server),
        runs: Vec::new(),
        written: 1,
        acknowledged: 1,
        is_stale: false,
    }
}

impl State {
    fn cluster(&self) -> Option<&ClusterState> {
        self.group.state.clusters.values().next()
    }

    /// A commit could be answered OK here.
    fn can_acknowledge(&self, ix: usize) -> bool {
        let server = &self.servers[ix];
        let ackers = self.servers.iter().filter(|other| {
            other.is_alive && other.is_receiving && other.acknowledges && other.source == Some(ix)
        });
        server.is_alive && server.is_writable && (!server.waits || ackers.count() >= 1)
    }

    fn write(&mut self) -> Option<()> {
        let primary = &mut self.servers[0];
        self.written = (self.written <= WRITES).then_some(self.written + 1)?;
        primary.has = self.written;
        Some(())
    }

    fn arrive(&mut self, ix: usize) -> Option<()> {
        let there = self.servers[0].has;
        let server = &mut self.servers[ix];
        let is_connected = server.is_alive && server.is_receiving && server.source == Some(0);
        server.has = (is_connected && server.has < there).then_some(server.has + 1)?;
        if server.acknowledges {
            self.acknowledged = self.acknowledged.max(server.has);
        }
        Some(())
    }

    /// One of them at most.
    fn crash(&mut self, ix: usize) -> Option<()> {
        let are_alive = self.servers.iter().all(|server| server.is_alive);
        let server = are_alive.then_some(&mut self.servers[ix])?;
        server.is_alive = false;
        server.is_receiving = false;
        server.is_writable = false;
        server.holder = None;
        Some(())
    }

    /// What the newest leader decides. A proposal is agreed on at once.
    fn tick(&mut self) {
        for each in decide::tick(&self.view()) {
            match each {
                Move::Propose { command } => {
                    self.is_taken(*command);
                }
                Move::Run { order } => {
                    let ix = self.ix(&order.record.target);
                    // Whoever is dead is not tried again and again.
                    let is_running = self.runs.iter().any(|run| run.order.token == order.token);
                    if !is_running && ix.is_some_and(|ix| self.servers[ix].is_alive) {
                        self.runs.push(Run { order: Arc::from(order), phase: Phase::Lock });
                    }
                }
                Move::Ask { .. } | Move::Survey { .. } | Move::Say { .. } => {}
            }
        }
        self.runs.sort_by_key(|run| run.order.token);
    }

    /// One phase of a step: lock, commit, and then a look with an act or the end.
    fn go(&mut self, at: usize) {
        let Run { order, phase } = self.runs[at].clone();
        let Some(ix) = self.ix(&order.record.target) else { return };
        let (token, step) = (order.token, order.record.id);
        let leads = token.term.0 == self.term;
        let cluster = order.place.cluster.clone();
        let is_going_on = match phase {
            Phase::Lock => {
                let server = &mut self.servers[ix];
                let is_let = server.is_alive && server.holder.is_none_or(|held| held <= token);
                if is_let {
                    server.holder = Some(token);
                    server.newest = server.newest.max(Some(token));
                    self.runs[at].phase = Phase::Commit;
                }
                is_let
            }
            Phase::Commit => {
                let begin = Command::BeginStep { cluster, step };
                let is_begun = leads && self.is_taken(begin);
                self.runs[at].phase = Phase::Act(0);
                is_begun
            }
            Phase::Act(mut acts) => match self.next(&order, ix, acts) {
                Some(Next::Act(_)) => {
                    // One event: a leader is overtaken between phases here, not between two acts.
                    while let Some(Next::Act(action)) = self.next(&order, ix, acts) {
                        self.is_stale |= self.servers[ix].newest > Some(token);
                        self.act(ix, &action);
                        acts += 1;
                    }
                    self.runs[at].phase = Phase::Act(acts);
                    true
                }
                Some(Next::Wait | Next::Settle) => return,
                Some(Next::Met) if leads => {
                    let (begun_in, took_us) = (token.term, Micros(0));
                    let outcome = StepOutcome::Done { evidence: self.evidence(ix) };
                    let end =
                        Command::EndStep { cluster, step, begun_in, outcome, took_us, at_us: None };
                    self.is_taken(end);
                    false
                }
                // Its session is gone, its leader is deposed, or it cannot be: dropped.
                // Nothing is rescued from a host that nobody reaches.
                Some(Next::Met | Next::Carry(_) | Next::Impossible(_)) | None => false,
            },
        };
        if !is_going_on {
            let server = &mut self.servers[ix];
            server.holder = server.holder.filter(|holder| *holder != token);
            self.runs.remove(at);
        }
    }

    fn is_taken(&mut self, command: Command) -> bool {
        let mut state = self.group.state.clone();
        let reply = state.apply(1, self.term, command);
        self.group = Agreed::new(state);
        !matches!(reply, Reply::Rejected { .. })
    }

    /// The next act over its session; `None`: the session is gone.
    fn next(&self, order: &StepOrder, ix: usize, acts: usize) -> Option<Next> {
        let server = &self.servers[ix];
        let facts = self.facts(ix);
        let is_open = server.is_alive && server.holder == Some(order.token);
        // Nobody but its clients and its replicas reaches the old primary.
        let others = (1..SERVERS).filter(|other| self.servers[*other].is_alive);
        let seen: BTreeMap<_, _> = others.map(|other| (name(other), self.facts(other))).collect();
        is_open
            .then(|| goal::next(order, &facts, &seen, &goal::Run { acts, ..goal::Run::default() }))
    }

    fn act(&mut self, ix: usize, action: &SqlAction) {
        let source = |to: &str| (0..SERVERS).find(|ix| host(*ix) == to);
        let server = &mut self.servers[ix];
        match action {
            SqlAction::StopReceiver | SqlAction::StopReplica => server.is_receiving = false,
            SqlAction::StartReceiver | SqlAction::StartReplica => server.is_receiving = true,
            SqlAction::ForgetSource => server.source = None,
            SqlAction::ChangeSource { host, .. } => server.source = source(host),
            SqlAction::SetSemiSyncReplica { on } => server.acknowledges = *on,
            SqlAction::SetSemiSyncSource { on, .. } => server.waits = *on,
            SqlAction::SetWritable => server.is_writable = true,
            SqlAction::SetReadOnly | SqlAction::CloseForWrites { .. } => server.is_writable = false,
            SqlAction::StartApplier
            | SqlAction::ApplyRescued { .. }
            | SqlAction::DropRescued
            | SqlAction::SetOffline { .. }
            | SqlAction::WriteMarker { .. }
            | SqlAction::LockAccount { .. }
            | SqlAction::UnlockAccount { .. }
            | SqlAction::Persist { .. }
            | SqlAction::StopApplier
            | SqlAction::AllowRebuild
            | SqlAction::CutClients
            | SqlAction::Clone { .. } => {}
        }
        // A donor, or the new primary, hands over what it has at once.
        let theirs = self.servers[ix].source.filter(|source| *source > 0);
        if let Some(has) = theirs.map(|source| self.servers[source].has)
            && self.servers[ix].is_receiving
        {
            self.servers[ix].has = has.max(self.servers[ix].has);
        }
    }

    fn evidence(&self, ix: usize) -> StepEvidence {
        let facts = self.facts(ix);
        StepEvidence::Server {
            received: facts.received(),
            executed: facts.executed,
            read_only: facts.read_only,
            uptime_seconds: None,
            waited_for: None,
            closing: None,
        }
    }

    fn ix(&self, wanted: &ServerName) -> Option<usize> {
        (0..SERVERS).find(|ix| name(*ix) == *wanted)
    }

    fn facts(&self, ix: usize) -> ServerFacts {
        let server = &self.servers[ix];
        let replica = server.source.map(|source| ReplicaFacts {
            source_host: host(source),
            source_port: 3306,
            source_uuid: uuid(source),
            receiver: if server.is_receiving { Receiver::On } else { Receiver::Off },
            receiver_error: None,
            applier: if server.is_receiving { Applier::On } else { Applier::Off },
            retrieved: GtidSet::empty(),
            read_to: 0,
            lag_seconds: Some(0),
            heartbeats: 0,
            auto_position: true,
            filters: String::new(),
            options: LinkOptions::default(),
        });
        let is_connected = server.is_receiving
            && server.source.is_some_and(|source| self.servers[source].is_alive);
        ServerFacts {
            uuid: uuid(ix),
            version: "9.7.4".into(),
            server_id: ix as u32 + 1,
            uptime_seconds: 1000,
            read_only: !server.is_writable,
            super_read_only: !server.is_writable,
            offline: false,
            gtid_mode: true,
            log_bin: true,
            log_replica_updates: true,
            sync_binlog: 1,
            flush_log: 1,
            sync_relay_log: 1,
            executed: transactions(server.has),
            purged: GtidSet::empty(),
            replica,
            rescue: None,
            relay_log: String::new(),
            skips_replica_start: true,
            boot: Boot::ReadOnly,
            inbound: None,
            semi_sync: Some(SemiSync {
                has_source: true,
                source_enabled: server.waits,
                replica_enabled: server.acknowledges,
                replica_active: is_connected && server.acknowledges,
                clients: 0,
                acks: 1,
                timeout_ms: SemiSync::LONG_MS,
                after_sync: true,
                wait_no_replica: true,
                waiting: 0,
            }),
        }
    }

    /// What the newest leader looks at: fresh looks at whoever it reaches, and ballots that say
    /// Down of the first primary, and of another one if it is dead.
    fn view(&self) -> View {
        let reached = || (1..SERVERS).filter(|ix| self.servers[*ix].is_alive);
        let look = |ix: usize| Observation { server: name(ix), at: NOW, seen: Ok(self.facts(ix)) };
        let mine = self.runs.iter().filter(|run| run.order.token.term.0 == self.term);
        let seen = ClusterView {
            observations: reached().map(|ix| (name(ix), look(ix))).collect(),
            vouched: reached().map(name).collect(),
            tally: self.tally(),
            doubt: Some(Micros(0)),
            last_ask: Some(NOW),
            running: mine.map(|run| (run.order.record.id, NOW)).collect(),
            progress_at: NOW,
            opened_at: Some(NOW),
            ..ClusterView::default()
        };
        View {
            me: ManagerId(1),
            term: Some(Term(self.term)),
            voters: voters(),
            group: Arc::new(self.group.state.clone()),
            now: NOW,
            stalled: None,
            advanced_at: NOW,
            wall_ms: 0,
            clusters: [("app1".into(), seen)].into(),
        }
    }

    fn tally(&self) -> Option<Tally> {
        let cluster = self.cluster()?;
        let primary = self.ix(cluster.primary()?)?;
        let is_down = primary == 0 || !self.servers[primary].is_alive;
        let hears = |ix: usize| (name(ix), Hearing::Silent { age: Micros(2_000_000) });
        let ballot = |id: ManagerId| Ballot {
            manager: id,
            nonce: Nonce(1),
            answer: if is_down { Answer::Down } else { Answer::Up },
            evidence: Evidence::Silent { span: Micros(2_000_000) },
            hearing: (1..SERVERS).filter(|ix| self.servers[*ix].is_alive).map(hears).collect(),
            vouched: BTreeSet::new(),
            is_restarted: false,
            is_unarmed: false,
        };
        let counted = |id| (id, CountedBallot { ballot: ballot(id), age: Micros(0) });
        Some(Tally {
            primary: name(primary),
            epoch: cluster.epoch,
            nonce: Nonce(1),
            voters: voters(),
            ballots: voters().into_iter().map(counted).collect(),
        })
    }
}

fn voters() -> BTreeSet<ManagerId> {
    (1..=3).map(ManagerId).collect()
}
