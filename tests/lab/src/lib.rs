//! Real MySQL servers and hosts on racks, for Conclave's tests, benchmarks and quickstart.
//!
//! ```no_run
//! use conclave_lab::{Lab, LabSpec};
//!
//! # fn main() -> conclave_lab::Result<()> {
//! let lab = Lab::up_replicated(LabSpec::default())?; // db1..db3, m1..m3, client; 3 s
//! lab.host("db1")?.kill_mysqld()?; // effective when it returns
//! lab.split("m1", "db2")?;
//! lab.heal()?;
//! # Ok(())
//! # } // dropped: nothing is left of it
//! ```
//!
//! Start reading at [`Lab`]; what the hosts are is drawn in [`spec`], who cleans up in [`keeper`].

// Real hosts take real time: here the clock is what is tested.
#![allow(clippy::disallowed_methods)]

mod error;
mod fault;
pub mod freeze;
mod garp;
pub mod group;
pub mod guest;
pub mod history;
mod host;
mod install;
pub mod keeper;
mod lab;
pub mod load;
pub mod mariadb;
mod mysql;
mod ns;
pub mod relay;
mod session;
pub mod show;
pub mod spec;
mod ssh;
mod template;
mod writer;

pub use error::{Error, Result};
pub use fault::Faults;
pub use group::{Group, GroupSpec};
pub use history::{Double, History, Op, Outcome, Table, double, lost_acked, now_us};
pub use host::{Host, Process};
pub use install::Install;
pub use lab::{Found, Lab};
pub use mysql::{Rows, change_source};
pub use nix::sys::signal::Signal;
pub use session::Session;
pub use spec::{LabSpec, MYSQL_PORT, Place, READER_VIP, Role, WRITER_VIP};
pub use template::{
    ADMIN_PASSWORD, ADMIN_USER, APP_PASSWORD, APP_USER, MAX_SERVERS, REPL_PASSWORD, repl_user,
};
pub use writer::{Writer, WriterSpec};
