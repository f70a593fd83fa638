//! What do clients say, and what becomes of it? Proposals and reads, each answered or not.

use std::collections::BTreeMap;

use conclave_core::model::{Actor, ClusterName};

use super::{
    check::{Known, hash, token},
    flaw::Flaw,
    host::{Answer, Ask, Host},
    violation::Violation,
    world::World,
};
use crate::raft::{
    ProposeError, Reply,
    tests::put,
    types::{Command, State},
};

/// When a dishonest client says something again: when there is a leader, most likely.
const AGAIN_MS: u64 = 1000;

/// A question that was not answered yet.
struct Asked {
    host: u64,
    known: Known,
    command: Option<Box<Command>>,
}

/// All clients.
#[derive(Default)]
pub struct Clients {
    asked: BTreeMap<u64, Asked>,
    /// How many questions there were; the next one's number.
    count: u64,
    /// What is said once more, and when; for [`Flaw::SaysItAgain`].
    again: Vec<(u64, Command)>,
}

impl Clients {
    /// True if nobody waits for an answer.
    pub fn are_idle(&self) -> bool {
        self.asked.is_empty()
    }
}

impl World {
    /// A client says something to a manager that runs.
    pub fn ask(&mut self, id: u64, ask: Ask) {
        if self.hosts[&id].up.is_none() {
            return;
        }
        let number = self.clients.count;
        self.clients.count += 1;
        let command = if let Ask::Propose(command) = &ask { Some(command.clone()) } else { None };
        let asked = Asked { host: id, known: self.record.known(), command };
        self.clients.asked.insert(number, asked);
        self.hosts[&id].ask(number, ask);
    }

    /// Proposes a command to whoever leads.
    pub fn propose(&mut self, command: Command) {
        let id = self.leader().unwrap_or(1);
        self.ask(id, Ask::Propose(Box::new(command)));
    }

    /// What clients do in a millisecond; mostly they turn to one that believes it leads.
    pub fn chatter(&mut self) {
        let due = self.clients.again.extract_if(.., |(at, _)| *at <= self.now);
        for (_, command) in due.collect::<Vec<_>>() {
            self.propose(command);
        }
        if !self.rng.chance(40) {
            return;
        }
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        let id = self.leader().filter(|_| self.rng.chance(800));
        let id = id.unwrap_or_else(|| self.rng.pick(&ids));
        if self.rng.chance(400) {
            let read = self.setup.flaw.read();
            self.ask(id, read);
        } else if let Some(up) = &self.hosts[&id].up {
            let state = up.node.state().borrow().clone();
            let command = self.command(&state);
            self.ask(id, Ask::Propose(Box::new(command)));
        }
    }

    /// A command with a name of its own, made for `state`.
    pub fn command(&mut self, state: &State) -> Command {
        let (name, number) = (format!("c{}", self.clients.count), self.clients.count);
        let cluster = self.rng.pick(&["a", "b", "c", "d"]);
        let held = state.clusters.get(&ClusterName(cluster.to_owned()));
        match (self.rng.between(0, 9), held) {
            (0 | 1, Some(_)) => {
                let cluster = ClusterName(cluster.to_owned());
                Command::Pause { cluster, actor: Actor::Group, reason: name }
            }
            (2 | 3, _) => Command::AdvanceTime { from_ms: state.clock_ms, by_ms: number },
            (_, held) => {
                let mut command = put(cluster, &name);
                if let Command::ApplyDefinition { replaces, .. } = &mut command {
                    *replaces = held.filter(|_| number % 2 == 0).map(|held| held.version);
                }
                command
            }
        }
    }

    /// Looks at the answers that came.
    pub fn hear(&mut self) -> Result<(), Violation> {
        let answers: Vec<_> = self.hosts.values().flat_map(Host::answers).collect();
        for (number, answer) in answers {
            let asked = self.clients.asked.remove(&number).expect("it was asked");
            let kind = match &answer {
                Answer::Proposed(answer) => {
                    let command = asked.command.expect("it was proposed");
                    self.proposed(&command, asked.known, answer)?
                }
                Answer::Read(Ok(seen)) => {
                    self.record.read(asked.known, seen)?;
                    "read"
                }
                Answer::Read(Err(_)) => "not confirmed",
                Answer::HandedOver => "asked to hand over",
            };
            self.count(kind);
            if self.setup.is_told {
                println!("{:6} question {number}: {kind}", self.now);
            }
            self.summary.trace = hash(&(self.summary.trace, self.now, number, kind));
        }
        Ok(())
    }

    fn count(&mut self, kind: &'static str) {
        *self.summary.answers.entry(kind).or_default() += 1;
    }

    fn proposed(
        &mut self,
        command: &Command,
        known: Known,
        answer: &Result<Reply, ProposeError>,
    ) -> Result<&'static str, Violation> {
        match answer {
            Ok(reply) => {
                self.record.answered(&token(command), known, reply)?;
                Ok("answered")
            }
            Err(ProposeError::Unknown { why } | ProposeError::Fatal { why }) => {
                self.unknown(command)?;
                let is_discarded = why.contains("discarded");
                if is_discarded && self.setup.flaw == Flaw::TakesDiscardedForRefused {
                    self.record.refused(&token(command))?;
                }
                Ok("unknown")
            }
            Err(
                ProposeError::NotLeader { .. }
                | ProposeError::NoQuorum
                | ProposeError::TooLarge { .. },
            ) => {
                if self.setup.flaw == Flaw::TakesRefusalForAnswer {
                    self.record.answered(&token(command), known, &Reply::Ok)?;
                }
                self.record.refused(&token(command))?;
                Ok("refused")
            }
        }
    }

    /// A manager stopped: what it was asked is never answered.
    pub fn abandon(&mut self, id: u64) -> Result<(), Violation> {
        let lost = self.clients.asked.extract_if(.., |_, asked| asked.host == id);
        let commands: Vec<_> = lost.filter_map(|(_, asked)| asked.command).collect();
        for command in commands {
            self.count("lost with its manager");
            self.unknown(&command)?;
        }
        Ok(())
    }

    /// A proposal may have been done or not; an honest client leaves it at that.
    fn unknown(&mut self, command: &Command) -> Result<(), Violation> {
        if self.setup.flaw == Flaw::TakesUnknownForRefused {
            self.record.refused(&token(command))?;
        }
        if self.setup.flaw == Flaw::SaysItAgain {
            self.clients.again.push((self.now + AGAIN_MS, command.clone()));
        }
        Ok(())
    }
}
