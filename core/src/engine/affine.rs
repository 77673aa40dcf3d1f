//! AFFINE plugins open, judge and close by commands on the queue that uses them.
//!
//! Such a command is no request's. Where all commands are in use it is owed, and
//! sent as soon as one is free.

use super::clock::precise_ns;
use super::devices::{Device, PluginHandle, describe, text_of};
use super::pairs::{AffineDevice, Binding, Owed, ProbeCall};
use super::queue::Queue;
use super::route::{self, RouteMethod};
use super::shared::{Answer, Errand, Purpose, add};
use crate::error::{Error, Result};
use crate::plan::Cursor;
use crate::plugin::Plugin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// How long a queue that is destroyed waits for AFFINE plugins to close devices.
const CLOSING_NS: u64 = 1_000_000_000;
/// How often it polls for the end of commands that keep devices from being closed.
const LAST_POLLS: u32 = 1_000;

impl Queue {
    /// Opens what AFFINE plugins have to open on this queue, then goes on. What
    /// was refused is asked again only where a binding begins.
    pub(super) fn open_affine(&mut self, index: u32, begins: bool) {
        let pair = &self.pairs[index as usize];
        if matches!(
            pair.binding,
            Binding::Judging | Binding::Ready | Binding::Failed(_)
        ) {
            return;
        }
        if !super::admit::alive(pair) && !self.is_in_use(index) {
            // It may be closing already.
            let error = Error::new(libc::EBADF, "the device was closed");
            return self.bound(index, Err(error));
        }
        let mut failure = None;
        let mut waits = false;
        for device in [pair.src.clone(), pair.dst.clone()].into_iter().flatten() {
            let Some(plugin) = device
                .native_plugin()
                .filter(|p| p.model() == XCOPY_MODEL_AFFINE)
            else {
                continue;
            };
            let known = |a: &AffineDevice| Arc::ptr_eq(&a.device, &device);
            let asks = |a: &AffineDevice| begins && matches!(a.handle, Some(Err(_)));
            if self.affine.iter().find(|a| known(a)).is_none_or(asks) && !self.has_free_cell() {
                return self.owe_binding(index);
            }
            match self.affine_device(&device, &plugin, begins) {
                Ok(at) => match self.affine[at].handle {
                    None => {
                        let waiting = &mut self.affine[at].waiting;
                        if !waiting.contains(&index) {
                            waiting.push(index);
                        }
                        waits = true;
                    }
                    Some(Err(errno)) => {
                        let props = &self.affine[at].call.1.props;
                        let text = format!("{}: {}", plugin.name(), text_of(&props.text));
                        failure = Some(Error::new(-errno, text));
                    }
                    Some(Ok(_)) => {}
                },
                Err(error) => failure = Some(error),
            }
        }
        if waits {
            self.pairs[index as usize].binding = Binding::Opening;
        } else if let Some(error) = failure {
            self.bound(index, Err(error));
        } else {
            self.judge_affine(index);
        }
    }

    /// Whether a command is free, once those of the straight way are given back.
    fn has_free_cell(&mut self) -> bool {
        self.part_twins();
        !self.free_cells.is_empty()
    }

    /// A binding goes on where its route was known, as soon as a command is free.
    fn owe_binding(&mut self, index: u32) {
        self.pairs[index as usize].binding = Binding::Owing;
        self.owed.push_back(Owed::Binding(index));
    }

    /// Goes on with what waited for a free command.
    #[cold]
    pub(super) fn pay_owed(&mut self) {
        for _ in 0..self.owed.len() {
            if !self.has_free_cell() {
                break;
            }
            match self.owed.pop_front() {
                Some(Owed::Binding(index)) => {
                    if matches!(self.pairs[index as usize].binding, Binding::Owing) {
                        self.open_affine(index, true);
                    }
                }
                Some(Owed::Close(device)) => self.close_affine(&device),
                None => break,
            }
        }
    }

