//! The outside, for real: the only code that touches database servers, their hosts and the clock.
//!
//! ```text
//!   ports::Mysql  <- mysql::MysqlPort    one Conn per look, per locked session, per ping
//!   ports::Remote <- ssh::SshPort        standing sessions; every command through a turnstile
//!   ports::Clock  <- clock::SystemClock
//!   passwords, keys <- secrets::Secrets  this manager's own file, environment or credentials
//! ```
//! Nothing in here decides. Errors say how certain it is that nothing was done.

// The core may not read clocks or sleep; this is where it is done for it.
#![allow(clippy::disallowed_methods)]

pub mod clock;
pub mod mysql;
pub mod secrets;
pub mod ssh;
