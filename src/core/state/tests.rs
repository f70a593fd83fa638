//! Tests of the state machine: each command taken, and each way it is rejected.

use std::collections::BTreeMap;

use super::*;
use crate::{fixture::*, model::*};

fn app1() -> ClusterName {
    "app1".into()
}

fn rejected(rejection: Rejection) -> Reply {
    Reply::Rejected { rejection }
}

fn not_now(why: &str) -> Reply {
    rejected(Rejection::NotNow { why: why.into() })
}

fn wrong_stage(why: &str) -> Reply {
    rejected(Rejection::WrongStage { why: why.into() })
}

fn wrong_step(step: StepId, why: &str) -> Reply {
    rejected(Rejection::WrongStep { step: step.to_string(), why: why.into() })
}

fn wrong_epoch(wanted: u64, found: u64) -> Reply {
    rejected(Rejection::WrongEpoch { wanted: Epoch(wanted), found: Epoch(found) })
}

fn opened(epoch: u64) -> Reply {
    Reply::Opened { id: FailoverId { cluster: app1(), epoch: Epoch(epoch) } }
}

fn define(definition: ClusterDefinition, replaces: Option<u64>) -> Command {
    Command::ApplyDefinition { definition: Box::new(definition), replaces, actor: ann() }
}

fn adopt(primary: u64, uuids: &[(u64, u64)]) -> Command {
    let uuids = uuids.iter().map(|(server, of)| (name(*server), uuid(*of))).collect();
    Command::Adopt { cluster: app1(), primary: name(primary), executed: run(1, 5), uuids }
}

fn open_as(expected: u64, change: impl FnOnce(&mut Opening)) -> Command {
    let mut opening = Box::new(opening(Epoch(expected)));
    change(&mut opening);
    Command::OpenAttempt { cluster: app1(), expected: Epoch(expected), opening, steps: Vec::new() }
}

fn close(epoch: u64, outcome: Outcome) -> Command {
    Command::CloseAttempt { cluster: app1(), epoch: Epoch(epoch), outcome, at_us: None }
}

fn aborted() -> Outcome {
    Outcome::Aborted { why: "a test".into(), unfinished: Vec::new() }
}

fn promoted(left_behind: &[u64]) -> Outcome {
    Outcome::Promoted { left_behind: names(left_behind) }
}

fn elect(epoch: u64, election: Election) -> Command {
    let (cluster, epoch, election) = (app1(), Epoch(epoch), Box::new(election));
    Command::Elect { cluster, epoch, election, steps: Vec::new(), at_us: None }
}

fn pass(executed: GtidSet) -> Command {
    let (cluster, epoch) = (app1(), Epoch(1));
    Command::PassPointOfNoReturn { cluster, epoch, executed, steps: Vec::new(), at_us: None }
}

fn repoint() -> Command {
    let (cluster, epoch) = (app1(), Epoch(1));
    Command::EnterRepoint { cluster, epoch, steps: Vec::new(), at_us: None }
}

fn chore(epoch: u64, target: u64, goal: StepKind) -> Command {
    let planned = Planned { target: name(target), goal };
    Command::PlanChore { cluster: app1(), epoch: Epoch(epoch), planned }
}

fn quarantine(epoch: u64, server: u64) -> Command {
    let (cluster, epoch, server) = (app1(), Epoch(epoch), name(server));
    Command::Quarantine { cluster, epoch, server, errant: run(3, 1) }
}

fn follow(source: u64, acker: bool) -> StepKind {
    StepKind::Follow { source: name(source), acker, options: LinkOptions::default() }
}

/// The rejection, asserted to have changed nothing.
fn refuse(group: &mut Group, command: Command) -> Reply {
    let before = group.state.clone();
    let reply = group.apply(command);
    assert!(matches!(reply, Reply::Rejected { .. }), "taken: {reply}");
    assert_eq!(group.state, before, "a rejected command has changed nothing");
    reply
}

fn regime_of_db1() -> Regime {
    Regime {
        primary: name(1),
        epoch: Epoch(0),
        ackers: names(&[2, 3]),
        acks: 1,
        base: run(1, 5),
        may_be_open: true,
        is_open: true,
        recruited: names(&[]),
        closed_with: None,
    }
}

#[test]
fn new_definition_is_taken_and_replaced_by_the_next_version() {
    let mut group = Group::empty();
    assert_eq!(group.apply(define(definition(3), None)), Reply::Version { version: 1 });
    assert_eq!(group.cluster(), &ClusterState::new(definition(3)));
    let mut second = definition(4);
    second.policy.automatic = false;
    assert_eq!(group.apply(define(second.clone(), Some(1))), Reply::Version { version: 2 });
    assert_eq!(group.cluster(), &ClusterState { version: 2, ..ClusterState::new(second) });
}

