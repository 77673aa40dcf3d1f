//! Waiting: the queue's fd, and the sleep of a poll with a timeout.

use super::plugin_queue::PluginQueue;
use super::queue::Queue;
use super::straight::{ARMED, OWED};
use crate::error::Result;
use crate::queue::Wait;

impl Queue {
    /// Sleeps until something is ready, or till `until`; `now` is now.
    pub(super) fn sleep(&mut self, until: u64, now: u64) -> Result<Wait> {
        let was_armed = self.bell.is_armed();
        let ready = self.is_ready(true);
        if ready && !was_armed {
            // Nobody else looks at the fd, so it need not be made readable.
            self.disarm_plugins();
            self.yield_to_mute();
            return Ok(Wait::Ready);
        }
        if self.arm_bell(ready) {
            if !was_armed {
                self.disarm();
            }
            self.yield_to_mute();
            return Ok(Wait::Ready);
        }
        let left = if until == u64::MAX {
            -1
        } else {
            i64::try_from(until - now).unwrap_or(i64::MAX)
        };
        let wait = self.bell.wait(left);
        self.slept = true;
        if !was_armed {
            self.disarm();
        }
        wait
    }

    /// Makes the fd readable while something is ready, until `disarm`; true if
    /// something is already.
    pub fn arm(&mut self) -> bool {
        let ready = self.is_ready(true);
        self.arm_bell(ready)
    }

    fn arm_bell(&mut self, ready: bool) -> bool {
        self.set_timer();
        self.shared.straight().mark(ARMED, true);
        self.bell.arm(&self.shared.lane, ready)
    }

    fn disarm_plugins(&self) {
        for plugin in &self.plugins {
            plugin.arm(false);
        }
    }

    /// A plugin without an fd has to be asked again and again.
    fn yield_to_mute(&self) {
        if self.ready.is_empty() && self.plugins.iter().any(PluginQueue::is_mute) {
            std::thread::yield_now();
        }
    }

    /// Ends what `arm` began.
    pub fn disarm(&mut self) {
        self.disarm_plugins();
        self.bell.disarm(&self.shared.lane);
        self.shared.straight().mark(ARMED, false);
        self.shared.straight().rung.set(self.bell.taken());
    }

    fn set_timer(&mut self) {
        let at = (self.timed > 0).then_some(self.earliest);
        // On failure the bell keeps a sleeper awake instead.
        let _ = self.bell.set_deadline(at);
    }

    /// Adds the fds of plugin queues made since the last look.
    fn watch_plugins(&mut self) {
        for plugin in &mut self.plugins {
            if plugin.fd == PluginQueue::UNASKED {
                let fd = plugin.pollable();
                let added = fd >= 0 && self.bell.add(fd).is_ok();
                plugin.fd = if added { fd } else { PluginQueue::MUTE };
            }
        }
    }

    /// At the end of a call: leaves the fd as what is ready wants it, and what is owed
    /// to the next.
    pub(super) fn settle_bell(&mut self) {
        self.shared.straight().mark(OWED, !self.owed.is_empty());
        let armed = self.bell.is_armed();
        let ready = armed && self.is_ready(true);
        if armed {
            self.set_timer();
        }
        self.bell.settle(&self.shared.lane, ready);
        self.shared.straight().rung.set(self.bell.taken());
    }

    /// Whether a poll has something to do now.
    fn is_ready(&mut self, arm: bool) -> bool {
        self.watch_plugins();
        let mut ready = !self.ready.is_empty() || self.scans > 0 || self.shared.has_ended();
        for plugin in &self.plugins {
            ready |= plugin.host().has_batch() || plugin.arm(arm);
        }
        ready || self.can_pay() || self.ring_is_ready()
    }

    /// How many completions poll would take without waiting.
    pub fn count_ready(&mut self) -> u32 {
        self.advance();
        self.settle_bell();
        self.ready.len()
    }

    /// The pollable fd.
    pub fn fd(&self) -> i32 {
        self.bell.fd()
    }
}
