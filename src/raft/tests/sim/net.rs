//! What happens to bytes between hosts? Streams over simulated links, under the real tonic.
//!
//! A link is a direction between two hosts. As with TCP nothing is reordered within a stream, and
//! what a link does not let through is sent again later: a lost packet is a late one, and all that
//! follows it waits. A stream ends when its host says so, or is broken by a reset.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{runtime::Rng, stream::Stream};

/// How long TCP waits before it sends again, in ms.
const AGAIN_MS: u64 = 200;

/// A direction between two hosts: from, to.
pub type Direction = (u64, u64);

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Nothing gets through.
    pub is_cut: bool,
    /// The longest delay, in ms; the shortest is 1.
    pub delay_ms: u64,
    /// Packets lost, of a thousand.
    pub lost: u64,
}

/// A link that is well.
pub const FAIR: Weather = Weather { is_cut: false, delay_ms: 3, lost: 0 };

/// All links, and the streams over them. Cheap to clone.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

pub struct Inner {
    now: u64,
    links: BTreeMap<Direction, Link>,
    seed: u64,
    listeners: BTreeMap<u64, mpsc::UnboundedSender<Stream>>,
    /// Hosts without power: nothing ends their streams.
    pub dark: Vec<u64>,
    pub pipes: BTreeMap<u64, Pipe>,
    next: u64,
}

/// What it does at a moment is drawn from the seed and the moment, not from a sequence: a frame more
/// or less does not change what happens to all that follow.
struct Link {
    weather: Weather,
    seed: u64,
}

impl Link {
    fn at(&self, now: u64) -> Rng {
        Rng::new(self.seed ^ now.wrapping_mul(0xd134_2543_de82_ef95))
    }
}

/// One half of a connection. The other one has the number `id ^ 1`.
pub struct Pipe {
    direction: Direction,
    /// When it arrives; `None`: the end.
    flying: VecDeque<(u64, Option<Vec<u8>>)>,
    pub arrived: VecDeque<u8>,
    pub has_ended: bool,
    pub is_broken: bool,
    pub reader: Option<Waker>,
    /// Ends that are in use: reader and writer.
    users: u8,
}

impl Inner {
    fn link(&mut self, direction: Direction) -> &mut Link {
        let seed = Rng::new(self.seed ^ (direction.0 << 32) ^ direction.1).next();
        self.links.entry(direction).or_insert(Link { weather: FAIR, seed })
    }

    /// When what is sent now arrives, if the link is not cut.
    fn arrival(&mut self, direction: Direction) -> u64 {
        let now = self.now;
        let link = self.link(direction);
        let mut rng = link.at(now);
        let mut due = now + rng.between(1, link.weather.delay_ms);
        if rng.chance(link.weather.lost) {
            due += AGAIN_MS;
        }
        due
    }

    /// Sends on a pipe; `None`: nothing more comes.
    pub fn send(&mut self, id: u64, bytes: Option<Vec<u8>>) {
        let Some(direction) = self.pipes.get(&id).map(|pipe| pipe.direction) else { return };
        let due = self.arrival(direction);
        let pipe = self.pipes.get_mut(&id).expect("it is there");
        let due = pipe.flying.back().map_or(due, |(last, _)| due.max(*last));
        pipe.flying.push_back((due, bytes));
    }

    fn wake(&mut self, id: u64) {
        if let Some(waker) = self.pipes.get_mut(&id).and_then(|pipe| pipe.reader.take()) {
            waker.wake();
        }
    }

    /// One end of a pipe is given up.
    pub fn leave(&mut self, id: u64) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.users -= 1;
        if pipe.users == 0 {
            self.pipes.remove(&id);
        }
    }

    fn shatter(&mut self, is_hit: impl Fn(Direction) -> bool) {
        let hit: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| is_hit(pipe.direction))
            .map(|(id, _)| *id)
            .collect();
        for id in hit {
            let pipe = self.pipes.get_mut(&id).expect("it is there");
            pipe.is_broken = true;
            pipe.flying.clear();
            self.wake(id);
        }
    }
}

