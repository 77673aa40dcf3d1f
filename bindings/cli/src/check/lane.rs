//! A queue of the plugin: commands given, waited for, cancelled.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use xcopy::abi::*;

use super::arena::{self, Kind};
use super::disk::{Description, Disk, Opened, Spec};
use super::fault::Fault;
use super::flight::{Ended, Order};
use super::judge::op_name;
use super::plugin::{Checked, Context, Stop, read_verdicts, stop};
use super::{calls, host, system, wire};

/// Commands in flight at most.
pub const WINDOW: usize = 16;
/// A queue of the plugin.
pub struct Lane<'a> {
    context: &'a Context<'a>,
    handle: *mut c_void,
    host_queue: usize,
    limit: Duration,
}

// SAFETY: the handle is used by the thread that has the lane, as an idle queue
// may change its owner.
unsafe impl Send for Lane<'_> {}

impl<'a> Lane<'a> {
    /// Creates one, owned by this thread.
    pub fn new(context: &'a Context<'a>, limit: Duration) -> Checked<Lane<'a>> {
        let Some(create) = context.plugin.table.queue_create else {
            return stop(Fault::BadTable, "no queue_create");
        };
        let host_queue = host::add_lane()?;
        let tail = context.plugin.tail;
        let options = arena::lend(
            Kind::Options,
            size_of::<xcopy_plugin_queue_options>() + tail,
            8,
        )?;
        let place = arena::lend(Kind::Place, size_of::<*mut c_void>(), 8)?;
        // SAFETY: both just lent and long enough; the contract's arguments.
        let (answer, handle) = unsafe {
            options.fill(&vec![0; options.len]);
            options
                .pointer::<xcopy_plugin_queue_options>()
                .write(xcopy_plugin_queue_options {
                    size: options.len as u32,
                    flags: 0,
                    window: WINDOW as u32,
                    reserved: 0,
                });
            let at: *mut *mut c_void = place.pointer();
            at.write(std::ptr::null_mut());
            let answer = calls::quick(&"queue_create", || {
                create(
                    context.state,
                    host_queue as *mut xcopy_host_queue,
                    options.pointer(),
                    at,
                )
            });
            (answer, at.read())
        };
        options.take_back();
        place.take_back();
        if answer != 0 {
            host::destroy_lane(host_queue);
            return stop(
                panic_or(answer, Fault::Fails),
                &format!("queue_create answered {answer}"),
            );
        }
        Ok(Lane {
            context,
            handle,
            host_queue,
            limit,
        })
    }

    /// This thread owns it from now on.
    pub fn own(&self) {
        host::own_lane(self.host_queue);
    }

    fn make(&self, orders: &[Order]) -> Checked<Vec<u64>> {
        let (private, tail) = (
            self.context.plugin.table.cmd_private,
            self.context.plugin.tail,
        );
        orders
            .iter()
            .map(|order| Ok(host::make(order, private, tail)?))
            .collect()
    }

    /// Carries commands out, as many at once as the window lets through.
    pub fn run(&mut self, orders: &[Order]) -> Checked<Vec<Ended>> {
        let cookies = self.make(orders)?;
        let mut waiting: VecDeque<u64> = cookies.iter().copied().collect();
        let mut flying: Vec<u64> = Vec::new();
        let mut progress = Instant::now();
        loop {
            let before = flying.len();
            flying.retain(|cookie| !host::has_ended(*cookie));
            if flying.len() < before {
                progress = Instant::now();
            }
            let room = WINDOW.saturating_sub(flying.len()).min(waiting.len());
            if room > 0 {
                let batch: Vec<u64> = waiting.iter().take(room).copied().collect();
                let taken = self.submit(&batch)?;
                if taken > 0 {
                    progress = Instant::now();
                }
                flying.extend(waiting.drain(..taken));
            }
            if waiting.is_empty() && flying.iter().all(|cookie| host::has_ended(*cookie)) {
                break;
            }
            if progress.elapsed() > self.limit {
                return self.is_stuck(&flying, orders);
            }
            self.poll();
            if flying.iter().all(|cookie| !host::has_ended(*cookie)) {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let ended = cookies
            .iter()
            .map(|c| host::collect(*c).unwrap_or_default());
        Ok(ended.collect())
    }

    fn is_stuck<T>(&self, flying: &[u64], orders: &[Order]) -> Checked<T> {
        let op = op_name(orders.first().map_or(0, |order| order.op));
        let ms = self.limit.as_millis();
        if flying.is_empty() {
            let text = format!("submit took no {op} command for {ms} ms, with none in flight");
            return stop(Fault::TakesNothing, &text);
        }
        let text = format!("{} {op} commands did not end within {ms} ms", flying.len());
        stop(Fault::LosesCommand, &text)
    }

    /// Offers commands; how many were taken.
    fn submit(&mut self, cookies: &[u64]) -> Checked<usize> {
        let Some(submit) = self.context.plugin.table.submit else {
            return stop(Fault::BadTable, "no submit");
        };
        let pointers: Vec<*mut xcopy_cmd> = cookies.iter().map(|c| host::pointer(*c)).collect();
        let batch = arena::lend(Kind::Batch, size_of_val(&pointers[..]), 8)?;
        // SAFETY: just lent, of that many pointers.
        unsafe {
            let to = batch.pointer::<*mut xcopy_cmd>();
            std::ptr::copy_nonoverlapping(pointers.as_ptr(), to, pointers.len());
        }
        host::offer(self.host_queue, cookies);
        let n = cookies.len() as u32;
        // SAFETY: the queue is live and this is its owner; n commands that stay
        // until they end.
        let answer = calls::quick(&"submit", || unsafe {
            submit(self.handle, batch.pointer(), n)
        });
        batch.take_back();
        let taken = usize::try_from(answer).unwrap_or(0);
        host::offered(cookies, taken.min(cookies.len()));
        if taken > cookies.len() {
            return stop(
                Fault::BadCount,
                &format!("submit of {n} commands answered {taken}"),
            );
        }
        let later = [libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::ENOBUFS];
        if answer < 0 && !later.contains(&-answer) {
            return stop(
                panic_or(answer, Fault::Fails),
                &format!("submit answered {answer}"),
            );
        }
        Ok(taken)
    }

    /// Advances the queue.
    pub fn poll(&mut self) {
        if let Some(poll) = self.context.plugin.table.poll {
            // SAFETY: the queue is live and this is its owner.
            let answer = calls::quick(&"poll", || unsafe { poll(self.handle, WINDOW as u32) });
            if answer == -libc::EFAULT {
                wire::fault(Fault::Panics, "poll answered -EFAULT: it stopped a panic");
            }
        }
    }

    /// Looks for a while whether the plugin answers once more.
    pub fn linger(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.poll();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Gives commands and cancels them at once; how many could be.
    pub fn run_and_cancel(&mut self, orders: &[Order]) -> Checked<usize> {
        let Some(cancel) = self.context.plugin.table.cancel else {
            return Ok(0);
        };
        let cookies = self.make(orders)?;
        let taken = self.submit(&cookies)?;
        let mut canceled = 0;
        for cookie in &cookies {
            let command = host::pointer(*cookie);
            if !host::cancel(*cookie) {
                continue;
            }
            canceled += 1;
            // A second request to cancel the same is harmless.
            for _ in 0..2 {
                // SAFETY: the command flies, or flew when the call began; its
                // memory stays until the call returned.
                let answer = calls::quick(&"cancel", || unsafe { cancel(self.handle, command) });
                if answer > 0 || answer == -libc::EFAULT {
                    let fault = panic_or(answer, Fault::BadStatus);
                    wire::fault(fault, &format!("cancel answered {answer}"));
                }
            }
        }
        host::canceled();
        let begun = Instant::now();
        while !cookies[..taken]
            .iter()
            .all(|cookie| host::has_ended(*cookie))
        {
            if begun.elapsed() > self.limit {
                let text = "a command that was cancelled did not end: cancel asks, a result ends";
                return stop(Fault::LosesCommand, text);
            }
            self.poll();
            std::thread::sleep(Duration::from_micros(50));
        }
        for cookie in &cookies[..taken] {
            host::collect(*cookie);
        }
        Ok(canceled)
    }

    /// Waits for one command by the queue's descriptor; why that cannot be shown.
    pub fn sleep(&mut self, order: &Order) -> Checked<Option<String>> {
        let table = &self.context.plugin.table;
        let (Some(queue_fd), Some(arm)) = (table.queue_fd, table.arm) else {
            let text = "no queue_fd and arm: a sleeping consumer has to spin while it waits";
            return Ok(Some(text.into()));
        };
        // SAFETY: the queue is live and this is its owner.
        let ask = || calls::quick(&"queue_fd", || unsafe { queue_fd(self.handle) });
        let (fd, again) = (ask(), ask());
        if fd < 0 && fd == again {
            return Ok(Some(format!(
                "queue_fd answered {fd}: a sleeping consumer has to spin"
            )));
        }
        if fd != again || !system::is_open(fd) {
            return stop(
                Fault::BadFd,
                &format!("queue_fd answered {fd}, then {again}"),
            );
        }
        let handle = self.handle;
        let switch = |on: u32| -> Checked<bool> {
            // SAFETY: as above.
            let answer = calls::quick(&"arm", || unsafe { arm(handle, on) });
            match answer {
                0 | 1 => Ok(answer == 1),
                _ => stop(
                    panic_or(answer, Fault::BadStatus),
                    &format!("arm answered {answer}"),
                ),
            }
        };
        if switch(1)? {
            wire::fault(Fault::Spins, "arm answered 1 with nothing in flight");
        }
        let cookies = self.make(std::slice::from_ref(order))?;
        if self.submit(&cookies)? == 0 {
            return stop(
                Fault::TakesNothing,
                "submit took nothing from an idle queue",
            );
        }
        let begun = Instant::now();
        while !host::has_ended(cookies[0]) {
            if switch(1)? || self.wait_on(fd, Duration::from_millis(500))? {
                self.poll();
            } else if !host::has_ended(cookies[0]) {
                // Silent although it had something to do, or just slow?
                self.poll();
                if host::has_ended(cookies[0]) {
                    let text = "poll ended a command, but the descriptor had not become readable";
                    wire::fault(Fault::DeafFd, text);
                }
            }
            if begun.elapsed() > self.limit {
                return stop(
                    Fault::LosesCommand,
                    "a command did not end for a sleeping consumer",
                );
            }
        }
        host::collect(cookies[0]);
        self.linger(Duration::from_millis(5));
        if switch(1)? || self.wait_on(fd, Duration::ZERO)? {
            wire::fault(
                Fault::Spins,
                "the descriptor stays readable with nothing to do",
            );
        }
        switch(0)?;
        Ok(None)
    }

    fn wait_on(&self, fd: RawFd, time: Duration) -> Checked<bool> {
        match system::readable(fd, time) {
            Some(readable) => Ok(readable),
            None => stop(Fault::BadFd, "the descriptor of queue_fd cannot be polled"),
        }
    }

    /// Destroys it; nothing is in flight.
    pub fn destroy(self) {
        if let Some(destroy) = self.context.plugin.table.queue_destroy {
            // SAFETY: no command uses it, and it is destroyed once.
            calls::slow(&"queue_destroy", || unsafe { destroy(self.handle) });
        }
        host::destroy_lane(self.host_queue);
    }

    fn control(&mut self, order: Order) -> Checked<i32> {
        let op = order.op;
        match self.run(&[order])?.pop() {
            Some(ended) => Ok(ended.status),
            None => Err(Stop::Machine(format!("no answer to {}", op_name(op)))),
        }
    }

    /// By a command, as AFFINE has it.
    pub fn open(&mut self, spec: &Spec) -> Checked<Opened> {
        let tail = self.context.plugin.tail;
        let desc = Description::new(spec, tail)?;
        let args = arena::lend(Kind::Arguments, size_of::<xcopy_open_args>() + tail, 8)?;
        // SAFETY: just lent and long enough.
        unsafe {
            args.fill(&vec![0; args.len]);
            args.pointer::<xcopy_open_args>().write(xcopy_open_args {
                desc: desc.pointer(),
                device: std::ptr::null_mut(),
                props: xcopy_device_props::default(),
            });
        }
        let answer = self.control(Order {
            op: XCOPY_CMD_OPEN,
            arg: args.at,
            ..Order::default()
        })?;
        // SAFETY: not taken back yet; the command ended.
        let (device, props) = unsafe {
            let args = &*args.pointer::<xcopy_open_args>();
            (args.device, args.props)
        };
        args.take_back();
        Ok(desc.finish(answer, device, Some(props)))
    }

    /// By a command, as AFFINE has it.
    pub fn close(&mut self, disk: Disk) -> Checked<()> {
        let answer = self.control(Order {
            op: XCOPY_CMD_CLOSE,
            src: disk.handle,
            ..Order::default()
        })?;
        if answer != 0 {
            wire::fault(Fault::Fails, &format!("CLOSE answered {answer}"));
        }
        disk.forget();
        Ok(())
    }

    /// By a command, as AFFINE has it.
    pub fn probe(&mut self, pair: (usize, usize), tail: usize) -> Checked<Vec<xcopy_verdict>> {
        let n = self.context.plugin.methods.len();
        if n == 0 {
            return Ok(Vec::new());
        }
        let stride = size_of::<xcopy_verdict>() + tail;
        let block = arena::lend(Kind::Verdicts, n * stride, 8)?;
        let args = arena::lend(Kind::Arguments, size_of::<xcopy_probe_args>() + tail, 8)?;
        // SAFETY: both just lent and long enough.
        unsafe {
            block.fill(&vec![0; block.len]);
            args.fill(&vec![0; args.len]);
            args.pointer::<xcopy_probe_args>().write(xcopy_probe_args {
                verdicts: block.pointer(),
                stride,
                n: n as u32,
                reserved: 0,
            });
        }
        let answer = self.control(Order {
            op: XCOPY_CMD_PROBE,
            src: pair.0,
            dst: pair.1,
            arg: args.at,
            ..Order::default()
        })?;
        let verdicts = read_verdicts(&block, stride, n);
        block.take_back();
        args.take_back();
        match answer {
            0 => Ok(verdicts),
            answer => stop(Fault::Fails, &format!("PROBE answered {answer}")),
        }
    }
}

fn panic_or(answer: i32, other: Fault) -> Fault {
    match answer == -libc::EFAULT {
        true => Fault::Panics,
        false => other,
    }
}
