//! A thousand storms, in which every invariant must hold and after which all must come right.

use std::sync::Mutex;

use conclave_sim::{
    clock::lock,
    random::{self, Many},
};

#[test]
fn thousand_seeds_of_random_faults_come_right() {
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
    println!("seeds 0 to 999");
    let violations = Mutex::new(Vec::new());
    let promoted = Mutex::new(0);
    let many = Many { first: 0, count: 1000, jobs, until_broken: false };
    many.play(|report| {
        *lock(&promoted) += report.promoted;
        if !report.violations.is_empty() {
            lock(&violations).push((report.seed, report.violations));
        }
    });
    assert_eq!(*lock(&violations), []);
    assert!(*lock(&promoted) > 300, "the storms did not bite");
}

#[test]
fn one_seed_replays_exactly() {
    let [one, other] = [7, 7].map(|seed| {
        let (report, run) = random::play(seed, true);
        (report, run.world(|world| world.trace.clone()), run.executor.polls)
    });
    assert_eq!(one, other);
}
