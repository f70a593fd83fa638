//! The report of one attempt.

use super::{Paint, ago, explain::ranking, ms, status::extras, utc, wrap};
use crate::api::document::{
    BallotDocument, ElectionDocument, ReportDocument, StepDocument, WriteBlockDocument,
};

/// The whole report.
pub fn report(report: &ReportDocument, paint: Paint) -> String {
    let mut out = head(report, paint);
    let mut section = |title: &str, text: String| {
        if !text.is_empty() {
            out += &format!("\n{}\n{text}", paint.strong(title));
        }
    };
    section("Who answered what", answers(report));
    let revokes = report.revokes.iter().map(|line| wrap("  ", 4, line)).collect();
    section("Whose writes had to be stopped", revokes);
    let choice = report.election.as_ref().map_or_else(String::new, |e| election(e, paint));
    section("The choice", choice);
    section("What came back that the new primary lacks", extras(&report.extra));
    section("Steps", report.steps.iter().map(step).collect());
    section("Time line, from the opening", timeline(report, paint));
    out
}

fn head(report: &ReportDocument, paint: Paint) -> String {
    let new = report.new_primary.clone().unwrap_or_else(|| "nobody".into());
    let outcome = format!("{}: {}", report.outcome, report.outcome_sentence);
    let outcome = match report.outcome.as_str() {
        "promoted" => paint.good(&outcome),
        "open" => paint.odd(&outcome),
        _ => paint.bad(&outcome),
    };
    let mut out = format!(
        "{}   cluster {}   mode {}   epoch {}\n",
        paint.strong(&format!("Report {}", report.id)),
        report.cluster,
        report.mode,
        report.epoch
    );
    let opened = format!("{} by {}", utc(report.opened_wall_ms), report.by);
    out += &wrap("  outcome   ", 12, &outcome);
    out += &wrap("  cause     ", 12, &report.cause);
    out += &wrap("  opened    ", 12, &opened);
    out += &wrap("  replaced  ", 12, &format!("{} by {new}", report.old_primary));
    out += &wrap("  times     ", 12, &times(report));
    if let Some(block) = &report.write_block {
        out += &wrap("  writes    ", 12, &blocked(block));
    }
    for each in &report.rescued {
        out += &wrap("  rescued   ", 12, each);
    }
    out += &wrap("  lost      ", 12, &report.loss);
    for assertion in &report.assertions {
        out += &wrap("  note      ", 12, assertion);
    }
    out
}

fn blocked(block: &WriteBlockDocument) -> String {
    let us = block.us.map(|us| ms(i64::try_from(us).unwrap_or(i64::MAX)));
    let long = us.map_or_else(|| "blocked until now".into(), |us| format!("blocked for {us}"));
    match &block.cut[..] {
        [] => format!("{long}; no session was cut"),
        cut => format!("{long}; cut: {}", cut.join("; ")),
    }
}

fn times(report: &ReportDocument) -> String {
    if report.write_block.is_some() || report.cause.starts_with("a planned") {
        let ended = report.ended_at_us.map(|us| ms(i64::try_from(us).unwrap_or(i64::MAX)));
        return ended.map_or_else(|| "not over yet".into(), |us| format!("{us} in all"));
    }
    let span = |us: u64| ms(i64::try_from(us).unwrap_or(i64::MAX));
    let mut out = format!(
        "{} from the first ping without an answer to the opening (of these {} for the verdict)",
        span(report.detected_us),
        span(report.verdict_us)
    );
    if let Some(us) = report.published_at_us {
        let total = report.detected_us.saturating_add(us);
        out += &format!(", {} more until writes were possible: {} in all", span(us), span(total));
    }
    if let Some(us) = report.ended_at_us {
        out += &format!("; finished {} after the opening", span(us));
    }
    out
}

fn answers(report: &ReportDocument) -> String {
    let [down, needed, voters] = report.down;
    let mut out = format!("  {down} of {voters} managers said down; {needed} were needed\n");
    for ballot in &report.ballots {
        out += &answer(ballot);
    }
    out
}

fn answer(ballot: &BallotDocument) -> String {
    let age = ballot.age_us.map_or_else(String::new, ago);
    let head = format!("  m{:<3} {:<8} {age:<12} ", ballot.manager, ballot.answer);
    let mut out = wrap(&head, 28, &ballot.evidence);
    if !ballot.hearing.is_empty() {
        out += &wrap(&" ".repeat(28), 28, &ballot.hearing.join(", "));
    }
    out
}

fn election(election: &ElectionDocument, paint: Paint) -> String {
    let donor = match &election.donor {
        Some(donor) => format!("it received from {donor} what it lacked"),
        None => "it lacked nothing".into(),
    };
    let acks = match election.acks {
        0 => "replication is asynchronous".into(),
        acks => format!("{acks} of {} acknowledge its commits", election.ackers.join(", ")),
    };
    let mut out = wrap("  ", 4, &format!("{}: {donor}; {acks}", election.candidate));
    out += &wrap("  had to be executed first: ", 4, &election.target);
    if !election.recruits.is_empty() {
        out += &wrap("  receivers read back as stopped: ", 4, &election.recruits.join(", "));
    }
    out + &ranking(&election.ranking, paint)
}

fn step(step: &StepDocument) -> String {
    let mut out = wrap(&format!("  {:<6} {:<10} ", step.id, step.state), 20, &step.sentence);
    for run in &step.runs {
        let took = run.took_us.map_or_else(
            || "no end recorded".into(),
            |us| format!("took {}", ms(i64::try_from(us).unwrap_or(i64::MAX))),
        );
        let evidence = match run.evidence.is_empty() {
            true => String::new(),
            false => format!(": {}", run.evidence),
        };
        let text = format!("{} in term {}, {took}{evidence}", run.state, run.term);
        out += &wrap(&" ".repeat(20), 22, &text);
    }
    out
}

fn timeline(report: &ReportDocument, paint: Paint) -> String {
    let mut out = String::new();
    let mut term = None;
    for moment in &report.timeline {
        let at = moment.at_us.map_or_else(|| "?".into(), ms);
        let mut what = moment.what.clone();
        if term.is_some_and(|term| term != moment.term) {
            what += &format!(" (another leader, term {})", moment.term);
        }
        term = Some(moment.term);
        out += &wrap(&format!("{}  ", paint.faint(&format!("{at:>11}"))), 15, &what);
    }
    out
}
