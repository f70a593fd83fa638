//! What is put right outside attempts.

use super::{seen, short};
use crate::{
    decide::{View, gate, problem, upkeep},
    fixture::*,
    model::{
        Applier, ClusterDefinition, Findings, Micros, Millis, Mode, Observation, Problem, Receiver,
        RestartPolicy, Saved, ServerFacts, StepKind, Term,
    },
    state::{Command, Planned, Reply, Standing},
};

fn moves(view: &View) -> Vec<String> {
    let (cluster, seen) = super::parts(view);
    short(&upkeep::next(view, cluster, seen, Term(TERM)))
}

/// The moves for a healthy group in which one server looks like that.
fn with(group: &Group, server: u64, facts: ServerFacts) -> Vec<String> {
    moves(&view_with(group, look(server, facts)))
}

fn view_with(group: &Group, look: Observation) -> View {
    let mut view = view(group, healthy());
    seen(&mut view).observations.insert(look.server.clone(), look);
    view
}

/// db1 was adopted, db3 stands like that.
fn standing(standing: Standing) -> Group {
    let mut group = Group::adopted();
    group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member").standing = standing;
    group
}

fn former(vips_dropped: bool) -> Group {
    standing(Standing::Former { vips_dropped })
}

fn planned(group: &mut Group, server: u64, goal: StepKind) {
    let planned = Planned { target: name(server), goal };
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    assert_eq!(group.apply(Command::PlanChore { cluster, epoch, planned }), Reply::Ok);
}

/// A replica as it boots: no threads, no semi-sync.
fn booted(server: u64) -> ServerFacts {
    let mut facts = replica_facts(server, 1, run(1, 9));
    link(&mut facts).receiver = Receiver::Off;
    link(&mut facts).applier = Applier::Off;
    facts.semi_sync = Some(Default::default());
    facts.uptime_seconds = 1;
    facts
}

#[test]
fn look_from_before_the_end_of_a_step_plans_nothing() {
    let mut view = view_with(&Group::adopted(), look(3, booted(3)));
    assert_eq!(moves(&view), ["plan follow db3"]);
    let step = crate::model::StepId { epoch: crate::model::Epoch(0), seq: 1 };
    let looked = seen(&mut view).observations[&name(3)].at;
    seen(&mut view).ended.insert(step, looked.plus(Micros(1)));
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).ended.insert(step, looked);
    assert_eq!(moves(&view), ["plan follow db3"]);
    // Out of the record, and its end is not told here yet.
    seen(&mut view).running.insert(step, looked);
    assert_eq!(moves(&view), [""; 0]);
}

#[test]
fn healthy_cluster_needs_nothing() {
    assert_eq!(moves(&view(&Group::adopted(), healthy())), [""; 0]);
}

#[test]
fn primary_is_adopted_when_one_server_takes_writes_and_all_others_follow_it() {
    let mut group = Group::empty();
    let definition = Box::new(definition(3));
    group.apply(Command::ApplyDefinition { definition, replaces: None, actor: ann() });
    assert_eq!(moves(&view(&group, healthy())), ["propose adopt"]);
    let why = |looks: Vec<Observation>| {
        let view = view(&group, looks);
        let (cluster, seen) = super::parts(&view);
        upkeep::discover(&view, cluster, seen)
    };
    assert_eq!(why(healthy()), Ok(name(1)));
    let but = |at: usize, facts: ServerFacts| {
        let mut looks = healthy();
        looks[at] = look(at as u64 + 1, facts);
        looks
    };
    let err = |text: &str| Err(text.to_owned());
    assert_eq!(why(healthy().into_iter().take(2).collect()), err("db3 was not reached yet"));
    let mut closed = primary_facts(1, run(1, 9));
    closed.read_only = true;
    assert_eq!(why(but(0, closed)), err("no server takes writes"));
    let two = but(2, primary_facts(3, run(1, 9)));
    assert_eq!(why(two), err("several servers take writes: db1, db3"));
    let astray = but(2, replica_facts(3, 2, run(1, 9)));
    let text = "db1 takes writes, but db3 follows 10.0.0.2:3306 instead of 10.0.0.1:3306";
    assert_eq!(why(astray), err(text));
    let same = why(but(2, replica_facts(2, 1, run(1, 9))));
    let text = format!("db2 and db3 are one and the same server: {}", uuid(2));
    assert_eq!(same, Err(text));
    let mixed = why(but(2, of_mariadb(replica_facts(3, 1, run(1, 9)))));
    let text =
        "db1 runs MySQL 9.7.4 and db3 MariaDB 11.8.6: servers of one cluster are of one family";
    assert_eq!(mixed, err(text));
}

