//! Can anybody have been told OK for a transaction that only a returning server has? (SAFETY
//! section 1, "What a returning server has".)
//!
//! Two things must hold for a proof. By the record: it was numbered by the server as primary in
//! `quorum` mode, and none of the ackers that were stopped for its replacement had received it. By
//! the server's own logs: whoever waited for it was not released without acknowledgements, that is,
//! the run of mysqld that wrote it ended in a kill or a power cut, without a shutdown under way, or
//! it was still waiting when a manager cut it off.

use super::{coverage, upkeep::known_uuid};
use crate::{
    model::{
        Attempt, Doubt, FileEnd, Findings, GtidSet, LogMark, Mode, Regime, ServerName,
        StepEvidence, Suspicion, Trail,
    },
    state::ClusterState,
};

/// What the record says of `extra`, which `server` has and the primary lacks.
pub fn by_record(cluster: &ClusterState, server: &ServerName, extra: &GtidSet) -> Suspicion {
    let uuid = known_uuid(cluster, server).unwrap_or_default();
    let own = extra.of_origins(&[uuid]);
    let mut doubts = Vec::new();
    let mut doubt = |set: GtidSet, why: String| {
        if !set.is_empty() {
            doubts.push(Doubt { set, why });
        }
    };
    let why = format!("not numbered by {server}: only what a primary numbered can be judged");
    doubt(extra.minus(&own), why);
    let revoked = match revoked(cluster, server) {
        Ok(revoked) => revoked,
        Err(why) => {
            doubt(own, why);
            return Suspicion { doubts, ..Suspicion::default() };
        }
    };
    let unreceived = own.minus(&revoked.received);
    let why = "an acker had received them before it was stopped: they may have been acknowledged";
    doubt(own.minus(&unreceived), why.into());
    let cut = cluster.members.get(server).and_then(|member| member.cut);
    Suspicion {
        unreceived,
        known: revoked.received.of_origins(&[uuid]),
        was_cut_waiting: cut.is_some_and(|acks| acks >= revoked.acks),
        doubts,
    }
}

/// How a server's last time as primary was ended.
struct Revoked {
    /// Everything that the servers stopped for it, and its successors when they were established,
    /// had.
    received: GtidSet,
    /// Acknowledgements that a commit needed.
    acks: u32,
}

/// The record of the failover that replaced a server; the error says what is missing for a proof.
fn revoked(cluster: &ClusterState, server: &ServerName) -> Result<Revoked, String> {
    let of = |attempt: &Attempt| {
        let mine = |regime: &&Regime| regime.primary == *server;
        attempt.revokes.iter().filter(mine).map(|regime| regime.epoch).max()
    };
    let passed = cluster.history.iter().filter(|attempt| attempt.stage.entry_nine().is_some());
    let newest = passed.clone().filter_map(of).max();
    let Some(newest) = newest else {
        return Err(format!("no failover that is still on record replaced {server} as primary"));
    };
    // Several, if the candidate was lost after entry 9: the first one has closed this regime.
    let attempts: Vec<&Attempt> = passed.filter(|attempt| of(attempt) == Some(newest)).collect();
    let first = attempts.first().and_then(|attempt| {
        let mine = |regime: &&Regime| regime.primary == *server && regime.epoch == newest;
        Some((*attempt, attempt.revokes.iter().find(mine)?, attempt.stage.entry_nine()?))
    });
    let Some((attempt, regime, entry)) = first else {
        return Err(format!("the record does not tell how {server} was replaced"));
    };
    if attempt.mode != Mode::Quorum || regime.acks == 0 {
        let mode = attempt.mode.as_str();
        return Err(format!("{} was made in mode {mode}: commits did not wait", attempt.id));
    }
    let recruits = &entry.election.recruits;
    let stopped = received(attempt);
    if !coverage::is_revoked(regime, recruits) || !coverage::is_covered(regime, recruits, &stopped)
    {
        return Err(format!("{} does not show that enough ackers were stopped", attempt.id));
    }
    let had = attempts
        .iter()
        .filter_map(|attempt| Some(received(attempt).union(&attempt.stage.entry_nine()?.executed)));
    let received = had.fold(GtidSet::empty(), |sum, set| sum.union(&set));
    Ok(Revoked { received, acks: regime.acks })
}

