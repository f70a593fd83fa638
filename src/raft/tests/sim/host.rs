//! What is a manager's machine in the simulation? A tokio runtime of its own on virtual time, the
//! real node and service in it, and a disk that outlives both.
//!
//! Nothing of a host runs but in [`Host::run`]: not to call it is SIGSTOP, to drop the runtime is
//! a kill.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, stream};
use hyper_util::rt::TokioIo;
use openraft::ReadPolicy;
use tokio::{runtime::Runtime, time};
use tonic::{
    codegen::{Service, http::Uri},
    transport::Endpoint,
};

use super::{
    net::Net,
    runtime::{Rng, with_seed},
    stream::Stream,
};
use crate::raft::{
    Compaction, ConfirmError, Fatal, MemberNode, Node, ProposeError, Reply, StartError, Timings,
    machine::{Machine, Shelf},
    network::Wire,
    node::{Parts, config},
    server,
    store::memory::{MemoryStore, Pages},
    types::{Command, LogId, State},
};

/// How long a client waits for a proof of leadership.
const CONFIRM: Duration = Duration::from_millis(500);

/// How long a disk that is well takes to make a write durable, in ms, at most.
pub const DISK_MS: u64 = 2;

/// What a client asks of a manager.
#[derive(Clone)]
pub enum Ask {
    Propose(Box<Command>),
    /// Who leads for certain, and what is agreed?
    Read,
    /// The same by the leader's lease: wrong, and to be noticed.
    ReadByLease,
    /// The same without the proof: wrong, and to be noticed.
    ReadBlindly,
    /// The same from one that does not even believe it leads.
    ReadAnywhere,
    HandOver(u64),
}

/// What it got.
pub enum Answer {
    Proposed(Result<Reply, ProposeError>),
    Read(Result<Seen, ConfirmError>),
    HandedOver,
}

/// What a reader found.
pub struct Seen {
    pub term: u64,
    pub applied: Option<LogId>,
    pub state: Arc<State>,
}

/// A machine.
pub struct Host {
    pub id: u64,
    /// Written by the running node, or left by the last one.
    pub log: MemoryStore,
    pub shelf: Shelf,
    /// How long the disk takes to make a write durable, in ms, at most.
    pub disk_ms: Arc<AtomicU64>,
    pub up: Option<Up>,
    compaction: Compaction,
    net: Net,
    rng: Rng,
    /// How far the clock of a stopped host is behind, in ms.
    behind: u64,
}

/// A running manager. The runtime goes last.
pub struct Up {
    pub node: Node,
    pub machine: Machine,
    answers: Arc<Mutex<Vec<(u64, Answer)>>>,
    runtime: Runtime,
}

/// The manager's address, as the members have it.
pub fn member(id: u64) -> MemberNode {
    MemberNode { addr: format!("m{id}:1"), rack: String::new() }
}

impl Host {
    pub fn new(id: u64, net: &Net, compaction: Compaction, rng: Rng) -> Self {
        let (log, shelf) = (MemoryStore::on_disk(Pages::default()), Shelf::memory());
        let (disk_ms, net) = (Arc::new(AtomicU64::new(DISK_MS)), net.clone());
        Self { id, log, shelf, disk_ms, up: None, compaction, net, rng, behind: 0 }
    }

    /// Starts the manager on what `pages` and the shelf hold.
    ///
    /// # Errors
    /// openraft does not take what it found.
    pub fn start(&mut self, pages: Pages) -> Result<(), StartError> {
        self.log = MemoryStore::on_disk(pages);
        self.behind = 0;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        let fatal = Fatal::default();
        let machine = Machine::open(self.shelf.clone(), &fatal).expect("the snapshot opens");
        let timings = Timings::default();
        let parts = Parts {
            id: self.id,
            timings,
            config: config(&timings, &self.compaction).expect("they fit"),
            log: self.log.clone(),
            machine: machine.clone(),
            fatal,
            tls: None,
            wire: wire(self.net.clone(), self.id),
        };
        let disk = spin(self.log.clone(), self.disk_ms.clone(), self.rng.fork());
        let mut incoming = self.net.listen(self.id);
        let start = async move {
            tokio::spawn(disk);
            let node = Node::assemble(parts).await?;
            let service = node.service();
            tokio::spawn(async move {
                let streams = stream::poll_fn(move |cx| incoming.poll_recv(cx).map(accepted));
                let mut server = server(None).expect("no certificates are used");
                server.add_service(service).serve_with_incoming(streams).await
            });
            Ok::<_, StartError>(node)
        };
        let node = with_seed(&mut self.rng, || runtime.block_on(start))?;
        self.up = Some(Up { node, machine, answers: Arc::default(), runtime });
        Ok(())
    }

