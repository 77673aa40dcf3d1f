//! The owner's part of a request in flight.

use super::shared::SlotFace;
use crate::plan::{Contest, Cursor, Hull, Scan, Source};
use std::sync::Arc;
use xcopy_abi::*;

/// Where a request is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Not in use.
    Free,
    /// Waits for its pair to be probed.
    WaitRoute,
    /// Its ranges are being checked, a slice per poll.
    Scan,
    /// Commands are dispatched and end.
    Run,
    /// The pool writes dirty pages before the first command.
    CacheFlush,
    /// The pool drops stale pages.
    CacheDrop,
    /// What was written is made durable.
    Durable,
    /// Its completion waits to be taken.
    Ready,
    /// Answered, but commands may still write: quarantined.
    Abandoned,
}

/// A piece that has to be planned again.
#[derive(Clone, Copy, Debug)]
pub struct Remainder {
    /// Its first byte.
    pub start: Cursor,
    /// Its linear end.
    pub end: u64,
    /// Whether its destination may have been touched.
    pub tainted: bool,
    /// Whether only the host may do it.
    pub host: bool,
}

/// A method that was left, and why.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The method.
    pub method: u16,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// -errno.
    pub error: i32,
    /// In the device's words.
    pub detail: u64,
}

/// What most requests never need.
#[derive(Default)]
pub struct Extra {
    /// Pieces before the cursor that are not done.
    pub remainders: Vec<Remainder>,
    /// Pieces that wait until cached pages were dropped.
    pub late: Vec<Remainder>,
    /// Pieces given up, for the final account.
    pub lost: Vec<Remainder>,
    /// Where the last piece ends that was ever given back with its destination
    /// touched, for all that the core itself knows.
    pub touched: u64,
    /// By method.
    pub shares: Vec<xcopy_method_share>,
    /// Methods left.
    pub failures: Vec<Failure>,
    /// Sense data of the last failure.
    pub sense: Vec<u8>,
    /// The choice of a method by speed.
    pub contest: Option<Box<Contest>>,
    /// The check of a long list of ranges.
    pub scan: Option<Box<Scan>>,
    /// Ranges of it that were searched for the one that has to be refused.
    pub searched: u64,
    /// The spans of a long list, once it was checked.
    pub hull: Option<Hull>,
    /// Transient failures since the last success.
    pub retries: u32,
    /// Coarse time before which nothing is dispatched.
    pub not_before: u64,
    /// Whether commands that bypass the cache were dispatched since it was dropped.
    pub bypassed: bool,
    /// Of one range the bytes of it, from and to, that it did so with; None is all.
    pub past_cache: Option<(u64, u64)>,
    /// Whether dirty pages were written.
    pub flushed: bool,
    /// First piece that failed for good.
    pub failed: Option<(u64, xcopy_range)>,
    /// The token of a TOKEN_ operation.
    pub token: Option<super::tokens::TokenUse>,
    /// The token that is being made.
    pub making: super::tokens::Making,
    /// Where its files have holes.
    pub sparse: Option<Arc<super::sparse::Sparse>>,
    /// Next piece of a token to write or release.
    pub next_piece: usize,
}

/// The owner's part.
pub struct Slot {
    /// The request's only range, if it has no list.
    pub range: xcopy_range,
    /// The caller's list, or NULL.
    pub ranges: *const xcopy_range,
    /// Its length, or 1.
    pub nranges: u64,
    /// Added to each source offset.
    pub src_base: u64,
    /// Added to each destination offset.
    pub dst_base: u64,
    /// Bytes of the request.
    pub total: u64,
    /// What is not dispatched yet begins here.
    pub cursor: Cursor,
    /// Bytes at and after this position were not touched.
    pub untouched: u64,
    /// Monotonic time of the deadline, or 0.
    pub deadline: u64,
    /// The last error in the device's words.
    pub detail: u64,
    /// The caller's, or NULL.
    pub ext: *const xcopy_ext,
    /// What most requests never need.
    pub extra: Option<Box<Extra>>,
    /// Index of the pair.
    pub pair: u32,
    /// Commands given to backends.
    pub commands: u32,
    /// Commands in flight.
    pub in_flight: u32,
    /// Methods allowed, as a mask.
    pub methods: u32,
    /// Methods that failed for this request, as a mask.
    pub off: u32,
    /// XCOPY_REQ_ flags.
    pub flags: u32,
    /// XCOPY_CPL_ flags so far.
    pub outcome: u32,
    /// 0 or the first -errno.
    pub res: i32,
    /// XCOPY_REASON_ of a failure.
    pub reason: u16,
    /// XCOPY_OP_.
    pub op: u16,
    /// The method of all bytes so far, while there are no shares.
    pub method: u16,
    /// Where it is.
    pub stage: Stage,
    /// Nothing more is dispatched.
    pub stopping: bool,
    /// In the queue's list of slots to advance.
    pub listed: bool,
    /// Whether commands of the method above bypass the host.
    pub method_offloads: bool,
    /// A pool chore is under way.
    pub chore: bool,
    /// Ended on the straight way: all bytes, one method, nothing to report.
    pub straight: bool,
}

