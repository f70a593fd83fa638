//! Mode `quorum` on real servers: what it rests on is looked at, changed in the safe order, set on
//! request.

use std::time::Duration;

use conclave_lab::{Group, GroupSpec, Host, Lab, LabSpec, WriterSpec};
use serde_json::Value;

use super::stand::{self, SOON};

/// Codes that stand against a failover, one list per fault.
fn forecasts(cluster: &Value) -> Vec<Vec<String>> {
    let faults = cluster["forecasts"].as_array().into_iter().flatten();
    let codes = |fault: &Value| {
        let refusals = fault["refusals"].as_array().into_iter().flatten();
        refusals.filter_map(|refusal| Some(refusal["code"].as_str()?.to_owned())).collect()
    };
    faults.map(codes).collect()
}

fn sentences(cluster: &Value) -> String {
    let problems = cluster["problems"].as_array().into_iter().flatten();
    let all = problems.filter_map(|problem| problem["sentence"].as_str());
    all.collect::<Vec<_>>().join("\n")
}

fn value(host: &Host, sql: &str) -> String {
    host.sql_value(sql).expect("ask it")
}

fn count(host: &Host) -> String {
    value(host, "SELECT @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count")
}

/// A group over a cluster defined with these further lines.
pub fn group<'a>(lab: &'a Lab, top: &str, policy: &[&str]) -> Group<'a> {
    let policy = policy.iter().map(|line| (*line).to_owned()).collect();
    let group = Group::form(lab, GroupSpec { policy, ..stand::spec() }).expect("form the group");
    apply(&group, top);
    group.wait_healthy(SOON).expect("a healthy cluster");
    group
}

fn apply(group: &Group<'_>, top: &str) {
    let file = group.write_cluster(top, &[]).expect("write the definition");
    group.expect("m1", &["cluster", "apply", &file.display().to_string()]).expect("apply it");
}

#[test]
fn primary_that_need_not_wait_is_named_refused_and_hardened() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let db1 = lab.host("db1").unwrap();
    db1.sql("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF, GLOBAL sync_binlog = 100")
        .unwrap();
    let is_refused = |cluster: &Value| {
        let faults = forecasts(cluster);
        !faults.is_empty()
            && faults.iter().all(|codes| codes.contains(&"gate.requirement".to_owned()))
    };
    let cluster = group.wait_cluster("waiting for the refusal", SOON, is_refused).unwrap();
    let said = sentences(&cluster);
    for setting in ["rpl_semi_sync_source_wait_no_replica = ON", "sync_binlog = 1 (it is 100)"] {
        assert!(said.contains(setting), "{said}");
    }
    let shown = group.cli("m1", &["cluster", "harden", "app1"]).unwrap();
    assert_eq!(shown.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for line in ["SET PERSIST sync_binlog = 1", "KillSignal=SIGKILL", "skip_replica_start = ON"] {
        assert!(shown.contains(line), "{shown}");
    }
    let done = group.cli("m2", &["cluster", "harden", "app1", "--apply"]).unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let failed = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}{failed}");
    for host in lab.servers() {
        let asked = "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables \
                     WHERE VARIABLE_NAME = 'super_read_only'";
        assert_eq!(value(&host, asked), "ON", "of {}", host.name());
    }
    assert_eq!(value(&db1, "SELECT @@GLOBAL.sync_binlog"), "1");
    assert_eq!(value(&db1, "SELECT @@GLOBAL.read_only"), "0", "the primary stays open");
    group.wait_healthy(SOON).expect("all is well again");
    let asked = group.cli("m1", &["cluster", "harden", "app1", "-o", "json"]).unwrap();
    let found: Value = serde_json::from_slice(&asked.stdout).expect("a document");
    assert_eq!((asked.status.code(), &found["missing"]), (Some(0), &Value::from(0)));
}

