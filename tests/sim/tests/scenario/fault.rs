//! Failovers under each fault of the primary, and the faults that must not lead to one.

use conclave_core::model::{Mode, Outcome};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    client::Door,
    network::Node,
    run::Run,
    setup::Setup,
};

use super::{closed, cut_managers_from, outcomes, problems, refusals};

fn promoted(run: &mut Run, millis: u64) {
    closed(run, millis, 1);
    assert_eq!(run.primary(), "db2");
    run.settle(10_000);
    let since = run.executor.sim().now();
    run.pass(500);
    assert!(run.acknowledged_since(since) > 10, "clients go on");
}

#[test]
fn killed_primary_is_replaced_and_no_acknowledged_write_is_lost() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    let killed = run.executor.sim().now();
    promoted(&mut run, 1_000);
    let first = run.world(|world| {
        let after = world.ledger.acknowledged().find(|write| write.invoked > killed);
        after.map(|write| write.server)
    });
    assert_eq!(first, Some(1));
    let chores = run.world(|world| {
        let trace = world.trace.iter().flatten();
        trace.filter(|line| line.contains("plan_chore")).cloned().collect::<Vec<_>>()
    });
    assert_eq!(chores, [""; 0], "nothing was tried on the dying primary");
}

#[test]
fn host_loss_is_a_failover_after_the_silence_threshold() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.power_off(0));
    run.pass(1_500);
    assert_eq!(run.state().epoch.0, 0, "silence is doubt at first");
    promoted(&mut run, 4_000);
}

#[test]
fn hung_primary_is_replaced_and_killed_when_it_wakes_or_before() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.hang_server(0));
    promoted(&mut run, 5_000);
    run.world(|world| world.resume_server(0));
    run.pass(3_000);
    run.settle(5_000);
}

#[test]
fn hung_primary_whose_host_nobody_reaches_acknowledges_nothing_when_it_wakes() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.world(|world| world.hosts[0].has_ssh = false);
    run.pass(3_000);
    run.world(|world| world.hang_server(0));
    closed(&mut run, 8_000, 1);
    run.world(|world| world.resume_server(0));
    run.pass(5_000);
    run.settle(20_000);
    assert_eq!(run.primary(), "db2");
}

#[test]
fn managers_cut_from_the_primary_whose_replicas_hear_it_do_nothing() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    cut_managers_from(&run, 0);
    for _ in 0..20 {
        run.pass(1_000);
        assert_eq!(run.state().epoch.0, 0);
    }
    assert!(refusals(&run).contains(&"gate.still_heard"), "{:?}", refusals(&run));
    assert!(problems(&run).contains(&"problem.primary_unreachable"), "{:?}", problems(&run));
    let since = run.executor.sim().now();
    run.pass(1_000);
    assert!(run.acknowledged_since(since) > 10, "clients were never disturbed");
    run.world(|world| world.network.heal());
    run.settle(5_000);
}

#[test]
fn one_manager_without_a_route_to_the_primary_is_outvoted() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    let leader = run.leader();
    run.world(|world| world.network.part(Node::Manager(leader), Node::Host(0)));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(problems(&run).contains(&"problem.primary_doubtful"));
}

#[test]
fn primary_cut_from_managers_and_replicas_but_not_from_clients_acknowledges_nothing() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(3_000);
    cut_managers_from(&run, 0);
    run.world(|world| {
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
    closed(&mut run, 10_000, 1);
    run.pass(5_000);
    run.world(|world| world.network.heal());
    // What its clients wrote without an acknowledgement is found and kept apart.
    run.settle(20_000);
    assert_eq!(run.primary(), "db2");
}

#[test]
fn primary_cut_from_its_replicas_only_goes_on_when_they_are_back() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| {
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0, "managers reach it: it is not dead");
    assert!(problems(&run).contains(&"problem.last_acker_lost"), "{:?}", problems(&run));
    run.world(|world| world.network.heal());
    run.settle(10_000);
}

#[test]
fn minority_of_managers_beside_a_dead_primary_does_nothing() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    let alone = run.leader();
    run.world(|world| {
        for id in (1..=3).filter(|id| *id != alone) {
            world.network.part(Node::Manager(alone), Node::Manager(id));
        }
        world.kill_server(0);
    });
    // The other two elect a leader of their own and do the work.
    promoted(&mut run, 10_000);
    assert_ne!(run.leader(), alone);
}

#[test]
fn two_of_three_managers_dead_means_no_failover_until_one_is_back() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| {
        world.kill_manager(1);
        world.kill_manager(2);
        world.kill_server(0);
    });
    run.pass(20_000);
    assert_eq!(run.state().epoch.0, 0);
    run.world(|world| world.start_manager(1));
    promoted(&mut run, 10_000);
}

#[test]
fn replica_that_restarted_since_it_acknowledged_is_no_evidence() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(2));
    run.world(|world| world.kill_server(0));
    run.pass(3_000);
    run.world(|world| world.start_server(2));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
}

