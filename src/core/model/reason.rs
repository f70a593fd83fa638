//! Every "no" as data: a stable code and one sentence, the same in CLI, log and report.

use serde::{Deserialize, Serialize};

use super::{Epoch, Micros, ServerName};

/// Why no attempt is opened. The gate lists all that apply, not the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// An operator paused the cluster.
    Paused { by: String },
    /// The policy says not to act by itself.
    NotAutomatic,
    /// Another attempt is open.
    AttemptOpen { epoch: Epoch },
    /// The last-failover interval is not over.
    LastFailoverInterval { left_s: u64, minutes: u64 },
    /// The attempt before was undone a moment ago.
    RetryPause { left_ms: u64 },
    /// A majority did not say Down.
    NotDown { down: usize, needed: usize, voters: usize },
    /// Too few managers would be left to decide anything.
    NoMajority { left: usize, needed: usize, voters: usize },
    /// A replica still hears the primary: it is unreachable for us, not dead.
    StillHeard { by: Vec<ServerName> },
    /// No replica could be asked whether it hears the primary.
    NoReplicaReached,
    /// What was acknowledged cannot be collected.
    NoCoverage {
        /// Ackers that are evidence.
        reached: Vec<ServerName>,
        /// Ackers that answer, but were not seen to lack nothing since they, or the managers,
        /// started.
        restarted: Vec<ServerName>,
        ackers: usize,
        acks: u32,
    },
    /// No fence would be provable in `fenced` mode.
    NoFence { server: ServerName, why: String },
    /// Nobody can be promoted.
    NoCandidate { against: Vec<String> },
    /// The new primary would have too few servers to acknowledge its writes.
    TooFewAckers { candidate: ServerName, left: usize, acks: u32 },
    /// The server asked for may not be promoted.
    CandidateRefused { server: ServerName, why: String },
    /// The leader's own loop stalled.
    LeaderStalled { span: Micros },
    /// No primary is known yet.
    NoPrimary { why: String },
    /// The primary answers; a switchover is the tool for that.
    PrimaryAlive { server: ServerName },
    /// A requirement of `quorum` mode is not met by the old primary's settings.
    Requirement { server: ServerName, what: String },
    /// A planned switchover needs a primary that is well.
    PrimaryNotWell { server: ServerName, why: String },
    /// The candidate lacks too much of what the primary has: bringing it level would take long.
    Lagging { server: ServerName, transactions: u64, seconds: Option<u64> },
    /// Sessions on the primary would lose what they are doing.
    SessionsInTheWay { server: ServerName, sessions: Vec<String> },
    /// What a server would replicate is not all of it.
    Filters { server: ServerName, what: String },
    /// A server would have to replicate from a newer one.
    OlderVersion { server: ServerName, version: String, candidate: String },
    /// The sessions of the primary could not be listed.
    NotSurveyed { server: ServerName, why: String },
    /// A server of this kind cannot do what would be needed.
    Unsupported { server: ServerName, what: String },
}

