//! The straight way of one pair: which requests it takes, and what they need to
//! know, in two lines of memory.

use super::cell::NO_WAY;
use super::devices::Device;
use super::pairs::{Pair, PairIndex};
use super::plugin_queue::PluginQueue;
use super::shared::PairCount;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Flags that change nothing on the straight way.
const STRAIGHT_FLAGS: u32 = XCOPY_REQ_NO_FALLBACK
    | XCOPY_REQ_NO_COHERENCE
    | XCOPY_REQ_DISJOINT
    | XCOPY_REQ_KEEP_HOLES
    | XCOPY_REQ_SET_HOST_BEHAVIOR;
/// `Way.epoch` of a pair that has no straight way.
pub(super) const NEVER: u64 = u64::MAX;
/// `Way.epoch` of a way that was not compared with its devices yet.
const STALE: u64 = 0;

/// What a straight request of one pair needs to know.
#[repr(C, align(64))]
pub struct Way {
    /// Both handles, as in `PairIndex`.
    pub(super) word: u64,
    /// `devices::changes` when the devices were last looked at, or NEVER.
    pub(super) epoch: u64,
    /// Bytes of the source.
    pub(super) src_size: u64,
    /// Bytes of the destination.
    pub(super) dst_size: u64,
    /// Bytes of a command at most; no more than both sizes once looked at.
    pub(super) max_bytes: u64,
    /// Bits that source offsets must not have.
    pub(super) src_mask: u32,
    /// Bits that destination offsets must not have.
    pub(super) dst_mask: u32,
    /// Bits that lengths must not have.
    pub(super) length_mask: u32,
    /// The method, as a mask.
    pub(super) method: u32,
    /// Bits that a request's mask must not have: of no method.
    pub(super) no_methods: u32,
    /// Bits of operation, reserved and flags that must be those of a plain COPY.
    pub(super) plain: u64,
    /// Operation and method of the command.
    pub(super) order: u64,
    /// The plugin's handles.
    pub(super) src: *mut core::ffi::c_void,
    pub(super) dst: *mut core::ffi::c_void,
    /// Commands, method and reason of the completion.
    pub(super) stamp: (u32, u16, u16),
    /// XCOPY_CPL_ flags of the completion.
    pub(super) outcome: u32,
    /// Index of the plugin queue.
    pub(super) plugin: u16,
    /// Requests in flight.
    pub(super) count: Arc<PairCount>,
}

// What a request reads of its pair is two lines.
const _: () = assert!(size_of::<Way>() == 128);

impl Way {
    /// The way of a pair that has none.
    pub(super) fn none(word: u64, count: Arc<PairCount>) -> Way {
        Way {
            word,
            epoch: NEVER,
            src_size: 0,
            dst_size: 0,
            max_bytes: 0,
            src_mask: 0,
            dst_mask: 0,
            length_mask: 0,
            method: 0,
            no_methods: 0,
            plain: 0,
            order: 0,
            src: std::ptr::null_mut(),
            dst: std::ptr::null_mut(),
            stamp: (0, 0, 0),
            outcome: 0,
            plugin: NO_WAY,
            count,
        }
    }

