//! The next act towards each goal: met already, act, wait, impossible.

use std::collections::BTreeMap;

use super::goal::{Next, Run, next, then, witnesses};
use crate::{
    decide::{LastWrites, StepOrder, view::place},
    fixture::*,
    model::{
        Applier, Boot, Epoch, GtidSet, LinkOptions, Micros, Receiver, ReplicaFacts, Rescue,
        SemiSync, ServerFacts, ServerName, Setting, StepId, StepKind, StepRecord, Term, Token,
    },
    ports::SqlAction,
};

/// An order for a step on that server; db1 is revoked and in force.
fn order(target: u64, goal: StepKind) -> StepOrder {
    let group = Group::adopted();
    let at = |server| place(group.cluster(), &name(server)).expect("it is defined");
    let id = StepId { epoch: Epoch(1), seq: 4 };
    StepOrder {
        token: Token { epoch: Epoch(1), term: Term(TERM), seq: 4 },
        record: StepRecord { id, target: name(target), goal, runs: Vec::new() },
        place: at(target),
        uuid: Some(uuid(target)),
        others: (1..=3).filter(|n| *n != target).map(|n| (name(n), at(n))).collect(),
        primary: Some(name(1)),
        revoked: names(&[1]),
        last_writes: None,
        known: GtidSet::empty(),
        deadline: Micros(10_000_000),
        opened_at: None,
        is_chore: false,
    }
}

/// After so many acts, the last of them a moment ago.
fn after(acts: usize) -> Run {
    Run { acts, ..Run::default() }
}

/// db1 and db3, which have executed what everybody has, answer as witnesses.
fn act(target: u64, goal: StepKind, facts: &ServerFacts) -> Next {
    let witness = |server| (name(server), primary_facts(server, run(1, 9)));
    let seen = BTreeMap::from([witness(1), witness(3)]);
    next(&order(target, goal), facts, &seen, &after(0))
}

fn impossible(why: &str) -> Next {
    Next::Impossible(why.into())
}

/// db2 as a replica of db1, changed.
fn replica(change: impl FnOnce(&mut ReplicaFacts)) -> ServerFacts {
    replica_of(1, change)
}

fn replica_of(source: u64, change: impl FnOnce(&mut ReplicaFacts)) -> ServerFacts {
    let mut facts = replica_facts(2, source, run(1, 9));
    change(link(&mut facts));
    facts
}

/// db2 without a source.
fn alone() -> ServerFacts {
    ServerFacts {
        replica: None,
        semi_sync: Some(SemiSync::default()),
        ..replica_facts(2, 1, run(1, 9))
    }
}

/// The source is db3 from now on.
fn change_to_db3(options: Option<LinkOptions>) -> Next {
    let (host, account) = ("10.0.0.3".into(), "repl2".into());
    Next::Act(SqlAction::ChangeSource { host, port: 3306, account, options })
}

fn off(link: &mut ReplicaFacts) {
    (link.receiver, link.applier) = (Receiver::Off, Applier::Off);
}

#[test]
fn stop_receiver() {
    let goal = || StepKind::StopReceiver;
    assert_eq!(act(2, goal(), &replica(off)), Next::Met);
    assert_eq!(act(2, goal(), &alone()), Next::Met);
    for state in [Receiver::On, Receiver::Connecting] {
        let facts = replica(|link| link.receiver = state);
        assert_eq!(act(2, goal(), &facts), Next::Act(SqlAction::StopReceiver));
    }
}

#[test]
fn stop_receiver_of_mariadb_lets_it_apply_first_and_is_always_made() {
    let of = |acts: usize, facts: ServerFacts| {
        next(&order(2, StepKind::StopReceiver), &of_mariadb(facts), &BTreeMap::new(), &after(acts))
    };
    let resting = || replica(|link| link.applier = Applier::Off);
    assert_eq!(of(0, resting()), Next::Act(SqlAction::StartApplier));
    assert_eq!(of(1, resting()), Next::Act(SqlAction::StopReceiver), "somebody stopped it again");
    assert_eq!(of(1, replica(|_| {})), Next::Act(SqlAction::StopReceiver));
    let stopped = || replica(|link| link.receiver = Receiver::Off);
    assert_eq!(of(0, stopped()), Next::Act(SqlAction::StopReceiver), "a start may be under way");
    assert_eq!(of(1, stopped()), Next::Met);
    assert_eq!(of(0, alone()), Next::Met);
}

