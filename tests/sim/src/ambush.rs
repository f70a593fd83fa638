//! Faults that strike a manager at a chosen moment of a chosen step (the five moments between the
//! phases of lock, commit, act, read back, commit).

use conclave_core::model::StepId;
use serde::{Deserialize, Serialize};

use crate::{
    clock::{Micros, Owner},
    world::{Ctx, World},
};

/// A moment within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Nothing was done yet.
    BeforeLock,
    /// The lock is held.
    BeforeCommit,
    /// The beginning is in the log.
    BeforeAct,
    /// The act was sent and answered.
    BeforeReadBack,
    /// The goal was read back.
    BeforeClosingCommit,
}

impl Moment {
    /// All of them, in order.
    pub const ALL: [Moment; 5] = [
        Moment::BeforeLock,
        Moment::BeforeCommit,
        Moment::BeforeAct,
        Moment::BeforeReadBack,
        Moment::BeforeClosingCommit,
    ];
}

/// What befalls the manager, or what it acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blow {
    /// The manager is killed and started again after a while.
    Kill,
    /// The manager is stopped for that long, and goes on.
    Stall(Micros),
    /// mysqld of the step's target is killed.
    KillTarget,
}

/// A fault that waits for its moment; it strikes once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambush {
    /// The step's code; `None`: any.
    pub step: Option<&'static str>,
    /// The moment.
    pub moment: Moment,
    /// How many such moments to let pass.
    pub skip: u32,
    /// What happens.
    pub blow: Blow,
}

impl Ctx {
    /// Called by the ports at each moment; does not return if the manager is struck.
    pub async fn moment(&self, manager: u64, owner: Owner, moment: Moment, step: StepId) {
        let is_struck = self.world().strike(manager, owner, moment, step);
        if is_struck {
            // The blow takes hold when this task gives way.
            self.sim.sleep(1).await;
        }
    }
}

impl World {
    fn strike(&mut self, manager: u64, owner: Owner, moment: Moment, step: StepId) -> bool {
        if self.ambush.is_none() {
            return false;
        }
        let group = self.consensus.newest();
        let record = group.clusters.get(&self.cluster).and_then(|cluster| cluster.step(step));
        let Some(record) = record else { return false };
        let is_it = |ambush: &&mut Ambush| {
            ambush.moment == moment && ambush.step.is_none_or(|code| code == record.goal.code())
        };
        let Some(ambush) = self.ambush.as_mut().filter(is_it) else { return false };
        if ambush.skip > 0 {
            ambush.skip -= 1;
            return false;
        }
        let blow = ambush.blow;
        self.ambush = None;
        let target = record.target.clone();
        self.note(|_| {
            format!("AMBUSH m{manager} {moment:?} of {} on {target}: {blow:?}", record.goal.code())
        });
        match blow {
            Blow::Kill => {
                self.kill_manager(manager);
                self.start_manager_later(manager, 3_000_000);
            }
            Blow::Stall(span) => self.stall_manager(manager, owner, span),
            Blow::KillTarget => {
                if let Some(ix) = self.ix(&target) {
                    self.kill_server(ix);
                }
            }
        }
        true
    }
}
