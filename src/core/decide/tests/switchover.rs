//! A planned switchover: each check that fails, and the way through its stages.

use super::{parts, seen, short};
use crate::{
    decide::{LastWrites, Move, StepOrder, View, Wish, gate::refusals, progress, tick},
    fixture::*,
    model::{
        Answer, Applier, Busy, Cause, Closing, ClusterDefinition, Epoch, GtidSet, Micros, Mode,
        Mono, Refusal, ServerFacts, StepEvidence, StepKind, StepOutcome, Survey, Switchover, Term,
        Work,
    },
    state::{Command, LastFailover, Planned, Reply},
};

fn plan() -> Switchover {
    Switchover { deadline_ms: Switchover::DEADLINE, leaves_old: false, cuts: false }
}

fn wish() -> Wish {
    Wish {
        actor: ann(),
        wanted: None,
        asserted_dead: false,
        interval_waived: false,
        switchover: Some(plan()),
    }
}

/// A leader's view of three servers that are well, with nobody busy on the primary.
fn well(group: &Group) -> View {
    let mut view = view(group, healthy());
    let epoch = group.cluster().epoch;
    seen(&mut view).tally = Some(tally(epoch, [Answer::Up, Answer::Up, Answer::Up]));
    seen(&mut view).survey = Some((NOW, Ok(Survey::default())));
    seen(&mut view).wish = Some(wish());
    view
}

fn all(view: &View) -> Vec<Refusal> {
    refusals(view, &"app1".into(), Some(&wish()))
}

fn codes(view: &View, wish: &Wish) -> Vec<&'static str> {
    refusals(view, &"app1".into(), Some(wish)).iter().map(Refusal::code).collect()
}

/// Changes what a server was seen to be.
fn change(view: &mut View, server: u64, change: impl FnOnce(&mut ServerFacts)) {
    let look = seen(view).observations.get_mut(&name(server)).expect("it was looked at");
    change(look.seen.as_mut().expect("it was reached"));
}

#[test]
fn three_servers_that_are_well_are_refused_by_nothing_whatever_the_interval_and_a_pause_say() {
    let mut group = Group::adopted();
    assert_eq!(all(&well(&group)), []);
    group.cluster_mut().definition.policy.last_failover_minutes = 480;
    group.cluster_mut().last_failover = Some(LastFailover { epoch: Epoch(0), at_ms: 0 });
    group.apply(Command::Pause { cluster: "app1".into(), actor: ann(), reason: String::new() });
    assert_eq!(all(&well(&group)), []);
    let moves = tick(&well(&group));
    let [Move::Propose { command }] = &moves[..] else { panic!("{:?}", short(&moves)) };
    let Command::OpenAttempt { opening, .. } = &**command else { panic!("{command}") };
    assert!(opening.interval_waived, "and the record says so");
    assert_eq!(opening.wanted, Some(name(2)));
}

#[test]
fn primary_that_is_not_up_or_takes_no_writes() {
    let mut view = well(&Group::adopted());
    let refused = |why: &str| vec![Refusal::PrimaryNotWell { server: name(1), why: why.into() }];
    change(&mut view, 1, |facts| facts.read_only = true);
    assert_eq!(all(&view), refused("takes no writes"));
    seen(&mut view).tally = Some(tally(Epoch(0), [Answer::Up, Answer::Down, Answer::Unknown]));
    assert_eq!(all(&view), refused("is up for 1 managers, 2 are needed"));
}

