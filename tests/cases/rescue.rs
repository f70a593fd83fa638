//! What only the dead primary's binary log holds is fetched over SSH and executed by its successor.

use conclave_lab::{Group, Host, Lab, LabSpec};

use super::stand::{self, SOON};

/// A cluster without semi-synchronous replication.
fn asynchronous<'a>(lab: &'a Lab, mode: &str, policy: &[&str]) -> Group<'a> {
    lab.host("db1").unwrap().sql("SET GLOBAL rpl_semi_sync_source_enabled = OFF").unwrap();
    stand::group_in(lab, mode, policy)
}

/// Rows that only db1 has, across a rotation of its log: many small transactions, one with a megabyte
/// of bytes that are no text, a change of the schema, and a word that tools stumble over.
fn tail(lab: &Lab) -> Host {
    for replica in ["db2", "db3"] {
        lab.split("db1", replica).unwrap();
    }
    let db1 = lab.host("db1").unwrap();
    let rows = |from: u32| {
        let row = |n: u32| format!("INSERT INTO app.w (id, v) VALUES ({n}, 'tail'); ");
        (from..from + 300).map(row).collect::<String>()
    };
    db1.sql_within(SOON, &rows(1)).unwrap();
    let odd = "INSERT INTO app.w (id, v) VALUES (9001, 'ROLLBACK'); FLUSH BINARY LOGS; \
               CREATE TABLE app.late (id INT PRIMARY KEY, b LONGBLOB); \
               INSERT INTO app.late VALUES (1, REPEAT(UNHEX('00FF0A27'), 262144))";
    db1.sql_within(SOON, odd).unwrap();
    db1.sql_within(SOON, &rows(1001)).unwrap();
    db1
}

fn value(host: &Host, sql: &str) -> String {
    host.sql_value(sql).unwrap_or_else(|error| error.to_string())
}

/// What there is of the tail, as a text that is the same on servers that have all of it.
fn state(host: &Host) -> String {
    let sums = host.sql("CHECKSUM TABLE app.w, app.t, app.late");
    let count = value(host, "SELECT COUNT(*) FROM app.w");
    format!("{count} rows, {:?}", sums.map_err(|error| error.to_string()))
}

fn report(group: &Group<'_>) -> String {
    group.expect("m1", &["report", "app1"]).expect("the report")
}

/// The log of db1 ends so many bytes earlier, as after a write that was cut short.
fn tear(db1: &Host, bytes: u64) {
    let index = std::fs::read_to_string(db1.srv().join("data/binlog.index")).unwrap();
    let newest = index.lines().last().unwrap().trim_start_matches("./").to_owned();
    let file = std::fs::File::options().write(true).open(db1.srv().join("data").join(newest));
    let file = file.unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

/// Files of a rescue that lie on a server's disk.
fn leftovers(host: &Host) -> Vec<String> {
    let dir = std::fs::read_dir(host.srv().join("data")).unwrap();
    let names = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("rescue")).collect()
}

#[test]
fn rows_that_only_the_dead_primary_had_are_on_all_servers_after_the_failover() {
    let lab = stand::lab();
    let group = asynchronous(&lab, "fenced", &["last_failover_minutes = 0"]);
    let db1 = tail(&lab);
    let before = state(&db1);
    assert!(before.starts_with("601 rows"), "{before}");
    db1.kill_mysqld().unwrap();
    let primary = stand::new_primary(&group, "db1");
    let new = lab.host(&primary).unwrap();
    assert_eq!(state(&new), before);
    let said = report(&group);
    assert!(said.contains("from the disk of db1: 603 transaction(s)"), "{said}");
    assert!(said.contains("binary log was read to its end"), "{said}");
    assert_eq!(leftovers(&new), [""; 0]);
    lab.heal().unwrap();
    db1.start_mysqld().unwrap();
    group.wait_healthy(SOON).expect("db1 is a replica: it has nothing extra");
    for host in lab.servers() {
        stand::wait("the tail on all servers", || state(&host) == before);
    }
}

#[test]
fn torn_end_of_the_dead_primarys_log_is_left_out_and_told() {
    let lab = stand::lab();
    let group = asynchronous(&lab, "fenced", &[]);
    let db1 = tail(&lab);
    // It is dead before anybody can have read its log.
    group.expect("m1", &["pause", "app1"]).unwrap();
    db1.kill_mysqld().unwrap();
    tear(&db1, 10);
    group.expect("m1", &["resume", "app1"]).unwrap();
    let primary = stand::new_primary(&group, "db1");
    let rows = value(&lab.host(&primary).unwrap(), "SELECT COUNT(*) FROM app.w");
    assert_eq!(rows, "600", "the last one was cut short");
    let said = report(&group);
    assert!(said.contains("half a transaction at its end was left out"), "{said}");
}

