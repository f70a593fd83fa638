//! The order of lock, commit and act on one server (SAFETY invariant 6).
//!
//! Two leaders run the same step, the second one from any moment on; the first one never learns
//! that it was deposed but by what it tries. A commit succeeds only for the newest term; taking the
//! lock ends the session of whoever holds it, unless that one is newer.

use stateright::{Model, Property};

/// What a leader does on a server, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Takes the lock; ends an older holder's session.
    Lock,
    /// Commits the beginning.
    Commit,
    /// Acts over the session that holds the lock.
    Act,
}

/// The order in use.
#[derive(Clone, Copy, Debug)]
pub struct Order(pub [Phase; 3]);

/// One leader; its place is its term.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Phases done.
    pub done: usize,
    /// It gave up: the log or the lock refused it.
    pub is_refused: bool,
}

/// Both leaders and the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The newest term, 0 or 1.
    pub term: usize,
    /// The leaders.
    pub leaders: [Leader; 2],
    /// Whose session holds the lock.
    pub holder: Option<usize>,
    /// The newest leader that has acted.
    pub acted: Option<usize>,
    /// An older leader acted after a newer one.
    pub is_stale: bool,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The second leader is elected.
    Elect,
    /// A leader goes on.
    Go(usize),
}

impl Model for Order {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Event>) {
        actions.extend([Event::Elect, Event::Go(0), Event::Go(1)]);
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut state = last.clone();
        match event {
            Event::Elect if state.term == 0 => state.term = 1,
            Event::Elect => return None,
            Event::Go(term) => self.go(&mut state, term)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing stale takes effect", |_, state: &State| !state.is_stale),
            Property::sometimes("the second leader acts", |_, state: &State| {
                state.acted == Some(1)
            }),
        ]
    }
}

impl Order {
    fn go(&self, state: &mut State, term: usize) -> Option<()> {
        let leader = &state.leaders[term];
        let phase = *self.0.get(leader.done).filter(|_| term <= state.term)?;
        if leader.is_refused {
            return None;
        }
        let is_let = match phase {
            Phase::Lock => state.holder.is_none_or(|holder| holder <= term),
            Phase::Commit => term == state.term,
            Phase::Act => state.holder == Some(term),
        };
        state.leaders[term].is_refused = !is_let;
        if is_let {
            state.leaders[term].done += 1;
            match phase {
                Phase::Lock => state.holder = Some(term),
                Phase::Commit => {}
                Phase::Act => {
                    state.is_stale |= state.acted > Some(term);
                    state.acted = state.acted.max(Some(term));
                }
            }
        }
        // Whoever is through, or refused, closes its session; its lock is free.
        let is_over = !is_let || state.leaders[term].done == self.0.len();
        if is_over && state.holder == Some(term) {
            state.holder = None;
        }
        Some(())
    }
}
