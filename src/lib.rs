//! Conclave.

pub mod adapters;
