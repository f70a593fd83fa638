//! Which bytes of which files hold the transactions that are wanted?
//!
//! Files say what all files before them hold. So the newest are looked at first, by their heads
//! alone, back to the one before which nothing wanted can be; from there on transactions are read.

use conclave_core::model::GtidSet;

use super::{
    chain::{Chain, Files, Head, Previous, Scan, advance, head, read_head},
    event::Kind,
    fault::{Fault, FileFault},
    format::Format,
    gtid::Gtid,
    mariadb::MariaPosition,
    transaction::{Span, Tracker, Transaction, join},
    walk::{Body, Ending, FIRST},
};

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// All.
    All,
    /// These of MySQL's.
    Only(&'a GtidSet),
    /// All but these of MySQL's; nameless ones, too.
    Beyond(&'a GtidSet),
    /// All of MariaDB's that are further than this.
    MariaBeyond(&'a MariaPosition),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Where it is, in the order of the files.
    pub spans: Vec<Span>,
    /// The spans' formats.
    pub formats: Vec<Format>,
    /// How many transactions.
    pub transactions: u64,
    /// Those of them that have a GTID of MySQL's.
    pub gtids: GtidSet,
    /// The last ones of MariaDB's.
    pub position: MariaPosition,
    /// Files whose end is no whole event, with the offset and why: number in the chain. One that is
    /// not the newest lacks nothing that was committed if its server has started again since.
    pub torn: Vec<(usize, u64, String)>,
    /// The transaction that has begun and not ended: it is not part of the spans.
    pub unfinished: Option<(Gtid, Span)>,
}

impl Selection {
    /// Bytes of all spans.
    pub fn bytes(&self) -> u64 {
        self.spans.iter().map(|span| span.end - span.begin).sum()
    }

    fn add(&mut self, found: Transaction) {
        self.transactions += 1;
        match found.gtid {
            Gtid::MySql { origin, number } => self.gtids.insert_one(origin, number),
            Gtid::MariaDb(gtid) => self.position.advance(gtid),
            Gtid::Anonymous => {}
        }
        for span in found.spans {
            join(&mut self.spans, span);
        }
    }
}

impl Wanted<'_> {
    fn has(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::All, _) => true,
            (Self::Only(set), Gtid::MySql { origin, number }) => set.contains(origin, *number),
            (Self::Only(_), Gtid::Anonymous | Gtid::MariaDb(_)) => false,
            (Self::Beyond(set), Gtid::MySql { origin, number }) => !set.contains(origin, *number),
            (Self::Beyond(_), Gtid::Anonymous | Gtid::MariaDb(_)) => true,
            (Self::MariaBeyond(position), Gtid::MariaDb(gtid)) => !position.is_past(gtid),
            (Self::MariaBeyond(_), Gtid::MySql { .. } | Gtid::Anonymous) => true,
        }
    }

    /// Whether a file holds nothing of it, as the next one's head tells. Relay logs are not passed
    /// over: a transaction may begin in one and end in the next.
    fn passes_over(&self, this: &Head, next: &Head) -> bool {
        let (Previous::MySql(before), Previous::MySql(after)) = (&this.previous, &next.previous)
        else {
            return false;
        };
        let held = after.minus(before);
        let has_any = match self {
            Self::Only(set) => !held.common(set).is_empty(),
            // Nameless ones may be among them.
            Self::All | Self::Beyond(_) | Self::MariaBeyond(_) => true,
        };
        !this.is_relay && !has_any
    }

    /// Whether files before one with such a head may hold some of it.
    fn may_be_before(&self, previous: &Previous) -> bool {
        match (self, previous) {
            (Self::Only(set), Previous::MySql(before)) => !before.common(set).is_empty(),
            (Self::Beyond(set), Previous::MySql(before)) => !before.is_subset(set),
            (Self::MariaBeyond(position), Previous::MariaDb(list)) => {
                list.iter().any(|gtid| !position.is_past(gtid))
            }
            (Self::All, _)
            | (Self::Only(_) | Self::Beyond(_), Previous::Unsaid | Previous::MariaDb(_))
            | (Self::MariaBeyond(_), Previous::Unsaid | Previous::MySql(_)) => true,
        }
    }
}