impl Refusal {
    /// Stable code, with its area.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Paused { .. } => "gate.paused",
            Refusal::NotAutomatic => "gate.not_automatic",
            Refusal::AttemptOpen { .. } => "gate.attempt_open",
            Refusal::LastFailoverInterval { .. } => "gate.last_failover_interval",
            Refusal::RetryPause { .. } => "gate.retry_pause",
            Refusal::NotDown { .. } => "gate.not_down",
            Refusal::NoMajority { .. } => "gate.no_majority",
            Refusal::StillHeard { .. } => "gate.still_heard",
            Refusal::NoReplicaReached => "gate.no_replica_reached",
            Refusal::NoCoverage { .. } => "gate.no_coverage",
            Refusal::NoFence { .. } => "gate.no_fence",
            Refusal::NoCandidate { .. } => "gate.no_candidate",
            Refusal::TooFewAckers { .. } => "gate.too_few_ackers",
            Refusal::CandidateRefused { .. } => "gate.candidate_refused",
            Refusal::LeaderStalled { .. } => "gate.leader_stalled",
            Refusal::NoPrimary { .. } => "gate.no_primary",
            Refusal::PrimaryAlive { .. } => "gate.primary_alive",
            Refusal::Requirement { .. } => "gate.requirement",
            Refusal::PrimaryNotWell { .. } => "gate.primary_not_well",
            Refusal::Lagging { .. } => "gate.lagging",
            Refusal::SessionsInTheWay { .. } => "gate.sessions_in_the_way",
            Refusal::Filters { .. } => "gate.filters",
            Refusal::OlderVersion { .. } => "gate.older_version",
            Refusal::NotSurveyed { .. } => "gate.not_surveyed",
            Refusal::Unsupported { .. } => "gate.unsupported",
        }
    }

    /// One sentence: what was wanted and what was found.
    pub fn sentence(&self) -> String {
        match self {
            Refusal::Paused { by } => format!("failover is paused by {by}"),
            Refusal::NotAutomatic => "the policy says automatic = false".into(),
            Refusal::AttemptOpen { epoch } => format!("the attempt of epoch {epoch} is still open"),
            Refusal::LastFailoverInterval { left_s, minutes } => {
                format!(
                    "the last failover is younger than {minutes} minutes; {} are left",
                    left(*left_s)
                )
            }
            Refusal::RetryPause { left_ms } => {
                // Told at every change, so not to the millisecond.
                let left_s = left_ms.div_ceil(1000);
                format!("the attempt before was undone; the next may open in {left_s} s")
            }
            Refusal::NotDown { down, needed, voters } => {
                format!("{down} of {voters} managers say the primary is down, {needed} are needed")
            }
            Refusal::NoMajority { left, needed, voters } => {
                format!("{left} of {voters} managers would be left, {needed} are needed to decide")
            }
            Refusal::StillHeard { by } => format!(
                "the primary is unreachable for us, but {} still {} it: not dead",
                names(by),
                verb(by, "hears", "hear")
            ),
            Refusal::NoReplicaReached => {
                "no replica could be asked whether it hears the primary".into()
            }
            Refusal::NoCoverage { reached, restarted, ackers, acks } => {
                let others = match &restarted[..] {
                    [] => String::new(),
                    some => format!(
                        "; {} {} not seen to lack nothing since the last start, which may have \
                         cost what was acknowledged before",
                        names(some),
                        verb(some, "was", "were")
                    ),
                };
                format!(
                    "{} of {ackers} ackers hold what they acknowledged ({}), and with {acks} \
                     acknowledgement(s) per commit a write may be on the others only{others}",
                    reached.len(),
                    names(reached)
                )
            }
            Refusal::NoFence { server, why } => {
                format!("no fence of {server} would be provable: {why}")
            }
            Refusal::NoCandidate { against } => {
                format!("no server can be promoted: {}", against.join("; "))
            }
            Refusal::TooFewAckers { candidate, left, acks } => format!(
                "{candidate} would have {left} acker(s) and needs {acks}: its writes would hang"
            ),
            Refusal::CandidateRefused { server, why } => {
                format!("{server} cannot be promoted: {why}")
            }
            Refusal::LeaderStalled { span } => {
                format!("the leader itself stalled for {span} a moment ago; its view is void")
            }
            Refusal::NoPrimary { why } => format!("there is no primary to replace: {why}"),
            Refusal::PrimaryAlive { server } => {
                format!("{server} answers: a live primary is replaced by a switchover")
            }
            Refusal::Requirement { server, what } => {
                format!("mode quorum is not kept by {server}: {what}")
            }
            Refusal::PrimaryNotWell { server, why } => {
                format!("a switchover needs a primary that is well: {server} {why}")
            }
            Refusal::Lagging { server, transactions, seconds } => {
                let behind =
                    seconds.map_or_else(String::new, |seconds| format!(", {seconds} s behind"));
                format!("{server} lacks {transactions} transaction(s) of the primary{behind}")
            }
            Refusal::SessionsInTheWay { server, sessions } => {
                format!("on {server}, {}", sessions.join("; "))
            }
            Refusal::Filters { server, what } => {
                format!("{server} leaves transactions out: {what}")
            }
            Refusal::OlderVersion { server, version, candidate } => format!(
                "{server} (version {version}) would replicate from a newer server, version \
                 {candidate}"
            ),
            Refusal::NotSurveyed { server, why } => {
                format!("the sessions of {server} could not be listed: {why}")
            }
            Refusal::Unsupported { server, what } => {
                format!("servers of the kind of {server} cannot do that: {what}")
            }
        }
    }

    /// It goes away by itself in a moment: nothing else is to be done because of it meanwhile.
    pub fn is_passing(&self) -> bool {
        match self {
            Refusal::LeaderStalled { .. } => true,
            Refusal::Paused { .. }
            | Refusal::RetryPause { .. }
            | Refusal::NotAutomatic
            | Refusal::AttemptOpen { .. }
            | Refusal::LastFailoverInterval { .. }
            | Refusal::NotDown { .. }
            | Refusal::NoMajority { .. }
            | Refusal::StillHeard { .. }
            | Refusal::NoReplicaReached
            | Refusal::NoCoverage { .. }
            | Refusal::NoFence { .. }
            | Refusal::NoCandidate { .. }
            | Refusal::TooFewAckers { .. }
            | Refusal::CandidateRefused { .. }
            | Refusal::NoPrimary { .. }
            | Refusal::PrimaryAlive { .. }
            | Refusal::Requirement { .. }
            | Refusal::PrimaryNotWell { .. }
            | Refusal::Lagging { .. }
            | Refusal::SessionsInTheWay { .. }
            | Refusal::Filters { .. }
            | Refusal::OlderVersion { .. }
            | Refusal::NotSurveyed { .. }
            | Refusal::Unsupported { .. } => false,
        }
    }

    /// What to do about it; empty where waiting is the remedy.
    pub fn remedy(&self) -> &'static str {
        match self {
            Refusal::Paused { .. } => "conclave resume CLUSTER",
            Refusal::NotAutomatic => "conclave failover CLUSTER, or automatic = true",
            Refusal::AttemptOpen { .. } => "conclave status shows its steps",
            Refusal::LastFailoverInterval { .. } => {
                "wait, or conclave failover CLUSTER --ignore-last-failover"
            }
            Refusal::RetryPause { .. } | Refusal::LeaderStalled { .. } => "",
            Refusal::NotDown { .. } => {
                "none while the primary is well; if it is not, see in conclave status who is silent"
            }
            Refusal::NoMajority { .. } => {
                "bring the missing managers back: conclave status names them"
            }
            Refusal::StillHeard { .. } => "repair the managers' route to the primary",
            Refusal::NoReplicaReached => "repair the managers' route to the replicas",
            Refusal::NoCoverage { .. } => {
                "bring the missing acker or the primary's host back; then it goes on by itself"
            }
            Refusal::NoFence { .. } => {
                "make sure that the old primary is dead, then conclave failover CLUSTER \
                 --old-primary-is-dead"
            }
            Refusal::NoCandidate { .. } | Refusal::CandidateRefused { .. } => {
                "conclave explain CLUSTER shows every server with its reasons"
            }
            Refusal::TooFewAckers { .. } => "bring another replica back",
            Refusal::NoPrimary { .. } => "conclave status shows what was found on each server",
            Refusal::PrimaryAlive { .. } => "conclave switchover CLUSTER, if it is to be replaced",
            Refusal::Requirement { .. } => "set it on the server and in its configuration file",
            Refusal::PrimaryNotWell { .. } => {
                "conclave status shows what is wrong; a dead primary is a matter of conclave failover"
            }
            Refusal::Lagging { .. } => "wait until it has caught up, or choose another with --to",
            Refusal::SessionsInTheWay { .. } => {
                "wait, end them (KILL), or let the switchover cut them: --cut"
            }
            Refusal::Filters { .. } => "take the filters out, or choose another server with --to",
            Refusal::OlderVersion { .. } => {
                "upgrade it first; the old primary itself may be left out: --leave-old"
            }
            Refusal::NotSurveyed { .. } => {
                "GRANT SELECT ON performance_schema.* and PROCESS to the managers' account"
            }
            Refusal::Unsupported { .. } => {
                "choose another mode or way: README, \"Other servers\", says what works where"
            }
        }
    }
}

