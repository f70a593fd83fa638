//! Troubles while receivers are being stopped, and right before: ackers that restart, hang or come
//! late.

use conclave_core::model::{Mode, Outcome};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    client::Door,
    network::Node,
    run::Run,
    setup::Setup,
};

use super::{closed, cut_managers_from, isolate, outcomes};

/// The leader stands still for a moment before it stops so many receivers.
fn wait_for_stop(run: &mut Run, skip: u32, millis: u64) {
    run.world(|world| {
        let (step, moment) = (Some("stop_receiver"), Moment::BeforeLock);
        world.ambush = Some(Ambush { step, moment, skip, blow: Blow::Stall(millis * 1000) });
    });
    run.until(10_000, "the stop of a receiver", |world| world.ambush.is_none());
}

/// What it alone had acknowledged is gone, and nobody has looked at it since. The dead primary's own
/// log has it, if that can be read.
#[test]
fn acker_that_restarts_right_before_its_receiver_is_stopped_is_no_evidence() {
    for (seed, has_disk) in (0..10).map(|seed| (seed, seed % 2 == 1)) {
        let mut setup = Setup::quorum().seed(seed).traced();
        setup.relay_log_recovery = true;
        let mut run = Run::new(&setup);
        run.pass(3_000);
        run.world(|world| {
            world.servers[2].apply_us = 10_000_000;
            world.network.cut(Node::Host(0), Node::Host(1));
        });
        run.pass(500);
        run.world(|world| {
            world.hosts[0].has_disk = has_disk;
            world.kill_server(0);
        });
        wait_for_stop(&mut run, 1, 20);
        run.world(|world| {
            world.kill_server(2);
            world.start_server(2);
        });
        run.pass(10_000);
        run.check();
        let expected = if has_disk { "db2" } else { "db1" };
        assert_eq!(run.primary(), expected, "seed {seed}");
        run.world(|world| {
            world.network.heal();
            world.servers[2].apply_us = 300;
            world.unmask(0);
        });
        run.settle(90_000);
    }
}

#[test]
fn acker_that_answers_slowly_is_stopped_before_anybody_is_elected() {
    let mut run = Run::new(&Setup::new(Mode::Quorum, 4, 1).prefer(1).traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.world(|world| world.hosts[0].has_ssh = false);
    run.pass(3_000);
    isolate(&run, 0);
    run.world(|world| world.network.slow(Node::Host(3), 400_000));
    run.until(10_000, "the attempt", |world| world.epoch() == 1);
    // It hears the old primary again, and would go on acknowledging.
    run.world(|world| {
        world.network.mend(Node::Host(0), Node::Host(3));
        world.network.mend(Node::Host(3), Node::Host(0));
    });
    closed(&mut run, 60_000, 1);
    run.check();
    assert_eq!(run.primary(), "db2");
    run.world(|world| world.network.heal());
    run.settle(30_000);
}

/// Up for long, so that whoever finds its receiver stopped takes it for a person's wish.
#[test]
fn stop_that_waits_at_an_acker_until_the_attempt_is_undone_is_not_made() {
    let mut setup = Setup::quorum().aged().traced();
    // Nothing is to strike the primary, which is only cut off.
    setup.definition.servers[0].ssh = None;
    let mut run = Run::new(&setup);
    run.pass(3_000);
    isolate(&run, 0);
    wait_for_stop(&mut run, 1, 100);
    cut_managers_from(&run, 2);
    run.until(2_000, "the receiver of db2 to be stopped", |world| {
        let open = world.state().and_then(|state| state.attempt);
        open.is_some_and(|open| open.frozen().contains_key(&"db2".into()))
    });
    cut_managers_from(&run, 1);
    run.world(|world| mend(world, 0));
    run.until(2_000, "the undoing", |world| {
        world.state().and_then(|state| Some(state.attempt?.stage.code())) == Some("undo")
    });
    run.world(|world| mend(world, 2));
    run.pass(500);
    run.world(|world| world.network.heal());
    closed(&mut run, 30_000, 1);
    assert!(matches!(outcomes(&run)[0], Some(Outcome::Aborted { .. })), "{:?}", outcomes(&run));
    run.settle(30_000);
    assert_eq!(run.primary(), "db1");
}

/// Everybody reaches that host again.
fn mend(world: &mut conclave_sim::world::World, ix: usize) {
    let hosts = (0..world.servers.len()).map(Node::Host);
    let others = hosts.chain(world.managers.keys().map(|id| Node::Manager(*id)));
    for other in others.collect::<Vec<_>>() {
        world.network.mend(Node::Host(ix), other);
        world.network.mend(other, Node::Host(ix));
    }
}

/// One manager has no route, another one was moved to another machine, network first, and no replica
/// hears the primary: three troubles, and none of them is its death.
#[test]
fn silence_while_a_manager_stood_still_is_no_vote_against_a_primary_that_lost_its_replicas() {
    for seed in 0..5 {
        let mut run = Run::new(&Setup::quorum().seed(seed).traced());
        run.pass(3_000);
        let leader = run.leader();
        let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
        run.world(|world| {
            world.network.part(Node::Host(0), Node::Host(1));
            world.network.part(Node::Host(0), Node::Host(2));
            world.network.part(Node::Manager(others[0]), Node::Host(0));
        });
        run.pass(6_000);
        run.world(|world| world.network.part(Node::Manager(others[1]), Node::Host(0)));
        run.pass(150);
        run.world(|world| {
            let owner = world.managers[&others[1]].owner;
            world.stall_manager(others[1], owner, 5_000_000);
        });
        run.pass(5_000);
        run.world(|world| {
            world.network.mend(Node::Manager(others[1]), Node::Host(0));
            world.network.mend(Node::Host(0), Node::Manager(others[1]));
        });
        run.pass(5_000);
        assert_eq!(run.state().epoch.0, 0, "seed {seed}: two of three managers reach it");
        run.world(|world| world.network.heal());
        run.settle(10_000);
    }
}
