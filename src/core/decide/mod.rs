//! Every decision of the product, pure: values in, values out. Start at [`tick`].
//!
//! `tick` looks at what *is*, agreed state and fresh observations, never at what just happened. So
//! a new leader needs no resume code: it runs the same function on the same state.

pub mod ackers;
pub mod candidate;
pub mod classify;
pub mod coverage;
pub mod forecast;
pub mod gate;
pub mod harden;
pub mod hear;
pub mod problem;
pub mod progress;
pub mod rejoin;
pub mod requirement;
pub mod rescue;
pub mod stage;
pub mod suspect;
pub mod switchover;
#[cfg(test)]
mod tests;
pub mod upkeep;
pub mod verdict;
pub mod view;
pub mod vouch;

pub use view::{ClusterView, LastWrites, Move, StepOrder, View, Wish};

use crate::{
    model::{
        Actor, Answer, Cause, ClusterName, Micros, Opening, Refusal, RestartPolicy, ServerFacts,
        ServerName, Tally, Term,
    },
    state::{ClusterState, Command},
};

/// Pause between two rounds of asking when nothing is wrong: ballots are shown in status.
const CALM_ASK: Micros = Micros(2_000_000);

/// Group time is advanced this often while a last-failover interval runs.
const TIME_STEP: Micros = Micros(60_000_000);

/// The whole loop: what to do now. Only a leader does anything.
pub fn tick(view: &View) -> Vec<Move> {
    let Some(term) = view.term else { return Vec::new() };
    let mut moves: Vec<Move> = advance_time(view).into_iter().collect();
    for name in view.group.clusters.keys() {
        if let Some((cluster, seen)) = view.cluster(name) {
            moves.extend(tick_cluster(view, name, cluster, seen, term));
        }
    }
    moves
}

fn tick_cluster(
    view: &View,
    name: &ClusterName,
    cluster: &ClusterState,
    seen: &ClusterView,
    term: Term,
) -> Vec<Move> {
    let mut moves = Vec::new();
    if let Some(primary) = cluster.primary() {
        moves.extend(ask(view, name, cluster, seen, primary));
        match open(view, name, cluster, seen, primary) {
            Opened::Yes(opening) => return vec![*opening],
            Opened::Refused(refusals) => moves.extend(say_why_not(name, cluster, seen, &refusals)),
            Opened::NoCause => {}
        }
    }
    moves.extend(switchover::survey(view, cluster, seen));
    moves.extend(answer_wish(view, name, cluster, seen));
    match &cluster.attempt {
        Some(attempt) => moves.extend(progress::next(view, cluster, seen, attempt, term)),
        None => moves.extend(upkeep::next(view, cluster, seen, term)),
    }
    moves
}

/// Ask for ballots: often while in doubt, now and then while all is well.
fn ask(
    view: &View,
    name: &ClusterName,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
) -> Option<Move> {
    let is_wished = seen.wish.is_some() && cluster.attempt.is_none();
    let may_supersede = cluster.attempt.as_ref().is_none_or(|attempt| {
        attempt.stage.entry_nine().is_some() || attempt.opening.cause.switchover().is_some()
    });
    let is_wanted = cluster.attempt.as_ref().is_some_and(progress::wants_ballots);
    let pause = match is_wanted || (seen.doubt.is_some() || is_wished) && may_supersede {
        true => cluster.definition.policy.doubt_interval_ms.into(),
        false => CALM_ASK,
    };
    let is_due = seen.last_ask.is_none_or(|at| view.now.since(at) >= pause);
    is_due.then(|| Move::Ask { cluster: name.clone(), primary: primary.clone() })
}

/// Whether an attempt is opened.
enum Opened {
    Yes(Box<Move>),
    Refused(Vec<Refusal>),
    NoCause,
}

