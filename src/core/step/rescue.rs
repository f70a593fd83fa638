//! What only a dead server's disk holds: reading its log, and bringing that to the candidate.
//!
//! ```text
//!   dead host --ranges--> this manager --upload--> candidate's host --turnstile--> relay log of a
//!                                                                     channel of its own --SQL-->
//! ```
//! The server's own applier executes it: every kind of event, in parallel, under `super_read_only`,
//! and what it has executed already is passed over.

use super::begin;
use crate::{
    decide::StepOrder,
    model::{Micros, Rescue, ServerFacts, StepEvidence, StepOutcome},
    ports::{
        Clock, Logs, Mysql, PortError, Ports, ProposeError, RescueOrder, Session, SqlAction,
        Trouble,
    },
};

/// Longest time for removing what is not needed any more.
const TIDY: Micros = Micros(2_000_000);

/// One run of reading a log: changes nothing, so that it can be repeated by whoever leads.
pub(super) async fn read<P: Ports>(
    ports: &P,
    order: &StepOrder,
) -> Result<StepOutcome, ProposeError> {
    begin(ports, order).await?;
    let told = || ports.progressed(&order.place.cluster);
    let read = ports.logs().read(&order.place, &order.known, order.deadline, &told).await;
    Ok(match read {
        Ok(log) => StepOutcome::Done { evidence: StepEvidence::Log { log } },
        Err(error) => StepOutcome::Failed { why: error.to_string() },
    })
}

/// What was carried in this run.
pub(super) struct Carried {
    order: RescueOrder,
    kept: String,
}

impl Carried {
    /// Where it can be looked at, for the sentence that says why it was not applied.
    pub(super) fn hint(&self) -> String {
        let host = &self.order.to.server.name;
        format!("; kept on the host of {host}: mysqlbinlog -vv {}", self.kept)
    }

    /// It is applied: the copy is not needed any more.
    pub(super) async fn discard<P: Ports>(&self, ports: &P) {
        let deadline = ports.clock().now().plus(TIDY);
        // A copy too many harms nobody.
        drop(ports.logs().discard(&self.order, deadline).await);
    }
}

/// Brings it, and has it applied over the session that holds the lock.
pub(super) async fn carry<P: Ports>(
    ports: &P,
    order: &StepOrder,
    session: &mut <P::Mysql as Mysql>::Session,
    facts: &ServerFacts,
    rescue: &Rescue,
) -> Result<Carried, PortError> {
    let Some(from) = order.others.get(&rescue.from).cloned() else {
        let why = format!("server {} is not defined", rescue.from);
        return Err(PortError::not_done(Trouble::Local, why));
    };
    let told = || ports.progressed(&order.place.cluster);
    let patience = order.deadline;
    let order = RescueOrder {
        from,
        to: order.place.clone(),
        token: order.token,
        rescue: rescue.clone(),
        relay_log: facts.relay_log.clone(),
    };
    let kept = ports.logs().carry(&order, patience, &told).await?;
    let deadline = ports.clock().now().plus(patience);
    let action = SqlAction::ApplyRescued { relay_log: order.relay_log.clone() };
    session.act(&action, deadline).await?;
    Ok(Carried { order, kept })
}
