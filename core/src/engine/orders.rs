//! Orders: commands on their way to a plugin or to the pool.

use super::clock::coarse_ns;
use super::devices::PluginHandle;
use super::dispatch::Tried;
use super::line::Ticket;
use super::pool::{Job, Owner};
use super::queue::Queue;
use super::reasons;
use super::shared::{Answer, Errand, NO_PLUGIN, Purpose, QueueShared, add};
use crate::plan::{Cursor, Step};
use crate::plugin::Plugin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xcopy_abi::*;

impl Queue {
    /// Runs work on the pool as a command of the request.
    pub(super) fn send_to_pool(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        purpose: Purpose,
        work: impl FnOnce(&AtomicBool) -> Answer + Send + 'static,
    ) -> Tried {
        let slot = &mut self.slots[index as usize];
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        if let Some(method) = self.pairs[slot.pair as usize].methods.get_mut(chosen) {
            method.in_flight += 1;
        }
        self.send_leg_to_pool(index, chosen, step, purpose, work);
        Tried::Sent
    }

    pub(super) fn send_leg_to_pool(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        purpose: Purpose,
        work: impl FnOnce(&AtomicBool) -> Answer + Send + 'static,
    ) {
        let Some(cell_index) = self.free_cells.pop() else {
            return;
        };
        self.count_command(index);
        self.flying += 1;
        let cookie = self.shared.launch(cell_index);
        let cell = &self.shared.cells[cell_index as usize];
        cell.stop.store(false, Ordering::Relaxed);
        cell.set_errand(Errand {
            slot: index,
            plugin: NO_PLUGIN,
            method: chosen as u32,
            purpose,
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
                touched: u64::MAX,
                ..Default::default()
            };
            let stop = &shared.cells[cell_index as usize].stop;
            let answer = xcopy_abi::guard::guard(panicked, || work(stop));
            shared.complete_chore(cell_index, cookie, answer);
        });
        if !self.context.pool.run(Owner::Core, job) {
            let answer = Answer {
                status: -libc::EAGAIN,
                ..Default::default()
            };
            self.shared.complete_chore(cell_index, cookie, answer);
        }
    }

    /// Counts a command of a request.
    pub(super) fn count_command(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.in_flight += 1;
        slot.commands += 1;
        let face = &self.shared.faces[index as usize];
        let method = face.commands.load(Ordering::Relaxed) >> 32;
        face.commands
            .store(method << 32 | u64::from(slot.in_flight), Ordering::Relaxed);
        add(&self.shared.stats.commands, 1);
    }

    /// Fills a command for a plugin and stages it.
    pub(super) fn order(&mut self, index: u32, order: Order) {
        let Some(cell_index) = self.free_cells.pop() else {
            return;
        };
        self.count_command(index);
        let slot = &self.slots[index as usize];
        let token = self.token_words(slot, &order);
        let cookie = self.shared.launch(cell_index);
        let cell = &self.shared.cells[cell_index as usize];
        cell.stop.store(false, Ordering::Relaxed);
        cell.set_errand(Errand {
            slot: index,
            plugin: order.plugin,
            method: order.method,
            purpose: order.purpose,
            ranges: order.nranges,
            start: order.start,
        });
        let plugin = &self.plugins[order.plugin as usize];
        let method_index = plugin.plugin.index_of(order.id);
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
        if order.op == XCOPY_CMD_COPY
            && (slot.methods == 0
                || slot.flags & (XCOPY_REQ_NO_FALLBACK | XCOPY_REQ_FAST_ONLY) != 0)
        {
            flags |= XCOPY_CMD_OFFLOAD_ONLY;
        }
        let timeout_ms = match slot.deadline {
            0 => 0,
            at => time_left(at),
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
                method_index,
                arg: std::ptr::null_mut(),
                private_data: plugin.private_of(cell_index),
            };
            cell.cmd.get()
        };
        if plugin.plugin.model() != XCOPY_MODEL_BLOCKING {
            plugin.host().stage(command);
            return;
        }
        plugin.host().took_off();
        let owner = Owner::Plugin(Arc::as_ptr(&plugin.plugin).addr());
        let flight = Flight {
            shared: self.shared.clone(),
            plugin: order.plugin,
            cell: cell_index,
            cookie,
            stage: Flown::Waits,
        };
        let line = self.pairs[slot.pair as usize]
            .methods
            .get(order.method as usize)
            .filter(|_| order.op == XCOPY_CMD_COPY && order.purpose == Purpose::Method)
            .and_then(|method| Some((method.line.clone()?, method.adapt.depth())));
        let job = execution(
            plugin.plugin.clone(),
            flight,
            SendPtr(command),
            (order.id, slot.deadline),
        );
        // Where there is no thread, the job ends its command as it is dropped.
        match line {
            None => self.context.pool.run(owner, job),
            Some((line, limit)) => {
                let ticket = self.ticket(cookie);
                line.run(&self.context, owner, (ticket, limit), job)
            }
        };
    }

    /// A command's place in a line.
    fn ticket(&self, cookie: u64) -> Ticket {
        Ticket(Arc::as_ptr(&self.shared).addr(), cookie)
    }

    /// Takes a command out of the line where it waits, which ends it untouched.
    pub(super) fn withdraw(&self, errand: &Errand, cookie: u64) {
        let pair = self.slots[errand.slot as usize].pair;
        let methods = &self.pairs[pair as usize].methods;
        if errand.purpose == Purpose::Method
            && let Some(method) = methods.get(errand.method as usize)
            && let Some(line) = &method.line
        {
            line.withdraw(self.ticket(cookie));
        }
    }
}

