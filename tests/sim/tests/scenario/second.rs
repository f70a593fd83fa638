//! The attempt after one that passed entry 9: its candidate, or who was to acknowledge its writes,
//! is lost before it is opened.

use conclave_core::model::Mode;
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    client::Door,
    run::Run,
    setup::Setup,
};

use super::{closed, cut_managers_from, isolate};

/// db1 is cut off from all but its clients, db2 passes entry 9 and dies before it is opened, while
/// the others still have db1 as their source.
fn candidate_lost(setup: &Setup) -> Run {
    let mut run = Run::new(setup);
    run.ctx.run_client(Door::Server(0), 30_000);
    run.world(|world| world.hosts[0].has_ssh = false);
    // Of a server that has just booted a restart could not be told.
    run.pass(15_000);
    isolate(&run, 0);
    ambush(&mut run, "detach", Blow::KillTarget);
    assert_eq!(run.primary(), "db2");
    run
}

/// Something strikes before the next step of that kind has begun.
fn ambush(run: &mut Run, step: &'static str, blow: Blow) {
    let moment = Moment::BeforeLock;
    run.world(|world| world.ambush = Some(Ambush { step: Some(step), moment, skip: 0, blow }));
    run.until(20_000, step, |world| world.ambush.is_none());
}

#[test]
fn frozen_replica_that_a_person_starts_again_keeps_the_second_candidate_closed() {
    let mut setup = Setup::new(Mode::Quorum, 5, 1);
    setup.definition.servers[4].acker = false;
    let mut run = candidate_lost(&setup.traced());
    ambush(&mut run, "stop_receiver", Blow::Stall(100_000));
    ambush(&mut run, "detach", Blow::Stall(1_000_000));
    assert_eq!((run.primary(), run.state().epoch.0), ("db3".into(), 2));
    // It reads from the first primary, which may be alive.
    run.world(|world| {
        world.servers[4].is_loose = true;
        world.start_receiver(4);
    });
    run.pass(5_000);
    assert!(!run.world(|world| world.servers[2].is_writable()), "opened all the same");
    run.world(|world| world.stop_threads(4));
    closed(&mut run, 20_000, 2);
    run.world(|world| {
        world.network.heal();
        world.unmask(1);
    });
    run.settle(60_000);
    assert_eq!(run.primary(), "db3");
}

/// What the first one's clients wrote would be acknowledged, and nobody would ever have it.
#[test]
fn undone_second_attempt_lets_nobody_read_from_the_first_primary() {
    let mut run = candidate_lost(&Setup::new(Mode::Quorum, 4, 1).traced());
    ambush(&mut run, "stop_receiver", Blow::Stall(100_000));
    // One is lost for now; whether the other one's receiver was stopped is found out late.
    run.world(|world| world.kill_server(2));
    cut_managers_from(&run, 3);
    run.until(10_000, "a stop that failed", |world| {
        let open = world.state().and_then(|state| state.attempt);
        let db4 = open.into_iter().flat_map(|open| open.steps).find(|s| s.target == "db4".into());
        db4.is_some_and(|step| step.has_failed())
    });
    // They reach each other again; the managers do not reach the first primary.
    run.world(|world| world.network.heal());
    cut_managers_from(&run, 0);
    closed(&mut run, 90_000, 2);
    run.pass(1_000);
    run.check();
    assert_eq!(run.primary(), "db2", "undone");
    run.world(|world| {
        world.unmask(1);
        world.start_server(2);
        world.network.heal();
    });
    run.settle(60_000);
}

#[test]
fn candidate_without_anybody_to_acknowledge_waits_past_entry_9_until_somebody_is_back() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    ambush(&mut run, "follow", Blow::KillTarget);
    run.pass(120_000);
    run.check();
    let state = run.state();
    let stage = state.attempt.as_ref().map(|open| open.stage.code());
    assert_eq!((state.epoch.0, stage, run.primary()), (1, Some("promote"), "db2".into()));
    run.world(|world| world.start_server(2));
    closed(&mut run, 20_000, 1);
    run.settle(20_000);
    assert_eq!(run.primary(), "db2");
}

/// db1 dies, and db2 is about to be opened: so long after semi-sync was switched on, the statement
/// that lets writes in may be on its way.
fn almost_open(setup: &Setup, micros: u64) -> Run {
    let mut run = Run::new(setup);
    run.ctx.run_client(Door::Server(1), 30_000);
    // Of a server that has just booted a restart could not be told.
    run.pass(15_000);
    run.world(|world| world.kill_server(0));
    let step = |run: &mut Run, micros: u64| {
        let now = run.executor.sim().now();
        run.executor.run_until(now + micros);
    };
    for _ in 0..50_000 {
        if run.world(|world| world.servers[1].semi.source) {
            break;
        }
        step(&mut run, 100);
    }
    step(&mut run, micros);
    assert!(run.world(|world| world.servers[1].semi.source), "it was about to be opened");
    run
}

/// What its server does then depends on nothing but its ackers, and their receivers are stopped.
#[test]
fn opening_that_arrives_after_its_server_was_revoked_lets_nobody_acknowledge() {
    let mut late = 0;
    for micros in (0..4_000).step_by(200) {
        let mut run = almost_open(&Setup::new(Mode::Quorum, 5, 1).traced(), micros);
        isolate(&run, 1);
        // Nobody is quicker than what is on its way.
        run.world(|world| world.hosts[1].has_ssh = false);
        let was_closed = run.world(|world| !world.servers[1].is_writable());
        closed(&mut run, 30_000, 2);
        assert_eq!(run.primary(), "db3", "{micros}");
        let is_closed = run.world(|world| !world.servers[1].is_writable());
        run.world(|world| world.network.heal());
        let is_opened = run.comes(500, |world| world.servers[1].is_writable());
        late += usize::from(was_closed && is_closed && is_opened);
        run.world(|world| world.unmask(0));
        run.settle(60_000);
    }
    assert!(late > 0, "no opening came late");
}

#[test]
fn opening_that_a_hung_server_finds_when_it_wakes_lets_writes_wait_for_its_acker() {
    let mut late = 0;
    for micros in (0..4_000).step_by(200) {
        let mut run = almost_open(&Setup::quorum().traced(), micros);
        let was_closed = run.world(|world| !world.servers[1].is_writable());
        run.world(|world| world.hang_server(1));
        run.pass(100);
        run.world(|world| world.hang_server(2));
        run.pass(12_000);
        run.world(|world| world.resume_server(1));
        let is_opened = run.comes(500, |world| world.servers[1].is_writable());
        let is_alone = run.world(|world| !world.servers[2].is_acker_of(1));
        late += usize::from(was_closed && is_opened && is_alone);
        run.pass(1_000);
        run.world(|world| {
            world.resume_server(2);
            world.unmask(0);
        });
        run.settle(60_000);
    }
    assert!(late > 0, "no opening came late");
}
