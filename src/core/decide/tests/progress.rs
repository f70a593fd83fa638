//! The next moves for an open attempt, stage by stage.

use std::collections::BTreeSet;

use super::{bereft_view, freezing, seen, short};
use crate::{
    decide::{Move, View, progress, stage},
    fixture::*,
    model::{
        Answer, ClusterDefinition, Epoch, GtidSet, Micros, Millis, Mode, Outcome, Receiver, Stage,
        StepEvidence, StepOutcome, Term,
    },
    state::{Command, Planned, Reply},
};

fn next(view: &View) -> Vec<Move> {
    let (cluster, seen) = super::parts(view);
    let attempt = cluster.attempt.as_ref().expect("an attempt is open");
    progress::next(view, cluster, seen, attempt, Term(TERM))
}

fn moves(group: &Group) -> Vec<String> {
    short(&next(&bereft_view(group)))
}

/// The one command that is proposed.
fn proposed(view: &View) -> Command {
    match &next(view)[..] {
        [Move::Propose { command }] => (**command).clone(),
        other => panic!("wanted one proposal, found {:?}", short(other)),
    }
}

fn planned(server: u64, goal: crate::model::StepKind) -> Planned {
    Planned { target: name(server), goal }
}

/// db2's receiver is stopped; db3's stop has failed.
fn half_frozen() -> Group {
    let mut group = freezing();
    let stops = group.steps("stop_receiver");
    group.begin(stops[0]);
    group.end(stops[0], met(&run(1, 9)));
    group.begin(stops[1]);
    group.end(stops[1], failed());
    group.meet("fence", &GtidSet::empty());
    group
}

#[test]
fn freeze_stops_and_fences_at_once_in_quorum_mode() {
    let expected = ["run fence db1", "run stop_receiver db2", "run stop_receiver db3"];
    assert_eq!(moves(&freezing()), expected);
}

#[test]
fn freeze_fences_first_in_the_other_modes() {
    for mode in [Mode::Fenced, Mode::BestEffort] {
        let mut group = Group::with(ClusterDefinition { mode, ..definition(3) });
        group.open();
        assert_eq!(moves(&group), ["run fence db1"], "{mode:?}");
        group.meet("fence", &GtidSet::empty());
        let expected = ["run stop_receiver db2", "run stop_receiver db3"];
        assert_eq!(moves(&group), expected, "{mode:?}");
    }
}

#[test]
fn step_that_runs_or_failed_a_moment_ago_is_not_run_again() {
    let mut group = freezing();
    let (fence, stops) = (group.steps("fence")[0], group.steps("stop_receiver"));
    group.begin(stops[0]);
    group.end(stops[0], failed());
    let mut view = bereft_view(&group);
    seen(&mut view).running.insert(fence, NOW);
    seen(&mut view).ended.insert(stops[0], NOW.minus(Millis(199)));
    assert_eq!(short(&next(&view)), ["run stop_receiver db3"]);
    seen(&mut view).ended.insert(stops[0], NOW.minus(Millis(200)));
    assert_eq!(short(&next(&view)), ["run stop_receiver db2", "run stop_receiver db3"]);
}

#[test]
fn pause_after_each_failure_doubles_up_to_sixteen_times() {
    let mut group = freezing();
    let stop = group.steps("stop_receiver")[0];
    for (failures, pause) in [(1, 200), (2, 400), (3, 800), (4, 1600), (5, 3200), (6, 3200)] {
        group.begin(stop);
        group.end(stop, failed());
        let is_run = |ago: u64| {
            let mut view = bereft_view(&group);
            seen(&mut view).ended.insert(stop, NOW.minus(Millis(ago)));
            short(&next(&view)).contains(&"run stop_receiver db2".to_owned())
        };
        assert!(is_run(pause) && !is_run(pause - 1), "after {failures} failures");
    }
}

#[test]
fn step_that_was_lost_with_its_leader_is_run_again() {
    let mut group = freezing();
    for step in group.steps("stop_receiver") {
        group.begin(step);
    }
    let expected = ["run fence db1", "run stop_receiver db2", "run stop_receiver db3"];
    assert_eq!(moves(&group), expected);
}

