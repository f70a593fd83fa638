//! Managers that die, hang or are disturbed, mostly while they are needed.

use std::time::Duration;

use super::{FAILOVER, GOALS, await_failover};
use crate::record::Deed;
use crate::stage::Stage;

/// Two of three managers die, then the primary; nothing may change until one is back.
pub fn majority_gone(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let mut managers = stage.managers();
    let most = managers.len() / 2 + 1;
    for _ in 0..most {
        let at = stage.rng.below(managers.len() as u64) as usize;
        stage.perform(Deed::KillManager { manager: managers.swap_remove(at) })?;
    }
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    let alone = stage.between(3000, 8000);
    stage.pass(alone);
    for manager in stage.managers() {
        stage.repair_manager(&manager)?;
    }
    await_failover(stage, &primary);
    Ok(())
}

/// The leader and the primary die together.
pub fn leader(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let manager = stage.leader();
    let leader = Deed::KillManager { manager };
    let death = Deed::KillServer { server: primary.clone() };
    let (one, other) = if stage.rng.chance(50) { (leader, death) } else { (death, leader) };
    stage.perform(one)?;
    stage.perform(other)?;
    await_failover(stage, &primary);
    Ok(())
}

/// The primary dies, and the manager that leads the failover dies in some step of it.
pub fn leader_midway(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    if let Some(manager) = kill_and_await_step(stage, &primary)? {
        stage.perform(Deed::KillManager { manager })?;
    }
    await_failover(stage, &primary);
    Ok(())
}

/// The primary dies, and the manager that leads the failover stops in some step of it, for a time
/// in which another one takes over, or not; then it goes on.
pub fn leader_stop(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let Some(manager) = kill_and_await_step(stage, &primary)? else {
        await_failover(stage, &primary);
        return Ok(());
    };
    stage.perform(Deed::StopManager { manager: manager.clone() })?;
    let length = stage.between(500, 10_000);
    stage.pass(length);
    stage.perform(Deed::ContinueManager { manager })?;
    await_failover(stage, &primary);
    Ok(())
}

fn kill_and_await_step(stage: &mut Stage<'_>, primary: &str) -> anyhow::Result<Option<String>> {
    let goal = *stage.rng.pick(&GOALS).expect("a list that is not empty");
    let ends = stage.log_ends();
    stage.perform(Deed::KillServer { server: primary.to_owned() })?;
    let begun = stage.wait_step(&ends, goal, FAILOVER);
    Ok(begun.map(|(manager, _)| manager))
}

/// The primary dies, and two operators ask for a failover while the group decides itself.
pub fn operators(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let managers = stage.managers();
    stage.perform(Deed::KillServer { server: primary.clone() })?;
    let (first, second) = (stage.pick(&managers), stage.pick(&managers));
    stage.perform(Deed::AskFailovers { first, second })?;
    await_failover(stage, &primary);
    Ok(())
}

/// A planned switchover. In three of four rounds somebody dies on the way, so early or so late that it
/// may be undone, finished, or taken over by a failover.
pub fn switchover(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let managers = stage.managers();
    let manager = stage.pick(&managers);
    let leader = stage.group.leader()?;
    stage.perform(Deed::AskSwitchover { manager })?;
    let pause = stage.between(0, 600);
    stage.pass(pause);
    let candidate = stage.servers().into_iter().find(|name| *name != primary);
    match (stage.rng.range(0, 3), leader, candidate) {
        (0, Some(manager), _) => stage.perform(Deed::KillManager { manager })?,
        (1, _, _) => stage.perform(Deed::KillServer { server: primary.clone() })?,
        (2, _, Some(server)) => stage.perform(Deed::KillServer { server })?,
        (0.., _, _) => {}
    }
    // It may be refused or undone, so that nothing is to be waited for but the end.
    stage.pass(Duration::from_secs(2));
    stage.pass_until(FAILOVER, |cluster| cluster["attempt"].is_null());
    Ok(())
}

/// Loss and delay at the managers, and pauses: as much as a busy network and a busy machine give.
pub fn noise(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    for manager in stage.managers() {
        let ms = stage.rng.range(5, 50);
        stage.perform(Deed::Delay { host: manager.clone(), ms })?;
        let permille = stage.rng.range(20, 50) as u32;
        stage.perform(Deed::Loss { host: manager, permille })?;
    }
    let managers = stage.managers();
    for _ in 0..4 {
        let manager = stage.pick(&managers);
        stage.perform(Deed::StopManager { manager: manager.clone() })?;
        let pause = stage.between(200, 3000);
        stage.pass(pause);
        stage.perform(Deed::ContinueManager { manager })?;
        stage.pass(Duration::from_secs(1));
    }
    Ok(())
}
