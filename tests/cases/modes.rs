//! Modes `fenced` and `best_effort` on real servers, with asynchronous replication: what waits for a
//! fence, and what does not.

use conclave_lab::{Group, Host, Lab, LabSpec, WriterSpec};

use super::stand::{self, SOON};

/// Three servers of MySQL whose commits wait for nobody.
fn lab() -> Lab {
    let lab = Lab::up_replicated(LabSpec::default()).expect("bring the lab up");
    let [source, replicas @ ..] = &lab.servers()[..] else { panic!("no servers") };
    source.sql("SET GLOBAL rpl_semi_sync_source_enabled = OFF").expect("nobody waits");
    for replica in replicas {
        replica
            .sql(
                "SET GLOBAL rpl_semi_sync_replica_enabled = OFF; STOP REPLICA IO_THREAD; \
                 CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_CONNECT_RETRY = 3, \
                 SOURCE_HEARTBEAT_PERIOD = 0.45; START REPLICA IO_THREAD",
            )
            .expect("nobody acknowledges");
    }
    lab
}

/// Writes through the address and ends, so that all of it is on all servers.
fn write_and_settle(lab: &Lab, primary: &str) {
    stand::nothing_lost(lab, stand::writer(lab), primary);
    let rows = |host: &Host| host.sql_value("SELECT COUNT(*) FROM app.t").expect("ask it");
    let wanted = rows(&lab.host(primary).unwrap());
    for server in lab.servers() {
        stand::wait("the replicas to be level", || rows(&server) == wanted);
    }
}

/// What a replica's link is like, but for its source: TLS, public key, connect retry, heartbeats.
fn link(replica: &Host) -> Vec<String> {
    let sql = "SELECT SSL_ALLOWED, SSL_CA_FILE, SSL_VERIFY_SERVER_CERTIFICATE, GET_PUBLIC_KEY, \
               CONNECTION_RETRY_INTERVAL, HEARTBEAT_INTERVAL \
               FROM performance_schema.replication_connection_configuration";
    replica.sql(sql).expect("ask it").remove(0)
}

/// What the report says of an attempt.
fn report(group: &Group<'_>, attempt: &str) -> String {
    group.expect("m1", &["report", attempt]).expect("there is a report")
}

/// mysqld of the primary is killed, nothing under way: another one takes over, and it comes back. Then
/// the same befalls the new one, so that what was a primary and a replica is both again. All links stay
/// as the first ones were.
pub fn killed_primary_is_replaced_and_rejoins(
    lab: &Lab,
    mode: &str,
    link: fn(&Host) -> Vec<String>,
) {
    let group = stand::group_in(lab, mode, &["last_failover_minutes = 0"]);
    let wanted = link(&lab.host("db3").unwrap());
    let mut old = "db1".to_owned();
    for attempt in ["app1-1", "app1-2"] {
        write_and_settle(lab, &old);
        let killed = lab.host(&old).unwrap();
        let at = stand::now();
        killed.kill_mysqld().unwrap();
        let mut writer = lab.write(&WriterSpec::default()).unwrap();
        stand::writes_again(&mut writer, at);
        let primary = stand::new_primary(&group, &old);
        assert_eq!(stand::reached_writable(lab), [&*primary]);
        let said = report(&group, attempt);
        for line in ["fence: gone", "asynchronous"] {
            assert!(said.contains(line), "{line} is not in {said}");
        }
        killed.start_mysqld().unwrap();
        let healthy = group.wait_healthy(SOON).expect("the old primary rejoins");
        assert_eq!(stand::role(&healthy, &old), "replica");
        assert_eq!(stand::writable(lab), [&*primary]);
        for replica in lab.servers().iter().filter(|server| server.name() != primary) {
            assert_eq!(link(replica), wanted, "the link of {}", replica.name());
        }
        stand::nothing_lost(lab, writer, &primary);
        old = primary;
    }
}