impl Net {
    pub fn new(seed: u64) -> Self {
        let (links, listeners, pipes) = Default::default();
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            links,
            seed,
            listeners,
            dark: vec![],
            pipes,
            next: 0,
        })))
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic while held")
    }

    /// Time goes on: what is due arrives.
    pub fn advance(&self, now: u64) {
        let mut inner = self.inner();
        inner.now = now;
        let ids: Vec<u64> = inner.pipes.keys().copied().collect();
        for id in ids {
            let direction = inner.pipes[&id].direction;
            if inner.link(direction).weather.is_cut {
                continue;
            }
            let pipe = inner.pipes.get_mut(&id).expect("it is there");
            let mut is_new = false;
            while pipe.flying.front().is_some_and(|(due, _)| *due <= now) {
                let (_, bytes) = pipe.flying.pop_front().expect("it is there");
                is_new = true;
                match bytes {
                    Some(bytes) => pipe.arrived.extend(bytes),
                    None => pipe.has_ended = true,
                }
            }
            if is_new {
                inner.wake(id);
            }
        }
    }

    /// Changes a link. What waited for it to heal is sent again, not at once.
    pub fn set(&self, direction: Direction, weather: Weather) {
        let mut inner = self.inner();
        let now = inner.now;
        let link = inner.link(direction);
        let heals = link.weather.is_cut && !weather.is_cut;
        link.weather = weather;
        let again = now + link.at(now).between(1, AGAIN_MS);
        for pipe in inner.pipes.values_mut().filter(|pipe| heals && pipe.direction == direction) {
            for (due, _) in &mut pipe.flying {
                *due = again.max(*due);
            }
        }
    }

    /// Breaks all streams between two hosts.
    pub fn reset(&self, a: u64, b: u64) {
        self.inner().shatter(|direction| direction == (a, b) || direction == (b, a));
    }

    /// The host is there: what was connected to an earlier life of it is broken.
    pub fn listen(&self, host: u64) -> mpsc::UnboundedReceiver<Stream> {
        let (told, heard) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        inner.dark.retain(|dark| *dark != host);
        inner.shatter(|(from, to)| from == host || to == host);
        inner.listeners.insert(host, told);
        heard
    }

    /// The host is about to stop: its kernel ends its streams, unless the power goes.
    pub fn stop(&self, host: u64, is_dark: bool) {
        let mut inner = self.inner();
        inner.listeners.remove(&host);
        if is_dark {
            inner.dark.push(host);
        }
    }

    /// Connects two hosts, when the links between them let it.
    pub async fn connect(self, from: u64, to: u64) -> io::Result<Stream> {
        loop {
            let wait = {
                let mut inner = self.inner();
                let now = inner.now;
                inner.arrival((from, to)) + inner.arrival((to, from)) - 2 * now
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if let Some(result) = self.try_connect(from, to) {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }

    /// `None`: nobody answers.
    fn try_connect(&self, from: u64, to: u64) -> Option<io::Result<Stream>> {
        let mut inner = self.inner();
        let is_cut = inner.link((from, to)).weather.is_cut || inner.link((to, from)).weather.is_cut;
        if is_cut || inner.dark.contains(&to) {
            return None;
        }
        let Some(listener) = inner.listeners.get(&to).cloned() else {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        let id = inner.next;
        inner.next += 2;
        for (id, direction) in [(id, (from, to)), (id ^ 1, (to, from))] {
            let (flying, arrived) = Default::default();
            let (has_ended, is_broken, reader) = (false, false, None);
            let pipe = Pipe { direction, flying, arrived, has_ended, is_broken, reader, users: 2 };
            inner.pipes.insert(id, pipe);
        }
        drop(inner);
        let end = |me, writes| Stream::new(self.clone(), me, writes);
        // Nobody accepts it any more: dropped, it ends, which the other side notices.
        let _ = listener.send(end(to, id ^ 1));
        Some(Ok(end(from, id)))
    }
}
