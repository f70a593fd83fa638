//! The documents that managers answer with: JSON over gRPC now, over HTTP later. Each carries
//! `format`; fields are added, never changed, within one format. Times are lengths of time in
//! microseconds (`_us`) or seconds (`_s`) unless they say otherwise.

use serde::{Deserialize, Serialize};

/// Version of all documents in this file, and of the requests that ask for them.
pub const FORMAT: u32 = 1;

/// What the servers of a cluster lack for mode `quorum`. `conclave cluster harden`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HardenDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: String,
    /// Its mode; in others than `quorum` nothing is looked at.
    pub mode: String,
    /// How many things are missing.
    pub missing: usize,
    /// How many of them `--apply` sets.
    pub applicable: usize,
    /// Every server.
    pub servers: Vec<HardenServer>,
    /// Steps that were planned by this very request.
    pub planned: Vec<String>,
    /// Lines to keep in every server's configuration file.
    pub my_cnf: Vec<String>,
    /// Lines to keep in every server's service unit.
    pub unit: Vec<String>,
}

/// One server of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HardenServer {
    /// Its name.
    pub name: String,
    /// It is the primary.
    pub is_primary: bool,
    /// It was reached; otherwise nobody can tell what is missing.
    pub is_reached: bool,
    /// What is missing.
    pub missing: Vec<NeedDocument>,
    /// The step that was asked for last and has not met its goal.
    pub step: Option<StepDocument>,
    /// That step is not over.
    pub is_under_way: bool,
}

/// Something missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeedDocument {
    /// What is wanted.
    pub what: String,
    /// It is known to be missing; otherwise nobody can tell.
    pub is_certain: bool,
    /// What cures it: statements, one per line; a line that begins with `--` is for people.
    pub lines: Vec<String>,
    /// `--apply` sets it.
    pub is_applicable: bool,
}

/// How well something is, as monitoring counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Ok,
    /// Somebody should look, in time.
    Warning,
    /// Somebody should look now.
    Critical,
    /// Nobody could be asked.
    Unknown,
}

impl Health {
    /// Exit code of `conclave status`.
    pub fn exit_code(self) -> u8 {
        match self {
            Health::Ok => 0,
            Health::Warning => 1,
            Health::Critical => 2,
            Health::Unknown => 3,
        }
    }
}

/// The group, its clusters, and what would happen now. `conclave status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// The worst of all below.
    pub health: Health,
    /// [`Health::exit_code`].
    pub exit_code: u8,
    /// The manager whose view this is.
    pub seen_by: u64,
    /// The leader answered: ballots, open attempts and forecasts are whole.
    pub is_complete: bool,
    /// Why the view is not complete, or what else must be said first; empty: nothing.
    pub notice: String,
    /// Milliseconds since 1970 on the answering manager; for people only.
    pub wall_ms: u64,
    /// The managers.
    pub group: GroupDocument,
    /// The clusters, or the one asked for.
    pub clusters: Vec<ClusterDocument>,
}

/// The group of managers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDocument {
    /// Its id; empty: this manager is in no group yet.
    pub id: String,
    /// How well the group is.
    pub health: Health,
    /// What is wrong with it, each as one sentence.
    pub warnings: Vec<String>,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// The Raft term.
    pub term: u64,
    /// Voters that make a majority.
    pub quorum: usize,
    /// Last entry in the answering manager's log.
    pub last_log: Option<u64>,
    /// Last entry that a majority holds, as it knows.
    pub committed: Option<u64>,
    /// Last entry it has applied.
    pub applied: Option<u64>,
    /// Its members, by id.
    pub managers: Vec<ManagerDocument>,
}

/// One manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManagerDocument {
    /// Its id.
    pub id: u64,
    /// Its rack.
    pub rack: String,
    /// `host:port` it is reached at.
    pub address: String,
    /// `leader`, `follower`, `candidate`, `learner`, `stopped`, or `silent`: the leader does not
    /// hear it; `unknown`: only the leader could tell.
    pub role: String,
    /// Whether it has a vote.
    pub is_voter: bool,
    /// Last entry known to be in its log.
    pub last_log: Option<u64>,
    /// How long ago the leader heard it; missing: not heard, not known, or the leader itself.
    pub heard_us: Option<u64>,
}

/// A code with its sentence and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasonDocument {
    /// Stable code; `conclave explain CODE` tells more.
    pub code: String,
    /// One sentence.
    pub sentence: String,
    /// What to do; empty: wait.
    pub remedy: String,
}

