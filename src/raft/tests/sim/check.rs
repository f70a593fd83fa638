//! Does all that must hold in a simulated run hold at this moment? What was seen up to now.
//!
//! The history is made here: the entry that the first manager applies at an index is *the* entry of
//! that index, and a state of our own is led through all of them. Every manager must then hold,
//! with index i applied, the state that the history has at i.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::Hasher,
    sync::Arc,
};

use openraft::EntryPayload;

use super::{
    host::Seen,
    violation::{Check, Violation, violated},
};
use crate::raft::{
    Leadership, Reply,
    store::{Points, memory::Pages, record},
    types::{Command, Entry, LogId, State},
};

/// What was known when a question was asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    pub index: u64,
    pub term: u64,
}

/// An index of the history.
struct Line {
    term: u64,
    state: u64,
    reply: Option<Reply>,
}

/// A manager as it was last looked at.
#[derive(Default)]
struct Before {
    points: Points,
    applied: Option<LogId>,
    /// Its log: index to term and entry.
    path: BTreeMap<u64, (u64, Arc<Entry>)>,
}

/// All that was seen.
#[derive(Default)]
pub struct Record {
    leaders: BTreeMap<u64, u64>,
    entries: BTreeMap<(u64, u64), u64>,
    hosts: BTreeMap<u64, Before>,
    history: Vec<Line>,
    state: State,
    places: BTreeMap<String, u64>,
    refused: BTreeSet<String>,
    known: Known,
    /// Snapshots that were installed from a leader.
    pub installed: u64,
}

impl Record {
    /// What was answered up to now.
    pub fn known(&self) -> Known {
        self.known
    }

    /// The last index of the history.
    pub fn last(&self) -> Option<u64> {
        (self.history.len() as u64).checked_sub(1)
    }

    /// Highest term with a leader.
    pub fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A manager was restarted: it begins with its snapshot.
    pub fn restarted(&mut self, id: u64) {
        if let Some(before) = self.hosts.get_mut(&id) {
            before.applied = None;
            before.path.clear();
        }
    }

    /// Looks at who leads.
    pub fn leader(&mut self, id: u64, seen: &Leadership, points: &Points) -> Result<(), Violation> {
        let mine = seen.is_me.then_some((seen.term, id));
        let voted = points.vote.filter(|vote| vote.committed);
        let voted = voted.map(|vote| (vote.leader_id.term, vote.leader_id.voted_for));
        for (term, leader) in [mine, voted].into_iter().flatten() {
            let held = *self.leaders.entry(term).or_insert(leader);
            if held != leader {
                let what = format!("in term {term} managers {held} and {leader} led");
                return violated(Check::OneLeader, what);
            }
        }
        Ok(())
    }

    /// Looks at a log and the state; true if something has changed.
    pub fn look(
        &mut self,
        id: u64,
        points: Points,
        pages: impl FnOnce() -> Pages,
        (applied, state): (Option<LogId>, &State),
    ) -> Result<bool, Violation> {
        let before = self.hosts.entry(id).or_default();
        if before.points == points && before.applied == applied {
            return Ok(false);
        }
        let last = before.points.last.map(|last| last.index);
        let is_installed = points.purged.map(|purged| purged.index) > last;
        self.installed += u64::from(is_installed);
        if applied < before.applied {
            let what = format!("manager {id} went from {:?} to {applied:?}", before.applied);
            return violated(Check::OneHistory, what);
        }
        let from = before.applied.map_or(0, |applied| applied.index);
        (before.points, before.applied) = (points, applied);
        self.scan(id, &pages())?;
        let Some(applied) = applied else { return Ok(true) };
        self.extend(id, applied.index)?;
        let path = &mut self.hosts.get_mut(&id).expect("looked at").path;
        path.retain(|index, _| points.purged.is_none_or(|purged| *index > purged.index));
        let terms = path.range(from..=applied.index).map(|(index, (term, _))| (*index, *term));
        for (index, term) in terms.chain([(applied.index, applied.leader_id.term)]) {
            let held = self.history[index as usize].term;
            if held != term {
                let what = format!("manager {id} applied {term}-{index} where {held}-{index} was");
                return violated(Check::OneHistory, what);
            }
        }
        let (held, found) = (self.history[applied.index as usize].state, hash(state));
        if held != found {
            let what = format!("manager {id} holds another state at {applied}");
            return violated(Check::OneState, what);
        }
        Ok(true)
    }

