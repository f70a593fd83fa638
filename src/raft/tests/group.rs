//! Three managers over loopback with mutual TLS: what they agree on survives any of them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{runtime::Runtime, time::sleep};

use super::{get, put};
use crate::{
    raft::{
        Compaction, ConfirmError, FormError, Leadership, MemberNode, Node, NodeOptions,
        ProposeError, Reply, Timings, TransferError, listen, server,
    },
    tls::{self, Tls, TlsFiles},
};

const PATIENCE: Duration = Duration::from_secs(15);

/// One manager in a runtime of its own, so that it can be killed like a process.
struct Manager {
    node: Node,
    runtime: Option<Runtime>,
}

impl Manager {
    /// Drops everything at once, without a word to anyone.
    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The hosts of a group: directories, addresses and certificates outlive the managers.
struct Hosts {
    dir: TempDir,
    addrs: BTreeMap<u64, SocketAddr>,
    managers: BTreeMap<u64, Manager>,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (_, manager) in std::mem::take(&mut self.managers) {
            manager.kill();
        }
    }
}

impl Hosts {
    /// Three managers, empty.
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let local = || vec!["127.0.0.1".to_owned()];
        let names = [1, 2, 3].map(|id: u64| (id.to_string(), local()));
        tls::init(&dir.path().join("tls"), &names).expect("certificates");
        let addrs = [1, 2, 3].map(|id| (id, free_address())).into();
        let mut hosts = Self { dir, addrs, managers: BTreeMap::new() };
        for id in [1, 2, 3] {
            hosts.start(id);
        }
        hosts
    }

    async fn formed() -> Self {
        let hosts = Self::empty();
        hosts.node(1).init_group(hosts.members()).await.expect("formed");
        hosts
    }

    fn tls(&self, id: u64) -> Tls {
        TlsFiles::of(&self.dir.path().join("tls"), &id.to_string()).load().expect("certificates")
    }

    fn data(&self, id: u64) -> std::path::PathBuf {
        self.dir.path().join(format!("m{id}"))
    }

    fn members(&self) -> BTreeMap<u64, MemberNode> {
        let member = |addr: &SocketAddr| MemberNode { addr: addr.to_string(), rack: "r".into() };
        self.addrs.iter().map(|(id, addr)| (*id, member(addr))).collect()
    }

    fn start(&mut self, id: u64) {
        let manager = start(id, &self.data(id), self.addrs[&id], self.tls(id));
        self.managers.insert(id, manager);
    }

    /// Kills a manager and waits until its files are closed. No clone of its node may be held.
    fn kill(&mut self, id: u64) {
        self.managers.remove(&id).expect("it runs").kill();
        let lock = std::fs::File::open(self.data(id).join("LOCK")).expect("a lock file");
        let deadline = Instant::now() + PATIENCE;
        while lock.try_lock().is_err() {
            assert!(Instant::now() < deadline, "manager {id} does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn node(&self, id: u64) -> Node {
        self.managers[&id].node.clone()
    }

    /// The manager that proves to lead.
    async fn leader(&self) -> Node {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for manager in self.managers.values() {
                let node = &manager.node;
                if node.leadership().borrow().is_me
                    && node.confirm_leadership(Duration::from_millis(500)).await.is_ok()
                {
                    return node.clone();
                }
            }
            assert!(Instant::now() < deadline, "no leader within {PATIENCE:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn put(&self, key: &str) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.leader().await.propose(put(key, "v")).await {
                Ok(reply) => return reply,
                Err(e) => assert!(Instant::now() < deadline, "{key}: {e}"),
            }
        }
    }
}

/// Of a port that the system gives to nobody who asks for just any: it is free again after a kill.
fn free_address() -> SocketAddr {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let mut ports = std::iter::repeat_with(|| {
        let number =
            std::process::id().wrapping_mul(97) + 7 * ASKED.fetch_add(1, Ordering::Relaxed);
        SocketAddr::from(([127, 0, 0, 1], 10_000 + (number % 22_000) as u16))
    });
    let is_free = |address: &SocketAddr| std::net::TcpListener::bind(address).is_ok();
    ports.by_ref().take(1000).find(is_free).expect("a free port")
}

