//! Virtual time and a small single-threaded executor: nothing waits, nothing is left to chance.
//!
//! Time jumps to the next timer when nobody is ready. Each task has an owner, a process of the
//! simulated world: a stopped owner's tasks are not polled (SIGSTOP), a dead owner's are dropped
//! (SIGKILL), whatever they were doing.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering as Memory},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Microseconds since the world began.
pub type Micros = u64;

/// A process of the simulated world; each start of a process is a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(u64);

impl Owner {
    /// The world itself: wires and kernels, which never stop.
    pub const WORLD: Owner = Owner(0);
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Locks; a panic elsewhere is reported by the test that panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle on time and tasks; cheap to clone.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    now: Micros,
    next: u64,
    timers: BinaryHeap<Timer>,
    ready: VecDeque<Id>,
    fresh: Vec<(Owner, Work)>,
    stopped: BTreeMap<Owner, Vec<Id>>,
    dead: BTreeSet<Owner>,
    /// Owners whose tasks are still to be dropped.
    dying: Vec<Owner>,
    /// The run is over: nothing is started any more.
    is_over: bool,
}

struct Timer {
    at: Micros,
    order: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    /// The heap gives the greatest: the earliest timer, the older one first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Default for Sim {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner::default())))
    }
}

impl Sim {
    /// Now.
    pub fn now(&self) -> Micros {
        lock(&self.0).now
    }

    /// A new process.
    pub fn process(&self) -> Owner {
        Owner(lock(&self.0).number())
    }

    /// Starts a task of `owner`; nothing happens if it is dead.
    pub fn spawn(&self, owner: Owner, work: impl Future<Output = ()> + Send + 'static) {
        let mut inner = lock(&self.0);
        if !inner.dead.contains(&owner) && !inner.is_over {
            inner.fresh.push((owner, Box::pin(work)));
        }
    }

    /// SIGSTOP.
    pub fn stop(&self, owner: Owner) {
        lock(&self.0).stopped.entry(owner).or_default();
    }

    /// SIGCONT.
    pub fn resume(&self, owner: Owner) {
        let mut inner = lock(&self.0);
        let parked = inner.stopped.remove(&owner).unwrap_or_default();
        inner.ready.extend(parked);
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self, owner: Owner) -> bool {
        lock(&self.0).stopped.contains_key(&owner)
    }

    /// SIGKILL: its tasks are dropped before time goes on.
    pub fn kill(&self, owner: Owner) {
        let mut inner = lock(&self.0);
        inner.stopped.remove(&owner);
        inner.dead.insert(owner);
        inner.dying.push(owner);
    }

    /// Waits until that moment.
    pub fn sleep_until(&self, at: Micros) -> impl Future<Output = ()> + Send + use<> {
        let sim = self.clone();
        let mut is_set = false;
        poll_fn(move |context| {
            let mut inner = lock(&sim.0);
            if inner.now >= at {
                return Poll::Ready(());
            }
            // The end of time never comes: no timer is kept for it.
            if !is_set && at < Micros::MAX {
                is_set = true;
                let order = inner.number();
                inner.timers.push(Timer { at, order, waker: context.waker().clone() });
            }
            Poll::Pending
        })
    }

    /// Waits that long.
    pub fn sleep(&self, span: Micros) -> impl Future<Output = ()> + Send + use<> {
        self.sleep_until(self.now().saturating_add(span))
    }

    /// What the future gives, unless it is later than `at`.
    pub async fn within<T>(&self, at: Micros, work: impl Future<Output = T> + Send) -> Option<T> {
        let mut work = pin!(work);
        let mut end = pin!(self.sleep_until(at));
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            end.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

impl Sim {
    /// What the future gives, unless the other one ends before: then it is dropped as it stands.
    pub async fn unless<T>(
        &self,
        end: impl Future<Output = ()> + Send,
        work: impl Future<Output = T> + Send,
    ) -> Option<T> {
        let (mut end, mut work) = (pin!(end), pin!(work));
        poll_fn(|context| match end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => work.as_mut().poll(context).map(Some),
        })
        .await
    }
}

/// A value that one task puts and another waits for. The first put counts.
pub struct Slot<T>(Arc<Mutex<Held<T>>>);

struct Held<T> {
    value: Option<T>,
    was_put: bool,
    waker: Option<Waker>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Held { value: None, was_put: false, waker: None })))
    }
}

