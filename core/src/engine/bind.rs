//! Binding: from a pair of handles to methods on this queue's plugin queues.
//!
//! What may block runs on the pool; AFFINE plugins open and judge by commands
//! on this queue. Requests wait in the pair until it is ready.

use super::clock::coarse_ns;
use super::context::Context;
use super::devices::{Device, Origin, PluginHandle, describe, text_of};
use super::pairs::{AffineDevice, Binding, BoundMethod, Pair, PairIndex, ProbeCall};
use super::plugin_queue::PluginQueue;
use super::queue::Queue;
use super::route::{self, Endpoint, Route, RouteMethod};
use super::shared::{Answer, Errand, Mail, NO_PLUGIN, PairCount, Purpose};
use super::slot::Stage;
use crate::error::{Error, Result};
use crate::plan::{Adapt, Cursor, Rate};
use crate::plugin::Plugin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use xcopy_abi::*;

impl Queue {
    /// Adds a pair of live devices.
    pub(super) fn make_pair(
        &mut self,
        key: (u32, u32),
        src: Option<Arc<Device>>,
        dst: Option<Arc<Device>>,
    ) -> u32 {
        let count = Arc::new(PairCount {
            src: key.0,
            dst: key.1,
            in_flight: AtomicU32::new(0),
        });
        self.shared
            .pairs
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(count.clone());
        let pair = Pair {
            key,
            states: (0, 0),
            same_storage: route::same_storage(src.as_ref(), dst.as_ref()),
            src,
            dst,
            count,
            binding: Binding::Unbound,
            verdicts: Vec::new(),
            methods: Vec::new(),
            host: None,
            src_end: Endpoint::None(XCOPY_REASON_NONE, String::new()),
            dst_end: Endpoint::None(XCOPY_REASON_NONE, String::new()),
            ring: Default::default(),
            end_plugins: (NO_PLUGIN, NO_PLUGIN),
            waiting: Vec::new(),
            recheck_ns: u64::MAX,
            route: None,
            probe: None,
            exclusive: false,
        };
        let index = match self.free_pairs.pop() {
            Some(index) => {
                self.pairs[index as usize] = pair;
                index
            }
            None => {
                self.pairs.push(pair);
                self.pairs.len() as u32 - 1
            }
        };
        self.add_way(index);
        self.index.set(PairIndex::word(key.0, key.1), index);
        index
    }

    /// Forgets a pair that no request uses.
    pub(super) fn drop_pair(&mut self, index: u32) {
        let pair = &mut self.pairs[index as usize];
        if pair.count.in_flight.load(Ordering::Relaxed) != 0
            || !matches!(
                pair.binding,
                Binding::Ready | Binding::Unbound | Binding::Failed(_)
            )
        {
            return;
        }
        let word = PairIndex::word(pair.key.0, pair.key.1);
        (pair.src, pair.dst, pair.route) = (None, None, None);
        pair.methods.clear();
        pair.verdicts.clear();
        let count = pair.count.clone();
        let mut counts = self.shared.pairs.lock().unwrap_or_else(|e| e.into_inner());
        let before = counts.len();
        counts.retain(|c| !Arc::ptr_eq(c, &count));
        let was_there = counts.len() != before;
        drop(counts);
        self.index.remove(word, index);
        self.forget_way(index);
        if was_there {
            self.free_pairs.push(index);
        }
    }

    /// Makes every pair bind anew at its next request.
    pub(super) fn outdate_pairs(&mut self) {
        for index in 0..self.pairs.len() {
            self.pairs[index].states = (u32::MAX, u32::MAX);
            self.revoke(index as u32);
        }
    }

    /// Refuses a request whose pair would have to be probed where nothing can
    /// probe it.
    pub(super) fn check_prepared(&self, request: &xcopy_request, index: u32) -> Result<()> {
        let pair = &self.pairs[index as usize];
        let (src, dst) = (pair.src.as_ref(), pair.dst.as_ref());
        if self.context.pool.exists()
            || request.op == XCOPY_OP_PREPARE
            || !matches!(pair.binding, Binding::Unbound)
            || self.context.cached_route(src, dst).is_some()
        {
            return Ok(());
        }
        Err(Error::new(
            libc::ENOTCONN,
            "the pair was not prepared and the context has no pool: submit XCOPY_OP_PREPARE first",
        ))
    }

