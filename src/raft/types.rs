//! Which concrete types does the group run on? Every name of openraft is aliased here.

use std::fmt;

use openraft::{alias, impls::leader_id_std};
use serde::{Deserialize, Serialize};

// What is replicated. A placeholder: the three lines become `conclave_core::state`'s types.
/// The replicated state.
pub type State = placeholder::Map;
/// What is proposed.
pub type Command = placeholder::Command;
/// What a proposer is told.
pub type Reply = placeholder::Reply;

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
);

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

/// A key-value map that stands in until the core's state takes its place.
pub mod placeholder {
    use std::{collections::BTreeMap, fmt};

    use serde::{Deserialize, Serialize};

    /// Sets one key.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Command {
        pub key: String,
        pub value: String,
    }

    impl fmt::Display for Command {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "put {}", self.key)
        }
    }

    /// The log index at which the command was applied.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Reply {
        pub index: u64,
    }

    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Map {
        pub entries: BTreeMap<String, String>,
    }

    impl crate::raft::Replicated for Map {
        type Command = Command;
        type Reply = Reply;

        fn apply(&mut self, index: u64, _term: u64, command: Command) -> Reply {
            self.entries.insert(command.key, command.value);
            Reply { index }
        }
    }
}