#[test]
fn definition_with_mistakes_is_refused_with_all_of_them() {
    let mut bad = definition(3);
    bad.acks = 3;
    bad.servers[1].name = name(1);
    bad.policy.refusals = 0;
    let mistakes = vec![
        "server db1 is defined twice".into(),
        "mode quorum with acks = 3 needs at least 4 servers with acker = true, found 3: one is \
         the primary, 3 acknowledge"
            .into(),
        "policy refusals = 0: wanted 1 to 100".into(),
    ];
    let reply = refuse(&mut Group::empty(), define(bad, None));
    assert_eq!(reply, rejected(Rejection::BadDefinition { mistakes }));
}

#[test]
fn definition_that_replaces_another_version_than_the_one_in_force_is_refused() {
    let reply = refuse(&mut Group::empty(), define(definition(3), Some(1)));
    assert_eq!(reply, not_now("version 1 is to be replaced, but there is no such cluster"));
    let reply = refuse(&mut Group::adopted(), define(definition(3), Some(7)));
    assert_eq!(reply, not_now("made to replace version 7, but version 1 is in force"));
}

#[test]
fn definition_that_leaves_out_the_primary_or_an_acker_is_refused() {
    let without = |gone: usize| {
        let mut new = definition(4);
        new.servers.remove(gone);
        new
    };
    let reply = refuse(&mut Group::with(definition(4)), define(without(0), None));
    assert_eq!(reply, not_now("server db1 is primary and cannot be left out"));
    let reply = refuse(&mut Group::with(definition(4)), define(without(2), None));
    assert_eq!(reply, not_now("server db3 is an acker and cannot be left out"));
}

#[test]
fn definition_that_turns_to_quorum_lets_every_acker_acknowledge() {
    let fenced = ClusterDefinition { mode: Mode::Fenced, ..definition(3) };
    let mut group = Group::with(fenced);
    assert_eq!(group.cluster().regimes[0].acks, 0);
    assert_eq!(group.apply(define(definition(3), None)), Reply::Version { version: 2 });
    // How many acknowledgements commits wait for is agreed once it was set.
    assert_eq!(group.cluster().regimes, [Regime { acks: 0, ..regime_of_db1() }]);
}

#[test]
fn more_acknowledgements_are_agreed_when_set_and_fewer_before() {
    let arm = |acks| StepKind::Arm { acks, ackers: names(&[2, 3]), by: ann() };
    let mut group = Group::adopted();
    let acks = |group: &Group| group.cluster().regimes[0].acks;
    let run = |group: &mut Group, goal| {
        group.apply(chore(0, 1, goal));
        let step = group.cluster().chores[&name(1)].id;
        assert_eq!(group.begin(step), Reply::Ok);
        step
    };
    let step = run(&mut group, arm(2));
    assert_eq!(acks(&group), 1, "set, then log");
    assert_eq!(group.end(step, failed()), Reply::Ok);
    assert_eq!(acks(&group), 1);
    assert_eq!(group.begin(step), Reply::Ok);
    assert_eq!(group.end(step, met(&crate::fixture::run(1, 9))), Reply::Ok);
    assert_eq!(acks(&group), 2);
    run(&mut group, arm(1));
    assert_eq!(acks(&group), 1, "log, then set");
}

#[test]
fn dead_acker_is_taken_out_once_it_was_locked_out_and_counts_again_before_it_is_let_in() {
    let account = || "repl3".to_owned();
    let lock = StepKind::LockOut { server: name(3), account: account() };
    let mut group = Group::adopted();
    let ackers = |group: &Group| group.cluster().regimes[0].ackers.clone();
    let locks = |group: &Group| group.cluster().locks.clone();
    group.apply(chore(0, 1, lock));
    let step = group.cluster().chores[&name(1)].id;
    assert_eq!(group.begin(step), Reply::Ok);
    assert_eq!((ackers(&group), locks(&group)), (names(&[2, 3]), [(name(1), names(&[3]))].into()));
    assert_eq!(group.end(step, met(&run(1, 9))), Reply::Ok);
    assert_eq!((ackers(&group), locks(&group)), (names(&[2]), [(name(1), names(&[3]))].into()));
    // Another one would leave fewer than a commit waits for.
    group.apply(chore(0, 1, StepKind::LockOut { server: name(2), account: "repl2".into() }));
    let step = group.cluster().chores[&name(1)].id;
    assert_eq!(group.begin(step), Reply::Ok);
    assert_eq!(group.end(step, met(&run(1, 9))), Reply::Ok);
    assert_eq!(ackers(&group), names(&[2]));
    group.apply(chore(0, 1, StepKind::LetIn { server: name(3), account: account() }));
    let step = group.cluster().chores[&name(1)].id;
    assert_eq!(group.begin(step), Reply::Ok);
    assert_eq!(ackers(&group), names(&[2, 3]), "log, then unlock");
    assert_eq!(locks(&group), [(name(1), names(&[2, 3]))].into());
    assert_eq!(group.end(step, met(&run(1, 9))), Reply::Ok);
    assert_eq!(locks(&group), [(name(1), names(&[2]))].into());
}

