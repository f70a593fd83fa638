//! The step runner: lock, commit, act, read back, commit (SAFETY invariants 2 and 6).
//!
//! The order matters and was model-checked: the lock is held *before* the beginning is committed,
//! and the acts go over that same connection. So once a newer leader holds the lock, nothing that
//! an older one still has in hand can reach the server.

mod examine;
pub mod goal;
mod rescue;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use goal::Next;

use crate::{
    decide::StepOrder,
    model::{
        Closing, HookCall, Micros, Mono, ServerFacts, ServerName, StepEvidence, StepKind,
        StepOutcome,
    },
    ports::{
        Certainty, Clock, Consensus, HookOrder, Hooks, Mysql, PortError, Ports, ProposeError,
        Remote, RemoteCommand, Session, SqlAction,
    },
    state::Command,
};

/// Longest wait for a connection and the lock.
const LOCK: Micros = Micros(3_000_000);

/// Longest time for committing the beginning of a step on a host, where no lock tells whether a newer
/// leader has come by meanwhile.
const COMMIT: Micros = Micros(2_000_000);

/// Shortest time for a look.
const LOOK: Micros = Micros(1_000_000);

/// Shortest and longest pause between two looks; in between, the eighth part of the time waited so
/// far, so that an end is noticed soon for what it took.
const POLL: (u64, u64) = (2_000, 50_000);

/// What an act rests on that follows another one without a look is younger than this.
const YOUNG: Micros = Micros(500_000);

/// Longest pause where clients are kept waiting.
const URGENT: u64 = 4_000;

/// Acts in one run after which something is wrong with our own rules.
const ACTS: usize = 20;

/// Longest wait for a host that is to let go of an address.
const RELEASE: Micros = Micros(1_000_000);

/// Longest time for a copy of a whole server. Whoever leads next ends it and begins again.
const CLONE: Micros = Micros(86_400_000_000);

/// Longest time for copying what a server has extra: its files may hold gigabytes.
const SAVE: Micros = Micros(600_000_000);

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The step's end is in the log.
    Recorded(StepOutcome),
    /// The log did not take the beginning; nothing was done.
    NotBegun(ProposeError),
    /// The log did not take the end; the next leader looks again.
    NotRecorded(StepOutcome, ProposeError),
}

/// Runs one step to its end and records it.
pub async fn run<P: Ports>(ports: &P, order: &StepOrder) -> End {
    let began = ports.clock().now();
    if order.record.goal.is_remote() {
        return run_remote(ports, order, began).await;
    }
    if let Some(call) = order.record.goal.hook() {
        return run_hook(ports, order, call, began).await;
    }
    let deadline = began.plus(LOCK);
    if order.record.goal == StepKind::ReadLog {
        return match rescue::read(ports, order).await {
            Ok(outcome) => end(ports, order, began, outcome).await,
            Err(error) => End::NotBegun(error),
        };
    }
    let session = ports.mysql().lock(&order.place, order.token, deadline).await;
    if let Err(error) = begin(ports, order).await {
        return End::NotBegun(error);
    }
    let outcome = match session {
        Ok(session) => {
            if let StepKind::Examine { extra, suspicion } = &order.record.goal {
                examine::run(ports, order, session, (extra, suspicion)).await
            } else {
                pursue(ports, order, session, began).await
            }
        }
        Err(error) => StepOutcome::Failed { why: error.to_string() },
    };
    end(ports, order, began, outcome).await
}

/// What the first steps of a failover rest on is what managers saw a moment ago, and a stall voids
/// it: whoever decided on them looks again (SAFETY invariant 3).
fn is_void<P: Ports>(ports: &P, order: &StepOrder, began: Mono) -> bool {
    matches!(order.record.goal, StepKind::StopReceiver | StepKind::Fence { .. })
        && ports.has_stalled_since(began)
}

fn stalled() -> StepOutcome {
    let why = "this manager stalled before it could act: what it saw is void".into();
    StepOutcome::Failed { why }
}

async fn begin<P: Ports>(ports: &P, order: &StepOrder) -> Result<(), ProposeError> {
    let command =
        Command::BeginStep { cluster: order.place.cluster.clone(), step: order.record.id };
    ports.consensus().propose(command).await.map(drop)
}

async fn end<P: Ports>(ports: &P, order: &StepOrder, began: Mono, outcome: StepOutcome) -> End {
    let now = ports.clock().now();
    let command = Command::EndStep {
        cluster: order.place.cluster.clone(),
        step: order.record.id,
        begun_in: order.token.term,
        outcome: outcome.clone(),
        took_us: now.since(began),
        at_us: order.opened_at.map(|opened| now.since(opened)),
    };
    match ports.consensus().propose(command).await {
        Ok(_) => End::Recorded(outcome),
        Err(error) => End::NotRecorded(outcome, error),
    }
}

