//! Do the adapters do to real servers and hosts what the core asks of them?
//!
//! The adapters run inside a manager's host, so this binary starts itself there: [`inside`] plays
//! the scene named in its environment, while the test outside brings faults.

use std::{
    future::Future,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use conclave::adapters::{
    clock::SystemClock,
    mysql::{MysqlPort, MysqlPortOptions, MysqlTls, PingOutcome},
    secrets::Secrets,
    ssh::{SshPort, SshPortOptions},
};
use conclave_core::{
    model::{
        Applier, Epoch, LinkOptions, ManagerId, Mono, PingType, PromotionRule, Receiver,
        ReplicaFacts, SemiSync, ServerDefinition, ServerFacts, SshTarget, StepId, Term, Token, Vip,
    },
    ports::{
        Certainty, Mysql, Place, PortError, Remote, RemoteCommand, Session, SqlAction, Trouble,
    },
};
use conclave_lab::{
    ADMIN_PASSWORD, ADMIN_USER, Host, Lab, LabSpec, MYSQL_PORT, REPL_PASSWORD, WRITER_VIP,
    repl_user,
};

const SCENE: &str = "CONCLAVE_TEST_SCENE";
const SECRETS: &str = "CONCLAVE_TEST_SECRETS";
const STEP_LIMIT: Duration = Duration::from_secs(10);

// ---- Outside: the tests ------------------------------------------------------------------

#[test]
fn every_look_and_act_works_on_a_real_source_and_replicas() {
    let lab = Lab::up_replicated(LabSpec::default()).unwrap();
    write_secrets(&lab);
    play(&lab, "looks");
    play(&lab, "acts");
    play(&lab, "waits");
    play(&lab, "locks");
    play(&lab, "logins");
    play(&lab, "pings");
    let db3 = lab.host("db3").unwrap();
    db3.sql("STOP REPLICA; SET GLOBAL read_only = OFF").unwrap();
    db3.sql("UNINSTALL PLUGIN rpl_semi_sync_source").unwrap();
    play(&lab, "one_plugin");
    db3.sql("UNINSTALL PLUGIN rpl_semi_sync_replica").unwrap();
    play(&lab, "no_plugin");
    lab.down().unwrap();
}

#[test]
fn pings_and_looks_tell_a_dead_process_from_a_silent_one() {
    let lab = Lab::up_replicated(LabSpec::default()).unwrap();
    write_secrets(&lab);
    let (db2, db3) = (lab.host("db2").unwrap(), lab.host("db3").unwrap());
    soon(&db2, |db2| db2.kill_mysqld().unwrap(), || play(&lab, "until_refused"));
    play(&lab, "refused");
    soon(&db3, |db3| db3.stop_mysqld().unwrap(), || play(&lab, "until_silent"));
    play(&lab, "silent");
    db3.cont_mysqld().unwrap();
    lab.down().unwrap();
}

#[test]
fn commands_on_hosts_are_carried_out_by_the_newest_actor_only() {
    let lab = Lab::up_replicated(LabSpec::default()).unwrap();
    write_secrets(&lab);
    play(&lab, "host_keys");
    play(&lab, "vips");
    assert!(!lab.host("db1").unwrap().has_address(WRITER_VIP).unwrap());
    play(&lab, "fence");
    // Dead is enough for a fence; the host's service manager still has to see it.
    let db1 = lab.host("db1").unwrap();
    let begun = Instant::now();
    while db1.mysqld_pid().unwrap().is_some() {
        assert!(begun.elapsed() < STEP_LIMIT, "mysqld of db1 still runs");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(lab.host("db2").unwrap().mysqld_pid().unwrap().is_some());
    let db3 = lab.host("db3").unwrap();
    soon(&db3, |db3| db3.power_off().unwrap(), || play(&lab, "standing_session_to_a_dead_host"));
    lab.down().unwrap();
}

/// Does something to a host shortly after the scene has begun.
fn soon(host: &Host, fault: impl Fn(&Host) + Sync, scene: impl FnOnce()) {
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(1500));
            fault(host);
        });
        scene();
    });
}

