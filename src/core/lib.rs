//! The pure core of Conclave: what is agreed, what is decided from it, and how a step is run.
//!
//! Nothing in here reads a clock, opens a socket or writes a log line. Effects sit behind
//! [`ports`]; production and the simulator plug in their own and run the same decisions.
//!
//! Start reading at [`decide::tick`]; then [`state::GroupState::apply`]; then [`step::run`].

pub mod decide;
#[cfg(test)]
mod fixture;
pub mod model;
pub mod ports;
pub mod state;
pub mod step;
