//! Two disks of one faulty plugin, and all checks after each copy.

use crate::disk::{Disk, stamp};
use crate::faulty::Model;
use crate::judge::{Expected, Extra};
use crate::rig::{LONG, Rig, copy, last_error};
use crate::script::Script;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use xcopy::abi::*;

/// Bytes of both disks.
pub const SIZE: usize = 1 << 20;

/// Two disks of one faulty plugin.
pub struct Fixture {
    /// The context and its queue.
    pub rig: Rig,
    /// The plugin's orders.
    pub script: Arc<Script>,
    /// The plugin's model.
    pub model: Model,
    /// The source.
    pub src: u32,
    /// The destination.
    pub dst: u32,
    /// Content of the source.
    pub a: Vec<u8>,
    /// The destination's disk.
    pub target: Arc<Disk>,
    /// Requests that were abandoned and still hold their devices.
    pub quarantined: u32,
    next: u64,
}

/// A copy that ended.
pub struct Ended {
    /// Its completion.
    pub done: xcopy_completion,
    /// Its report.
    pub report: Box<xcopy_report>,
}

impl Ended {
    /// Bytes by a method.
    pub fn bytes_by(&self, method: u16) -> u64 {
        let shares = &self.report.shares[..self.report.nshares as usize];
        shares
            .iter()
            .find(|share| share.method == method)
            .map_or(0, |share| share.bytes)
    }
}

impl Fixture {
    /// With commands of at most 64 KiB, so that there are several.
    pub fn new(model: Model) -> Fixture {
        Fixture::with(model, |_| {}, |options| options.chunk = 65_536)
    }

    /// With options.
    pub fn with(
        model: Model,
        context: impl FnOnce(&mut xcopy_context_options),
        queue: impl FnOnce(&mut xcopy_queue_options),
    ) -> Fixture {
        let rig = Rig::with(context, queue);
        Fixture::on(rig, model)
    }

    /// On a rig that has no such plugin yet.
    pub fn on(rig: Rig, model: Model) -> Fixture {
        let script = Script::new();
        assert_eq!(model.register(&rig, &script), 0, "{}", last_error());
        let a = stamp(1, 1, SIZE);
        script.add_disk("a", Disk::new(a.clone(), 512, 0));
        let target = script.add_disk("b", Disk::new(stamp(2, 1, SIZE), 512, 0));
        let (src, dst) = (rig.open(&model.disk("a")), rig.open(&model.disk("b")));
        Fixture {
            rig,
            script,
            model,
            src,
            dst,
            a,
            target,
            quarantined: 0,
            next: 1,
        }
    }

    /// Number of method `a` or `b` of the plugin.
    pub fn method(&self, letter: char) -> u16 {
        let mask = self.rig.mask(&format!("{}_{letter}", self.model.name()));
        mask.trailing_zeros() as u16
    }

    /// A copy of this range.
    pub fn request(&mut self, range: xcopy_range) -> xcopy_request {
        self.next += 1;
        copy(self.next, self.src, self.dst, range)
    }

    /// Copies one range with a request that `change` may change, and checks
    /// everything.
    pub fn copy(&mut self, range: xcopy_range, change: impl FnOnce(&mut xcopy_request)) -> Ended {
        let mut extra = Extra::new(Vec::new());
        let mut request = self.request(range);
        request.ext = &raw const extra.ext;
        change(&mut request);
        let before = self.target.bytes().clone();
        assert_eq!(
            self.rig.submit(&request),
            1,
            "{:?}: {}",
            self.model,
            last_error()
        );
        let done = self.rig.poll(1, 1, LONG);
        assert_eq!(
            done.len(),
            1,
            "{:?}: {:?}",
            self.model,
            self.rig.remote.stats()
        );
        assert_eq!(done[0].user_data, request.user_data);
        self.check(&done[0], Some(&extra.report), &before, &[range]);
        if done[0].flags & XCOPY_CPL_UNSETTLED == 0 {
            self.assert_idle();
        }
        Ended {
            done: done[0],
            report: std::mem::replace(&mut extra.report, empty_report()),
        }
    }

    /// The same, without a report: the straight way is open to it.
    pub fn copy_plainly(&mut self, range: xcopy_range) -> xcopy_completion {
        let request = self.request(range);
        let before = self.target.bytes().clone();
        let done = self.rig.run(&request);
        self.check(&done, None, &before, &[range]);
        self.assert_idle();
        done
    }

    /// Panics with all that is known if claims and bytes disagree.
    pub fn check(
        &self,
        done: &xcopy_completion,
        report: Option<&xcopy_report>,
        before: &[u8],
        ranges: &[xcopy_range],
    ) {
        let expected = Expected {
            src: &self.a,
            before,
            ranges,
            flushes: false,
        };
        let now = self.target.bytes().clone();
        if let Err(text) = expected.check(done, report, &now) {
            panic!("{:?}: {text}\n{:?}", self.model, self.rig.remote.stats());
        }
    }

    /// Nothing is in flight, nothing more comes.
    pub fn assert_idle(&self) {
        assert_eq!(self.rig.poll(0, 8, 0), Vec::new(), "{:?}", self.model);
        assert_eq!(self.rig.remote.in_flight(), 0, "{:?}", self.model);
        for device in [self.src, self.dst] {
            if let Ok(info) = self.rig.remote.info(device) {
                assert_eq!(info.in_flight, self.quarantined, "{:?}", self.model);
            }
        }
    }

    /// Advances the queue until `done`, which must not take long.
    pub fn until(&self, what: &str, mut done: impl FnMut(&Fixture) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            self.rig.ready();
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{:?}: {what}",
                self.model
            );
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Closes both devices and the rest: everything was given back.
    pub fn finish(self) {
        self.script.release();
        for device in [self.src, self.dst] {
            if self.rig.remote.is_closed(device) == 0 {
                let closed = self.rig.remote.close(device);
                assert!(closed >= 0 || closed == -libc::EBADF, "{closed}");
            }
        }
        self.until("a device stays open", |fixture| {
            [fixture.src, fixture.dst]
                .iter()
                .all(|d| fixture.rig.remote.is_closed(*d) == 1)
        });
        assert_eq!(
            self.script.open.load(Ordering::Acquire),
            0,
            "{:?}",
            self.model
        );
        let (script, model) = (self.script.clone(), self.model);
        drop(self);
        assert_eq!(script.queues.load(Ordering::Acquire), 0, "{model:?}");
        assert_eq!(script.violations(), Vec::<String>::new(), "{model:?}");
    }
}

fn empty_report() -> Box<xcopy_report> {
    // SAFETY: plain data, for which zeroes are valid.
    Box::new(unsafe { std::mem::zeroed() })
}

/// A range.
pub fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset,
        dst_offset,
        length,
    }
}