#[test]
fn definitions_and_removals_wait_for_the_end_of_an_attempt() {
    let mut group = Group::passed();
    let reply = refuse(&mut group, define(definition(3), None));
    assert_eq!(reply, not_now("changing the definition has to wait: the attempt app1-1 is open"));
    let reply = refuse(&mut group, Command::RemoveCluster { cluster: app1() });
    assert_eq!(reply, not_now("removing the cluster has to wait: the attempt app1-1 is open"));
}

#[test]
fn group_has_room_for_its_limit_of_clusters() {
    let mut group = Group::empty();
    let small = ClusterState::new(definition(2));
    let name = |number: usize| ClusterName(format!("c{number}"));
    group.state.clusters =
        (0..GroupState::CLUSTERS).map(|number| (name(number), small.clone())).collect();
    let reply = group.apply(define(definition(3), None));
    assert_eq!(reply, not_now("the group looks after 4096 clusters, its limit"));
}

#[test]
fn removed_cluster_is_gone_and_unknown_to_every_command() {
    let mut group = Group::adopted();
    assert_eq!(group.apply(Command::RemoveCluster { cluster: app1() }), Reply::Ok);
    assert!(group.state.clusters.is_empty());
    let step = StepId { epoch: Epoch(1), seq: 1 };
    let commands = [
        Command::RemoveCluster { cluster: app1() },
        Command::Pause { cluster: app1(), actor: ann(), reason: String::new() },
        Command::Resume { cluster: app1() },
        adopt(1, &[]),
        Command::Identify { cluster: app1(), uuids: BTreeMap::new() },
        open_as(0, |_| {}),
        Command::BeginStep { cluster: app1(), step },
        end_step(step, TERM, failed()),
        elect(1, election()),
        pass(run(1, 9)),
        repoint(),
        undo(Vec::new()),
        close(1, aborted()),
        chore(0, 2, StepKind::MakeReadOnly),
        quarantine(0, 2),
    ];
    let unknown = rejected(Rejection::NoSuchCluster { cluster: "app1".into() });
    for command in commands {
        assert_eq!(refuse(&mut group, command), unknown);
    }
}

/// Its servers' locks and turnstiles have seen the old epochs, and a leader that was overtaken may
/// still hold an order of one of them.
#[test]
fn cluster_that_gets_a_removed_ones_name_goes_on_with_newer_epochs() {
    let mut group = Group::repointing();
    group.apply(close(1, promoted(&[])));
    let next_seq = group.cluster().next_seq;
    group.apply(Command::RemoveCluster { cluster: app1() });
    let (definition, actor) = (Box::new(definition(3)), ann());
    group.apply(Command::ApplyDefinition { definition, replaces: None, actor });
    assert_eq!((group.cluster().epoch, group.cluster().next_seq), (Epoch(2), next_seq));
    assert!(group.cluster().regimes.is_empty() && group.state.retired.is_empty());
}

#[test]
fn pause_is_kept_with_its_author_until_resumed() {
    let mut group = Group::adopted();
    let pause = Pause { actor: ann(), reason: "disks".into() };
    let command = Command::Pause { cluster: app1(), actor: ann(), reason: "disks".into() };
    assert_eq!(group.apply(command), Reply::Ok);
    assert_eq!(group.cluster().pause, Some(pause));
    assert_eq!(group.apply(Command::Resume { cluster: app1() }), Reply::Ok);
    assert_eq!(group.cluster().pause, None);
}

#[test]
fn adopted_primary_begins_a_regime_with_all_defined_ackers() {
    let group = Group::adopted();
    assert_eq!(group.cluster().regimes, [regime_of_db1()]);
    let uuids: Vec<_> = group.cluster().members.values().map(|m| m.uuid.clone()).collect();
    assert_eq!(uuids, [1, 2, 3].map(|server| Some(uuid(server))));
}

#[test]
fn primary_is_adopted_once_and_must_be_defined() {
    let reply = refuse(&mut Group::adopted(), adopt(2, &[]));
    assert_eq!(reply, not_now("db1 is the primary already"));
    let mut group = Group::empty();
    group.apply(define(definition(3), None));
    let reply = refuse(&mut group, adopt(9, &[]));
    assert_eq!(reply, not_now("server db9 is not defined"));
}

#[test]
fn one_identity_belongs_to_one_server_and_the_first_one_seen_counts() {
    let mut group = Group::empty();
    group.apply(define(definition(3), None));
    assert_eq!(group.apply(adopt(1, &[(1, 1)])), Reply::Ok);
    let identify = |server, of| Command::Identify {
        cluster: app1(),
        uuids: BTreeMap::from([(name(server), uuid(of))]),
    };
    let reply = refuse(&mut group, identify(2, 1));
    let why = format!("servers db1 and db2 are the same one: {}", uuid(1));
    assert_eq!(reply, not_now(&why));
    assert_eq!(group.apply(identify(2, 2)), Reply::Ok);
    assert_eq!(group.apply(identify(2, 7)), Reply::Ok);
    assert_eq!(group.cluster().members[&name(2)].uuid, Some(uuid(2)));
}

