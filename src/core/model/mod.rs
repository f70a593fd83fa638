//! Values: the words of the product. No behaviour beyond arithmetic and formatting.

pub mod ballot;
pub mod definition;
pub mod extra;
pub mod facts;
pub mod gtid;
pub mod hook;
pub mod id;
pub mod reason;
pub mod record;
pub mod rescue;
pub mod setting;
pub mod switchover;
#[cfg(test)]
mod tests;
pub mod time;

pub use ballot::{Answer, Ballot, CountedBallot, Evidence, Hearing, Tally};
pub use definition::{
    ClusterDefinition, DeadAckerPolicy, LastAckerPolicy, Mode, PingType, Policy, PromotionRule,
    RestartPolicy, ServerDefinition, SshTarget, Vip,
};
pub use extra::{
    Discard, Doubt, FileEnd, Findings, LogFile, LogMark, Rejoin, Saved, Suspicion, Trail,
};
pub use facts::{
    Applier, Boot, Family, Inbound, LinkOptions, Observation, Observed, Receiver, ReplicaFacts,
    SemiSync, ServerFacts,
};
pub use gtid::{GtidSet, Interval, Origin};
pub use hook::{HookCall, HookDefinition, HookEvent};
pub use id::{ClusterName, Epoch, FailoverId, ManagerId, Nonce, ServerName, StepId, Term, Token};
pub use reason::{Problem, Refusal, Rejection};
pub use record::{
    Actor, Attempt, Cause, Election, EntryNine, Mark, Opening, Outcome, Ranked, Regime, Stage,
    StepEvidence, StepKind, StepOutcome, StepRecord, StepRun,
};
pub use rescue::{DiskLog, LogPiece, Rescue};
pub use setting::Setting;
pub use switchover::{Busy, Closing, Survey, Switchover, Work};
pub use time::{Micros, Millis, Mono};
