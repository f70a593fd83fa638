//! Tests of the service over real connections: two managers' desks on one made-up group.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use conclave_core::{
    decide::Wish,
    model::{Actor, Cause, ClusterName},
    ports::ProposeError,
    state::{Command, GroupState, Reply},
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Server, server::TcpIncoming},
};

use super::service;
use crate::{
    api::{
        client,
        desk::{Desk, Snapshot},
        document::{FORMAT, StatusDocument},
        operator,
        pb::{
            Caller, ClusterRequest, End, FailoverRequest, HelloRequest, PauseRequest,
            ReportRequest, StatusRequest, admin_client::AdminClient,
        },
        scene::{Story, app1, looks},
    },
    raft::{Leader, MemberNode},
    tls::{self, Tls, TlsFiles},
};

/// What the two managers share, as if replicated.
struct World {
    story: Mutex<Story>,
    leader: Mutex<Option<Leader>>,
    wisher: Mutex<Option<mpsc::UnboundedSender<String>>>,
}

struct Fake {
    me: u64,
    world: Arc<World>,
}

impl Desk for Fake {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.world.story.lock().unwrap().seen(looks(vec![]));
        snapshot.raft.id = self.me;
        snapshot
    }

    fn leader(&self) -> Option<Leader> {
        self.world.leader.lock().unwrap().clone()
    }

    fn me(&self) -> u64 {
        self.me
    }

    fn group(&self) -> Arc<GroupState> {
        Arc::new(self.world.story.lock().unwrap().group.clone())
    }

    async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let mut story = self.world.story.lock().unwrap();
        let term = story.term;
        match story.group.apply(100, term, command) {
            Reply::Rejected { rejection } => Err(ProposeError::Rejected(rejection)),
            reply => Ok(reply),
        }
    }

    fn wish(
        &self,
        _cluster: &ClusterName,
        _wish: Wish,
    ) -> Result<mpsc::UnboundedReceiver<String>, String> {
        let (said, answers) = mpsc::unbounded_channel();
        match self.world.wisher.lock().unwrap().replace(said) {
            None => Ok(answers),
            Some(_) => Err("another operator's request for app1 is being answered".into()),
        }
    }

    async fn survey(&self, _cluster: &ClusterName) {}

    async fn init_group(&self, _members: BTreeMap<u64, MemberNode>) -> Result<String, String> {
        Err("manager 1 is already part of a group".into())
    }
}

/// Two managers, m1 (the leader) and m2, with certificates in a directory.
struct Pair {
    dir: tempfile::TempDir,
    world: Arc<World>,
    addresses: [String; 2],
}

impl Pair {
    async fn start(is_secure: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manager = |name: &str| (name.to_owned(), vec!["127.0.0.1".to_owned()]);
        let names = [manager("m1"), manager("m2"), ("alice".to_owned(), vec![])];
        tls::init(dir.path(), &names).unwrap();
        let world = Arc::new(World {
            story: Mutex::new(Story::adopted()),
            leader: Mutex::default(),
            wisher: Mutex::default(),
        });
        let mut addresses = Vec::new();
        for me in [1, 2] {
            let tls = is_secure.then(|| load(dir.path(), &format!("m{me}")));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap().to_string());
            let desk = Arc::new(Fake { me, world: world.clone() });
            let admin = service(desk, tls.as_ref().map(|tls| tls.client.clone()));
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls.server).unwrap();
            }
            let router = server.add_service(admin);
            tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
        }
        let addresses: [String; 2] = addresses.try_into().unwrap();
        *world.leader.lock().unwrap() = Some(Leader { id: 1, addr: addresses[0].clone() });
        Self { dir, world, addresses }
    }

    /// Calls a manager with somebody's certificate.
    async fn call(&self, manager: usize, who: &str) -> AdminClient<Channel> {
        let tls = load(self.dir.path(), who);
        client::connect(&self.addresses[manager - 1], Some(&tls.client)).await.unwrap()
    }

    async fn call_plain(&self, manager: usize) -> AdminClient<Channel> {
        client::connect(&self.addresses[manager - 1], None).await.unwrap()
    }

    fn paused_by(&self) -> Option<String> {
        let story = self.world.story.lock().unwrap();
        story.group.clusters[&app1()].pause.as_ref().map(conclave_core::state::Pause::by)
    }
}

fn load(dir: &Path, who: &str) -> Tls {
    TlsFiles::of(dir, who).load().unwrap()
}

/// Of this version, without a name.
fn caller() -> Option<Caller> {
    Some(Caller { format: FORMAT, ..Caller::default() })
}

fn pause(caller: Option<Caller>) -> PauseRequest {
    PauseRequest { caller, cluster: "app1".into(), reason: "test".into() }
}

