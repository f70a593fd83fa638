//! A leader that is stopped with SIGSTOP inside a step, and goes on when all is over.

use std::{fs, time::Duration};

use conclave_lab::{Host, Lab, READER_VIP, Signal, WRITER_VIP};

use super::stand::{self, SOON};

/// What a stale hand could change on a server and its host.
fn state(host: &Host) -> Vec<String> {
    let sql = "SELECT CONCAT_WS(' ', @@read_only, @@super_read_only, @@offline_mode, \
               @@rpl_semi_sync_source_enabled, @@rpl_semi_sync_replica_enabled, \
               @@gtid_executed, (SELECT host FROM \
               performance_schema.replication_connection_configuration), (SELECT service_state \
               FROM performance_schema.replication_connection_status), (SELECT service_state FROM \
               performance_schema.replication_applier_status))";
    let token = host.run("cat", &["/var/lib/conclave/turnstile.app1"], b"").unwrap();
    vec![
        host.sql_value(sql).unwrap(),
        format!("mysqld {:?}", host.mysqld_pid().unwrap()),
        format!("writer {}", host.has_address(WRITER_VIP).unwrap()),
        format!("reader {}", host.has_address(READER_VIP).unwrap()),
        format!("token {}", String::from_utf8_lossy(&token.stdout).trim()),
    ]
}

fn states(lab: &Lab) -> Vec<Vec<String>> {
    lab.servers().iter().map(state).collect()
}

/// Waits until nothing changes any more for longer than upkeep takes to notice anything.
fn settled(lab: &Lab) -> Vec<Vec<String>> {
    let mut before = states(lab);
    stand::wait("the servers to be left alone", || {
        std::thread::sleep(Duration::from_millis(2500));
        let now = states(lab);
        std::mem::replace(&mut before, now) == before
    });
    before
}

#[test]
fn leader_stopped_in_any_step_changes_nothing_on_any_server_when_it_goes_on() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &["last_failover_minutes = 0"]);
    let steps = ["stop_receiver", "fence", "detach", "follow", "open_for_writes", "take_vip"];
    let mut old = "db1".to_owned();
    for (round, goal) in steps.into_iter().enumerate() {
        // Nothing is under way when it is killed, so nothing extra is left on its disk.
        stand::nothing_lost(&lab, stand::writer(&lab), &old);
        let leader = group.leader().unwrap().expect("a leader");
        let log = group.log(&leader);
        let before = fs::read_to_string(&log).unwrap().len();
        let shows = format!("goal=\"{goal}\"");
        let at = stand::now();
        lab.host(&old).unwrap().kill_mysqld().unwrap();
        stand::wait_quickly(goal, || fs::read_to_string(&log).unwrap()[before..].contains(&shows));
        group.manager(&leader).unwrap().signal(Signal::SIGSTOP).unwrap();
        let mut writer = lab.write(&conclave_lab::WriterSpec::default()).unwrap();
        stand::writes_again(&mut writer, at);
        let primary = stand::new_primary(&group, &old);
        stand::nothing_lost(&lab, writer, &primary);
        lab.host(&old).unwrap().start_mysqld().unwrap();
        let healthy = group.wait_healthy(SOON).unwrap();
        assert_eq!(healthy["epoch"], round as u64 + 1, "{goal}: another attempt was needed");
        let before = settled(&lab);
        group.manager(&leader).unwrap().signal(Signal::SIGCONT).unwrap();
        // It hears of its successor, and whatever it still had in hand has met a lock or a turnstile.
        stand::wait("the stopped leader to follow", || {
            let status = group.status_of(std::slice::from_ref(&leader)).unwrap();
            status["group"]["leader"].is_u64()
                && status["group"]["leader"].as_u64() != leader[1..].parse().ok()
        });
        assert_eq!(settled(&lab), before, "{goal}: something was changed by {leader}");
        group.wait_healthy(SOON).unwrap();
        old = primary;
    }
}
