//! What managers answer to operators: gRPC now, the same documents over HTTP later.
//!
//! ```text
//!   View + Raft facts --build--> document --grpc--> JSON --cli--> table
//!   Attempt ----------report-------^
//!   record before, after --follow--> sentences of progress
//! ```

pub mod advice;
pub mod build;
pub mod catalogue;
pub mod client;
pub mod desk;
pub mod document;
pub mod follow;
pub mod grpc;
pub mod operator;
pub mod report;
#[cfg(test)]
mod scene;
pub mod sentence;
#[cfg(test)]
mod tests;

/// Messages and services of `proto/admin.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("conclave.admin.v1");
}
