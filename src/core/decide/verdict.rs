//! Is the primary dead? Two keys: a majority of all voters says Down to a fresh nonce, and no
//! reached replica hears it (SAFETY invariant 3). Silent voters count against.

use std::collections::BTreeMap;

use crate::model::{Answer, Epoch, Hearing, Micros, Policy, ServerName, Tally};

/// The count, with what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it comes to.
    pub outcome: Outcome,
    /// Fresh ballots that say Down.
    pub down: usize,
    /// Fresh ballots that say Up.
    pub up: usize,
    /// A majority of all voters.
    pub needed: usize,
    /// All voters.
    pub voters: usize,
    /// Servers that hear the primary, by any fresh ballot.
    pub heard_by: Vec<ServerName>,
    /// Servers that were reached and do not hear it.
    pub unheard_by: Vec<ServerName>,
}

/// What a count comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both keys turned.
    Down,
    /// A majority says Down, but a replica hears it.
    Unreachable,
    /// A majority says Down, but no replica was reached.
    Unconfirmed,
    /// Not enough voters say Down.
    NotDown,
}

/// Counts the ballots of a tally that are young enough and belong to this epoch.
pub fn count(tally: &Tally, epoch: Epoch, policy: &Policy) -> Verdict {
    let limit = Micros::from(policy.ballot_age_ms);
    let is_counted = |id| tally.voters.contains(id);
    let fresh: Vec<_> = tally
        .ballots
        .iter()
        .filter(|(id, counted)| is_counted(id) && counted.age <= limit && tally.epoch == epoch)
        .map(|(_, counted)| &counted.ballot)
        .collect();
    let says = |answer| fresh.iter().filter(|ballot| ballot.answer == answer).count();
    let (down, up) = (says(Answer::Down), says(Answer::Up));
    let voters = tally.voters.len();
    let needed = voters / 2 + 1;
    let mut heard: BTreeMap<&ServerName, bool> = BTreeMap::new();
    for (server, hearing) in fresh.iter().flat_map(|ballot| &ballot.hearing) {
        match hearing {
            Hearing::Hears { .. } => {
                heard.insert(server, true);
            }
            Hearing::Silent { .. } | Hearing::Disconnected | Hearing::NotListening => {
                heard.entry(server).or_insert(false);
            }
            Hearing::Unknown => {}
        }
    }
    let with = |wanted: bool| {
        let of = heard.iter().filter(move |(_, hears)| **hears == wanted);
        of.map(|(server, _)| (*server).clone()).collect::<Vec<_>>()
    };
    let (heard_by, unheard_by) = (with(true), with(false));
    let outcome = match (voters > 0 && down >= needed, heard_by.is_empty(), unheard_by.is_empty()) {
        (false, _, _) => Outcome::NotDown,
        (true, false, _) => Outcome::Unreachable,
        (true, true, true) => Outcome::Unconfirmed,
        (true, true, false) => Outcome::Down,
    };
    Verdict { outcome, down, up, needed, voters, heard_by, unheard_by }
}
