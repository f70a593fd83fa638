//! Would the checks notice? What is planted here is wrong, and each check must find its share.

use std::sync::Arc;

use super::{
    Setup,
    host::Ask,
    net::{FAIR, Weather},
    plan::{CUT, Fault},
    run,
    violation::{Check, Violation},
    world::{COMPACTION, World},
};
use crate::raft::{
    machine::Shelf,
    store::{
        Ledger,
        memory::{MemoryStore, Pages},
    },
    types::{State, Vote},
};

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// All is as it should be.
    None,
    /// A store forgets its vote when its manager stops.
    ForgetsVote,
    /// A store loses its last entry when its manager stops.
    DropsTail,
    /// A store changes its last entry when its manager stops.
    ChangesTail,
    /// Manager 1 finds another state in its snapshot than it put there.
    ChangesSnapshot,
    /// Clients read from whoever believes it leads.
    ReadsBlindly,
    /// Clients read from whoever leads by its lease.
    ReadsByLease,
    /// Clients read from whomever they reach.
    ReadsAnywhere,
    /// Clients take a refusal for an answer.
    TakesRefusalForAnswer,
    /// Clients take an unknown outcome for a refusal.
    TakesUnknownForRefused,
    /// Clients take an entry that was discarded for a refusal.
    TakesDiscardedForRefused,
    /// Clients say again what ended unknown.
    SaysItAgain,
    /// The links of manager 1 do not heal.
    LeavesOneOut,
    /// No snapshot is ever made.
    NeverCompacts,
}

impl Flaw {
    /// Does to a stopped manager's memory what the fault does.
    pub fn spoil(self, id: u64, pages: &mut Pages, shelf: &Shelf) {
        match self {
            Self::ForgetsVote if pages.vote.is_none() => {}
            Self::ForgetsVote => {
                // That of its last entry is known from there.
                let term = pages.last().map_or(0, |last| last.leader_id.term);
                pages.vote = Some(Vote::new(term, id));
            }
            Self::DropsTail => {
                pages.entries.pop_last();
                pages.committed = None;
            }
            Self::ChangesTail => {
                if let Some(mut last) = pages.entries.last_entry() {
                    Arc::make_mut(last.get_mut()).payload = openraft::EntryPayload::Blank;
                }
            }
            Self::ChangesSnapshot if id == 1 => change(shelf),
            Self::ChangesSnapshot
            | Self::None
            | Self::ReadsBlindly
            | Self::ReadsByLease
            | Self::ReadsAnywhere
            | Self::TakesRefusalForAnswer
            | Self::TakesUnknownForRefused
            | Self::TakesDiscardedForRefused
            | Self::SaysItAgain
            | Self::LeavesOneOut
            | Self::NeverCompacts => {}
        }
    }
}

impl Flaw {
    /// How clients read.
    pub fn read(self) -> Ask {
        match self {
            Self::ReadsBlindly => Ask::ReadBlindly,
            Self::ReadsByLease => Ask::ReadByLease,
            Self::ReadsAnywhere => Ask::ReadAnywhere,
            Self::None
            | Self::ForgetsVote
            | Self::DropsTail
            | Self::ChangesTail
            | Self::ChangesSnapshot
            | Self::TakesRefusalForAnswer
            | Self::TakesUnknownForRefused
            | Self::TakesDiscardedForRefused
            | Self::SaysItAgain
            | Self::LeavesOneOut
            | Self::NeverCompacts => Ask::Read,
        }
    }
}

fn change(shelf: &Shelf) {
    let Shelf::Memory(held) = shelf else { panic!("the simulation has no files") };
    if let Some(snapshot) = &mut *held.lock().expect("no panic while held") {
        let mut state: State = serde_json::from_slice(&snapshot.snapshot).expect("a state");
        state.clock_ms += 1;
        snapshot.snapshot = serde_json::to_vec(&state).expect("it is JSON");
    }
}

/// Plays seeds until `check` finds the fault; fails after `seeds` of them. Others may find it, too.
fn is_found(flaw: Flaw, seeds: u64, check: Check) {
    for seed in 0..seeds {
        let setup = Setup { flaw, trouble_ms: 6_000, ..Setup::new(seed, 3) };
        if let Err(violation) = run(&setup) {
            println!("{flaw:?}: seed {seed}: {violation}");
            if violation.check == check {
                return;
            }
        }
    }
    panic!("{check:?} did not find {flaw:?} with {seeds} seeds");
}