/// Open an attempt, if both keys are turned and nothing refuses.
fn open(
    view: &View,
    name: &ClusterName,
    cluster: &ClusterState,
    seen: &ClusterView,
    primary: &ServerName,
) -> Opened {
    let tally = seen.tally.clone().filter(|tally| tally.primary == *primary);
    let Some(tally) = tally else { return Opened::NoCause };
    let (cause, wish) = match &cluster.attempt {
        Some(open) if open.stage.entry_nine().is_none() => match open.opening.cause.switchover() {
            Some(_) => (Cause::PrimaryDown, None),
            None => return Opened::NoCause,
        },
        Some(open) => (Cause::CandidateLost { superseded: open.id.clone() }, None),
        None if seen.wish.is_some() => {
            let wish = seen.wish.as_ref();
            let plan = wish.and_then(|wish| wish.switchover.clone());
            (plan.map_or(Cause::Manual, |plan| Cause::Switchover { plan }), wish)
        }
        None if is_to_be_replaced(view, cluster, seen, &tally) => (Cause::PrimaryRestarted, None),
        None => (Cause::PrimaryDown, None),
    };
    let refusals = match &cause {
        Cause::CandidateLost { .. } => gate::superseding(view, cluster, seen),
        Cause::PrimaryRestarted => gate::without_keys(view, cluster, seen),
        Cause::PrimaryDown if cluster.attempt.is_some() => gate::taking_over(view, cluster, seen),
        Cause::Manual | Cause::PrimaryDown | Cause::Switchover { .. } => {
            gate::refusals(view, name, wish)
        }
    };
    if !refusals.is_empty() {
        return Opened::Refused(refusals);
    }
    let (wanted, steps) = match wish.zip(cause.switchover()) {
        Some((wish, plan)) => (
            switchover::candidate(view, cluster, seen, wish),
            switchover::steps(view, cluster, seen, wish, plan),
        ),
        None => (wish.and_then(|wish| wish.wanted.clone()), stage::freeze(cluster)),
    };
    let is_recent = cluster.interval_left_ms(view.group.clock_ms) > 0;
    let group = || Actor::Group;
    let opening = Opening {
        interval_waived: wish.is_some_and(|wish| wish.interval_waived)
            || cause.switchover().is_some() && is_recent,
        cause,
        actor: wish.map_or_else(group, |wish| wish.actor.clone()),
        tally,
        wanted,
        asserted_dead: wish.is_some_and(|wish| wish.asserted_dead),
        detected_us: seen.doubt.unwrap_or_default(),
        verdict_us: seen.asked_at.map_or(Micros(0), |at| view.now.since(at)),
        at_ms: view.group.clock_ms,
        wall_ms: view.wall_ms,
    };
    let command = Command::OpenAttempt {
        cluster: name.clone(),
        expected: cluster.epoch,
        opening: Box::new(opening),
        steps,
    };
    Opened::Yes(Box::new(Move::Propose { command: Box::new(command) }))
}

/// While the primary is in doubt, every change of the reasons not to act is told.
fn say_why_not(
    name: &ClusterName,
    cluster: &ClusterState,
    seen: &ClusterView,
    refusals: &[Refusal],
) -> Option<Move> {
    let is_told = seen.doubt.is_some() && seen.wish.is_none() && cluster.attempt.is_none();
    let sentences: Vec<String> =
        refusals.iter().map(|r| format!("{}: {}", r.code(), r.sentence())).collect();
    let sentence = format!("primary in doubt, no failover: {}", sentences.join("; "));
    is_told.then(|| Move::Say { cluster: name.clone(), sentence, answers_wish: false })
}

/// The primary runs, read-only since a restart, a majority says so, and the policy is to replace
/// it; or it has lost transactions. What ballots say may be as old as the looks behind them: a
/// primary that was opened again a moment ago is left alone.
fn is_to_be_replaced(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    tally: &Tally,
) -> bool {
    let is_settled = seen.ended.values().all(|ended| view.now.since(*ended) >= view::FRESH);
    let facts = seen.facts(&tally.primary, view.now, view::FRESH);
    let is_closed = |facts: &&ServerFacts| !facts.is_writable();
    let is_lossy =
        facts.filter(is_closed).is_some_and(|facts| upkeep::has_lost(view, cluster, seen, facts));
    let policy = &cluster.definition.policy;
    let limit = Micros::from(policy.ballot_age_ms);
    let says_so = tally.ballots.iter().filter(|(id, counted)| {
        let is_up = counted.ballot.answer == Answer::Up;
        tally.voters.contains(id) && counted.age <= limit && is_up && counted.ballot.is_restarted
    });
    (policy.primary_restarted == RestartPolicy::Failover || is_lossy)
        && is_settled
        && tally.epoch == cluster.epoch
        && says_so.count() > tally.voters.len() / 2
}

/// An operator waits for an answer: opened, or every reason why not.
fn answer_wish(
    view: &View,
    name: &ClusterName,
    cluster: &ClusterState,
    seen: &ClusterView,
) -> Option<Move> {
    let wish = seen.wish.as_ref()?;
    let refusals = gate::refusals(view, name, Some(wish));
    let asked_for = seen.asked_at.map_or(Micros(0), |at| view.now.since(at));
    let all_answered = seen.tally.as_ref().is_some_and(|t| t.ballots.len() >= t.voters.len());
    // Without a primary there is nobody to ask about.
    let is_busy = cluster.attempt.is_some() || cluster.primary().is_none();
    let all_answered =
        all_answered && (wish.switchover.is_none() || switchover::is_surveyed(view, seen));
    if refusals.is_empty() || !(is_busy || all_answered || asked_for >= gate::PATIENCE) {
        return None;
    }
    let sentences: Vec<String> =
        refusals.iter().map(|r| format!("{}: {}", r.code(), r.sentence())).collect();
    let sentence = format!("refused: {}", sentences.join("; "));
    Some(Move::Say { cluster: name.clone(), sentence, answers_wish: true })
}

/// Replicated time moves only while somebody counts on it, so an idle group writes nothing.
fn advance_time(view: &View) -> Option<Move> {
    let clock_ms = view.group.clock_ms;
    let shortest = view
        .group
        .clusters
        .values()
        .map(|cluster| cluster.interval_left_ms(clock_ms))
        .filter(|left| *left > 0)
        .min()?;
    let passed = view.now.since(view.advanced_at);
    let due = TIME_STEP.0.min(shortest.saturating_mul(1000)).max(1_000_000);
    (passed.0 >= due).then(|| Move::Propose {
        command: Box::new(Command::AdvanceTime { from_ms: clock_ms, by_ms: passed.0 / 1000 }),
    })
}
