//! Hand-made groups for tests: real states, made by real commands, and views of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use conclave_core::{
    decide::{ClusterView, View},
    model::{
        Actor, Answer, Applier, Ballot, Boot, Cause, ClusterName, CountedBallot, Election, Epoch,
        Evidence, FailoverId, GtidSet, Hearing, Inbound, LinkOptions, ManagerId, Micros, Mono,
        Nonce, Observation, Opening, Outcome, Ranked, Receiver, ReplicaFacts, SemiSync,
        ServerFacts, ServerName, StepEvidence, StepId, StepKind, StepOutcome, Tally, Term, Vip,
    },
    state::{Command, GroupState, Planned, Reply},
};

use super::desk::Snapshot;
use crate::{
    config,
    raft::{Follower, Leader, MemberNode, Role, Status},
};

/// Identities of db1 to db3.
pub const UUIDS: [&str; 3] = [
    "3e11fa47-71ca-11e1-9e33-c80aa9429561",
    "4f22fa47-71ca-11e1-9e33-c80aa9429562",
    "5a33fa47-71ca-11e1-9e33-c80aa9429563",
];

const NOW: Mono = Mono(1_000_000_000);

/// The cluster of the sample.
pub fn app1() -> ClusterName {
    "app1".into()
}

/// A story: commands with rising index, in a term.
pub struct Story {
    pub group: GroupState,
    index: u64,
    pub term: u64,
}

impl Story {
    /// The sample's cluster, with db1 adopted.
    pub fn adopted() -> Self {
        let text = include_str!("../../deploy/samples/app1.toml");
        let definition = config::cluster::parse("app1.toml", text).unwrap();
        let mut story = Self { group: GroupState::default(), index: 1, term: 4 };
        story.tell(Command::ApplyDefinition {
            definition: Box::new(definition),
            replaces: None,
            actor: alice(),
        });
        let uuids = ["db1", "db2", "db3"].map(ServerName::from).into_iter().zip(UUIDS);
        story.tell(Command::Adopt {
            executed: GtidSet::run(UUIDS[0], 1, 4000),
            cluster: app1(),
            primary: "db1".into(),
            uuids: uuids.map(|(name, uuid)| (name, uuid.to_owned())).collect(),
        });
        story
    }

    /// Applies a command that must be taken.
    pub fn tell(&mut self, command: Command) -> Reply {
        self.index += 1;
        let code = command.code();
        let reply = self.group.apply(self.index, self.term, command);
        assert!(!matches!(reply, Reply::Rejected { .. }), "{code}: {reply}");
        reply
    }

    /// Begins and ends the step of that number, `at` after the opening.
    fn step(&mut self, seq: u64, outcome: StepOutcome, took: u64, at: Option<u64>) {
        let step = StepId { epoch: self.epoch(), seq };
        self.tell(Command::BeginStep { cluster: app1(), step });
        self.tell(Command::EndStep {
            cluster: app1(),
            step,
            begun_in: Term(self.term),
            outcome,
            took_us: Micros(took),
            at_us: at.map(Micros),
        });
    }

    fn epoch(&self) -> Epoch {
        self.group.clusters[&app1()].epoch
    }

    /// The primary is dead: opened, with the steps of the freeze.
    pub fn opened(&mut self, actor: Actor, cause: Cause) {
        let mut steps =
            vec![plan("db2", StepKind::StopReceiver), plan("db3", StepKind::StopReceiver)];
        steps.push(plan("db1", StepKind::Fence { vips: vec![vip()] }));
        self.tell(Command::OpenAttempt {
            cluster: app1(),
            expected: self.epoch(),
            opening: Box::new(Opening {
                cause,
                interval_waived: actor != Actor::Group,
                actor,
                tally: tally(Answer::Down),
                wanted: None,
                asserted_dead: false,
                detected_us: Micros(113_400),
                verdict_us: Micros(31_000),
                at_ms: 0,
                wall_ms: 1_767_323_045_000,
            }),
            steps,
        });
    }

