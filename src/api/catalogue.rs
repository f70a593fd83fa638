//! What does this code mean, how does it come about, and what is to be done? Every code that an
//! operator may see: `conclave explain CODE`.

use conclave_core::model::{Epoch, Micros, Problem, Refusal};

/// One code explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub code: &'static str,
    /// The sentence, with names that stand for any.
    pub sentence: String,
    /// How it comes about.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Every code, sorted.
pub fn all() -> Vec<Entry> {
    let refusals = refusals().into_iter().map(|refusal| Entry {
        code: refusal.code(),
        sentence: refusal.sentence(),
        cause: refusal_cause(&refusal),
        remedy: refusal_remedy(&refusal),
    });
    let problems = problems().into_iter().map(|problem| Entry {
        code: problem.code(),
        sentence: problem.sentence(),
        cause: problem_cause(&problem),
        remedy: problem_remedy(&problem),
    });
    let mut out: Vec<Entry> = refusals.chain(problems).collect();
    out.sort_by_key(|entry| entry.code);
    out
}

/// The entry of a code, with or without its area: `gate.paused` or `paused`.
pub fn find(code: &str) -> Option<Entry> {
    let is_it = |entry: &Entry| {
        let bare = entry.code.split_once('.').map_or(entry.code, |(_, bare)| bare);
        entry.code == code || bare == code
    };
    all().into_iter().find(is_it)
}

/// What to do about a refusal; where waiting is the remedy, it says so.
pub fn refusal_remedy(refusal: &Refusal) -> &'static str {
    match refusal.remedy() {
        "" => match refusal {
            Refusal::PrimaryAlive { .. }
            | Refusal::PrimaryNotWell { .. }
            | Refusal::Lagging { .. }
            | Refusal::SessionsInTheWay { .. }
            | Refusal::Filters { .. }
            | Refusal::OlderVersion { .. }
            | Refusal::NotSurveyed { .. }
            | Refusal::Unsupported { .. }
            | Refusal::Paused { .. }
            | Refusal::NotAutomatic
            | Refusal::AttemptOpen { .. }
            | Refusal::LastFailoverInterval { .. }
            | Refusal::RetryPause { .. }
            | Refusal::NotDown { .. }
            | Refusal::NoMajority { .. }
            | Refusal::StillHeard { .. }
            | Refusal::NoReplicaReached
            | Refusal::NoCoverage { .. }
            | Refusal::NoFence { .. }
            | Refusal::NoCandidate { .. }
            | Refusal::TooFewAckers { .. }
            | Refusal::CandidateRefused { .. }
            | Refusal::LeaderStalled { .. }
            | Refusal::NoPrimary { .. }
            | Refusal::Requirement { .. } => "wait: it goes away by itself",
        },
        remedy => remedy,
    }
}

