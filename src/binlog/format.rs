//! The format description: who wrote the file, and how its events end.

use super::{
    body::Reader,
    event::{ARTIFICIAL, CHECKSUM, HEADER, Header, IN_USE, RELAY_LOG},
    fault::Fault,
};

/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"\xfebin";
/// What a file of MySQL begins with that is encrypted.
pub(super) const ENCRYPTED: [u8; 4] = *b"\xfdbin";

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MySQL and what is compatible with it.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// How events end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// With their body.
    Off,
    /// With four bytes of CRC-32 of all before.
    Crc32,
}

/// A format description event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The version of the server that wrote it, as it names itself.
    pub server_version: String,
    /// Its family, by that name.
    pub family: Family,
    /// How the events after it end.
    pub checksum: Checksum,
    /// The event itself.
    raw: Vec<u8>,
}

/// Bytes of the body before the lengths of the other events' post-headers.
const FIXED: usize = 2 + 50 + 4 + 1;
/// Where the creation time is in the event.
const CREATED: usize = HEADER as usize + 2 + 50;

impl Format {
    /// Reads the event at `at`, header included.
    ///
    /// # Errors
    /// A format before MySQL 5.0's, an unknown kind of checksum, or too few bytes.
    pub(super) fn parse(at: u64, raw: &[u8]) -> Result<Self, Fault> {
        let body = raw.get(HEADER as usize..).unwrap_or_default();
        let mut reader = Reader(body);
        let mut parts = || Some((reader.u16()?, reader.take(50)?, reader.u32()?, reader.u8()?));
        let Some((version, name, _created, header)) = parts() else {
            return Err(Fault::damaged(at, "a format description that ends within itself"));
        };
        if version != 4 || u64::from(header) != HEADER {
            let found = format!("format {version} with headers of {header} bytes");
            return Err(Fault::OldFormat { found });
        }
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let server_version = String::from_utf8_lossy(name).into_owned();
        let family = match server_version.contains("MariaDB") {
            true => Family::MariaDb,
            false => Family::MySql,
        };
        let checksum = match (
            knows_checksums(family, &server_version),
            body.len().checked_sub(CHECKSUM as usize + 1),
        ) {
            (false, _) => Checksum::Off,
            (true, Some(place)) if place >= FIXED => match body[place] {
                0 => Checksum::Off,
                1 => Checksum::Crc32,
                other => {
                    return Err(Fault::damaged(
                        at,
                        format!("checksums of an unknown kind {other}"),
                    ));
                }
            },
            (true, _) => return Err(Fault::damaged(at, "a format description without its end")),
        };
        Ok(Self { server_version, family, checksum, raw: raw.to_vec() })
    }

    /// Numbers of the server's version.
    pub fn version(&self) -> [u32; 3] {
        version_of(&self.server_version)
    }

    /// Bytes that an event of this format ends with, after its body.
    pub fn trailer(&self) -> u64 {
        match self.checksum {
            Checksum::Off => 0,
            Checksum::Crc32 => CHECKSUM,
        }
    }

    /// The beginning of a file of events of this format: magic and format description. Said anew in
    /// it: that the file is closed, a server's own and not made up for a reader, that the next event
    /// comes right after, and that no server started here (a reader would roll back what is open
    /// and drop temporary tables).
    pub fn file_head(&self) -> Vec<u8> {
        let mut event = self.raw.clone();
        let flags = self.header().flags & !(IN_USE | ARTIFICIAL | RELAY_LOG);
        let end = (MAGIC.len() + event.len()) as u32;
        event[13..17].copy_from_slice(&end.to_le_bytes());
        event[17..19].copy_from_slice(&flags.to_le_bytes());
        event[CREATED..CREATED + 4].fill(0);
        if self.has_checksum_itself() {
            let place = event.len() - CHECKSUM as usize;
            let sum = crc32fast::hash(&event[..place]);
            event[place..].copy_from_slice(&sum.to_le_bytes());
        }
        [&MAGIC[..], &event].concat()
    }

    /// Whether events of both can stand in one file: but for the time of creation and flags, the
    /// descriptions are the same.
    pub fn is_like(&self, other: &Self) -> bool {
        let part = |format: &Self| {
            let mut raw = format.file_head();
            // The time and the server's id, which a checksum covers.
            raw[4..8].fill(0);
            raw[9..13].fill(0);
            if format.has_checksum_itself() {
                raw.truncate(raw.len() - CHECKSUM as usize);
            }
            raw
        };
        part(self) == part(other)
    }

    /// A description that knows checksums has one, also where the events after it have none.
    fn has_checksum_itself(&self) -> bool {
        knows_checksums(self.family, &self.server_version)
    }

    /// The description's own checksum: wanted, found. It is taken as if nobody had the file in use.
    pub(super) fn own_checksum(&self) -> Option<(u32, u32)> {
        let place = self.raw.len().checked_sub(CHECKSUM as usize)?;
        let wanted = Reader(&self.raw[place..]).u32()?;
        let mut event = self.raw[..place].to_vec();
        event[17] &= !(IN_USE as u8);
        self.has_checksum_itself().then(|| (wanted, crc32fast::hash(&event)))
    }

    fn header(&self) -> Header {
        let mut bytes = [0; HEADER as usize];
        bytes.copy_from_slice(&self.raw[..HEADER as usize]);
        Header::parse(&bytes)
    }
}

/// Since when descriptions say whether there are checksums.
fn knows_checksums(family: Family, version: &str) -> bool {
    version_of(version)
        >= match family {
            Family::MySql => [5, 6, 1],
            Family::MariaDb => [5, 3, 0],
        }
}

fn version_of(text: &str) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(text.split('.')) {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        *number = part[..digits].parse().unwrap_or(0);
    }
    numbers
}