#[test]
fn step_whose_beginning_or_end_was_not_agreed_waits_a_moment() {
    let mut group = freezing();
    let (fence, stop) = (group.steps("fence")[0], group.steps("stop_receiver")[0]);
    // Of one the beginning is not in the record, of the other the end.
    group.begin(stop);
    let with_ended = |ago: u64| {
        let mut view = bereft_view(&group);
        for step in [fence, stop] {
            seen(&mut view).ended.insert(step, NOW.minus(Millis(ago)));
        }
        short(&next(&view))
    };
    assert_eq!(with_ended(99), ["run stop_receiver db3"]);
    let all = ["run fence db1", "run stop_receiver db2", "run stop_receiver db3"];
    assert_eq!(with_ended(100), all);
}

#[test]
fn order_carries_the_token_the_places_and_whom_nobody_may_read_from() {
    let group = freezing();
    let Some(Move::Run { order }) = next(&bereft_view(&group)).into_iter().nth(1) else {
        panic!("a step is run");
    };
    let token = (order.token.epoch, order.token.term, order.token.seq);
    assert_eq!(token, (Epoch(1), Term(TERM), 1));
    assert_eq!(order.place.server.name, name(2));
    assert_eq!(order.others.into_keys().collect::<BTreeSet<_>>(), names(&[1, 3]));
    assert_eq!((order.primary, order.revoked), (Some(name(1)), names(&[1])));
    assert_eq!(order.deadline, Micros(10_000_000));
}

#[test]
fn frozen_and_fenced_attempt_elects() {
    let mut group = freezing();
    group.meet("stop_receiver", &run(1, 9));
    group.meet("fence", &GtidSet::empty());
    let mut view = bereft_view(&group);
    seen(&mut view).opened_at = Some(NOW.minus(Millis(5)));
    let Command::Elect { election, steps, at_us, epoch, .. } = proposed(&view) else {
        panic!("an election");
    };
    let expected = crate::model::Election {
        ranking: election.ranking.clone(),
        loss: "nothing that was acknowledged: the stopped servers hold it all".into(),
        ..crate::fixture::election()
    };
    assert_eq!(*election, expected);
    assert_eq!(steps, [], "it had applied everything when it was frozen");
    assert_eq!((epoch, at_us), (Epoch(1), Some(Micros(5_000))));
}

#[test]
fn candidate_that_lacks_transactions_has_a_donor() {
    let mut group = freezing();
    group.cluster_mut().definition.servers[1].promotion = crate::model::PromotionRule::Prefer;
    let stops = group.steps("stop_receiver");
    for (stop, last) in stops.into_iter().zip([7, 9]) {
        group.begin(stop);
        group.end(stop, met(&run(1, last)));
    }
    group.meet("fence", &GtidSet::empty());
    let Command::Elect { election, steps, .. } = proposed(&bereft_view(&group)) else {
        panic!("an election");
    };
    assert_eq!((election.candidate, election.donor), (name(2), Some(name(3))));
    let catch_up = crate::model::StepKind::CatchUp { donor: name(3), target: run(1, 9) };
    let apply = crate::model::StepKind::Apply { target: run(1, 9) };
    assert_eq!(steps, [planned(2, catch_up), planned(2, apply)]);
}

#[test]
fn acker_that_restarted_between_its_last_look_and_its_stop_is_no_evidence() {
    let mut group = freezing();
    group.meet("fence", &GtidSet::empty());
    let found = |uptime| {
        let (executed, received) = (run(1, 9), run(1, 9));
        let read_only = true;
        let evidence = StepEvidence::Server {
            executed,
            received,
            read_only,
            uptime_seconds: Some(uptime),
            waited_for: None,
            closing: None,
        };
        StepOutcome::FoundDone { evidence }
    };
    let stops = group.steps("stop_receiver");
    for (stop, uptime) in stops.iter().zip([10_000, 1]) {
        group.begin(*stop);
        group.end(*stop, found(uptime));
    }
    let mut view = bereft_view(&group);
    let at = |millis| NOW.minus(Millis(millis));
    seen(&mut view).ended.extend(stops.iter().map(|stop| (*stop, at(50))));
    assert_eq!(short(&next(&view)), ["run read_log db1"]);
    // By a look that is younger than the stop it is the server that it was.
    let look = seen(&mut view).observations.get_mut(&name(3)).expect("it was looked at");
    look.at = at(50);
    assert_eq!(short(&next(&view)), ["propose elect"]);
}