/// What the servers whose receivers an attempt stopped had received, together.
fn received(attempt: &Attempt) -> GtidSet {
    let sets = attempt.frozen().into_values().filter_map(|evidence| match evidence {
        StepEvidence::Server { received, .. } => Some(received),
        StepEvidence::Host { .. }
        | StepEvidence::Log { .. }
        | StepEvidence::Examined { .. }
        | StepEvidence::Hook { .. } => None,
    });
    sets.fold(GtidSet::empty(), |sum, set| sum.union(set))
}

/// What the record and the server's own logs say together. `executed` was read before the trail.
pub fn judge(
    extra: &GtidSet,
    suspicion: &Suspicion,
    executed: &GtidSet,
    trail: &Trail,
) -> Findings {
    let runs = runs(executed, trail);
    let holds = |run: &Run| !run.content.common(extra).is_empty();
    let files = runs.iter().filter(|run| holds(run)).flat_map(|run| &run.files);
    let files = files.filter(|(_, content)| !content.common(extra).is_empty());
    let mut out = Findings {
        files: files.map(|(path, _)| path.clone()).collect(),
        doubts: suspicion.doubts.clone(),
        ..Findings::default()
    };
    let mut left = suspicion.unreceived.clone();
    for (at, run) in runs.iter().enumerate() {
        let part = left.common(&run.content);
        if part.is_empty() {
            continue;
        }
        left = left.minus(&part);
        match why_not(run, runs.len() - 1 - at, suspicion, trail) {
            None => out.proved = out.proved.union(&part),
            Some(why) => out.doubts.push(Doubt { set: part, why: why.into() }),
        }
    }
    if !left.is_empty() {
        let why = "its binary logs do not hold them any more".into();
        out.doubts.push(Doubt { set: left, why });
    }
    out
}

/// One run of mysqld, from its start to its end, as far as its files were read.
struct Run {
    /// Paths, and what is in each.
    files: Vec<(String, GtidSet)>,
    content: GtidSet,
    end: FileEnd,
}

/// The files by the runs of mysqld that wrote them. A file begins with what was logged before it.
fn runs(executed: &GtidSet, trail: &Trail) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    for (at, file) in trail.files.iter().enumerate() {
        let after = trail.files.get(at + 1).map_or(executed, |next| &next.previous);
        let content = after.minus(&file.previous);
        let of_file = (file.path.clone(), content.clone());
        match out.last_mut().filter(|run| run.end == FileEnd::Rotated) {
            Some(run) => {
                run.files.push(of_file);
                run.content = run.content.union(&content);
                run.end = file.end;
            }
            None => out.push(Run { files: vec![of_file], content, end: file.end }),
        }
    }
    out
}

/// Why nothing that this run wrote and nobody received is proved; `later` runs came after it.
fn why_not(run: &Run, later: usize, suspicion: &Suspicion, trail: &Trail) -> Option<&'static str> {
    if run.content.common(&suspicion.known).is_empty() {
        return Some("written by another run of mysqld than the one that was primary");
    }
    match run.end {
        FileEnd::Stopped => {
            return Some("mysqld was shut down in order, which answers OK to whoever waits");
        }
        FileEnd::Current if !suspicion.was_cut_waiting => {
            return Some("it ran on, and was not seen to wait for acknowledgements when cut off");
        }
        FileEnd::Current | FileEnd::Torn | FileEnd::Rotated => {}
    }
    let Some(marks) = &trail.marks else {
        return Some(
            "its error log cannot be read over SQL (performance_schema is off, or it goes \
             elsewhere than to a file): a shutdown may have been under way when it ended",
        );
    };
    match was_shut_down(marks, later) {
        None => Some("its error log does not reach back to the run that wrote them"),
        Some(true) => Some("its error log tells of a shutdown, which answers OK to whoever waits"),
        Some(false) => None,
    }
}

/// Whether a shutdown was asked for since the run that had `later` runs after it let clients in, up
/// to the start of the present run. A start that failed early may have left no file and no
/// `Ready`: then this looks further back than needed, never less far.
fn was_shut_down(marks: &[LogMark], later: usize) -> Option<bool> {
    let at = |mark: LogMark| move |(at, found): (usize, &LogMark)| (*found == mark).then_some(at);
    let mut ready = marks.iter().enumerate().rev().filter_map(at(LogMark::Ready));
    let from = ready.nth(later)?;
    let last_start = marks.iter().enumerate().rev().find_map(at(LogMark::Starting));
    let until = match later {
        0 => marks.len(),
        1.. => last_start.filter(|until| *until > from)?,
    };
    Some(marks[from..until].contains(&LogMark::ShutdownAsked))
}
