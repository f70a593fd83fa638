//! The hunt: every mutant is applied to a copy of the sources, built there, and must be noticed by
//! random seeds within a bound, or else by a fixed scenario.
//!
//! The copy and its build stay in the target directory, so that each mutant is a small change to
//! the one before. The product as it is comes first and must pass: otherwise a catch means nothing.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

use super::{Mutant, all, root, table};
pub use table::{End, Row, heading};

/// How a hunt is made.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Most seeds for each mutant.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// Only mutants whose name contains one of these, comma between them; the product as it is
    /// is not played beforehand then.
    pub only: Option<String>,
    /// The sources; `None`: those that this simulator was built from.
    pub root: Option<PathBuf>,
    /// What the seeds do not notice is not shown to the scenarios.
    pub seeds_only: bool,
}

/// What is copied.
const PARTS: [&str; 4] = ["src/core", "tests/sim/Cargo.toml", "tests/sim/src", "tests/sim/tests"];

/// A mutant that takes longer than this over all its seeds, or over the scenarios, is not judged.
const PATIENCE: Duration = Duration::from_secs(900);

/// Small changes are built quickly; the simulator is still fast enough.
const PROFILE: &str = "[profile.mutant]\ninherits = \"dev\"\nopt-level = 1\ndebug = false\n\
                       incremental = true\noverflow-checks = false\ndebug-assertions = false\n";

/// The name of the product as it is.
pub const NONE: &str = "(none: must survive)";

/// Where the copy is, and where it is built.
struct Den {
    root: PathBuf,
    work: PathBuf,
    target: PathBuf,
}

/// Hunts all mutants and hands each row over as it comes. True: the product as it is was not
/// noticed, and every mutant was.
///
/// # Errors
/// The sources cannot be copied.
pub fn run(hunt: &Hunt, mut show: impl FnMut(&Row)) -> io::Result<bool> {
    let den = Den::new(hunt.root.clone().unwrap_or_else(root))?;
    if hunt.only.is_none() {
        let unchanged = Mutant {
            name: NONE.into(),
            breaks: "nothing".into(),
            scenario: None,
            edit: Vec::new(),
        };
        let base = den.judge(&unchanged, hunt)?;
        show(&base);
        if base.end != End::Survived {
            return Ok(false);
        }
    }
    let is_wanted = |mutant: &Mutant| {
        let part_of = |parts: &String| parts.split(',').any(|part| mutant.name.contains(part));
        hunt.only.as_ref().is_none_or(part_of)
    };
    let mut are_caught = true;
    for mutant in all(&den.root)?.into_iter().filter(is_wanted) {
        let row = den.judge(&mutant, hunt)?;
        show(&row);
        are_caught &= row.is_caught();
    }
    den.put_back()?;
    Ok(are_caught)
}

impl Den {
    fn new(root: PathBuf) -> io::Result<Self> {
        let exe = std::env::current_exe()?;
        let here = exe.ancestors().nth(2).unwrap_or(Path::new("target")).join("mutants");
        let den = Self { root, work: here.join("work"), target: here.join("target") };
        den.put_back()?;
        Ok(den)
    }

    /// The copy is like the sources again.
    fn put_back(&self) -> io::Result<()> {
        let mut wanted = BTreeSet::new();
        for part in PARTS {
            files(&self.root.join(part), &mut wanted)?;
        }
        for path in &wanted {
            let relative = path.strip_prefix(&self.root).unwrap_or(path);
            write(&self.work.join(relative), &fs::read_to_string(path)?)?;
        }
        let mut found = BTreeSet::new();
        for part in PARTS.iter().filter(|part| self.work.join(part).exists()) {
            files(&self.work.join(part), &mut found)?;
        }
        for path in found {
            let relative = path.strip_prefix(&self.work).unwrap_or(&path);
            if !wanted.contains(&self.root.join(relative)) {
                fs::remove_file(&path)?;
            }
        }
        let manifest = fs::read_to_string(self.root.join("Cargo.toml"))?;
        write(&self.work.join("Cargo.toml"), &workspace(&manifest).map_err(io::Error::other)?)?;
        if !self.work.join("Cargo.lock").exists() {
            fs::copy(self.root.join("Cargo.lock"), self.work.join("Cargo.lock"))?;
        }
        Ok(())
    }

    fn judge(&self, mutant: &Mutant, hunt: &Hunt) -> io::Result<Row> {
        let end = match mutant.apply(&self.root) {
            Ok(files) => {
                self.put_back()?;
                for (file, text) in files {
                    write(&self.work.join(file), &text)?;
                }
                self.end(mutant, hunt)?
            }
            Err(why) => End::Void { why },
        };
        Ok(Row { mutant: mutant.name.clone(), breaks: mutant.breaks.clone(), end })
    }

