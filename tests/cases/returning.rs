//! Servers that come back: restarted at once, clean, or with transactions of their own.

use std::time::Duration;

use super::stand::{self, SOON};

#[test]
fn primary_restarted_before_the_verdict_is_reopened_for_writes() {
    let lab = stand::lab();
    // So patient that the restart is always over before a verdict.
    let group =
        stand::group(&lab, &["refusals = 100", "doubt_interval_ms = 1000", "silence_ms = 60000"]);
    let mut writer = stand::writer(&lab);
    let db1 = lab.host("db1").unwrap();
    db1.restart_after(Some(Duration::from_millis(500))).unwrap();
    let at = stand::now();
    db1.kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let healthy = group.wait_healthy(SOON).expect("healthy again");
    assert_eq!((healthy["primary"].as_str(), healthy["epoch"].as_u64()), (Some("db1"), Some(0)));
    assert_eq!(stand::writable(&lab), ["db1"]);
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn primary_restarted_before_the_verdict_is_failed_over_where_the_policy_says_so() {
    let lab = stand::lab();
    let policy = ["refusals = 100", "doubt_interval_ms = 1000", "silence_ms = 60000"];
    let policy = [&policy[..], &["primary_restarted = \"failover\""]].concat();
    let group = stand::group(&lab, &policy);
    let mut writer = stand::writer(&lab);
    let db1 = lab.host("db1").unwrap();
    db1.restart_after(Some(Duration::from_millis(500))).unwrap();
    let at = stand::now();
    db1.kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let back = group
        .wait_cluster("waiting for db1 to be judged", SOON, |cluster| {
            ["replica", "quarantined"].contains(&&*stand::role(cluster, "db1"))
        })
        .unwrap();
    assert_eq!(back["epoch"], 1, "one failover");
    assert_eq!(stand::writable(&lab), [&*primary]);
    let report = group.expect("m1", &["report", "app1-1"]).unwrap();
    assert!(report.contains("restarted"), "{report}");
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn killed_primary_that_a_service_manager_restarts_rejoins_as_a_replica() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    // Nothing is under way when it is killed, so nothing extra is left on its disk.
    stand::nothing_lost(&lab, stand::writer(&lab), "db1");
    let db1 = lab.host("db1").unwrap();
    db1.restart_after(Some(Duration::from_secs(2))).unwrap();
    let at = stand::now();
    db1.kill_mysqld().unwrap();
    let mut writer = lab.write(&conclave_lab::WriterSpec::default()).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let healthy = group.wait_healthy(SOON).expect("db1 rejoins");
    assert_eq!(stand::role(&healthy, "db1"), "replica");
    stand::nothing_lost(&lab, writer, &primary);
}

/// db1, cut off from all but a client of its own, has that one waiting for an acknowledgement.
fn waiting_alone(lab: &conclave_lab::Lab) -> conclave_lab::Process {
    lab.isolate("db1").unwrap();
    let db1 = lab.host("db1").unwrap();
    let logged = || db1.sql("SHOW BINARY LOG STATUS").unwrap()[0][1].parse::<u64>().unwrap();
    let before = logged();
    let sql = "INSERT INTO app.w (id, v) VALUES (9000001, 'alone'); SELECT 'told OK'";
    let args = ["-uroot", "-S/run/mysqld/mysqld.sock", "-e", sql];
    let log = lab.root().join("alone.log");
    let client = db1.spawn(lab.install().program("mysql"), &args, &[], &log).unwrap();
    stand::wait("the client's write to be in the binary log", || logged() > before);
    client
}

/// Where db1's extra transactions were copied to.
fn saved(group: &conclave_lab::Group<'_>) -> serde_json::Value {
    let of = |cluster: &serde_json::Value| {
        let servers = cluster["servers"].as_array().into_iter().flatten();
        let mut named = servers.filter(|found| found["name"] == "db1");
        named.next().map(|found| found["extra"]["saved"].clone()).unwrap_or_default()
    };
    let is_saved = |cluster: &serde_json::Value| !of(cluster).is_null();
    of(&group.wait_cluster("waiting for a copy", SOON, is_saved).unwrap())
}

/// The counts of what is proved and of what is doubtful.
fn verdict(extra: &serde_json::Value) -> (u64, u64) {
    let doubts = extra["doubts"].as_array().unwrap();
    let doubtful = doubts.iter().map(|doubt| doubt["count"].as_u64().unwrap()).sum();
    let (proved, all) = (extra["proved"]["count"].as_u64(), extra["gtids"]["count"].as_u64());
    assert_eq!(proved.map(|proved| proved + doubtful), all, "{extra}");
    (proved.unwrap(), doubtful)
}

#[test]
fn writes_that_waited_on_a_killed_primary_are_proved_and_one_made_by_hand_is_not() {
    let lab = stand::lab_with_error_log();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let db1 = lab.host("db1").unwrap();
    let client = waiting_alone(&lab);
    let at = stand::now();
    db1.kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    db1.start_mysqld().unwrap();
    db1.sql("SET GLOBAL read_only=OFF; INSERT INTO app.w (id, v) VALUES (1, 'by hand')").unwrap();
    lab.heal().unwrap();
    let (proved, doubtful) = verdict(&stand::examined(&group, "db1"));
    assert!(proved >= 1, "{proved}");
    assert_eq!(doubtful, 1);
    let extra = saved(&group);
    let report = group.expect("m1", &["report", "app1-1"]).unwrap();
    assert!(report.contains("proved never acknowledged"), "{report}");
    let (path, sum) = (extra["path"].as_str().unwrap(), extra["sha256"].as_str().unwrap());
    assert!(report.contains(sum), "{report}");
    // Each transaction is there, readable and fit to be applied.
    let sh = format!(
        "cd '{path}' && sha256sum -c --quiet SHA256SUMS && sha256sum SHA256SUMS && cat extra.rows.txt"
    );
    let read = db1.run("sh", &["-c", &sh], &[]).unwrap();
    let text = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success() && text.starts_with(sum), "{text}");
    for value in ["'by hand'", "=9000001"] {
        assert!(text.contains(value), "{value} is missing: {text}");
    }
    drop(client);
    let told = std::fs::read_to_string(lab.root().join("alone.log")).unwrap();
    assert!(!told.contains("told OK"), "{told}");

    let refused = group.cli("m1", &["rejoin", "app1", "db1", "--discard-proved", "--yes"]).unwrap();
    let why = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("1 may have been acknowledged"), "{why}");
    // Its service manager starts it again, as it would in earnest.
    db1.restart_after(Some(Duration::from_millis(500))).unwrap();
    group.expect("m1", &["rejoin", "app1", "db1", "--discard-all", "--yes"]).unwrap();
    let healthy = group.wait_healthy(SOON).expect("db1 is a replica");
    assert_eq!(stand::role(&healthy, "db1"), "replica");
    let left = "SELECT COUNT(*) FROM app.w WHERE id IN (1, 9000001)";
    assert_eq!(db1.sql_value(left).unwrap(), "0");
    let account = db1.sql_value("SELECT User_name FROM mysql.slave_master_info").unwrap();
    assert_eq!(account, conclave_lab::repl_user("db1"));
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn nothing_is_proved_of_a_primary_that_was_shut_down_in_order_while_clients_waited() {
    let lab = stand::lab_with_error_log();
    let group = stand::group(&lab, &[]);
    let db1 = lab.host("db1").unwrap();
    let client = waiting_alone(&lab);
    db1.signal_mysqld(conclave_lab::Signal::SIGTERM).unwrap();
    stand::wait("the shutdown", || db1.mysqld_pid().unwrap().is_none());
    stand::new_primary(&group, "db1");
    db1.start_mysqld().unwrap();
    lab.heal().unwrap();
    let (proved, doubtful) = verdict(&stand::examined(&group, "db1"));
    assert_eq!(proved, 0);
    assert!(doubtful >= 1, "{doubtful}");
    drop(client);
}

