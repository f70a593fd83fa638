//! A lie of each kind is planted in a made-up run that is else well: the checker that is meant for
//! it finds it, by what it says.

use std::collections::BTreeSet;

use conclave_lab::{Op, Outcome};

use super::{Finding, Verdict, check, verdict};
use crate::record::{
    Action, Aim, Client, Deed, Ending, Expect, Quarantined, Reading, Record, Rows, Sighting, Stall,
};

/// The moment at which db1 is killed, in microseconds.
const KILLED: u64 = 10_000_000;
/// The moment at which the attempt is opened.
const OPENED: u64 = 10_200_000;
/// The moment at which entry 9 is proposed.
const PROMOTED: u64 = 10_400_000;
/// What the wall clock is ahead of the monotonic one.
const WALL: u64 = 1_700_000_000_000_000;

fn op(id: u64, server_id: u32, invoked_us: u64, outcome: Outcome) -> Op {
    let completed_us = invoked_us + 5_000;
    Op { id, conn: 0, invoked_us, completed_us, outcome, error: None, server_id }
}

fn sighting(manager: &str, seen_us: u64) -> Sighting {
    Sighting {
        manager: manager.into(),
        seen_us,
        id: "app1-1".into(),
        epoch: 1,
        opened_wall_ms: (WALL + OPENED) / 1000,
        old_primary: "db1".into(),
        new_primary: Some("db2".into()),
        promoted_after_us: Some(PROMOTED - OPENED),
        outcome: "promoted".into(),
        cause: "a majority said down".into(),
        is_asked_for: false,
    }
}

/// db1 is killed and db2 takes over; nothing is wrong.
fn sound() -> Record {
    let names = |names: [&str; 3]| names.map(str::to_owned).to_vec();
    let address = vec![
        op(1, 1, 5_000_000, Outcome::Ok),
        op(2, 1, KILLED - 1_000, Outcome::Unknown),
        op(3, 2, 10_600_000, Outcome::Ok),
        op(4, 2, 10_700_000, Outcome::Fail),
    ];
    let watcher = vec![op(11, 1, 6_000_000, Outcome::Ok), op(12, 1, 11_000_000, Outcome::Fail)];
    let watched = Aim::Server { server: "db1".into() };
    let rows = |server: &str| Rows { server: server.into(), t: vec![1, 3], w: vec![11] };
    Record {
        nemesis: "kill".into(),
        seed: 1,
        expects: Expect::Failover,
        servers: names(["db1", "db2", "db3"]),
        managers: names(["m1", "m2", "m3"]),
        began_us: 1_000_000,
        clocks: vec![Reading { us: 1_000_000, wall_us: WALL + 1_000_000 }],
        clients: vec![
            Client { aim: Aim::Address, ops: address },
            Client { aim: watched, ops: watcher },
        ],
        actions: vec![action(KILLED, Deed::KillServer { server: "db1".into() })],
        stalls: Vec::new(),
        sightings: vec![sighting("m1", 12_000_000), sighting("m2", 30_000_000)],
        ending: Ending {
            healed_us: 20_000_000,
            settled_us: Some(21_000_000),
            unsettled: None,
            quarantined: Vec::new(),
            healthy_us: Some(22_000_000),
            unhealthy: None,
            primary: Some("db2".into()),
            epoch: Some(1),
            rows: vec![rows("db2"), rows("db1"), rows("db3")],
        },
        failures: Vec::new(),
    }
}

fn action(at_us: u64, deed: Deed) -> Action {
    Action { at_us, done_us: at_us + 1_000, deed, proof: Some("seen".into()) }
}

/// Changes the sound run and returns the one finding that is not valid.
fn found(plant: impl FnOnce(&mut Record)) -> Finding {
    let mut record = sound();
    plant(&mut record);
    let all = check(&record);
    let bad: Vec<Finding> =
        all.iter().filter(|finding| finding.verdict != Verdict::Valid).cloned().collect();
    assert_eq!(bad.len(), 1, "one checker is to speak up: {all:#?}");
    assert_eq!(verdict(&all), bad[0].verdict);
    bad[0].clone()
}

