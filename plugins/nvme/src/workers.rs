//! A few threads for what blocks: commands where there is no ring, and a look at
//! the device after a failure.

use nix::sys::signal::{SigSet, SigmaskHow};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use xcopy_plugin_sdk::abi::guard::guard;

/// Threads at most: as many commands as this are under way at once.
const THREADS: usize = 16;

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                // A job that a panic drops is failed by its Drop.
                guard((), task);
                state = self.lock();
            } else if state.stop {
                return;
            } else {
                state.idle += 1;
                state = self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

/// The threads of one context, started when first needed.
#[derive(Default)]
pub struct Workers {
    shared: Arc<Shared>,
}

impl Workers {
    /// Runs a task on one of the threads; dropped if there is none and none can
    /// be started.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.idle <= state.tasks.len() && state.threads.len() < THREADS {
            let shared = self.shared.clone();
            // Before the thread exists: the process's signals are not for it.
            let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
            let spawned = std::thread::Builder::new()
                .name("xcopy-nvme".into())
                .spawn(move || shared.work());
            if let Ok(before) = before {
                let _ = before.thread_set_mask();
            }
            match spawned {
                Ok(thread) => state.threads.push(thread),
                Err(_) if state.threads.is_empty() => return,
                Err(_) => {}
            }
        }
        state.tasks.push_back(Box::new(task));
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.shared.wake.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }
}
