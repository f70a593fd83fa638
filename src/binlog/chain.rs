//! The log files of one server in their order, and the transactions in them.

use std::future::Future;

use conclave_core::model::GtidSet;

use super::{
    event::{Event, Kind},
    fault::{Fault, FileFault},
    format::Format,
    gtid::Gtid,
    mariadb::MariaGtid,
    transaction::{Span, Tracker, Transaction},
    walk::{Body, Ending, FIRST, Need, Step, Walk},
};

/// Whoever has the files' bytes: a disk, or a host behind SSH.
pub trait Files: Sync {
    /// Up to `need.len` bytes of the file from offset `need.at` on; fewer only at the file's end.
    ///
    /// # Errors
    /// One sentence: why they cannot be had.
    fn read(&self, file: &str, need: Need) -> impl Future<Output = Result<Vec<u8>, String>> + Send;
}

/// A file of a server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// What [`Files`] knows it by.
    pub name: String,
    /// Bytes it has.
    pub len: u64,
}

/// A server's binary logs, or a replica's relay logs, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The files.
    pub files: Vec<LogFile>,
}

/// A position in a source's binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePoint {
    /// The file's name, without its directory.
    pub file: String,
    /// Offset, from 4.
    pub position: u64,
}

/// What the files before this one hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Previous {
    /// The file does not say: a server before MySQL 5.6, or a MySQL 5.6 without GTIDs.
    Unsaid,
    /// MySQL's; of a relay log: what the receiver had.
    MySql(GtidSet),
    /// MariaDB's: the last of each domain and server.
    MariaDb(Vec<MariaGtid>),
}

/// What stands before a file's first transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The format in force after it.
    pub format: Format,
    /// Whether a replica's receiver wrote the file.
    pub is_relay: bool,
    /// What earlier files hold.
    pub previous: Previous,
    /// Of a relay log: what of the source's comes next. `None`: it is in the file before.
    pub source: Option<SourcePoint>,
    /// Where the head ends.
    pub end: u64,
}

impl Chain {
    /// The number of a file.
    ///
    /// # Errors
    /// It is not there.
    pub fn index_of(&self, name: &str) -> Result<usize, FileFault> {
        self.files.iter().position(|file| file.name == name).ok_or_else(|| {
            let end = |file: Option<&LogFile>| file.map_or("none", |file| &file.name).to_owned();
            let there = format!("{} to {}", end(self.files.first()), end(self.files.last()));
            Fault::NoSuchFile { there }.of(name)
        })
    }
}

/// Goes on until there is an event or the end.
pub(super) async fn advance<F: Files>(
    files: &F,
    name: &str,
    walk: &mut Walk,
) -> Result<Result<Event, Ending>, FileFault> {
    loop {
        match walk.next().map_err(|fault| fault.of(name))? {
            Step::Event(event) => return Ok(Ok(event)),
            Step::End(ending) => return Ok(Err(ending)),
            Step::Need(need) => feed(files, name, walk, need).await?,
        }
    }
}

async fn feed<F: Files>(
    files: &F,
    name: &str,
    walk: &mut Walk,
    need: Need,
) -> Result<(), FileFault> {
    let bytes = files.read(name, need).await.map_err(|why| Fault::Read { why }.of(name))?;
    walk.feed(need, bytes);
    Ok(())
}

/// Reads a file's head: a few hundred bytes and what it says of earlier files.
///
/// # Errors
/// It is no log, encrypted, or cannot be read.
pub async fn head<F: Files>(files: &F, file: &LogFile) -> Result<Head, FileFault> {
    read_head(files, file).await.map(|(head, _)| head)
}

/// The head, and a walk that stands behind it.
pub(super) async fn read_head<F: Files>(
    files: &F,
    file: &LogFile,
) -> Result<(Head, Walk), FileFault> {
    let mut walk = Walk::new(file.len);
    let mut head: Option<Head> = None;
    loop {
        let before = walk.at();
        let event = match advance(files, &file.name, &mut walk).await? {
            Ok(event) => event,
            Err(_) => break,
        };
        let (is_relay, is_made_up) = (walk.is_relay(), event.header.is_artificial());
        match (event.body, &mut head) {
            (Body::Format(format), None) => {
                let (previous, source) = (Previous::Unsaid, None);
                head = Some(Head { format, is_relay, previous, source, end: walk.at() });
            }
            (Body::Format(format), Some(head)) => head.format = format,
            (Body::PreviousGtids(set), Some(head)) => head.previous = Previous::MySql(set),
            (Body::GtidList(list), Some(head)) => head.previous = Previous::MariaDb(list),
            (Body::Rotate { file, position }, Some(head)) if is_relay && is_made_up => {
                head.source = Some(SourcePoint { file, position });
            }
            (Body::Unread, Some(_)) if event.header.kind() == Kind::Aside => {}
            (
                Body::PreviousGtids(_)
                | Body::GtidList(_)
                | Body::Begin { .. }
                | Body::Statement(_)
                | Body::Rotate { .. }
                | Body::Unread,
                _,
            ) => {
                walk.skip_to(before);
                break;
            }
        }
        if let Some(head) = &mut head {
            head.end = walk.at();
        }
    }
    let no_head = || Fault::NoHead { len: file.len }.of(&file.name);
    Ok((head.ok_or_else(no_head)?, walk))
}