/// mysqld of the primary is killed under writes: what it alone has is found when it is back.
pub fn primary_killed_under_writes_comes_back_as_a_replica_or_quarantined(lab: &Lab, mode: &str) {
    let group = stand::group_in(lab, mode, &[]);
    let mut writer = stand::writer(lab);
    let db1 = lab.host("db1").unwrap();
    let at = stand::now();
    db1.kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    db1.start_mysqld().unwrap();
    let back = |cluster: &serde_json::Value| {
        ["replica", "quarantined"].contains(&&*stand::role(cluster, "db1"))
    };
    let cluster = group.wait_cluster("waiting for db1 to be judged", SOON, back).unwrap();
    assert_eq!(stand::writable(lab), [&*primary]);
    let history = writer.stop().unwrap();
    let lost = conclave_lab::lost_acked(&history, &lab.host(&primary).unwrap()).unwrap();
    // What is lost is on the disk of the one that is back, and it is kept out with it.
    if !lost.is_empty() {
        assert_eq!(stand::role(&cluster, "db1"), "quarantined", "{} are lost", lost.len());
    }
}

/// Its host loses its power: nobody can see it dead.
pub fn powered_off_host_is_replaced_only_on_an_operators_word(lab: &Lab) {
    let group = stand::group_in(lab, "fenced", &[]);
    write_and_settle(lab, "db1");
    let db1 = lab.host("db1").unwrap();
    db1.power_off().unwrap();
    let down = stand::wait_problem(&group, "problem.primary_down");
    assert_eq!(down["primary"], "db1");
    // An attempt that was opened before anybody knew that the host is gone, too, is undone.
    let refuses = |cluster: &serde_json::Value| {
        let faults = cluster["forecasts"].as_array().into_iter().flatten();
        let mut refusals = faults
            .filter_map(|it| it["refusals"].as_array())
            .map(|all| all.iter().any(|refusal| refusal["code"] == "gate.no_fence"));
        cluster["attempt"].is_null() && refusals.all(|is_refused| is_refused)
    };
    let cluster = group.wait_cluster("waiting for the refusal", SOON, refuses).unwrap();
    assert_eq!(cluster["primary"], "db1", "it was replaced without a fence");
    let refused = group.cli("m2", &["failover", "app1", "--yes"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && said.contains("gate.no_fence"), "{refused:?}");
    assert_eq!(stand::reached_writable(lab), Vec::<String>::new());
    let at = stand::now();
    let vouched = ["failover", "app1", "--old-primary-is-dead", "--yes"];
    let done = stand::say(&group, "m2", &vouched);
    assert!(done.status.success(), "{done:?}");
    let mut writer = lab.write(&WriterSpec::default()).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    db1.power_on(true).unwrap();
    let healthy = group.wait_healthy(SOON).expect("db1 rejoins");
    assert_eq!(stand::role(&healthy, "db1"), "replica");
    assert_eq!(stand::writable(lab), [&*primary]);
    stand::nothing_lost(lab, writer, &primary);
}

/// The same where nobody insists on a fence.
pub fn powered_off_host_is_replaced_after_the_tries(lab: &Lab) {
    let group = stand::group_in(lab, "best_effort", &[]);
    write_and_settle(lab, "db1");
    let db1 = lab.host("db1").unwrap();
    let at = stand::now();
    db1.power_off().unwrap();
    let mut writer = lab.write(&WriterSpec::default()).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let said = report(&group, "app1-1");
    assert!(said.contains("fence"), "{said}");
    db1.power_on(true).unwrap();
    let healthy = group.wait_healthy(SOON).expect("db1 rejoins");
    assert_eq!(stand::role(&healthy, "db1"), "replica");
    assert_eq!(stand::writable(lab), [&*primary]);
    stand::nothing_lost(lab, writer, &primary);
}

#[test]
fn fenced_primary_that_was_killed_is_replaced_and_rejoins() {
    killed_primary_is_replaced_and_rejoins(&lab(), "fenced", link);
}

#[test]
fn best_effort_primary_that_was_killed_is_replaced_and_rejoins() {
    killed_primary_is_replaced_and_rejoins(&lab(), "best_effort", link);
}

#[test]
fn fenced_primary_killed_under_writes_is_judged_when_it_is_back() {
    primary_killed_under_writes_comes_back_as_a_replica_or_quarantined(&lab(), "fenced");
}

#[test]
fn fenced_primary_whose_host_lost_its_power_waits_for_an_operators_word() {
    powered_off_host_is_replaced_only_on_an_operators_word(&lab());
}

#[test]
fn best_effort_primary_whose_host_lost_its_power_is_replaced_after_the_tries() {
    powered_off_host_is_replaced_after_the_tries(&lab());
}