/// Why the state machine did not take a command. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Rejection {
    /// No such cluster.
    #[error("there is no cluster {cluster}")]
    NoSuchCluster { cluster: String },
    /// The command was made for another epoch.
    #[error("made for epoch {wanted}, but the cluster is in epoch {found}")]
    WrongEpoch { wanted: Epoch, found: Epoch },
    /// The command needs an open attempt, or another stage of it.
    #[error("the attempt is not in a stage for this: {why}")]
    WrongStage { why: String },
    /// No such step, or it may not begin or end now.
    #[error("step {step}: {why}")]
    WrongStep { step: String, why: String },
    /// A newer leader has begun this step.
    #[error("term {found} is older than term {newest} that acts already")]
    StaleTerm { found: u64, newest: u64 },
    /// The gate's rules that the state alone can check.
    #[error("{}", .refusal.sentence())]
    Refused { refusal: Refusal },
    /// The definition breaks rules.
    #[error("the definition has mistakes: {}", .mistakes.join("; "))]
    BadDefinition { mistakes: Vec<String> },
    /// The change would not be safe now.
    #[error("{why}")]
    NotNow { why: String },
}

/// What is wrong with a cluster. [`crate::decide::problem`] holds what may be done about each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Problem {
    /// No primary is known yet.
    NoPrimary { why: String },
    /// A majority says Down, no replica hears it.
    PrimaryDown { primary: ServerName },
    /// Managers do not reach it, but replicas hear it.
    PrimaryUnreachable { primary: ServerName, by: Vec<ServerName> },
    /// Some managers do not reach it.
    PrimaryDoubtful { primary: ServerName, down: usize, voters: usize },
    /// It runs, but is read-only, since a restart.
    PrimaryRestarted { primary: ServerName },
    /// It runs, but somebody made it read-only.
    PrimaryReadOnly { primary: ServerName },
    /// A server other than the primary takes writes.
    TwoWritable { primary: ServerName, other: ServerName },
    /// Commits wait for acknowledgements and no acker is connected.
    LastAckerLost { primary: ServerName, waiting: u32 },
    /// Enough ackers are connected, and yet sessions wait and nothing is committed: the
    /// acknowledgements were lost.
    AcksLost { primary: ServerName, waiting: u32 },
    /// Commits wait for fewer acknowledgements than defined.
    AcksLowered { primary: ServerName, acks: u32, wanted: u32 },
    /// A dead acker was taken out of the agreed set.
    AckerDropped { server: ServerName, primary: ServerName },
    /// A replica is not replicating as wanted.
    ReplicaBroken { server: ServerName, why: String },
    /// A server cannot be reached.
    ServerUnreachable { server: ServerName, why: String },
    /// Its host cannot be logged in to: it cannot be fenced, nor take an address.
    HostUnreachable { server: ServerName, why: String },
    /// A former primary waits for readmission.
    Former { server: ServerName },
    /// A server has transactions that the primary lacks.
    Errant { server: ServerName, gtids: String },
    /// A server is not the one that was here before.
    WrongIdentity { server: ServerName, wanted: String, found: String },
    /// Two names of the definition lead to servers of one identity.
    SameServer { server: ServerName, other: ServerName, uuid: String },
    /// A requirement of the mode is not met.
    Requirement { server: ServerName, what: String },
    /// The writer address is not where it belongs.
    VipMisplaced { vip: String, why: String },
}