#[test]
fn returning_primary_with_an_errant_transaction_is_quarantined_and_shown() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let db1 = lab.host("db1").unwrap();
    let at = stand::now();
    db1.kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    // Out of the managers' sight, somebody starts it and writes.
    lab.isolate("db1").unwrap();
    db1.start_mysqld().unwrap();
    db1.sql("SET GLOBAL read_only=OFF; INSERT INTO app.w (id, v) VALUES (1, 'errant')").unwrap();
    lab.heal().unwrap();
    let cluster = stand::wait_problem(&group, "problem.errant");
    assert_eq!(stand::role(&cluster, "db1"), "quarantined");
    let read_only = || db1.sql_value("SELECT @@global.super_read_only").unwrap();
    let until = std::time::Instant::now() + SOON;
    while read_only() != "1" {
        assert!(std::time::Instant::now() < until, "the quarantined server stayed writable");
        std::thread::sleep(Duration::from_millis(50));
    }
    let primary = cluster["primary"].as_str().unwrap().to_owned();
    stand::nothing_lost(&lab, writer, &primary);
}

/// Every database and manager host loses its power at once.
fn power_cut(lab: &conclave_lab::Lab, group: &mut conclave_lab::Group<'_>) {
    // A host cannot go before who started a process there has heard of its end.
    group.names().iter().for_each(|name| group.kill(name).unwrap());
    for host in lab.hosts().iter().filter(|host| host.place().role != conclave_lab::Role::Client) {
        host.power_off().unwrap();
    }
}

