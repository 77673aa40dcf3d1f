//! The C side of the models POLLED and THREADED.

use crate::errno::{EINVAL, ENOTSUP};
use crate::job::{Job, JobId};
use crate::plugin::{QueueOptions, Queued};
use crate::sink::Sink;
use crate::table::{PANICKED, State, answer, state_of, table};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

struct Table<P>(PhantomData<P>);

impl<P: Queued> Table<P> {
    const POLLED: &'static xcopy_plugin = &xcopy_plugin {
        poll: Some(poll::<P>),
        ..Self::table(XCOPY_MODEL_POLLED)
    };
    const THREADED: &'static xcopy_plugin = &Self::table(XCOPY_MODEL_THREADED);

    const fn table(model: u32) -> xcopy_plugin {
        let mut table = xcopy_plugin {
            queue_create: Some(create::<P>),
            queue_destroy: Some(destroy::<P>),
            submit: Some(submit::<P>),
            ..table::<P>(model)
        };
        if P::HAS_FD {
            table.queue_fd = Some(queue_fd::<P>);
            table.arm = Some(arm::<P>);
        }
        if P::CANCELS {
            table.cancel = Some(cancel::<P>);
        }
        table
    }
}

/// The entry point of a [`Queued`] plugin whose jobs end in `poll`.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init_polled<P: Queued>(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the caller's word.
    unsafe { answer(host, Table::<P>::POLLED) }
}

/// The entry point of a [`Queued`] plugin whose jobs end on threads of its own.
///
/// # Safety
/// As for [`init_polled`].
pub unsafe extern "C" fn init_threaded<P: Queued>(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the caller's word.
    unsafe { answer(host, Table::<P>::THREADED) }
}

/// What the core has as the plugin's queue.
struct Held<P: Queued> {
    /// Taken out when the plugin panicked: nothing can be said of its state.
    queue: RefCell<Option<P::Queue>>,
    sink: Arc<Sink>,
    state: *const State<P>,
}

impl<P: Queued> Held<P> {
    /// Calls the plugin with its queue. A panic fails what the queue holds.
    fn with(&self, call: impl FnOnce(&P, &mut P::Queue) -> c_int) -> c_int {
        self.sink.enter(|| {
            let answer = guard(None, || {
                let mut queue = self.queue.try_borrow_mut().ok()?;
                // SAFETY: the context is stopped after its queues are gone.
                let state = unsafe { &*self.state };
                queue.as_mut().map(|queue| call(&state.plugin, queue))
            });
            answer.unwrap_or_else(|| {
                self.sink.break_down();
                // Dropping the queue drops its jobs, which fails them.
                guard((), || {
                    if let Ok(mut queue) = self.queue.try_borrow_mut() {
                        drop(queue.take());
                    }
                });
                PANICKED
            })
        })
    }
}

/// # Safety
/// `queue` is NULL or what `create` of the same plugin made, alive for `'a`.
unsafe fn held<'a, P: Queued>(queue: *mut c_void) -> Option<&'a Held<P>> {
    // SAFETY: the caller's word.
    unsafe { queue.cast::<Held<P>>().as_ref() }
}

unsafe extern "C" fn create<P: Queued>(
    state: *mut c_void,
    host_queue: *mut xcopy_host_queue,
    options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the context's state; the core's options, during the call.
        let both = unsafe { state_of::<P>(state).zip(options.as_ref()) };
        let Some((state, options)) = both else {
            return -EINVAL;
        };
        if queue.is_null() || !(1..=65_536).contains(&options.window) {
            return -EINVAL;
        }
        let wanted = QueueOptions {
            window: options.window,
            pinned: options.flags & XCOPY_QUEUE_PINNED != 0,
        };
        match state.plugin.queue(wanted) {
            Ok(made) => {
                let held = Box::new(Held::<P> {
                    queue: RefCell::new(Some(made)),
                    sink: Arc::new(Sink::new(host_queue, options.window as usize)),
                    state,
                });
                // SAFETY: the core's place for the queue, not NULL.
                unsafe { *queue = Box::into_raw(held).cast() };
                0
            }
            Err(failure) => -failure.errno,
        }
    })
}

unsafe extern "C" fn destroy<P: Queued>(queue: *mut c_void) {
    guard((), || {
        if queue.is_null() {
            return;
        }
        // SAFETY: `create` made it, and destroy is the last call with it.
        let held = unsafe { Box::from_raw(queue.cast::<Held<P>>()) };
        // No command is in flight; what a plugin still holds is swallowed.
        held.sink.close();
        drop(held);
    });
}

unsafe extern "C" fn submit<P: Queued>(
    queue: *mut c_void,
    commands: *const *mut xcopy_cmd,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: a queue of this plugin's.
        let Some(held) = (unsafe { held::<P>(queue) }) else {
            return -EINVAL;
        };
        if commands.is_null() {
            return -EINVAL;
        }
        // Outside of the call: a job that the plugin panicked with was taken, and
        // ended by its Drop.
        let taken = Cell::new(0);
        let answer = held.with(|plugin, queue| {
            for index in 0..n as usize {
                // SAFETY: n pointers to commands, valid until they end.
                let Some(command) = NonNull::new(unsafe { *commands.add(index) }) else {
                    break;
                };
                // SAFETY: taken now, or given back below.
                let job = unsafe { Job::<P::Device>::new(command, held.sink.clone()) };
                let offered = job.id();
                taken.set(taken.get() + 1);
                // An older one that is given back was taken: dropping fails it.
                if let Err(job) = plugin.submit(queue, job)
                    && job.id() == offered
                {
                    job.give_back();
                    taken.set(taken.get() - 1);
                    break;
                }
            }
            plugin.submitted(queue);
            0
        });
        match taken.get() {
            0 => answer,
            taken => taken,
        }
    })
}

unsafe extern "C" fn poll<P: Queued>(queue: *mut c_void, max: u32) -> c_int {
    guard(PANICKED, || {
        // SAFETY: a queue of this plugin's.
        let Some(held) = (unsafe { held::<P>(queue) }) else {
            return -EINVAL;
        };
        held.with(|plugin, queue| {
            plugin.poll(queue, max as usize);
            0
        })
    })
}

unsafe extern "C" fn queue_fd<P: Queued>(queue: *mut c_void) -> c_int {
    guard(PANICKED, || {
        // SAFETY: a queue of this plugin's.
        let Some(held) = (unsafe { held::<P>(queue) }) else {
            return -EINVAL;
        };
        held.with(|plugin, queue| match plugin.fd(queue) {
            Some(fd) => fd.as_raw_fd(),
            None => -ENOTSUP,
        })
    })
}

unsafe extern "C" fn arm<P: Queued>(queue: *mut c_void, on: u32) -> c_int {
    guard(PANICKED, || {
        // SAFETY: a queue of this plugin's.
        let Some(held) = (unsafe { held::<P>(queue) }) else {
            return -EINVAL;
        };
        held.with(|plugin, queue| c_int::from(plugin.arm(queue, on != 0)))
    })
}

unsafe extern "C" fn cancel<P: Queued>(queue: *mut c_void, command: *mut xcopy_cmd) -> c_int {
    guard(PANICKED, || {
        // SAFETY: a queue of this plugin's.
        let Some(held) = (unsafe { held::<P>(queue) }) else {
            return -EINVAL;
        };
        held.with(|plugin, queue| {
            plugin.cancel(queue, JobId(command as usize));
            0
        })
    })
}