/// Managers 2 and 3 do not reach each other, and nobody leads. Manager 1 is killed when it has voted
/// for one of them, and then reaches the other one only.
fn courted(flaw: Flaw) -> Result<(), Violation> {
    let mut world = World::formed(&Setup { flaw, ..Setup::new(1, 3) })?;
    for _ in 0..10 {
        world.heal()?;
        world.converge()?;
        while world.leader().is_none_or(|leader| leader == 1) {
            world.strike(&Fault::HandOver(2))?;
            steps(&mut world, 1000)?;
        }
        let second = world.leader().expect("just seen");
        let first = 5 - second;
        world.strike(&Fault::Kill(1))?;
        world.strike(&Fault::Kill(second))?;
        link(&mut world, second, first, CUT)?;
        link(&mut world, second, 1, CUT)?;
        steps(&mut world, 500)?;
        // It votes long before it hears more.
        let slow = Weather { delay_ms: 60, ..FAIR };
        world.strike(&Fault::Weather("slow", vec![(first, 1)], slow))?;
        world.strike(&Fault::Start(1))?;
        let is_for_first = |world: &World| {
            let vote = world.hosts[&1].log.points().vote;
            vote.is_some_and(|vote| !vote.committed && vote.leader_id.voted_for == first)
        };
        let end = world.now + 2000;
        while world.now < end && !is_for_first(&world) {
            world.step()?;
        }
        // What it answered is on its way.
        steps(&mut world, 6)?;
        world.strike(&Fault::Kill(1))?;
        steps(&mut world, 20)?;
        link(&mut world, first, 1, CUT)?;
        link(&mut world, second, 1, FAIR)?;
        world.strike(&Fault::Start(second))?;
        world.strike(&Fault::Start(1))?;
        steps(&mut world, 1000)?;
    }
    Ok(())
}

/// Sets the weather between two managers.
fn link(world: &mut World, a: u64, b: u64, weather: Weather) -> Result<(), Violation> {
    world.strike(&Fault::Weather("cut both ways", vec![(a, b), (b, a)], weather))
}

fn steps(world: &mut World, count: u64) -> Result<(), Violation> {
    (0..count).try_for_each(|_| world.step())
}

#[test]
fn a_store_that_forgets_its_vote_elects_two_leaders_in_a_term() {
    courted(Flaw::None).expect("a store that keeps it does not");
    let found = courted(Flaw::ForgetsVote).expect_err("two leaders");
    assert_eq!(found.check, Check::OneLeader, "{found}");
}

#[test]
fn a_manager_that_stops_by_itself_is_found() {
    let mut world = World::formed(&Setup::new(1, 3)).expect("formed");
    let away = if world.leader() == Some(3) { 2 } else { 3 };
    let old = world.hosts[&away].log.durable();
    talk(&mut world, 10).expect("no violation");
    world.strike(&Fault::Kill(away)).expect("no violation");
    // Rolled back: the leader remembers what it acknowledged.
    world.hosts.get_mut(&away).expect("it is there").log = MemoryStore::on_disk(old);
    world.strike(&Fault::Start(away)).expect("no violation");
    let found = talk(&mut world, 100).expect_err("it stops");
    assert_eq!(found.check, Check::KeepsRunning, "{found}");
    assert!(found.what.contains("its data was rolled back"), "{found}");
}

/// Clients go on until the history has so many more entries.
fn talk(world: &mut World, entries: u64) -> Result<(), Violation> {
    let wanted = world.record.last().unwrap_or(0) + entries;
    while world.record.last() < Some(wanted) {
        world.chatter();
        world.step()?;
    }
    Ok(())
}

#[test]
fn a_store_that_drops_its_last_entry_is_found() {
    is_found(Flaw::DropsTail, 20, Check::OneHistory);
}

#[test]
fn a_store_that_changes_an_entry_is_found() {
    is_found(Flaw::ChangesTail, 20, Check::LogMatching);
}

#[test]
fn a_snapshot_of_another_state_is_found() {
    is_found(Flaw::ChangesSnapshot, 20, Check::OneState);
}

#[test]
fn a_read_from_a_leader_that_nobody_confirmed_is_found() {
    is_found(Flaw::ReadsBlindly, 20, Check::TermsInOrder);
}

#[test]
fn a_read_from_a_follower_is_found() {
    is_found(Flaw::ReadsAnywhere, 20, Check::FreshRead);
}

