//! When a dead primary's log is read, what is brought to the candidate, and what is not lost
//! silently.

use super::{bereft_view, seen, short};
use crate::{
    decide::{View, progress},
    fixture::*,
    model::{
        ClusterDefinition, DiskLog, Election, GtidSet, LogPiece, Millis, Mode, Policy, Rescue,
        StepEvidence, StepOutcome, Term,
    },
    state::{Command, Reply},
};

fn next(view: &View) -> Vec<crate::decide::Move> {
    let (cluster, seen) = super::parts(view);
    let attempt = cluster.attempt.as_ref().expect("an attempt is open");
    progress::next(view, cluster, seen, attempt, Term(TERM))
}

fn moves(group: &Group) -> Vec<String> {
    short(&next(&bereft_view(group)))
}

fn defined(mode: Mode, servers: u64, policy: Policy) -> ClusterDefinition {
    ClusterDefinition { mode, policy, ..definition(servers) }
}

/// An attempt whose fence and stops are met; everybody received 1 to 9 of db1's.
fn frozen(definition: ClusterDefinition) -> Group {
    let mut group = Group::with(definition);
    group.open();
    group.meet("fence", &GtidSet::empty());
    group.meet("stop_receiver", &run(1, 9));
    group
}

fn log(from: u64, to: u64) -> DiskLog {
    let pieces = vec![LogPiece { path: "/data/binlog.000003".into(), from: 400, to: 1000 }];
    DiskLog { only_here: run_of(from, to), pieces, ..DiskLog::default() }
}

fn run_of(from: u64, to: u64) -> GtidSet {
    GtidSet::run(&uuid(1), from, to)
}

fn read(group: &mut Group, outcome: StepOutcome) {
    let step = group.steps("read_log")[0];
    assert_eq!(group.begin(step), Reply::Ok);
    assert_eq!(group.end(step, outcome), Reply::Ok);
}

fn found(log: DiskLog) -> StepOutcome {
    StepOutcome::Done { evidence: StepEvidence::Log { log } }
}

fn elected(group: &Group) -> Election {
    match &next(&bereft_view(group))[..] {
        [crate::decide::Move::Propose { command }] => match &**command {
            Command::Elect { election, .. } => (**election).clone(),
            other => panic!("wanted an election, found {other:?}"),
        },
        other => panic!("wanted one proposal, found {:?}", short(other)),
    }
}

fn elect(group: &mut Group) -> Election {
    let election = elected(group);
    let command = Command::Elect {
        cluster: "app1".into(),
        epoch: group.cluster().epoch,
        steps: crate::decide::stage::recover(&election, &run(1, 9)),
        election: Box::new(election.clone()),
        at_us: None,
    };
    assert!(matches!(group.apply(command), Reply::Opened { .. }));
    election
}

fn rescue(is_needed: bool) -> Rescue {
    Rescue { from: name(1), gtids: run_of(10, 12), pieces: log(10, 12).pieces, is_needed }
}

#[test]
fn without_semi_sync_the_dead_primarys_log_is_read_before_anybody_is_elected() {
    for mode in [Mode::Fenced, Mode::BestEffort] {
        let mut group = frozen(defined(mode, 3, Policy::default()));
        assert_eq!(moves(&group), ["run read_log db1"]);
        read(&mut group, found(log(10, 12)));
        let election = elect(&mut group);
        assert_eq!((election.rescues, election.loss), (vec![rescue(false)], String::new()));
        assert_eq!(moves(&group), ["run rescue db2"]);
        group.meet("rescue", &run(1, 12));
        assert_eq!(moves(&group), ["propose pass_point_of_no_return"]);
    }
}

#[test]
fn log_that_holds_nothing_new_leaves_nothing_to_rescue() {
    let mut group = frozen(defined(Mode::Fenced, 3, Policy::default()));
    read(&mut group, found(DiskLog::default()));
    let election = elect(&mut group);
    assert_eq!((election.rescues, election.loss), (Vec::new(), String::new()));
    assert_eq!(moves(&group), ["propose pass_point_of_no_return"]);
}

#[test]
fn log_that_cannot_be_read_is_given_up_after_three_tries_and_the_loss_is_told() {
    let mut group = frozen(defined(Mode::Fenced, 3, Policy::default()));
    for _ in 0..3 {
        assert_eq!(moves(&group), ["run read_log db1"]);
        read(&mut group, failed());
    }
    let election = elected(&group);
    let expected = "what db1 committed and no stopped server received is lost or still on its disk: \
                    a test";
    assert_eq!((election.rescues, election.loss.as_str()), (Vec::new(), expected));
}

#[test]
fn policy_that_limits_the_loss_refuses_to_go_on_when_nobody_knows_it() {
    let policy = Policy { max_loss_transactions: Some(5), ..Policy::default() };
    let mut group = frozen(defined(Mode::Fenced, 3, policy));
    (0..3).for_each(|_| read(&mut group, failed()));
    assert_eq!(moves(&group), ["propose undo"]);
    let purged = DiskLog { purged: run_of(10, 11), ..log(12, 12) };
    let policy = Policy { max_loss_bytes: Some(5000), ..Policy::default() };
    let mut group = frozen(defined(Mode::BestEffort, 3, policy));
    read(&mut group, found(purged));
    assert_eq!(moves(&group), ["propose undo"]);
}

