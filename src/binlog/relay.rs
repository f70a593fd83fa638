//! Where in a replica's relay logs does a position of its source's binary log begin?
//!
//! Events in a relay log keep the end position that they have at the source. As long as nothing is
//! put in between, offset and position grow alike: from the first event of the right file the offset
//! is known, one read shows whether an event of that position begins there, and if so nothing was put
//! in between. Else the file is walked through, over whole transactions where they say how long they
//! are.
//!
//! ```text
//!   relay.000007  head  Rotate(binlog.000003, 4)  ..events..     a receiver connected, or the source
//!   relay.000008  head                            ..events..     rotated; or only the size was reached
//! ```

use super::{
    chain::{Chain, Files, Scan, SourcePoint, advance, read_head},
    event::{Event, HEADER, Header},
    fault::{Fault, FileFault},
    format::Format,
    index::log_name,
    walk::{Body, Need, Walk},
};

/// A place in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the file.
    pub file: usize,
    /// Offset in it.
    pub at: u64,
    /// The format in force there.
    pub format: Format,
}

/// What became of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// What the source has from that position on begins here; perhaps nothing is there yet.
    At(Place),
    /// The relay logs begin later; `None`: they hold nothing of the source's.
    BeginLater(Option<SourcePoint>),
    /// They end earlier: here.
    EndEarlier(Option<SourcePoint>),
}

impl Place {
    /// Transactions from here on.
    pub fn scan<'a, F: Files>(&self, files: &'a F, chain: &'a Chain) -> Scan<'a, F> {
        Scan::from(files, chain, self.file, self.at).of_format(self.format.clone())
    }
}

/// Follows the source's position through the events of relay logs.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// Where the next event of the source's is; `None`: not known yet.
    pub next: Option<SourcePoint>,
}

impl Follow {
    /// Where the event begins at the source; `None`: it is none of the source's log, or the log's
    /// name is not known yet.
    pub fn take(&mut self, event: &Event) -> Option<SourcePoint> {
        if event.header.is_own_of_relay() {
            return None;
        }
        let is_made_up = event.header.is_artificial();
        if let Body::Rotate { file, position } = &event.body {
            let next = SourcePoint { file: file.clone(), position: *position };
            let begin = self.begin_of(&event.header);
            self.next = Some(next);
            return begin.filter(|_| !is_made_up);
        }
        if is_made_up && matches!(event.body, Body::Format(_)) {
            return None;
        }
        let begin = self.begin_of(&event.header)?;
        let position = begin.position + u64::from(event.header.len);
        self.next = Some(SourcePoint { file: begin.file.clone(), position });
        Some(begin)
    }

    fn begin_of(&self, header: &Header) -> Option<SourcePoint> {
        let next = self.next.as_ref()?;
        let position = match header.end {
            0 => next.position,
            end => near(next.position, end.wrapping_sub(header.len)),
        };
        Some(SourcePoint { file: next.file.clone(), position })
    }
}

/// The position at or behind `before` whose lower half is known.
fn near(before: u64, low: u32) -> u64 {
    let same = before & !u64::from(u32::MAX) | u64::from(low);
    match before.saturating_sub(same) > u64::from(u32::MAX) / 2 {
        true => same + (1 << 32),
        false => same,
    }
}

/// Whether a point is behind another one in the same server's logs.
pub fn is_behind(one: &SourcePoint, other: &SourcePoint) -> bool {
    let key = |point: &SourcePoint| {
        let number = log_name(&point.file).map(|name| name.number);
        (number, point.position)
    };
    key(one) > key(other)
}

/// A relay log that may hold the wanted position.
struct Candidate {
    file: usize,
    /// Where its first event is at the source. The name is only known if a receiver said it.
    begin: Option<SourcePoint>,
}

/// Finds the place.
///
/// # Errors
/// A relay log that has to be read is none, or cannot be read.
pub async fn find<F: Files>(
    files: &F,
    chain: &Chain,
    target: &SourcePoint,
) -> Result<Found, FileFault> {
    let mut run: Vec<Candidate> = Vec::new();
    let mut oldest = None;
    for file in (0..chain.files.len()).rev() {
        let (head, _) = read_head(files, &chain.files[file]).await?;
        let begin = head.source.clone();
        run.push(Candidate { file, begin: begin.clone() });
        let Some(begin) = begin else { continue };
        if is_behind(&begin, target) {
            oldest = Some(begin);
            run.clear();
            continue;
        }
        run.reverse();
        return search(files, chain, &run, target).await;
    }
    Ok(Found::BeginLater(oldest))
}

