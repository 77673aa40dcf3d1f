//! A controller in memory with one queue, and what its disks should hold.
#![allow(dead_code)]

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use xcopy::abi::*;
use xcopy_ctests::disk::{Disk, stamp};
use xcopy_ctests::nvme::{Controller, Seen, State, Unit, controller, init};
use xcopy_ctests::rig::{Rig, last_error, request};

/// Bytes of a namespace, if nothing else is said.
pub const SIZE: usize = 4 << 20;

/// One controller, its namespaces' disks, and a rig with the plugin.
pub struct Bed {
    pub rig: Rig,
    pub name: String,
    pub controller: Arc<Controller>,
    disks: Vec<Arc<Disk>>,
    wanted: Mutex<Vec<Vec<u8>>>,
    nsids: Mutex<Vec<(u32, u32)>>,
}

pub fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset,
        dst_offset,
        length,
    }
}

/// Limits as the issue raises them.
pub fn raised(unit: &mut Unit) {
    (unit.mssrl, unit.mcl, unit.msrc) = (1024, 4096, 15);
}

/// QEMU's limits.
pub fn default(unit: &mut Unit) {
    (unit.mssrl, unit.mcl, unit.msrc) = (128, 128, 127);
}

pub fn unit(state: &mut State, nsid: u32) -> &mut Unit {
    state.units.get_mut(&nsid).expect("a namespace")
}

impl Bed {
    pub fn new(namespaces: u64, change: impl FnOnce(State) -> State) -> Bed {
        Bed::sized(namespaces, SIZE, change)
    }

    pub fn sized(namespaces: u64, size: usize, change: impl FnOnce(State) -> State) -> Bed {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let disks: Vec<_> = (1..=namespaces)
            .map(|disk| Arc::new(Disk::new(stamp(disk, 0, size), 512, 0)))
            .collect();
        let wanted = disks.iter().map(|disk| disk.bytes().clone()).collect();
        let controller = controller(&name, change(State::over(&disks)));
        let rig = Rig::new();
        assert_eq!(rig.register(init), 0, "{}", last_error());
        Bed {
            rig,
            name,
            controller,
            disks,
            wanted: Mutex::new(wanted),
            nsids: Mutex::new(Vec::new()),
        }
    }

    pub fn open(&self, nsid: u32) -> u32 {
        self.open_at(&self.name, &nsid.to_string())
    }

    pub fn open_at(&self, name: &str, spec: &str) -> u32 {
        let device = self.rig.open(&format!("nvme_sim:{name}/{spec}"));
        let nsid = spec.split('@').next().and_then(|nsid| nsid.parse().ok());
        self.nsids.lock().unwrap().push((device, nsid.unwrap()));
        device
    }

    fn disk_of(&self, device: u32) -> usize {
        let nsids = self.nsids.lock().unwrap();
        let (_, nsid) = nsids.iter().find(|(known, _)| *known == device).unwrap();
        *nsid as usize - 1
    }

    /// Copies by the plugin alone, and notes what the disks should hold then.
    pub fn copy(&self, src: u32, dst: u32, ranges: &[xcopy_range], flags: u32) -> xcopy_completion {
        self.copy_at((src, 0), (dst, 0), ranges, flags)
    }

    /// The same with each device's first byte on its namespace.
    pub fn copy_at(
        &self,
        (src, src_base): (u32, u64),
        (dst, dst_base): (u32, u64),
        ranges: &[xcopy_range],
        flags: u32,
    ) -> xcopy_completion {
        let done = self.try_copy(src, dst, ranges, flags);
        if done.res == 0 {
            assert_eq!(
                done.bytes_copied,
                ranges.iter().map(|r| r.length).sum::<u64>()
            );
            let (from, to) = (self.disk_of(src), self.disk_of(dst));
            let mut wanted = self.wanted.lock().unwrap();
            for range in ranges {
                let start = (src_base + range.src_offset) as usize;
                let bytes = wanted[from][start..start + range.length as usize].to_vec();
                let start = (dst_base + range.dst_offset) as usize;
                wanted[to][start..start + bytes.len()].copy_from_slice(&bytes);
            }
        }
        done
    }

    /// A copy whose bytes are not noted.
    pub fn try_copy(
        &self,
        src: u32,
        dst: u32,
        ranges: &[xcopy_range],
        flags: u32,
    ) -> xcopy_completion {
        let ext = xcopy_ext {
            size: size_of::<xcopy_ext>() as u32,
            reserved: 0,
            ranges: ranges.as_ptr(),
            nranges: ranges.len() as u64,
            report: std::ptr::null_mut(),
            token_lifetime_s: 0,
            token_type: 0,
        };
        let request = xcopy_request {
            flags: flags | XCOPY_REQ_NO_FALLBACK,
            ext: &ext,
            ..request(7, XCOPY_OP_COPY, src, dst)
        };
        self.rig.run(&request)
    }

    /// usable, reason and text of the method.
    pub fn verdict(&self, src: u32, dst: u32) -> (u32, u16, String) {
        let all = self.rig.query(src, dst);
        let method = all
            .iter()
            .find(|method| method.method == XCOPY_METHOD_NVME_COPY)
            .expect("the method is listed");
        // SAFETY: NUL-terminated by the library.
        let text = unsafe { CStr::from_ptr(method.text.as_ptr()) };
        (
            method.usable,
            method.reason,
            text.to_string_lossy().into_owned(),
        )
    }

    /// Makes the core forget what it knows of a device's pairs.
    pub fn forget(&self, device: u32) {
        assert_eq!(self.rig.remote.invalidate(device), 0, "{}", last_error());
    }

    /// Copies that the controller saw.
    pub fn seen(&self) -> Vec<Seen> {
        self.controller.with(|state| state.seen.clone())
    }

    /// All disks hold what they should, everywhere.
    pub fn check(&self) {
        let wanted = self.wanted.lock().unwrap();
        for (at, (disk, wanted)) in self.disks.iter().zip(wanted.iter()).enumerate() {
            let bytes = disk.bytes();
            let wrong = bytes.iter().zip(wanted).position(|(a, b)| a != b);
            assert_eq!(wrong, None, "namespace {}", at + 1);
        }
    }

    /// No copy succeeded, and no disk was written.
    pub fn check_untouched(&self) {
        self.check();
    }

    /// Bytes of a namespace that are not what they should be, within a range.
    pub fn differs(&self, nsid: u32, start: u64, length: u64) -> bool {
        let (start, end) = (start as usize, (start + length) as usize);
        let bytes = self.disks[nsid as usize - 1].bytes();
        bytes[start..end] != self.wanted.lock().unwrap()[nsid as usize - 1][start..end]
    }
}
