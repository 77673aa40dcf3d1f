//! Dispatch: the next piece of a request, the method for it, and the command.

use super::clock::coarse_ns;
use super::devices::PluginHandle;
use super::pairs::BoundMethod;
use super::queue::Queue;
use super::route::Endpoint;
use super::shared::{Answer, Errand, NO_PLUGIN, Purpose, add};
use super::slot::{Remainder, Slot, Stage};
use crate::host::{CopyJob, Outcome, Side};
use crate::plan::{Cursor, Kind, Step, next_command};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// What came of trying to dispatch.
enum Tried {
    /// A command went out: try the next.
    Sent,
    /// Nothing can go out now; an end, a chore or a clock moves it on.
    Blocked,
    /// The request failed.
    Failed,
}

/// Room for the one range of a host command.
const ONE: xcopy_range = xcopy_range { src_offset: 0, dst_offset: 0, length: 0 };

impl Queue {
    /// The pair of a request is bound: it runs.
    pub(super) fn start_run(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.stage = Stage::Run;
        match slot.op {
            XCOPY_OP_PREPARE => {
                let (pair, flags) = (slot.pair, slot.flags);
                if flags & XCOPY_REQ_EXCLUSIVE != 0 {
                    self.make_exclusive(pair);
                }
                self.complete(index);
            }
            _ => self.list(index),
        }
    }

    /// Puts a slot on the list of those to advance.
    pub(super) fn list(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.listed {
            slot.listed = true;
            self.runnable.push_back(index);
        }
    }

    /// Advances every listed slot once.
    pub(super) fn pump(&mut self) {
        for _ in 0..self.runnable.len() {
            let Some(index) = self.runnable.pop_front() else { break };
            self.slots[index as usize].listed = false;
            if self.slots[index as usize].stage == Stage::Run {
                self.step(index);
            }
        }
    }

    fn step(&mut self, index: u32) {
        loop {
            let slot = &self.slots[index as usize];
            if slot.stage != Stage::Run || slot.chore {
                return;
            }
            let left = !slot.stopping && self.is_unfinished(index);
            if !left {
                if self.slots[index as usize].in_flight == 0 {
                    self.settle(index);
                }
                return;
            }
            let tried = match self.slots[index as usize].op {
                XCOPY_OP_COPY => self.copy_next(index),
                XCOPY_OP_ZERO => self.zero_next(index),
                XCOPY_OP_FLUSH => self.flush_next(index),
                _ => self.token_next(index),
            };
            match tried {
                Tried::Sent => {}
                Tried::Blocked => {
                    // With commands of its own in flight an end lists it again.
                    let slot = &self.slots[index as usize];
                    if slot.stage == Stage::Run && !slot.chore {
                        self.list(index);
                    }
                    return;
                }
                Tried::Failed => {
                    if self.slots[index as usize].in_flight > 0 {
                        return;
                    }
                }
            }
        }
    }

    /// Whether a request has something left to dispatch.
    pub(super) fn is_unfinished(&self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        match slot.op {
            XCOPY_OP_FLUSH => slot.cursor.position == 0,
            XCOPY_OP_TOKEN_RELEASE => self.has_pieces(slot),
            _ => slot.has_work(),
        }
    }

    fn has_pieces(&self, slot: &Slot) -> bool {
        let Some(extra) = &slot.extra else { return false };
        extra.token.as_ref().is_some_and(|t| extra.next_piece < t.content().pieces.len())
    }

    /// The next piece: remainders before the cursor.
    fn next_piece(slot: &Slot) -> Option<(Remainder, bool)> {
        if let Some(extra) = &slot.extra
            && let Some(piece) = extra.remainders.last()
        {
            return Some((*piece, true));
        }
        (slot.cursor.position < slot.total).then_some((
            Remainder { start: slot.cursor, end: slot.total, tainted: false, host: false },
            false,
        ))
    }

    /// Moves on past what a step took.
    fn consume(slot: &mut Slot, cursor: Cursor, from_remainder: bool) {
        if from_remainder {
            let remainders = &mut slot.extra().remainders;
            if let Some(piece) = remainders.last_mut() {
                piece.start = cursor;
                if piece.start.position >= piece.end {
                    remainders.pop();
                }
            }
        } else {
            slot.cursor = cursor;
        }
    }

