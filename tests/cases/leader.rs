//! The leader dies with the primary, or in the middle of a failover.

use std::{fs, path::Path};

use conclave_lab::{Group, Lab, Signal, Writer};
use serde_json::Value;

use super::stand::{self, SOON};

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
        .wait_cluster("waiting for the restarted manager", SOON, |cluster| {
            cluster["ballots"].as_array().is_some_and(|ballots| {
                ballots.iter().filter(|ballot| ballot["answer"] == "up").count() == 3
            })
        })
        .expect("the killed manager rejoins by itself");
}

/// Waits until a manager's log shows the beginning of a step with this goal.
fn wait_step(log: &Path, goal: &str) {
    let shows = format!("goal=\"{goal}\"");
    let is_begun = || fs::read_to_string(log).unwrap_or_default().contains(&shows);
    stand::wait_quickly(goal, is_begun);
}

/// Kills the leader as soon as its log shows the beginning of a step with this goal.
fn leader_lost_at(mode: &str, goal: &str) {
    let lab = stand::lab();
    let mut group = stand::group_in(&lab, mode, &[]);
    let writer = stand::writer(&lab);
    let leader = group.leader().unwrap().expect("a leader");
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    wait_step(&group.log(&leader), goal);
    group.kill(&leader).unwrap();
    succeeded(&lab, &group, writer, at);
}

/// Another leader brings the attempt to its end.
fn succeeded(lab: &Lab, group: &Group<'_>, mut writer: Writer, at: u64) {
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(group, "db1");
    stand::nothing_lost(lab, writer, &primary);
    let cluster = group.cluster().unwrap();
    assert_eq!(cluster["epoch"], 1, "a second attempt was needed");
    // The other replica follows, by the hand of the new leader.
    let other = if primary == "db2" { "db3" } else { "db2" };
    group
        .wait_cluster("waiting for the other replica", SOON, |cluster| {
            stand::problems(cluster).iter().all(|code| !code.contains("replica"))
                && stand::role(cluster, other) == "replica"
        })
        .unwrap();
}

#[test]
fn leader_lost_while_it_fences_is_succeeded_in_the_same_attempt() {
    leader_lost_at("quorum", "fence");
}

#[test]
fn leader_lost_while_it_stops_receivers_is_succeeded_in_the_same_attempt() {
    leader_lost_at("quorum", "stop_receiver");
}

#[test]
fn leader_lost_while_the_candidate_recovers_is_succeeded_in_the_same_attempt() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let leader = group.leader().unwrap().expect("a leader");
    // A long report locks the table, so the replicas receive and do not apply.
    let replicas = ["db2", "db3"].map(|name| lab.host(name).unwrap());
    let reports = "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(50)'";
    let at = std::thread::scope(|scope| {
        for replica in &replicas {
            // Ends by the KILL below, which it takes for an error.
            let report = "LOCK TABLES app.t READ; SELECT SLEEP(50)";
            scope.spawn(|| replica.sql_within(SOON, report).is_err());
            stand::wait("the lock", || !replica.sql(reports).unwrap().is_empty());
        }
        writer.wait_ok_after(stand::now(), SOON).expect("a write that is not applied");
        let at = stand::now();
        lab.host("db1").unwrap().kill_mysqld().unwrap();
        wait_step(&group.log(&leader), "apply");
        group.kill(&leader).unwrap();
        for replica in &replicas {
            let report = replica.sql_value(reports).unwrap();
            replica.sql(&format!("KILL {report}")).unwrap();
        }
        at
    });
    succeeded(&lab, &group, writer, at);
}

#[test]
fn leader_lost_while_the_candidate_forgets_its_source_is_succeeded_in_the_same_attempt() {
    leader_lost_at("quorum", "detach");
}

#[test]
fn leader_lost_while_ackers_turn_to_the_candidate_is_succeeded_in_the_same_attempt() {
    leader_lost_at("quorum", "follow");
}

#[test]
fn leader_lost_while_it_promotes_is_succeeded_in_the_same_attempt() {
    leader_lost_at("quorum", "open_for_writes");
}

#[test]
fn leader_lost_while_it_moves_the_address_is_succeeded_in_the_same_attempt() {
    leader_lost_at("quorum", "take_vip");
}

/// Without acknowledgements every replica is repointed after the promotion.
#[test]
fn leader_lost_while_it_repoints_is_succeeded_in_the_same_attempt() {
    leader_lost_at("fenced", "follow");
}