    /// Sends a slot on: its pair is bound first if it has to be.
    pub(super) fn enter(&mut self, slot: u32) {
        let index = self.slots[slot as usize].pair;
        let pair = &self.pairs[index as usize];
        if matches!(pair.binding, Binding::Ready)
            && (pair.states != states_of(pair) || coarse_ns() >= pair.recheck_ns)
        {
            // What is on its straight way is counted again.
            self.revoke(index);
            let pair = &mut self.pairs[index as usize];
            if pair.methods.iter().all(|m| m.in_flight == 0) {
                pair.binding = Binding::Unbound;
            }
        }
        let pair = &mut self.pairs[index as usize];
        let op = self.slots[slot as usize].op;
        match &pair.binding {
            Binding::Ready => self.start_run(slot),
            Binding::Failed(error) => {
                let error = error.clone();
                self.fail(slot, -error.errno, XCOPY_REASON_FAILED, 0);
            }
            Binding::Unbound => {
                pair.waiting.push(slot);
                self.begin_binding(index, op == XCOPY_OP_PREPARE);
            }
            _ => pair.waiting.push(slot),
        }
    }

    fn begin_binding(&mut self, index: u32, may_block: bool) {
        let pair = &mut self.pairs[index as usize];
        pair.states = states_of(pair);
        let (src, dst) = (pair.src.clone(), pair.dst.clone());
        if let Some(route) = self.context.cached_route(src.as_ref(), dst.as_ref()) {
            return self.on_route(index, Ok(route));
        }
        if self.context.pool.exists() {
            pair.binding = Binding::Probing;
            let (context, shared) = (self.context.clone(), self.shared.clone());
            let job = Box::new(move || {
                let result = probe_guarded(&context, src.as_ref(), dst.as_ref());
                shared.send(Mail::Route {
                    route: index,
                    result,
                });
            });
            if self.context.pool.run(job) {
                return;
            }
            let error = Error::new(libc::EAGAIN, "no thread can be started to probe the pair");
            return self.bound(index, Err(error));
        }
        let result = if may_block {
            self.context.route(src.as_ref(), dst.as_ref())
        } else {
            Err(Error::new(libc::ENOTCONN, "the pair was not prepared"))
        };
        self.on_route(index, result);
    }

    /// A pair was probed.
    pub(super) fn on_route(&mut self, index: u32, result: Result<Arc<Route>>) {
        let pair = &mut self.pairs[index as usize];
        match result {
            Err(error) => self.bound(index, Err(error)),
            Ok(route) => {
                pair.route = Some(route);
                self.open_affine(index, true);
            }
        }
    }