fn is_violation(finding: &Finding, checker: &str, says: &str) {
    assert_eq!((finding.checker.as_str(), finding.verdict), (checker, Verdict::Violation));
    assert!(finding.because[0].contains(says), "{finding:#?}");
}

#[test]
fn sound_run_is_valid() {
    let findings = check(&sound());
    assert_eq!(verdict(&findings), Verdict::Valid, "{findings:#?}");
    assert_eq!(findings.len(), 7);
    let names: BTreeSet<&str> = findings.iter().map(|finding| finding.checker.as_str()).collect();
    assert_eq!(names.len(), 7);
}

#[test]
fn acknowledged_row_that_the_final_primary_lacks_is_a_violation() {
    let lost = found(|record| record.ending.rows.iter_mut().for_each(|rows| rows.t = vec![3]));
    is_violation(&lost, "acknowledged", "row 1 of app.t was acknowledged, and db2 has it not");
}

#[test]
fn row_that_a_watcher_was_told_of_is_as_good_as_any() {
    let lost = found(|record| record.ending.rows.iter_mut().for_each(|rows| rows.w.clear()));
    is_violation(&lost, "acknowledged", "row 11 of app.w was acknowledged");
}

#[test]
fn row_of_unknown_outcome_may_be_there() {
    let mut record = sound();
    record.ending.rows.iter_mut().for_each(|rows| rows.t = vec![1, 2, 3]);
    assert_eq!(verdict(&check(&record)), Verdict::Valid);
}

#[test]
fn row_that_was_refused_and_is_there_is_a_violation() {
    let found =
        found(|record| record.ending.rows.iter_mut().for_each(|rows| rows.t = vec![1, 3, 4]));
    is_violation(&found, "acknowledged", "row 4 of app.t was refused and is there");
}

#[test]
fn row_that_nobody_asked_for_is_a_violation() {
    let found =
        found(|record| record.ending.rows.iter_mut().for_each(|rows| rows.t = vec![1, 3, 99]));
    is_violation(&found, "acknowledged", "row 99 of app.t is there, and no client's");
}

#[test]
fn replica_that_differs_from_its_primary_is_a_violation() {
    let found = found(|record| record.ending.rows[2].t = vec![1]);
    is_violation(&found, "acknowledged", "1 rows of app.t are on one of db2 and db3 only");
}

/// Sent to db1 by its own watcher after db2 acknowledged; on both servers at the end, so that only
/// its time tells.
fn second_primary(record: &mut Record, invoked_us: u64) {
    record.clients[1].ops.push(op(13, 1, invoked_us, Outcome::Ok));
    record.ending.rows.iter_mut().for_each(|rows| rows.w = vec![11, 13]);
}

#[test]
fn old_primary_that_acknowledges_after_entry_nine_is_a_violation() {
    let found = found(|record| second_primary(record, 10_700_000));
    is_violation(&found, "revoked", "db1 acknowledged row 13");
}

#[test]
fn late_answer_to_an_insert_that_was_sent_before_entry_nine_is_none() {
    let mut record = sound();
    second_primary(&mut record, PROMOTED - 1_000);
    record.clients[1].ops.last_mut().unwrap().completed_us = 15_000_000;
    assert_eq!(verdict(&check(&record)), Verdict::Valid);
}

#[test]
fn read_of_the_record_tells_of_entry_nine_where_the_new_primary_acknowledged_nothing_yet() {
    let mut record = sound();
    record.clients[0].ops.retain(|op| op.id < 3);
    record.ending.rows.iter_mut().for_each(|rows| rows.t = vec![1]);
    second_primary(&mut record, 11_000_000);
    assert_eq!(verdict(&check(&record)), Verdict::Valid, "nobody knew of entry 9 by then");
    record.clients[1].ops.last_mut().unwrap().invoked_us = 12_000_001;
    record.clients[1].ops.last_mut().unwrap().completed_us = 12_000_002;
    assert_eq!(verdict(&check(&record)), Verdict::Violation);
}