#[test]
fn two_servers_found_to_be_one_are_refused_within_one_command_too() {
    let mut group = Group::empty();
    group.apply(define(definition(3), None));
    let reply = refuse(&mut group, adopt(1, &[(1, 1), (2, 1)]));
    let why = format!("servers db1 and db2 are the same one: {}", uuid(1));
    assert_eq!(reply, not_now(&why));
}

#[test]
fn opened_attempt_holds_what_was_known_and_numbers_its_steps() {
    let mut group = Group::adopted();
    group.apply(chore(0, 2, StepKind::MakeReadOnly));
    assert_eq!(group.open(), opened(1));
    let step = |seq, target, goal| StepRecord {
        id: StepId { epoch: Epoch(1), seq },
        target: name(target),
        goal,
        runs: Vec::new(),
    };
    let expected = Attempt {
        id: FailoverId { cluster: app1(), epoch: Epoch(1) },
        mode: Mode::Quorum,
        opening: opening(Epoch(0)),
        old_primary: name(1),
        revokes: vec![regime_of_db1()],
        stage: Stage::Freeze,
        steps: vec![
            step(2, 2, StepKind::StopReceiver),
            step(3, 3, StepKind::StopReceiver),
            step(4, 1, StepKind::Fence { vips: vec![vip()] }),
            step(5, 1, StepKind::ReadLog),
        ],
        marks: vec![Mark { what: "opened".into(), at_us: Some(Micros(0)), term: Term(TERM) }],
        outcome: None,
    };
    assert_eq!(group.attempt(), &expected);
    assert_eq!(group.cluster().epoch, Epoch(1));
    assert!(group.cluster().chores.is_empty(), "chores make way");
}

#[test]
fn attempt_is_opened_once_per_epoch() {
    let mut group = Group::adopted();
    assert_eq!(group.open(), opened(1));
    assert_eq!(refuse(&mut group, open_as(0, |_| {})), wrong_epoch(0, 1));
    let refusal = Refusal::AttemptOpen { epoch: Epoch(1) };
    assert_eq!(refuse(&mut group, open_as(1, |_| {})), rejected(Rejection::Refused { refusal }));
}

#[test]
fn attempt_needs_a_primary_and_something_to_supersede() {
    let mut group = Group::empty();
    group.apply(define(definition(3), None));
    let refusal = Refusal::NoPrimary { why: "none was adopted yet".into() };
    assert_eq!(refuse(&mut group, open_as(0, |_| {})), rejected(Rejection::Refused { refusal }));
    let superseded = FailoverId { cluster: app1(), epoch: Epoch(0) };
    let lost = |opening: &mut Opening| opening.cause = Cause::CandidateLost { superseded };
    let reply = refuse(&mut Group::adopted(), open_as(0, lost));
    assert_eq!(reply, wrong_stage("no attempt is open to supersede"));
}

#[test]
fn paused_cluster_refuses_the_group_and_takes_an_operator() {
    let mut group = Group::adopted();
    group.apply(Command::Pause { cluster: app1(), actor: ann(), reason: "disks".into() });
    let refusal = Refusal::Paused { by: "ann (disks)".into() };
    assert_eq!(refuse(&mut group, open_as(0, |_| {})), rejected(Rejection::Refused { refusal }));
    assert_eq!(group.apply(open_as(0, |opening| opening.actor = ann())), opened(1));
}

#[test]
fn pause_does_not_keep_an_attempt_past_entry_9_from_being_finished() {
    let mut group = Group::passed();
    group.apply(Command::Pause { cluster: app1(), actor: ann(), reason: "disks".into() });
    let superseded = group.attempt().id.clone();
    let lost = |opening: &mut Opening| opening.cause = Cause::CandidateLost { superseded };
    assert_eq!(group.apply(open_as(1, lost)), opened(2));
}

#[test]
fn last_failover_interval_refuses_until_it_is_over_or_waived() {
    let mut group = Group::repointing();
    group.apply(close(1, promoted(&[])));
    group.cluster_mut().definition.policy.last_failover_minutes = 10;
    group.apply(Command::AdvanceTime { from_ms: 0, by_ms: 9 * 60_000 });
    let refusal = Refusal::LastFailoverInterval { left_s: 60, minutes: 10 };
    assert_eq!(refuse(&mut group, open_as(1, |_| {})), rejected(Rejection::Refused { refusal }));
    let mut waived = group.state.clone();
    let reply = waived.apply(99, TERM, open_as(1, |opening| opening.interval_waived = true));
    assert_eq!(reply, opened(2));
    group.apply(Command::AdvanceTime { from_ms: 9 * 60_000, by_ms: 60_000 });
    assert_eq!(group.apply(open_as(1, |_| {})), opened(2));
}

