//! Files to checked values: what a manager is (`manager.toml`), what a cluster is (`app1.toml`),
//! and how to reach the managers (`client.toml`).
//!
//! ```text
//!   text --reader--> sections with lines --manager / cluster / client--> checked value
//!                                   `--> every mistake at once, each with its line
//! ```

pub mod client;
pub mod cluster;
pub mod manager;
mod reader;
#[cfg(test)]
mod tests;

use std::{fmt, io, path::Path};

pub use client::ClientConfig;
pub use manager::ManagerConfig;
pub use reader::Mistake;

use crate::tls::TlsFiles;

/// Why a file gives no value. Nothing was done with any part of it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// Everything that is wrong with it; at least one.
    pub mistakes: Vec<Mistake>,
    /// A longer explanation that is printed below the mistakes; empty: none.
    pub advice: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mistakes[..] {
            [one] => match one.line {
                Some(line) => write!(f, "{} line {line}: {}", self.file, one.text)?,
                None => write!(f, "{}: {}", self.file, one.text)?,
            },
            many => {
                write!(f, "{} has {} mistakes:", self.file, many.len())?;
                for Mistake { line, text } in many {
                    match line {
                        Some(line) => write!(f, "\n  line {line}: {text}")?,
                        None => write!(f, "\n  {text}")?,
                    }
                }
            }
        }
        match self.advice.is_empty() {
            true => Ok(()),
            false => write!(f, "\n\n{}", self.advice),
        }
    }
}

impl ConfigError {
    /// A file that cannot be read.
    pub fn unreadable(file: &Path, error: &io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "it may not be read by this user".to_owned(),
            _ => format!("it cannot be read: {error}"),
        };
        Self {
            file: file.display().to_string(),
            mistakes: vec![Mistake { line: None, text }],
            advice: String::new(),
        }
    }
}

/// How an end of a connection proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Mutual TLS.
    Tls(TlsFiles),
    /// Plain text; somebody wrote `insecure = true`.
    Insecure,
}

/// Reads a whole text file.
fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| ConfigError::unreadable(file, &error))
}

/// Whether a text is `host:port`.
pub(crate) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}
