//! The models, explored to the end.

use conclave_model::{
    failover::Failover,
    order::{Order, Phase},
};
use stateright::{Checker, Model};

#[test]
fn commit_lock_act_lets_a_stale_leader_act_and_lock_commit_act_does_not() {
    let wrong = Order([Phase::Commit, Phase::Lock, Phase::Act]).checker().spawn_bfs().join();
    let how = wrong.discovery("nothing stale takes effect");
    let how = how.expect("commit-lock-act has a counterexample");
    assert!(how.last_state().is_stale, "{how}");

    let right = Order([Phase::Lock, Phase::Commit, Phase::Act]).checker().spawn_bfs().join();
    right.assert_properties();
    assert!(right.is_done() && right.unique_state_count() > 20);
}

#[test]
fn no_order_of_two_leaders_three_servers_and_a_crash_breaks_the_failover() {
    let checked = Failover.checker().threads(2).spawn_bfs().join();
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
    assert!(checked.is_done() && checked.unique_state_count() > 10_000);
}
