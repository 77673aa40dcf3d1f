//! A command that a queue took, with the duty to end it.

use crate::command::{Command, Operation};
use crate::errno::{EFAULT, EIO};
use crate::failure::{Failure, Outcome, result_of};
use crate::sink::Sink;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use xcopy_abi::xcopy_cmd;

/// Names a job for `cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub(crate) usize);

/// A command that was taken. It ends exactly once: by [`Job::end`], from any
/// thread, or as failed when it is dropped: with EIO, or EFAULT
/// by a panic.
pub struct Job<D> {
    command: NonNull<xcopy_cmd>,
    sink: Arc<Sink>,
    devices: PhantomData<fn(D)>,
}

// SAFETY: the command is stable core memory, and this is the only one who uses
// it until it ends; ending is legal on any thread. Devices are shared by
// reference, and `Plugin::Device` is Sync.
unsafe impl<D: Sync> Send for Job<D> {}

impl<D> Job<D> {
    /// # Safety
    /// A command that submit was given and that is taken with this job, its
    /// devices being `D`.
    pub(crate) unsafe fn new(command: NonNull<xcopy_cmd>, sink: Arc<Sink>) -> Job<D> {
        Job {
            command,
            sink,
            devices: PhantomData,
        }
    }

    /// Its name.
    pub fn id(&self) -> JobId {
        JobId(self.command.as_ptr() as usize)
    }

    /// The command.
    pub fn command(&mut self) -> Command<'_, D> {
        // SAFETY: in flight until this job ends, and borrowed for us alone.
        unsafe { Command::new(self.command) }
    }

    /// Calls `work` with what is asked for, and ends the job with its outcome.
    pub fn run(mut self, work: impl FnOnce(Operation<'_, D>) -> Outcome) {
        let outcome = {
            let mut command = self.command();
            work(command.operation())
        };
        self.end(outcome);
    }

    /// Ends it. A token's size or a known prefix beyond the command's are cut.
    pub fn end(self, outcome: Outcome) {
        let mut this = ManuallyDrop::new(self);
        this.finish(outcome);
        // SAFETY: `this` is never used again, and its Drop does not run.
        unsafe { std::ptr::drop_in_place(&mut this.sink) };
    }

    fn finish(&mut self, outcome: Outcome) {
        // SAFETY: in flight until the result is delivered below.
        let result = result_of(unsafe { self.command.as_ref() }, &outcome);
        let sense = outcome.err().map(|failure| failure.sense);
        self.sink.deliver(result, sense.unwrap_or_default());
    }

    /// Gives the command back that was not taken.
    pub(crate) fn give_back(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: as in `end`.
        unsafe { std::ptr::drop_in_place(&mut this.sink) };
    }
}

impl<D> Drop for Job<D> {
    fn drop(&mut self) {
        let errno = if self.sink.is_broken() { EFAULT } else { EIO };
        self.finish(Err(Failure::new(errno)));
    }
}

impl<D> std::fmt::Debug for Job<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({:#x})", self.id().0)
    }
}
