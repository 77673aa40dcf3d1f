//! The core's side of one plugin queue: what `xcopy_host_queue` points to, with
//! the batch of commands for the plugin and the free commands of its straight way.

use super::cell::CommandCell;
use super::shared::{QueueShared, add};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use xcopy_abi::*;

/// Commands that a plugin is asked to end in one call.
const POLL_BATCH: u32 = 256;

type Submit = unsafe extern "C" fn(*mut c_void, *const *mut xcopy_cmd, u32) -> i32;
type Poll = unsafe extern "C" fn(*mut c_void, u32) -> i32;

/// The core's side of one plugin queue.
pub struct HostQueue {
    /// The queue.
    pub shared: Arc<QueueShared>,
    /// Index of the plugin queue in it.
    pub plugin: u32,
    /// The owner's part; other threads look at what is above.
    pub owned: Owned,
}

/// The owner's part, in lines of its own.
#[repr(align(128))]
pub struct Owned {
    /// Commands that the plugin has.
    flying: Cell<u32>,
    /// Index of the plugin queue, as above.
    pub plugin: u32,
    /// Where the next command of the batch goes.
    end: Cell<*mut *mut xcopy_cmd>,
    batch: Box<[Cell<*mut xcopy_cmd>]>,
    handle: Cell<*mut c_void>,
    submit: Submit,
    poll: Poll,
    /// The first of the free commands made ready for this plugin, each with a free
    /// slot; or NULL.
    twins: Cell<*const CommandCell>,
    /// The next of the queue's plugin queues.
    pub next: Cell<*const HostQueue>,
}

/// For a plugin without `submit`: takes nothing.
unsafe extern "C" fn takes_nothing(_: *mut c_void, _: *const *mut xcopy_cmd, _: u32) -> i32 {
    0
}

/// For a plugin without `poll`: its threads do it.
unsafe extern "C" fn has_nothing(_: *mut c_void, _: u32) -> i32 {
    0
}

impl HostQueue {
    /// The side of the plugin queue at place `plugin`, before that is made.
    pub fn new(
        shared: &Arc<QueueShared>,
        plugin: u32,
        (submit, poll): (Option<Submit>, Option<Poll>),
    ) -> HostQueue {
        let none = Cell::new(ptr::null_mut());
        let batch: Box<[_]> = vec![none; shared.cells.len()].into();
        HostQueue {
            shared: shared.clone(),
            plugin,
            owned: Owned {
                flying: Cell::new(0),
                plugin,
                end: Cell::new(batch.as_ptr().cast_mut().cast()),
                batch,
                handle: Cell::new(ptr::null_mut()),
                submit: submit.unwrap_or(takes_nothing),
                poll: poll.unwrap_or(has_nothing),
                twins: Cell::new(ptr::null()),
                next: Cell::new(ptr::null()),
            },
        }
    }

    /// The plugin made its queue.
    pub fn made(&self, handle: *mut c_void) {
        self.owned.handle.set(handle);
    }

    /// The plugin's queue.
    #[inline(always)]
    pub fn handle(&self) -> *mut c_void {
        self.owned.handle.get()
    }

    /// Commands that the plugin has, or that wait for it.
    pub fn flying(&self) -> u32 {
        self.owned.flying.get() + self.staged() as u32
    }

    /// The plugin has one more command, past the batch.
    pub fn took_off(&self) {
        let flying = &self.owned.flying;
        flying.set(flying.get() + 1);
    }

    /// So many commands are the core's again.
    #[inline(always)]
    pub fn landed(&self, n: u32) {
        let flying = &self.owned.flying;
        flying.set(flying.get().wrapping_sub(n));
    }

    #[inline(always)]
    fn first(&self) -> *mut *mut xcopy_cmd {
        // `Cell` has the layout of its content.
        self.owned.batch.as_ptr().cast_mut().cast()
    }

    /// Commands in the batch.
    #[inline(always)]
    fn staged(&self) -> usize {
        (self.owned.end.get().addr() - self.first().addr()) / size_of::<*mut xcopy_cmd>()
    }

