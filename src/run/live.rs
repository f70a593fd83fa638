//! What this manager sees right now: pings, looks, ballots, running steps. One value behind one
//! lock that is never held across an await; decisions get a copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use conclave_core::{
    decide::{
        ClusterView, StepOrder, View, Wish,
        ackers::Attendance,
        hear::Tracker,
        suspect::{Ping, PingHistory},
        upkeep,
        vouch::Vouches,
    },
    model::{
        Answer, Attempt, Ballot, ClusterDefinition, ClusterName, CountedBallot, Evidence, GtidSet,
        Hearing, ManagerId, Micros, Mono, Nonce, Observation, Outcome, ServerName, StepId,
        StepOutcome, Survey, Tally, Term,
    },
    state::{ClusterState, GroupState},
};
use tokio::sync::{Notify, mpsc, watch};

/// How long a report of trouble by another manager keeps the leader asking.
const NUDGE: Micros = Micros(500_000);

/// Shortest pause between two alarms for one cluster.
const ALARM: Micros = Micros(250_000);

/// How often the pulse beats; a gap between two beats is a stall of our own loop.
pub const PULSE: Micros = Micros(25_000);

/// A stall that voids what was seen, as long as no cluster is known. The strictest policy counts
/// for all of them.
const STALL: Micros = Micros(250_000);

/// How many ended steps are remembered per cluster; older ones have been planned anew.
const ENDED: usize = 256;

/// Shared by all loops of one manager.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Mutex<Inner>>,
    /// Wakes the decision loop.
    pub wake: Arc<Notify>,
}

struct Inner {
    me: ManagerId,
    beat: Mono,
    stalled: Option<(Mono, Micros)>,
    /// The least `stall_ms` of all policies.
    patience: Micros,
    nonce: u64,
    clusters: BTreeMap<ClusterName, Seen>,
}

/// What is seen of one cluster.
struct Seen {
    view: ClusterView,
    /// Pings of the primary of that name.
    pings: Option<(ServerName, PingHistory)>,
    trackers: BTreeMap<ServerName, Tracker>,
    vouches: Vouches,
    attendance: Attendance,
    /// Asked and not too old: when each nonce was sent.
    tally: Option<Tally>,
    counted: BTreeMap<ManagerId, (Ballot, Mono)>,
    /// Trouble reported by others: when, and since when.
    nudged: Option<(Mono, Mono)>,
    /// Counts the beginnings of trouble: probes that wait for their time go at once.
    alarm: watch::Sender<u64>,
    alarmed_at: Option<Mono>,
    /// Who waits for the answer to the wish in the view.
    wisher: Option<mpsc::UnboundedSender<String>>,
    /// Steps that have acted and only wait for their end to be agreed.
    acted: BTreeSet<StepId>,
    /// What a primary had executed when that step had closed it for writes.
    closed: Option<(StepId, GtidSet)>,
    /// Epoch, progress and openness of the agreed record when last seen.
    record: Option<(u64, usize, bool)>,
}

impl Seen {
    fn new(now: Mono) -> Self {
        Self {
            view: ClusterView { progress_at: now, ..ClusterView::default() },
            pings: None,
            trackers: BTreeMap::new(),
            vouches: Vouches::default(),
            attendance: Attendance::default(),
            tally: None,
            counted: BTreeMap::new(),
            nudged: None,
            alarm: watch::Sender::new(0),
            alarmed_at: None,
            wisher: None,
            acted: BTreeSet::new(),
            closed: None,
            record: None,
        }
    }

    /// Sends the probes out now, unless they were sent a moment ago.
    fn raise_alarm(&mut self, now: Mono) {
        if self.alarmed_at.is_none_or(|at| now.since(at) >= ALARM) {
            self.alarmed_at = Some(now);
            self.alarm.send_modify(|count| *count += 1);
        }
    }

    /// When the present trouble with the primary began, by this manager or by a fresh report.
    fn trouble(&self, now: Mono) -> Option<Mono> {
        let mine = self.pings.as_ref().and_then(|(_, pings)| pings.trouble());
        let told = self.nudged.filter(|(at, _)| now.since(*at) < NUDGE).map(|(_, since)| since);
        match (mine, told) {
            (Some(mine), Some(told)) => Some(mine.min(told)),
            (mine, told) => mine.or(told),
        }
    }
}

