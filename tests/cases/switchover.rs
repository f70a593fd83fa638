//! A planned switchover of real servers under writes, and whatever stands in its way.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use conclave_lab::{Group, Host, Lab, LabSpec, Signal, Writer, WriterSpec};
use serde_json::Value;

use super::stand::{self, SOON};

/// Checksum of the application's tables.
const CHECKSUM: &str = "SELECT COUNT(*), COALESCE(SUM(CRC32(CONCAT(id, v, at))), 0) FROM app.t";

fn switch(group: &Group<'_>, more: &[&str]) -> std::process::Output {
    // A loaded machine is not a failure.
    let patient = if more.contains(&"--deadline") { vec![] } else { vec!["--deadline", "30s"] };
    let args = ["switchover", "app1", "--yes"];
    let args: Vec<&str> = args.iter().chain(&patient).chain(more).copied().collect();
    stand::say(group, "client", &args)
}

fn text(output: &std::process::Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

fn switched(group: &Group<'_>, more: &[&str]) -> String {
    let output = switch(group, more);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// Refused with this code; nothing was opened.
fn refused(group: &Group<'_>, more: &[&str], code: &str) -> String {
    let before = group.cluster().unwrap()["epoch"].clone();
    let output = switch(group, more);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(code), "{code}: {}", text(&output));
    assert_eq!(group.cluster().unwrap()["epoch"], before);
    text(&output)
}

fn report(group: &Group<'_>, epoch: u64) -> Value {
    let report = group.expect("m1", &["report", &format!("app1-{epoch}"), "-o", "json"]).unwrap();
    serde_json::from_str(&report).unwrap()
}

/// All servers have executed what the primary has, and hold the same rows.
fn equal(lab: &Lab, primary: &str) {
    let executed = lab.host(primary).unwrap().sql_value("SELECT @@global.gtid_executed").unwrap();
    let sum = |name: &str| lab.host(name).unwrap().sql_within(SOON, CHECKSUM).unwrap();
    let wanted = sum(primary);
    for server in lab.servers() {
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 60)");
        assert_eq!(server.sql_within(SOON * 2, &wait).unwrap(), [["0"]], "{}", server.name());
        assert_eq!(sum(&server.name()), wanted, "{}", server.name());
    }
}

/// A client with several connections, each with transactions of reads and writes.
fn mixed(lab: &Lab, connections: u32) -> Writer {
    let spec = WriterSpec {
        connections,
        is_mixed: true,
        interval: Duration::from_millis(20),
        ..WriterSpec::default()
    };
    let mut writer = lab.write(&spec).unwrap();
    writer.wait_ok_after(0, SOON).unwrap();
    writer
}

#[test]
fn switchover_back_and_forth_under_writes_loses_nothing_and_leaves_equal_servers() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = mixed(&lab, 6);
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut primary = "db1".to_owned();
    for round in 1..=rounds {
        group.wait_healthy(SOON).unwrap();
        let told = switched(&group, &[]);
        for part in ["end writes on", "is the primary", "conclave report app1-"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        stand::writes_again(&mut writer, stand::now());
        let report = report(&group, round);
        assert_eq!(report["outcome"], "promoted", "{report}");
        assert_eq!(report["old_primary"], primary.as_str());
        assert!(report["write_block"]["us"].as_u64().is_some_and(|us| us > 0), "{report}");
        assert!(!report["write_block"]["cut"].as_array().unwrap().is_empty(), "{report}");
        primary = report["new_primary"].as_str().unwrap().to_owned();
        assert_eq!(stand::writable(&lab), [&*primary]);
    }
    let healthy = group.wait_healthy(SOON).unwrap();
    assert_eq!(healthy["epoch"], rounds);
    stand::nothing_lost(&lab, writer, &primary);
    equal(&lab, &primary);
}