#[test]
fn attempt_past_entry_nine_is_superseded_whatever_the_interval_and_revokes_both() {
    let mut group = Group::passed();
    group.cluster_mut().definition.policy.last_failover_minutes = 480;
    let superseded = group.attempt().id.clone();
    let lost = |opening: &mut Opening| opening.cause = Cause::CandidateLost { superseded };
    assert_eq!(group.apply(open_as(1, lost)), opened(2));
    let primaries: Vec<_> = group.attempt().revokes.iter().map(|r| r.primary.clone()).collect();
    assert_eq!(primaries, [name(1), name(2)]);
    let outcome = group.cluster().history.back().and_then(|attempt| attempt.outcome.clone());
    assert_eq!(outcome, Some(Outcome::Superseded { by: Epoch(2) }));
}

#[test]
fn attempt_before_entry_nine_is_not_superseded() {
    let mut group = Group::elected();
    let superseded = group.attempt().id.clone();
    let lost = |opening: &mut Opening| opening.cause = Cause::CandidateLost { superseded };
    let refusal = Refusal::AttemptOpen { epoch: Epoch(1) };
    assert_eq!(refuse(&mut group, open_as(1, lost)), rejected(Rejection::Refused { refusal }));
}

#[test]
fn attempt_gets_on_by_goals_met_and_stages_entered_and_not_by_trying() {
    let mut group = Group::adopted();
    group.open();
    let opened = group.attempt().progress();
    let fence = group.steps("fence")[0];
    for _ in 0..3 {
        assert_eq!(group.begin(fence), Reply::Ok);
        assert_eq!(group.end(fence, failed()), Reply::Ok);
    }
    assert_eq!(group.attempt().progress(), opened);
    group.meet("stop_receiver", &run(1, 9));
    assert_eq!(group.attempt().progress(), opened + 2);
    let frozen = group.attempt().progress();
    group.elect();
    assert_eq!(group.attempt().progress(), frozen + 1);
}

#[test]
fn begun_step_has_a_run_and_ended_step_its_outcome() {
    let mut group = Group::adopted();
    group.open();
    let step = group.steps("stop_receiver")[0];
    assert_eq!(group.begin(step), Reply::Ok);
    let begun = StepRun {
        term: Term(TERM),
        begun: group.index,
        outcome: None,
        took_us: Micros(0),
        ended_at_us: None,
    };
    assert_eq!(group.attempt().steps[0].runs, std::slice::from_ref(&begun));
    assert_eq!(group.end(step, met(&run(1, 9))), Reply::Ok);
    let ended = StepRun {
        outcome: Some(met(&run(1, 9))),
        took_us: Micros(1000),
        ended_at_us: Some(Micros(5)),
        ..begun
    };
    assert_eq!(group.attempt().steps[0].runs, [ended]);
}

#[test]
fn step_begins_only_if_planned_here_by_the_newest_term_and_not_met() {
    let mut group = Group::adopted();
    group.open();
    let step = group.steps("stop_receiver")[0];
    let begin = |step| Command::BeginStep { cluster: app1(), step };
    let unknown = StepId { epoch: Epoch(1), seq: 99 };
    assert_eq!(refuse(&mut group, begin(unknown)), wrong_step(unknown, "not planned"));
    let other = StepId { epoch: Epoch(0), seq: step.seq };
    assert_eq!(refuse(&mut group, begin(other)), wrong_epoch(0, 1));
    assert_eq!(group.apply_in(TERM + 1, begin(step)), Reply::Ok);
    let stale = Rejection::StaleTerm { found: TERM, newest: TERM + 1 };
    assert_eq!(refuse(&mut group, begin(step)), rejected(stale));
    assert_eq!(group.apply(end_step(step, TERM + 1, met(&run(1, 9)))), Reply::Ok);
    let again = group.apply_in(TERM + 1, begin(step));
    assert_eq!(again, wrong_step(step, "its goal was met already"));
}

#[test]
fn only_the_last_runs_of_a_step_are_kept() {
    let mut group = Group::adopted();
    group.open();
    let step = group.steps("fence")[0];
    for _ in 0..20 {
        assert_eq!(group.begin(step), Reply::Ok);
        assert_eq!(group.end(step, failed()), Reply::Ok);
    }
    assert_eq!(group.attempt().steps[2].runs.len(), StepRecord::RUNS);
}

#[test]
fn step_ends_once_in_the_term_in_which_it_began() {
    let mut group = Group::adopted();
    group.open();
    let step = group.steps("fence")[0];
    let unknown = StepId { epoch: Epoch(1), seq: 99 };
    let reply = refuse(&mut group, end_step(unknown, TERM, failed()));
    assert_eq!(reply, wrong_step(unknown, "not planned"));
    let reply = refuse(&mut group, end_step(step, TERM, failed()));
    assert_eq!(reply, wrong_step(step, "not begun"));
    group.begin(step);
    let reply = refuse(&mut group, end_step(step, TERM - 1, failed()));
    assert_eq!(reply, rejected(Rejection::StaleTerm { found: TERM - 1, newest: TERM }));
    group.end(step, failed());
    let reply = refuse(&mut group, end_step(step, TERM, met(&run(1, 9))));
    assert_eq!(reply, wrong_step(step, "ended already"));
}

