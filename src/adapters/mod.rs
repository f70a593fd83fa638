//! The outside, for real: the only code that touches database servers, their hosts and the clock.
//!
//! ```text
//!   ports::Mysql  <- mysql::MysqlPort    one Conn per look, per locked session, per ping
//!   ports::Remote <- ssh::SshPort        standing sessions; every command through a turnstile
//!   ports::Hooks  <- hook::HookPort      scripts of the operators' own, with a deadline
//!   ports::Clock  <- clock::SystemClock
//!   passwords, keys <- secrets::Secrets  this manager's own file, environment or credentials
//! ```
//! Nothing in here decides. Errors say how certain it is that nothing was done.

// The core may not read clocks or sleep; this is where it is done for it.
#![allow(clippy::disallowed_methods)]

use std::io::ErrorKind;

use conclave_core::ports::Trouble;

pub mod clock;
pub mod hook;
pub mod mysql;
pub mod secrets;
pub mod ssh;

/// A reset or a refusal is sent by a living kernel for a process that is not there. A route that
/// is missing says nothing about either.
fn trouble_of_io(kind: ErrorKind) -> Trouble {
    match kind {
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::NotConnected => Trouble::Refused,
        ErrorKind::TimedOut
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown => Trouble::Silent,
        // The driver wraps malformed packets.
        ErrorKind::InvalidData | ErrorKind::Other => Trouble::Answered,
        _ => Trouble::Local,
    }
}
