//! The record of an attempt to change the primary: what was known, what was planned, what each
//! step did. Part of the replicated state; the report is computed from it alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Closing, ClusterName, DiskLog, Epoch, FailoverId, Findings, GtidSet, HookCall, HookEvent,
    LinkOptions, Micros, Mode, Rescue, ServerName, Setting, StepId, Suspicion, Switchover, Tally,
    Term, Vip,
};

/// A server that may acknowledge writes as primary, and what it takes to revoke that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regime {
    /// The primary.
    pub primary: ServerName,
    /// The epoch that established it.
    pub epoch: Epoch,
    /// The servers that may acknowledge its commits; never smaller than the real set.
    pub ackers: BTreeSet<ServerName>,
    /// How many acknowledgements a commit needs; never larger than the real number. Zero:
    /// replication is asynchronous.
    pub acks: u32,
    /// What the primary had executed when it was established: acknowledged before its time, so
    /// that no acknowledgement of its own tells who has it.
    pub base: GtidSet,
    /// A step that opens it for writes was begun since it was established. Until then its primary
    /// is read-only and acknowledges nothing of its own, whoever follows it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub may_be_open: bool,
    /// Applications were let in since it was established.
    pub is_open: bool,
    /// Members of `ackers` whose receivers an earlier attempt stopped for good.
    pub recruited: BTreeSet<ServerName>,
    /// Set once this regime was covered by an earlier attempt: everything it can have
    /// acknowledged is in here.
    pub closed_with: Option<GtidSet>,
}

/// What an older record does not say is taken for the worse.
fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// Who caused something, as the record names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// The group itself.
    Group,
    /// A person, by the name of the certificate or login they used.
    Operator {
        /// That name.
        name: String,
    },
}

/// Why an attempt was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A majority of ballots said Down and no replica heard the primary.
    PrimaryDown,
    /// The primary restarted and the policy says to fail over.
    PrimaryRestarted,
    /// The candidate of an attempt past entry 9 was lost.
    CandidateLost {
        /// The superseded attempt.
        superseded: FailoverId,
    },
    /// An operator asked for it.
    Manual,
    /// An operator asked for another primary while this one is well.
    Switchover {
        /// What was asked for.
        plan: Switchover,
    },
}

impl Cause {
    /// What was asked for, if it is a planned switchover.
    pub fn switchover(&self) -> Option<&Switchover> {
        let Cause::Switchover { plan } = self else { return None };
        Some(plan)
    }
}

/// What was known and asked for when an attempt was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Why.
    pub cause: Cause,
    /// By whom.
    pub actor: Actor,
    /// The ballots.
    pub tally: Tally,
    /// Candidate that an operator asked for.
    pub wanted: Option<ServerName>,
    /// An operator vouches that the old primary is dead; counts as a confirmed fence.
    pub asserted_dead: bool,
    /// The last-failover interval was waived by an operator.
    pub interval_waived: bool,
    /// From the first unanswered ping to the opening, as the leader measured it.
    pub detected_us: Micros,
    /// From the leader's first question in this doubt to the opening, part of `detected_us`.
    pub verdict_us: Micros,
    /// Group time when opened.
    pub at_ms: u64,
    /// Leader's wall clock when opened, milliseconds since 1970; for people only.
    pub wall_ms: u64,
}