#[test]
fn resume_receiver_from_the_primary_in_force_only() {
    let goal = || StepKind::ResumeReceiver;
    assert_eq!(act(2, goal(), &replica(|_| {})), Next::Met);
    let receiver_off = |link: &mut ReplicaFacts| link.receiver = Receiver::Off;
    assert_eq!(act(2, goal(), &replica(receiver_off)), Next::Act(SqlAction::StartReceiver));
    assert_eq!(act(2, goal(), &replica(off)), Next::Act(SqlAction::StartReplica), "a rescue's");
    assert_eq!(act(2, goal(), &replica_of(3, off)), Next::Met);
    assert_eq!(act(2, goal(), &alone()), Next::Met);
}

#[test]
fn catch_up() {
    let goal = || StepKind::CatchUp { donor: name(3), target: run(1, 12) };
    let got = |link: &mut ReplicaFacts| link.retrieved = run(1, 12);
    assert_eq!(act(2, goal(), &replica_of(3, got)), Next::Act(SqlAction::StopReceiver));
    let stopped = |link: &mut ReplicaFacts| {
        got(link);
        off(link);
    };
    assert_eq!(act(2, goal(), &replica_of(3, stopped)), Next::Met);
    // Its old source is left first, after everything received was applied.
    assert_eq!(act(2, goal(), &replica(|_| {})), Next::Act(SqlAction::StopReceiver));
    let behind = |link: &mut ReplicaFacts| {
        link.receiver = Receiver::Off;
        link.retrieved = run(1, 11);
    };
    assert_eq!(act(2, goal(), &replica(behind)), Next::Wait);
    let resting = |link: &mut ReplicaFacts| {
        behind(link);
        link.applier = Applier::Off;
    };
    assert_eq!(act(2, goal(), &replica(resting)), Next::Act(SqlAction::StartApplier));
    let broken = |link: &mut ReplicaFacts| {
        behind(link);
        link.applier = Applier::Broken { code: 1062, text: "duplicate".into() };
    };
    let why = impossible("its applier stopped with error 1062: duplicate");
    assert_eq!(act(2, goal(), &replica(broken)), why);
    let level = |link: &mut ReplicaFacts| link.receiver = Receiver::Off;
    assert_eq!(act(2, goal(), &replica(level)), Next::Act(SqlAction::StopApplier));
    assert_eq!(act(2, goal(), &replica(off)), change_to_db3(None));
    assert_eq!(act(2, goal(), &replica_of(3, off)), Next::Act(SqlAction::StartReplica));
    assert_eq!(act(2, goal(), &replica_of(3, |_| {})), Next::Wait);
    let unknown = StepKind::CatchUp { donor: name(9), target: run(1, 12) };
    assert_eq!(act(2, unknown, &replica(off)), impossible("server db9 is not defined"));
}

#[test]
fn link_without_auto_position_is_made_anew() {
    let goal = StepKind::CatchUp { donor: name(3), target: run(1, 12) };
    let by_position = |link: &mut ReplicaFacts| {
        off(link);
        link.auto_position = false;
    };
    assert_eq!(act(2, goal, &replica_of(3, by_position)), change_to_db3(None));
}

#[test]
fn apply() {
    let goal = |last| StepKind::Apply { target: run(1, last) };
    assert_eq!(act(2, goal(9), &replica(|_| {})), Next::Met);
    assert_eq!(act(2, goal(10), &replica(|_| {})), Next::Wait);
    assert_eq!(act(2, goal(10), &replica(off)), Next::Act(SqlAction::StartApplier));
    let why = format!("it has no relay log to get {}:1-10 from", uuid(1));
    assert_eq!(act(2, goal(10), &alone()), impossible(&why));
}

