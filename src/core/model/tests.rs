//! Every code and every sentence that an operator may see tells one thing from all others.

use std::collections::BTreeSet;

use super::*;

/// One of each, with values that differ from variant to variant.
fn refusals() -> Vec<Refusal> {
    let server = ServerName::from("db1");
    let why = "a reason".to_owned();
    vec![
        Refusal::Paused { by: "ann".into() },
        Refusal::NotAutomatic,
        Refusal::AttemptOpen { epoch: Epoch(1) },
        Refusal::LastFailoverInterval { left_s: 60, minutes: 10 },
        Refusal::RetryPause { left_ms: 100 },
        Refusal::NotDown { down: 1, needed: 2, voters: 3 },
        Refusal::NoMajority { left: 1, needed: 2, voters: 3 },
        Refusal::StillHeard { by: vec![server.clone()] },
        Refusal::NoReplicaReached,
        Refusal::NoCoverage {
            reached: vec![server.clone()],
            restarted: vec![],
            ackers: 2,
            acks: 1,
        },
        Refusal::NoFence { server: server.clone(), why: why.clone() },
        Refusal::NoCandidate { against: vec![why.clone()] },
        Refusal::TooFewAckers { candidate: server.clone(), left: 0, acks: 1 },
        Refusal::CandidateRefused { server: server.clone(), why: why.clone() },
        Refusal::LeaderStalled { span: Micros(300_000) },
        Refusal::NoPrimary { why: why.clone() },
        Refusal::PrimaryAlive { server: server.clone() },
        Refusal::Requirement { server, what: why },
    ]
}

fn problems() -> Vec<Problem> {
    let primary = ServerName::from("db1");
    let server = || ServerName::from("db1");
    let why = || "a reason".to_owned();
    vec![
        Problem::NoPrimary { why: why() },
        Problem::PrimaryDown { primary: primary.clone() },
        Problem::PrimaryUnreachable { primary: primary.clone(), by: vec![server()] },
        Problem::PrimaryDoubtful { primary: primary.clone(), down: 1, voters: 3 },
        Problem::PrimaryRestarted { primary: primary.clone() },
        Problem::PrimaryReadOnly { primary: primary.clone() },
        Problem::TwoWritable { primary: primary.clone(), other: server() },
        Problem::LastAckerLost { primary: primary.clone(), waiting: 4 },
        Problem::AcksLost { primary: primary.clone(), waiting: 4 },
        Problem::AcksLowered { primary: primary.clone(), acks: 0, wanted: 1 },
        Problem::AckerDropped { server: server(), primary },
        Problem::ReplicaBroken { server: server(), why: why() },
        Problem::ServerUnreachable { server: server(), why: why() },
        Problem::Former { server: server() },
        Problem::Errant { server: server(), gtids: "x:1".into() },
        Problem::WrongIdentity { server: server(), wanted: "a".into(), found: "b".into() },
        Problem::SameServer { server: server(), other: "db3".into(), uuid: "a".into() },
        Problem::Requirement { server: server(), what: why() },
        Problem::HostUnreachable { server: "db1".into(), why: why() },
        Problem::VipMisplaced { vip: "10.0.0.100".into(), why: why() },
    ]
}

fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::NoSuchCluster { cluster: "app1".into() },
        Rejection::WrongEpoch { wanted: Epoch(1), found: Epoch(2) },
        Rejection::WrongStage { why: "a reason".into() },
        Rejection::WrongStep { step: "1.2".into(), why: "a reason".into() },
        Rejection::StaleTerm { found: 1, newest: 2 },
        Rejection::BadDefinition { mistakes: vec!["a mistake".into()] },
        Rejection::NotNow { why: "not now".into() },
    ]
}

/// The tag that serde writes: it names the variant, so a list of all of them has as many.
fn tags<T: serde::Serialize>(of: &[T]) -> BTreeSet<String> {
    let tag = |each: &T| {
        let value = serde_json::to_value(each).expect("it is plain data");
        value["code"].as_str().expect("it has a code").to_owned()
    };
    of.iter().map(tag).collect()
}

