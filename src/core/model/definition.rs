//! What operators define: a database cluster, its servers, rules and thresholds. Replicated, so it
//! names accounts and never holds a secret.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ClusterName, HookDefinition, HookEvent, Millis, ServerName};

/// The promise a cluster is run under; chosen by the operator, never by default (SAFETY section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No acknowledged write lost, never two primaries that can acknowledge. Needs semi-sync.
    Quorum,
    /// Never two primaries; needs a confirmed fence of the old one; what no replica had received
    /// may be lost.
    Fenced,
    /// MHA's behaviour: try to fence, go on regardless.
    BestEffort,
}

impl Mode {
    /// As written in definitions and shown to operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Quorum => "quorum",
            Mode::Fenced => "fenced",
            Mode::BestEffort => "best_effort",
        }
    }
}

/// Whether and how willingly a server is made primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionRule {
    /// Before all others (MHA: `candidate_master`).
    Prefer,
    /// As good as any.
    #[default]
    Allow,
    /// Only if nobody else can.
    Avoid,
    /// Never (MHA: `no_master`); may still be the donor of transactions.
    Never,
}

/// How a ping asks whether a server works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PingType {
    /// `SELECT 1` over a standing connection, plus fresh connections.
    #[default]
    Select,
    /// Fresh connections only.
    Connect,
    /// A write over a standing connection, which also notices a full disk or a stalled engine.
    Insert,
}

/// What to do with a primary whose mysqld was restarted and waits read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Open it for writes again.
    #[default]
    Reopen,
    /// Promote another server.
    Failover,
}

/// What to do with an acker that has been dead for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadAckerPolicy {
    /// Nothing: as long as it is missing, what it alone may hold stands against a failover.
    #[default]
    Wait,
    /// Lock its replication account on the primary and take it out of the agreed set, as long as
    /// enough others acknowledge.
    Drop,
}

/// What to do when fewer servers acknowledge than a commit waits for, and writes hang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastAckerPolicy {
    /// Nothing: no write is acknowledged that could be lost.
    #[default]
    Wait,
    /// Wait for as many as there are, down to none: writes go on, and the promise is suspended and
    /// shown as such until the ackers are back.
    Lower,
}

/// How managers log in to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshTarget {
    /// Address; usually the server's own.
    pub host: String,
    /// TCP port, 22 by default.
    pub port: u16,
    /// Login name. The key is each manager's own secret.
    pub user: String,
}

/// One database server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDefinition {
    /// Unique in the cluster.
    pub name: ServerName,
    /// Address that managers and replicas connect to.
    pub host: String,
    /// MySQL port.
    pub port: u16,
    /// Where it stands; replicas in the primary's rack are preferred less for coverage of racks.
    pub rack: String,
    /// Whether it may become primary.
    pub promotion: PromotionRule,
    /// Whether it is to acknowledge semi-synchronous commits.
    pub acker: bool,
    /// Account that this server uses to replicate from any other.
    pub replication_account: String,
    /// How to reach its host; `None`: no fencing over SSH and no VIPs on this server.
    pub ssh: Option<SshTarget>,
    /// mysqld's data directory on its host; tells this mysqld from its neighbours.
    pub data_dir: String,
    /// Where its binary log files are and how their names begin (`log_bin_basename`), for when it
    /// cannot be asked any more; `None`: they are in the data directory, where their index tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bin: Option<String>,
    /// systemd unit to mask when mysqld is killed; `None`: nothing restarts it, or it boots
    /// read-only.
    pub service: Option<String>,
}

/// A floating address that moves with a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vip {
    /// IPv4 address without prefix length.
    pub address: String,
    /// Prefix length, 1 to 32.
    pub prefix: u8,
    /// Interface on the database hosts that carries it.
    pub interface: String,
}