#[test]
fn server_that_reigns_again_may_acknowledge_again() {
    let mut record = sound();
    let again = Sighting {
        id: "app1-2".into(),
        epoch: 2,
        opened_wall_ms: (WALL + 14_000_000) / 1000,
        old_primary: "db2".into(),
        new_primary: Some("db1".into()),
        promoted_after_us: Some(100_000),
        ..sighting("m1", 16_000_000)
    };
    record.sightings.push(again);
    record.actions.push(action(13_500_000, Deed::KillServer { server: "db2".into() }));
    record.ending.epoch = Some(2);
    second_primary(&mut record, 15_000_000);
    assert_eq!(verdict(&check(&record)), Verdict::Valid, "{:#?}", check(&record));
    record.clients[1].ops.last_mut().unwrap().invoked_us = 13_000_000;
    record.clients[1].ops.last_mut().unwrap().completed_us = 13_001_000;
    assert_eq!(verdict(&check(&record)), Verdict::Violation);
}

#[test]
fn two_attempts_in_one_epoch_are_a_violation() {
    let found = found(|record| record.sightings[1].opened_wall_ms += 100);
    is_violation(&found, "attempts", "on record for an epoch");
}

#[test]
fn two_candidates_in_one_epoch_are_a_violation() {
    // The newer sighting is m2's, so db3 reigns for the other checkers: it answered the clients.
    let found = found(|record| {
        record.sightings[1].new_primary = Some("db3".into());
        record.clients[0].ops.iter_mut().filter(|op| op.id > 2).for_each(|op| op.server_id = 3);
    });
    is_violation(&found, "attempts", "epoch 1 made Some(\"db2\") the primary by m1");
}

#[test]
fn attempt_undone_after_entry_nine_is_a_violation() {
    let mut record = sound();
    record.sightings.iter_mut().for_each(|seen| seen.outcome = "aborted".into());
    let all = check(&record);
    let attempts = all.iter().find(|finding| finding.checker == "attempts").unwrap();
    is_violation(attempts, "attempts", "is aborted");
}

#[test]
fn epoch_that_nobody_told_of_is_unknown() {
    let found = found(|record| record.ending.epoch = Some(2));
    assert_eq!((found.checker.as_str(), found.verdict), ("attempts", Verdict::Unknown));
}

#[test]
fn attempt_without_a_fault_is_a_violation() {
    let replica = Deed::KillServer { server: "db3".into() };
    let plant = |record: &mut Record| record.actions = vec![action(KILLED, replica)];
    is_violation(&found(plant), "reason", "app1-1 replaces db1");
}

#[test]
fn attempt_long_after_the_repair_is_a_violation() {
    let plant = |record: &mut Record| {
        record.actions = vec![
            action(1_000_000, Deed::KillServer { server: "db1".into() }),
            action(2_000_000, Deed::StartServer { server: "db1".into() }),
        ];
        let late = 16_000_000;
        record.sightings.iter_mut().for_each(|seen| seen.opened_wall_ms += late / 1000);
        record.clients[0].ops.iter_mut().filter(|op| op.id > 2).for_each(|op| {
            op.invoked_us += late;
            op.completed_us += late;
        });
    };
    is_violation(&found(plant), "reason", "app1-1 replaces db1");
}

#[test]
fn attempt_without_a_fault_while_the_machine_stalled_is_unknown() {
    let found = found(|record| {
        let replica = Deed::KillServer { server: "db3".into() };
        record.actions = vec![action(KILLED, replica)];
        record.stalls.push(Stall { from_us: OPENED - 3_000_000, to_us: OPENED - 1_000_000 });
    });
    assert_eq!((found.checker.as_str(), found.verdict), ("reason", Verdict::Unknown));
}

