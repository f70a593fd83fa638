//! Whether an operator may have a server back, what that discards, and the steps to it.

use super::{parts, seen, short};
use crate::{
    decide::{
        View,
        rejoin::{Plan, plan},
        upkeep,
    },
    fixture::*,
    model::{
        Discard, Doubt, Findings, Rejection, Rejoin, Saved, ServerFacts, StepKind, StepOutcome,
        Term,
    },
    state::{Command, Planned, Reply, Standing},
};

/// db3 is quarantined for two transactions, examined and saved; all are proved but `doubtful` ones.
fn quarantined(doubtful: u64) -> Group {
    let mut group = Group::adopted();
    let doubts = match doubtful {
        0 => Vec::new(),
        last => vec![Doubt { set: run(3, last), why: "a reason".into() }],
    };
    let findings = Some(Findings { doubts, ..Findings::default() });
    let saved = Some(Saved { path: "/srv".into(), sha256: "ab".repeat(32) });
    let standing = Standing::Quarantined { errant: run(3, 2), findings, saved };
    group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member").standing = standing;
    group
}

/// db3 read-only, without a source.
fn returned() -> ServerFacts {
    let mut facts = replica_facts(3, 1, run(1, 9).union(&run(3, 2)));
    (facts.replica, facts.semi_sync) = (None, Some(Default::default()));
    facts
}

fn view_of(group: &Group, db3: ServerFacts) -> View {
    let mut view = view(group, healthy());
    seen(&mut view).observations.insert(name(3), look(3, db3));
    view
}

fn asked(view: &View, discard: Discard) -> Plan {
    plan(view, &"app1".into(), &name(3), discard)
}

fn agree(group: &mut Group, discard: Discard) -> Reply {
    let rejoin = Rejoin { actor: ann(), discard, extra: run(3, 2) };
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    group.apply(Command::Rejoin { cluster, epoch, server: name(3), rejoin })
}

fn moves(view: &View) -> Vec<String> {
    let (cluster, seen) = parts(view);
    short(&upkeep::next(view, cluster, seen, Term(TERM)))
}

#[test]
fn what_is_proved_is_discarded_on_a_word_and_copied_from_a_replica() {
    let view = view_of(&quarantined(0), returned());
    let found = asked(&view, Discard::Proved);
    assert_eq!((found.refusals, found.extra), (vec![], run(3, 2)));
    let codes: Vec<_> = found.steps.iter().map(|step| step.goal.code()).collect();
    assert_eq!(codes, ["rebuild", "follow"]);
    let rebuild = StepKind::Rebuild { donor: name(2), extra: run(3, 2) };
    assert_eq!(found.steps[0], Planned { target: name(3), goal: rebuild });
}

#[test]
fn server_that_cannot_be_rebuilt_over_sql_is_left_to_its_operator() {
    let found = asked(&view_of(&quarantined(0), of_mariadb(returned())), Discard::Proved).refusals;
    let why = "db3 runs MariaDB 11.8.6, which cannot be rebuilt over SQL (CLONE): rebuild it from a \
               backup of the primary; it is taken back once it is clean";
    assert_eq!(found, [why]);
}

#[test]
fn nothing_is_discarded_without_the_word_for_it() {
    let why =
        |doubtful, discard| asked(&view_of(&quarantined(doubtful), returned()), discard).refusals;
    assert!(why(0, Discard::Nothing)[0].ends_with("--discard-proved lets them go"));
    assert!(why(1, Discard::Nothing)[0].ends_with("only --discard-all lets them go"));
    let doubt = format!("1 may have been acknowledged (a reason): {}:1", uuid(3));
    assert_eq!(why(1, Discard::Proved), [doubt]);
    assert_eq!(why(1, Discard::All), [""; 0]);
}

