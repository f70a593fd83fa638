//! One run: a lab, its clients, a nemesis, the healing, and a verdict.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use conclave_lab::{Lab, LabSpec, Outcome, now_us};
use conclave_sim::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::checker::{self, Finding, Verdict};
use crate::nemesis::Nemesis;
use crate::pulse::Pulse;
use crate::record::{Aim, Ending, Record};
use crate::stage::Stage;
use crate::{edn, ending};

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What goes wrong.
    pub nemesis: Nemesis,
    /// Its name.
    pub name: String,
    /// For so long; a round that has begun is finished.
    pub time: Duration,
    /// Source of all choices.
    pub seed: u64,
    /// The `conclave` program.
    pub program: PathBuf,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The nemesis.
    pub nemesis: String,
    /// The seed.
    pub seed: u64,
    /// All in all.
    pub verdict: Verdict,
    /// What each checker found.
    pub findings: Vec<Finding>,
    /// The numbers.
    pub counts: Counts,
}

/// The numbers of one run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Seconds under faults, from the clients' first write to the healing.
    pub seconds: u64,
    /// Inserts by how they ended, through the address.
    pub inserts: BTreeMap<String, u64>,
    /// As `inserts`, of the watchers.
    pub watched: BTreeMap<String, u64>,
    /// Faults that bit, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Faults that nothing proves to have bitten, by kind.
    pub unproved: BTreeMap<String, u64>,
    /// Attempts by how they ended.
    pub attempts: BTreeMap<String, u64>,
    /// Servers found quarantined at the end of a run, or made new between two rounds.
    pub quarantined: u64,
}

/// Adds one more of this kind.
fn count(into: &mut BTreeMap<String, u64>, kind: &str) {
    *into.entry(kind.to_owned()).or_default() += 1;
}

impl Counts {
    /// The numbers of a run.
    pub fn of(record: &Record) -> Counts {
        let us = record.ending.healed_us.saturating_sub(record.began_us);
        let mut counts = Counts { seconds: us / 1_000_000, ..Counts::default() };
        for client in &record.clients {
            let into = match client.aim {
                Aim::Address => &mut counts.inserts,
                Aim::Server { .. } => &mut counts.watched,
            };
            for op in &client.ops {
                let kind = match op.outcome {
                    Outcome::Ok => "acknowledged",
                    Outcome::Fail => "refused",
                    Outcome::Unknown => "unknown",
                };
                count(into, kind);
            }
        }
        for action in &record.actions {
            let code = action.deed.code();
            match (action.deed.is_fault(), &action.proof) {
                (true, Some(_)) => count(&mut counts.faults, code),
                (true, None) => count(&mut counts.unproved, code),
                (false, _) if code == "rebuild" => counts.quarantined += 1,
                (false, _) => {}
            }
        }
        for attempt in record.attempts() {
            count(&mut counts.attempts, &attempt.outcome);
        }
        counts
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        self.seconds += other.seconds;
        self.quarantined += other.quarantined;
        let pairs = [
            (&mut self.inserts, &other.inserts),
            (&mut self.watched, &other.watched),
            (&mut self.faults, &other.faults),
            (&mut self.unproved, &other.unproved),
            (&mut self.attempts, &other.attempts),
        ];
        for (into, from) in pairs {
            for (kind, number) in from {
                *into.entry(kind.clone()).or_default() += number;
            }
        }
    }
}

/// Plays a run and judges it. What is worth keeping is written to `out`, if it is named: the record
/// before the results, so that a run can be judged again; and the logs, unless the run is valid.
///
/// # Errors
/// The files cannot be written. That the lab failed is no error but a verdict.
pub fn run(plan: &Plan, out: Option<&Path>) -> anyhow::Result<Results> {
    if let Some(out) = out {
        fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    }
    let mut record = fresh(plan);
    let pulse = Pulse::start();
    let played = play(plan, &mut record, out);
    record.stalls = pulse.stop();
    record.failures.extend(played.err().map(|error| format!("{error:#}")));
    let results = judge(&record);
    if let Some(out) = out {
        save(&record, &results, out)?;
        if results.verdict == Verdict::Valid {
            let _ = fs::remove_dir_all(out.join("logs"));
        }
    }
    Ok(results)
}

/// Judges a record.
pub fn judge(record: &Record) -> Results {
    let findings = checker::check(record);
    Results {
        nemesis: record.nemesis.clone(),
        seed: record.seed,
        verdict: checker::verdict(&findings),
        findings,
        counts: Counts::of(record),
    }
}

/// The record of a run that has not begun.
pub fn fresh(plan: &Plan) -> Record {
    Record {
        nemesis: plan.name.clone(),
        seed: plan.seed,
        expects: plan.nemesis.expects(),
        servers: Vec::new(),
        managers: Vec::new(),
        began_us: 0,
        clocks: Vec::new(),
        clients: Vec::new(),
        actions: Vec::new(),
        stalls: Vec::new(),
        sightings: Vec::new(),
        ending: Ending::default(),
        failures: Vec::new(),
    }
}