#[test]
fn second_attempt_after_an_undone_one_that_fenced_has_its_reason() {
    let mut record = sound();
    record.actions = vec![
        action(1_000_000, Deed::Isolate { host: "db1".into() }),
        action(2_000_000, Deed::HealNetwork),
    ];
    let undone = Sighting {
        opened_wall_ms: (WALL + 1_500_000) / 1000,
        new_primary: None,
        promoted_after_us: None,
        outcome: "aborted".into(),
        ..sighting("m1", 3_000_000)
    };
    record.sightings.iter_mut().for_each(|seen| (seen.epoch, seen.id) = (2, "app1-2".into()));
    // Later than the aftermath of the fault itself.
    let later = 20_000_000;
    record.sightings.iter_mut().for_each(|seen| seen.opened_wall_ms += later / 1000);
    record.clients[0].ops.iter_mut().filter(|op| op.id > 2).for_each(|op| {
        op.invoked_us += later;
        op.completed_us += later;
    });
    record.sightings.push(undone);
    record.ending.epoch = Some(2);
    let findings = check(&record);
    assert_eq!(verdict(&findings), Verdict::Valid, "{findings:#?}");
    // Somebody started it in between: then it was well.
    record.actions.push(action(4_000_000, Deed::StartServer { server: "db1".into() }));
    assert_eq!(verdict(&check(&record)), Verdict::Violation);
}

#[test]
fn what_does_not_come_right_is_a_violation() {
    let found = found(|record| record.ending.unhealthy = Some("db3 is broken".into()));
    is_violation(&found, "converged", "not healthy: db3 is broken");
}

#[test]
fn server_in_quarantine_for_nothing_or_in_secret_is_a_violation() {
    let kept = |errant: &str, is_shown| Quarantined {
        server: "db1".into(),
        errant: errant.into(),
        is_shown,
    };
    let nothing = found(|record| record.ending.quarantined.push(kept("", true)));
    is_violation(&nothing, "converged", "the primary has all that it has");
    let secret = found(|record| record.ending.quarantined.push(kept("uuid:7", false)));
    is_violation(&secret, "converged", "no problem in status names it");
    let mut record = sound();
    record.ending.quarantined.push(kept("uuid:7", true));
    assert_eq!(verdict(&check(&record)), Verdict::Valid);
}

#[test]
fn run_whose_nemesis_did_not_bite_is_invalid() {
    let found = found(|record| record.actions[0].proof = None);
    assert_eq!((found.checker.as_str(), found.verdict), ("bite", Verdict::Invalid));
    assert_eq!(found.verdict.exit_code(), 2);
}

#[test]
fn run_that_is_to_lead_to_a_failover_and_does_not_is_invalid() {
    let mut record = sound();
    record.sightings.clear();
    record.ending.epoch = Some(0);
    record.clients[0].ops.retain(|op| op.id < 3);
    record.ending.rows.iter_mut().for_each(|rows| rows.t = vec![1]);
    assert_eq!(verdict(&check(&record)), Verdict::Invalid);
}

#[test]
fn failure_of_the_harness_is_unknown_and_hides_no_violation() {
    let failure = |record: &mut Record| record.failures.push("no disk space".into());
    let found = found(failure);
    assert_eq!((found.checker.as_str(), found.verdict), ("harness", Verdict::Unknown));
    let mut record = sound();
    failure(&mut record);
    second_primary(&mut record, 10_700_000);
    assert_eq!(verdict(&check(&record)), Verdict::Violation);
    assert_eq!(verdict(&check(&record)).exit_code(), 1);
}

#[test]
fn clocks_that_drifted_apart_leave_times_without_a_meaning() {
    let found = found(|record| {
        record.clocks.push(Reading { us: 2_000_000, wall_us: WALL + 2_150_000 });
    });
    assert_eq!((found.checker.as_str(), found.verdict), ("revoked", Verdict::Unknown));
}

#[test]
fn saved_record_is_judged_as_the_fresh_one() {
    let record = sound();
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
}