#[test]
fn nothing_is_discarded_that_was_not_examined_or_saved() {
    let mut group = quarantined(0);
    let member = group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member");
    member.standing = Standing::Quarantined { errant: run(3, 2), findings: None, saved: None };
    let refusals = asked(&view_of(&group, returned()), Discard::All).refusals;
    assert_eq!(
        refusals,
        [
            "what db3 has extra was not examined yet; conclave status shows why",
            "what it has extra is not saved yet; conclave status shows why",
        ]
    );
}

#[test]
fn nothing_is_discarded_while_another_server_may_have_some_of_it() {
    let mut view = view_of(&quarantined(0), returned());
    let has = replica_facts(2, 1, run(1, 9).union(&run(3, 1)));
    seen(&mut view).observations.insert(name(2), look(2, has));
    let why = format!("db2 has some of what is discarded: {}:1", uuid(3));
    assert_eq!(asked(&view, Discard::Proved).refusals, [why]);
    seen(&mut view).observations.insert(name(2), no_look(2));
    let why = "db2 does not answer, and may have some of what is discarded";
    assert_eq!(asked(&view, Discard::Proved).refusals, [why]);
}

#[test]
fn what_another_server_numbered_is_discarded_whoever_has_it() {
    let mut group = quarantined(0);
    let member = group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member");
    let Standing::Quarantined { errant, .. } = &mut member.standing else { unreachable!() };
    *errant = run(4, 2);
    let mut view = view_of(&group, returned());
    seen(&mut view).observations.insert(name(2), no_look(2));
    assert_eq!(asked(&view, Discard::Proved).refusals, [""; 0]);
}

#[test]
fn primary_member_stranger_and_silent_server_are_not_had_back() {
    let view = view(&Group::adopted(), healthy());
    let why = |server| plan(&view, &"app1".into(), &name(server), Discard::Nothing).refusals;
    assert_eq!(why(1), ["db1 is not a server beside a primary"]);
    assert_eq!(why(2), ["db2 is part of the cluster"]);
    assert_eq!(why(9), ["cluster app1 has no server db9"]);
    let mut view = view_of(&quarantined(0), returned());
    seen(&mut view).observations.insert(name(3), no_look(3));
    let silent = "db3 does not answer: start its mysqld first";
    assert_eq!(asked(&view, Discard::Proved).refusals, [silent]);
}

#[test]
fn agreement_must_be_about_what_is_there_and_allowed() {
    let not_now = |group: &mut Group, discard| match agree(group, discard) {
        Reply::Rejected { rejection: Rejection::NotNow { .. } } => true,
        Reply::Rejected { .. } | Reply::Ok | Reply::Version { .. } | Reply::Opened { .. } => false,
    };
    assert!(not_now(&mut quarantined(0), Discard::Nothing));
    assert!(not_now(&mut quarantined(1), Discard::Proved));
    assert!(not_now(&mut Group::adopted(), Discard::All));
    assert!(!not_now(&mut quarantined(1), Discard::All));
    let mut more = quarantined(0);
    let (cluster, epoch) = ("app1".into(), more.cluster().epoch);
    more.apply(Command::Quarantine { cluster, epoch, server: name(3), errant: run(3, 3) });
    assert!(not_now(&mut more, Discard::All));
}

