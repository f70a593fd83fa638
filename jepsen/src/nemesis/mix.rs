//! Faults by chance: one to four of them, one after the other or nearly at once, and repairs among
//! them.

use std::time::Duration;

use conclave_lab::Role;

use crate::record::Deed;
use crate::stage::Stage;

/// What may happen next, each as often as it stands here.
const CHOICES: [Choice; 19] = [
    Choice::KillServer,
    Choice::KillServer,
    Choice::KillServer,
    Choice::StopServer,
    Choice::StopServer,
    Choice::RestartServer,
    Choice::RestartServer,
    Choice::PowerOffServer,
    Choice::PowerOffServer,
    Choice::Isolate,
    Choice::Split,
    Choice::Split,
    Choice::Cut,
    Choice::Loss,
    Choice::Delay,
    Choice::KillManager,
    Choice::KillManager,
    Choice::StopManager,
    Choice::PowerOffManager,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    KillServer,
    StopServer,
    RestartServer,
    PowerOffServer,
    Isolate,
    Split,
    Cut,
    Loss,
    Delay,
    KillManager,
    StopManager,
    PowerOffManager,
}

/// One episode.
pub fn round(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let primary = stage.primary();
    let faults = stage.rng.range(1, 4);
    for number in 0..faults {
        let choice = *stage.rng.pick(&CHOICES).expect("a list that is not empty");
        // The first one mostly meets the primary, or little would follow.
        let on_primary = stage.rng.chance(if number == 0 { 70 } else { 35 });
        strike(stage, choice, on_primary.then_some(&*primary))?;
        // Now and then all at once, now and then far apart.
        let most_ms = *stage.rng.pick(&[50, 500, 4000]).expect("a list that is not empty");
        let pause = stage.between(0, most_ms);
        stage.pass(pause);
        if stage.rng.chance(20) {
            repair_one(stage)?;
        }
    }
    let effect = stage.between(1000, 9000);
    stage.pass(effect);
    Ok(())
}

/// One fault, on the primary or on whom chance says. Nothing happens where nothing can: no server
/// to kill that runs.
fn strike(stage: &mut Stage<'_>, choice: Choice, primary: Option<&str>) -> anyhow::Result<()> {
    let deed = match choice {
        Choice::KillServer => {
            let Some(server) = a_server(stage, primary)? else { return Ok(()) };
            Deed::KillServer { server }
        }
        Choice::StopServer => {
            let Some(server) = a_server(stage, primary)? else { return Ok(()) };
            Deed::StopServer { server }
        }
        Choice::RestartServer => {
            let Some(server) = a_server(stage, primary)? else { return Ok(()) };
            Deed::RestartServer { server, after_ms: stage.rng.range(20, 4000) }
        }
        Choice::PowerOffServer => {
            let Some(host) = a_server(stage, primary)? else { return Ok(()) };
            Deed::PowerOff { host }
        }
        Choice::KillManager => {
            let Some(manager) = a_manager(stage) else { return Ok(()) };
            Deed::KillManager { manager }
        }
        Choice::StopManager => {
            let Some(manager) = a_manager(stage) else { return Ok(()) };
            Deed::StopManager { manager }
        }
        Choice::PowerOffManager => {
            let Some(host) = a_manager(stage) else { return Ok(()) };
            Deed::PowerOff { host }
        }
        Choice::Isolate => Deed::Isolate { host: a_host(stage, primary) },
        Choice::Split => {
            let (a, b) = two_hosts(stage, primary);
            Deed::Split { a, b }
        }
        Choice::Cut => {
            let (a, b) = two_hosts(stage, primary);
            let (from, to) = if stage.rng.chance(50) { (a, b) } else { (b, a) };
            Deed::Cut { from, to }
        }
        Choice::Loss => {
            let host = a_host(stage, primary);
            Deed::Loss { host, permille: stage.rng.range(20, 500) as u32 }
        }
        Choice::Delay => {
            let host = a_host(stage, primary);
            if !stage.lab.host(&host)?.is_on() {
                return Ok(());
            }
            Deed::Delay { host, ms: stage.rng.range(5, 300) }
        }
    };
    stage.perform(deed)
}

/// A server whose mysqld runs and is not stopped.
fn a_server(stage: &mut Stage<'_>, primary: Option<&str>) -> anyhow::Result<Option<String>> {
    let mut running = Vec::new();
    for host in stage.lab.servers() {
        let is_stopped = stage.world.stopped.contains(&host.name());
        if host.is_on() && !is_stopped && host.mysqld_pid()?.is_some() {
            running.push(host.name());
        }
    }
    if let Some(primary) = primary.filter(|name| running.iter().any(|other| other == name)) {
        return Ok(Some(primary.to_owned()));
    }
    Ok(stage.rng.pick(&running).cloned())
}

/// A manager that runs and is not stopped.
fn a_manager(stage: &mut Stage<'_>) -> Option<String> {
    let leader = stage.leader();
    let managers = stage.managers();
    let world = &stage.world;
    let running: Vec<String> = managers.into_iter().filter(|name| world.is_running(name)).collect();
    if running.contains(&leader) && stage.rng.chance(50) {
        return Some(leader);
    }
    stage.rng.pick(&running).cloned()
}

/// Any host but the client's.
fn a_host(stage: &mut Stage<'_>, primary: Option<&str>) -> String {
    if let Some(primary) = primary {
        return primary.to_owned();
    }
    let hosts = stage.lab.hosts().into_iter();
    let hosts: Vec<String> =
        hosts.filter(|host| host.place().role != Role::Client).map(|host| host.name()).collect();
    stage.pick(&hosts)
}

fn two_hosts(stage: &mut Stage<'_>, primary: Option<&str>) -> (String, String) {
    let a = a_host(stage, primary);
    loop {
        let b = a_host(stage, None);
        if a != b {
            return (a, b);
        }
    }
}

/// Repairs one host, or the network, while the rest stays broken.
fn repair_one(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let mut names = stage.servers();
    names.extend(stage.managers());
    let name = stage.pick(&names);
    if stage.rng.chance(30) {
        stage.repair_network()?;
    } else if name.starts_with("db") {
        stage.repair_server(&name)?;
    } else {
        stage.repair_manager(&name)?;
    }
    stage.pass(Duration::from_millis(100));
    Ok(())
}