#[test]
fn detach() {
    let goal = || StepKind::Detach;
    assert_eq!(act(2, goal(), &replica(|_| {})), Next::Act(SqlAction::StopReplica));
    let applying = |link: &mut ReplicaFacts| link.receiver = Receiver::Off;
    assert_eq!(act(2, goal(), &replica(applying)), Next::Act(SqlAction::StopApplier));
    assert_eq!(act(2, goal(), &replica(off)), Next::Act(SqlAction::ForgetSource));
    // A donor may have sent more than was asked for: it is applied, never thrown away.
    let more = |applier: Applier| {
        replica(|link| {
            (link.receiver, link.applier, link.retrieved) = (Receiver::Off, applier, run(1, 12));
        })
    };
    assert_eq!(act(2, goal(), &more(Applier::On)), Next::Wait);
    assert_eq!(act(2, goal(), &more(Applier::Off)), Next::Act(SqlAction::StartApplier));
    let broken = Applier::Broken { code: 1062, text: "duplicate".into() };
    assert_eq!(act(2, goal(), &more(broken)), Next::Act(SqlAction::ForgetSource));
    let mut flagged = alone();
    flagged.semi_sync = Some(SemiSync { replica_enabled: true, ..SemiSync::default() });
    let unflag = SqlAction::SetSemiSyncReplica { on: false };
    assert_eq!(act(2, goal(), &flagged), Next::Act(unflag));
    assert_eq!(act(2, goal(), &alone()), Next::Met);
}

fn follow(acker: bool) -> StepKind {
    StepKind::Follow { source: name(3), acker, options: LinkOptions::default() }
}

#[test]
fn follow_brings_a_replica_over_step_by_step() {
    let flag = |on| Next::Act(SqlAction::SetSemiSyncReplica { on });
    assert_eq!(act(2, follow(true), &replica(|_| {})), Next::Act(SqlAction::StopReceiver));
    assert_eq!(act(2, follow(true), &replica(off)), change_to_db3(None));
    assert_eq!(act(2, follow(true), &replica_of(3, off)), Next::Act(SqlAction::StartReplica));
    let connecting = |link: &mut ReplicaFacts| link.receiver = Receiver::Connecting;
    assert_eq!(act(2, follow(true), &replica_of(3, connecting)), Next::Wait);
    assert_eq!(act(2, follow(true), &replica_of(3, |_| {})), Next::Met);
    // The flag is set while the receiver is off: it counts from the next connection on.
    assert_eq!(act(2, follow(false), &replica_of(3, off)), flag(false));
    let stop = Next::Act(SqlAction::StopReceiver);
    assert_eq!(act(2, follow(false), &replica_of(3, |_| {})), stop);
    let mut idle = replica_of(3, |_| {});
    idle.semi_sync = Some(SemiSync { replica_enabled: true, ..SemiSync::default() });
    // Flagged while it ran: by somebody else, or its receiver was started by hand meanwhile.
    assert_eq!(act(2, follow(true), &idle), stop);
    let seen = BTreeMap::from([(name(3), primary_facts(3, run(1, 9)))]);
    let started = next(&order(2, follow(true)), &idle, &seen, &after(1));
    assert_eq!(started, Next::Settle, "it has just been started");
    // The other way round it goes on acknowledging.
    let mut active = replica_of(3, |_| {});
    active.semi_sync = Some(SemiSync { replica_active: true, ..SemiSync::default() });
    assert_eq!(act(2, follow(false), &active), stop);
    assert_eq!(next(&order(2, follow(false)), &active, &seen, &after(2)), stop);
    assert_eq!(act(2, follow(false), &alone()), change_to_db3(Some(LinkOptions::default())));
}

#[test]
fn follow_that_cannot_be() {
    let refused = |link: &mut ReplicaFacts| {
        off(link);
        link.receiver_error = Some((1236, "more GTIDs".into()));
    };
    let why = impossible("its receiver stopped with error 1236: more GTIDs");
    assert_eq!(act(2, follow(true), &replica_of(3, refused)), why);
    let broken = |link: &mut ReplicaFacts| {
        link.applier = Applier::Broken { code: 1062, text: "duplicate".into() };
    };
    let why = impossible("its applier stopped with error 1062: duplicate");
    assert_eq!(act(2, follow(true), &replica_of(3, broken)), why);
}

#[test]
fn follow_is_refused_to_a_server_with_transactions_that_its_source_lacks() {
    let mut errant = replica_of(3, off);
    errant.executed = run(1, 9).union(&run(2, 1));
    let why = impossible(&format!("it has transactions that db3 lacks: {}:1", uuid(2)));
    for acker in [true, false] {
        assert_eq!(act(2, follow(acker), &errant), why);
    }
    // Those that it got from its source just now are not errant, although the look is older.
    errant.executed = run(1, 9).union(&run(3, 4));
    assert_eq!(act(2, follow(true), &errant), Next::Act(SqlAction::StartReplica));
    // A source that does not answer says nothing.
    let order = order(2, follow(true));
    assert_eq!(next(&order, &replica_of(3, off), &BTreeMap::new(), &after(0)), Next::Wait);
}

