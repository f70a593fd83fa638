//! The lab with its managers and clients: who is there, and how time passes. What may be done to
//! it is in [`deed`], what it has on record in [`look`].

mod deed;
mod look;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use conclave_lab::{Group, GroupSpec, Host, Lab, Process, Table, Writer, WriterSpec, now_us};
use conclave_sim::rng::Rng;
use serde_json::Value;

use crate::record::{Action, Aim, Client, Reading, Sighting};
use crate::world::World;

/// Name of the cluster.
pub const CLUSTER: &str = "app1";
/// How long anything may take that must come by itself; the machine may be loaded.
pub const SOON: Duration = Duration::from_secs(60);
/// From one look at the record to the next while time passes.
const LOOK: Duration = Duration::from_secs(2);
/// A client that waits for an acknowledgement that does not come gives up after so long. Each
/// leaves a waiting session on the server, whose number is limited.
const OP_DEADLINE: Duration = Duration::from_secs(2);

/// A client and whom it writes to. The writer is gone once its host was.
struct Running {
    aim: Aim,
    writer: Writer,
}

/// Where a run takes place.
pub struct Stage<'a> {
    /// The hosts.
    pub lab: &'a Lab,
    /// The managers.
    pub group: Group<'a>,
    /// The source of all choices.
    pub rng: Rng,
    /// What was done so far.
    pub actions: Vec<Action>,
    /// What is broken by it.
    pub world: World,
    /// What the managers had on record.
    pub sightings: Vec<Sighting>,
    /// Both clocks.
    pub clocks: Vec<Reading>,
    running: Vec<Running>,
    ended: Vec<Client>,
    /// Operators' commands that may still go on.
    asked: Vec<Process>,
    /// Packets that the network's faults in force have swallowed before the last change.
    dropped: BTreeMap<String, u64>,
    last_primary: String,
    looked: Instant,
}

impl<'a> Stage<'a> {
    /// The lab with a group of these managers that looks after its servers, `acks` of which
    /// acknowledge each commit; and with clients that have written.
    ///
    /// # Errors
    /// The group does not become healthy, or nobody can write.
    pub fn set(lab: &'a Lab, program: PathBuf, acks: usize, rng: Rng) -> anyhow::Result<Self> {
        let policy = vec!["last_failover_minutes = 0".to_owned()];
        let spec = GroupSpec { policy, ..GroupSpec::new(program) };
        let group = Group::form(lab, spec).context("form the group")?;
        let file = group.write_cluster(&format!("acks = {acks}"), &[])?.display().to_string();
        apply(&group, &file)?;
        group.wait_healthy(SOON).context("start the group")?;
        let mut stage = Stage {
            lab,
            group,
            rng,
            actions: Vec::new(),
            world: World::default(),
            sightings: Vec::new(),
            clocks: Vec::new(),
            running: Vec::new(),
            ended: Vec::new(),
            asked: Vec::new(),
            dropped: BTreeMap::new(),
            last_primary: "db1".into(),
            looked: Instant::now(),
        };
        stage.read_clocks();
        Ok(stage)
    }

    /// Starts the clients: four connections through the address, and a watcher on each server's
    /// own host, where no fault of the network keeps it from trying to commit.
    ///
    /// # Errors
    /// A host is off.
    pub fn start_clients(&mut self) -> anyhow::Result<()> {
        let spec = WriterSpec {
            connections: 4,
            interval: Duration::from_millis(20),
            op_deadline: OP_DEADLINE,
            connect_deadline: Duration::from_millis(500),
            retry_pause: Duration::from_millis(50),
            ..WriterSpec::default()
        };
        let mut writer = self.lab.write(&spec)?;
        writer.wait_ok_after(0, SOON)?;
        self.running.push(Running { aim: Aim::Address, writer });
        for server in self.servers() {
            self.start_watcher(&server)?;
        }
        Ok(())
    }

    fn start_watcher(&mut self, server: &str) -> anyhow::Result<()> {
        let writer = self.lab.write(&WriterSpec {
            host: server.to_owned(),
            address: self.lab.host(server)?.ip(),
            table: Table::W,
            interval: Duration::from_millis(100),
            op_deadline: OP_DEADLINE,
            connect_deadline: Duration::from_millis(500),
            retry_pause: Duration::from_millis(100),
            ..WriterSpec::default()
        })?;
        let aim = Aim::Server { server: server.to_owned() };
        self.running.push(Running { aim, writer });
        Ok(())
    }

    /// Takes what the watcher of a host saw that loses its power.
    fn end_watcher(&mut self, host: &str) -> anyhow::Result<()> {
        let is_his = |aim: &Aim| matches!(aim, Aim::Server { server } if server == host);
        for at in (0..self.running.len()).rev() {
            if is_his(&self.running[at].aim) {
                let Running { aim, mut writer } = self.running.remove(at);
                // It is gone, so it cannot be asked to end; what it wrote down is all there is.
                let ops = writer.ops()?.to_vec();
                self.ended.push(Client { aim, ops });
            }
        }
        Ok(())
    }