/// Goes through the transactions of a chain, from a file on.
pub struct Scan<'a, F> {
    files: &'a F,
    chain: &'a Chain,
    /// The file that is read; the chain's length: it is over.
    file: usize,
    walk: Option<Walk>,
    begin_at: Option<u64>,
    /// The format at that offset, where it is not the head's.
    begin_with: Option<Format>,
    /// Files that are passed over.
    passed: Vec<usize>,
    tracker: Tracker,
    formats: Vec<Format>,
    endings: Vec<(usize, Ending)>,
    /// A transaction that says its length: it, where it is, and what its end would be.
    leap: Option<(Gtid, Span, u32)>,
}

impl<'a, F: Files> Scan<'a, F> {
    /// From the beginning of a file.
    pub fn new(files: &'a F, chain: &'a Chain, file: usize) -> Self {
        Self {
            files,
            chain,
            file,
            walk: None,
            begin_at: None,
            begin_with: None,
            passed: Vec::new(),
            tracker: Tracker::default(),
            formats: Vec::new(),
            endings: Vec::new(),
            leap: None,
        }
    }

    /// From an offset of a file where an event begins.
    pub fn from(files: &'a F, chain: &'a Chain, file: usize, at: u64) -> Self {
        Self { begin_at: (at > FIRST).then_some(at), ..Self::new(files, chain, file) }
    }

    /// The format in force at the offset to begin at.
    #[must_use]
    pub fn of_format(self, format: Format) -> Self {
        Self { begin_with: Some(format), ..self }
    }

    /// Passes over files in which nothing is that matters.
    #[must_use]
    pub fn passing_over(self, passed: Vec<usize>) -> Self {
        Self { passed, ..self }
    }

    /// Formats of what was found: [`Span::format`] is a number in here.
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// How the files ended that were read to their end.
    pub fn endings(&self) -> &[(usize, Ending)] {
        &self.endings
    }

    /// What has begun and not ended.
    pub fn unfinished(&self) -> Option<(&Gtid, Span)> {
        self.tracker.unfinished()
    }

    /// The next whole transaction; `None`: there is none.
    ///
    /// # Errors
    /// A file is no log, encrypted, or cannot be read.
    pub async fn next(&mut self) -> Result<Option<Transaction>, FileFault> {
        while let Some(file) = self.chain.files.get(self.file) {
            if self.passed.contains(&self.file) {
                self.file += 1;
                continue;
            }
            let Some(mut walk) = self.walk.take() else {
                self.walk = Some(self.open(file).await?);
                continue;
            };
            if let Some(found) = self.land(file, &mut walk).await? {
                self.walk = Some(walk);
                return Ok(Some(found));
            }
            match advance(self.files, &file.name, &mut walk).await? {
                Ok(event) => {
                    let found = self.take(&event, &walk);
                    self.walk = Some(walk);
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Err(ending) => {
                    self.endings.push((self.file, ending));
                    self.file += 1;
                    // In binary logs none goes on in the next file; in relay logs it may.
                    if !walk.is_relay() && self.file < self.chain.files.len() {
                        self.tracker = Tracker::default();
                    }
                }
            }
        }
        Ok(None)
    }

    async fn open(&mut self, file: &LogFile) -> Result<Walk, FileFault> {
        let (head, mut walk) = read_head(self.files, file).await?;
        if let Some(at) = self.begin_at.take() {
            walk.skip_to(at.max(head.end));
        }
        match self.begin_with.take() {
            Some(format) => {
                self.use_format(&format);
                walk.read_as(format);
            }
            None => self.use_format(&head.format),
        }
        Ok(walk)
    }

    fn use_format(&mut self, format: &Format) {
        if self.formats.last().is_none_or(|last| !last.is_like(format)) {
            self.formats.push(format.clone());
        }
    }

    fn take(&mut self, event: &Event, walk: &Walk) -> Option<Transaction> {
        if let Body::Format(format) = &event.body {
            self.use_format(format);
        }
        let place = Span {
            file: self.file,
            format: self.formats.len() - 1,
            begin: event.at,
            end: event.end(),
        };
        let found = self.tracker.take(event, place, walk.is_relay());
        if let Body::Begin { gtid, length: Some(length), .. } = &event.body {
            let own = event.header.end.wrapping_sub(event.header.len).wrapping_add(*length as u32);
            let whole = Span { end: event.at.saturating_add(*length), ..place };
            self.leap = (whole.end > place.end).then(|| (gtid.clone(), whole, own));
        }
        found
    }

    /// Jumps over the transaction that has just begun, if what follows it is where it should be.
    async fn land(
        &mut self,
        file: &LogFile,
        walk: &mut Walk,
    ) -> Result<Option<Transaction>, FileFault> {
        let Some((gtid, whole, own)) = self.leap.take() else { return Ok(None) };
        loop {
            match walk.leap(whole.end, own) {
                Ok(true) => return Ok(Some(self.tracker.leap(gtid, whole, own))),
                Ok(false) => return Ok(None),
                Err(need) => feed(self.files, &file.name, walk, need).await?,
            }
        }
    }
}
