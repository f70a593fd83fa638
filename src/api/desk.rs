//! What the services need from the running manager. `run` sits behind this desk; a test can sit
//! there as well.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use conclave_core::{
    decide::{
        View, Wish, forecast,
        forecast::{DryRun, Forecast},
        gate, problem,
    },
    model::{ClusterName, Problem, Ranked, Refusal},
    ports::ProposeError,
    state::{Command, GroupState, Reply},
};
use tokio::sync::mpsc;

use crate::raft;

/// All that this manager knows at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What decisions look at.
    pub view: View,
    /// The Raft group.
    pub raft: raft::Status,
}

/// The running manager.
pub trait Desk: Send + Sync + 'static {
    /// What this manager knows now. Must not wait.
    fn snapshot(&self) -> Snapshot;

    /// Who leads, as far as it knows. Must not wait.
    fn leader(&self) -> Option<raft::Leader>;

    /// This manager's id.
    fn me(&self) -> u64;

    /// The agreed state. Must not wait.
    fn group(&self) -> Arc<GroupState>;

    /// Commits a command; on the leader only. A rejection by the state is an error.
    fn propose(&self, command: Command)
    -> impl Future<Output = Result<Reply, ProposeError>> + Send;

    /// Hands in an operator's wish; on the leader only. Sentences about it follow, and the channel
    /// closes once it is answered.
    ///
    /// # Errors
    /// One sentence; nothing was done. Another operator's wish is waiting, for example.
    fn wish(
        &self,
        cluster: &ClusterName,
        wish: Wish,
    ) -> Result<mpsc::UnboundedReceiver<String>, String>;

    /// Asks the primary who is busy on it, on the leader only, and waits a moment for the answer: a
    /// later snapshot has it.
    fn survey(&self, cluster: &ClusterName) -> impl Future<Output = ()> + Send;

    /// Makes this manager and the others a group, and returns its id.
    ///
    /// # Errors
    /// One sentence.
    fn init_group(
        &self,
        members: BTreeMap<u64, raft::MemberNode>,
    ) -> impl Future<Output = Result<String, String>> + Send;
}

/// What the decisions say of one cluster, looking at a [`View`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What would happen now, per fault.
    pub forecasts: Vec<Forecast>,
    /// All servers but the primary, best first.
    pub ranking: Vec<Ranked>,
    /// Everything that the gate refuses with right now.
    pub refusals: Vec<Refusal>,
}

impl Findings {
    /// Asks the decisions.
    pub fn of(view: &View, cluster: &ClusterName) -> Self {
        let field = forecast::rank(view, cluster, None);
        Self {
            problems: problem::list(view, cluster),
            forecasts: forecast::list(view, cluster),
            ranking: field.map(|field| field.ranking).unwrap_or_default(),
            refusals: once(gate::refusals(view, cluster, None)),
        }
    }
}

/// What a failover by this wish would refuse or do.
pub fn rehearse(view: &View, cluster: &ClusterName, wish: &Wish) -> DryRun {
    let run = forecast::dry_run(view, cluster, wish);
    DryRun { refusals: once(run.refusals), ..run }
}

/// Each reason once: several rules may refuse with the same.
fn once(mut refusals: Vec<Refusal>) -> Vec<Refusal> {
    let mut seen: Vec<Refusal> = Vec::new();
    refusals.retain(|refusal| {
        let is_new = !seen.contains(refusal);
        seen.extend(is_new.then(|| refusal.clone()));
        is_new
    });
    refusals
}

/// A sentence if one rack holds a majority: what stands there dies together.
pub fn crowded_rack<'a>(racks: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = 0;
    for rack in racks {
        *counts.entry(rack).or_default() += 1;
        all += 1;
    }
    let crowded = counts.into_iter().find(|(_, count)| all > 1 && *count > all / 2);
    crowded.map(|(rack, count)| {
        format!("rack {rack:?} holds {count} of {all} managers: the group stops if it is lost")
    })
}