/// Looks and acts until the goal is met, cannot be met, or nothing moves for the deadline.
async fn pursue<P: Ports>(
    ports: &P,
    order: &StepOrder,
    mut session: <P::Mysql as Mysql>::Session,
    began: Mono,
) -> StepOutcome {
    let mut acts = 0;
    let mut waited_for = None;
    let mut closing: Option<(Mono, Vec<String>)> = None;
    let mut closed_since = None;
    let mut carried: Option<rescue::Carried> = None;
    let mut waits_since = ports.clock().now();
    let mut progress = None;
    let mut deadline = ports.clock().now().plus(order.deadline);
    loop {
        let looked = ports.clock().now();
        // A look has its own time: what is not met at the deadline is said so.
        let look_by = deadline.max(ports.clock().now().plus(LOOK));
        let (facts, seen) = match looks(ports, order, &mut session, (look_by, deadline)).await {
            Ok(looks) => looks,
            Err(error) => return broken(acts, &error),
        };
        if let Some(why) = wrong_identity(order, &facts) {
            return StepOutcome::Failed { why };
        }
        if progress.is_none() {
            waited_for = acks_waited_for(&facts);
        }
        let amount = facts.executed.count() + facts.received().count();
        if progress.is_some_and(|before| amount > before) {
            deadline = ports.clock().now().plus(order.deadline);
            ports.progressed(&order.place.cluster);
        }
        progress = Some(amount);
        let waited = ports.clock().now().since(waits_since);
        let cluster = &order.place.cluster;
        if matches!(order.record.goal, StepKind::CloseForWrites { .. }) && facts.super_read_only {
            ports.closed(cluster, order.record.id, &facts.executed);
        }
        let last = order.last_writes;
        let closed_with = last.and_then(|last| ports.closed_with(cluster, last.closing));
        let closed_with = closed_with.map(|all| {
            let now = ports.clock().now();
            (all, now.since(*closed_since.get_or_insert(now)))
        });
        match goal::next(order, &facts, &seen, &goal::Run { acts, waited, closed_with }) {
            Next::Met => {
                if let Some(carried) = &carried {
                    carried.discard(ports).await;
                }
                let now = ports.clock().now();
                let closing =
                    closing.map(|(since, cut)| Closing { cut, took_us: now.since(since) });
                return met(acts, facts, waited_for, closing);
            }
            Next::Impossible(why) => {
                let hint = carried.as_ref().map_or_else(String::new, rescue::Carried::hint);
                return StepOutcome::Failed { why: why + &hint };
            }
            Next::Act(_) if is_void(ports, order, began) => return stalled(),
            // What it would rest on may be of long ago.
            Next::Act(_) if ports.has_stalled_since(looked) => {}
            Next::Act(action) if acts < ACTS => {
                let is_long = matches!(action, SqlAction::Clone { .. });
                let limit = if is_long { ports.clock().now().plus(CLONE) } else { deadline };
                if matches!(action, SqlAction::CloseForWrites { .. } | SqlAction::CutClients) {
                    closing.get_or_insert((ports.clock().now(), Vec::new()));
                }
                let mut next = Some(action);
                while let Some(action) = next {
                    match session.act(&action, limit).await {
                        Ok(cut) => closing.iter_mut().for_each(|(_, all)| all.extend(cut.clone())),
                        Err(error) => return broken_act(&action, &error),
                    }
                    acts += 1;
                    let is_fresh = ports.clock().now().since(looked) < YOUNG;
                    next = goal::then(order, &facts, &action).filter(|_| is_fresh);
                }
                waits_since = ports.clock().now();
            }
            Next::Carry(wanted) if acts < ACTS => {
                match rescue::carry(ports, order, &mut session, &facts, &wanted).await {
                    Ok(done) => carried = Some(done),
                    Err(error) => return broken(acts, &error),
                }
                acts += 1;
                waits_since = ports.clock().now();
                deadline = waits_since.plus(order.deadline);
            }
            Next::Carry(_) => {
                let why = format!("the goal is not met after {ACTS} acts");
                return StepOutcome::Failed { why };
            }
            Next::Act(action) => {
                let why =
                    format!("the goal is not met after {ACTS} acts; next would be {action:?}");
                return StepOutcome::Failed { why };
            }
            wait @ (Next::Wait | Next::Settle) => {
                let settled = waits_since.plus(order.deadline);
                let limit = if wait == Next::Settle { deadline.min(settled) } else { deadline };
                if ports.clock().now() >= limit {
                    let hint = carried.as_ref().map_or_else(String::new, rescue::Carried::hint);
                    let why = format!("not met {} after the last movement{hint}", order.deadline);
                    return StepOutcome::Failed { why };
                }
                // What it waits for is the end of writes, and clients wait with it.
                let longest = if order.last_writes.is_some() { URGENT } else { POLL.1 };
                ports.clock().sleep(Micros((waited.0 / 8).clamp(POLL.0, longest))).await;
            }
        }
    }
}

