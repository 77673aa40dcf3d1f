//! The straight way of one pair: which requests it takes, and what they need to
//! know, in two lines of memory.

use super::devices::{Device, changes};
use super::host_queue::HostQueue;
use super::pairs::{Pair, PairIndex};
use super::plugin_queue::PluginQueue;
use super::shared::NO_PLUGIN;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};
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

/// What a straight request of one pair needs to know: a line to submit it, a line
/// to end it, and what few look at.
#[repr(C, align(64))]
pub struct Way {
    /// Both handles, as in `PairIndex`.
    pub(super) word: u64,
    /// `devices::changes` when the devices were last looked at, or NEVER.
    pub(super) epoch: u64,
    /// Bytes of a command at most, no more than both sizes once these were looked
    /// at; 0 of no way.
    pub(super) max_bytes: u64,
    /// Bytes of the source.
    pub(super) src_size: u64,
    /// Bytes of the destination.
    pub(super) dst_size: u64,
    /// Bits that neither offsets nor lengths have in most requests.
    mask: u64,
    /// The plugin queue; NULL of no way.
    pub(super) host: *const HostQueue,
    /// Its index.
    pub(super) plugin: u32,
    /// The method, as a mask.
    methods: u32,
    /// Most commands begin so, after the cookie.
    order: Order,
    /// Result and XCOPY_CPL_ flags of the completion.
    verdict: [u32; 2],
    /// Commands, method and reason of the completion.
    stamp: Stamp,
    /// All bits if bytes count as offloaded, else none.
    offloaded: u64,
    /// Bits of operation, reserved and flags that must be those of a plain COPY.
    plain: u64,
    /// Index of the pair.
    pub(super) pair: u32,
    /// The method's place in the plugin's table.
    method_index: u32,
    /// Bits that source offsets, destination offsets and lengths must not have.
    masks: [u32; 3],
    /// Bits that a request's mask must not have: of no method.
    no_methods: u32,
}

/// Part of a command, as it lies there: operation, method, flags of a plain request,
/// the plugin's handles.
#[repr(C)]
#[derive(Clone, Copy)]
struct Order {
    op: u16,
    method: u16,
    flags: u32,
    src: *mut c_void,
    dst: *mut c_void,
}

/// Part of a completion.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub(super) struct Stamp {
    commands: u32,
    pub(super) method: u16,
    pub(super) reason: u16,
}

// What a request reads of its pair is two lines.
const _: () = assert!(std::mem::offset_of!(Way, order) == 64);
const _: () = assert!(std::mem::offset_of!(Way, masks) == 128);

/// What a straight request asks for besides its bytes.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// XCOPY_CMD_ flags of the command.
    pub(super) order: u32,
    /// Its own flags (low half) and methods.
    pub(super) choice: u64,
}

impl Way {
    /// The way of a pair that has none.
    pub(super) fn none(pair: u32, word: u64) -> Way {
        Way {
            word,
            epoch: NEVER,
            max_bytes: 0,
            src_size: 0,
            dst_size: 0,
            mask: 0,
            host: ptr::null(),
            plugin: NO_PLUGIN,
            methods: 0,
            order: Order {
                op: XCOPY_CMD_COPY,
                method: 0,
                flags: XCOPY_CMD_OFFLOAD_ONLY,
                src: ptr::null_mut(),
                dst: ptr::null_mut(),
            },
            verdict: [0; 2],
            stamp: Stamp::default(),
            offloaded: 0,
            plain: 0,
            pair,
            method_index: 0,
            masks: [0; 3],
            no_methods: 0,
        }
    }

    /// The straight way of a pair, if its best method allows one on a queue of
    /// `window` commands; of the methods that are allowed and of those that exist.
    pub(super) fn of(
        index: u32,
        pair: &Pair,
        plugins: &[PluginQueue],
        (allowed, known): (u32, u32),
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
        let masks = [
            mask(limits.src_granularity, block(src))?,
            mask(limits.dst_granularity, block(dst))?,
            mask(limits.length_granularity, block(src).max(block(dst)))?,
        ];
        let way = Way::none(index, PairIndex::word(pair.key.0, pair.key.1));
        Some(Way {
            epoch: STALE,
            max_bytes: stated(limits.max_bytes)
                .min(stated(limits.max_range_bytes))
                .min(best.adapt.chunk()),
            mask: u64::from(masks[0] | masks[1] | masks[2]),
            order: Order {
                method: best.id,
                src: best.src.0,
                dst: best.dst.0,
                ..way.order
            },
            methods: 1u32.checked_shl(u32::from(best.id))?,
            host: plugin.host(),
            plugin: best.plugin,
            verdict: [
                0,
                if offloads {
                    XCOPY_CPL_OFFLOADED
                } else {
                    XCOPY_CPL_EMULATED
                },
            ],
            stamp: Stamp {
                commands: 1,
                method: best.id,
                reason: best.why_not_better,
            },
            offloaded: if offloads { u64::MAX } else { 0 },
            plain: odd,
            method_index: plugin.plugin.index_of(best.id),
            masks,
            no_methods: !known,
            ..way
        })
    }