fn refusal_cause(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Paused { .. } => {
            "somebody said conclave pause: the group goes on watching, and neither fails over nor \
             opens a restarted primary by itself"
        }
        Refusal::NotAutomatic => {
            "the definition leaves the decision to people: the group watches and reports only"
        }
        Refusal::AttemptOpen { .. } => {
            "one attempt per cluster at a time: the epoch rises only when the last one is over"
        }
        Refusal::LastFailoverInterval { .. } => {
            "two failovers in short order mean a fault that another failover does not cure; \
             policy last_failover_minutes is counted in time that the group was led"
        }
        Refusal::RetryPause { .. } => {
            "the attempt before was undone, and whatever stopped it gets a moment to pass"
        }
        Refusal::NotDown { .. } => {
            "a majority of all managers has to say down, each from its own route; silent ones, \
             stopped ones and those in doubt count against"
        }
        Refusal::StillHeard { .. } => {
            "a replica still gets heartbeats or transactions from the primary, so it lives and \
             only the managers' way to it is cut"
        }
        Refusal::NoMajority { .. } => {
            "a majority of all managers decides; with one more lost there is none, and no failover \
             whatever happens"
        }
        Refusal::NoReplicaReached => {
            "without one replica's word, a dead primary and a cut-off managers' side look the same"
        }
        Refusal::NoCoverage { .. } => {
            "an acknowledged write may be only on the servers that are missing; promoting another \
             one would lose it"
        }
        Refusal::NoFence { .. } => {
            "mode fenced promotes only once the old primary is known to take no writes: its \
             host cannot be logged in to over SSH, does not answer, or has no SSH defined"
        }
        Refusal::NoCandidate { .. } => {
            "each server has a reason against it: promotion rule, unreachable, errant \
             transactions, a stopped applier, settings"
        }
        Refusal::TooFewAckers { .. } => {
            "in mode quorum each commit waits for acknowledgements; with too few servers left \
             that acknowledge, the new primary would hang at its first write"
        }
        Refusal::CandidateRefused { .. } => "the server named with --to has a reason against it",
        Refusal::LeaderStalled { .. } => {
            "the leading manager's process did not run for a while (load, SIGSTOP, a paused \
             virtual machine), so what it believes to see may be old"
        }
        Refusal::NoPrimary { .. } => {
            "the group adopts a primary when it finds exactly one writable server that the \
             others replicate from; it was not found yet"
        }
        Refusal::PrimaryAlive { .. } => {
            "a failover replaces a dead primary; this one answers, so acknowledged writes and \
             clients are still on it"
        }
        Refusal::Requirement { .. } => {
            "the promise of mode quorum rests on settings of the servers, and one of them is not \
             as it has to be"
        }
        Refusal::PrimaryNotWell { .. } => {
            "a planned switchover brings the last transactions over from a primary that runs, \
             takes writes and is up for a majority of the managers"
        }
        Refusal::Lagging { .. } => {
            "writes would have to wait until the new primary has applied what it lacks"
        }
        Refusal::SessionsInTheWay { .. } => {
            "writes end for a moment: whoever has locked tables or has been in a transaction or a \
             statement for long would lose it"
        }
        Refusal::Filters { .. } => {
            "a server with replication or binary log filters has, or hands on, only a part of the \
             data"
        }
        Refusal::OlderVersion { .. } => {
            "MySQL replicates from an older server to a newer one, not the other way round"
        }
        Refusal::Unsupported { .. } => {
            "not every server has what a promise or a way rests on: MariaDB keeps no evidence for mode \
             quorum, and neither it nor MySQL 5.6 has super_read_only, which a switchover rests on"
        }
        Refusal::NotSurveyed { .. } => {
            "who is busy on the primary is asked right before; it did not answer, or the managers' \
             account may not look"
        }
    }
}

/// What to do about a problem.
pub fn problem_remedy(problem: &Problem) -> &'static str {
    match problem {
        Problem::NoPrimary { .. } => {
            "make one server writable and let the others replicate from it; it is then adopted"
        }
        Problem::PrimaryDown { .. } => {
            "none, if a failover follows; conclave explain CLUSTER says what stands against it"
        }
        Problem::PrimaryUnreachable { .. } => "repair the managers' route to the primary",
        Problem::PrimaryDoubtful { .. } => {
            "look at the route of the managers that do not reach it; their ballots name them"
        }
        Problem::PrimaryRestarted { .. } => {
            "none: policy primary_restarted reopens it or fails over; if neither happens, \
             conclave explain CLUSTER says why"
        }
        Problem::PrimaryReadOnly { .. } => {
            "SET GLOBAL read_only = OFF on it if that was a mistake, or conclave failover CLUSTER"
        }
        Problem::TwoWritable { .. } => {
            "none, if it was just found: it is made read-only on sight; else do so by hand, and \
             compare its transactions"
        }
        Problem::LastAckerLost { .. } => {
            "bring a server with acker = true back; sessions go on by themselves then. With policy \
             last_acker = \"lower\" writes go on without it, and without the promise"
        }
        Problem::AcksLost { .. } => {
            "none: a transaction of the managers' own releases them in a moment"
        }
        Problem::AcksLowered { .. } => {
            "bring the servers that acknowledge back; the number is raised by itself then"
        }
        Problem::AckerDropped { .. } => {
            "start it, or rebuild it: it is let in by itself when it asks to replicate, or leave it \
             out of the definition"
        }
        Problem::ReplicaBroken { .. } => "repair replication on it; its error log says more",
        Problem::ServerUnreachable { .. } => {
            "start it, or repair the route, the account or the password"
        }
        Problem::HostUnreachable { .. } => {
            "do what the sentence says: the key and the known_hosts file are those of [ssh] in the \
             secrets file of each manager"
        }
        Problem::Former { .. } => {
            "start it, if it does not run (a fence masks its unit: systemctl unmask --runtime \
             UNIT); it rejoins by itself if it is clean and policy rejoin = true; else rebuild it"
        }
        Problem::Errant { .. } => {
            "decide what the extra transactions are worth, then rebuild the server from the primary"
        }
        Problem::WrongIdentity { .. } => {
            "correct the address, or, if the server was rebuilt, leave it out of the definition, \
             apply, and put it in again"
        }
        Problem::SameServer { .. } => {
            "correct the address; or, if its data directory was copied from the other, stop it, \
             remove auto.cnf there and start it"
        }
        Problem::Requirement { .. } => {
            "conclave cluster harden CLUSTER shows the statements, and with --apply sets what can be \
             set over SQL; keep it in the configuration file, too"
        }
        Problem::VipMisplaced { .. } => {
            "none, if it was just found: it is moved; else look at SSH to the host it should be on"
        }
    }
}

