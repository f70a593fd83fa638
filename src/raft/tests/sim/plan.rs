//! What goes wrong, and when? Faults drawn from the seed, each with its end.

use super::{
    host::DISK_MS,
    net::{Direction, FAIR, Weather},
    runtime::Rng,
};

/// Something that goes wrong, or that is put right again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Links become as told.
    Weather(&'static str, Vec<Direction>, Weather),
    /// All streams between two hosts are reset.
    Reset(u64, u64),
    /// A manager is killed; its host's kernel keeps what was written, and ends its streams.
    Kill(u64),
    /// A host loses its power: what is not durable is gone, and nobody is told.
    PowerCut(u64),
    /// It is started again.
    Start(u64),
    /// A manager is stopped as by SIGSTOP.
    Pause(u64),
    /// It goes on.
    Continue(u64),
    /// A write takes up to so many ms to be durable.
    Disk(u64, u64),
    /// The leader is asked to hand over to a manager.
    HandOver(u64),
}

impl Fault {
    /// Its kind, for the tally; `None`: it puts something right.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Weather(_, _, FAIR)
            | Self::Start(_)
            | Self::Continue(_)
            | Self::Disk(_, DISK_MS) => None,
            Self::Weather(kind, _, _) => Some(kind),
            Self::Reset(..) => Some("reset"),
            Self::Kill(_) => Some("kill"),
            Self::PowerCut(_) => Some("power cut"),
            Self::Pause(_) => Some("pause"),
            Self::Disk(..) => Some("slow disk"),
            Self::HandOver(_) => Some("hand over"),
        }
    }
}

/// Something at its time.
pub type Event = (u64, Fault);

/// A link that lets nothing through.
pub const CUT: Weather = Weather { is_cut: true, ..FAIR };

/// The next fault with its end, for hosts `ids` of which `leader` leads.
pub fn draw(rng: &mut Rng, now: u64, ids: &[u64], leader: Option<u64>) -> Vec<Event> {
    let one = leader.filter(|_| rng.chance(500)).unwrap_or_else(|| rng.pick(ids));
    let others: Vec<u64> = ids.iter().copied().filter(|id| *id != one).collect();
    let other = rng.pick(&others);
    let outward: Vec<Direction> = others.iter().map(|to| (one, *to)).collect();
    let inward: Vec<Direction> = others.iter().map(|from| (*from, one)).collect();
    let both = [outward.clone(), inward.clone()].concat();
    let end = now + rng.between(100, 2500);
    let weather = |kind, links: Vec<Direction>, weather| {
        let heal = Fault::Weather(kind, links.clone(), FAIR);
        vec![(now, Fault::Weather(kind, links, weather)), (end, heal)]
    };
    let slow = Weather { delay_ms: rng.between(20, 200), ..FAIR };
    let lossy = Weather { lost: rng.between(50, 400), ..FAIR };
    match rng.between(0, 15) {
        0 => weather("cut one way", vec![(one, other)], CUT),
        1 => weather("cut both ways", vec![(one, other), (other, one)], CUT),
        2 => weather("deaf", inward, CUT),
        3 => weather("mute", outward, CUT),
        4 => weather("isolated", both, CUT),
        5 => weather("split", halves(rng, ids), CUT),
        6 => weather("slow", both, slow),
        7 => weather("lossy", both, lossy),
        8 => vec![(now, Fault::Reset(one, other))],
        9 | 10 => vec![(now, Fault::Kill(one)), (end, Fault::Start(one))],
        11 => vec![(now, Fault::PowerCut(one)), (end, Fault::Start(one))],
        12 => everybody(rng, now, ids),
        13 => vec![(now, Fault::Pause(one)), (end, Fault::Continue(one))],
        14 => vec![(now, Fault::Disk(one, rng.between(50, 400))), (end, Fault::Disk(one, DISK_MS))],
        // Away for so long that the others have forgotten what it lacks; or an operator.
        _ if rng.chance(700) => {
            vec![(now, Fault::Kill(other)), (now + rng.between(3000, 5000), Fault::Start(other))]
        }
        _ => vec![(now, Fault::HandOver(other))],
    }
}

/// The power of all hosts goes; each comes back in its own time.
fn everybody(rng: &mut Rng, now: u64, ids: &[u64]) -> Vec<Event> {
    let back = ids.iter().map(|id| (now + rng.between(1, 600), Fault::Start(*id)));
    ids.iter().map(|id| (now, Fault::PowerCut(*id))).chain(back).collect()
}

/// The links between two parts of the hosts.
fn halves(rng: &mut Rng, ids: &[u64]) -> Vec<Direction> {
    let left: Vec<u64> = ids.iter().copied().filter(|_| rng.chance(500)).collect();
    let is_across = |(a, b): &Direction| left.contains(a) != left.contains(b);
    let pairs = ids.iter().flat_map(|a| ids.iter().map(|b| (*a, *b)));
    pairs.filter(is_across).collect()
}