fn start(id: u64, dir: &Path, addr: SocketAddr, tls: Tls) -> Manager {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    let options = NodeOptions {
        id,
        dir: dir.to_owned(),
        timings: Timings::default(),
        compaction: Compaction { snapshot_after: 50, keep: 10 },
        tls: Some(tls.client),
    };
    let (told, started) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let node = Node::start(options).await.expect("it starts");
        let mut server = server(Some(tls.server)).expect("certificates");
        let router = server.add_service(node.service());
        let incoming = listen_again(addr).await;
        told.send(node).expect("the test waits");
        router.serve_with_incoming(incoming).await.expect("it serves");
    });
    let node = started.recv_timeout(PATIENCE).expect("the manager starts");
    Manager { node, runtime: Some(runtime) }
}

/// The port of a manager that was just killed may be taken for another moment.
async fn listen_again(addr: SocketAddr) -> tonic::transport::server::TcpIncoming {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listen(addr) {
            Ok(incoming) => return incoming,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn sees(node: &Node, key: &str) {
    let mut watch = node.state();
    let seen = watch.wait_for(|state| get(state, key).is_some());
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    assert!(matches!(seen, Ok(Ok(_))), "manager {} does not see {key}", node.id());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = held.local_addr().expect("an address");
    let Err(refused) = listen(addr) else { panic!("{addr} was taken twice") };
    let refused = refused.to_string();
    assert!(refused.starts_with(&format!("listen at {addr}: Address already in use")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_managers_wait_and_refuse_to_decide() {
    let hosts = Hosts::empty();
    sleep(Duration::from_millis(700)).await;
    for id in [1, 2, 3] {
        let node = hosts.node(id);
        assert_eq!(*node.leadership().borrow(), Leadership::default());
        assert_eq!(node.group(), None);
        let refused = node.propose(put("k", "v")).await;
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_nothing_and_rejoins_from_its_disk() {
    let mut hosts = Hosts::formed().await;
    hosts.put("first").await;
    let first = hosts.leader().await.id();
    let before = hosts.leader().await.confirm_leadership(PATIENCE).await.expect("it leads");
    hosts.kill(first);
    let start = Instant::now();
    hosts.put("second").await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "a new leader took {took:?}");
    let second = hosts.leader().await;
    let after = second.confirm_leadership(PATIENCE).await.expect("it leads");
    assert!(after > before, "terms {before}, {after}");
    assert!(get(&second.state().borrow(), "first").is_some());

    hosts.start(first);
    sees(&hosts.node(first), "second").await;
    hosts.put("third").await;
    sees(&hosts.node(first), "third").await;
    assert!(get(&hosts.node(first).state().borrow(), "first").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_remember_everything() {
    let mut hosts = Hosts::formed().await;
    // More than a snapshot's worth.
    for n in 0..120 {
        hosts.put(&format!("k{n}")).await;
    }
    let group = hosts.node(1).group();
    for id in [1, 2, 3] {
        hosts.kill(id);
    }
    for id in [1, 2, 3] {
        hosts.start(id);
    }
    let leader = hosts.leader().await;
    let state = leader.state().borrow().clone();
    for n in 0..120 {
        assert!(get(&state, &format!("k{n}")).is_some(), "k{n}");
    }
    assert_eq!(leader.group(), group);
    let status = leader.status();
    assert!(status.snapshot.is_some() && status.purged.is_some(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_lags_behind_the_log_gets_a_snapshot() {
    let mut hosts = Hosts::formed().await;
    hosts.put("first").await;
    let away = if hosts.leader().await.id() == 3 { 2 } else { 3 };
    hosts.kill(away);
    for n in 0..150 {
        hosts.put(&format!("k{n}")).await;
    }
    let purged = hosts.leader().await.status().purged;
    assert!(purged > Some(50), "{purged:?}");
    hosts.start(away);
    sees(&hosts.node(away), "k149").await;
    assert!(hosts.node(away).status().snapshot.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_init_is_refused_and_so_is_a_wrong_list() {
    let hosts = Hosts::empty();
    let mut four = hosts.members();
    four.insert(4, MemberNode { addr: "127.0.0.1:1".into(), rack: String::new() });
    let refused = hosts.node(1).init_group(four).await;
    assert!(matches!(refused, Err(FormError::Members(_))), "{refused:?}");

    let group = hosts.node(1).init_group(hosts.members()).await.expect("formed");
    hosts.put("k").await;
    for id in [1, 2, 3] {
        sees(&hosts.node(id), "k").await;
        let again = hosts.node(id).init_group(hosts.members()).await;
        let Err(FormError::AlreadyFormed { group: held, .. }) = again else { panic!("{again:?}") };
        assert_eq!(held, group);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_names_the_peer_that_is_away_and_works_when_said_again() {
    let mut hosts = Hosts::empty();
    hosts.kill(3);
    let Err(FormError::Peers(peers)) = hosts.node(1).init_group(hosts.members()).await else {
        panic!("wanted Peers")
    };
    assert_eq!(peers.len(), 1, "{peers:?}");
    assert!(peers[0].starts_with("manager 3 at 127.0.0.1:"), "{peers:?}");
    assert_eq!(hosts.node(2).group(), None, "nothing was begun");
    hosts.start(3);
    let group = hosts.node(1).init_group(hosts.members()).await.expect("formed");
    hosts.put("k").await;
    assert_eq!(hosts.node(3).group(), Some(group));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_group_s_manager_is_refused_on_both_sides() {
    let ours = Hosts::formed().await;
    ours.put("ours").await;
    // Manager 3 of another group is configured with the addresses of our managers 1 and 2.
    let mut theirs = Hosts::empty();
    for id in [1, 2, 3] {
        theirs.kill(id);
    }
    let alone = start(3, &theirs.data(3), theirs.addrs[&3], ours.tls(3));
    theirs.managers.insert(3, alone);
    let mut members = ours.members();
    members.insert(3, theirs.members()[&3].clone());
    let Err(FormError::Peers(peers)) = theirs.node(3).init_group(members).await else {
        panic!("wanted Peers")
    };
    assert!(peers.iter().all(|why| why.contains("already part of the running group")), "{peers:?}");

    // Forced into a group of its own, it calls ours.
    theirs.node(3).init_group([(3, theirs.members()[&3].clone())].into()).await.expect("formed");
    let node = theirs.node(3);
    let refused = node.dial(&ours.members()[&1].addr, 1).await;
    assert!(refused.contains("foreign group"), "{refused}");
    let refusals = node.status().refusals;
    assert!(refusals[&1].contains("foreign group"), "{refusals:?}");
    assert_eq!(ours.leader().await.status().voters.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_manager_does_not_vote_under_its_old_id() {
    let mut hosts = Hosts::formed().await;
    hosts.put("first").await;
    let leader = hosts.leader().await;
    let emptied = if leader.id() == 3 { 2 } else { 3 };
    hosts.kill(emptied);
    std::fs::remove_dir_all(hosts.data(emptied)).expect("removed");
    hosts.start(emptied);
    hosts.put("second").await;
    sleep(Duration::from_millis(500)).await;
    let node = hosts.node(emptied);
    assert_eq!(node.status().last_log, None);
    assert_eq!(node.group(), None);
    let refusals = hosts.leader().await.status().refusals;
    assert!(refusals[&emptied].contains("is empty and not part of group"), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_manager_is_replaced_under_a_new_id() {
    let mut hosts = Hosts::formed().await;
    hosts.put("first").await;
    let leader = hosts.leader().await;
    let lost = if leader.id() == 3 { 2 } else { 3 };
    hosts.kill(lost);
    let addr = free_address();
    let node = MemberNode { addr: addr.to_string(), rack: "r".into() };
    let refused = leader.replace_manager(lost, 4, node.clone()).await;
    assert!(matches!(refused, Err(FormError::Peers(_))), "{refused:?}");
    hosts.addrs.insert(4, addr);
    let fourth = start(4, &hosts.data(4), addr, hosts.tls(lost));
    hosts.managers.insert(4, fourth);
    let refused = leader.replace_manager(lost, leader.id(), node.clone()).await;
    assert!(matches!(refused, Err(FormError::Members(_))), "{refused:?}");
    leader.replace_manager(lost, 4, node).await.expect("replaced");
    let voters: Vec<_> = leader.status().voters.into_keys().collect();
    assert!(voters.contains(&4) && !voters.contains(&lost) && voters.len() == 3, "{voters:?}");
    hosts.put("second").await;
    sees(&hosts.node(4), "second").await;
    assert!(get(&hosts.node(4).state().borrow(), "first").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_manager_notices_when_the_leader_calls() {
    // The leader remembers what was acknowledged to it. On a busy machine it may change.
    for _ in 0..5 {
        let mut hosts = Hosts::formed().await;
        hosts.put("first").await;
        let leader = hosts.leader().await;
        let away = if leader.id() == 3 { 2 } else { 3 };
        sees(&hosts.node(away), "first").await;
        hosts.kill(away);
        let (old, data) = (hosts.dir.path().join("old"), hosts.data(away));
        copy_contents(&data, &old);
        hosts.start(away);
        hosts.put("second").await;
        // What was acknowledged, and not heard by the leader, nobody can miss.
        let is_told = || {
            let status = leader.status();
            let follower = status.followers.get(&away);
            follower.is_some_and(|follower| follower.matched == status.last_log)
        };
        let term = leader.status().term;
        let leads = || {
            let leadership = leader.leadership().borrow().clone();
            leadership.is_me && leadership.term == term
        };
        let told = async {
            while leads() && !is_told() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the leader hears of it");
        hosts.kill(away);
        // Restored in place: even the side file's inode is the same.
        copy_contents(&old, &data);
        hosts.start(away);
        let node = hosts.node(away);
        let changed = async {
            while leads() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let noticed = tokio::select! {
            reason = node.fatal().raised() => Some(reason),
            () = changed => None,
            () = sleep(PATIENCE) => panic!("the same leader and no notice"),
        };
        if let Some(reason) = noticed {
            assert!(reason.contains("its data was rolled back"), "{reason}");
            let mut leadership = node.leadership();
            let forgets = leadership.wait_for(|known| *known == Leadership::default());
            let forgets = tokio::time::timeout(PATIENCE, forgets).await;
            assert!(matches!(forgets, Ok(Ok(_))), "it goes on following");
            return;
        }
    }
    panic!("the leader changed in each of five attempts");
}

fn copy_contents(from: &Path, to: &Path) {
    // sled's file is replaced, the floor is overwritten in place.
    let _ = std::fs::remove_dir_all(to.join("log"));
    let from = from.join(".");
    let mut cp = std::process::Command::new("cp");
    assert!(cp.arg("-a").arg(from).arg(to).status().expect("cp runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_decided_and_it_is_said() {
    let mut hosts = Hosts::formed().await;
    hosts.put("first").await;
    let leader = hosts.leader().await;
    for id in [1, 2, 3].into_iter().filter(|id| *id != leader.id()) {
        hosts.kill(id);
    }
    sleep(Duration::from_millis(700)).await;
    let refused = leader.propose(put("k", "v")).await;
    assert!(
        matches!(refused, Err(ProposeError::NoQuorum | ProposeError::Unknown { .. })),
        "{refused:?}"
    );
    let confirmed = leader.confirm_leadership(Duration::from_millis(300)).await;
    assert!(matches!(confirmed, Err(ConfirmError::NoQuorum { .. })), "{confirmed:?}");
}

/// Stops all of a manager but its disk thread, as SIGSTOP would.
fn stand_still(manager: &Manager, time: Duration) {
    let runtime = manager.runtime.as_ref().expect("it runs");
    // The runtime has a single worker: while it sleeps nothing else runs.
    runtime.spawn(async move { std::thread::sleep(time) });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stood_still_does_not_disturb_the_leader() {
    // On a busy machine a leader may change by itself: then once more.
    for _ in 0..5 {
        let hosts = Hosts::formed().await;
        hosts.put("first").await;
        let leader = hosts.leader().await;
        let term = leader.confirm_leadership(PATIENCE).await.expect("it leads");
        let still = if leader.id() == 3 { 2 } else { 3 };
        stand_still(&hosts.managers[&still], Duration::from_secs(1));
        sleep(Duration::from_millis(800)).await;
        let is_undisturbed = leader.confirm_leadership(PATIENCE).await == Ok(term);
        sleep(Duration::from_secs(1)).await;
        hosts.put("second").await;
        sees(&hosts.node(still), "second").await;
        if is_undisturbed && leader.confirm_leadership(PATIENCE).await == Ok(term) {
            return;
        }
    }
    panic!("the leader changed in each of five attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_follows_the_next_one() {
    let hosts = Hosts::formed().await;
    hosts.put("first").await;
    let old = hosts.leader().await;
    let before = old.confirm_leadership(PATIENCE).await.expect("it leads");
    stand_still(&hosts.managers[&old.id()], Duration::from_millis(1500));
    sleep(Duration::from_millis(1000)).await;
    let others = hosts.managers.values().filter(|m| m.node.id() != old.id());
    let new = others.map(|m| m.node.clone()).find(|node| node.leadership().borrow().is_me);
    let new = new.expect("another one leads while it stands still");
    let after = new.confirm_leadership(PATIENCE).await.expect("it leads");
    assert!(after > before, "terms {before}, {after}");
    new.propose(put("second", "v")).await.expect("taken");
    sees(&old, "second").await;
    let refused = old.confirm_leadership(PATIENCE).await;
    assert!(matches!(refused, Err(ConfirmError::NotLeader { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_followers_name_the_leader() {
    let hosts = Hosts::formed().await;
    hosts.put("first").await;
    let from = hosts.leader().await;
    let to = if from.id() == 1 { 2 } else { 1 };
    let stranger = from.transfer_leadership(9).await;
    assert!(matches!(stranger, Err(TransferError::NotAVoter { to: 9, .. })), "{stranger:?}");
    from.transfer_leadership(to).await.expect("handed over");
    let leader = hosts.leader().await;
    assert_eq!(leader.id(), to);
    let refused = from.propose(put("k", "v")).await;
    let Err(ProposeError::NotLeader { leader: Some(named) }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((named.id, named.addr), (to, hosts.members()[&to].addr.clone()));
    let refused = from.transfer_leadership(3).await;
    assert!(matches!(refused, Err(TransferError::NotLeader { .. })), "{refused:?}");
    let deadline = Instant::now() + PATIENCE;
    while !leader.status().followers.values().all(|f| f.last_ack.is_some()) {
        assert!(Instant::now() < deadline, "{:?}", leader.status());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(leader.status().followers.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_command_is_refused_the_largest_is_taken() {
    let hosts = Hosts::formed().await;
    let leader = hosts.leader().await;
    let refused = leader.propose(put("k", &"x".repeat(300 << 10))).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    leader.propose(put("large", &"x".repeat(255 << 10))).await.expect("taken");
    for id in [1, 2, 3] {
        sees(&hosts.node(id), "large").await;
    }
}
