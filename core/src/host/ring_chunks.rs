//! The memory of a ring: bounce buffers of the context, cut into chunks.

use super::{Buffer, Buffers};
use io_uring::Submitter;

/// Bytes of a chunk: two of them, one being read and one being written, stay
/// in a core's own cache.
const CHUNK_BYTES: usize = 256 << 10;
/// Buffers that may be registered at once.
const REGISTERED_MAX: u32 = 64;

/// Registered buffers without a use that wait for one while the ring works.
const KEPT: usize = 4;

/// Memory of one piece: a part of a bounce buffer, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    slab: u16,
    place: u16,
    /// Bytes.
    pub(super) bytes: u32,
    /// Its number, if the kernel knows the buffer.
    pub(super) registered: Option<u16>,
}

/// A bounce buffer and which of its chunks are free.
struct Slab {
    /// Only kept: it is used through `memory`.
    buffer: Buffer,
    memory: *mut u8,
    free: u64,
    all: u64,
    registered: bool,
}

// SAFETY: the pointer is into the buffer that is kept beside it, which is Send.
unsafe impl Send for Slab {}

/// The chunks of a ring. What is not in use is given back to the context, so
/// that queues share one budget.
pub(super) struct Chunks {
    buffers: Buffers,
    slabs: Vec<Option<Slab>>,
    bytes: usize,
    /// Whether the ring has places for registered buffers.
    registers: bool,
}

impl Chunks {
    pub(super) fn new(buffers: Buffers, ring: &Submitter) -> Chunks {
        let bytes = CHUNK_BYTES.min(buffers.unit());
        Chunks {
            buffers,
            slabs: Vec::new(),
            bytes,
            registers: ring.register_buffers_sparse(REGISTERED_MAX).is_ok(),
        }
    }

    /// Bytes of a small chunk.
    pub(super) fn small(&self) -> usize {
        self.bytes
    }

    /// A small chunk; `None` while the budget is used up.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        let free = |slab: &Option<Slab>| slab.as_ref().is_some_and(|slab| slab.free != 0);
        let at = match self.slabs.iter().position(free) {
            Some(at) => at,
            None => self.add()?,
        };
        let slab = self.slabs.get_mut(at)?.as_mut()?;
        let place = slab.free.trailing_zeros();
        slab.free &= slab.free - 1;
        Some(Chunk {
            slab: at as u16,
            place: place as u16,
            bytes: self.bytes as u32,
            registered: slab.registered.then_some(at as u16),
        })
    }

    /// A whole buffer, told to the kernel if it takes it, so that its pages are
    /// not looked up for each operation.
    pub(super) fn take_whole(&mut self, ring: &Submitter) -> Option<Chunk> {
        let at = match self.slabs.iter().position(is_idle) {
            Some(at) => at,
            None => self.add()?,
        };
        let slab = self.slabs.get_mut(at)?.as_mut()?;
        slab.free = 0;
        let bytes = slab.buffer.len();
        if !slab.registered && self.registers && at < REGISTERED_MAX as usize {
            let part = libc::iovec {
                iov_base: slab.memory.cast(),
                iov_len: bytes,
            };
            // SAFETY: the memory stays until `give` takes it back from the ring.
            slab.registered =
                unsafe { ring.register_buffers_update(at as u32, &[part], None) }.is_ok();
        }
        Some(Chunk {
            slab: at as u16,
            place: 0,
            bytes: bytes as u32,
            registered: slab.registered.then_some(at as u16),
        })
    }

    /// One more buffer of the context, with all of it free.
    fn add(&mut self) -> Option<usize> {
        let at = match self.slabs.iter().position(Option::is_none) {
            Some(at) => at,
            None if self.slabs.len() < usize::from(u16::MAX) => self.slabs.len(),
            None => return None,
        };
        let mut buffer = self.buffers.take(1)?;
        let chunks = (buffer.len() / self.bytes).clamp(1, 64) as u32;
        let all = u64::MAX >> (64 - chunks);
        let slab = Slab {
            memory: buffer.as_mut_ptr(),
            buffer,
            free: all,
            all,
            registered: false,
        };
        match self.slabs.get_mut(at) {
            Some(empty) => *empty = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        Some(at)
    }

    /// Gives a chunk back. A buffer with no chunk in use goes to the context,
    /// but a few that are registered wait for the next piece.
    pub(super) fn give(&mut self, chunk: Chunk, ring: &Submitter) {
        let Some(Some(slab)) = self.slabs.get_mut(usize::from(chunk.slab)) else {
            return;
        };
        slab.free = if chunk.bytes as usize > self.bytes {
            slab.all
        } else {
            slab.free | 1 << chunk.place
        };
        if slab.free != slab.all {
            return;
        }
        let registered = slab.registered;
        let kept = registered && self.slabs.iter().filter(|slab| is_idle(slab)).count() <= KEPT;
        if !kept {
            self.release(usize::from(chunk.slab), ring);
        }
    }

    /// Gives back all that is not in use, when the ring has nothing to do.
    pub(super) fn rest(&mut self, ring: &Submitter) {
        while let Some(at) = self.slabs.iter().position(is_idle) {
            self.release(at, ring);
        }
    }

    fn release(&mut self, at: usize, ring: &Submitter) {
        let Some(entry) = self.slabs.get_mut(at) else {
            return;
        };
        if entry.as_ref().is_some_and(|slab| slab.registered) {
            let none = libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            };
            // SAFETY: an empty place; nothing is read through it. Should it fail,
            // pinned pages hurt nobody, and the next buffer here replaces them.
            let _ = unsafe { ring.register_buffers_update(at as u32, &[none], None) };
        }
        *entry = None;
    }

    /// Where a chunk is. A pointer and not a slice: the kernel may be at work in
    /// other chunks of the same buffer.
    pub(super) fn memory(&self, chunk: Chunk) -> *mut u8 {
        match self.slabs.get(usize::from(chunk.slab)) {
            Some(Some(slab)) => slab
                .memory
                .wrapping_add(usize::from(chunk.place) * self.bytes),
            _ => std::ptr::null_mut(),
        }
    }

    /// Leaves all memory to the kernel, for good.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.slabs));
    }
}

/// Whether a buffer is here and no chunk of it in use.
fn is_idle(slab: &Option<Slab>) -> bool {
    slab.as_ref().is_some_and(|slab| slab.free == slab.all)
}