#[test]
fn switchover_that_is_asked_for_wrongly_is_refused_and_changes_nothing() {
    let lab = stand::lab();
    let group = stand::group(&lab, &["last_failover_minutes = 480"]);
    let itself = refused(&group, &["--to", "db1"], "gate.candidate_refused");
    assert!(itself.contains("it is the primary already"), "{itself}");
    let unknown = switch(&group, &["--to", "db9"]);
    assert!(text(&unknown).contains("no server db9"), "{}", text(&unknown));
    let quick = group.cli("client", &["switchover", "app1", "--deadline", "10ms"]).unwrap();
    assert_eq!(quick.status.code(), Some(2), "{}", text(&quick));
    let unasked = group.cli("client", &["switchover", "app1"]).unwrap();
    assert!(text(&unasked).contains("wanted --yes"), "{}", text(&unasked));
    // One whose applier is stopped; then one that filters. Paused, it is left as it is.
    group.expect("client", &["pause", "app1"]).unwrap();
    lab.host("db2").unwrap().sql("STOP REPLICA SQL_THREAD").unwrap();
    let shows = |wanted: &'static str| {
        let ask = ["switchover", "app1", "--to", "db2", "--dry-run"];
        stand::wait(wanted, || text(&group.cli("client", &ask).unwrap()).contains(wanted));
    };
    shows("its replication does not run");
    refused(&group, &["--to", "db2"], "gate.candidate_refused");
    let filter = "CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (junk)";
    lab.host("db2").unwrap().sql(&format!("{filter}; START REPLICA SQL_THREAD")).unwrap();
    shows("gate.filters");
    refused(&group, &["--to", "db2"], "gate.filters");
    let none = "STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (); \
                START REPLICA SQL_THREAD";
    lab.host("db2").unwrap().sql(none).unwrap();
    // One that would not keep what it commits, or whose primary's other acker is not there.
    lab.host("db2").unwrap().sql("SET GLOBAL sync_binlog = 0").unwrap();
    shows("gate.requirement");
    let unsafe_one = refused(&group, &["--to", "db2"], "gate.requirement");
    assert!(unsafe_one.contains("sync_binlog"), "{unsafe_one}");
    lab.host("db2").unwrap().sql("SET GLOBAL sync_binlog = 1").unwrap();
    lab.host("db3").unwrap().kill_mysqld().unwrap();
    shows("gate.no_coverage");
    refused(&group, &["--to", "db2"], "gate.no_coverage");
    lab.host("db3").unwrap().start_mysqld().unwrap();
    group.expect("client", &["resume", "app1"]).unwrap();
    stand::wait("db2 to be fit again", || {
        let ask = ["switchover", "app1", "--to", "db2", "--dry-run"];
        group.cli("client", &ask).unwrap().status.success()
    });
    assert_eq!(stand::writable(&lab), ["db1"]);
    assert_eq!(group.cluster().unwrap()["epoch"], 0);
}

#[test]
fn candidate_that_lags_is_refused_until_it_has_caught_up() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let mut held = lab.host("db2").unwrap().session().unwrap();
    held.sql(SOON, "LOCK TABLES app.t READ").unwrap();
    let ask = ["switchover", "app1", "--to", "db2", "--dry-run"];
    stand::wait("db2 to lag", || {
        text(&group.cli("client", &ask).unwrap()).contains("gate.lagging")
    });
    refused(&group, &["--to", "db2"], "gate.lagging");
    held.sql(SOON, "UNLOCK TABLES").unwrap();
    stand::wait("db2 to be fit", || group.cli("client", &ask).unwrap().status.success());
    switched(&group, &["--to", "db2"]);
    stand::writes_again(&mut writer, stand::now());
    stand::nothing_lost(&lab, writer, "db2");
}

#[test]
fn sessions_in_the_way_are_listed_and_with_leave_cut() {
    let spec = LabSpec { performance_schema: true, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec).unwrap();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let host = lab.host("db1").unwrap();
    let mut locks = host.session().unwrap();
    locks.sql(SOON, "LOCK TABLES app.w WRITE").unwrap();
    let mut long = host.session().unwrap();
    long.sql(SOON, "BEGIN; INSERT INTO app.t VALUES (1, 'long', NOW(6))").unwrap();
    let dry_run = || text(&group.cli("client", &["switchover", "app1", "--dry-run"]).unwrap());
    stand::wait("both to be listed", || {
        let seen = dry_run();
        seen.contains("LOCK TABLES") && seen.contains("transaction open")
    });
    let listed = refused(&group, &[], "gate.sessions_in_the_way");
    assert!(listed.contains("--cut"), "{listed}");
    let at = stand::now();
    switched(&group, &["--cut"]);
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let cut = report(&group, 1)["write_block"]["cut"].to_string();
    assert!(cut.contains("LOCK TABLES") && cut.contains("transaction open"), "{cut}");
    assert!(long.sql(SOON, "COMMIT").is_err(), "it was cut");
    let history = stand::nothing_lost(&lab, writer, &primary);
    assert!(history.acked().count() > 0);
    let rows = lab.host(&primary).unwrap().sql("SELECT id FROM app.t WHERE id = 1").unwrap();
    assert!(rows.is_empty(), "what was not committed is not there");
    group.wait_healthy(SOON).unwrap();
}