/// A question to send, made by [`Live::question`].
#[derive(Clone, Debug)]
pub struct Question {
    /// The cluster.
    pub cluster: ClusterName,
    /// The primary asked about.
    pub primary: ServerName,
    /// The cluster's epoch.
    pub epoch: conclave_core::model::Epoch,
    /// The nonce.
    pub nonce: Nonce,
    /// When it is sent: ages count from here.
    pub sent: Mono,
    /// The primary is in doubt: whoever is asked should look again at once.
    pub is_urgent: bool,
}

impl Live {
    /// Nothing seen yet.
    pub fn new(me: ManagerId, now: Mono) -> Self {
        let clusters = BTreeMap::new();
        let inner = Inner { me, beat: now, stalled: None, patience: STALL, nonce: 0, clusters };
        Self { inner: Arc::new(Mutex::new(inner)), wake: Arc::new(Notify::new()) }
    }

    /// The lock, with our own pulse checked first: whatever is recorded or judged after a stall
    /// starts from nothing.
    fn lock(&self, now: Mono) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().expect("no panic while held");
        let gap = now.since(inner.beat);
        if gap > Micros(PULSE.0 + inner.patience.0) {
            inner.stalled = Some((now, gap));
            tracing::warn!(gap = %gap, "this manager's own loop stalled; what it saw is void");
            for seen in inner.clusters.values_mut() {
                if let Some((_, pings)) = &mut seen.pings {
                    pings.stall(now);
                }
                seen.tally = None;
                seen.counted.clear();
                seen.nudged = None;
            }
        }
        inner.beat = inner.beat.max(now);
        inner
    }

    /// Our own loop runs.
    pub fn beat(&self, now: Mono) {
        drop(self.lock(now));
    }

    /// How a ping of a primary ended. Returns whether this manager is in doubt now.
    pub fn pinged(
        &self,
        cluster: &ClusterName,
        server: &ServerName,
        began: Mono,
        ping: Ping,
        now: Mono,
    ) -> bool {
        let mut inner = self.lock(now);
        let seen = inner.clusters.entry(cluster.clone()).or_insert_with(|| Seen::new(now));
        let is_same = seen.pings.as_ref().is_some_and(|(name, _)| name == server);
        if !is_same {
            seen.pings = Some((server.clone(), PingHistory::new(began)));
        }
        let Some((_, pings)) = &mut seen.pings else { return false };
        let before = pings.trouble().is_some();
        pings.record(began, ping);
        let after = pings.trouble().is_some();
        if after && !before {
            seen.raise_alarm(now);
        }
        drop(inner);
        if before != after || ping != Ping::Answered {
            self.wake.notify_one();
        }
        after
    }

    /// Whether this manager or a fresh report sees trouble with the primary, and since when.
    pub fn trouble(&self, cluster: &ClusterName, now: Mono) -> Option<Micros> {
        let inner = self.lock(now);
        let seen = inner.clusters.get(cluster)?;
        seen.trouble(now).map(|since| now.since(since))
    }

    /// This manager's own trouble only, for telling others.
    pub fn own_trouble(&self, cluster: &ClusterName, now: Mono) -> Option<Micros> {
        let inner = self.lock(now);
        let pings = inner.clusters.get(cluster)?.pings.as_ref()?;
        pings.1.trouble().map(|since| now.since(since))
    }

    /// Another manager reports trouble.
    pub fn nudged(&self, cluster: &ClusterName, span: Micros, now: Mono) {
        let mut inner = self.lock(now);
        let seen = inner.clusters.entry(cluster.clone()).or_insert_with(|| Seen::new(now));
        seen.nudged = Some((now, now.minus(span)));
        seen.raise_alarm(now);
        drop(inner);
        self.wake.notify_one();
    }

    /// The leader asks because it doubts: what it is told should be new.
    pub fn alarmed(&self, cluster: &ClusterName, now: Mono) {
        let mut inner = self.lock(now);
        if let Some(seen) = inner.clusters.get_mut(cluster) {
            seen.raise_alarm(now);
        }
    }

    /// Changes whenever trouble with the cluster's primary begins or is reported.
    pub fn alarm(&self, cluster: &ClusterName, now: Mono) -> watch::Receiver<u64> {
        let mut inner = self.lock(now);
        let seen = inner.clusters.entry(cluster.clone()).or_insert_with(|| Seen::new(now));
        seen.alarm.subscribe()
    }

    /// A look at a server ended.
    pub fn looked(&self, state: &ClusterState, look: Observation, now: Mono) {
        let name = &state.definition.name;
        let mut inner = self.lock(now);
        let seen = inner.clusters.entry(name.clone()).or_insert_with(|| Seen::new(now));
        let is_newer = seen.view.observations.get(&look.server).is_none_or(|old| look.at >= old.at);
        if !is_newer {
            return;
        }
        seen.trackers.entry(look.server.clone()).or_default().record(&look);
        if let Some(regime) = state.regime() {
            seen.vouches.record(regime, &look);
        }
        if state.primary() == Some(&look.server)
            && look.seen.as_ref().is_ok_and(|facts| facts.is_writable())
        {
            seen.view.seen_writable = Some(look.at);
        }
        let primary = state.primary().and_then(|name| state.definition.server(name));
        if let Some((regime, primary)) = state.regime().zip(primary) {
            seen.attendance.record(regime, (&primary.host, primary.port), &look);
            seen.view.absent = seen.attendance.absent();
            seen.view.stuck = seen.attendance.stuck();
        }
        seen.view.observations.insert(look.server.clone(), look);
        seen.view.vouched = seen.vouches.standing(seen.view.observations.values());
        seen.view.unarmed = seen.vouches.unarmed();
        drop(inner);
        self.wake.notify_one();
    }

    /// Whether an acker is about to be vouched for: a failover would be refused until then.
    pub fn awaits_vouching(&self, state: &ClusterState, now: Mono) -> bool {
        let inner = self.lock(now);
        let seen = inner.clusters.get(&state.definition.name);
        seen.zip(state.regime()).is_some_and(|(seen, regime)| {
            seen.vouches.is_awaited(regime, seen.view.observations.values())
        })
    }

    /// Who answers at an address, by a look that began then. Does not count if something that may
    /// have moved addresses happened meanwhile.
    pub fn saw_vip(
        &self,
        cluster: &ClusterName,
        address: &str,
        began: Mono,
        who: Result<String, String>,
    ) {
        self.with(cluster, |seen| {
            let is_quiet = seen.view.running.is_empty() && seen.view.progress_at < began;
            let last = seen.view.ended.values().max();
            if is_quiet && last.is_none_or(|ended| *ended < began) {
                seen.view.vips.insert(address.to_owned(), who);
            }
        });
    }

    /// Whether this manager is logged in to a server's host now, or why not.
    pub fn saw_host(&self, cluster: &ClusterName, server: &ServerName, login: Result<(), String>) {
        self.with(cluster, |seen| {
            seen.view.logins.insert(server.clone(), login);
        });
    }

    /// This manager's answer to a question.
    pub fn ballot(
        &self,
        state: Option<&ClusterState>,
        cluster: &ClusterName,
        primary: &ServerName,
        nonce: Nonce,
        now: Mono,
    ) -> Ballot {
        let inner = self.lock(now);
        let manager = inner.me;
        let blank = |evidence| Ballot {
            manager,
            nonce,
            answer: Answer::Unknown,
            evidence,
            hearing: BTreeMap::new(),
            vouched: BTreeSet::new(),
            is_restarted: false,
            is_unarmed: false,
        };
        let (Some(state), Some(seen)) = (state, inner.clusters.get(cluster)) else {
            return blank(Evidence::NotProbed);
        };
        let policy = &state.definition.policy;
        let stall = Micros::from(policy.stall_ms);
        if inner.stalled.is_some_and(|(at, _)| now.since(at) < stall) {
            return blank(Evidence::Stalled);
        }
        let judged = match &seen.pings {
            Some((name, pings)) if name == primary => pings.judge(policy, now),
            Some(_) | None => (Answer::Unknown, Evidence::NotProbed),
        };
        let facts = seen.view.facts(primary, now, Micros(1_000_000));
        let is_restarted =
            facts.is_some_and(|f| upkeep::is_restarted(f, seen.view.seen_writable, now));
        Ballot {
            answer: judged.0,
            evidence: judged.1,
            hearing: hearing(&state.definition, seen, primary, now),
            vouched: seen.view.vouched.clone(),
            is_restarted,
            is_unarmed: seen.view.unarmed.is_some(),
            ..blank(Evidence::NotProbed)
        }
    }

    /// A fresh question to all voters; the tally starts anew when it is about something else.
    pub fn question(
        &self,
        state: &ClusterState,
        primary: &ServerName,
        voters: &BTreeSet<ManagerId>,
        now: Mono,
    ) -> Question {
        let mut inner = self.lock(now);
        inner.nonce += 1;
        let nonce = Nonce(inner.nonce);
        let cluster = state.definition.name.clone();
        let seen = inner.clusters.entry(cluster.clone()).or_insert_with(|| Seen::new(now));
        let is_same = seen
            .tally
            .as_ref()
            .is_some_and(|tally| tally.primary == *primary && tally.epoch == state.epoch);
        if !is_same {
            seen.counted.clear();
        }
        seen.tally = Some(Tally {
            primary: primary.clone(),
            epoch: state.epoch,
            nonce,
            voters: voters.clone(),
            ballots: BTreeMap::new(),
        });
        seen.view.last_ask = Some(now);
        if seen.trouble(now).is_some() || seen.view.wish.is_some() {
            seen.view.asked_at.get_or_insert(now);
        }
        let is_urgent = seen.trouble(now).is_some();
        let (primary, epoch) = (primary.clone(), state.epoch);
        Question { cluster, primary, epoch, nonce, sent: now, is_urgent }
    }

    /// A ballot came back for a question of ours.
    pub fn counted(&self, question: &Question, ballot: Ballot, now: Mono) {
        let mut inner = self.lock(now);
        let Some(seen) = inner.clusters.get_mut(&question.cluster) else { return };
        let is_current = seen
            .tally
            .as_ref()
            .is_some_and(|t| t.primary == question.primary && t.epoch == question.epoch);
        if !is_current || ballot.nonce != question.nonce {
            return;
        }
        let is_newer =
            seen.counted.get(&ballot.manager).is_none_or(|(_, sent)| *sent <= question.sent);
        if is_newer {
            let is_up = ballot.answer == Answer::Up;
            seen.counted.insert(ballot.manager, (ballot, question.sent));
            drop(inner);
            if !is_up {
                self.wake.notify_one();
            }
        }
    }

    /// A step was begun by this leader.
    pub fn step_began(&self, cluster: &ClusterName, step: StepId, now: Mono) {
        self.with(cluster, |seen| {
            seen.view.running.insert(step, now);
        });
    }

    /// A step will act no more: its end is being recorded.
    pub fn step_acted(&self, cluster: &ClusterName, step: StepId) {
        self.with(cluster, |seen| {
            seen.acted.insert(step);
        });
    }

    /// Whether a step only waits for its end to be recorded.
    pub fn has_acted(&self, cluster: &ClusterName, step: StepId) -> bool {
        let inner = self.inner.lock().expect("no panic while held");
        inner.clusters.get(cluster).is_some_and(|seen| seen.acted.contains(&step))
    }

    /// The end of a step that this leader began then is on record.
    pub fn step_recorded(&self, order: &StepOrder, outcome: &StepOutcome, began: Mono, now: Mono) {
        self.with(&order.place.cluster, |seen| seen.vouches.followed(order, outcome, began, now));
    }

    /// A step ended on this leader.
    pub fn step_ended(&self, cluster: &ClusterName, step: StepId, now: Mono) {
        self.with(cluster, |seen| {
            seen.view.running.remove(&step);
            seen.acted.remove(&step);
            seen.view.ended.insert(step, now);
            while seen.view.ended.len() > ENDED {
                seen.view.ended.pop_first();
            }
            // It may have moved an address: look again before saying where they are.
            seen.view.vips.clear();
        });
        self.wake.notify_one();
    }

    /// Something moved within a step.
    pub fn progressed(&self, cluster: &ClusterName, now: Mono) {
        self.with(cluster, |seen| seen.view.progress_at = now);
    }

    /// A step has closed its server for writes, with this executed.
    pub fn closed(&self, cluster: &ClusterName, step: StepId, executed: &GtidSet) {
        self.with(cluster, |seen| seen.closed = Some((step, executed.clone())));
    }

    /// What that step told.
    pub fn closed_with(&self, cluster: &ClusterName, step: StepId) -> Option<GtidSet> {
        let inner = self.inner.lock().expect("no panic while held");
        let (by, executed) = inner.clusters.get(cluster)?.closed.as_ref()?;
        (*by == step).then(|| executed.clone())
    }

    /// Our own loop stalled since then.
    pub fn has_stalled_since(&self, since: Mono, now: Mono) -> bool {
        self.lock(now).stalled.is_some_and(|(at, _)| at >= since)
    }

    /// An operator's wish; sentences go to `answers` until the wish is answered.
    ///
    /// # Errors
    /// Another wish is waiting.
    pub fn wish(
        &self,
        cluster: &ClusterName,
        wish: Wish,
        answers: mpsc::UnboundedSender<String>,
        now: Mono,
    ) -> Result<(), String> {
        let mut inner = self.lock(now);
        let seen = inner.clusters.entry(cluster.clone()).or_insert_with(|| Seen::new(now));
        if seen.view.wish.is_some() {
            return Err(format!("another operator's request for {cluster} is being answered"));
        }
        seen.view.wish = Some(wish);
        (seen.view.survey, seen.view.last_survey) = (None, None);
        seen.view.asked_at = None;
        seen.tally = None;
        seen.counted.clear();
        seen.wisher = Some(answers);
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Somebody wants to know who is busy on the primary; the leader asks until nobody does.
    pub fn want_survey(&self, cluster: &ClusterName) {
        self.with(cluster, |seen| {
            seen.view.is_survey_wanted = true;
            seen.view.survey = None;
            seen.view.last_survey = None;
        });
        self.wake.notify_one();
    }

    /// The primary is asked who is busy on it.
    pub fn survey_began(&self, cluster: &ClusterName, now: Mono) {
        self.with(cluster, |seen| seen.view.last_survey = Some(now));
    }

    /// Its answer to a question that was asked then.
    pub fn surveyed(&self, cluster: &ClusterName, began: Mono, answer: Result<Survey, String>) {
        self.with(cluster, |seen| seen.view.survey = Some((began, answer)));
        self.wake.notify_one();
    }

    /// Nobody waits for it any more; what was answered stays.
    pub fn surveyed_enough(&self, cluster: &ClusterName) {
        self.with(cluster, |seen| seen.view.is_survey_wanted = false);
    }

    /// The newest answer that was asked for since then is there.
    pub fn has_survey(&self, cluster: &ClusterName) -> bool {
        let inner = self.inner.lock().expect("no panic while held");
        inner.clusters.get(cluster).is_some_and(|seen| seen.view.survey.is_some())
    }

    /// The wish is answered with this sentence.
    pub fn answer_wish(&self, cluster: &ClusterName, sentence: &str) {
        self.with(cluster, |seen| {
            seen.view.wish = None;
            seen.view.asked_at = None;
            if let Some(wisher) = seen.wisher.take() {
                // Whoever asked may have gone away; the answer is in the log, too.
                let _ = wisher.send(sentence.to_owned());
            }
        });
    }

    /// The agreed state changed: what depends on the record of an attempt follows.
    pub fn agreed(&self, group: &GroupState, now: Mono) {
        let mut inner = self.lock(now);
        inner.clusters.retain(|name, _| group.clusters.contains_key(name));
        let stalls = group.clusters.values().map(|c| Micros::from(c.definition.policy.stall_ms));
        inner.patience = stalls.min().unwrap_or(STALL);
        for (name, cluster) in &group.clusters {
            let seen = inner.clusters.entry(name.clone()).or_insert_with(|| Seen::new(now));
            follow_record(seen, cluster, now);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// A copy of everything, for one tick.
    pub fn view(&self, frame: Frame) -> View {
        let now = frame.now;
        let mut inner = self.lock(now);
        let stalled = inner.stalled;
        let me = inner.me;
        let mut clusters = BTreeMap::new();
        for (name, cluster) in &frame.group.clusters {
            let seen = inner.clusters.entry(name.clone()).or_insert_with(|| Seen::new(now));
            let doubt = seen.trouble(now).map(|since| now.since(since));
            if seen.wisher.as_ref().is_some_and(mpsc::UnboundedSender::is_closed) {
                // Whoever asked has gone away; the next one must not wait for them.
                seen.wisher = None;
                seen.view.wish = None;
            }
            if doubt.is_none() && seen.view.wish.is_none() {
                seen.view.asked_at = None;
            }
            let mut view = seen.view.clone();
            view.doubt = doubt;
            view.tally = seen.tally.clone().map(|mut tally| {
                tally.ballots = counted(&seen.counted, now);
                tally
            });
            if let Some(primary) = cluster.primary() {
                view.hearing = hearing(&cluster.definition, seen, primary, now);
            }
            clusters.insert(name.clone(), view);
        }
        View {
            me,
            term: frame.term,
            voters: frame.voters,
            group: frame.group,
            now,
            stalled,
            advanced_at: frame.advanced_at,
            wall_ms: frame.wall_ms,
            clusters,
        }
    }

    fn with(&self, cluster: &ClusterName, change: impl FnOnce(&mut Seen)) {
        let mut inner = self.inner.lock().expect("no panic while held");
        if let Some(seen) = inner.clusters.get_mut(cluster) {
            change(seen);
        }
    }
}

/// What a view needs that this manager does not see by itself.
pub struct Frame {
    /// The term in which it leads, confirmed.
    pub term: Option<Term>,
    /// All Raft voters.
    pub voters: BTreeSet<ManagerId>,
    /// The agreed state.
    pub group: Arc<GroupState>,
    /// Now.
    pub now: Mono,
    /// When group time moved last, or leading began.
    pub advanced_at: Mono,
    /// For people.
    pub wall_ms: u64,
}

fn counted(
    held: &BTreeMap<ManagerId, (Ballot, Mono)>,
    now: Mono,
) -> BTreeMap<ManagerId, CountedBallot> {
    let count = |(id, (ballot, sent)): (&ManagerId, &(Ballot, Mono))| {
        (*id, CountedBallot { ballot: ballot.clone(), age: now.since(*sent) })
    };
    held.iter().map(count).collect()
}

fn hearing(
    definition: &ClusterDefinition,
    seen: &Seen,
    primary: &ServerName,
    now: Mono,
) -> BTreeMap<ServerName, Hearing> {
    let Some(source) = definition.server(primary) else { return BTreeMap::new() };
    let others = definition.servers.iter().filter(|server| server.name != *primary);
    let judge = |server: &conclave_core::model::ServerDefinition| {
        let look = seen.view.observations.get(&server.name);
        let tracker = seen.trackers.get(&server.name);
        let heard = tracker.map(|tracker| tracker.judge(look, source, &definition.policy, now));
        (server.name.clone(), heard.unwrap_or(Hearing::Unknown))
    };
    others.map(judge).collect()
}

/// Notes when an attempt was seen to open, move and be undone.
fn follow_record(seen: &mut Seen, cluster: &ClusterState, now: Mono) {
    let is_open = cluster.attempt.is_some();
    let size = cluster.attempt.as_ref().map_or(cluster.history.len(), Attempt::progress);
    let record = (cluster.epoch.0, size, is_open);
    let Some(before) = seen.record.replace(record) else { return };
    if before == record {
        return;
    }
    seen.view.progress_at = now;
    seen.view.vips.clear();
    if is_open && before.0 < record.0 {
        seen.view.opened_at = Some(now);
        seen.view.running.clear();
        seen.view.ended.clear();
        if let Some(attempt) = &cluster.attempt {
            seen.view.wish = None;
            if let Some(wisher) = seen.wisher.take() {
                let _ = wisher.send(format!("opened {}", attempt.id));
            }
        }
    }
    if before.2 && !is_open {
        seen.view.opened_at = None;
        let last = cluster.history.back().and_then(|attempt| attempt.outcome.as_ref());
        if matches!(last, Some(Outcome::Aborted { .. })) {
            seen.view.aborted_at = Some(now);
        }
    }
}
