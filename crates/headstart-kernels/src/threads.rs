//! The worker pool of the kernels: persistent threads that share numbered tasks.
//!
//! A task's result never depends on which thread runs it, so the number of threads
//! (`HEADSTART_THREADS`, default: the cores) never changes a bit of any output. The caller takes
//! part. A second caller, or a nested call, runs its tasks alone rather than wait.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};

/// Runs `task(0)`, …, `task(count - 1)`, each once, spread over the pool, and returns when all
/// are done. Panics if any task panicked.
pub fn parallel_for(count: usize, task: impl Fn(usize) + Sync) {
    if count <= 1 || threads() == 1 || INSIDE.get() {
        (0..count).for_each(task);
        return;
    }
    let pool = pool();
    let Ok(_turn) = pool.turn.try_lock() else {
        (0..count).for_each(task);
        return;
    };
    pool.run(count, &task);
}

/// Returns how many threads the kernels use, the caller included.
pub fn threads() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let asked = std::env::var("HEADSTART_THREADS").ok().and_then(|v| v.parse().ok());
        asked
            .filter(|n| *n >= 1)
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    })
}

thread_local! {
    /// True on a pool worker and inside a caller's own share: nested calls stay serial.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// How long an idle worker spins before it sleeps; layers of a network follow each other faster.
const SPINS: u32 = 20_000;

type Task = dyn Fn(usize) + Sync;

/// One batch of tasks. The pointer is only dereferenced inside the job, which `run` outlives.
#[derive(Clone, Copy)]
struct Job {
    task: *const Task,
    count: usize,
}

// SAFETY: the pointee is `Sync`, and `Pool::run` keeps it alive until all workers inside have left.
unsafe impl Send for Job {}

struct Pool {
    turn: Mutex<()>,
    job: Mutex<Option<Job>>,
    wake: Condvar,
    /// Bumped when a job is published.
    epoch: AtomicUsize,
    next: AtomicUsize,
    /// How many workers are inside the current job, plus [`CLOSED`] when none may enter any more. The
    /// caller so never waits for a worker that the system has not scheduled yet.
    inside: AtomicUsize,
    panicked: AtomicUsize,
    workers: usize,
}

const CLOSED: usize = 1 << (usize::BITS - 1);

fn pool() -> &'static Pool {
    static POOL: OnceLock<&'static Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let pool: &'static Pool = Box::leak(Box::new(Pool {
            turn: Mutex::new(()),
            job: Mutex::new(None),
            wake: Condvar::new(),
            epoch: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            inside: AtomicUsize::new(CLOSED),
            panicked: AtomicUsize::new(0),
            workers: threads() - 1,
        }));
        for index in 0..pool.workers {
            std::thread::Builder::new()
                .name(format!("kernel-{index}"))
                .spawn(move || pool.work())
                .expect("the system can start a kernel thread");
        }
        pool
    })
}

impl Pool {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes; `run` returns after closing the job and seeing every worker
        // that entered it leave, and a worker touches the pointer only inside.
        let task: *const Task = unsafe { std::mem::transmute(task) };
        let job = Job { task, count };
        self.next.store(0, Ordering::Relaxed);
        {
            // Under the lock, or a worker about to sleep would miss the wake-up.
            let mut guard = self.job.lock().expect("no panic while holding the job");
            *guard = Some(job);
            self.inside.store(0, Ordering::Release);
            self.epoch.fetch_add(1, Ordering::Release);
        }
        self.wake.notify_all();

        INSIDE.set(true);
        self.share(job);
        INSIDE.set(false);
        self.inside.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.inside.load(Ordering::Acquire) != CLOSED {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if self.panicked.swap(0, Ordering::Relaxed) != 0 {
            panic!("a kernel task panicked");
        }
    }

    /// Enters the job that is open now, if one is.
    fn enter(&self) -> bool {
        let open = |inside: usize| (inside & CLOSED == 0).then_some(inside + 1);
        self.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, open).is_ok()
    }

    /// Takes tasks until none is left.
    fn share(&self, job: Job) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= job.count {
                    break;
                }
                // SAFETY: see `Job`; the job is live for as long as this thread is inside it.
                unsafe { (*job.task)(index) };
            }
        }));
        if result.is_err() {
            self.panicked.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn work(&self) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.epoch.load(Ordering::Acquire) == seen && spins < SPINS {
                std::hint::spin_loop();
                spins += 1;
            }
            {
                let mut guard = self.job.lock().expect("no panic while holding the job");
                while self.epoch.load(Ordering::Acquire) == seen {
                    guard = self.wake.wait(guard).expect("no panic while holding the job");
                }
            }
            seen = self.epoch.load(Ordering::Acquire);
            // Enter first, read the job after: while a worker is inside, the job cannot be replaced.
            if self.enter() {
                let job = *self.job.lock().expect("no panic while holding the job");
                self.share(job.expect("an open job is published"));
                self.inside.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

/// A mutable slice whose disjoint parts different tasks may write.
///
/// [`SharedMut::part`] is unsafe: the caller promises that no two live parts overlap.
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts are disjoint by the contract of `part`, so sharing only hands out exclusive pieces.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), life: std::marker::PhantomData }
    }

    /// Returns `len` elements from `from`.
    ///
    /// # Safety
    /// No other live part may overlap this one.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, from: usize, len: usize) -> &mut [T] {
        assert!(from + len <= self.len, "part {from}+{len} of a slice of {}", self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_task_runs_once() {
        for count in [0, 1, 2, 7, 1000] {
            let hits: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            parallel_for(count, |i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "{count} tasks");
        }
    }

    #[test]
    fn nested_and_concurrent_calls_finish() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let total = AtomicUsize::new(0);
                        parallel_for(8, |_| {
                            parallel_for(3, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                        assert_eq!(total.load(Ordering::Relaxed), 24);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panicking_task_panics_the_caller_and_the_pool_lives_on() {
        let result = std::panic::catch_unwind(|| parallel_for(16, |i| assert!(i != 5, "planned")));
        assert!(result.is_err());
        every_task_runs_once();
    }
}
