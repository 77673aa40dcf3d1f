//! Size and depth of one method's commands on one pair: small at first, larger
//! after success, since the best size differs from array to array.

use xcopy_abi::xcopy_limits;

/// Bytes of the first command.
const CHUNK_START: u64 = 1 << 20;
/// Bytes of a command at most, where the method states no preference.
const CHUNK_TOP: u64 = 16 << 20;
/// How many times larger the next size is.
const GROWTH: u64 = 2;
/// The same of a method that takes one command at once: it has a pause between any
/// two.
const GROWTH_ALONE: u64 = 4;
/// Commands at once at first, where the method states no concurrency.
const DEPTH_START: u32 = 4;
/// The same for the host's own copy, which no array has to keep up with.
const DEPTH_START_HOST: u32 = 8;
/// Commands at once at most, where the method states no concurrency.
const DEPTH_TOP: u32 = 64;

// The remembered word: bit 63 set, depth, ceiling and chunk. Sizes are short
// floating-point numbers, rounded down.
const REMEMBERED: u64 = 1 << 63;
const DEPTH_SHIFT: u32 = 46;
const CEILING_SHIFT: u32 = 23;
const DEPTH_MASK: u64 = 0xffff;
const SIZE_MASK: u64 = (1 << 23) - 1;
const MANTISSA_BITS: u32 = 17;

/// What was learnt of one method on one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapt {
    chunk: u64,
    /// Where growth ends.
    top: u64,
    /// What the device has shown to refuse is above; u64::MAX if nothing was.
    ceiling: u64,
    /// Within the method's largest command; 0 if not forced.
    forced_chunk: u64,
    growth: u64,
    depth: u32,
    depth_top: u32,
    /// 0 if not forced.
    forced_depth: u32,
}

fn stated(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

impl Adapt {
    /// The start for a pair of which nothing is known. `host` is true for the
    /// host's own copy; forced values are the caller's, 0 for none.
    pub fn new(limits: &xcopy_limits, host: bool, forced_chunk: u64, forced_depth: u32) -> Self {
        let max = stated(limits.max_bytes);
        let top = match limits.preferred_bytes {
            0 => CHUNK_TOP,
            preferred => preferred,
        };
        let top = top.min(max);
        let (depth, depth_top) = match (limits.max_concurrent, host) {
            (0, false) => (DEPTH_START, DEPTH_TOP),
            (0, true) => (DEPTH_START_HOST, DEPTH_TOP),
            (stated, _) => (stated, stated),
        };
        Adapt {
            chunk: CHUNK_START.min(top),
            top,
            ceiling: u64::MAX,
            forced_chunk: forced_chunk.min(max),
            growth: match (limits.max_concurrent, host) {
                (1, false) => GROWTH_ALONE,
                _ => GROWTH,
            },
            depth,
            depth_top,
            forced_depth,
        }
    }

    /// Bytes of the next command at most; never 0.
    #[inline]
    pub fn chunk(&self) -> u64 {
        let wanted = if self.forced_chunk != 0 {
            self.forced_chunk
        } else {
            self.chunk
        };
        wanted.min(self.ceiling)
    }

    /// Bytes of a command at most where pieces have a size of their own, as tokens
    /// do: what the caller forced and the device did not refuse; 0 is no limit.
    #[inline]
    pub fn most(&self) -> u64 {
        match (self.forced_chunk, self.ceiling) {
            (0, u64::MAX) => 0,
            (0, ceiling) => ceiling,
            (forced, ceiling) => forced.min(ceiling),
        }
    }

    /// Commands at once at most; never 0.
    #[inline]
    pub fn depth(&self) -> u32 {
        if self.forced_depth != 0 {
            self.forced_depth
        } else {
            self.depth
        }
    }

    /// A command of `bytes` succeeded.
    #[inline]
    pub fn succeeded(&mut self, bytes: u64) {
        // More than half is full size: a chunk cut down to whole units still
        // is, commands sent before the last growth are not.
        if self.forced_chunk == 0 && bytes > self.chunk / 2 && self.chunk < self.top {
            let next = self.chunk.saturating_mul(self.growth);
            self.chunk = next.min(self.top).min(self.ceiling);
        }
        if self.forced_depth == 0 && self.depth < self.depth_top {
            self.depth += 1;
        }
    }

    /// The device had no room for a command.
    pub fn busy(&mut self) {
        if self.forced_depth == 0 {
            self.depth = (self.depth / 2).max(1);
        }
    }

    /// The device refused a command of `bytes` for its size: no command is that
    /// large again, forced or not. Refusals of commands that were sent before
    /// the first of them was known change nothing.
    pub fn too_large(&mut self, bytes: u64) {
        let mut chunk = self.chunk();
        while chunk >= bytes && chunk > 1 {
            chunk /= 2;
        }
        self.ceiling = self.ceiling.min(chunk.max(bytes / 2));
        self.chunk = self.chunk.min(self.ceiling);
    }

    /// What was learnt as one word, never 0; forced values are no part of it.
    pub fn pack(&self) -> u64 {
        REMEMBERED
            | (u64::from(self.depth).min(DEPTH_MASK) << DEPTH_SHIFT)
            | (pack_size(self.ceiling) << CEILING_SHIFT)
            | pack_size(self.chunk)
    }

    /// [`Adapt::new`], continued from a word of [`Adapt::pack`]; 0 is nothing
    /// learnt. The limits may have changed since and are kept.
    pub fn unpack(
        word: u64,
        limits: &xcopy_limits,
        host: bool,
        forced_chunk: u64,
        forced_depth: u32,
    ) -> Self {
        let mut adapt = Self::new(limits, host, forced_chunk, forced_depth);
        if word & REMEMBERED != 0 {
            adapt.ceiling = unpack_size((word >> CEILING_SHIFT) & SIZE_MASK).max(1);
            adapt.chunk = unpack_size(word & SIZE_MASK).clamp(1, adapt.top.min(adapt.ceiling));
            let depth = ((word >> DEPTH_SHIFT) & DEPTH_MASK) as u32;
            adapt.depth = depth.clamp(1, adapt.depth_top);
        }
        adapt
    }
}

fn pack_size(size: u64) -> u64 {
    let exponent = (u64::BITS - size.leading_zeros()).saturating_sub(MANTISSA_BITS);
    (u64::from(exponent) << MANTISSA_BITS) | (size >> exponent)
}

fn unpack_size(word: u64) -> u64 {
    let exponent = (word >> MANTISSA_BITS) as u32;
    (word & ((1 << MANTISSA_BITS) - 1))
        .checked_shl(exponent)
        .unwrap_or(0)
}
