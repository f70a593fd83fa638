//! What happened in one attempt? From the record alone, so that any manager can tell, with the
//! leaders of that time gone.

use conclave_core::{
    model::{
        Answer, Attempt, ClusterName, Election, Epoch, HookEvent, Mode, Outcome, Rescue, Stage,
        StepEvidence, StepKind, StepOutcome, StepRecord, StepRun,
    },
    state::{ClusterState, GroupState},
};

use super::{
    build,
    document::{ElectionDocument, FORMAT, Moment, ReportDocument, WriteBlockDocument},
    sentence,
};

/// The attempt that an operator means: an id such as `app1-7`, a cluster (its newest attempt), or
/// nothing (the newest of all).
///
/// # Errors
/// One sentence.
pub fn find<'g>(group: &'g GroupState, what: &str) -> Result<&'g Attempt, String> {
    let newest = |cluster: &'g ClusterState| cluster.attempt.as_ref().or(cluster.history.back());
    if what.is_empty() {
        let all = group.clusters.values().filter_map(newest);
        let last = all.max_by_key(|attempt| attempt.opening.wall_ms);
        return last.ok_or_else(|| "no attempt was ever made".into());
    }
    if let Some(cluster) = group.clusters.get(&ClusterName::from(what)) {
        return newest(cluster).ok_or_else(|| format!("no attempt was ever made for {what}"));
    }
    let id = what.rsplit_once('-').and_then(|(name, epoch)| Some((name, epoch.parse().ok()?)));
    let Some((name, epoch)) = id else {
        return Err(format!("there is no cluster {what}, and an attempt's id reads like app1-7"));
    };
    let cluster = group.clusters.get(&ClusterName::from(name));
    let cluster = cluster.ok_or_else(|| format!("there is no cluster {name}"))?;
    cluster.attempt_of(Epoch(epoch)).ok_or_else(|| {
        let kept = cluster.history.iter().chain(&cluster.attempt);
        let kept: Vec<String> = kept.map(|attempt| attempt.id.to_string()).collect();
        match kept.is_empty() {
            true => format!("no attempt was ever made for {name}"),
            false => format!("there is no attempt {what}; on record: {}", kept.join(", ")),
        }
    })
}

/// The report of an attempt, open or closed.
pub fn document(cluster: &ClusterState, attempt: &Attempt) -> ReportDocument {
    let opening = &attempt.opening;
    let (outcome, outcome_sentence) = sentence::outcome(attempt);
    let at = |what: &str| {
        let mark = attempt.marks.iter().find(|mark| mark.what == what);
        mark.and_then(|mark| mark.at_us).map(|at| at.0)
    };
    let tally = &opening.tally;
    let down = tally.ballots.values().filter(|b| b.ballot.answer == Answer::Down).count();
    let new_primary = attempt.stage.entry_nine().map(|entry| entry.election.candidate.to_string());
    let is_over = attempt.outcome.is_some();
    ReportDocument {
        format: FORMAT,
        id: attempt.id.to_string(),
        cluster: attempt.id.cluster.to_string(),
        epoch: attempt.id.epoch.0,
        mode: attempt.mode.as_str().into(),
        old_primary: attempt.old_primary.to_string(),
        new_primary,
        outcome: outcome.into(),
        outcome_sentence,
        cause: sentence::cause(&opening.cause),
        by: sentence::actor(&opening.actor),
        assertions: assertions(attempt),
        opened_wall_ms: opening.wall_ms,
        detected_us: opening.detected_us.0,
        verdict_us: opening.verdict_us.0,
        writable_at_us: opened_for_writes(attempt),
        published_at_us: at("repoint"),
        ended_at_us: attempt.marks.last().filter(|_| is_over).and_then(|m| Some(m.at_us?.0)),
        down: [down, tally.voters.len() / 2 + 1, tally.voters.len()],
        ballots: sentence::ballots(tally),
        revokes: attempt.revokes.iter().map(sentence::regime).collect(),
        election: election(attempt).map(election_document),
        rescued: rescued(attempt),
        loss: loss(attempt),
        write_block: write_block(attempt),
        extra: build::extra::of_attempt(cluster, attempt),
        steps: attempt.steps.iter().map(sentence::step).collect(),
        timeline: timeline(attempt),
    }
}

/// When the candidate was read back as open for writes, if the leader that saw it saw the opening.
fn opened_for_writes(attempt: &Attempt) -> Option<u64> {
    let candidate = &attempt.stage.entry_nine()?.election.candidate;
    let is_opening = |step: &&StepRecord| {
        step.target == *candidate && matches!(step.goal, StepKind::OpenForWrites { .. })
    };
    let runs = attempt.steps.iter().filter(is_opening).flat_map(|step| &step.runs);
    let is_met = |run: &&StepRun| run.outcome.as_ref().is_some_and(|o| o.evidence().is_some());
    runs.filter(is_met).find_map(|run| Some(run.ended_at_us?.0))
}