#[test]
fn cluster_of_mariadb_is_adopted_in_the_modes_that_do_not_rest_on_acknowledgements() {
    let found = |mode: Mode| {
        let mut group = Group::empty();
        let definition = Box::new(ClusterDefinition { mode, ..definition(3) });
        group.apply(Command::ApplyDefinition { definition, replaces: None, actor: ann() });
        let mut looks = healthy();
        for look in &mut looks {
            look.seen = look.seen.clone().map(of_mariadb);
        }
        moves(&view(&group, looks))
    };
    assert_eq!(found(Mode::Fenced), ["propose adopt"]);
    assert_eq!(found(Mode::BestEffort), ["propose adopt"]);
    assert_eq!(found(Mode::Quorum), [""; 0]);
}

#[test]
fn second_name_of_a_server_is_never_taken_for_one_of_its_own() {
    let mut group = Group::adopted();
    group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member").uuid = None;
    let mut looks = healthy();
    looks[2] = look(3, replica_facts(2, 1, run(1, 9)));
    let view = view(&group, looks);
    assert_eq!(moves(&view), [""; 0]);
    let (cluster, seen) = super::parts(&view);
    let refusals = gate::feasible(&view, cluster, seen, gate::Fault::Process, None);
    assert!(refusals.iter().any(|r| r.code() == "gate.no_coverage"), "{refusals:?}");
    let found = problem::list(&view, &"app1".into());
    let same = Problem::SameServer { server: name(3), other: name(2), uuid: uuid(2) };
    assert!(found.contains(&same), "{found:?}");
}

#[test]
fn identities_not_known_yet_are_recorded() {
    let mut group = Group::adopted();
    group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member").uuid = None;
    assert_eq!(moves(&view(&group, healthy())), ["propose identify"]);
}

#[test]
fn another_server_behind_an_address_is_left_alone() {
    let mut stranger = primary_facts(3, run(1, 9));
    stranger.uuid = uuid(7);
    assert_eq!(with(&Group::adopted(), 3, stranger), [""; 0]);
}

#[test]
fn member_that_takes_writes_is_made_read_only() {
    let mut writable = replica_facts(3, 1, run(1, 9));
    writable.read_only = false;
    assert_eq!(with(&Group::adopted(), 3, writable), ["plan make_read_only db3"]);
}

#[test]
fn server_cut_off_half_way_to_read_only_is_not_left_offline() {
    let mut group = Group::adopted();
    planned(&mut group, 3, StepKind::MakeReadOnly);
    let step = group.cluster().chores[&name(3)].id;
    let mut offline = replica_facts(3, 1, run(1, 9));
    offline.offline = true;
    // Somebody else's doing is left alone.
    assert_eq!(with(&group, 3, offline.clone()), [""; 0]);
    group.begin(step);
    assert_eq!(with(&group, 3, offline), ["run make_read_only db3"]);
}

#[test]
fn restarted_replica_is_put_back_behind_the_primary() {
    assert_eq!(with(&Group::adopted(), 3, booted(3)), ["plan follow db3"]);
}

#[test]
fn replica_that_a_person_stopped_long_after_its_start_is_left_alone() {
    let mut stopped = replica_facts(3, 1, run(1, 9));
    link(&mut stopped).receiver = Receiver::Off;
    assert_eq!(with(&Group::adopted(), 3, stopped), [""; 0]);
}