    /// Whether something waited for a free command, and there is one.
    pub(super) fn can_pay(&self) -> bool {
        !self.owed.is_empty() && (!self.free_cells.is_empty() || self.has_twins())
    }

    fn affine_device(
        &mut self,
        device: &Arc<Device>,
        plugin: &Arc<Plugin>,
        asks_again: bool,
    ) -> Result<usize> {
        let known = |a: &AffineDevice| Arc::ptr_eq(&a.device, device);
        if let Some(at) = self.affine.iter().position(known) {
            if !asks_again || !matches!(self.affine[at].handle, Some(Err(_))) {
                return Ok(at);
            }
            self.affine.remove(at);
        }
        let Some(origin) = device.origin() else {
            return Err(Error::new(libc::EBADF, "the device was closed"));
        };
        let queue = self.plugin_queue(plugin)?;
        let mut call = Box::new((
            describe(device, &origin),
            xcopy_open_args {
                desc: std::ptr::null(),
                device: std::ptr::null_mut(),
                props: xcopy_device_props::default(),
            },
        ));
        call.1.desc = &call.0;
        let arg: *mut xcopy_open_args = &mut call.1;
        device.affine_opens.fetch_add(1, Ordering::AcqRel);
        self.affine.push(AffineDevice {
            device: device.clone(),
            plugin: queue,
            call,
            handle: None,
            waiting: Vec::new(),
            closing: false,
        });
        let at = self.affine.len() - 1;
        let command = ControlCommand {
            op: XCOPY_CMD_OPEN,
            purpose: Purpose::Open,
            subject: device.handle,
            plugin: queue,
            src: PluginHandle(std::ptr::null_mut()),
            dst: PluginHandle(std::ptr::null_mut()),
            arg: arg.cast(),
        };
        self.control(command);
        Ok(at)
    }

    /// An AFFINE plugin opened, or refused, a device.
    pub(super) fn on_opened(&mut self, device: u32, answer: &Answer) {
        let Some(at) = self.affine.iter().position(|a| a.device.handle == device) else {
            return;
        };
        let entry = &mut self.affine[at];
        let waiting = std::mem::take(&mut entry.waiting);
        if answer.status == 0 {
            entry.handle = Some(Ok(PluginHandle(entry.call.1.device)));
            let (device, props) = (entry.device.clone(), entry.call.1.props);
            let plugin = self.plugins[entry.plugin as usize].plugin.clone();
            device.adopt_props(self.context.plugin_index(&plugin), &props);
        } else {
            let is_errno = (-4095..0).contains(&answer.status);
            if !is_errno {
                add(&self.shared.stats.plugin_faults, 1);
            }
            let status = if is_errno { answer.status } else { -libc::EIO };
            entry.handle = Some(Err(status));
            entry.device.affine_opens.fetch_sub(1, Ordering::AcqRel);
        }
        for pair in waiting {
            self.open_affine(pair, false);
        }
        let gone = |a: &AffineDevice| a.device.is_dead() && matches!(a.handle, Some(Ok(_)));
        if let Some(at) = self
            .affine
            .iter()
            .position(|a| a.device.handle == device && gone(a))
        {
            let device = self.affine[at].device.clone();
            self.on_closed(&device);
        }
    }

