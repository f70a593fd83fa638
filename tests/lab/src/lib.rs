//! Real MySQL servers and hosts on racks, for Conclave's tests, benchmarks and quickstart.

mod error;
mod install;
mod ns;
mod template;

pub use error::{Error, Result};
pub use install::Install;