    /// Opens what AFFINE plugins have to open on this queue, then goes on. What
    /// was refused is asked again only where a binding begins.
    fn open_affine(&mut self, index: u32, begins: bool) {
        let pair = &self.pairs[index as usize];
        if matches!(
            pair.binding,
            Binding::Judging | Binding::Ready | Binding::Failed(_)
        ) {
            return;
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
            if !self.wait_for_command(index) {
                self.bound(index, Err(error));
            }
        } else {
            self.judge_affine(index);
        }
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
        if !self.control(command) {
            device.affine_opens.fetch_sub(1, Ordering::AcqRel);
            self.affine.pop();
            return Err(Error::new(
                libc::EAGAIN,
                "no command is free to open the device: poll",
            ));
        }
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
            entry.handle = Some(Err(answer.status));
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
        let pair = &mut self.pairs[index as usize];
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
        let methods = self.plugins[plugin as usize].plugin.methods().len();
        if methods == 0 {
            return self.bind(index, &[]);
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
        if !self.control(command) && !self.wait_for_command(index) {
            let error = Error::new(libc::EAGAIN, "no command is free to probe the pair: poll");
            self.bound(index, Err(error));
        }
    }

    /// Begins again where the route was known, if all commands are in use: that
    /// is no failure.
    fn wait_for_command(&mut self, index: u32) -> bool {
        self.part_twins();
        let pair = &mut self.pairs[index as usize];
        let (true, Some(route)) = (self.free_cells.is_empty(), pair.route.clone()) else {
            return false;
        };
        pair.probe = None;
        pair.binding = Binding::Probing;
        self.send_later(Mail::Route {
            route: index,
            result: Ok(route),
        })
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
        self.context
            .remember_affine(self.pairs[index as usize].key, verdicts.clone());
        self.bind(index, &verdicts);
    }

    /// Binds a pair's methods, from its route and what an AFFINE plugin said.
    fn bind(&mut self, index: u32, affine: &[RouteMethod]) {
        let Some(route) = self.pairs[index as usize].route.take() else {
            return;
        };
        let mut verdicts = route.methods.clone();
        let (src_end, dst_end) = (
            self.host_end(index, &route.src, true),
            self.host_end(index, &route.dst, false),
        );
        if affine_end(&self.pairs[index as usize]) {
            verdicts.retain(|m| m.plugin.is_some());
            verdicts.extend(affine.iter().cloned());
            if let (Some(_), Some(_)) = (
                &self.pairs[index as usize].src,
                &self.pairs[index as usize].dst,
            ) {
                verdicts.push(route::host_method(&src_end, &dst_end));
            }
            route::sort(&mut verdicts);
        }
        let pair = &mut self.pairs[index as usize];
        pair.same_storage = route::same_storage(pair.src.as_ref(), pair.dst.as_ref());
        let result = self.bind_methods(index, &verdicts, &src_end, &dst_end);
        let pair = &mut self.pairs[index as usize];
        pair.recheck_ns = if verdicts.iter().all(|m| m.usable) {
            u64::MAX
        } else {
            route.recheck_ns
        };
        pair.verdicts = verdicts;
        (pair.src_end, pair.dst_end) = (src_end, dst_end);
        self.bound(index, result);
    }

    fn bind_methods(
        &mut self,
        index: u32,
        verdicts: &[RouteMethod],
        src_end: &Endpoint,
        dst_end: &Endpoint,
    ) -> Result<()> {
        let now = coarse_ns();
        let storage = |device: &Option<Arc<Device>>| {
            device
                .as_ref()
                .map_or(crate::device::Storage::Unknown(0), |d| d.identity().storage)
        };
        let pair = &self.pairs[index as usize];
        let (src, dst) = (storage(&pair.src), storage(&pair.dst));
        let mut methods = Vec::new();
        let mut host = None;
        for verdict in verdicts.iter().filter(|m| m.usable) {
            let (plugin, queued) = match &verdict.plugin {
                Some(plugin) => (
                    self.plugin_queue(plugin)?,
                    plugin.model() != XCOPY_MODEL_BLOCKING,
                ),
                None => (NO_PLUGIN, false),
            };
            let memory = self.context.memory.of(src, dst, verdict.id);
            if verdict.bytes_per_us != 0 && !memory.has_rate() {
                let rate = u64::from(verdict.bytes_per_us) * 1_000_000;
                memory.set_rate(
                    Rate {
                        bytes: rate,
                        ns: 1_000_000_000,
                    },
                    now,
                );
            }
            let mut limits = verdict.limits;
            if limits.max_concurrent == 0 && queued {
                // Such a plugin queues by itself: it gets the whole window.
                limits.max_concurrent = self.options.window;
            }
            let is_host = plugin == NO_PLUGIN;
            if is_host {
                host = Some(methods.len());
            }
            methods.push(BoundMethod {
                id: verdict.id,
                flags: verdict.flags,
                plugin,
                src: verdict.src,
                dst: verdict.dst,
                adapt: Adapt::unpack(
                    memory.adapt.load(Ordering::Relaxed),
                    &limits,
                    is_host,
                    self.options.chunk,
                    self.options.depth,
                ),
                limits,
                in_flight: 0,
                large: 0,
                lanes: Default::default(),
                rests: memory
                    .resting(now)
                    .map(|why| (now + self.context.retry_after_ns(), why)),
                memory,
                why_not_better: why_not_better(verdicts, verdict),
            });
        }
        let end = |queue: &mut Queue, end: &Endpoint| match end {
            Endpoint::Plugin { plugin, .. } => queue.plugin_queue(plugin),
            _ => Ok(NO_PLUGIN),
        };
        let ends = (end(self, src_end)?, end(self, dst_end)?);
        self.bind_ring(src_end, dst_end, index);
        let pair = &mut self.pairs[index as usize];
        pair.methods = methods;
        pair.host = host;
        pair.end_plugins = ends;
        self.find_way(index);
        Ok(())
    }

    /// The host's end at a device, with what AFFINE plugins opened here.
    fn host_end(&self, index: u32, end: &Endpoint, is_src: bool) -> Endpoint {
        let pair = &self.pairs[index as usize];
        let device = if is_src { &pair.src } else { &pair.dst };
        let Some(device) = device else {
            return end.clone();
        };
        let Some(entry) = self.affine.iter().find(|a| Arc::ptr_eq(&a.device, device)) else {
            return end.clone();
        };
        match entry.handle {
            Some(Ok(handle)) => Endpoint::Plugin {
                plugin: self.plugins[entry.plugin as usize].plugin.clone(),
                handle,
                props: entry.call.1.props,
            },
            _ => end.clone(),
        }
    }

    /// The binding of a pair ended: its waiting requests go on.
    fn bound(&mut self, index: u32, result: Result<()>) {
        let pair = &mut self.pairs[index as usize];
        pair.binding = match result {
            Ok(()) => Binding::Ready,
            Err(error) => Binding::Failed(error),
        };
        self.wake_if_bound(index);
    }

    fn wake_if_bound(&mut self, index: u32) {
        let pair = &mut self.pairs[index as usize];
        let failure = match &pair.binding {
            Binding::Ready => None,
            Binding::Failed(error) => Some(error.clone()),
            _ => return,
        };
        if pair.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut pair.waiting);
        if failure.is_some() {
            // The next request tries again.
            pair.binding = Binding::Unbound;
        }
        for slot in waiting {
            // It may have been cancelled, and its place given to another request.
            let waits = &self.slots[slot as usize];
            if waits.stage != Stage::WaitRoute || waits.pair != index {
                continue;
            }
            match &failure {
                None => self.start_run(slot),
                Some(error) => {
                    self.context.log(XCOPY_LOG_INFO, &error.message);
                    let res = super::settle::public_errno(-error.errno);
                    self.fail(slot, res, XCOPY_REASON_FAILED, 0);
                }
            }
        }
    }