#[test]
fn late_stop_of_a_receiver_is_refused_once_the_attempt_is_being_undone() {
    let mut group = Group::adopted();
    group.open();
    let stops = group.steps("stop_receiver");
    assert_eq!(group.begin(stops[0]), Reply::Ok);
    let steps = crate::decide::stage::undo(group.cluster(), group.attempt(), "");
    assert_eq!(group.apply(undo(steps)), opened(1));
    let reply = refuse(&mut group, Command::BeginStep { cluster: app1(), step: stops[1] });
    let why = "app1-1 is in stage undo: this step has its place in another stage";
    assert_eq!(reply, wrong_stage(why));
}

#[test]
fn acker_that_was_lost_before_the_opening_may_be_brought_back() {
    let mut group = Group::passed();
    group.meet("follow", &run(1, 9));
    let step = group.steps("follow")[0];
    assert_eq!(group.begin(step), Reply::Ok);
}

#[test]
fn election_is_committed_once_after_the_freeze() {
    let mut group = Group::adopted();
    assert_eq!(refuse(&mut group, elect(1, election())), wrong_stage("no attempt is open"));
    group.open();
    let reply = refuse(&mut group, elect(1, election()));
    assert_eq!(reply, wrong_stage("the receiver of db2 was not read back as stopped"));
    group.meet("stop_receiver", &run(1, 9));
    assert_eq!(refuse(&mut group, elect(0, election())), wrong_epoch(0, 1));
    assert_eq!(group.apply(elect(1, election())), opened(1));
    assert_eq!(group.attempt().stage, Stage::Recover { election: election() });
    let reply = refuse(&mut group, elect(1, election()));
    assert_eq!(reply, wrong_stage("app1-1 is in stage recover: an election follows the freeze"));
}

#[test]
fn entry_nine_closes_the_old_regime_and_logs_the_new_one_before_it_can_acknowledge() {
    let group = Group::passed();
    let old = Regime { recruited: names(&[2, 3]), closed_with: Some(run(1, 9)), ..regime_of_db1() };
    let new = Regime {
        primary: name(2),
        epoch: Epoch(1),
        ackers: names(&[3]),
        acks: 1,
        base: run(1, 9),
        may_be_open: false,
        is_open: false,
        recruited: names(&[]),
        closed_with: None,
    };
    assert_eq!(group.cluster().regimes, [old, new]);
    let entry = EntryNine { election: election(), executed: run(1, 9) };
    assert_eq!(group.attempt().stage, Stage::Promote { entry });
    let last = LastFailover { epoch: Epoch(1), at_ms: 0 };
    assert_eq!(group.cluster().last_failover, Some(last));
}

#[test]
fn regime_may_be_open_from_the_beginning_of_its_opening() {
    let mut group = Group::passed();
    for code in ["detach", "follow"] {
        group.meet(code, &run(1, 9));
        assert!(!group.cluster().regimes[1].may_be_open, "{code}");
    }
    let open = group.steps("open_for_writes")[0];
    group.begin(open);
    let regime = &group.cluster().regimes[1];
    assert_eq!((regime.may_be_open, regime.is_open), (true, false));
}

#[test]
fn entry_nine_needs_a_recovery_and_everything_executed() {
    let mut group = Group::adopted();
    group.open();
    let reply = refuse(&mut group, pass(run(1, 9)));
    assert_eq!(reply, wrong_stage("app1-1 is in stage freeze: entry 9 follows the recovery"));
    let reply = refuse(&mut Group::elected(), pass(run(1, 8)));
    assert_eq!(reply, wrong_stage(&format!("db2 has not executed {}:9", uuid(1))));
}

#[test]
fn repointing_needs_a_writable_candidate() {
    let reply = refuse(&mut Group::elected(), repoint());
    let why = "app1-1 is in stage recover: repointing follows the promotion";
    assert_eq!(reply, wrong_stage(why));
    let reply = refuse(&mut Group::passed(), repoint());
    let why = "app1-1 is in stage promote: the candidate was not read back as writable";
    assert_eq!(reply, wrong_stage(why));
    let group = Group::repointing();
    let entry = EntryNine { election: election(), executed: run(1, 9) };
    assert_eq!(group.attempt().stage, Stage::Repoint { entry });
    assert!(group.cluster().regimes[1].is_open);
}

#[test]
fn undo_is_for_attempts_before_entry_nine_and_once() {
    let reply = refuse(&mut Group::passed(), undo(Vec::new()));
    let why = "app1-1 is in stage promote: past entry 9 it can only go forward";
    assert_eq!(reply, wrong_stage(why));
    let reply = refuse(&mut Group::repointing(), undo(Vec::new()));
    let why = "app1-1 is in stage repoint: past entry 9 it can only go forward";
    assert_eq!(reply, wrong_stage(why));
    let reply = refuse(&mut Group::undoing(), undo(Vec::new()));
    assert_eq!(reply, wrong_stage("app1-1 is in stage undo: it is being undone already"));
}