/// What a step is to achieve. Steps are goals: met, they are recorded and nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepKind {
    /// It lacks next to nothing of what the primary has executed, while that takes writes.
    Level {
        /// The primary.
        source: ServerName,
    },
    /// Nobody can write here, privileged or not, what was committed before is on the servers that
    /// need it, and the applications' connections are cut.
    CloseForWrites {
        /// It must have executed everything.
        candidate: ServerName,
        /// Of these servers `acks` must have received everything.
        ackers: BTreeSet<ServerName>,
        /// How many.
        acks: u32,
    },
    /// Applications can write here again, after an undone switchover.
    Reopen {
        /// Acknowledgements its commits wait for; zero: asynchronous.
        acks: u32,
    },
    /// The receiver is stopped, so this server acknowledges nothing more to its source.
    StopReceiver,
    /// mysqld of the old primary is gone over SSH, cannot come back writable, and its VIPs are
    /// dropped.
    Fence {
        /// Addresses to drop.
        vips: Vec<Vip>,
    },
    /// It has received what `target` names, from `donor`, and its receiver is stopped again.
    CatchUp {
        /// The most advanced replica.
        donor: ServerName,
        /// What must be there.
        target: GtidSet,
    },
    /// It has executed what `target` names.
    Apply {
        /// What must be executed.
        target: GtidSet,
    },
    /// It is known which transactions the binary log of this server, whose mysqld does not run, holds
    /// beside what the stopped servers had received. Changes nothing.
    ReadLog,
    /// It has executed what only a dead server's disk holds.
    Rescue {
        /// What, and where it is.
        rescue: Rescue,
    },
    /// It has no source any more.
    Detach,
    /// It replicates from `source`, having applied all it had received before.
    Follow {
        /// The new source.
        source: ServerName,
        /// Whether it is to acknowledge.
        acker: bool,
        /// Options for a server that has no link yet; an existing link keeps its own.
        options: LinkOptions,
    },
    /// Applications can write here: semi-sync source on first, then `read_only` off.
    OpenForWrites {
        /// Acknowledgements a commit waits for; zero: asynchronous.
        acks: u32,
        /// Of these servers at least `acks` must be seen connected, on themselves.
        ackers: BTreeSet<ServerName>,
        /// Servers that must not read from a revoked server (SAFETY invariant 5).
        recruits: BTreeSet<ServerName>,
    },
    /// The address is on this server's host and announced.
    TakeVip {
        /// The address.
        vip: Vip,
    },
    /// None of the addresses is on this server's host.
    DropVips {
        /// The addresses.
        vips: Vec<Vip>,
    },
    /// The receiver runs again, after an undone attempt.
    ResumeReceiver,
    /// Sessions that wait for lost acknowledgements are released by one more transaction.
    Wake,
    /// No application can write here: clients cut, then semi-sync source off, then read-only.
    MakeReadOnly,
    /// It is known of each transaction that the primary lacks whether it can have been acknowledged,
    /// from the record and from this server's own logs. Changes nothing.
    Examine {
        /// What the primary lacks.
        extra: GtidSet,
        /// What the record says of it.
        suspicion: Suspicion,
    },
    /// What it has extra is copied from its binary logs to a directory of its own host, and the copy
    /// was read back.
    SaveExtra {
        /// What the primary lacks.
        extra: GtidSet,
        /// Binary log files that hold it, by their full paths.
        files: Vec<String>,
    },
    /// It holds a copy of the donor's data instead of its own, read-only and without a source.
    Rebuild {
        /// The primary or a healthy replica.
        donor: ServerName,
        /// What must be gone.
        extra: GtidSet,
    },
    /// Its mysqld is started by its service manager.
    StartServer,
    /// Commits here wait for so many acknowledgements, however long it takes.
    Arm {
        /// How many; zero: none, replication is asynchronous.
        acks: u32,
        /// Of these servers as many must be seen connected, on themselves.
        ackers: BTreeSet<ServerName>,
        /// Who asked for it.
        by: Actor,
    },
    /// That server cannot acknowledge here any more: its replication account is locked, its
    /// connections are ended, and everything committed before is executed.
    LockOut {
        /// The server.
        server: ServerName,
        /// Its account.
        account: String,
    },
    /// That server may replicate from here again.
    LetIn {
        /// The server.
        server: ServerName,
        /// Its account.
        account: String,
    },
    /// These settings are in force, and will be after a restart.
    Harden {
        /// The settings.
        settings: BTreeSet<Setting>,
        /// Who asked for it.
        by: Actor,
    },
    /// A script of the operators' own was called and ended well, on the leader's host.
    Hook {
        /// The call.
        call: HookCall,
    },
}

