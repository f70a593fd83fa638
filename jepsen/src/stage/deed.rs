//! What the nemesis does, what is repaired after it, and what proves that it took effect.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use conclave_lab::{Host, MYSQL_PORT, Role, Signal, now_us};

use super::{CLUSTER, SOON, Stage};
use crate::record::{Action, Deed};

/// How often a server is made new before that counts as a failure of the harness.
const REBUILDS: u32 = 3;

impl Stage<'_> {
    /// Does one thing and writes it down. A proof of what the network swallows comes later.
    ///
    /// # Errors
    /// The lab could not do it.
    pub fn perform(&mut self, deed: Deed) -> anyhow::Result<()> {
        let at_us = now_us();
        if matches!(
            deed,
            Deed::Isolate { .. }
                | Deed::Split { .. }
                | Deed::Cut { .. }
                | Deed::Loss { .. }
                | Deed::HealNetwork
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
            Deed::Split { a, b } => {
                self.lab.split(a, b)?;
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
            Deed::AskSwitchover { manager } => {
                let args = ["switchover", CLUSTER, "--yes"];
                self.asked.push(self.group.start_cli(manager, &args)?);
                Some("asked".into())
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
            let counters = action.deed.counters();
            let packets: u64 = counters.iter().filter_map(|name| self.dropped.get(name)).sum();
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