fn problem_cause(problem: &Problem) -> &'static str {
    match problem {
        Problem::NoPrimary { .. } => {
            "no server is writable with the others behind it, or more than one is"
        }
        Problem::PrimaryDown { .. } => "its process or its host is gone",
        Problem::PrimaryUnreachable { .. } => {
            "the network between managers and primary is cut, not the one among the servers"
        }
        Problem::PrimaryDoubtful { .. } => {
            "pings fail or are late for some managers, but not for a majority long enough"
        }
        Problem::PrimaryRestarted { .. } => {
            "mysqld crashed or was restarted, and it boots read-only as it should"
        }
        Problem::PrimaryReadOnly { .. } => "somebody, or a tool, set read_only on it",
        Problem::TwoWritable { .. } => {
            "a former primary came back writable, or somebody made a replica writable"
        }
        Problem::LastAckerLost { .. } => {
            "no server that acknowledges is connected, so commits wait while pings go on well"
        }
        Problem::AcksLost { .. } => {
            "a receiver was restarted between receiving a transaction and acknowledging it: it is \
             not sent again, and with all clients waiting no further one comes that would release \
             them"
        }
        Problem::AcksLowered { .. } => {
            "the definition asks for more than can be had now, or policy last_acker = \"lower\" let \
             writes go on after too few had acknowledged for last_acker_ms"
        }
        Problem::AckerDropped { .. } => {
            "policy dead_acker = \"drop\": as long as a dead acker is in the agreed set, what it \
             alone may hold stands against a failover; its replication account is locked on the \
             primary, so that it cannot acknowledge unnoticed"
        }
        Problem::ReplicaBroken { .. } => {
            "its receiver or applier is stopped, in error, or it reads from the wrong source"
        }
        Problem::ServerUnreachable { .. } => {
            "mysqld does not run there, the network is cut, or the login is refused"
        }
        Problem::HostUnreachable { .. } => {
            "the leading manager has no SSH session to the host: sshd does not answer, the host's \
             key is not known, or the login is refused"
        }
        Problem::Former { .. } => {
            "it was replaced, and is read-only and no acker until its transactions are known to \
             be all in the new primary"
        }
        Problem::Errant { .. } => {
            "something was written on it that the primary never had, or an old primary had \
             writes that were not received by the new one"
        }
        Problem::WrongIdentity { .. } => {
            "the server was rebuilt with a new uuid, or the address now leads elsewhere"
        }
        Problem::SameServer { .. } => {
            "two names lead to one server, or a data directory was copied together with its auto.cnf"
        }
        Problem::Requirement { .. } => "a setting was changed, or never set",
        Problem::VipMisplaced { .. } => {
            "the address answers from another server than it should, or from none"
        }
    }
}

