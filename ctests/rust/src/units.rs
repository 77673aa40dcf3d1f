//! Two units of a copy manager in memory, opened by plugin `scsi` or `odx`.

use crate::disk::stamp;
use crate::judge::{Expected, Extra};
use crate::rig::{Rig, copy, last_error, request};
use copy_manager::{Connection, CopyManager, Designator, DiskOptions, Kind, Personality};
use std::sync::Arc;
use xcopy::abi::*;

/// A minute.
const PATIENCE: i64 = 60_000_000_000;

/// Who opens them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// EXTENDED COPY.
    Scsi,
    /// ROD tokens.
    Odx,
}

impl Plugin {
    /// Its method.
    pub fn method(self) -> u16 {
        match self {
            Plugin::Scsi => XCOPY_METHOD_SCSI_XCOPY,
            Plugin::Odx => XCOPY_METHOD_ODX,
        }
    }
}

/// A source and a destination.
pub struct Units {
    /// The context and its queue.
    pub rig: Rig,
    /// Their target.
    pub manager: Arc<CopyManager>,
    /// The nexus that the library came by.
    pub nexus: usize,
    /// The source's handle; its unit is 0.
    pub src: u32,
    /// The destination's handle; its unit is 1.
    pub dst: u32,
    /// What the source holds.
    pub content: Vec<u8>,
    // After the rig: its devices end before their connections.
    _ways: Vec<Connection>,
    next: u64,
}

/// A request that ended, and was found to be right in what it says.
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
        let share = shares.iter().find(|share| share.method == method);
        share.map_or(0, |share| share.bytes)
    }

    /// Why a method was left or passed over.
    pub fn fallback(&self, method: u16) -> Option<xcopy_fallback> {
        let fallbacks = &self.report.fallbacks[..self.report.nfallbacks as usize];
        fallbacks.iter().find(|f| f.method == method).copied()
    }

    /// The sense data of the last failure.
    pub fn sense(&self) -> &[u8] {
        &self.report.sense[..self.report.sense_len as usize]
    }
}

impl Units {
    /// Of `size` bytes each, with blocks of these sizes.
    pub fn new(plugin: Plugin, personality: Personality, size: usize, blocks: (u32, u32)) -> Units {
        // Nothing rests after a failure: each copy tries its method again.
        let rig = Rig::with(|options| options.retry_after_s = 0, |_| {});
        let manager = CopyManager::new(personality);
        let nexus = manager.nexus("tests");
        let content = stamp(1, 1, size);
        let mut ways = Vec::new();
        let (name, init) = match plugin {
            Plugin::Scsi => (
                "scsi",
                xcopy_plugin_scsi::init as unsafe extern "C" fn(_) -> _,
            ),
            Plugin::Odx => (
                "odx",
                xcopy_plugin_odx::init as unsafe extern "C" fn(_) -> _,
            ),
        };
        assert_eq!(rig.register(init), 0, "{}", last_error());
        let mut open = |number: u64, block| {
            let unit = manager.add_disk(DiskOptions {
                designators: vec![Designator::naa6(number), Designator::eui64(number)],
                ..DiskOptions::new(block, size as u64)
            });
            let way = manager.connect(nexus, unit);
            // SAFETY: a connection's handle is what both plugins take, and it
            // lives until after the rig.
            let device = unsafe { rig.open_native(name, way.native()) };
            ways.push(way);
            device
        };
        let (src, dst) = (open(1, blocks.0), open(2, blocks.1));
        manager.poke(0, 0, &content);
        manager.poke(1, 0, &stamp(2, 1, size));
        Units {
            rig,
            manager,
            nexus,
            src,
            dst,
            content,
            _ways: ways,
            next: 1,
        }
    }

    /// Content of the destination.
    pub fn target(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.content.len()];
        self.manager.peek(1, 0, &mut bytes);
        bytes
    }

    /// Commands of a kind since the trace was cleared.
    pub fn count(&self, kind: Kind) -> usize {
        self.manager
            .trace()
            .iter()
            .filter(|entry| entry.kind == kind)
            .count()
    }

    /// The sense data that the target sent with the command that a fault struck.
    pub fn sense_sent(&self) -> Option<Vec<u8>> {
        let struck = self
            .manager
            .trace()
            .into_iter()
            .find(|entry| entry.effect.is_some())?;
        (!struck.sense.is_empty()).then_some(struck.sense)
    }

    /// Judges the pair afresh, with what the target says now.
    pub fn prepare(&self) -> xcopy_completion {
        self.rig.remote.invalidate(self.src);
        self.rig.remote.invalidate(self.dst);
        self.run(&request(1, XCOPY_OP_PREPARE, self.src, self.dst))
    }

    /// Copies these ranges by a request that `change` may change. What is claimed
    /// has to be true; the text says what is not.
    pub fn try_copy(
        &mut self,
        ranges: &[xcopy_range],
        change: impl FnOnce(&mut xcopy_request),
    ) -> Result<Ended, String> {
        self.next += 1;
        let (list, one) = match ranges {
            [one] => (Vec::new(), *one),
            _ => (ranges.to_vec(), xcopy_range::default()),
        };
        let mut extra = Extra::new(list);
        let mut request = copy(self.next, self.src, self.dst, one);
        request.ext = &raw const extra.ext;
        change(&mut request);
        let before = self.target();
        let done = self.run(&request);
        let expected = Expected {
            src: &self.content,
            before: &before,
            ranges,
            flushes: request.flags & XCOPY_REQ_DURABLE != 0,
        };
        let after = self.target();
        expected.check(&done, Some(&extra.report), &after)?;
        // Completed means settled: nothing of it writes any more.
        std::thread::yield_now();
        if self.target() != after {
            return Err(format!(
                "the destination changed after the completion: {done:?}"
            ));
        }
        // SAFETY: plain data, for which zeroes are valid.
        let empty = Box::new(unsafe { std::mem::zeroed() });
        Ok(Ended {
            done,
            report: std::mem::replace(&mut extra.report, empty),
        })
    }

    /// As `try_copy`, for a test that expects nothing to be wrong.
    pub fn copy(
        &mut self,
        ranges: &[xcopy_range],
        change: impl FnOnce(&mut xcopy_request),
    ) -> Ended {
        self.try_copy(ranges, change)
            .unwrap_or_else(|text| panic!("{text}"))
    }

    fn run(&self, request: &xcopy_request) -> xcopy_completion {
        assert_eq!(self.rig.submit(request), 1, "{}", last_error());
        let done = self.rig.poll(1, 1, PATIENCE);
        assert_eq!(done.len(), 1, "no end: {:?}", self.rig.remote.stats());
        assert_eq!(done[0].user_data, request.user_data);
        done[0]
    }
}