/// What is wrong with a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemDocument {
    /// Needs a person or a failover now.
    pub is_critical: bool,
    /// What.
    #[serde(flatten)]
    pub reason: ReasonDocument,
}

/// What would happen now if a fault came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastDocument {
    /// The fault, as the second half of "if ...".
    pub fault: String,
    /// The server that would be promoted; missing: none.
    pub to: Option<String>,
    /// Why not; empty: it would be done.
    pub refusals: Vec<ReasonDocument>,
}

/// One database cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterDocument {
    /// Its name.
    pub name: String,
    /// The worst of what is said of it.
    pub health: Health,
    /// `quorum`, `fenced` or `best_effort`.
    pub mode: String,
    /// Rises with each attempt.
    pub epoch: u64,
    /// Version of its definition.
    pub version: u64,
    /// The primary in force.
    pub primary: Option<String>,
    /// Replicas whose acknowledgement a commit waits for; 0: asynchronous.
    pub acks: u32,
    /// Whether the group fails over by itself, as far as the policy goes.
    pub automatic: bool,
    /// Who paused it and why; missing: not paused.
    pub paused: Option<String>,
    /// Its servers in the order of the tree: each source before its replicas.
    pub servers: Vec<ServerDocument>,
    /// Its floating addresses.
    pub vips: Vec<VipDocument>,
    /// The newest ballots; empty: nobody was asked.
    pub ballots: Vec<BallotDocument>,
    /// What is wrong.
    pub problems: Vec<ProblemDocument>,
    /// The open attempt.
    pub attempt: Option<AttemptDocument>,
    /// The newest closed attempt.
    pub last_attempt: Option<LastAttemptDocument>,
    /// Seconds left of the last-failover interval; 0: over.
    pub interval_left_s: u64,
    /// Steps under way outside attempts.
    pub chores: Vec<StepDocument>,
    /// What would happen now, per fault.
    pub forecasts: Vec<ForecastDocument>,
}

/// One database server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerDocument {
    /// Its name.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Its rack.
    pub rack: String,
    /// Depth in the tree; 0: no source among the others.
    pub depth: usize,
    /// The server it replicates from, or an unknown one's address; missing: none.
    pub source: Option<String>,
    /// `primary`, `replica`, `former`, `quarantined`, `alone` or `unknown`.
    pub role: String,
    /// Whether a look at it succeeded lately.
    pub is_reached: bool,
    /// How long ago the newest look began; missing: never looked.
    pub look_age_us: Option<u64>,
    /// One short phrase: `writable`, `read-only`, `replicates`, `unreachable: ...`.
    pub state: String,
    /// `@@server_uuid`.
    pub uuid: Option<String>,
    /// `@@version`.
    pub server_version: Option<String>,
    /// Applications could write here.
    pub is_writable: Option<bool>,
    /// `@@read_only`.
    pub read_only: Option<bool>,
    /// `@@super_read_only`.
    pub super_read_only: Option<bool>,
    /// `Seconds_Behind_Source`.
    pub lag_s: Option<u64>,
    /// Whether the definition has it acknowledge.
    pub is_acker: bool,
    /// `source`, `replica`, `off` or `absent`; missing: not known.
    pub semi_sync: Option<String>,
    /// Sessions that wait for acknowledgements.
    pub waiting_sessions: Option<u32>,
    /// `gtid_executed`.
    pub executed: Option<String>,
    /// The same, shortened for a line.
    pub executed_short: Option<String>,
    /// Transactions of the primary that it has not received; empty set: nothing missing.
    pub missing: Option<GtidDocument>,
    /// Transactions that the primary lacks.
    pub errant: Option<GtidDocument>,
    /// What can have been acknowledged of that, once it is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<ExtraDocument>,
    /// Whether it hears the primary, as the answering manager judges; missing: not judged.
    pub hearing: Option<String>,
}

/// What a quarantined server has that the primary lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtraDocument {
    /// The server.
    pub server: String,
    /// All of it.
    pub gtids: GtidDocument,
    /// Its own logs were read; `false`: it is not known yet what can have been acknowledged.
    pub is_examined: bool,
    /// Proved never acknowledged: nobody was told OK.
    pub proved: GtidDocument,
    /// The rest: somebody may have been told OK.
    pub doubts: Vec<DoubtDocument>,
    /// Where it was copied to; missing: not yet.
    pub saved: Option<SavedDocument>,
}

/// A copy of a server's extra transactions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedDocument {
    /// Directory on the server's own host.
    pub path: String,
    /// SHA-256 of its `SHA256SUMS`.
    pub sha256: String,
}