    /// The index of a plugin's queue, made if it is new.
    pub(super) fn plugin_queue(&mut self, plugin: &Arc<Plugin>) -> Result<u32> {
        let known = |queue: &PluginQueue| Arc::ptr_eq(&queue.plugin, plugin);
        if let Some(at) = self.plugins.iter().position(known) {
            return Ok(at as u32);
        }
        let index = self.plugins.len() as u32;
        let flags = self.options.flags;
        self.plugins.push(PluginQueue::new(
            plugin.clone(),
            &self.shared,
            index,
            flags,
        )?);
        Ok(index)
    }

    /// Sends an AFFINE plugin a command that is no request's; false if none is free.
    fn control(&mut self, command: ControlCommand) -> bool {
        self.part_twins();
        let Some(cell_index) = self.free_cells.pop() else {
            return false;
        };
        let cookie = self.shared.launch(cell_index);
        let cell = &self.shared.cells[cell_index as usize];
        cell.errand.set(Errand {
            slot: command.subject,
            plugin: command.plugin,
            method: 0,
            purpose: command.purpose,
            ranges: 0,
            start: Cursor::default(),
        });
        let plugin = &mut self.plugins[command.plugin as usize];
        // SAFETY: the cell was free, so only this thread touches it.
        unsafe {
            *cell.cmd.get() = xcopy_cmd {
                cookie,
                op: command.op,
                method: 0,
                flags: 0,
                src: command.src.0,
                dst: command.dst.0,
                ranges: std::ptr::null(),
                nranges: 0,
                timeout_ms: 0,
                bytes: 0,
                buffer: std::ptr::null_mut(),
                token: std::ptr::null_mut(),
                token_size: 0,
                token_type: 0,
                token_lifetime_s: 0,
                reserved: 0,
                arg: command.arg,
                private_data: plugin.private_of(cell_index),
            };
        }
        plugin.flying += 1;
        self.flying += 1;
        plugin.stage(cell.cmd.get());
        true
    }

