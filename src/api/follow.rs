//! What is new in an attempt? Sentences from two looks at its record, so that whoever waits sees
//! each step begin and end, whichever manager runs it.

use conclave_core::model::{Attempt, StepOutcome, StepRecord, StepRun};

use super::sentence;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// One sentence.
    pub sentence: String,
    /// Since the opening, microseconds, where known.
    pub at_us: Option<u64>,
}

/// What `after` holds that `before` did not; `before` is an earlier look at the same attempt, or
/// `None` if this is the first.
pub fn news(before: Option<&Attempt>, after: &Attempt) -> Vec<News> {
    let mut out = Vec::new();
    let seen_steps = before.map_or(&[][..], |attempt| &attempt.steps);
    for step in &after.steps {
        let seen = seen_steps.iter().find(|seen| seen.id == step.id);
        out.extend(step_news(seen, step));
    }
    let seen_marks = before.map_or(0, |attempt| attempt.marks.len());
    for mark in after.marks.iter().skip(seen_marks) {
        let sentence = match mark.what.as_str() {
            "opened" => format!(
                "attempt {} opened by {}: {}",
                after.id,
                sentence::actor(&after.opening.actor),
                sentence::cause(&after.opening.cause)
            ),
            what => match sentence::candidate(&after.stage).filter(|_| what == "recover") {
                Some(candidate) => format!("{candidate} is chosen; {}", sentence::stage(what)),
                None => sentence::stage(what).to_owned(),
            },
        };
        out.push(News { sentence, at_us: mark.at_us.map(|at| at.0) });
    }
    out.sort_by_key(|news| news.at_us.unwrap_or(u64::MAX));
    out
}

/// Runs are told apart by their beginning, since old ones are dropped from a long list.
fn step_news(seen: Option<&StepRecord>, step: &StepRecord) -> Vec<News> {
    let mut out = Vec::new();
    let what = || sentence::goal(&step.target, &step.goal);
    let known = |run: &StepRun| seen.and_then(|s| s.runs.iter().find(|r| r.begun == run.begun));
    for run in &step.runs {
        let ended_before = known(run).is_some_and(|run| run.outcome.is_some());
        match &run.outcome {
            Some(outcome) if !ended_before => out.push(News {
                sentence: match outcome {
                    StepOutcome::Done { .. } => format!("{}: done in {}", what(), run.took_us),
                    StepOutcome::FoundDone { .. } => format!("{}: was so already", what()),
                    StepOutcome::Failed { .. } | StepOutcome::Unknown { .. } => {
                        format!("{}: {}", what(), sentence::outcome_text(outcome))
                    }
                },
                at_us: run.ended_at_us.map(|at| at.0),
            }),
            None if known(run).is_none() => {
                out.push(News { sentence: format!("{} ...", what()), at_us: None });
            }
            Some(_) | None => {}
        }
    }
    out
}
