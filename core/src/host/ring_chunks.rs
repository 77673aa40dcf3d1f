//! The memory of a ring: bounce buffers of the context, cut into chunks.

use super::{Buffer, Buffers};

/// Bytes of a chunk: two of them, one being read and one being written, stay
/// in a core's own cache.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a buffer that is asked for: the pool's smallest.
const SLAB_BYTES: usize = 1;

/// A chunk that is in use: buffer and place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    slab: u16,
    place: u16,
}

/// A bounce buffer and which of its chunks are free.
struct Slab {
    /// Only kept: it is used through `memory`.
    _buffer: Buffer,
    memory: *mut u8,
    free: u64,
    all: u64,
}

// SAFETY: the pointer is into the buffer that is kept beside it, which is Send.
unsafe impl Send for Slab {}

/// The chunks of a ring. What is not in use is given back to the context, so
/// that queues share one budget.
pub(super) struct Chunks {
    buffers: Buffers,
    slabs: Vec<Option<Slab>>,
    bytes: usize,
}

impl Chunks {
    pub(super) fn new(buffers: Buffers) -> Chunks {
        let bytes = CHUNK_BYTES.min(buffers.unit());
        Chunks {
            buffers,
            slabs: Vec::new(),
            bytes,
        }
    }

    /// Bytes of a chunk.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A chunk; `None` while the budget is used up.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        for (at, slab) in self.slabs.iter_mut().enumerate() {
            if let Some(slab) = slab
                && slab.free != 0
            {
                let place = slab.free.trailing_zeros();
                slab.free &= slab.free - 1;
                return Some(Chunk {
                    slab: at as u16,
                    place: place as u16,
                });
            }
        }
        let at = match self.slabs.iter().position(Option::is_none) {
            Some(at) => at,
            None if self.slabs.len() < usize::from(u16::MAX) => self.slabs.len(),
            None => return None,
        };
        let mut buffer = self.buffers.take(SLAB_BYTES)?;
        let chunks = (buffer.len() / self.bytes).clamp(1, 64) as u32;
        let all = u64::MAX >> (64 - chunks);
        let slab = Some(Slab {
            memory: buffer.as_mut_ptr(),
            _buffer: buffer,
            free: all & !1,
            all,
        });
        match self.slabs.get_mut(at) {
            Some(empty) => *empty = slab,
            None => self.slabs.push(slab),
        }
        Some(Chunk {
            slab: at as u16,
            place: 0,
        })
    }

    /// Gives a chunk back; a buffer with no chunk in use goes to the context.
    pub(super) fn give(&mut self, chunk: Chunk) {
        let Some(entry) = self.slabs.get_mut(usize::from(chunk.slab)) else {
            return;
        };
        if let Some(slab) = entry {
            slab.free |= 1 << chunk.place;
            if slab.free == slab.all {
                *entry = None;
            }
        }
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
