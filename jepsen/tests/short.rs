//! A short run on real servers, and a lie that real servers tell.

// Real servers take real time: here the clock is what is waited for.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use conclave_jepsen::checker::{Finding, Verdict};
use conclave_jepsen::nemesis::Nemesis;
use conclave_jepsen::programs;
use conclave_jepsen::record::{Aim, Deed};
use conclave_jepsen::run::{self, Plan};
use conclave_jepsen::stage::{SOON, Stage};
use conclave_lab::{Lab, LabSpec, Outcome};
use conclave_sim::rng::Rng;

/// Choices by chance come from this; it is printed with the results.
const SEED: u64 = 7;

fn plan(nemesis: Nemesis, name: &str) -> Plan {
    let program = programs::built().expect("the program to test");
    Plan { nemesis, name: name.into(), time: Duration::from_secs(20), seed: SEED, program }
}

#[test]
fn short_run_of_mixed_faults_is_valid() {
    let dir = tempfile::tempdir().expect("a folder");
    let results = run::run(&plan(Nemesis::Mix, "mix"), Some(dir.path())).expect("a run");
    let told = run::tell(&results);
    assert_eq!(results.verdict, Verdict::Valid, "{told}");
    assert!(results.counts.inserts["acknowledged"] > 0, "{told}");
    let history = std::fs::read_to_string(dir.path().join("history.edn")).expect("the history");
    let last = history.lines().last().expect("a line");
    assert!(last.contains(":type :ok, :f :read, :value #{"), "{last}");
    let acknowledged = history.lines().filter(|line| line.contains(":type :ok, :f :add,")).count();
    assert_eq!(acknowledged as u64, results.counts.inserts["acknowledged"]);
}

/// Somebody opens the old primary by hand, out of the managers' sight: SAFETY.md, section 4.
#[test]
fn two_primaries_that_a_person_made_are_found() {
    let plan = plan(Nemesis::Kill, "planted");
    let mut record = run::fresh(&plan);
    let lab = Lab::up_replicated(LabSpec::default()).expect("a lab");
    let mut stage = Stage::set(&lab, plan.program, 1, Rng::new(SEED)).expect("a group");
    run::begin(&mut stage, &mut record).expect("clients");
    let kill = Deed::KillServer { server: "db1".into() };
    stage.perform(kill).expect("kill db1");
    let is_replaced =
        |cluster: &serde_json::Value| cluster["primary"] != "db1" && cluster["attempt"].is_null();
    assert!(stage.pass_until(SOON, is_replaced), "no failover");
    stage.writes_again(SOON).expect("the new primary takes writes");
    stage.look();
    stage.perform(Deed::Isolate { host: "db1".into() }).expect("isolate db1");
    stage.perform(Deed::StartServer { server: "db1".into() }).expect("start db1");
    let db1 = lab.host("db1").expect("db1");
    // Semi-sync is off at boot.
    db1.sql("SET GLOBAL read_only=OFF").expect("open db1");
    let until = std::time::Instant::now() + SOON;
    while db1
        .sql_value("SELECT COUNT(*) FROM app.w WHERE at > NOW(6) - INTERVAL 1 SECOND")
        .expect("look")
        == "0"
    {
        assert!(std::time::Instant::now() < until, "the watcher of db1 wrote nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    run::conclude(&mut stage, &mut record).expect("an ending");
    let watcher = Aim::Server { server: "db1".into() };
    let mut clients = record.clients.iter().filter(|client| client.aim == watcher);
    let ops = clients.next().map(|client| client.ops.as_slice()).unwrap_or_default();
    assert!(ops.iter().any(|op| op.outcome == Outcome::Ok), "db1 acknowledged nothing");
    let results = run::judge(&record);
    let told = run::tell(&results);
    assert_eq!(results.verdict, Verdict::Violation, "{told}");
    let says = |checker: &str, what: &str| {
        let is_it = |finding: &&Finding| finding.checker == checker;
        let finding = results.findings.iter().find(is_it).expect("the checker");
        assert!(finding.because.iter().any(|line| line.contains(what)), "{told}");
    };
    says("revoked", "db1 acknowledged row");
    says("acknowledged", "of app.w was acknowledged");
    assert_eq!(record.ending.quarantined.len(), 1, "db1 is quarantined: {told}");
}
