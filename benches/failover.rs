//! How long is a real cluster without a primary? From the fault to the first acknowledged write on
//! the new one, seen by a client that writes every 2 ms through the address.
//!
//! `cargo bench --bench failover -- --runs 20 --fault kill --json kill.json`
//!
//! Faults: `kill` (SIGKILL to mysqld), `stop` (SIGSTOP), `poweroff` (the primary's host), `leader`
//! (primary and leading manager in the same instant), `midway` (the leader in the middle of the
//! failover), `noise` (no fault: 5 % packet loss, delays of up to 50 ms and pauses of up to 3 s on
//! the managers' side for `--minutes`, which must not lead to a failover), `idle` (no fault).

#![allow(clippy::disallowed_methods)]

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use conclave_lab::{
    Group, GroupSpec, Host, Lab, LabSpec, Signal, Writer, WriterSpec, lost_acked, now_us,
};
use serde::Serialize;
use serde_json::Value;

/// Generous: a server that is made new has everything to fetch.
const SOON: Duration = Duration::from_secs(180);

#[derive(Parser)]
struct Args {
    /// How often.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// What happens to the primary.
    #[arg(long, value_enum, default_value = "kill")]
    fault: Fault,
    /// Where the figures go; standard output without it.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Length of `noise` and `idle`.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Further policy lines; the last-failover interval is 0 in any case.
    #[arg(long)]
    policy: Vec<String>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    Kill,
    Stop,
    Poweroff,
    Leader,
    Midway,
    Noise,
    Idle,
}

/// One failover, in milliseconds. The parts add up to the total but for the client's own share.
#[derive(Clone, Debug, Serialize)]
struct Run {
    total_ms: f64,
    detect_ms: f64,
    verdict_ms: f64,
    freeze_ms: Option<f64>,
    recover_ms: Option<f64>,
    promote_ms: Option<f64>,
    publish_ms: Option<f64>,
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Figures {
    fault: Fault,
    runs: Vec<Run>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    lost_acked: usize,
    false_failovers: u64,
    minutes: Option<u64>,
    /// Of each manager: largest resident set, share of one core, bytes written a second.
    managers: Vec<Usage>,
    settings: Value,
    machine: Value,
}

#[derive(Clone, Debug, Serialize)]
struct Usage {
    manager: String,
    rss_mb: f64,
    cpu_percent: f64,
    written_bytes_per_s: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::up_replicated(LabSpec::default())?;
    let mut policy = vec!["last_failover_minutes = 0".to_owned()];
    policy.extend(args.policy.iter().cloned());
    let spec = GroupSpec { policy, ..GroupSpec::new(env!("CARGO_BIN_EXE_conclave")) };
    let mut group = Group::start_all(&lab, spec)?;
    let mut writer = lab.write(&WriterSpec::default())?;
    writer.wait_ok_after(0, SOON)?;
    let mut runs = Vec::new();
    let mut managers = Vec::new();
    match args.fault {
        Fault::Noise | Fault::Idle => managers = quiet(&lab, &mut group, args)?,
        Fault::Kill | Fault::Stop | Fault::Poweroff | Fault::Leader | Fault::Midway => {
            for number in 1..=args.runs {
                let run = one(&lab, &mut group, &mut writer, args.fault);
                let run = run.inspect_err(|_| eprintln!("{}", group.last_words()));
                let run = run.with_context(|| format!("run {number}"))?;
                eprintln!("{number:>3}  {:7.0} ms  {} -> {}", run.total_ms, run.from, run.to);
                runs.push(run);
            }
        }
    }
    let cluster = group.wait_healthy(SOON)?;
    let false_failovers = cluster["epoch"].as_u64().unwrap_or(0).saturating_sub(runs.len() as u64);
    let history = writer.stop()?;
    let primary = lab.host(cluster["primary"].as_str().context("a primary")?)?;
    let executed = primary.sql_value("SELECT @@global.gtid_executed")?;
    let mut lost = 0;
    for server in lab.servers() {
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 180)");
        // A server that was made new just now has everything to fetch.
        let waited = server.sql_within(Duration::from_secs(200), &wait)?;
        if waited != [["0"]] {
            bail!("{} did not catch up within 180 s: no verdict ({waited:?})", server.name());
        }
        let missing = lost_acked(&history, &server)?;
        if !missing.is_empty() {
            let (from, to) = (missing[0], missing[missing.len() - 1]);
            let count = missing.len();
            eprintln!("{}: {count} missing, {from} to {to}", server.name());
            eprintln!("{}", group.last_words());
        }
        lost = lost.max(missing.len());
    }
    let mut totals: Vec<f64> = runs.iter().map(|run| run.total_ms).collect();
    totals.sort_by(f64::total_cmp);
    let figures = Figures {
        fault: args.fault,
        p50_ms: percentile(&totals, 0.50),
        p99_ms: percentile(&totals, 0.99),
        runs,
        lost_acked: lost,
        false_failovers,
        minutes: matches!(args.fault, Fault::Noise | Fault::Idle).then_some(args.minutes),
        managers,
        settings: settings(&group)?,
        machine: machine(),
    };
    let text = serde_json::to_string_pretty(&figures)?;
    match &args.json {
        Some(path) => fs::write(path, text).context("write the figures")?,
        None => println!("{text}"),
    }
    if lost > 0 || false_failovers > 0 {
        bail!("{lost} acknowledged writes lost, {false_failovers} false failovers");
    }
    Ok(())
}