#[test]
fn server_asked_for_that_is_the_primary_unknown_or_unfit() {
    let view = well(&Group::adopted());
    let asked = |server| Wish { wanted: Some(name(server)), ..wish() };
    let why = |server| match &refusals(&view, &"app1".into(), Some(&asked(server)))[..] {
        [Refusal::CandidateRefused { why, .. }] => why.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(why(1), "it is the primary already");
    assert_eq!(why(9), "it is not a replica of this cluster");
    let mut group = Group::adopted();
    group.cluster_mut().members.get_mut(&name(3)).expect("db3").left_out = Some(ann());
    let view = well(&group);
    let left = refusals(&view, &"app1".into(), Some(&asked(3)));
    assert!(left[0].sentence().contains("left out by an operator"), "{left:?}");
}

#[test]
fn candidate_that_is_behind_broken_or_follows_somebody_else() {
    let asked = Wish { wanted: Some(name(2)), ..wish() };
    let with = |of: &dyn Fn(&mut ServerFacts)| {
        let mut view = well(&Group::adopted());
        change(&mut view, 2, |facts| of(facts));
        codes(&view, &asked)
    };
    assert_eq!(with(&|_| {}), Vec::<&str>::new());
    assert_eq!(with(&|facts| link(facts).applier = Applier::Off), ["gate.candidate_refused"]);
    let elsewhere = |facts: &mut ServerFacts| link(facts).source_host = "10.0.0.3".into();
    assert_eq!(with(&elsewhere), ["gate.candidate_refused"]);
    let late = |facts: &mut ServerFacts| {
        facts.executed = run(1, 5);
        link(facts).lag_seconds = Some(90);
    };
    assert_eq!(with(&late), ["gate.lagging"]);
    let own = |facts: &mut ServerFacts| facts.executed = run(1, 9).union(&run(2, 1));
    assert!(with(&own).contains(&"gate.candidate_refused"));
}

#[test]
fn filters_versions_and_settings_of_the_new_set() {
    let mut view = well(&Group::adopted());
    for replica in [2, 3] {
        change(&mut view, replica, |facts| facts.version = "9.8.0".into());
    }
    change(&mut view, 2, |facts| facts.sync_binlog = 0);
    change(&mut view, 3, |facts| link(facts).filters = "Replicate_Do_DB: app".into());
    let asked = Wish { wanted: Some(name(2)), ..wish() };
    let found = codes(&view, &asked);
    assert_eq!(found, ["gate.filters", "gate.requirement", "gate.older_version"]);
    // The old primary may stay out of it; a replica that is older may not.
    let left = Switchover { leaves_old: true, ..plan() };
    let found = codes(&view, &Wish { switchover: Some(left), ..asked.clone() });
    assert_eq!(found.iter().filter(|code| **code == "gate.older_version").count(), 0);
    change(&mut view, 3, |facts| facts.version = "9.7.4".into());
    assert_eq!(codes(&view, &asked), ["gate.candidate_refused"]);
}

#[test]
fn primary_that_cannot_keep_privileged_sessions_from_writing() {
    for (version, product) in [("11.8.6-MariaDB", "MariaDB 11.8.6"), ("5.6.24-log", "MySQL 5.6.24")]
    {
        let group = Group::with(ClusterDefinition { mode: Mode::Fenced, ..definition(3) });
        let mut view = well(&group);
        for server in 1..=3 {
            change(&mut view, server, |facts| facts.version = version.into());
        }
        let what = format!(
            "{product} has no super_read_only: privileged sessions could write on after a switchover"
        );
        assert_eq!(all(&view), [Refusal::Unsupported { server: name(1), what }]);
    }
}

#[test]
fn acker_that_is_not_reached_leaves_the_primary_unrevoked() {
    let mut view = well(&Group::adopted());
    seen(&mut view).observations.insert(name(3), no_look(3));
    assert_eq!(codes(&view, &wish()), ["gate.no_coverage"]);
}

#[test]
fn sessions_that_have_been_busy_for_long_are_asked_for_unless_they_may_be_cut() {
    let mut view = well(&Group::adopted());
    let busy = |what, seconds| Busy {
        id: 42,
        account: "app".into(),
        host: "10.0.0.9".into(),
        what,
        seconds,
    };
    let with = |view: &mut View, busy: Busy| {
        seen(view).survey =
            Some((NOW, Ok(Survey { busy: vec![busy], binlog_filters: String::new() })));
    };
    with(&mut view, busy(Work::Transaction, 2));
    assert_eq!(all(&view), []);
    for work in [busy(Work::Transaction, 9), busy(Work::Statement, 9), busy(Work::Locks, 0)] {
        with(&mut view, work.clone());
        let sessions = vec![work.to_string()];
        assert_eq!(all(&view), [Refusal::SessionsInTheWay { server: name(1), sessions }]);
        let cuts = Wish { switchover: Some(Switchover { cuts: true, ..plan() }), ..wish() };
        assert_eq!(codes(&view, &cuts), Vec::<&str>::new());
    }
    seen(&mut view).survey = Some((Mono(NOW.0 - 2_000_000), Ok(Survey::default())));
    assert_eq!(codes(&view, &wish()), ["gate.not_surveyed"]);
}

#[test]
fn open_attempt_or_an_unknown_primary_refuses_at_once() {
    let mut group = Group::adopted();
    group.open();
    assert_eq!(codes(&well(&group), &wish()), ["gate.attempt_open"]);
}

/// An attempt for a switchover to db2.
fn opened() -> Group {
    opened_with(plan())
}

fn opened_with(plan: Switchover) -> Group {
    let mut group = Group::adopted();
    let mut view = well(&group);
    seen(&mut view).wish = Some(Wish { switchover: Some(plan), ..wish() });
    let moves = tick(&view);
    let [Move::Propose { command }] = &moves[..] else { panic!("{:?}", short(&moves)) };
    assert!(matches!(group.apply((**command).clone()), Reply::Opened { .. }));
    group
}

/// The same in the middle of it: db3 has gone behind db2.
fn at_work(group: &Group) -> View {
    let mut view = well(group);
    change(&mut view, 3, |facts| link(facts).source_host = "10.0.0.2".into());
    seen(&mut view).wish = None;
    seen(&mut view).opened_at = Some(NOW);
    view
}

fn next(view: &View) -> Vec<Move> {
    let (cluster, seen) = parts(view);
    let attempt = cluster.attempt.as_ref().expect("an attempt is open");
    progress::next(view, cluster, seen, attempt, Term(TERM))
}

fn moves(group: &Group) -> Vec<String> {
    short(&next(&at_work(group)))
}

/// db1 is closed with these executed.
fn close(group: &mut Group, executed: &GtidSet) {
    let step = group.steps("close_for_writes")[0];
    assert_eq!(group.begin(step), Reply::Ok);
    let StepOutcome::Done { evidence: StepEvidence::Server { received, .. } } = met(executed)
    else {
        panic!("it is a server's");
    };
    let evidence = StepEvidence::Server {
        executed: executed.clone(),
        received,
        read_only: true,
        uptime_seconds: None,
        waited_for: None,
        closing: Some(Closing { cut: Vec::new(), took_us: Micros(4_000) }),
    };
    assert_eq!(group.end(step, StepOutcome::Done { evidence }), Reply::Ok);
}

#[test]
fn steps_follow_one_another_and_writes_end_last() {
    let mut group = opened();
    assert_eq!(moves(&group), ["run level db2"]);
    group.meet("level", &run(1, 9));
    assert_eq!(moves(&group), ["run follow db3"], "the primary can spare it");
    group.meet("follow", &run(1, 9));
    // The stop is begun beside the end of writes, and takes in the last of them by itself.
    assert_eq!(moves(&group), ["run close_for_writes db1", "run stop_receiver db2"]);
    let closing = group.steps("close_for_writes")[0];
    assert_eq!(stop(&group).last_writes, Some(LastWrites { closing, executed: true }));
    close(&mut group, &run(1, 12));
    assert_eq!(moves(&group), ["run stop_receiver db2"]);
    assert_eq!(stop(&group).last_writes, None, "they are where they are needed");
    group.meet("stop_receiver", &run(1, 12));
    assert_eq!(moves(&group), ["propose elect"]);
    let view = at_work(&group);
    let [Move::Propose { command }] = &next(&view)[..] else { panic!("{:?}", moves(&group)) };
    assert!(matches!(group.apply((**command).clone()), Reply::Opened { .. }));
    assert_eq!(moves(&group), ["propose pass_point_of_no_return"]);
    let view = at_work(&group);
    let [Move::Propose { command }] = &next(&view)[..] else { panic!("{:?}", moves(&group)) };
    assert!(matches!(group.apply((**command).clone()), Reply::Opened { .. }));
    // The address leads on before the new one is open; the old primary comes along after that.
    assert_eq!(group.cluster().last_failover, None, "it holds up no failover");
    let found = moves(&group);
    assert_eq!(found, ["run cut_clients db1", "run open_for_writes db2", "run take_vip db2"]);
    group.meet("open_for_writes", &run(1, 12));
    assert_eq!(moves(&group), ["run detach db2", "run cut_clients db1", "run take_vip db2"]);
    group.meet("cut_clients", &run(1, 12));
    assert_eq!(moves(&group), ["run detach db2", "run follow db1", "run take_vip db2"]);
}

/// The order to stop the candidate's receiver.
fn stop(group: &Group) -> StepOrder {
    let moves = next(&at_work(group)).into_iter();
    let mut orders = moves.filter_map(|each| match each {
        Move::Run { order } => Some(*order),
        Move::Ask { .. } | Move::Survey { .. } | Move::Propose { .. } | Move::Say { .. } => None,
    });
    orders.find(|order| order.record.goal == StepKind::StopReceiver).expect("it is to be run")
}

#[test]
fn receiver_that_was_to_be_stopped_long_before_writes_ended_is_waited_for_from_then_on() {
    let mut group = opened();
    group.meet("level", &run(1, 9));
    group.meet("follow", &run(1, 9));
    let stop = group.steps("stop_receiver")[0];
    group.begin(stop);
    close(&mut group, &run(1, 12));
    let mut view = at_work(&group);
    let ago = |ms: u64| NOW.minus(Micros(ms * 1000));
    seen(&mut view).running.insert(stop, ago(2_300));
    assert_eq!(short(&next(&view)), Vec::<String>::new(), "it is agreed, and not seen to end yet");
    let closed = group.steps("close_for_writes")[0];
    seen(&mut view).ended.insert(closed, ago(900));
    assert_eq!(short(&next(&view)), Vec::<String>::new());
    seen(&mut view).ended.insert(closed, ago(1_000));
    assert_eq!(short(&next(&view)), ["propose undo"]);
}

#[test]
fn candidate_without_the_last_write_is_not_elected() {
    let mut group = opened();
    group.meet("level", &run(1, 9));
    group.meet("follow", &run(1, 9));
    close(&mut group, &run(1, 12));
    group.meet("stop_receiver", &run(1, 11));
    assert_eq!(moves(&group), ["propose undo"]);
}

#[test]
fn step_that_fails_or_a_deadline_that_is_over_undoes_all_that_was_begun() {
    let mut group = opened();
    group.meet("level", &run(1, 9));
    group.meet("follow", &run(1, 9));
    let step = group.steps("close_for_writes")[0];
    group.begin(step);
    group.end(step, failed());
    let view = at_work(&group);
    let [Move::Propose { command }] = &next(&view)[..] else { panic!("{:?}", moves(&group)) };
    let Command::Undo { steps, why, .. } = &**command else { panic!("{command}") };
    assert!(why.contains("close_for_writes on db1 failed"), "{why}");
    let planned = |it: &Planned| format!("{} {}", it.goal.code(), it.target);
    let steps: Vec<String> = steps.iter().map(planned).collect();
    assert_eq!(steps, ["reopen db1", "follow db3", "wake db1"]);
    let mut late = at_work(&opened());
    seen(&mut late).opened_at = Some(NOW.minus(Switchover::DEADLINE));
    let [Move::Propose { command }] = &next(&late)[..] else { panic!("it goes on") };
    let Command::Undo { steps, why, .. } = &**command else { panic!("{command}") };
    assert!(why.contains("deadline of 5000 ms"), "{why}");
    let steps: Vec<String> = steps.iter().map(planned).collect();
    assert_eq!(steps, ["wake db1"], "nothing was begun");
}

#[test]
fn undo_that_forgets_to_open_the_primary_or_to_put_a_replica_back_is_refused() {
    let mut group = opened();
    group.meet("level", &run(1, 9));
    group.meet("follow", &run(1, 9));
    close(&mut group, &run(1, 9));
    let all = crate::decide::stage::undo(group.cluster(), group.attempt(), "");
    for forgotten in ["reopen", "follow"] {
        let mut steps = all.clone();
        steps.retain(|planned| planned.goal.code() != forgotten);
        let reply = group.apply(undo(steps));
        assert!(matches!(reply, Reply::Rejected { .. }), "{forgotten}: {reply}");
    }
    assert!(matches!(group.apply(undo(all)), Reply::Opened { .. }));
    // A stale hand neither closes it again nor moves a replica ahead.
    let steps = group.attempt().steps.clone();
    for step in &steps {
        let is_ahead = matches!(&step.goal, StepKind::Follow { source, .. } if *source == name(2));
        let closes = matches!(step.goal, StepKind::CloseForWrites { .. });
        if is_ahead || closes {
            let reply = group.begin(step.id);
            assert!(matches!(reply, Reply::Rejected { .. }), "{}: {reply}", step.goal.code());
        }
    }
    let back = ["run follow db3", "run reopen db1"];
    let mut found = moves(&group);
    found.sort_unstable();
    assert_eq!(found, back);
}

#[test]
fn primary_found_dead_before_the_point_of_no_return_is_failed_over_by_the_next_epoch() {
    let mut group = opened();
    group.meet("level", &run(1, 9));
    let mut view = view(&group, bereft());
    seen(&mut view).tally = Some(tally(Epoch(1), [Answer::Down, Answer::Down, Answer::Up]));
    seen(&mut view).doubt = Some(Micros(60_000));
    let opens = |view: &View| {
        let moves = tick(view);
        let commands = moves.iter().filter_map(|each| match each {
            Move::Propose { command } => Some((**command).clone()),
            Move::Ask { .. } | Move::Survey { .. } | Move::Run { .. } | Move::Say { .. } => None,
        });
        commands.into_iter().find(|it| matches!(it, Command::OpenAttempt { .. }))
    };
    let command = opens(&view).expect("it is opened");
    let Command::OpenAttempt { opening, .. } = &command else { panic!("{command}") };
    assert_eq!(opening.cause, Cause::PrimaryDown);
    assert!(matches!(group.apply(command.clone()), Reply::Opened { .. }));
    assert_eq!((group.cluster().epoch, group.cluster().history.len()), (Epoch(2), 1));
    // An ordinary attempt is not taken over like that, and a paused cluster is left alone.
    seen(&mut view).tally = Some(tally(Epoch(2), [Answer::Down, Answer::Down, Answer::Up]));
    view.group = std::sync::Arc::new(group.state.clone());
    assert_eq!(opens(&view), None);
    let mut paused = opened();
    paused.apply(Command::Pause { cluster: "app1".into(), actor: ann(), reason: String::new() });
    let mut view = crate::fixture::view(&paused, bereft());
    seen(&mut view).tally = Some(tally(Epoch(1), [Answer::Down, Answer::Down, Answer::Up]));
    assert_eq!(opens(&view), None);
}

#[test]
fn old_primary_is_a_member_at_the_end_or_left_out_as_asked() {
    for leaves_old in [false, true] {
        let mut group = opened_with(Switchover { leaves_old, ..plan() });
        group.meet("level", &run(1, 9));
        group.meet("follow", &run(1, 9));
        close(&mut group, &run(1, 9));
        group.meet("stop_receiver", &run(1, 9));
        let mut is_over = false;
        for _ in 0..12 {
            for move_ in next(&at_work(&group)) {
                match move_ {
                    Move::Propose { command } => {
                        let reply = group.apply(*command);
                        assert!(!matches!(reply, Reply::Rejected { .. }), "{reply}");
                    }
                    Move::Run { order } => {
                        group.begin(order.record.id);
                        group.end(order.record.id, met(&run(1, 9)));
                    }
                    Move::Ask { .. } | Move::Survey { .. } | Move::Say { .. } => {}
                }
                is_over = group.cluster().attempt.is_none();
                if is_over {
                    break;
                }
            }
            if is_over {
                break;
            }
        }
        assert!(is_over, "leaves_old {leaves_old}: {:?}", group.attempt().stage.code());
        assert_eq!(group.cluster().primary(), Some(&name(2)));
        let old = &group.cluster().members[&name(1)];
        assert_eq!(old.left_out.is_some(), leaves_old);
        assert_eq!(group.cluster().formers().contains(&name(1)), leaves_old);
        let ackers = &group.cluster().regime().expect("a primary").ackers;
        assert_eq!(ackers.contains(&name(1)), !leaves_old);
    }
}

#[test]
fn five_servers_keep_as_many_ackers_on_the_old_primary_as_its_commits_need() {
    let group = Group::with(ClusterDefinition { acks: 2, ..definition(5) });
    let mut view = view(&group, Vec::new());
    let looks = (1..=5).map(|n| match n {
        1 => look(1, primary_facts(1, run(1, 9))),
        n => look(n, replica_facts(n, 1, run(1, 9))),
    });
    seen(&mut view).observations = looks.map(|look| (look.server.clone(), look)).collect();
    let (cluster, seen) = parts(&view);
    let steps = crate::decide::stage::switch(cluster, seen, &name(2), &plan());
    let count = |code: &str| steps.iter().filter(|step| step.goal.code() == code).count();
    assert_eq!((count("follow"), count("stop_receiver"), count("close_for_writes")), (2, 2, 1));
    let closes = steps.iter().find(|step| step.goal.code() == "close_for_writes").expect("one");
    let StepKind::CloseForWrites { candidate, ackers, acks } = &closes.goal else { panic!() };
    assert_eq!((candidate, ackers, *acks), (&name(2), &names(&[1, 3, 4, 5]), 2));
}