#[test]
fn undo_that_forgets_a_receiver_which_was_stopped_meanwhile_is_refused() {
    let mut group = Group::adopted();
    group.open();
    let planned = crate::decide::stage::undo(group.cluster(), group.attempt(), "");
    group.meet("stop_receiver", &run(1, 9));
    let reply = refuse(&mut group, undo(planned));
    assert_eq!(reply, wrong_stage("stop_receiver may have been done on db2 and is not put back"));
}

#[test]
fn receiver_that_was_found_stopped_need_not_be_resumed() {
    let mut group = Group::adopted();
    group.open();
    let evidence = StepEvidence::Server {
        executed: run(1, 9),
        received: run(1, 9),
        read_only: true,
        uptime_seconds: None,
        waited_for: None,
        closing: None,
    };
    for step in group.steps("stop_receiver") {
        group.begin(step);
        group.end(step, StepOutcome::FoundDone { evidence: evidence.clone() });
    }
    let planned = crate::decide::stage::undo(group.cluster(), group.attempt(), "");
    assert_eq!(planned, [Planned { target: name(1), goal: StepKind::Wake }]);
    assert_eq!(group.apply(undo(planned)), opened(1));
}

#[test]
fn aborted_attempt_leaves_the_regime_as_it_was() {
    let mut group = Group::undoing();
    assert_eq!(group.apply(close(1, aborted())), Reply::Ok);
    assert_eq!(group.cluster().regimes, [regime_of_db1()]);
    assert_eq!(group.cluster().attempt, None);
    assert_eq!(group.cluster().history.back().and_then(|a| a.outcome.clone()), Some(aborted()));
    assert_eq!(group.cluster().last_failover, None);
}

#[test]
fn aborted_supersession_ends_the_older_regime_and_the_interval() {
    let mut group = Group::passed();
    let superseded = group.attempt().id.clone();
    let lost = |opening: &mut Opening| opening.cause = Cause::CandidateLost { superseded };
    group.apply(open_as(1, lost));
    let (cluster, epoch) = (app1(), Epoch(2));
    let why = "a test".to_owned();
    group.apply(Command::Undo { cluster, epoch, why, steps: Vec::new(), at_us: None });
    assert_eq!(group.apply(close(2, aborted())), Reply::Ok);
    let primaries: Vec<_> = group.cluster().regimes.iter().map(|r| r.primary.clone()).collect();
    assert_eq!(primaries, [name(2)]);
    let former = Standing::Former { vips_dropped: false };
    assert_eq!(group.cluster().members[&name(1)].standing, former);
    assert_eq!(group.cluster().last_failover, None);
}

#[test]
fn promotion_leaves_one_regime_and_the_others_wait_for_readmission() {
    let mut group = Group::repointing();
    assert_eq!(group.apply(close(1, promoted(&[3]))), Reply::Ok);
    let primaries: Vec<_> = group.cluster().regimes.iter().map(|r| r.primary.clone()).collect();
    assert_eq!(primaries, [name(2)]);
    let former = |vips_dropped| Standing::Former { vips_dropped };
    let found: Vec<_> = group.cluster().members.values().map(|m| m.standing.clone()).collect();
    assert_eq!(found, [former(true), Standing::Member, former(false)]);
}

#[test]
fn quarantined_server_left_behind_stays_quarantined() {
    let mut group = Group::repointing();
    let standing = Standing::Quarantined { errant: run(3, 1), findings: None, saved: None };
    if let Some(member) = group.cluster_mut().members.get_mut(&name(3)) {
        member.standing = standing.clone();
    }
    assert_eq!(group.apply(close(1, promoted(&[3]))), Reply::Ok);
    assert_eq!(group.cluster().members[&name(3)].standing, standing);
}

#[test]
fn attempt_ends_as_its_stage_allows() {
    let wrong = |stage: &str| {
        wrong_stage(&format!("app1-1 is in stage {stage}: it cannot end this way from here"))
    };
    assert_eq!(refuse(&mut Group::passed(), close(1, promoted(&[]))), wrong("promote"));
    assert_eq!(refuse(&mut Group::passed(), close(1, aborted())), wrong("promote"));
    assert_eq!(refuse(&mut Group::repointing(), close(1, aborted())), wrong("repoint"));
    assert_eq!(refuse(&mut Group::undoing(), close(1, promoted(&[]))), wrong("undo"));
    let superseded = Outcome::Superseded { by: Epoch(2) };
    assert_eq!(refuse(&mut Group::repointing(), close(1, superseded)), wrong("repoint"));
    assert_eq!(refuse(&mut Group::repointing(), close(2, promoted(&[]))), wrong_epoch(2, 1));
    assert_eq!(
        refuse(&mut Group::adopted(), close(0, aborted())),
        wrong_stage("no attempt is open")
    );
}