#[test]
fn replica_whose_receiver_a_lost_leader_stopped_is_put_back_however_long_it_has_been_up() {
    let mut group = Group::adopted();
    let seen = crate::decide::ClusterView::default();
    let goal = crate::decide::stage::follow(group.cluster(), &seen, &name(1), true);
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    let planned = crate::state::Planned { target: name(3), goal };
    group.apply(Command::PlanChore { cluster, epoch, planned });
    let mut stopped = replica_facts(3, 1, run(1, 9));
    link(&mut stopped).receiver = Receiver::Off;
    assert_eq!(with(&group, 3, stopped.clone()), [""; 0], "it was not begun");
    let step = group.cluster().chores[&name(3)].id;
    group.begin(step);
    assert_eq!(with(&group, 3, stopped), ["run follow db3"]);
}

#[test]
fn server_that_an_operator_works_on_is_drained_and_then_left_alone_until_it_is_wanted_back() {
    let mut group = Group::adopted();
    let leave = |group: &mut Group, server: u64, by| {
        let (cluster, server) = ("app1".into(), name(server));
        group.apply(Command::LeaveOut { cluster, server, by })
    };
    assert!(matches!(leave(&mut group, 1, Some(ann())), Reply::Rejected { .. }), "the primary");
    assert_eq!(leave(&mut group, 3, Some(ann())), Reply::Ok);
    assert!(matches!(leave(&mut group, 2, Some(ann())), Reply::Rejected { .. }), "it is needed");
    assert_eq!(moves(&view(&group, healthy())), ["plan follow db3"]);
    let goal = crate::decide::stage::follow(
        group.cluster(),
        &crate::decide::ClusterView::default(),
        &name(1),
        false,
    );
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    let planned = Planned { target: name(3), goal };
    group.apply(Command::PlanChore { cluster, epoch, planned });
    let step = group.cluster().chores[&name(3)].id;
    group.begin(step);
    group.end(step, met(&run(1, 9)));
    let ackers = &group.cluster().regime().expect("a primary").ackers;
    assert_eq!(ackers, &names(&[2]));
    let mut drained = replica_facts(3, 1, run(1, 9));
    drained.semi_sync.as_mut().expect("the plugins").replica_enabled = false;
    drained.semi_sync.as_mut().expect("the plugins").replica_active = false;
    assert_eq!(with(&group, 3, drained.clone()), [""; 0]);
    assert_eq!(with(&group, 3, booted(3)), [""; 0], "its restart is its operator's");
    assert_eq!(leave(&mut group, 3, None), Reply::Ok);
    assert_eq!(with(&group, 3, drained), ["plan follow db3"]);
}

#[test]
fn replica_is_put_back_for_each_way_of_being_astray() {
    let astray = |change: fn(&mut ServerFacts)| {
        let mut facts = replica_facts(3, 1, run(1, 9));
        facts.uptime_seconds = 10;
        change(&mut facts);
        with(&Group::adopted(), 3, facts)
    };
    let put_back = ["plan follow db3"];
    assert_eq!(astray(|facts| facts.replica = None), put_back);
    assert_eq!(astray(|facts| link(facts).source_port = 3307), put_back);
    assert_eq!(astray(|facts| link(facts).receiver = Receiver::Off), put_back);
    assert_eq!(astray(|facts| link(facts).applier = Applier::Off), put_back);
    assert_eq!(astray(|facts| facts.semi_sync = Some(Default::default())), put_back);
    // It is on its way.
    assert_eq!(astray(|facts| link(facts).receiver = Receiver::Connecting), [""; 0]);
}

