//! How does the command line reach the managers? Flags, then the environment, then
//! `client.toml`; the first that says something wins, item by item.

use std::path::{Path, PathBuf};

use super::{
    ConfigError, Mistake, Security, is_host_port, read,
    reader::{self, Section},
};
use crate::tls::TlsFiles;

/// Where `client.toml` is looked for.
pub const DEFAULT_FILE: &str = "/etc/conclave/client.toml";

/// What was said on the command line or in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `host:port` of managers; empty: not said.
    pub managers: Vec<String>,
    /// Certificate of the authority.
    pub ca: Option<PathBuf>,
    /// The operator's certificate.
    pub cert: Option<PathBuf>,
    /// The operator's key.
    pub key: Option<PathBuf>,
    /// Plain text.
    pub insecure: bool,
    /// The file to read instead of [`DEFAULT_FILE`]; it must be there.
    pub file: Option<PathBuf>,
}

/// How to reach the managers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `host:port`, tried in this order; at least one.
    pub managers: Vec<String>,
    /// Mutual TLS, or plain text by choice.
    pub security: Security,
}

impl ClientConfig {
    /// Puts together what was given and what the file says.
    ///
    /// # Errors
    /// A wrong file, or something is missing.
    pub fn resolve(given: Given) -> Result<Self, ConfigError> {
        let is_complete = !given.managers.is_empty() && given.security().is_some();
        let default = Path::new(DEFAULT_FILE);
        let file = match &given.file {
            Some(file) => Some(Self::load(file)?),
            None if !is_complete && default.exists() => Some(Self::load(default)?),
            None => None,
        };
        if let Some(address) = given.managers.iter().find(|address| !is_host_port(address)) {
            let text = format!("--managers: wanted host:port[,host:port...], found {address:?}");
            return Err(complaint(text));
        }
        let mut managers = given.managers.clone();
        if managers.is_empty() {
            managers = file.iter().flat_map(|file| file.managers.clone()).collect();
        }
        if managers.is_empty() {
            let text = format!(
                "no manager's address is known: give --managers host:port,..., set \
                 CONCLAVE_MANAGERS, or write {DEFAULT_FILE}"
            );
            return Err(complaint(text));
        }
        let security = given.security().or_else(|| file.map(|file| file.security));
        let security = security.ok_or_else(|| {
            complaint(format!(
                "no certificates are named: give --ca, --cert and --key, write {DEFAULT_FILE}, or \
                 say --insecure if the managers run in plain text"
            ))
        })?;
        Ok(Self { managers, security })
    }

    fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(&file.display().to_string(), &read(file)?)
    }

    /// Checks a text; `file` is its name in errors.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        reader::parse(file, text, client)
    }
}

impl Given {
    /// `None`: nothing, or only a part, was said.
    fn security(&self) -> Option<Security> {
        if self.insecure {
            return Some(Security::Insecure);
        }
        let (ca, cert, key) = (self.ca.clone()?, self.cert.clone()?, self.key.clone()?);
        Some(Security::Tls(TlsFiles { ca, cert, key }))
    }
}

fn client(top: &Section<'_, '_>) -> ClientConfig {
    let managers = top.need("managers", top.texts("managers"));
    for address in managers.iter().filter(|address| !is_host_port(address)) {
        top.blame("managers", format!("managers: wanted host:port, found {address:?}"));
    }
    ClientConfig { managers, security: top.security() }
}

fn complaint(text: String) -> ConfigError {
    let mistakes = vec![Mistake { line: None, text }];
    ConfigError { file: "command line".into(), mistakes, advice: String::new() }
}
