//! Questions about primaries between managers: asked by the leader, answered by everyone at once
//! from what they believe; and nudges, which make the leader ask.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use conclave_core::{
    model::{Ballot, ClusterName, ManagerId, Micros, Nonce, ServerName},
    ports::Clock,
};
use tokio::time::timeout;
use tonic::{
    Request, Response, Status,
    transport::{Channel, ClientTlsConfig},
};

use super::live::{Live, Question};
use crate::{
    adapters::clock::SystemClock,
    raft::{self, Node},
};

/// Generated from `proto/ballot.proto`.
#[allow(clippy::all, missing_docs)]
pub mod pb {
    tonic::include_proto!("conclave.ballot.v1");
}

use pb::{
    BallotAnswer, Question as Asked, Trouble, TroubleTaken,
    ballots_client::BallotsClient,
    ballots_server::{Ballots, BallotsServer},
};

/// How long one answer is waited for. The next question is not kept waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// The service that other managers call.
pub struct Booth {
    node: Node,
    live: Live,
}

impl Booth {
    /// The service, ready to be served.
    pub fn service(node: Node, live: Live) -> BallotsServer<Self> {
        BallotsServer::new(Self { node, live })
    }

    fn check(&self, group: &[u8], target: u64) -> Result<(), Status> {
        let mine = self.node.group();
        if target != self.node.id() {
            let why = format!("this is manager {}, not manager {target}", self.node.id());
            return Err(Status::failed_precondition(why));
        }
        match mine {
            Some(mine) if mine.to_bytes() == group => Ok(()),
            Some(_) | None => Err(Status::failed_precondition("another group's manager")),
        }
    }
}

#[tonic::async_trait]
impl Ballots for Booth {
    async fn ask(&self, request: Request<Asked>) -> Result<Response<BallotAnswer>, Status> {
        let asked = request.into_inner();
        self.check(&asked.group, asked.target)?;
        let state = self.node.state().borrow().clone();
        let cluster = ClusterName(asked.cluster);
        let primary = ServerName(asked.primary);
        if asked.urgent {
            self.live.alarmed(&cluster, SystemClock.now());
        }
        let ballot = self.live.ballot(
            state.clusters.get(&cluster),
            &cluster,
            &primary,
            Nonce(asked.nonce),
            SystemClock.now(),
        );
        let ballot = serde_json::to_vec(&ballot).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(BallotAnswer { ballot }))
    }

    async fn nudge(&self, request: Request<Trouble>) -> Result<Response<TroubleTaken>, Status> {
        let told = request.into_inner();
        self.check(&told.group, told.target)?;
        let cluster = ClusterName(told.cluster);
        let state = self.node.state().borrow().clone();
        let primary = state.clusters.get(&cluster).and_then(|cluster| cluster.primary());
        if primary.is_some_and(|primary| primary.0 == told.primary) {
            self.live.nudged(&cluster, Micros(told.span_us), SystemClock.now());
        }
        Ok(Response::new(TroubleTaken {}))
    }
}

/// Calls to the other managers' booths.
#[derive(Clone)]
pub struct Booths {
    node: Node,
    tls: Option<ClientTlsConfig>,
    clients: Arc<Mutex<BTreeMap<String, BallotsClient<Channel>>>>,
}

impl Booths {
    /// Nobody called yet.
    pub fn new(node: Node, tls: Option<ClientTlsConfig>) -> Self {
        Self { node, tls, clients: Arc::default() }
    }

    fn client(&self, addr: &str) -> Option<BallotsClient<Channel>> {
        let mut clients = self.clients.lock().expect("no panic while held");
        if let Some(client) = clients.get(addr) {
            return Some(client.clone());
        }
        let endpoint = raft::endpoint(addr, self.tls.as_ref()).ok()?;
        let client = BallotsClient::new(endpoint.connect_lazy());
        clients.insert(addr.to_owned(), client.clone());
        Some(client)
    }

    /// A connection that brought no answer is made anew: after a partition TCP would wait long.
    fn forget(&self, addr: &str) {
        self.clients.lock().expect("no panic while held").remove(addr);
    }

    /// Sends a question to every voter; answers go into `live` as they come.
    pub fn ask(&self, live: &Live, question: &Question) {
        let Some(group) = self.node.group() else { return };
        for (id, member) in self.node.status().voters {
            if id == self.node.id() {
                self.answer_myself(live, question);
                continue;
            }
            let Some(mut client) = self.client(&member.addr) else { continue };
            let asked = Asked {
                group: group.to_bytes(),
                target: id,
                from: self.node.id(),
                cluster: question.cluster.to_string(),
                primary: question.primary.to_string(),
                epoch: question.epoch.0,
                nonce: question.nonce.0,
                urgent: question.is_urgent,
            };
            let (booths, live, question) = (self.clone(), live.clone(), question.clone());
            tokio::spawn(async move {
                match timeout(PATIENCE, client.ask(asked)).await {
                    Ok(Ok(answer)) => {
                        let parsed: Result<Ballot, _> =
                            serde_json::from_slice(&answer.into_inner().ballot);
                        let is_its_own = |b: &Ballot| b.manager == ManagerId(id);
                        if let Some(ballot) = parsed.ok().filter(is_its_own) {
                            live.counted(&question, ballot, SystemClock.now());
                        }
                    }
                    Ok(Err(_)) | Err(_) => booths.forget(&member.addr),
                }
            });
        }
    }

    fn answer_myself(&self, live: &Live, question: &Question) {
        let now = SystemClock.now();
        let state = self.node.state().borrow().clone();
        let Question { cluster, primary, nonce, .. } = question;
        let ballot = live.ballot(state.clusters.get(cluster), cluster, primary, *nonce, now);
        live.counted(question, ballot, now);
    }

    /// Tells the leader that this manager sees trouble.
    pub async fn nudge(&self, cluster: &ClusterName, primary: &ServerName, span: Micros) {
        let leader = self.node.leadership().borrow().leader.clone();
        let (Some(group), Some(leader)) = (self.node.group(), leader) else { return };
        if leader.id == self.node.id() {
            return;
        }
        let Some(mut client) = self.client(&leader.addr) else { return };
        let told = Trouble {
            group: group.to_bytes(),
            target: leader.id,
            from: self.node.id(),
            cluster: cluster.to_string(),
            primary: primary.to_string(),
            span_us: span.0,
        };
        if !matches!(timeout(PATIENCE, client.nudge(told)).await, Ok(Ok(_))) {
            self.forget(&leader.addr);
        }
    }
}
