//! The one stretch of a file that is in memory, and how far to read ahead.

/// The most bytes that are ever asked for at once.
pub const LARGEST_READ: usize = 64 << 20;
/// First read, and the least that reading ahead falls back to.
const LEAST_AHEAD: usize = 4 << 10;
/// The most that is read ahead.
const MOST_AHEAD: usize = 256 << 10;

/// A stretch of a file.
#[derive(Clone, Debug)]
pub(super) struct Window {
    begin: u64,
    bytes: Vec<u8>,
    ahead: usize,
}

impl Window {
    pub fn new() -> Self {
        Self { begin: 0, bytes: Vec::new(), ahead: LEAST_AHEAD }
    }

    /// The bytes, if all of them are here.
    pub fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.begin)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    /// How much to read for `len` bytes at `at`. What is read again and again close to what was read
    /// before is worth reading ahead; what is far from it is not.
    pub fn plan(&mut self, at: u64, len: usize) -> usize {
        let end = self.begin + self.bytes.len() as u64;
        let is_near = at >= self.begin && at <= end + self.ahead as u64;
        if !self.bytes.is_empty() {
            self.ahead = match is_near {
                true => (self.ahead * 2).min(MOST_AHEAD),
                false => (self.ahead / 2).max(LEAST_AHEAD),
            };
        }
        len.max(self.ahead)
    }

    pub fn fill(&mut self, at: u64, bytes: Vec<u8>) {
        self.begin = at;
        self.bytes = bytes;
    }
}
