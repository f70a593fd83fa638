//! Which concrete types does the group run on? Every name of openraft is aliased here.

use std::fmt;

use openraft::{alias, impls::leader_id_std};
use serde::{Deserialize, Serialize};

pub use conclave_core::state::{Command, GroupState as State, Reply};

/// The most entries that go into one message between managers.
pub const ENTRIES_PER_MESSAGE: u64 = 64;

/// A manager as the group knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNode {
    /// `host:port` at which the other managers reach it.
    pub addr: String,
    /// The rack it stands in; empty: not told.
    pub rack: String,
}

impl fmt::Display for MemberNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (rack {:?})", self.addr, self.rack)
    }
}

openraft::declare_raft_types!(
    /// One leader per term, so that (term, index) can serve as a fencing token.
    pub TypeConfig:
        D = Command,
        // `None` answers entries that are not commands: blanks and membership changes.
        R = Option<Reply>,
        NodeId = u64,
        Node = MemberNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = AsyncRuntime,
);

/// What openraft runs on: tokio. In tests a run can be repeated by its seed.
#[cfg(not(test))]
type AsyncRuntime = openraft::impls::TokioRuntime;
#[cfg(test)]
type AsyncRuntime = super::tests::sim::runtime::Seeded;

pub type Raft = openraft::Raft<TypeConfig, super::machine::Machine>;
pub type Entry = alias::EntryOf<TypeConfig>;
pub type LogId = alias::LogIdOf<TypeConfig>;
pub type Vote = alias::VoteOf<TypeConfig>;
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// The state as JSON.
pub type SnapshotData = Vec<u8>;
pub type Snapshot = alias::SnapshotOf<TypeConfig, SnapshotData>;
pub type Metrics = openraft::RaftMetrics<TypeConfig>;
pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub type AppendResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;
pub type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
pub type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
pub type RpcError = openraft::errors::RPCError<TypeConfig>;