    /// Both receivers are stopped, and the host is fenced.
    pub fn frozen(&mut self) {
        let first = self.group.clusters[&app1()].attempt.as_ref().unwrap().steps[0].id.seq;
        self.step(first, done(4990, 5000), 8_300, Some(9_100));
        self.step(first + 1, done(5000, 5012), 9_900, Some(10_700));
        let text = "mysqld 4711 killed\nunit mysql masked\n198.51.100.100 dropped\n";
        let evidence = StepEvidence::Host { text: text.into() };
        self.step(first + 2, StepOutcome::Done { evidence }, 61_000, Some(62_000));
    }

    /// db2 is chosen and brought level.
    pub fn elected(&mut self) {
        let target = GtidSet::run(UUIDS[0], 1, 5012);
        let ranked = |server: &str, against: &[&str], keys: &[&str]| Ranked {
            server: server.into(),
            against: against.iter().map(ToString::to_string).collect(),
            keys: keys.iter().map(ToString::to_string).collect(),
        };
        let election = Election {
            candidate: "db2".into(),
            donor: Some("db3".into()),
            target: target.clone(),
            recruits: names(&["db2", "db3"]),
            ackers: names(&["db3"]),
            acks: 1,
            ranking: vec![
                ranked("db2", &[], &["rule allow", "lacks 12", "another rack"]),
                ranked("db3", &["promotion = never"], &[]),
            ],
            loss: String::new(),
            rescues: Vec::new(),
        };
        let steps = vec![
            plan("db2", StepKind::CatchUp { donor: "db3".into(), target: target.clone() }),
            plan("db2", StepKind::Apply { target }),
        ];
        self.tell(Command::Elect {
            cluster: app1(),
            epoch: self.epoch(),
            election: Box::new(election),
            steps,
            at_us: Some(Micros(62_400)),
        });
        let first = self.last_step() - 1;
        self.step(first, done(4990, 5012), 21_000, Some(84_000));
        self.step(first + 1, done(5012, 5012), 12_000, Some(97_000));
    }

    /// Past entry 9, open for writes, db3 behind it, closed.
    pub fn promoted(&mut self) {
        let epoch = self.epoch();
        let open = StepKind::OpenForWrites {
            acks: 1,
            ackers: names(&["db3"]),
            recruits: names(&["db2", "db3"]),
        };
        self.tell(Command::PassPointOfNoReturn {
            cluster: app1(),
            epoch,
            executed: GtidSet::run(UUIDS[0], 1, 5012),
            steps: vec![
                plan("db3", follow("db2")),
                plan("db2", open),
                plan("db2", StepKind::TakeVip { vip: vip() }),
            ],
            at_us: Some(Micros(98_000)),
        });
        let first = self.last_step() - 2;
        self.step(first, done(5012, 5012), 30_000, Some(129_000));
        let evidence = StepEvidence::Server {
            executed: GtidSet::run(UUIDS[0], 1, 5012),
            received: GtidSet::run(UUIDS[0], 1, 5012),
            read_only: false,
            uptime_seconds: None,
            waited_for: None,
            closing: None,
        };
        self.step(first + 1, StepOutcome::Done { evidence }, 14_000, Some(144_000));
        let evidence = StepEvidence::Host { text: "announced\n".into() };
        self.step(first + 2, StepOutcome::FoundDone { evidence }, 40_000, Some(185_000));
        self.tell(Command::EnterRepoint {
            cluster: app1(),
            epoch,
            steps: Vec::new(),
            at_us: Some(Micros(186_000)),
        });
        self.tell(Command::CloseAttempt {
            cluster: app1(),
            epoch,
            outcome: Outcome::Promoted { left_behind: BTreeSet::new() },
            at_us: Some(Micros(187_500)),
        });
    }

