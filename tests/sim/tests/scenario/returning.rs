//! Servers that come back: clean, with transactions of their own, before and after the verdict.

use conclave_core::{
    model::{Actor, Discard, Epoch, Findings, GtidSet, Mode, Rejoin, RestartPolicy},
    ports::ProposeError,
    state::{Command, Reply, Standing},
};
use conclave_sim::{client::Door, network::Node, run::Run, setup::Setup};

use super::{closed, cut_managers_from};

/// A person unmasks a fenced server and starts it.
fn bring_back(run: &Run, ix: usize) {
    run.world(|world| world.unmask(ix));
}

#[test]
fn clean_former_primary_is_rejoined_and_acknowledges_again() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| {
        // Nobody writes when it dies, so it has nothing of its own.
        world.network.part(Node::Client, Node::Host(0));
    });
    run.pass(1_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 5_000, 1);
    run.world(|world| world.network.heal());
    let former = run.state().members[&"db1".into()].standing.clone();
    assert_eq!(former, Standing::Former { vips_dropped: true });
    bring_back(&run, 0);
    run.settle(10_000);
    assert_eq!(run.state().members[&"db1".into()].standing, Standing::Member);
    assert!(run.state().regimes[0].ackers.contains(&"db1".into()));
}

#[test]
fn former_primary_with_an_errant_transaction_is_quarantined() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    // A commit that no replica got: kill -9 leaves it in the binary log, recovery commits it.
    run.world(|world| {
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
    run.pass(500);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    bring_back(&run, 0);
    run.until(10_000, "a quarantine", |world| {
        let standing = world.state().map(|s| s.members[&"db1".into()].standing.clone());
        matches!(standing, Some(Standing::Quarantined { .. }))
    });
    run.settle(5_000);
    let link = run.world(|world| world.servers[0].link.is_some());
    assert!(!link, "it follows nobody");
    // Killed, and nobody had received it: nobody can have been told OK.
    let (errant, findings) = quarantine(&run);
    assert!(errant.count() > 0);
    assert_eq!((findings.proved, findings.doubts), (errant, vec![]));
}

/// What db1 has extra, and the verdict on it.
fn quarantine(run: &Run) -> (GtidSet, Findings) {
    match run.state().members[&"db1".into()].standing.clone() {
        Standing::Quarantined { errant, findings, .. } => {
            (errant, findings.expect("it is examined"))
        }
        other @ (Standing::Member | Standing::Former { .. }) => panic!("db1 is {other:?}"),
    }
}

/// Cuts db1 from both replicas, but from neither clients nor managers.
fn cut_replicas_from_db1(run: &Run) {
    run.world(|world| {
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
}

#[test]
fn quarantined_server_is_rebuilt_on_an_operators_word_whatever_leader_is_lost_on_the_way() {
    for lost in [false, true] {
        let mut run = Run::new(&Setup::quorum().traced());
        run.pass(3_000);
        cut_replicas_from_db1(&run);
        run.pass(500);
        run.world(|world| {
            world.kill_server(0);
            world.network.heal();
        });
        closed(&mut run, 10_000, 1);
        bring_back(&run, 0);
        run.settle(10_000);
        let (errant, _) = quarantine(&run);
        let rejoin = |extra| Command::Rejoin {
            cluster: "app1".into(),
            epoch: Epoch(1),
            server: "db1".into(),
            rejoin: Rejoin { actor: Actor::Group, discard: Discard::Proved, extra },
        };
        // Agreed to something else than what is there.
        let other = run.operate(rejoin(GtidSet::empty()));
        assert!(!matches!(other, Ok(Reply::Ok)), "{other:?}");
        assert_eq!(run.operate(rejoin(errant.clone())), Ok(Reply::Ok));
        let leader = run.leader();
        run.until(20_000, "the copy", |world| !world.servers[0].is_running);
        run.world(|world| {
            if lost {
                world.kill_manager(leader);
            }
            world.start_server(0);
        });
        run.until(60_000, "db1 to be a member", |world| {
            let standing = world.state().map(|s| s.members[&"db1".into()].standing.clone());
            standing == Some(Standing::Member)
        });
        run.settle(20_000);
        let executed = run.world(|world| world.servers[0].executed());
        assert!(executed.common(&errant).is_empty());
    }
}

#[test]
fn what_could_not_be_saved_is_not_discarded() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.world(|world| world.hosts[0].has_ssh = false);
    run.pass(3_000);
    cut_replicas_from_db1(&run);
    run.pass(500);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    run.world(|world| world.start_server(0));
    run.settle(10_000);
    let (extra, _) = quarantine(&run);
    let rejoin = Rejoin { actor: Actor::Group, discard: Discard::All, extra };
    let (cluster, epoch, server) = ("app1".into(), Epoch(1), "db1".into());
    let reply = run.operate(Command::Rejoin { cluster, epoch, server, rejoin });
    assert!(matches!(reply, Err(ProposeError::Rejected(_))), "{reply:?}");
    run.settle(10_000);
}

#[test]
fn server_is_not_rebuilt_while_another_has_what_it_will_number_again() {
    let mut run = Run::new(&Setup::new(Mode::BestEffort, 3, 1).traced());
    run.pass(3_000);
    run.world(|world| world.network.part(Node::Host(0), Node::Host(1)));
    run.pass(500);
    run.world(|world| {
        // Its log cannot be read for now, or db2 would be given what is in it.
        world.hosts[0].has_disk = false;
        world.kill_server(0);
        world.kill_server(2);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    assert_eq!(run.primary(), "db2");
    run.world(|world| {
        world.unmask(0);
        world.start_server(2);
    });
    let apart = |world: &conclave_sim::world::World, ix: usize| {
        let state = world.state()?;
        match state.members[&world.names[ix]].standing.clone() {
            Standing::Quarantined { errant, findings: Some(_), saved: Some(_) } => Some(errant),
            Standing::Quarantined { .. } | Standing::Former { .. } | Standing::Member => None,
        }
    };
    run.until(30_000, "both to be examined and saved", |world| {
        apart(world, 0).is_some() && apart(world, 2).is_some()
    });
    let rejoin = |run: &mut Run, ix: usize| {
        let (server, extra) =
            run.world(|world| (world.names[ix].clone(), apart(world, ix).unwrap_or_default()));
        let rejoin = Rejoin { actor: Actor::Group, discard: Discard::All, extra };
        let (cluster, epoch) = ("app1".into(), Epoch(1));
        let reply = run.operate(Command::Rejoin { cluster, epoch, server, rejoin });
        assert_eq!(reply, Ok(Reply::Ok));
    };
    rejoin(&mut run, 0);
    run.pass(5_000);
    assert!(run.world(|world| apart(world, 0)).is_some(), "db3 has it, too");
    rejoin(&mut run, 2);
    for ix in [2, 0] {
        run.until(30_000, "the copy", |world| !world.servers[ix].is_running);
        run.world(|world| world.start_server(ix));
    }
    run.settle(30_000);
    for name in ["db1", "db3"] {
        assert_eq!(run.state().members[&name.into()].standing, Standing::Member);
    }
}

#[test]
fn write_made_by_hand_in_a_run_that_was_killed_in_turn_is_not_proved() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    cut_replicas_from_db1(&run);
    run.pass(500);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    run.world(|world| {
        world.unmask(0);
        // Somebody with all privileges, told OK at once.
        world.servers[0].commit(None);
        world.kill_server(0);
        world.start_server(0);
    });
    run.settle(10_000);
    let (errant, findings) = quarantine(&run);
    let doubtful = findings.doubts.iter().map(|doubt| doubt.set.count()).sum::<u64>();
    assert!(findings.proved.count() > 0 && doubtful == 1, "{findings:?}");
    assert_eq!(findings.proved.count() + doubtful, errant.count());
}

#[test]
fn nothing_is_proved_of_a_former_primary_that_was_shut_down_in_order() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(3_000);
    cut_replicas_from_db1(&run);
    run.pass(500);
    run.world(|world| {
        world.shut_down_server(0);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    bring_back(&run, 0);
    run.pass(10_000);
    let (errant, findings) = quarantine(&run);
    assert!(errant.count() > 0 && findings.proved.is_empty(), "{findings:?}");
}

#[test]
fn writes_that_waited_while_the_primary_was_cut_off_are_proved_never_acknowledged() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.world(|world| world.hosts[0].has_ssh = false);
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(3_000);
    cut_managers_from(&run, 0);
    cut_replicas_from_db1(&run);
    closed(&mut run, 10_000, 1);
    run.pass(2_000);
    run.world(|world| world.network.heal());
    run.settle(10_000);
    let (errant, findings) = quarantine(&run);
    assert!(errant.count() > 0);
    assert_eq!((findings.proved, findings.doubts), (errant, vec![]));
}

#[test]
fn write_made_by_hand_after_the_restart_is_not_proved_beside_those_that_are() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    cut_replicas_from_db1(&run);
    run.pass(500);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    run.world(|world| {
        world.unmask(0);
        // Somebody with all privileges.
        world.servers[0].commit(None);
    });
    run.settle(10_000);
    let (errant, findings) = quarantine(&run);
    let doubtful = findings.doubts.iter().map(|doubt| doubt.set.count()).sum::<u64>();
    assert!(findings.proved.count() > 0 && doubtful > 0, "{findings:?}");
    assert_eq!(findings.proved.count() + doubtful, errant.count());
}

#[test]
fn quarantined_server_stays_apart_in_the_next_failover() {
    let mut run = Run::new(&Setup::quorum_of_five().traced());
    run.pass(3_000);
    run.world(|world| {
        for ix in 1..5 {
            world.network.part(Node::Host(0), Node::Host(ix));
        }
    });
    run.pass(500);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    closed(&mut run, 10_000, 1);
    bring_back(&run, 0);
    run.pass(5_000);
    let second = run.primary_ix();
    run.world(|world| world.kill_server(second));
    closed(&mut run, 10_000, 2);
    run.settle(20_000);
    let standing = run.state().members[&"db1".into()].standing.clone();
    assert!(matches!(standing, Standing::Quarantined { .. }), "{standing:?}");
    let link = run.world(|world| world.servers[0].link.is_some());
    assert!(!link, "it follows nobody");
}

#[test]
fn primary_restarted_before_the_verdict_is_opened_again() {
    let mut run = Run::new(&Setup::quorum().policy(|p| p.refusals = 100).traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.pass(1_500);
    run.world(|world| world.start_server(0));
    run.settle(10_000);
    assert_eq!((run.primary(), run.state().epoch.0), ("db1".into(), 0));
}

#[test]
fn primary_restarted_before_the_verdict_is_replaced_if_the_policy_says_so() {
    let setup = Setup::quorum().policy(|policy| {
        policy.refusals = 100;
        policy.primary_restarted = RestartPolicy::Failover;
    });
    let mut run = Run::new(&setup.traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    run.pass(1_500);
    run.world(|world| world.start_server(0));
    closed(&mut run, 10_000, 1);
    assert_eq!(run.primary(), "db2");
    bring_back(&run, 0);
    run.settle(20_000);
}

#[test]
fn primary_restarted_during_the_failover_never_makes_two() {
    // The service manager starts it again, whatever the fence said: 0 to 400 ms after the kill.
    for after in (0..400).step_by(20) {
        let mut run = Run::new(&Setup::quorum().seed(after).traced());
        run.world(|world| world.hosts[0].has_ssh = after % 40 == 0);
        run.ctx.run_client(Door::Server(0), 30_000);
        run.pass(3_000);
        run.world(|world| world.kill_server(0));
        run.pass(after);
        run.world(|world| world.start_server(0));
        run.pass(10_000);
        bring_back(&run, 0);
        run.settle(20_000);
    }
}

#[test]
fn restarted_primary_that_lost_what_its_replicas_have_is_replaced_whatever_the_policy_says() {
    let mut run = Run::new(&Setup::quorum().policy(|p| p.refusals = 100).traced());
    run.pass(3_000);
    run.world(|world| {
        world.kill_server(0);
        world.servers[0].put_back(20);
    });
    run.pass(1_000);
    run.world(|world| world.start_server(0));
    closed(&mut run, 10_000, 1);
    assert_eq!(run.primary(), "db2");
    bring_back(&run, 0);
    run.pass(10_000);
    run.check();
    // It would never get back what it numbered itself.
    let link = run.world(|world| world.servers[0].link.is_some());
    assert!(!link, "it follows nobody");
}

#[test]
fn everything_restarted_at_once_finds_its_primary_again() {
    for managers_too in [false, true] {
        let mut run = Run::new(&Setup::quorum().traced());
        run.pass(3_000);
        run.world(|world| {
            (0..3).for_each(|ix| world.power_off(ix));
            (1..=3).filter(|_| managers_too).for_each(|id| world.kill_manager(id));
        });
        run.pass(20_000);
        run.world(|world| {
            (0..3).for_each(|ix| world.power_on(ix));
            (1..=3).for_each(|id| world.start_manager(id));
        });
        run.pass(10_000);
        run.world(|world| (0..3).for_each(|ix| world.unmask(ix)));
        run.settle(30_000);
        // Without old ballots nobody has a reason to replace it.
        assert!(!managers_too || run.primary() == "db1");
    }
}

#[test]
fn fenced_server_that_lost_its_power_comes_back_as_a_replica() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.power_off(0));
    closed(&mut run, 10_000, 1);
    run.pass(2_000);
    run.world(|world| world.power_on(0));
    run.settle(20_000);
    assert_eq!(run.primary(), "db2");
}

#[test]
fn primary_that_nobody_reached_is_found_harmless_when_it_is_back() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(3_000);
    cut_managers_from(&run, 0);
    run.world(|world| {
        world.network.part(Node::Host(0), Node::Host(1));
        world.network.part(Node::Host(0), Node::Host(2));
    });
    closed(&mut run, 10_000, 1);
    run.pass(2_000);
    run.world(|world| world.network.heal());
    run.pass(5_000);
    let old = run.world(|world| (world.servers[0].is_writable(), world.hosts[0].vips.len()));
    assert_eq!(old, (false, 0));
    run.settle(5_000);
}

/// What is not to be rejoined by itself must not go on taking writes either.
#[test]
fn primary_that_nobody_reached_is_made_harmless_where_it_is_not_to_be_rejoined() {
    let mut run = Run::new(&Setup::quorum().policy(|policy| policy.rejoin = false).traced());
    run.world(|world| world.hosts[0].has_ssh = false);
    run.ctx.run_client(Door::Server(0), 30_000);
    run.pass(3_000);
    cut_managers_from(&run, 0);
    cut_replicas_from_db1(&run);
    closed(&mut run, 10_000, 1);
    run.pass(2_000);
    run.world(|world| world.network.heal());
    run.pass(10_000);
    assert!(!run.world(|world| world.servers[0].is_writable()), "it takes writes");
    run.settle(10_000);
    // Its clients' writes were never acknowledged; a person decides what becomes of them.
    let (errant, findings) = quarantine(&run);
    assert_eq!((findings.proved, findings.doubts), (errant, vec![]));
}

#[test]
fn former_primary_is_not_promoted_while_a_server_left_behind_may_still_read_from_it() {
    let mut run = Run::new(&Setup::quorum_of_five().prefer(0).traced());
    run.pass(3_000);
    // Nobody writes when it dies, so it has nothing of its own.
    run.world(|world| world.network.part(Node::Client, Node::Host(0)));
    cut_managers_from(&run, 4);
    run.pass(1_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 10_000, 1);
    bring_back(&run, 0);
    run.until(20_000, "db1 to follow, and db5 to follow db1 as before", |world| {
        let state = world.state();
        let member = state.and_then(|state| state.members.get(&"db1".into()).cloned());
        let is_back = member.is_some_and(|member| member.standing == Standing::Member);
        is_back && world.servers[4].is_acker_of(0)
    });
    // Vouched for, it is the preferred one.
    run.pass(15_000);
    let second = run.primary_ix();
    run.world(|world| world.kill_server(second));
    closed(&mut run, 30_000, 2);
    run.check();
    assert_ne!(run.primary(), "db1");
    run.world(|world| {
        world.network.heal();
        world.unmask(second);
    });
    run.settle(60_000);
}