fn failover() -> FailoverRequest {
    FailoverRequest { caller: caller(), cluster: "app1".into(), ..FailoverRequest::default() }
}

fn said<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn the_name_on_the_certificate_is_recorded_also_when_passed_on() {
    let pair = Pair::start(true).await;
    let login = Caller { login: "mallory".into(), format: FORMAT, ..Caller::default() };
    pair.call(2, "alice").await.pause(pause(Some(login))).await.unwrap();
    assert_eq!(pair.paused_by().as_deref(), Some("alice (test)"));
}

#[tokio::test]
async fn a_program_of_another_version_is_refused_and_changes_nothing() {
    let pair = Pair::start(false).await;
    for format in [0, FORMAT + 1] {
        let other = Caller { format, ..Caller::default() };
        let (code, said) = said(pair.call_plain(2).await.pause(pause(Some(other))).await);
        assert_eq!(code, Code::FailedPrecondition);
        assert!(said.contains("use the conclave of the managers' version"), "{said}");
    }
    assert_eq!(pair.paused_by(), None);
}

/// Any service will do; the group's own ones are guarded like this.
#[tokio::test]
async fn operators_certificate_is_no_managers() {
    let pair = Pair::start(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let desk = Arc::new(Fake { me: 1, world: pair.world.clone() });
    let guarded = InterceptedService::new(service(desk, None), operator::only_managers);
    let tls = load(pair.dir.path(), "m1").server;
    let router = Server::builder().tls_config(tls).unwrap().add_service(guarded);
    tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    let hello = async |who: &str| {
        let tls = load(pair.dir.path(), who).client;
        let channel = crate::raft::endpoint(&address, Some(&tls)).unwrap().connect_lazy();
        AdminClient::new(channel).hello(HelloRequest::default()).await
    };
    hello("m2").await.unwrap();
    let text = "wanted a manager's certificate (one made for an address), found that of alice";
    assert_eq!(said(hello("alice").await), (Code::PermissionDenied, text.to_owned()));
}

#[tokio::test]
async fn only_managers_are_believed_whom_they_speak_for() {
    let pair = Pair::start(true).await;
    let forged =
        Caller { on_behalf_of: "bob".into(), forwarded: true, format: FORMAT, ..Caller::default() };
    pair.call(1, "alice").await.pause(pause(Some(forged.clone()))).await.unwrap();
    assert_eq!(pair.paused_by().as_deref(), Some("alice (test)"));
    pair.call(1, "m2").await.pause(pause(Some(forged))).await.unwrap();
    assert_eq!(pair.paused_by().as_deref(), Some("bob (test)"));
}

#[tokio::test]
async fn in_plain_text_the_login_is_recorded_also_when_passed_on() {
    let pair = Pair::start(false).await;
    let login = Caller { login: "carol".into(), format: FORMAT, ..Caller::default() };
    pair.call_plain(2).await.pause(pause(Some(login))).await.unwrap();
    assert_eq!(pair.paused_by().as_deref(), Some("carol (test)"));
}

#[tokio::test]
async fn strangers_and_plain_callers_are_told_why_they_are_refused() {
    let pair = Pair::start(true).await;
    let plain = client::connect(&pair.addresses[0], None).await.unwrap_err();
    assert!(plain.why.contains("if it wants TLS, give --ca"), "{plain}");
    let stranger = tempfile::tempdir().unwrap();
    tls::init(stranger.path(), &[]).unwrap();
    let tls = load(stranger.path(), tls::ADMIN);
    let refused = client::connect(&pair.addresses[0], Some(&tls.client)).await.unwrap_err();
    assert!(refused.why.starts_with("its certificate is not accepted"), "{refused}");
}

#[tokio::test]
async fn tls_to_a_plain_manager_is_explained() {
    let pair = Pair::start(false).await;
    let tls = load(pair.dir.path(), "alice");
    let refused = client::connect(&pair.addresses[0], Some(&tls.client)).await.unwrap_err();
    assert!(refused.why.contains("say --insecure"), "{refused}");
}

#[tokio::test]
async fn without_a_leader_writes_are_refused_and_the_status_is_partial() {
    let pair = Pair::start(false).await;
    *pair.world.leader.lock().unwrap() = None;
    let mut there = pair.call_plain(2).await;
    let (code, sentence) = said(there.pause(pause(caller())).await);
    let wanted = "no quorum: manager 2 found no leader with a majority behind it within 2 s; 2 of \
                  3 managers have to be up and reach each other";
    assert_eq!((code, sentence.as_str()), (Code::Unavailable, wanted));
    let answer = there
        .status(StatusRequest { caller: caller(), ..StatusRequest::default() })
        .await
        .unwrap()
        .into_inner();
    let status: StatusDocument = serde_json::from_str(&answer.json).unwrap();
    assert!(!status.is_complete);
    assert_eq!(status.notice, format!("{wanted}; this is only what manager 2 sees by itself"));
}

#[tokio::test]
async fn a_call_is_passed_on_once_only() {
    let pair = Pair::start(false).await;
    // Each takes the other for the leader.
    *pair.world.leader.lock().unwrap() = Some(Leader { id: 3, addr: pair.addresses[0].clone() });
    let (code, sentence) = said(pair.call_plain(2).await.pause(pause(caller())).await);
    let wanted = "leadership moved to another manager meanwhile: say it again";
    assert_eq!((code, sentence.as_str()), (Code::Unavailable, wanted));
}

#[tokio::test]
async fn unknown_clusters_and_rejected_changes_are_told() {
    let pair = Pair::start(false).await;
    let mut there = pair.call_plain(2).await;
    let nothing = ClusterRequest { caller: caller(), cluster: "app9".into() };
    let wanted = (Code::NotFound, "there is no cluster app9; known: app1".to_owned());
    assert_eq!(said(there.resume(nothing.clone()).await), wanted);
    assert_eq!(said(there.explain(nothing.clone()).await), wanted);
    assert_eq!(said(there.cluster_show(nothing).await), wanted);
    pair.world.story.lock().unwrap().opened(Actor::Group, Cause::PrimaryDown);
    let app1 = ClusterRequest { caller: caller(), cluster: "app1".into() };
    let sentence = "nothing was changed: removing the cluster has to wait: the attempt app1-1 is \
                    open";
    let wanted = (Code::FailedPrecondition, sentence.to_owned());
    assert_eq!(said(there.cluster_remove(app1).await), wanted);
}

#[tokio::test]
async fn a_failover_is_told_step_by_step_until_it_is_over() {
    let pair = Pair::start(false).await;
    let mut there = pair.call_plain(2).await;
    let mut progress = there.failover(failover()).await.unwrap().into_inner();
    let mut second = pair.call_plain(1).await;
    let wanted = "another operator's request for app1 is being answered".to_owned();
    assert_eq!(said(second.failover(failover()).await), (Code::FailedPrecondition, wanted));
    {
        let mut story = pair.world.story.lock().unwrap();
        story.opened(Actor::Operator { name: "unknown".into() }, Cause::Manual);
        story.frozen();
    }
    *pair.world.wisher.lock().unwrap() = None;
    let opened = progress.message().await.unwrap().unwrap();
    assert_eq!(opened.sentence, "attempt app1-1 opened by operator unknown: asked for");
    {
        let mut story = pair.world.story.lock().unwrap();
        story.elected();
        story.promoted();
    }
    let mut sentences = Vec::new();
    let end = loop {
        let news = progress.message().await.unwrap().unwrap();
        sentences.push(news.sentence.clone());
        if news.end() != End::Unspecified {
            break news.end();
        }
    };
    assert_eq!((end, sentences.len()), (End::Promoted, 13), "{sentences:#?}");
    assert_eq!(progress.message().await.unwrap(), None);
    let ask = ReportRequest { caller: caller(), what: "app1-1".into() };
    assert_eq!(there.report(ask).await.unwrap().into_inner().exit_code, 0);
}

#[tokio::test]
async fn a_refused_failover_says_so_and_ends() {
    let pair = Pair::start(false).await;
    let mut progress = pair.call_plain(1).await.failover(failover()).await.unwrap().into_inner();
    let wisher = pair.world.wisher.lock().unwrap().take().unwrap();
    wisher.send("refused: gate.not_down: nobody says so".into()).unwrap();
    drop(wisher);
    let mut told = Vec::new();
    while let Some(news) = progress.message().await.unwrap() {
        told.push((news.sentence.clone(), news.end()));
    }
    assert_eq!(told.last(), Some(&("nothing was done".to_owned(), End::Refused)));
    assert!(told[0].0.starts_with("gate."), "{told:?}");
}

#[tokio::test]
async fn a_watch_goes_on_with_whole_documents() {
    let pair = Pair::start(false).await;
    let ask =
        crate::api::pb::WatchRequest { caller: caller(), every_ms: 200, ..Default::default() };
    let mut there = pair.call_plain(2).await;
    let mut documents = there.watch(ask).await.unwrap().into_inner();
    for _ in 0..2 {
        let wait = tokio::time::timeout(Duration::from_secs(5), documents.message());
        let document = wait.await.unwrap().unwrap().unwrap();
        assert!(serde_json::from_str::<StatusDocument>(&document.json).unwrap().is_complete);
    }
}