    /// A receiver cannot be stopped, the leader is lost, and another one undoes everything.
    pub fn aborted(&mut self) {
        let epoch = self.epoch();
        let first = self.last_step() - 2;
        self.step(first, done(4990, 5000), 8_300, Some(9_100));
        let why = "connect to db3: no answer within 1000 ms".to_owned();
        self.step(first + 1, StepOutcome::Failed { why }, 1_000_000, Some(1_001_000));
        let step = StepId { epoch, seq: first + 2 };
        self.tell(Command::BeginStep { cluster: app1(), step });
        self.term = 5;
        self.tell(Command::Undo {
            cluster: app1(),
            epoch,
            why: "no coverage: db3 is not reached".into(),
            steps: ["db2", "db3"].map(|server| plan(server, StepKind::ResumeReceiver)).to_vec(),
            at_us: None,
        });
        self.step(self.last_step() - 1, done(5000, 5000), 5_000, None);
        self.step(self.last_step(), done(5000, 5000), 6_000, None);
        self.tell(Command::CloseAttempt {
            cluster: app1(),
            epoch,
            outcome: Outcome::Aborted {
                why: "no coverage: db3 is not reached".into(),
                unfinished: vec!["db1: fence not ended".into()],
            },
            at_us: None,
        });
    }

    fn last_step(&self) -> u64 {
        self.group.clusters[&app1()].next_seq - 1
    }

    /// What the leader, manager 1, sees.
    pub fn seen(&self, cluster: ClusterView) -> Snapshot {
        let raft = raft();
        Snapshot {
            view: View {
                me: ManagerId(1),
                term: Some(Term(self.term)),
                voters: voters(),
                group: Arc::new(self.group.clone()),
                now: NOW,
                stalled: None,
                advanced_at: NOW,
                wall_ms: 1_767_323_100_000,
                clusters: BTreeMap::from([(app1(), cluster)]),
            },
            raft: Status { term: self.term, ..raft },
        }
    }
}

/// An operator.
pub fn alice() -> Actor {
    Actor::Operator { name: "alice".into() }
}

/// The attempt of the first epoch as a wish or the group opened it.
pub fn first_id() -> FailoverId {
    FailoverId { cluster: app1(), epoch: Epoch(1) }
}

fn plan(target: &str, goal: StepKind) -> Planned {
    Planned { target: target.into(), goal }
}

fn follow(source: &str) -> StepKind {
    StepKind::Follow { source: source.into(), acker: true, options: LinkOptions::default() }
}

fn vip() -> Vip {
    Vip { address: "198.51.100.100".into(), prefix: 24, interface: "eth0".into() }
}

fn names(names: &[&str]) -> BTreeSet<ServerName> {
    names.iter().map(|name| ServerName::from(*name)).collect()
}

fn voters() -> BTreeSet<ManagerId> {
    (1..=3).map(ManagerId).collect()
}

fn done(executed: u64, received: u64) -> StepOutcome {
    StepOutcome::Done {
        evidence: StepEvidence::Server {
            executed: GtidSet::run(UUIDS[0], 1, executed),
            received: GtidSet::run(UUIDS[0], 1, received),
            read_only: true,
            uptime_seconds: None,
            waited_for: None,
            closing: None,
        },
    }
}

/// Ballots on db1, or on whoever is primary; once it does not answer, the third manager is silent.
pub fn tally(answer: Answer) -> Tally {
    let evidence = |id: u64| match (answer, id) {
        (Answer::Up, _) => Evidence::Answered { age: Micros(20_000 * id) },
        (Answer::Down | Answer::Unknown, 1) => {
            Evidence::Refused { times: 3, span: Micros(110_000) }
        }
        (Answer::Down | Answer::Unknown, _) => Evidence::Silent { span: Micros(2_040_000) },
    };
    let ballot = |id: u64| {
        let hearing = [("db2", Hearing::Disconnected), ("db3", Hearing::Unknown)];
        let ballot = Ballot {
            manager: ManagerId(id),
            nonce: Nonce(77),
            answer,
            evidence: evidence(id),
            hearing: match answer {
                Answer::Up => BTreeMap::new(),
                Answer::Down | Answer::Unknown => {
                    hearing.into_iter().map(|(name, heard)| (name.into(), heard)).collect()
                }
            },
            vouched: ["db2", "db3"].map(ServerName::from).into(),
            is_restarted: false,
            is_unarmed: false,
        };
        (ManagerId(id), CountedBallot { ballot, age: Micros(15_000 + 400 * id) })
    };
    Tally {
        primary: "db1".into(),
        epoch: Epoch(0),
        nonce: Nonce(77),
        voters: voters(),
        ballots: match answer {
            Answer::Up => (1..=3).map(ballot).collect(),
            Answer::Down | Answer::Unknown => (1..=2).map(ballot).collect(),
        },
    }
}