/// Looks at the server and at the witnesses, side by side where it does not matter who is seen first.
async fn looks<P: Ports>(
    ports: &P,
    order: &StepOrder,
    session: &mut <P::Mysql as Mysql>::Session,
    (look_by, deadline): (Mono, Mono),
) -> Result<(ServerFacts, BTreeMap<ServerName, ServerFacts>), PortError> {
    if goal::are_witnesses_later(&order.record.goal) {
        let facts = session.look(look_by).await?;
        return Ok((facts, witnesses(ports, order, deadline).await));
    }
    let (facts, seen) = both(session.look(look_by), witnesses(ports, order, deadline)).await;
    Ok((facts?, seen))
}

/// Awaits two futures side by side.
async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(context)
        {
            second = Some(output);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

/// Looks at all of them at once. One that does not answer counts as not connected; it must not hold
/// up the rest.
async fn witnesses<P: Ports>(
    ports: &P,
    order: &StepOrder,
    deadline: Mono,
) -> BTreeMap<ServerName, ServerFacts> {
    let soon = ports.clock().now().plus(Micros(500_000)).min(deadline);
    let names = goal::witnesses(order).into_iter();
    let known = names.filter_map(|name| Some((order.others.get(&name)?, name)));
    let looks = known.map(|(place, name)| async move {
        Some((name, ports.mysql().look(place, soon).await.ok()?))
    });
    together(looks.collect()).await.into_iter().flatten().collect()
}

/// Awaits all of these side by side.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    enum Slot<F: Future> {
        Going(Pin<Box<F>>),
        Done(Option<F::Output>),
    }
    let mut slots: Vec<Slot<F>> =
        futures.into_iter().map(|future| Slot::Going(Box::pin(future))).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for slot in &mut slots {
            let Slot::Going(future) = slot else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(output) => *slot = Slot::Done(Some(output)),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let take = |slot| match slot {
        Slot::Done(output) => output,
        Slot::Going(_) => None,
    };
    slots.into_iter().filter_map(take).collect()
}

/// A changed address, a name that resolves elsewhere: nothing is done to another server.
fn wrong_identity(order: &StepOrder, facts: &ServerFacts) -> Option<String> {
    let wanted = order.uuid.as_ref().filter(|uuid| **uuid != facts.uuid)?;
    let (name, found) = (&order.place.server.name, &facts.uuid);
    Some(format!("wanted {name}, {wanted}, at its address, found {found}"))
}

/// Acknowledgements that a server's commits wait for, if it takes writes at all.
fn acks_waited_for(facts: &ServerFacts) -> Option<u32> {
    let semi_sync = facts.semi_sync.as_ref().filter(|_| facts.is_writable())?;
    semi_sync.is_armed(1).then_some(semi_sync.acks)
}

fn met(
    acts: usize,
    facts: ServerFacts,
    waited_for: Option<u32>,
    closing: Option<Closing>,
) -> StepOutcome {
    let evidence = StepEvidence::Server {
        received: facts.received(),
        executed: facts.executed,
        read_only: facts.read_only,
        uptime_seconds: Some(facts.uptime_seconds),
        waited_for,
        closing,
    };
    match acts {
        0 => StepOutcome::FoundDone { evidence },
        1.. => StepOutcome::Done { evidence },
    }
}

/// The look failed: what was acted before may or may not have had its effect.
fn broken(acts: usize, error: &PortError) -> StepOutcome {
    match acts {
        0 => StepOutcome::Failed { why: error.to_string() },
        1.. => StepOutcome::Unknown { why: format!("acted, then could not read back: {error}") },
    }
}

fn broken_act(action: &SqlAction, error: &PortError) -> StepOutcome {
    let why = format!("{action:?}: {error}");
    match error.certainty {
        Certainty::NotDone | Certainty::Done => StepOutcome::Failed { why },
        Certainty::Unknown => StepOutcome::Unknown { why },
    }
}

async fn run_remote<P: Ports>(ports: &P, order: &StepOrder, began: Mono) -> End {
    if let Err(error) = begin(ports, order).await {
        return End::NotBegun(error);
    }
    if is_void(ports, order, began) {
        return end(ports, order, began, stalled()).await;
    }
    let mut text = release(ports, order).await;
    let limit = match matches!(order.record.goal, StepKind::SaveExtra { .. }) {
        true => SAVE,
        false => order.deadline,
    };
    let deadline = ports.clock().now().plus(limit);
    let mut outcome = None;
    let took = ports.clock().now().since(began);
    if took > COMMIT {
        let why = format!("agreeing on it took {took}: its time was over");
        outcome = Some(StepOutcome::Failed { why });
    }
    let commands = remote_commands(order).into_iter().take_while(|_| took <= COMMIT);
    for command in commands {
        match ports.remote().run(&order.place, order.token, &command, deadline).await {
            Ok(printed) => text.push_str(&printed),
            Err(error) => {
                outcome = Some(match error.certainty {
                    Certainty::NotDone | Certainty::Done => {
                        StepOutcome::Failed { why: error.to_string() }
                    }
                    Certainty::Unknown => StepOutcome::Unknown { why: error.to_string() },
                });
                break;
            }
        }
    }
    let done = || StepOutcome::Done { evidence: StepEvidence::Host { text: bounded(&text) } };
    end(ports, order, began, outcome.unwrap_or_else(done)).await
}