/// Plays a scene inside the first manager's host.
fn play(lab: &Lab, scene: &str) {
    let exe = std::env::current_exe().unwrap();
    let (scene_is, secrets_are) =
        (format!("{SCENE}={scene}"), format!("{SECRETS}={}", secrets_file(lab).display()));
    let args = [
        scene_is.as_str(),
        &secrets_are,
        "RUST_BACKTRACE=0",
        exe.to_str().unwrap(),
        "--exact",
        "cases::adapters::inside",
        "--ignored",
        "--nocapture",
    ];
    let output = lab.host("m1").unwrap().run("env", &args, b"").unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "scene {scene}:\n{said}");
    assert!(said.contains("1 passed"), "scene {scene} was not played:\n{said}");
}

fn secrets_file(lab: &Lab) -> std::path::PathBuf {
    lab.root().join("secrets.toml")
}

fn write_secrets(lab: &Lab) {
    use std::io::Write;
    let mut text = format!("[mysql.{ADMIN_USER}]\npassword = {ADMIN_PASSWORD:?}\n");
    for server in ["db1", "db2", "db3"] {
        let user = repl_user(server);
        text += &format!("[cluster.app1.mysql.{user}]\npassword = {REPL_PASSWORD:?}\n");
    }
    text += &format!("[cluster.wrong.mysql.{ADMIN_USER}]\npassword = \"not this one\"\n");
    text +=
        &format!("[ssh]\nkey_file = {:?}\nknown_hosts = {:?}\n", lab.ssh_key(), lab.known_hosts());
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(secrets_file(lab));
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

// ---- Inside: the scenes ------------------------------------------------------------------

#[test]
#[ignore = "played by the other tests, inside a host"]
fn inside() {
    let scene = std::env::var(SCENE).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::new();
        match scene.as_str() {
            "looks" => looks(&world).await,
            "acts" => acts(&world).await,
            "waits" => waits(&world).await,
            "locks" => locks(&world).await,
            "logins" => logins(&world).await,
            "pings" => pings(&world).await,
            "one_plugin" => one_plugin(&world).await,
            "no_plugin" => no_plugin(&world).await,
            "until_refused" => until_refused(&world).await,
            "refused" => refused(&world).await,
            "until_silent" => until_silent(&world).await,
            "silent" => silent(&world).await,
            "host_keys" => host_keys(&world).await,
            "vips" => vips(&world).await,
            "fence" => fence(&world).await,
            "standing_session_to_a_dead_host" => standing_session_to_a_dead_host(&world).await,
            other => panic!("no scene {other:?}"),
        }
    });
}

struct World {
    secrets: Arc<Secrets>,
    mysql: MysqlPort,
    ssh: SshPort,
}

impl World {
    fn new() -> Self {
        let path = std::env::var(SECRETS).unwrap();
        let secrets = Arc::new(Secrets::load(Some(Path::new(&path))).unwrap());
        let mysql = MysqlPort::new(secrets.clone(), &MysqlPortOptions::default()).unwrap();
        let ssh = SshPort::new(secrets.clone(), &SshPortOptions::default());
        Self { secrets, mysql, ssh }
    }

    async fn look(&self, server: &str) -> ServerFacts {
        self.mysql.look(&place(server), soon_enough()).await.unwrap()
    }

