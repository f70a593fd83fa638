//! Small whole values for unit tests: a cluster of three in `quorum` mode, its servers as they look
//! when all is well, and an attempt walked through its stages by commands alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    decide::{ClusterView, View},
    model::{
        Actor, Answer, Applier, Attempt, Ballot, Boot, Cause, ClusterDefinition, CountedBallot,
        Election, Epoch, Evidence, GtidSet, Hearing, Inbound, LinkOptions, ManagerId, Micros,
        Millis, Mode, Mono, Nonce, Observation, Opening, Policy, PromotionRule, Receiver,
        ReplicaFacts, SemiSync, ServerDefinition, ServerFacts, ServerName, SshTarget, StepEvidence,
        StepId, StepOutcome, Tally, Term, Vip,
    },
    state::{ClusterState, Command, GroupState, Planned, Reply},
};

/// Now, in every view made here.
pub const NOW: Mono = Mono(100_000_000);

/// The term in which commands are applied.
pub const TERM: u64 = 5;

pub fn uuid(server: u64) -> String {
    format!("00000000-0000-0000-0000-{server:012}")
}

/// Transactions 1 to `last` of a server.
pub fn run(server: u64, last: u64) -> GtidSet {
    GtidSet::run(&uuid(server), 1, last)
}

pub fn name(server: u64) -> ServerName {
    ServerName(format!("db{server}"))
}

pub fn names(servers: &[u64]) -> BTreeSet<ServerName> {
    servers.iter().map(|server| name(*server)).collect()
}

pub fn ann() -> Actor {
    Actor::Operator { name: "ann".into() }
}

pub fn vip() -> Vip {
    Vip { address: "10.0.0.100".into(), prefix: 24, interface: "eth0".into() }
}

fn server(number: u64) -> ServerDefinition {
    let host = format!("10.0.0.{number}");
    ServerDefinition {
        name: name(number),
        host: host.clone(),
        port: 3306,
        rack: format!("r{number}"),
        promotion: PromotionRule::Allow,
        acker: true,
        replication_account: format!("repl{number}"),
        ssh: Some(SshTarget { host, port: 22, user: "root".into() }),
        data_dir: "/var/lib/mysql".into(),
        log_bin: None,
        service: None,
    }
}

/// `app1`: db1, db2 and so on, one acknowledgement.
pub fn definition(servers: u64) -> ClusterDefinition {
    ClusterDefinition {
        name: "app1".into(),
        mode: Mode::Quorum,
        acks: 1,
        admin_account: "conclave".into(),
        servers: (1..=servers).map(server).collect(),
        writer: Some(vip()),
        readers: Vec::new(),
        hooks: Vec::new(),
        policy: Policy { last_failover_minutes: 0, ..Policy::default() },
    }
}

/// A group to which commands are applied one after the other.
pub struct Group {
    pub state: GroupState,
    pub index: u64,
}

impl Group {
    /// Nothing is defined yet.
    pub fn empty() -> Self {
        Self { state: GroupState::default(), index: 0 }
    }

    /// That definition, with db1 adopted as primary.
    pub fn with(definition: ClusterDefinition) -> Self {
        let mut group = Self::empty();
        let uuids = (1..=definition.servers.len() as u64).map(|n| (name(n), uuid(n))).collect();
        let define = Command::ApplyDefinition {
            definition: Box::new(definition),
            replaces: None,
            actor: ann(),
        };
        assert_eq!(group.apply(define), Reply::Version { version: 1 });
        let (cluster, primary, executed) = ("app1".into(), name(1), run(1, 5));
        let adopt = Command::Adopt { cluster, primary, executed, uuids };
        assert_eq!(group.apply(adopt), Reply::Ok);
        group
    }

    /// Three servers, db1 primary.
    pub fn adopted() -> Self {
        Self::with(definition(3))
    }

    pub fn apply(&mut self, command: Command) -> Reply {
        self.apply_in(TERM, command)
    }

    pub fn apply_in(&mut self, term: u64, command: Command) -> Reply {
        self.index += 1;
        self.state.apply(self.index, term, command)
    }

    pub fn cluster(&self) -> &ClusterState {
        &self.state.clusters[&"app1".into()]
    }

    pub fn cluster_mut(&mut self) -> &mut ClusterState {
        self.state.clusters.get_mut(&"app1".into()).expect("app1 is defined")
    }

    pub fn attempt(&self) -> &Attempt {
        self.cluster().attempt.as_ref().expect("an attempt is open")
    }

    /// Opens an attempt with the steps that tick would plan.
    pub fn open(&mut self) -> Reply {
        let steps = crate::decide::stage::freeze(self.cluster());
        let expected = self.cluster().epoch;
        let opening = Box::new(opening(expected));
        self.apply(Command::OpenAttempt { cluster: "app1".into(), expected, opening, steps })
    }

    /// The steps whose goal has that code.
    pub fn steps(&self, code: &str) -> Vec<StepId> {
        let steps = self.attempt().steps.iter().filter(|step| step.goal.code() == code);
        steps.map(|step| step.id).collect()
    }

