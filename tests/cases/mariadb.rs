//! Servers of MariaDB under our managers: watched, failed over, taken back; and what is refused. By hand
//! only, as the server is fetched first: `cargo test -p conclave --test main mariadb -- --ignored
//! --test-threads=1`.

use conclave_lab::{Group, GroupSpec, Host, Lab, LabSpec, lost_acked, mariadb};

use super::{
    modes,
    stand::{self, SOON},
};

fn lab() -> Lab {
    mariadb::up_replicated(LabSpec::default()).expect("bring the lab up")
}

/// What a replica's link is like, but for its source: TLS with the certificate's file and whether it is
/// checked, connect retry, heartbeats.
fn link(replica: &Host) -> Vec<String> {
    const COLUMNS: [usize; 4] = [4, 26, 27, 33];
    let status = replica.sql("SHOW SLAVE STATUS").expect("ask it").remove(0);
    let mut out: Vec<String> = COLUMNS.iter().map(|column| status[*column].clone()).collect();
    let period = replica.sql("SHOW STATUS LIKE 'Slave_heartbeat_period'").expect("ask it");
    out.push(period[0][1].clone());
    out
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn fenced_mariadb_that_was_killed_is_replaced_and_rejoins() {
    let lab = lab();
    for replica in ["db2", "db3"].map(|name| lab.host(name).unwrap()) {
        let change = "STOP SLAVE; CHANGE MASTER TO MASTER_SSL = 1, MASTER_CONNECT_RETRY = 3, \
                      MASTER_HEARTBEAT_PERIOD = 0.45; START SLAVE";
        replica.sql(change).unwrap();
        assert_eq!(link(&replica), ["3", "Yes", "", "No", "0.450"]);
    }
    modes::killed_primary_is_replaced_and_rejoins(&lab, "fenced", link);
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn best_effort_mariadb_that_was_killed_is_replaced_and_rejoins() {
    modes::killed_primary_is_replaced_and_rejoins(&lab(), "best_effort", link);
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn fenced_mariadb_killed_under_writes_is_judged_when_it_is_back() {
    modes::primary_killed_under_writes_comes_back_as_a_replica_or_quarantined(&lab(), "fenced");
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn fenced_mariadb_whose_host_lost_its_power_waits_for_an_operators_word() {
    modes::powered_off_host_is_replaced_only_on_an_operators_word(&lab());
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn best_effort_mariadb_whose_host_lost_its_power_is_replaced_after_the_tries() {
    modes::powered_off_host_is_replaced_after_the_tries(&lab());
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_in_mode_quorum_is_not_adopted_and_status_says_why() {
    let lab = lab();
    let group = Group::form(&lab, GroupSpec { mode: "quorum".into(), ..stand::spec() }).unwrap();
    let file = group.write_cluster("", &[]).unwrap().display().to_string();
    group.expect("m1", &["cluster", "apply", &file]).unwrap();
    let says = |cluster: &serde_json::Value| cluster.to_string().contains("on MariaDB an ack");
    let cluster = group.wait_cluster("waiting for the refusal", SOON, says).unwrap();
    assert!(cluster["primary"].is_null(), "{cluster:#}");
    assert_eq!(stand::problems(&cluster), ["problem.no_primary"]);
}

/// Its applier is late when the primary dies: what it had received is applied before it is opened.
#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_whose_applier_was_stopped_applies_what_it_received_before_it_is_opened() {
    let lab = lab();
    // Or it would be started again at once, as servers that are young may have been restarted.
    let group = stand::group_in(&lab, "fenced", &["rejoin = false"]);
    let replicas = ["db2", "db3"].map(|name| lab.host(name).unwrap());
    replicas.iter().for_each(|it| drop(it.sql("STOP SLAVE SQL_THREAD").unwrap()));
    let history = stand::writer(&lab).stop().unwrap();
    let has = lab.host("db1").unwrap().sql_value("SELECT @@global.gtid_binlog_pos").unwrap();
    for replica in &replicas {
        stand::wait("the replicas to have received it all", || {
            replica.sql("SHOW SLAVE STATUS").unwrap()[0].contains(&has)
        });
    }
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    let primary = stand::new_primary(&group, "db1");
    let lost = lost_acked(&history, &lab.host(&primary).unwrap()).unwrap();
    assert_eq!(lost.len(), 0, "of {}", history.acked().count());
}

/// A primary that was restarted writable, and is none any more: made read-only, its clients cut.
#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_that_comes_back_open_is_made_read_only_and_its_clients_are_cut() {
    let lab = lab();
    let group = stand::group_in(&lab, "fenced", &[]);
    let db1 = lab.host("db1").unwrap();
    db1.kill_mysqld().unwrap();
    let primary = stand::new_primary(&group, "db1");
    db1.start_mysqld().unwrap();
    group.wait_healthy(SOON).expect("db1 rejoins");
    let mut client = db1.session().unwrap();
    client.sql(SOON, "SELECT 1").unwrap();
    db1.sql("STOP SLAVE; SET GLOBAL read_only = OFF").unwrap();
    stand::wait("db1 to be read-only", || stand::writable(&lab) == [&*primary]);
    stand::wait("its client to be cut", || client.sql(SOON, "SELECT 1").is_err());
}
