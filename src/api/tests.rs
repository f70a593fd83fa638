//! Tests of documents as people and programs read them, whole.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::{
    decide::{ClusterView, Wish},
    model::{
        Actor, Answer, Applier, Attempt, Boot, Cause, ClusterName, Epoch, GtidSet, Hearing, Micros,
        Mode,
    },
    state::Command,
};

use super::{
    build, catalogue,
    desk::{Findings, Snapshot, rehearse},
    document::{Health, StatusDocument},
    follow, report,
    scene::{Story, UUIDS, alice, app1, first_id, looks, primary, replica, tally},
};
use crate::{
    cli::print::{self, Paint},
    config, golden,
};

fn to(last: u64) -> GtidSet {
    GtidSet::run(UUIDS[0], 1, last)
}

/// db1 is primary, db2 and db3 replicate; db3 is two transactions behind.
fn healthy() -> ClusterView {
    let mut seen = looks(vec![
        ("db1", Ok(primary(UUIDS[0], to(5012)))),
        ("db2", Ok(replica(UUIDS[1], "198.51.100.11", to(5012)))),
        ("db3", Ok(replica(UUIDS[2], "198.51.100.11", to(5010)))),
    ]);
    seen.tally = Some(tally(Answer::Up));
    let hears = |name: &str| (name.into(), Hearing::Hears { age: Micros(90_000) });
    seen.hearing = ["db2", "db3"].map(hears).into_iter().collect();
    let at = |address: &str, uuid: &str| (address.to_owned(), Ok(uuid.to_owned()));
    seen.vips =
        [at("198.51.100.100", UUIDS[0]), at("198.51.100.101", UUIDS[1])].into_iter().collect();
    seen
}

fn status(snapshot: &Snapshot) -> StatusDocument {
    let findings = Findings::of(&snapshot.view, &app1());
    build::status(snapshot, &BTreeMap::from([(app1(), findings)]), "")
}

fn table(name: &str, status: &StatusDocument) {
    golden::check(name, &print::status(status, Paint::Plain));
}

fn closed(story: &Story) -> &Attempt {
    story.group.clusters[&app1()].history.back().unwrap()
}

fn check_report(name: &str, story: &Story, attempt: &Attempt) {
    let document = report::document(&story.group.clusters[&app1()], attempt);
    golden::check(&format!("{name}.txt"), &print::report(&document, Paint::Plain));
    let json = serde_json::to_string_pretty(&document).unwrap();
    golden::check(&format!("{name}.json"), &(json + "\n"));
}

fn succeeded() -> Story {
    let mut story = Story::adopted();
    story.opened(Actor::Group, Cause::PrimaryDown);
    story.frozen();
    story.elected();
    story.promoted();
    story
}

#[test]
fn healthy_cluster_with_one_silent_manager() {
    let status = status(&Story::adopted().seen(healthy()));
    assert_eq!((status.health, status.clusters[0].health), (Health::Warning, Health::Ok));
    table("status_healthy.txt", &status);
    let json = serde_json::to_string_pretty(&status).unwrap();
    golden::check("status_healthy.json", &(json.clone() + "\n"));
    assert_eq!(serde_json::from_str::<StatusDocument>(&json).unwrap(), status);
}

#[test]
fn dead_primary_with_a_lost_acker_says_what_is_missing() {
    let mut seen = healthy();
    let dead = looks(vec![
        ("db1", Err("connection refused".into())),
        ("db3", Err("no answer within 1000 ms".into())),
    ]);
    seen.observations.extend(dead.observations);
    seen.tally = Some(tally(Answer::Down));
    seen.hearing = BTreeMap::from([("db2".into(), Hearing::Disconnected)]);
    let status = status(&Story::adopted().seen(seen));
    assert_eq!(status.exit_code, 2);
    table("status_dead_no_coverage.txt", &status);
}

#[test]
fn what_is_missing_is_shown_with_what_cures_it() {
    let mut lax = primary(UUIDS[0], to(5012));
    (lax.sync_binlog, lax.boot) = (100, Boot::Unknown);
    let semi_sync = lax.semi_sync.get_or_insert_default();
    (semi_sync.wait_no_replica, semi_sync.source_enabled) = (false, false);
    let mut slow = replica(UUIDS[1], "198.51.100.11", to(5012));
    slow.replica.as_mut().unwrap().options.heartbeat_ms = 30_000;
    let mut seen = healthy();
    let found = vec![("db1", Ok(lax)), ("db2", Ok(slow)), ("db3", Err("silent".into()))];
    seen.observations.extend(looks(found).observations);
    let snapshot = Story::adopted().seen(seen);
    let found = build::harden(&snapshot.view, &app1(), &[]);
    assert_eq!((found.missing, found.applicable), (5, 4));
    golden::check("harden.txt", &print::harden(&found, false, Paint::Plain));
    let json = serde_json::to_string_pretty(&found).unwrap();
    golden::check("harden.json", &(json + "\n"));
}

#[test]
fn open_attempt_shows_its_steps() {
    let mut story = Story::adopted();
    story.opened(alice(), Cause::Manual);
    story.frozen();
    table("status_open.txt", &status(&story.seen(healthy())));
}

#[test]
fn after_a_failover_the_former_primary_and_the_interval_are_shown() {
    let story = succeeded();
    let errant = to(5012).union(&GtidSet::run(UUIDS[2], 1, 3));
    let mut third = replica(UUIDS[2], "198.51.100.12", errant);
    if let Some(link) = &mut third.replica {
        let text = "Duplicate entry '7' for key 'PRIMARY'".into();
        link.applier = Applier::Broken { code: 1062, text };
    }
    let mut former = primary(UUIDS[0], to(5012));
    former.read_only = true;
    former.super_read_only = true;
    let seen = looks(vec![
        ("db1", Ok(former)),
        ("db2", Ok(primary(UUIDS[1], to(5012).union(&GtidSet::run(UUIDS[1], 1, 40))))),
        ("db3", Ok(third)),
    ]);
    table("status_after_failover.txt", &status(&story.seen(seen)));
}