/// One fault, its failover, and the way back to three healthy servers.
fn one(lab: &Lab, group: &mut Group<'_>, writer: &mut Writer, fault: Fault) -> anyhow::Result<Run> {
    let healthy = group.wait_healthy(SOON)?;
    let from = healthy["primary"].as_str().context("a primary")?.to_owned();
    let epoch = healthy["epoch"].as_u64().context("an epoch")?;
    let leader = group.leader()?.context("a leader")?;
    writer.wait_ok_after(now_us(), SOON)?;
    let host = lab.host(&from)?;
    let log = group.log(&leader);
    let before = fs::read_to_string(&log)?.len();
    // Time of the fault: the moment before it is injected.
    let (at, wall) = (now_us(), wall_ms());
    match fault {
        Fault::Kill => host.signal_mysqld(Signal::SIGKILL)?,
        Fault::Stop => host.signal_mysqld(Signal::SIGSTOP)?,
        Fault::Poweroff => host.power_off()?,
        Fault::Leader => {
            group.manager(&leader)?.signal(Signal::SIGKILL)?;
            host.signal_mysqld(Signal::SIGKILL)?;
        }
        Fault::Midway => {
            host.signal_mysqld(Signal::SIGKILL)?;
            wait_for_log(&log, before, "goal=\"follow\"")?;
            group.manager(&leader)?.signal(Signal::SIGKILL)?;
        }
        Fault::Noise | Fault::Idle => bail!("no fault to inject"),
    }
    // Cutting the power takes some ms, in which the old primary may still answer.
    let first = writer.wait_ok_after(now_us(), SOON)?;
    let total_ms = (first.completed_us - at) as f64 / 1e3;
    if matches!(fault, Fault::Leader | Fault::Midway) {
        group.kill(&leader)?;
        group.start(&leader)?;
    }
    let id = format!("app1-{}", epoch + 1);
    group.wait_cluster("the attempt to close", SOON, |cluster| cluster["attempt"].is_null())?;
    let report: Value =
        serde_json::from_str(&group.expect("client", &["report", &id, "-o", "json"])?)?;
    match fault {
        Fault::Poweroff => host.power_on(true)?,
        Fault::Kill | Fault::Stop | Fault::Leader | Fault::Midway => {
            if host.mysqld_pid()?.is_some() {
                // Stopped, and the fence did not reach it.
                host.kill_mysqld()?;
            }
            host.start_mysqld()?;
        }
        Fault::Noise | Fault::Idle => {}
    }
    let to = report["new_primary"].as_str().context("a new primary")?.to_owned();
    readmit(group, &host, &lab.host(&to)?, &from)?;
    Ok(parts(&report, wall, total_ms, from, to))
}

/// A killed primary often has one transaction that nobody received: it is quarantined, and made new
/// here as an operator would.
fn readmit(group: &Group<'_>, host: &Host, donor: &Host, name: &str) -> anyhow::Result<()> {
    let role = |cluster: &Value| {
        let servers = cluster["servers"].as_array().into_iter().flatten();
        let mut named = servers.filter(|server| server["name"] == name);
        named.next().and_then(|server| server["role"].as_str()).unwrap_or_default().to_owned()
    };
    let is_judged = |cluster: &Value| matches!(&*role(cluster), "replica" | "quarantined");
    let cluster = group.wait_cluster("the old primary to be judged", SOON, is_judged)?;
    if role(&cluster) == "quarantined" {
        host.rebuild_mysqld(donor)?;
    }
    Ok(())
}

