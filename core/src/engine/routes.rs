//! What a context knows of pairs of devices: routes, probed once and kept until they
//! are stale, and what AFFINE plugins said on some queue.

use super::context::{Context, PairKey};
use super::devices::{Device, changed};
use super::route::{self, Route, RouteMethod};
use crate::error::{Error, Result};
use crate::plan::leader;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl Context {
    pub(super) fn forget_pairs_of(&self, handle: u32) {
        let touches = |key: &PairKey| key.0 == handle || key.1 == handle;
        self.routes
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .retain(|key, _| !touches(key));
        self.affine
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .retain(|key, _| !touches(key));
    }

    /// Makes queues look at their routes again.
    pub fn new_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        changed();
    }

    /// The route of a pair, from the cache if it is still good.
    pub fn cached_route(
        &self,
        src: Option<&Arc<Device>>,
        dst: Option<&Arc<Device>>,
    ) -> Option<Arc<Route>> {
        let key = (src.map_or(0, |d| d.handle), dst.map_or(0, |d| d.handle));
        let routes = self.routes.lock().unwrap_or_else(|e| e.into_inner());
        let route = routes.get(&key)?;
        let fresh = route.generations == (route::generation(src), route::generation(dst))
            && (route.methods.iter().all(|m| m.usable)
                || super::clock::coarse_ns() < route.recheck_ns);
        fresh.then(|| route.clone())
    }

    /// The route of a pair, probed if need be. May block.
    pub fn route(
        &self,
        src: Option<&Arc<Device>>,
        dst: Option<&Arc<Device>>,
    ) -> Result<Arc<Route>> {
        if let Some(route) = self.cached_route(src, dst) {
            return Ok(route);
        }
        let devices: Vec<_> = [src, dst].into_iter().flatten().collect();
        for device in &devices {
            device.users.fetch_add(1, Ordering::SeqCst);
        }
        // A request that was accepted before the close still goes its way.
        let closed = devices
            .iter()
            .any(|device| device.is_dead() && self.device_in_flight(device.handle) == 0);
        let route = if closed {
            Err(Error::new(libc::EBADF, "the device was closed"))
        } else {
            route::probe(self, src, dst)
        };
        for device in devices {
            device.users.fetch_sub(1, Ordering::SeqCst);
            self.release_if_idle(device);
        }
        let route = Arc::new(route?);
        let key = (src.map_or(0, |d| d.handle), dst.map_or(0, |d| d.handle));
        self.routes
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(key, route.clone());
        Ok(route)
    }

    /// Remembers what AFFINE plugins said of a pair on some queue, for queries.
    pub fn remember_affine(&self, key: PairKey, methods: Vec<RouteMethod>) {
        self.affine
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(key, methods);
    }

    /// All verdicts on a pair, best first. May block.
    pub fn verdicts(&self, src: u32, dst: u32) -> Result<(Vec<RouteMethod>, u32)> {
        let (source, destination) = (self.device(src)?, self.device(dst)?);
        let route = self.route(Some(&source), Some(&destination))?;
        let mut methods = route.methods.clone();
        let affine = self.affine.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(more) = affine.get(&(src, dst)) {
            methods.retain(|m| !more.iter().any(|a| a.id == m.id));
            methods.extend(more.iter().cloned());
        }
        let now = super::clock::coarse_ns();
        for method in &mut methods {
            let past = self.memory.of(
                source.identity().storage,
                destination.identity().storage,
                method.id,
            );
            if method.usable && self.allowed() & (1 << method.id) == 0 {
                method.usable = false;
                method.reason = XCOPY_REASON_NOT_ALLOWED;
                method.text = "the context's method mask leaves it out".into();
            } else if let Some(why) = past.resting(now).filter(|_| method.usable) {
                method.usable = false;
                method.reason = XCOPY_REASON_FAILED_BEFORE;
                method.text = format!(
                    "failed before ({}): invalidate the device to have it tried again",
                    super::reasons::text(why)
                );
            }
        }
        // What is only taken by name, or only with a flag, is not what is taken first.
        methods.sort_by_key(|m| {
            let asked_for = m.flags & (XCOPY_METHOD_BY_NAME | XCOPY_METHOD_NEEDS_FEATURE) != 0;
            (!m.usable, asked_for, Reverse(m.worth))
        });
        if self.prefers_host(&source, &destination, &methods)
            && let Some(host) = methods.iter().position(is_host)
        {
            methods[..=host].rotate_right(1);
        }
        let generation = route.generations.0.wrapping_add(route.generations.1);
        Ok((methods, generation))
    }

    /// Whether the host's own method was measured to be quicker than the offload that
    /// comes first, which between devices decides (`Queue::by_contest`).
    fn prefers_host(&self, src: &Device, dst: &Device, methods: &[RouteMethod]) -> bool {
        let now = super::clock::coarse_ns();
        let rate = |method: &RouteMethod| {
            let (src, dst) = (src.identity().storage, dst.identity().storage);
            self.memory.of(src, dst, method.id).rate(now)
        };
        let is_file = |device: &Device| device.kind == XCOPY_KIND_FILE;
        let host = methods.iter().find(|m| is_host(m) && m.usable);
        let (Some(first), Some(host)) = (methods.first(), host) else {
            return false;
        };
        first.offloads() && !is_file(src) && !is_file(dst) && leader([rate(first), rate(host)]) == 1
    }
}

fn is_host(method: &RouteMethod) -> bool {
    method.id == XCOPY_METHOD_READ_WRITE && method.plugin.is_none()
}
