//! The mutants keep up with the sources. That each is noticed is shown by
//! `cargo run --release -p conclave-sim -- --mutants`, which takes minutes.

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
