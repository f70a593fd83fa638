//! One manager's place in the group: start it, propose to it, watch what is agreed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use openraft::{
    Config, ReadPolicy, SnapshotPolicy,
    async_runtime::WatchReceiver,
    errors::{
        ClientWriteError, Fatal as CoreFatal, ForwardReason, ForwardToLeader,
        LinearizableReadError, RaftError,
    },
    storage::RaftLogStorage,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tonic::transport::ClientTlsConfig;

use super::{
    COMMAND_MAX,
    fatal::Fatal,
    form::{FormError, Forming},
    group::GroupId,
    machine::Machine,
    network::{self, Peers, Wire},
    service::{Heard, RaftServer, Service},
    status::{Role, Status},
    store::{self, Ledger, StoreError, record},
    types::{Command, ENTRIES_PER_MESSAGE, MemberNode, Metrics, Raft, Reply, State, TypeConfig},
};

/// How long a follower may take to install a snapshot.
const SNAPSHOT_TTL_MS: u64 = 20_000;

/// The pace of the group. All its managers should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How often a leader says that it is there. Default 50 ms.
    pub heartbeat: Duration,
    /// A follower that hears nothing stands for election after a time between these.
    /// Default 150 to 300 ms.
    pub election_min: Duration,
    pub election_max: Duration,
    /// How long a proposal may take until its outcome counts as unknown. Default 3 s.
    pub propose: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            propose: Duration::from_secs(3),
        }
    }
}

/// How much log is kept, in entries. This bounds the disk use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// A snapshot is made after this many entries. Default 1000.
    pub snapshot_after: u64,
    /// This many entries before the snapshot are kept for followers that lag. Default 200.
    pub keep: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { snapshot_after: 1000, keep: 200 }
    }
}

/// A follower that has not heard its leader for so long, and then for an election, knows none: as
/// nobody can be elected without a majority, it may go on waiting for ever.
const FORSAKEN: Duration = Duration::from_secs(1);

/// What a manager needs to know to take part.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// This manager's id, for ever; never 0, and never that of another one.
    pub id: u64,
    /// The directory of its log; only this manager's.
    pub dir: PathBuf,
    pub timings: Timings,
    pub compaction: Compaction,
    /// For calls to the others; `None`: plain text.
    pub tls: Option<ClientTlsConfig>,
}

/// What a node is put together from.
pub(super) struct Parts<L> {
    pub id: u64,
    pub timings: Timings,
    /// Made of the same timings.
    pub config: Arc<Config>,
    pub log: L,
    pub machine: Machine,
    /// That of `log` and `machine`.
    pub fatal: Fatal,
    pub tls: Option<ClientTlsConfig>,
    pub wire: Wire,
}

/// Why a manager did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The timings do not fit each other.
    #[error("the timings {timings:?} do not fit: {cause}")]
    Timings { timings: Timings, cause: String },
    /// openraft did not accept what is stored.
    #[error("start the Raft group member: {0}")]
    Core(String),
}

/// A manager that leads, or is thought to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub id: u64,
    /// `host:port`; empty while its entry in the membership is not known.
    pub addr: String,
}

impl Leader {
    pub(super) fn of(metrics: &Metrics) -> Option<Self> {
        let id = metrics.current_leader?;
        let node = metrics.membership_config.membership().get_node(&id);
        Some(Self { id, addr: node.map(|node| node.addr.clone()).unwrap_or_default() })
    }
}

/// Who leads, as far as this manager knows. Only [`Node::confirm_leadership`] proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<Leader>,
    pub is_me: bool,
}

/// Why a proposal was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not done: another manager leads.
    #[error("this manager does not lead{}", whom(.leader))]
    NotLeader { leader: Option<Leader> },
    /// Not done: this manager leads, but hears no majority.
    #[error("no majority of the managers can be reached: nothing can be decided")]
    NoQuorum,
    /// Not done: too large.
    #[error("the command has {bytes} bytes, more than {}", COMMAND_MAX)]
    TooLarge { bytes: usize },
    /// It may have been done, or may still be: read the state before saying it again.
    #[error("the outcome is unknown: {why}")]
    Unknown { why: String },
    /// This manager has stopped; it may have been done.
    #[error("this manager has stopped: {why}")]
    Fatal { why: String },
}

/// Why leadership was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    #[error("this manager does not lead{}", whom(.leader))]
    NotLeader { leader: Option<Leader> },
    #[error("no majority of the managers confirmed it within {within:?}")]
    NoQuorum { within: Duration },
    #[error("this manager has stopped: {why}")]
    Fatal { why: String },
}

