//! Conclave.

pub mod config;
#[cfg(test)]
mod golden;