#[test]
fn number_of_acknowledgements_is_raised_and_lowered_while_clients_write() {
    let lab = stand::lab();
    let group = group(&lab, "acks = 1", &[]);
    let writer = stand::writer(&lab);
    let db1 = lab.host("db1").unwrap();
    let agreed = |wanted: u64| {
        let is_so = |cluster: &Value| cluster["acks"] == wanted;
        group.wait_cluster("waiting for the number to be agreed on", SOON, is_so).unwrap();
    };
    apply(&group, "acks = 2");
    agreed(2);
    assert_eq!(count(&db1), "2");
    apply(&group, "acks = 1");
    agreed(1);
    stand::wait("the number to be set", || count(&db1) == "1");
    group.wait_healthy(SOON).expect("all is well");
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn dead_acker_is_locked_out_and_let_in_when_it_is_back() {
    let lab = stand::lab();
    let policy = ["dead_acker = \"drop\"", "dead_acker_ms = 2000"];
    let group = group(&lab, "acks = 1", &policy);
    let mut writer = stand::writer(&lab);
    let (db1, db3) = (lab.host("db1").unwrap(), lab.host("db3").unwrap());
    db3.kill_mysqld().unwrap();
    stand::wait_problem(&group, "problem.acker_dropped");
    let locked = "SELECT account_locked FROM mysql.user WHERE User = 'repl_db3'";
    assert_eq!(value(&db1, locked), "Y");
    assert_eq!(value(&lab.host("db2").unwrap(), locked), "N", "it is a matter of db1 alone");
    stand::writes_again(&mut writer, stand::now());
    db3.start_mysqld().unwrap();
    group.wait_healthy(SOON).expect("it is an acker again");
    assert_eq!(value(&db1, locked), "N");
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn session_that_waits_for_acknowledgements_that_were_lost_is_woken() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    // Its one session goes on waiting, and nobody else writes.
    let spec = WriterSpec { op_deadline: Duration::from_secs(300), ..WriterSpec::default() };
    let mut writer = lab.write(&spec).expect("start a client");
    writer.wait_ok_after(0, SOON).expect("the client writes");
    let db1 = lab.host("db1").unwrap();
    let replicas = ["db2", "db3"].map(|name| lab.host(name).unwrap());
    // They hear db1, and are not heard: what they receive is acknowledged in vain.
    replicas.iter().for_each(|replica| lab.cut(&replica.name(), "db1").unwrap());
    let executed = |host: &Host| value(host, "SELECT @@GLOBAL.gtid_executed");
    for replica in &replicas {
        stand::wait("a write that db1 has not committed", || {
            let both = format!("'{}', '{}'", executed(replica), executed(&db1));
            !value(replica, &format!("SELECT GTID_SUBTRACT({both})")).is_empty()
        });
    }
    // With their power goes what their kernels would still have sent.
    replicas.iter().for_each(|replica| replica.power_off().unwrap());
    let at = stand::now();
    lab.heal().unwrap();
    replicas.iter().for_each(|replica| replica.power_on(true).unwrap());
    stand::writes_again(&mut writer, at);
    let log = |name: &String| std::fs::read_to_string(group.log(name)).unwrap();
    let logs: String = group.names().iter().map(log).collect();
    assert!(logs.contains("goal=\"wake\""), "{logs}");
    group.wait_healthy(SOON).expect("all is well");
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn five_servers_with_two_acknowledgements_lose_a_replica_and_the_primary() {
    let my_cnf = vec!["rpl_semi_sync_source_wait_for_replica_count=2".to_owned()];
    let spec = LabSpec { servers: 5, my_cnf, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec).expect("bring the lab up");
    let group = group(&lab, "acks = 2", &[]);
    let mut writer = stand::writer(&lab);
    lab.host("db5").unwrap().kill_mysqld().unwrap();
    stand::writes_again(&mut writer, stand::now());
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let new = lab.host(&primary).unwrap();
    assert_eq!(count(&new), "2");
    stand::nothing_lost(&lab, writer, &primary);
}