impl Problem {
    /// Stable code, with its area.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::NoPrimary { .. } => "problem.no_primary",
            Problem::PrimaryDown { .. } => "problem.primary_down",
            Problem::PrimaryUnreachable { .. } => "problem.primary_unreachable",
            Problem::PrimaryDoubtful { .. } => "problem.primary_doubtful",
            Problem::PrimaryRestarted { .. } => "problem.primary_restarted",
            Problem::PrimaryReadOnly { .. } => "problem.primary_read_only",
            Problem::TwoWritable { .. } => "problem.two_writable",
            Problem::LastAckerLost { .. } => "problem.last_acker_lost",
            Problem::AcksLost { .. } => "problem.acks_lost",
            Problem::AcksLowered { .. } => "problem.acks_lowered",
            Problem::AckerDropped { .. } => "problem.acker_dropped",
            Problem::ReplicaBroken { .. } => "problem.replica_broken",
            Problem::ServerUnreachable { .. } => "problem.server_unreachable",
            Problem::HostUnreachable { .. } => "problem.host_unreachable",
            Problem::Former { .. } => "problem.former",
            Problem::Errant { .. } => "problem.errant",
            Problem::WrongIdentity { .. } => "problem.wrong_identity",
            Problem::SameServer { .. } => "problem.same_server",
            Problem::Requirement { .. } => "problem.requirement",
            Problem::VipMisplaced { .. } => "problem.vip_misplaced",
        }
    }

    /// Needs a person or a failover now (monitoring: 2), rather than attention (1).
    pub fn is_critical(&self) -> bool {
        match self {
            Problem::NoPrimary { .. }
            | Problem::PrimaryDown { .. }
            | Problem::PrimaryUnreachable { .. }
            | Problem::PrimaryRestarted { .. }
            | Problem::PrimaryReadOnly { .. }
            | Problem::TwoWritable { .. }
            | Problem::LastAckerLost { .. }
            | Problem::AcksLost { .. }
            | Problem::WrongIdentity { .. } => true,
            // Without any, what is acknowledged may be lost.
            Problem::AcksLowered { acks, .. } => *acks == 0,
            Problem::PrimaryDoubtful { .. }
            | Problem::AckerDropped { .. }
            | Problem::ReplicaBroken { .. }
            | Problem::ServerUnreachable { .. }
            | Problem::HostUnreachable { .. }
            | Problem::Former { .. }
            | Problem::Errant { .. }
            | Problem::Requirement { .. }
            | Problem::SameServer { .. }
            | Problem::VipMisplaced { .. } => false,
        }
    }

    /// One sentence.
    pub fn sentence(&self) -> String {
        match self {
            Problem::NoPrimary { why } => format!("no primary is known: {why}"),
            Problem::PrimaryDown { primary } => {
                format!("primary {primary} is down: a majority says so and no replica hears it")
            }
            Problem::PrimaryUnreachable { primary, by } => format!(
                "primary {primary} is unreachable for a majority of managers, but {} {} it",
                names(by),
                verb(by, "hears", "hear")
            ),
            Problem::PrimaryDoubtful { primary, down, voters } => {
                format!("{down} of {voters} managers do not reach primary {primary}")
            }
            Problem::PrimaryRestarted { primary } => {
                format!("primary {primary} was restarted and waits read-only")
            }
            Problem::PrimaryReadOnly { primary } => {
                format!("primary {primary} is read-only, and not since a restart")
            }
            Problem::TwoWritable { primary, other } => {
                format!("{other} takes writes although {primary} is the primary")
            }
            Problem::LastAckerLost { primary, waiting } => format!(
                "{waiting} session(s) on {primary} wait for acknowledgements and nobody gives any"
            ),
            Problem::AcksLost { primary, waiting } => format!(
                "{waiting} session(s) on {primary} wait for acknowledgements that were lost, and \
                 nothing is committed although enough servers acknowledge"
            ),
            Problem::AcksLowered { primary, acks, wanted } => format!(
                "commits on {primary} wait for {acks} acknowledgement(s) instead of {wanted}{}",
                if *acks == 0 { ": a failover could lose what it acknowledged" } else { "" }
            ),
            Problem::AckerDropped { server, primary } => format!(
                "{server} is locked out on {primary}: it was dead for long and is no acker until \
                 it is back"
            ),
            Problem::ReplicaBroken { server, why } => format!("replica {server}: {why}"),
            Problem::ServerUnreachable { server, why } => {
                format!("server {server} cannot be watched: {why}")
            }
            Problem::HostUnreachable { server, why } => {
                format!("{server} could not be fenced, nor be given an address: {why}")
            }
            Problem::Former { server } => {
                format!("former primary {server} is not part of the cluster yet")
            }
            Problem::Errant { server, gtids } => {
                format!("{server} has transactions that the primary lacks: {gtids}")
            }
            Problem::WrongIdentity { server, wanted, found } => format!(
                "the server at {server}'s address is another one: wanted {wanted}, found \
                 {found}"
            ),
            Problem::SameServer { server, other, uuid } => {
                format!("{server} and {other} are one and the same server: {uuid}")
            }
            Problem::Requirement { server, what } => {
                format!("{server} does not keep what the mode needs: {what}")
            }
            Problem::VipMisplaced { vip, why } => format!("address {vip}: {why}"),
        }
    }
}

/// A time to wait, in seconds, as people count it: `45 s`, `12 min`, `7 h 12 min`. Never less than
/// it is.
pub fn left(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    match (seconds, minutes) {
        (0..120, _) => format!("{seconds} s"),
        (120.., 0..60) => format!("{minutes} min"),
        (120.., 60..) => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

fn verb<'a>(servers: &[ServerName], of_one: &'a str, of_many: &'a str) -> &'a str {
    match servers {
        [] | [_] => of_one,
        [_, _, ..] => of_many,
    }
}

/// `a, b and c`.
fn names(servers: &[ServerName]) -> String {
    match servers {
        [] => "nobody".into(),
        [one] => one.to_string(),
        [front @ .., last] => {
            let front: Vec<&str> = front.iter().map(ServerName::as_str).collect();
            format!("{} and {last}", front.join(", "))
        }
    }
}