    /// Lets the AFFINE plugin of both devices judge the pair, then binds it.
    fn judge_affine(&mut self, index: u32) {
        let pair = &self.pairs[index as usize];
        let find = |device: &Option<Arc<Device>>, affine: &[AffineDevice]| {
            let device = device.as_ref()?;
            affine.iter().position(|a| Arc::ptr_eq(&a.device, device))
        };
        let (src, dst) = (find(&pair.src, &self.affine), find(&pair.dst, &self.affine));
        let both = match (src, dst) {
            (Some(src), Some(dst)) => self.affine[src].plugin == self.affine[dst].plugin,
            (Some(_), None) => pair.dst.is_none(),
            (None, Some(_)) => pair.src.is_none(),
            (None, None) => false,
        };
        let plugin = match src.or(dst) {
            Some(at) if both => self.affine[at].plugin,
            _ => return self.bind(index, &[]),
        };
        let owner = &self.plugins[plugin as usize].plugin;
        let methods = owner.methods().len();
        if methods == 0 || !route::judges(owner, pair.src.is_some() && pair.dst.is_some()) {
            return self.bind(index, &[]);
        }
        if !self.has_free_cell() {
            return self.owe_binding(index);
        }
        let mut call = Box::new(ProbeCall {
            verdicts: vec![xcopy_verdict::default(); methods],
            args: xcopy_probe_args {
                verdicts: std::ptr::null_mut(),
                stride: size_of::<xcopy_verdict>(),
                n: methods as u32,
                reserved: 0,
            },
        });
        call.args.verdicts = call.verdicts.as_mut_ptr();
        let arg: *mut xcopy_probe_args = &mut call.args;
        let handle = |at: Option<usize>| match at.map(|at| self.affine[at].handle) {
            Some(Some(Ok(handle))) => handle,
            _ => PluginHandle(std::ptr::null_mut()),
        };
        let (src, dst) = (handle(src), handle(dst));
        let pair = &mut self.pairs[index as usize];
        pair.probe = Some(call);
        pair.binding = Binding::Judging;
        let command = ControlCommand {
            op: XCOPY_CMD_PROBE,
            purpose: Purpose::Probe,
            subject: index,
            plugin,
            src,
            dst,
            arg: arg.cast(),
        };
        self.control(command);
    }

    /// An AFFINE plugin judged a pair.
    pub(super) fn on_judged(&mut self, index: u32, plugin: u32, answer: &Answer) {
        let Some(call) = self.pairs[index as usize].probe.take() else {
            return;
        };
        let failed = (answer.status != 0).then_some(answer.status);
        let owner = self.plugins[plugin as usize].plugin.clone();
        let (src, dst) = {
            let pair = &self.pairs[index as usize];
            let handle = |device: &Option<Arc<Device>>| {
                let device = device.as_ref()?;
                let entry = self
                    .affine
                    .iter()
                    .find(|a| Arc::ptr_eq(&a.device, device))?;
                entry.handle?.ok()
            };
            let null = PluginHandle(std::ptr::null_mut());
            (
                handle(&pair.src).unwrap_or(null),
                handle(&pair.dst).unwrap_or(null),
            )
        };
        let verdicts: Vec<RouteMethod> = owner
            .methods()
            .iter()
            .zip(&call.verdicts)
            .map(|(method, verdict)| RouteMethod {
                id: method.id,
                flags: route::pair_flags(method.flags, verdict),
                worth: method.worth,
                plugin: Some(owner.clone()),
                usable: failed.is_none() && verdict.usable == 1,
                reason: match (failed, verdict.usable) {
                    (Some(_), _) => XCOPY_REASON_FAILED,
                    (None, usable) => {
                        let usable = usable == 1;
                        route::pair_reason(method.flags, verdict, usable, verdict.reason)
                    }
                },
                text: text_of(&verdict.text),
                limits: verdict.limits,
                bytes_per_us: verdict.bytes_per_us,
                src,
                dst,
            })
            .collect();
        self.bind(index, &verdicts);
    }

    /// Sends an AFFINE plugin a command that is no request's. One is free.
    fn control(&mut self, command: ControlCommand) {
        let Some(cell_index) = self.free_cells.pop() else {
            return;
        };
        let cookie = self.shared.launch(cell_index);
        let cell = &self.shared.cells[cell_index as usize];
        cell.set_errand(Errand {
            slot: command.subject,
            plugin: command.plugin,
            method: 0,
            purpose: command.purpose,
            ranges: 0,
            start: Cursor::default(),
        });
        let plugin = &self.plugins[command.plugin as usize];
        // SAFETY: the cell was free, so only this thread touches it.
        unsafe {
            *cell.cmd.get() = xcopy_cmd {
                cookie,
                op: command.op,
                src: command.src.0,
                dst: command.dst.0,
                arg: command.arg,
                private_data: plugin.private_of(cell_index),
                ..super::cell::CommandCell::no_command()
            };
        }
        plugin.host().stage(cell.cmd.get());
    }

