//! A share of a server's binary logs into one file: from a position to the end, or what a set of
//! GTIDs lacks.

use std::path::{Path, PathBuf};

use conclave_core::model::GtidSet;
use thiserror::Error;

use super::disk::{Disk, DiskError, NewFile, find_dir, find_logs};
use crate::binlog::{
    Chain, FileFault, Files, MariaPosition, Selection, Sink, Wanted, from_position, index, select,
    shares,
};

/// Where the share begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At a position.
    Position {
        /// The file's name.
        file: String,
        /// Offset in it.
        position: u64,
    },
    /// With all that is not in this set, wherever it is.
    Beyond {
        /// Base name of the logs.
        base: String,
        /// The set.
        have: GtidSet,
    },
    /// With these, wherever they are.
    Only {
        /// Base name of the logs.
        base: String,
        /// The set.
        wanted: GtidSet,
    },
    /// MariaDB: with all that is further than this.
    MariaBeyond {
        /// Base name of the logs.
        base: String,
        /// The position.
        have: MariaPosition,
    },
}

/// What was saved.
#[derive(Debug, PartialEq, Eq)]
pub struct Saved {
    /// Where the logs are.
    pub dir: PathBuf,
    /// What is in the file; no transaction: no file was made.
    pub selection: Selection,
    /// Bytes of the file.
    pub bytes: u64,
    /// Sentences about what does not fit.
    pub warnings: Vec<String>,
}

/// Why nothing was saved.
#[derive(Debug, Error)]
pub enum SaveError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A log.
    #[error(transparent)]
    Log(#[from] FileFault),
}

/// Finds the logs and what of them is wanted, without reading it.
///
/// # Errors
/// They are not there, not readable, or no logs.
pub async fn look(dirs: &[PathBuf], begin: &Begin) -> Result<(Disk, Chain, Saved), SaveError> {
    let (dir, base) = match begin {
        Begin::Position { file, .. } => {
            let name = index::log_name(file);
            let name = name.ok_or_else(|| DiskError::NoLogName { found: file.clone() })?;
            (find_dir(dirs, file)?, name.base)
        }
        Begin::Beyond { base, .. } | Begin::Only { base, .. } | Begin::MariaBeyond { base, .. } => {
            (find_logs(dirs, base)?, base.clone())
        }
    };
    let disk = Disk::new(&dir);
    let (mut chain, mismatches) = disk.chain(&base)?;
    if let Begin::Position { file, .. } = begin
        && chain.index_of(file).is_err()
    {
        // The index does not know it, the operator does.
        chain = disk.chain_without_index(&base)?;
    }
    let selection = match begin {
        Begin::Position { file, position } => from_position(&disk, &chain, file, *position).await?,
        Begin::Beyond { have, .. } => select(&disk, &chain, Wanted::Beyond(have)).await?,
        Begin::Only { wanted, .. } => select(&disk, &chain, Wanted::Only(wanted)).await?,
        Begin::MariaBeyond { have, .. } => select(&disk, &chain, Wanted::MariaBeyond(have)).await?,
    };
    let mut warnings: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    warnings.extend(torn(&chain, &selection));
    let saved = Saved { dir, selection, bytes: 0, warnings };
    Ok((disk, chain, saved))
}

/// Saves it; where there is nothing, no file is made.
///
/// # Errors
/// As [`look`], an event is damaged, or the file cannot be written: there is no file then.
pub async fn save(dirs: &[PathBuf], begin: &Begin, to: &Path) -> Result<Saved, SaveError> {
    let (disk, chain, mut saved) = look(dirs, begin).await?;
    if saved.selection.transactions > 0 {
        let mut file = NewFile::begin(to)?;
        saved.bytes = write(&disk, &chain, &saved.selection, &mut file).await?;
        file.finish()?;
    }
    Ok(saved)
}

/// Writes a selection as one file. Where formats change within it, another description stands in
/// its middle, as in relay logs.
pub(super) async fn write<F: Files, S: Sink>(
    files: &F,
    chain: &Chain,
    selection: &Selection,
    sink: &mut S,
) -> Result<u64, FileFault> {
    let mut bytes = 0;
    for (i, share) in shares(selection).into_iter().enumerate() {
        let share = if i == 0 { share } else { share.without_magic() };
        share.copy(files, chain, sink).await?;
        bytes += share.len();
    }
    Ok(bytes)
}

