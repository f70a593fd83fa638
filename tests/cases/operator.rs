//! What operators ask for, and what they are told.

use super::stand::{self, SOON};

#[test]
fn last_failover_interval_outlives_a_restart_of_all_managers() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    // Nothing is under way when it is killed, so nothing extra is left on its disk.
    stand::nothing_lost(&lab, stand::writer(&lab), "db1");
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    let primary = stand::new_primary(&group, "db1");
    let mut writer = stand::writer(&lab);
    lab.host("db1").unwrap().start_mysqld().unwrap();
    group.wait_healthy(SOON).expect("db1 rejoins");
    for name in group.names() {
        group.kill(&name).unwrap();
    }
    for name in group.names() {
        group.start(&name).unwrap();
    }
    group.wait_healthy(SOON).expect("the group is back");
    lab.host(&primary).unwrap().kill_mysqld().unwrap();
    let down = stand::wait_problem(&group, "problem.primary_down");
    assert_eq!((down["epoch"].as_u64(), down["primary"].as_str()), (Some(1), Some(&*primary)));
    let explained = group.expect("m1", &["explain", "app1"]).unwrap();
    assert!(explained.contains("gate.last_failover_interval"), "{explained}");
    // Eight hours less what the group was led since.
    let left_s = down["interval_left_s"].as_u64().unwrap();
    assert!((25_200..=28_800).contains(&left_s), "{left_s}");
    assert!(explained.contains("next automatic failover possible in "), "{explained}");
    let at = stand::now();
    let waived = ["failover", "app1", "--ignore-last-failover", "--yes"];
    let output = stand::say(&group, "m3", &waived);
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && answer.contains("app1-2"), "{output:?}");
    stand::writes_again(&mut writer, at);
    let next = stand::new_primary(&group, &primary);
    stand::nothing_lost(&lab, writer, &next);
}

#[test]
fn two_operators_at_once_lead_to_one_failover() {
    let lab = stand::lab();
    let group = stand::group(&lab, &["automatic = false"]);
    let mut writer = stand::writer(&lab);
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::wait_problem(&group, "problem.primary_down");
    let args = ["failover", "app1", "--yes"];
    let outputs = std::thread::scope(|scope| {
        let ask = |host: &'static str| {
            scope.spawn({
                let group = &group;
                move || stand::say(group, host, &args)
            })
        };
        [ask("m1"), ask("m2")].map(|thread| thread.join().unwrap())
    });
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let cluster = group.cluster().unwrap();
    assert_eq!(cluster["epoch"], 1, "one failover, not two: {outputs:?}");
    assert!(outputs.iter().any(|output| output.status.success()), "{outputs:?}");
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn failover_of_a_live_primary_is_refused_with_the_reason() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let writer = stand::writer(&lab);
    let output = group.cli("m1", &["failover", "app1", "--yes"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("gate.primary_alive"), "{text}");
    let dry = group.expect("m1", &["failover", "app1", "--dry-run"]);
    let dry = dry.unwrap_or_else(|error| error.to_string());
    assert!(dry.contains("stop_receiver") || dry.contains("receiver"), "{dry}");
    assert_eq!(group.cluster().unwrap()["epoch"], 0);
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn paused_cluster_is_not_failed_over_until_it_is_resumed() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    group.expect("m2", &["pause", "app1", "--reason", "night shift"]).unwrap();
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    let down = stand::wait_problem(&group, "problem.primary_down");
    assert_eq!(down["epoch"], 0);
    let explained = group.expect("m1", &["explain", "app1"]).unwrap();
    assert!(explained.contains("night shift"), "{explained}");
    group.expect("m3", &["resume", "app1"]).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
}
