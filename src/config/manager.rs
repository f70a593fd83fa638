//! What is this manager? `manager.toml`: identity, rack, addresses, paths. Nothing in here can
//! change a decision; what can is agreed, and in the cluster's definition.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use conclave_core::model::ManagerId;

use super::{
    ConfigError, Security, is_host_port, read,
    reader::{self, Section},
};

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The pace of the Raft group. All managers of a group should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTimings {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// A follower that hears nothing stands for election after a time between these two.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
}

/// A checked `manager.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerConfig {
    /// Never 0, never that of another manager, for ever.
    pub id: ManagerId,
    /// Where this manager stands.
    pub rack: String,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that the others connect to.
    pub advertise: String,
    /// Directory of the log, vote and snapshots.
    pub data_dir: PathBuf,
    /// File with this manager's secrets.
    pub secrets: PathBuf,
    /// Where the scripts are that definitions name as hooks.
    pub hooks_dir: PathBuf,
    /// Mutual TLS, or plain text by choice.
    pub security: Security,
    /// The pace of the Raft group.
    pub raft: RaftTimings,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,conclave::run=debug`.
    pub log_level: String,
}

impl ManagerConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(&file.display().to_string(), &read(file)?)
    }

    /// Checks a text; `file` is its name in errors.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        reader::parse(file, text, manager)
    }
}

/// Where the scripts are if nothing else is said.
const HOOKS_DIR: &str = "/etc/conclave/hooks";

fn manager(top: &Section<'_, '_>) -> ManagerConfig {
    let listen = top.need("listen", top.text("listen"));
    let address = listen.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if !listen.is_empty() && address.is_none() {
        let text =
            format!("listen: wanted an address and port such as 0.0.0.0:7300, found {listen:?}");
        top.blame("listen", text);
    }
    let advertise = top.text("advertise").unwrap_or_else(|| listen.clone());
    if !advertise.is_empty() && !is_host_port(&advertise) {
        let text = format!("advertise: wanted host:port, found {advertise:?}");
        top.blame("advertise", text);
    }
    if let Some(ip) = advertise.parse::<SocketAddr>().ok().filter(|at| at.ip().is_unspecified()) {
        let text = format!("advertise: nobody can connect to {ip}; wanted this host's own address");
        top.blame("advertise", text);
    }
    let (log_format, log_level) = log(top);
    ManagerConfig {
        id: ManagerId(top.need("id", top.number("id", 1, u64::MAX))),
        rack: top.need("rack", top.text("rack")),
        listen: address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7300))),
        advertise,
        data_dir: top.need("data_dir", directory(top)),
        secrets: top.need("secrets", top.text("secrets")).into(),
        hooks_dir: top.text("hooks_dir").unwrap_or_else(|| HOOKS_DIR.into()).into(),
        security: top.security(),
        raft: raft(top),
        log_format,
        log_level,
    }
}

fn directory(top: &Section<'_, '_>) -> Option<PathBuf> {
    let path = PathBuf::from(top.text("data_dir")?);
    if path.is_relative() {
        let text = format!("data_dir: wanted an absolute path, found {:?}", path.display());
        top.blame("data_dir", text);
    }
    Some(path)
}

fn raft(top: &Section<'_, '_>) -> RaftTimings {
    let (mut heartbeat, mut election) = (50, (150, 300));
    if let Some(raft) = top.section("raft") {
        heartbeat = raft.number("heartbeat_ms", 10, 10_000).unwrap_or(heartbeat);
        election = raft.pair("election_ms").unwrap_or(election);
        let (least, most) = election;
        if least < 2 * heartbeat || most <= least || most > 60_000 {
            raft.blame(
                "election_ms",
                format!(
                    "election_ms: wanted [least, most] with 2 x heartbeat_ms <= least < most <= \
                     60000, found heartbeat_ms = {heartbeat}, election_ms = [{least}, {most}]"
                ),
            );
        }
        raft.finish();
    }
    RaftTimings {
        heartbeat: Duration::from_millis(heartbeat),
        election_min: Duration::from_millis(election.0),
        election_max: Duration::from_millis(election.1),
    }
}

fn log(top: &Section<'_, '_>) -> (LogFormat, String) {
    let Some(log) = top.section("log") else { return (LogFormat::Text, "info".into()) };
    let format = log.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let level = log.text("level").unwrap_or_else(|| "info".into());
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&level) {
        let text = format!(
            "level: wanted error, warn, info, debug or trace, or directives, found {level:?}: \
             {error}"
        );
        log.blame("level", text);
    }
    log.finish();
    (format.unwrap_or_default(), level)
}
