//! What a returned server has extra: proved never acknowledged, or not.

use crate::{
    decide::classify::{by_record, judge},
    fixture::*,
    model::{
        Doubt, FileEnd, GtidSet, LogFile, LogMark, Mode, Outcome, StepKind, StepOutcome, Suspicion,
        Trail,
    },
    state::{Command, Planned, Reply},
};

use LogMark::{Ready, ShutdownAsked, Starting};

/// Transactions of db1, from and to.
fn of_db1(first: u64, last: u64) -> GtidSet {
    GtidSet::run(&uuid(1), first, last)
}

/// db2 has replaced db1, whose ackers had received 1 to 9.
fn replaced() -> Group {
    let mut group = Group::repointing();
    let outcome = Outcome::Promoted { left_behind: Default::default() };
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    group.apply(Command::CloseAttempt { cluster, epoch, outcome, at_us: None });
    group
}

/// db1 was found to take writes, and was made read-only while it waited for so many.
fn cut(group: &mut Group, waited_for: Option<u32>) {
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    let planned = Planned { target: name(1), goal: StepKind::MakeReadOnly };
    group.apply(Command::PlanChore { cluster, epoch, planned });
    let step = group.cluster().chores[&name(1)].id;
    assert_eq!(group.begin(step), Reply::Ok);
    let StepOutcome::Done { mut evidence } = met(&run(1, 9)) else { panic!("it is met") };
    if let crate::model::StepEvidence::Server { waited_for: found, .. } = &mut evidence {
        *found = waited_for;
    }
    assert_eq!(group.end(step, StepOutcome::Done { evidence }), Reply::Ok);
}

fn whys(doubts: &[Doubt]) -> Vec<(u64, &str)> {
    doubts.iter().map(|doubt| (doubt.set.count(), doubt.why.as_str())).collect()
}

#[test]
fn what_no_stopped_acker_had_received_is_suspected_and_nothing_else() {
    let extra = of_db1(9, 12).union(&run(3, 1));
    let found = by_record(replaced().cluster(), &name(1), &extra);
    assert_eq!(found.unreceived, of_db1(10, 12));
    assert_eq!(found.known, run(1, 9));
    assert!(!found.was_cut_waiting);
    let theirs = "not numbered by db1: only what a primary numbered can be judged";
    let got = "an acker had received them before it was stopped: they may have been acknowledged";
    assert_eq!(whys(&found.doubts), [(1, theirs), (1, got)]);
}

#[test]
fn without_a_failover_on_record_or_without_acknowledgements_nothing_is_suspected() {
    let found = by_record(replaced().cluster(), &name(3), &run(3, 2));
    let why = "no failover that is still on record replaced db3 as primary";
    assert_eq!((found.unreceived, whys(&found.doubts)), (GtidSet::empty(), vec![(2, why)]));
    let why_of = |change: fn(&mut crate::model::Attempt)| {
        let mut group = replaced();
        change(&mut group.cluster_mut().history[0]);
        let found = by_record(group.cluster(), &name(1), &of_db1(10, 11));
        assert_eq!(found.unreceived, GtidSet::empty());
        found.doubts[0].why.clone()
    };
    let asynchronous = why_of(|attempt| attempt.mode = Mode::Fenced);
    assert_eq!(asynchronous, "app1-1 was made in mode fenced: commits did not wait");
    let loose = why_of(|attempt| attempt.revokes[0].acks = 0);
    assert_eq!(loose, "app1-1 was made in mode quorum: commits did not wait");
    let uncounted = why_of(|attempt| {
        attempt.revokes[0].ackers.insert(name(4));
    });
    assert_eq!(uncounted, "app1-1 does not show that enough ackers were stopped");
}

#[test]
fn former_primary_is_known_to_wait_only_if_it_did_each_time_it_was_cut_off() {
    let waits = |cuts: &[Option<u32>]| {
        let mut group = replaced();
        cuts.iter().for_each(|waited_for| cut(&mut group, *waited_for));
        by_record(group.cluster(), &name(1), &of_db1(10, 11)).was_cut_waiting
    };
    assert!(waits(&[Some(1)]));
    assert!(waits(&[Some(2), Some(1)]));
    assert!(!waits(&[None]));
    assert!(!waits(&[None, Some(1)]));
    assert!(!waits(&[Some(1), None]));
}

fn file(number: u64, last: u64, end: FileEnd) -> LogFile {
    let previous = if last == 0 { GtidSet::empty() } else { run(1, last) };
    LogFile { path: format!("/data/binlog.{number}"), previous, end }
}