#[test]
fn rescue_that_runs_into_a_conflicting_row_keeps_the_file_and_the_report_names_the_loss() {
    let lab = stand::lab();
    let group = asynchronous(&lab, "fenced", &[]);
    let db1 = tail(&lab);
    for replica in ["db2", "db3"] {
        let sql = "SET GLOBAL super_read_only = OFF; SET SESSION sql_log_bin = 0; \
                   INSERT INTO app.w (id, v) VALUES (1100, 'mine'); \
                   SET GLOBAL super_read_only = ON";
        lab.host(replica).unwrap().sql(sql).unwrap();
    }
    db1.kill_mysqld().unwrap();
    let primary = stand::new_primary(&group, "db1");
    let new = lab.host(&primary).unwrap();
    let said = report(&group).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("are still on its disk and not on the new primary"), "{said}");
    assert!(said.contains("error 1062"), "{said}");
    assert!(said.contains("mysqlbinlog -vv /srv/data/conclave-rescue.e1-"), "{said}");
    assert_eq!(leftovers(&new).len(), 1, "{:?}", leftovers(&new));
    assert_eq!(stand::reached_writable(&lab), [&*primary]);
}

#[test]
fn limit_of_the_loss_refuses_a_failover_whose_rescue_fails() {
    let lab = stand::lab();
    let group = asynchronous(&lab, "fenced", &["max_loss_transactions = 10"]);
    let db1 = tail(&lab);
    // What makes the rescue impossible: the replicas' relay logs cannot be written beside.
    for replica in ["db2", "db3"] {
        let dir = lab.host(replica).unwrap().srv().join("data/relay-conclave_rescue.index");
        std::fs::create_dir(dir).unwrap();
    }
    db1.kill_mysqld().unwrap();
    let is_undone = |cluster: &serde_json::Value| {
        cluster["epoch"].as_u64() >= Some(1) && cluster["attempt"].is_null()
    };
    group.wait_cluster("waiting for the attempt to be undone", SOON, is_undone).unwrap();
    let said = group.expect("m1", &["report", "app1-1"]).unwrap();
    assert!(said.contains("undone"), "{said}");
    for replica in ["db2", "db3"] {
        let dir = lab.host(replica).unwrap().srv().join("data/relay-conclave_rescue.index");
        std::fs::remove_dir(dir).unwrap();
    }
    let primary = stand::new_primary(&group, "db1");
    assert_eq!(value(&lab.host(&primary).unwrap(), "SELECT COUNT(*) FROM app.w"), "601");
}

#[test]
fn without_a_way_to_the_dead_primarys_host_best_effort_goes_on_and_says_what_it_does_not_know() {
    let lab = stand::lab();
    let group = asynchronous(&lab, "best_effort", &[]);
    let db1 = tail(&lab);
    lab.isolate("db1").unwrap();
    db1.kill_mysqld().unwrap();
    let primary = stand::new_primary(&group, "db1");
    assert_eq!(value(&lab.host(&primary).unwrap(), "SELECT COUNT(*) FROM app.w"), "0");
    let said = report(&group).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("is lost or still on its disk"), "{said}");
}

#[test]
fn primary_of_four_whose_acker_is_lost_with_it_is_replaced_by_what_its_own_disk_holds() {
    let lab = Lab::up_replicated(LabSpec { servers: 4, ..LabSpec::default() }).unwrap();
    let group = super::quorum::group(&lab, "acks = 1", &[]);
    let mut writer = stand::writer(&lab);
    // From now on db4 alone acknowledges.
    for replica in ["db2", "db3"] {
        lab.split("db1", replica).unwrap();
    }
    stand::writes_again(&mut writer, stand::now());
    stand::writes_again(&mut writer, stand::now());
    let at = stand::now();
    lab.host("db4").unwrap().power_off().unwrap();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    lab.heal().unwrap();
    let primary = stand::new_primary(&group, "db1");
    stand::writes_again(&mut writer, at);
    let said = report(&group);
    assert!(said.contains("from the disk of db1"), "{said}");
    stand::nothing_lost(&lab, writer, &primary);
}
