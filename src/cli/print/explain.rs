//! Explanations: of a cluster, of a code, of what a failover would do.

use super::{
    Paint, reason,
    status::{ballots, countdown, extras, forecasts, shown_problem},
    wrap,
};
use crate::api::{
    catalogue::Entry,
    document::{ExplainDocument, PlanDocument, RankDocument, ReasonDocument},
};

/// Why a cluster would or would not be failed over, and to whom.
pub fn explain(explained: &ExplainDocument, paint: Paint) -> String {
    let primary = explained.primary.clone().unwrap_or_else(|| "none yet".into());
    let mut out = String::new();
    if !explained.notice.is_empty() {
        out += &wrap(&paint.bad("NOT THE WHOLE VIEW: "), 4, &explained.notice);
    }
    out += &format!(
        "{}   mode {}   primary {primary}\n",
        paint.strong(&explained.cluster),
        explained.mode
    );
    for problem in &explained.problems {
        out += &shown_problem(problem, paint);
    }
    out += &extras(&explained.extra);
    out += &ballots(&explained.ballots, &primary);
    out += &countdown(explained.interval_left_s);
    out += "\n";
    out += &paint.strong("Candidates, best first");
    out += "\n";
    out += &ranking(&explained.ranking, paint);
    out += "\n";
    out += &refusals("a failover right now", &explained.refusals, paint);
    out += "\n";
    out += &paint.strong("What would happen");
    out += "\n";
    out + &forecasts(&explained.forecasts, paint)
}

/// What a failover would do.
pub fn plan(plan: &PlanDocument, paint: Paint) -> String {
    let mut out = format!("{}   dry run: nothing is done\n\n", paint.strong(&plan.cluster));
    out += &refusals("it", &plan.refusals, paint);
    out += "\n";
    out += &paint.strong("Candidates, best first");
    out += "\n";
    out += &ranking(&plan.ranking, paint);
    if plan.stages.is_empty() {
        out += "\nno steps can be planned\n";
        return out;
    }
    let to = plan.candidate.as_ref().map_or_else(String::new, |to| format!(", to {to}"));
    out += "\n";
    out += &paint.strong(&format!("Steps, as far as they can be told beforehand{to}"));
    out += "\n";
    for stage in &plan.stages {
        out += &format!("  {}\n", stage.stage);
        for step in &stage.steps {
            out += &wrap("    ", 6, step);
        }
    }
    out
}

fn refusals(what: &str, refusals: &[ReasonDocument], paint: Paint) -> String {
    if refusals.is_empty() {
        return format!("{}\n", paint.good(&format!("Nothing stands against {what}")));
    }
    let mut out = format!("{}\n", paint.odd(&format!("What stands against {what}")));
    for refusal in refusals {
        out += &reason(2, "", refusal);
    }
    out
}

/// Servers with their reasons.
pub(super) fn ranking(ranking: &[RankDocument], paint: Paint) -> String {
    let widest = ranking.iter().map(|rank| rank.server.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for rank in ranking {
        let name = format!("{:<widest$}", rank.server);
        let (head, reasons) = match rank.place {
            Some(place) => (format!("  {place:>2}. {name}  "), rank.keys.join(", ")),
            None => {
                (format!("   -  {name}  "), format!("not eligible: {}", rank.against.join("; ")))
            }
        };
        let indent = head.chars().count();
        let text = wrap(&head, indent, &reasons);
        out += &match rank.place {
            Some(_) => text,
            None => paint.faint(text.trim_end()) + "\n",
        };
    }
    match out.is_empty() {
        true => "  none\n".into(),
        false => out,
    }
}

/// One code.
pub fn code(entry: &Entry, paint: Paint) -> String {
    let mut out = format!("{}\n", paint.strong(entry.code));
    out += &wrap("  it says:     ", 15, &entry.sentence);
    out += &wrap("  comes about: ", 15, entry.cause);
    out + &wrap("  remedy:      ", 15, entry.remedy)
}

/// All codes with their sentences.
pub fn codes(entries: &[Entry], paint: Paint) -> String {
    let widest = entries.iter().map(|entry| entry.code.len()).max().unwrap_or(0);
    let mut out = String::new();
    for entry in entries {
        let gap = " ".repeat(widest - entry.code.len() + 2);
        let head = format!("{}{gap}", paint.strong(entry.code));
        out += &wrap(&head, widest + 2, &entry.sentence);
    }
    out + "\nconclave explain CODE says how it comes about and what to do\n"
}
