//! How the managers are reached: flags, and one question to the first manager that answers.

use std::{future::Future, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use clap::{Args, builder::FalseyValueParser};
use serde::de::DeserializeOwned;
use tonic::{
    Code, Response, Status,
    transport::{Channel, ClientTlsConfig},
};

use super::Failure;
use crate::{
    api::{
        client::{self, is_lost},
        document::FORMAT,
        pb::{Caller, Document, admin_client::AdminClient},
    },
    config::{
        ClientConfig, Security,
        client::{DEFAULT_FILE, Given},
    },
};

/// How long a manager may take to answer. A call that it passes on may wait for an election.
const ANSWER: Duration = Duration::from_secs(15);

/// Flags of all commands that ask a manager.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reaching the managers")]
pub struct Reach {
    /// Managers to ask, in this order
    #[arg(
        long,
        global = true,
        env = "CONCLAVE_MANAGERS",
        hide_env_values = true,
        value_name = "HOST:PORT,..."
    )]
    #[arg(value_delimiter = ',')]
    managers: Vec<String>,
    /// Certificate of the group's authority
    #[arg(long, global = true, env = "CONCLAVE_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate; its common name is recorded with what you ask for
    #[arg(long, global = true, env = "CONCLAVE_CERT", hide_env_values = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Your private key
    #[arg(long, global = true, env = "CONCLAVE_KEY", hide_env_values = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Plain text, for managers that run with insecure = true
    #[arg(long, global = true, env = "CONCLAVE_INSECURE", hide_env_values = true)]
    #[arg(value_parser = FalseyValueParser::new())]
    insecure: bool,
    #[arg(
        long,
        global = true,
        env = "CONCLAVE_CLIENT_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    #[arg(help = format!("File that says all of this [default: {DEFAULT_FILE}]"))]
    client_config: Option<PathBuf>,
}

/// Managers that can be asked.
pub(super) struct Managers {
    addresses: Vec<String>,
    tls: Option<ClientTlsConfig>,
}

impl Reach {
    /// Puts flags, environment and file together and reads the certificates.
    pub(super) fn managers(&self) -> Result<Managers, Failure> {
        self.managers_at(self.managers.clone())
    }

    /// The same, for managers whose addresses are known otherwise.
    pub(super) fn managers_at(&self, addresses: Vec<String>) -> Result<Managers, Failure> {
        let config = ClientConfig::resolve(Given {
            managers: addresses,
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure: self.insecure,
            file: self.client_config.clone(),
        })?;
        let tls = match &config.security {
            Security::Insecure => None,
            Security::Tls(files) => Some(files.load().map_err(Failure::usage)?.client),
        };
        Ok(Managers { addresses: config.managers, tls })
    }
}

impl Managers {
    /// Asks something that changes nothing: a manager that does not answer is passed over.
    pub(super) async fn ask<T, F>(
        &self,
        question: impl Fn(AdminClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_for(question, |_| true).await
    }

    /// As [`Managers::ask`]; goes on asking until an answer is good, and makes do with the first
    /// one if none is.
    pub(super) async fn ask_for<T, F>(
        &self,
        question: impl Fn(AdminClient<Channel>) -> F,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut troubles = Vec::new();
        let mut poor = None;
        for address in &self.addresses {
            let there = match client::connect(address, self.tls.as_ref()).await {
                Ok(there) => there,
                Err(error) => {
                    troubles.push(error.to_string());
                    continue;
                }
            };
            match tokio::time::timeout(ANSWER, question(there)).await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    if is_good(&answer) {
                        return Ok(answer);
                    }
                    poor.get_or_insert(answer);
                }
                Ok(Err(status)) if is_lost(&status) => {
                    troubles.push(format!("manager at {address}: it broke the connection off"));
                }
                Ok(Err(status)) => return Err(refusal(&status)),
                Err(_) => troubles
                    .push(format!("manager at {address}: no answer within {} s", ANSWER.as_secs())),
            }
        }
        poor.ok_or_else(|| nobody(&troubles))
    }

    /// A manager that said hello, for something that must be said once only.
    pub(super) async fn any(&self) -> Result<AdminClient<Channel>, Failure> {
        let mut troubles = Vec::new();
        for address in &self.addresses {
            match client::connect(address, self.tls.as_ref()).await {
                Ok(there) => return Ok(there),
                Err(error) => troubles.push(error.to_string()),
            }
        }
        Err(nobody(&troubles))
    }
}

/// Waits for the answer to something that changes something.
pub(super) async fn tell<T>(
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    let unknown = |why: &str| {
        Failure::refused(format!(
            "{why}, so it may or may not have been done: look at conclave status before you say \
             it again"
        ))
    };
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if is_lost(&status) => Err(unknown("the manager broke the connection off")),
        // No leader to decide it.
        Ok(Err(status)) if status.code() == Code::Unavailable => {
            Err(Failure::refused(format!("nothing was changed: {}", status.message())))
        }
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(unknown(&format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

/// A manager's own "no".
pub(super) fn refusal(status: &Status) -> Failure {
    match status.code() {
        Code::InvalidArgument => Failure::usage(status.message()),
        _ => Failure::refused(status.message()),
    }
}

fn nobody(troubles: &[String]) -> Failure {
    match troubles {
        [one] => Failure::unreachable(format!("no manager could be asked; {one}")),
        many => {
            let list: String = many.iter().map(|trouble| format!("\n  {trouble}")).collect();
            Failure::unreachable(format!("no manager could be asked:{list}"))
        }
    }
}

/// Who asks: the certificate says it; without one, the login name does.
pub(super) fn caller() -> Option<Caller> {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let login = names.iter().find_map(|name| std::env::var(name).ok().filter(|n| !n.is_empty()));
    let login = login.or_else(login_name).unwrap_or_default();
    Some(Caller { login, format: FORMAT, ..Caller::default() })
}

/// The owner of this process, by the system's list of accounts.
fn login_name() -> Option<String> {
    let uid = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mine = lines.find(|fields| fields.get(2) == Some(&uid.as_str()))?;
    Some(mine.first()?.to_string())
}

/// Reads a document.
pub(super) fn read<T: DeserializeOwned>(document: &Document) -> Result<T, Failure> {
    let wrong = |why: String| {
        Failure::refused(format!(
            "the managers answer with another format than this program knows ({why}); use one of \
             their version"
        ))
    };
    if document.format != FORMAT {
        return Err(wrong(format!("wanted format {FORMAT}, found {}", document.format)));
    }
    serde_json::from_str(&document.json).map_err(|error| wrong(error.to_string()))
}

/// Prints a document's own text, for `-o json`.
pub(super) fn print_json(document: &Document) {
    let value: Result<serde_json::Value, _> = serde_json::from_str(&document.json);
    match value {
        Ok(value) => println!("{value:#}"),
        Err(_) => println!("{}", document.json),
    }
}