    pub fn begin(&mut self, step: StepId) -> Reply {
        self.apply(Command::BeginStep { cluster: "app1".into(), step })
    }

    pub fn end(&mut self, step: StepId, outcome: StepOutcome) -> Reply {
        self.apply(end_step(step, TERM, outcome))
    }

    /// Begins and ends every step of that code with its goal met.
    pub fn meet(&mut self, code: &str, executed: &GtidSet) {
        for step in self.steps(code) {
            assert_eq!(self.begin(step), Reply::Ok);
            assert_eq!(self.end(step, met(executed)), Reply::Ok);
        }
    }

    /// An attempt in stage Recover: db2 is elected, db3 acknowledges.
    pub fn elected() -> Self {
        let mut group = Self::adopted();
        group.open();
        group.meet("stop_receiver", &run(1, 9));
        group.meet("fence", &GtidSet::empty());
        group.elect();
        group
    }

    /// Elects db2, which has everything to apply.
    pub fn elect(&mut self) {
        let election = election();
        let steps = crate::decide::stage::recover(&election, &GtidSet::empty());
        let reply = self.apply(Command::Elect {
            cluster: "app1".into(),
            epoch: Epoch(1),
            election: Box::new(election),
            steps,
            at_us: Some(Micros(10)),
        });
        assert!(matches!(reply, Reply::Opened { .. }), "{reply}");
    }

    /// An attempt past entry 9.
    pub fn passed() -> Self {
        let mut group = Self::elected();
        group.pass();
        group
    }

    /// Applies what there is and passes entry 9.
    pub fn pass(&mut self) {
        self.meet("apply", &run(1, 9));
        let view = ClusterView::default();
        let steps = crate::decide::stage::promote(self.cluster(), &view, &election());
        let reply = self.apply(Command::PassPointOfNoReturn {
            cluster: "app1".into(),
            epoch: Epoch(1),
            executed: run(1, 9),
            steps,
            at_us: Some(Micros(20)),
        });
        assert!(matches!(reply, Reply::Opened { .. }), "{reply}");
    }

    /// An attempt whose candidate takes writes.
    pub fn repointing() -> Self {
        let mut group = Self::passed();
        for code in ["detach", "follow", "open_for_writes", "take_vip"] {
            group.meet(code, &run(1, 9));
        }
        let reply = group.apply(Command::EnterRepoint {
            cluster: "app1".into(),
            epoch: Epoch(1),
            steps: Vec::new(),
            at_us: Some(Micros(30)),
        });
        assert!(matches!(reply, Reply::Opened { .. }), "{reply}");
        group
    }

    /// An attempt that is being undone.
    pub fn undoing() -> Self {
        let mut group = Self::adopted();
        group.open();
        group.meet("stop_receiver", &run(1, 9));
        let steps = crate::decide::stage::undo(group.cluster(), group.attempt(), "");
        let reply = group.apply(undo(steps));
        assert!(matches!(reply, Reply::Opened { .. }), "{reply}");
        group
    }
}

pub fn undo(steps: Vec<Planned>) -> Command {
    let (cluster, epoch) = ("app1".into(), Epoch(1));
    Command::Undo { cluster, epoch, why: "a test".into(), steps, at_us: None }
}

pub fn end_step(step: StepId, term: u64, outcome: StepOutcome) -> Command {
    Command::EndStep {
        cluster: "app1".into(),
        step,
        begun_in: Term(term),
        outcome,
        took_us: Micros(1000),
        at_us: Some(Micros(5)),
    }
}

pub fn met(executed: &GtidSet) -> StepOutcome {
    let evidence = StepEvidence::Server {
        executed: executed.clone(),
        received: executed.clone(),
        read_only: true,
        uptime_seconds: None,
        waited_for: None,
        closing: None,
    };
    StepOutcome::Done { evidence }
}

pub fn failed() -> StepOutcome {
    StepOutcome::Failed { why: "a test".into() }
}

/// db2 elected, db3 acknowledges, nothing to catch up.
pub fn election() -> Election {
    Election {
        candidate: name(2),
        donor: None,
        target: run(1, 9),
        recruits: names(&[2, 3]),
        ackers: names(&[3]),
        acks: 1,
        ranking: Vec::new(),
        loss: String::new(),
        rescues: Vec::new(),
    }
}

pub fn opening(epoch: Epoch) -> Opening {
    Opening {
        cause: Cause::PrimaryDown,
        actor: Actor::Group,
        tally: tally(epoch, [Answer::Down, Answer::Down, Answer::Up]),
        wanted: None,
        asserted_dead: false,
        interval_waived: false,
        detected_us: Micros(60_000),
        verdict_us: Micros(1_000),
        at_ms: 0,
        wall_ms: 1_700_000_000_000,
    }
}

