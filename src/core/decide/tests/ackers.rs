//! How many acknowledgements are waited for, and by whom.

use super::{seen, short};
use crate::{
    decide::{View, ackers::Attendance, gate, problem, upkeep, vouch::Vouches},
    fixture::*,
    model::{
        Actor, ClusterDefinition, DeadAckerPolicy, LastAckerPolicy, Micros, Millis, Mono,
        Observation, Problem, Receiver, Refusal, Regime, ServerFacts, StepKind, Term,
    },
    state::Command,
};

fn moves(view: &View) -> Vec<String> {
    let (cluster, seen) = super::parts(view);
    short(&upkeep::next(view, cluster, seen, Term(TERM)))
}

/// The goal that is planned for db1.
fn goal(view: &View) -> Option<StepKind> {
    let (cluster, seen) = super::parts(view);
    let moves = upkeep::next(view, cluster, seen, Term(TERM));
    moves.into_iter().find_map(|each| match each {
        crate::decide::Move::Propose { command } => match *command {
            Command::PlanChore { planned, .. } if planned.target == name(1) => Some(planned.goal),
            _ => None,
        },
        _ => None,
    })
}

fn arm(acks: u32) -> Option<StepKind> {
    Some(StepKind::Arm { acks, ackers: names(&[2, 3]), by: Actor::Group })
}

fn group(change: impl FnOnce(&mut ClusterDefinition)) -> Group {
    let mut definition = definition(3);
    change(&mut definition);
    Group::with(definition)
}

fn regime(group: &mut Group) -> &mut Regime {
    group.cluster_mut().regimes.last_mut().expect("db1 was adopted")
}

fn facts(view: &mut View, server: u64) -> &mut ServerFacts {
    let look = seen(view).observations.get_mut(&name(server)).expect("it was looked at");
    look.seen.as_mut().expect("it was reached")
}

/// That server is gone, and was not seen to acknowledge for so long.
fn gone(view: &mut View, server: u64, for_ms: u64) {
    seen(view).observations.insert(name(server), no_look(server));
    seen(view).absent.insert(name(server), NOW.minus(Millis(for_ms)));
    let inbound = facts(view, 1).inbound.get_or_insert_default();
    inbound.dumps.retain(|account| *account != format!("repl{server}"));
}

#[test]
fn another_number_is_armed_when_enough_acknowledge() {
    let raised = group(|definition| definition.acks = 2);
    let mut group = group(|definition| definition.acks = 2);
    regime(&mut group).acks = 1;
    assert_eq!(goal(&view(&raised, healthy())), None, "agreed already");
    let mut view = view(&group, healthy());
    assert_eq!(goal(&view), arm(2));
    gone(&mut view, 3, 100);
    assert_eq!(goal(&view), None, "its writes would hang");
    let lowered = problem::list(&view, &"app1".into());
    let expected = Problem::AcksLowered { primary: name(1), acks: 1, wanted: 2 };
    assert!(lowered.contains(&expected), "{lowered:?}");
}

#[test]
fn fewer_are_armed_and_again_until_the_server_waits_for_no_more() {
    let mut group = Group::adopted();
    regime(&mut group).acks = 2;
    let mut view = view(&group, healthy());
    facts(&mut view, 1).semi_sync.get_or_insert_default().acks = 2;
    assert_eq!(goal(&view), arm(1));
    regime(&mut group).acks = 1;
    let mut view = crate::fixture::view(&group, healthy());
    facts(&mut view, 1).semi_sync.get_or_insert_default().acks = 2;
    assert_eq!(goal(&view), arm(1), "agreed, and not set");
}

#[test]
fn nothing_is_changed_while_paused_or_in_doubt() {
    let mut group = group(|definition| definition.acks = 2);
    regime(&mut group).acks = 1;
    let mut doubtful = view(&group, healthy());
    seen(&mut doubtful).doubt = Some(Micros(1_000));
    assert_eq!(goal(&doubtful), None);
    let (cluster, reason) = ("app1".into(), "disks".into());
    group.apply(Command::Pause { cluster, actor: ann(), reason });
    assert_eq!(goal(&view(&group, healthy())), None);
}

