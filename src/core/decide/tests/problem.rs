//! What is wrong, by name.

use super::{bereft_view, seen};
use crate::{
    decide::{View, problem},
    fixture::*,
    model::{
        Answer, Applier, Boot, Epoch, Hearing, Micros, Observation, Problem, Receiver, SemiSync,
        ServerFacts,
    },
    state::Standing,
};

fn all(view: &View) -> Vec<Problem> {
    problem::list(view, &"app1".into())
}

fn with(server: u64, change: impl FnOnce(&mut ServerFacts)) -> Vec<Problem> {
    let mut view = view(&Group::adopted(), healthy());
    if let Some(Observation { seen: Ok(facts), .. }) =
        seen(&mut view).observations.get_mut(&name(server))
    {
        change(facts);
    }
    all(&view)
}

fn broken(why: &str) -> Problem {
    Problem::ReplicaBroken { server: name(3), why: why.into() }
}

fn requirement(server: u64, what: &str) -> Problem {
    Problem::Requirement { server: name(server), what: what.into() }
}

fn semi_sync(facts: &mut ServerFacts) -> &mut SemiSync {
    facts.semi_sync.as_mut().expect("the plugins are there")
}

#[test]
fn healthy_cluster_has_no_problem() {
    assert_eq!(all(&view(&Group::adopted(), healthy())), []);
    assert_eq!(problem::list(&view(&Group::adopted(), healthy()), &"app9".into()), []);
}

#[test]
fn cluster_that_was_not_adopted() {
    let mut group = Group::adopted();
    group.cluster_mut().regimes.clear();
    let why = |text: &str| Problem::NoPrimary { why: text.into() };
    assert_eq!(all(&view(&group, healthy())), [why("it is being adopted")]);
    let found = all(&view(&group, healthy().into_iter().take(2)));
    assert_eq!(found[0], why("db3 was not reached yet"));
}

#[test]
fn ballots_name_the_state_of_the_primary() {
    let told = |answers, hearing: Hearing| {
        let mut view = bereft_view(&Group::adopted());
        let mut ballots = tally(Epoch(0), answers);
        for counted in ballots.ballots.values_mut() {
            // Old for a verdict, young enough for status.
            counted.age = Micros(4_000_000);
            counted.ballot.hearing.insert(name(3), hearing.clone());
        }
        seen(&mut view).tally = Some(ballots);
        all(&view).remove(0)
    };
    let (down, up) = (Answer::Down, Answer::Up);
    let primary = name(1);
    let expected = Problem::PrimaryDown { primary: primary.clone() };
    assert_eq!(told([down, down, up], Hearing::Disconnected), expected);
    let by = vec![name(3)];
    let expected = Problem::PrimaryUnreachable { primary: primary.clone(), by };
    assert_eq!(told([down, down, up], Hearing::Hears { age: Micros(1) }), expected);
    let mut view = view(&Group::adopted(), healthy());
    seen(&mut view).tally = Some(tally(Epoch(0), [down, up, up]));
    let expected = [Problem::PrimaryDoubtful { primary, down: 1, voters: 3 }];
    assert_eq!(all(&view), expected);
}

#[test]
fn primary_read_only_since_a_restart_or_not() {
    let primary = name(1);
    let restarted = with(1, |facts| (facts.read_only, facts.uptime_seconds) = (true, 1));
    assert_eq!(restarted, [Problem::PrimaryRestarted { primary: primary.clone() }]);
    let closed = with(1, |facts| facts.read_only = true);
    assert_eq!(closed, [Problem::PrimaryReadOnly { primary }]);
}

#[test]
fn second_writable_server() {
    let found = with(3, |facts| facts.read_only = false);
    assert_eq!(found, [Problem::TwoWritable { primary: name(1), other: name(3) }]);
}

#[test]
fn last_acker_lost_is_critical_and_the_missing_sides_are_named() {
    let mut view = view(&Group::adopted(), healthy());
    for look in seen(&mut view).observations.values_mut() {
        let Ok(facts) = &mut look.seen else { continue };
        semi_sync(facts).replica_active = false;
        semi_sync(facts).waiting = 4;
    }
    let expected = [
        Problem::LastAckerLost { primary: name(1), waiting: 4 },
        requirement(2, "an active semi-sync replica side"),
        requirement(3, "an active semi-sync replica side"),
    ];
    assert_eq!(all(&view), expected);
}

