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