/// The verdict on 10 to 12 of db1, which has executed 1 to 12.
fn verdict(was_cut_waiting: bool, files: Vec<LogFile>, marks: Option<&[LogMark]>) -> String {
    let suspicion =
        Suspicion { unreceived: of_db1(10, 12), known: run(1, 9), was_cut_waiting, doubts: vec![] };
    let trail = Trail { files, marks: marks.map(<[_]>::to_vec) };
    let found = judge(&of_db1(10, 12), &suspicion, &run(1, 12), &trail);
    let doubted = found.doubts.iter().fold(GtidSet::empty(), |sum, doubt| sum.union(&doubt.set));
    assert_eq!(found.proved.union(&doubted), of_db1(10, 12));
    assert!(found.proved.common(&doubted).is_empty());
    let doubts: Vec<_> = found.doubts.iter().map(|doubt| doubt.why.as_str()).collect();
    format!("{} proved {}", found.proved.count(), doubts.join("; ")).trim_end().to_owned()
}

#[test]
fn killed_run_that_was_primary_is_proof() {
    let killed = || vec![file(1, 0, FileEnd::Torn), file(2, 12, FileEnd::Current)];
    let log = [Starting, Ready, Starting, Ready];
    assert_eq!(verdict(false, killed(), Some(&log)), "3 proved");
    let rotated = vec![
        file(1, 0, FileEnd::Rotated),
        file(2, 11, FileEnd::Torn),
        file(3, 12, FileEnd::Current),
    ];
    assert_eq!(verdict(false, rotated, Some(&log)), "3 proved");
    // A shutdown of the run before is another matter.
    let before = [Starting, Ready, ShutdownAsked, Starting, Ready, Starting, Ready];
    assert_eq!(verdict(false, killed(), Some(&before)), "3 proved");
}

#[test]
fn shutdown_finished_or_only_begun_is_none() {
    let log = [Starting, Ready, ShutdownAsked, Starting, Ready];
    let finished = vec![file(1, 0, FileEnd::Stopped), file(2, 12, FileEnd::Current)];
    let why = "0 proved mysqld was shut down in order, which answers OK to whoever waits";
    assert_eq!(verdict(false, finished, Some(&log)), why);
    let why = "0 proved its error log tells of a shutdown, which answers OK to whoever waits";
    let killed = || vec![file(1, 0, FileEnd::Torn), file(2, 12, FileEnd::Current)];
    assert_eq!(verdict(false, killed(), Some(&log)), why);
    // A start that failed has left a line and no file.
    let failed = [Starting, Ready, ShutdownAsked, Starting, Starting, Ready];
    assert_eq!(verdict(false, killed(), Some(&failed)), why);
}

#[test]
fn error_log_that_cannot_be_read_or_is_too_short_is_no_proof() {
    let killed = || vec![file(1, 0, FileEnd::Torn), file(2, 12, FileEnd::Current)];
    let why = "0 proved its error log does not reach back to the run that wrote them";
    assert_eq!(verdict(false, killed(), Some(&[Starting, Ready])), why);
    assert_eq!(verdict(false, killed(), Some(&[Ready, Ready])), why);
    assert!(verdict(false, killed(), None).starts_with("0 proved its error log cannot be read"));
}

#[test]
fn run_that_goes_on_is_proof_if_it_waited_when_it_was_cut_off() {
    let running = || vec![file(1, 0, FileEnd::Current)];
    assert_eq!(verdict(true, running(), Some(&[Starting, Ready])), "3 proved");
    let why = "0 proved it ran on, and was not seen to wait for acknowledgements when cut off";
    assert_eq!(verdict(false, running(), Some(&[Starting, Ready])), why);
    let why = "0 proved its error log tells of a shutdown, which answers OK to whoever waits";
    assert_eq!(verdict(true, running(), Some(&[Starting, Ready, ShutdownAsked])), why);
}

#[test]
fn what_a_later_run_wrote_is_not_proved_beside_what_the_primary_wrote() {
    let files =
        vec![file(1, 0, FileEnd::Torn), file(2, 11, FileEnd::Torn), file(3, 12, FileEnd::Current)];
    let log = [Starting, Ready, Starting, Ready, Starting, Ready];
    let why = "2 proved written by another run of mysqld than the one that was primary";
    assert_eq!(verdict(true, files, Some(&log)), why);
}

#[test]
fn what_its_binary_logs_do_not_hold_is_not_proved() {
    let files = vec![file(2, 11, FileEnd::Current)];
    let why = "0 proved written by another run of mysqld than the one that was primary; its binary \
               logs do not hold them any more";
    assert_eq!(verdict(true, files, Some(&[Starting, Ready])), why);
}

#[test]
fn files_that_hold_what_is_extra_are_named() {
    let files = vec![
        file(1, 0, FileEnd::Rotated),
        file(2, 9, FileEnd::Torn),
        file(3, 12, FileEnd::Current),
    ];
    let trail = Trail { files, marks: None };
    let found = judge(&of_db1(10, 12), &Suspicion::default(), &run(1, 12), &trail);
    assert_eq!(found.files, ["/data/binlog.2"]);
}