    fn copy_next(&mut self, index: u32) -> Tried {
        if self.free_cells.is_empty() || self.is_paused(index) {
            return Tried::Blocked;
        }
        let Some((piece, from_remainder)) = Self::next_piece(&self.slots[index as usize]) else {
            return self.begin_late(index);
        };
        let Some(chosen) = self.choose(index, piece.host) else {
            let reason = self.why_none(index);
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        };
        if let Some(blocked) = self.order_cache(index, chosen) {
            return blocked;
        }
        let slot = &mut self.slots[index as usize];
        let method = &self.pairs[slot.pair as usize].methods[chosen];
        let bypasses = method.flags & XCOPY_METHOD_BYPASSES_CACHE != 0;
        if method.in_flight >= method.adapt.depth()
            || (method.flags & XCOPY_METHOD_SERIAL_DST != 0 && method.in_flight > 0)
        {
            return Tried::Blocked;
        }
        let cell_index = self.free_cells[self.free_cells.len() - 1];
        let cell = &self.shared.cells[cell_index as usize];
        // SAFETY: the cell is free, so only this thread touches its range; a
        // plugin's annex has max_ranges places for each command.
        let out = unsafe {
            let many = match method.plugin {
                NO_PLUGIN => std::ptr::null_mut(),
                plugin => self.plugins[plugin as usize].ranges_of(cell_index),
            };
            if many.is_null() {
                std::slice::from_mut(&mut *cell.range.get())
            } else {
                let plugin = &self.plugins[method.plugin as usize].plugin;
                std::slice::from_raw_parts_mut(many, plugin.table().max_ranges as usize)
            }
        };
        let mut cursor = piece.start;
        let chunk = method.adapt.chunk();
        let source = slot.source();
        let Some(step) =
            next_command(&source, &mut cursor, piece.end, &method.limits, chunk, out)
        else {
            let mut end = piece.start;
            end.position = piece.end;
            Self::consume(slot, end, from_remainder);
            return Tried::Sent;
        };
        let range = out.first().copied().unwrap_or(ONE);
        match step.kind {
            Kind::Method => {
                Self::consume(slot, cursor, from_remainder);
                let ranges = out.as_ptr();
                self.send_method(index, chosen, step, ranges)
            }
            Kind::Host(reason) => self.to_host(
                index,
                HostPiece { step, range, cursor, from_remainder, reason, bypasses },
            ),
        }
    }

    /// A piece that the chosen method cannot take goes by the host.
    fn to_host(&mut self, index: u32, piece: HostPiece) -> Tried {
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let host = pair.host.filter(|host| {
            slot.flags & XCOPY_REQ_NO_FALLBACK == 0 && is_allowed(slot, &pair.methods[*host])
        });
        let Some(host) = host.filter(|_| self.context.allowed() >> XCOPY_METHOD_READ_WRITE & 1 == 1)
        else {
            self.fail(index, -libc::ENOTSUP, piece.reason, 0);
            return Tried::Failed;
        };
        slot.outcome |= XCOPY_CPL_FELL_BACK;
        if slot.reason == 0 {
            slot.reason = piece.reason;
        }
        let end = piece.step.start.position + piece.step.bytes;
        if piece.bypasses {
            // The host writes through the page cache: only after pages that the
            // method made stale were dropped.
            Self::consume(slot, piece.cursor, piece.from_remainder);
            slot.extra().late.push(Remainder {
                start: piece.step.start,
                end,
                tainted: false,
                host: true,
            });
            return Tried::Sent;
        }
        let limits = &pair.methods[host].limits;
        let method = &pair.methods[host];
        if method.in_flight >= method.adapt.depth() {
            return Tried::Blocked;
        }
        // The host's own limits, on a native device its block, hold here too.
        let (source, mut cursor) = (slot.source(), piece.step.start);
        let mut out = [ONE];
        let chunk = method.adapt.chunk();
        let Some(step) = next_command(&source, &mut cursor, end, limits, chunk, &mut out) else {
            return Tried::Blocked;
        };
        if step.kind != Kind::Method {
            self.fail(index, -libc::ENOTSUP, piece.reason, 0);
            return Tried::Failed;
        }
        Self::consume(slot, cursor, piece.from_remainder);
        self.send_host(index, host, step, out[0])
    }

    /// Pieces that waited for the cache go on once everything else ended.
    fn begin_late(&mut self, index: u32) -> Tried {
        let slot = &mut self.slots[index as usize];
        if slot.in_flight > 0 {
            return Tried::Blocked;
        }
        let extra = slot.extra();
        if extra.bypassed {
            return self.drop_cache(index);
        }
        extra.remainders = std::mem::take(&mut extra.late);
        Tried::Sent
    }