#[test]
fn paused_cluster_is_a_warning_and_partial_views_say_so() {
    let mut story = Story::adopted();
    let reason = "kernel upgrade on db1".to_owned();
    story.tell(Command::Pause { cluster: app1(), actor: alice(), reason });
    let snapshot = story.seen(healthy());
    let findings = Findings::of(&snapshot.view, &app1());
    let notice = "no quorum; this is only what manager 1 sees by itself";
    let status = build::status(&snapshot, &BTreeMap::from([(app1(), findings)]), notice);
    assert_eq!(status.clusters[0].health, Health::Warning);
    assert!(!status.is_complete);
    table("status_paused_partial.txt", &status);
}

#[test]
fn cluster_of_a_chain_is_drawn_as_a_tree() {
    let mut seen = healthy();
    let chain = looks(vec![("db3", Ok(replica(UUIDS[2], "198.51.100.12", to(5000))))]);
    seen.observations.extend(chain.observations);
    let status = status(&Story::adopted().seen(seen));
    let depths: Vec<_> = status.clusters[0].servers.iter().map(|s| (&*s.name, s.depth)).collect();
    assert_eq!(depths, [("db1", 0), ("db2", 1), ("db3", 2)]);
}

#[test]
fn successful_failover_is_reported_from_its_record() {
    let story = succeeded();
    check_report("report_promoted", &story, closed(&story));
}

#[test]
fn aborted_failover_of_two_leaders_is_reported_from_its_record() {
    let mut story = Story::adopted();
    story.opened(alice(), Cause::Manual);
    story.aborted();
    check_report("report_aborted", &story, closed(&story));
}

#[test]
fn explanation_of_a_cluster() {
    let snapshot = Story::adopted().seen(healthy());
    let findings = Findings::of(&snapshot.view, &app1());
    let explained = build::explain(&snapshot, &app1(), &findings, "").unwrap();
    golden::check("explain_cluster.txt", &print::explain(&explained, Paint::Plain));
}

#[test]
fn dry_run_shows_refusals_and_steps() {
    let snapshot = Story::adopted().seen(healthy());
    let wish = Wish {
        actor: alice(),
        wanted: Some("db3".into()),
        asserted_dead: false,
        interval_waived: false,
        switchover: None,
    };
    let plan = build::plan(&app1(), &rehearse(&snapshot.view, &app1(), &wish));
    golden::check("failover_dry_run.txt", &print::plan(&plan, Paint::Plain));
}

#[test]
fn every_code_is_explained() {
    let all = catalogue::all();
    let text: String = all.iter().map(|entry| print::code(entry, Paint::Plain) + "\n").collect();
    golden::check("explain_codes.txt", &text);
    let codes: BTreeSet<_> = all.iter().map(|entry| entry.code).collect();
    let sentences: BTreeSet<_> = all.iter().map(|entry| &entry.sentence).collect();
    assert_eq!((codes.len(), sentences.len()), (all.len(), all.len()), "not unique");
    assert_eq!(catalogue::find("paused").map(|entry| entry.code), Some("gate.paused"));
}

#[test]
fn progress_tells_each_thing_once() {
    let mut story = Story::adopted();
    let mut told: Option<Attempt> = None;
    let mut lines = String::new();
    let mut look = |story: &Story| {
        let cluster = &story.group.clusters[&app1()];
        let now = cluster.attempt_of(Epoch(1)).cloned();
        if let Some(now) = &now {
            for news in follow::news(told.as_ref(), now) {
                lines += &format!("{:>8?} {}\n", news.at_us, news.sentence);
            }
        }
        told = now;
    };
    look(&story);
    story.opened(alice(), Cause::Manual);
    look(&story);
    look(&story);
    story.frozen();
    look(&story);
    story.elected();
    story.promoted();
    look(&story);
    look(&story);
    golden::check("progress.txt", &lines);
}

#[test]
fn an_attempt_is_found_by_id_by_cluster_and_as_the_newest() {
    let story = succeeded();
    for what in ["", "app1", "app1-1"] {
        assert_eq!(report::find(&story.group, what).map(|found| &found.id), Ok(&first_id()));
    }
    let sentences = ["app1-9", "app9", "app9-1"].map(|what| report::find(&story.group, what).err());
    let wanted = [
        "there is no attempt app1-9; on record: app1-1",
        "there is no cluster app9, and an attempt's id reads like app1-7",
        "there is no cluster app9",
    ];
    assert_eq!(sentences, wanted.map(|text| Some(text.to_owned())));
    assert_eq!(
        report::find(&Story::adopted().group, "app1").err(),
        Some("no attempt was ever made for app1".to_owned())
    );
}

#[test]
fn definition_written_as_a_file_reads_back_the_same() {
    let story = Story::adopted();
    let mut definition = story.group.clusters[&app1()].definition.clone();
    definition.mode = Mode::BestEffort;
    definition.servers[1].ssh = None;
    definition.servers[2].service = None;
    definition.policy.automatic = false;
    definition.admin_account = "odd \"name\"".into();
    let text = config::cluster::to_toml(&definition);
    assert_eq!(config::cluster::parse("shown", &text), Ok(definition));
}

#[test]
fn cluster_list() {
    let list = build::list(&succeeded().group);
    golden::check("cluster_list.txt", &print::list(&list, Paint::Plain));
    assert_eq!(list.clusters[0].name, ClusterName::from("app1").to_string());
}
