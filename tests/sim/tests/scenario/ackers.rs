//! Who acknowledges, and how many: changed while clients write, with an acker dead, with
//! acknowledgements lost.

use conclave_core::{
    model::{ClusterDefinition, DeadAckerPolicy, LastAckerPolicy, Millis},
    state::{Command, Reply},
};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    network::Node,
    run::Run,
    setup::Setup,
};

use super::{closed, problems, refusals};

fn five(acks: u32) -> Setup {
    let mut setup = Setup::quorum_of_five().traced();
    setup.definition.acks = acks;
    setup
}

fn redefine(run: &mut Run, change: impl FnOnce(&mut ClusterDefinition)) {
    let mut definition = run.state().definition;
    change(&mut definition);
    let actor = conclave_core::model::Actor::Operator { name: "ann".into() };
    let definition = Box::new(definition);
    let reply = run.operate(Command::ApplyDefinition { definition, replaces: None, actor });
    assert_eq!(reply, Ok(Reply::Version { version: 2 }));
}

fn acks(run: &Run) -> (u32, u32) {
    let agreed = run.state().regime().map_or(0, |regime| regime.acks);
    (agreed, run.world(|world| world.servers[0].semi.acks))
}

fn acker_count(run: &Run) -> usize {
    run.state().regime().map_or(0, |regime| regime.ackers.len())
}

fn goes_on(run: &mut Run) {
    let since = run.executor.sim().now();
    run.pass(1_000);
    assert!(run.acknowledged_since(since) > 10, "clients go on");
}

#[test]
fn number_is_raised_and_lowered_while_clients_write_and_the_leader_is_lost() {
    let mut run = Run::new(&five(1));
    run.pass(3_000);
    redefine(&mut run, |definition| definition.acks = 2);
    // However far it came: what is agreed is never more than what is set (invariant `agreed`).
    let leader = run.leader();
    run.world(|world| world.kill_manager(leader));
    run.until(10_000, "two to be agreed on", |world| {
        world.state().is_some_and(|state| state.regime().is_some_and(|r| r.acks == 2))
    });
    assert_eq!(acks(&run), (2, 2));
    goes_on(&mut run);
    redefine_again(&mut run, 1);
    run.until(10_000, "one to be set", |world| world.servers[0].semi.acks == 1);
    assert_eq!(acks(&run).0, 1);
    goes_on(&mut run);
    run.world(|world| world.start_manager(leader));
    run.settle(5_000);
}

fn redefine_again(run: &mut Run, acks: u32) {
    let mut definition = run.state().definition;
    definition.acks = acks;
    let actor = conclave_core::model::Actor::Operator { name: "ann".into() };
    let definition = Box::new(definition);
    let reply = run.operate(Command::ApplyDefinition { definition, replaces: None, actor });
    assert_eq!(reply, Ok(Reply::Version { version: 3 }));
}

#[test]
fn primary_that_dies_right_after_the_number_was_raised_loses_nothing() {
    let mut run = Run::new(&five(1));
    run.pass(3_000);
    redefine(&mut run, |definition| definition.acks = 2);
    run.until(10_000, "two to be agreed on", |world| {
        world.state().is_some_and(|state| state.regime().is_some_and(|r| r.acks == 2))
    });
    // Two of five lost: with two acknowledgements three of four ackers are enough.
    run.world(|world| {
        world.kill_server(4);
        world.kill_server(0);
    });
    closed(&mut run, 10_000, 1);
    goes_on(&mut run);
}

/// What one alone has acknowledged until then would be lost with it.
#[test]
fn higher_number_is_agreed_on_only_once_as_many_hold_what_fewer_acknowledged() {
    let mut run = Run::new(&five(1));
    run.pass(3_000);
    // They look well, and receive nothing any more.
    run.world(|world| {
        (2..5).for_each(|ix| world.network.cut(Node::Host(0), Node::Host(ix)));
    });
    run.pass(300);
    redefine(&mut run, |definition| definition.acks = 2);
    run.until(2_000, "two to be waited for", |world| world.servers[0].semi.acks == 2);
    run.pass(500);
    assert_eq!(acks(&run), (1, 2));
    run.world(|world| {
        world.kill_server(1);
        world.kill_server(0);
        world.network.heal();
    });
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0, "nobody is known to hold everything");
    run.world(|world| {
        world.start_server(0);
        world.start_server(1);
    });
    run.settle(30_000);
}