    async fn until(&self, server: &str, goal: impl Fn(&ServerFacts) -> bool) -> ServerFacts {
        let begun = Instant::now();
        loop {
            let facts = self.look(server).await;
            if goal(&facts) {
                return facts;
            }
            assert!(begun.elapsed() < STEP_LIMIT, "{server} does not get there: {facts:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn on_host(
        &self,
        server: &str,
        token: Token,
        command: RemoteCommand,
    ) -> Result<String, PortError> {
        self.ssh.run(&place(server), token, &command, soon_enough()).await
    }
}

fn ip(server: &str) -> Ipv4Addr {
    LabSpec::default().place(server).unwrap().ip()
}

fn place(server: &str) -> Place {
    let host = ip(server).to_string();
    Place {
        cluster: "app1".into(),
        admin_account: ADMIN_USER.into(),
        server: ServerDefinition {
            name: server.into(),
            host: host.clone(),
            port: MYSQL_PORT,
            rack: "r".into(),
            promotion: PromotionRule::Allow,
            acker: true,
            replication_account: repl_user(server),
            ssh: Some(SshTarget { host, port: 22, user: "root".into() }),
            data_dir: "/srv/data".into(),
            log_bin: None,
            service: None,
        },
    }
}

fn token(epoch: u64, term: u64, seq: u64) -> Token {
    Token { epoch: Epoch(epoch), term: Term(term), seq }
}

fn soon_enough() -> Mono {
    SystemClock.after(STEP_LIMIT)
}

fn within(millis: u64) -> Mono {
    SystemClock.after(Duration::from_millis(millis))
}

/// What happened and how long it took.
async fn timed<T>(doing: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (doing.await, begun.elapsed())
}

fn replica_of(facts: &ServerFacts) -> &ReplicaFacts {
    facts.replica.as_ref().unwrap()
}

async fn looks(world: &World) {
    let (db1, db2) = (world.look("db1").await, world.look("db2").await);
    assert!(db1.version.starts_with("9."), "{}", db1.version);
    assert_eq!((db1.server_id, db2.server_id, db1.uuid.len()), (1, 2, 36));
    assert!(db1.gtid_mode && db1.log_bin && db1.log_replica_updates);
    assert_eq!((db1.sync_binlog, db1.flush_log, db1.sync_relay_log), (1, 1, 1));
    assert!(!db1.read_only && !db1.super_read_only && !db1.offline && db1.is_writable());
    assert!(db2.read_only && db2.super_read_only && !db2.is_writable());
    let source = SemiSync {
        has_source: true,
        source_enabled: true,
        clients: 2,
        acks: 1,
        timeout_ms: 4_294_967_295,
        after_sync: true,
        wait_no_replica: true,
        ..SemiSync::default()
    };
    assert_eq!((db1.semi_sync, db1.replica), (Some(source), None));
    let semi_sync = db2.semi_sync.clone().unwrap();
    assert!(semi_sync.replica_enabled && semi_sync.replica_active && !semi_sync.source_enabled);
    let replica = replica_of(&db2);
    let wanted = ReplicaFacts {
        source_host: ip("db1").to_string(),
        source_port: MYSQL_PORT,
        source_uuid: db1.uuid,
        receiver: Receiver::On,
        receiver_error: None,
        applier: Applier::On,
        retrieved: replica.retrieved.clone(),
        read_to: replica.read_to,
        lag_seconds: Some(0),
        heartbeats: replica.heartbeats,
        auto_position: true,
        filters: String::new(),
        options: LinkOptions {
            tls: replica.options.tls,
            retry_count: 100_000,
            ..LinkOptions::default()
        },
    };
    assert_eq!(*replica, wanted);
    let before = replica.heartbeats;
    world.until("db2", |facts| replica_of(facts).heartbeats >= before + 2).await;
}

async fn acts(world: &World) {
    let db3 = place("db3");
    let mut session = world.mysql.lock(&db3, token(1, 1, 1), soon_enough()).await.unwrap();
    let mut act = async |action: SqlAction| {
        session.act(&action, soon_enough()).await.unwrap();
        session.look(soon_enough()).await.unwrap()
    };
    let facts = act(SqlAction::StopReceiver).await;
    assert_eq!(replica_of(&facts).receiver, Receiver::Off);
    assert_eq!(replica_of(&facts).applier, Applier::On);
    let facts = act(SqlAction::StartReceiver).await;
    assert_ne!(replica_of(&facts).receiver, Receiver::Off);
    let facts = act(SqlAction::StopReplica).await;
    assert_eq!(
        (&replica_of(&facts).receiver, &replica_of(&facts).applier),
        (&Receiver::Off, &Applier::Off)
    );
    assert!(facts.is_receiver_off());
    let facts = act(SqlAction::StartApplier).await;
    assert_eq!(
        (&replica_of(&facts).receiver, &replica_of(&facts).applier),
        (&Receiver::Off, &Applier::On)
    );
    act(SqlAction::StopReplica).await;
    assert_eq!(act(SqlAction::ForgetSource).await.replica, None);

    // A link of its own, with nothing at its default, and then another source for it.
    let options = LinkOptions {
        tls: true,
        tls_verify: true,
        tls_ca: "/no/such/ca.pem".into(),
        get_public_key: false,
        connect_retry_s: 7,
        retry_count: 77,
        heartbeat_ms: 730,
        channel: "west".into(),
    };
    let change = |to: &str, options: Option<LinkOptions>| SqlAction::ChangeSource {
        host: ip(to).to_string(),
        port: MYSQL_PORT,
        account: repl_user("db3"),
        options,
    };
    let facts = act(change("db2", Some(options.clone()))).await;
    assert_eq!(replica_of(&facts).options, options);
    let facts = act(change("db1", None)).await;
    assert_eq!(replica_of(&facts).options, options);
    assert_eq!(replica_of(&facts).source_host, ip("db1").to_string());
    assert!(replica_of(&facts).auto_position);
    assert_eq!(act(SqlAction::ForgetSource).await.replica, None);

    // A link that works shows that the password got through.
    act(change("db1", Some(LinkOptions::default()))).await;
    act(SqlAction::StartReplica).await;
    world.until("db3", |facts| replica_of(facts).receiver == Receiver::On).await;

    let semi_sync = |facts: ServerFacts| facts.semi_sync.unwrap();
    assert!(!semi_sync(act(SqlAction::SetSemiSyncReplica { on: false }).await).replica_enabled);
    assert!(semi_sync(act(SqlAction::SetSemiSyncReplica { on: true }).await).replica_enabled);
    let seen = semi_sync(act(SqlAction::SetSemiSyncSource { on: true, acks: 2 }).await);
    assert_eq!((seen.source_enabled, seen.acks), (true, 2));
    let seen = semi_sync(act(SqlAction::SetSemiSyncSource { on: true, acks: 1 }).await);
    assert_eq!((seen.source_enabled, seen.acks), (true, 1));
    let seen = semi_sync(act(SqlAction::SetSemiSyncSource { on: false, acks: 5 }).await);
    assert_eq!((seen.source_enabled, seen.acks), (false, 1));
    assert!(act(SqlAction::SetOffline { on: true }).await.offline);
    assert!(!act(SqlAction::SetOffline { on: false }).await.offline);
    let facts = act(SqlAction::SetWritable).await;
    assert_eq!((facts.read_only, facts.super_read_only), (false, false));
    let facts = act(SqlAction::SetReadOnly).await;
    assert_eq!((facts.read_only, facts.super_read_only), (true, true));
    // The receiver tells the source of semi-sync when it connects.
    act(SqlAction::StopReplica).await;
    act(SqlAction::StartReplica).await;
    world.until("db1", |facts| facts.semi_sync.as_ref().unwrap().clients == 2).await;
    act(SqlAction::StartReplica).await;
}

fn marker(seq: u64) -> SqlAction {
    SqlAction::WriteMarker { step: StepId { epoch: Epoch(1), seq } }
}

async fn waits(world: &World) {
    let lock = async |server: &str| {
        world.mysql.lock(&place(server), token(1, 1, 2), soon_enough()).await.unwrap()
    };
    let (mut db1, mut db2, mut db3) = (lock("db1").await, lock("db2").await, lock("db3").await);
    db1.act(&marker(1), soon_enough()).await.unwrap();
    let before = world.look("db1").await.executed;
    db1.act(&marker(2), soon_enough()).await.unwrap();
    let after = world.look("db1").await.executed;
    assert_eq!(after.minus(&before).count(), 1);

    // The marker replicates, so a read-only server does not take one of its own.
    let error = db2.act(&marker(3), soon_enough()).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Answered, Certainty::NotDone));