/// Thresholds. Everything here can change a decision, hence it is replicated, not local.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Whether the group fails over by itself.
    pub automatic: bool,
    /// What a ping does.
    pub ping: PingType,
    /// Pause between pings of a primary that answers. 20 to 10,000 ms.
    pub ping_interval_ms: Millis,
    /// One deadline over TCP, greeting, TLS and authentication of a fresh connection.
    pub connect_deadline_ms: Millis,
    /// Refused connections in a row that mean "the process is gone". 1 to 100.
    pub refusals: u32,
    /// Pause between pings while in doubt.
    pub doubt_interval_ms: Millis,
    /// Silence that means "down". Under 1,500 ms it counts lost packets; 500 is the least allowed.
    pub silence_ms: Millis,
    /// Oldest ballot that counts.
    pub ballot_age_ms: Millis,
    /// A probe that overlaps a stall of our own loop of this length is void.
    pub stall_ms: Millis,
    /// Pause between full looks at every server.
    pub watch_interval_ms: Millis,
    /// Heartbeat period of the replication links; two of them without movement mean a replica does
    /// not hear its source.
    pub heartbeat_ms: Millis,
    /// Least time between two failovers of this cluster, in minutes (MHA:
    /// `--last_failover_minute`). Counted in replicated time.
    pub last_failover_minutes: u64,
    /// Longest time for one step's act and read-back.
    pub step_deadline_ms: Millis,
    /// In `quorum` mode: how long promotion waits for the fence, which is not needed for safety.
    pub fence_patience_ms: Millis,
    /// Before entry 9: an attempt without progress for this long is undone.
    pub progress_budget_ms: Millis,
    /// Pause after an undone attempt before the next one opens by itself.
    pub retry_pause_ms: Millis,
    /// What to do with a primary that restarted read-only.
    pub primary_restarted: RestartPolicy,
    /// Whether a clean former primary is made a replica without being asked.
    pub rejoin: bool,
    /// What to do with an acker that has been dead for `dead_acker_ms`.
    pub dead_acker: DeadAckerPolicy,
    /// How long an acker must have been dead.
    pub dead_acker_ms: Millis,
    /// What to do when too few have acknowledged for `last_acker_ms`.
    pub last_acker: LastAckerPolicy,
    /// How long there must have been too few.
    pub last_acker_ms: Millis,
    /// In `fenced` and `best_effort` mode: nobody is promoted without more transactions than these
    /// of the old primary; `None`: however many cannot be rescued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss_transactions: Option<u64>,
    /// The same in bytes of its binary log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss_bytes: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            automatic: true,
            ping: PingType::Select,
            ping_interval_ms: Millis(100),
            connect_deadline_ms: Millis(1000),
            refusals: 3,
            doubt_interval_ms: Millis(20),
            silence_ms: Millis(2000),
            ballot_age_ms: Millis(1000),
            stall_ms: Millis(250),
            watch_interval_ms: Millis(500),
            heartbeat_ms: Millis(500),
            last_failover_minutes: 480,
            step_deadline_ms: Millis(10_000),
            fence_patience_ms: Millis(300),
            progress_budget_ms: Millis(30_000),
            retry_pause_ms: Millis(3000),
            primary_restarted: RestartPolicy::Reopen,
            rejoin: true,
            dead_acker: DeadAckerPolicy::Wait,
            dead_acker_ms: Millis(600_000),
            last_acker: LastAckerPolicy::Wait,
            last_acker_ms: Millis(60_000),
            max_loss_transactions: None,
            max_loss_bytes: None,
        }
    }
}

/// One database cluster as its operators define it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDefinition {
    /// Unique in the group.
    pub name: ClusterName,
    /// The promise.
    pub mode: Mode,
    /// `quorum` mode: how many replicas acknowledge a commit
    /// (`rpl_semi_sync_source_wait_for_replica_count`).
    pub acks: u32,
    /// Account the managers use on each server; its password is each manager's own secret.
    pub admin_account: String,
    /// At least two, in the operator's order.
    pub servers: Vec<ServerDefinition>,
    /// Address that follows the primary.
    pub writer: Option<Vip>,
    /// Addresses for reading; each stands on a healthy replica where there is one.
    pub readers: Vec<Vip>,
    /// Scripts that are called during attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookDefinition>,
    /// Thresholds.
    pub policy: Policy,
}

impl ClusterDefinition {
    /// The server of that name.
    pub fn server(&self, name: &ServerName) -> Option<&ServerDefinition> {
        self.servers.iter().find(|server| server.name == *name)
    }

    /// The server at that address, as replicas name their source.
    pub fn server_at(&self, host: &str, port: u16) -> Option<&ServerDefinition> {
        self.servers.iter().find(|server| server.host == host && server.port == port)
    }

    /// The servers other than `primary` that are to acknowledge its commits.
    pub fn ackers_of(&self, primary: &ServerName) -> BTreeSet<ServerName> {
        let ackers = self.servers.iter().filter(|server| server.acker && server.name != *primary);
        ackers.map(|server| server.name.clone()).collect()
    }

    /// The other servers that log in to replicate with the same account as this one.
    pub fn sharing_account(&self, name: &ServerName) -> Vec<&ServerName> {
        let Some(server) = self.server(name) else { return Vec::new() };
        let others = self.servers.iter().filter(|other| other.name != *name);
        let same = others.filter(|o| o.replication_account == server.replication_account);
        same.map(|other| &other.name).collect()
    }

    /// Every rule that a definition breaks, each as one sentence; empty: it may be applied.
    pub fn mistakes(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.mistakes_of_names(&mut out);
        self.mistakes_of_numbers(&mut out);
        self.mistakes_of_hooks(&mut out);
        out
    }

