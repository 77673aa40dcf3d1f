//! What the host does itself: copies on the pool, bridges between plugins'
//! devices, and zeroes.

use super::by_ring::is_large;
use super::context::BUFFER_BYTES;
use super::devices::PluginHandle;
use super::dispatch::{ONE, Tried};
use super::orders::{Order, SendPtr};
use super::queue::Queue;
use super::route::Endpoint;
use super::shared::{Answer, Purpose};
use crate::device::is_gone;
use crate::host::{Outcome, RingCopy, Short, Side};
use crate::plan::{Cursor, Kind, Step, next_command};
use std::sync::atomic::AtomicBool;
use xcopy_abi::*;

impl Queue {
    /// Gives a piece to the host with as many of the small ranges behind it as fit
    /// into one command: a command for each would cost more than its bytes.
    pub(super) fn send_host_many(
        &mut self,
        index: u32,
        chosen: usize,
        mut step: Step,
        range: xcopy_range,
    ) -> Tried {
        let pair = &self.pairs[self.slots[index as usize].pair as usize];
        let ends = (&pair.src_end, &pair.dst_end);
        let (Endpoint::Kernel { fd: src, .. }, Endpoint::Kernel { fd: dst, kind }) = ends else {
            return self.send_bridge(index, chosen, step, range);
        };
        let (src, dst, kind) = (*src, *dst, *kind);
        let slot = &self.slots[index as usize];
        let method = &pair.methods[chosen];
        let single = slot.nranges <= 1 || is_large(range.length) || self.polls();
        if !single && method.large >= method.lanes.limit(kind == XCOPY_KIND_FILE) {
            self.put_back(index, step.start, step.start.position + step.bytes, false);
            return Tried::Blocked;
        }
        let ranges = self.gather(index, chosen, &mut step, range);
        match ranges[..] {
            [range] => self.send_host(index, chosen, step, range),
            _ => self.send_ranges(index, chosen, step, (src, dst, kind), ranges),
        }
    }

    /// What follows a small range, up to the method's command size, as one step.
    /// Ranges that adjoin at both ends become one; a list of several only where
    /// the pool carries it out.
    fn gather(
        &mut self,
        index: u32,
        chosen: usize,
        step: &mut Step,
        range: xcopy_range,
    ) -> Vec<xcopy_range> {
        let mut ranges = vec![range];
        let slot = &self.slots[index as usize];
        if slot.nranges <= 1 || is_large(range.length) {
            return ranges;
        }
        let lists = !self.polls();
        while ranges.len() < RANGES_MAX {
            let slot = &mut self.slots[index as usize];
            let Some((piece, from_remainder)) = Self::next_piece(slot) else {
                break;
            };
            let method = &self.pairs[slot.pair as usize].methods[chosen];
            let room = method.adapt.chunk().saturating_sub(step.bytes);
            let end = step.start.position + step.bytes;
            let room = room.min(self.contest_room(index));
            let slot = &mut self.slots[index as usize];
            if piece.host || piece.start.position != end || room == 0 {
                break;
            }
            let (source, mut cursor, mut out) = (slot.source(), piece.start, [ONE]);
            let limits = &method.limits;
            let next = next_command(&source, &mut cursor, piece.end, limits, room, &mut out);
            let (Some(next), [range]) = (next.filter(|next| next.kind == Kind::Method), out) else {
                break;
            };
            let Some(last) = ranges.last_mut() else { break };
            let adjoins = last.src_offset + last.length == range.src_offset
                && last.dst_offset + last.length == range.dst_offset;
            if adjoins {
                last.length += range.length;
            } else if lists && !is_large(range.length) {
                ranges.push(range);
            } else {
                break;
            }
            step.bytes += next.bytes;
            Self::consume(slot, cursor, from_remainder);
            self.contest_sent(index, next.bytes);
        }
        ranges
    }

    /// Gives a piece to the host: one job on the pool between two fds, else a
    /// read and a write with a buffer between.
    pub(super) fn send_host(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        range: xcopy_range,
    ) -> Tried {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        if let (Endpoint::Kernel { fd: src, .. }, Endpoint::Kernel { fd: dst, kind }) =
            (&pair.src_end, &pair.dst_end)
        {
            let copy = RingCopy {
                tag: 0,
                src: *src,
                dst: *dst,
                src_offset: range.src_offset,
                dst_offset: range.dst_offset,
                length: range.length,
                punch: false,
                direct_src: None,
                direct_dst: None,
            };
            let kind = *kind;
            return self.send_kernel(index, chosen, step, copy, kind);
        }
        self.send_bridge(index, chosen, step, range)
    }

