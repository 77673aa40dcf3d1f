//! Bounce buffers from the context's allocator, within a budget.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xcopy_abi::{xcopy_alloc_fn, xcopy_free_fn};

/// Alignment of every buffer: enough for O_DIRECT everywhere.
const ALIGN: usize = 4096;
/// The sizes are the smallest one times 1, 2, 4, 8 and 16.
const CLASSES: usize = 5;
/// Smallest size if the caller states none.
const DEFAULT_SIZE: usize = 1 << 20;

/// Why there is no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Others are in use: come back when one was dropped.
    Now,
    /// Nothing is in use whose end could help: out of memory.
    Memory,
}

/// The bounce buffers of a context. Cheap to clone; a clone is the same pool.
#[derive(Clone)]
pub struct Buffers {
    shared: Arc<Shared>,
}

struct Shared {
    alloc: xcopy_alloc_fn,
    free: xcopy_free_fn,
    ctx: *mut c_void,
    /// The allocator's memory is zeroed.
    zeroed: bool,
    /// Bytes of the smallest size.
    unit: usize,
    budget: usize,
    state: Mutex<State>,
}

// SAFETY: the allocator's contract (xcopy_alloc_fn) is that it may be called
// from any thread with its context; all else is behind the mutex.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[derive(Default)]
struct State {
    /// Bytes taken from the allocator, in use or in the lists.
    held: usize,
    /// Bytes in use, and those that are being asked of the allocator.
    in_use: usize,
    /// The latter alone.
    asked: usize,
    /// The allocator is not to be called any more.
    closed: bool,
    idle: [Vec<Memory>; CLASSES],
}

/// Memory from the allocator, without an owner.
struct Memory(NonNull<u8>);

// SAFETY: a buffer's memory belongs to whoever holds this value, on any thread.
unsafe impl Send for Memory {}
// SAFETY: shared references give no access to the memory.
unsafe impl Sync for Memory {}

impl Buffers {
    /// A pool over an allocator; both functions `None` is anonymous pages. `unit` is the
    /// smallest size, rounded up to pages; 0 is 1 MiB. Where the budget is less, the
    /// smallest size is what it allows, a page at least.
    pub fn new(
        alloc: xcopy_alloc_fn,
        free: xcopy_free_fn,
        ctx: *mut c_void,
        unit: usize,
        budget: u64,
    ) -> Self {
        let unit = match unit {
            0 => DEFAULT_SIZE,
            unit => unit
                .min(usize::MAX >> (CLASSES + 1))
                .next_multiple_of(ALIGN),
        };
        let budget = usize::try_from(budget).unwrap_or(usize::MAX).max(ALIGN);
        let unit = match unit <= budget {
            true => unit,
            false => budget - budget % ALIGN,
        };
        // One without the other would mix two allocators.
        let zeroed = alloc.is_none() || free.is_none();
        let (alloc, free) = if zeroed {
            (Some(default_alloc as _), Some(default_free as _))
        } else {
            (alloc, free)
        };
        Buffers {
            shared: Arc::new(Shared {
                alloc,
                free,
                ctx,
                zeroed,
                unit,
                budget,
                state: Mutex::default(),
            }),
        }
    }

    /// The largest size that `take` can ever give.
    pub fn max_size(&self) -> usize {
        (0..CLASSES)
            .map(|class| self.shared.unit << class)
            .rfind(|size| *size <= self.shared.budget)
            .unwrap_or(self.shared.unit)
    }

    /// The smallest size.
    pub fn unit(&self) -> usize {
        self.shared.unit
    }

    /// Bytes in use now.
    pub fn in_use(&self) -> usize {
        self.shared.lock().in_use
    }

    /// A buffer of at least `size` bytes, or None as `try_take`.
    pub fn take(&self, size: usize) -> Option<Buffer> {
        self.try_take(size).ok()
    }

