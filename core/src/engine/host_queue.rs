//! The core's side of one plugin queue: what `xcopy_host_queue` points to, with
//! the batch of commands for the plugin and the free commands of its straight way.

use super::cell::CommandCell;
use super::shared::{QueueShared, add};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use xcopy_abi::*;

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
    /// Commands that the plugin has, or that wait in the batch.
    pub flying: Cell<u32>,
    staged: Cell<u32>,
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
        HostQueue {
            shared: shared.clone(),
            plugin,
            owned: Owned {
                flying: Cell::new(0),
                staged: Cell::new(0),
                batch: vec![none; shared.cells.len()].into(),
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

    /// Whether the plugin has commands, or they wait for it.
    #[inline(always)]
    pub fn is_flying(&self) -> bool {
        self.owned.flying.get() != 0
    }

    /// A command is on its way to the plugin.
    #[inline(always)]
    pub fn took_off(&self) {
        let flying = &self.owned.flying;
        flying.set(flying.get().wrapping_add(1));
    }

    /// So many commands are the core's again.
    #[inline(always)]
    pub fn landed(&self, n: u32) {
        let flying = &self.owned.flying;
        flying.set(flying.get().wrapping_sub(n));
    }

    /// Adds a command to the batch.
    #[inline(always)]
    pub fn stage(&self, command: *mut xcopy_cmd) {
        let staged = self.owned.staged.get();
        // Never past the end: there are as many places as commands, and a command
        // is in the batch of one plugin and once.
        debug_assert!((staged as usize) < self.owned.batch.len());
        // SAFETY: see above.
        unsafe { self.owned.batch.get_unchecked(staged as usize) }.set(command);
        self.owned.staged.set(staged + 1);
    }

    /// Whether commands wait to be taken by the plugin.
    #[inline(always)]
    pub fn has_batch(&self) -> bool {
        self.owned.staged.get() != 0
    }

    /// Offers the batch to the plugin. What it does not take stays, unless it
    /// refuses for good: then the commands end.
    #[inline(always)]
    pub fn flush(&self) {
        let owned = &self.owned;
        let n = owned.staged.get();
        let batch = owned.batch.as_ptr().cast::<*mut xcopy_cmd>();
        // SAFETY: the handle is this queue's, and this is its owner's thread; the
        // commands are stable core memory that nobody else touches while they fly,
        // and `n` of them were staged. `Cell` has the layout of its content.
        let taken = unsafe { (owned.submit)(owned.handle.get(), batch, n) };
        if taken as u32 == n {
            owned.staged.set(0);
        } else {
            self.took(taken, n);
        }
    }

    /// The plugin did not take all.
    #[cold]
    fn took(&self, taken: i32, n: u32) {
        let owned = &self.owned;
        match u32::try_from(taken) {
            Ok(taken) if taken < n => {
                for at in taken..n {
                    let command = owned.batch[at as usize].get();
                    owned.batch[(at - taken) as usize].set(command);
                }
                owned.staged.set(n - taken);
            }
            Ok(_) => {
                add(&self.shared.stats.plugin_faults, 1);
                owned.staged.set(0);
            }
            Err(_) if is_transient(-taken) => {}
            Err(_) => {
                owned.staged.set(0);
                for place in &owned.batch[..n as usize] {
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

    /// Takes a command back that the plugin never saw; whether it was there.
    pub fn unstage(&self, command: *mut xcopy_cmd) -> bool {
        let staged = self.owned.staged.get() as usize;
        let batch = &self.owned.batch[..staged];
        let Some(at) = batch.iter().position(|place| place.get() == command) else {
            return false;
        };
        for next in at + 1..staged {
            batch[next - 1].set(batch[next].get());
        }
        self.owned.staged.set(staged as u32 - 1);
        true
    }

    /// Has the plugin end up to `max` commands.
    #[inline(always)]
    pub fn poll(&self, max: u32) {
        // SAFETY: the handle is this queue's, and this is its owner's thread.
        unsafe { (self.owned.poll)(self.owned.handle.get(), max) };
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
