//! What goes wrong? Each nemesis is a row of the scenario table in SAFETY.md, section 5, or a mix
//! of faults by chance.
//!
//! A nemesis plays round after round until its time is over. A round breaks something, lets it
//! have its effect, repairs it, makes new what was quarantined, as an operator does, and waits
//! until all is well again.

mod manager;
mod mix;
mod network;
mod returning;
mod server;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ending;
use crate::record::{Deed, Expect};
use crate::stage::Stage;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Nemesis {
    /// Faults by chance, up to four at a time.
    Mix,
    /// The primary's mysqld is killed.
    Kill,
    /// The primary's mysqld hangs, and wakes up after the promotion.
    Hang,
    /// The primary's host loses power, and comes back.
    PowerOff,
    /// A whole rack loses power: the primary and a manager.
    Rack,
    /// The primary is cut off from managers and replicas, not from clients.
    Isolate,
    /// The primary and a minority of the managers are cut off from the rest.
    Minority,
    /// The managers are cut off from the primary; its replicas still hear it.
    ManagersCut,
    /// One manager's route to the primary is broken, one way or both.
    OneManagerCut,
    /// The primary is cut off from its replicas only.
    ReplicasCut,
    /// An acker is missing, then the primary dies.
    AckerMissing,
    /// An acker restarts while the primary dies.
    AckerRestart,
    /// Five servers, two acknowledgements: a replica and the primary die.
    FiveServers,
    /// The majority of the managers dies, then the primary.
    MajorityGone,
    /// The leader and the primary are killed together.
    Leader,
    /// The leader is killed as it begins some step of a failover.
    LeaderMidway,
    /// The leader is stopped as it begins some step of a failover, and goes on later.
    LeaderStop,
    /// The target of some step is killed as the step begins.
    Target,
    /// The primary dies, and two operators ask for a failover at once.
    Operators,
    /// A planned switchover, in the middle of which the leader, the primary or the candidate dies, or
    /// nobody.
    Switchover,
    /// The primary's mysqld is restarted at once: before, during or after the verdict.
    Restart,
    /// Every mysqld and every manager is killed and started again.
    RestartAll,
    /// Every host loses power, and comes back.
    PowerCut,
    /// The old primary comes back with transactions of its own.
    Errant,
    /// Packet loss, delay and stalls at the managers.
    Noise,
}

impl Nemesis {
    /// What a run of it is to lead to.
    pub fn expects(self) -> Expect {
        match self {
            Nemesis::Kill
            | Nemesis::Hang
            | Nemesis::PowerOff
            | Nemesis::Rack
            | Nemesis::Isolate
            | Nemesis::Minority
            | Nemesis::FiveServers
            | Nemesis::Leader
            | Nemesis::LeaderMidway
            | Nemesis::LeaderStop
            | Nemesis::Operators
            | Nemesis::Switchover
            | Nemesis::Errant => Expect::Failover,
            Nemesis::ManagersCut
            | Nemesis::OneManagerCut
            | Nemesis::ReplicasCut
            | Nemesis::Noise => Expect::NoFailover,
            Nemesis::Mix
            | Nemesis::AckerMissing
            | Nemesis::AckerRestart
            | Nemesis::MajorityGone
            | Nemesis::Target
            | Nemesis::Restart
            | Nemesis::RestartAll
            | Nemesis::PowerCut => Expect::Anything,
        }
    }

    /// Number of servers, and of acknowledgements that each commit needs.
    pub fn servers(self) -> (usize, usize) {
        if self == Nemesis::FiveServers { (5, 2) } else { (3, 1) }
    }

    fn round(self, stage: &mut Stage<'_>) -> anyhow::Result<()> {
        match self {
            Nemesis::Mix => mix::round(stage),
            Nemesis::Kill => server::kill(stage),
            Nemesis::Hang => server::hang(stage),
            Nemesis::PowerOff => server::power_off(stage),
            Nemesis::Rack => server::rack(stage),
            Nemesis::AckerMissing => server::acker_missing(stage),
            Nemesis::AckerRestart => server::acker_restart(stage),
            Nemesis::FiveServers => server::replica_and_primary(stage),
            Nemesis::Target => server::target(stage),
            Nemesis::Isolate => network::isolate(stage),
            Nemesis::Minority => network::minority(stage),
            Nemesis::ManagersCut => network::managers_cut(stage),
            Nemesis::OneManagerCut => network::one_manager_cut(stage),
            Nemesis::ReplicasCut => network::replicas_cut(stage),
            Nemesis::MajorityGone => manager::majority_gone(stage),
            Nemesis::Leader => manager::leader(stage),
            Nemesis::LeaderMidway => manager::leader_midway(stage),
            Nemesis::LeaderStop => manager::leader_stop(stage),
            Nemesis::Operators => manager::operators(stage),
            Nemesis::Switchover => manager::switchover(stage),
            Nemesis::Noise => manager::noise(stage),
            Nemesis::Restart => returning::restart(stage),
            Nemesis::RestartAll => returning::restart_all(stage),
            Nemesis::PowerCut => returning::power_cut(stage),
            Nemesis::Errant => returning::errant(stage),
        }
    }