    /// A buffer of at least `size` bytes, `max_size` at most.
    pub fn try_take(&self, size: usize) -> Result<Buffer, Short> {
        let class = (0..CLASSES).find(|class| self.shared.unit << class >= size);
        let class = class.ok_or(Short::Memory)?;
        let length = self.shared.unit << class;
        let mut state = self.shared.lock();
        if state.closed || length > self.shared.budget {
            return Err(Short::Memory);
        }
        let found = state.idle[class].pop();
        if found.is_none() {
            if !self.shared.reserve(&mut state, length) {
                return Err(Short::Now);
            }
            state.asked += length;
        }
        state.in_use += length;
        drop(state);
        // Outside the lock: large allocations are slow.
        let memory = match found {
            Some(memory) => memory,
            None => {
                let memory = self.shared.obtain(length);
                let mut state = self.shared.lock();
                state.asked -= length;
                match memory {
                    Some(memory) => memory,
                    None => return Err(self.shared.do_without(&mut state, length)),
                }
            }
        };
        Ok(Buffer {
            memory: Some(memory),
            class,
            secret: 0,
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Buffers {
    /// Gives back what is not in use; from then on the allocator is not called
    /// any more. Buffers still in use are never given back.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.empty(&mut state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `length` more bytes as held, freeing idle buffers of other sizes
    /// if need be; under the lock, so that the budget holds at every moment.
    fn reserve(&self, state: &mut State, length: usize) -> bool {
        if length > self.budget || state.in_use > self.budget - length {
            return false;
        }
        for class in (0..CLASSES).rev() {
            while state.held > self.budget - length {
                let Some(memory) = state.idle[class].pop() else {
                    break;
                };
                state.held -= self.unit << class;
                self.release(memory, self.unit << class);
            }
        }
        state.held += length;
        true
    }

    /// The allocator has nothing: what idles goes back to it.
    fn do_without(&self, state: &mut State, length: usize) -> Short {
        state.in_use -= length;
        state.held -= length;
        let idle = state.held > state.in_use;
        self.empty(state);
        match idle || state.in_use > state.asked {
            true => Short::Now,
            false => Short::Memory,
        }
    }

    /// Gives back what is not in use.
    fn empty(&self, state: &mut State) {
        for (class, list) in std::mem::take(&mut state.idle).into_iter().enumerate() {
            for memory in list {
                state.held -= self.unit << class;
                self.release(memory, self.unit << class);
            }
        }
    }

    fn obtain(&self, length: usize) -> Option<Memory> {
        let alloc = self.alloc?;
        // SAFETY: the allocator is called as xcopy_alloc_fn says.
        let memory = NonNull::new(unsafe { alloc(self.ctx, length, ALIGN) })?.cast::<u8>();
        if !(memory.as_ptr() as usize).is_multiple_of(ALIGN) {
            self.release(Memory(memory), length);
            return None;
        }
        if !self.zeroed {
            // SAFETY: the allocator gave `length` bytes to us alone. They may be
            // uninitialised, which a slice must not be.
            unsafe { memory.as_ptr().write_bytes(0, length) };
        }
        Some(Memory(memory))
    }

    fn release(&self, memory: Memory, length: usize) {
        if let Some(free) = self.free {
            // SAFETY: it came from `alloc` with this size and alignment, and
            // its only owner is given up here.
            unsafe { free(self.ctx, memory.0.as_ptr().cast(), length, ALIGN) };
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut state = self.lock();
        if !state.closed {
            self.empty(&mut state);
        }
    }
}

/// A bounce buffer; goes back to its pool when dropped. It keeps what was in it,
/// unless that is a secret.
pub struct Buffer {
    memory: Option<Memory>,
    class: usize,
    /// Bytes from the first on that are overwritten before anybody else gets it.
    secret: usize,
    shared: Arc<Shared>,
}

/// Overwrites `bytes` in a way that the compiler must keep.
pub fn wipe(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: a valid, exclusive reference to one byte.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

impl Buffer {
    /// Its first `bytes` hold a secret from now on: they are wiped when it is dropped.
    pub fn keep_secret(&mut self, bytes: usize) {
        self.secret = bytes;
    }

    /// Whether it holds a secret.
    pub fn is_secret(&self) -> bool {
        self.secret > 0
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            // SAFETY: this value owns the initialised bytes of its class's
            // size; the borrow of self keeps them from being written.
            Some(memory) => unsafe {
                std::slice::from_raw_parts(memory.0.as_ptr(), self.shared.unit << self.class)
            },
            None => &[],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &self.memory {
            // SAFETY: as for deref, and the borrow of self is the only one.
            Some(memory) => unsafe {
                std::slice::from_raw_parts_mut(memory.0.as_ptr(), self.shared.unit << self.class)
            },
            None => &mut [],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let secret = self.secret.min(self.len());
        if secret > 0 {
            wipe(&mut self[..secret]);
        }
        if let Some(memory) = self.memory.take() {
            let mut state = self.shared.lock();
            state.in_use -= self.shared.unit << self.class;
            state.idle[self.class].push(memory);
        }
    }
}

/// Pages that nobody touches cost nothing: a large buffer for a small copy.
unsafe extern "C" fn default_alloc(_: *mut c_void, size: usize, _: usize) -> *mut c_void {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, at a place that the kernel chooses.
    match unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) } {
        libc::MAP_FAILED => std::ptr::null_mut(),
        memory => memory,
    }
}

unsafe extern "C" fn default_free(_: *mut c_void, memory: *mut c_void, size: usize, _: usize) {
    // SAFETY: a mapping of default_alloc's with its size, given up here.
    unsafe { libc::munmap(memory, size) };
}
