//! Where do random numbers come from? The world's own, and openraft's, both from the seed.
//!
//! openraft takes its runtime from the type configuration. In tests that is [`Seeded`]: tokio, but
//! for watched values, and for random numbers (election timeouts and the phase of ticks). These
//! come from the host that is [running](with_seed); outside of a simulation they are as random as
//! ever.

use std::{
    cell::Cell,
    collections::hash_map::RandomState,
    future::Future,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use futures::FutureExt;
use openraft::{
    AsyncRuntime, OptionalSend, impls::TokioRuntime, rt::deterministic_rng::DeterministicRng,
};

use super::watch::InOrder;

/// A small generator (splitmix64): one seed, one sequence.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A generator of its own for each part, so that one part's draws do not shift another's.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// True in `n` of a thousand cases.
    pub fn chance(&mut self, n: u64) -> bool {
        self.next() % 1000 < n
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next() % from.len() as u64).expect("a small number")]
    }
}

thread_local! {
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `work` with openraft's random numbers taken from `rng`.
pub fn with_seed<T>(rng: &mut Rng, work: impl FnOnce() -> T) -> T {
    let outer = RUNNING.replace(Some(rng.0));
    let result = work();
    let left = RUNNING.replace(outer);
    rng.0 = left.unwrap_or(rng.0);
    result
}

/// The next number of the running host; of the system outside of a simulation.
fn next() -> u64 {
    let Some(state) = RUNNING.get() else { return RandomState::new().build_hasher().finish() };
    let mut rng = Rng(state);
    let number = rng.next();
    RUNNING.set(Some(rng.0));
    number
}

type Numbers = DeterministicRng<TokioRuntime>;

/// tokio, with what a simulation can repeat where tokio draws.
#[derive(Debug)]
pub struct Seeded(TokioRuntime);

impl AsyncRuntime for Seeded {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Numbers as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = InOrder;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let made = Numbers::scope(next(), async { Numbers::thread_rng() }).now_or_never();
        made.expect("nothing is waited for")
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