    pub(super) fn send_bridge(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        range: xcopy_range,
    ) -> Tried {
        let buffer = match self.context.buffers.try_take(step.bytes as usize) {
            Ok(buffer) => buffer,
            Err(short) => {
                self.put_back(index, step.start, step.start.position + step.bytes, false);
                return self.no_memory(index, short);
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        let pair = &mut self.pairs[slot.pair as usize];
        pair.methods[chosen].in_flight += 1;
        let end = pair.src_end.clone();
        let plugin = pair.end_plugins.0;
        let cell = self.free_cells[self.free_cells.len() - 1];
        self.buffers[cell as usize] = Some(buffer);
        // SAFETY: the cell is free, so only this thread touches its range.
        unsafe { *self.shared.cells[cell as usize].range.get() = range };
        self.send_leg(index, chosen, step, &end, plugin, Purpose::BridgeRead);
        Tried::Sent
    }

    /// There is no buffer for a piece: the request waits, for a while, for one that
    /// is in use, or fails.
    pub(super) fn no_memory(&mut self, index: u32, short: Short) -> Tried {
        if short == Short::Now && (self.has_flying() || self.pause(index)) {
            return Tried::Blocked;
        }
        self.fail(index, -libc::ENOMEM, XCOPY_REASON_RESOURCES, 0);
        Tried::Failed
    }

    /// One leg of a bridge: the read, or the write, of the buffer of the command
    /// on top of the free list.
    pub(super) fn send_leg(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        end: &Endpoint,
        plugin: u32,
        purpose: Purpose,
    ) {
        let cell_index = self.free_cells[self.free_cells.len() - 1];
        let cell = &self.shared.cells[cell_index as usize];
        // SAFETY: the cell is free; its range was set by `send_bridge`.
        let range = unsafe { *cell.range.get() };
        let buffer = match &mut self.buffers[cell_index as usize] {
            Some(buffer) => buffer.as_mut_ptr(),
            None => std::ptr::null_mut(),
        };
        let reads = purpose == Purpose::BridgeRead;
        match end {
            Endpoint::Kernel { fd, .. } => {
                let (fd, buffer) = (*fd, SendPtr(buffer));
                let offset = if reads {
                    range.src_offset
                } else {
                    range.dst_offset
                };
                let work = move |_: &AtomicBool| {
                    let buffer = buffer;
                    // SAFETY: the buffer belongs to the command until its end is
                    // delivered, and is at least `length` long.
                    let bytes =
                        unsafe { std::slice::from_raw_parts_mut(buffer.0, range.length as usize) };
                    let done = if reads {
                        crate::host::read_range(fd, bytes, offset)
                    } else {
                        crate::host::write_range(fd, bytes, offset)
                    };
                    answer_of(&done, XCOPY_METHOD_READ_WRITE)
                };
                self.send_leg_to_pool(index, chosen, step, purpose, work);
            }
            Endpoint::Plugin { handle, .. } => {
                let null = PluginHandle(std::ptr::null_mut());
                let order = Order {
                    op: if reads {
                        XCOPY_CMD_READ
                    } else {
                        XCOPY_CMD_WRITE
                    },
                    purpose,
                    plugin,
                    method: chosen as u32,
                    id: XCOPY_METHOD_READ_WRITE,
                    src: if reads { *handle } else { null },
                    dst: if reads { null } else { *handle },
                    ranges: cell.range.get(),
                    nranges: 1,
                    bytes: step.bytes,
                    start: step.start,
                    buffer: buffer.cast(),
                };
                self.order(index, order);
            }
            Endpoint::None(..) => {}
        }
    }

    pub(super) fn zero_next(&mut self, index: u32) -> Tried {
        if self.free_cells.is_empty() || self.is_paused(index) {
            return Tried::Blocked;
        }
        let slot = &mut self.slots[index as usize];
        let Some((piece, from_remainder)) = Self::next_piece(slot) else {
            return Tried::Blocked;
        };
        let pair = &self.pairs[slot.pair as usize];
        if slot.methods != 0 && slot.methods >> XCOPY_METHOD_ZERO & 1 == 0 {
            self.fail(index, -libc::ENOTSUP, XCOPY_REASON_NOT_ALLOWED, 0);
            return Tried::Failed;
        }
        let limits = zero_limits(&pair.dst_end, self.context.buffers.max_size());
        let (source, mut cursor, mut out) = (slot.source(), piece.start, [ONE]);
        let Some(step) = next_command(&source, &mut cursor, piece.end, &limits, 0, &mut out) else {
            return Tried::Blocked;
        };
        let (end, plugin) = (pair.dst_end.clone(), pair.end_plugins.1);
        match &end {
            Endpoint::None(reason, _) => {
                let reason = *reason;
                self.fail(index, -libc::ENOTSUP, reason, 0);
                Tried::Failed
            }
            Endpoint::Kernel { fd, kind } => {
                Self::consume(slot, cursor, from_remainder);
                let (fd, kind, range) = (*fd, *kind, out[0]);
                let work = move |stop: &AtomicBool| {
                    let (at, length) = (range.dst_offset, range.length);
                    let done = crate::host::zero_some(fd, kind, at, length, ZERO_ROOM_BYTES, stop);
                    answer_of(&done, XCOPY_METHOD_ZERO)
                };
                self.send_to_pool(index, usize::MAX, step, Purpose::Host, work)
            }
            Endpoint::Plugin {
                plugin: owner,
                handle,
                ..
            } => {
                let commands = owner.table().commands;
                if commands & XCOPY_CAN_ZERO == 0 {
                    return self.zero_by_write(index, step, cursor, from_remainder, out[0]);
                }
                Self::consume(slot, cursor, from_remainder);
                slot.untouched = slot.untouched.max(step.start.position + step.bytes);
                let cell = self.free_cells[self.free_cells.len() - 1];
                let range = self.shared.cells[cell as usize].range.get();
                // SAFETY: the cell is free, so only this thread touches its range.
                unsafe { *range = out[0] };
                let order = Order {
                    op: XCOPY_CMD_ZERO,
                    purpose: Purpose::Method,
                    plugin,
                    method: u32::MAX,
                    id: XCOPY_METHOD_ZERO,
                    src: PluginHandle(std::ptr::null_mut()),
                    dst: *handle,
                    ranges: range,
                    nranges: 1,
                    bytes: step.bytes,
                    start: step.start,
                    buffer: std::ptr::null_mut(),
                };
                self.order(index, order);
                Tried::Sent
            }
        }
    }

    /// Writes zeroes from a buffer, where a plugin has WRITE but no ZERO.
    pub(super) fn zero_by_write(
        &mut self,
        index: u32,
        step: Step,
        cursor: Cursor,
        from_remainder: bool,
        range: xcopy_range,
    ) -> Tried {
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let (end, plugin) = (pair.dst_end.clone(), pair.end_plugins.1);
        let can_write = matches!(&end, Endpoint::Plugin { plugin, .. }
            if plugin.table().commands & XCOPY_CAN_WRITE != 0);
        if !can_write {
            self.fail(index, -libc::ENOTSUP, XCOPY_REASON_NOT_SUPPORTED, 0);
            return Tried::Failed;
        }
        let mut buffer = match self.context.buffers.try_take(step.bytes as usize) {
            Ok(buffer) => buffer,
            Err(short) => return self.no_memory(index, short),
        };
        buffer.fill(0);
        Self::consume(slot, cursor, from_remainder);
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        let cell = self.free_cells[self.free_cells.len() - 1];
        self.buffers[cell as usize] = Some(buffer);
        // SAFETY: the cell is free, so only this thread touches its range.
        unsafe { *self.shared.cells[cell as usize].range.get() = range };
        self.send_leg(index, usize::MAX, step, &end, plugin, Purpose::BridgeWrite);
        Tried::Sent
    }
}

/// Bytes of one zeroing at most: more would make cancel slow.
const ZERO_MAX_BYTES: u64 = 1 << 30;
/// The same of a file, where holes do not count.
const ZERO_ROOM_BYTES: u64 = 1 << 30;

fn zero_limits(end: &Endpoint, most: usize) -> xcopy_limits {
    let mut limits = xcopy_limits {
        max_bytes: ZERO_MAX_BYTES,
        max_ranges: 1,
        ..Default::default()
    };
    if matches!(end, Endpoint::Kernel { kind, .. } if *kind == XCOPY_KIND_FILE) {
        limits.max_bytes = 0;
    }
    if let Endpoint::Plugin { plugin, props, .. } = end {
        if plugin.table().commands & XCOPY_CAN_ZERO == 0 {
            limits.max_bytes = BUFFER_BYTES.min(most) as u64;
        }
        if props.max_io_bytes != 0 {
            limits.max_bytes = limits.max_bytes.min(props.max_io_bytes);
        }
    }
    limits
}

/// Ranges of one host command at most: 96 KiB of memory.
const RANGES_MAX: usize = 4096;

/// The truth about a write that found no room.
pub(super) fn told_apart(mut answer: Answer, dst: &Endpoint) -> Answer {
    if let Endpoint::Kernel { fd, .. } = dst
        && answer.status == -libc::ENOSPC
        && answer.flags & XCOPY_RESULT_ERR_ON_WRITE != 0
        && is_gone(*fd)
    {
        answer.status = -libc::ENODEV;
        answer.reason = XCOPY_REASON_REMOVED;
    }
    answer
}

/// What the host's work means as a command's answer.
pub(super) fn answer_of(done: &Outcome, method: u16) -> Answer {
    let mut answer = Answer {
        bytes: done.prefix,
        zeroed: done.zeroed,
        touched: done.touched,
        ..Default::default()
    };
    if let Some((errno, side)) = done.error {
        answer.status = -errno;
        answer.reason = XCOPY_REASON_FAILED;
        answer.detail = super::reasons::errno_detail(method, errno);
        answer.flags = match side {
            Side::Read => XCOPY_RESULT_ERR_ON_READ,
            Side::Write => XCOPY_RESULT_ERR_ON_WRITE,
        };
    }
    answer
}
