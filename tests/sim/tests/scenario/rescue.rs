//! What only the disk of the dead primary holds.

use conclave_core::model::{GtidSet, Mode, Outcome, StepKind};
use conclave_sim::{
    ambush::{Ambush, Blow, Moment},
    network::Node,
    run::Run,
    setup::Setup,
};

use super::{closed, outcomes, refusals};

/// The replicas have lost their source, clients write on, and then the primary dies: returns what is
/// on its disk alone.
fn tail(run: &mut Run) -> GtidSet {
    run.pass(3_000);
    run.world(|world| {
        let others = 1..world.servers.len();
        others.for_each(|ix| world.network.part(Node::Host(0), Node::Host(ix)));
    });
    run.pass(700);
    run.world(|world| {
        world.kill_server(0);
        let received = world.servers[1..].iter().map(|server| server.received());
        let received = received.fold(GtidSet::empty(), |sum, set| sum.union(&set));
        let tail = world.servers[0].logged().minus(&received);
        assert!(tail.count() > 20, "only {} transactions are nowhere else", tail.count());
        tail
    })
}

fn lacks(run: &Run, ix: usize, tail: &GtidSet) -> GtidSet {
    run.world(|world| tail.minus(&world.servers[ix].executed()))
}

fn without_semi_sync(mode: Mode) -> Run {
    Run::new(&Setup::new(mode, 3, 0).traced())
}

#[test]
fn tail_that_only_the_dead_primary_has_is_on_its_successor_and_then_everywhere() {
    for mode in [Mode::Fenced, Mode::BestEffort] {
        let mut run = without_semi_sync(mode);
        let tail = tail(&mut run);
        closed(&mut run, 5_000, 1);
        assert_eq!(lacks(&run, run.primary_ix(), &tail), GtidSet::empty());
        run.world(|world| world.network.heal());
        run.world(|world| world.unmask(0));
        run.settle(30_000);
        (0..3).for_each(|ix| assert_eq!(lacks(&run, ix, &tail), GtidSet::empty()));
    }
}

#[test]
fn leader_lost_at_any_moment_of_the_rescue_is_followed_by_one_that_completes_it() {
    let has = |step: &str, moment: Moment| match moment {
        Moment::BeforeLock | Moment::BeforeReadBack => step == "rescue",
        Moment::BeforeCommit | Moment::BeforeAct | Moment::BeforeClosingCommit => true,
    };
    for blow in [Blow::Kill, Blow::Stall(1_000_000), Blow::Stall(8_000_000)] {
        for step in ["read_log", "rescue"] {
            // The second act of the rescue is a statement.
            let moments = Moment::ALL.into_iter().map(|moment| (moment, 0));
            for (moment, skip) in moments.chain([(Moment::BeforeAct, 1)]) {
                let mut run = without_semi_sync(Mode::Fenced);
                run.world(|world| {
                    world.ambush = Some(Ambush { step: Some(step), moment, skip, blow });
                });
                let tail = tail(&mut run);
                closed(&mut run, 40_000, 1);
                let is_sprung = run.world(|world| world.ambush.is_none());
                let is_expected = has(step, moment) && (skip == 0 || step == "rescue");
                assert_eq!(is_sprung, is_expected, "{step} {moment:?} {skip}");
                let promoted = matches!(&outcomes(&run)[..], [Some(Outcome::Promoted { .. })]);
                assert!(promoted, "{step} {moment:?} {skip} {blow:?}");
                assert_eq!(
                    lacks(&run, run.primary_ix(), &tail),
                    GtidSet::empty(),
                    "{step} {moment:?}"
                );
                run.world(|world| world.network.heal());
                run.world(|world| world.unmask(0));
                run.settle(60_000);
            }
        }
    }
}

#[test]
fn candidate_killed_at_any_moment_of_the_rescue_ends_in_one_primary_that_lacks_nothing_silently() {
    for (moment, skip) in Moment::ALL.into_iter().map(|it| (it, 0)).chain([(Moment::BeforeAct, 1)])
    {
        let mut run = without_semi_sync(Mode::Fenced);
        run.world(|world| {
            let blow = Blow::KillTarget;
            world.ambush = Some(Ambush { step: Some("rescue"), moment, skip, blow });
        });
        tail(&mut run);
        run.until(10_000, "the blow", |world| world.ambush.is_none());
        run.pass(1_000);
        run.world(|world| (1..3).for_each(|ix| world.unmask(ix)));
        run.world(|world| world.network.heal());
        run.pass(10_000);
        run.world(|world| world.unmask(0));
        run.settle(120_000);
    }
}