fn parts(report: &Value, wall: u64, total_ms: f64, from: String, to: String) -> Run {
    let at = |what: &str| {
        let marks = report["timeline"].as_array().into_iter().flatten();
        let mut of = marks.filter(|mark| mark["what"].as_str().is_some_and(|w| w.contains(what)));
        of.next().and_then(|mark| mark["at_us"].as_f64()).map(|us| us / 1e3)
    };
    let verdict_ms = report["verdict_us"].as_f64().unwrap_or(0.0) / 1e3;
    let opened = report["opened_wall_ms"].as_u64().unwrap_or(wall).saturating_sub(wall) as f64;
    let after = |what: &str| report[what].as_f64().map(|us| us / 1e3);
    let (writable, published) = (after("writable_at_us"), after("published_at_us"));
    let between = |from: Option<f64>, to: Option<f64>| Some(to? - from?);
    Run {
        total_ms,
        detect_ms: (opened - verdict_ms).max(0.0),
        verdict_ms,
        freeze_ms: at("recover"),
        recover_ms: between(at("recover"), at("promote")),
        promote_ms: between(at("promote"), writable),
        publish_ms: between(writable, published),
        from,
        to,
    }
}

/// Time passes, quietly or not; nothing may happen.
fn quiet(lab: &Lab, group: &mut Group<'_>, args: &Args) -> anyhow::Result<Vec<Usage>> {
    let until = Instant::now() + Duration::from_secs(args.minutes * 60);
    let names = group.names();
    let mut before = Vec::new();
    for name in &names {
        before.push(Reading::of(group.manager(name)?.pid())?);
    }
    let began = Instant::now();
    if args.fault == Fault::Noise {
        for name in &names {
            lab.loss(name, 50)?;
        }
    }
    let mut turn = 0usize;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_secs(5));
        if args.fault == Fault::Noise {
            let name = &names[turn % names.len()];
            let pause = Duration::from_millis([200, 600, 1500, 3000][turn % 4]);
            group.manager(name)?.signal(Signal::SIGSTOP)?;
            std::thread::sleep(pause);
            group.manager(name)?.signal(Signal::SIGCONT)?;
            lab.delay(name, [5, 20, 50, 0][turn % 4])?;
            turn += 1;
        }
    }
    let spent = began.elapsed().as_secs_f64();
    let mut usages = Vec::new();
    for (name, before) in names.iter().zip(before) {
        usages.push(Reading::of(group.manager(name)?.pid())?.since(&before, name, spent));
    }
    lab.heal()?;
    for name in &names {
        if args.fault == Fault::Noise {
            lab.delay(name, 0)?;
        }
    }
    Ok(usages)
}

struct Reading {
    rss_kb: f64,
    cpu_s: f64,
    written: f64,
}

impl Reading {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            number.unwrap_or(0.0)
        };
        let stat = read("stat")?;
        let after = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks: Vec<f64> = after.split_whitespace().filter_map(|t| t.parse().ok()).collect();
        // utime and stime, the 14th and 15th fields; the state before them is no number.
        let cpu_s = (ticks.get(10).unwrap_or(&0.0) + ticks.get(11).unwrap_or(&0.0)) / 100.0;
        let rss_kb = field(&read("status")?, "VmRSS:");
        Ok(Self { rss_kb, cpu_s, written: field(&read("io")?, "write_bytes:") })
    }

    fn since(&self, before: &Reading, name: &str, seconds: f64) -> Usage {
        Usage {
            manager: name.to_owned(),
            rss_mb: self.rss_kb / 1024.0,
            cpu_percent: (self.cpu_s - before.cpu_s) / seconds * 100.0,
            written_bytes_per_s: (self.written - before.written) / seconds,
        }
    }
}

fn wait_for_log(log: &PathBuf, from: usize, text: &str) -> anyhow::Result<()> {
    let until = Instant::now() + SOON;
    while !fs::read_to_string(log)?.get(from..).is_some_and(|new| new.contains(text)) {
        if Instant::now() > until {
            bail!("the leader's log never showed {text}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The value below which this share of the sorted ones lies; the largest for few values.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied()
}

fn settings(group: &Group<'_>) -> anyhow::Result<Value> {
    let shown = group.expect("client", &["cluster", "show", "app1", "-o", "json"])?;
    serde_json::from_str(&shown).context("read the definition")
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    serde_json::json!({
        "cpu": model,
        "cores": cores,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