    /// Plays rounds until the time is over, at least one. Ends early if all does not become well
    /// between two rounds: the ending says what to make of that.
    ///
    /// # Errors
    /// The lab could not do what it was to.
    pub fn play(self, stage: &mut Stage<'_>, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        loop {
            self.round(stage)?;
            if Instant::now() > until || !restore(stage)? {
                return Ok(());
            }
        }
    }
}

/// Goals of the steps that most failovers consist of.
const GOALS: [&str; 5] = ["stop_receiver", "detach", "follow", "open_for_writes", "take_vip"];
/// How long a failover may take before the round goes on without it.
const FAILOVER: Duration = Duration::from_secs(60);

/// Repairs everything, makes new what was quarantined, and waits until all is well; `false`: it
/// does not become well.
fn restore(stage: &mut Stage<'_>) -> anyhow::Result<bool> {
    stage.repair(1000)?;
    if ending::settle(stage, ending::PATIENCE)?.is_err() {
        return Ok(false);
    }
    ending::rebuild(stage)?;
    Ok(ending::become_healthy(stage, ending::PATIENCE)?.is_ok())
}

/// Lets time pass until another server is the primary and nothing is open.
fn await_failover(stage: &mut Stage<'_>, old: &str) -> bool {
    let is_done = |cluster: &Value| {
        let is_new = cluster["primary"].as_str().is_some_and(|name| name != old);
        is_new && cluster["attempt"].is_null()
    };
    stage.pass_until(FAILOVER, is_done)
}

/// Breaks both ways between two hosts.
fn split(stage: &mut Stage<'_>, a: &str, b: &str) -> anyhow::Result<()> {
    stage.perform(Deed::Split { a: a.into(), b: b.into() })
}

/// Kills a server's mysqld unless it is down already, by a fence.
fn kill_if_running(stage: &mut Stage<'_>, server: &str) -> anyhow::Result<()> {
    let host = stage.lab.host(server)?;
    if host.is_on() && host.mysqld_pid()?.is_some() {
        stage.perform(Deed::KillServer { server: server.into() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;

    const README: &str = include_str!("../../README.md");
    const SAFETY: &str = include_str!("../../../SAFETY.md");

    fn names() -> BTreeSet<String> {
        let values = Nemesis::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        values.map(|value| value.get_name().to_owned()).collect()
    }

    /// What stands between backticks.
    fn quoted(text: &str) -> impl Iterator<Item = String> {
        text.split('`').skip(1).step_by(2).map(str::to_owned)
    }

    #[test]
    fn every_nemesis_is_told_in_the_readme_with_what_it_is_to_lead_to() {
        let section = README.split("## Nemeses").nth(1).expect("a section");
        let section = section.split("## ").next().expect("its text");
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let expected = |value: &Nemesis| match value.expects() {
            Expect::Failover => "failover",
            Expect::NoFailover => "no attempt",
            Expect::Anything => "either",
        };
        let told: BTreeSet<(String, String)> = rows
            .map(|row| {
                let name = quoted(row).next().expect("a name");
                let last = row.trim_end_matches(" |").rsplit("| ").next().expect("a column");
                (name, last.to_owned())
            })
            .collect();
        let known = Nemesis::value_variants().iter().filter_map(|value| {
            let name = value.to_possible_value()?.get_name().to_owned();
            Some((name, expected(value).to_owned()))
        });
        assert_eq!(told, known.collect());
    }

    #[test]
    fn scenario_table_is_followed_by_the_names_of_all_nemeses_but_the_plainest() {
        let told = SAFETY.split("Nemeses of the chaos runs").nth(1).expect("a paragraph");
        let told: BTreeSet<String> = quoted(told.split("\n\n").next().expect("its text")).collect();
        let mut names = names();
        assert!(names.remove("mix") && names.remove("kill"));
        assert_eq!(told, names);
    }
}