fn play(plan: &Plan, record: &mut Record, out: Option<&Path>) -> anyhow::Result<()> {
    let (servers, acks) = plan.nemesis.servers();
    let wait = format!("rpl_semi_sync_source_wait_for_replica_count={acks}");
    let spec = LabSpec { servers, my_cnf: vec![wait], ..LabSpec::default() };
    let lab = Lab::up_replicated(spec).context("bring the lab up")?;
    let mut stage = Stage::set(&lab, plan.program.clone(), acks, Rng::new(plan.seed))?;
    begin(&mut stage, record)?;
    let played = plan.nemesis.play(&mut stage, plan.time).context("play the nemesis");
    record.failures.extend(played.err().map(|error| format!("{error:#}")));
    let ended = conclude(&mut stage, record);
    if let Some(out) = out {
        keep_logs(&stage, out)?;
    }
    ended
}

/// Starts the clients, and writes down who takes part.
///
/// # Errors
/// Nobody can write.
pub fn begin(stage: &mut Stage<'_>, record: &mut Record) -> anyhow::Result<()> {
    record.servers = stage.servers();
    record.managers = stage.managers();
    stage.start_clients().context("start the clients")?;
    record.began_us = now_us();
    Ok(())
}

/// Heals, ends the clients, reads, and puts all that is known into the record.
///
/// # Errors
/// The lab could not do its part; the record holds what there is.
pub fn conclude(stage: &mut Stage<'_>, record: &mut Record) -> anyhow::Result<()> {
    let ended = finish(stage, record);
    record.actions = std::mem::take(&mut stage.actions);
    record.sightings = std::mem::take(&mut stage.sightings);
    record.clocks = std::mem::take(&mut stage.clocks);
    ended
}

fn finish(stage: &mut Stage<'_>, record: &mut Record) -> anyhow::Result<()> {
    let ended = ending::end(stage, &mut record.ending).context("heal");
    record.clients = stage.stop_clients()?;
    ended?;
    stage.read_clocks();
    if let Some(epoch) = record.ending.epoch {
        stage.look_everywhere(epoch).context("read the record of all managers")?;
    }
    if let Some(primary) = record.ending.primary.clone() {
        record.ending.rows = ending::read(stage, &primary).context("read what is there")?;
    }
    Ok(())
}

/// Copies what managers and servers had to say.
fn keep_logs(stage: &Stage<'_>, out: &Path) -> anyhow::Result<()> {
    let logs = out.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    for name in stage.managers() {
        let to = logs.join(format!("{name}.log"));
        fs::copy(stage.group.log(&name), &to).with_context(|| format!("keep {}", to.display()))?;
    }
    for host in stage.lab.servers() {
        let to = logs.join(format!("{}.err", host.name()));
        fs::copy(host.srv().join("error.log"), &to)
            .with_context(|| format!("keep {}", to.display()))?;
    }
    Ok(())
}

fn save(record: &Record, results: &Results, out: &Path) -> anyhow::Result<()> {
    let write = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    write("record.json", serde_json::to_string(record)?)?;
    write("history.edn", edn::history(record))?;
    write("results.json", serde_json::to_string_pretty(results)?)?;
    write("results.txt", tell(results))
}

/// Results for people.
pub fn tell(results: &Results) -> String {
    let Results { nemesis, seed, verdict, findings, counts } = results;
    let mut text = format!("{}  nemesis {nemesis}, seed {seed}\n", verdict.word());
    for finding in findings {
        let (word, checker) = (finding.verdict.word(), &finding.checker);
        text.push_str(&format!("  {checker:13} {word:9} {}\n", finding.looked_at));
        for line in &finding.because {
            text.push_str(&format!("      {line}\n"));
        }
    }
    text.push_str(&tell_counts(counts));
    text
}

/// Numbers for people.
pub fn tell_counts(counts: &Counts) -> String {
    let list = |of: &BTreeMap<String, u64>| {
        let pairs = of.iter().map(|(kind, number)| format!("{kind} {number}"));
        let pairs: Vec<String> = pairs.collect();
        if pairs.is_empty() { "none".into() } else { pairs.join(", ") }
    };
    format!(
        "  {} s under faults\n  inserts: {}\n  of watchers: {}\n  faults: {}\n  not proved: {}\n  \
         attempts: {}\n  servers made new: {}\n",
        counts.seconds,
        list(&counts.inserts),
        list(&counts.watched),
        list(&counts.faults),
        list(&counts.unproved),
        list(&counts.attempts),
        counts.quarantined
    )
}
