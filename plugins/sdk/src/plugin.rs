//! The traits that a plugin implements.

use crate::command::Command;
use crate::device::{Description, Opened};
use crate::failure::{Failure, Outcome};
use crate::host::Host;
use crate::job::{Job, JobId};
use crate::verdict::{Method, Verdict};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// What every plugin has. A value of the type is one context's state.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// `[a-z][a-z0-9_]*`, at most 31 characters; the file is libxcopy_NAME.so.
    const NAME: &'static CStr;
    /// The plugin's own version.
    const VERSION: &'static CStr;
    /// What it does, in one line.
    const DESCRIPTION: &'static CStr;
    /// XCOPY_PLUGIN_ flags: which devices it opens.
    const FLAGS: u32;
    /// XCOPY_CAN_ bits: the commands it takes.
    const COMMANDS: u32;
    /// Its methods; none for a plugin that only reads and writes.
    const METHODS: &'static [Method];
    /// Ranges of one command at most.
    const MAX_RANGES: u32 = 1;

    /// An open device.
    type Device: Send + Sync + 'static;

    /// A new context's state. Any thread; several may be alive at once.
    fn start(host: Host) -> Result<Self, Failure>;

    /// Opens a device; a refusal says in words what to do. It is closed by its
    /// Drop. May block, any thread.
    fn open(&self, device: &Description<'_>) -> Result<Opened<Self::Device>, Failure>;

    /// Judges `METHODS[method]` for a pair. One end is None when the question is
    /// about tokens. An error says that no verdict could be found now. May
    /// block, any thread.
    fn probe(
        &self,
        method: usize,
        src: Option<&Self::Device>,
        dst: Option<&Self::Device>,
    ) -> Result<Verdict, Failure>;

    /// What was found out of a device, for a person: lines of "key: value". A key
    /// may come more than once. May block, any thread.
    fn describe(&self, device: &Self::Device) -> Option<String> {
        let _ = device;
        None
    }
}

/// A plugin whose calls return when the command has ended.
pub trait Blocking: Plugin {
    /// Carries one command out. Any thread of the pool, several at once.
    fn execute(&self, command: &mut Command<'_, Self::Device>) -> Outcome;
}

/// What a queue is created with.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QueueOptions {
    /// Commands in flight at most.
    pub window: u32,
    /// The queue stays with the thread that created it.
    pub pinned: bool,
}

/// A plugin with queues. Jobs may also be ended on other threads. All calls come on the queue's owner thread and return
/// at once; an idle queue may change its owner unless it is pinned.
pub trait Queued: Plugin {
    /// One queue's state.
    type Queue: Send + 'static;
    /// The plugin wakes sleepers by [`Queued::fd`] and [`Queued::arm`].
    const HAS_FD: bool = false;
    /// [`Queued::cancel`] does something.
    const CANCELS: bool = false;

    /// A new queue.
    fn queue(&self, options: QueueOptions) -> Result<Self::Queue, Failure>;

    /// Takes a command, or gives it back if there is no room for it now.
    fn submit(
        &self,
        queue: &mut Self::Queue,
        job: Job<Self::Device>,
    ) -> Result<(), Job<Self::Device>>;

    /// Called once after the jobs that one call of the core's brought: the place
    /// to hand them on together.
    fn submitted(&self, queue: &mut Self::Queue) {
        let _ = queue;
    }

    /// Advances the queue and ends at most about `max` jobs. Not called by
    /// [`init_threaded`](crate::init_threaded).
    fn poll(&self, queue: &mut Self::Queue, max: usize);

    /// A pollable descriptor, the same for the queue's life; readable, while
    /// armed, when `poll` has something to do.
    fn fd<'a>(&self, queue: &'a mut Self::Queue) -> Option<BorrowedFd<'a>> {
        let _ = queue;
        None
    }

    /// Switches the descriptor on or off; true if `poll` has something to do.
    fn arm(&self, queue: &mut Self::Queue, on: bool) -> bool {
        let _ = (queue, on);
        false
    }

    /// Asks for a job to end early; it may have ended. It still has to be ended.
    fn cancel(&self, queue: &mut Self::Queue, job: JobId) {
        let _ = (queue, job);
    }
}