    /// The first method that the request may use now.
    fn choose(&self, index: u32, host_only: bool) -> Option<usize> {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let allowed = self.context.allowed();
        if host_only && let Some(host) = pair.host {
            return Some(host);
        }
        pair.methods.iter().position(|method| {
            is_allowed(slot, method)
                && allowed >> method.id & 1 == 1
                && method.rests.is_none()
                && (method.offloads()
                    || slot.flags & (XCOPY_REQ_NO_FALLBACK | XCOPY_REQ_FAST_ONLY) == 0)
                && self.can_copy(method)
        })
    }

    fn can_copy(&self, method: &BoundMethod) -> bool {
        method.plugin == NO_PLUGIN
            || self.plugins[method.plugin as usize].plugin.table().commands & XCOPY_CAN_COPY != 0
    }

    /// Why no method can be used.
    fn why_none(&self, index: u32) -> u16 {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        if let Some(failure) = slot.extra.as_ref().and_then(|e| e.failures.last()) {
            return failure.reason;
        }
        if let Some((_, why)) = pair.methods.iter().find_map(|m| m.rests) {
            return match why {
                XCOPY_REASON_PLUGIN_FAULT => why,
                _ => XCOPY_REASON_FAILED_BEFORE,
            };
        }
        let named = |m: &&super::route::RouteMethod| {
            slot.methods == 0 || slot.methods >> m.id & 1 == 1
        };
        match pair.verdicts.iter().filter(named).find(|m| !m.usable && m.plugin.is_some()) {
            Some(method) => method.reason,
            None if pair.verdicts.iter().any(|m| m.usable) => XCOPY_REASON_NOT_ALLOWED,
            None => XCOPY_REASON_NO_PLUGIN,
        }
    }

    /// Waits out a pause after a transient failure.
    fn is_paused(&self, index: u32) -> bool {
        let Some(extra) = &self.slots[index as usize].extra else { return false };
        extra.not_before != 0 && coarse_ns() < extra.not_before
    }

    /// Keeps page caches right around methods that go past them: dirty pages
    /// out before, stale pages dropped before the host writes again.
    fn order_cache(&mut self, index: u32, chosen: usize) -> Option<Tried> {
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let bypasses = pair.methods[chosen].flags & XCOPY_METHOD_BYPASSES_CACHE != 0;
        let cached = [&pair.src, &pair.dst].into_iter().flatten().any(|d| d.fd >= 0);
        if slot.flags & XCOPY_REQ_NO_COHERENCE != 0 || !cached {
            return None;
        }
        let exclusive = |d: &std::sync::Arc<super::devices::Device>| {
            d.fd < 0 || d.exclusive.load(Ordering::Relaxed)
        };
        if [&pair.src, &pair.dst].into_iter().flatten().all(exclusive) {
            return None;
        }
        let (flushed, bypassed) =
            slot.extra.as_ref().map_or((false, false), |e| (e.flushed, e.bypassed));
        if bypasses && !flushed {
            if slot.in_flight > 0 {
                return Some(Tried::Blocked);
            }
            slot.extra().flushed = true;
            return Some(self.flush_cache(index));
        }
        if bypasses {
            slot.extra().bypassed = true;
        } else if bypassed {
            if slot.in_flight > 0 {
                return Some(Tried::Blocked);
            }
            return Some(self.drop_cache(index));
        } else if flushed {
            // The host dirties pages again.
            slot.extra().flushed = false;
        }
        None
    }

    fn flush_cache(&mut self, index: u32) -> Tried {
        self.chore(index, Stage::CacheFlush);
        Tried::Blocked
    }

    fn drop_cache(&mut self, index: u32) -> Tried {
        self.chore(index, Stage::CacheDrop);
        Tried::Blocked
    }

    /// Gives a piece to a plugin's method.
    fn send_method(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        ranges: *const xcopy_range,
    ) -> Tried {
        let slot = &mut self.slots[index as usize];
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        if method.plugin == NO_PLUGIN {
            // SAFETY: the planner just wrote the range; it lives in the cell.
            let range = unsafe { *ranges };
            return self.send_host(index, chosen, step, range);
        }
        method.in_flight += 1;
        let (plugin, id, src, dst) = (method.plugin, method.id, method.src, method.dst);
        let order = Order {
            op: XCOPY_CMD_COPY,
            purpose: Purpose::Method,
            plugin,
            method: chosen as u32,
            id,
            src,
            dst,
            ranges,
            nranges: step.ranges,
            bytes: step.bytes,
            start: step.start,
            buffer: std::ptr::null_mut(),
        };
        self.order(index, order);
        Tried::Sent
    }