impl StepKind {
    /// A stable code; also MHA users' log lines and metric labels are made from it.
    pub fn code(&self) -> &'static str {
        match self {
            StepKind::Level { .. } => "level",
            StepKind::CloseForWrites { .. } => "close_for_writes",
            StepKind::Reopen { .. } => "reopen",
            StepKind::StopReceiver => "stop_receiver",
            StepKind::Fence { .. } => "fence",
            StepKind::CatchUp { .. } => "catch_up",
            StepKind::Apply { .. } => "apply",
            StepKind::ReadLog => "read_log",
            StepKind::Rescue { .. } => "rescue",
            StepKind::Detach => "detach",
            StepKind::Follow { .. } => "follow",
            StepKind::OpenForWrites { .. } => "open_for_writes",
            StepKind::TakeVip { .. } => "take_vip",
            StepKind::DropVips { .. } => "drop_vips",
            StepKind::ResumeReceiver => "resume_receiver",
            StepKind::Wake => "wake",
            StepKind::MakeReadOnly => "make_read_only",
            StepKind::Examine { .. } => "examine",
            StepKind::SaveExtra { .. } => "save_extra",
            StepKind::Rebuild { .. } => "rebuild",
            StepKind::StartServer => "start_server",
            StepKind::Arm { .. } => "arm",
            StepKind::LockOut { .. } => "lock_out",
            StepKind::LetIn { .. } => "let_in",
            StepKind::Harden { .. } => "harden",
            StepKind::Hook { .. } => "hook",
        }
    }

    /// Acts on the host through its turnstile rather than on the MySQL server.
    pub fn is_remote(&self) -> bool {
        match self {
            StepKind::Fence { .. }
            | StepKind::TakeVip { .. }
            | StepKind::DropVips { .. }
            | StepKind::SaveExtra { .. }
            | StepKind::StartServer => true,
            StepKind::Level { .. }
            | StepKind::CloseForWrites { .. }
            | StepKind::Reopen { .. }
            | StepKind::StopReceiver
            | StepKind::CatchUp { .. }
            | StepKind::Apply { .. }
            | StepKind::ReadLog
            | StepKind::Rescue { .. }
            | StepKind::Detach
            | StepKind::Follow { .. }
            | StepKind::OpenForWrites { .. }
            | StepKind::ResumeReceiver
            | StepKind::Wake
            | StepKind::MakeReadOnly
            | StepKind::Examine { .. }
            | StepKind::Rebuild { .. }
            | StepKind::Arm { .. }
            | StepKind::LockOut { .. }
            | StepKind::LetIn { .. }
            | StepKind::Harden { .. }
            | StepKind::Hook { .. } => false,
        }
    }

    /// The call, if it is one of a script.
    pub fn hook(&self) -> Option<&HookCall> {
        let StepKind::Hook { call } = self else { return None };
        Some(call)
    }
}

/// What was read back when a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepEvidence {
    /// Read from the server.
    Server {
        /// `gtid_executed`.
        executed: GtidSet,
        /// Executed or in the relay log.
        received: GtidSet,
        /// `read_only`.
        read_only: bool,
        /// `Uptime`, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uptime_seconds: Option<u64>,
        /// Acknowledgements that its commits waited for, however long it takes, when this run of
        /// the step first looked and it took writes; `None`: they did not, or it took none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited_for: Option<u32>,
        /// How writes were stopped, if they were.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closing: Option<Closing>,
    },
    /// The last lines of what the command on the host printed; bounded.
    Host {
        /// The text.
        text: String,
    },
    /// What a dead server's binary log holds.
    Log {
        /// That.
        log: DiskLog,
    },
    /// The verdict on a server's extra transactions.
    Examined {
        /// That verdict.
        findings: Findings,
    },
    /// A script ended with exit status 0. The last lines of what it printed; bounded.
    Hook {
        /// The text.
        text: String,
    },
}

/// How one run of a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepOutcome {
    /// Acted, and the goal was read back.
    Done {
        /// What was read back.
        evidence: StepEvidence,
    },
    /// The goal was met before anything was done.
    FoundDone {
        /// What was read.
        evidence: StepEvidence,
    },
    /// The goal cannot be met, or was not met by the deadline.
    Failed {
        /// One sentence.
        why: String,
    },
    /// An act was sent and its effect could not be read back.
    Unknown {
        /// One sentence.
        why: String,
    },
}