#[test]
fn replica_that_a_person_must_look_at_or_wants_so_is_left_alone() {
    let mut broken = booted(3);
    link(&mut broken).applier = Applier::Broken { code: 1062, text: "duplicate".into() };
    assert_eq!(with(&Group::adopted(), 3, broken), [""; 0]);
    let mut refused = booted(3);
    link(&mut refused).receiver_error = Some((1236, "more GTIDs".into()));
    assert_eq!(with(&Group::adopted(), 3, refused), [""; 0]);
    let mut group = Group::adopted();
    let (cluster, actor) = ("app1".into(), ann());
    group.apply(Command::Pause { cluster, actor, reason: String::new() });
    assert_eq!(with(&group, 3, booted(3)), [""; 0]);
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.rejoin = false;
    assert_eq!(with(&group, 3, booted(3)), [""; 0]);
}

#[test]
fn nothing_is_put_behind_a_primary_in_doubt_or_out_of_reach() {
    let mut view = view_with(&Group::adopted(), look(3, booted(3)));
    seen(&mut view).doubt = Some(Micros(1));
    assert_eq!(moves(&view), [""; 0]);
    let mut view = view_with(&Group::adopted(), look(3, booted(3)));
    seen(&mut view).observations.insert(name(1), no_look(1));
    assert_eq!(moves(&view), [""; 0]);
}

#[test]
fn stray_replica_with_transactions_of_its_own_is_quarantined() {
    let mut errant = booted(3);
    errant.executed = run(1, 9).union(&run(3, 1));
    let expected = format!("quarantine db3 {}:1", uuid(3));
    assert_eq!(with(&Group::adopted(), 3, errant), [expected]);
}

#[test]
fn what_the_primary_wrote_between_two_looks_is_not_errant() {
    let mut newer = booted(3);
    newer.executed = run(1, 11);
    assert_eq!(with(&former(true), 3, newer), ["plan follow db3"]);
}

#[test]
fn former_primary_is_made_read_only_then_loses_its_addresses_then_follows() {
    let mut writable = booted(3);
    writable.read_only = false;
    assert_eq!(with(&former(false), 3, writable), ["plan make_read_only db3"]);
    assert_eq!(with(&former(false), 3, booted(3)), ["plan drop_vips db3"]);
    assert_eq!(with(&former(true), 3, booted(3)), ["plan follow db3"]);
}

#[test]
fn addresses_that_cannot_be_dropped_do_not_keep_a_server_out_for_ever() {
    let mut group = former(false);
    planned(&mut group, 3, StepKind::DropVips { vips: vec![vip()] });
    assert_eq!(with(&group, 3, booted(3)), ["run drop_vips db3"]);
    let step = group.cluster().chores[&name(3)].id;
    group.begin(step);
    group.end(step, failed());
    assert_eq!(with(&group, 3, booted(3)), ["plan follow db3"]);
    let view = view(&group, healthy());
    let (cluster, seen) = super::parts(&view);
    let options = crate::model::LinkOptions::default();
    let follow = crate::decide::stage::follow(cluster, seen, &name(1), true);
    assert_eq!(follow, StepKind::Follow { source: name(1), acker: true, options });
    planned(&mut group, 3, follow);
    assert_eq!(with(&group, 3, booted(3)), ["run follow db3"]);
}

#[test]
fn former_primary_waits_for_an_opened_primary_and_for_the_policy() {
    let mut closed = primary_facts(1, run(1, 9));
    closed.read_only = true;
    let mut unopened = former(true);
    unopened.cluster_mut().regimes[0].is_open = false;
    let mut view = view_with(&unopened, look(3, booted(3)));
    seen(&mut view).observations.insert(name(1), look(1, closed));
    assert_eq!(moves(&view), ["plan open_for_writes db1"]);
    // One that lost what others have from it is no measure of what is errant.
    let mut lossy = restarted();
    lossy.executed = run(1, 8);
    let mut view = view_with(&former(true), look(3, booted(3)));
    seen(&mut view).observations.insert(name(1), look(1, lossy));
    assert_eq!(moves(&view), [""; 0]);
    let mut group = former(true);
    group.cluster_mut().definition.policy.rejoin = false;
    assert_eq!(with(&group, 3, booted(3)), [""; 0]);
}