#[test]
fn lost_ackers_are_waited_for_or_the_number_is_lowered_and_raised_again() {
    let lower = |definition: &mut ClusterDefinition| {
        definition.policy.last_acker = LastAckerPolicy::Lower;
        definition.policy.last_acker_ms = Millis(5_000);
    };
    let lost = |group: &Group, for_ms| {
        let mut view = view(group, healthy());
        gone(&mut view, 2, for_ms);
        gone(&mut view, 3, for_ms);
        view
    };
    assert_eq!(goal(&lost(&Group::adopted(), 100_000)), None, "policy wait");
    let mut group = group(lower);
    assert_eq!(goal(&lost(&group, 4_999)), None);
    assert_eq!(goal(&lost(&group, 5_000)), arm(0));
    let mut one = view(&group, healthy());
    gone(&mut one, 3, 100_000);
    assert_eq!(goal(&one), None, "one of two is enough");
    regime(&mut group).acks = 0;
    let problems = problem::list(&lost(&group, 5_000), &"app1".into());
    assert_eq!(problems[0], Problem::AcksLowered { primary: name(1), acks: 0, wanted: 1 });
    assert!(problems[0].is_critical());
    assert_eq!(goal(&lost(&group, 5_000)), arm(0), "agreed, and not set");
    let mut set = lost(&group, 5_000);
    facts(&mut set, 1).semi_sync.get_or_insert_default().source_enabled = false;
    assert_eq!(goal(&set), None);
    assert_eq!(goal(&view(&group, healthy())), arm(1));
    // With nobody to vouch for what is acknowledged, nothing is promoted.
    let bereft = super::bereft_view(&group);
    let refusals = gate::refusals(&bereft, &"app1".into(), None);
    let coverage = |refusal: &Refusal| matches!(refusal, Refusal::NoCoverage { acks: 0, .. });
    assert!(refusals.iter().any(coverage), "{refusals:?}");
}

#[test]
fn restarted_primary_without_anybody_to_acknowledge_is_opened_for_fewer_by_policy() {
    let opened_for = |policy: LastAckerPolicy| {
        let mut group = group(|definition| {
            definition.policy.last_acker = policy;
            definition.policy.last_acker_ms = Millis(5_000);
        });
        let mut view = view(&group, healthy());
        gone(&mut view, 2, 5_000);
        gone(&mut view, 3, 5_000);
        let facts = facts(&mut view, 1);
        (facts.read_only, facts.super_read_only, facts.uptime_seconds) = (true, true, 2);
        let Some(StepKind::OpenForWrites { acks, .. }) = goal(&view) else { panic!("opened") };
        let opens =
            StepKind::OpenForWrites { acks, ackers: names(&[2, 3]), recruits: Default::default() };
        let planned = crate::state::Planned { target: name(1), goal: opens };
        let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
        group.apply(Command::PlanChore { cluster, epoch, planned });
        let step = group.cluster().chores[&name(1)].id;
        group.begin(step);
        // Fewer are agreed on before they are set.
        assert_eq!(regime(&mut group).acks, acks);
        acks
    };
    assert_eq!(opened_for(LastAckerPolicy::Wait), 1);
    assert_eq!(opened_for(LastAckerPolicy::Lower), 0);
}

#[test]
fn dead_acker_is_locked_out_if_others_are_enough_and_the_policy_says_so() {
    let drop = |definition: &mut ClusterDefinition| {
        definition.policy.dead_acker = DeadAckerPolicy::Drop;
        definition.policy.dead_acker_ms = Millis(9_000);
    };
    let dead = |group: &Group, for_ms| {
        let mut view = view(group, healthy());
        gone(&mut view, 3, for_ms);
        view
    };
    let lock = StepKind::LockOut { server: name(3), account: "repl3".into() };
    assert_eq!(goal(&dead(&Group::adopted(), 99_000)), None, "policy wait");
    let kept = group(drop);
    assert_eq!(goal(&dead(&kept, 8_999)), None);
    assert_eq!(goal(&dead(&kept, 9_000)), Some(lock.clone()));
    let mut both = dead(&kept, 9_000);
    gone(&mut both, 2, 9_000);
    assert_eq!(goal(&both), None, "nobody would be left");
    // Back and let in, it has not acknowledged yet.
    let mut asking = view(&kept, healthy());
    seen(&mut asking).absent.insert(name(3), NOW.minus(Millis(99_000)));
    link(facts(&mut asking, 3)).receiver = Receiver::Connecting;
    assert_eq!(goal(&asking), None);
    link(facts(&mut asking, 3)).receiver = Receiver::Off;
    assert_eq!(goal(&asking), Some(lock.clone()));
    // It may be our own way to it that is cut.
    let mut served = dead(&kept, 9_000);
    facts(&mut served, 1).inbound.get_or_insert_default().dumps.push("repl3".into());
    assert_eq!(goal(&served), None);
    let mut blind = dead(&kept, 9_000);
    facts(&mut blind, 1).inbound = None;
    assert_eq!(goal(&blind), None, "unknown stops us");
    let shared = group(|definition| {
        drop(definition);
        definition.servers[2].replication_account = "repl2".into();
    });
    assert_eq!(goal(&dead(&shared, 9_000)), None, "db2 would be locked out, too");
}

