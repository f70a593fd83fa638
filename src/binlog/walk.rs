//! One file, event by event, without reading it: the walk says which range it needs next.
//!
//! ```text
//!   next() -> Need{at, len}    read that much of the file, feed() it, ask again
//!          -> Event(..)        one event; of most only the header was looked at
//!          -> End(..)          nothing more that is whole
//! ```
//! What is no event any more (a write cut short, blocks of zeros after a crash, nonsense) is an end
//! like the file's own, since all before it is good. It is an error only within the file's head.

use conclave_core::model::GtidSet;

use super::{
    body::Reader,
    event::{Event, HEADER, Header, Kind},
    fault::Fault,
    format::{ENCRYPTED, Format, MAGIC},
    gtid::{self, Gtid},
    mariadb::{self, MariaGtid},
    window::{LARGEST_READ, Window},
};

/// Where the first event begins.
pub(super) const FIRST: u64 = MAGIC.len() as u64;
/// More than any format description, GTID or rotate event has.
const SMALL_BODY: u64 = 64 << 10;
/// So much of a statement says whether it begins or ends a transaction.
const STATEMENT: usize = 16;

/// A range that is needed: `len` bytes from offset `at` on, and never beyond the file's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Offset of the first byte.
    pub at: u64,
    /// How many.
    pub len: usize,
}

/// What a walk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Feed this, and ask again.
    Need(Need),
    /// The next event.
    Event(Event),
    /// There is none.
    End(Ending),
}

/// How a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the last byte of an event.
    Clean,
    /// With something that is no whole event.
    Torn {
        /// Where the last whole event ends.
        at: u64,
        /// What follows it.
        why: String,
    },
}

/// What was read of an event beyond its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A format description.
    Format(Format),
    /// MySQL: what earlier files hold.
    PreviousGtids(GtidSet),
    /// MariaDB: the last of each domain and server in earlier files.
    GtidList(Vec<MariaGtid>),
    /// A transaction begins.
    Begin {
        /// Which.
        gtid: Gtid,
        /// Bytes of it all, this event included, where the server says so.
        length: Option<u64>,
        /// The next statement ends it.
        is_standalone: bool,
    },
    /// A statement.
    Statement(Statement),
    /// The next file, and where in it to go on.
    Rotate {
        /// Its name.
        file: String,
        /// The position.
        position: u64,
    },
    /// Nothing was.
    Unread,
}

/// What a statement does to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `BEGIN`, `XA START`.
    Begins,
    /// `COMMIT`, `ROLLBACK`, `XA COMMIT`, `XA ROLLBACK`.
    Ends,
    /// Anything else, `ROLLBACK TO SAVEPOINT` included.
    Other,
}

/// Why there is no step yet.
enum Stop {
    Need(Need),
    Fault(Fault),
    /// The rest of the file is no event.
    Torn(String),
}

/// A walk through one file.
#[derive(Clone, Debug)]
pub struct Walk {
    len: u64,
    at: u64,
    window: Window,
    format: Option<Format>,
    is_relay: bool,
}

impl Walk {
    /// Begins at the beginning of a file that is so long.
    pub fn new(len: u64) -> Self {
        Self { len, at: 0, window: Window::new(), format: None, is_relay: false }
    }

    /// The file's length, as far as it is known.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next event begins.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The format of the next event; `None`: the head is not read yet.
    pub fn format(&self) -> Option<&Format> {
        self.format.as_ref()
    }

    /// Whether a replica's receiver wrote the file.
    pub fn is_relay(&self) -> bool {
        self.is_relay
    }

    /// Goes on at another offset, where an event begins, once the head is read.
    pub fn skip_to(&mut self, at: u64) {
        assert!(self.format.is_some(), "the head of a file is read before anything else of it");
        self.at = at;
    }

    /// Goes on with another format than the head's.
    pub(super) fn read_as(&mut self, format: Format) {
        self.format = Some(format);
    }

    /// Gives the bytes that were needed. Fewer say that the file ends there.
    pub fn feed(&mut self, need: Need, bytes: Vec<u8>) {
        if bytes.len() < need.len {
            self.len = self.len.min(need.at + bytes.len() as u64);
        }
        self.window.fill(need.at, bytes);
    }