#[test]
fn server_that_takes_writes_is_made_harmless_in_the_order_that_answers_nobody_ok() {
    let mut facts = primary_facts(2, run(1, 9));
    let mut acts = Vec::new();
    while let Next::Act(action) = act(2, StepKind::MakeReadOnly, &facts) {
        match &action {
            SqlAction::SetOffline { on } => facts.offline = *on,
            SqlAction::SetSemiSyncSource { on, .. } => {
                let semi_sync = facts.semi_sync.get_or_insert_default();
                semi_sync.source_enabled = *on;
            }
            SqlAction::SetReadOnly => (facts.read_only, facts.super_read_only) = (true, true),
            other => panic!("{other:?} is no way to be harmless"),
        }
        acts.push(action);
    }
    let expected = [
        SqlAction::SetOffline { on: true },
        SqlAction::SetSemiSyncSource { on: false, acks: 0 },
        SqlAction::SetReadOnly,
        SqlAction::SetOffline { on: false },
    ];
    assert_eq!(acts, expected);
    assert_eq!(act(2, StepKind::MakeReadOnly, &facts), Next::Met);
    let mut half = facts.clone();
    half.super_read_only = false;
    assert_eq!(act(2, StepKind::MakeReadOnly, &half), Next::Act(SqlAction::SetReadOnly));
    // Without offline_mode clients are cut as it is made read-only.
    let mut other = of_mariadb(primary_facts(2, run(1, 9)));
    assert_eq!(act(2, StepKind::MakeReadOnly, &other), Next::Act(SqlAction::SetReadOnly));
    (other.read_only, other.super_read_only) = (true, true);
    let off = SqlAction::SetSemiSyncSource { on: false, acks: 0 };
    assert_eq!(act(2, StepKind::MakeReadOnly, &other), Next::Act(off));
    other.semi_sync = None;
    assert_eq!(act(2, StepKind::MakeReadOnly, &other), Next::Met);
    // Whoever is to follow is made harmless first.
    let primary = primary_facts(2, run(1, 9));
    let offline = Next::Act(SqlAction::SetOffline { on: true });
    assert_eq!(act(2, follow(true), &primary), offline);
}

/// db2 is to be opened with one acknowledgement of db3.
fn open(facts: &ServerFacts, db3: Option<ServerFacts>) -> Next {
    let goal = StepKind::OpenForWrites { acks: 1, ackers: names(&[3]), recruits: names(&[2, 3]) };
    let seen: BTreeMap<ServerName, ServerFacts> =
        db3.into_iter().map(|facts| (name(3), facts)).collect();
    next(&order(2, goal), facts, &seen, &after(0))
}

fn acker(change: impl FnOnce(&mut ServerFacts)) -> Option<ServerFacts> {
    let mut facts = replica_facts(3, 2, run(1, 9));
    change(&mut facts);
    Some(facts)
}

#[test]
fn open_for_writes_waits_for_acknowledgers_seen_on_themselves() {
    assert_eq!(open(&alone(), None), Next::Wait);
    assert_eq!(open(&alone(), acker(|f| link(f).receiver = Receiver::Connecting)), Next::Wait);
    assert_eq!(open(&alone(), acker(|f| f.semi_sync = Some(SemiSync::default()))), Next::Wait);
    let elsewhere = acker(|f| link(f).source_host = "10.0.0.9".into());
    assert_eq!(open(&alone(), elsewhere), Next::Wait);
}

