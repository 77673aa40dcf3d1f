//! The line before a target that states how many commands it takes at once: what
//! all queues of a context send to one storage by one method stands in it.
//!
//! Commands wait here and not on their queues, whose owners may be asleep or busy
//! elsewhere: the thread of the pool that ended one takes the next, whoever sent
//! it. So a queue can have its next command ready before the last one ended.

use super::context::Context;
use super::pool::{Job, Owner};
use crate::device::Storage;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Which command it is: the address of its queue's shared side, and its cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(pub usize, pub u64);

struct Waiting {
    ticket: Ticket,
    /// Commands at once that its queue is bound to.
    limit: u32,
    job: Job,
}

#[derive(Default)]
struct Inner {
    running: u32,
    waiting: VecDeque<Waiting>,
}

/// The commands of one method to one storage.
#[derive(Default)]
pub struct Line(Mutex<Inner>);

impl Line {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `job` run on the pool once fewer than `limit` commands run, after those
    /// that came before. False, without running it, if there can be no thread.
    pub fn run(
        self: &Arc<Self>,
        context: &Arc<Context>,
        owner: Owner,
        (ticket, limit): (Ticket, u32),
        job: Job,
    ) -> bool {
        let mut inner = self.lock();
        let waiting = Waiting { ticket, limit, job };
        if inner.running >= limit.max(1) || !inner.waiting.is_empty() {
            inner.waiting.push_back(waiting);
            return true;
        }
        inner.running += 1;
        drop(inner);
        self.begin(context, owner, waiting.job)
    }

    /// Gives a job that counts as running to a thread. Without one nobody would end
    /// those that wait either.
    fn begin(self: &Arc<Self>, context: &Arc<Context>, owner: Owner, job: Job) -> bool {
        let (line, weak) = (self.clone(), Arc::downgrade(context));
        let work = move || {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                xcopy_abi::guard::guard((), job);
                let Some(context) = weak.upgrade() else {
                    return;
                };
                next = line.carry_on(&context, owner);
            }
        };
        let begun = context.pool.run(owner, Box::new(work));
        if !begun {
            let mut inner = self.lock();
            inner.running -= 1;
            let waiting = std::mem::take(&mut inner.waiting);
            // What a job drops may lock other things.
            drop(inner);
            drop(waiting);
        }
        begun
    }

    /// A command ended: those whose turn it is now get threads, and the first of
    /// them this one if nobody else wants it.
    fn carry_on(self: &Arc<Self>, context: &Arc<Context>, owner: Owner) -> Option<Job> {
        let mut inner = self.lock();
        inner.running -= 1;
        let mut begun = Vec::new();
        while let Some(first) = inner.waiting.front()
            && inner.running < first.limit.max(1)
        {
            inner.running += 1;
            begun.extend(inner.waiting.pop_front());
        }
        drop(inner);
        let mut own = None;
        for waiting in begun {
            if own.is_none() && !context.pool.is_wanted(owner) {
                own = Some(waiting.job);
            } else {
                self.begin(context, owner, waiting.job);
            }
        }
        own
    }

    /// Takes a command out of the line; false if it is not there: it runs, or ended.
    pub fn withdraw(&self, ticket: Ticket) -> bool {
        let mut inner = self.lock();
        let at = inner.waiting.iter().position(|w| w.ticket == ticket);
        let withdrawn = at.and_then(|at| inner.waiting.remove(at));
        // What a job drops may lock other things.
        drop(inner);
        withdrawn.is_some()
    }
}

/// The lines of a context.
#[derive(Default)]
pub struct Lines(Mutex<HashMap<(Storage, u16), Weak<Line>>>);

impl Lines {
    /// The line of `method` before `storage`.
    pub fn of(&self, storage: Storage, method: u16) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&(storage, method)).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line::default());
        lines.insert((storage, method), Arc::downgrade(&line));
        line
    }
}
