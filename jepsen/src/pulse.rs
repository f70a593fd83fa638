//! Did the harness itself run all the time? A machine that stalls hurts servers, too, and nobody
//! is to blame then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use conclave_lab::now_us;

use crate::record::Stall;

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(20);
/// A gap between two beats that is worth noting, in microseconds.
const GAP_US: u64 = 500_000;

/// A thread that beats.
#[derive(Debug)]
pub struct Pulse {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Stall>>,
}

impl Pulse {
    /// Starts it.
    pub fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut stalls = Vec::new();
            let mut last = now_us();
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(BEAT);
                let now = now_us();
                if now - last > GAP_US {
                    stalls.push(Stall { from_us: last, to_us: now });
                }
                last = now;
            }
            stalls
        });
        Pulse { ends, thread }
    }

    /// Ends it and returns the gaps.
    pub fn stop(self) -> Vec<Stall> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the pulse does not panic")
    }
}