#[test]
fn open_for_writes_turns_semi_sync_on_before_it_lets_anybody_write() {
    let on = SqlAction::SetSemiSyncSource { on: true, acks: 1 };
    assert_eq!(open(&alone(), acker(|_| {})), Next::Act(on.clone()));
    let mut armed = alone();
    let whole = primary_facts(2, run(1, 9)).semi_sync;
    let but = |change: fn(&mut SemiSync)| {
        let mut semi_sync = whole.clone().unwrap_or_default();
        change(&mut semi_sync);
        Some(semi_sync)
    };
    // A commit that waits for a while only, or for nobody where nobody is, is no promise.
    let lacking: [fn(&mut SemiSync); 5] = [
        |s| s.acks = 2,
        |s| s.source_enabled = false,
        |s| s.after_sync = false,
        |s| s.wait_no_replica = false,
        |s| s.timeout_ms = 10_000,
    ];
    for lack in lacking {
        armed.semi_sync = but(lack);
        assert_eq!(open(&armed, acker(|_| {})), Next::Act(on.clone()));
    }
    armed.semi_sync = whole.clone();
    assert_eq!(open(&armed, acker(|_| {})), Next::Act(SqlAction::SetWritable));
    armed.read_only = false;
    assert_eq!(open(&armed, acker(|_| {})), Next::Act(SqlAction::SetWritable));
    armed.super_read_only = false;
    assert_eq!(open(&armed, acker(|_| {})), Next::Met);
    armed.offline = true;
    let online = SqlAction::SetOffline { on: false };
    assert_eq!(open(&armed, acker(|_| {})), Next::Act(online));
}

#[test]
fn server_that_was_told_to_wait_for_acknowledgements_is_opened_at_once() {
    let on = SqlAction::SetSemiSyncSource { on: true, acks: 1 };
    let goal = || StepKind::OpenForWrites { acks: 1, ackers: names(&[3]), recruits: names(&[3]) };
    let order = |goal| order(2, goal);
    assert_eq!(then(&order(goal()), &alone(), &on), Some(SqlAction::SetWritable));
    let reopen = StepKind::Reopen { acks: 1 };
    assert_eq!(then(&order(reopen), &alone(), &on), Some(SqlAction::SetWritable));
    assert_eq!(then(&order(goal()), &alone(), &SqlAction::SetWritable), None);
    let arm = StepKind::Arm { acks: 1, ackers: names(&[3]), by: ann() };
    assert_eq!(then(&order(arm), &alone(), &on), None, "its writes go on");
}

#[test]
fn open_for_writes_that_would_not_be_safe() {
    let back = acker(|facts| link(facts).source_host = "10.0.0.1".into());
    let why = impossible("db3 reads from a revoked server again");
    assert_eq!(open(&alone(), back), why);
    let why = impossible("it still receives from another server");
    assert_eq!(open(&replica(|_| {}), acker(|_| {})), why);
    let mut bare = alone();
    bare.semi_sync = None;
    let why = impossible("the semi-sync plugins are not there");
    assert_eq!(open(&bare, acker(|_| {})), why);
}

#[test]
fn open_for_writes_without_acknowledgements_waits_for_nobody() {
    let goal = || StepKind::OpenForWrites { acks: 0, ackers: names(&[]), recruits: names(&[2, 3]) };
    let mut facts = alone();
    assert_eq!(act(2, goal(), &facts), Next::Act(SqlAction::SetWritable));
    (facts.read_only, facts.super_read_only) = (false, false);
    assert_eq!(act(2, goal(), &facts), Next::Met);
}

#[test]
fn openings_and_followers_have_witnesses() {
    let goal = StepKind::OpenForWrites { acks: 1, ackers: names(&[3]), recruits: names(&[2, 3]) };
    assert_eq!(witnesses(&order(1, goal)), [name(2), name(3)]);
    assert_eq!(witnesses(&order(2, follow(true))), [name(1), name(3)]);
    assert_eq!(witnesses(&order(2, StepKind::Detach)), []);
}

#[test]
fn wake_writes_once_and_its_commit_is_the_proof() {
    let mut facts = primary_facts(1, run(1, 9));
    let wake = |facts: &ServerFacts, acts| {
        next(&order(1, StepKind::Wake), facts, &BTreeMap::new(), &after(acts))
    };
    let id = StepId { epoch: Epoch(1), seq: 4 };
    assert_eq!(wake(&facts, 0), Next::Act(SqlAction::WriteMarker { step: id }));
    assert_eq!(wake(&facts, 1), Next::Met);
    facts.semi_sync.get_or_insert_default().waiting = 3;
    assert_eq!(wake(&facts, 1), Next::Met, "who waits now has come since");
    facts.read_only = true;
    assert_eq!(wake(&facts, 0), Next::Met);
}