/// Fresh ballots about db1; both replicas are disconnected from it.
pub fn tally(epoch: Epoch, answers: [Answer; 3]) -> Tally {
    let hearing =
        BTreeMap::from([(name(2), Hearing::Disconnected), (name(3), Hearing::Disconnected)]);
    let ballot = |(id, answer)| {
        let ballot = Ballot {
            manager: ManagerId(id),
            nonce: Nonce(7),
            answer,
            evidence: Evidence::NotProbed,
            hearing: hearing.clone(),
            vouched: names(&[2, 3]),
            is_restarted: false,
            is_unarmed: false,
        };
        (ManagerId(id), CountedBallot { ballot, age: Micros(1_000) })
    };
    Tally {
        primary: name(1),
        epoch,
        nonce: Nonce(7),
        voters: (1..=3).map(ManagerId).collect(),
        ballots: (1..).zip(answers).map(ballot).collect(),
    }
}

/// A primary that takes writes with semi-sync on.
pub fn primary_facts(server: u64, executed: GtidSet) -> ServerFacts {
    ServerFacts {
        uuid: uuid(server),
        version: "9.7.4".into(),
        server_id: server as u32,
        uptime_seconds: 10_000,
        read_only: false,
        super_read_only: false,
        offline: false,
        gtid_mode: true,
        log_bin: true,
        log_replica_updates: true,
        sync_binlog: 1,
        flush_log: 1,
        sync_relay_log: 1,
        skips_replica_start: true,
        boot: Boot::ReadOnly,
        inbound: Some(Inbound {
            dumps: vec!["repl2".into(), "repl3".into()],
            connected: BTreeSet::from(["repl2".into(), "repl3".into()]),
            locked: BTreeSet::new(),
        }),
        executed,
        purged: GtidSet::empty(),
        replica: None,
        rescue: None,
        relay_log: "/data/relay".into(),
        semi_sync: Some(SemiSync {
            has_source: true,
            source_enabled: true,
            acks: 1,
            timeout_ms: 86_400_000,
            after_sync: true,
            wait_no_replica: true,
            ..SemiSync::default()
        }),
    }
}

/// A replica of `source` that acknowledges.
pub fn replica_facts(server: u64, source: u64, executed: GtidSet) -> ServerFacts {
    ServerFacts {
        read_only: true,
        super_read_only: true,
        replica: Some(ReplicaFacts {
            source_host: format!("10.0.0.{source}"),
            source_port: 3306,
            source_uuid: uuid(source),
            receiver: Receiver::On,
            receiver_error: None,
            applier: Applier::On,
            retrieved: GtidSet::empty(),
            read_to: 157,
            lag_seconds: Some(0),
            heartbeats: 4,
            auto_position: true,
            filters: String::new(),
            options: LinkOptions::default(),
        }),
        inbound: Some(Inbound::default()),
        semi_sync: Some(SemiSync {
            has_source: true,
            replica_enabled: true,
            replica_active: true,
            ..SemiSync::default()
        }),
        ..primary_facts(server, executed)
    }
}

/// The same server if it were MariaDB's.
pub fn of_mariadb(facts: ServerFacts) -> ServerFacts {
    ServerFacts { version: "11.8.6-MariaDB-log".into(), ..facts }
}

/// Changes the link of a replica.
pub fn link(facts: &mut ServerFacts) -> &mut ReplicaFacts {
    facts.replica.as_mut().expect("it is a replica")
}

/// A look that began 100 ms ago.
pub fn look(server: u64, facts: ServerFacts) -> Observation {
    Observation { server: name(server), at: NOW.minus(Millis(100)), seen: Ok(facts) }
}

/// A look that failed.
pub fn no_look(server: u64) -> Observation {
    let seen = Err("connection refused".into());
    Observation { server: name(server), at: NOW.minus(Millis(100)), seen }
}

/// A leader's view of a group, seeing what the looks say.
pub fn view(group: &Group, looks: impl IntoIterator<Item = Observation>) -> View {
    let seen = ClusterView {
        observations: looks.into_iter().map(|look| (look.server.clone(), look)).collect(),
        last_ask: Some(NOW),
        seen_writable: Some(NOW.minus(Millis(5000))),
        vouched: group.cluster().regimes.iter().flat_map(|regime| regime.ackers.clone()).collect(),
        vips: BTreeMap::from([(vip().address, Ok(uuid(1)))]),
        progress_at: NOW,
        ..ClusterView::default()
    };
    View {
        me: ManagerId(1),
        term: Some(Term(TERM)),
        voters: (1..=3).map(ManagerId).collect(),
        group: Arc::new(group.state.clone()),
        now: NOW,
        stalled: None,
        advanced_at: NOW,
        wall_ms: 1_700_000_000_000,
        clusters: BTreeMap::from([("app1".into(), seen)]),
    }
}

/// Three servers as they should be.
pub fn healthy() -> Vec<Observation> {
    vec![
        look(1, primary_facts(1, run(1, 9))),
        look(2, replica_facts(2, 1, run(1, 9))),
        look(3, replica_facts(3, 1, run(1, 9))),
    ]
}

/// db1 is gone; the others lost it.
pub fn bereft() -> Vec<Observation> {
    let mut looks = healthy();
    looks[0] = no_look(1);
    for look in &mut looks[1..] {
        link(look.seen.as_mut().expect("it was reached")).receiver = Receiver::Connecting;
    }
    looks
}
