//! Two disks of a copy manager in memory, opened by plugin `odx` or `scsi`, and all
//! checks after each copy.

use crate::disk::stamp;
use crate::judge::{Expected, Extra};
use crate::rig::{Rig, copy, last_error, request};
use copy_manager::{CopyManager, Designator, DiskOptions, Kind, Personality};
use std::sync::Arc;
use xcopy::abi::*;

/// Thirty seconds.
const PATIENCE: i64 = 30_000_000_000;

/// A nexus's way to a unit; the plugin's native handle points into it.
pub use copy_manager::Connection;

/// A plugin's name and entry.
pub type Served = (
    &'static str,
    unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin,
);

/// By tokens.
pub const ODX: Served = ("odx", xcopy_plugin_odx::init);
/// By EXTENDED COPY.
pub const SCSI: Served = ("scsi", xcopy_plugin_scsi::init);

/// Two disks behind one plugin.
pub struct Array {
    /// The context and its queue.
    pub rig: Rig,
    /// The target of the source.
    pub manager: Arc<CopyManager>,
    /// The target of the destination: mostly the same.
    pub other: Arc<CopyManager>,
    /// The source.
    pub src: u32,
    /// The destination.
    pub dst: u32,
    /// Unit of the destination at its target.
    pub dst_unit: usize,
    /// Content of the source.
    pub a: Vec<u8>,
    ways: Vec<Connection>,
    next: u64,
    plugin: &'static str,
}

/// A request that ended.
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
}

impl Array {
    /// Disks of `size` bytes with blocks of 512 bytes.
    pub fn new(personality: Personality, size: usize) -> Array {
        Array::with(personality, size, (512, 512), |_| {})
    }

    /// With blocks of these sizes, of the source and of the destination.
    pub fn with(
        personality: Personality,
        size: usize,
        blocks: (u32, u32),
        queue: impl FnOnce(&mut xcopy_queue_options),
    ) -> Array {
        let manager = CopyManager::new(personality);
        Array::on(manager.clone(), manager, size, blocks, queue)
    }

    /// On two targets.
    pub fn on(
        manager: Arc<CopyManager>,
        other: Arc<CopyManager>,
        size: usize,
        blocks: (u32, u32),
        queue: impl FnOnce(&mut xcopy_queue_options),
    ) -> Array {
        Array::served(ODX, manager, other, size, blocks, queue)
    }

    /// By a plugin.
    pub fn served(
        (plugin, init): Served,
        manager: Arc<CopyManager>,
        other: Arc<CopyManager>,
        size: usize,
        blocks: (u32, u32),
        queue: impl FnOnce(&mut xcopy_queue_options),
    ) -> Array {
        let rig = Rig::with(|_| {}, queue);
        assert_eq!(rig.register(init), 0, "{}", last_error());
        // The names of units at two targets differ, as in the world.
        let disk = |block, number| DiskOptions {
            designators: vec![Designator::naa6(number)],
            ..DiskOptions::new(block, size as u64)
        };
        let src_unit = manager.add_disk(disk(blocks.0, 1));
        let dst_unit = other.add_disk(disk(blocks.1, 2));
        let a = stamp(1, 1, size);
        manager.poke(src_unit, 0, &a);
        other.poke(dst_unit, 0, &stamp(2, 1, size));
        let mut array = Array {
            rig,
            manager: manager.clone(),
            other: other.clone(),
            src: 0,
            dst: 0,
            dst_unit,
            a,
            ways: Vec::new(),
            next: 1,
            plugin,
        };
        array.src = array.attach(&manager, src_unit);
        array.dst = array.attach(&other, dst_unit);
        array
    }

    /// Opens another unit in this context.
    pub fn attach(&mut self, manager: &Arc<CopyManager>, unit: usize) -> u32 {
        let way = manager.connect(manager.nexus("tests"), unit);
        // SAFETY: a connection's handle is what both plugins take, and the
        // connection lives until after the rig.
        let device = unsafe { self.rig.open_native(self.plugin, way.native()) };
        self.ways.push(way);
        device
    }

    /// Content of the destination.
    pub fn target(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.a.len()];
        self.other.peek(self.dst_unit, 0, &mut bytes);
        bytes
    }

    /// Commands of a kind that were sent to the source's target.
    pub fn count(&self, kind: Kind) -> usize {
        let trace = self.manager.trace();
        trace.iter().filter(|entry| entry.kind == kind).count()
    }

    /// Copies these ranges with a request that `change` may change, and checks
    /// claims and bytes.
    pub fn copy(
        &mut self,
        ranges: &[xcopy_range],
        change: impl FnOnce(&mut xcopy_request),
    ) -> Ended {
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
            src: &self.a,
            before: &before,
            ranges,
            flushes: request.flags & XCOPY_REQ_DURABLE != 0,
        };
        if let Err(text) = expected.check(&done, Some(&extra.report), &self.target()) {
            panic!("{text}\n{:?}", self.rig.remote.stats());
        }
        // SAFETY: plain data, for which zeroes are valid.
        let empty = Box::new(unsafe { std::mem::zeroed() });
        Ended {
            done,
            report: std::mem::replace(&mut extra.report, empty),
        }
    }

    /// Copies the whole source, offloaded or not at all.
    pub fn copy_all(&mut self) -> Ended {
        let whole = xcopy_range {
            src_offset: 0,
            dst_offset: 0,
            length: self.a.len() as u64,
        };
        self.copy(&[whole], |request| request.flags = XCOPY_REQ_NO_FALLBACK)
    }

    /// Submits one request and waits for its end.
    pub fn run(&self, request: &xcopy_request) -> xcopy_completion {
        assert_eq!(self.rig.submit(request), 1, "{}", last_error());
        let done = self.rig.poll(1, 1, PATIENCE);
        assert_eq!(done.len(), 1, "no end: {:?}", self.rig.remote.stats());
        assert_eq!(done[0].user_data, request.user_data);
        done[0]
    }

    /// A token operation with its ends.
    pub fn token_request(&self, op: u16, src: u32, dst: u32, length: u64) -> xcopy_request {
        xcopy_request {
            length,
            ..request(7, op, src, dst)
        }
    }

    /// Fills a new token with a range of the source.
    pub fn make_token(&self, offset: u64, length: u64) -> u32 {
        let token = self.rig.token();
        let made = self.run(&xcopy_request {
            src_offset: offset,
            ..self.token_request(XCOPY_OP_TOKEN_CREATE, self.src, token, length)
        });
        assert_eq!((made.res, made.bytes_done), (0, length), "{made:?}");
        token
    }

    /// The verdict on the plugin's method for a pair, in words.
    pub fn verdict(&self, src: u32, dst: u32) -> (bool, u16, String) {
        let methods = self.rig.query(src, dst);
        let own = methods.iter().find(|m| m.method != XCOPY_METHOD_READ_WRITE);
        let own = own.expect("a verdict");
        let text: Vec<u8> = own.text.iter().map(|c| *c as u8).collect();
        let end = text.iter().position(|b| *b == 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..end]).into_owned();
        (own.usable == 1, own.reason, text)
    }
}