#[test]
fn arm_sets_the_number_when_enough_are_connected_and_commits_a_marker_under_it() {
    let goal = |acks| StepKind::Arm { acks, ackers: names(&[2, 3]), by: ann() };
    let mut facts = primary_facts(1, run(1, 9));
    let acker = |server| (name(server), replica_facts(server, 1, run(1, 9)));
    let (one, two) = ([acker(2)].into(), [acker(2), acker(3)].into());
    let arm = |acks, facts: &ServerFacts, seen: &BTreeMap<_, _>, acts| {
        next(&order(1, goal(acks)), facts, seen, &after(acts))
    };
    let set = |on, acks| Next::Act(SqlAction::SetSemiSyncSource { on, acks });
    assert_eq!(witnesses(&order(1, goal(2))), [name(2), name(3)]);
    // Not for as long as writes go on.
    assert_eq!(arm(2, &facts, &one, 0), Next::Settle);
    assert_eq!(arm(2, &facts, &two, 0), set(true, 2));
    facts.semi_sync.get_or_insert_default().acks = 2;
    let id = StepId { epoch: Epoch(1), seq: 4 };
    assert_eq!(arm(2, &facts, &two, 1), Next::Act(SqlAction::WriteMarker { step: id }));
    assert_eq!(arm(2, &facts, &two, 2), Next::Met);
    let why = "somebody else changes its semi-sync settings";
    assert_eq!(arm(1, &facts, &two, 1), impossible(why));
    // A run lost before its marker: it is written again.
    assert_eq!(arm(2, &facts, &two, 0), set(true, 2));
    assert_eq!(arm(0, &facts, &one, 0), set(false, 0));
    facts.semi_sync.get_or_insert_default().source_enabled = false;
    assert_eq!(arm(0, &facts, &one, 1), Next::Met);
    facts.read_only = true;
    assert_eq!(arm(1, &facts, &two, 0), impossible("it takes no writes, so nothing of it waits"));
}

#[test]
fn lock_out_locks_ends_the_connections_and_commits_a_marker_without_the_one_locked_out() {
    let goal = || StepKind::LockOut { server: name(3), account: "repl3".into() };
    let mut facts = primary_facts(1, run(1, 9));
    let lock =
        |facts: &ServerFacts, acts| next(&order(1, goal()), facts, &BTreeMap::new(), &after(acts));
    let account = || "repl3".to_owned();
    assert_eq!(lock(&facts, 0), Next::Act(SqlAction::LockAccount { account: account() }));
    assert_eq!(lock(&facts, 1), impossible("account repl3 is still in use"));
    let inbound = facts.inbound.get_or_insert_default();
    inbound.locked.insert(account());
    assert_eq!(lock(&facts, 1), impossible("account repl3 is still in use"));
    facts.inbound.get_or_insert_default().connected.remove("repl3");
    let id = StepId { epoch: Epoch(1), seq: 4 };
    assert_eq!(lock(&facts, 1), Next::Act(SqlAction::WriteMarker { step: id }));
    assert_eq!(lock(&facts, 2), Next::Met);
    // It acknowledged, perhaps, what no other has: the marker is written in every run.
    assert_eq!(lock(&facts, 0), Next::Act(SqlAction::LockAccount { account: account() }));
    facts.inbound = None;
    assert!(matches!(lock(&facts, 2), Next::Impossible(_)), "unknown is not shut");
}

#[test]
fn let_in_unlocks_and_leaves_a_replica_read_only() {
    let goal = StepKind::LetIn { server: name(3), account: "repl3".into() };
    let mut facts = replica(|_| {});
    facts.inbound.get_or_insert_default().locked.insert("repl3".into());
    let unlock = SqlAction::UnlockAccount { account: "repl3".into() };
    assert_eq!(act(2, goal.clone(), &facts), Next::Act(unlock));
    facts.inbound.get_or_insert_default().locked.clear();
    assert_eq!(act(2, goal.clone(), &facts), Next::Met);
    facts.super_read_only = false;
    assert_eq!(act(2, goal, &facts), Next::Act(SqlAction::SetReadOnly));
}

