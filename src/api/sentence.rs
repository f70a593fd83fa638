//! The core's values as sentences: one wording for status, report, progress and dry run.

use conclave_core::{
    model::{
        Actor, Answer, Attempt, Cause, DiskLog, Doubt, Evidence, Findings, GtidSet, Hearing,
        LogPiece, Outcome, Refusal, Regime, ServerName, Stage, StepEvidence, StepKind, StepOutcome,
        StepRecord, Tally, Vip,
    },
    state::Planned,
};

use super::{
    catalogue,
    document::{BallotDocument, GtidDocument, ReasonDocument, RunDocument, StepDocument},
};

/// Who.
pub fn actor(actor: &Actor) -> String {
    match actor {
        Actor::Group => "the group".into(),
        Actor::Operator { name } => format!("operator {name}"),
    }
}

/// Why an attempt was opened.
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::PrimaryDown => "a majority said down, and no replica heard the primary".into(),
        Cause::PrimaryRestarted => {
            "the primary was restarted, and the policy says to fail over".into()
        }
        Cause::CandidateLost { superseded } => {
            format!("the new primary of {superseded} was lost")
        }
        Cause::Manual => "asked for".into(),
        Cause::Switchover { plan } => {
            let old = if plan.leaves_old { "; the old primary is left out" } else { "" };
            format!("a planned switchover within {} ms{old}", plan.deadline_ms.0)
        }
    }
}

/// The reasons of a refusal, for documents.
pub fn refusal(refusal: &Refusal) -> ReasonDocument {
    ReasonDocument {
        code: refusal.code().into(),
        sentence: refusal.sentence(),
        remedy: catalogue::refusal_remedy(refusal).into(),
    }
}

/// What a ballot rests on.
pub fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Answered { age } => format!("it answered {age} ago"),
        Evidence::Refused { times, span } => {
            format!("refused or reset {times} times; no answer for {span}")
        }
        Evidence::Silent { span } => format!("silent for {span}"),
        Evidence::Doubtful { refusals, span } => {
            format!("in doubt: {refusals} refusals, no answer for {span}")
        }
        Evidence::Stalled => "this manager itself stalled; what it saw is void".into(),
        Evidence::NotProbed => "it has not looked yet".into(),
    }
}

/// Whether a replica hears the primary.
pub fn hearing(hearing: &Hearing) -> String {
    match hearing {
        Hearing::Hears { age } => format!("hears it ({age} ago)"),
        Hearing::Silent { age } => format!("heard nothing for {age}"),
        Hearing::Disconnected => "is disconnected from it".into(),
        Hearing::NotListening => "does not listen to it".into(),
        Hearing::Unknown => "could not be asked".into(),
    }
}

/// A tally, each voter once, the silent ones included.
pub fn ballots(tally: &Tally) -> Vec<BallotDocument> {
    let all = tally.voters.iter().map(|voter| match tally.ballots.get(voter) {
        Some(counted) => BallotDocument {
            manager: voter.0,
            answer: answer(counted.ballot.answer).into(),
            age_us: Some(counted.age.0),
            evidence: evidence(&counted.ballot.evidence),
            hearing: counted
                .ballot
                .hearing
                .iter()
                .map(|(server, heard)| format!("{server} {}", hearing(heard)))
                .collect(),
        },
        None => BallotDocument {
            manager: voter.0,
            answer: "silent".into(),
            age_us: None,
            evidence: "no ballot; counts against".into(),
            hearing: Vec::new(),
        },
    });
    all.collect()
}

fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Up => "up",
        Answer::Down => "down",
        Answer::Unknown => "unknown",
    }
}

