//! What one replica has in its relay logs and another one lacks, as one file.

use std::path::Path;

use thiserror::Error;

use super::{
    disk::{Disk, DiskError, NewFile},
    save,
};
use crate::binlog::{
    Chain, FileFault, Selection, SourcePoint,
    relay::{self, Found, Place},
};

/// Why there is no difference to be had.
#[derive(Debug, Error)]
pub enum DiffError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A relay log.
    #[error(transparent)]
    Log(#[from] FileFault),
    /// They were purged.
    #[error("wanted relay logs back to {wanted}, found that they begin {found}")]
    BeginLater {
        /// The position.
        wanted: String,
        /// Where they begin.
        found: String,
    },
    /// They do not reach so far.
    #[error("wanted relay logs up to {wanted}, found that they end {found}")]
    EndEarlier {
        /// The position.
        wanted: String,
        /// Where they end.
        found: String,
    },
    /// The position is not between two transactions.
    #[error(
        "wanted a position where a transaction begins, found {found} within one: give the position \
         up to which the replica has applied, not the one up to which it has received"
    )]
    WithinTransaction {
        /// The position.
        found: String,
    },
}

/// Relay logs of a directory.
#[derive(Debug)]
pub struct Relay {
    disk: Disk,
    chain: Chain,
}

impl Relay {
    /// Those with that base name.
    ///
    /// # Errors
    /// There are none.
    pub fn open(dir: &Path, base: &str) -> Result<Self, DiskError> {
        let disk = Disk::new(dir);
        let (chain, _) = disk.chain(base)?;
        Ok(Self { disk, chain })
    }

    /// Names of the first and the last one.
    pub fn ends(&self) -> Option<(&str, &str)> {
        let (first, last) = (self.chain.files.first()?, self.chain.files.last()?);
        Some((&first.name, &last.name))
    }

    /// The file and the offset from which on another replica lacks them.
    ///
    /// # Errors
    /// They do not hold that position, or it is within a transaction.
    pub async fn find(&self, target: &SourcePoint) -> Result<(String, u64), DiffError> {
        let place = self.place(target).await?;
        if !relay::is_between(&self.disk, &self.chain, &place).await? {
            return Err(DiffError::WithinTransaction { found: text(target) });
        }
        Ok((self.chain.files[place.file].name.clone(), place.at))
    }

    async fn place(&self, target: &SourcePoint) -> Result<Place, DiffError> {
        let at = |point: Option<SourcePoint>| {
            point.map_or("nowhere".to_owned(), |point| format!("at {}", text(&point)))
        };
        let wanted = text(target);
        match relay::find(&self.disk, &self.chain, target).await? {
            Found::At(place) => Ok(place),
            Found::BeginLater(begin) => Err(DiffError::BeginLater { wanted, found: at(begin) }),
            Found::EndEarlier(end) => Err(DiffError::EndEarlier { wanted, found: at(end) }),
        }
    }

    /// What they hold from one position on up to another one, or to their end.
    ///
    /// # Errors
    /// As [`Relay::find`].
    pub async fn between(
        &self,
        target: &SourcePoint,
        latest: Option<&SourcePoint>,
    ) -> Result<Selection, DiffError> {
        self.find(target).await?;
        let from = self.place(target).await?;
        let to = match latest {
            Some(latest) => Some(self.place(latest).await?),
            None => None,
        };
        let is_before =
            |file: usize, at: u64| to.as_ref().is_none_or(|to| (file, at) < (to.file, to.at));
        let mut scan = from.scan(&self.disk, &self.chain);
        let mut found = Selection::default();
        while let Some(one) = scan.next().await? {
            if !one.spans.first().is_some_and(|span| is_before(span.file, span.begin)) {
                break;
            }
            found.add(one);
        }
        Ok(found.of(&scan))
    }

    /// Writes it into a file; nothing found: no file.
    ///
    /// # Errors
    /// As [`Relay::find`], an event is damaged, or the file cannot be written.
    pub async fn save(&self, found: &Selection, to: &Path) -> Result<u64, DiffError> {
        if found.transactions == 0 {
            return Ok(0);
        }
        let mut file = NewFile::begin(to)?;
        let bytes = save::write(&self.disk, &self.chain, found, &mut file).await?;
        file.finish()?;
        Ok(bytes)
    }
}

fn text(point: &SourcePoint) -> String {
    format!("{}:{}", point.file, point.position)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Golden relay logs of MySQL 9.7 under names that a server gives them.
    fn relay(dir: &Path, numbers: &[u32]) -> Relay {
        for number in numbers {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binlog");
            let name = format!("relay.{number:06}");
            fs::copy(golden.join(format!("mysql97-{name}")), dir.join(name)).unwrap();
        }
        Relay::open(dir, "relay").unwrap()
    }

    fn point(file: &str, position: u64) -> SourcePoint {
        SourcePoint { file: file.into(), position }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_difference_ends_where_the_other_replica_ends() {
        let dir = tempfile::tempdir().unwrap();
        let relay = relay(dir.path(), &[1, 2, 3, 4, 5, 6]);
        let (target, latest) = (point("binlog.000001", 6334), point("binlog.000002", 1543));
        let found = now(relay.between(&target, Some(&latest))).unwrap();
        assert_eq!(found.transactions, 3);
        assert_eq!(now(relay.between(&target, None)).unwrap().transactions, 5);
        let to = dir.path().join("diff");
        let bytes = now(relay.save(&found, &to)).unwrap();
        assert_eq!(bytes, fs::metadata(&to).unwrap().len());
        assert_eq!(now(relay.between(&latest, Some(&latest))).unwrap().transactions, 0);
    }

    #[test]
    fn positions_that_give_no_difference_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let relay = relay(dir.path(), &[5, 6]);
        let said = |target| now(relay.between(&target, None)).unwrap_err().to_string();
        assert_eq!(
            said(point("binlog.000001", 158)),
            "wanted relay logs back to binlog.000001:158, found that they begin at \
             binlog.000002:199"
        );
        assert_eq!(
            said(point("binlog.000002", 5000)),
            "wanted relay logs up to binlog.000002:5000, found that they end at binlog.000002:2504"
        );
        let within = said(point("binlog.000002", 349));
        assert!(within.contains("found binlog.000002:349 within one"), "{within}");
    }
}
