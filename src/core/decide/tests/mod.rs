//! Tests of the decisions, one file per question.

mod ackers;
mod candidate;
mod classify;
mod gate;
mod harden;
mod hear;
mod hook;
mod problem;
mod progress;
mod rejoin;
mod rescue;
mod switchover;
mod tick;
mod upkeep;
mod verdict;

use crate::{
    decide::{ClusterView, Move, View},
    fixture::*,
    model::{Answer, Epoch, Mono},
    state::{ClusterState, Command},
};

/// The one cluster of a view, and what is seen of it.
fn parts(view: &View) -> (&ClusterState, &ClusterView) {
    view.cluster(&"app1".into()).expect("app1 is defined")
}

/// What is seen, to be changed.
fn seen(view: &mut View) -> &mut ClusterView {
    view.clusters.get_mut(&"app1".into()).expect("app1 is defined")
}

/// A leader's view of a group whose primary is dead by two of three ballots.
fn bereft_view(group: &Group) -> View {
    let mut view = view(group, bereft());
    let epoch = group.cluster().epoch;
    let seen = seen(&mut view);
    seen.tally = Some(tally(epoch, [Answer::Down, Answer::Down, Answer::Unknown]));
    seen.doubt = Some(crate::model::Micros(60_000));
    seen.asked_at = Some(Mono(NOW.0 - 1_000));
    view
}

/// Moves in short: what is proposed or run, and on which server.
fn short(moves: &[Move]) -> Vec<String> {
    let short = |each: &Move| match each {
        Move::Ask { primary, .. } => format!("ask {primary}"),
        Move::Propose { command } => match &**command {
            Command::PlanChore { planned, .. } => {
                format!("plan {} {}", planned.goal.code(), planned.target)
            }
            Command::Quarantine { server, errant, .. } => format!("quarantine {server} {errant}"),
            other => format!("propose {other}"),
        },
        Move::Run { order } => format!("run {} {}", order.record.goal.code(), order.record.target),
        Move::Survey { place } => format!("survey {}", place.server.name),
        Move::Say { sentence, .. } => format!("say {sentence}"),
    };
    moves.iter().map(short).collect()
}

/// An attempt in stage Freeze, opened in this term.
fn freezing() -> Group {
    let mut group = Group::adopted();
    group.open();
    assert_eq!(group.cluster().epoch, Epoch(1));
    group
}