    // Without acknowledgements it waits, nobody knows, and the session with the lock goes on.
    for replica in [&mut db2, &mut db3] {
        replica.act(&SqlAction::StopReceiver, soon_enough()).await.unwrap();
    }
    for seq in [4, 5] {
        let (error, took) = timed(db1.act(&marker(seq), within(300))).await;
        let error = error.unwrap_err();
        assert_eq!((error.trouble, error.certainty), (Trouble::Silent, Certainty::Unknown));
        assert!(took < Duration::from_millis(600), "{took:?}");
    }
    db1.look(soon_enough()).await.unwrap();
    for replica in [&mut db2, &mut db3] {
        replica.act(&SqlAction::StartReceiver, soon_enough()).await.unwrap();
    }
    world.until("db1", |facts| facts.semi_sync.as_ref().unwrap().waiting == 0).await;
    world.until("db1", |facts| facts.semi_sync.as_ref().unwrap().clients == 2).await;
}

async fn locks(world: &World) {
    let db2 = place("db2");
    let lock = async |token| world.mysql.lock(&db2, token, soon_enough()).await;
    let mut first = lock(token(1, 1, 9)).await.unwrap();
    first.look(soon_enough()).await.unwrap();
    let mut second = lock(token(1, 2, 1)).await.unwrap();
    let error = first.act(&SqlAction::StartReceiver, soon_enough()).await.unwrap_err();
    assert_ne!(error.trouble, Trouble::Answered, "{error}");
    let error = lock(token(1, 1, 10)).await.err().unwrap();
    assert_eq!((error.trouble, error.certainty), (Trouble::Superseded, Certainty::NotDone));
    assert!(error.why.contains("epoch 1 term 2"), "{error}");
    second.look(soon_enough()).await.unwrap();
    // Its own former session is no rival, a greater epoch with a lower term is newer, and tokens
    // too large to be shown still kill and get killed.
    let third = lock(token(1, 2, 2)).await.unwrap();
    let fourth = lock(token(2, 1, 1)).await.unwrap();
    let fifth = lock(token(1 << 40, 1, 1)).await.unwrap();
    let sixth = lock(token(3, 1, 1)).await.unwrap();
    drop((second, third, fourth, fifth, sixth));
    // Dropped means free.
    let (_, took) = timed(lock(token(0, 0, 0))).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

async fn logins(world: &World) {
    let look = async |place: &Place| world.mysql.look(place, soon_enough()).await.unwrap_err();
    let wrong = Place { cluster: "wrong".into(), ..place("db1") };
    let error = look(&wrong).await;
    assert_eq!((error.trouble, error.certainty), (Trouble::Denied, Certainty::NotDone));
    assert!(error.why.contains("1045") && !error.why.contains("not this one"), "{error}");
    let nobody = Place { admin_account: "nobody".into(), ..place("db1") };
    let error = look(&nobody).await;
    assert_eq!(error.trouble, Trouble::Local);
    assert!(error.why.contains("[mysql.nobody]"), "{error}");
    let mut elsewhere = place("db1");
    elsewhere.server.port = 1;
    assert_eq!(look(&elsewhere).await.trouble, Trouble::Refused);

    // In plain text it works as well; the server's own certificate satisfies nobody.
    let plain = MysqlPortOptions { tls: MysqlTls::Off };
    let plain = MysqlPort::new(world.secrets.clone(), &plain).unwrap();
    plain.look(&place("db1"), soon_enough()).await.unwrap();
    let ca_file = std::env::temp_dir().join(format!("conclave-test-ca-{}.pem", std::process::id()));
    let authority = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    std::fs::write(&ca_file, authority.cert.pem()).unwrap();
    let verified = MysqlPortOptions { tls: MysqlTls::Verified { ca_file: ca_file.clone() } };
    let verified = MysqlPort::new(world.secrets.clone(), &verified).unwrap();
    std::fs::remove_file(ca_file).unwrap();
    let error = verified.look(&place("db1"), soon_enough()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
}

async fn pings(world: &World) {
    for (server, kind) in [
        ("db1", PingType::Select),
        ("db1", PingType::Connect),
        ("db1", PingType::Insert),
        ("db2", PingType::Select),
    ] {
        let mut pinger = world.mysql.pinger(&place(server), ManagerId(7)).unwrap();
        for _ in 0..3 {
            assert_eq!(pinger.ping_standing(kind, within(2000)).await, PingOutcome::Answered);
            assert_eq!(pinger.ping_fresh(within(2000)).await, PingOutcome::Answered);
        }
    }
    let mut pinger = world.mysql.pinger(&place("db2"), ManagerId(7)).unwrap();
    let found = pinger.ping_standing(PingType::Insert, within(2000)).await;
    assert!(matches!(found, PingOutcome::AliveError { code: 1290, .. }), "{found:?}");
    let wrong = Place { cluster: "wrong".into(), ..place("db1") };
    let found = world.mysql.pinger(&wrong, ManagerId(7)).unwrap().ping_fresh(within(2000)).await;
    assert!(matches!(found, PingOutcome::AliveError { code: 1045, .. }), "{found:?}");
}

async fn one_plugin(world: &World) {
    for _ in 0..2 {
        let semi_sync = world.look("db3").await.semi_sync.unwrap();
        assert!(semi_sync.replica_enabled && !semi_sync.after_sync, "{semi_sync:?}");
    }
}

async fn no_plugin(world: &World) {
    for _ in 0..2 {
        assert_eq!(world.look("db3").await.semi_sync, None);
    }
}

/// Pings over a standing connection until something else than an answer comes.
async fn ping_on(world: &World, server: &str) -> (PingOutcome, Duration) {
    let mut pinger = world.mysql.pinger(&place(server), ManagerId(7)).unwrap();
    let begun = Instant::now();
    loop {
        let (found, took) = timed(pinger.ping_standing(PingType::Select, within(400))).await;
        if found != PingOutcome::Answered {
            return (found, took);
        }
        assert!(begun.elapsed() < STEP_LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_refused(world: &World) {
    let (found, took) = ping_on(world, "db2").await;
    assert!(matches!(found, PingOutcome::Refused { .. }), "{found:?}");
    assert!(took < Duration::from_millis(200), "{took:?}");
}

async fn refused(world: &World) {
    let pinger = world.mysql.pinger(&place("db2"), ManagerId(7)).unwrap();
    let found = pinger.ping_fresh(within(400)).await;
    assert!(matches!(found, PingOutcome::Refused { .. }), "{found:?}");
    let error = world.mysql.look(&place("db2"), within(400)).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
}

async fn until_silent(world: &World) {
    let mut session = world.mysql.lock(&place("db3"), token(1, 1, 1), soon_enough()).await.unwrap();
    let (found, took) = ping_on(world, "db3").await;
    assert!(matches!(found, PingOutcome::Silent { .. }), "{found:?}");
    assert!((400..600).contains(&took.as_millis()), "{took:?}");
    // The act may be carried out later; the session is over.
    let error = session.act(&SqlAction::SetReadOnly, within(200)).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Silent, Certainty::Unknown));
    let error = session.act(&SqlAction::SetReadOnly, within(200)).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Refused, Certainty::NotDone));
}

async fn silent(world: &World) {
    let pinger = world.mysql.pinger(&place("db3"), ManagerId(7)).unwrap();
    let (found, took) = timed(pinger.ping_fresh(within(400))).await;
    assert!(matches!(found, PingOutcome::Silent { .. }), "{found:?}");
    assert!((400..600).contains(&took.as_millis()), "{took:?}");
    let (error, took) = timed(world.mysql.look(&place("db3"), within(400))).await;
    assert_eq!(error.unwrap_err().trouble, Trouble::Silent);
    assert!((400..600).contains(&took.as_millis()), "{took:?}");
    let (error, took) = timed(world.mysql.lock(&place("db3"), token(1, 1, 1), within(400))).await;
    assert_eq!(error.err().map(|error| error.trouble), Some(Trouble::Silent));
    assert!((400..600).contains(&took.as_millis()), "{took:?}");
}

fn vip() -> Vip {
    Vip { address: WRITER_VIP.to_string(), prefix: 32, interface: "eth1".into() }
}

async fn host_keys(world: &World) {
    world.ssh.warm(&place("db1"), soon_enough()).await.unwrap();
    // A name of the same host that is in no known_hosts file.
    let mut stranger = place("db1");
    stranger.server.ssh.as_mut().unwrap().host = format!("::ffff:{}", ip("db1"));
    let error = world.ssh.warm(&stranger, soon_enough()).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Denied, Certainty::NotDone));
    assert!(error.why.contains("knows no key of that host") && error.why.contains("ssh-keyscan"));
    let any = SshPortOptions { accept_any_host_key: true };
    let any = SshPort::new(world.secrets.clone(), &any);
    any.warm(&stranger, soon_enough()).await.unwrap();
    let mut nobody = place("db1");
    nobody.server.ssh.as_mut().unwrap().user = "ghost".into();
    let error = world.ssh.warm(&nobody, soon_enough()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    let mut elsewhere = place("db1");
    elsewhere.server.ssh.as_mut().unwrap().port = 1;
    let error = world.ssh.warm(&elsewhere, soon_enough()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error}");
}

