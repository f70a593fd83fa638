//! The candidate is lost past the point of no return, or held up by what it has received in part.

use conclave_lab::{Group, Lab, LabSpec, freeze::Frozen};

use super::stand::{self, SOON};

/// db1 is dead, entry 9 names this candidate, and no acker reaches it: so it is not opened.
fn past_entry_nine(lab: &Lab, group: &Group<'_>, candidate: &str) {
    // Nothing is under way when it is killed: the candidate lacks nothing that it could not fetch.
    stand::nothing_lost(lab, stand::writer(lab), "db1");
    let others = lab.servers().into_iter().map(|host| host.name());
    let ackers = others.filter(|name| name != "db1" && name != candidate);
    ackers.for_each(|name| lab.split(candidate, &name).unwrap());
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    group
        .wait_cluster("waiting for entry 9", SOON, |cluster| {
            cluster["attempt"]["stage"] == "promote"
        })
        .unwrap();
}

fn outcome_of(group: &Group<'_>, id: &str) -> String {
    let report = group.expect("m1", &["report", id, "-o", "json"]).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    report["outcome"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn candidate_killed_past_the_point_of_no_return_is_superseded_within_the_interval() {
    let lab = Lab::up_replicated(LabSpec { servers: 4, ..LabSpec::default() }).unwrap();
    let group = stand::group(&lab, &[]);
    // In the rack of db1, which it is to stay in.
    past_entry_nine(&lab, &group, "db4");
    lab.host("db4").unwrap().kill_mysqld().unwrap();
    let mut writer = lab.write(&conclave_lab::WriterSpec::default()).unwrap();
    stand::writes_again(&mut writer, stand::now());
    let primary = stand::new_primary(&group, "db1");
    assert!(["db2", "db3"].contains(&&*primary), "{primary}");
    assert_eq!(outcome_of(&group, "app1-1"), "superseded");
    assert_eq!(outcome_of(&group, "app1-2"), "promoted");
    let report = group.expect("m2", &["report", "app1-2"]).unwrap();
    assert!(report.contains("db1, ") && report.contains("db4, "), "both are revoked: {report}");
    // Both come back and follow, or have something of their own and are shown.
    lab.heal().unwrap();
    for name in ["db1", "db4"] {
        lab.host(name).unwrap().start_mysqld().unwrap();
    }
    let cluster = group.wait_healthy(SOON).expect("both rejoin");
    assert_eq!((&cluster["primary"], &cluster["epoch"]), (&primary.as_str().into(), &2.into()));
    assert_eq!(stand::writable(&lab), [&*primary]);
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn candidate_of_three_killed_past_the_point_of_no_return_waits_for_an_acker_and_goes_on() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    past_entry_nine(&lab, &group, "db2");
    lab.host("db2").unwrap().kill_mysqld().unwrap();
    stand::wait_problem(&group, "problem.primary_down");
    // db3 alone could be promoted, and its writes would hang.
    let explained = group.expect("m1", &["explain", "app1"]).unwrap();
    assert!(explained.contains("gate.too_few_ackers"), "{explained}");
    assert!(stand::reached_writable(&lab).is_empty(), "somebody takes writes");
    lab.heal().unwrap();
    lab.host("db2").unwrap().start_mysqld().unwrap();
    let mut writer = lab.write(&conclave_lab::WriterSpec::default()).unwrap();
    stand::writes_again(&mut writer, stand::now());
    let primary = stand::new_primary(&group, "db1");
    lab.host("db1").unwrap().start_mysqld().unwrap();
    group.wait_healthy(SOON).expect("db1 rejoins");
    assert_eq!(stand::writable(&lab), [&*primary]);
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn half_a_transaction_on_each_replica_does_not_hold_the_failover_up() {
    let lab = stand::lab_with_error_log();
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    // Each receiver stands still where it has written a part of a transaction.
    let hold = |name: &str| {
        let host = lab.host(name).unwrap();
        Frozen::while_it_syncs(&host, "name LIKE 'thread/sql/%\\_io'", 7).unwrap()
    };
    let held = ["db2", "db3"].map(hold);
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    let is_open = |cluster: &serde_json::Value| cluster["attempt"].is_object();
    group.wait_cluster("waiting for the attempt", SOON, is_open).unwrap();
    drop(held);
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    stand::nothing_lost(&lab, writer, &primary);
}
