//! The bounded pool: everything that blocks runs here, never on a caller.
//!
//! Code of a plugin may hang. So that it takes nobody else with it, no plugin,
//! nor the probes of all of them, ever has all threads at once if there are two
//! or more: what it hands in beyond waits for a thread of its own share.

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work for a thread of the pool.
pub type Job = Box<dyn FnOnce() + Send>;

/// How long `shut_down` waits for jobs under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose code a job runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    /// The core's own, which ends as far as the kernel does.
    Core,
    /// Plugins open devices and judge pairs.
    Probe,
    /// A BLOCKING plugin, by the address of its entry in the registry.
    Plugin(usize),
}

/// What each thread runs first.
#[derive(Clone, Copy)]
pub struct ThreadHook {
    /// The caller's function, or None.
    pub hook: xcopy_abi::xcopy_thread_fn,
    /// Its argument.
    pub ctx: *mut core::ffi::c_void,
}

// SAFETY: the pointer is the caller's, handed back to the caller's function,
// which is documented to be called on any thread.
unsafe impl Send for ThreadHook {}
// SAFETY: as above.
unsafe impl Sync for ThreadHook {}

/// Threads that are started when the first job comes, up to a fixed number.
pub struct Pool {
    limit: u32,
    hook: ThreadHook,
    crew: Arc<Crew>,
    receiver: Receiver<Task>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Task {
    owner: Owner,
    job: Job,
}

/// What the threads share with the pool.
struct Crew {
    /// None once the pool is shut down.
    sender: Mutex<Option<Sender<Task>>>,
    idle: AtomicU32,
    shares: Mutex<HashMap<Owner, Share>>,
    /// Threads that have not ended.
    alive: Mutex<u32>,
    ended: Condvar,
}

/// The jobs of one owner.
#[derive(Default)]
struct Share {
    /// Given to threads and not ended.
    running: u32,
    waiting: VecDeque<Job>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of at most `limit` threads; 0 refuses every job.
    pub fn new(limit: u32, hook: ThreadHook) -> Pool {
        let (sender, receiver) = unbounded();
        Pool {
            limit,
            hook,
            crew: Arc::new(Crew {
                sender: Mutex::new(Some(sender)),
                idle: AtomicU32::new(0),
                shares: Mutex::default(),
                alive: Mutex::new(0),
                ended: Condvar::new(),
            }),
            receiver,
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Whether the pool can run anything.
    pub fn exists(&self) -> bool {
        self.limit > 0
    }

    /// Threads at most.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Hands `job` to a thread, or keeps it until its owner's share has one.
    /// Answers false, without running it, if there can be no thread.
    pub fn run(&self, owner: Owner, job: Job) -> bool {
        let sender = lock(&self.crew.sender);
        let Some(sender) = sender.as_ref() else {
            return false;
        };
        if !self.ensure_thread() {
            return false;
        }
        match self.crew.admit(owner, job, self.limit.max(2) - 1) {
            Some(task) => sender.send(task).is_ok(),
            None => true,
        }
    }

    /// Whether other jobs, or more of this owner's, wait for a thread.
    pub fn is_wanted(&self, owner: Owner) -> bool {
        let waits = |share: &Share| !share.waiting.is_empty();
        !self.receiver.is_empty() || lock(&self.crew.shares).get(&owner).is_some_and(waits)
    }

    fn ensure_thread(&self) -> bool {
        let mut threads = lock(&self.threads);
        let started = threads.len() as u32;
        let waiting = self.receiver.len() as u32;
        if started >= self.limit || self.crew.idle.load(Ordering::Relaxed) > waiting {
            return started > 0;
        }
        let (receiver, hook, crew) = (self.receiver.clone(), self.hook, self.crew.clone());
        *lock(&crew.alive) += 1;
        // Blocked before the thread exists: it inherits the mask, and the process's
        // signals belong to the caller's threads from the first instruction on.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let spawned = std::thread::Builder::new()
            .name("xcopy-pool".into())
            .spawn(move || {
                // Dropped last.
                let member = Member(crew);
                let hook = hook;
                if let Some(function) = hook.hook {
                    // SAFETY: the caller gave the function for exactly this call.
                    unsafe { function(hook.ctx) };
                }
                member.0.work(&receiver);
            });
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(_) => {
                *lock(&self.crew.alive) -= 1;
                return started > 0;
            }
        }
        true
    }

    /// Ends the threads: those at work may take a while to end what they do, and
    /// what nobody began is dropped. Answers how many hang and were left behind.
    pub fn shut_down(&self) -> usize {
        self.shut_down_within(PATIENCE)
    }

    pub(super) fn shut_down_within(&self, patience: Duration) -> usize {
        drop(lock(&self.crew.sender).take());
        let dropped: Vec<Task> = self.receiver.try_iter().collect();
        let waiting = std::mem::take(&mut *lock(&self.crew.shares));
        drop((dropped, waiting));
        let threads = std::mem::take(&mut *lock(&self.threads));
        let me = std::thread::current().id();
        let mine = u32::from(threads.iter().any(|thread| thread.thread().id() == me));
        let all_ended = self.crew.wait(mine, patience);
        let mut left_behind = 0;
        for thread in threads {
            if thread.thread().id() == me {
                continue;
            }
            if all_ended || thread.is_finished() {
                let _ = thread.join();
            } else {
                left_behind += 1;
            }
        }
        left_behind
    }
}

impl Crew {
    /// The task, if the owner's share has a thread for it now.
    fn admit(&self, owner: Owner, job: Job, bound: u32) -> Option<Task> {
        if owner != Owner::Core {
            let mut shares = lock(&self.shares);
            let share = shares.entry(owner).or_default();
            if share.running >= bound {
                share.waiting.push_back(job);
                return None;
            }
            share.running += 1;
        }
        Some(Task { owner, job })
    }

    fn work(&self, receiver: &Receiver<Task>) {
        loop {
            self.idle.fetch_add(1, Ordering::Relaxed);
            let task = receiver.recv();
            self.idle.fetch_sub(1, Ordering::Relaxed);
            let Ok(Task { owner, job }) = task else { break };
            xcopy_abi::guard::guard((), job);
            if owner != Owner::Core {
                self.next_of(owner);
            }
        }
    }

    /// A job ended: its owner's next one stands in line for any thread.
    fn next_of(&self, owner: Owner) {
        let mut shares = lock(&self.shares);
        let Some(share) = shares.get_mut(&owner) else {
            return;
        };
        let Some(job) = share.waiting.pop_front() else {
            share.running -= 1;
            if share.running == 0 {
                shares.remove(&owner);
            }
            return;
        };
        drop(shares);
        if let Some(sender) = lock(&self.sender).as_ref() {
            let _ = sender.send(Task { owner, job });
        }
    }

    /// Waits until no more than `left` threads have not ended; false if that takes
    /// too long.
    fn wait(&self, left: u32, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut alive = lock(&self.alive);
        while *alive > left {
            let patience = until.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return false;
            }
            let waited = self.ended.wait_timeout(alive, patience);
            alive = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// A thread of the pool, counted until it ends.
struct Member(Arc<Crew>);

impl Drop for Member {
    fn drop(&mut self) {
        *lock(&self.0.alive) -= 1;
        self.0.ended.notify_all();
    }
}
