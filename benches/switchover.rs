//! How long does a planned switchover of a real cluster keep its clients from writing? Seen by clients
//! that write through the address: the longest time without an acknowledged write.
//!
//! `cargo bench --bench switchover -- --runs 20 --json one.json`
//! `cargo bench --bench switchover -- --runs 20 --clients 16 --mixed --json mixed.json`
//!
//! One client inserts a row every 2 ms; with `--clients` each does, and with `--mixed` each operation
//! is a transaction of reads, updates and an insert, one after the other without a pause.

#![allow(clippy::disallowed_methods)]

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Parser;
use conclave_lab::{
    Group, GroupSpec, Lab, LabSpec, Op, Outcome, Writer, WriterSpec, double, lost_acked, now_us,
};
use serde::Serialize;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);

/// Two primaries would acknowledge in turns within this time; switchovers are further apart.
const WINDOW: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Args {
    /// How often.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Connections of the client.
    #[arg(long, default_value_t = 1)]
    clients: u32,
    /// Transactions of reads and writes instead of inserts.
    #[arg(long)]
    mixed: bool,
    /// Where the figures go; standard output without it.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Another build of the program.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_conclave"))]
    program: PathBuf,
    /// Prints each run's report.
    #[arg(long)]
    report: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Run {
    /// The longest time without an acknowledged write around the switchover.
    block_ms: f64,
    /// The same as the report has it.
    reported_ms: Option<f64>,
    /// From the command to its end.
    whole_ms: f64,
    /// Operations that failed or whose outcome the client does not know.
    disturbed: usize,
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Figures {
    clients: u32,
    mixed: bool,
    runs: Vec<Run>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Acknowledged writes a second while nothing happens.
    writes_per_s: f64,
    lost: usize,
    double: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("switchover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::up_replicated(LabSpec::default())?;
    let log_level = if args.report { "info,conclave=debug" } else { "info" }.to_owned();
    let group = Group::start_all(&lab, GroupSpec { log_level, ..GroupSpec::new(&args.program) })?;
    let interval = Duration::from_millis(if args.mixed { 0 } else { 2 });
    let spec = WriterSpec {
        connections: args.clients,
        is_mixed: args.mixed,
        interval,
        // Many that log in at once take longer.
        connect_deadline: Duration::from_millis(100 * u64::from(args.clients).min(10)),
        op_deadline: Duration::from_secs(2),
        ..WriterSpec::default()
    };
    let mut writer = lab.write(&spec)?;
    writer.wait_ok_after(0, SOON)?;
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        let run = one(&group, &mut writer, args.report);
        let run = run.inspect_err(|_| eprintln!("{}", group.last_words()));
        let run = run.with_context(|| format!("run {number}"))?;
        let reported = run.reported_ms.unwrap_or(f64::NAN);
        eprintln!(
            "{number:>3}  {:6.0} ms ({reported:.0} reported)  {} -> {}",
            run.block_ms, run.from, run.to
        );
        runs.push(run);
    }
    group.wait_healthy(SOON)?;
    let history = writer.stop()?;
    let mut lost = 0;
    let primary = group.wait_healthy(SOON)?;
    let primary = lab.host(primary["primary"].as_str().context("a primary")?)?;
    let executed = primary.sql_value("SELECT @@global.gtid_executed")?;
    for server in lab.servers() {
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 60)");
        if server.sql_within(SOON, &wait)? != [["0"]] {
            bail!("{} did not catch up within 60 s: no verdict", server.name());
        }
        lost = lost.max(lost_acked(&history, &server)?.len());
    }
    let mut blocks: Vec<f64> = runs.iter().map(|run| run.block_ms).collect();
    blocks.sort_by(f64::total_cmp);
    let span = history.ops.last().zip(history.ops.first());
    let span =
        span.map_or(1.0, |(last, first)| (last.completed_us - first.invoked_us) as f64 / 1e6);
    let doubles = double(std::slice::from_ref(&history), WINDOW).len();
    let figures = Figures {
        clients: args.clients,
        mixed: args.mixed,
        p50_ms: percentile(&blocks, 0.50),
        p99_ms: percentile(&blocks, 0.99),
        runs,
        writes_per_s: history.acked().count() as f64 / span,
        lost,
        double: doubles,
    };
    let text = serde_json::to_string_pretty(&figures)?;
    match &args.json {
        Some(path) => fs::write(path, text).context("write the figures")?,
        None => println!("{text}"),
    }
    if lost > 0 || doubles > 0 {
        bail!("{lost} acknowledged writes lost, {doubles} acknowledged on two servers in turns");
    }
    Ok(())
}

fn one(group: &Group<'_>, writer: &mut Writer, is_shown: bool) -> anyhow::Result<Run> {
    let healthy = group.wait_healthy(SOON)?;
    let from = healthy["primary"].as_str().context("a primary")?.to_owned();
    let epoch = healthy["epoch"].as_u64().context("an epoch")?;
    let began = now_us();
    writer.wait_ok_after(began, SOON)?;
    let at = now_us();
    group.expect("client", &["switchover", "app1", "--yes"])?;
    let done = now_us();
    writer.wait_ok_after(done, SOON)?;
    let id = format!("app1-{}", epoch + 1);
    let report = group.expect("client", &["report", &id, "-o", "json"])?;
    let report: Value = serde_json::from_str(&report)?;
    if is_shown {
        eprintln!("{}", group.expect("client", &["report", &id])?);
        if let Some(leader) = group.leader()? {
            eprintln!("log of {leader}:\n{}", fs::read_to_string(group.log(&leader))?);
        }
    }
    let window: Vec<Op> =
        writer.ops()?.iter().filter(|op| op.completed_us >= began).cloned().collect();
    let acked = window.iter().filter(|op| op.outcome == Outcome::Ok);
    let mut times: Vec<u64> = acked.map(|op| op.completed_us).collect();
    times.sort_unstable();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().context("two writes")?;
    if is_shown {
        let long = times.windows(2).filter(|pair| pair[1] - pair[0] > 30_000);
        let shown = long.map(|pair| {
            let ms = |us: u64| (us as f64 - at as f64) / 1e3;
            format!("{:.0}..{:.0}", ms(pair[0]), ms(pair[1]))
        });
        eprintln!("no write, ms since the command: {}", shown.collect::<Vec<_>>().join(" "));
        for op in window.iter().filter(|op| op.outcome != Outcome::Ok) {
            let at = (op.completed_us as f64 - at as f64) / 1e3;
            eprintln!("  {at:.0} ms: {:?}", op.error);
        }
    }
    Ok(Run {
        block_ms: gap as f64 / 1e3,
        reported_ms: report["write_block"]["us"].as_f64().map(|us| us / 1e3),
        whole_ms: (done - at) as f64 / 1e3,
        disturbed: window.iter().filter(|op| op.outcome != Outcome::Ok).count(),
        from,
        to: report["new_primary"].as_str().context("a new primary")?.to_owned(),
    })
}

/// The value below which this share of the sorted ones lies; the largest for few values.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied()
}