#[test]
fn member_that_was_locked_out_is_let_in_when_it_asks_for_it() {
    let mut group = Group::adopted();
    group.cluster_mut().locks.insert(name(1), names(&[3]));
    regime(&mut group).ackers = names(&[2]);
    let mut dead = view(&group, healthy());
    gone(&mut dead, 3, 100);
    assert_eq!(moves(&dead), [""; 0]);
    let expected = Problem::AckerDropped { server: name(3), primary: name(1) };
    assert!(problem::list(&dead, &"app1".into()).contains(&expected));
    let mut back = view(&group, healthy());
    link(facts(&mut back, 3)).receiver = Receiver::Connecting;
    assert_eq!(moves(&back), ["plan let_in db1", "plan follow db3"]);
    link(facts(&mut back, 3)).source_host = "10.0.0.2".into();
    assert_eq!(goal(&back), None, "it asks somebody else");
    link(facts(&mut back, 3)).source_host = "10.0.0.1".into();
    facts(&mut back, 3).executed = run(1, 9).union(&run(3, 1));
    assert_eq!(goal(&back), None, "it has what the primary lacks");
    // No acker by the definition any more, it is told so before it can acknowledge unrecorded.
    group.cluster_mut().definition.servers[2].acker = false;
    let mut back = view(&group, healthy());
    link(facts(&mut back, 3)).receiver = Receiver::Connecting;
    assert_eq!(moves(&back), ["plan follow db3"]);
    facts(&mut back, 3).semi_sync.as_mut().expect("the plugins").replica_enabled = false;
    assert!(moves(&back).contains(&"plan let_in db1".to_owned()), "{:?}", moves(&back));
}

#[test]
fn lock_on_a_replica_is_undone_before_anybody_may_need_to_follow_it() {
    let mut group = Group::adopted();
    group.cluster_mut().locks.insert(name(2), names(&[3]));
    assert_eq!(moves(&view(&group, healthy())), ["plan let_in db2"]);
}

#[test]
fn sessions_that_wait_in_vain_are_woken() {
    let group = Group::adopted();
    let mut view = view(&group, healthy());
    facts(&mut view, 1).semi_sync.get_or_insert_default().waiting = 4;
    seen(&mut view).stuck = Some(NOW.minus(Millis(2_999)));
    assert_eq!(goal(&view), None);
    seen(&mut view).stuck = Some(NOW.minus(Millis(3_000)));
    assert_eq!(goal(&view), Some(StepKind::Wake));
    let expected = Problem::AcksLost { primary: name(1), waiting: 4 };
    assert_eq!(problem::list(&view, &"app1".into()), [expected]);
    gone(&mut view, 2, 100);
    gone(&mut view, 3, 100);
    assert_eq!(goal(&view), None, "nobody would acknowledge the marker either");
}

#[test]
fn attendance_knows_since_when_somebody_is_missing_and_nothing_is_committed() {
    let group = Group::adopted();
    let regime = &group.cluster().regimes[0];
    let at = |second: u64, server, facts| Observation {
        server: name(server),
        at: Mono(second * 1_000_000),
        seen: facts,
    };
    let waiting = |last| {
        let mut facts = primary_facts(1, run(1, last));
        facts.semi_sync.get_or_insert_default().waiting = 1;
        Ok(facts)
    };
    let mut attendance = Attendance::default();
    let mut record = |look| {
        attendance.record(regime, ("10.0.0.1", 3306), &look);
        (attendance.absent().get(&name(2)).copied(), attendance.stuck())
    };
    let since = |second: u64| Some(Mono(second * 1_000_000));
    let acker = |source| Ok(replica_facts(2, source, run(1, 9)));
    assert_eq!(record(at(1, 2, acker(1))), (None, None));
    assert_eq!(record(at(2, 2, Err("silent".into()))), (since(2), None));
    assert_eq!(record(at(3, 2, acker(3))), (since(2), None), "it follows another server");
    let mut again = replica_facts(2, 1, run(1, 9));
    link(&mut again).receiver = Receiver::Connecting;
    assert_eq!(record(at(4, 2, Ok(again))), (since(2), None));
    assert_eq!(record(at(5, 2, acker(1))), (None, None));
    assert_eq!(record(at(6, 1, waiting(9))), (None, since(6)));
    assert_eq!(record(at(7, 1, waiting(9))), (None, since(6)));
    assert_eq!(record(at(8, 1, waiting(10))), (None, since(8)), "something was committed");
    assert_eq!(record(at(9, 1, Ok(primary_facts(1, run(1, 10))))), (None, None));
}

#[test]
fn primary_that_does_not_wait_is_named_with_its_setting() {
    let group = Group::adopted();
    let mut loose = primary_facts(1, run(1, 9));
    loose.semi_sync.get_or_insert_default().wait_no_replica = false;
    let mut vouches = Vouches::default();
    vouches.record(&group.cluster().regimes[0], &look(1, loose));
    let why = "its commits did not wait for 1 acknowledgement(s): \
               rpl_semi_sync_source_wait_no_replica is OFF";
    assert_eq!(vouches.unarmed().as_deref(), Some(why));
}
