//! Every order of events, within small bounds: what the simulator plays by chance is exhausted here.
//!
//! * [`order`]: one step on one server by two leaders, with lock, commit and act in either order.
//! * [`failover`]: the production `decide::tick`, `state::apply` and `step::goal` on three servers,
//!   with two leaders, of which the older one goes on with what it has in hand.

pub mod failover;
pub mod order;
