//! What a decision may look at: agreed state, fresh observations, ballots, running steps, and the
//! time. Built by `run` (or the simulator) for every tick; never kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{
        Actor, ClusterName, GtidSet, Hearing, ManagerId, Micros, Mono, Observation, ServerFacts,
        ServerName, StepId, StepRecord, Survey, Switchover, Tally, Term, Token,
    },
    ports::Place,
    state::{ClusterState, Command, GroupState},
};

/// An operator's wish to fail over or switch over now, waiting for what it needs to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who.
    pub actor: Actor,
    /// The server asked for.
    pub wanted: Option<ServerName>,
    /// The operator vouches that the old primary is dead.
    pub asserted_dead: bool,
    /// The last-failover interval is waived.
    pub interval_waived: bool,
    /// It is one for a planned switchover; `None`: the primary is dead.
    pub switchover: Option<Switchover>,
}

/// What this manager sees of one cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Newest look at each server.
    pub observations: BTreeMap<ServerName, Observation>,
    /// Whether each server hears the primary, as this manager judges.
    pub hearing: BTreeMap<ServerName, Hearing>,
    /// Ackers that have not restarted since this manager saw them acknowledge and lack nothing.
    pub vouched: BTreeSet<ServerName>,
    /// Why commits on the primary did not wait as agreed when this manager saw it last: then nobody
    /// is vouched for.
    pub unarmed: Option<String>,
    /// Since when each server was not seen to acknowledge the primary's commits.
    pub absent: BTreeMap<ServerName, Mono>,
    /// Since when sessions wait on the primary while nothing is committed.
    pub stuck: Option<Mono>,
    /// The leader's newest tally; ages are as of [`View::now`].
    pub tally: Option<Tally>,
    /// Somebody, this manager or another, reported trouble with the primary, and this long ago the
    /// trouble began; `None`: all is well as far as this manager knows.
    pub doubt: Option<Micros>,
    /// When the leader first asked for ballots in the present doubt.
    pub asked_at: Option<Mono>,
    /// When the leader last asked for ballots.
    pub last_ask: Option<Mono>,
    /// Steps that this leader runs right now, and since when.
    pub running: BTreeMap<StepId, Mono>,
    /// When this manager saw the last run of a step end.
    pub ended: BTreeMap<StepId, Mono>,
    /// When this manager saw the open attempt's record change last, or a step report progress.
    pub progress_at: Mono,
    /// When this manager saw the open attempt being opened; `None`: it was open before.
    pub opened_at: Option<Mono>,
    /// When this manager saw an attempt being undone last.
    pub aborted_at: Option<Mono>,
    /// An operator's wish.
    pub wish: Option<Wish>,
    /// Somebody wants to know who is busy on the primary.
    pub is_survey_wanted: bool,
    /// The newest answer to that, and when it was asked for.
    pub survey: Option<(Mono, Result<Survey, String>)>,
    /// When it was asked for last.
    pub last_survey: Option<Mono>,
    /// The primary was seen writable by this manager, last at this moment.
    pub seen_writable: Option<Mono>,
    /// Which server (by uuid) answers at each address, or why nobody does; missing: not looked.
    pub vips: BTreeMap<String, Result<String, String>>,
    /// Whether this manager is logged in to each server's host, or why not; missing: not tried yet.
    pub logins: BTreeMap<ServerName, Result<(), String>>,
}

/// What one tick looks at.
#[derive(Clone, Debug)]
pub struct View {
    /// This manager.
    pub me: ManagerId,
    /// The term in which this manager leads; `None`: it does not.
    pub term: Option<Term>,
    /// All Raft voters.
    pub voters: BTreeSet<ManagerId>,
    /// The agreed state.
    pub group: Arc<GroupState>,
    /// Now, on this manager's clock.
    pub now: Mono,
    /// When this manager's own loop last stalled, and for how long.
    pub stalled: Option<(Mono, Micros)>,
    /// When this manager began to lead or last saw group time advance, whichever is later.
    pub advanced_at: Mono,
    /// Milliseconds since 1970, for people only.
    pub wall_ms: u64,
    /// What is seen of each cluster.
    pub clusters: BTreeMap<ClusterName, ClusterView>,
}

/// A step to be run now, with all it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOrder {
    /// What is shown to the turnstile and the lock.
    pub token: Token,
    /// The step as recorded.
    pub record: StepRecord,
    /// The server it acts on.
    pub place: Place,
    /// Its identity; `None`: it was never seen.
    pub uuid: Option<String>,
    /// The other servers of the cluster.
    pub others: BTreeMap<ServerName, Place>,
    /// The primary in force.
    pub primary: Option<ServerName>,
    /// Servers that are revoked: nobody may read from them any more.
    pub revoked: BTreeSet<ServerName>,
    /// What the servers that were stopped have received: what a dead server's log is compared with.
    pub known: GtidSet,
    /// Longest time without progress.
    pub deadline: Micros,
    /// When this leader saw the attempt open.
    pub opened_at: Option<Mono>,
    /// It belongs to no attempt: nothing waits for it, and nothing was fenced before it.
    pub is_chore: bool,
}

/// What is to be done; performed by `run`, in one `match`.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Send a fresh nonce to all managers and collect their ballots.
    Ask {
        /// The cluster.
        cluster: ClusterName,
        /// The primary asked about.
        primary: ServerName,
    },
    /// Ask the primary who is busy on it.
    Survey {
        /// Where it is.
        place: Box<Place>,
    },
    /// Commit a command.
    Propose {
        /// The command.
        command: Box<Command>,
    },
    /// Run a step.
    Run {
        /// The step.
        order: Box<StepOrder>,
    },
    /// Tell the log, the status and whoever waits for an operator's wish.
    Say {
        /// The cluster.
        cluster: ClusterName,
        /// One sentence.
        sentence: String,
        /// The wish is answered by this.
        answers_wish: bool,
    },
}

/// How old a look may be and still count as fresh.
pub const FRESH: Micros = Micros(2_500_000);

impl ClusterView {
    /// What is known of a server from a look that began at most `age` ago.
    pub fn facts(&self, server: &ServerName, now: Mono, age: Micros) -> Option<&ServerFacts> {
        let look = self.observations.get(server)?;
        (now.since(look.at) <= age).then_some(look.seen.as_ref().ok()?)
    }

    /// The servers that answered a look that began at most `age` ago.
    pub fn reached(&self, now: Mono, age: Micros) -> BTreeSet<ServerName> {
        let names = self.observations.keys();
        names.filter(|name| self.facts(name, now, age).is_some()).cloned().collect()
    }
}

impl View {
    /// One cluster's agreed state and what is seen of it.
    pub fn cluster(&self, name: &ClusterName) -> Option<(&ClusterState, &ClusterView)> {
        Some((self.group.clusters.get(name)?, self.clusters.get(name)?))
    }
}

/// Where a server is, for the ports.
pub fn place(cluster: &ClusterState, server: &ServerName) -> Option<Place> {
    Some(Place {
        cluster: cluster.definition.name.clone(),
        admin_account: cluster.definition.admin_account.clone(),
        server: cluster.definition.server(server)?.clone(),
    })
}