/// One of each, in the order of the enum.
fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::Paused { by: "alice (index rebuild)".into() },
        Refusal::NotAutomatic,
        Refusal::AttemptOpen { epoch: Epoch(7) },
        Refusal::LastFailoverInterval { left_s: 25_200, minutes: 480 },
        Refusal::RetryPause { left_ms: 2400 },
        Refusal::NotDown { down: 1, needed: 2, voters: 3 },
        Refusal::NoMajority { left: 1, needed: 2, voters: 3 },
        Refusal::StillHeard { by: vec!["db2".into()] },
        Refusal::NoReplicaReached,
        Refusal::NoCoverage { reached: vec!["db2".into()], restarted: vec![], ackers: 2, acks: 1 },
        Refusal::NoFence { server: "db1".into(), why: "SSH to its host timed out".into() },
        Refusal::NoCandidate { against: vec!["db2: promotion = never".into()] },
        Refusal::TooFewAckers { candidate: "db2".into(), left: 0, acks: 1 },
        Refusal::CandidateRefused { server: "db3".into(), why: "promotion = never".into() },
        Refusal::LeaderStalled { span: Micros(900_000) },
        Refusal::NoPrimary { why: "none was adopted yet".into() },
        Refusal::PrimaryAlive { server: "db1".into() },
        Refusal::Requirement { server: "db1".into(), what: "sync_binlog = 0".into() },
        Refusal::PrimaryNotWell { server: "db1".into(), why: "takes no writes".into() },
        Refusal::Lagging { server: "db2".into(), transactions: 51_000, seconds: Some(90) },
        Refusal::SessionsInTheWay {
            server: "db1".into(),
            sessions: vec!["session 42 of app@10.0.0.5 has had a transaction open for 9 s".into()],
        },
        Refusal::Filters { server: "db3".into(), what: "Replicate_Do_DB: app".into() },
        Refusal::OlderVersion {
            server: "db3".into(),
            version: "8.4.6".into(),
            candidate: "9.7.4".into(),
        },
        Refusal::NotSurveyed { server: "db1".into(), why: "access denied".into() },
        Refusal::Unsupported {
            server: "db1".into(),
            what: "MariaDB 11.8.6 has no super_read_only".into(),
        },
    ]
}

/// One of each, in the order of the enum.
fn problems() -> Vec<Problem> {
    let primary = || "db1".into();
    vec![
        Problem::NoPrimary { why: "no server is writable".into() },
        Problem::PrimaryDown { primary: primary() },
        Problem::PrimaryUnreachable { primary: primary(), by: vec!["db2".into()] },
        Problem::PrimaryDoubtful { primary: primary(), down: 1, voters: 3 },
        Problem::PrimaryRestarted { primary: primary() },
        Problem::PrimaryReadOnly { primary: primary() },
        Problem::TwoWritable { primary: primary(), other: "db2".into() },
        Problem::LastAckerLost { primary: primary(), waiting: 12 },
        Problem::AcksLost { primary: primary(), waiting: 12 },
        Problem::AcksLowered { primary: primary(), acks: 0, wanted: 1 },
        Problem::AckerDropped { server: "db3".into(), primary: primary() },
        Problem::ReplicaBroken { server: "db2".into(), why: "the applier is stopped".into() },
        Problem::ServerUnreachable { server: "db2".into(), why: "connection refused".into() },
        Problem::HostUnreachable { server: "db1".into(), why: "SSH to it timed out".into() },
        Problem::Former { server: "db1".into() },
        Problem::Errant { server: "db2".into(), gtids: "UUID:7-9".into() },
        Problem::WrongIdentity {
            server: "db2".into(),
            wanted: "UUID-A".into(),
            found: "UUID-B".into(),
        },
        Problem::SameServer { server: "db4".into(), other: "db2".into(), uuid: "UUID-A".into() },
        Problem::Requirement { server: "db1".into(), what: "sync_binlog = 0".into() },
        Problem::VipMisplaced { vip: "198.51.100.100".into(), why: "nobody answers there".into() },
    ]
}