/// Transactions that may have been acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoubtDocument {
    /// Which.
    #[serde(flatten)]
    pub gtids: GtidDocument,
    /// Why that cannot be ruled out; one sentence.
    pub why: String,
}

/// How a server would be, or is, had back. `conclave rejoin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejoinDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: String,
    /// The server.
    pub server: String,
    /// Why not, each as one sentence; empty: it would be done, or is agreed.
    pub refusals: Vec<String>,
    /// What would be discarded; missing: nothing.
    pub extra: Option<ExtraDocument>,
    /// The steps, each as a sentence.
    pub steps: Vec<String>,
}

/// A set of transactions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GtidDocument {
    /// How many.
    pub count: u64,
    /// No more than that: of MariaDB's numbers nobody can tell how many are transactions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
    /// Which.
    pub set: String,
}

impl GtidDocument {
    /// How many, in words.
    pub fn counted(&self) -> String {
        format!("{}{}", if self.at_most { "at most " } else { "" }, self.count)
    }
}

/// One floating address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VipDocument {
    /// The address.
    pub address: String,
    /// `writer` or `reader`.
    pub role: String,
    /// The server that answers there; missing: nobody known.
    pub at: Option<String>,
    /// Why nobody is known; empty otherwise.
    pub why: String,
}

/// One manager's answer about the primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BallotDocument {
    /// The manager.
    pub manager: u64,
    /// `up`, `down`, `unknown`, or `silent`: it gave none, which counts against.
    pub answer: String,
    /// Time since the leader asked.
    pub age_us: Option<u64>,
    /// Why it answers so.
    pub evidence: String,
    /// What it knows of the replicas' links to the primary.
    pub hearing: Vec<String>,
}

/// The open attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptDocument {
    /// Its id.
    pub id: String,
    /// `freeze`, `recover`, `promote`, `repoint` or `undo`.
    pub stage: String,
    /// Why it was opened.
    pub cause: String,
    /// By whom.
    pub by: String,
    /// The server to become primary, once chosen.
    pub candidate: Option<String>,
    /// Its steps so far.
    pub steps: Vec<StepDocument>,
}

/// A closed attempt in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastAttemptDocument {
    /// Its id, for `conclave report ID`.
    pub id: String,
    /// How it ended; one sentence.
    pub outcome: String,
    /// Milliseconds since 1970 when it was opened, by the leader's wall clock.
    pub opened_wall_ms: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDocument {
    /// Its idempotency key.
    pub id: String,
    /// The server acted on.
    pub target: String,
    /// Stable code of the goal.
    pub goal: String,
    /// The goal as a sentence.
    pub sentence: String,
    /// `planned`, `running`, `done`, `found_done`, `failed` or `unknown`.
    pub state: String,
    /// Its runs, oldest first.
    pub runs: Vec<RunDocument>,
}

/// One run of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDocument {
    /// Term of the leader that ran it.
    pub term: u64,
    /// Log index of its beginning.
    pub begun: u64,
    /// As [`StepDocument::state`].
    pub state: String,
    /// From lock to read-back; missing: it did not end.
    pub took_us: Option<u64>,
    /// Since the opening of the attempt.
    pub ended_at_us: Option<u64>,
    /// What was read back, or why it failed.
    pub evidence: String,
}

/// A server's place in the ranking of candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankDocument {
    /// The server.
    pub server: String,
    /// Its place, from 1; missing: it cannot be promoted.
    pub place: Option<usize>,
    /// Reasons against it.
    pub against: Vec<String>,
    /// Reasons for its place.
    pub keys: Vec<String>,
}

/// Why a cluster would or would not be failed over, and to whom. `conclave explain CLUSTER`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// As in [`StatusDocument`].
    pub notice: String,
    /// The cluster.
    pub cluster: String,
    /// Its mode.
    pub mode: String,
    /// Its primary.
    pub primary: Option<String>,
    /// All servers, best first.
    pub ranking: Vec<RankDocument>,
    /// Everything that the gate refuses with right now.
    pub refusals: Vec<ReasonDocument>,
    /// What is wrong.
    pub problems: Vec<ProblemDocument>,
    /// Seconds left of the last-failover interval; 0: over.
    #[serde(default)]
    pub interval_left_s: u64,
    /// What quarantined servers have that the primary lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraDocument>,
    /// The newest ballots.
    pub ballots: Vec<BallotDocument>,
    /// What would happen now, per fault.
    pub forecasts: Vec<ForecastDocument>,
}

