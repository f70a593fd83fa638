//! The lab with its managers and clients, and everything that may be done to it. Each deed is
//! written down with what proves that it took effect.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use conclave_lab::{
    Group, GroupSpec, Host, Lab, MYSQL_PORT, Role, Signal, Table, Writer, WriterSpec, now_us,
};
use conclave_sim::rng::Rng;
use serde_json::Value;

use crate::record::{Action, Aim, Client, Deed, Reading, Sighting};
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

/// How often a server is made new before that counts as a failure of the harness.
const REBUILDS: u32 = 3;

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
        group.expect("m1", &["cluster", "apply", &file])?;
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

    /// Does one thing and writes it down. A proof of what the network swallows comes later.
    ///
    /// # Errors
    /// The lab could not do it.
    pub fn perform(&mut self, deed: Deed) -> anyhow::Result<()> {
        let at_us = now_us();
        if matches!(
            deed,
            Deed::Isolate { .. } | Deed::Cut { .. } | Deed::Loss { .. } | Deed::HealNetwork
        ) {
            self.count_dropped()?;
        }
        let proof = self.carry_out(&deed);
        let proof = proof.with_context(|| format!("{} {}", deed.code(), deed.subject()))?;
        self.world.apply(&deed);
        self.actions.push(Action { at_us, done_us: now_us(), deed, proof });
        Ok(())
    }

    fn carry_out(&mut self, deed: &Deed) -> anyhow::Result<Option<String>> {
        let host = |name: &str| self.lab.host(name);
        let proof = match deed {
            Deed::KillServer { server } => {
                host(server)?.kill_mysqld()?;
                Some("mysqld is gone".to_owned())
            }
            Deed::StopServer { server } => {
                host(server)?.stop_mysqld()?;
                Some("mysqld is in state T".to_owned())
            }
            Deed::ContinueServer { server } => {
                host(server)?.cont_mysqld()?;
                None
            }
            Deed::RestartServer { server, after_ms } => {
                host(server)?.restart_after(Some(Duration::from_millis(*after_ms)))?;
                host(server)?.kill_mysqld()?;
                Some("mysqld is gone, for now".to_owned())
            }
            Deed::StartServer { server } => {
                self.start_server(server)?;
                None
            }
            Deed::PowerOff { host: name } => {
                self.power_off(name)?;
                Some("all its processes are gone".to_owned())
            }
            Deed::PowerOn { host: name } => {
                self.power_on(name)?;
                None
            }
            Deed::KillManager { manager } => {
                self.group.kill(manager)?;
                Some("it is gone".to_owned())
            }
            Deed::StopManager { manager } => {
                self.group.manager(manager)?.signal(Signal::SIGSTOP)?;
                let pid = self.group.manager(manager)?.pid();
                wait_state(pid, 'T')?;
                Some("it is in state T".to_owned())
            }
            Deed::ContinueManager { manager } => {
                self.group.manager(manager)?.signal(Signal::SIGCONT)?;
                None
            }
            Deed::StartManager { manager } => {
                self.group.start(manager)?;
                None
            }
            Deed::Isolate { host } => {
                self.lab.isolate(host)?;
                None
            }
            Deed::Cut { from, to } => {
                self.lab.cut(from, to)?;
                None
            }
            Deed::Loss { host, permille } => {
                self.lab.loss(host, *permille)?;
                None
            }
            Deed::Delay { host, ms } => {
                self.lab.delay(host, *ms)?;
                self.measure_delay(host, *ms)?
            }
            Deed::HealNetwork => {
                self.lab.heal()?;
                for name in self.world.delay.clone().into_keys() {
                    if self.lab.host(&name)?.is_on() {
                        self.lab.delay(&name, 0)?;
                    }
                }
                None
            }
            Deed::Rebuild { server, donor } => {
                let (mut tries, donor) = (REBUILDS, host(donor)?);
                // It is in nobody's way, but a fence may still be, or the donor's end.
                while let Err(error) = host(server)?.rebuild_mysqld(&donor) {
                    tries -= 1;
                    if tries == 0 {
                        return Err(error.into());
                    }
                }
                None
            }
            Deed::WriteErrant { server } => {
                let id = now_us();
                host(server)?.sql(&format!(
                    "SET GLOBAL super_read_only=OFF; INSERT INTO app.w (id, v) VALUES ({id}, 'x'); \
                     SET GLOBAL super_read_only=ON"
                ))?;
                Some(format!("row {id} is there"))
            }
            Deed::AskFailovers { first, second } => {
                let ask = |manager| self.group.cli(manager, &["failover", CLUSTER, "--yes"]);
                let (one, other) = std::thread::scope(|scope| {
                    let one = scope.spawn(|| ask(first));
                    let other = ask(second);
                    (one.join().expect("asking does not panic"), other)
                });
                let first_line = |output: &Output| {
                    let said = String::from_utf8_lossy(&output.stdout);
                    said.lines().next().unwrap_or("nothing").to_owned()
                };
                Some(format!("answers: {}; {}", first_line(&one?), first_line(&other?)))
            }
        };
        Ok(proof)
    }

    /// Cuts the power, and collects meanwhile what are processes of the host and children of ours:
    /// the host is gone only when they are.
    fn power_off(&mut self, name: &str) -> anyhow::Result<()> {
        let host = self.lab.host(name)?;
        std::thread::scope(|scope| {
            let off = scope.spawn(|| host.power_off());
            while !off.is_finished() {
                for running in &mut self.running {
                    running.writer.is_running();
                }
                if let Ok(manager) = self.group.manager(name) {
                    manager.is_running();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            off.join().expect("cutting the power does not panic")
        })?;
        self.end_watcher(name)
    }

    /// Starts a server's mysqld, again where a fence kills it meanwhile, until it has answered.
    fn start_server(&self, name: &str) -> anyhow::Result<()> {
        let host = self.lab.host(name)?;
        let until = Instant::now() + SOON;
        loop {
            let Err(error) = host.start_mysqld() else { return Ok(()) };
            if host.mysqld_pid()?.is_some() || Instant::now() > until {
                return Err(error.into());
            }
        }
    }

    fn power_on(&mut self, name: &str) -> anyhow::Result<()> {
        let host = self.lab.host(name)?;
        host.power_on(false)?;
        match host.place().role {
            Role::Server => {
                self.start_server(name)?;
                self.start_watcher(name)
            }
            Role::Manager => Ok(self.group.start(name)?),
            Role::Client => Ok(()),
        }
    }

    /// How long a connection to the host takes now: the proof of a delay. `None` if it came
    /// sooner than the delay allows.
    fn measure_delay(&self, name: &str, ms: u64) -> anyhow::Result<Option<String>> {
        let host = self.lab.host(name)?;
        let port = match host.place().role {
            Role::Server => MYSQL_PORT,
            Role::Manager | Role::Client => conclave_lab::group::PORT,
        };
        let took = connect(&self.lab.host("client")?, host.ip(), port)?;
        let took = took.filter(|took| took.as_millis() as u64 >= ms);
        Ok(took.map(|took| format!("a connection takes {} ms", took.as_millis())))
    }

    /// Adds what the faults in force have swallowed to their actions' proof. To be called before
    /// the faults change, as the counters begin anew then.
    fn count_dropped(&mut self) -> anyhow::Result<()> {
        for (fault, packets) in self.lab.dropped()? {
            let sum = self.dropped.entry(fault).or_default();
            *sum += packets;
        }
        for action in &mut self.actions {
            let Some(counter) = action.deed.counter() else { continue };
            let packets = self.dropped.get(&counter).copied().unwrap_or(0);
            if packets > 0 && action.proof.is_none() {
                action.proof = Some(format!("{packets} packets dropped or more"));
            }
        }
        // The next fault of the same name is to prove itself.
        self.dropped.clear();
        Ok(())
    }

    /// Repairs all that is broken, in an order by chance with pauses in between.
    ///
    /// # Errors
    /// The lab could not.
    pub fn repair(&mut self, pause_ms: u64) -> anyhow::Result<()> {
        let mut names = self.servers();
        names.extend(self.managers());
        names.push(String::new());
        while !names.is_empty() {
            let at = self.rng.below(names.len() as u64) as usize;
            let name = names.swap_remove(at);
            let was_broken = match name.as_str() {
                "" => self.repair_network()?,
                name if name.starts_with("db") => self.repair_server(name)?,
                name => self.repair_manager(name)?,
            };
            if was_broken && pause_ms > 0 {
                let pause = self.between(0, pause_ms);
                self.pass(pause);
            }
        }
        Ok(())
    }

    /// Ends all faults of the network.
    ///
    /// # Errors
    /// The lab could not.
    pub fn repair_network(&mut self) -> anyhow::Result<bool> {
        let world = &self.world;
        let is_whole = world.isolated.is_empty()
            && world.cuts.is_empty()
            && world.loss.is_empty()
            && world.delay.is_empty();
        if is_whole {
            return Ok(false);
        }
        self.perform(Deed::HealNetwork)?;
        Ok(true)
    }

    /// Gives a server what it lacks: power, a signal to go on, a start. A stopped one may have
    /// been killed by a fence meanwhile.
    ///
    /// # Errors
    /// The lab could not.
    pub fn repair_server(&mut self, name: &str) -> anyhow::Result<bool> {
        let host = self.lab.host(name)?;
        if !host.is_on() {
            self.perform(Deed::PowerOn { host: name.into() })?;
            return Ok(true);
        }
        host.restart_after(None)?;
        let was_stopped = self.world.stopped.contains(name);
        if was_stopped && host.mysqld_pid()?.is_some() {
            self.perform(Deed::ContinueServer { server: name.into() })?;
        }
        if host.mysqld_pid()?.is_none() {
            self.perform(Deed::StartServer { server: name.into() })?;
            return Ok(true);
        }
        Ok(was_stopped)
    }

    /// Gives a manager what it lacks.
    ///
    /// # Errors
    /// The lab could not.
    pub fn repair_manager(&mut self, name: &str) -> anyhow::Result<bool> {
        if !self.lab.host(name)?.is_on() {
            self.perform(Deed::PowerOn { host: name.into() })?;
            return Ok(true);
        }
        if !self.group.manager(name)?.is_running() {
            self.perform(Deed::StartManager { manager: name.into() })?;
            return Ok(true);
        }
        if self.world.stopped.contains(name) {
            self.perform(Deed::ContinueManager { manager: name.into() })?;
            return Ok(true);
        }
        Ok(false)
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

    /// Asks whoever answers for the attempts that are not known to be over. That nobody answers is
    /// no failure while things are broken.
    pub fn look(&mut self) {
        self.looked = Instant::now();
        self.read_clocks();
        let Ok(cluster) = self.group.cluster() else { return };
        let epoch = cluster["epoch"].as_u64().unwrap_or(0);
        for epoch in self.first_open()..=epoch {
            if let Ok(output) = self.group.cli("client", &report(&id(epoch))) {
                self.note("any", &output.stdout);
            }
        }
    }

    /// Asks each manager for each attempt.
    ///
    /// # Errors
    /// One does not answer: they all run by now.
    pub fn look_everywhere(&mut self, epoch: u64) -> anyhow::Result<()> {
        for manager in self.managers() {
            // The record keeps a number of attempts; older ones were seen before.
            for epoch in epoch.saturating_sub(15).max(1)..=epoch {
                let output = self.group.cli_of(&manager, &report(&id(epoch)))?;
                if !self.note(&manager, &output.stdout) {
                    let said = String::from_utf8_lossy(&output.stderr);
                    bail!("{manager} has no report of {}: {said}", id(epoch));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, manager: &str, said: &[u8]) -> bool {
        let report = serde_json::from_slice::<Value>(said).ok();
        let sighting = report.and_then(|report| Sighting::read(&report, manager, now_us()).ok());
        let is_one = sighting.is_some();
        self.sightings.extend(sighting);
        is_one
    }

    /// The first epoch whose end was not seen.
    fn first_open(&self) -> u64 {
        let over = self.sightings.iter().filter(|seen| seen.outcome != "open");
        over.map(|seen| seen.epoch).max().unwrap_or(0) + 1
    }

    /// Reads both clocks.
    pub fn read_clocks(&mut self) {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.clocks.push(Reading { us: now_us(), wall_us: wall.as_micros() as u64 });
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

/// The target of the step that a line of a manager's log shows to begin, if it has this goal.
fn begun(line: &str, goal: &str) -> Option<String> {
    if !line.contains("step begins") || !line.contains(&format!("goal=\"{goal}\"")) {
        return None;
    }
    let target = line.split("server=").nth(1)?.split_whitespace().next()?;
    Some(target.trim_matches('"').to_owned())
}

fn id(epoch: u64) -> String {
    format!("{CLUSTER}-{epoch}")
}

fn report(id: &str) -> [&str; 4] {
    ["report", id, "-o", "json"]
}

/// How long a TCP connection from a host takes; `None`: none within 3 s.
fn connect(from: &Host, to: Ipv4Addr, port: u16) -> anyhow::Result<Option<Duration>> {
    let script = format!("exec 3<>/dev/tcp/{to}/{port}");
    let began = Instant::now();
    let output = from.run("timeout", &["3", "bash", "-c", &script], &[])?;
    Ok(output.status.success().then(|| began.elapsed()))
}

/// Waits until a process of this machine is in a state.
fn wait_state(pid: u32, wanted: char) -> anyhow::Result<()> {
    let until = Instant::now() + SOON;
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        if stat.rsplit(") ").next().and_then(|rest| rest.chars().next()) == Some(wanted) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("process {pid} did not get into state {wanted}: {stat}");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
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