#[test]
fn quorum_mode_elects_beside_the_fence_and_waits_for_it_only_so_long_before_it_opens() {
    let mut group = Group::adopted();
    group.open();
    let fence = group.steps("fence")[0];
    group.begin(fence);
    group.meet("stop_receiver", &run(1, 9));
    let after = |group: &Group, millis| {
        let mut view = bereft_view(group);
        seen(&mut view).observations.insert(name(3), look(3, replica_facts(3, 2, run(1, 9))));
        seen(&mut view).running.insert(fence, NOW);
        seen(&mut view).opened_at = Some(NOW.minus(Millis(millis)));
        short(&next(&view))
    };
    assert_eq!(after(&group, 0), ["propose elect"]);
    group.elect();
    group.pass();
    group.meet("detach", &run(1, 9));
    group.meet("follow", &run(1, 9));
    assert_eq!(after(&group, 299), [""; 0]);
    assert_eq!(after(&group, 300), ["run open_for_writes db2"]);
}

#[test]
fn without_coverage_there_is_no_election_and_in_the_end_an_undo() {
    let group = half_frozen();
    let mut view = bereft_view(&group);
    assert_eq!(short(&next(&view)), ["run stop_receiver db3", "run read_log db1"]);
    seen(&mut view).progress_at = NOW.minus(Millis(30_000));
    let Command::Undo { why, steps, .. } = proposed(&view) else { panic!("an undo") };
    let expected = "only the receiver(s) of db2 were read back as stopped: that is no coverage, and \
                    the log of db1 was not read: no time was left";
    assert_eq!(why, expected);
    let resume = crate::model::StepKind::ResumeReceiver;
    let wake = crate::model::StepKind::Wake;
    assert_eq!(steps, [planned(2, resume.clone()), planned(3, resume), planned(1, wake)]);
}

#[test]
fn election_waits_for_stops_that_have_not_answered_yet() {
    let mut group = Group::with(ClusterDefinition { acks: 2, ..definition(5) });
    group.open();
    let stops = group.steps("stop_receiver");
    for stop in &stops[..3] {
        group.begin(*stop);
        group.end(*stop, met(&run(1, 9)));
    }
    group.meet("fence", &GtidSet::empty());
    group.begin(stops[3]);
    let after = |millis| {
        let mut view = bereft_view(&group);
        seen(&mut view).running.insert(stops[3], NOW.minus(Millis(millis)));
        short(&next(&view))
    };
    assert_eq!(after(999), [""; 0]);
    assert_eq!(after(1000), ["propose elect"]);
}

#[test]
fn fence_that_cannot_be_proved_ends_a_fenced_attempt_and_not_one_of_best_effort() {
    for (mode, expected) in [
        (Mode::Fenced, vec!["propose undo"]),
        (Mode::BestEffort, vec!["run fence db1", "run stop_receiver db2", "run stop_receiver db3"]),
    ] {
        let mut group = Group::with(ClusterDefinition { mode, ..definition(3) });
        group.open();
        let fence = group.steps("fence")[0];
        for _ in 0..3 {
            assert_eq!(moves(&group), ["run fence db1"], "{mode:?}");
            group.begin(fence);
            group.end(fence, failed());
        }
        assert_eq!(moves(&group), expected, "{mode:?}");
    }
}

#[test]
fn tries_to_fence_that_take_long_do_not_use_up_the_budget_of_best_effort() {
    let mut group = Group::with(ClusterDefinition { mode: Mode::BestEffort, ..definition(3) });
    group.open();
    let fence = group.steps("fence")[0];
    group.begin(fence);
    let with = |waited: Millis| {
        let mut view = bereft_view(&group);
        seen(&mut view).running.insert(fence, NOW.minus(waited));
        seen(&mut view).opened_at = Some(NOW.minus(waited));
        short(&next(&view))
    };
    assert_eq!(with(Millis(14_999)), [""; 0]);
    assert_eq!(with(Millis(15_000)), ["run stop_receiver db2", "run stop_receiver db3"]);
}