/// What a failover would do. `conclave failover CLUSTER --dry-run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: String,
    /// The server that would be promoted.
    pub candidate: Option<String>,
    /// Everything that stands against it; empty: it would be done.
    pub refusals: Vec<ReasonDocument>,
    /// All servers, best first.
    pub ranking: Vec<RankDocument>,
    /// The stages with their steps, as far as they can be told beforehand.
    pub stages: Vec<PlannedStage>,
}

/// The steps of one stage that was not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// Name of the stage.
    pub stage: String,
    /// Each as a sentence.
    pub steps: Vec<String>,
}

/// The clusters in one line each. `conclave cluster list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterListDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// The lines.
    pub clusters: Vec<ClusterLine>,
}

/// One cluster in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterLine {
    /// Its name.
    pub name: String,
    /// Its mode.
    pub mode: String,
    /// Its epoch.
    pub epoch: u64,
    /// Version of its definition.
    pub version: u64,
    /// Its primary.
    pub primary: Option<String>,
    /// How many servers it has.
    pub servers: usize,
    /// Whether it is paused.
    pub is_paused: bool,
}

/// A definition in force. `conclave cluster show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterShowDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// Its version.
    pub version: u64,
    /// The definition.
    pub definition: conclave_core::model::ClusterDefinition,
}

/// All that is known of one attempt, from its record alone. `conclave report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// Its id.
    pub id: String,
    /// The cluster.
    pub cluster: String,
    /// The epoch that it opened.
    pub epoch: u64,
    /// The mode it was opened under.
    pub mode: String,
    /// The primary it replaces.
    pub old_primary: String,
    /// The primary it made; missing: none (yet).
    pub new_primary: Option<String>,
    /// `open`, `promoted`, `aborted` or `superseded`.
    pub outcome: String,
    /// The outcome as a sentence.
    pub outcome_sentence: String,
    /// Why it was opened.
    pub cause: String,
    /// By whom.
    pub by: String,
    /// What an operator waived or vouched for, each as a sentence.
    pub assertions: Vec<String>,
    /// Milliseconds since 1970 when it was opened, by the leader's wall clock.
    pub opened_wall_ms: u64,
    /// From the first unanswered ping to the opening.
    pub detected_us: u64,
    /// From the leader's first question to the opening.
    pub verdict_us: u64,
    /// From the opening until the new primary was open for writes.
    pub writable_at_us: Option<u64>,
    /// From the opening until its address led there as well.
    pub published_at_us: Option<u64>,
    /// From the opening to the end.
    pub ended_at_us: Option<u64>,
    /// Managers that said Down, the number needed, and all voters.
    pub down: [usize; 3],
    /// Who answered what, and how old it was.
    pub ballots: Vec<BallotDocument>,
    /// The primaries whose writes had to be stopped, each as a sentence.
    pub revokes: Vec<String>,
    /// The choice.
    pub election: Option<ElectionDocument>,
    /// What came from dead servers' disks, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rescued: Vec<String>,
    /// What was or may have been lost.
    pub loss: String,
    /// How writes were stopped, in a planned switchover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_block: Option<WriteBlockDocument>,
    /// What the primaries it replaced brought back that their successor lacks, as far as they have
    /// returned and wait in quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraDocument>,
    /// The steps.
    pub steps: Vec<StepDocument>,
    /// Everything in order of time.
    pub timeline: Vec<Moment>,
}

/// The choice of a new primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElectionDocument {
    /// The server chosen.
    pub candidate: String,
    /// Who handed it the transactions it lacked.
    pub donor: Option<String>,
    /// What it had to execute first.
    pub target: String,
    /// Servers whose receivers were read back as stopped.
    pub recruits: Vec<String>,
    /// Servers that acknowledge its commits.
    pub ackers: Vec<String>,
    /// How many of them a commit waits for.
    pub acks: u32,
    /// All servers, best first.
    pub ranking: Vec<RankDocument>,
}

/// One line of a time line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Since the opening, negative before it; missing: the leader that saw it had not seen the
    /// opening.
    pub at_us: Option<i64>,
    /// Term of the leader.
    pub term: u64,
    /// What happened; one sentence.
    pub what: String,
}

/// How writes were stopped in a planned switchover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteBlockDocument {
    /// From the statement that ended writes on the old primary until they were possible and
    /// published again, microseconds; `None`: not yet, or another leader saw to that.
    pub us: Option<u64>,
    /// Who was cut, a sentence each.
    pub cut: Vec<String>,
}
