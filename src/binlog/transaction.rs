//! Where do transactions begin and end?
//!
//! ```text
//!   MySQL    GTID, BEGIN .. XID | COMMIT | XA PREPARE      GTID, DDL      GTID, payload
//!   MariaDB  GTID .. XID | COMMIT | XA PREPARE             GTID standalone, DDL
//!   5.6      BEGIN .. XID | COMMIT                         variables, DDL
//! ```
//! In relay logs what a receiver adds when it connects anew may stand within a transaction, which
//! then goes on, or begins again.

use super::{
    event::{Event, Kind},
    gtid::Gtid,
    walk::{Body, Statement},
};

/// Bytes of one file, of whole events of one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the file in its chain, from 0.
    pub file: usize,
    /// Number of the format in the scan's list.
    pub format: usize,
    /// Offset of the first byte.
    pub begin: u64,
    /// Offset behind the last byte.
    pub end: u64,
}

/// A whole transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Which it is.
    pub gtid: Gtid,
    /// Where its bytes are: one span, unless the relay log was rotated or the receiver connected
    /// anew within it.
    pub spans: Vec<Span>,
    /// Where it ends in the file it was written to first, modulo 2^32; zero: not said.
    pub end: u32,
}

/// Puts events together.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    gtid: Gtid,
    spans: Vec<Span>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// One statement makes it whole, unless that begins more.
    Fresh,
    /// A commit ends it.
    Inside,
}

impl Tracker {
    /// The transaction that this event completes, if it does. `place` is where the event is.
    pub fn take(&mut self, event: &Event, place: Span, is_relay: bool) -> Option<Transaction> {
        let is_end = match (event.kind(), &event.body) {
            (Kind::Gtid | Kind::TaggedGtid | Kind::AnonymousGtid | Kind::MariaGtid, body) => {
                self.begin(body);
                false
            }
            (
                Kind::Format
                | Kind::Rotate
                | Kind::Stop
                | Kind::PreviousGtids
                | Kind::MariaGtidList
                | Kind::StartEncryption,
                _,
            ) => {
                if !is_relay {
                    self.open = None;
                }
                return None;
            }
            (Kind::Aside, _) => return None,
            (Kind::Query, Body::Statement(statement)) => self.statement(*statement),
            (Kind::Xid | Kind::XaPrepare | Kind::Payload | Kind::Incident, _) => true,
            (Kind::ExecuteLoad | Kind::Query, _) => self.is_fresh(),
            (Kind::Part, _) => false,
        };
        let open = self.open.get_or_insert_with(Open::nameless);
        join(&mut open.spans, place);
        if !is_end {
            return None;
        }
        let Open { gtid, spans, stage: _ } = self.open.take()?;
        Some(Transaction { gtid, spans, end: event.header.end })
    }

    /// A transaction that was jumped over: all of it is in `place`.
    pub(super) fn leap(&mut self, gtid: Gtid, place: Span, end: u32) -> Transaction {
        self.open = None;
        Transaction { gtid, spans: vec![place], end }
    }

    /// The transaction that has begun and not ended: which, and where its first byte is.
    pub fn unfinished(&self) -> Option<(&Gtid, Span)> {
        let open = self.open.as_ref()?;
        Some((&open.gtid, *open.spans.first()?))
    }

    fn begin(&mut self, body: &Body) {
        let (gtid, stage) = match body {
            Body::Begin { gtid: gtid @ Gtid::MariaDb(_), is_standalone: false, .. } => {
                (gtid.clone(), Stage::Inside)
            }
            Body::Begin { gtid, .. } => (gtid.clone(), Stage::Fresh),
            Body::Format(_)
            | Body::PreviousGtids(_)
            | Body::GtidList(_)
            | Body::Statement(_)
            | Body::Rotate { .. }
            | Body::Unread => (Gtid::Anonymous, Stage::Fresh),
        };
        // What was open never got its end: the receiver connected anew and got it again.
        self.open = Some(Open { gtid, spans: Vec::new(), stage });
    }

    /// Whether the statement ends the transaction.
    fn statement(&mut self, statement: Statement) -> bool {
        match statement {
            Statement::Ends => true,
            Statement::Other => self.is_fresh(),
            Statement::Begins => {
                let is_again =
                    |open: &Open| open.gtid == Gtid::Anonymous && open.stage == Stage::Inside;
                if self.open.as_ref().is_some_and(is_again) {
                    // Without GTIDs, and received again.
                    self.open = None;
                }
                self.open.get_or_insert_with(Open::nameless).stage = Stage::Inside;
                false
            }
        }
    }

    fn is_fresh(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.stage == Stage::Fresh)
    }
}

impl Open {
    fn nameless() -> Self {
        Self { gtid: Gtid::Anonymous, spans: Vec::new(), stage: Stage::Fresh }
    }
}

/// Adds a span; one that goes on where the last one ends makes that longer.
pub(super) fn join(spans: &mut Vec<Span>, next: Span) {
    match spans.last_mut() {
        Some(last)
            if (last.file, last.format, last.end) == (next.file, next.format, next.begin) =>
        {
            last.end = next.end;
        }
        Some(_) | None => spans.push(next),
    }
}
