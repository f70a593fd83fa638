//! The servers' own programs on this host: which of them reads a family's events?

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

use crate::binlog::Family;

/// It is not there, or it is another family's.
#[derive(Debug, Error)]
#[error("wanted {wanted} of {family:?} in {dirs}, found {found}")]
pub struct ToolError {
    wanted: &'static str,
    family: Family,
    dirs: String,
    found: String,
}

/// The program that turns a file of events into statements. One of the other family fails, or leaves
/// things out without a word.
///
/// # Errors
/// There is none of the right family.
pub fn binlog_tool(bindir: Option<&Path>, family: Family) -> Result<PathBuf, ToolError> {
    let names: &[&str] = match family {
        Family::MySql => &["mysqlbinlog"],
        Family::MariaDb => &["mariadb-binlog", "mysqlbinlog"],
    };
    find(bindir, names, "mysqlbinlog", family)
}

/// The program that applies statements.
///
/// # Errors
/// There is none of the right family.
pub fn client(bindir: Option<&Path>, family: Family) -> Result<PathBuf, ToolError> {
    let names: &[&str] = match family {
        Family::MySql => &["mysql"],
        Family::MariaDb => &["mariadb", "mysql"],
    };
    find(bindir, names, "mysql", family)
}

fn find(
    bindir: Option<&Path>,
    names: &[&str],
    wanted: &'static str,
    family: Family,
) -> Result<PathBuf, ToolError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = match bindir {
        Some(dir) => vec![dir.to_owned()],
        None => env::split_paths(&path).collect(),
    };
    let mut found = Vec::new();
    for tool in dirs.iter().flat_map(|dir| names.iter().map(|name| dir.join(name))) {
        let Ok(output) = Command::new(&tool).arg("--version").output() else { continue };
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let of = match version.contains("MariaDB") {
            true => Family::MariaDb,
            false => Family::MySql,
        };
        if output.status.success() && of == family {
            return Ok(tool);
        }
        found.push(format!("{} ({version})", tool.display()));
    }
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let found = if found.is_empty() { "none".into() } else { found.join(", ") };
    Err(ToolError { wanted, family, dirs: dirs.join(":"), found })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn program(dir: &Path, name: &str, says: &str) {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_tool_of_the_other_family_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = Some(dir.path());
        let error = binlog_tool(at, Family::MySql).unwrap_err().to_string();
        assert!(error.ends_with("found none"), "{error}");
        program(dir.path(), "mysqlbinlog", "mysqlbinlog from 11.8.9-MariaDB");
        let error = binlog_tool(at, Family::MySql).unwrap_err().to_string();
        assert!(error.contains("11.8.9-MariaDB"), "{error}");
        assert_eq!(binlog_tool(at, Family::MariaDb).unwrap(), dir.path().join("mysqlbinlog"));
        program(dir.path(), "mysqlbinlog", "mysqlbinlog  Ver 9.7.4");
        assert_eq!(binlog_tool(at, Family::MySql).unwrap(), dir.path().join("mysqlbinlog"));
    }
}