    /// Notes what is new in a log, from its end backwards.
    fn scan(&mut self, id: u64, pages: &Pages) -> Result<(), Violation> {
        let path = &mut self.hosts.get_mut(&id).expect("looked at").path;
        let after = pages.last().map_or(0, |last| last.index + 1);
        path.split_off(&after);
        for (index, entry) in pages.entries.iter().rev() {
            let term = entry.log_id.leader_id.term;
            let held = path.insert(*index, (term, entry.clone()));
            if held.is_some_and(|(held, _)| held == term) {
                break;
            }
            let found = hash(&entry.payload);
            if *self.entries.entry((*index, term)).or_insert(found) != found {
                let what = format!("manager {id} holds another entry {term}-{index}");
                return violated(Check::LogMatching, what);
            }
        }
        Ok(())
    }

    /// Somebody is the first to have applied up to `to`.
    fn extend(&mut self, id: u64, to: u64) -> Result<(), Violation> {
        for index in self.history.len() as u64..=to {
            let path = &self.hosts[&id].path;
            // A snapshot of what nobody was seen to apply.
            let Some((term, entry)) = path.get(&index).cloned() else {
                let what = format!("manager {id} applied up to {to}, but nobody applied {index}");
                return violated(Check::OneHistory, what);
            };
            let reply = match &entry.payload {
                EntryPayload::Normal(command) => {
                    self.place(index, command)?;
                    Some(self.state.apply(index, term, command.clone()))
                }
                EntryPayload::Blank | EntryPayload::Membership(_) => None,
            };
            self.history.push(Line { term, state: hash(&self.state), reply });
        }
        Ok(())
    }

    fn place(&mut self, index: u64, command: &Command) -> Result<(), Violation> {
        let token = token(command);
        if let Some(held) = self.places.insert(token.clone(), index) {
            return violated(Check::AtMostOnce, format!("{token} is entry {held} and {index}"));
        }
        if self.refused.contains(&token) {
            return violated(Check::RefusedNever, format!("{token}, refused, is entry {index}"));
        }
        Ok(())
    }

    /// A proposal was answered.
    pub fn answered(&mut self, token: &str, known: Known, reply: &Reply) -> Result<(), Violation> {
        let Some(index) = self.places.get(token).copied() else {
            return violated(Check::AnsweredStays, format!("{token}, answered, is nowhere"));
        };
        let line = &self.history[index as usize];
        if line.reply.as_ref() != Some(reply) || index <= known.index {
            let found = &line.reply;
            let what = format!(
                "{token} was asked for when {known:?} and answered {reply:?}; it is entry {index}, \
                 {found:?}"
            );
            return violated(Check::AnsweredStays, what);
        }
        let (index, term) = (index.max(self.known.index), line.term.max(self.known.term));
        self.known = Known { index, term };
        Ok(())
    }

    /// A proposal was refused.
    pub fn refused(&mut self, token: &str) -> Result<(), Violation> {
        self.refused.insert(token.to_owned());
        match self.places.get(token) {
            None => Ok(()),
            Some(at) => violated(Check::RefusedNever, format!("{token}, refused, is entry {at}")),
        }
    }

    /// Looks at what a reader found that was told who leads.
    pub fn read(&mut self, known: Known, seen: &Seen) -> Result<(), Violation> {
        let index = seen.applied.map_or(0, |applied| applied.index);
        if seen.term < known.term {
            let what = format!("term {} was confirmed, asked for when {known:?}", seen.term);
            return violated(Check::TermsInOrder, what);
        }
        if index < known.index {
            let what = format!("read at {index}, asked for when {known:?}");
            return violated(Check::FreshRead, what);
        }
        let line = self.history.get(index as usize);
        if line.is_none_or(|line| line.state != hash(&*seen.state)) {
            return violated(Check::OneState, format!("read another state at {index}"));
        }
        let (index, term) = (index.max(self.known.index), seen.term.max(self.known.term));
        self.known = Known { index, term };
        Ok(())
    }
}

/// What names a proposal in the history.
pub fn token(command: &Command) -> String {
    if let Command::ApplyDefinition { definition, .. } = command {
        return definition.admin_account.clone();
    }
    if let Command::Pause { reason, .. } = command {
        return reason.clone();
    }
    if let Command::AdvanceTime { by_ms, .. } = command {
        return format!("c{by_ms}");
    }
    panic!("no client proposes {command}")
}

/// The same for the same value, in every run.
pub fn hash(value: &impl serde::Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&record::json(value));
    hasher.finish()
}
