//! Files to hand to a server: a head, then ranges of a server's logs as they are.
//!
//! ```text
//!   magic | format description | transaction | transaction | ..
//! ```
//! What has to be put right is in the head alone ([`Format::file_head`]): it is not in use, nobody
//! started a server there, nothing was made up for a reader. The events keep their bytes, and with
//! them their checksums; the end positions in them are those of the file they come from, which
//! readers of files do not mind. Rotations, stops and what earlier files hold are left out, and so
//! is what has begun and not ended. Transactions whose formats differ (another version, checksums
//! switched on or off) cannot stand behind one description: they become files of their own.

use std::future::Future;

use super::{
    chain::{Chain, Files},
    fault::{Fault, FileFault},
    format::Format,
    select::Selection,
    transaction::Span,
    verify::Verify,
    walk::Need,
};

/// Bytes that are read at once while copying.
const PIECE: u64 = 1 << 20;

/// One file to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The format of all of its events.
    pub format: Format,
    /// What it begins with.
    pub head: Vec<u8>,
    /// What follows, from the files of the chain.
    pub spans: Vec<Span>,
}

/// Whoever takes the bytes of a file that is made.
pub trait Sink: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// One sentence: why it cannot.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), String>> + Send;
}

/// The files that a selection becomes, in the order in which they have to be applied.
pub fn shares(selection: &Selection) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for span in &selection.spans {
        let format = &selection.formats[span.format];
        match shares.last_mut() {
            Some(share) if share.format.is_like(format) => share.spans.push(*span),
            Some(_) | None => {
                shares.push(Share {
                    format: format.clone(),
                    head: format.file_head(),
                    spans: vec![*span],
                });
            }
        }
    }
    shares
}

impl Share {
    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        let spans = self.spans.iter().map(|span| span.end - span.begin);
        self.head.len() as u64 + spans.sum::<u64>()
    }

    /// Whether it holds no event but the head.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Reads the ranges, sees that their events are whole and fit their checksums, and hands the
    /// file on, a piece at a time. Returns how many events it has.
    ///
    /// # Errors
    /// A range cannot be read or written, or is damaged: what was written so far is worth nothing.
    pub async fn copy<F: Files, S: Sink>(
        &self,
        files: &F,
        chain: &Chain,
        sink: &mut S,
    ) -> Result<u64, FileFault> {
        let mut events = 0;
        let first = self.spans.first().map_or("", |span| &chain.files[span.file].name);
        let to_sink = |why| Fault::Write { why }.of(first);
        sink.write(&self.head).await.map_err(to_sink)?;
        for span in &self.spans {
            let file = &chain.files[span.file];
            let mut verify = Verify::events_of(self.format.checksum);
            let mut at = span.begin;
            while at < span.end {
                let need = Need { at, len: PIECE.min(span.end - at) as usize };
                let bytes = files.read(&file.name, need).await;
                let bytes = bytes.map_err(|why| Fault::Read { why }.of(&file.name))?;
                let (wanted, found) = (need.len as u64, bytes.len() as u64);
                if wanted != found {
                    return Err(Fault::Short { at, wanted, found }.of(&file.name));
                }
                verify.push(&bytes).map_err(|fault| fault.beyond(span.begin).of(&file.name))?;
                sink.write(&bytes).await.map_err(to_sink)?;
                at += found;
            }
            verify.finish().map_err(|fault| fault.beyond(span.begin).of(&file.name))?;
            events += verify.events();
        }
        Ok(events)
    }
}

impl Fault {
    /// The same, where offsets are counted from another offset on.
    fn beyond(self, begin: u64) -> Self {
        match self {
            Self::Damaged { at, why } => Self::Damaged { at: begin + at, why },
            Self::BadChecksum { at, wanted, found } => {
                Self::BadChecksum { at: begin + at, wanted, found }
            }
            same @ (Self::NotALog { .. }
            | Self::Encrypted
            | Self::EncryptedEvents { .. }
            | Self::NoFormat { .. }
            | Self::OldFormat { .. }
            | Self::NoHead { .. }
            | Self::TooLarge { .. }
            | Self::NoEventAt { .. }
            | Self::WithinTransaction { .. }
            | Self::Short { .. }
            | Self::NoSuchFile { .. }
            | Self::Read { .. }
            | Self::Write { .. }) => same,
        }
    }
}
