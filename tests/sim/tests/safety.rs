//! SAFETY.md names the test beside each invariant and each scenario: those names must exist.

use std::{collections::BTreeSet, fs, path::Path};

use conclave_sim::mutant::root;

/// Paths of all sources and their text in one piece.
fn sources(at: &Path, paths: &mut Vec<String>, text: &mut String) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, paths, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            paths.push(path.display().to_string());
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `a/{b,c}.rs` is two paths.
fn expanded(name: &str) -> Vec<String> {
    let parts = name.split_once('{').zip(name.split_once('}'));
    let Some(((head, rest), (_, tail))) = parts else { return vec![name.to_owned()] };
    let inner = rest.split('}').next().unwrap_or_default();
    inner.split(',').map(|each| format!("{head}{each}{tail}")).collect()
}

/// The names of tests in SAFETY.md: after **Seen**, and in the last column of the scenarios.
fn named(safety: &str) -> BTreeSet<String> {
    let (_, rest) = safety.split_once("## 2. ").unwrap();
    let (invariants, rest) = rest.split_once("## 3. ").unwrap();
    let (_, rest) = rest.split_once("## 5. ").unwrap();
    let (scenarios, _) = rest.split_once("## 6. ").unwrap();
    let mut names = BTreeSet::new();
    for seen in invariants.split("**Seen**").skip(1) {
        // Up to the next invariant.
        let seen = seen.split(".\n").next().unwrap_or_default();
        names.extend(quoted(seen).map(ToOwned::to_owned));
    }
    for row in scenarios.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let seen = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        names.extend(quoted(seen).map(ToOwned::to_owned));
    }
    names
}

#[test]
fn every_test_that_safety_names_exists() {
    let root = root();
    let safety = fs::read_to_string(root.join("SAFETY.md")).unwrap();
    let (mut paths, mut text) = (Vec::new(), String::new());
    ["src", "tests"].iter().for_each(|part| sources(&root.join(part), &mut paths, &mut text));
    let exists = |name: &String| {
        let is_file = |path: &String| {
            path.ends_with(&format!("/{name}")) || path.ends_with(&format!("/invariant/{name}.rs"))
        };
        let is_test = match name.strip_suffix("...") {
            Some(start) => text.contains(&format!("fn {start}")),
            None => text.contains(&format!("fn {name}()")),
        };
        is_test || text.contains(&format!("Fault::{name},")) || paths.iter().any(is_file)
    };
    let names: Vec<String> = named(&safety).iter().flat_map(|name| expanded(name)).collect();
    let missing: Vec<&String> = names.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "SAFETY.md names what is not there: {missing:?}");
    assert!(names.len() > 60, "only {} names were found", names.len());
}

/// Invariant 15 is a limit.
#[test]
fn every_invariant_and_every_scenario_names_what_has_seen_it() {
    let safety = fs::read_to_string(root().join("SAFETY.md")).unwrap();
    let (_, rest) = safety.split_once("## 2. ").unwrap();
    let (invariants, rest) = rest.split_once("## 3. ").unwrap();
    let (_, rest) = rest.split_once("## 5. ").unwrap();
    let (scenarios, _) = rest.split_once("## 6. ").unwrap();
    for number in 1..=14 {
        let (_, text) = invariants.split_once(&format!("\n{number}. **")).unwrap();
        let text = text.split(&format!("\n{}. **", number + 1)).next().unwrap_or_default();
        let seen = text.split_once("**Seen**").map_or("", |(_, seen)| seen);
        assert!(quoted(seen).count() > 0, "nothing has seen invariant {number}");
    }
    let rows: Vec<&str> = scenarios.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() > 40, "only {} rows were found", rows.len());
    for row in rows {
        let seen = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        assert!(quoted(seen).count() > 0, "nothing has seen: {row}");
    }
}

#[test]
fn every_checker_is_named_in_safety() {
    let root = root();
    let safety = fs::read_to_string(root.join("SAFETY.md")).unwrap();
    let named = named(&safety);
    for entry in fs::read_dir(root.join("tests/sim/src/invariant")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(name == "mod" || named.contains(&name), "SAFETY.md does not name {name}");
    }
}