#[test]
fn word_of_an_operator_is_a_fence() {
    let mut group = Group::with(ClusterDefinition { mode: Mode::Fenced, ..definition(3) });
    group.open();
    if let Some(attempt) = &mut group.cluster_mut().attempt {
        attempt.opening.asserted_dead = true;
    }
    let expected = ["run fence db1", "run stop_receiver db2", "run stop_receiver db3"];
    assert_eq!(moves(&group), expected);
}

#[test]
fn opening_that_waited_in_a_log_is_confirmed_before_its_first_step() {
    for term in [TERM - 1, TERM] {
        confirmed_before_its_first_step(term);
    }
}

/// The entry may have waited in the log of this very leader, while nobody followed it.
fn confirmed_before_its_first_step(term: u64) {
    let mut group = Group::adopted();
    let steps = stage::freeze(group.cluster());
    let (cluster, expected) = ("app1".into(), Epoch(0));
    let opening = Box::new(opening(Epoch(0)));
    let open = Command::OpenAttempt { cluster, expected, opening, steps };
    group.apply_in(term, open);
    let told = |answers| {
        let mut view = bereft_view(&group);
        seen(&mut view).tally = Some(tally(Epoch(1), answers));
        view
    };
    let (down, up, unknown) = (Answer::Down, Answer::Up, Answer::Unknown);
    let unclear = told([down, unknown, up]);
    assert_eq!(short(&next(&unclear)), [""; 0]);
    let dead = told([down, down, up]);
    let expected = ["run fence db1", "run stop_receiver db2", "run stop_receiver db3"];
    assert_eq!(short(&next(&dead)), expected);
    let Command::Undo { why, .. } = proposed(&told([down, up, up])) else { panic!("an undo") };
    assert_eq!(why, "the primary answers again");
    let mut stuck = unclear;
    seen(&mut stuck).progress_at = NOW.minus(Millis(30_000));
    let Command::Undo { why, .. } = proposed(&stuck) else { panic!("an undo") };
    assert_eq!(why, "the primary's death was not confirmed");
    // Ballots of the epoch that it was opened in are as good, while they are young.
    let mut before = told([down, down, up]);
    seen(&mut before).tally = Some(tally(Epoch(0), [down, down, up]));
    assert_eq!(short(&next(&before)).len(), 3);
    let mut old = tally(Epoch(0), [down, down, up]);
    old.ballots.values_mut().for_each(|counted| counted.age = Micros(1_000_001));
    seen(&mut before).tally = Some(old);
    assert_eq!(short(&next(&before)), [""; 0]);
    // Begun by a leader before this one, it still has to be confirmed; fenced, it has not.
    let stop = group.steps("stop_receiver")[0];
    let begin = Command::BeginStep { cluster: "app1".into(), step: stop };
    group.apply_in(TERM - 1, begin);
    let waiting = |group: &Group| {
        let mut view = bereft_view(group);
        seen(&mut view).tally = Some(tally(Epoch(1), [down, unknown, up]));
        short(&next(&view)).is_empty()
    };
    assert!(waiting(&group));
    group.begin(stop);
    assert!(!waiting(&group));
    let mut fenced = freezing();
    let fence = fenced.steps("fence")[0];
    fenced.apply_in(TERM - 1, Command::BeginStep { cluster: "app1".into(), step: fence });
    assert!(waiting(&fenced));
    fenced.apply(end_step(fence, TERM - 1, met(&GtidSet::empty())));
    assert!(!waiting(&fenced));
}