#[test]
fn former_primary_with_transactions_of_its_own_is_quarantined_then_examined_then_left_alone() {
    let mut errant = booted(3);
    errant.executed = run(1, 9).union(&run(3, 2));
    let expected = format!("quarantine db3 {}:1-2", uuid(3));
    assert_eq!(with(&former(true), 3, errant.clone()), [expected]);
    let quarantined =
        |findings, saved| standing(Standing::Quarantined { errant: run(3, 2), findings, saved });
    assert_eq!(with(&quarantined(None, None), 3, errant.clone()), ["plan examine db3"]);
    let group = quarantined(Some(Findings::default()), None);
    assert_eq!(with(&group, 3, errant.clone()), ["plan save_extra db3"]);
    let saved = Saved { path: "/srv".into(), sha256: "ab".repeat(32) };
    let group = quarantined(Some(Findings::default()), Some(saved));
    assert_eq!(with(&group, 3, errant.clone()), [""; 0]);
    // More was found on it since.
    let mut more = errant.clone();
    more.executed = run(1, 9).union(&run(3, 3));
    assert_eq!(with(&group, 3, more), [format!("quarantine db3 {}:1-3", uuid(3))]);
    errant.read_only = false;
    assert_eq!(with(&group, 3, errant), ["plan make_read_only db3"]);
}

fn restarted() -> ServerFacts {
    let mut facts = primary_facts(1, run(1, 9));
    (facts.read_only, facts.super_read_only, facts.uptime_seconds) = (true, true, 2);
    facts
}

#[test]
fn restarted_primary_is_opened_again() {
    assert_eq!(with(&Group::adopted(), 1, restarted()), ["plan open_for_writes db1"]);
}

#[test]
fn primary_that_somebody_made_read_only_stays_so() {
    // It runs for longer than since it was last seen writable, 5 s ago.
    let mut facts = restarted();
    facts.uptime_seconds = 7;
    assert_eq!(with(&Group::adopted(), 1, facts), [""; 0]);
    let mut offline = restarted();
    offline.offline = true;
    assert_eq!(with(&Group::adopted(), 1, offline), [""; 0]);
    let mut replica = replica_facts(1, 2, run(1, 9));
    replica.uptime_seconds = 2;
    assert_eq!(with(&Group::adopted(), 1, replica), [""; 0]);
}

#[test]
fn primary_never_seen_writable_was_restarted_if_it_is_young() {
    let is_restarted = |uptime| {
        let mut facts = restarted();
        facts.uptime_seconds = uptime;
        upkeep::is_restarted(&facts, None, NOW)
    };
    assert!(is_restarted(599) && !is_restarted(600));
}

#[test]
fn promotion_that_was_not_completed_is_completed() {
    let mut group = Group::adopted();
    group.cluster_mut().regimes[0].is_open = false;
    let mut old = restarted();
    old.uptime_seconds = 90_000;
    assert_eq!(with(&group, 1, old), ["plan open_for_writes db1"]);
}

#[test]
fn restarted_primary_that_is_to_be_replaced_is_opened_only_if_it_cannot_be() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.primary_restarted = RestartPolicy::Failover;
    assert_eq!(with(&group, 1, restarted()), [""; 0]);
    let mut view = view_with(&group, look(1, restarted()));
    seen(&mut view).observations.insert(name(3), no_look(3));
    assert_eq!(moves(&view), ["plan open_for_writes db1"]);
    // What passes by itself is waited for.
    let mut view = view_with(&group, look(1, restarted()));
    view.stalled = Some((view.now.minus(Millis(500)), Micros(300_000)));
    assert_eq!(moves(&view), [""; 0]);
}

