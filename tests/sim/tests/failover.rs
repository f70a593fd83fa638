//! Failovers under each single fault.

use conclave_sim::{run::Run, setup::Setup};

#[test]
fn killed_primary_is_replaced_and_no_acknowledged_write_is_lost() {
    let mut run = Run::new(&Setup::quorum().traced());
    run.pass(3_000);
    run.world(|world| world.kill_server(0));
    let killed = run.executor.sim().now();
    run.until(3_000, "a failover", |world| {
        world.state().is_some_and(|state| state.epoch.0 == 1 && state.attempt.is_none())
    });
    assert_eq!(run.primary(), "db2");
    run.settle(2_000);
    run.pass(1_000);
    assert!(run.acknowledged_since(killed) > 10, "clients go on");
}