#[test]
fn freeze_waits_for_ballots_again_once_its_leader_has_stalled() {
    let mut group = freezing();
    group.meet("stop_receiver", &run(1, 9));
    let (down, up, unknown) = (Answer::Down, Answer::Up, Answer::Unknown);
    let after = |stalled: u64, answers| {
        let mut view = bereft_view(&group);
        view.stalled = Some((NOW.minus(Millis(stalled)), Micros(4_000_000)));
        seen(&mut view).opened_at = Some(NOW.minus(Millis(5_000)));
        seen(&mut view).tally = Some(tally(Epoch(1), answers));
        view
    };
    let unclear = [down, up, unknown];
    // A stall before it was opened says nothing of the ballots that it was opened on.
    assert_eq!(short(&next(&after(5_001, unclear))), ["propose elect"]);
    assert_eq!(short(&next(&after(4_000, unclear))), [""; 0]);
    assert_eq!(short(&next(&after(4_000, [down, down, unknown]))), ["propose elect"]);
    let mut stuck = after(4_000, unclear);
    seen(&mut stuck).progress_at = NOW.minus(Millis(30_000));
    let Command::Undo { why, .. } = proposed(&stuck) else { panic!("an undo") };
    assert_eq!(why, "the primary's death was not confirmed");
    // Replicas that hear it are the second key: not confirmed either.
    let mut heard = after(4_000, [down, down, unknown]);
    let ballots = seen(&mut heard).tally.iter_mut().flat_map(|tally| tally.ballots.values_mut());
    ballots.for_each(|counted| {
        let hears = crate::model::Hearing::Hears { age: Micros(0) };
        counted.ballot.hearing.insert(name(2), hears);
    });
    assert_eq!(short(&next(&heard)), [""; 0]);
    group.meet("fence", &GtidSet::empty());
    assert_eq!(short(&next(&after_fenced(&group, unclear))), ["propose elect"]);
}

/// The leader has stalled since; the old primary is fenced.
fn after_fenced(group: &Group, answers: [Answer; 3]) -> View {
    let mut view = bereft_view(group);
    view.stalled = Some((NOW, Micros(4_000_000)));
    seen(&mut view).tally = Some(tally(Epoch(1), answers));
    view
}

#[test]
fn freeze_of_a_primary_that_answers_a_majority_again_is_given_up_unless_it_is_fenced() {
    let mut group = freezing();
    group.meet("stop_receiver", &run(1, 9));
    let (up, unknown) = (Answer::Up, Answer::Unknown);
    let told = |group: &Group| {
        let mut view = bereft_view(group);
        seen(&mut view).tally = Some(tally(Epoch(1), [up, up, unknown]));
        view
    };
    let Command::Undo { why, .. } = proposed(&told(&group)) else { panic!("an undo") };
    assert_eq!(why, "the primary answers again");
    let mut striking = told(&group);
    seen(&mut striking).running.insert(group.steps("fence")[0], NOW);
    seen(&mut striking).opened_at = Some(NOW);
    assert_eq!(short(&next(&striking)), [""; 0]);
    group.meet("fence", &GtidSet::empty());
    assert_eq!(short(&next(&told(&group))), ["propose elect"]);
}

#[test]
fn freeze_that_has_stopped_nobody_is_given_up_when_a_replica_hears_the_primary_again() {
    let mut group = freezing();
    let fence = group.steps("fence")[0];
    group.begin(fence);
    group.end(fence, crate::fixture::failed());
    let heard = |group: &Group| {
        let mut view = bereft_view(group);
        let (down, unknown) = (Answer::Down, Answer::Unknown);
        let mut told = tally(Epoch(1), [down, down, unknown]);
        told.ballots.values_mut().for_each(|counted| {
            let hears = crate::model::Hearing::Hears { age: Micros(0) };
            counted.ballot.hearing.insert(name(2), hears);
        });
        seen(&mut view).tally = Some(told);
        view
    };
    let Command::Undo { why, .. } = proposed(&heard(&group)) else { panic!("an undo") };
    assert_eq!(why, "a replica hears the primary again");
    let mut striking = heard(&group);
    seen(&mut striking).running.insert(fence, NOW);
    assert_eq!(short(&next(&striking)), ["run stop_receiver db2", "run stop_receiver db3"]);
    // Once one was stopped, what the others say comes too late.
    let stop = group.steps("stop_receiver")[0];
    group.begin(stop);
    assert!(!short(&next(&heard(&group))).contains(&"propose undo".to_owned()));
}