    /// Has the plugin close a device, unless a judgement under way names it: the
    /// end of that comes back here.
    pub(super) fn close_affine(&mut self, device: &Arc<Device>) {
        let is = |d: &Option<Arc<Device>>| d.as_ref().is_some_and(|d| Arc::ptr_eq(d, device));
        let judged = self
            .pairs
            .iter()
            .any(|pair| pair.probe.is_some() && (is(&pair.src) || is(&pair.dst)));
        let Some(at) = self
            .affine
            .iter()
            .position(|a| Arc::ptr_eq(&a.device, device))
            .filter(|_| !judged)
        else {
            return;
        };
        let entry = &mut self.affine[at];
        let Some(Ok(handle)) = entry.handle else {
            return;
        };
        if std::mem::replace(&mut entry.closing, true) {
            return;
        }
        if !self.has_free_cell() {
            self.affine[at].closing = false;
            return self.owed.push_back(Owed::Close(device.clone()));
        }
        self.control(ControlCommand {
            op: XCOPY_CMD_CLOSE,
            purpose: Purpose::Close,
            subject: device.handle,
            plugin: self.affine[at].plugin,
            src: handle,
            dst: PluginHandle(std::ptr::null_mut()),
            arg: std::ptr::null_mut(),
        });
    }

    /// An AFFINE plugin closed a device.
    pub(super) fn on_affine_closed(&mut self, device: u32) {
        let Some(at) = self.affine.iter().position(|a| a.device.handle == device) else {
            return;
        };
        let entry = self.affine.remove(at);
        entry.device.affine_opens.fetch_sub(1, Ordering::AcqRel);
        self.context.release_if_idle(&entry.device);
    }

    /// Closes what AFFINE plugins opened on this queue, before it is destroyed, but
    /// for what a command in flight may still use. A plugin that takes too long
    /// hangs; it is left behind.
    pub(super) fn close_affine_devices(&mut self) {
        let until = precise_ns().saturating_add(CLOSING_NS);
        let mut polls = 0;
        loop {
            self.affine.retain(|a| !matches!(a.handle, Some(Err(_))));
            if self.affine.is_empty() {
                break;
            }
            let opened: Vec<_> = self
                .affine
                .iter()
                .filter(|a| a.handle.is_some() && !a.closing)
                .map(|a| a.device.clone())
                .collect();
            let (used, unused): (Vec<_>, Vec<_>) =
                opened.into_iter().partition(|d| self.is_flying_at(d));
            for device in &unused {
                self.close_affine(device);
            }
            polls += 1;
            let hopeless = used.len() == self.affine.len() && polls > LAST_POLLS;
            if hopeless || precise_ns() >= until {
                break;
            }
            self.advance();
        }
    }

    /// Whether a request's command in flight names a device.
    fn is_flying_at(&self, device: &Arc<Device>) -> bool {
        let is = |d: &Option<Arc<Device>>| d.as_ref().is_some_and(|d| Arc::ptr_eq(d, device));
        self.slots.iter().any(|slot| {
            let pair = self.pairs.get(slot.pair as usize);
            slot.in_flight > 0 && pair.is_some_and(|pair| is(&pair.src) || is(&pair.dst))
        })
    }
}

/// A command of the queue itself.
struct ControlCommand {
    op: u16,
    purpose: Purpose,
    subject: u32,
    plugin: u32,
    src: PluginHandle,
    dst: PluginHandle,
    arg: *mut core::ffi::c_void,
}