    /// Waits until the clients' writes through the address are acknowledged again.
    ///
    /// # Errors
    /// None was within the limit.
    pub fn writes_again(&mut self, limit: Duration) -> conclave_lab::Result<()> {
        let since = now_us();
        let through = self.running.iter_mut().filter(|running| running.aim == Aim::Address);
        for running in through {
            running.writer.wait_ok_after(since, limit)?;
        }
        Ok(())
    }

    /// Ends all clients and returns what they saw.
    ///
    /// # Errors
    /// One ended by itself.
    pub fn stop_clients(&mut self) -> anyhow::Result<Vec<Client>> {
        for Running { aim, writer } in std::mem::take(&mut self.running) {
            let history = writer.stop().with_context(|| format!("stop the client of {aim:?}"))?;
            self.ended.push(Client { aim, ops: history.ops });
        }
        Ok(std::mem::take(&mut self.ended))
    }

    /// Names of the database hosts.
    pub fn servers(&self) -> Vec<String> {
        self.lab.servers().iter().map(Host::name).collect()
    }

    /// Names of the managers.
    pub fn managers(&self) -> Vec<String> {
        self.group.names()
    }

    /// The primary by status; the last one known while no manager answers.
    pub fn primary(&mut self) -> String {
        if let Ok(cluster) = self.group.cluster()
            && let Some(primary) = cluster["primary"].as_str()
        {
            self.last_primary = primary.to_owned();
        }
        self.last_primary.clone()
    }

    /// A manager that leads; the first one while nobody says who does.
    pub fn leader(&self) -> String {
        self.group.leader().ok().flatten().unwrap_or_else(|| "m1".into())
    }

    /// The servers that are not the primary.
    pub fn others(&self, primary: &str) -> Vec<String> {
        self.servers().into_iter().filter(|server| server != primary).collect()
    }

    /// A moment between two lengths, in milliseconds, by chance.
    pub fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.rng.range(least_ms, most_ms))
    }

    /// One of these by chance.
    pub fn pick(&mut self, of: &[String]) -> String {
        self.rng.pick(of).cloned().expect("a choice among some")
    }

    /// Lets time pass, and looks at the record meanwhile.
    pub fn pass(&mut self, length: Duration) {
        let until = Instant::now() + length;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.looked.elapsed() > LOOK {
                self.look();
                continue;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Lets time pass until the status is as wanted, or the limit.
    pub fn pass_until(&mut self, limit: Duration, is_so: impl Fn(&Value) -> bool) -> bool {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.group.cluster().is_ok_and(|cluster| is_so(&cluster)) {
                self.look();
                return true;
            }
            self.pass(Duration::from_millis(100));
        }
        false
    }

    /// How long each manager's log is now.
    pub fn log_ends(&self) -> BTreeMap<String, usize> {
        let size = |name: &String| fs::metadata(self.group.log(name)).map_or(0, |m| m.len());
        self.managers().into_iter().map(|name| (name.clone(), size(&name) as usize)).collect()
    }

    /// Waits until some manager's log shows, after these places, the beginning of a step with this
    /// goal; returns that manager and the step's target. `None`: not within the limit.
    pub fn wait_step(
        &self,
        from: &BTreeMap<String, usize>,
        goal: &str,
        limit: Duration,
    ) -> Option<(String, String)> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            for (manager, from) in from {
                let log = fs::read(self.group.log(manager)).unwrap_or_default();
                let new = String::from_utf8_lossy(log.get(*from..).unwrap_or_default());
                if let Some(target) = new.lines().find_map(|line| begun(line, goal)) {
                    return Some((manager.clone(), target));
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

/// Applies the cluster's file, again while a loaded machine leaves the group without a leader.
fn apply(group: &Group<'_>, file: &str) -> conclave_lab::Result<()> {
    let until = Instant::now() + SOON;
    loop {
        match group.expect("m1", &["cluster", "apply", file]) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// The target of the step that a line of a manager's log shows to begin, if it has this goal.
fn begun(line: &str, goal: &str) -> Option<String> {
    if !line.contains("step begins") || !line.contains(&format!("goal=\"{goal}\"")) {
        return None;
    }
    let target = line.split("server=").nth(1)?.split_whitespace().next()?;
    Some(target.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_of_a_step_is_found_by_its_goal_with_its_target() {
        let line = "2026-01-01T00:00:00Z  INFO conclave::run::leader: step begins cluster=app1 \
                    step=1.2 goal=\"follow\" server=db3";
        assert_eq!(begun(line, "follow").as_deref(), Some("db3"));
        assert_eq!(begun(line, "detach"), None);
        assert_eq!(begun("INFO follow goal=\"follow\" server=db3", "follow"), None);
    }
}
