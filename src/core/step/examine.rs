//! Reads a returned server's own logs and judges what it has extra. Looks, and changes nothing.

use super::{broken, wrong_identity};
use crate::{
    decide::{StepOrder, classify},
    model::{GtidSet, StepEvidence, StepOutcome, Suspicion},
    ports::{Clock, Ports, Session},
};

/// One run of the step.
pub(super) async fn run<P: Ports, S: Session>(
    ports: &P,
    order: &StepOrder,
    mut session: S,
    (extra, suspicion): (&GtidSet, &Suspicion),
) -> StepOutcome {
    let deadline = ports.clock().now().plus(order.deadline);
    let facts = match session.look(deadline).await {
        Ok(facts) => facts,
        Err(error) => return broken(0, &error),
    };
    if let Some(why) = wrong_identity(order, &facts) {
        return StepOutcome::Failed { why };
    }
    let unapplied = extra.minus(&facts.executed);
    if !unapplied.is_empty() {
        let why = format!("{unapplied} is not in its binary logs: received and not applied");
        return StepOutcome::Failed { why };
    }
    match session.trail(extra, deadline).await {
        Ok(trail) => {
            let findings = classify::judge(extra, suspicion, &facts.executed, &trail);
            StepOutcome::Done { evidence: StepEvidence::Examined { findings } }
        }
        Err(error) => broken(0, &error),
    }
}