/// Inserts over sessions that nothing but `super_read_only` keeps from writing, until told to stop;
/// returns what was acknowledged.
fn privileged(lab: &Lab, is_over: &AtomicBool) -> Vec<u64> {
    let host = lab.host("db1").unwrap();
    let mut acked = Vec::new();
    let mut id = 1_000_000u64;
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut session) = host.session() else { continue };
        while !is_over.load(Ordering::Relaxed) {
            id += 1;
            let insert = format!("INSERT INTO app.w VALUES ({id}, 'root', NOW(6))");
            match session.sql(SOON, &insert) {
                Ok(_) => acked.push(id),
                Err(_) => break,
            }
            // Replicas keep up with it, also on a loaded machine.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    acked
}

/// Tells a thread to end, also when its test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn privileged_writer_and_clients_that_reconnect_at_once_lose_nothing() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let spec = WriterSpec {
        connections: 3,
        interval: Duration::from_millis(20),
        retry_pause: Duration::from_millis(2),
        ..WriterSpec::default()
    };
    let mut writer = lab.write(&spec).unwrap();
    writer.wait_ok_after(0, SOON).unwrap();
    let is_over = AtomicBool::new(false);
    let acked = std::thread::scope(|scope| {
        let privileged = scope.spawn(|| privileged(&lab, &is_over));
        let end = End(&is_over);
        let at = stand::now();
        switched(&group, &["--to", "db2"]);
        stand::writes_again(&mut writer, at);
        group.wait_healthy(SOON).unwrap();
        drop(end);
        privileged.join().unwrap()
    });
    assert!(!acked.is_empty());
    stand::nothing_lost(&lab, writer, "db2");
    let rows = lab.host("db2").unwrap().sql("SELECT id FROM app.w").unwrap();
    let found: BTreeSet<u64> = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    let lost: Vec<&u64> = acked.iter().filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "{} rows of a privileged session are lost", lost.len());
    assert_eq!(stand::writable(&lab), ["db2"]);
    equal(&lab, "db2");
}

/// Begins a switchover, and does something once the leader has begun that step.
fn struck(
    group: &mut Group<'_>,
    goal: &str,
    strike: impl FnOnce(&str, u32),
) -> std::process::Output {
    struck_with(group, &[], goal, strike)
}

/// The same, asked for with these arguments, too.
fn struck_with(
    group: &mut Group<'_>,
    more: &[&str],
    goal: &str,
    strike: impl FnOnce(&str, u32),
) -> std::process::Output {
    let leader = group.leader().unwrap().expect("a leader");
    let pid = group.manager(&leader).unwrap().pid();
    let log = group.log(&leader);
    let before = fs::read_to_string(&log).unwrap().len();
    let shows = format!("goal=\"{goal}\"");
    let group = &*group;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| switch(group, more));
        stand::wait_quickly(goal, || fs::read_to_string(&log).unwrap()[before..].contains(&shows));
        strike(&leader, pid);
        asked.join().unwrap()
    })
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn leader_killed_in_any_step_of_a_switchover_leaves_one_primary_that_takes_writes() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let steps = [
        "level",
        "follow",
        "close_for_writes",
        "stop_receiver",
        "open_for_writes",
        "cut_clients",
        "detach",
        "take_vip",
    ];
    for (round, goal) in steps.into_iter().enumerate() {
        group.wait_healthy(SOON).unwrap();
        let mut lost = String::new();
        struck(&mut group, goal, |leader, pid| {
            lost = leader.to_owned();
            kill(pid);
        });
        stand::writes_again(&mut writer, stand::now());
        group.kill(&lost).unwrap();
        group.start(&lost).unwrap();
        let healthy = group.wait_healthy(SOON).unwrap();
        assert_eq!(healthy["epoch"], round as u64 + 1, "{goal}: under the same id");
        let primary = healthy["primary"].as_str().unwrap();
        assert_eq!(stand::writable(&lab), [primary], "{goal}");
    }
    let primary = group.cluster().unwrap()["primary"].as_str().unwrap().to_owned();
    stand::nothing_lost(&lab, writer, &primary);
    equal(&lab, &primary);
}

