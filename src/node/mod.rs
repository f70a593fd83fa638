//! What an operator runs by hand or from cron on a database host: MHA's node tools.
//!
//! ```text
//!   save      a share of the binary logs into one file
//!   apply     relay logs' differences: find, make, send, apply
//!   purge     relay logs that are applied, without holding the applier up
//!   filter    mysqlbinlog's text, for putting several of them together
//! ```
//! They stand alone: no manager is asked, and none of their state is agreed.

pub mod apply;
pub mod diff;
pub mod disk;
pub mod filter;
pub mod login;
pub mod purge;
pub mod save;
pub mod tool;