/// Scripts act by their own means, and no lock stops them: a repeated call tells itself by its key.
async fn run_hook<P: Ports>(ports: &P, order: &StepOrder, call: &HookCall, began: Mono) -> End {
    if let Err(error) = begin(ports, order).await {
        return End::NotBegun(error);
    }
    let place = |name: &ServerName| match *name == order.place.server.name {
        true => Some(order.place.server.clone()),
        false => order.others.get(name).map(|place| place.server.clone()),
    };
    let told = HookOrder {
        cluster: order.place.cluster.clone(),
        call: call.clone(),
        step: order.record.id,
        repeats: order.record.runs.len(),
        token: order.token,
        old: place(&call.old),
        new: call.new.as_ref().and_then(place),
    };
    let deadline = ports.clock().now().plus(order.deadline);
    let outcome = match ports.hooks().call(&told, deadline).await {
        Ok(text) => StepOutcome::Done { evidence: StepEvidence::Hook { text: bounded(&text) } },
        Err(error) => match error.certainty {
            Certainty::NotDone | Certainty::Done => StepOutcome::Failed { why: error.to_string() },
            Certainty::Unknown => StepOutcome::Unknown { why: error.to_string() },
        },
    };
    end(ports, order, began, outcome).await
}

/// Outside attempts, every other host lets go of an address before it is taken: a host whose
/// mysqld is dead goes on answering for it. Where that fails, the announcement has to do.
async fn release<P: Ports>(ports: &P, order: &StepOrder) -> String {
    let mut text = String::new();
    let StepKind::TakeVip { vip } = &order.record.goal else { return text };
    let others = order.others.values().filter(|place| order.is_chore && place.server.ssh.is_some());
    for place in others {
        let command = RemoteCommand::DropVip { vip: vip.clone() };
        let soon = ports.clock().now().plus(RELEASE);
        let said = ports.remote().run(place, order.token, &command, soon).await;
        let said = said.unwrap_or_else(|error| error.to_string());
        text.push_str(&format!("{}: {}\n", place.server.name, said.trim()));
    }
    text
}

fn remote_commands(order: &StepOrder) -> Vec<RemoteCommand> {
    match &order.record.goal {
        StepKind::Fence { vips } => vec![RemoteCommand::Fence {
            data_dir: order.place.server.data_dir.clone(),
            service: order.place.server.service.clone(),
            vips: vips.clone(),
        }],
        StepKind::TakeVip { vip } => vec![RemoteCommand::TakeVip { vip: vip.clone() }],
        StepKind::DropVips { vips } => {
            vips.iter().map(|vip| RemoteCommand::DropVip { vip: vip.clone() }).collect()
        }
        StepKind::StartServer => {
            let service = order.place.server.service.iter().cloned();
            service.map(|service| RemoteCommand::StartService { service }).collect()
        }
        StepKind::SaveExtra { extra, files } => vec![RemoteCommand::Save {
            data_dir: order.place.server.data_dir.clone(),
            name: order.record.id.to_string(),
            files: files.clone(),
            extra: extra.clone(),
        }],
        StepKind::Level { .. }
        | StepKind::CloseForWrites { .. }
        | StepKind::CutClients
        | StepKind::Reopen { .. }
        | StepKind::StopReceiver
        | StepKind::CatchUp { .. }
        | StepKind::Apply { .. }
        | StepKind::ReadLog
        | StepKind::Rescue { .. }
        | StepKind::Detach
        | StepKind::Follow { .. }
        | StepKind::OpenForWrites { .. }
        | StepKind::ResumeReceiver
        | StepKind::Wake
        | StepKind::MakeReadOnly
        | StepKind::Examine { .. }
        | StepKind::Rebuild { .. }
        | StepKind::Arm { .. }
        | StepKind::LockOut { .. }
        | StepKind::LetIn { .. }
        | StepKind::Harden { .. }
        | StepKind::Hook { .. } => Vec::new(),
    }
}

/// The record keeps the last kilobyte of what a host printed.
fn bounded(text: &str) -> String {
    let text = text.trim();
    let from = text.len().saturating_sub(1024);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[from..].to_owned()
}