/// Finds transactions.
///
/// # Errors
/// A file that has to be read is no log, is encrypted, or cannot be read.
pub async fn select<F: Files>(
    files: &F,
    chain: &Chain,
    wanted: Wanted<'_>,
) -> Result<Selection, FileFault> {
    let mut first = chain.files.len();
    // What stands at the beginning of the files from `first` on, the newest first.
    let mut heads: Vec<Head> = Vec::new();
    while first > 0 {
        first -= 1;
        let head = head(files, &chain.files[first]).await?;
        let is_enough = !wanted.may_be_before(&head.previous);
        heads.push(head);
        if is_enough {
            break;
        }
    }
    let passed = heads
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(pair, [next, this] if wanted.passes_over(this, next)))
        .map(|(i, _)| chain.files.len() - 2 - i)
        .collect();
    let mut selection = Selection::default();
    let mut scan = Scan::new(files, chain, first).passing_over(passed);
    while let Some(found) = scan.next().await? {
        if wanted.has(&found.gtid) {
            selection.add(found);
        }
    }
    Ok(finish(selection, &scan))
}

fn finish<F: Files>(mut selection: Selection, scan: &Scan<'_, F>) -> Selection {
    selection.formats = scan.formats().to_vec();
    selection.unfinished = scan.unfinished().map(|(gtid, span)| (gtid.clone(), span));
    for (file, ending) in scan.endings() {
        match ending {
            Ending::Clean => {}
            Ending::Torn { at, why } => selection.torn.push((*file, *at, why.clone())),
        }
    }
    selection
}

/// Everything of a server's binary logs from a position on, across rotations.
///
/// # Errors
/// As [`select`], or there is no such file, no event begins there, or it is within a transaction.
pub async fn from_position<F: Files>(
    files: &F,
    chain: &Chain,
    file: &str,
    position: u64,
) -> Result<Selection, FileFault> {
    let number = chain.index_of(file)?;
    if position > FIRST {
        check_boundary(files, chain, number, position).await?;
    }
    let mut scan = Scan::from(files, chain, number, position);
    let mut selection = Selection::default();
    while let Some(found) = scan.next().await? {
        selection.add(found);
    }
    Ok(finish(selection, &scan))
}

/// Sees that a transaction may begin at a position.
async fn check_boundary<F: Files>(
    files: &F,
    chain: &Chain,
    number: usize,
    position: u64,
) -> Result<(), FileFault> {
    let file = &chain.files[number];
    let (head, mut walk) = read_head(files, file).await?;
    let no_event = || Fault::NoEventAt { position, len: file.len }.of(&file.name);
    if position == file.len || position == head.end {
        return Ok(());
    }
    if position > file.len {
        return Err(no_event());
    }
    let first = walk.at();
    walk.skip_to(position);
    let event = match advance(files, &file.name, &mut walk).await? {
        Ok(event) if event.header.end == event.end() as u32 => event,
        Ok(_) | Err(_) => return Err(no_event()),
    };
    match event.kind() {
        Kind::Gtid
        | Kind::TaggedGtid
        | Kind::AnonymousGtid
        | Kind::MariaGtid
        | Kind::Rotate
        | Kind::Stop
        | Kind::Format
        | Kind::PreviousGtids
        | Kind::MariaGtidList => return Ok(()),
        Kind::StartEncryption
        | Kind::Query
        | Kind::ExecuteLoad
        | Kind::Xid
        | Kind::XaPrepare
        | Kind::Payload
        | Kind::Incident
        | Kind::Part
        | Kind::Aside => {}
    }
    // Without GTIDs only what is before can tell.
    walk.skip_to(first);
    let mut tracker = Tracker::default();
    while walk.at() < position {
        let Ok(event) = advance(files, &file.name, &mut walk).await? else { break };
        let span = Span { file: number, format: 0, begin: event.at, end: event.end() };
        tracker.take(&event, span, false);
        if matches!(event.body, Body::Format(_)) {
            break;
        }
    }
    if walk.at() != position {
        return Err(no_event());
    }
    match tracker.unfinished() {
        Some((_, span)) => {
            Err(Fault::WithinTransaction { position, begin: span.begin }.of(&file.name))
        }
        None => Ok(()),
    }
}