#[test]
fn harden_sets_what_is_missing_one_after_the_other() {
    let settings = [Setting::SyncBinlog, Setting::BootReadOnly].into();
    let goal = StepKind::Harden { settings, by: ann() };
    let mut facts = replica(|_| {});
    (facts.sync_binlog, facts.boot) = (0, Boot::Unknown);
    let persist = |setting| Next::Act(SqlAction::Persist { setting });
    assert_eq!(act(2, goal.clone(), &facts), persist(Setting::SyncBinlog));
    facts.sync_binlog = 1;
    assert_eq!(act(2, goal.clone(), &facts), persist(Setting::BootReadOnly));
    facts.boot = Boot::ReadOnly;
    assert_eq!(act(2, goal, &facts), Next::Met);
}

#[test]
fn what_is_done_on_the_host_cannot_be_done_on_the_server() {
    let goals = [
        StepKind::Fence { vips: Vec::new() },
        StepKind::TakeVip { vip: vip() },
        StepKind::DropVips { vips: Vec::new() },
    ];
    for goal in goals {
        assert!(goal.is_remote());
        let why = impossible("it acts on the host, not on the server");
        assert_eq!(act(2, goal, &alone()), why);
    }
}

#[test]
fn received_set_is_what_was_executed_and_what_is_in_the_relay_log() {
    let facts = replica(|link| link.retrieved = run(1, 12));
    assert_eq!(facts.received(), run(1, 12));
    assert_eq!(GtidSet::empty().union(&alone().received()), run(1, 9));
}

#[test]
fn rebuild_cuts_clients_then_copies_then_forgets_what_the_copy_follows() {
    let goal = || StepKind::Rebuild { donor: name(3), extra: run(2, 2) };
    let with = |change: fn(&mut ServerFacts)| {
        let mut facts = alone();
        facts.executed = run(1, 9).union(&run(2, 2));
        change(&mut facts);
        act(2, goal(), &facts)
    };
    assert_eq!(with(|f| f.read_only = false), impossible("it takes writes"));
    let offline = |on| Next::Act(SqlAction::SetOffline { on });
    assert_eq!(with(|_| {}), offline(true));
    assert_eq!(with(|f| f.offline = true), Next::Act(SqlAction::AllowRebuild));
    let (host, account) = ("10.0.0.3".into(), "conclave".into());
    let copy = SqlAction::Clone { host, port: 3306, account };
    assert_eq!(with(|f| (f.offline, f.super_read_only) = (true, false)), Next::Act(copy));
    // Stopped half-way by a new leader after the copy, or just booted with it.
    let rebuilt = |change: fn(&mut ServerFacts)| {
        let mut facts = replica(off);
        change(&mut facts);
        act(2, goal(), &facts)
    };
    assert_eq!(rebuilt(|f| f.super_read_only = false), Next::Act(SqlAction::SetReadOnly));
    assert_eq!(rebuilt(|f| f.offline = true), offline(false));
    assert_eq!(rebuilt(|_| {}), Next::Act(SqlAction::ForgetSource));
    assert_eq!(act(2, goal(), &alone()), Next::Met);
}

#[test]
fn receiver_is_stopped_once_the_last_writes_of_the_closed_primary_are_in() {
    let closing = StepId { epoch: Epoch(1), seq: 3 };
    let mut facts = replica(|link| link.retrieved = run(1, 12));
    facts.executed = run(1, 9);
    let next = |executed, closed_with: Option<(u64, u64)>, facts: &ServerFacts| {
        let last_writes = Some(LastWrites { closing, executed });
        let order = StepOrder { last_writes, ..order(2, StepKind::StopReceiver) };
        let closed_with = closed_with.map(|(last, ms)| (run(1, last), Micros(ms * 1000)));
        next(&order, facts, &BTreeMap::new(), &Run { closed_with, ..Run::default() })
    };
    let stop = Next::Act(SqlAction::StopReceiver);
    assert_eq!(next(false, None, &facts), Next::Wait, "more may come");
    assert_eq!(next(false, Some((13, 9)), &facts), Next::Wait);
    assert_eq!(next(false, Some((12, 9)), &facts), stop);
    assert_eq!(next(false, Some((13, 2000)), &facts), stop, "it lags, and must not read on");
    assert_eq!(next(true, Some((13, 2000)), &facts), Next::Wait);
    assert_eq!(next(true, Some((12, 9)), &facts), Next::Wait, "the candidate executes them, too");
    facts.executed = run(1, 12);
    assert_eq!(next(true, Some((12, 9)), &facts), stop);
    assert_eq!(act(2, StepKind::StopReceiver, &facts), stop, "a failover waits for nothing");
    link(&mut facts).receiver = Receiver::Off;
    assert_eq!(next(false, None, &facts), Next::Met);
}

