//! Binding: from a pair of handles to methods on this queue's plugin queues.
//!
//! What may block runs on the pool; AFFINE plugins open and judge by commands
//! on this queue. Requests wait in the pair until it is ready.

use super::clock::coarse_ns;
use super::context::Context;
use super::devices::{Device, Origin};
use super::pairs::{Binding, BoundMethod, Pair, PairIndex};
use super::plugin_queue::PluginQueue;
use super::pool::Owner;
use super::queue::Queue;
use super::route::{self, Endpoint, Route, RouteMethod};
use super::shared::{Mail, NO_PLUGIN, PairCount};
use super::slot::Stage;
use crate::device::Storage;
use crate::error::{Error, Result};
use crate::plan::{Adapt, Rate};
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
        if self.is_in_use(index) {
            return;
        }
        let pair = &mut self.pairs[index as usize];
        if !matches!(
            pair.binding,
            Binding::Ready | Binding::Unbound | Binding::Failed(_)
        ) {
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
            if self.context.pool.run(Owner::Probe, job) {
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

    /// Binds a pair's methods, from its route and what an AFFINE plugin said.
    pub(super) fn bind(&mut self, index: u32, affine: &[RouteMethod]) {
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
            let mut judged = affine.to_vec();
            let pair = &self.pairs[index as usize];
            if let (Some(_), Some(_)) = (&pair.src, &pair.dst) {
                judged.push(route::host_method(
                    &src_end,
                    &dst_end,
                    &self.context.buffers,
                ));
            }
            self.context.remember_affine(pair.key, judged.clone());
            verdicts.append(&mut judged);
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
                .map_or(Storage::Unknown(0), |d| d.identity().storage)
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
            let adapt = Adapt::unpack(
                memory.adapt.load(Ordering::Relaxed),
                &limits,
                is_host,
                self.options.chunk,
                self.options.depth,
            );
            // Only what ends without its queue's owner can be waited for by others.
            let is_stated = !queued && !is_host && verdict.limits.max_concurrent > 0;
            let offloads = verdict.flags & XCOPY_METHOD_OFFLOADS != 0;
            let line = (is_stated && offloads && is_target(dst))
                .then(|| self.context.lines.of(dst, verdict.id));
            if is_host {
                host = Some(methods.len());
            }
            methods.push(BoundMethod {
                id: verdict.id,
                flags: verdict.flags,
                plugin,
                src: verdict.src,
                dst: verdict.dst,
                adapt,
                limits,
                in_flight: 0,
                large: 0,
                line,
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
    pub(super) fn bound(&mut self, index: u32, result: Result<()>) {
        let pair = &mut self.pairs[index as usize];
        pair.binding = match result {
            Ok(()) => Binding::Ready,
            Err(error) => Binding::Failed(error),
        };
        self.wake_if_bound(index);
        if !super::admit::alive(&self.pairs[index as usize]) && !self.is_in_use(index) {
            // Closed, and let go of by its requests, while it was being bound.
            self.let_go(index);
        }
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

    /// Keeps a pair's caches to the caller (XCOPY_REQ_EXCLUSIVE).
    pub(super) fn make_exclusive(&mut self, index: u32) {
        let pair = &mut self.pairs[index as usize];
        for device in [&pair.src, &pair.dst].into_iter().flatten() {
            device.exclusive.store(true, Ordering::Relaxed);
        }
        pair.exclusive = true;
    }
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

/// Whether a storage can state how many commands it takes: a file cannot.
fn is_target(storage: Storage) -> bool {
    matches!(
        storage,
        Storage::Disk { .. } | Storage::Named(_) | Storage::Native { .. }
    )
}

/// Why the best method above `chosen` cannot be used.
fn why_not_better(verdicts: &[RouteMethod], chosen: &RouteMethod) -> u16 {
    let better = verdicts
        .iter()
        .filter(|m| !m.usable && m.worth > chosen.worth && m.flags & XCOPY_METHOD_BY_NAME == 0)
        .min_by_key(|m| route::telling(m));
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