impl StepOutcome {
    /// The evidence that the goal is met, if it is.
    pub fn evidence(&self) -> Option<&StepEvidence> {
        match self {
            StepOutcome::Done { evidence } | StepOutcome::FoundDone { evidence } => Some(evidence),
            StepOutcome::Failed { .. } | StepOutcome::Unknown { .. } => None,
        }
    }

    /// Why the goal is not met, or not known to be.
    pub fn why(&self) -> Option<&str> {
        match self {
            StepOutcome::Failed { why } | StepOutcome::Unknown { why } => Some(why),
            StepOutcome::Done { .. } | StepOutcome::FoundDone { .. } => None,
        }
    }
}

/// One run of a step by one leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRun {
    /// The leader's term.
    pub term: Term,
    /// Group log index of the beginning: the order of events.
    pub begun: u64,
    /// How it ended; `None`: still running, or its leader was lost.
    pub outcome: Option<StepOutcome>,
    /// From lock to read-back, as measured by the leader.
    pub took_us: Micros,
    /// From the opening of the attempt, as measured by the leader that ended it; `None` if that
    /// leader did not see the opening.
    pub ended_at_us: Option<Micros>,
}

/// A planned step and all its runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Idempotency key.
    pub id: StepId,
    /// The server acted on.
    pub target: ServerName,
    /// The goal.
    pub goal: StepKind,
    /// Its runs, oldest first; the last [`StepRecord::RUNS`] are kept.
    pub runs: Vec<StepRun>,
}

impl StepRecord {
    /// How many runs are kept per step.
    pub const RUNS: usize = 8;

    /// The outcome of the last run, if it ended.
    pub fn outcome(&self) -> Option<&StepOutcome> {
        self.runs.last().and_then(|run| run.outcome.as_ref())
    }

    /// The evidence that the goal was met in the last run.
    pub fn met(&self) -> Option<&StepEvidence> {
        self.outcome().and_then(StepOutcome::evidence)
    }

    /// A run of it may have changed something. One that found its goal met has not.
    pub fn may_have_acted(&self) -> bool {
        let found = |run: &StepRun| matches!(run.outcome, Some(StepOutcome::FoundDone { .. }));
        self.runs.len() >= Self::RUNS || self.runs.iter().any(|run| !found(run))
    }

    /// The last run ended without meeting the goal.
    pub fn has_failed(&self) -> bool {
        self.outcome().is_some_and(|outcome| outcome.evidence().is_none())
    }
}

/// A candidate's place in the ranking, or why it has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// The server.
    pub server: ServerName,
    /// Reasons against it; empty: eligible.
    pub against: Vec<String>,
    /// Reasons for its place, in the order they were compared.
    pub keys: Vec<String>,
}

/// The choice, made once per epoch and committed before the first step that acts on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// The new primary.
    pub candidate: ServerName,
    /// Who hands it the transactions it lacks; `None`: it lacks none.
    pub donor: Option<ServerName>,
    /// The union of what the frozen servers received: holds every acknowledged transaction.
    pub target: GtidSet,
    /// Frozen servers whose receivers were read back as stopped.
    pub recruits: BTreeSet<ServerName>,
    /// Servers that will acknowledge the new primary's commits.
    pub ackers: BTreeSet<ServerName>,
    /// How many of them a commit waits for.
    pub acks: u32,
    /// All servers, best first.
    pub ranking: Vec<Ranked>,
    /// What certainly or possibly was lost; empty: nothing that was acknowledged.
    pub loss: String,
    /// What dead servers' disks alone hold, to be executed beside the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rescues: Vec<Rescue>,
}

/// Entry 9, the point of no return: committed before the candidate can acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryNine {
    /// The election that is carried out.
    pub election: Election,
    /// What the candidate had executed, read back.
    pub executed: GtidSet,
}