#[test]
fn recovery_runs_its_steps_in_order_and_passes_when_they_are_met() {
    let mut group = Group::elected();
    assert_eq!(moves(&group), ["run apply db2"]);
    group.meet("apply", &run(1, 12));
    let Command::PassPointOfNoReturn { executed, steps, .. } = proposed(&bereft_view(&group))
    else {
        panic!("entry 9");
    };
    assert_eq!(executed, run(1, 12));
    let goals: Vec<_> = steps.iter().map(|s| format!("{} {}", s.goal.code(), s.target)).collect();
    assert_eq!(goals, ["detach db2", "follow db3", "open_for_writes db2", "take_vip db2"]);
}

#[test]
fn recovery_that_fails_three_times_or_gets_nowhere_is_undone() {
    let mut group = Group::elected();
    let mut view = bereft_view(&group);
    seen(&mut view).progress_at = NOW.minus(Millis(30_000));
    assert_eq!(short(&next(&view)), ["propose undo"]);
    let apply = group.steps("apply")[0];
    for _ in 0..3 {
        assert_eq!(moves(&group), ["run apply db2"]);
        group.begin(apply);
        group.end(apply, failed());
    }
    let Command::Undo { why, .. } = proposed(&bereft_view(&group)) else { panic!("an undo") };
    assert_eq!(why, "db2 could not be brought level");
}

#[test]
fn promotion_opens_when_detached_and_followed_and_publishes_when_open() {
    let mut group = Group::passed();
    assert_eq!(moves(&group), ["run detach db2", "run follow db3"]);
    group.meet("detach", &run(1, 9));
    assert_eq!(moves(&group), ["run follow db3"]);
    group.meet("follow", &run(1, 9));
    assert_eq!(promoting(&group), ["run open_for_writes db2"]);
    group.meet("open_for_writes", &run(1, 9));
    assert_eq!(promoting(&group), ["run take_vip db2"]);
    group.meet("take_vip", &run(1, 9));
    assert_eq!(promoting(&group), ["propose enter_repoint"]);
}

/// The moves while db3 is seen behind db2.
fn promoting(group: &Group) -> Vec<String> {
    let mut view = bereft_view(group);
    seen(&mut view).observations.insert(name(3), look(3, replica_facts(3, 2, run(1, 9))));
    short(&next(&view))
}

#[test]
fn acker_that_is_lost_again_before_the_opening_is_brought_back_first() {
    let mut group = Group::passed();
    group.meet("detach", &run(1, 9));
    group.meet("follow", &run(1, 9));
    let step = group.steps("follow")[0];
    let with = |receiver, ended: u64| {
        let mut view = bereft_view(&group);
        let mut facts = replica_facts(3, 2, run(1, 9));
        link(&mut facts).receiver = receiver;
        seen(&mut view).observations.insert(name(3), look(3, facts));
        seen(&mut view).ended.insert(step, NOW.minus(Millis(ended)));
        short(&next(&view))
    };
    assert_eq!(with(Receiver::On, 200), ["run open_for_writes db2"]);
    assert_eq!(with(Receiver::Off, 200), ["run follow db3"]);
    // A look from before it followed says nothing.
    assert_eq!(with(Receiver::Off, 50), ["run open_for_writes db2"]);
}

#[test]
fn address_that_cannot_be_taken_keeps_nobody_waiting() {
    let mut group = Group::passed();
    for code in ["detach", "follow", "open_for_writes"] {
        group.meet(code, &run(1, 9));
    }
    let vip = group.steps("take_vip")[0];
    for _ in 0..3 {
        assert_eq!(moves(&group), ["run take_vip db2"]);
        group.begin(vip);
        group.end(vip, failed());
    }
    assert_eq!(moves(&group), ["propose enter_repoint"]);
}

#[test]
fn past_entry_nine_nothing_is_undone_however_long_it_takes() {
    let mut view = bereft_view(&Group::passed());
    seen(&mut view).progress_at = NOW.minus(Millis(90_000));
    assert_eq!(short(&next(&view)), ["run detach db2", "run follow db3"]);
}