/// How long nobody could write, and who was cut, if writes were ended as planned and the leader that
/// did so saw the opening.
fn write_block(attempt: &Attempt) -> Option<WriteBlockDocument> {
    let ended = |is_wanted: &dyn Fn(&StepKind) -> bool| {
        let steps = attempt.steps.iter().filter(|step| is_wanted(&step.goal));
        let runs = steps.flat_map(|step| &step.runs);
        let met =
            runs.filter_map(|run| Some((run.ended_at_us?.0, run.outcome.as_ref()?.evidence()?)));
        met.collect::<Vec<_>>()
    };
    let closes = ended(&|goal| matches!(goal, StepKind::CloseForWrites { .. }));
    let (closed_at, closing) = closes.iter().find_map(|(at, evidence)| match evidence {
        StepEvidence::Server { closing: Some(closing), .. } => Some((*at, closing)),
        StepEvidence::Server { closing: None, .. }
        | StepEvidence::Host { .. }
        | StepEvidence::Log { .. }
        | StepEvidence::Examined { .. }
        | StepEvidence::Hook { .. } => None,
    })?;
    let opens = ended(&|goal| {
        matches!(
            goal,
            StepKind::OpenForWrites { .. } | StepKind::TakeVip { .. } | StepKind::Reopen { .. }
        )
    });
    let began = closed_at.saturating_sub(closing.took_us.0);
    let opened = opens.iter().map(|(at, _)| *at).max();
    Some(WriteBlockDocument {
        us: opened.map(|opened| opened.saturating_sub(began)),
        cut: closing.cut.clone(),
    })
}

fn assertions(attempt: &Attempt) -> Vec<String> {
    let opening = &attempt.opening;
    let by = sentence::actor(&opening.actor);
    let mut out = Vec::new();
    if opening.asserted_dead {
        out.push(format!("{by} vouched that {} is dead", attempt.old_primary));
    }
    if opening.interval_waived {
        out.push(match opening.cause.switchover() {
            None => format!("{by} waived the last-failover interval"),
            Some(_) => "it was opened within the last-failover interval".into(),
        });
    }
    if let Some(wanted) = opening.wanted.as_ref().filter(|_| opening.cause.switchover().is_none()) {
        out.push(format!("{by} asked for {wanted}"));
    }
    out
}

/// The choice, in stages that hold one.
fn election(attempt: &Attempt) -> Option<&Election> {
    match &attempt.stage {
        Stage::Recover { election } => Some(election),
        Stage::Promote { entry } | Stage::Repoint { entry } => Some(&entry.election),
        Stage::Freeze | Stage::Undo { .. } => None,
    }
}

fn election_document(election: &Election) -> ElectionDocument {
    ElectionDocument {
        candidate: election.candidate.to_string(),
        donor: election.donor.as_ref().map(ToString::to_string),
        target: election.target.to_string(),
        recruits: election.recruits.iter().map(ToString::to_string).collect(),
        ackers: election.ackers.iter().map(ToString::to_string).collect(),
        acks: election.acks,
        ranking: build::ranking(&election.ranking),
    }
}

/// What came from dead servers' disks.
fn rescued(attempt: &Attempt) -> Vec<String> {
    let rescues = election(attempt).into_iter().flat_map(|election| &election.rescues);
    let is_met =
        |rescue: &&Rescue| attempt.rescue_of(rescue).is_some_and(|step| step.met().is_some());
    let sentence = |rescue: &Rescue| {
        format!("from the disk of {}: {}, {}", rescue.from, rescue.amount(), rescue.gtids)
    };
    rescues.filter(is_met).map(sentence).collect()
}

/// What was read from dead servers' disks and could not be applied: lost, unless somebody brings it
/// back.
fn missed(attempt: &Attempt) -> Vec<String> {
    let rescues = election(attempt).into_iter().flat_map(|election| &election.rescues);
    let failed = rescues.filter_map(|rescue| {
        let step = attempt.rescue_of(rescue).filter(|step| step.has_failed())?;
        let why = step.outcome().and_then(StepOutcome::why).unwrap_or_default();
        Some(format!(
            "{} of {} are still on its disk and not on the new primary: {}; {why}",
            rescue.amount(),
            rescue.from,
            rescue.gtids
        ))
    });
    failed.collect()
}