#[test]
fn dead_acker_is_locked_out_so_that_the_others_are_enough_and_let_in_when_it_is_back() {
    let setup = five(1).policy(|policy| {
        policy.dead_acker = DeadAckerPolicy::Drop;
        policy.dead_acker_ms = Millis(5_000);
    });
    let mut run = Run::new(&setup);
    run.pass(3_000);
    run.world(|world| world.kill_server(4));
    run.pass(3_000);
    assert_eq!(acker_count(&run), 4, "it may come back");
    run.until(10_000, "it to be locked out", |world| {
        world.state().is_some_and(|state| state.regime().is_some_and(|r| r.ackers.len() == 3))
    });
    assert!(run.world(|world| world.servers[0].locked.contains(&4)));
    run.pass(1_000);
    assert!(problems(&run).contains(&"problem.acker_dropped"), "{:?}", problems(&run));
    goes_on(&mut run);
    run.world(|world| world.start_server(4));
    run.until(20_000, "it to be an acker again", |world| {
        world.servers[0].locked.is_empty()
            && world.servers[4].is_acker()
            && world
                .state()
                .is_some_and(|state| state.regime().is_some_and(|r| r.ackers.len() == 4))
    });
    run.settle(10_000);
}

#[test]
fn primary_dies_after_a_dead_acker_was_locked_out_and_is_replaced() {
    let setup = five(1).policy(|policy| {
        policy.dead_acker = DeadAckerPolicy::Drop;
        policy.dead_acker_ms = Millis(5_000);
    });
    let mut run = Run::new(&setup);
    run.pass(3_000);
    run.world(|world| world.kill_server(4));
    run.until(20_000, "it to be locked out", |world| {
        world.state().is_some_and(|state| state.regime().is_some_and(|r| r.ackers.len() == 3))
    });
    run.pass(1_000);
    run.world(|world| world.kill_server(0));
    closed(&mut run, 10_000, 1);
    goes_on(&mut run);
    // The lock stays on the old primary until it is back; then db5 may follow it again.
    run.world(|world| {
        world.start_server(4);
        world.unmask(0);
        world.start_server(0);
    });
    run.until(30_000, "the lock to be undone", |world| world.servers[0].locked.is_empty());
    run.settle(20_000);
}

/// What it alone acknowledged would be lost with it.
#[test]
fn dead_acker_stays_in_the_set_until_the_others_hold_what_it_acknowledged() {
    let setup = Setup::quorum().traced().policy(|policy| {
        policy.dead_acker = DeadAckerPolicy::Drop;
        policy.dead_acker_ms = Millis(1_000);
    });
    let mut run = Run::new(&setup);
    run.pass(3_000);
    // db3 looks well, and receives nothing any more.
    run.world(|world| world.network.cut(Node::Host(0), Node::Host(2)));
    run.pass(500);
    run.world(|world| world.kill_server(1));
    run.until(3_000, "it to be locked out", |world| world.servers[0].locked.contains(&1));
    run.pass(500);
    assert_eq!(acker_count(&run), 2);
    run.world(|world| {
        world.kill_server(0);
        world.network.heal();
    });
    run.pass(10_000);
    assert_eq!(run.state().epoch.0, 0, "nobody is known to hold everything");
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| {
        world.start_server(0);
        world.start_server(1);
    });
    run.settle(30_000);
}

#[test]
fn without_the_policy_a_dead_acker_stands_against_a_failover() {
    let mut run = Run::new(&five(1));
    run.pass(3_000);
    run.world(|world| world.kill_server(4));
    run.pass(20_000);
    assert_eq!(acker_count(&run), 4);
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| world.start_server(4));
    run.settle(20_000);
}

