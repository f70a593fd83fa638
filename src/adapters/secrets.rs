//! Which password, which key? Each manager's own; never replicated, logged, or put in argv.
//!
//! ```toml
//! [mysql.conclave]                  # account
//! password = "..."
//! [cluster.app1.mysql.conclave]     # the same account, another password in cluster app1
//! password = "..."
//! [ssh]
//! key_file = "/etc/conclave/id_ed25519"
//! known_hosts = "/etc/conclave/known_hosts"
//! passphrase = "..."                # optional
//! ```
//! The first of these that is there wins: environment (`CONCLAVE_CLUSTER_APP1_MYSQL_CONCLAVE_PASSWORD`,
//! `CONCLAVE_MYSQL_CONCLAVE_PASSWORD`, `CONCLAVE_SSH_PASSPHRASE`), systemd credentials (files
//! `cluster.app1.mysql.conclave`, `mysql.conclave`, `ssh.passphrase` in `$CREDENTIALS_DIRECTORY`),
//! the file. In each of them an entry of the cluster goes before a general one.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use conclave_core::model::ClusterName;
use secrecy::SecretString;
use serde::Deserialize;
use thiserror::Error;

/// Why there are no secrets.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// The file or a credential cannot be read.
    #[error("secrets file {}: {}", path.display(), unread(cause))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Others may read it.
    #[error(
        "secrets file {} has mode {mode:04o}: wanted it readable by its owner only; run chmod 600 {}",
        path.display(), path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no such file. The place only, as the text holds secrets.
    #[error("secrets file {}, line {line}: {why}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser wanted.
        why: String,
    },
}

/// Why a file was not read.
fn unread(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "it may not be read by this user".into(),
        _ => format!("it cannot be read: {cause}"),
    }
}

/// How to log in to hosts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshSecrets {
    /// Private key; `None`: this manager has no access to hosts.
    pub key_file: Option<PathBuf>,
    /// Passphrase of the key.
    pub passphrase: Option<SecretString>,
    /// Host keys that are accepted.
    pub known_hosts: Option<PathBuf>,
}

/// All secrets of this manager. `Debug` shows none of them.
#[derive(Clone, Default)]
pub struct Secrets {
    file: File,
    environment: BTreeMap<String, SecretString>,
    credentials: BTreeMap<String, SecretString>,
    ssh: SshSecrets,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    mysql: BTreeMap<String, Account>,
    cluster: BTreeMap<String, Cluster>,
    ssh: SshSecrets,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cluster {
    mysql: BTreeMap<String, Account>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    password: SecretString,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}

impl Secrets {
    /// Reads the file (if one is named), the environment and the systemd credentials.
    ///
    /// # Errors
    /// The file is missing, malformed, or readable by its group or by all.
    pub fn load(path: Option<&Path>) -> Result<Self, SecretsError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("CONCLAVE_"));
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::assemble(path, environment, credentials.as_deref())
    }

    fn assemble(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        credentials: Option<&Path>,
    ) -> Result<Self, SecretsError> {
        let file = path.map_or_else(|| Ok(File::default()), read_file)?;
        let environment: BTreeMap<String, SecretString> =
            environment.map(|(name, value)| (name, value.into())).collect();
        let credentials = credentials.map_or_else(|| Ok(BTreeMap::new()), read_credentials)?;
        let mut ssh = file.ssh.clone();
        let passphrase = environment
            .get("CONCLAVE_SSH_PASSPHRASE")
            .or_else(|| credentials.get("ssh.passphrase"));
        if let Some(passphrase) = passphrase {
            ssh.passphrase = Some(passphrase.clone());
        }
        Ok(Self { file, environment, credentials, ssh })
    }

    /// Password of a MySQL account in a cluster; `None`: this manager has none.
    pub fn mysql_password(&self, cluster: &ClusterName, account: &str) -> Option<&SecretString> {
        let (own, general) = (
            format!("CONCLAVE_CLUSTER_{}_MYSQL_{}_PASSWORD", shout(&cluster.0), shout(account)),
            format!("CONCLAVE_MYSQL_{}_PASSWORD", shout(account)),
        );
        let from_environment =
            || self.environment.get(&own).or_else(|| self.environment.get(&general));
        let from_credentials = || {
            let own = self.credentials.get(&format!("cluster.{cluster}.mysql.{account}"));
            own.or_else(|| self.credentials.get(&format!("mysql.{account}")))
        };
        let from_file = || {
            let own = self.file.cluster.get(&cluster.0).and_then(|own| own.mysql.get(account));
            own.or_else(|| self.file.mysql.get(account)).map(|account| &account.password)
        };
        from_environment().or_else(from_credentials).or_else(from_file)
    }

    /// How to log in to hosts.
    pub fn ssh(&self) -> &SshSecrets {
        &self.ssh
    }
}

fn read_file(path: &Path) -> Result<File, SecretsError> {
    let failed = |cause| SecretsError::Read { path: path.to_owned(), cause };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretsError::Open { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    // The parser's own message quotes the line, hence the password.
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        let why = match error.message() {
            why if why.starts_with("unknown field") || why.starts_with("missing field") => why,
            _ => "wanted [mysql.ACCOUNT] password, [cluster.NAME.mysql.ACCOUNT] password, or [ssh]",
        };
        SecretsError::Parse { path: path.to_owned(), line, why: why.to_owned() }
    })
}

fn read_credentials(directory: &Path) -> Result<BTreeMap<String, SecretString>, SecretsError> {
    let failed = |cause| SecretsError::Read { path: directory.to_owned(), cause };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = ["mysql.", "cluster.", "ssh."].iter().any(|head| name.starts_with(head));
        if is_ours {
            let path = entry.path();
            let text =
                fs::read_to_string(&path).map_err(|cause| SecretsError::Read { path, cause })?;
            found.insert(name, text.trim_end_matches(['\r', '\n']).to_owned().into());
        }
    }
    Ok(found)
}

/// As environment variables are written.
fn shout(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(plain).collect()
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
