//! The mutants keep up with the sources. That each is noticed is shown by
//! `cargo run --release -p conclave-sim -- --mutants`, which takes minutes.

use std::fs;

use conclave_sim::mutant::{all, root};

#[test]
fn every_mutant_still_applies_and_says_what_it_breaks() {
    let root = root();
    let mutants = all(&root).unwrap();
    let why: Vec<String> = mutants.iter().filter_map(|m| m.apply(&root).err()).collect();
    assert!(why.is_empty(), "{}", why.join("\n"));
    let mute: Vec<&str> =
        mutants.iter().filter(|m| m.breaks.is_empty()).map(|m| m.name.as_str()).collect();
    assert_eq!(mute, [""; 0]);
    assert!(mutants.len() >= 30, "only {} are left", mutants.len());
}

#[test]
fn scenarios_that_are_to_notice_a_mutant_exist() {
    let root = root();
    let mut text = String::new();
    for entry in fs::read_dir(root.join("tests/sim/tests/scenario")).unwrap() {
        text.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let named: Vec<String> = all(&root).unwrap().into_iter().filter_map(|m| m.scenario).collect();
    let is_missing = |name: &&String| !text.contains(&format!("fn {name}()"));
    let missing: Vec<&String> = named.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!named.is_empty());
}
