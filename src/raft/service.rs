//! Who may talk to this manager, and what becomes of it? The receiving side of `proto/raft.proto`.
//!
//! Each call is checked first: are we still fit to answer, is it our group, is it meant for us,
//! and do we still hold what we acknowledged to the caller?

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{
    MESSAGE_MAX,
    fatal::Fatal,
    form::Forming,
    group::GroupId,
    pb::{AdoptAnswer, AdoptRequest, Answer, Packet, raft_server},
    store::{Ledger, REMEDY, record},
    types::{Raft, Snapshot, SnapshotMeta, Vote},
};

/// A peer that stays silent this long is pinged, and dropped after as long again.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The largest snapshot that is taken from a leader, in bytes.
const SNAPSHOT_MAX: usize = 1 << 30;

/// The address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("listen at {addr}: {cause}; is another process using the port? (`ss -ltnp` shows it)")]
pub struct ListenError {
    addr: SocketAddr,
    cause: std::io::Error,
}

/// Takes a port for this manager's services. To be called within a tokio runtime.
///
/// # Errors
/// The port is in use, or the address is not one of this host.
pub fn listen(addr: SocketAddr) -> Result<TcpIncoming, ListenError> {
    let incoming = TcpIncoming::bind(addr).map_err(|cause| ListenError { addr, cause })?;
    Ok(incoming.with_nodelay(Some(true)))
}

/// A server for [`super::Node::service`] and whatever else shares its port.
///
/// # Errors
/// The certificates cannot be used.
pub fn server(tls: Option<ServerTlsConfig>) -> Result<Server, tonic::transport::Error> {
    let server = Server::builder().http2_keepalive_interval(Some(KEEPALIVE));
    let server = server.http2_keepalive_timeout(Some(KEEPALIVE));
    match tls {
        Some(tls) => server.tls_config(tls),
        None => Ok(server),
    }
}

/// The service, to be added to a [`server`].
pub type RaftServer = raft_server::RaftServer<Service>;

/// The receiving side of one manager.
pub struct Service {
    pub(super) me: u64,
    pub(super) raft: Raft,
    pub(super) log: Arc<dyn Ledger>,
    pub(super) forming: Arc<Forming>,
    pub(super) fatal: Fatal,
    pub(super) heard: Heard,
    /// Why each caller was refused last: logged when it changes, not at every call.
    pub(super) refused: Mutex<BTreeMap<u64, String>>,
}

impl Service {
    pub(super) fn into_server(self) -> RaftServer {
        let server = raft_server::RaftServer::new(self);
        server.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX)
    }

    /// Checks a packet.
    fn admit(&self, packet: &Packet) -> Result<(), Status> {
        let verdict = self.judge(packet);
        let mut refused = self.refused.lock().expect("no panic while held");
        let Err(status) = verdict else {
            if refused.remove(&packet.from).is_some() {
                tracing::info!(peer = packet.from, "the calls of a peer are taken again");
            }
            return Ok(());
        };
        let why = status.message().to_owned();
        if refused.get(&packet.from) != Some(&why) {
            tracing::warn!(peer = packet.from, why, "refused a peer's call");
            refused.insert(packet.from, why);
        }
        Err(status)
    }

    fn judge(&self, packet: &Packet) -> Result<(), Status> {
        let me = self.me;
        if let Some(reason) = self.fatal.reason() {
            return Err(Status::unavailable(format!("manager {me} is stopping: {reason}")));
        }
        if packet.target != me {
            let what = format!("this is manager {me}, not manager {}", packet.target);
            return Err(refuse(format!("{what}: correct the addresses of the managers")));
        }
        let from = packet.from;
        let theirs = GroupId::from_bytes(&packet.group).map_err(refuse)?;
        let Some((ours, _)) = self.log.group() else {
            return Err(refuse(format!(
                "manager {me} is empty and not part of group {theirs} of manager {from}; if it \
                 was: {REMEDY}"
            )));
        };
        if ours != theirs {
            return Err(refuse(format!(
                "manager {me} is part of group {ours}, manager {from} of group {theirs}: one of \
                 them is configured with the address of a foreign group's manager"
            )));
        }
        self.remembers(packet)
    }

    /// A restored copy of our data may hold less than the caller saw us acknowledge.
    fn remembers(&self, packet: &Packet) -> Result<(), Status> {
        let (term, index) = (packet.acked_term, packet.acked_index);
        let points = self.log.points();
        let voted = points.vote.map_or(0, |vote| vote.leader_id.term);
        let last = points.last.map_or(0, |last| last.index);
        // Only the leader of `term` could have cut our log in that term, and it never cuts what
        // we acknowledged; a later leader may have, and then we voted in its term.
        if voted > term || (voted == term && last >= index) {
            return Ok(());
        }
        let reason = format!(
            "manager {} acknowledged entry {index} in term {term} to manager {}, but holds only \
             entry {last} and voted last in term {voted}: its data was rolled back; {REMEDY}",
            self.me, packet.from
        );
        self.fatal.raise(&reason);
        Err(Status::unavailable(reason))
    }

    fn open<T: DeserializeOwned>(&self, packet: &Packet) -> Result<T, Status> {
        self.admit(packet)?;
        serde_json::from_slice(&packet.payload).map_err(|e| {
            let what = format!("read the message of manager {}: {e}", packet.from);
            refuse(format!("{what}; do all managers run the same version?"))
        })
    }
}

