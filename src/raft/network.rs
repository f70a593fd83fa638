//! How does this manager talk to another one? One lazy HTTP/2 connection per peer, for all calls.
//!
//! A connection on which calls have failed for a while is thrown away: after a partition TCP
//! would wait for seconds before it sends again, a new connection is there at once.

use std::{
    collections::BTreeMap,
    fmt::Display,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use futures::stream;
use openraft::{
    OptionalSend, RPCTypes, RaftNetworkFactory,
    errors::{NetworkError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{
    MESSAGE_MAX,
    group::GroupId,
    pb::{Answer, Packet, raft_client::RaftClient},
    store::record,
    types::{
        AppendRequest, AppendResponse, MemberNode, RpcError, Snapshot, SnapshotData,
        SnapshotResponse, TransferRequest, TransferResponse, TypeConfig, Vote, VoteRequest,
        VoteResponse,
    },
};

/// After calls have failed for this long a new connection is made.
const STALE: Duration = Duration::from_millis(800);

/// How long a connection attempt may take.
const CONNECT: Duration = Duration::from_millis(500);

/// HTTP/2 pings find a connection dead that nobody uses.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// A follower answers new entries when they are on its disk. A disk that is slow for a moment must
/// not make us send them again: this many times openraft's limit for a heartbeat.
const ENTRIES_TTL: u32 = 4;

/// Waits between tries to reach a peer that is not there, in ms. The last one repeats.
const BACKOFF_MS: [u64; 3] = [50, 100, 200];

/// A snapshot travels in pieces of this many bytes.
const PIECE: usize = 256 << 10;

/// An address that nobody can be called at.
#[derive(Debug, thiserror::Error)]
#[error("wanted an address host:port to connect to, found {addr:?}: {cause}")]
pub struct DialError {
    addr: String,
    cause: tonic::transport::Error,
}

/// Prepares calls to a manager; connects when the first call is made.
///
/// # Errors
/// The address is not `host:port`.
pub fn endpoint(addr: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, DialError> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let made = Endpoint::from_shared(format!("{scheme}://{addr}")).and_then(|endpoint| {
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        match tls {
            Some(tls) => endpoint.tls_config(tls.clone()),
            None => Ok(endpoint),
        }
    });
    made.map_err(|cause| DialError { addr: addr.to_owned(), cause })
}

/// How calls to an address travel. It connects when the first one is made.
pub type Wire = Arc<dyn Fn(&Endpoint) -> Channel + Send + Sync>;

/// Over TCP.
#[must_use]
pub fn over_tcp() -> Wire {
    Arc::new(Endpoint::connect_lazy)
}

/// All peers of one manager. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    me: u64,
    group: Arc<OnceLock<GroupId>>,
    tls: Option<ClientTlsConfig>,
    wire: Wire,
    table: Arc<Mutex<BTreeMap<u64, Arc<Peer>>>>,
}

impl Peers {
    #[must_use]
    pub fn new(
        me: u64,
        group: Arc<OnceLock<GroupId>>,
        tls: Option<ClientTlsConfig>,
        wire: Wire,
    ) -> Self {
        Self { me, group, tls, wire, table: Arc::default() }
    }

    /// The one connection to a peer; made anew if its address changed.
    pub fn peer(&self, id: u64, addr: &str) -> Arc<Peer> {
        let mut table = self.table.lock().expect("no panic while held");
        match table.get(&id) {
            Some(peer) if peer.addr == addr => peer.clone(),
            Some(_) | None => {
                let peer = Arc::new(Peer::new(self, id, addr));
                table.insert(id, peer.clone());
                peer
            }
        }
    }

    /// Why each peer refuses us; those that do not are left out.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<u64, String> {
        let table = self.table.lock().expect("no panic while held");
        let refusals = table.iter().filter_map(|(id, peer)| Some((*id, peer.refusal()?)));
        refusals.collect()
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Line;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> Line {
        Line { peer: self.peer(target, &node.addr) }
    }
}

/// Another manager, as seen from here.
pub struct Peer {
    me: u64,
    pub id: u64,
    pub addr: String,
    group: Arc<OnceLock<GroupId>>,
    endpoint: Result<Endpoint, DialError>,
    wire: Wire,
    link: Mutex<Link>,
}

struct Link {
    client: Option<RaftClient<Channel>>,
    /// Since when calls have failed; `None`: the last one was answered.
    failing: Option<Instant>,
    refusal: Option<String>,
    acked: Acked,
}

/// The highest log index that the peer acknowledged to us as leader of the term.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Acked {
    term: u64,
    index: u64,
}

impl Peer {
    fn new(peers: &Peers, id: u64, addr: &str) -> Self {
        let endpoint = endpoint(addr, peers.tls.as_ref());
        let client = endpoint.as_ref().ok().map(|endpoint| connect(&peers.wire, endpoint));
        let link = Link { client, failing: None, refusal: None, acked: Acked::default() };
        let (me, group, addr) = (peers.me, peers.group.clone(), addr.to_owned());
        let wire = peers.wire.clone();
        Self { me, id, addr, group, endpoint, wire, link: Mutex::new(link) }
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().expect("no panic while held")
    }

    fn refusal(&self) -> Option<String> {
        self.link().refusal.clone()
    }

    /// A client for one call; a new connection if the present one seems dead.
    ///
    /// # Errors
    /// The address is wrong.
    pub fn client(&self) -> Result<RaftClient<Channel>, &DialError> {
        let endpoint = self.endpoint.as_ref()?;
        let mut link = self.link();
        if link.failing.is_some_and(|since| since.elapsed() > STALE) {
            link.client = None;
            link.failing = None;
        }
        Ok(link.client.get_or_insert_with(|| connect(&self.wire, endpoint)).clone())
    }

    fn packet(&self, payload: Vec<u8>) -> Packet {
        let group = self.group.get().map(|group| group.to_bytes()).unwrap_or_default();
        let Acked { term, index } = self.link().acked;
        let (target, from) = (self.id, self.me);
        Packet { group, target, from, payload, acked_term: term, acked_index: index }
    }

    /// Remembers how the call went; logs a refusal when it is a new one.
    pub fn note<T>(&self, result: &Result<T, Status>) {
        let mut link = self.link();
        let refusal = match result {
            Ok(_) => None,
            Err(status) if is_refusal(status) => Some(status.message().to_owned()),
            // Not answered: what was known about it stays.
            Err(_) => {
                link.failing.get_or_insert_with(Instant::now);
                return;
            }
        };
        link.failing = None;
        if link.refusal == refusal {
            return;
        }
        match &refusal {
            Some(why) => tracing::warn!(peer = self.id, addr = self.addr, why, "refused by a peer"),
            None => {
                tracing::info!(peer = self.id, addr = self.addr, "a peer takes our calls again")
            }
        }
        link.refusal = refusal;
    }

    /// Remembers what the peer acknowledged, to hold it against it.
    fn acked(&self, rpc: &AppendRequest, response: &AppendResponse) {
        let last = match response {
            AppendResponse::Success => rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id),
            AppendResponse::PartialSuccess(last) => *last,
            AppendResponse::Conflict | AppendResponse::HigherVote(_) => return,
        };
        let acked = Acked { term: rpc.vote.leader_id.term, index: last.map_or(0, |id| id.index) };
        let mut link = self.link();
        link.acked = link.acked.max(acked);
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        rpc: &impl Serialize,
        ttl: Duration,
    ) -> Result<A, RpcError> {
        let mut client = self.client().map_err(|e| unreachable(&e))?;
        let packet = self.packet(record::json(rpc));
        let call = async {
            match method {
                Method::Append => client.append(packet).await,
                Method::Vote => client.vote(packet).await,
                Method::PreVote => client.pre_vote(packet).await,
                Method::TransferLeader => client.transfer_leader(packet).await,
            }
        };
        let Ok(result) = tokio::time::timeout(ttl, call).await else {
            self.note::<()>(&Err(Status::deadline_exceeded("no answer in time")));
            let (action, id, target) = (method.action(), self.me, self.id);
            return Err(Timeout { action, id, target, timeout: ttl }.into());
        };
        self.note(&result);
        let answer: Answer = result.map_err(|e| unreachable(&e))?.into_inner();
        serde_json::from_slice(&answer.payload).map_err(|e| NetworkError::new(&e).into())
    }
}