    /// Gives a piece to the host: one job on the pool between two fds, else a
    /// read and a write with a buffer between.
    fn send_host(&mut self, index: u32, chosen: usize, step: Step, range: xcopy_range) -> Tried {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        if let (Endpoint::Kernel { fd: src, .. }, Endpoint::Kernel { fd: dst, kind }) =
            (&pair.src_end, &pair.dst_end)
        {
            let (src, dst, kind) = (*src, *dst, *kind);
            let keep_holes = slot.flags & XCOPY_REQ_KEEP_HOLES != 0;
            let context = self.context.clone();
            let work = move |stop: &std::sync::atomic::AtomicBool| {
                copy_on_pool(&context, src, dst, kind, range, keep_holes, stop)
            };
            return self.send_to_pool(index, chosen, step, Purpose::Host, work);
        }
        self.send_bridge(index, chosen, step, range)
    }

    fn send_bridge(&mut self, index: u32, chosen: usize, step: Step, range: xcopy_range) -> Tried {
        let Some(buffer) = self.context.buffers.take(step.bytes as usize) else {
            self.put_back(index, step.start, step.start.position + step.bytes, false);
            return if self.flying > 0 { Tried::Blocked } else { self.no_memory(index) };
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

    fn no_memory(&mut self, index: u32) -> Tried {
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
                let offset = if reads { range.src_offset } else { range.dst_offset };
                let work = move |_: &std::sync::atomic::AtomicBool| {
                    let buffer = buffer;
                    // SAFETY: the buffer belongs to the command until its end is
                    // delivered, and is at least `length` long.
                    let bytes = unsafe {
                        std::slice::from_raw_parts_mut(buffer.0, range.length as usize)
                    };
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
                    op: if reads { XCOPY_CMD_READ } else { XCOPY_CMD_WRITE },
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

    /// Runs work on the pool as a command of the request.
    fn send_to_pool(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        purpose: Purpose,
        work: impl FnOnce(&std::sync::atomic::AtomicBool) -> Answer + Send + 'static,
    ) -> Tried {
        let slot = &mut self.slots[index as usize];
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        if let Some(method) = self.pairs[slot.pair as usize].methods.get_mut(chosen) {
            method.in_flight += 1;
        }
        self.send_leg_to_pool(index, chosen, step, purpose, work);
        Tried::Sent
    }

    fn send_leg_to_pool(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        purpose: Purpose,
        work: impl FnOnce(&std::sync::atomic::AtomicBool) -> Answer + Send + 'static,
    ) {
        let Some(cell_index) = self.free_cells.pop() else { return };
        self.count_command(index);
        let cookie = self.shared.launch(cell_index);
        let cell = &self.shared.cells[cell_index as usize];
        cell.stop.store(false, Ordering::Relaxed);
        cell.errand.set(Errand {
            slot: index,
            plugin: NO_PLUGIN,
            method: chosen as u32,
            purpose,
            simple: false,
            ranges: 1,
            start: step.start,
        });
        // SAFETY: the cell was free, so only this thread touches it.
        unsafe { (*cell.cmd.get()).bytes = step.bytes };
        let shared = self.shared.clone();
        let job = Box::new(move || {
            let panicked = Answer {
                status: -libc::EFAULT,
                action: XCOPY_ACTION_FATAL,
                reason: XCOPY_REASON_FAILED,
                ..Default::default()
            };
            let stop = &shared.cells[cell_index as usize].stop;
            let answer = xcopy_abi::guard::guard(panicked, || work(stop));
            shared.complete_chore(cell_index, cookie, answer);
        });
        if !self.context.pool.run(job) {
            let answer = Answer { status: -libc::EAGAIN, ..Default::default() };
            self.shared.complete_chore(cell_index, cookie, answer);
        }
    }

    /// Counts a command of a request.
    fn count_command(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.in_flight += 1;
        slot.commands += 1;
        self.flying += 1;
        let face = &self.shared.faces[index as usize];
        let method = face.commands.load(Ordering::Relaxed) >> 32;
        face.commands.store(method << 32 | u64::from(slot.in_flight), Ordering::Relaxed);
        add(&self.shared.stats.commands, 1);
    }

    /// Fills a command for a plugin and stages it.
    fn order(&mut self, index: u32, order: Order) {
        let Some(cell_index) = self.free_cells.pop() else { return };
        self.count_command(index);
        let slot = &self.slots[index as usize];
        let token = self.token_words(slot, &order);
        let cookie = self.shared.launch(cell_index);
        let cell = &self.shared.cells[cell_index as usize];
        cell.errand.set(Errand {
            slot: index,
            plugin: order.plugin,
            method: order.method,
            purpose: order.purpose,
            simple: false,
            ranges: order.nranges,
            start: order.start,
        });
        let plugin = &mut self.plugins[order.plugin as usize];
        let mut flags = 0;
        let durable_alone = plugin.plugin.table().commands & XCOPY_CAN_FLUSH == 0;
        if slot.flags & XCOPY_REQ_DURABLE != 0 && durable_alone {
            flags |= XCOPY_CMD_DURABLE;
        }
        if slot.flags & XCOPY_REQ_FAST_ONLY != 0 {
            flags |= XCOPY_CMD_FAST_ONLY;
        }
        if slot.flags & XCOPY_REQ_SET_HOST_BEHAVIOR != 0 {
            flags |= XCOPY_CMD_SET_HOST_BEHAVIOR;
        }
        let timeout_ms = match slot.deadline {
            0 => 0,
            at => (at.saturating_sub(coarse_ns()) / 1_000_000).clamp(1, u64::from(u32::MAX)) as u32,
        };
        // SAFETY: the cell was free, so only this thread touches it.
        let command = unsafe {
            *cell.cmd.get() = xcopy_cmd {
                cookie,
                op: order.op,
                method: order.id,
                flags,
                src: order.src.0,
                dst: order.dst.0,
                ranges: order.ranges,
                nranges: order.nranges,
                timeout_ms,
                bytes: order.bytes,
                buffer: order.buffer,
                token: token.at,
                token_size: token.size,
                token_type: token.kind,
                token_lifetime_s: token.lifetime_s,
                reserved: 0,
                arg: std::ptr::null_mut(),
                private_data: plugin.private_of(cell_index),
            };
            cell.cmd.get()
        };
        plugin.flying += 1;
        if plugin.plugin.model() != XCOPY_MODEL_BLOCKING {
            plugin.stage(command);
            return;
        }
        let (shared, owner, plugin) = (self.shared.clone(), plugin.plugin.clone(), order.plugin);
        let command = SendPtr(command);
        let job = Box::new(move || {
            let command = command;
            let mut result = xcopy_result::default();
            let status = match owner.table().execute {
                // SAFETY: the state is the plugin's; the command is stable core
                // memory until it is completed below.
                Some(execute) => unsafe { execute(owner.state(), command.0, &mut result) },
                None => -libc::ENOSYS,
            };
            if status != 0 && result.status == 0 {
                result.status = status;
            }
            result.cookie = cookie;
            shared.complete_remote(plugin, &result);
        });
        if !self.context.pool.run(job) {
            let result = xcopy_result { cookie, status: -libc::EAGAIN, ..Default::default() };
            self.shared.complete_remote(plugin, &result);
        }
    }

    /// Puts a piece that was not done among the remainders.
    pub(super) fn put_back(&mut self, index: u32, start: Cursor, end: u64, tainted: bool) {
        let slot = &mut self.slots[index as usize];
        slot.extra().remainders.push(Remainder { start, end, tainted, host: false });
    }

    fn zero_next(&mut self, index: u32) -> Tried {
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
        let limits = zero_limits(&pair.dst_end);
        let (source, mut cursor, mut out) = (slot.source(), piece.start, [ONE]);
        let Some(step) = next_command(&source, &mut cursor, piece.end, &limits, 0, &mut out)
        else {
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
                let work = move |stop: &std::sync::atomic::AtomicBool| {
                    let done =
                        crate::host::zero(fd, kind, range.dst_offset, range.length, stop);
                    answer_of(&done, XCOPY_METHOD_ZERO)
                };
                self.send_to_pool(index, usize::MAX, step, Purpose::Host, work)
            }
            Endpoint::Plugin { plugin: owner, handle, .. } => {
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
    fn zero_by_write(
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
        let Some(mut buffer) = self.context.buffers.take(step.bytes as usize) else {
            return if self.flying > 0 { Tried::Blocked } else { self.no_memory(index) };
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

    fn flush_next(&mut self, index: u32) -> Tried {
        let pair = self.slots[index as usize].pair;
        let tried = self.send_flush(index, pair);
        if matches!(tried, Tried::Sent) {
            self.slots[index as usize].cursor.position = 1;
        }
        tried
    }

    /// Makes the destination durable: an fsync on the pool or a FLUSH.
    fn send_flush(&mut self, index: u32, pair: u32) -> Tried {
        if self.free_cells.is_empty() {
            return Tried::Blocked;
        }
        let pair = &self.pairs[pair as usize];
        let (end, plugin) = (pair.dst_end.clone(), pair.end_plugins.1);
        let start = self.slots[index as usize].cursor;
        let step = Step { kind: Kind::Method, start, ranges: 0, bytes: 0 };
        match &end {
            Endpoint::Kernel { fd, .. } => {
                let fd = *fd;
                let work = move |_: &std::sync::atomic::AtomicBool| {
                    let mut answer = Answer::default();
                    if let Err(error) = crate::device::durable(fd) {
                        answer.status = -error.errno;
                        answer.action = XCOPY_ACTION_FATAL;
                        answer.flags = XCOPY_RESULT_ERR_ON_WRITE;
                        answer.detail =
                            super::reasons::errno_detail(XCOPY_METHOD_NONE, error.errno);
                    }
                    answer
                };
                self.send_leg_to_pool(index, usize::MAX, step, Purpose::Flush, work);
            }
            Endpoint::Plugin { plugin: owner, handle, .. }
                if owner.table().commands & XCOPY_CAN_FLUSH != 0 =>
            {
                let order = Order {
                    op: XCOPY_CMD_FLUSH,
                    purpose: Purpose::Flush,
                    plugin,
                    method: u32::MAX,
                    id: XCOPY_METHOD_NONE,
                    src: PluginHandle(std::ptr::null_mut()),
                    dst: *handle,
                    ranges: std::ptr::null(),
                    nranges: 0,
                    bytes: 0,
                    start,
                    buffer: std::ptr::null_mut(),
                };
                self.order(index, order);
            }
            // Its commands were durable one by one (XCOPY_CMD_DURABLE).
            Endpoint::Plugin { .. } => {}
            Endpoint::None(reason, _) => {
                let reason = *reason;
                self.fail(index, -libc::ENOTSUP, reason, 0);
                return Tried::Failed;
            }
        }
        Tried::Sent
    }

    /// The last command of a DURABLE request; false if none is free now.
    pub(super) fn make_durable(&mut self, index: u32) -> bool {
        let pair = self.slots[index as usize].pair;
        let before = self.slots[index as usize].in_flight;
        match self.send_flush(index, pair) {
            Tried::Blocked => false,
            _ => {
                if self.slots[index as usize].in_flight == before {
                    self.complete(index);
                }
                true
            }
        }
    }

    fn token_next(&mut self, index: u32) -> Tried {
        if self.free_cells.is_empty() || self.is_paused(index) {
            return Tried::Blocked;
        }
        let op = self.slots[index as usize].op;
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let maker = slot
            .extra
            .as_ref()
            .and_then(|e| e.token.as_ref())
            .map(|t| (t.content().method, t.content().filled));
        let chosen = pair.methods.iter().position(|m| {
            is_allowed(slot, m)
                && m.rests.is_none()
                && m.plugin != NO_PLUGIN
                && self.plugins[m.plugin as usize].plugin.table().commands & XCOPY_CAN_TOKEN != 0
                && (op == XCOPY_OP_TOKEN_CREATE || maker == Some((m.id, true)))
        });
        let Some(chosen) = chosen else {
            let reason = self.why_none(index);
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        };
        let method = &pair.methods[chosen];
        if method.in_flight >= method.adapt.depth() {
            return Tried::Blocked;
        }
        match op {
            XCOPY_OP_TOKEN_RELEASE => self.release_next(index, chosen),
            _ => self.token_piece(index, chosen),
        }
    }

    /// One token of the device, made or written.
    fn token_piece(&mut self, index: u32, chosen: usize) -> Tried {
        let slot = &mut self.slots[index as usize];
        let Some((piece, from_remainder)) = Self::next_piece(slot) else {
            return Tried::Blocked;
        };
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        let creates = slot.op == XCOPY_OP_TOKEN_CREATE;
        let mut end = piece.end;
        if !creates {
            // A command writes from one of the token's pieces.
            let at = slot.range.src_offset + piece.start.position;
            let token = slot.extra.as_ref().and_then(|e| e.token.clone());
            let content = token.as_ref().map(|t| t.content());
            let found = content.as_ref().and_then(|content| {
                content.pieces.iter().find(|p| at >= p.position && at - p.position < p.length)
            });
            let Some(found) = found else {
                drop(content);
                self.fail(index, -libc::ESTALE, XCOPY_REASON_TOKEN, 0);
                return Tried::Failed;
            };
            end = end.min(piece.start.position + (found.position + found.length - at));
        }
        let chunk = if creates { 0 } else { method.adapt.chunk() };
        let mut out = [ONE];
        let mut cursor = piece.start;
        let limits = xcopy_limits { max_ranges: 1, src_granularity: 0, ..method.limits };
        let (source, limits) =
            (slot.source(), if creates { method.limits } else { limits });
        let step = next_command(&source, &mut cursor, end, &limits, chunk, &mut out);
        let Some(step) = step else { return Tried::Blocked };
        if let Kind::Host(reason) = step.kind {
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        }
        Self::consume(slot, cursor, from_remainder);
        if !creates {
            slot.untouched = slot.untouched.max(step.start.position + step.bytes);
            let at = slot.range.src_offset + step.start.position;
            out[0].src_offset = at - self.piece_start(index, at);
        }
        let slot = &self.slots[index as usize];
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        method.in_flight += 1;
        let (plugin, id, src, dst) = (method.plugin, method.id, method.src, method.dst);
        let cell = self.free_cells[self.free_cells.len() - 1];
        let range = self.shared.cells[cell as usize].range.get();
        // SAFETY: the cell is free, so only this thread touches its range.
        unsafe { *range = out[0] };
        let mut buffer = std::ptr::null_mut();
        if creates {
            let Some(mut room) = self.context.buffers.take(TOKEN_ROOM) else {
                let method = &mut self.pairs[self.slots[index as usize].pair as usize].methods[chosen];
                method.in_flight -= 1;
                self.put_back(index, step.start, step.start.position + step.bytes, false);
                return if self.flying > 0 { Tried::Blocked } else { self.no_memory(index) };
            };
            buffer = room.as_mut_ptr();
            self.buffers[cell as usize] = Some(room);
        }
        let op = if creates { XCOPY_CMD_TOKEN_CREATE } else { XCOPY_CMD_TOKEN_WRITE };
        let order = Order {
            op,
            purpose: Purpose::Method,
            plugin,
            method: chosen as u32,
            id,
            src,
            dst,
            ranges: range,
            nranges: 1,
            bytes: step.bytes,
            start: step.start,
            buffer: buffer.cast(),
        };
        self.order(index, order);
        Tried::Sent
    }

    fn piece_start(&self, index: u32, at: u64) -> u64 {
        let slot = &self.slots[index as usize];
        let Some(token) = slot.extra.as_ref().and_then(|e| e.token.as_ref()) else { return 0 };
        let content = token.content();
        content
            .pieces
            .iter()
            .find(|p| at >= p.position && at - p.position < p.length)
            .map_or(0, |p| p.position)
    }

    fn release_next(&mut self, index: u32, chosen: usize) -> Tried {
        let slot = &mut self.slots[index as usize];
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        method.in_flight += 1;
        let (plugin, id, src, dst) = (method.plugin, method.id, method.src, method.dst);
        let extra = slot.extra();
        let piece = extra.next_piece;
        extra.next_piece += 1;
        let start = Cursor { index: piece as u64, offset: 0, position: 0 };
        let order = Order {
            op: XCOPY_CMD_TOKEN_RELEASE,
            purpose: Purpose::Method,
            plugin,
            method: chosen as u32,
            id,
            src,
            dst,
            ranges: std::ptr::null(),
            nranges: 0,
            bytes: 0,
            start,
            buffer: std::ptr::null_mut(),
        };
        self.order(index, order);
        Tried::Sent
    }

    /// The token fields of a command.
    fn token_words(&self, slot: &Slot, order: &Order) -> TokenWords {
        let none = TokenWords { at: std::ptr::null_mut(), size: 0, kind: 0, lifetime_s: 0 };
        match order.op {
            XCOPY_CMD_TOKEN_CREATE => {
                // SAFETY: NULL, or the caller's struct, valid until the completion.
                let ext = unsafe { slot.ext.as_ref() };
                TokenWords {
                    at: order.buffer.cast(),
                    size: TOKEN_ROOM as u32,
                    kind: ext.map_or(0, |e| e.token_type),
                    lifetime_s: ext.map_or(0, |e| e.token_lifetime_s),
                }
            }
            XCOPY_CMD_TOKEN_WRITE | XCOPY_CMD_TOKEN_RELEASE => {
                let Some(token) = slot.extra.as_ref().and_then(|e| e.token.as_ref()) else {
                    return none;
                };
                let content = token.content();
                let at = slot.range.src_offset + order.start.position;
                let piece = if order.op == XCOPY_CMD_TOKEN_WRITE {
                    content.pieces.iter().find(|p| at >= p.position && at - p.position < p.length)
                } else {
                    content.pieces.get(order.start.index as usize)
                };
                // The content cannot change while `users` is above 0, and its
                // memory stays where it is, so the pointer outlives the guard.
                piece.map_or(none, |p| TokenWords {
                    at: p.secret.bytes().as_ptr().cast_mut(),
                    size: p.secret.bytes().len() as u32,
                    kind: content.token_type,
                    lifetime_s: content.lifetime_s,
                })
            }
            _ => none,
        }
    }
}

/// Room that a plugin gets for one token: SPC-4's are 512 bytes.
const TOKEN_ROOM: usize = 4096;

struct TokenWords {
    at: *mut u8,
    size: u32,
    kind: u32,
    lifetime_s: u32,
}

/// A piece that a method left to the host.
struct HostPiece {
    step: Step,
    range: xcopy_range,
    cursor: Cursor,
    from_remainder: bool,
    reason: u16,
    bypasses: bool,
}

/// A command for a plugin.
struct Order {
    op: u16,
    purpose: Purpose,
    plugin: u32,
    method: u32,
    id: u16,
    src: PluginHandle,
    dst: PluginHandle,
    ranges: *const xcopy_range,
    nranges: u32,
    bytes: u64,
    start: Cursor,
    buffer: *mut core::ffi::c_void,
}

/// A pointer that goes to the pool with its command.
struct SendPtr<T>(*mut T);

// SAFETY: the pointee is a command or its buffer, which belongs to whoever
// carries the command out until its end is delivered.
unsafe impl<T> Send for SendPtr<T> {}

fn is_allowed(slot: &Slot, method: &BoundMethod) -> bool {
    if slot.off >> method.id & 1 == 1 {
        return false;
    }
    if slot.methods == 0 {
        return method.flags & XCOPY_METHOD_BY_NAME == 0;
    }
    slot.methods >> method.id & 1 == 1
}

/// Bytes of one zeroing at most: more would make cancel slow.
const ZERO_MAX_BYTES: u64 = 1 << 30;

fn zero_limits(end: &Endpoint) -> xcopy_limits {
    let mut limits =
        xcopy_limits { max_bytes: ZERO_MAX_BYTES, max_ranges: 1, ..Default::default() };
    if let Endpoint::Plugin { plugin, props, .. } = end {
        if plugin.table().commands & XCOPY_CAN_ZERO == 0 {
            limits.max_bytes = super::context::BUFFER_BYTES as u64;
        }
        if props.max_io_bytes != 0 {
            limits.max_bytes = limits.max_bytes.min(props.max_io_bytes);
        }
    }
    limits
}

fn copy_on_pool(
    context: &Arc<super::context::Context>,
    src: i32,
    dst: i32,
    kind: u32,
    range: xcopy_range,
    keep_holes: bool,
    stop: &std::sync::atomic::AtomicBool,
) -> Answer {
    let size = (super::context::BUFFER_BYTES as u64).min(range.length.max(1)) as usize;
    let Some(mut buffer) = context.buffers.take(size) else {
        return Answer {
            status: -libc::EAGAIN,
            action: XCOPY_ACTION_RETRY,
            reason: XCOPY_REASON_RESOURCES,
            flags: XCOPY_RESULT_UNTOUCHED,
            ..Default::default()
        };
    };
    let done = crate::host::copy(CopyJob {
        src,
        dst,
        src_offset: range.src_offset,
        dst_offset: range.dst_offset,
        length: range.length,
        keep_holes,
        buffer: &mut buffer,
        dst_is_file: kind == XCOPY_KIND_FILE,
        stop,
    });
    answer_of(&done, XCOPY_METHOD_READ_WRITE)
}

/// What the host's work means as a command's answer.
pub(super) fn answer_of(done: &Outcome, method: u16) -> Answer {
    let mut answer = Answer { bytes: done.prefix, zeroed: done.zeroed, ..Default::default() };
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
