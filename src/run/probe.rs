//! The probe loops of one manager: pings of every primary over a standing connection and fresh
//! ones, looks at every server, and nudges to the leader. They carry what they see to [`Live`].
//!
//! ```text
//!   supervisor --- follows the agreed state ---> per cluster: pings of the primary
//!                                                per server:  looks
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conclave_core::{
    decide::{suspect::Ping, view::place},
    model::{ClusterName, ManagerId, Micros, Millis, Observation, PingType, Policy, ServerName},
    ports::{Clock, Mysql, Place},
    state::{ClusterState, GroupState},
};
use tokio::{sync::watch, task::AbortHandle};

use super::{ballot::Booths, live::Live};
use crate::adapters::{
    clock::SystemClock,
    mysql::{MysqlPort, PingOutcome, Pinger},
};

/// Fresh connections are made this many times less often than pings while all is well.
const FRESH_EVERY: u64 = 10;

/// Looks are this many times more frequent while in doubt, and while the doubt is young: then a
/// failover waits for them.
const DOUBT_LOOKS: u64 = 5;
const YOUNG_DOUBT_LOOKS: u64 = 20;
const TROUBLE_YOUNG: Micros = Micros(500_000);

/// Pause between two reports of trouble to the leader.
const NUDGE: Millis = Millis(50);

/// Pause between two looks at who answers at an address.
const VIP: Duration = Duration::from_secs(2);

/// Starts and stops probe tasks as the agreed state changes.
pub struct Supervisor {
    /// This manager's index of what it sees.
    pub live: Live,
    /// MySQL.
    pub mysql: Arc<MysqlPort>,
    /// Calls to other managers.
    pub booths: Booths,
    /// Who this manager is: names its own row for insert pings.
    pub me: ManagerId,
}

/// What a task is about; it is replaced when this changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Pings(ClusterName, ServerName, u64),
    Looks(ClusterName, ServerName, u64),
    Vips(ClusterName, u64),
}

