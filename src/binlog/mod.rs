//! Binary log and relay log files: what do they hold, where, and how is a share of it handed on?
//!
//! MySQL 5.6 to 9.x and MariaDB 10.x to 12.x. No network, no clock, no runtime: bytes come from
//! whoever has them, in ranges that are asked for.
//!
//! ```text
//!   Walk          one file, event by event: says which range it needs, is fed with it
//!    `- Tracker   where transactions begin and end
//!        `- Scan  the files of a server in their order, behind the port [`Files`]
//!            |- select   the transactions of a set, beyond a set, from a position on
//!            |- relay    where a position of the source's is in a replica's relay logs
//!            `- Share    a file to hand to a server: one head, then the wanted ranges, verified
//!   index         the list of files that a server keeps, held against what is there
//! ```
//! Headers first: of most events only the 19 bytes of the header are read, and transactions that
//! say how long they are (MySQL since 8.0.2) are jumped over. Memory is bounded by [`LARGEST_READ`]
//! whatever the files' size is.
//!
//! Own parsing rather than that of mysql_common: that knows neither MariaDB's events nor a file
//! whose middle is not read, and its feature for binary logs brings a C library.

mod body;
mod chain;
mod event;
mod fault;
mod format;
mod gtid;
pub mod index;
mod mariadb;
pub mod relay;
mod select;
mod share;
mod transaction;
mod verify;
mod walk;
mod window;

pub use chain::{Chain, Files, Head, LogFile, Previous, Scan, SourcePoint, head};
pub use event::{Event, Header, Kind};
pub use fault::{Fault, FileFault};
pub use format::{Checksum, Family, Format};
pub use gtid::{Gtid, previous_gtids};
pub use mariadb::{MariaGtid, MariaPosition};
pub use select::{Selection, Wanted, from_position, select};
pub use share::{Share, Sink, shares};
pub use transaction::{Span, Tracker, Transaction};
pub use verify::Verify;
pub use walk::{Body, Ending, Need, Statement, Step, Walk};
pub use window::LARGEST_READ;

#[cfg(test)]
mod tests;
