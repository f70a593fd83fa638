//! What do the managers agree on? A Raft group replicates one deterministic state over them.
//!
//! ```text
//!   Node::propose(command) ──> openraft ──> store::sled   (log, vote: durable before answered)
//!                                 │  └────> network ────> other managers' service
//!                                 v
//!                              machine ──> watch<Arc<State>>   (what is agreed, for readers)
//!                                 └──────> store::snapshot     (compaction)
//! ```
//!
//! The names of openraft are kept behind [`types`]; the rest of Conclave sees [`Node`] only.

// Timeouts of wires and disks: real time is what is meant.
#![allow(clippy::disallowed_methods)]

mod fatal;
mod form;
mod group;
mod machine;
mod network;
mod node;
mod service;
mod status;
pub mod store;
#[cfg(test)]
mod tests;
pub mod types;

pub use self::fatal::Fatal;
pub use self::form::FormError;
pub use self::group::GroupId;
pub use self::network::{DialError, endpoint};
pub use self::node::{
    Compaction, ConfirmError, Leader, Leadership, Node, NodeOptions, ProposeError, StartError,
    Timings, TransferError,
};
pub use self::service::{ListenError, listen, server};
pub use self::status::{Follower, Role, Status};
pub use self::types::{Command, MemberNode, Reply, State};

/// The largest message between managers, in bytes.
pub const MESSAGE_MAX: usize = 64 << 20;

/// The largest command that may be proposed, in bytes of JSON. With
/// [`types::ENTRIES_PER_MESSAGE`] entries in one message it keeps below [`MESSAGE_MAX`].
pub const COMMAND_MAX: usize = 256 << 10;

/// The generated messages and services of `proto/raft.proto`.
pub(crate) mod pb {
    #![allow(missing_docs)]
    tonic::include_proto!("conclave.raft.v1");
}
