//! Administrators who do foolish things, and settings that `quorum` mode requires and does not get.

use conclave_core::{
    model::{Mode, ServerName},
    ports::ProposeError,
    state::{Command, Reply, Standing},
};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    client::Door,
    network::Node,
    run::Run,
    setup::Setup,
};

use super::{closed, isolate, problems, refusals};

fn standing(run: &Run, name: &str) -> Standing {
    run.state().members[&ServerName::from(name)].standing.clone()
}

#[test]
fn orderly_reboot_of_an_isolated_primary_answers_its_clients_and_is_found_at_its_return() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.world(|world| world.hosts[0].has_ssh = false);
    run.pass(3_000);
    isolate(&run, 0);
    closed(&mut run, 10_000, 1);
    // Without `KillSignal=SIGKILL` in its unit: who waits is answered OK, and nothing holds it.
    run.world(|world| world.servers[0].shut_down());
    run.pass(1_000);
    let broken = run.world(|world| world.checker.violations.clone());
    assert!(!broken.is_empty(), "the limit of the promise is no limit any more: say so in SAFETY");
    assert!(broken.iter().all(|how| how.starts_with("coverage ")), "{broken:?}");
    run.world(|world| {
        world.network.heal();
        world.start_server(0);
    });
    run.until(20_000, "a quarantine", |world| {
        let standing = world.state().map(|s| s.members[&"db1".into()].standing.clone());
        matches!(standing, Some(Standing::Quarantined { .. }))
    });
    assert_eq!(run.primary(), "db2");
}

#[test]
fn isolated_primary_that_is_rebooted_with_sigkill_acknowledges_nothing() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(3_000);
    isolate(&run, 0);
    closed(&mut run, 10_000, 1);
    run.world(|world| world.kill_server(0));
    run.pass(1_000);
    run.world(|world| world.start_server(0));
    run.pass(1_000);
    run.world(|world| world.network.heal());
    run.settle(20_000);
    assert_eq!(run.primary(), "db2");
}

#[test]
fn stranger_that_acknowledges_leaves_no_evidence() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| {
        world.servers[0].semi.has_stranger = true;
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
    run.pass(2_000);
    let since = run.executor.sim().now();
    run.pass(500);
    assert!(run.acknowledged_since(since) > 0, "the stranger alone acknowledges");
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(refusals(&run).contains(&"gate.requirement"), "{:?}", refusals(&run));
}

#[test]
fn another_server_behind_a_replicas_address_is_no_evidence_and_is_not_touched() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.put_away(2));
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| {
        world.swap_back(2);
        world.start_server(0);
    });
    run.settle(20_000);
}

#[test]
fn another_server_behind_a_replicas_address_in_the_middle_of_a_failover_is_not_touched() {
    for stage in ["freeze", "promote"] {
        let mut run = Run::new(&Setup::new(Mode::Quorum, 4, 1).traced());
        run.pass(3_000);
        run.world(|world| world.kill_server(0));
        run.until(10_000, stage, |world| {
            world.state().and_then(|state| Some(state.attempt?.stage.code())) == Some(stage)
        });
        run.world(|world| world.put_away(3));
        run.pass(20_000);
        run.check();
        run.world(|world| {
            world.swap_back(3);
            world.unmask(0);
        });
        run.settle(60_000);
    }
}

#[test]
fn replica_that_was_written_to_is_not_elected_and_holds_nothing_up() {
    let mut run = Run::new(&Setup::new(Mode::Quorum, 4, 1).traced());
    run.pass(3_000);
    run.world(|world| world.errant_write(1));
    run.pass(1_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 5_000, 1);
    assert_eq!(run.primary(), "db3");
    run.until(20_000, "a quarantine", |world| {
        let standing = world.state().map(|s| s.members[&"db2".into()].standing.clone());
        matches!(standing, Some(Standing::Quarantined { .. }))
    });
    run.world(|world| world.rebuild_quarantined());
    run.settle(20_000);
    assert_eq!(standing(&run, "db2"), Standing::Member);
}

#[test]
fn frozen_replica_that_a_person_starts_again_keeps_the_candidate_closed() {
    let mut setup = Setup::new(Mode::Quorum, 4, 1);
    setup.definition.servers[3].acker = false;
    let mut run = Run::new(&setup.traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(5_000);
    isolate(&run, 0);
    let blow = Blow::Stall(1_000_000);
    run.world(|world| {
        let (step, moment) = (Some("detach"), Moment::BeforeLock);
        world.ambush = Some(Ambush { step, moment, skip: 0, blow });
    });
    run.until(10_000, "the promotion", |world| world.ambush.is_none());
    run.world(|world| {
        world.servers[3].is_loose = true;
        world.start_receiver(3);
    });
    run.pass(5_000);
    assert_eq!(run.primary(), "db2");
    assert!(!run.world(|world| world.servers[1].is_writable()), "opened all the same");
    run.world(|world| world.stop_threads(3));
    closed(&mut run, 20_000, 1);
    run.world(|world| world.network.heal());
    run.settle(20_000);
}

#[test]
fn undone_attempt_wakes_a_primary_whose_acknowledgements_were_lost() {
    let mut setup = Setup::quorum();
    setup.writers = 1;
    let mut run = Run::new(&setup.traced());
    // Whoever waits goes on waiting, and nobody else comes.
    run.world(|world| world.client_patience = 3_600_000_000);
    run.world(|world| {
        world.hosts[0].has_ssh = false;
        world.servers[1].apply_us = 500_000;
    });
    run.pass(3_000);
    run.world(|world| {
        world.network.cut(Node::Host(1), Node::Host(0));
        world.network.cut(Node::Host(2), Node::Host(0));
    });
    run.pass(6_000);
    isolate(&run, 0);
    run.until(10_000, "stage Recover", |world| {
        world.state().and_then(|s| Some(s.attempt?.stage.code())) == Some("recover")
    });
    run.world(|world| world.kill_server(1));
    run.until(60_000, "stage Undo", |world| {
        world.state().and_then(|s| Some(s.attempt?.stage.code())) == Some("undo")
    });
    assert!(run.world(|world| !world.servers[0].waits.is_empty()), "it hangs");
    run.world(|world| world.network.heal());
    run.until(30_000, "the waiting write to end", |world| {
        world.ledger.writes.len() > 1 && world.state().is_some_and(|s| s.attempt.is_none())
    });
    let since = run.executor.sim().now();
    run.pass(5_000);
    assert!(run.acknowledged_since(since) > 10, "clients go on: {:?}", problems(&run));
    run.world(|world| {
        world.servers[1].apply_us = 300;
        world.start_server(1);
    });
    run.settle(30_000);
}

#[test]
fn rack_with_the_primary_and_the_leader_is_lost_and_comes_back() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    let leader = run.leader();
    run.world(|world| {
        world.power_off(0);
        world.kill_manager(leader);
    });
    closed(&mut run, 10_000, 1);
    run.world(|world| {
        world.power_on(0);
        world.start_manager(leader);
    });
    run.settle(20_000);
    assert_eq!(run.primary(), "db2");
}

#[test]
fn time_that_waited_in_a_log_is_counted_once() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(10_000);
    let advance = || Command::AdvanceTime { from_ms: 0, by_ms: 9_000 };
    assert_eq!(run.operate(advance()), Ok(Reply::Ok));
    let second = run.operate(advance());
    assert!(matches!(second, Err(ProposeError::Rejected(_))), "{second:?}");
    run.check();
}
