//! The simulated world: model servers, hosts, wires and managers around the real core.
//!
//! The decisions ([`conclave_core::decide`]), the state machine ([`conclave_core::state`]) and the
//! step runner ([`conclave_core::step`]) are those of production; only the ports are fakes. One
//! seed replays a run exactly: no thread, no wall clock, no other source of chance.
//!
//! ```text
//!   clock (virtual time, tasks)
//!     manager ---- tick, step::run ----> ports ---> sql / host ---> server, link
//!        '------- consensus (log, elections) ------ network (cuts, delay)
//!   client ---- writes through the address ---> server
//!   invariant: watches every event and the whole world
//! ```

pub mod administrator;
pub mod ambush;
pub mod client;
pub mod clock;
pub mod consensus;
pub mod disk;
pub mod fault;
pub mod gtids;
pub mod host;
pub mod invariant;
pub mod link;
pub mod manager;
pub mod mutant;
pub mod network;
pub mod ports;
pub mod random;
pub mod rng;
pub mod run;
pub mod server;
pub mod setup;
pub mod sql;
pub mod world;
