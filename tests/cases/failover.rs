//! Real servers die in real ways, and another one takes over.

use std::time::Duration;

use conclave_lab::Lab;

use super::stand::{self, SOON};

#[test]
fn killed_primary_is_replaced_and_no_acknowledged_write_is_lost() {
    killed_primary_is_replaced(&[]);
}

#[test]
fn killed_primary_is_replaced_where_pings_connect_only() {
    killed_primary_is_replaced(&["ping = \"connect\""]);
}

#[test]
fn killed_primary_is_replaced_where_pings_insert() {
    let lab = killed_primary_is_replaced(&["ping = \"insert\""]);
    let rows = lab.host("db2").unwrap().sql_value("SELECT COUNT(*) FROM conclave.ping");
    assert_eq!(rows.unwrap(), "3", "one row of each manager");
}

fn killed_primary_is_replaced(policy: &[&str]) -> Lab {
    let lab = stand::lab();
    let group = stand::group(&lab, policy);
    let mut writer = stand::writer(&lab);
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
    let other = if primary == "db2" { "db3" } else { "db2" };
    let source = "SELECT host FROM performance_schema.replication_connection_configuration";
    let source = lab.host(other).unwrap().sql_value(source).unwrap();
    assert_eq!(source, lab.host(&primary).unwrap().ip().to_string());
    let report = group.expect("m2", &["report", "app1"]).unwrap();
    assert!(report.contains("primary_down") || report.contains("down"), "{report}");
    drop(group);
    lab
}

#[test]
fn stopped_primary_is_replaced_and_takes_no_write_when_it_wakes_up() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let watcher = lab.watch("db1").unwrap();
    let at = stand::now();
    let db1 = lab.host("db1").unwrap();
    db1.stop_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let moved = stand::now();
    let primary = stand::new_primary(&group, "db1");
    // The fence kills a stopped mysqld; one that nobody could fence would wake up here.
    let woken = db1.cont_mysqld();
    std::thread::sleep(Duration::from_millis(500));
    let seen = watcher.stop().unwrap();
    let late = seen.acked().filter(|op| op.invoked_us > moved).count();
    assert_eq!(late, 0, "the old primary acknowledged after it was replaced ({woken:?})");
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn powered_off_host_is_replaced_and_rejoins_when_it_is_back() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    // Nothing is under way when the power goes, so nothing extra is left on its disk.
    stand::nothing_lost(&lab, stand::writer(&lab), "db1");
    let at = stand::now();
    let db1 = lab.host("db1").unwrap();
    db1.power_off().unwrap();
    let mut writer = lab.write(&conclave_lab::WriterSpec::default()).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    db1.power_on(true).unwrap();
    let healthy = group.wait_healthy(SOON).expect("the old primary rejoins");
    assert_eq!(stand::role(&healthy, "db1"), "replica");
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn primary_cut_off_from_managers_and_replicas_acknowledges_nothing_once_replaced() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    // On its own host: the network does not stop it.
    let local = conclave_lab::WriterSpec {
        host: "db1".into(),
        address: lab.host("db1").unwrap().ip(),
        table: conclave_lab::Table::W,
        interval: Duration::from_millis(20),
        ..Default::default()
    };
    let local = lab.write(&local).unwrap();
    let at = stand::now();
    lab.isolate("db1").unwrap();
    stand::writes_again(&mut writer, at);
    let moved = stand::now();
    let primary = stand::new_primary(&group, "db1");
    std::thread::sleep(Duration::from_millis(500));
    lab.heal().unwrap();
    group
        .wait_cluster("waiting for db1 to be found", SOON, |cluster| {
            stand::role(cluster, "db1") != "former"
        })
        .expect("db1 is readmitted or quarantined");
    let seen = local.stop().unwrap();
    let late = seen.acked().filter(|op| op.invoked_us > moved).count();
    assert_eq!(late, 0, "the old primary acknowledged after it was replaced");
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn managers_cut_off_from_a_primary_that_its_replicas_hear_do_not_fail_over() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let writer = stand::writer(&lab);
    for manager in ["m1", "m2", "m3"] {
        lab.split(manager, "db1").unwrap();
    }
    let cluster = stand::wait_problem(&group, "problem.primary_unreachable");
    assert_eq!(cluster["primary"], "db1");
    assert_eq!(cluster["epoch"], 0, "an attempt was opened");
    lab.heal().unwrap();
    let healthy = group.wait_healthy(SOON).expect("healthy again");
    assert_eq!(healthy["epoch"], 0);
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn primary_whose_acker_is_missing_is_not_replaced_and_status_says_why_beforehand() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    lab.isolate("db3").unwrap();
    let says = |cluster: &serde_json::Value| {
        let forecasts = cluster["forecasts"].as_array().into_iter().flatten();
        let mut refusals = forecasts.filter_map(|f| f["refusals"].as_array()).flatten();
        refusals.any(|refusal| refusal["code"] == "gate.no_coverage")
    };
    group.wait_cluster("waiting for the forecast", SOON, says).unwrap();
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    let down = stand::wait_problem(&group, "problem.primary_down");
    assert_eq!(down["epoch"], 0, "an attempt was opened without coverage");
    let explained = group.expect("m1", &["explain", "app1"]).unwrap();
    // Its own log would give coverage; but nobody would acknowledge to its successor.
    assert!(explained.contains("gate.too_few_ackers"), "{explained}");
    lab.heal().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
}