    fn mistakes_of_names(&self, out: &mut Vec<String>) {
        if !is_word(self.name.as_str()) {
            out.push(format!(
                "cluster name {:?}: wanted 1 to 48 of letters, digits, '_' and '-'",
                self.name.0
            ));
        }
        if self.servers.len() < 2 {
            out.push(format!("wanted at least 2 servers, found {}", self.servers.len()));
        }
        let mut names = BTreeSet::new();
        let mut places = BTreeSet::new();
        for server in &self.servers {
            if !is_word(server.name.as_str()) {
                out.push(format!(
                    "server name {:?}: wanted 1 to 48 of letters, digits, '_' and '-'",
                    server.name.0
                ));
            }
            if !names.insert(&server.name) {
                out.push(format!("server {} is defined twice", server.name));
            }
            if !places.insert((&server.host, server.port)) {
                out.push(format!(
                    "server {}: {}:{} is the address of another server, too",
                    server.name, server.host, server.port
                ));
            }
            if server.host.is_empty() || server.port == 0 {
                out.push(format!("server {}: wanted a host and a port above 0", server.name));
            }
            if let Some(base) = server.log_bin.as_ref().filter(|base| !base.starts_with('/')) {
                out.push(format!(
                    "server {}: log_bin {base:?} is not an absolute path",
                    server.name
                ));
            }
            if server.ssh.is_some() && !server.data_dir.starts_with('/') {
                out.push(format!(
                    "server {}: data_dir {:?} is not an absolute path; fencing finds mysqld by it",
                    server.name, server.data_dir
                ));
            }
        }
        if self.servers.iter().all(|server| server.promotion == PromotionRule::Never) {
            out.push("every server has promotion = \"never\": nobody could be promoted".into());
        }
        for vip in self.writer.iter().chain(&self.readers) {
            if vip.address.parse::<std::net::Ipv4Addr>().is_err() {
                out.push(format!("vip {:?}: wanted an IPv4 address", vip.address));
            }
            if !(1..=32).contains(&vip.prefix) {
                out.push(format!("vip {}: prefix {} is not 1 to 32", vip.address, vip.prefix));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
            if vip.interface.is_empty() || !vip.interface.chars().all(plain) {
                out.push(format!(
                    "vip {}: {:?} is not an interface name",
                    vip.address, vip.interface
                ));
            }
        }
    }

    fn mistakes_of_numbers(&self, out: &mut Vec<String>) {
        let ackers = self.servers.iter().filter(|server| server.acker).count();
        if self.mode == Mode::Quorum && (self.acks == 0 || self.acks as usize >= ackers) {
            out.push(format!(
                "mode quorum with acks = {} needs at least {} servers with acker = true, found \
                 {ackers}: one is the primary, {} acknowledge",
                self.acks,
                self.acks + 1,
                self.acks
            ));
        }
        let policy = &self.policy;
        let ranges = [
            ("ping_interval_ms", policy.ping_interval_ms.0, 20, 10_000),
            ("connect_deadline_ms", policy.connect_deadline_ms.0, 50, 60_000),
            ("refusals", u64::from(policy.refusals), 1, 100),
            ("doubt_interval_ms", policy.doubt_interval_ms.0, 5, 1000),
            ("silence_ms", policy.silence_ms.0, 500, 600_000),
            ("ballot_age_ms", policy.ballot_age_ms.0, 50, 10_000),
            ("stall_ms", policy.stall_ms.0, 50, 10_000),
            ("watch_interval_ms", policy.watch_interval_ms.0, 50, 60_000),
            ("heartbeat_ms", policy.heartbeat_ms.0, 50, 60_000),
            ("last_failover_minutes", policy.last_failover_minutes, 0, 525_600),
            ("step_deadline_ms", policy.step_deadline_ms.0, 500, 3_600_000),
            ("fence_patience_ms", policy.fence_patience_ms.0, 0, 60_000),
            ("progress_budget_ms", policy.progress_budget_ms.0, 1000, 3_600_000),
            ("retry_pause_ms", policy.retry_pause_ms.0, 100, 3_600_000),
            ("dead_acker_ms", policy.dead_acker_ms.0, 1000, 86_400_000),
            ("last_acker_ms", policy.last_acker_ms.0, 1000, 86_400_000),
        ];
        for (name, found, least, most) in ranges {
            if !(least..=most).contains(&found) {
                out.push(format!("policy {name} = {found}: wanted {least} to {most}"));
            }
        }
    }
}

impl ClusterDefinition {
    fn mistakes_of_hooks(&self, out: &mut Vec<String>) {
        let budget = self.policy.progress_budget_ms;
        let mut names = BTreeSet::new();
        for hook in &self.hooks {
            let name = &hook.name;
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.starts_with('.') || !(1..=48).contains(&name.len()) || !name.chars().all(plain)
            {
                out.push(format!(
                    "hook {name:?}: wanted a file name, 1 to 48 of letters, digits, '_', '-', '.'"
                ));
            }
            if !names.insert(name) {
                out.push(format!("hook {name} is defined twice"));
            }
            if hook.on.is_empty() {
                out.push(format!("hook {name}: on names no moment, so it is never called"));
            }
            if !(100..=600_000).contains(&hook.deadline_ms.0) {
                let found = hook.deadline_ms.0;
                out.push(format!("hook {name}: deadline_ms = {found}: wanted 100 to 600000"));
            }
            let is_awaited = hook.required && hook.on.contains(&HookEvent::Opened);
            if is_awaited && hook.deadline_ms >= budget {
                out.push(format!(
                    "hook {name}: a required hook on opened needs a deadline_ms below policy \
                     progress_budget_ms = {}, or every attempt is undone while it runs",
                    budget.0
                ));
            }
        }
    }
}

/// Names end up in lock names, file names and tokens: a small alphabet.
fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=48).contains(&text.len()) && text.chars().all(plain)
}