#[test]
fn rescue_that_fails_is_gone_on_without_unless_more_would_be_lost_than_may_be() {
    let limits = [(None, None, false), (Some(3), None, false), (Some(2), None, true)];
    let limits = limits.into_iter().chain([(None, Some(600), false), (None, Some(599), true)]);
    for (transactions, bytes, is_needed) in limits {
        let policy = Policy {
            max_loss_transactions: transactions,
            max_loss_bytes: bytes,
            ..Policy::default()
        };
        let mut group = frozen(defined(Mode::Fenced, 3, policy));
        read(&mut group, found(log(10, 12)));
        assert_eq!(elect(&mut group).rescues, [rescue(is_needed)]);
        let step = group.steps("rescue")[0];
        for _ in 0..3 {
            assert_eq!(moves(&group), ["run rescue db2"]);
            group.begin(step);
            group.end(step, failed());
        }
        let expected = if is_needed { "propose undo" } else { "propose pass_point_of_no_return" };
        assert_eq!(moves(&group), [expected], "{transactions:?} {bytes:?}");
    }
}

#[test]
fn entry_nine_is_refused_without_the_rescue_unless_that_failed_and_is_not_needed() {
    for (is_needed, fails, is_passed) in
        [(false, false, false), (false, true, true), (true, true, false)]
    {
        let limit = is_needed.then_some(0);
        let policy = Policy { max_loss_transactions: limit, ..Policy::default() };
        let mut group = frozen(defined(Mode::Fenced, 3, policy));
        read(&mut group, found(log(10, 12)));
        elect(&mut group);
        if fails {
            let step = group.steps("rescue")[0];
            group.begin(step);
            group.end(step, failed());
        }
        let reply = group.apply(Command::PassPointOfNoReturn {
            cluster: "app1".into(),
            epoch: group.cluster().epoch,
            executed: run(1, 9),
            steps: Vec::new(),
            at_us: None,
        });
        assert_eq!(matches!(reply, Reply::Opened { .. }), is_passed, "{is_needed} {fails}");
    }
}

#[test]
fn in_quorum_mode_the_disk_is_not_asked_if_the_stopped_servers_have_it_all() {
    let group = frozen(defined(Mode::Quorum, 4, Policy::default()));
    assert_eq!(elected(&group).rescues, []);
}

/// Four servers, one acknowledgement; db4 is not reached.
fn one_acker_missing() -> Group {
    let mut group = Group::with(defined(Mode::Quorum, 4, Policy::default()));
    group.open();
    let stops = group.steps("stop_receiver");
    for stop in &stops[..2] {
        group.begin(*stop);
        group.end(*stop, met(&run(1, 9)));
    }
    group.begin(stops[2]);
    group.end(stops[2], failed());
    group
}

#[test]
fn killed_primarys_whole_log_stands_in_for_an_acker_that_is_missing_and_is_needed_then() {
    let mut group = one_acker_missing();
    assert_eq!(moves(&group), ["run fence db1", "run stop_receiver db4"]);
    group.meet("fence", &GtidSet::empty());
    assert_eq!(moves(&group), ["run stop_receiver db4", "run read_log db1"]);
    read(&mut group, found(log(10, 12)));
    let election = elect(&mut group);
    assert_eq!(election.rescues, [rescue(true)]);
    assert_eq!((election.ackers, election.acks), (names(&[3]), 1));
    let step = group.steps("rescue")[0];
    for _ in 0..3 {
        group.begin(step);
        group.end(step, failed());
    }
    assert_eq!(moves(&group), ["propose undo"]);
}

#[test]
fn log_that_was_purged_or_not_read_to_its_end_covers_nothing() {
    let mut group = one_acker_missing();
    group.meet("fence", &GtidSet::empty());
    read(&mut group, found(DiskLog { purged: run_of(10, 10), ..log(11, 12) }));
    assert_eq!(moves(&group), ["run stop_receiver db4"]);
    let mut group = one_acker_missing();
    group.meet("fence", &GtidSet::empty());
    (0..3).for_each(|_| read(&mut group, failed()));
    assert_eq!(moves(&group), ["run stop_receiver db4"]);
}

#[test]
fn operators_word_gives_the_fence_a_moment_since_what_is_not_seen_dead_is_not_read() {
    let mut group = Group::with(defined(Mode::Fenced, 3, Policy::default()));
    let steps = crate::decide::stage::freeze(group.cluster());
    let expected = group.cluster().epoch;
    let opening = crate::model::Opening { asserted_dead: true, ..opening(expected) };
    let opening = Box::new(opening);
    group.apply(Command::OpenAttempt { cluster: "app1".into(), expected, opening, steps });
    group.meet("stop_receiver", &run(1, 9));
    let after = |group: &Group, millis| {
        let mut view = bereft_view(group);
        seen(&mut view).opened_at = Some(NOW.minus(Millis(millis)));
        short(&next(&view))
    };
    assert_eq!(after(&group, 2_000), ["run fence db1"]);
    assert_eq!(after(&group, 3_000), ["propose elect"]);
    let fence = group.steps("fence")[0];
    group.begin(fence);
    group.end(fence, failed());
    assert_eq!(after(&group, 500), ["propose elect"]);
}