impl<T: Send> Slot<T> {
    /// Puts the value in, if none was put before.
    pub fn put(&self, value: T) {
        let mut slot = lock(&self.0);
        if !slot.was_put {
            slot.value = Some(value);
            slot.was_put = true;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Takes the value out, if it is there.
    pub fn take_now(&self) -> Option<T> {
        lock(&self.0).value.take()
    }

    /// Waits for the value; it is taken out once.
    pub async fn take(&self) -> T {
        poll_fn(|context| {
            let mut slot = lock(&self.0);
            match slot.value.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// A task's place, and which task in that place.
type Id = (usize, u64);

/// Something to be done, little by little.
struct Task {
    run: u64,
    owner: Owner,
    work: Work,
    bell: Arc<Bell>,
}

/// Wakes one task by putting its number into the queue.
struct Bell {
    id: Id,
    is_queued: AtomicBool,
    sim: Arc<Mutex<Inner>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Memory::Relaxed) {
            lock(&self.sim).ready.push_back(self.id);
        }
    }
}

/// Owns all tasks and runs them.
#[derive(Default)]
pub struct Executor {
    sim: Sim,
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    /// How often a task was polled: the measure of work.
    pub polls: u64,
}

impl Executor {
    /// The handle that tasks use.
    pub fn sim(&self) -> Sim {
        self.sim.clone()
    }

    /// Runs everything up to that moment, which is now afterwards.
    pub fn run_until(&mut self, end: Micros) {
        loop {
            self.admit();
            let next = lock(&self.sim.0).ready.pop_front();
            match next {
                Some(id) => self.poll(id),
                None if self.advance(end) => {}
                None => return,
            }
        }
    }

    /// Takes new tasks in and drops those of the dead.
    fn admit(&mut self) {
        loop {
            let (fresh, dying) = {
                let mut inner = lock(&self.sim.0);
                (std::mem::take(&mut inner.fresh), std::mem::take(&mut inner.dying))
            };
            if fresh.is_empty() && dying.is_empty() {
                return;
            }
            for (owner, work) in fresh {
                self.place(owner, work);
            }
            for owner in dying {
                for at in 0..self.tasks.len() {
                    if self.tasks[at].as_ref().is_some_and(|task| task.owner == owner) {
                        // Dropping a task may spawn others: the kernel closes its connections.
                        self.tasks[at] = None;
                        self.free.push(at);
                    }
                }
            }
        }
    }

    fn place(&mut self, owner: Owner, work: Work) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let mut inner = lock(&self.sim.0);
        let id = (at, inner.number());
        let bell = Bell { id, is_queued: AtomicBool::new(true), sim: self.sim.0.clone() };
        self.tasks[at] = Some(Task { run: id.1, owner, work, bell: Arc::new(bell) });
        inner.ready.push_back(id);
    }

    fn poll(&mut self, id: Id) {
        let Some(task) = self.tasks[id.0].as_mut().filter(|task| task.run == id.1) else { return };
        {
            let mut inner = lock(&self.sim.0);
            if let Some(parked) = inner.stopped.get_mut(&task.owner) {
                parked.push(id);
                return;
            }
        }
        self.polls += 1;
        task.bell.is_queued.store(false, Memory::Relaxed);
        let waker = Waker::from(task.bell.clone());
        if task.work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks[id.0] = None;
            self.free.push(id.0);
        }
    }

    /// Moves time to the next timer; false: there is none up to `end`.
    fn advance(&mut self, end: Micros) -> bool {
        let waker = {
            let mut inner = lock(&self.sim.0);
            match inner.timers.peek() {
                Some(timer) if timer.at <= end => {
                    inner.now = inner.now.max(timer.at);
                    inner.timers.pop().map(|timer| timer.waker)
                }
                Some(_) | None => {
                    inner.now = inner.now.max(end);
                    None
                }
            }
        };
        let is_due = waker.is_some();
        if let Some(waker) = waker {
            waker.wake();
        }
        is_due
    }
}

impl Drop for Executor {
    /// Tasks and timers refer to each other through the handle: they are taken apart by hand.
    fn drop(&mut self) {
        let (fresh, timers) = {
            let mut inner = lock(&self.sim.0);
            inner.is_over = true;
            (std::mem::take(&mut inner.fresh), std::mem::take(&mut inner.timers))
        };
        self.tasks.clear();
        drop((fresh, timers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<(Micros, u32)>>>;

    fn log() -> (Log, impl Fn(&Sim, u32) + Clone) {
        let log = Log::default();
        let copy = log.clone();
        (log, move |sim: &Sim, what: u32| lock(&copy).push((sim.now(), what)))
    }

    #[test]
    fn tasks_run_in_the_order_of_their_timers_and_time_jumps() {
        let mut executor = Executor::default();
        let (seen, say) = log();
        for (what, at) in [(1, 30), (2, 10), (3, 10)] {
            let (sim, say) = (executor.sim(), say.clone());
            executor.sim.spawn(Owner::WORLD, async move {
                sim.sleep_until(at).await;
                say(&sim, what);
            });
        }
        executor.run_until(100);
        assert_eq!(*lock(&seen), [(10, 2), (10, 3), (30, 1)]);
        assert_eq!(executor.sim.now(), 100);
    }

    #[test]
    fn a_stopped_owner_goes_on_where_it_was_and_a_dead_one_never() {
        let mut executor = Executor::default();
        let (seen, say) = log();
        let owners = [executor.sim.process(), executor.sim.process()];
        for (what, owner) in (1..).zip(owners) {
            let (sim, say) = (executor.sim(), say.clone());
            executor.sim.spawn(owner, async move {
                sim.sleep(10).await;
                say(&sim, what);
            });
        }
        executor.run_until(5);
        executor.sim.stop(owners[0]);
        executor.sim.kill(owners[1]);
        executor.run_until(50);
        executor.sim.resume(owners[0]);
        executor.run_until(60);
        assert_eq!(*lock(&seen), [(50, 1)]);
    }

    #[test]
    fn a_slot_gives_its_first_value_and_a_late_one_is_missed() {
        let mut executor = Executor::default();
        let (seen, say) = log();
        let slot: Slot<u32> = Slot::default();
        let (sim, waiting) = (executor.sim(), slot.clone());
        executor.sim.spawn(Owner::WORLD, async move {
            say(&sim, sim.within(5, waiting.take()).await.unwrap_or(0));
            say(&sim, waiting.take().await);
        });
        executor.run_until(20);
        slot.put(7);
        slot.put(8);
        executor.run_until(30);
        assert_eq!(*lock(&seen), [(5, 0), (20, 7)]);
    }
}
