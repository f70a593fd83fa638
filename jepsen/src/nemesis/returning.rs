//! Servers that come back: at once, all together, or with transactions of their own.

use super::{await_failover, kill_if_running};
use crate::record::Deed;
use crate::stage::Stage;

/// The primary's mysqld is killed and comes back by itself, before, during or after the verdict.
pub fn restart(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let after_ms = *stage.rng.pick(&[0, 20, 50, 100, 200, 500, 1000, 3000]).expect("some");
    stage.perform(Deed::RestartServer { server: primary, after_ms })?;
    let length = stage.between(3000, 10_000);
    stage.pass(length);
    Ok(())
}

/// Every mysqld and every manager is killed, and started again in an order by chance.
pub fn restart_all(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    for server in stage.servers() {
        kill_if_running(stage, &server)?;
    }
    for manager in stage.managers() {
        stage.perform(Deed::KillManager { manager })?;
    }
    stage.repair(2000)
}

/// Every host loses power, and boots again in an order by chance.
pub fn power_cut(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    for host in stage.servers().into_iter().chain(stage.managers()) {
        stage.perform(Deed::PowerOff { host })?;
    }
    stage.repair(2000)
}

/// The primary dies and is replaced; out of everybody's sight somebody starts it and writes to it,
/// with all rights; then it is seen again.
pub fn errant(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    if !await_failover(stage, &primary) {
        return Ok(());
    }
    for peer in stage.managers().into_iter().chain(stage.others(&primary)) {
        stage.perform(Deed::Cut { from: peer, to: primary.clone() })?;
    }
    stage.perform(Deed::StartServer { server: primary.clone() })?;
    stage.perform(Deed::WriteErrant { server: primary })?;
    // Long enough for the managers to miss it.
    let length = stage.between(500, 3000);
    stage.pass(length);
    Ok(())
}
