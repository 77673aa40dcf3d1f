//! The bounded pool: everything that blocks runs here, never on a caller.

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

/// Work for a thread of the pool.
pub type Job = Box<dyn FnOnce() + Send>;

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
    idle: std::sync::Arc<AtomicU32>,
    busy: std::sync::Arc<AtomicU32>,
    sender: Mutex<Option<Sender<Job>>>,
    receiver: Receiver<Job>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// A pool of at most `limit` threads; 0 refuses every job.
    pub fn new(limit: u32, hook: ThreadHook) -> Pool {
        let (sender, receiver) = unbounded();
        Pool {
            limit,
            hook,
            idle: Default::default(),
            busy: Default::default(),
            sender: Mutex::new(Some(sender)),
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

    /// Hands `job` to a thread. Answers false, without running it, if there can
    /// be no thread.
    pub fn run(&self, job: Job) -> bool {
        let sender = self.sender.lock().unwrap_or_else(|e| e.into_inner());
        let Some(sender) = sender.as_ref() else {
            return false;
        };
        if !self.ensure_thread() {
            return false;
        }
        sender.send(job).is_ok()
    }

    fn ensure_thread(&self) -> bool {
        let mut threads = self.threads.lock().unwrap_or_else(|e| e.into_inner());
        let started = threads.len() as u32;
        let waiting = self.receiver.len() as u32;
        if started >= self.limit || self.idle.load(Ordering::Relaxed) > waiting {
            return started > 0;
        }
        let (receiver, hook) = (self.receiver.clone(), self.hook);
        let (idle, busy) = (self.idle.clone(), self.busy.clone());
        // Blocked before the thread exists: it inherits the mask, and the process's
        // signals belong to the caller's threads from the first instruction on.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let spawned = std::thread::Builder::new()
            .name("xcopy-pool".into())
            .spawn(move || {
                let hook = hook;
                if let Some(function) = hook.hook {
                    // SAFETY: the caller gave the function for exactly this call.
                    unsafe { function(hook.ctx) };
                }
                loop {
                    idle.fetch_add(1, Ordering::Relaxed);
                    let job = receiver.recv();
                    idle.fetch_sub(1, Ordering::Relaxed);
                    let Ok(job) = job else { break };
                    busy.fetch_add(1, Ordering::Relaxed);
                    xcopy_abi::guard::guard((), job);
                    busy.fetch_sub(1, Ordering::Relaxed);
                }
            });
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(_) => return started > 0,
        }
        true
    }

    /// Ends the threads. One that hangs inside a plugin is left behind.
    pub fn shut_down(&self) {
        drop(self.sender.lock().unwrap_or_else(|e| e.into_inner()).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner()));
        let me = std::thread::current().id();
        for thread in threads {
            if self.busy.load(Ordering::Relaxed) == 0 && thread.thread().id() != me {
                let _ = thread.join();
            }
        }
    }
}