#[test]
fn server_is_rebuilt_then_follows_and_who_wanted_it_is_remembered() {
    let mut group = quarantined(0);
    assert_eq!(moves(&view_of(&group, returned())), [""; 0]);
    assert_eq!(agree(&mut group, Discard::Proved), Reply::Ok);
    assert_eq!(moves(&view_of(&group, returned())), ["plan rebuild db3"]);
    let chore = |goal: StepKind, outcome: StepOutcome, group: &mut Group| {
        let planned = Planned { target: name(3), goal };
        let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
        group.apply(Command::PlanChore { cluster, epoch, planned });
        let step = group.cluster().chores[&name(3)].id;
        assert_eq!(group.begin(step), Reply::Ok);
        assert_eq!(group.end(step, outcome), Reply::Ok);
    };
    let rebuild = || StepKind::Rebuild { donor: name(2), extra: run(3, 2) };
    chore(rebuild(), StepOutcome::Unknown { why: "it stopped".into() }, &mut group);
    // It is down, and nobody said what starts it.
    let mut down = view_of(&group, returned());
    seen(&mut down).observations.insert(name(3), no_look(3));
    assert_eq!(moves(&down), [""; 0]);
    let definition = &mut group.cluster_mut().definition;
    definition.servers[2].service = Some("mysql.service".into());
    down.group = std::sync::Arc::new(group.state.clone());
    assert_eq!(moves(&down), ["plan start_server db3"]);
    // Started, it brings its donor's source along, which is forgotten first.
    group.cluster_mut().chores.clear();
    let mut copy = replica_facts(3, 1, run(1, 9));
    copy.semi_sync = Some(Default::default());
    link(&mut copy).receiver = crate::model::Receiver::Off;
    link(&mut copy).applier = crate::model::Applier::Off;
    assert_eq!(moves(&view_of(&group, copy.clone())), ["plan rebuild db3"]);
    chore(rebuild(), met(&run(1, 9)), &mut group);
    copy.replica = None;
    assert_eq!(moves(&view_of(&group, copy)), ["plan follow db3"]);
    let view = view_of(&group, returned());
    let (cluster, seen) = parts(&view);
    let follow = crate::decide::stage::follow(cluster, seen, &name(1), true);
    chore(follow, met(&run(1, 9)), &mut group);
    let member = &group.cluster().members[&name(3)];
    let wish = Rejoin { actor: ann(), discard: Discard::Proved, extra: run(3, 2) };
    let found = (&member.standing, &member.rejoin, &member.rejoined);
    assert_eq!(found, (&Standing::Member, &None, &Some(wish)));
}

/// Nobody else is left, and without an acker it is not opened again.
#[test]
fn server_is_rebuilt_from_a_restarted_primary_that_may_wait_for_it() {
    let mut group = quarantined(0);
    assert_eq!(agree(&mut group, Discard::Proved), Reply::Ok);
    let restarted = |last: u64| {
        let mut facts = primary_facts(1, run(1, last));
        (facts.read_only, facts.super_read_only, facts.uptime_seconds) = (true, true, 2);
        let mut view = view_of(&group, returned());
        let mut behind = replica_facts(2, 1, run(1, 9));
        behind.semi_sync = Some(Default::default());
        (link(&mut behind).receiver, link(&mut behind).applier) =
            (crate::model::Receiver::Off, crate::model::Applier::Off);
        for look in [look(1, facts), look(2, behind)] {
            seen(&mut view).observations.insert(look.server.clone(), look);
        }
        moves(&view)
    };
    let expected = ["plan open_for_writes db1", "plan rebuild db3"];
    assert_eq!(restarted(9), expected);
    // It has lost what db2 has from it: nothing is made a copy of that.
    assert!(!restarted(8).contains(&expected[1].to_owned()));
}

#[test]
fn clean_server_is_had_back_where_the_policy_leaves_that_to_people() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.policy.rejoin = false;
    let member = group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member");
    member.standing = Standing::Former { vips_dropped: true };
    let mut clean = returned();
    clean.executed = run(1, 9);
    assert_eq!(moves(&view_of(&group, clean.clone())), [""; 0]);
    let found = asked(&view_of(&group, clean.clone()), Discard::Nothing);
    assert_eq!((found.refusals, found.steps.len()), (vec![], 1));
    let rejoin =
        Rejoin { actor: ann(), discard: Discard::Nothing, extra: crate::model::GtidSet::empty() };
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    let reply = group.apply(Command::Rejoin { cluster, epoch, server: name(3), rejoin });
    assert_eq!(reply, Reply::Ok);
    assert_eq!(moves(&view_of(&group, clean)), ["plan follow db3"]);
}