/// What is to be said of files that end oddly.
fn torn(chain: &Chain, selection: &Selection) -> Vec<String> {
    let name = |file: usize| &chain.files[file].name;
    let mut said: Vec<String> = Vec::new();
    for (file, at, why) in &selection.torn {
        said.push(format!("{}: its last whole event ends at {at}; then: {why}", name(*file)));
    }
    if let Some((gtid, span)) = &selection.unfinished {
        let file = name(span.file);
        said.push(format!("{file}: transaction {gtid} begins at {} and has no end", span.begin));
    }
    said
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::binlog::{Checksum, Fault, Verify};

    /// The golden logs of one MySQL 9.7 under the names that it gave them, with an index.
    fn logs(dir: &Path) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binlog");
        for number in 1..=3 {
            let from = golden.join(format!("mysql97.00000{number}"));
            fs::copy(from, dir.join(format!("binlog.00000{number}"))).unwrap();
        }
        fs::copy(golden.join("mysql97.index"), dir.join("binlog.index")).unwrap();
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn position(file: &str, position: u64) -> Begin {
        Begin::Position { file: file.into(), position }
    }

    #[test]
    fn the_same_tail_is_saved_by_position_and_by_gtids() {
        let dir = tempfile::tempdir().unwrap();
        logs(dir.path());
        let have = "191d36cf-ec89-11f1-9dc8-9b7576f157df:1-9:tag_a:1".parse().unwrap();
        let begins =
            [position("binlog.000001", 3075), Begin::Beyond { base: "binlog".into(), have }];
        let made = begins.map(|begin| {
            let to = dir.path().join("out");
            let dirs = ["/nonexistent".into(), dir.path().to_owned()];
            let saved = now(save(&dirs, &begin, &to)).unwrap();
            assert_eq!((saved.selection.transactions, saved.warnings), (3, Vec::<String>::new()));
            let bytes = fs::read(&to).unwrap();
            assert_eq!(bytes.len() as u64, saved.bytes);
            bytes
        });
        assert!(made[0] == made[1]);
        // Checksums end in the middle: up to there they fit.
        let mut verify = Verify::file_of(Checksum::Crc32);
        verify.push(&made[0][..127 + 563]).unwrap();
        verify.finish().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5, "no part of a file is left");
    }

    #[test]
    fn where_nothing_is_to_be_saved_no_file_is_made() {
        let dir = tempfile::tempdir().unwrap();
        logs(dir.path());
        let to = dir.path().join("out");
        let saved = now(save(&[dir.path().into()], &position("binlog.000003", 561), &to)).unwrap();
        assert_eq!((saved.selection.transactions, to.exists()), (0, false));
    }

    #[test]
    fn logs_that_are_not_there_or_damaged_are_told_and_no_file_is_made() {
        let dir = tempfile::tempdir().unwrap();
        logs(dir.path());
        let to = dir.path().join("out");
        let run = |begin| now(save(&[dir.path().into()], &begin, &to)).map_err(|e| e.to_string());
        let place = dir.path().display();
        let only = |base: &str| Begin::Only { base: base.into(), wanted: GtidSet::empty() };
        assert_eq!(
            run(position("binlog.000009", 4)),
            Err(format!("wanted binlog.000009 in {place}, found none"))
        );
        assert_eq!(run(only("bin")), Err(format!("wanted bin.NUMBER in {place}, found none")));
        assert!(run(position("binlog", 4)).unwrap_err().starts_with("wanted a log file's name"));
        let mut bytes = fs::read(dir.path().join("binlog.000002")).unwrap();
        bytes[765] ^= 1;
        fs::write(dir.path().join("binlog.000002"), bytes).unwrap();
        let said = run(position("binlog.000001", 3075)).unwrap_err();
        assert!(said.starts_with("binlog.000002: the event at offset 730 is damaged"), "{said}");
        fs::write(dir.path().join("binlog.000002"), b"\xfdbin and the rest is secret").unwrap();
        let said = run(position("binlog.000001", 3075)).unwrap_err();
        assert_eq!(said, Fault::Encrypted.of("binlog.000002").to_string());
        assert!(!to.exists());
    }

    #[test]
    fn an_index_that_lies_is_told_and_the_files_are_saved() {
        let dir = tempfile::tempdir().unwrap();
        logs(dir.path());
        fs::write(dir.path().join("binlog.index"), "./binlog.000001\n./binlog.000007\n").unwrap();
        let to = dir.path().join("out");
        let saved = now(save(&[dir.path().into()], &position("binlog.000001", 3075), &to)).unwrap();
        assert_eq!(saved.selection.transactions, 3);
        let told = [
            "./binlog.000007 is in the index, and not there",
            "binlog.000002 is there, and not in the index",
            "binlog.000003 is there, and not in the index",
        ];
        assert_eq!(saved.warnings, told);
    }
}