    fn end(&self, mutant: &Mutant, hunt: &Hunt) -> io::Result<End> {
        let built = self.cargo("build", &[]).output()?;
        if !built.status.success() {
            return Ok(End::Void { why: last(&built.stderr, 30) });
        }
        let sum = self.target.join("sum.json");
        let mut play = Command::new(self.target.join("mutant/conclave-sim"));
        play.args(["--seeds", &hunt.seeds.to_string(), "--jobs", &hunt.jobs.to_string()]);
        play.args(["--until-broken", "--json"]).arg(&sum);
        if patient(play.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)?.is_none() {
            return Ok(End::Void { why: "the seeds came to no end".into() });
        }
        let sum: Value = serde_json::from_slice(&fs::read(&sum)?)?;
        if let Some(end) = caught(&sum) {
            return Ok(end);
        }
        if hunt.seeds_only {
            return Ok(End::Survived);
        }
        let jobs = format!("--test-threads={}", hunt.jobs);
        let mut test = vec!["--test", "scenario", "--", "--skip", "random", &jobs];
        test.extend(mutant.scenario.as_deref());
        let mut tests = self.cargo("test", &test);
        let child = tests.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let Some(output) = patient(child)? else {
            return Ok(End::Void { why: "the scenarios came to no end".into() });
        };
        Ok(match failed(&String::from_utf8_lossy(&output.stdout)) {
            tests if !tests.is_empty() => End::Scenario { tests },
            _ if output.status.success() => End::Survived,
            _ => End::Void { why: format!("no scenario was judged: {}", last(&output.stderr, 8)) },
        })
    }

    fn cargo(&self, what: &str, more: &[&str]) -> Command {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let mut command = Command::new(cargo);
        command.args([what, "--offline", "--profile", "mutant", "-p", "conclave-sim"]).args(more);
        command.current_dir(&self.work).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// The first seed that something was wrong with.
fn caught(sum: &Value) -> Option<End> {
    let first = sum["violations"].as_array()?.first()?;
    let (seed, how) = (first[0].as_u64()?, first[1][0].as_str()?);
    // "name at time: how"
    let by = how.split(' ').next().unwrap_or_default();
    let by = if how.starts_with(crate::random::UNSETTLED) { "settled" } else { by };
    let seeds = seed + 1 - sum["first_seed"].as_u64()?;
    let told = how.split_once(": ").map_or(how, |(_, told)| told);
    Some(End::Seed { seed, seeds, by: by.into(), how: told.into() })
}

/// The tests that failed, by what the test binary says.
fn failed(said: &str) -> Vec<String> {
    let names =
        said.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    names.map(ToOwned::to_owned).collect()
}

/// Waits for a process, but not for ever.
fn patient(child: Child) -> io::Result<Option<Output>> {
    let id = child.id();
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        // Nobody listens any more once it took too long.
        drop(tell.send(child.wait_with_output()));
    });
    let output = told.recv_timeout(PATIENCE).ok();
    if output.is_none() {
        Command::new("kill").args(["-9", &id.to_string()]).status()?;
    }
    drop(waiting.join());
    output.transpose()
}

/// The workspace of the copy: the same versions and lints, two members.
fn workspace(manifest: &str) -> Result<String, String> {
    let table: toml::Table = toml::from_str(manifest).map_err(|error| error.to_string())?;
    let workspace = table.get("workspace").and_then(toml::Value::as_table);
    let mut workspace = workspace.ok_or("Cargo.toml has no workspace")?.clone();
    let members = ["src/core", "tests/sim"].map(|member| toml::Value::String(member.into()));
    workspace.insert("members".into(), toml::Value::Array(members.to_vec()));
    let mut whole = toml::Table::new();
    whole.insert("workspace".into(), toml::Value::Table(workspace));
    let text = toml::to_string(&whole).map_err(|error| error.to_string())?;
    Ok(format!("{text}\n{PROFILE}"))
}

fn files(at: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if at.is_file() {
        found.insert(at.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(at)? {
        files(&entry?.path(), found)?;
    }
    Ok(())
}

/// Writes a file if it is not like that already: what did not change is not built again.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)
}

fn last(text: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_violation_of_the_smallest_seed_is_told() {
        let how = "one_primary at 12.5: db1 and db2 can acknowledge";
        let sum = serde_json::json!({"first_seed": 3, "violations": [[7, [how, "other"]]]});
        let (by, how) = ("one_primary".into(), "db1 and db2 can acknowledge".into());
        assert_eq!(caught(&sum), Some(End::Seed { seed: 7, seeds: 5, by, how }));
        assert_eq!(caught(&serde_json::json!({"first_seed": 0, "violations": []})), None);
    }

    #[test]
    fn failed_tests_are_found_in_what_the_test_binary_says() {
        let said =
            "running 2 tests\ntest leader::a ... ok\ntest fault::b ... FAILED\n\nfailures:\n";
        assert_eq!(failed(said), ["fault::b"]);
    }

    #[test]
    fn workspace_of_the_copy_keeps_versions_and_has_two_members() {
        let made =
            workspace("[workspace]\nmembers = [\"a\"]\n[workspace.package]\nversion = \"1\"\n");
        let made: toml::Table = toml::from_str(&made.unwrap()).unwrap();
        assert_eq!(made["workspace"]["package"]["version"].as_str(), Some("1"));
        assert_eq!(made["workspace"]["members"].as_array().unwrap().len(), 2);
    }
}