    /// The straight way of a pair, if its best method allows one on a queue of
    /// `window` commands.
    pub(super) fn of(
        pair: &Pair,
        plugins: &[PluginQueue],
        allowed: u32,
        known: u32,
        window: u32,
    ) -> Option<Way> {
        let (src, dst) = (pair.src.as_ref()?, pair.dst.as_ref()?);
        let best = pair.methods.first()?;
        let plugin = plugins.get(best.plugin as usize)?;
        let polled = matches!(
            plugin.plugin.model(),
            XCOPY_MODEL_POLLED | XCOPY_MODEL_AFFINE | XCOPY_MODEL_THREADED
        );
        let special = XCOPY_METHOD_BY_NAME | XCOPY_METHOD_SERIAL_DST | XCOPY_METHOD_NEEDS_FEATURE;
        let plain = best.flags & special == 0
            && (best.flags & XCOPY_METHOD_BYPASSES_CACHE == 0
                || (src.kind == XCOPY_KIND_NATIVE && dst.kind == XCOPY_KIND_NATIVE));
        if !polled
            || !plain
            || best.rests.is_some()
            // The window alone bounds it: nobody counts the method's commands.
            || best.adapt.depth() < window
            || pair.same_storage.is_some()
            || allowed >> best.id & 1 == 0
            || plugin.plugin.table().commands & XCOPY_CAN_COPY == 0
            || src.flags & XCOPY_OPEN_READ == 0
            || dst.flags & XCOPY_OPEN_WRITE == 0
        {
            return None;
        }
        let limits = &best.limits;
        let block = |device: &Arc<Device>| match device.kind {
            XCOPY_KIND_NATIVE => device.block_size.load(Ordering::Relaxed),
            _ => 1,
        };
        let mask = |granularity: u32, block: u32| {
            let (granularity, block) = (granularity.max(1), block.max(1));
            let both = granularity.is_power_of_two() && block.is_power_of_two();
            both.then(|| granularity.max(block) - 1)
        };
        let stated = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let offloads = best.offloads();
        let mut odd = u64::from(!STRAIGHT_FLAGS) << 32 | u64::from(u32::MAX);
        if !offloads {
            odd |= u64::from(XCOPY_REQ_NO_FALLBACK) << 32;
        }
        Some(Way {
            epoch: STALE,
            max_bytes: stated(limits.max_bytes)
                .min(stated(limits.max_range_bytes))
                .min(best.adapt.chunk()),
            src_mask: mask(limits.src_granularity, block(src))?,
            dst_mask: mask(limits.dst_granularity, block(dst))?,
            length_mask: mask(limits.length_granularity, block(src).max(block(dst)))?,
            method: 1u32.checked_shl(u32::from(best.id))?,
            no_methods: !known,
            plain: odd,
            order: u64::from(XCOPY_CMD_COPY) | u64::from(best.id) << 16,
            src: best.src.0,
            dst: best.dst.0,
            stamp: (1, best.id, best.why_not_better),
            outcome: if offloads {
                XCOPY_CPL_OFFLOADED
            } else {
                XCOPY_CPL_EMULATED
            },
            plugin: u16::try_from(best.plugin).ok().filter(|p| *p != NO_WAY)?,
            ..Way::none(PairIndex::word(pair.key.0, pair.key.1), pair.count.clone())
        })
    }

    /// Whether the request is one for the straight way.
    #[inline(always)]
    pub(super) fn takes(&self, request: &xcopy_request) -> bool {
        let words = u64::from(request.op)
            | u64::from(request.reserved) << 16
            | u64::from(request.flags) << 32;
        let (length, methods) = (request.length, request.methods);
        let misaligned = request.src_offset & u64::from(self.src_mask)
            | request.dst_offset & u64::from(self.dst_mask)
            | length & u64::from(self.length_mask);
        // Length 0 wraps round and is larger than any maximum, which in turn is at
        // most the sizes.
        (words & self.plain) == u64::from(XCOPY_OP_COPY)
            && request.timeout_ms == 0
            && request.ext.is_null()
            && (methods == 0 || (methods & self.method != 0 && methods & self.no_methods == 0))
            && length.wrapping_sub(1) < self.max_bytes
            && misaligned == 0
            && request.src_offset <= self.src_size.wrapping_sub(length)
            && request.dst_offset <= self.dst_size.wrapping_sub(length)
    }

    /// The completion of a request of so many bytes that ended well.
    #[inline(always)]
    pub(super) fn completion(&self, user_data: u64, bytes: u64) -> xcopy_completion {
        let offloads = self.outcome == XCOPY_CPL_OFFLOADED;
        xcopy_completion {
            user_data,
            res: 0,
            flags: self.outcome,
            bytes_done: bytes,
            bytes_copied: bytes,
            bytes_offloaded: if offloads { bytes } else { 0 },
            detail: 0,
            commands: self.stamp.0,
            method: self.stamp.1,
            reason: self.stamp.2,
            reserved: 0,
        }
    }
}
