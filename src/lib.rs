//! Conclave: failover for MySQL and MariaDB replication, decided by a quorum of managers.

pub mod adapters;
pub mod raft;
pub mod tls;