#[test]
fn clients_are_cut_only_where_nobody_can_write() {
    let mut facts = alone();
    facts.super_read_only = false;
    assert_eq!(act(2, StepKind::CutClients, &facts), impossible("it takes writes"));
    facts.super_read_only = true;
    assert_eq!(act(2, StepKind::CutClients, &facts), Next::Act(SqlAction::CutClients));
    facts.offline = true;
    assert_eq!(act(2, StepKind::CutClients, &facts), Next::Met);
}

#[test]
fn writes_end_once_the_candidate_is_near_and_less_near_if_that_takes_long() {
    let (candidate, ackers) = (name(2), names(&[3]));
    let goal = StepKind::CloseForWrites { candidate, ackers, acks: 1 };
    let next = |behind: u64, waited: Micros| {
        let primary = primary_facts(1, run(1, 1000));
        let there = |server, upto| (name(server), replica_facts(server, 1, run(1, upto)));
        let seen = BTreeMap::from([there(2, 1000 - behind), there(3, 1000)]);
        next(&order(1, goal.clone()), &primary, &seen, &Run { waited, ..Run::default() })
    };
    let moment = Micros(1_000);
    assert!(matches!(next(8, moment), Next::Act(SqlAction::CloseForWrites { .. })));
    assert_eq!(next(9, moment), Next::Wait);
    assert!(matches!(next(100, Micros(1_000_000)), Next::Act(SqlAction::CloseForWrites { .. })));
    assert_eq!(next(101, Micros(1_000_000)), Next::Wait);
}

fn rescue() -> Rescue {
    let gtids = GtidSet::run(&uuid(1), 10, 12);
    Rescue { from: name(1), gtids, pieces: Vec::new(), is_needed: false }
}

/// A stopped replica that has executed so much, with the channel for rescued transactions as given.
fn rescuing(executed: u64, channel: Option<Applier>) -> ServerFacts {
    let mut facts = replica(|link| {
        (link.receiver, link.applier) = (Receiver::Off, Applier::Off);
    });
    (facts.executed, facts.rescue) = (run(1, executed), channel);
    facts
}

fn broken() -> Applier {
    Applier::Broken { code: 1062, text: "duplicate".into() }
}

#[test]
fn rescue_is_carried_waited_for_and_leaves_no_channel_behind() {
    let goal = || StepKind::Rescue { rescue: rescue() };
    let removed = || Next::Act(SqlAction::DropRescued);
    let cases = [
        (9, None, Next::Carry(Box::new(rescue()))),
        // A leader was lost while it is applied: it goes on by itself.
        (11, Some(Applier::On), Next::Wait),
        // Left by one that was lost, or by a restart: begun anew.
        (11, Some(Applier::Off), removed()),
        (11, Some(broken()), removed()),
        (12, Some(Applier::On), removed()),
        (12, None, Next::Met),
    ];
    for (executed, channel, expected) in cases {
        assert_eq!(act(2, goal(), &rescuing(executed, channel)), expected, "{executed}");
    }
    // Half a transaction of the old link may be in its applier's hands.
    let mut facts = rescuing(9, None);
    link(&mut facts).applier = Applier::On;
    assert_eq!(act(2, goal(), &facts), Next::Act(SqlAction::StopApplier));
    link(&mut facts).retrieved = run(1, 10);
    assert_eq!(act(2, goal(), &facts), Next::Wait);
    // What this very run has had applied does not fit.
    let order = order(2, goal());
    let facts = rescuing(11, Some(broken()));
    let why = "its applier stopped with error 1062: duplicate".into();
    assert_eq!(next(&order, &facts, &BTreeMap::new(), &after(1)), Next::Impossible(why));
}

#[test]
fn channel_of_a_failed_rescue_is_removed_before_anything_else_is_made_of_its_server() {
    let facts = rescuing(9, Some(broken()));
    let follow =
        StepKind::Follow { source: name(3), acker: false, options: LinkOptions::default() };
    for goal in [StepKind::Detach, StepKind::ResumeReceiver, follow] {
        assert_eq!(act(2, goal, &facts), Next::Act(SqlAction::DropRescued));
    }
}