/// Searches files that follow each other, of which the first says where it begins.
async fn search<F: Files>(
    files: &F,
    chain: &Chain,
    run: &[Candidate],
    target: &SourcePoint,
) -> Result<Found, FileFault> {
    // From the last one that begins at or before the target in the same file of the source.
    for candidate in run.iter().rev() {
        if let Some(place) = guess(files, chain, candidate, run, target).await? {
            return Ok(Found::At(place));
        }
    }
    let mut follow = Follow::default();
    let mut last = None;
    for candidate in run {
        let file = &chain.files[candidate.file];
        let mut walk = Walk::new(file.len);
        loop {
            let before = walk.at();
            let Ok(event) = advance(files, &file.name, &mut walk).await? else { break };
            let begin = follow.take(&event);
            let is_there = |point: &SourcePoint| {
                point.file == target.file && point.position >= target.position
                    || is_behind(point, target)
            };
            let here = |walk: &Walk, at| {
                walk.format().map(|format| Place {
                    file: candidate.file,
                    at,
                    format: format.clone(),
                })
            };
            if begin.as_ref().is_some_and(is_there)
                && let Some(place) = here(&walk, before)
            {
                return Ok(Found::At(place));
            }
            if let (Some(begin), Body::Begin { length: Some(length), .. }) = (&begin, &event.body) {
                let behind = begin.position + length;
                if begin.file == target.file && behind <= target.position {
                    let to = before.saturating_add(*length);
                    if leap(files, &file.name, &mut walk, to, behind as u32).await? {
                        let next = SourcePoint { file: begin.file.clone(), position: behind };
                        follow.next = Some(next);
                    }
                }
            }
            last = here(&walk, walk.at());
        }
    }
    match (follow.next, last) {
        // All of it is there, and nothing behind it.
        (Some(next), Some(place)) if next == *target => Ok(Found::At(place)),
        (next, _) => Ok(Found::EndEarlier(next)),
    }
}

async fn leap<F: Files>(
    files: &F,
    name: &str,
    walk: &mut Walk,
    to: u64,
    own: u32,
) -> Result<bool, FileFault> {
    loop {
        match walk.leap(to, own) {
            Ok(landed) => return Ok(landed),
            Err(need) => {
                let bytes = files.read(name, need).await;
                walk.feed(need, bytes.map_err(|why| Fault::Read { why }.of(name))?);
            }
        }
    }
}

/// Looks where the target would be if nothing was put in between since the file's first event.
async fn guess<F: Files>(
    files: &F,
    chain: &Chain,
    candidate: &Candidate,
    run: &[Candidate],
    target: &SourcePoint,
) -> Result<Option<Place>, FileFault> {
    // A file without a name of the source's goes on with that of the file before.
    let named = run.first().and_then(|first| first.begin.as_ref());
    let named = candidate.begin.as_ref().or(named);
    if named.is_none_or(|begin| begin.file != target.file) {
        return Ok(None);
    }
    let file = &chain.files[candidate.file];
    let (head, mut walk) = read_head(files, file).await?;
    let first = match advance(files, &file.name, &mut walk).await? {
        Ok(event) if event.header.end != 0 && !event.header.is_own_of_relay() => event,
        Ok(_) | Err(_) => return Ok(None),
    };
    let begin = u64::from(first.header.end.wrapping_sub(first.header.len));
    let Some(at) = target.position.checked_sub(begin).map(|more| first.at + more) else {
        return Ok(None);
    };
    if at > file.len || at > first.at && at < first.end() {
        return Ok(None);
    }
    let place = Place { file: candidate.file, at, format: head.format };
    if at == first.at {
        return Ok(Some(place));
    }
    if at + HEADER > file.len {
        return Ok(None);
    }
    let need = Need { at, len: HEADER as usize };
    let bytes = files.read(&file.name, need).await;
    let bytes = bytes.map_err(|why| Fault::Read { why }.of(&file.name))?;
    let Ok(header) = <[u8; HEADER as usize]>::try_from(&bytes[..]) else { return Ok(None) };
    let header = Header::parse(&header);
    let is_event = u64::from(header.len) >= HEADER && at + u64::from(header.len) <= file.len;
    let fits = header.end.wrapping_sub(header.len) == target.position as u32;
    Ok((is_event && fits && !header.is_own_of_relay()).then_some(place))
}
