//! Who becomes primary.

use std::collections::BTreeMap;

use super::seen;
use crate::{
    decide::{
        View,
        candidate::{Field, rank},
    },
    fixture::*,
    model::{Applier, ClusterDefinition, GtidSet, Mode, PromotionRule, Ranked, ServerName},
    state::Standing,
};

/// What the servers received: all the same, but for these.
fn received(but: &[(u64, GtidSet)]) -> BTreeMap<ServerName, GtidSet> {
    let mut out: BTreeMap<_, _> = [2, 3].map(|server| (name(server), run(1, 9))).into();
    out.extend(but.iter().map(|(server, set)| (name(*server), set.clone())));
    out
}

fn ranked(group: &Group, received: &BTreeMap<ServerName, GtidSet>, wanted: Option<u64>) -> Field {
    ranked_in(&view(group, bereft()), received, wanted)
}

fn ranked_in(view: &View, received: &BTreeMap<ServerName, GtidSet>, wanted: Option<u64>) -> Field {
    let (cluster, seen) = super::parts(view);
    rank(cluster, seen, view.now, received, wanted.map(name).as_ref())
}

/// The order of the servers, each with its reasons against.
fn order(field: &Field) -> Vec<(String, Vec<String>)> {
    let short = |ranked: &Ranked| (ranked.server.to_string(), ranked.against.clone());
    field.ranking.iter().map(short).collect()
}

fn clean(servers: &[&str]) -> Vec<(String, Vec<String>)> {
    servers.iter().map(|server| ((*server).to_owned(), Vec::new())).collect()
}

#[test]
fn whole_field_of_two_equal_servers_is_ranked_in_the_operators_order() {
    let row = |server: u64, keys: [&str; 4]| Ranked {
        server: name(server),
        against: Vec::new(),
        keys: keys.map(Into::into).into(),
    };
    let field = ranked(&Group::adopted(), &received(&[]), None);
    let expected = Field {
        ranking: vec![
            row(2, ["rule allow", "lacks no transaction", "rack r2", "version 9.7.4"]),
            row(3, ["rule allow", "lacks no transaction", "rack r3", "version 9.7.4"]),
        ],
        best: Some(name(2)),
        target: run(1, 9),
        errant: BTreeMap::new(),
    };
    assert_eq!(field, expected);
}

#[test]
fn keys_are_compared_in_their_order() {
    let mut group = Group::adopted();
    // What was received counts before the rack, the rack before the version.
    let lagging = received(&[(2, run(1, 8))]);
    assert_eq!(order(&ranked(&group, &lagging, None)), clean(&["db3", "db2"]));
    // The rule counts before what was received.
    group.cluster_mut().definition.servers[1].promotion = PromotionRule::Prefer;
    assert_eq!(order(&ranked(&group, &lagging, None)), clean(&["db2", "db3"]));
    // The operator's word counts before the rule.
    assert_eq!(order(&ranked(&group, &lagging, Some(3))), clean(&["db3", "db2"]));
    group.cluster_mut().definition.servers[1].promotion = PromotionRule::Avoid;
    assert_eq!(order(&ranked(&group, &received(&[]), None)), clean(&["db3", "db2"]));
}

#[test]
fn server_in_the_rack_of_the_old_primary_stays_there_and_older_versions_go_first() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.servers[2].rack = "r1".into();
    assert_eq!(order(&ranked(&group, &received(&[]), None)), clean(&["db3", "db2"]));
    let group = Group::adopted();
    let mut view = view(&group, bereft());
    let mut newer = replica_facts(2, 1, run(1, 9));
    newer.version = "9.8.0".into();
    seen(&mut view).observations.insert(name(2), look(2, newer));
    // db3 could not follow a newer one, which is therefore none that may be promoted.
    let mut expected = clean(&["db3", "db2"]);
    let why = "db3 could not follow it: MySQL 9.7.4 does not replicate from the newer MySQL 9.8.0";
    expected[1].1.push(why.into());
    assert_eq!(order(&ranked_in(&view, &received(&[]), None)), expected);
}

#[test]
fn newer_server_is_promoted_where_all_that_would_follow_it_are_as_new() {
    let mut group = Group::adopted();
    let with = |group: &Group, reached: &[u64], versions: [&str; 2]| {
        let mut view = view(group, bereft());
        for (server, version) in [2, 3].into_iter().zip(versions) {
            let mut facts = replica_facts(server, 1, run(1, 9));
            facts.version = version.into();
            seen(&mut view).observations.insert(name(server), look(server, facts));
        }
        let received = reached.iter().map(|server| (name(*server), run(1, 9))).collect();
        ranked_in(&view, &received, None).best
    };
    // A patch is no release; the old primary's own version does not count.
    assert_eq!(with(&group, &[2, 3], ["9.8.1", "9.8.0"]), Some(name(2)));
    assert_eq!(with(&group, &[2, 3], ["9.8.0", "9.7.4"]), Some(name(3)));
    assert_eq!(with(&group, &[2], ["9.8.0", "9.7.4"]), Some(name(2)), "nobody else is there");
    group.cluster_mut().members.get_mut(&name(3)).expect("db3 is a member").left_out = Some(ann());
    assert_eq!(with(&group, &[2, 3], ["9.8.0", "9.7.4"]), Some(name(2)), "db3 is left out");
}

