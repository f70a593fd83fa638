//! MariaDB's global transaction ids: domain, server, number.
//!
//! **Source:** MariaDB knowledge base, "GTID_EVENT", "GTID_LIST_EVENT" and "Global Transaction ID".

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::body::Reader;

/// The event stands for a transaction of one statement, without a commit event of its own.
const STANDALONE: u8 = 0x1;

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MariaGtid {
    /// The replication domain.
    pub domain: u32,
    /// The server that numbered it.
    pub server: u32,
    /// Its number, which rises within the domain.
    pub number: u64,
}

/// How far each domain is; `Display` and `FromStr` as `@@gtid_binlog_pos` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaPosition {
    newest: BTreeMap<u32, MariaGtid>,
}

impl MariaPosition {
    /// Whether a transaction with that number or a higher one of its domain is behind us.
    pub fn is_past(&self, gtid: &MariaGtid) -> bool {
        self.newest.get(&gtid.domain).is_some_and(|newest| newest.number >= gtid.number)
    }

    /// Goes on to that transaction, and never back.
    pub fn advance(&mut self, gtid: MariaGtid) {
        let newest = self.newest.entry(gtid.domain).or_insert(gtid);
        if newest.number <= gtid.number {
            *newest = gtid;
        }
    }
}

impl fmt::Display for MariaGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

impl fmt::Display for MariaPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.newest.values().map(MariaGtid::to_string).collect();
        write!(f, "{}", texts.join(","))
    }
}

impl FromStr for MariaPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut position = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut numbers = part.split('-');
            let mut next = || numbers.next()?.parse::<u64>().ok();
            let parsed = (|| {
                let (domain, server, number) = (next()?, next()?, next()?);
                let (domain, server) = (domain.try_into().ok()?, server.try_into().ok()?);
                Some(MariaGtid { domain, server, number })
            })();
            match (parsed, numbers.next()) {
                (Some(gtid), None) => position.advance(gtid),
                (Some(_) | None, _) => {
                    return Err(format!("wanted GTIDs such as 0-1-100,7-1-3, found {part:?}"));
                }
            }
        }
        Ok(position)
    }
}

/// The body of a GTID event, and whether the next statement ends the transaction.
pub(super) fn gtid(server: u32, body: &[u8]) -> Option<(MariaGtid, bool)> {
    let mut reader = Reader(body);
    let (number, domain, flags) = (reader.u64()?, reader.u32()?, reader.u8()?);
    Some((MariaGtid { domain, server, number }, flags & STANDALONE != 0))
}

/// The body of an event that lists the last transaction of each domain and server before it.
pub(super) fn gtid_list(body: &[u8]) -> Option<Vec<MariaGtid>> {
    let mut reader = Reader(body);
    // The upper four bits are flags.
    let count = reader.u32()? & 0x0fff_ffff;
    let mut list = Vec::new();
    for _ in 0..count {
        let (domain, server, number) = (reader.u32()?, reader.u32()?, reader.u64()?);
        list.push(MariaGtid { domain, server, number });
    }
    Some(list)
}