#[test]
fn restarted_primary_that_lost_transactions_is_not_opened_but_replaced() {
    let group = Group::adopted();
    let mut rolled_back = restarted();
    rolled_back.executed = run(1, 8);
    let mut view = view_with(&group, look(1, rolled_back));
    assert_eq!(moves(&view), [""; 0]);
    // The policy says to open it again.
    let mut ballots = tally(crate::model::Epoch(0), [crate::model::Answer::Up; 3]);
    ballots.ballots.values_mut().for_each(|counted| counted.ballot.is_restarted = true);
    seen(&mut view).tally = Some(ballots.clone());
    assert_eq!(short(&crate::decide::tick(&view)), ["propose open_attempt"]);
    let mut whole = view_with(&group, look(1, restarted()));
    seen(&mut whole).tally = Some(ballots);
    assert_eq!(short(&crate::decide::tick(&whole)), ["plan open_for_writes db1"]);
    // What it had when it was established counts, too, whoever numbered it.
    let mut group = Group::adopted();
    group.cluster_mut().regimes[0].base = run(2, 3);
    assert_eq!(with(&group, 1, restarted()), [""; 0]);
}

#[test]
fn primary_opened_a_moment_ago_is_not_replaced_on_older_looks() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.primary_restarted = RestartPolicy::Failover;
    let mut view = view_with(&group, look(1, restarted()));
    let mut ballots = tally(crate::model::Epoch(0), [crate::model::Answer::Up; 3]);
    ballots.ballots.values_mut().for_each(|counted| counted.ballot.is_restarted = true);
    seen(&mut view).tally = Some(ballots);
    let step = crate::model::StepId { epoch: crate::model::Epoch(0), seq: 1 };
    seen(&mut view).ended.insert(step, NOW.minus(Millis(2499)));
    assert_eq!(short(&crate::decide::tick(&view)), [""; 0]);
    seen(&mut view).ended.insert(step, NOW.minus(Millis(2500)));
    assert_eq!(short(&crate::decide::tick(&view)), ["propose open_attempt"]);
}

#[test]
fn former_that_lacks_what_it_numbered_itself_is_not_taken_back() {
    let group = former(true);
    let mut primary = primary_facts(1, run(1, 9).union(&run(3, 4)));
    let mut view = view_with(&group, look(3, booted(3)));
    seen(&mut view).observations.insert(name(1), look(1, primary.clone()));
    assert_eq!(moves(&view), [""; 0]);
    primary.executed = run(1, 9);
    seen(&mut view).observations.insert(name(1), look(1, primary));
    assert_eq!(moves(&view), ["plan follow db3"]);
}

#[test]
fn acker_is_not_dismissed_while_the_others_are_too_few() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.servers[2].acker = false;
    assert_eq!(with(&group, 3, replica_facts(3, 1, run(1, 9))), ["plan follow db3"]);
    let mut idle = view(&group, healthy());
    seen(&mut idle).observations.insert(name(2), look(2, booted(2)));
    assert_eq!(moves(&idle), ["plan follow db2"]);
    seen(&mut idle).observations.insert(name(2), no_look(2));
    assert_eq!(moves(&idle), [""; 0]);
    // Needed and restarted, it acknowledges again.
    seen(&mut idle).observations.insert(name(3), look(3, booted(3)));
    let (cluster, seen) = super::parts(&idle);
    let moves = upkeep::next(&idle, cluster, seen, Term(TERM));
    let [crate::decide::Move::Propose { command }] = &moves[..] else { panic!("{moves:?}") };
    let Command::PlanChore { planned, .. } = &**command else { panic!("{command:?}") };
    assert!(matches!(planned.goal, StepKind::Follow { acker: true, .. }), "{planned:?}");
}

#[test]
fn server_on_record_as_an_acker_that_is_none_is_taken_off_it() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.servers[2].acker = false;
    let mut plain = replica_facts(3, 1, run(1, 9));
    plain.semi_sync = Some(Default::default());
    assert_eq!(with(&group, 3, plain), ["plan follow db3"]);
}

#[test]
fn former_is_taken_back_by_a_restarted_primary_that_may_wait_for_it() {
    let mut view = view_with(&former(true), look(3, booted(3)));
    seen(&mut view).observations.insert(name(1), look(1, restarted()));
    assert_eq!(moves(&view), ["plan open_for_writes db1", "plan follow db3"]);
}