#[test]
fn history_is_bounded() {
    let mut group = Group::adopted();
    for epoch in 0..ClusterState::HISTORY as u64 + 5 {
        group.apply(open_as(epoch, |_| {}));
        let (cluster, epoch) = (app1(), Epoch(epoch + 1));
        let why = "a test".to_owned();
        group.apply(Command::Undo { cluster, epoch, why, steps: Vec::new(), at_us: None });
        assert_eq!(group.apply(close(epoch.0, aborted())), Reply::Ok);
    }
    let epochs: Vec<u64> = group.cluster().history.iter().map(|a| a.epoch().0).collect();
    assert_eq!(epochs, (6..=25).collect::<Vec<_>>());
}

#[test]
fn chore_is_planned_once_per_server_and_makes_way_for_the_next() {
    let mut group = Group::adopted();
    assert_eq!(group.apply(chore(0, 2, StepKind::MakeReadOnly)), Reply::Ok);
    assert_eq!(group.apply(chore(0, 2, follow(1, true))), Reply::Ok);
    let id = StepId { epoch: Epoch(0), seq: 2 };
    let record = StepRecord { id, target: name(2), goal: follow(1, true), runs: Vec::new() };
    assert_eq!(group.cluster().chores, BTreeMap::from([(name(2), record)]));
}

#[test]
fn chores_and_quarantines_are_for_known_servers_of_this_epoch_without_an_attempt() {
    let commands =
        |epoch, server| [chore(epoch, server, StepKind::MakeReadOnly), quarantine(epoch, server)];
    for command in commands(3, 2) {
        assert_eq!(refuse(&mut Group::adopted(), command), wrong_epoch(3, 0));
    }
    for command in commands(0, 9) {
        let reply = refuse(&mut Group::adopted(), command);
        assert_eq!(reply, not_now("server db9 is not defined"));
    }
    for (command, what) in commands(1, 2).into_iter().zip(["a chore", "a quarantine"]) {
        let reply = refuse(&mut Group::passed(), command);
        let why = format!("{what} has to wait: the attempt app1-1 is open");
        assert_eq!(reply, not_now(&why));
    }
}

#[test]
fn readmitted_acker_is_logged_when_its_step_begins_and_a_member_when_it_ends() {
    let mut group = Group::repointing();
    group.apply(close(1, promoted(&[])));
    group.apply(chore(1, 1, follow(2, true)));
    let step = group.cluster().chores[&name(1)].id;
    assert_eq!(group.cluster().regimes[0].ackers, names(&[3]));
    group.begin(step);
    assert_eq!(group.cluster().regimes[0].ackers, names(&[1, 3]));
    group.end(step, failed());
    assert_eq!(group.cluster().regimes[0].ackers, names(&[1, 3]), "never smaller than the truth");
    group.begin(step);
    group.end(step, met(&run(1, 9)));
    assert_eq!(group.cluster().members[&name(1)].standing, Standing::Member);
    assert!(group.cluster().chores.is_empty());
}

#[test]
fn server_that_acknowledges_no_more_is_taken_out_when_that_was_read_back() {
    let mut group = Group::with(definition(4));
    group.apply(chore(0, 4, follow(1, false)));
    let step = group.cluster().chores[&name(4)].id;
    group.begin(step);
    assert_eq!(group.cluster().regimes[0].ackers, names(&[2, 3, 4]));
    group.end(step, met(&run(1, 9).union(&run(4, 1))));
    // What it may have acknowledged must be on the others; its own transactions need not.
    let regime = Regime { base: run(1, 9), ..regime_of_db1() };
    assert_eq!(group.cluster().regimes, [regime]);
}

#[test]
fn dropped_addresses_are_remembered() {
    let mut group = Group::repointing();
    group.apply(close(1, promoted(&[3])));
    group.apply(chore(1, 3, StepKind::DropVips { vips: vec![vip()] }));
    let step = group.cluster().chores[&name(3)].id;
    group.begin(step);
    group.end(step, met(&run(1, 9)));
    let former = Standing::Former { vips_dropped: true };
    assert_eq!(group.cluster().members[&name(3)].standing, former);
}

#[test]
fn quarantine_takes_the_chore_away_and_keeps_the_reason() {
    let mut group = Group::adopted();
    group.apply(chore(0, 3, StepKind::MakeReadOnly));
    assert_eq!(group.apply(quarantine(0, 3)), Reply::Ok);
    let standing = Standing::Quarantined { errant: run(3, 1), findings: None, saved: None };
    assert_eq!(group.cluster().members[&name(3)].standing, standing);
    assert!(group.cluster().chores.is_empty());
}

#[test]
fn group_time_moves_forward_by_an_hour_at_most() {
    let mut group = Group::empty();
    let advance = |from_ms, by_ms| Command::AdvanceTime { from_ms, by_ms };
    assert_eq!(group.apply(advance(0, 1500)), Reply::Ok);
    assert_eq!(group.apply(advance(1500, u64::MAX)), Reply::Ok);
    assert_eq!(group.state.clock_ms, 1500 + 3_600_000);
    // What waited in a log while time moved on does not count twice.
    let why = "measured from group time 1500 ms, it is 3601500 ms now".into();
    assert_eq!(refuse(&mut group, advance(1500, 60_000)), rejected(Rejection::NotNow { why }));
}