    fn set_staged(&self, n: usize) {
        self.owned.end.set(self.first().wrapping_add(n));
    }

    /// Adds a command to the batch.
    #[inline(always)]
    pub fn stage(&self, command: *mut xcopy_cmd) {
        // Never past the end: there are as many places as commands, and a command
        // is in the batch of one plugin and once.
        debug_assert!(self.staged() < self.owned.batch.len());
        let end = self.owned.end.get();
        // SAFETY: see above.
        unsafe {
            end.write(command);
            self.owned.end.set(end.add(1));
        }
    }

    /// Whether commands wait to be taken by the plugin.
    #[inline(always)]
    pub fn has_batch(&self) -> bool {
        self.owned.end.get() != self.first()
    }

    /// Offers the batch, if there is one, to the plugin. What it does not take
    /// stays, unless it refuses for good: then the commands end.
    #[inline(always)]
    pub fn flush(&self) {
        let (owned, first) = (&self.owned, self.first());
        if owned.end.get() == first {
            return;
        }
        let n = self.staged() as u32;
        // At once: a command may end inside the call.
        owned.flying.set(owned.flying.get().wrapping_add(n));
        // SAFETY: the handle is this queue's, and this is its owner's thread; the
        // commands are stable core memory that nobody else touches while they fly,
        // and `n` of them were staged.
        let taken = unsafe { (owned.submit)(owned.handle.get(), first, n) };
        if taken as u32 == n {
            owned.end.set(self.first());
        } else {
            self.took(taken, n);
        }
    }

    /// The plugin did not take all.
    #[cold]
    fn took(&self, taken: i32, n: u32) {
        let batch = &self.owned.batch;
        match u32::try_from(taken) {
            Ok(taken) if taken < n => {
                self.landed(n - taken);
                for at in taken..n {
                    batch[(at - taken) as usize].set(batch[at as usize].get());
                }
                self.set_staged((n - taken) as usize);
            }
            Ok(_) => {
                add(&self.shared.stats.plugin_faults, 1);
                self.set_staged(0);
            }
            Err(_) if is_transient(-taken) => self.landed(n),
            Err(_) => {
                self.set_staged(0);
                for place in &batch[..n as usize] {
                    // SAFETY: staged by this queue; the plugin refused it.
                    let cookie = unsafe { (*place.get()).cookie };
                    let result = xcopy_result {
                        cookie,
                        status: taken,
                        ..Default::default()
                    };
                    self.shared.complete_on_owner(self.plugin, &result);
                }
            }
        }
    }

    /// Takes a command back that the plugin never saw, as one that ended; whether
    /// it was there.
    pub fn unstage(&self, command: *mut xcopy_cmd) -> bool {
        let staged = self.staged();
        let batch = &self.owned.batch[..staged];
        let Some(at) = batch.iter().position(|place| place.get() == command) else {
            return false;
        };
        for next in at + 1..staged {
            batch[next - 1].set(batch[next].get());
        }
        self.set_staged(staged - 1);
        self.took_off();
        true
    }

    /// Has the plugin end commands, if it has any.
    #[inline(always)]
    pub fn poll(&self) {
        let owned = &self.owned;
        if owned.flying.get() != 0 {
            // SAFETY: the handle is this queue's, and this is its owner's thread.
            unsafe { (owned.poll)(owned.handle.get(), POLL_BATCH) };
        }
    }

    /// The first free command of the straight way, or NULL.
    #[inline(always)]
    pub fn twin(&self) -> *const CommandCell {
        self.owned.twins.get()
    }

    /// Takes that command, which is not NULL.
    #[inline(always)]
    pub fn take_twin(&self, cell: &CommandCell) {
        self.owned.twins.set(cell.next.get());
    }

    /// Adds a free command.
    #[inline(always)]
    pub fn put_twin(&self, cell: &CommandCell) {
        cell.next.set(self.owned.twins.get());
        self.owned.twins.set(cell);
    }

    /// Takes all free commands: the first, which leads to the others.
    pub fn take_twins(&self) -> *const CommandCell {
        self.owned.twins.replace(ptr::null())
    }
}

fn is_transient(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOBUFS
    )
}
