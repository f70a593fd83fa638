//! What the events say that a transaction begins with, and what earlier files hold: MySQL's GTIDs,
//! tagged ones included.
//!
//! **Source:** MySQL source documentation, "Gtid_event", "Previous_gtids_event" and "Library:
//! Serialization".

use std::fmt;

use conclave_core::model::{GtidSet, Interval, Origin};

use super::{body::Reader, mariadb::MariaGtid};

/// Longest tag of a GTID.
const LONGEST_TAG: usize = 32;

/// Which transaction it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtid {
    /// MySQL, with `gtid_mode=ON`.
    MySql {
        /// Who numbered it.
        origin: Origin,
        /// Its number, from 1.
        number: u64,
    },
    /// MySQL without GTIDs: since 5.7 by an event that says so, before by none at all.
    Anonymous,
    /// MariaDB.
    MariaDb(MariaGtid),
}

impl Gtid {
    /// It as a set of MySQL's; `None`: it is none of MySQL's.
    pub fn as_set(&self) -> Option<GtidSet> {
        match self {
            Self::MySql { origin, number } => {
                let mut set = GtidSet::empty();
                set.insert(origin.clone(), Interval { first: *number, last: *number });
                Some(set)
            }
            Self::Anonymous | Self::MariaDb(_) => None,
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql { origin, number } if origin.tag.is_empty() => {
                write!(f, "{}:{number}", origin.uuid)
            }
            Self::MySql { origin, number } => {
                write!(f, "{}:{}:{number}", origin.uuid, origin.tag)
            }
            Self::Anonymous => write!(f, "ANONYMOUS"),
            Self::MariaDb(gtid) => write!(f, "{gtid}"),
        }
    }
}

/// A GTID and how many bytes the whole transaction has, from this event on; `None`: the server that
/// wrote it (before MySQL 8.0.2) does not say.
pub(super) type Beginning = (Gtid, Option<u64>);

/// The body of a GTID event without a tag, checksum cut off.
pub(super) fn plain(body: &[u8]) -> Option<Beginning> {
    let mut reader = Reader(body);
    let _flags = reader.u8()?;
    let uuid = uuid_text(&reader.array()?);
    let number = reader.u64()?;
    let gtid = match number {
        0 => Gtid::Anonymous,
        _ => Gtid::MySql { origin: Origin { uuid, tag: String::new() }, number: valid(number)? },
    };
    Some((gtid, plain_length(reader)))
}

/// The length, behind two logical and one or two real times.
fn plain_length(mut reader: Reader<'_>) -> Option<u64> {
    if reader.u8()? != 2 {
        return None;
    }
    let _logical = reader.take(16)?;
    let committed: [u8; 7] = reader.array()?;
    // The highest bit says that the time at the first server follows.
    if committed[6] & 0x80 != 0 {
        reader.take(7)?;
    }
    reader.packed().filter(|length| *length > 0)
}

/// The body of a tagged GTID event, checksum cut off: a message of numbered fields.
pub(super) fn tagged(body: &[u8]) -> Option<Beginning> {
    let mut reader = Reader(body);
    let _version = reader.varlen()?;
    let _bytes = reader.varlen()?;
    let _last_field_to_know = reader.varlen()?;
    let (mut uuid, mut number, mut tag, mut length) = (None, None, String::new(), None);
    while !reader.0.is_empty() {
        match reader.varlen()? {
            1 => {
                let mut bytes = [0u8; 16];
                for byte in &mut bytes {
                    *byte = u8::try_from(reader.varlen()?).ok()?;
                }
                uuid = Some(uuid_text(&bytes));
            }
            2 => number = Some(valid(u64::try_from(reader.varlen_signed()?).ok()?)?),
            3 => tag = tag_text(&mut reader)?,
            8 => length = Some(reader.varlen()?),
            // Flags, logical and real times, versions, a ticket: one number each.
            0 | 4..=7 | 9..=11 => {
                reader.varlen()?;
            }
            // Newer fields come last, and what we want is before them.
            _ => break,
        }
    }
    let origin = Origin { uuid: uuid?, tag };
    Some((Gtid::MySql { origin, number: number? }, length))
}

/// The body of an event that says what earlier files hold, checksum cut off.
///
/// A first byte of 1 at both ends of the count says that tags follow the uuids.
pub fn previous_gtids(body: &[u8]) -> Option<GtidSet> {
    let mut reader = Reader(body);
    let count = reader.u64()?;
    let has_tags = count >> 56 == 1;
    let origins = if has_tags { (count >> 8) & 0xffff_ffff_ffff } else { count };
    let mut runs: Vec<(Origin, Vec<Interval>)> = Vec::new();
    for _ in 0..origins {
        let uuid = uuid_text(&reader.array()?);
        let tag = if has_tags { tag_text(&mut reader)? } else { String::new() };
        let mut intervals = Vec::new();
        for _ in 0..reader.u64()? {
            let (first, beyond) = (reader.u64()?, reader.u64()?);
            let last = valid(beyond.checked_sub(1)?)?;
            intervals.push(Interval { first: valid(first).filter(|first| *first <= last)?, last });
        }
        runs.push((Origin { uuid, tag }, intervals));
    }
    let mut set = GtidSet::empty();
    for (origin, intervals) in runs {
        set.insert_all(origin, intervals);
    }
    Some(set)
}

fn tag_text(reader: &mut Reader<'_>) -> Option<String> {
    let len = usize::try_from(reader.varlen()?).ok().filter(|len| *len <= LONGEST_TAG)?;
    let tag = std::str::from_utf8(reader.take(len)?).ok()?;
    let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.bytes().all(is_tag).then(|| tag.to_ascii_lowercase())
}

fn valid(number: u64) -> Option<u64> {
    (1..i64::MAX as u64).contains(&number).then_some(number)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}