#[test]
fn look_from_before_a_step_ended_is_no_ground_for_the_next() {
    let mut view = view_with(&former(true), look(3, booted(3)));
    let step = crate::model::StepId { epoch: crate::model::Epoch(0), seq: 1 };
    seen(&mut view).ended.insert(step, NOW.minus(Millis(99)));
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).ended.insert(step, NOW.minus(Millis(100)));
    assert_eq!(moves(&view), ["plan follow db3"]);
}

#[test]
fn restarted_primary_of_a_paused_cluster_waits() {
    let mut group = Group::adopted();
    let (cluster, actor) = ("app1".into(), ann());
    group.apply(Command::Pause { cluster, actor, reason: String::new() });
    assert_eq!(with(&group, 1, restarted()), [""; 0]);
}

#[test]
fn misplaced_address_is_taken_back_by_a_primary_that_is_well() {
    let elsewhere = || {
        let mut view = view(&Group::adopted(), healthy());
        seen(&mut view).vips.insert(vip().address, Ok(uuid(3)));
        view
    };
    assert_eq!(moves(&elsewhere()), ["plan take_vip db1"]);
    let mut nobody = elsewhere();
    seen(&mut nobody).vips.insert(vip().address, Err("nobody answers".into()));
    assert_eq!(moves(&nobody), ["plan take_vip db1"]);
    let mut not_looked = elsewhere();
    seen(&mut not_looked).vips.clear();
    assert_eq!(moves(&not_looked), [""; 0]);
    let mut doubtful = elsewhere();
    seen(&mut doubtful).doubt = Some(Micros(1));
    assert_eq!(moves(&doubtful), [""; 0]);
}

#[test]
fn failed_chore_rests_before_it_is_tried_again() {
    let mut group = Group::adopted();
    let mut writable = replica_facts(3, 1, run(1, 9));
    writable.read_only = false;
    planned(&mut group, 3, StepKind::MakeReadOnly);
    let step = group.cluster().chores[&name(3)].id;
    group.begin(step);
    group.end(step, failed());
    let mut view = view_with(&group, look(3, writable));
    seen(&mut view).ended.insert(step, NOW.minus(Millis(2999)));
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).ended.insert(step, NOW.minus(Millis(3000)));
    assert_eq!(moves(&view), ["run make_read_only db3"]);
}

/// An address was dropped on its host on behalf of another server, under a higher number.
#[test]
fn failed_chore_on_a_host_is_numbered_anew_once_others_were_and_rests_all_the_same() {
    let extra = || StepKind::SaveExtra { extra: run(3, 1), files: Vec::new() };
    let quarantined = || Standing::Quarantined {
        errant: run(3, 1),
        findings: Some(Findings { proved: run(3, 1), doubts: Vec::new(), files: Vec::new() }),
        saved: None,
    };
    let mut group = standing(quarantined());
    planned(&mut group, 3, extra());
    let step = group.cluster().chores[&name(3)].id;
    group.begin(step);
    group.end(step, failed());
    let mut facts = booted(3);
    facts.executed = run(1, 9).union(&run(3, 1));
    let moves_after = |group: &Group, ago: u64| {
        let mut view = view_with(group, look(3, facts.clone()));
        let step = group.cluster().chores[&name(3)].id;
        seen(&mut view).ended.insert(step, NOW.minus(Millis(ago)));
        moves(&view)
    };
    assert_eq!(moves_after(&group, 3_000), ["run save_extra db3"]);
    planned(&mut group, 1, StepKind::TakeVip { vip: vip() });
    assert_eq!(moves_after(&group, 2_999), [""; 0]);
    assert_eq!(moves_after(&group, 3_000), ["plan save_extra db3"]);
    planned(&mut group, 3, extra());
    let again = &group.cluster().chores[&name(3)];
    assert_eq!((again.id.seq, again.runs.len()), (step.seq + 2, 1));
    let again = again.id;
    group.begin(again);
    group.end(again, failed());
    assert_eq!(moves_after(&group, 5_999), [""; 0], "the pause has doubled");
    assert_eq!(moves_after(&group, 6_000), ["run save_extra db3"]);
}

