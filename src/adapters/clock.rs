//! What time is it? One monotonic clock for the whole process.

use std::{sync::OnceLock, time::Duration};

use conclave_core::{
    model::{Micros, Mono},
    ports::Clock,
};

/// `CLOCK_BOOTTIME`, which goes on while the machine is suspended, so that a suspension is a stall
/// like any other; counted from an hour before this process first asked, so that moments
/// before the start can be named. All copies, on all threads, agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

static START: OnceLock<Duration> = OnceLock::new();
const HEAD_START: Duration = Duration::from_secs(3600);

impl SystemClock {
    /// How long it is until `deadline`; zero if it has passed.
    pub fn left(self, deadline: Mono) -> Duration {
        deadline.since(self.now()).into()
    }

    /// The moment `span` from now.
    pub fn after(self, span: Duration) -> Mono {
        self.now().plus(Micros(span.as_micros() as u64))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        let now = boot_time();
        let since = now.saturating_sub(*START.get_or_init(|| now));
        Mono((since + HEAD_START).as_micros() as u64)
    }

    async fn sleep(&self, span: Micros) {
        tokio::time::sleep(span.into()).await;
    }
}

fn boot_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.expect("Linux has this clock since 2.6.39").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_clock_that_does_not_run_back() {
        let before = SystemClock.now();
        let there = std::thread::spawn(|| SystemClock.now()).join().unwrap();
        let after = SystemClock.now();
        assert!(before <= there && there <= after, "{before:?} {there:?} {after:?}");
        assert!(before >= Mono(3_600_000_000));
    }

    #[test]
    fn a_passed_deadline_leaves_no_time() {
        let now = SystemClock.now();
        assert_eq!(SystemClock.left(now.minus(Micros(1))), Duration::ZERO);
        let left = SystemClock.left(SystemClock.after(Duration::from_secs(5)));
        assert!(left > Duration::from_secs(4) && left <= Duration::from_secs(5), "{left:?}");
    }
}