#[test]
fn servers_of_two_families_do_not_follow_each_other() {
    let mode = Mode::Fenced;
    let group = Group::with(ClusterDefinition { mode, ..definition(3) });
    let mut view = view(&group, bereft());
    let mut other = of_mariadb(replica_facts(3, 1, run(1, 9)));
    other.gtid_mode = false;
    seen(&mut view).observations.insert(name(3), look(3, other));
    let expected = [
        (
            name(2),
            vec!["db3 could not follow it: MariaDB 11.8.6 does not replicate from MySQL 9.7.4"],
        ),
        (
            name(3),
            vec![
                "gtid_strict_mode is off: its GTIDs do not tell what it has",
                "db2 could not follow it: MySQL 9.7.4 does not replicate from MariaDB 11.8.6",
            ],
        ),
    ];
    let found = ranked_in(&view, &received(&[]), None).ranking;
    let found: Vec<_> = found.into_iter().map(|it| (it.server, it.against)).collect();
    assert_eq!(
        found,
        expected.map(|(server, why)| (server, why.into_iter().map(Into::into).collect()))
    );
}

#[test]
fn every_reason_against_a_server_is_given() {
    let mut group = Group::adopted();
    group.cluster_mut().definition.servers[1].promotion = PromotionRule::Never;
    let standing = Standing::Former { vips_dropped: false };
    group.cluster_mut().members.get_mut(&name(2)).expect("db2 is a member").standing = standing;
    let mut view = view(&group, bereft());
    let mut unfit = replica_facts(2, 1, run(1, 9));
    unfit.log_bin = false;
    unfit.gtid_mode = false;
    link(&mut unfit).applier = Applier::Broken { code: 1062, text: "duplicate".into() };
    seen(&mut view).observations.insert(name(2), look(2, unfit));
    let field = ranked_in(&view, &received(&[(2, run(1, 9).union(&run(2, 1)))]), None);
    let against = [
        "its rule is never",
        "a former primary not readmitted yet",
        &format!("errant transactions {}:1", uuid(2)),
        "log_bin or log_replica_updates is off: nobody could follow it",
        "gtid_mode is off",
        "its applier stopped with error 1062: duplicate",
    ];
    let expected = ("db2".to_owned(), against.map(Into::into).into());
    assert_eq!(order(&field), [("db3".to_owned(), vec![]), expected]);
}

#[test]
fn server_that_was_not_reached_is_listed_last() {
    let mut one = received(&[]);
    one.remove(&name(2));
    let field = ranked(&Group::adopted(), &one, None);
    let expected = [("db3".to_owned(), vec![]), ("db2".to_owned(), vec!["not reached".into()])];
    assert_eq!(order(&field), expected);
}

#[test]
fn target_is_the_union_without_what_is_errant() {
    let errant = run(1, 8).union(&run(3, 2));
    let field = ranked(&Group::adopted(), &received(&[(3, errant)]), None);
    assert_eq!(field.target, run(1, 9));
    assert_eq!(field.errant, BTreeMap::from([(name(3), run(3, 2))]));
    assert_eq!(field.best, Some(name(2)));
}

#[test]
fn tail_of_the_primary_on_one_server_alone_is_not_errant() {
    let field = ranked(&Group::adopted(), &received(&[(3, run(1, 12))]), None);
    assert_eq!((field.target, field.errant), (run(1, 12), BTreeMap::new()));
    assert_eq!(field.best, Some(name(3)));
}

#[test]
fn tail_of_an_earlier_primary_is_not_errant_even_if_its_successor_was_never_seen() {
    let mut group = Group::adopted();
    // db1 took over with transactions of db9, which one server alone has received so far.
    group.cluster_mut().regimes[0].base = run(9, 4).union(&run(1, 5));
    let ahead = run(9, 4).union(&run(1, 9));
    let behind = run(9, 2).union(&run(1, 9));
    let sets = received(&[(2, behind), (3, ahead.clone())]);
    let field = ranked(&group, &sets, None);
    assert_eq!((field.target, field.errant), (ahead, BTreeMap::new()));
}

#[test]
fn former_primary_is_no_candidate_while_somebody_may_still_read_from_it() {
    let apart = |old_primary: u64, standing| {
        let mut group = Group::adopted();
        let mut closed = super::freezing().attempt().clone();
        closed.old_primary = name(old_primary);
        let cluster = group.cluster_mut();
        cluster.history.push_back(closed);
        cluster.members.get_mut(&name(3)).expect("db3 is a member").standing = standing;
        group
    };
    let former = || Standing::Former { vips_dropped: true };
    let against = |group: Group, reached: &[u64]| {
        let received = reached.iter().map(|server| (name(*server), run(1, 9))).collect();
        let ranking = ranked(&group, &received, None).ranking;
        let of_db2 = ranking.into_iter().find(|ranked| ranked.server == name(2));
        of_db2.map(|ranked| ranked.against).unwrap_or_default()
    };
    let why = "it was primary before, and db3, which may still read from it, was not reached";
    assert_eq!(against(apart(2, former()), &[2]), [why]);
    assert_eq!(against(apart(2, former()), &[2, 3]), [""; 0], "its receiver was stopped");
    assert_eq!(against(apart(1, former()), &[2]), [""; 0], "nobody ever read from it");
    assert_eq!(against(apart(2, Standing::Member), &[2]), [""; 0], "it reads from db1");
}