#[test]
fn primary_that_dies_in_the_middle_of_a_switchover_is_failed_over_at_once() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &["last_failover_minutes = 480"]);
    let mut writer = stand::writer(&lab);
    let at = stand::now();
    let told = struck(&mut group, "follow", |_, _| {
        lab.host("db1").unwrap().kill_mysqld().unwrap();
    });
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    assert!(text(&told).contains("found dead"), "{}", text(&told));
    assert_eq!(report(&group, 1)["outcome"], "superseded");
    assert_eq!(report(&group, 2)["outcome"], "promoted");
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn candidate_that_dies_or_is_cut_off_before_the_decision_leaves_the_old_primary_open() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    for (round, is_dead) in [true, false].into_iter().enumerate() {
        let mut writer = stand::writer(&lab);
        group.wait_healthy(SOON).unwrap();
        let told = match is_dead {
            true => struck(&mut group, "follow", |_, _| {
                lab.host("db2").unwrap().kill_mysqld().unwrap();
            }),
            // Its receiver takes itself for connected for seconds.
            false => {
                let ask = ["switchover", "app1", "--to", "db2", "--dry-run"];
                stand::wait("db2 to be fit", || {
                    group.cli("client", &ask).unwrap().status.success()
                });
                lab.split("db1", "db2").unwrap();
                switch(&group, &["--to", "db2"])
            }
        };
        assert_eq!(told.status.code(), Some(1), "{}", text(&told));
        // Cut off for long enough, it is refused beforehand: it lags.
        let is_refused = !is_dead && text(&told).contains("gate.");
        assert!(is_refused || text(&told).contains("undone"), "{}", text(&told));
        let epoch = group.cluster().unwrap()["epoch"].as_u64().unwrap();
        assert_eq!(epoch, round as u64 + u64::from(!is_refused));
        assert_eq!(report(&group, epoch)["outcome"], "aborted");
        lab.heal().unwrap();
        if is_dead {
            lab.host("db2").unwrap().start_mysqld().unwrap();
        }
        stand::writes_again(&mut writer, stand::now());
        let healthy = group.wait_healthy(SOON).unwrap();
        assert_eq!(healthy["primary"], "db1");
        assert_eq!(stand::writable(&lab), ["db1"]);
        stand::nothing_lost(&lab, writer, "db1");
    }
}

/// Puts every server back, and whoever has something extra on an operator's word.
fn settle(lab: &Lab, group: &Group<'_>) -> Value {
    for server in lab.servers() {
        match server.mysqld_pid().unwrap() {
            Some(_) => server.cont_mysqld().unwrap(),
            None => server.start_mysqld().unwrap(),
        }
    }
    let is_quarantined = |cluster: &Value, name: &str| stand::role(cluster, name) == "quarantined";
    let names = lab.servers().iter().map(Host::name).collect::<Vec<_>>();
    let settled = group.wait_cluster("waiting for the servers to be back", SOON * 2, |cluster| {
        let is_back = |name: &String| {
            let role = stand::role(cluster, name);
            ["primary", "replica", "quarantined"].contains(&&*role)
        };
        cluster["attempt"].is_null() && names.iter().all(is_back)
    });
    let settled = settled.unwrap();
    for name in names.iter().filter(|name| is_quarantined(&settled, name)) {
        stand::examined(group, name);
        group.expect("client", &["rejoin", "app1", name, "--discard-all", "--yes"]).unwrap();
    }
    group.wait_healthy(SOON * 2).unwrap()
}

#[test]
fn server_that_dies_or_hangs_in_any_step_of_a_switchover_leaves_one_primary_that_takes_writes() {
    let lab = stand::lab_with_error_log();
    let mut group = stand::group(&lab, &["last_failover_minutes = 0"]);
    let mut writer = stand::writer(&lab);
    // Step, whether it befalls the candidate or the old primary, whether it dies or hangs.
    let (candidate, old, dies, hangs) = (true, false, true, false);
    let rounds = [
        ("close_for_writes", candidate, dies),
        ("close_for_writes", old, hangs),
        ("stop_receiver", old, dies),
        ("open_for_writes", candidate, dies),
        ("open_for_writes", candidate, hangs),
        ("cut_clients", old, dies),
        ("take_vip", old, hangs),
    ];
    for (goal, is_candidate, is_death) in rounds {
        let what = format!("{goal}, candidate {is_candidate}, dies {is_death}");
        let from = settle(&lab, &group)["primary"].as_str().unwrap().to_owned();
        let to = if from == "db2" { "db3" } else { "db2" };
        let victim = lab.host(if is_candidate { to } else { &from }).unwrap();
        // It may have to catch up with what was written while it was away.
        let ask = ["switchover", "app1", "--to", to, "--dry-run"];
        stand::wait(&what, || group.cli("client", &ask).unwrap().status.success());
        struck_with(&mut group, &["--to", to, "--deadline", "5s"], goal, |_, _| {
            let signal = if is_death { Signal::SIGKILL } else { Signal::SIGSTOP };
            victim.signal_mysqld(signal).unwrap();
        });
        let primary = settle(&lab, &group)["primary"].as_str().unwrap().to_owned();
        assert_eq!(stand::writable(&lab), [&*primary], "{what}");
        stand::writes_again(&mut writer, stand::now());
        eprintln!("{what}: {from} -> {primary}");
    }
    let primary = settle(&lab, &group)["primary"].as_str().unwrap().to_owned();
    stand::nothing_lost(&lab, writer, &primary);
    equal(&lab, &primary);
}