/// The old primary still has the address when the new one takes it.
async fn vips(world: &World) {
    let (take, drop) =
        (RemoteCommand::TakeVip { vip: vip() }, RemoteCommand::DropVip { vip: vip() });
    let said = world.on_host("db2", token(2, 1, 1), take.clone()).await.unwrap();
    assert!(said.starts_with("vip 10.77.200.100 taken on eth1\n"), "{said}");
    assert!(said.contains("duplicate: 02:77:00:00:01:0B answered for it"), "{said}");
    let said = world.on_host("db1", token(2, 1, 1), drop.clone()).await.unwrap();
    assert_eq!(said, "vip 10.77.200.100 dropped from eth1");
    let said = world.on_host("db1", token(2, 1, 2), drop.clone()).await.unwrap();
    assert_eq!(said, "vip 10.77.200.100 is not here");
    let said = world.on_host("db2", token(2, 1, 2), take.clone()).await.unwrap();
    assert_eq!(said, "vip 10.77.200.100 is on eth1 already\nvip 10.77.200.100 announced");

    // What an older actor sends late has no effect.
    let error = world.on_host("db2", token(1, 9, 9), drop.clone()).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Superseded, Certainty::NotDone));
    let said = world.on_host("db2", token(2, 1, 2), drop).await.unwrap();
    assert_eq!(said, "vip 10.77.200.100 dropped from eth1");
    let said = world.on_host("db2", token(2, 1, 3), take).await.unwrap();
    assert_eq!(said, "vip 10.77.200.100 taken on eth1");
}

