//! Database hosts that die, hang or lose power.

use std::time::Duration;

use super::{FAILOVER, GOALS, await_failover, kill_if_running};
use crate::record::Deed;
use crate::stage::Stage;

/// The primary's mysqld is killed.
pub fn kill(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    await_failover(stage, &primary);
    Ok(())
}

/// The primary's mysqld hangs; after the promotion it goes on, unless a fence killed it.
pub fn hang(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    stage.perform(Deed::StopServer { server: primary.clone() })?;
    await_failover(stage, &primary);
    stage.repair_server(&primary)?;
    stage.pass(Duration::from_secs(3));
    Ok(())
}

/// The primary's host loses power.
pub fn power_off(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    stage.perform(Deed::PowerOff { host: primary.clone() })?;
    await_failover(stage, &primary);
    Ok(())
}

/// The primary's rack loses power, with the manager in it.
pub fn rack(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    stage.perform(Deed::PowerOff { host: neighbour(stage, &primary)? })?;
    stage.perform(Deed::PowerOff { host: primary.clone() })?;
    await_failover(stage, &primary);
    Ok(())
}

/// The manager in a server's rack.
pub fn neighbour(stage: &Stage<'_>, server: &str) -> anyhow::Result<String> {
    let rack = stage.lab.host(server)?.place().rack;
    for manager in stage.managers() {
        if stage.lab.host(&manager)?.place().rack == rack {
            return Ok(manager);
        }
    }
    anyhow::bail!("no manager is in the rack of {server}")
}

/// An acker is away, then the primary dies; the acker comes back later.
pub fn acker_missing(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let others = stage.others(&primary);
    let acker = stage.pick(&others);
    stage.perform(Deed::Isolate { host: acker })?;
    let before = stage.between(500, 6000);
    stage.pass(before);
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    let alone = stage.between(2000, 8000);
    stage.pass(alone);
    stage.repair_network()?;
    await_failover(stage, &primary);
    Ok(())
}

/// An acker restarts in the moment in which the primary dies.
pub fn acker_restart(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let others = stage.others(&primary);
    let acker = stage.pick(&others);
    let after_ms = stage.rng.range(50, 2000);
    let is_first = stage.rng.chance(50);
    let restart = Deed::RestartServer { server: acker, after_ms };
    let death = Deed::KillServer { server: primary.clone() };
    let (one, other) = if is_first { (restart, death) } else { (death, restart) };
    stage.perform(one)?;
    let pause = stage.between(0, 500);
    stage.pass(pause);
    stage.perform(other)?;
    await_failover(stage, &primary);
    Ok(())
}

/// A replica and the primary die.
pub fn replica_and_primary(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let others = stage.others(&primary);
    let replica = stage.pick(&others);
    let pause = stage.between(0, 3000);
    stage.perform(Deed::KillServer { server: replica })?;
    stage.pass(pause);
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    await_failover(stage, &primary);
    Ok(())
}

/// The primary is killed, and then whoever the leader turns to for some step of the failover.
pub fn target(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let goal = *stage.rng.pick(&GOALS).expect("a list that is not empty");
    let ends = stage.log_ends();
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    if let Some((_, target)) = stage.wait_step(&ends, goal, FAILOVER) {
        kill_if_running(stage, &target)?;
    }
    let alone = stage.between(3000, 8000);
    stage.pass(alone);
    stage.repair(1000)?;
    await_failover(stage, &primary);
    Ok(())
}
