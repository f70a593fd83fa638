//! Partitions.

use super::{await_failover, server, split};
use crate::record::Deed;
use crate::stage::Stage;

/// The primary is cut off from all managers and replicas; clients still reach it.
pub fn isolate(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    for peer in stage.managers().into_iter().chain(stage.others(&primary)) {
        split(stage, &peer, &primary)?;
    }
    await_failover(stage, &primary);
    let after = stage.between(1000, 5000);
    stage.pass(after);
    Ok(())
}

/// The primary and the manager in its rack are cut off from all others.
pub fn minority(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let beside = server::neighbour(stage, &primary)?;
    let mut far = stage.others(&primary);
    far.extend(stage.managers().into_iter().filter(|manager| *manager != beside));
    for peer in far {
        split(stage, &peer, &primary)?;
        split(stage, &peer, &beside)?;
    }
    await_failover(stage, &primary);
    let after = stage.between(1000, 5000);
    stage.pass(after);
    Ok(())
}

/// The managers are cut off from a primary that its replicas hear.
pub fn managers_cut(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    for manager in stage.managers() {
        split(stage, &manager, &primary)?;
    }
    let length = stage.between(4000, 12_000);
    stage.pass(length);
    Ok(())
}

/// One manager's route is broken: it hears the primary no more, or is not heard by it.
pub fn one_manager_cut(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let managers = stage.managers();
    let manager = if stage.rng.chance(50) { stage.leader() } else { stage.pick(&managers) };
    let (to, from) = (stage.rng.chance(70), stage.rng.chance(70));
    if to || !from {
        stage.perform(Deed::Cut { from: primary.clone(), to: manager.clone() })?;
    }
    if from {
        stage.perform(Deed::Cut { from: manager, to: primary })?;
    }
    let length = stage.between(4000, 12_000);
    stage.pass(length);
    Ok(())
}

/// The primary is cut off from its replicas: writes wait, and nothing else happens.
pub fn replicas_cut(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    for replica in stage.others(&primary) {
        split(stage, &replica, &primary)?;
    }
    let length = stage.between(4000, 12_000);
    stage.pass(length);
    Ok(())
}