impl Slot {
    /// A slot of a request that did nothing yet.
    pub fn free() -> Slot {
        Slot {
            range: xcopy_range::default(),
            ranges: std::ptr::null(),
            nranges: 0,
            src_base: 0,
            dst_base: 0,
            total: 0,
            cursor: Cursor::default(),
            untouched: 0,
            deadline: 0,
            detail: 0,
            ext: std::ptr::null(),
            extra: None,
            pair: 0,
            commands: 0,
            in_flight: 0,
            methods: 0,
            off: 0,
            flags: 0,
            outcome: 0,
            res: 0,
            reason: 0,
            op: 0,
            method: XCOPY_METHOD_NONE,
            stage: Stage::Free,
            stopping: false,
            listed: false,
            method_offloads: false,
            chore: false,
            straight: false,
        }
    }

    /// A slot not in use. The straight way relies on these values and leaves
    /// them so: one COPY of one range by one command, and nothing of what only
    /// other requests use.
    pub fn rest() -> Slot {
        let mut slot = Slot::free();
        slot.set_rest();
        slot
    }

    /// Makes a slot what `rest` is, except for what each request sets.
    pub fn set_rest(&mut self) {
        self.extra = None;
        self.ext = std::ptr::null();
        self.ranges = std::ptr::null();
        self.nranges = 1;
        self.cursor = Cursor {
            index: 1,
            offset: 0,
            position: 0,
        };
        self.op = XCOPY_OP_COPY;
        self.commands = 1;
        self.stage = Stage::Free;
        self.outcome = 0;
        self.res = 0;
        self.reason = 0;
        self.detail = 0;
        self.off = 0;
        self.stopping = false;
        self.straight = false;
        self.deadline = 0;
        self.src_base = 0;
        self.dst_base = 0;
    }

    /// The ranges, to be planned from.
    pub fn source(&self) -> Source<'_> {
        let ranges = if self.ranges.is_null() {
            std::slice::from_ref(&self.range)
        } else {
            // SAFETY: the caller's array of nranges, which by the contract of
            // xcopy_submit stays valid and unchanged until the completion; the
            // slot is not used after it.
            unsafe { std::slice::from_raw_parts(self.ranges, self.nranges as usize) }
        };
        Source {
            ranges,
            src_base: self.src_base,
            dst_base: self.dst_base,
        }
    }

    /// The spans of the request.
    pub fn hull(&self) -> Hull {
        let known = self.extra.as_ref().and_then(|extra| extra.hull);
        known.unwrap_or_else(|| Hull::of(&self.source()))
    }

    /// A method that goes past the cache is given these bytes of the request.
    pub fn goes_past_cache(&mut self, from: u64, to: u64) {
        if self.nranges <= 1
            && let Some(extra) = &mut self.extra
            && extra.bypassed
        {
            let (least, most) = extra.past_cache.unwrap_or((from, to));
            extra.past_cache = Some((least.min(from), most.max(to)));
        }
    }

    /// Bytes of the destination, from and to, of which stale pages may be cached.
    pub fn stale(&self) -> (u64, u64) {
        let (from, to) = self.hull().dst;
        match self.extra.as_ref().and_then(|extra| extra.past_cache) {
            Some((least, most)) => (
                from.saturating_add(least),
                from.saturating_add(most).min(to),
            ),
            None => (from, to),
        }
    }

    /// The rarely used part, made when first needed.
    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether anything is left to dispatch.
    pub fn has_work(&self) -> bool {
        self.cursor.position < self.total
            || self
                .extra
                .as_ref()
                .is_some_and(|e| !e.remainders.is_empty() || !e.late.is_empty())
    }

    /// The caller's report, if it gave one.
    pub fn report(&self) -> *mut xcopy_report {
        // SAFETY: ext is NULL or the caller's struct, valid until the completion,
        // with at least the fields up to `report` (checked at submit).
        match unsafe { self.ext.as_ref() } {
            Some(ext) => ext.report,
            None => std::ptr::null_mut(),
        }
    }
}

// What a request costs: 256 bytes (abi.md, cost rules).
const _: () = assert!(size_of::<Slot>() + size_of::<SlotFace>() <= 256);