    /// Whether the request is one for the straight way that names nothing and asks for
    /// nothing, as well aligned as offsets and length of this pair can have to be.
    #[inline(always)]
    pub(super) fn takes_plain(&self, request: &xcopy_request, offsets: (u64, u64)) -> bool {
        let odd = u32::from(request.op ^ XCOPY_OP_COPY)
            | u32::from(request.reserved)
            | request.flags
            | request.methods
            | request.timeout_ms;
        let extent = offsets.0 | offsets.1 | request.length;
        extent & self.mask == 0
            && self.holds(offsets, request.length)
            && u64::from(odd) | request.ext.addr() as u64 == 0
    }

    /// What the request asks for, if it is one for the straight way.
    pub(super) fn takes(&self, request: &xcopy_request) -> Option<Wish> {
        let misaligned = request.src_offset & u64::from(self.masks[0])
            | request.dst_offset & u64::from(self.masks[1])
            | request.length & u64::from(self.masks[2]);
        let offsets = (request.src_offset, request.dst_offset);
        let fits = misaligned == 0 && self.holds(offsets, request.length);
        if fits { self.grants(request) } else { None }
    }

    /// Whether a request is within the devices and one command's bytes.
    #[inline(always)]
    fn holds(&self, (src_offset, dst_offset): (u64, u64), length: u64) -> bool {
        // Length 0 wraps round and is larger than any maximum, which in turn is at
        // most the sizes.
        length.wrapping_sub(1) < self.max_bytes
            && src_offset <= self.src_size.wrapping_sub(length)
            && dst_offset <= self.dst_size.wrapping_sub(length)
    }

    /// What a request asks for, if it is nothing that only the other way knows.
    fn grants(&self, request: &xcopy_request) -> Option<Wish> {
        let words = u64::from(request.op)
            | u64::from(request.reserved) << 16
            | u64::from(request.flags) << 32;
        let (flags, methods) = (request.flags, request.methods);
        let named = methods & self.methods != 0 && methods & self.no_methods == 0;
        let plain = words & self.plain == u64::from(XCOPY_OP_COPY)
            && request.timeout_ms == 0
            && request.ext.is_null()
            && (methods == 0 || named);
        // NO_FALLBACK is bit 0, OFFLOAD_ONLY is bit 3; so is a method not named.
        let order = flags >> 3 & XCOPY_CMD_SET_HOST_BEHAVIOR
            | (flags | u32::from(methods == 0)) << 3 & XCOPY_CMD_OFFLOAD_ONLY;
        plain.then_some(Wish {
            order,
            choice: u64::from(flags) | u64::from(methods) << 32,
        })
    }

    /// Whether the devices are as they were when they were last looked at. To be
    /// asked once other threads see the request.
    #[inline(always)]
    pub(super) fn is_current(&self) -> bool {
        // Seen first, then the look at the handles; see `barrier_all_threads`.
        compiler_fence(Ordering::SeqCst);
        changes() == self.epoch
    }

    /// Puts down what of a command depends on the pair; flags are those of a request
    /// that asks for nothing.
    ///
    /// # Safety
    /// Nobody else touches the command.
    #[inline(always)]
    pub(super) unsafe fn order(&self, command: *mut xcopy_cmd) {
        // SAFETY: the caller's word; the parts lie there as in `Order`.
        unsafe {
            let order = (&raw mut (*command).op).cast::<Order>();
            ptr::copy_nonoverlapping(&raw const self.order, order, 1);
            (*command).method_index = self.method_index;
        }
    }

    /// Writes the completion of a request of so many bytes that ended well; the
    /// bytes that count as offloaded.
    ///
    /// # Safety
    /// `at` can be written.
    #[inline(always)]
    pub(super) unsafe fn complete(
        &self,
        at: *mut xcopy_completion,
        user_data: u64,
        bytes: u64,
    ) -> u64 {
        let offloaded = bytes & self.offloaded;
        // SAFETY: the caller's word; result and flags follow each other, so do
        // commands, method and reason.
        unsafe {
            (*at).user_data = user_data;
            let res = (&raw mut (*at).res).cast::<[u32; 2]>();
            res.write(self.verdict);
            (*at).bytes_done = bytes;
            (*at).bytes_copied = bytes;
            (*at).bytes_offloaded = offloaded;
            (*at).detail = 0;
            (&raw mut (*at).commands).cast::<Stamp>().write(self.stamp);
            (*at).reserved = 0;
        }
        offloaded
    }

    /// What the completion says of method and reason.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether bytes count as offloaded.
    pub(super) fn offloads(&self) -> bool {
        self.offloaded != 0
    }
}

// What is written with one store above lies together.
const _: () = {
    use std::mem::offset_of;
    let op = offset_of!(xcopy_cmd, op);
    assert!(op % align_of::<Order>() == 0);
    assert!(offset_of!(xcopy_cmd, method) == op + offset_of!(Order, method));
    assert!(offset_of!(xcopy_cmd, flags) == op + offset_of!(Order, flags));
    assert!(offset_of!(xcopy_cmd, src) == op + offset_of!(Order, src));
    assert!(offset_of!(xcopy_cmd, dst) == op + offset_of!(Order, dst));
    assert!(offset_of!(xcopy_completion, flags) == offset_of!(xcopy_completion, res) + 4);
    let commands = offset_of!(xcopy_completion, commands);
    assert!(offset_of!(xcopy_completion, method) == commands + 4);
    assert!(offset_of!(xcopy_completion, reason) == commands + 6);
    assert!(commands % align_of::<Stamp>() == 0);
};