/// Why leadership was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("this manager does not lead{}", whom(.leader))]
    NotLeader { leader: Option<Leader> },
    #[error("manager {to} is no voter of the group (voters: {voters:?})")]
    NotAVoter { to: u64, voters: Vec<u64> },
    #[error("manager {to} did not take over within {within:?}; leader now: {}", now(.leader))]
    NotTaken { to: u64, within: Duration, leader: Option<Leader> },
    #[error("this manager has stopped: {why}")]
    Fatal { why: String },
}

fn whom(leader: &Option<Leader>) -> String {
    match leader {
        Some(Leader { id, addr }) => format!("; manager {id} at {addr} does"),
        None => "; no leader is known".to_owned(),
    }
}

fn now(leader: &Option<Leader>) -> String {
    leader.as_ref().map_or("none".to_owned(), |leader| format!("manager {}", leader.id))
}

/// A running member of the group. Cheap to clone; [`Node::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    raft: Raft,
    log: Arc<dyn Ledger>,
    group: Arc<OnceLock<GroupId>>,
    peers: Peers,
    forming: Arc<Forming>,
    leadership: watch::Receiver<Leadership>,
    state: watch::Receiver<Arc<State>>,
    timings: Timings,
    fatal: Fatal,
    heard: Heard,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// Opens the data directory and takes part. An empty manager waits until it is adopted.
    ///
    /// The service must be served before the others can reach this one: [`Self::service`].
    ///
    /// # Errors
    /// See [`StartError`]. Nothing runs.
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let NodeOptions { id, dir, timings, compaction, tls } = options;
        let config = config(&timings, &compaction)?;
        let fatal = Fatal::default();
        let opened = {
            let fatal = fatal.clone();
            let open = tokio::task::spawn_blocking(move || store::open(&dir, id, &fatal));
            open.await.map_err(|e| StartError::Core(e.to_string()))??
        };
        let (log, machine, wire) = (opened.log, opened.machine, network::over_tcp());
        Self::assemble(Parts { id, timings, config, log, machine, fatal, tls, wire }).await
    }

    /// Takes part with what was opened.
    pub(super) async fn assemble<L>(parts: Parts<L>) -> Result<Self, StartError>
    where
        L: RaftLogStorage<TypeConfig> + Ledger + Clone + 'static,
    {
        let Parts { id, timings, config, log, machine, fatal, tls, wire } = parts;
        let group = Arc::new(log.group().map_or_else(OnceLock::new, |(id, _)| OnceLock::from(id)));
        let peers = Peers::new(id, group.clone(), tls, wire);
        let state = machine.watch();
        let raft = Raft::new(id, config, peers.clone(), log.clone(), machine).await;
        let raft = raft.map_err(|e| StartError::Core(e.to_string()))?;
        let log: Arc<dyn Ledger> = Arc::new(log);
        let forming = Arc::new(Forming::new(id, log.clone(), group.clone()));
        let (told, leadership) = watch::channel(Leadership::default());
        let watcher = tokio::spawn(watch_core(raft.clone(), fatal.clone(), told));
        let watcher = Mutex::new(Some(watcher));
        let inner = Inner {
            id,
            raft,
            log,
            group,
            peers,
            forming,
            leadership,
            state,
            timings,
            fatal,
            heard: Heard::new(),
            watcher,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The service that the other managers call.
    #[must_use]
    pub fn service(&self) -> RaftServer {
        let Inner { id, raft, log, forming, fatal, heard, .. } = &*self.inner;
        let refused = Mutex::default();
        let (raft, log, forming) = (raft.clone(), log.clone(), forming.clone());
        let (fatal, heard) = (fatal.clone(), heard.clone());
        Service { me: *id, raft, log, forming, fatal, heard, refused }.into_server()
    }

    /// This manager's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// The group this manager belongs to; `None` for an empty one.
    #[must_use]
    pub fn group(&self) -> Option<GroupId> {
        self.inner.group.get().copied()
    }

    /// Why this manager must stop, once it must: then the process is to exit, not with 0.
    #[must_use]
    pub fn fatal(&self) -> &Fatal {
        &self.inner.fatal
    }

    /// Who leads, and a notice of each change.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Who leads, unless that is somebody who has been silent for long.
    #[must_use]
    pub fn leader(&self) -> Option<Leader> {
        let known = self.inner.leadership.borrow().clone();
        known.leader.filter(|_| known.is_me || !self.is_forsaken())
    }

    fn is_forsaken(&self) -> bool {
        self.inner.heard.age() > FORSAKEN + self.inner.timings.election_max
    }

    /// What is agreed, and a notice of each change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.inner.state.clone()
    }

    /// How the group is, as seen from here.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &*self.inner;
        let metrics = metrics(&inner.raft);
        let fatal = inner.fatal.reason().map(|reason| reason.to_string());
        let status = Status::new(&metrics, self.group(), inner.peers.refusals(), fatal);
        let is_known = status.role == Role::Leader || !self.is_forsaken();
        Status { leader: status.leader.filter(|_| is_known), ..status }
    }

    /// Agrees on a command; answers when a majority holds it durably and it is applied here.
    ///
    /// # Errors
    /// See [`ProposeError`], which says for each case whether it may have been done.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let bytes = record::json(&command).len();
        if bytes > COMMAND_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        let within = self.inner.timings.propose;
        let write = timeout(within, self.inner.raft.client_write(command)).await;
        let unknown = |why: String| ProposeError::Unknown { why };
        let result = write.map_err(|_| unknown(format!("not decided within {within:?}")))?;
        let forward = |to: &ForwardToLeader<TypeConfig>| match to.reason {
            ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
                ProposeError::NotLeader { leader: leader(to) }
            }
            ForwardReason::LeaseExpired => ProposeError::NoQuorum,
        };
        match result {
            Ok(written) => written.data.ok_or_else(|| unknown("no reply was given".to_owned())),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(forward(&to)),
            Err(RaftError::APIError(
                e @ (ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            )) => Err(unknown(e.to_string())),
            Err(RaftError::Fatal(e)) => Err(ProposeError::Fatal { why: self.why(&e) }),
        }
    }

    /// Proves that this manager leads now: a majority says so, after this was called. Returns the
    /// term; [`Self::state`] then holds all that was agreed before.
    ///
    /// # Errors
    /// It does not lead, or that cannot be shown within the time.
    pub async fn confirm_leadership(&self, within: Duration) -> Result<u64, ConfirmError> {
        self.confirm_by(ReadPolicy::ReadIndex, within).await
    }

    /// With another policy than `ReadIndex` it is no proof.
    pub(super) async fn confirm_by(
        &self,
        policy: ReadPolicy,
        within: Duration,
    ) -> Result<u64, ConfirmError> {
        let read = self.inner.raft.ensure_linearizable(policy);
        match timeout(within, read).await {
            Err(_) => Err(ConfirmError::NoQuorum { within }),
            Ok(Ok(read)) => Ok(read.log_id().leader_id.term),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                match to.reason {
                    ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
                        Err(ConfirmError::NotLeader { leader: leader(&to) })
                    }
                    ForwardReason::LeaseExpired => Err(ConfirmError::NoQuorum { within }),
                }
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => {
                Err(ConfirmError::NoQuorum { within })
            }
            Ok(Err(RaftError::Fatal(e))) => Err(ConfirmError::Fatal { why: self.why(&e) }),
        }
    }

    /// Makes empty managers a group, this one among them. Said once, by a person.
    ///
    /// # Errors
    /// See [`FormError`]. After an error it can be said again, on the same manager.
    pub async fn init_group(
        &self,
        members: BTreeMap<u64, MemberNode>,
    ) -> Result<GroupId, FormError> {
        let inner = &*self.inner;
        inner.forming.form(&inner.raft, &inner.peers, members).await
    }

    /// Puts an empty manager in the place of a lost one, whose id must not be used again. To be
    /// said on the leader.
    ///
    /// # Errors
    /// See [`FormError`]. After an error it can be said again.
    pub async fn replace_manager(
        &self,
        lost: u64,
        id: u64,
        node: MemberNode,
    ) -> Result<(), FormError> {
        let inner = &*self.inner;
        inner.forming.replace(&inner.raft, &inner.peers, lost, (id, node)).await
    }

    /// Hands leadership to another voter and waits until it has it.
    ///
    /// # Errors
    /// See [`TransferError`]. Some manager leads soon in any case.
    pub async fn transfer_leadership(&self, to: u64) -> Result<(), TransferError> {
        let metrics = metrics(&self.inner.raft);
        let leader = Leader::of(&metrics);
        if leader.as_ref().is_none_or(|leader| leader.id != self.inner.id) {
            return Err(TransferError::NotLeader { leader });
        }
        let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
        if !voters.contains(&to) {
            return Err(TransferError::NotAVoter { to, voters });
        }
        let asked = self.inner.raft.trigger().transfer_leader(to).await;
        asked.map_err(|e| TransferError::Fatal { why: self.why(&e) })?;
        let within = self.inner.timings.election_max * 3;
        let mut watch = self.leadership();
        let taken = watch.wait_for(|seen| seen.leader.as_ref().is_some_and(|l| l.id == to));
        let is_taken = matches!(timeout(within, taken).await, Ok(Ok(_)));
        let leader = self.inner.leadership.borrow().leader.clone();
        if is_taken { Ok(()) } else { Err(TransferError::NotTaken { to, within, leader }) }
    }

    /// Stops taking part; what was acknowledged is durable already.
    pub async fn shutdown(&self) {
        // The watcher first: to it, a core that ends is a reason to stop.
        let watcher = self.inner.watcher.lock().expect("no panic while held").take();
        if let Some(watcher) = watcher {
            watcher.abort();
            // Aborted: there is nothing to learn from it.
            let _ = watcher.await;
        }
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(error = %e, "the Raft core did not end in order");
        }
    }

    /// Our own reason says more than openraft's.
    fn why(&self, e: &CoreFatal<TypeConfig>) -> String {
        self.inner.fatal.reason().map_or_else(|| e.to_string(), |reason| reason.to_string())
    }
}

