//! The stored format: what was written must be read for ever, and only on purpose changes.

use std::path::Path;

use super::*;
use crate::{fixture::*, model::*};

/// One cluster in each stage of an attempt, and one with everything that is kept afterwards.
fn all_stages() -> GroupState {
    let mut out = GroupState { clock_ms: 1234, ..GroupState::default() };
    let stages = [
        ("freeze", {
            let mut group = Group::adopted();
            group.open();
            let steps = group.steps("stop_receiver");
            group.begin(steps[0]);
            group.end(steps[0], met(&run(1, 9)));
            group.begin(steps[1]);
            group.end(steps[1], StepOutcome::Unknown { why: "no answer".into() });
            group.begin(steps[1]);
            group
        }),
        ("recover", Group::elected()),
        ("promote", Group::passed()),
        ("repoint", Group::repointing()),
        ("undo", Group::undoing()),
        ("calm", calm()),
    ];
    for (name, group) in stages {
        let state = group.state.clusters.into_values().next().expect("one cluster");
        out.clusters.insert(name.into(), state);
    }
    out
}

/// Closed attempts, standings, chores, a pause.
fn calm() -> Group {
    let mut group = Group::repointing();
    let (cluster, epoch) = (ClusterName::from("app1"), Epoch(1));
    let outcome = Outcome::Promoted { left_behind: names(&[3]) };
    group.apply(Command::CloseAttempt { cluster, epoch, outcome, at_us: Some(Micros(40)) });
    let (cluster, errant) = (ClusterName::from("app1"), run(1, 1));
    group.apply(Command::Quarantine { cluster, epoch, server: name(1), errant });
    let cluster = ClusterName::from("app1");
    let goal = StepKind::Follow { source: name(2), acker: true, options: LinkOptions::default() };
    let planned = Planned { target: name(3), goal };
    group.apply(Command::PlanChore { cluster, epoch, planned });
    let (cluster, reason) = (ClusterName::from("app1"), "disks".into());
    group.apply(Command::Pause { cluster, actor: ann(), reason });
    group
}

#[test]
fn group_state_in_every_stage_is_written_as_it_was_and_read_back() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/group_state_v1.json");
    let state = all_stages();
    let mut written = serde_json::to_string_pretty(&state).expect("it is plain data");
    written.push('\n');
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &written).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file is there");
    let read: GroupState = serde_json::from_str(&golden).expect("what was written is read");
    assert_eq!(read, state);
    assert!(golden == written, "the format has changed: REWRITE=1 writes it anew; review the diff");
}