    /// Ends the manager as it stands, without a word; what the disk holds stays.
    pub fn stop(&mut self, is_dark: bool) {
        self.net.stop(self.id, is_dark);
        self.up = None;
    }

    /// A millisecond goes by, with or without the host.
    pub fn run(&mut self, is_stopped: bool) {
        let Some(up) = &self.up else { return };
        if is_stopped {
            self.behind += 1;
            return;
        }
        let behind = Duration::from_millis(std::mem::take(&mut self.behind));
        with_seed(&mut self.rng, || {
            up.runtime.block_on(async {
                if !behind.is_zero() {
                    time::advance(behind).await;
                }
                time::sleep(Duration::from_millis(1)).await;
            });
        });
    }

    /// Asks the manager something; the answer comes with that number.
    pub fn ask(&self, number: u64, ask: Ask) {
        let Some(up) = &self.up else { return };
        let (node, machine, answers) = (up.node.clone(), up.machine.clone(), up.answers.clone());
        up.runtime.spawn(async move {
            let answer = match ask {
                Ask::Propose(command) => Answer::Proposed(node.propose(*command).await),
                Ask::Read => {
                    let term = node.confirm_leadership(CONFIRM).await;
                    Answer::Read(term.map(|term| seen(term, &node, &machine)))
                }
                Ask::ReadByLease => {
                    let term = node.confirm_by(ReadPolicy::LeaseRead, CONFIRM).await;
                    Answer::Read(term.map(|term| seen(term, &node, &machine)))
                }
                Ask::ReadBlindly => {
                    let known = node.leadership().borrow().clone();
                    Answer::Read(match known.is_me {
                        true => Ok(seen(known.term, &node, &machine)),
                        false => Err(ConfirmError::NotLeader { leader: known.leader }),
                    })
                }
                Ask::ReadAnywhere => {
                    let term = node.leadership().borrow().term;
                    Answer::Read(Ok(seen(term, &node, &machine)))
                }
                Ask::HandOver(to) => {
                    // Whether it worked is seen by who leads.
                    let _ = node.transfer_leadership(to).await;
                    Answer::HandedOver
                }
            };
            answers.lock().expect("no panic while held").push((number, answer));
        });
    }

    /// The answers since the last call.
    pub fn answers(&self) -> Vec<(u64, Answer)> {
        let answers = self.up.as_ref().map(|up| up.answers.lock().expect("no panic while held"));
        answers.map(|mut answers| std::mem::take(&mut *answers)).unwrap_or_default()
    }

    /// Makes all hosts a group; to be said once.
    pub fn form(&self, ids: &[u64]) {
        let node = self.up.as_ref().expect("it runs").node.clone();
        let members: BTreeMap<_, _> = ids.iter().map(|id| (*id, member(*id))).collect();
        let up = self.up.as_ref().expect("it runs");
        up.runtime.spawn(async move { node.init_group(members).await.expect("formed") });
    }
}

fn seen(term: u64, node: &Node, machine: &Machine) -> Seen {
    Seen { term, applied: machine.applied(), state: node.state().borrow().clone() }
}

fn accepted(stream: Option<Stream>) -> Option<io::Result<Stream>> {
    stream.map(Ok)
}

/// The disk: makes durable what was written, after a while.
async fn spin(log: MemoryStore, longest_ms: Arc<AtomicU64>, mut rng: Rng) {
    loop {
        log.wanted().await;
        let ms = rng.between(0, longest_ms.load(Ordering::Relaxed));
        if ms > 0 {
            time::sleep(Duration::from_millis(ms)).await;
        }
        log.sync();
    }
}

/// Puts the simulated wires under a client.
fn wire(net: Net, from: u64) -> Wire {
    Arc::new(move |endpoint: &Endpoint| {
        endpoint.connect_with_connector_lazy(Dialer { net: net.clone(), from })
    })
}

struct Dialer {
    net: Net,
    from: u64,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (net, from) = (self.net.clone(), self.from);
        let to = uri.host().and_then(|host| host.strip_prefix('m')?.parse().ok());
        let unknown = move || io::Error::other(format!("wanted m1 or the like, found {uri}"));
        async move { Ok(TokioIo::new(net.connect(from, to.ok_or_else(unknown)?).await?)) }.boxed()
    }
}