/// A BLOCKING plugin's command on its way. However it is dropped, it ends: untouched
/// if the plugin never had it.
struct Flight {
    shared: Arc<QueueShared>,
    plugin: u32,
    cell: u32,
    cookie: u64,
    stage: Flown,
}

/// How far a command is.
enum Flown {
    /// The plugin does not have it yet.
    Waits,
    /// The plugin has it.
    Begun,
    /// Its end is told.
    Ended,
}

impl Flight {
    fn end(mut self, result: &xcopy_result) {
        self.stage = Flown::Ended;
        self.shared.complete_remote(self.plugin, result);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let stopped = &self.shared.cells[self.cell as usize].stop;
        let (status, flags) = match self.stage {
            Flown::Ended => return,
            Flown::Begun => (-libc::EIO, 0),
            Flown::Waits if stopped.load(Ordering::Relaxed) => {
                (-libc::ECANCELED, XCOPY_RESULT_UNTOUCHED)
            }
            Flown::Waits => (-libc::EAGAIN, XCOPY_RESULT_UNTOUCHED),
        };
        let result = xcopy_result {
            cookie: self.cookie,
            status,
            flags,
            ..Default::default()
        };
        self.shared.complete_remote(self.plugin, &result);
    }
}

/// The work on the pool that carries a command out; `id` is its method.
fn execution(
    plugin: Arc<Plugin>,
    flight: Flight,
    command: SendPtr<xcopy_cmd>,
    (id, deadline): (u16, u64),
) -> Job {
    Box::new(move || {
        let (command, mut flight) = (command, flight);
        let cookie = flight.cookie;
        flight.stage = Flown::Begun;
        let mut result = xcopy_result {
            cookie,
            ..Default::default()
        };
        if deadline != 0 {
            // It may have waited for its turn.
            // SAFETY: nobody but this job touches the command, and the plugin does
            // not have it yet.
            unsafe { (*command.0).timeout_ms = time_left(deadline) };
        }
        let status = match plugin.table().execute {
            // SAFETY: the state is the plugin's; the command is stable core
            // memory until it is completed below.
            Some(execute) => unsafe { execute(plugin.state(), command.0, &mut result) },
            None => -libc::ENOSYS,
        };
        if status != 0 && result.status == 0 {
            // A failure without further detail: nothing is known to be done.
            result.bytes = 0;
            result.status = status;
        }
        if result.cookie != cookie {
            // What it says is of another command: of this one nothing is known.
            let faults = &flight.shared.stats.plugin_faults;
            faults.fetch_add(1, Ordering::Relaxed);
            result = xcopy_result {
                cookie,
                status: -libc::EIO,
                action: XCOPY_ACTION_NEXT_METHOD,
                reason: XCOPY_REASON_PLUGIN_FAULT,
                detail: reasons::fault_detail(id, XCOPY_FAULT_COOKIE),
                ..Default::default()
            };
        }
        flight.end(&result);
    })
}

/// Milliseconds until a coarse time, rounded up: a plugin that keeps them must not
/// end early either.
fn time_left(deadline: u64) -> u32 {
    let ns = deadline.saturating_sub(coarse_ns());
    ns.div_ceil(1_000_000).clamp(1, u64::from(u32::MAX)) as u32
}

/// A command for a plugin.
pub(super) struct Order {
    pub(super) op: u16,
    pub(super) purpose: Purpose,
    pub(super) plugin: u32,
    pub(super) method: u32,
    pub(super) id: u16,
    pub(super) src: PluginHandle,
    pub(super) dst: PluginHandle,
    pub(super) ranges: *const xcopy_range,
    pub(super) nranges: u32,
    pub(super) bytes: u64,
    pub(super) start: Cursor,
    pub(super) buffer: *mut core::ffi::c_void,
}

/// A pointer that goes to the pool with its command.
pub(super) struct SendPtr<T>(pub(super) *mut T);

// SAFETY: the pointee is a command or its buffer, which belongs to whoever
// carries the command out until its end is delivered.
unsafe impl<T> Send for SendPtr<T> {}
