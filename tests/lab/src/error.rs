//! What can go wrong in the lab, each with what was wanted and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab needs root: it makes namespaces and mounts.
    #[error("the lab needs root to make namespaces, found uid {uid}: run it with sudo")]
    NotRoot { uid: u32 },
    /// A program that the lab runs ended with an error.
    #[error("{what}: `{program}` ended with {status}: {stderr}")]
    Program { what: String, program: String, status: String, stderr: String },
    /// A file, socket, mount or process operation failed.
    #[error("{what}: {cause}")]
    Io {
        what: String,
        #[source]
        cause: io::Error,
    },
    /// The lab's own binary is not where it was looked for.
    #[error(
        "found no conclave-lab binary (looked at {looked:?}): \
         run `cargo build -p conclave-lab`, or set CONCLAVE_LAB_BIN to its path"
    )]
    NoBinary { looked: Vec<PathBuf> },
    /// No lab of that name is running.
    #[error("no lab named {name} is running: `conclave-lab status` lists labs, `up` makes one")]
    NoLab { name: String },
    /// A lab of that name is running already.
    #[error("a lab named {name} is running already: take another name, or `down --name {name}`")]
    NameTaken { name: String },
    /// There is no such host in the lab.
    #[error("no host {name} in this lab: there are {known}")]
    NoHost { name: String, known: String },
    /// The host is powered off.
    #[error("host {name} is powered off: power it on first")]
    HostOff { name: String },
    /// Something did not happen in time. What it left behind is unknown.
    #[error("{what} took longer than {limit:?}{hint}")]
    Deadline { what: String, limit: Duration, hint: String },
    /// A server answered a statement with an error, or the connection failed.
    #[error("sql on {host}: {message} (statement: {statement})")]
    Sql { host: String, message: String, statement: String },
    /// A stored file or an answer of one of the lab's processes was not understood.
    #[error("{what}: wanted {wanted}, found {found:?}")]
    Malformed { what: String, wanted: String, found: String },
}

/// `Result` with the lab's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the operation that an [`io::Error`] belongs to.
pub(crate) trait Context<T> {
    /// Wraps the error with verb and object, made only when needed.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::Io { what: what(), cause })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { what: what(), cause: errno.into() })
    }
}
