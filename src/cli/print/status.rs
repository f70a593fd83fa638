//! The status and the list of clusters.

use super::{Paint, ago, columns, cut, reason, utc, wrap};
use crate::api::document::{
    AttemptDocument, BallotDocument, ClusterDocument, ClusterListDocument, DoubtDocument,
    ExtraDocument, ForecastDocument, GroupDocument, Health, ManagerDocument, ProblemDocument,
    RejoinDocument, SavedDocument, ServerDocument, StatusDocument, StepDocument,
};

/// A state that is longer gets a line of its own.
const STATE_WIDTH: usize = 14;

/// The group and its clusters.
pub fn status(status: &StatusDocument, paint: Paint) -> String {
    let mut out = String::new();
    if !status.notice.is_empty() {
        out += &wrap(&paint.bad("NOT THE WHOLE VIEW: "), 4, &status.notice);
    }
    out += &group(&status.group, paint);
    for found in &status.clusters {
        out += "\n";
        out += &cluster(found, paint);
    }
    if status.clusters.is_empty() && !status.group.id.is_empty() {
        out += "\nno cluster is defined yet: conclave cluster apply FILE\n";
    }
    out
}

/// The clusters in one line each.
pub fn list(list: &ClusterListDocument, paint: Paint) -> String {
    if list.clusters.is_empty() {
        return "no cluster is defined yet: conclave cluster apply FILE\n".into();
    }
    let head = ["CLUSTER", "MODE", "EPOCH", "VERSION", "PRIMARY", "SERVERS", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(list.clusters.iter().map(|line| {
        vec![
            line.name.clone(),
            line.mode.clone(),
            line.epoch.to_string(),
            line.version.to_string(),
            line.primary.clone().unwrap_or_else(|| "none yet".into()),
            line.servers.to_string(),
            if line.is_paused { "paused".into() } else { String::new() },
        ]
    }));
    let mut lines = columns(0, &rows).into_iter();
    let head = lines.next().map(|head| paint.faint(&head));
    head.into_iter().chain(lines).map(|line| line + "\n").collect()
}

fn health(health: Health, paint: Paint) -> String {
    match health {
        Health::Ok => paint.good("OK"),
        Health::Warning => paint.odd("WARNING"),
        Health::Critical => paint.bad("CRITICAL"),
        Health::Unknown => paint.bad("UNKNOWN"),
    }
}

fn group(group: &GroupDocument, paint: Paint) -> String {
    let leader = match group.leader {
        Some(leader) => format!("leader m{leader}"),
        None => "no leader".into(),
    };
    let voters = group.managers.iter().filter(|manager| manager.is_voter).count();
    let mut out = format!(
        "{}   {leader}   term {}   {voters} voters, {} needed   log {}   {}\n",
        paint.strong("managers"),
        group.term,
        group.quorum,
        number(group.applied),
        health(group.health, paint)
    );
    let rows: Vec<Vec<String>> = group.managers.iter().map(manager).collect();
    for line in columns(2, &rows) {
        out += &line;
        out += "\n";
    }
    for warning in &group.warnings {
        out += &wrap(&format!("  {} ", paint.odd("!")), 4, warning);
    }
    out
}

fn manager(manager: &ManagerDocument) -> Vec<String> {
    let heard = match (manager.role.as_str(), manager.heard_us) {
        ("leader" | "unknown", _) => String::new(),
        (_, Some(us)) => format!("heard {}", ago(us)),
        ("silent", None) => "not heard".into(),
        // It answers here itself.
        (_, None) => String::new(),
    };
    vec![
        format!("m{}", manager.id),
        manager.role.clone(),
        manager.address.clone(),
        format!("rack {}", manager.rack),
        format!("log {}", number(manager.last_log)),
        heard,
    ]
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

fn cluster(cluster: &ClusterDocument, paint: Paint) -> String {
    let primary = cluster.primary.clone().unwrap_or_else(|| "none yet".into());
    let mut out = format!(
        "{}   mode {}   epoch {}   version {}   primary {primary}   {}\n",
        paint.strong(&cluster.name),
        cluster.mode,
        cluster.epoch,
        cluster.version,
        health(cluster.health, paint)
    );
    if let Some(by) = &cluster.paused {
        out += &wrap(&format!("  {} ", paint.odd("PAUSED")), 4, &format!("by {by}"));
    }
    if !cluster.automatic {
        out += &wrap(&format!("  {} ", paint.odd("NOT AUTOMATIC")), 4, "people fail over");
    }
    for problem in &cluster.problems {
        out += &shown_problem(problem, paint);
    }
    out += &tree(&cluster.servers, paint);
    for vip in &cluster.vips {
        let place = match &vip.at {
            Some(server) => format!("on {server}"),
            None => vip.why.clone(),
        };
        out += &wrap(&format!("  {} address {}: ", vip.role, vip.address), 6, &place);
    }
    out += &ballots(&cluster.ballots, &primary);
    if let Some(open) = &cluster.attempt {
        out += &attempt(open, paint);
    }
    for chore in &cluster.chores {
        out += &wrap("  under way: ", 13, &one_step(chore));
    }
    if let Some(last) = &cluster.last_attempt {
        let text = format!("{}, {}: {}", last.id, utc(last.opened_wall_ms), last.outcome);
        out += &wrap("  last attempt: ", 16, &text);
    }
    out += &countdown(cluster.interval_left_s);
    // While it fails over, what would happen is what happens.
    match cluster.attempt {
        Some(_) => out,
        None => out + &forecasts(&cluster.forecasts, paint),
    }
}

/// How long the last-failover interval still lasts.
pub(super) fn countdown(left_s: u64) -> String {
    match left_s {
        0 => String::new(),
        1.. => wrap(
            "  last-failover interval: ",
            6,
            &format!(
                "next automatic failover possible in {}; --ignore-last-failover waives it",
                conclave_core::model::reason::left(left_s)
            ),
        ),
    }
}

/// A problem with its remedy.
pub(super) fn shown_problem(problem: &ProblemDocument, paint: Paint) -> String {
    let word = match problem.is_critical {
        true => paint.bad("CRITICAL"),
        false => paint.odd("WARNING"),
    };
    reason(2, &format!("{word} "), &problem.reason)
}

fn tree(servers: &[ServerDocument], paint: Paint) -> String {
    let rows: Vec<Vec<String>> =
        servers.iter().enumerate().map(|(at, server)| row(&branch(servers, at), server)).collect();
    let mut out = String::new();
    for (line, server) in columns(2, &rows).iter().zip(servers) {
        let line = cut(line, super::WIDTH);
        out += &match (server.is_reached, server.role.as_str()) {
            (false, _) => paint.bad(&line),
            (true, "quarantined" | "alone") => paint.odd(&line),
            (true, _) => line,
        };
        out += "\n";
        let indent = 2 + server.depth * 3;
        let mut more = |text: &str| {
            out += &wrap(&format!("{}   ", " ".repeat(indent)), indent + 5, text);
        };
        if server.is_reached && server.state.chars().count() > STATE_WIDTH {
            more(&server.state);
        }
        if let Some(errant) = server.errant.as_ref().filter(|errant| errant.count > 0) {
            let (count, set) = (errant.counted(), &errant.set);
            more(&format!("has {count} that the primary lacks: {set}"));
        }
        verdict(server.extra.as_ref()).iter().for_each(|line| more(line));
    }
    out
}

/// What can have been acknowledged of what a quarantined server has extra, line by line.
pub(super) fn verdict(extra: Option<&ExtraDocument>) -> Vec<String> {
    let Some(extra) = extra else { return Vec::new() };
    let mut out = Vec::new();
    if !extra.is_examined {
        out.push(
            "its own logs were not read yet: what can have been acknowledged is not known".into(),
        );
    }
    if extra.proved.count > 0 {
        let (count, set) = (extra.proved.counted(), &extra.proved.set);
        out.push(format!("{count} proved never acknowledged: {set}"));
    }
    for DoubtDocument { gtids, why } in &extra.doubts {
        let (count, set) = (gtids.counted(), &gtids.set);
        out.push(format!("{count} may have been acknowledged: {set}: {why}"));
    }
    if let Some(SavedDocument { path, sha256 }) = &extra.saved {
        out.push(format!("saved on its host in {path} (SHA256SUMS: {sha256})"));
    }
    out
}

/// How a server would be had back.
pub fn rejoin(plan: &RejoinDocument, paint: Paint) -> String {
    let mut out = format!("{} of {}\n", paint.strong(&plan.server), plan.cluster);
    match &plan.extra {
        None => out += "  it is not known to have anything that the primary lacks\n",
        Some(extra) => out += &extras(std::slice::from_ref(extra)),
    }
    for why in &plan.refusals {
        out += &wrap(&format!("  {} ", paint.odd("refused:")), 4, why);
    }
    if plan.refusals.is_empty() {
        plan.steps.iter().for_each(|step| out += &wrap("  would: ", 4, step));
    }
    out
}

/// What quarantined servers have extra.
pub(super) fn extras(extras: &[ExtraDocument]) -> String {
    let mut out = String::new();
    for extra in extras {
        let (count, set) = (extra.gtids.counted(), &extra.gtids.set);
        out += &wrap("  ", 4, &format!("{} has {count} transaction(s) more: {set}", extra.server));
        for line in verdict(Some(extra)) {
            out += &wrap("    ", 6, &line);
        }
    }
    out
}

/// The tree's lines in front of a name.
fn branch(servers: &[ServerDocument], at: usize) -> String {
    let depth = servers[at].depth;
    if depth == 0 {
        return String::new();
    }
    let follows = |level: usize| {
        let after = servers[at + 1..].iter().find(|server| server.depth <= level);
        after.is_some_and(|server| server.depth == level)
    };
    let trunk: String = (1..depth).map(|l| if follows(l) { "│  " } else { "   " }).collect();
    trunk + if follows(depth) { "├─ " } else { "└─ " }
}

fn row(branch: &str, server: &ServerDocument) -> Vec<String> {
    let is_short = server.state.chars().count() <= STATE_WIDTH;
    let state = match (is_short, server.is_reached) {
        (true, _) => server.state.clone(),
        (false, true) => "see below".into(),
        (false, false) => "unreachable".into(),
    };
    let is_primary = server.role == "primary";
    let acks = match (is_primary, server.is_acker, server.semi_sync.as_deref()) {
        (true, _, Some("source")) => "semi-sync".into(),
        (true, _, _) => String::new(),
        (false, true, Some("replica")) => "acker".into(),
        (false, true, Some(_)) if server.role == "replica" => "no acker now".into(),
        (false, true, Some(_)) => String::new(),
        (false, true, None) => String::new(),
        (false, false, Some("replica")) => "stray acker".into(),
        (false, false, _) => String::new(),
    };
    vec![
        format!("{branch}{}", server.name),
        server.role.clone(),
        state,
        server.lag_s.map_or_else(String::new, |lag| format!("lag {lag} s")),
        acks,
        server.address.clone(),
        format!("rack {}", server.rack),
        gtids(server),
    ]
}

fn gtids(server: &ServerDocument) -> String {
    let errant = server.errant.as_ref().filter(|errant| errant.count > 0);
    match (&server.missing, errant) {
        (_, Some(errant)) => format!("{} ERRANT", errant.counted()),
        (Some(missing), None) if missing.count == 0 => "nothing missing".into(),
        (Some(missing), None) => format!("{} missing", missing.counted()),
        (None, None) => match &server.executed_short {
            Some(executed) => format!("GTID {}", first_part(executed)),
            None => String::new(),
        },
    }
}

/// The first of a set's parts, whole, and how many more there are: half a part misleads.
fn first_part(set: &str) -> String {
    let mut parts = set.split(' ');
    let first = parts.next().unwrap_or_default();
    // "no transaction" is no list of parts.
    match parts.filter(|part| part.contains([':', '-'])).count() {
        0 => set.to_owned(),
        more => format!("{first} and {more} more"),
    }
}

/// The newest ballots in a few lines.
pub(super) fn ballots(ballots: &[BallotDocument], primary: &str) -> String {
    if ballots.is_empty() {
        return String::new();
    }
    let each: Vec<String> = ballots
        .iter()
        .map(|ballot| match ballot.age_us {
            Some(us) => {
                format!("m{} {} ({}: {})", ballot.manager, ballot.answer, ago(us), ballot.evidence)
            }
            None => format!("m{} {}", ballot.manager, ballot.answer),
        })
        .collect();
    wrap(&format!("  ballots on {primary}: "), 6, &each.join(", "))
}

fn attempt(attempt: &AttemptDocument, paint: Paint) -> String {
    let to = attempt.candidate.as_ref().map_or_else(String::new, |name| format!(", to {name}"));
    let text = format!("stage {}{to}; by {}: {}", attempt.stage, attempt.by, attempt.cause);
    let head = format!("  {} {} ", paint.bad("FAILING OVER"), attempt.id);
    let mut out = wrap(&head, 6, &text);
    for step in &attempt.steps {
        out += &wrap("      ", 18, &one_step(step));
    }
    out
}

/// A step in one line.
pub fn one_step(step: &StepDocument) -> String {
    let last = step.runs.last();
    let more = match (step.state.as_str(), last) {
        ("failed" | "unknown", Some(run)) => format!(" ({})", run.evidence),
        _ => String::new(),
    };
    format!("{} {}: {}{more}", step.id, step.state, step.sentence)
}

/// What would happen, per fault.
pub(super) fn forecasts(forecasts: &[ForecastDocument], paint: Paint) -> String {
    let widest = forecasts.iter().map(|f| f.fault.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (at, forecast) in forecasts.iter().enumerate() {
        let gap = " ".repeat(widest - forecast.fault.chars().count() + 2);
        let head = format!("  if {}:{gap}", forecast.fault);
        match &forecast.to {
            Some(to) => out += &format!("{head}{}\n", paint.good(&format!("fails over to {to}"))),
            None => {
                let next = forecasts.get(at + 1);
                if next.is_some_and(|next| next.refusals == forecast.refusals) {
                    out += &format!("{head}{}\n", paint.odd("no failover, and"));
                    continue;
                }
                out += &format!("{head}{}\n", paint.odd("no failover, because"));
                for refusal in &forecast.refusals {
                    out += &reason(6, "", refusal);
                }
            }
        }
    }
    out
}
