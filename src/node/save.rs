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