#[test]
fn unfinished_fence_is_tried_on_past_the_freeze() {
    let mut group = freezing();
    group.meet("stop_receiver", &run(1, 9));
    let election = election();
    let steps = stage::recover(&election, &GtidSet::empty());
    let (cluster, epoch, election) = ("app1".into(), Epoch(1), Box::new(election));
    let elect = Command::Elect { cluster, epoch, election, steps, at_us: None };
    assert!(matches!(group.apply(elect), Reply::Opened { .. }));
    assert_eq!(moves(&group), ["run fence db1", "run apply db2"]);
}

/// db4 and db5 are there, too; db4 is no acker, db5 was not reached.
fn repointing_five() -> Group {
    let mut group = Group::with(definition(5));
    group.open();
    for stop in &group.steps("stop_receiver")[..3] {
        group.begin(*stop);
        group.end(*stop, met(&run(1, 9)));
    }
    let election =
        crate::model::Election { recruits: names(&[2, 3, 4]), ..crate::fixture::election() };
    let entry = crate::model::EntryNine { election: election.clone(), executed: run(1, 9) };
    let view = bereft_view(&group);
    let steps = stage::repoint(group.cluster(), super::parts(&view).1, &election);
    if let Some(attempt) = &mut group.cluster_mut().attempt {
        attempt.stage = Stage::Promote { entry };
        attempt.steps.retain(|step| step.goal.code() != "stop_receiver");
        attempt.steps[0].goal = crate::model::StepKind::OpenForWrites {
            acks: 1,
            ackers: names(&[3]),
            recruits: names(&[2, 3, 4]),
        };
    }
    group.meet("open_for_writes", &run(1, 9));
    let (cluster, epoch) = ("app1".into(), Epoch(1));
    let enter = Command::EnterRepoint { cluster, epoch, steps, at_us: None };
    assert!(matches!(group.apply(enter), Reply::Opened { .. }));
    group
}

#[test]
fn repointing_ends_with_the_names_of_those_left_behind() {
    let mut group = repointing_five();
    assert_eq!(moves(&group), ["run follow db4"]);
    let follow = group.steps("follow")[0];
    group.begin(follow);
    group.end(follow, failed());
    let Command::CloseAttempt { outcome, .. } = proposed(&bereft_view(&group)) else {
        panic!("the end");
    };
    assert_eq!(outcome, Outcome::Promoted { left_behind: names(&[4, 5]) });
}

#[test]
fn undo_resumes_then_wakes_then_closes_with_what_it_could_not_do() {
    let mut group = Group::undoing();
    let expected = ["run resume_receiver db2", "run resume_receiver db3"];
    assert_eq!(moves(&group), expected);
    let resumes = group.steps("resume_receiver");
    group.begin(resumes[0]);
    group.end(resumes[0], met(&run(1, 9)));
    for _ in 0..3 {
        assert_eq!(moves(&group), ["run resume_receiver db3"]);
        group.begin(resumes[1]);
        group.end(resumes[1], failed());
    }
    let wake = group.steps("wake")[0];
    for _ in 0..3 {
        assert_eq!(moves(&group), ["run wake db1"]);
        group.begin(wake);
        group.end(wake, failed());
    }
    let Command::CloseAttempt { outcome, .. } = proposed(&bereft_view(&group)) else {
        panic!("the end");
    };
    let unfinished = vec!["resume_receiver on db3".into(), "wake on db1".into()];
    assert_eq!(outcome, Outcome::Aborted { why: "a test".into(), unfinished });
}

#[test]
fn outcome_unknown_is_a_failure_until_the_next_run_tells() {
    let mut group = Group::elected();
    let apply = group.steps("apply")[0];
    group.begin(apply);
    group.end(apply, StepOutcome::Unknown { why: "a test".into() });
    assert_eq!(moves(&group), ["run apply db2"]);
    group.begin(apply);
    let evidence = StepEvidence::Server {
        executed: run(1, 9),
        received: run(1, 9),
        read_only: true,
        uptime_seconds: None,
        waited_for: None,
        closing: None,
    };
    group.end(apply, StepOutcome::FoundDone { evidence });
    assert_eq!(moves(&group), ["propose pass_point_of_no_return"]);
}