async fn fence(world: &World) {
    let fence = |data_dir: &str, service: Option<&str>| RemoteCommand::Fence {
        data_dir: data_dir.into(),
        service: service.map(str::to_owned),
        vips: vec![vip()],
    };
    let error = world.on_host("db1", token(3, 1, 1), fence("/srv", None)).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Answered, Certainty::Unknown));
    assert!(error.why.contains("/srv holds no data of mysqld"), "{error}");
    assert!(world.look("db1").await.uptime_seconds < 3600);
    let said = world.on_host("db1", token(3, 1, 2), fence("/srv/data", None)).await.unwrap();
    assert!(said.contains(" killed\n") && said.ends_with("fence: gone"), "{said}");
    let said = world.on_host("db1", token(3, 1, 3), fence("/srv/data", None)).await.unwrap();
    assert!(said.contains("no mysqld was running in /srv/data"), "{said}");
    let late = world.on_host("db1", token(2, 9, 9), fence("/srv/data", None)).await.unwrap_err();
    assert_eq!(late.trouble, Trouble::Superseded);
}

async fn standing_session_to_a_dead_host(world: &World) {
    world.ssh.warm(&place("db3"), soon_enough()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let drop = RemoteCommand::DropVip { vip: vip() };
    let (error, took) =
        timed(world.ssh.run(&place("db3"), token(1, 1, 1), &drop, within(1500))).await;
    let error = error.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Silent, Certainty::NotDone), "{error}");
    assert!(took < Duration::from_millis(1800), "{took:?}");
}