#[test]
fn disk_that_is_gone_is_told_and_limits_of_the_loss_refuse_then() {
    for (limit, is_promoted) in [(None, true), (Some(10_000), false)] {
        let setup = Setup::new(Mode::Fenced, 3, 0).traced();
        let mut run = Run::new(&setup.policy(|policy| policy.max_loss_transactions = limit));
        run.world(|world| world.hosts[0].has_disk = false);
        tail(&mut run);
        closed(&mut run, 20_000, 1);
        let state = run.state();
        let attempt = &state.history[0];
        assert_eq!(run.primary() == "db2", is_promoted);
        if is_promoted {
            let loss = &attempt.stage.entry_nine().expect("it was passed").election.loss;
            assert!(loss.contains("there is no binary log"), "{loss}");
            continue;
        }
        let Some(Outcome::Aborted { why, .. }) = &attempt.outcome else { panic!("it goes on") };
        assert!(why.contains("max_loss"), "{why}");
        run.world(|world| world.hosts[0].has_disk = true);
        run.until(20_000, "another attempt", |world| world.primary() == 1);
    }
}

#[test]
fn limit_of_the_loss_refuses_when_what_was_read_cannot_be_brought_to_the_candidate() {
    let setup = Setup::new(Mode::Fenced, 3, 0).traced();
    let mut run = Run::new(&setup.policy(|policy| policy.max_loss_transactions = Some(3)));
    run.world(|world| {
        let (moment, blow) = (Moment::BeforeClosingCommit, Blow::Stall(0));
        world.ambush = Some(Ambush { step: Some("read_log"), moment, skip: 0, blow });
    });
    let tail = tail(&mut run);
    run.until(5_000, "the log to be read", |world| world.ambush.is_none());
    run.world(|world| (1..3).for_each(|ix| world.hosts[ix].has_ssh = false));
    closed(&mut run, 60_000, 1);
    assert!(matches!(&outcomes(&run)[..], [Some(Outcome::Aborted { .. })]), "{:?}", outcomes(&run));
    run.world(|world| (1..3).for_each(|ix| world.hosts[ix].has_ssh = true));
    run.until(60_000, "another attempt", |world| world.primary() == 1);
    assert_eq!(lacks(&run, 1, &tail), GtidSet::empty());
}

#[test]
fn without_a_way_to_the_candidates_host_the_attempt_goes_on_and_names_what_is_lost() {
    let mut run = without_semi_sync(Mode::Fenced);
    run.world(|world| (1..3).for_each(|ix| world.hosts[ix].has_ssh = false));
    let tail = tail(&mut run);
    closed(&mut run, 60_000, 1);
    assert_eq!(run.primary(), "db2");
    let state = run.state();
    let attempt = &state.history[0];
    let step = attempt.steps.iter().find(|step| matches!(step.goal, StepKind::Rescue { .. }));
    let step = step.expect("it was planned");
    assert!(step.has_failed());
    let StepKind::Rescue { rescue } = &step.goal else { unreachable!("it was looked for") };
    assert_eq!(rescue.gtids, tail);
    run.check();
}

/// Four servers, one acknowledgement; db4 alone has acknowledged what came last, and is lost.
fn without_its_acker(seed: u64, change: impl FnOnce(&mut conclave_sim::world::World)) -> Run {
    let mut run = Run::new(&Setup::new(Mode::Quorum, 4, 1).seed(seed).aged().traced());
    run.world(|world| world.knows_hosts = true);
    run.pass(3_000);
    run.world(|world| {
        for ix in [1, 2] {
            world.network.part(Node::Host(0), Node::Host(ix));
        }
    });
    run.pass(700);
    run.world(|world| {
        let ahead = world.servers[3].executed().minus(&world.servers[1].received());
        assert!(ahead.count() > 20, "only {} were acknowledged by db4 alone", ahead.count());
        world.power_off(3);
        world.network.heal();
        world.kill_server(0);
        change(world);
    });
    run
}

#[test]
fn what_a_lost_acker_alone_had_acknowledged_is_read_from_the_dead_primarys_disk() {
    for seed in 0..5 {
        let mut run = without_its_acker(seed, |_| {});
        closed(&mut run, 20_000, 1);
        run.check();
        assert!(["db2", "db3"].contains(&run.primary().as_str()), "seed {seed}");
        run.world(|world| {
            world.power_on(3);
            world.unmask(0);
        });
        run.settle(90_000);
    }
}

#[test]
fn without_a_way_to_the_dead_primarys_host_a_lost_acker_refuses_as_ever() {
    let mut run = without_its_acker(1, |world| world.hosts[0].has_ssh = false);
    run.pass(20_000);
    assert_eq!((run.primary(), run.state().epoch.0), ("db1".into(), 0));
    assert!(refusals(&run).contains(&"gate.no_coverage"), "{:?}", refusals(&run));
    run.world(|world| world.unmask(0));
    run.world(|world| world.power_on(3));
    run.settle(60_000);
}

#[test]
fn disk_that_turns_out_to_be_gone_undoes_an_attempt_that_counted_on_it() {
    let mut run = without_its_acker(2, |world| world.hosts[0].has_disk = false);
    closed(&mut run, 60_000, 1);
    run.check();
    let Some(Outcome::Aborted { why, .. }) = &outcomes(&run)[0] else { panic!("it goes on") };
    assert!(why.contains("there is no binary log"), "{why}");
    assert_eq!(run.primary(), "db1");
    run.world(|world| {
        world.hosts[0].has_disk = true;
        world.unmask(0);
        world.power_on(3);
    });
    run.settle(120_000);
}