#[test]
fn every_requirement_of_quorum_mode_on_the_primary() {
    let found = with(1, |facts| {
        (facts.sync_binlog, facts.flush_log) = (0, 2);
        facts.semi_sync = Some(SemiSync { has_source: true, ..SemiSync::default() });
        (facts.boot, facts.skips_replica_start) = (Boot::Open, false);
        facts.inbound = None;
    });
    let expected = [
        "sync_binlog = 1 (it is 0)",
        "innodb_flush_log_at_trx_commit = 1 (it is 2)",
        "rpl_semi_sync_source_wait_point = AFTER_SYNC",
        "rpl_semi_sync_source_wait_no_replica = ON",
        "rpl_semi_sync_source_timeout of a day or more (milliseconds)",
        "rpl_semi_sync_source_enabled = ON",
        "rpl_semi_sync_source_wait_for_replica_count = 1, as defined (it is 0)",
        "read_only = ON and super_read_only = ON at boot",
        "skip_replica_start = ON at boot",
    ];
    assert_eq!(found, expected.map(|what| requirement(1, what)));
    let found = with(1, |facts| facts.semi_sync = None);
    assert_eq!(found, [requirement(1, "the semi-sync plugins")]);
}

#[test]
fn requirements_of_quorum_mode_on_a_replica() {
    let found = with(3, |facts| facts.sync_relay_log = 10_000);
    assert_eq!(found, [requirement(3, "sync_relay_log = 1 (it is 10000)")]);
    let found = with(3, |facts| facts.sync_binlog = 1000);
    let what = "sync_binlog = 1 (it is 1000), for the day it is promoted";
    assert_eq!(found, [requirement(3, what)]);
    let found = with(3, |facts| semi_sync(facts).has_source = false);
    let what = "the semi-sync source plugin: it could not be promoted";
    assert_eq!(found, [requirement(3, what)]);
    // Set at run time, nobody can tell what the file says.
    assert_eq!(with(3, |facts| facts.boot = Boot::Unknown), []);
    assert_eq!(with(3, |facts| facts.boot = Boot::Open).len(), 1);
    let found = with(3, |facts| semi_sync(facts).source_enabled = true);
    let what = "rpl_semi_sync_source_enabled = OFF on a replica (its applier would hang)";
    assert_eq!(found, [requirement(3, what)]);
}

#[test]
fn stranger_among_the_semi_sync_clients_is_named_by_its_account() {
    let connected = |clients, dumps: &[&str]| {
        with(1, |facts| {
            semi_sync(facts).clients = clients;
            let inbound = facts.inbound.get_or_insert_default();
            inbound.dumps = dumps.iter().map(|account| (*account).to_owned()).collect();
        })
    };
    let what = |account| {
        format!(
            "no semi-sync client but its ackers (3 are connected, 2 of them known; look at account \
             {account})"
        )
    };
    assert_eq!(connected(3, &["repl2", "repl3", "bi"]), [requirement(1, &what("bi"))]);
    assert_eq!(connected(3, &["repl2", "repl3", "repl3"]), [requirement(1, &what("repl3"))]);
    // A replica that acknowledges nothing, and a count that is of a broken connection.
    assert_eq!(connected(2, &["repl2", "repl3", "bi"]), []);
    assert_eq!(connected(3, &["repl2", "repl3"]), []);
}

#[test]
fn replica_under_another_account_than_defined_could_not_be_locked_out() {
    let found = with(1, |facts| facts.inbound.get_or_insert_default().dumps.truncate(1));
    let what = "replication under its account as defined, \"repl3\"";
    assert_eq!(found, [requirement(3, what)]);
}

#[test]
fn account_for_several_servers_cannot_be_locked_for_one() {
    let mut definition = definition(3);
    definition.servers[2].replication_account = "repl2".into();
    let mut view = view(&Group::with(definition), healthy());
    let look = seen(&mut view).observations.get_mut(&name(1)).expect("it was looked at");
    let inbound = &mut look.seen.as_mut().expect("it was reached").inbound;
    inbound.get_or_insert_default().dumps = vec!["repl2".into(), "repl2".into()];
    let found = all(&view);
    let what = |other| {
        format!(
            "a replication account of its own (it has \"repl2\" in common with {other}, so that none \
             of them could be locked out)"
        )
    };
    assert_eq!(found, [requirement(2, &what("db3")), requirement(3, &what("db2"))]);
}

#[test]
fn each_way_of_not_replicating() {
    assert_eq!(with(3, |facts| facts.replica = None), [broken("it has no source")]);
    let found = with(3, |facts| link(facts).source_host = "10.0.0.2".into());
    assert_eq!(found, [broken("it follows 10.0.0.2:3306 instead of db1")]);
    let found = with(3, |facts| link(facts).receiver = Receiver::Connecting);
    assert_eq!(found, [broken("its receiver does not get a connection")]);
    let found = with(3, |facts| link(facts).receiver = Receiver::Off);
    assert_eq!(found, [broken("its receiver is stopped")]);
    let found = with(3, |facts| link(facts).applier = Applier::Off);
    assert_eq!(found, [broken("its applier is stopped")]);
    let error = Applier::Broken { code: 1062, text: "duplicate".into() };
    let found = with(3, |facts| link(facts).applier = error);
    assert_eq!(found, [broken("its applier stopped with error 1062: duplicate")]);
}