#[test]
fn acker_flagged_while_it_received_is_put_back_once_it_is_clear_that_it_does_not_acknowledge() {
    let mut idle = replica_facts(3, 1, run(1, 9));
    idle.semi_sync.get_or_insert_default().replica_active = false;
    let absent_for = |ms: u64| {
        let mut view = view_with(&Group::adopted(), look(3, idle.clone()));
        seen(&mut view).absent.insert(name(3), NOW.minus(Millis(ms)));
        moves(&view)
    };
    assert_eq!(absent_for(2_999), [""; 0]);
    assert_eq!(absent_for(3_000), ["plan follow db3"]);
    // Dismissed in the same way, it still does.
    let mut group = Group::adopted();
    group.cluster_mut().definition.servers[2].acker = false;
    group.cluster_mut().regimes[0].ackers = names(&[2]);
    let mut active = replica_facts(3, 1, run(1, 9));
    active.semi_sync.get_or_insert_default().replica_enabled = false;
    assert_eq!(with(&group, 3, active.clone()), ["plan follow db3"]);
    active.semi_sync.get_or_insert_default().replica_active = false;
    assert_eq!(with(&group, 3, active), [""; 0]);
}

#[test]
fn member_that_is_locked_out_with_what_the_primary_lacks_is_quarantined() {
    let mut group = Group::adopted();
    let mut asking = replica_facts(3, 1, run(1, 9).union(&run(3, 1)));
    link(&mut asking).receiver = Receiver::Connecting;
    // Logged as an acker again by a step that could not be met.
    assert_eq!(with(&group, 3, asking.clone()), [""; 0]);
    group.cluster_mut().locks.insert(name(1), names(&[3]));
    assert_eq!(with(&group, 3, asking), [format!("quarantine db3 {}:1", uuid(3))]);
    let mut clean = replica_facts(3, 1, run(1, 9));
    link(&mut clean).receiver = Receiver::Connecting;
    assert_eq!(with(&group, 3, clean), ["plan let_in db1"]);
}

#[test]
fn restarted_primary_lets_in_whom_it_waits_for_before_it_is_opened() {
    let mut group = Group::adopted();
    group.cluster_mut().locks.insert(name(1), names(&[3]));
    let mut asking = replica_facts(3, 1, run(1, 9));
    link(&mut asking).receiver = Receiver::Connecting;
    let with = |db2: Observation| {
        let mut view = view_with(&group, look(1, restarted()));
        for look in [db2, look(3, asking.clone())] {
            seen(&mut view).observations.insert(look.server.clone(), look);
        }
        moves(&view)
    };
    assert_eq!(with(no_look(2)), ["plan let_in db1"]);
    let enough = look(2, replica_facts(2, 1, run(1, 9)));
    assert_eq!(with(enough), ["plan open_for_writes db1"]);
}

#[test]
fn chore_that_runs_is_not_replaced_by_another() {
    let mut group = Group::adopted();
    planned(&mut group, 3, StepKind::MakeReadOnly);
    let step = group.cluster().chores[&name(3)].id;
    let mut view = view_with(&group, look(3, booted(3)));
    seen(&mut view).running.insert(step, NOW);
    assert_eq!(moves(&view), [""; 0]);
    seen(&mut view).running.clear();
    assert_eq!(moves(&view), ["plan follow db3"]);
}

#[test]
fn asynchronous_modes_have_no_ackers() {
    let fenced = crate::model::ClusterDefinition { mode: Mode::Fenced, ..definition(3) };
    let group = Group::with(fenced);
    let mut facts = booted(3);
    assert_eq!(with(&group, 3, facts.clone()), ["plan follow db3"]);
    link(&mut facts).receiver = Receiver::On;
    link(&mut facts).applier = Applier::On;
    assert_eq!(with(&group, 3, facts), [""; 0]);
}
