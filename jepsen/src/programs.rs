//! Which `conclave` is put to the test?

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The folder of the workspace that this program was built from.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The program to test: the one that was named; else the one beside this program, which is built
/// anew first where this program was started by cargo, so that it is never an old one.
///
/// # Errors
/// It is not there, or does not build.
pub fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        if !path.is_file() {
            bail!("found no program {}: build it, or name another one", path.display());
        }
        return path.canonicalize().with_context(|| format!("find {}", path.display()));
    }
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(cargo)?;
    }
    beside()
}

/// The program beside this one, as a test has it: whoever runs all tests has built it. It is built
/// only if it is missing.
///
/// # Errors
/// As [`find`].
pub fn built() -> anyhow::Result<PathBuf> {
    match (beside(), std::env::var_os("CARGO")) {
        (Err(_), Some(cargo)) => build(cargo).and_then(|()| beside()),
        (found, _) => found,
    }
}

fn build(cargo: OsString) -> anyhow::Result<()> {
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(WORKSPACE);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.status().context("start cargo to build conclave")?;
    if !status.success() {
        bail!("building conclave ended with {status}");
    }
    Ok(())
}

/// Beside this program; for a test, which lives in `deps`, one folder up.
fn beside() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("find this program")?;
    let looked: Vec<PathBuf> =
        exe.ancestors().skip(1).take(2).map(|dir| dir.join("conclave")).collect();
    let found = looked.iter().find(|path| path.is_file()).cloned();
    found.with_context(|| {
        format!("found no conclave program (looked at {looked:?}): build it, or give --conclave")
    })
}