/// openraft's settings.
pub(super) fn config(
    timings: &Timings,
    compaction: &Compaction,
) -> Result<Arc<Config>, StartError> {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "conclave".to_owned(),
        heartbeat_interval: ms(timings.heartbeat),
        election_timeout_min: ms(timings.election_min),
        election_timeout_max: ms(timings.election_max),
        install_snapshot_timeout: SNAPSHOT_TTL_MS,
        max_payload_entries: ENTRIES_PER_MESSAGE,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.snapshot_after),
        max_in_snapshot_log_to_keep: compaction.keep,
        // A manager that cannot win must not disturb the leader.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected again.
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(true),
        ..Config::default()
    };
    let checked = config.validate().map(Arc::new);
    checked.map_err(|e| StartError::Timings { timings: *timings, cause: e.to_string() })
}

/// A copy at once: a held borrow can deadlock the core.
pub(super) fn metrics(raft: &Raft) -> Metrics {
    raft.metrics().borrow_watched().clone()
}

fn leader(to: &ForwardToLeader<TypeConfig>) -> Option<Leader> {
    let addr = to.leader_node.as_ref().map(|node| node.addr.clone()).unwrap_or_default();
    to.leader_id.map(|id| Leader { id, addr })
}

/// Tells who leads, until the core stops; says why it did, and stops it when it must.
async fn watch_core(raft: Raft, fatal: Fatal, told: watch::Sender<Leadership>) {
    let mut changes = raft.metrics();
    loop {
        let seen = changes.borrow_watched().clone();
        match &seen.running_state {
            Ok(()) | Err(CoreFatal::Stopped) => {}
            Err(e @ (CoreFatal::StorageError(_) | CoreFatal::Panicked)) => {
                fatal.raise(&format!("the Raft core stopped: {e}"));
            }
        }
        let leader = if seen.running_state.is_ok() { Leader::of(&seen) } else { None };
        let is_me = leader.as_ref().is_some_and(|leader| leader.id == seen.id);
        let now = Leadership { term: seen.current_term, leader, is_me };
        told.send_if_modified(|held| {
            let is_new = *held != now;
            *held = now;
            is_new
        });
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                fatal.raise("the Raft core ended without giving a reason");
                break;
            },
            _ = fatal.raised() => break,
        }
    }
    told.send_replace(Leadership::default());
    // As a task of its own, for this one may be aborted: where somebody gave up waiting for the
    // core, openraft panics in whoever waits next.
    let ending = tokio::spawn(async move { raft.shutdown().await });
    if let Ok(Err(e)) = ending.await {
        tracing::warn!(error = %e, "the Raft core did not end in order");
    }
}

#[cfg(test)]
impl Node {
    /// Calls another manager with an empty message; what it says.
    pub(super) async fn dial(&self, addr: &str, id: u64) -> String {
        let peer = self.inner.peers.peer(id, addr);
        peer.greet().await.err().map(|status| status.message().to_owned()).unwrap_or_default()
    }
}