/// Power is back at these hosts, in this order.
fn power_on(lab: &conclave_lab::Lab, group: &mut conclave_lab::Group<'_>, hosts: &[&str]) {
    for name in hosts {
        lab.host(name).unwrap().power_on(true).unwrap();
        if name.starts_with('m') {
            group.start(name).unwrap();
        }
    }
}

#[test]
fn cold_start_of_everything_finds_its_primary_whatever_comes_back_first() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let writer = stand::writer(&lab);
    power_cut(&lab, &mut group);
    let before = stand::now();
    power_on(&lab, &mut group, &["m3", "m1", "db3", "db2", "m2", "db1"]);
    let healthy = group.wait_healthy(SOON).expect("healthy again");
    assert_eq!((healthy["primary"].as_str(), healthy["epoch"].as_u64()), (Some("db1"), Some(0)));
    stand::nothing_lost(&lab, writer, "db1");

    let mut writer = lab.write(&conclave_lab::WriterSpec::default()).unwrap();
    writer.wait_ok_after(before, SOON).unwrap();
    power_cut(&lab, &mut group);
    power_on(&lab, &mut group, &["db2", "db3", "m1", "m2", "m3"]);
    // The primary is missing, and no manager has seen what the others lack: refused, with reasons.
    let explained = || group.cli("m1", &["explain", "app1"]).unwrap();
    let says = |word: &str| String::from_utf8_lossy(&explained().stdout).contains(word);
    stand::wait("a refusal for want of coverage", || says("gate.no_coverage"));
    for server in ["db2", "db3"] {
        let read_only = lab.host(server).unwrap().sql_value("SELECT @@global.read_only").unwrap();
        assert_eq!(read_only, "1", "{server} takes writes");
    }
    power_on(&lab, &mut group, &["db1"]);
    let healthy = group.wait_healthy(SOON).expect("healthy again");
    assert_eq!((healthy["primary"].as_str(), healthy["epoch"].as_u64()), (Some("db1"), Some(0)));
    assert_eq!(stand::writable(&lab), ["db1"]);
    stand::nothing_lost(&lab, writer, "db1");
}