#[test]
fn codes_and_sentences_are_unique_among_refusals_and_problems() {
    let (refusals, problems) = (refusals(), problems());
    let mut codes = BTreeSet::new();
    let mut sentences = BTreeSet::new();
    let told = refusals.iter().map(|r| (r.code(), r.sentence()));
    for (code, sentence) in told.chain(problems.iter().map(|p| (p.code(), p.sentence()))) {
        assert!(codes.insert(code), "{code} is used twice");
        assert!(!sentence.is_empty() && sentences.insert(sentence.clone()), "twice: {sentence}");
    }
    assert_eq!(tags(&refusals).len(), refusals.len());
    assert_eq!(tags(&problems).len(), problems.len());
}

#[test]
fn code_of_each_is_its_area_and_the_tag_it_is_stored_under() {
    for refusal in refusals() {
        let stored: Vec<String> = tags(&[&refusal]).into_iter().collect();
        assert_eq!(refusal.code(), format!("gate.{}", stored[0]));
    }
    for problem in problems() {
        let stored: Vec<String> = tags(&[&problem]).into_iter().collect();
        assert_eq!(problem.code(), format!("problem.{}", stored[0]));
    }
}

#[test]
fn sentences_of_rejections_are_unique_and_a_refusal_speaks_for_itself() {
    let mut sentences: BTreeSet<String> = rejections().iter().map(ToString::to_string).collect();
    assert_eq!(sentences.len(), rejections().len());
    for refusal in refusals() {
        let sentence = refusal.sentence();
        assert_eq!(Rejection::Refused { refusal }.to_string(), sentence);
        assert!(sentences.insert(sentence));
    }
}

#[test]
fn names_are_listed_as_people_list_them() {
    let heard = |names: &[&str]| {
        let by = names.iter().map(|name| ServerName::from(*name)).collect();
        Refusal::StillHeard { by }.sentence()
    };
    let told = |who| format!("the primary is unreachable for us, but {who} it: not dead");
    assert_eq!(heard(&[]), told("nobody still hears"));
    assert_eq!(heard(&["db2"]), told("db2 still hears"));
    assert_eq!(heard(&["db2", "db3", "db4"]), told("db2, db3 and db4 still hear"));
}

#[test]
fn time_left_is_told_as_people_count_it_and_never_too_short() {
    let told = [1, 119, 121, 3599, 3600, 25_921].map(crate::model::reason::left);
    assert_eq!(told, ["1 s", "119 s", "3 min", "1 h 0 min", "1 h 0 min", "7 h 13 min"]);
}

#[test]
fn steps_have_codes_of_their_own() {
    let vip = Vip { address: "10.0.0.100".into(), prefix: 24, interface: "eth0".into() };
    let target = GtidSet::empty();
    let source = ServerName::from("db2");
    let steps = [
        StepKind::StopReceiver,
        StepKind::Fence { vips: vec![vip.clone()] },
        StepKind::CatchUp { donor: source.clone(), target: target.clone() },
        StepKind::Apply { target },
        StepKind::Detach,
        StepKind::Follow { source, acker: true, options: LinkOptions::default() },
        StepKind::OpenForWrites { acks: 1, ackers: BTreeSet::new(), recruits: BTreeSet::new() },
        StepKind::TakeVip { vip: vip.clone() },
        StepKind::DropVips { vips: vec![vip] },
        StepKind::ResumeReceiver,
        StepKind::Wake,
        StepKind::MakeReadOnly,
        StepKind::Examine { extra: GtidSet::empty(), suspicion: Suspicion::default() },
        StepKind::SaveExtra { extra: GtidSet::empty(), files: Vec::new() },
        StepKind::Rebuild { donor: ServerName::from("db2"), extra: GtidSet::empty() },
        StepKind::StartServer,
        StepKind::Arm { acks: 1, ackers: BTreeSet::new(), by: Actor::Group },
        StepKind::LockOut { server: "db3".into(), account: "repl".into() },
        StepKind::LetIn { server: "db3".into(), account: "repl".into() },
        StepKind::Harden { settings: BTreeSet::new(), by: Actor::Group },
    ];
    let codes: BTreeSet<&str> = steps.iter().map(StepKind::code).collect();
    assert_eq!(codes.len(), steps.len());
    for step in &steps {
        let value = serde_json::to_value(step).expect("it is plain data");
        assert_eq!(value["kind"], step.code());
    }
}
