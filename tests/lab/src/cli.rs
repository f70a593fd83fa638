//! The commands: each finds its lab, does one thing, and says what it did.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use conclave_lab::{
    Error, Install, Lab, LabSpec, READER_VIP, Result, Role, Signal, WRITER_VIP, Writer, WriterSpec,
    double, guest, keeper, load, lost_acked, now_us, relay, show::Show,
};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Real MySQL 9.7 servers and hosts on racks, inside namespaces of their own.
///
/// A lab has database hosts db1, db2, db3, manager hosts m1, m2, m3 and one client; each is a host
/// of its own, with its own address, and nothing of it is visible on this machine. Try:
/// `conclave-lab up --keep`, `conclave-lab status`, `conclave-lab sql db1 'SELECT @@server_id'`,
/// `conclave-lab write --seconds 20` in one terminal and `conclave-lab kill db1` in another.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Name of the lab; may be left out while only one is running
    #[arg(long, global = true, env = "CONCLAVE_LAB")]
    name: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install missing Debian packages and MySQL 9.7, and do nothing else
    Install,
    /// Bring a lab up, with db1 as the primary
    Up {
        /// Leave it running when this command ends; `down` removes it
        #[arg(long)]
        keep: bool,
        /// Number of database hosts
        #[arg(long, default_value_t = 3)]
        servers: usize,
        /// Number of manager hosts
        #[arg(long, default_value_t = 3)]
        managers: usize,
        /// Switch the servers' performance schema on (140 MB more each)
        #[arg(long)]
        performance_schema: bool,
        /// Put each server's data on a memory disk of so many MB, so that it can be filled
        #[arg(long)]
        srv_mb: Option<u32>,
        /// Leave the servers read-only, without replication
        #[arg(long)]
        bare: bool,
    },
    /// Take a lab down and remove every trace of it
    Down,
    /// Remove what killed labs left behind
    Sweep,
    /// Show the labs of this machine, and the hosts of this one
    Status,
    /// Run a program on a host
    Exec {
        /// db1, m1, client ...
        host: String,
        /// Program and arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run SQL on a database host, as root
    Sql {
        /// db1, db2 ...
        host: String,
        /// One or more statements
        statements: String,
    },
    /// Send a signal to a host's mysqld
    Kill {
        /// db1, db2 ...
        host: String,
        /// KILL, STOP, CONT, TERM ...
        #[arg(default_value = "KILL")]
        signal: String,
    },
    /// Start a host's mysqld and wait until it answers
    Start {
        /// db1, db2 ...
        host: String,
    },
    /// Bring a host's mysqld back so many seconds after each of its ends, as a service manager does
    RestartAfter {
        /// db1, db2 ...
        host: String,
        /// Seconds; `off` leaves it dead
        seconds: String,
    },
    /// Cut a host's power: its peers see silence
    Poweroff {
        /// db1, m1 ...
        host: String,
    },
    /// Boot a host again
    Poweron {
        /// db1, m1 ...
        host: String,
        /// Leave mysqld down
        #[arg(long)]
        no_mysqld: bool,
    },
    /// One way: TO no longer hears FROM
    Cut { from: String, to: String },
    /// Both ways: neither hears the other
    Split { a: String, b: String },
    /// The host neither hears nor is heard by anyone
    Isolate { host: String },
    /// Lose so many packets per thousand, to the host and from it (0 ends it)
    Loss { host: String, permille: u32 },
    /// Delay each packet to the host and from it by so many milliseconds (0 ends it)
    Delay { host: String, ms: u64 },
    /// End all cuts, isolations and losses
    Heal,
    /// Fill a host's memory disk (needs `up --srv-mb`)
    Fill { host: String },
    /// End `fill`
    Free { host: String },
    /// Make a server the primary, by force: for a fresh lab only
    Replicate { primary: String },
    /// Write through the writer VIP from the client host, and show what the client sees
    ///
    /// Ctrl-C ends it before its time. At the end the server that has the VIP is asked whether it
    /// has all that was acknowledged; exit status 1 if not.
    Write {
        /// End after so many seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Milliseconds between two inserts
        #[arg(long, default_value_t = 2)]
        every_ms: u64,
        /// Number of connections
        #[arg(long, default_value_t = 1)]
        connections: u32,
        /// Milliseconds between two lines while all is well
        #[arg(long, default_value_t = 1000)]
        show_ms: u64,
    },
    /// Try to commit on each server by itself, and say which accept
    Watch {
        /// End after so many seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    #[command(hide = true)]
    Reaper {
        root: PathBuf,
        #[arg(long)]
        keep: bool,
    },
    #[command(hide = true)]
    Keeper { root: PathBuf },
    #[command(hide = true)]
    Boot { root: PathBuf, host: String },
    #[command(hide = true)]
    Init { root: PathBuf, host: String },
    #[command(hide = true)]
    Relay { root: PathBuf, host: String, ms: u64 },
    #[command(hide = true)]
    Load(load::Args),
}

/// Runs a command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let name = cli.name;
    let lab = || attach(name.as_deref());
    let on = |host: &str| lab()?.host(host);
    match cli.command {
        Command::Install => {
            say(format!("MySQL is in {}", Install::ensure()?.prefix().display()));
        }
        Command::Up { keep, servers, managers, performance_schema, srv_mb, bare } => {
            let defaults = LabSpec {
                name: name.clone(),
                keep,
                servers,
                managers,
                srv_mb,
                ..LabSpec::default()
            };
            up(LabSpec { performance_schema, ..defaults }, bare)?;
        }
        Command::Down => {
            let lab = lab()?;
            let name = lab.name().to_owned();
            lab.down()?;
            say(format!("lab {name} is gone"));
        }
        Command::Sweep => say(format!("removed: {}", or_none(&Lab::sweep()?))),
        Command::Status => status(name.as_deref())?,
        Command::Exec { host, command } => return exec(&lab()?, &host, &command),
        Command::Sql { host, statements } => {
            for row in on(&host)?.sql(&statements)? {
                say(row.join("\t"));
            }
        }
        Command::Kill { host, signal } => on(&host)?.signal_mysqld(parse_signal(&signal)?)?,
        Command::Start { host } => on(&host)?.start_mysqld()?,
        Command::RestartAfter { host, seconds } => {
            on(&host)?.restart_after(parse_pause(&seconds)?)?;
        }
        Command::Poweroff { host } => on(&host)?.power_off()?,
        Command::Poweron { host, no_mysqld } => on(&host)?.power_on(!no_mysqld)?,
        Command::Cut { from, to } => lab()?.cut(&from, &to)?,
        Command::Split { a, b } => lab()?.split(&a, &b)?,
        Command::Isolate { host } => lab()?.isolate(&host)?,
        Command::Loss { host, permille } => lab()?.loss(&host, permille)?,
        Command::Delay { host, ms } => lab()?.delay(&host, ms)?,
        Command::Heal => lab()?.heal()?,
        Command::Fill { host } => on(&host)?.fill_disk()?,
        Command::Free { host } => on(&host)?.free_disk()?,
        Command::Replicate { primary } => lab()?.replicate(&primary)?,
        Command::Write { seconds, every_ms, connections, show_ms } => {
            let interval = Duration::from_millis(every_ms);
            let spec = WriterSpec { interval, connections, ..WriterSpec::default() };
            let (length, every) = (Duration::from_secs(seconds), Duration::from_millis(show_ms));
            return write(&lab()?, &spec, length, every);
        }
        Command::Watch { seconds } => watch(&lab()?, Duration::from_secs(seconds))?,
        Command::Reaper { root, keep } => keeper::reap_lab(&root, keep)?,
        Command::Keeper { root } => keeper::keep_lab(&root)?,
        Command::Boot { root, host } => guest::boot(&root, &host)?,
        Command::Init { root, host } => guest::init(&root, &host)?,
        Command::Relay { root, host, ms } => relay::run(&root, &host, ms)?,
        Command::Load(args) => load::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line. Whoever reads us may have seen enough; then there is nobody to go on for.
fn say(line: impl std::fmt::Display) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// The named lab, or the only one that runs.
fn attach(name: Option<&str>) -> Result<Lab> {
    if let Some(name) = name {
        return Lab::attach(name);
    }
    let running: Vec<String> =
        Lab::list()?.into_iter().filter(|lab| lab.is_running).map(|lab| lab.name).collect();
    match running.as_slice() {
        [only] => Lab::attach(only),
        several => Err(Error::Malformed {
            what: "choose a lab (give --name NAME, or `up --keep` one)".into(),
            wanted: "exactly one running lab".into(),
            found: or_none(several),
        }),
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn up(spec: LabSpec, bare: bool) -> Result<()> {
    let started = Instant::now();
    let keep = spec.keep;
    let lab = if bare { Lab::up(spec)? } else { Lab::up_replicated(spec)? };
    say(format!("lab {} is up after {:.1} s", lab.name(), started.elapsed().as_secs_f64()));
    show_hosts(&lab)?;
    if keep {
        say(format!("it stays; remove it with: conclave-lab down --name {}", lab.name()));
        return Ok(());
    }
    say("it ends with this command: press Ctrl-C");
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGINT);
    ends.add(Signal::SIGTERM);
    let waited = ends.thread_block().and_then(|()| ends.wait());
    waited.map_err(|errno| Error::Io { what: "wait for Ctrl-C".into(), cause: errno.into() })?;
    lab.down()
}

fn status(name: Option<&str>) -> Result<()> {
    let labs = Lab::list()?;
    if labs.is_empty() {
        say("no lab on this machine; make one with: conclave-lab up --keep");
        return Ok(());
    }
    for found in labs {
        let wanted = name.is_none_or(|name| name == found.name);
        match (found.is_running, wanted) {
            (true, true) => {
                say(format!("lab {}", found.name));
                show_hosts(&Lab::attach(&found.name)?)?;
            }
            (true, false) => say(format!("lab {}", found.name)),
            (false, _) => {
                say(format!("lab {}: stale, remove it with: conclave-lab sweep", found.name))
            }
        }
    }
    Ok(())
}

fn show_hosts(lab: &Lab) -> Result<()> {
    say(format!("  {:7} {:5} {:12} {:13} state", "host", "rack", "address", "segment"));
    for host in lab.hosts() {
        let place = host.place();
        let (rack, ip, segment) = (place.rack, host.ip(), place.segment_ip());
        let state = state(&host)?;
        say(format!("  {:7} {rack:<5} {ip:12} {segment:13} {state}", host.name()));
    }
    let faults = lab.faults()?;
    for (from, to) in &faults.cuts {
        say(format!("  {to} does not hear {from}"));
    }
    for host in &faults.isolated {
        say(format!("  {host} is isolated"));
    }
    for (host, permille) in &faults.loss {
        say(format!("  {host} loses {permille} of 1000 packets each way"));
    }
    Ok(())
}

/// What is worth knowing of a host, in a few words.
fn state(host: &conclave_lab::Host) -> Result<String> {
    if !host.is_on() {
        return Ok("powered off".into());
    }
    if host.place().role != Role::Server {
        return Ok("on".into());
    }
    if host.mysqld_pid()?.is_none() {
        return Ok("on, mysqld down".into());
    }
    let asked = host.sql_within(
        Duration::from_secs(1),
        "SELECT IF(@@super_read_only, 'read-only', IF(@@read_only, 'read-only for applications', \
         'writable')); SELECT CONCAT('follows ', host, ', receiver ', service_state) FROM \
         performance_schema.replication_connection_configuration JOIN \
         performance_schema.replication_connection_status USING (channel_name) WHERE host <> ''",
    );
    let mut words: Vec<String> = match asked {
        Ok(rows) => rows.into_iter().flatten().collect(),
        Err(err) => vec![format!("mysqld does not answer: {err}")],
    };
    for (vip, what) in [(WRITER_VIP, "writer VIP"), (READER_VIP, "reader VIP")] {
        if host.has_address(vip)? {
            words.push(format!("{what} {vip}"));
        }
    }
    Ok(words.join(", "))
}

fn exec(lab: &Lab, host: &str, command: &[String]) -> Result<ExitCode> {
    let (program, args) = command.split_first().expect("clap wants at least one word");
    let status = lab.host(host)?.exec(program, args)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
}

fn parse_signal(name: &str) -> Result<Signal> {
    let full = format!("SIG{}", name.trim_start_matches("SIG"));
    full.parse().map_err(|_| Error::Malformed {
        what: "read the signal".into(),
        wanted: "a name as KILL, STOP, CONT, TERM".into(),
        found: name.into(),
    })
}

fn parse_pause(seconds: &str) -> Result<Option<Duration>> {
    if seconds == "off" {
        return Ok(None);
    }
    let parsed = seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    parsed.map(Some).ok_or_else(|| Error::Malformed {
        what: "read the pause".into(),
        wanted: "seconds, or `off`".into(),
        found: seconds.into(),
    })
}

/// Shows what the client sees until the time is over or a signal comes, and then whether the server
/// that has the writer address has all that was acknowledged.
fn write(lab: &Lab, spec: &WriterSpec, length: Duration, every: Duration) -> Result<ExitCode> {
    let mut writer = lab.write(spec)?;
    // After the start: a child inherits what is blocked.
    let failed = |errno: Errno| Error::Io { what: "hear signals".into(), cause: errno.into() };
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGINT);
    ends.add(Signal::SIGTERM);
    ends.thread_block().map_err(failed)?;
    let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    let servers = lab.servers().into_iter();
    let names = servers.map(|host| (host.place().server_id(), host.name())).collect();
    let mut show = Show::new(every, names, now_us());
    let started = Instant::now();
    let mut seen = 0;
    while started.elapsed() < length && signals.read_signal().map_err(failed)?.is_none() {
        thread::sleep(Duration::from_millis(5));
        let ops = writer.ops()?;
        let lines = show.news(&ops[seen..]);
        seen = ops.len();
        lines.into_iter().chain(show.silence(now_us())).for_each(say);
    }
    let history = writer.stop()?;
    say(format!(
        "{} writes acknowledged; the longest time without one was {:.3} s",
        history.acked().count(),
        history.longest_gap().as_secs_f64()
    ));
    let mut holder = None;
    for host in lab.servers() {
        if host.is_on() && host.has_address(WRITER_VIP)? {
            holder = Some(host);
        }
    }
    let Some(holder) = holder else {
        say("no server has the writer address, so none can be asked whether it has them all");
        return Ok(ExitCode::FAILURE);
    };
    let lost = lost_acked(&history, &holder)?;
    if lost.is_empty() {
        say(format!("{} has the writer address, and all of them", holder.name()));
        return Ok(ExitCode::SUCCESS);
    }
    say(format!("LOST: {} has the writer address and lacks {}", holder.name(), lost.len()));
    Ok(ExitCode::FAILURE)
}

fn watch(lab: &Lab, length: Duration) -> Result<()> {
    let names: Vec<String> = lab.servers().iter().map(|host| host.name()).collect();
    let watchers: Result<Vec<Writer>> = names.iter().map(|name| lab.watch(name)).collect();
    let mut watchers = watchers?;
    let started = Instant::now();
    let mut before = String::new();
    while started.elapsed() < length {
        thread::sleep(Duration::from_millis(200));
        let recent = conclave_lab::now_us().saturating_sub(200_000);
        let mut accepting = Vec::new();
        for (name, watcher) in names.iter().zip(&mut watchers) {
            if watcher.first_ok_after(recent)?.is_some() {
                accepting.push(name.clone());
            }
        }
        let now = or_none(&accepting);
        if now != before {
            say(format!("{:7.1} s  writable: {now}", started.elapsed().as_secs_f64()));
            before = now;
        }
    }
    let histories: Result<Vec<_>> = watchers.into_iter().map(Writer::stop).collect();
    let doubles = double(&histories?, Duration::from_millis(500));
    say(format!("commits acknowledged by two servers in turns: {}", doubles.len()));
    Ok(())
}