#[derive(Clone, Copy)]
enum Method {
    Append,
    Vote,
    PreVote,
    TransferLeader,
}

impl Method {
    fn action(self) -> RPCTypes {
        match self {
            Self::Append => RPCTypes::AppendEntries,
            Self::Vote | Self::PreVote => RPCTypes::Vote,
            Self::TransferLeader => RPCTypes::TransferLeader,
        }
    }
}

fn connect(wire: &Wire, endpoint: &Endpoint) -> RaftClient<Channel> {
    let client = RaftClient::new(wire(endpoint));
    client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX)
}

/// The peer is there and does not want to talk to us.
fn is_refusal(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}

/// openraft waits a little before it tries again.
fn unreachable(e: &impl Display) -> RpcError {
    RpcError::Unreachable(Unreachable::from_string(e))
}

/// openraft's view of a peer.
pub struct Line {
    peer: Arc<Peer>,
}

impl Line {
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        ttl: Duration,
    ) -> Result<SnapshotResponse, RpcError> {
        let mut client = self.peer.client().map_err(|e| unreachable(&e))?;
        let head = self.peer.packet(record::json(&(vote, &snapshot.meta)));
        let pieces = snapshot.snapshot.chunks(PIECE).map(|piece| self.peer.packet(piece.into()));
        let packets: Vec<_> = std::iter::once(head).chain(pieces).collect();
        let result = tokio::time::timeout(ttl, client.snapshot(stream::iter(packets))).await;
        let late = |_| Err(Status::deadline_exceeded("snapshot not installed in time"));
        let result = result.unwrap_or_else(late);
        self.peer.note(&result);
        let answer = result.map_err(|e| unreachable(&e))?.into_inner();
        serde_json::from_slice(&answer.payload).map_err(|e| NetworkError::new(&e).into())
    }
}

impl RaftNetworkV2<TypeConfig> for Line {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        let times = if rpc.entries.is_empty() { 1 } else { ENTRIES_TTL };
        let response = self.peer.call(Method::Append, &rpc, option.soft_ttl() * times).await?;
        self.peer.acked(&rpc, &response);
        Ok(response)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RpcError> {
        self.peer.call(Method::Vote, &rpc, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RpcError> {
        self.peer.call(Method::PreVote, &rpc, option.soft_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferResponse, RpcError> {
        self.peer.call(Method::TransferLeader, &rpc, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<TypeConfig>> {
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot, option.soft_ttl()) => Ok(sent?),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let [.., last] = BACKOFF_MS;
        let waits = BACKOFF_MS.into_iter().chain(std::iter::repeat(last));
        Some(Backoff::new(waits.map(Duration::from_millis)))
    }
}

#[cfg(test)]
impl Peer {
    /// An empty pre-vote: it changes nothing, but is checked like any call.
    pub(super) async fn greet(&self) -> Result<(), Status> {
        let mut client = self.client().map_err(|e| Status::internal(e.to_string()))?;
        let result = client.pre_vote(self.packet(vec![])).await;
        self.note(&result);
        result.map(|_| ())
    }
}