#[test]
fn leader_lost_while_it_undoes_is_succeeded_and_the_next_attempt_promotes() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &["progress_budget_ms = 1000"]);
    let mut writer = stand::writer(&lab);
    let leader = group.leader().unwrap().expect("a leader");
    // An actor of a far epoch keeps ours out, so the receiver of db3 cannot be stopped.
    let db3 = lab.host("db3").unwrap();
    let held = "SELECT GET_LOCK('conclave.app1', 5), GET_LOCK('conclave.app1.e30', 5)";
    let holder = "SELECT COALESCE(IS_USED_LOCK('conclave.app1.e30'), 0)";
    let at = stand::now();
    let keep = format!("{held}; SELECT SLEEP(50)");
    std::thread::scope(|scope| {
        // Ends by the KILL below, which it takes for an error.
        scope.spawn(|| db3.sql_within(SOON, &keep).is_err());
        stand::wait("the foreign lock", || db3.sql_value(holder).unwrap() != "0");
        lab.host("db1").unwrap().kill_mysqld().unwrap();
        wait_step(&group.log(&leader), "resume_receiver");
        group.kill(&leader).unwrap();
        group
            .wait_cluster("waiting for the end of the first attempt", SOON, |cluster| {
                cluster["last_attempt"]["id"] == "app1-1"
            })
            .unwrap();
        let connection = db3.sql_value(holder).unwrap();
        db3.sql(&format!("KILL {connection}")).unwrap();
    });
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
    let asked = group.names().into_iter().find(|name| *name != leader).unwrap();
    let report = group.expect(&asked, &["report", "app1-1"]).unwrap();
    assert!(report.contains("aborted"), "{report}");
}

/// The status of one manager in the group's document.
fn member(status: &Value, name: &str) -> Value {
    let managers = status["group"]["managers"].as_array().cloned().unwrap_or_default();
    managers.into_iter().find(|m| name == format!("m{}", m["id"])).unwrap_or_default()
}

/// Whether the leader hears the manager, and it has all of the log.
fn is_caught_up(status: &Value, name: &str) -> bool {
    let member = member(status, name);
    member["role"] == "follower"
        && member["last_log"].is_u64()
        && member["last_log"] == status["group"]["last_log"]
}

#[test]
fn stopped_leader_is_replaced_and_does_not_disturb_when_it_wakes_up() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let writer = stand::writer(&lab);
    let stopped = group.leader().unwrap().expect("a leader");
    group.manager(&stopped).unwrap().signal(Signal::SIGSTOP).unwrap();
    let others: Vec<String> = group.names().into_iter().filter(|name| *name != stopped).collect();
    let ask = |group: &Group<'_>| group.status_of(&others).unwrap();
    stand::wait("another leader", || {
        let leader = ask(&group)["group"]["leader"].as_u64();
        leader.is_some_and(|id| format!("m{id}") != stopped)
    });
    let before = ask(&group);
    let (leader, term) = (&before["group"]["leader"], &before["group"]["term"]);
    group.manager(&stopped).unwrap().signal(Signal::SIGCONT).unwrap();
    stand::wait("the woken manager", || is_caught_up(&ask(&group), &stopped));
    let healthy = group.wait_healthy(SOON).expect("healthy");
    let after = ask(&group);
    assert_eq!((&after["group"]["leader"], &after["group"]["term"]), (leader, term));
    assert_eq!((healthy["primary"].as_str(), healthy["epoch"].as_u64()), (Some("db1"), Some(0)));
    stand::nothing_lost(&lab, writer, "db1");
}

#[test]
fn killed_follower_rejoins_by_itself_with_all_of_the_log() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let leader = group.leader().unwrap().expect("a leader");
    let follower = group.names().into_iter().find(|name| *name != leader).unwrap();
    group.kill(&follower).unwrap();
    // What it misses.
    group.expect(&leader, &["pause", "app1", "--reason", "an upgrade"]).unwrap();
    stand::wait("its silence to be shown", || {
        member(&group.status().unwrap(), &follower)["role"] == "silent"
    });
    group.start(&follower).unwrap();
    stand::wait("it to catch up", || is_caught_up(&group.status().unwrap(), &follower));
    // By its own word, with the leader out of reach of whoever asks.
    let list = group.cli_of(&follower, &["cluster", "list", "-o", "json"]).unwrap();
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list["clusters"][0]["is_paused"], true);
    group.expect(&follower, &["resume", "app1"]).unwrap();
    group.wait_healthy(SOON).expect("healthy");
}
