//! Are the events of a stream whole, and do their checksums fit? Whatever their size is, a few bytes
//! are kept.

use super::{
    event::{HEADER, Header, IN_USE, Kind},
    fault::Fault,
    format::{Checksum, MAGIC},
};

/// Fed with a stream of whole events, in pieces of any size.
#[derive(Clone, Debug)]
pub struct Verify {
    checksum: Checksum,
    /// Bytes of the magic that are still to come.
    magic: usize,
    /// Offset of the next byte in the stream.
    at: u64,
    header: Vec<u8>,
    begin: u64,
    /// Bytes of the event's body that are still to come, without its checksum.
    left: u64,
    hasher: crc32fast::Hasher,
    trailer: Vec<u8>,
    events: u64,
}

impl Verify {
    /// Events from the stream's beginning on.
    pub fn events_of(checksum: Checksum) -> Self {
        Self {
            checksum,
            magic: 0,
            at: 0,
            header: Vec::new(),
            begin: 0,
            left: 0,
            hasher: crc32fast::Hasher::new(),
            trailer: Vec::new(),
            events: 0,
        }
    }

    /// A whole file.
    pub fn file_of(checksum: Checksum) -> Self {
        Self { magic: MAGIC.len(), ..Self::events_of(checksum) }
    }

    /// Events that were whole so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The next bytes.
    ///
    /// # Errors
    /// They are no event, or an event whose checksum does not fit.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let magic = self.magic.min(bytes.len());
        let done = MAGIC.len() - self.magic;
        if bytes[..magic] != MAGIC[done..][..magic] {
            let found = format!("{:02x?}", &bytes[..magic]);
            return Err(Fault::NotALog { found });
        }
        self.magic -= magic;
        self.at += magic as u64;
        bytes = &bytes[magic..];
        while !bytes.is_empty() {
            let taken = self.event(bytes)?;
            self.at += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Whether the stream ends with an event's end.
    ///
    /// # Errors
    /// Within an event.
    pub fn finish(&self) -> Result<(), Fault> {
        match self.header.is_empty() && self.magic == 0 {
            true => Ok(()),
            false => Err(Fault::damaged(self.begin, "its end is missing")),
        }
    }

    /// Takes some of the bytes, at least one.
    fn event(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if self.header.is_empty() {
            self.begin = self.at;
        }
        let missing = HEADER as usize - self.header.len();
        if missing > 0 {
            let taken = missing.min(bytes.len());
            self.header.extend(&bytes[..taken]);
            if taken == missing {
                self.begin_event()?;
            }
            return Ok(taken);
        }
        if self.left > 0 {
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.hasher.update(&bytes[..taken]);
            self.left -= taken as u64;
            if self.left == 0 && self.trailer_len() == 0 {
                self.end_event()?;
            }
            return Ok(taken);
        }
        let taken = (self.trailer_len() - self.trailer.len()).min(bytes.len());
        self.trailer.extend(&bytes[..taken]);
        if self.trailer.len() == self.trailer_len() {
            self.end_event()?;
        }
        Ok(taken)
    }

    fn begin_event(&mut self) -> Result<(), Fault> {
        let mut bytes = [0; HEADER as usize];
        bytes.copy_from_slice(&self.header);
        let header = Header::parse(&bytes);
        if header.kind() == Kind::Format {
            bytes[17] &= !(IN_USE as u8);
        }
        let fixed = HEADER + self.trailer_len() as u64;
        self.left = u64::from(header.len).checked_sub(fixed).ok_or_else(|| {
            Fault::damaged(self.begin, format!("it has {} bytes, {fixed} at least", header.len))
        })?;
        self.hasher = crc32fast::Hasher::new();
        self.hasher.update(&bytes);
        if self.left == 0 && self.trailer_len() == 0 {
            self.end_event()?;
        }
        Ok(())
    }

    fn end_event(&mut self) -> Result<(), Fault> {
        let found = std::mem::take(&mut self.hasher).finalize();
        if let Ok(trailer) = <[u8; 4]>::try_from(&self.trailer[..]) {
            let wanted = u32::from_le_bytes(trailer);
            if wanted != found {
                return Err(Fault::BadChecksum { at: self.begin, wanted, found });
            }
        }
        self.header.clear();
        self.trailer.clear();
        self.events += 1;
        Ok(())
    }

    fn trailer_len(&self) -> usize {
        match self.checksum {
            Checksum::Off => 0,
            Checksum::Crc32 => 4,
        }
    }
}