/// What a step is to achieve.
pub fn goal(target: &ServerName, goal: &StepKind) -> String {
    match goal {
        StepKind::Level { source } => {
            format!("{target} comes level with {source} while that takes writes")
        }
        StepKind::CloseForWrites { candidate, acks: 0, .. } => {
            format!("end writes on {target}; {candidate} executes the last of them")
        }
        StepKind::CloseForWrites { candidate, ackers, acks } => format!(
            "end writes on {target}; {candidate} executes the last of them, and {acks} of {} have \
             received them",
            names(ackers)
        ),
        StepKind::Reopen { acks: _ } => format!("open {target} for writes again"),
        StepKind::StopReceiver => format!("stop the receiver of {target} and read it back"),
        StepKind::Fence { vips } => match vips[..] {
            [] => format!("fence {target} over SSH: mysqld killed for good"),
            [..] => {
                format!("fence {target} over SSH: mysqld killed for good, {} dropped", list(vips))
            }
        },
        StepKind::CatchUp { donor, target: set } => {
            format!("{target} receives what it lacks from {donor}, up to {}", short(set))
        }
        StepKind::Apply { target: set } => format!("{target} executes {}", short(set)),
        StepKind::ReadLog => {
            format!("read from the disk of {target} what no stopped server has received")
        }
        StepKind::Rescue { rescue } => format!(
            "{target} executes what only the disk of {} holds: {}, {}",
            rescue.from,
            rescue.amount(),
            short(&rescue.gtids)
        ),
        StepKind::Detach => format!("{target} forgets its source"),
        StepKind::Follow { source, acker, options: _ } => match acker {
            true => format!("{target} replicates from {source} and acknowledges"),
            false => format!("{target} replicates from {source}"),
        },
        StepKind::OpenForWrites { acks: 0, ackers: _, recruits: _ } => {
            format!("open {target} for writes, without semi-synchronous replication")
        }
        StepKind::OpenForWrites { acks, ackers, recruits: _ } => {
            format!("open {target} for writes; {acks} of {} acknowledge each commit", names(ackers))
        }
        StepKind::TakeVip { vip } => format!("{target} takes the address {}", vip.address),
        StepKind::DropVips { vips } => format!("{target} drops the addresses {}", list(vips)),
        StepKind::ResumeReceiver => format!("start the receiver of {target} again"),
        StepKind::Wake => format!("release the sessions on {target} that wait in vain"),
        StepKind::MakeReadOnly => format!("make {target} read-only, its clients cut first"),
        StepKind::Rebuild { donor, extra } => format!(
            "replace the data of {target} by a copy of {donor}'s, and with it discard {} \
             transaction(s)",
            extra.count()
        ),
        StepKind::StartServer => format!("start the service of {target}"),
        StepKind::SaveExtra { extra, .. } => format!(
            "copy {} transaction(s) that the primary lacks from the binary logs of {target} to files",
            extra.count()
        ),
        StepKind::Examine { extra, .. } => format!(
            "find out from the logs of {target} whether {} transaction(s) that the primary lacks can \
             have been acknowledged",
            extra.count()
        ),
        StepKind::Arm { acks: 0, .. } => {
            format!("commits on {target} wait for no acknowledgement any more")
        }
        StepKind::Arm { acks, ackers, by: _ } => {
            format!("commits on {target} wait for {acks} acknowledgement(s) of {}", names(ackers))
        }
        StepKind::LockOut { server, account } => {
            format!("lock {server} out on {target} (account {account}): it is dead for long")
        }
        StepKind::LetIn { server, account } => {
            format!("let {server} in on {target} again (account {account})")
        }
        StepKind::Harden { settings, by: _ } => {
            let names = settings.iter().flat_map(|setting| setting.variables());
            let names: Vec<&str> = names.map(|(name, _)| *name).collect();
            format!("set {} on {target} for good", names.join(", "))
        }
        StepKind::Hook { call } => {
            let need = if call.required { ", required" } else { "" };
            format!("call hook {} on {}{need}", call.name, call.event.as_str())
        }
    }
}

/// A step that was not recorded yet.
pub fn planned(planned: &Planned) -> String {
    goal(&planned.target, &planned.goal)
}

fn list(vips: &[Vip]) -> String {
    vips.iter().map(|vip| vip.address.as_str()).collect::<Vec<_>>().join(", ")
}