#[test]
fn last_acker_lost_hangs_or_lowers_the_number_and_raises_it_again() {
    let lose_both = |setup: &Setup| {
        let mut run = Run::new(setup);
        run.pass(3_000);
        run.world(|world| {
            world.kill_server(1);
            world.kill_server(2);
        });
        run.pass(15_000);
        run
    };
    let mut waits = lose_both(&Setup::quorum().traced());
    let since = waits.executor.sim().now();
    waits.pass(1_000);
    assert_eq!(waits.acknowledged_since(since), 0, "nothing is acknowledged that could be lost");
    let lowered = Setup::quorum().traced().policy(|policy| {
        policy.last_acker = LastAckerPolicy::Lower;
        policy.last_acker_ms = Millis(5_000);
    });
    let mut run = lose_both(&lowered);
    assert_eq!(acks(&run).0, 0);
    goes_on(&mut run);
    assert!(problems(&run).contains(&"problem.acks_lowered"), "{:?}", problems(&run));
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| {
        world.start_server(1);
        world.start_server(2);
    });
    run.until(20_000, "one to be agreed on again", |world| {
        world.state().is_some_and(|state| state.regime().is_some_and(|r| r.acks == 1))
    });
    assert_eq!(acks(&run), (1, 1));
    run.settle(10_000);
}

#[test]
fn sessions_that_wait_for_lost_acknowledgements_are_woken() {
    let mut run = Run::new(&Setup::quorum().traced());
    // Whoever waits goes on waiting, and nobody else comes.
    run.world(|world| world.client_patience = 3_600_000_000);
    run.pass(3_000);
    run.world(|world| world.servers[0].is_deaf = true);
    run.pass(500);
    run.world(|world| world.servers[0].is_deaf = false);
    let since = run.executor.sim().now();
    run.pass(1_000);
    assert_eq!(run.acknowledged_since(since), 0, "every client waits");
    run.until(10_000, "a wake", |world| world.servers[0].waits.is_empty());
    run.settle(5_000);
}

/// Opened for as many as before it would wait for somebody for ever.
#[test]
fn primary_that_restarts_without_anybody_to_acknowledge_is_opened_where_the_policy_says_so() {
    let lose_all = |policy: LastAckerPolicy| {
        let mut run = Run::new(&Setup::quorum().traced().policy(|of| {
            (of.last_acker, of.last_acker_ms) = (policy, Millis(5_000));
        }));
        run.pass(3_000);
        run.world(|world| (0..3).for_each(|ix| world.kill_server(ix)));
        run.world(|world| world.start_server(0));
        run.pass(30_000);
        run
    };
    let mut waits = lose_all(LastAckerPolicy::Wait);
    assert_eq!(acks(&waits).0, 1);
    assert!(!waits.world(|world| world.servers[0].is_writable()), "it waits for one of them");
    let mut run = lose_all(LastAckerPolicy::Lower);
    assert_eq!(acks(&run).0, 0);
    goes_on(&mut run);
    for run in [&mut waits, &mut run] {
        run.world(|world| (1..3).for_each(|ix| world.start_server(ix)));
        run.until(20_000, "one to be agreed on again", |world| {
            world.state().is_some_and(|state| state.regime().is_some_and(|r| r.acks == 1))
        });
        run.settle(20_000);
        goes_on(run);
    }
}

/// It waits for others to acknowledge, and meanwhile what matters more has to be done.
#[test]
fn higher_number_is_not_waited_for_as_long_as_writes_go_on() {
    let mut run = Run::new(&five(1));
    run.pass(3_000);
    run.world(|world| {
        let (step, moment, blow) = (Some("arm"), Moment::BeforeLock, Blow::Stall(100_000));
        world.ambush = Some(Ambush { step, moment, skip: 0, blow });
    });
    redefine(&mut run, |definition| definition.acks = 2);
    run.until(5_000, "the number to be raised", |world| world.ambush.is_none());
    run.world(|world| (2..5).for_each(|ix| world.kill_server(ix)));
    run.pass(15_000);
    let state = run.state();
    let chore = state.chores.get(&"db1".into());
    assert!(chore.is_none_or(|chore| chore.has_failed()), "it waits on and on: {chore:?}");
    goes_on(&mut run);
    run.world(|world| (2..5).for_each(|ix| world.start_server(ix)));
    run.settle(30_000);
}