#[test]
fn cut_off_replica_then_dead_primary_is_refused_until_the_replica_is_back() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    let all = [Node::Host(0), Node::Host(1), Node::Manager(1), Node::Manager(2), Node::Manager(3)];
    run.world(|world| all.iter().for_each(|node| world.network.part(*node, Node::Host(2))));
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| world.network.heal());
    promoted(&mut run, 10_000);
}

/// Counting acknowledgements tells of a primary's own commits only: lost while it is opened or after.
#[test]
fn successor_that_dies_before_anybody_has_what_it_began_with_is_not_replaced() {
    for is_over in [false, true] {
        let mut run = Run::new(&Setup::new(Mode::Quorum, 4, 1).traced());
        // Old enough to tell by their uptime that they did not restart.
        run.pass(20_000);
        // What db2 alone acknowledges from now on.
        run.world(|world| {
            (2..4).for_each(|ix| world.network.cut(Node::Host(0), Node::Host(ix)));
        });
        run.pass(500);
        run.world(|world| {
            world.kill_server(0);
            (2..4).for_each(|ix| world.network.slow(Node::Host(ix), 100_000));
        });
        for ix in [2, 3] {
            run.until(20_000, "a replica to be connected to db2", |world| {
                let link = world.servers[ix].link.as_ref();
                link.and_then(|link| link.wire).is_some_and(|wire| wire.source == 1)
            });
            run.world(|world| world.network.cut(Node::Host(1), Node::Host(ix)));
        }
        match is_over {
            true => closed(&mut run, 3_000, 1),
            false => run.until(3_000, "db2 to be opened", |world| world.servers[1].semi.source),
        }
        run.world(|world| {
            // With its host goes what its kernel would still have sent.
            world.power_off(1);
            world.network.heal();
        });
        run.pass(20_000);
        assert_eq!(run.state().epoch.0, 1, "both lack what db2 began with");
        run.world(|world| world.power_on(1));
        run.settle(30_000);
    }
}

/// Connected again, and about to be sent once more what it acknowledged before it lost it.
#[test]
fn acker_that_restarted_is_no_evidence_until_it_is_level() {
    let mut setup = Setup::quorum().traced();
    setup.relay_log_recovery = true;
    let mut run = Run::new(&setup);
    run.pass(3_000);
    run.world(|world| {
        world.servers[2].apply_us = 10_000_000;
        world.network.cut(Node::Host(0), Node::Host(1));
    });
    run.pass(500);
    run.world(|world| {
        world.kill_server(2);
        world.start_server(2);
        world.network.slow(Node::Host(2), 100_000);
    });
    run.until(20_000, "it to be connected", |world| {
        world.servers[2].link.as_ref().is_some_and(|link| link.wire.is_some())
    });
    run.world(|world| world.network.cut(Node::Host(0), Node::Host(2)));
    run.pass(3_000);
    run.world(|world| {
        world.power_off(0);
        world.network.heal();
    });
    run.pass(20_000);
    assert_eq!(run.state().epoch.0, 0, "nobody has what it acknowledged");
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| {
        world.servers[2].apply_us = 300;
        world.power_on(0);
    });
    run.settle(30_000);
}

#[test]
fn primary_that_does_not_wait_for_acknowledgements_leaves_no_evidence_and_comes_back_armed() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    // A person switches semi-sync off; what is written from now on may be on the primary alone.
    run.world(|world| {
        world.servers[0].is_loose = true;
        world.servers[0].set_semi_source(false, 0);
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
    run.pass(2_000);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(refusals(&run).contains(&"gate.requirement"), "{:?}", refusals(&run));
    run.world(|world| world.start_server(0));
    run.settle(20_000);
    assert!(run.world(|world| world.servers[0].semi.source), "it waits again");
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    promoted(&mut run, 10_000);
}

#[test]
fn another_server_behind_an_ackers_address_is_no_evidence_and_is_not_touched() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.servers[2].uuid = "00000000-0000-0000-0000-000000000099".into());
    run.pass(2_000);
    run.world(|world| world.kill_server(0));
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0);
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| world.servers[2].uuid = "00000000-0000-0000-0000-000000000003".into());
    promoted(&mut run, 10_000);
}

#[test]
fn restarted_replica_replicates_and_acknowledges_again_by_itself() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(2));
    run.pass(3_000);
    run.world(|world| world.start_server(2));
    run.settle(10_000);
    assert_eq!(run.state().epoch.0, 0);
}

#[test]
fn five_servers_with_two_acknowledgements_survive_a_replica_and_the_primary() {
    let mut run = Run::new(&Setup::quorum_of_five().traced());
    run.pass(3_000);
    run.world(|world| world.power_off(3));
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    promoted(&mut run, 10_000);
    run.world(|world| world.power_on(3));
    run.settle(20_000);
}

#[test]
fn replica_that_lags_is_waited_for_and_nothing_is_thrown_away() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.world(|world| {
        world.servers[1].apply_us = 60_000;
        world.servers[2].apply_us = 60_000;
    });
    run.pass(20_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 120_000, 1);
    run.settle(60_000);
}