fn raft() -> Status {
    let node = |id: u64| MemberNode { addr: format!("192.0.2.1{id}:7300"), rack: format!("r{id}") };
    let follower = |ms| Follower { matched: Some(119), last_ack: Some(Duration::from_millis(ms)) };
    Status {
        id: 1,
        group: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
        role: Role::Leader,
        term: 4,
        leader: Some(Leader { id: 1, addr: "192.0.2.11:7300".into() }),
        last_log: Some(120),
        committed: Some(120),
        applied: Some(120),
        snapshot: None,
        purged: None,
        voters: (1..=3).map(|id| (id, node(id))).collect(),
        learners: BTreeMap::new(),
        followers: BTreeMap::from([(2, follower(31)), (3, follower(4_200))]),
        quorum_ack: Some(Duration::from_millis(31)),
        refusals: BTreeMap::new(),
        fatal: None,
    }
}

/// Looks at the servers, 120 ms ago.
pub fn looks(looks: Vec<(&str, Result<ServerFacts, String>)>) -> ClusterView {
    let observe = |(name, seen): (&str, Result<ServerFacts, String>)| {
        let server = ServerName::from(name);
        (server.clone(), Observation { server, at: NOW.minus(Micros(120_000)), seen })
    };
    let observations: BTreeMap<_, _> = looks.into_iter().map(observe).collect();
    ClusterView {
        vouched: observations.keys().cloned().collect(),
        observations,
        seen_writable: Some(NOW),
        ..ClusterView::default()
    }
}

/// A primary as `quorum` mode wants it.
pub fn primary(uuid: &str, executed: GtidSet) -> ServerFacts {
    ServerFacts {
        uuid: uuid.into(),
        version: "9.7.0".into(),
        server_id: 1,
        uptime_seconds: 86_400,
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
            dumps: vec!["repl_db2".into(), "repl_db3".into()],
            ..Inbound::default()
        }),
        executed,
        purged: GtidSet::empty(),
        replica: None,
        rescue: None,
        relay_log: "/var/lib/mysql/relay".into(),
        semi_sync: Some(SemiSync {
            has_source: true,
            source_enabled: true,
            clients: 2,
            acks: 1,
            timeout_ms: 1_000_000_000_000,
            after_sync: true,
            wait_no_replica: true,
            ..SemiSync::default()
        }),
    }
}

/// A replica of the server at that address.
pub fn replica(uuid: &str, source: &str, executed: GtidSet) -> ServerFacts {
    let retrieved = executed.clone();
    ServerFacts {
        read_only: true,
        super_read_only: true,
        replica: Some(ReplicaFacts {
            source_host: source.into(),
            source_port: 3306,
            source_uuid: String::new(),
            receiver: Receiver::On,
            receiver_error: None,
            applier: Applier::On,
            retrieved,
            read_to: 157,
            lag_seconds: Some(0),
            heartbeats: 7,
            auto_position: true,
            filters: String::new(),
            options: LinkOptions::default(),
        }),
        semi_sync: Some(SemiSync {
            has_source: true,
            replica_enabled: true,
            replica_active: true,
            ..SemiSync::default()
        }),
        ..primary(uuid, executed)
    }
}