/// Where an attempt stands. A stage holds what must be known to be in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Revoking the old primaries and collecting what was received.
    Freeze,
    /// Bringing the candidate level.
    Recover {
        /// The choice.
        election: Election,
    },
    /// Past entry 9: making the candidate primary and publishing it.
    Promote {
        /// Entry 9.
        entry: EntryNine,
    },
    /// The new primary takes writes; the others are brought behind it.
    Repoint {
        /// Entry 9.
        entry: EntryNine,
    },
    /// Before entry 9 and given up: everything is put back.
    Undo {
        /// Why it was given up.
        why: String,
    },
}

impl Stage {
    /// Stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Stage::Freeze => "freeze",
            Stage::Recover { .. } => "recover",
            Stage::Promote { .. } => "promote",
            Stage::Repoint { .. } => "repoint",
            Stage::Undo { .. } => "undo",
        }
    }

    /// Whether a step with this goal may begin in this stage. One that comes late, from a leader
    /// that was overtaken, must not: nobody would put right again what it does.
    pub fn allows(&self, goal: &StepKind) -> bool {
        let is_forward = !matches!(self, Stage::Undo { .. });
        match goal {
            StepKind::StopReceiver | StepKind::Level { .. } | StepKind::CloseForWrites { .. } => {
                *self == Stage::Freeze
            }
            StepKind::Fence { .. } => is_forward,
            StepKind::ReadLog => *self == Stage::Freeze,
            StepKind::CatchUp { .. } | StepKind::Apply { .. } | StepKind::Rescue { .. } => {
                matches!(self, Stage::Recover { .. })
            }
            StepKind::Detach | StepKind::OpenForWrites { .. } | StepKind::TakeVip { .. } => {
                matches!(self, Stage::Promote { .. })
            }
            // By the old primary of a switchover, once the new one has them.
            StepKind::DropVips { .. } => self.entry_nine().is_some(),
            // Before entry 9 only in a switchover, see [`Attempt::allows`].
            StepKind::Follow { .. } => !matches!(self, Stage::Recover { .. }),
            StepKind::ResumeReceiver | StepKind::Wake | StepKind::Reopen { .. } => !is_forward,
            StepKind::MakeReadOnly
            | StepKind::Arm { .. }
            | StepKind::LockOut { .. }
            | StepKind::LetIn { .. }
            | StepKind::Harden { .. }
            | StepKind::Examine { .. }
            | StepKind::SaveExtra { .. }
            | StepKind::Rebuild { .. }
            | StepKind::StartServer => false,
            StepKind::Hook { call } => match call.event {
                HookEvent::Opened => is_forward,
                HookEvent::Published | HookEvent::Finished => {
                    matches!(self, Stage::Repoint { .. })
                }
                HookEvent::Undone => !is_forward,
            },
        }
    }

    /// Entry 9, once passed.
    pub fn entry_nine(&self) -> Option<&EntryNine> {
        match self {
            Stage::Promote { entry } | Stage::Repoint { entry } => Some(entry),
            Stage::Freeze | Stage::Recover { .. } | Stage::Undo { .. } => None,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is primary.
    Promoted {
        /// Replicas that could not be repointed yet; they are repaired later.
        left_behind: BTreeSet<ServerName>,
    },
    /// Undone before entry 9.
    Aborted {
        /// Why.
        why: String,
        /// Undo steps that could not be completed.
        unfinished: Vec<String>,
    },
    /// The candidate was lost after entry 9; the next epoch goes on.
    Superseded {
        /// That epoch.
        by: Epoch,
    },
}

/// When a stage was entered, for the time line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Name of the stage entered, or how the attempt ended.
    pub what: String,
    /// Since the opening, as measured by the leader that proposed it; `None` if that leader did
    /// not see the opening.
    pub at_us: Option<Micros>,
    /// The leader's term.
    pub term: Term,
}

/// One attempt, open or closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name.
    pub id: FailoverId,
    /// The mode it was opened under.
    pub mode: Mode,
    /// What was known at the opening.
    pub opening: Opening,
    /// The primary it replaces.
    pub old_primary: ServerName,
    /// Every regime it must revoke.
    pub revokes: Vec<Regime>,
    /// Where it stands.
    pub stage: Stage,
    /// Planned steps, grown stage by stage.
    pub steps: Vec<StepRecord>,
    /// Time line.
    pub marks: Vec<Mark>,
    /// How it ended; `None`: open.
    pub outcome: Option<Outcome>,
}