    /// A device was closed: pairs of it are forgotten once they are idle, and
    /// what an AFFINE plugin opened here is closed here.
    pub(super) fn on_closed(&mut self, device: &Arc<Device>) {
        for index in 0..self.pairs.len() as u32 {
            let pair = &self.pairs[index as usize];
            let touches =
                |d: &Option<Arc<Device>>| d.as_ref().is_some_and(|d| Arc::ptr_eq(d, device));
            if touches(&pair.src) || touches(&pair.dst) {
                self.drop_pair(index);
            }
        }
        if self.shared.device_in_flight(device.handle) == 0 {
            self.close_affine(device);
        }
        self.context.release_if_idle(device);
    }

    fn close_affine(&mut self, device: &Arc<Device>) {
        let Some(at) = self
            .affine
            .iter()
            .position(|a| Arc::ptr_eq(&a.device, device))
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
        let command = ControlCommand {
            op: XCOPY_CMD_CLOSE,
            purpose: Purpose::Close,
            subject: device.handle,
            plugin: entry.plugin,
            src: handle,
            dst: PluginHandle(std::ptr::null_mut()),
            arg: std::ptr::null_mut(),
        };
        if !self.control(command) {
            self.affine[at].closing = false;
            self.send_later(Mail::Closed(device.clone()));
        }
    }

    /// Sends this queue a letter again once a command may have become free; false
    /// without a pool to do it.
    fn send_later(&self, mail: Mail) -> bool {
        let shared = self.shared.clone();
        self.context.pool.run(Box::new(move || {
            std::thread::sleep(std::time::Duration::from_millis(1));
            shared.send(mail);
        }))
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

    /// Closes what AFFINE plugins opened on this queue, before it is destroyed.
    pub(super) fn close_affine_devices(&mut self) {
        self.affine.retain(|a| !matches!(a.handle, Some(Err(_))));
        let devices: Vec<_> = self.affine.iter().map(|a| a.device.clone()).collect();
        for device in &devices {
            self.close_affine(device);
        }
        // A plugin that needs more than this hangs; it is then left behind.
        for _ in 0..100_000 {
            if self.affine.is_empty() {
                break;
            }
            self.advance();
        }
    }

    /// Keeps a pair's caches to the caller (XCOPY_REQ_EXCLUSIVE).
    pub(super) fn make_exclusive(&mut self, index: u32) {
        let pair = &mut self.pairs[index as usize];
        for device in [&pair.src, &pair.dst].into_iter().flatten() {
            device.exclusive.store(true, Ordering::Relaxed);
        }
        pair.exclusive = true;
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

/// `Device::state` of both ends.
pub(super) fn states_of(pair: &Pair) -> (u32, u32) {
    (
        route::generation(pair.src.as_ref()),
        route::generation(pair.dst.as_ref()),
    )
}

fn affine_end(pair: &Pair) -> bool {
    [&pair.src, &pair.dst]
        .into_iter()
        .flatten()
        .any(|device| match device.origin() {
            Some(origin) => match origin.as_ref() {
                Origin::Native { plugin, .. } => plugin.model() == XCOPY_MODEL_AFFINE,
                Origin::Kernel(_) => false,
            },
            None => false,
        })
}

/// Why the best method above `chosen` cannot be used.
fn why_not_better(verdicts: &[RouteMethod], chosen: &RouteMethod) -> u16 {
    let better = verdicts
        .iter()
        .filter(|m| !m.usable && m.worth > chosen.worth && m.flags & XCOPY_METHOD_BY_NAME == 0)
        .max_by_key(|m| m.worth);
    match better {
        Some(method) => method.reason,
        None if chosen.plugin.is_none() && !verdicts.iter().any(|m| m.plugin.is_some()) => {
            XCOPY_REASON_NO_PLUGIN
        }
        None => XCOPY_REASON_NONE,
    }
}

/// A plugin's panic inside its probe stops in its own guard; this one is for ours.
fn probe_guarded(
    context: &Arc<Context>,
    src: Option<&Arc<Device>>,
    dst: Option<&Arc<Device>>,
) -> Result<Arc<Route>> {
    xcopy_abi::guard::guard(Err(Error::new(libc::EFAULT, "the probe panicked")), || {
        context.route(src, dst)
    })
}