fn loss(attempt: &Attempt) -> String {
    let missed = missed(attempt);
    if !missed.is_empty() {
        let known = election(attempt).map(|election| election.loss.clone());
        let known = known.filter(|loss| !loss.is_empty());
        return missed.into_iter().chain(known).collect::<Vec<_>>().join("; ");
    }
    match (election(attempt), &attempt.outcome) {
        (Some(election), _) if !election.loss.is_empty() => election.loss.clone(),
        (_, Some(Outcome::Aborted { .. })) => {
            "nothing: it was undone before another server could take writes".into()
        }
        (Some(_), Some(Outcome::Promoted { .. } | Outcome::Superseded { .. }) | None) => {
            match attempt.mode {
                Mode::Quorum => "nothing that was acknowledged: the servers whose receivers were \
                                 stopped had received all of it"
                    .into(),
                Mode::Fenced | Mode::BestEffort if attempt.closed().is_some() => {
                    "nothing: the new primary had executed the last write of the old one".into()
                }
                Mode::Fenced | Mode::BestEffort => {
                    "nothing: the old primary's binary log was read \
                                                     to its end"
                        .into()
                }
            }
        }
        (None, Some(Outcome::Promoted { .. } | Outcome::Superseded { .. }) | None) => {
            "not decided yet".into()
        }
    }
}

/// Marks and ends of steps in order of time. What a later leader did has no time, since it did
/// not see the opening; it comes last, in the order of the stages.
fn timeline(attempt: &Attempt) -> Vec<Moment> {
    let opening = &attempt.opening;
    let mut rows: Vec<(Key, Moment)> = Vec::new();
    let first_term = attempt.marks.first().map_or(0, |mark| mark.term.0);
    let mut before = |us: u64, what: &str| {
        let at = -(i64::try_from(us).unwrap_or(i64::MAX));
        if us > 0 {
            let moment = Moment { at_us: Some(at), term: first_term, what: what.into() };
            rows.push(((Some(at), 0, 0), moment));
        }
    };
    before(opening.detected_us.0, "first ping without an answer");
    before(opening.verdict_us.0, "the leader asked all managers");
    for mark in &attempt.marks {
        let at = mark.at_us.and_then(|at| i64::try_from(at.0).ok());
        let what = sentence::stage(&mark.what).to_owned();
        rows.push((
            (at, rank_of_mark(&mark.what), 0),
            Moment { at_us: at, term: mark.term.0, what },
        ));
    }
    for step in &attempt.steps {
        for run in &step.runs {
            let at = run.ended_at_us.and_then(|at| i64::try_from(at.0).ok());
            let what = format!("{}: {}", sentence::goal(&step.target, &step.goal), ending(run));
            let key = (at, rank_of_step(&step.goal), run.begun);
            rows.push((key, Moment { at_us: at, term: run.term.0, what }));
        }
    }
    // A mark at the same microsecond as the step that led to it comes after it.
    rows.sort_by_key(|((at, rank, begun), moment)| {
        let is_known_first = at.is_none();
        match at {
            Some(at) => (is_known_first, 0, *at, u64::from(*begun == 0), *begun),
            None => (is_known_first, *rank, 0, moment.term, *begun),
        }
    });
    rows.into_iter().map(|(_, moment)| moment).collect()
}

/// Time, rank of the stage, log index of the beginning.
type Key = (Option<i64>, u8, u64);

fn ending(run: &StepRun) -> String {
    match &run.outcome {
        None => "begun; its end was not recorded".into(),
        Some(outcome) => {
            let text = sentence::outcome_text(outcome);
            match outcome {
                StepOutcome::Done { .. } => format!("done in {}", run.took_us),
                StepOutcome::FoundDone { .. } => "was so already".into(),
                StepOutcome::Failed { .. } | StepOutcome::Unknown { .. } => text,
            }
        }
    }
}

fn rank_of_mark(what: &str) -> u8 {
    match what {
        "opened" => 0,
        "recover" => 2,
        "promote" => 4,
        "repoint" => 6,
        "undo" => 8,
        _ => 10,
    }
}

/// Where a step stands among the marks, by the stage that usually plans it.
fn rank_of_step(goal: &StepKind) -> u8 {
    match goal {
        StepKind::Level { .. }
        | StepKind::CloseForWrites { .. }
        | StepKind::StopReceiver
        | StepKind::Fence { .. }
        | StepKind::ReadLog => 1,
        StepKind::CatchUp { .. } | StepKind::Apply { .. } | StepKind::Rescue { .. } => 3,
        StepKind::Detach | StepKind::OpenForWrites { .. } | StepKind::TakeVip { .. } => 5,
        StepKind::Follow { .. }
        | StepKind::DropVips { .. }
        | StepKind::MakeReadOnly
        | StepKind::Examine { .. }
        | StepKind::SaveExtra { .. }
        | StepKind::Rebuild { .. }
        | StepKind::StartServer => 7,
        StepKind::ResumeReceiver | StepKind::Wake | StepKind::Reopen { .. } => 9,
        StepKind::Arm { .. }
        | StepKind::LockOut { .. }
        | StepKind::LetIn { .. }
        | StepKind::Harden { .. } => 10,
        StepKind::Hook { call } => match call.event {
            HookEvent::Opened => 1,
            HookEvent::Published | HookEvent::Finished => 7,
            HookEvent::Undone => 9,
        },
    }
}