#[test]
fn candidate_that_lacks_transactions_gets_them_from_the_most_advanced_replica() {
    let mut run = Run::new(&Setup::quorum().prefer(1).traced());
    run.pass(3_000);
    run.world(|world| world.network.part(Node::Host(0), Node::Host(1)));
    run.pass(2_000);
    run.world(|world| world.kill_server(0));
    promoted(&mut run, 10_000);
    let attempt = run.state().history.pop_back();
    let donors = attempt.and_then(|a| Some(a.stage.entry_nine()?.election.donor.clone()));
    assert_eq!(donors, Some(Some("db3".into())));
}

#[test]
fn fenced_mode_with_a_reachable_host_fences_and_promotes() {
    let mut run = Run::new(&Setup::new(Mode::Fenced, 3, 0).traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    promoted(&mut run, 5_000);
}

#[test]
fn fenced_mode_without_the_host_is_undone_until_an_operator_vouches() {
    let mut run = Run::new(&Setup::new(Mode::Fenced, 3, 0).traced());
    run.pass(3_000);
    run.world(|world| world.power_off(0));
    closed(&mut run, 40_000, 1);
    let first = outcomes(&run).remove(0);
    assert!(matches!(first, Some(Outcome::Aborted { .. })), "{first:?}");
    assert_eq!(run.primary(), "db1");
    run.wish("ann", |wish| wish.asserted_dead = true);
    run.until(60_000, "a promotion", |world| world.primary() == 1);
    run.settle(20_000);
    assert!(run.said().iter().any(|said| said.starts_with("opened")), "{:?}", run.said());
}

#[test]
fn best_effort_without_the_host_tries_to_fence_and_goes_on() {
    let mut run = Run::new(&Setup::new(Mode::BestEffort, 3, 0).traced());
    run.pass(3_000);
    run.world(|world| world.power_off(0));
    promoted(&mut run, 60_000);
}

/// Its host is not to be reached, and while that is tried its replicas hear it again.
#[test]
fn primary_that_its_replicas_hear_again_while_it_is_being_fenced_is_left_in_its_place() {
    for mode in [Mode::BestEffort, Mode::Fenced] {
        let mut run = Run::new(&Setup::new(mode, 3, 0).traced());
        run.pass(3_000);
        super::isolate(&run, 0);
        run.until(10_000, "the attempt", |world| world.epoch() == 1);
        run.pass(500);
        run.world(|world| world.network.heal());
        cut_managers_from(&run, 0);
        let since = run.executor.sim().now();
        run.pass(20_000);
        run.check();
        let is_undone = matches!(&outcomes(&run)[..], [Some(Outcome::Aborted { .. })]);
        assert!(is_undone && run.primary() == "db1", "{mode:?}: {:?}", outcomes(&run));
        assert!(run.acknowledged_since(since) > 100, "{mode:?}: clients were never disturbed");
        run.world(|world| world.network.heal());
        run.settle(10_000);
    }
}

#[test]
fn stall_of_a_manager_is_no_evidence_of_its_own() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    for id in 1..=3 {
        run.world(|world| {
            let owner = world.managers[&id].owner;
            world.stall_manager(id, owner, 5_000_000);
        });
    }
    run.pass(15_000);
    assert_eq!(run.state().epoch.0, 0);
    run.settle(5_000);
}

#[test]
fn slow_wires_are_no_reason_for_a_failover() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.network.slow(Node::Host(0), 100_000));
    run.pass(20_000);
    assert_eq!(run.state().epoch.0, 0);
    run.world(|world| world.network.heal());
    run.settle(10_000);
}

#[test]
fn primary_that_answers_again_before_it_was_revoked_is_left_in_its_place() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    let nodes =
        [Node::Manager(1), Node::Manager(2), Node::Manager(3), Node::Host(1), Node::Host(2)];
    run.world(|world| {
        world.hosts[0].has_ssh = false;
        nodes.iter().for_each(|node| world.network.part(*node, Node::Host(0)));
        // The freeze begins and goes no further.
        let (step, moment) = (Some("stop_receiver"), Moment::BeforeLock);
        world.ambush = Some(Ambush { step, moment, skip: 1, blow: Blow::Stall(2_000_000) });
    });
    run.until(10_000, "the freeze", |world| world.ambush.is_none());
    cut_managers_from(&run, 2);
    run.pass(2_500);
    run.world(|world| {
        nodes.iter().for_each(|node| {
            world.network.mend(*node, Node::Host(0));
            world.network.mend(Node::Host(0), *node);
        });
    });
    run.pass(4_000);
    run.world(|world| world.network.heal());
    closed(&mut run, 60_000, 1);
    assert!(matches!(outcomes(&run)[0], Some(Outcome::Aborted { .. })), "{:?}", outcomes(&run));
    assert_eq!(run.primary(), "db1");
    run.settle(30_000);
}