/// `a, b and c`; `nobody` if empty.
pub fn names<'a>(servers: impl IntoIterator<Item = &'a ServerName>) -> String {
    let all: Vec<&str> = servers.into_iter().map(ServerName::as_str).collect();
    match &all[..] {
        [] => "nobody".into(),
        [one] => (*one).to_owned(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// A recorded step.
pub fn step(record: &StepRecord) -> StepDocument {
    let runs: Vec<RunDocument> = record
        .runs
        .iter()
        .map(|run| RunDocument {
            term: run.term.0,
            begun: run.begun,
            state: state(run.outcome.as_ref()).into(),
            took_us: run.outcome.as_ref().map(|_| run.took_us.0),
            ended_at_us: run.ended_at_us.map(|at| at.0),
            evidence: run.outcome.as_ref().map_or_else(String::new, outcome_text),
        })
        .collect();
    StepDocument {
        id: record.id.to_string(),
        target: record.target.to_string(),
        goal: record.goal.code().into(),
        sentence: goal(&record.target, &record.goal),
        state: runs.last().map_or_else(|| "planned".into(), |run| run.state.clone()),
        runs,
    }
}

fn state(outcome: Option<&StepOutcome>) -> &'static str {
    match outcome {
        None => "running",
        Some(StepOutcome::Done { .. }) => "done",
        Some(StepOutcome::FoundDone { .. }) => "found_done",
        Some(StepOutcome::Failed { .. }) => "failed",
        Some(StepOutcome::Unknown { .. }) => "unknown",
    }
}

/// What a step's end shows.
pub fn outcome_text(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Done { evidence } => step_evidence(evidence),
        StepOutcome::FoundDone { evidence } => {
            format!("nothing to do: {}", step_evidence(evidence))
        }
        StepOutcome::Failed { why } => format!("failed: {why}"),
        StepOutcome::Unknown { why } => format!("not known whether it worked: {why}"),
    }
}

fn step_evidence(evidence: &StepEvidence) -> String {
    match evidence {
        StepEvidence::Server { executed, received, read_only, closing, .. } => {
            let cut = match closing.as_ref().map(|closing| &closing.cut[..]) {
                None | Some([]) => String::new(),
                Some(cut) => format!("; cut: {}", cut.join("; ")),
            };
            let access = if *read_only { "read-only" } else { "writable" };
            match received.minus(executed).count() {
                0 => format!("{access}, executed {}{cut}", short(executed)),
                more => {
                    format!("{access}, executed {}, {more} more received{cut}", short(executed))
                }
            }
        }
        StepEvidence::Host { text } | StepEvidence::Hook { text } => {
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            match lines.is_empty() {
                true => "it printed nothing".into(),
                false => lines.join("; "),
            }
        }
        StepEvidence::Log { log } => disk_log(log),
        StepEvidence::Examined { findings } => extra(findings),
    }
}

fn disk_log(log: &DiskLog) -> String {
    let bytes: u64 = log.pieces.iter().map(LogPiece::bytes).sum();
    let mut parts = vec![match log.only_here.count() {
        0 => "it holds nothing more".to_owned(),
        count => format!("{count} transaction(s), {bytes} bytes: {}", short(&log.only_here)),
    }];
    if log.torn > 0 {
        parts.push(format!("half a transaction at its end was left out, {} bytes", log.torn));
    }
    if !log.purged.is_empty() {
        parts.push(format!("{} is in it no more", short(&log.purged)));
    }
    parts.join("; ")
}

/// The verdict on transactions that the primary lacks.
pub fn extra(findings: &Findings) -> String {
    let mut parts = Vec::new();
    if !findings.proved.is_empty() {
        let (count, set) = (findings.proved.count(), &findings.proved);
        parts.push(format!("{count} proved never acknowledged: {set}"));
    }
    for Doubt { set, why } in &findings.doubts {
        parts.push(format!("{} that may have been acknowledged ({why}): {set}", set.count()));
    }
    parts.join("; ")
}

/// How an attempt stands or ended: a stable word and a sentence.
pub fn outcome(attempt: &Attempt) -> (&'static str, String) {
    match &attempt.outcome {
        None => ("open", format!("still open, in stage {}", attempt.stage.code())),
        Some(Outcome::Promoted { left_behind }) => {
            let new = attempt.stage.entry_nine().map(|entry| &entry.election.candidate);
            let new = names(new);
            match left_behind.is_empty() {
                true => ("promoted", format!("{new} is the primary")),
                false => (
                    "promoted",
                    format!("{new} is the primary; left behind for now: {}", names(left_behind)),
                ),
            }
        }
        Some(Outcome::Aborted { why, unfinished }) => match unfinished.is_empty() {
            true => ("aborted", format!("undone: {why}")),
            false => (
                "aborted",
                format!("undone: {why}; could not be put back: {}", unfinished.join("; ")),
            ),
        },
        Some(Outcome::Superseded { by }) => {
            let lost = match attempt.stage.entry_nine() {
                Some(_) => "the new primary was lost on the way",
                None => "the old primary was found dead on the way",
            };
            ("superseded", format!("{lost}; attempt {}-{by} went on", attempt.id.cluster))
        }
    }
}

/// A primary whose writes an attempt has to stop.
pub fn regime(regime: &Regime) -> String {
    match regime.acks {
        0 => format!("{}, asynchronous", regime.primary),
        acks => {
            format!(
                "{}, {acks} of {} acknowledged each commit",
                regime.primary,
                names(&regime.ackers)
            )
        }
    }
}

/// A stage as a sentence.
pub fn stage(code: &str) -> &str {
    match code {
        "opened" => "attempt opened",
        "freeze" => "freeze: revoke the old primary",
        "recover" => "recover: bring the candidate level",
        "promote" => "promote: the point of no return is passed",
        "repoint" => "repoint: the new primary takes writes",
        "undo" => "undo: put everything back",
        "finished" => "finished",
        "undone" => "undone",
        other => other,
    }
}

/// The candidate, once a stage knows it.
pub fn candidate(stage: &Stage) -> Option<&ServerName> {
    match stage {
        Stage::Recover { election } => Some(&election.candidate),
        Stage::Promote { entry } | Stage::Repoint { entry } => Some(&entry.election.candidate),
        Stage::Freeze | Stage::Undo { .. } => None,
    }
}

/// A set for documents.
pub fn gtids(set: &GtidSet) -> GtidDocument {
    GtidDocument { count: set.count(), set: set.to_string() }
}

/// A set for a line: each uuid by its first eight digits.
pub fn short(set: &GtidSet) -> String {
    if set.is_empty() {
        return "no transaction".into();
    }
    let text = set.to_string();
    let parts = text.split(',').map(|part| match part.split_once(':') {
        Some((uuid, rest)) => format!("{}..:{rest}", uuid.get(..8).unwrap_or(uuid)),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(" ")
}
