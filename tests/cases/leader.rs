//! The leader dies with the primary, or in the middle of a failover.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::stand;

#[test]
fn leader_and_primary_killed_together_are_both_replaced() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let leader = group.leader().unwrap().expect("a leader");
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    group.kill(&leader).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
    group.start(&leader).unwrap();
    group
        .wait_cluster("waiting for the restarted manager", stand::SOON, |cluster| {
            cluster["ballots"].as_array().is_some_and(|ballots| {
                ballots.iter().filter(|ballot| ballot["answer"] == "up").count() == 3
            })
        })
        .expect("the killed manager rejoins by itself");
}

/// Kills the leader as soon as its log shows the beginning of a step with this goal.
fn leader_lost_at(goal: &str) {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let leader = group.leader().unwrap().expect("a leader");
    let log = group.log(&leader);
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    let until = Instant::now() + stand::SOON;
    let shows = format!("goal=\"{goal}\"");
    while !fs::read_to_string(&log).unwrap_or_default().contains(&shows) {
        assert!(Instant::now() < until, "the leader never began {goal}");
        std::thread::sleep(Duration::from_millis(1));
    }
    group.kill(&leader).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
    let cluster = group.cluster().unwrap();
    assert_eq!(cluster["epoch"], 1, "a second attempt was needed");
}

#[test]
fn leader_lost_while_it_stops_receivers_is_succeeded_in_the_same_attempt() {
    leader_lost_at("stop_receiver");
}

#[test]
fn leader_lost_while_the_candidate_recovers_is_succeeded_in_the_same_attempt() {
    leader_lost_at("apply");
}

#[test]
fn leader_lost_while_it_promotes_is_succeeded_in_the_same_attempt() {
    leader_lost_at("open_for_writes");
}

#[test]
fn leader_lost_while_it_moves_the_address_is_succeeded_in_the_same_attempt() {
    leader_lost_at("take_vip");
}
