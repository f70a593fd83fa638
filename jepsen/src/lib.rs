//! Chaos on real servers: what were the clients told, and was any of it a lie?
//!
//! ```text
//!  nemesis --faults--> lab (mysqlds, managers, network) <--inserts-- clients, watchers
//!     |                         |                                        |
//!     | actions, with proof     | attempts on record, final reads        | invoke, outcome
//!     v                         v                                        v
//!   [`record::Record`], written to a file; the checkers read nothing else
//!     |
//!     v
//!  valid (0) | violation (1) | unknown: the harness failed, or the nemesis did not bite (2)
//! ```
//!
//! Start reading at [`run::run`]; what is checked is in [`checker`], one file each.

// Real servers take real time: here the clock is what is waited for.
#![allow(clippy::disallowed_methods)]

pub mod checker;
pub mod edn;
pub mod ending;
pub mod nemesis;
pub mod programs;
pub mod pulse;
pub mod record;
pub mod run;
pub mod soak;
pub mod stage;
pub mod world;
