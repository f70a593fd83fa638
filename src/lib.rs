//! Conclave: failover for MySQL replication, decided by a quorum of managers.

pub mod adapters;
pub mod api;
pub mod binlog;
pub mod cli;
pub mod config;
#[cfg(test)]
mod golden;
pub mod raft;
pub mod run;
pub mod tls;
pub mod turnstile;
