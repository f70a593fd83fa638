//! The list of log files that a server keeps (`binlog.index`), held against what is there.
//!
//! ```text
//!   ./binlog.000001        relative to the data directory, or absolute;
//!   ./binlog.000002        numbers grow past 999999, and order by number, not by text
//! ```

use super::chain::{Chain, LogFile};

/// Largest index that is read: 100,000 files.
pub const LARGEST_INDEX: u64 = 16 << 20;

/// A name split as servers make it: `binlog.000042` is `binlog` and 42.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName {
    /// All before the last dot.
    pub base: String,
    /// The number behind it.
    pub number: u64,
}

/// What does not fit. None of these is an error by itself: what is there can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Listed, and not there.
    Missing(String),
    /// There, newer than the first one listed, and not listed.
    Unlisted(String),
    /// A number is missing between two files.
    Gap {
        /// The file before it.
        before: String,
        /// The file behind it.
        after: String,
    },
    /// A line that is no log file's name.
    Odd(String),
}

/// Splits a file's name, directory left out; `None`: it is none of a log file.
pub fn log_name(path: &str) -> Option<LogName> {
    let name = path.rsplit('/').next()?;
    let (base, digits) = name.rsplit_once('.')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !base.is_empty())
        .then(|| digits.parse().ok().map(|number| LogName { base: base.into(), number }))?
}

/// The paths in an index, in its order, as they are written there.
pub fn paths(index: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(index);
    let lines = text.lines().map(|line| line.trim_end_matches('\r'));
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The files there are, the oldest first, and what does not fit.
///
/// `index` is what the index says, `there` what the directory of the logs holds, by name without
/// the directory. A file that is newer than the first listed one is taken although it is not listed:
/// a server that is killed while it rotates leaves one.
pub fn reconcile(index: &[u8], there: &[LogFile]) -> (Chain, Vec<Mismatch>) {
    let mut mismatches = Vec::new();
    let mut listed: Vec<(LogName, String)> = Vec::new();
    for path in paths(index) {
        match log_name(&path) {
            Some(name) => listed.push((name, path)),
            None => mismatches.push(Mismatch::Odd(path)),
        }
    }
    let Some(base) = listed.first().map(|(name, _)| name.base.clone()) else {
        return (Chain::default(), mismatches);
    };
    let first = listed.iter().map(|(name, _)| name.number).min().unwrap_or_default();
    let mut found: Vec<(u64, &LogFile)> = there
        .iter()
        .filter_map(|file| log_name(&file.name).map(|name| (name, file)))
        .filter(|(name, _)| name.base == base && name.number >= first)
        .map(|(name, file)| (name.number, file))
        .collect();
    found.sort_by_key(|(number, _)| *number);
    for (name, path) in &listed {
        if name.base != base {
            mismatches.push(Mismatch::Odd(path.clone()));
        } else if !found.iter().any(|(number, _)| *number == name.number) {
            mismatches.push(Mismatch::Missing(path.clone()));
        }
    }
    for (number, file) in &found {
        if !listed.iter().any(|(name, _)| name.base == base && name.number == *number) {
            mismatches.push(Mismatch::Unlisted(file.name.clone()));
        }
    }
    for pair in found.windows(2) {
        if let [(before, one), (after, other)] = pair
            && before + 1 != *after
        {
            let (before, after) = (one.name.clone(), other.name.clone());
            mismatches.push(Mismatch::Gap { before, after });
        }
    }
    let files = found.into_iter().map(|(_, file)| file.clone()).collect();
    (Chain { files }, mismatches)
}