impl Attempt {
    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.id.cluster
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.id.epoch
    }

    /// What the servers that read from the old primary no more had received, read back: their
    /// receivers were stopped, or in a switchover put behind the candidate.
    pub fn frozen(&self) -> BTreeMap<ServerName, &StepEvidence> {
        let is_off = |step: &&StepRecord| match &step.goal {
            StepKind::StopReceiver => true,
            goal => self.moves_ahead(goal),
        };
        let stopped = self.steps.iter().filter(is_off);
        stopped.filter_map(|step| Some((step.target.clone(), step.met()?))).collect()
    }

    /// A replica is put behind the candidate of a switchover while the old primary takes writes.
    pub fn moves_ahead(&self, goal: &StepKind) -> bool {
        let is_switchover = self.opening.cause.switchover().is_some();
        let wanted = self.opening.wanted.as_ref();
        is_switchover && matches!(goal, StepKind::Follow { source, .. } if Some(source) == wanted)
    }

    /// Whether a step with this goal may begin now. Before entry 9 a server may be put behind the
    /// candidate of a switchover while that goes on, and back behind the primary once it is undone.
    pub fn allows(&self, goal: &StepKind) -> bool {
        let is_in_place = match (&self.stage, goal) {
            (Stage::Freeze, StepKind::Follow { .. }) => self.moves_ahead(goal),
            (Stage::Undo { .. }, StepKind::Follow { source, .. }) => *source == self.old_primary,
            (
                Stage::Freeze
                | Stage::Recover { .. }
                | Stage::Promote { .. }
                | Stage::Repoint { .. }
                | Stage::Undo { .. },
                _,
            ) => true,
        };
        is_in_place && self.stage.allows(goal)
    }

    /// The old primary was read back as closed for writes: what it had executed then.
    pub fn closed(&self) -> Option<&GtidSet> {
        let mut steps = self.steps.iter();
        let closed = steps.find(|step| matches!(step.goal, StepKind::CloseForWrites { .. }))?;
        match closed.met()? {
            StepEvidence::Server { executed, .. } => Some(executed),
            StepEvidence::Host { .. }
            | StepEvidence::Log { .. }
            | StepEvidence::Examined { .. }
            | StepEvidence::Hook { .. } => None,
        }
    }

    /// What was read of dead servers' binary logs.
    pub fn logs(&self) -> BTreeMap<&ServerName, &DiskLog> {
        let reads = self.steps.iter().filter(|step| step.goal == StepKind::ReadLog);
        fn of_read(step: &StepRecord) -> Option<&DiskLog> {
            match step.met() {
                Some(StepEvidence::Log { log }) => Some(log),
                Some(
                    StepEvidence::Server { .. }
                    | StepEvidence::Host { .. }
                    | StepEvidence::Examined { .. }
                    | StepEvidence::Hook { .. },
                )
                | None => None,
            }
        }
        reads.filter_map(|step| Some((&step.target, of_read(step)?))).collect()
    }

    /// The mysqld of that server was seen dead on its host in this attempt.
    pub fn is_fenced(&self, server: &ServerName) -> bool {
        let mut fences =
            self.steps.iter().filter(|step| matches!(step.goal, StepKind::Fence { .. }));
        fences.any(|step| step.target == *server && step.met().is_some())
    }

    /// The step that brings what that dead server alone has.
    pub fn rescue_of(&self, rescue: &Rescue) -> Option<&StepRecord> {
        self.steps.iter().find(
            |step| matches!(&step.goal, StepKind::Rescue { rescue: it } if it.from == rescue.from),
        )
    }

    /// The step of that number.
    pub fn step(&self, id: StepId) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.id == id)
    }

    /// How far it has come: stages entered, and goals met. A step that is tried again and again
    /// brings it no further.
    pub fn progress(&self) -> usize {
        self.marks.len() + self.steps.iter().filter(|step| step.met().is_some()).count()
    }
}