/// When this manager last heard from a leader. Cheap to clone.
#[derive(Clone)]
pub struct Heard(Arc<Mutex<Instant>>);

impl Heard {
    /// Counts from now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn now(&self) {
        *self.0.lock().expect("no panic while held") = Instant::now();
    }

    /// How long ago that was.
    pub fn age(&self) -> Duration {
        self.0.lock().expect("no panic while held").elapsed()
    }
}

fn refuse(why: impl Display) -> Status {
    Status::failed_precondition(why.to_string())
}

fn answer<T: Serialize, E: Display>(result: Result<T, E>) -> Result<Response<Answer>, Status> {
    // The core answers with an error only when it has stopped.
    let value = result.map_err(|e| Status::unavailable(e.to_string()))?;
    Ok(Response::new(Answer { payload: record::json(&value) }))
}

#[tonic::async_trait]
impl raft_server::Raft for Service {
    async fn append(&self, request: Request<Packet>) -> Result<Response<Answer>, Status> {
        let message = self.open(request.get_ref())?;
        self.heard.now();
        answer(self.raft.append_entries(message).await)
    }

    async fn vote(&self, request: Request<Packet>) -> Result<Response<Answer>, Status> {
        answer(self.raft.vote(self.open(request.get_ref())?).await)
    }

    async fn pre_vote(&self, request: Request<Packet>) -> Result<Response<Answer>, Status> {
        answer(self.raft.pre_vote(self.open(request.get_ref())?).await)
    }

    async fn transfer_leader(&self, request: Request<Packet>) -> Result<Response<Answer>, Status> {
        answer(self.raft.handle_transfer_leader(self.open(request.get_ref())?).await)
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Answer>, Status> {
        let mut packets = request.into_inner();
        let head = packets.message().await?.ok_or_else(|| refuse("an empty snapshot"))?;
        let (vote, meta): (Vote, SnapshotMeta) = self.open(&head)?;
        self.heard.now();
        let mut state = vec![];
        while let Some(packet) = packets.message().await? {
            self.admit(&packet)?;
            state.extend_from_slice(&packet.payload);
            if state.len() > SNAPSHOT_MAX {
                return Err(refuse(format!("a snapshot of more than {SNAPSHOT_MAX} bytes")));
            }
        }
        answer(self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: state }).await)
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptAnswer>, Status> {
        let AdoptRequest { group, target, from, ask } = request.into_inner();
        if let Some(reason) = self.fatal.reason() {
            return Err(Status::unavailable(format!("manager {} is stopping: {reason}", self.me)));
        }
        let group = GroupId::from_bytes(&group).map_err(refuse)?;
        self.forming.adopt(group, target, from, ask).await.map_err(refuse)?;
        Ok(Response::new(AdoptAnswer {}))
    }
}