    /// The next step. After an event the one after it.
    ///
    /// # Errors
    /// The file is none of those we read, or encrypted.
    pub fn next(&mut self) -> Result<Step, Fault> {
        let event = match self.format.is_none() {
            true => self.head(),
            false if self.at >= self.len => return Ok(Step::End(Ending::Clean)),
            false => self.event(),
        };
        match event {
            Ok(event) => {
                self.at = event.end();
                Ok(Step::Event(event))
            }
            Err(Stop::Need(need)) => Ok(Step::Need(need)),
            Err(Stop::Torn(why)) => Ok(Step::End(Ending::Torn { at: self.at, why })),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    /// Whether an event begins at `to` whose own file had it at `own` (modulo 2^32). If so, goes on
    /// there. `Err`: that has to be fed first.
    ///
    /// What is in between is not looked at: two positions that fit vouch for it.
    pub(super) fn leap(&mut self, to: u64, own: u32) -> Result<bool, Need> {
        match self.header(to) {
            Ok(header) if header.end != 0 && header.end.wrapping_sub(header.len) == own => {
                self.at = to;
                Ok(true)
            }
            Ok(_) | Err(Stop::Torn(_) | Stop::Fault(_)) => Ok(false),
            Err(Stop::Need(need)) => Err(need),
        }
    }

    fn head(&mut self) -> Result<Event, Stop> {
        let len = self.len;
        let no_head = || Stop::Fault(Fault::NoHead { len });
        if len < FIRST + HEADER {
            return Err(no_head());
        }
        let magic = self.bytes(0, MAGIC.len())?;
        if magic == ENCRYPTED {
            return Err(Stop::Fault(Fault::Encrypted));
        }
        if magic != MAGIC {
            let found = magic.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
            return Err(Stop::Fault(Fault::NotALog { found: found.trim_end().into() }));
        }
        let header = self.raw_header(FIRST)?;
        if header.kind() != Kind::Format {
            return Err(Stop::Fault(Fault::NoFormat { found: header.code }));
        }
        if u64::from(header.len) > SMALL_BODY {
            let why = format!("a format description of {} bytes", header.len);
            return Err(Stop::Fault(Fault::damaged(FIRST, why)));
        }
        if FIRST + u64::from(header.len) > len {
            return Err(no_head());
        }
        let raw = self.bytes(FIRST, header.len as usize)?;
        let format = Format::parse(FIRST, raw).map_err(Stop::Fault)?;
        if let Some((wanted, found)) = format.own_checksum().filter(|(w, f)| w != f) {
            return Err(Stop::Fault(Fault::BadChecksum { at: FIRST, wanted, found }));
        }
        self.is_relay = header.is_own_of_relay();
        self.format = Some(format.clone());
        Ok(Event { at: FIRST, header, body: Body::Format(format) })
    }

    fn event(&mut self) -> Result<Event, Stop> {
        let at = self.at;
        let header = self.header(at)?;
        let end = at + u64::from(header.len);
        if !self.is_relay && header.end != 0 && header.end != end as u32 {
            let why = format!("an event that says it ends at {} and ends at {end}", header.end);
            return Err(Stop::Torn(why));
        }
        let body = self.body(at, &header)?;
        if let Body::Format(format) = &body {
            self.format = Some(format.clone());
        }
        Ok(Event { at, header, body })
    }

    /// The header of an event that is whole.
    fn header(&mut self, at: u64) -> Result<Header, Stop> {
        let left = self.len.saturating_sub(at);
        if left < HEADER {
            return Err(Stop::Torn(format!("{left} bytes of a header")));
        }
        let header = self.raw_header(at)?;
        let least = HEADER + self.trailer();
        if u64::from(header.len) < least {
            let why = match header.len {
                0 => "zeros".into(),
                len => format!("an event of {len} bytes, less than its header has"),
            };
            return Err(Stop::Torn(why));
        }
        if u64::from(header.len) > left {
            return Err(Stop::Torn(format!("{left} bytes of an event of {}", header.len)));
        }
        Ok(header)
    }

    fn raw_header(&mut self, at: u64) -> Result<Header, Stop> {
        let mut bytes = [0; HEADER as usize];
        bytes.copy_from_slice(self.bytes(at, HEADER as usize)?);
        Ok(Header::parse(&bytes))
    }

    fn trailer(&self) -> u64 {
        self.format.as_ref().map_or(0, Format::trailer)
    }

    /// As much of the body as matters.
    fn body(&mut self, at: u64, header: &Header) -> Result<Body, Stop> {
        let bad = |what: &str| Stop::Torn(format!("{what} event that makes no sense"));
        let small = SMALL_BODY;
        match header.kind() {
            Kind::Format => {
                let raw = self.whole(at, header, 0, small)?.to_vec();
                Ok(Body::Format(Format::parse(at, &raw).map_err(|fault| match fault {
                    Fault::Damaged { why, .. } => Stop::Torn(why),
                    other => Stop::Fault(other),
                })?))
            }
            Kind::PreviousGtids => {
                let body = self.whole(at, header, HEADER, LARGEST_READ as u64)?;
                let set = gtid::previous_gtids(body).ok_or_else(|| bad("a previous-GTIDs"))?;
                Ok(Body::PreviousGtids(set))
            }
            Kind::MariaGtidList => {
                let body = self.whole(at, header, HEADER, LARGEST_READ as u64)?;
                let list = mariadb::gtid_list(body).ok_or_else(|| bad("a GTID list"))?;
                Ok(Body::GtidList(list))
            }
            Kind::Gtid | Kind::AnonymousGtid => {
                let beginning = gtid::plain(self.whole(at, header, HEADER, small)?);
                let (gtid, length) = beginning.ok_or_else(|| bad("a GTID"))?;
                Ok(Body::Begin { gtid, length, is_standalone: false })
            }
            Kind::TaggedGtid => {
                let beginning = gtid::tagged(self.whole(at, header, HEADER, small)?);
                let (gtid, length) = beginning.ok_or_else(|| bad("a tagged GTID"))?;
                Ok(Body::Begin { gtid, length, is_standalone: false })
            }
            Kind::MariaGtid => {
                let body = self.whole(at, header, HEADER, small)?;
                let parsed = mariadb::gtid(header.server_id, body);
                let (gtid, is_standalone) = parsed.ok_or_else(|| bad("a GTID"))?;
                Ok(Body::Begin { gtid: Gtid::MariaDb(gtid), length: None, is_standalone })
            }
            Kind::Rotate => {
                let mut reader = Reader(self.whole(at, header, HEADER, small)?);
                let position = reader.u64().ok_or_else(|| bad("a rotate"))?;
                let file = String::from_utf8_lossy(reader.0).into_owned();
                Ok(Body::Rotate { file, position })
            }
            Kind::Query => self.statement(at, header),
            Kind::StartEncryption => Err(Stop::Fault(Fault::EncryptedEvents { at })),
            Kind::Stop
            | Kind::ExecuteLoad
            | Kind::Xid
            | Kind::XaPrepare
            | Kind::Payload
            | Kind::Incident
            | Kind::Part
            | Kind::Aside => Ok(Body::Unread),
        }
    }

    /// The beginning of the statement's text, behind a head, variables and a schema's name.
    fn statement(&mut self, at: u64, header: &Header) -> Result<Body, Stop> {
        let bad = || Stop::Torn("a statement event that makes no sense".into());
        let body = u64::from(header.len) - HEADER - self.trailer();
        let mut reader = Reader(self.part(at + HEADER, body.min(13))?);
        let parts = (|| {
            let (_thread, _seconds, schema) = (reader.u32()?, reader.u32()?, reader.u8()?);
            let (_error, variables) = (reader.u16()?, reader.u16()?);
            Some((u64::from(schema), u64::from(variables)))
        })();
        let (schema, variables) = parts.ok_or_else(bad)?;
        // The name is followed by a zero.
        let before = 13 + variables + schema + 1;
        let len = body.checked_sub(before).ok_or_else(bad)?;
        let text = self.part(at + HEADER + before, len.min(STATEMENT as u64))?;
        let text = String::from_utf8_lossy(text).to_ascii_uppercase();
        let is_whole = len < STATEMENT as u64;
        Ok(Body::Statement(match text.trim_end_matches(';') {
            "BEGIN" if is_whole => Statement::Begins,
            "COMMIT" | "ROLLBACK" if is_whole => Statement::Ends,
            text if text.starts_with("XA START") || text.starts_with("XA BEGIN") => {
                Statement::Begins
            }
            text if text.starts_with("XA COMMIT") || text.starts_with("XA ROLLBACK") => {
                Statement::Ends
            }
            _ => Statement::Other,
        }))
    }

    /// An event's bytes from `from` on, its checksum cut off unless all is wanted.
    fn whole(&mut self, at: u64, header: &Header, from: u64, limit: u64) -> Result<&[u8], Stop> {
        let trailer = if from == 0 { 0 } else { self.trailer() };
        let len = u64::from(header.len) - from - trailer;
        if len > limit {
            return Err(Stop::Fault(Fault::TooLarge { at, len, limit }));
        }
        self.part(at + from, len)
    }

    fn part(&mut self, at: u64, len: u64) -> Result<&[u8], Stop> {
        self.bytes(at, len as usize)
    }

    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Stop> {
        if self.window.get(at, len).is_none() {
            let planned = self.window.plan(at, len) as u64;
            let left = self.len.saturating_sub(at);
            if left < len as u64 {
                return Err(Stop::Torn(format!("{left} bytes of {len}")));
            }
            return Err(Stop::Need(Need { at, len: planned.min(left) as usize }));
        }
        let missing = Need { at, len };
        self.window.get(at, len).ok_or(Stop::Need(missing))
    }
}