#[test]
fn replica_with_transactions_that_the_primary_lacks() {
    let found = with(3, |facts| facts.executed = run(1, 11).union(&run(3, 2)));
    let gtids = format!("{}:1-2", uuid(3));
    assert_eq!(found, [Problem::Errant { server: name(3), gtids }]);
}

#[test]
fn former_and_quarantined_servers_are_listed_and_not_judged_as_replicas() {
    let standing = |standing| {
        let mut group = Group::adopted();
        group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member").standing = standing;
        let mut view = view(&group, healthy());
        let mut alone = primary_facts(3, run(1, 9));
        alone.read_only = true;
        alone.semi_sync = None;
        seen(&mut view).observations.insert(name(3), look(3, alone));
        all(&view)
    };
    let former = standing(Standing::Former { vips_dropped: true });
    assert_eq!(former, [Problem::Former { server: name(3) }]);
    let gtids = format!("{}:1", uuid(3));
    let errant = standing(Standing::Quarantined { errant: run(3, 1), findings: None, saved: None });
    assert_eq!(errant, [Problem::Errant { server: name(3), gtids }]);
}

#[test]
fn former_that_lacks_what_it_numbered_itself_is_to_be_rebuilt() {
    let mut group = Group::adopted();
    let member = group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member");
    member.standing = Standing::Former { vips_dropped: true };
    let with = |theirs, own| {
        let mut view = view(&group, healthy());
        let mut alone = primary_facts(3, own);
        alone.read_only = true;
        alone.semi_sync = None;
        seen(&mut view).observations.insert(name(3), look(3, alone));
        seen(&mut view).observations.insert(name(2), look(2, replica_facts(2, 1, theirs)));
        let problems = all(&view);
        problems.iter().any(|problem| {
            matches!(problem, Problem::ReplicaBroken { server, why }
            if *server == name(3) && why.contains("numbered itself"))
        })
    };
    let theirs = || run(1, 9).union(&run(3, 4));
    assert!(with(theirs(), run(1, 9).union(&run(3, 3))));
    assert!(!with(theirs(), run(1, 7).union(&run(3, 4))), "it lags, and that is all");
}

#[test]
fn server_out_of_reach_and_server_behind_the_wrong_address() {
    let mut view = view(&Group::adopted(), healthy());
    seen(&mut view).observations.insert(name(3), no_look(3));
    let why = "connection refused".into();
    assert_eq!(all(&view), [Problem::ServerUnreachable { server: name(3), why }]);
    let found = with(3, |facts| facts.uuid = uuid(7));
    let (wanted, found_uuid) = (uuid(3), uuid(7));
    let expected = Problem::WrongIdentity { server: name(3), wanted, found: found_uuid };
    assert_eq!(found, [expected]);
}

#[test]
fn misplaced_address() {
    let at = |found| {
        let mut view = view(&Group::adopted(), healthy());
        seen(&mut view).vips.insert(vip().address, found);
        all(&view)
    };
    let misplaced = |why: String| [Problem::VipMisplaced { vip: vip().address, why }];
    let elsewhere = "db3 answers there instead of db1".to_owned();
    assert_eq!(at(Ok(uuid(3))), misplaced(elsewhere));
    let nobody = "nobody answers there, wanted db1: nobody".to_owned();
    assert_eq!(at(Err("nobody".into())), misplaced(nobody));
}

#[test]
fn host_without_a_login_is_told_unless_its_server_is_away_as_well() {
    let mut view = view(&Group::adopted(), healthy());
    let why = "known_hosts knows no key of that host".to_owned();
    seen(&mut view).logins.insert(name(2), Err(why.clone()));
    assert_eq!(all(&view), [Problem::HostUnreachable { server: name(2), why }]);
    seen(&mut view).observations.insert(name(2), no_look(2));
    let codes: Vec<_> = all(&view).iter().map(Problem::code).collect();
    assert_eq!(codes, ["problem.server_unreachable"]);
}

#[test]
fn worst_problems_come_first() {
    let mut view = view(&Group::adopted(), healthy());
    seen(&mut view).observations.insert(name(2), no_look(2));
    let mut writable = replica_facts(3, 1, run(1, 9));
    writable.read_only = false;
    seen(&mut view).observations.insert(name(3), look(3, writable));
    let codes: Vec<_> = all(&view).iter().map(Problem::code).collect();
    assert_eq!(codes, ["problem.two_writable", "problem.server_unreachable"]);
}