impl Supervisor {
    /// Follows the agreed state until `stop` changes.
    pub async fn run(
        self,
        mut state: watch::Receiver<Arc<GroupState>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let me = Arc::new(self);
        let mut tasks = tokio::task::JoinSet::new();
        let mut running: BTreeMap<Job, AbortHandle> = BTreeMap::new();
        loop {
            let group = state.borrow_and_update().clone();
            let wanted = jobs(&group);
            running.retain(|job, handle| {
                let keep = wanted.contains(job);
                if !keep {
                    handle.abort();
                }
                keep
            });
            for job in wanted {
                let task = |job: Job| me.clone().task(job, state.clone());
                running.entry(job).or_insert_with_key(|job| tasks.spawn(task(job.clone())));
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { break },
                _ = stop.changed() => break,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a probe ended by a panic");
                    }
                    running.retain(|_, handle| !handle.is_finished());
                }
            }
        }
        tasks.shutdown().await;
    }

    async fn task(self: Arc<Self>, job: Job, state: watch::Receiver<Arc<GroupState>>) {
        match job {
            Job::Pings(cluster, primary, _) => self.pings(&state, &cluster, &primary).await,
            Job::Looks(cluster, server, _) => self.looks(&state, &cluster, &server).await,
            Job::Vips(cluster, _) => self.vips(&state, &cluster).await,
        }
    }

    /// Pings a primary in two ways at once, and reports trouble.
    async fn pings(
        &self,
        state: &watch::Receiver<Arc<GroupState>>,
        cluster: &ClusterName,
        primary: &ServerName,
    ) {
        let Some((place, policy)) = target(state, cluster, primary) else { return };
        tokio::join!(
            self.standing(&place, &policy),
            self.fresh(&place, &policy),
            self.tell(&place),
        );
    }

    async fn standing(&self, place: &Place, policy: &Policy) {
        if policy.ping == PingType::Connect {
            return;
        }
        let mut alarm = self.live.alarm(&place.cluster, SystemClock.now());
        let mut pinger = self.pinger(place).await;
        loop {
            let began = SystemClock.now();
            let deadline = began.plus(policy.connect_deadline_ms);
            let outcome = pinger.ping_standing(policy.ping, deadline).await;
            if self.note(place, began, &outcome) {
                pause(policy.doubt_interval_ms).await;
            } else {
                pause_unless(&mut alarm, policy.ping_interval_ms).await;
            }
        }
    }

    async fn fresh(&self, place: &Place, policy: &Policy) {
        let mut alarm = self.live.alarm(&place.cluster, SystemClock.now());
        let pinger = self.pinger(place).await;
        loop {
            let began = SystemClock.now();
            let deadline = began.plus(policy.connect_deadline_ms);
            let outcome = pinger.ping_fresh(deadline).await;
            if self.note(place, began, &outcome) {
                pause(policy.doubt_interval_ms).await;
                continue;
            }
            let calm = Millis(policy.ping_interval_ms.0 * FRESH_EVERY);
            pause_unless(&mut alarm, calm).await;
        }
    }

    /// Waits until this manager has a password for the account.
    async fn pinger(&self, place: &Place) -> Pinger {
        let mut said = String::new();
        loop {
            match self.mysql.pinger(place, self.me) {
                Ok(pinger) => return pinger,
                Err(error) => {
                    let why = error.to_string();
                    if why != said {
                        tracing::error!(cluster = %place.cluster, "cannot ping: {why}");
                        said = why;
                    }
                }
            }
            tokio::time::sleep(VIP).await;
        }
    }

    /// Takes a ping into account; returns whether this manager is in doubt now.
    fn note(
        &self,
        place: &Place,
        began: conclave_core::model::Mono,
        outcome: &PingOutcome,
    ) -> bool {
        let ping = match outcome {
            PingOutcome::Answered | PingOutcome::AliveError { .. } => Ping::Answered,
            PingOutcome::Refused { .. } => Ping::Refused,
            PingOutcome::Silent { .. } => Ping::Silent,
            PingOutcome::Broken { .. } => Ping::Void,
        };
        let (cluster, server) = (&place.cluster, &place.server.name);
        if ping != Ping::Answered {
            tracing::debug!(%cluster, %server, ?outcome, "ping");
        }
        self.live.pinged(cluster, server, began, ping, SystemClock.now())
    }

    async fn tell(&self, place: &Place) {
        let mut alarm = self.live.alarm(&place.cluster, SystemClock.now());
        loop {
            let now = SystemClock.now();
            if let Some(span) = self.live.own_trouble(&place.cluster, now) {
                self.booths.nudge(&place.cluster, &place.server.name, span).await;
            }
            pause_unless(&mut alarm, NUDGE).await;
        }
    }

    async fn looks(
        &self,
        state: &watch::Receiver<Arc<GroupState>>,
        cluster: &ClusterName,
        server: &ServerName,
    ) {
        let mut alarm = self.live.alarm(cluster, SystemClock.now());
        loop {
            let Some((place, policy)) = target(state, cluster, server) else { return };
            let at = SystemClock.now();
            let deadline = at.plus(policy.connect_deadline_ms);
            let seen = self.mysql.look(&place, deadline).await.map_err(|error| error.to_string());
            let group = state.borrow().clone();
            let Some(agreed) = group.clusters.get(cluster) else { return };
            let look = Observation { server: server.clone(), at, seen };
            self.live.looked(agreed, look, SystemClock.now());
            let calm = policy.watch_interval_ms;
            let rest = match self.live.trouble(cluster, SystemClock.now()) {
                Some(trouble) if trouble < TROUBLE_YOUNG => Millis(calm.0 / YOUNG_DOUBT_LOOKS),
                Some(_) => Millis(calm.0 / DOUBT_LOOKS),
                None if is_failover(agreed) => Millis(calm.0 / DOUBT_LOOKS),
                None if self.live.awaits_vouching(agreed, SystemClock.now()) => {
                    Millis(calm.0 / DOUBT_LOOKS)
                }
                None => calm,
            };
            pause_unless(&mut alarm, rest).await;
        }
    }

    /// Who answers at the cluster's addresses?
    async fn vips(&self, state: &watch::Receiver<Arc<GroupState>>, cluster: &ClusterName) {
        loop {
            tokio::time::sleep(VIP).await;
            let group = state.borrow().clone();
            let Some(agreed) = group.clusters.get(cluster) else { return };
            let Some(primary) = agreed.primary() else { continue };
            for vip in agreed.vips() {
                let Some(mut at) = place(agreed, primary) else { continue };
                at.server.host.clone_from(&vip.address);
                let began = SystemClock.now();
                let deadline = began.plus(agreed.definition.policy.connect_deadline_ms);
                let who = self.mysql.look(&at, deadline).await;
                let who = who.map(|facts| facts.uuid).map_err(|error| error.to_string());
                self.live.saw_vip(cluster, &vip.address, began, who);
            }
        }
    }
}

/// An attempt is open that is no switchover: in that the servers are well, and its steps look
/// themselves, while clients wait.
fn is_failover(cluster: &ClusterState) -> bool {
    let cause = cluster.attempt.as_ref().map(|attempt| &attempt.opening.cause);
    cause.is_some_and(|cause| cause.switchover().is_none())
}

/// The tasks that the agreed state asks for.
fn jobs(group: &GroupState) -> std::collections::BTreeSet<Job> {
    let mut out = std::collections::BTreeSet::new();
    for (name, cluster) in &group.clusters {
        let version = cluster.version;
        out.extend(pinged(cluster).map(|server| Job::Pings(name.clone(), server, version)));
        let servers = cluster.definition.servers.iter();
        out.extend(servers.map(|s| Job::Looks(name.clone(), s.name.clone(), version)));
        out.insert(Job::Vips(name.clone(), version));
    }
    out
}

fn pinged(cluster: &ClusterState) -> impl Iterator<Item = ServerName> {
    cluster.primary().cloned().into_iter()
}

fn target(
    state: &watch::Receiver<Arc<GroupState>>,
    cluster: &ClusterName,
    server: &ServerName,
) -> Option<(Place, Policy)> {
    let group = state.borrow().clone();
    let agreed = group.clusters.get(cluster)?;
    Some((place(agreed, server)?, agreed.definition.policy.clone()))
}

async fn pause(span: Millis) {
    SystemClock.sleep(Micros::from(span)).await;
}

/// A pause that ends early when trouble begins.
async fn pause_unless(alarm: &mut watch::Receiver<u64>, span: Millis) {
    tokio::select! {
        changed = alarm.changed() => if changed.is_err() {
            // The cluster is forgotten, and this task is about to be ended.
            pause(span).await;
        },
        () = pause(span) => {}
    }
}