#[test]
fn server_that_hangs_makes_the_deadline_undo_the_switchover() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let told = struck(&mut group, "level", |_, _| {
        lab.host("db2").unwrap().signal_mysqld(Signal::SIGSTOP).unwrap();
    });
    assert_eq!(told.status.code(), Some(1), "{}", text(&told));
    assert!(text(&told).contains("undone"), "{}", text(&told));
    lab.host("db2").unwrap().signal_mysqld(Signal::SIGCONT).unwrap();
    stand::writes_again(&mut writer, stand::now());
    assert_eq!(group.wait_healthy(SOON).unwrap()["primary"], "db1");
    assert_eq!(stand::writable(&lab), ["db1"]);
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn two_operators_at_once_get_one_switchover_and_one_answer() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let both = std::thread::scope(|scope| {
        let ask = |server: &'static str| {
            let group = &group;
            scope.spawn(move || {
                let args = ["switchover", "app1", "--yes", "--to", server];
                group.cli("client", &args).unwrap()
            })
        };
        [ask("db2"), ask("db3")].map(|asked| asked.join().unwrap())
    });
    stand::writes_again(&mut writer, stand::now());
    let healthy = group.wait_healthy(SOON).unwrap();
    let done = both.iter().filter(|output| output.status.success()).count();
    assert!(done >= 1, "{}\n{}", text(&both[0]), text(&both[1]));
    assert_eq!(healthy["epoch"], done as u64, "{}\n{}", text(&both[0]), text(&both[1]));
    let primary = healthy["primary"].as_str().unwrap();
    stand::nothing_lost(&lab, writer, primary);
}

#[test]
fn five_servers_with_two_acknowledgements_switch_over_under_writes() {
    let my_cnf = vec!["rpl_semi_sync_source_wait_for_replica_count=2".to_owned()];
    let spec = LabSpec { servers: 5, my_cnf, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec).unwrap();
    let group = super::quorum::group(&lab, "acks = 2", &[]);
    let mut writer = mixed(&lab, 4);
    for to in ["db3", "db1"] {
        group.wait_healthy(SOON).unwrap();
        switched(&group, &["--to", to]);
        stand::writes_again(&mut writer, stand::now());
        assert_eq!(stand::writable(&lab), [to]);
    }
    group.wait_healthy(SOON).unwrap();
    stand::nothing_lost(&lab, writer, "db1");
    equal(&lab, "db1");
}

#[test]
fn every_server_is_handed_over_in_turn_and_comes_back() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let output =
        group.cli_saying("client", &["switchover", "app1", "--rolling"], b"\n\n\n").unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    for part in ["db2: back", "db3: back", "db1: back", "every server was handed over"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    stand::writes_again(&mut writer, stand::now());
    let healthy = group.wait_healthy(SOON).unwrap();
    assert_eq!(healthy["epoch"], 1);
    let primary = healthy["primary"].as_str().unwrap().to_owned();
    assert_ne!(primary, "db1");
    // Who stops in the middle is told how to go on.
    let output = group.cli_saying("client", &["switchover", "app1", "--rolling"], b"q\n").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output);
    assert!(told.contains("stays drained: conclave undrain app1 db"), "{told}");
    let drained = ["db1", "db2", "db3"]
        .into_iter()
        .find(|name| stand::role(&group.cluster().unwrap(), name) == "drained");
    let drained = drained.expect("one is drained");
    group.expect("client", &["undrain", "app1", drained]).unwrap();
    group.wait_healthy(SOON).unwrap();
    stand::nothing_lost(&lab, writer, &primary);
}