#[test]
fn a_refusal_taken_for_an_answer_is_found() {
    is_found(Flaw::TakesRefusalForAnswer, 20, Check::AnsweredStays);
}

#[test]
fn an_unknown_outcome_taken_for_a_refusal_is_found() {
    is_found(Flaw::TakesUnknownForRefused, 20, Check::RefusedNever);
}

#[test]
fn a_proposal_said_again_after_an_unknown_outcome_is_found() {
    let found = urged(Flaw::SaysItAgain).expect_err("said twice, done twice");
    assert_eq!(found.check, Check::AtMostOnce, "{found}");
}

/// Leaders are killed just after something was proposed to them.
fn urged(flaw: Flaw) -> Result<(), Violation> {
    let mut world = World::formed(&Setup { flaw, ..Setup::new(1, 3) })?;
    for _ in 0..20 {
        let leader = world.leader().expect("it was waited for");
        let command = world.command(&State::default());
        world.propose(command);
        let wait = world.rng.between(3, 7);
        steps(&mut world, wait)?;
        world.strike(&Fault::Kill(leader))?;
        talk(&mut world, 20)?;
        world.strike(&Fault::Start(leader))?;
        world.heal()?;
        world.converge()?;
    }
    Ok(())
}

#[test]
fn an_entry_that_its_leader_discarded_and_others_kept_was_not_refused() {
    discarded(Flaw::None).expect("its outcome is unknown");
    let found = discarded(Flaw::TakesDiscardedForRefused).expect_err("it was done");
    assert_eq!(found.check, Check::RefusedNever, "{found}");
}

/// A leader is cut off when it has told the others of a proposal. They agree on it and forget it,
/// and it gets their snapshot before it has given up.
fn discarded(flaw: Flaw) -> Result<(), Violation> {
    let mut world = World::formed(&Setup { flaw, ..Setup::new(1, 3) })?;
    for _ in 0..5 {
        let first = world.leader().expect("it was waited for");
        let command = world.command(&State::default());
        world.propose(command);
        steps(&mut world, 1)?;
        let others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
        let answers: Vec<_> = others.iter().map(|id| (*id, first)).collect();
        world.strike(&Fault::Weather("deaf", answers, CUT))?;
        steps(&mut world, 10)?;
        others.iter().try_for_each(|id| link(&mut world, first, *id, CUT))?;
        while world.leader() == Some(first) {
            world.step()?;
        }
        let wanted = world.record.last().unwrap_or(0) + 2 * COMPACTION.snapshot_after;
        while world.record.last() < Some(wanted) {
            let command = world.command(&State::default());
            world.propose(command);
            world.step()?;
        }
        world.heal()?;
        world.converge()?;
    }
    Ok(())
}

/// The leader is cut off, and the others are started anew at once: they know of no lease.
fn leased(flaw: Flaw) -> Result<(), Violation> {
    let mut world = World::formed(&Setup { flaw, ..Setup::new(1, 3) })?;
    for _ in 0..10 {
        let first = world.leader().expect("it was waited for");
        for id in (1..=3).filter(|id| *id != first) {
            link(&mut world, first, id, CUT)?;
            world.strike(&Fault::Kill(id))?;
            world.strike(&Fault::Start(id))?;
        }
        for _ in 0..400 {
            let read = flaw.read();
            world.ask(first, read);
            let command = world.command(&State::default());
            if world.leader() != Some(first) {
                world.propose(command);
            }
            world.step()?;
        }
        world.heal()?;
        world.converge()?;
    }
    Ok(())
}

#[test]
fn a_read_by_the_lease_of_a_leader_that_was_replaced_is_found() {
    leased(Flaw::None).expect("a leader that is replaced is not confirmed");
    let found = leased(Flaw::ReadsByLease).expect_err("a read of the past");
    assert_eq!(found.check, Check::TermsInOrder, "{found}");
}

#[test]
fn a_manager_that_stays_cut_off_is_found() {
    is_found(Flaw::LeavesOneOut, 20, Check::Converges);
}

#[test]
fn a_log_that_is_never_compacted_is_found() {
    let mut world = World::formed(&Setup { flaw: Flaw::NeverCompacts, ..Setup::new(1, 3) });
    let world = world.as_mut().expect("formed");
    talk(world, 150).expect("no violation");
    let found = world.converge().expect_err("too much is kept");
    assert_eq!(found.check, Check::Compacted, "{found}");
}
