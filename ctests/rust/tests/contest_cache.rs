//! An offload that goes past the page cache and the host, which goes through it, take
//! turns in one request: no cached page of the destination stays stale.
#![allow(missing_docs)]

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU64, Ordering};
use xcopy::abi::*;
use xcopy_ctests::rig::{Rig, copy, last_error};
use xcopy_plugin_sdk::{
    Blocking, Command, Description, Done, Failure, Host, Method, Opened, Operation, Outcome,
    Plugin, Verdict, errno, init_blocking,
};

const MIB: usize = 1 << 20;
/// Long enough to compare methods.
const LENGTH: usize = 72 * MIB;
/// Bytes of the devices; what is copied lies within.
const SIZE: usize = LENGTH + 2 * MIB;
const SRC_AT: usize = MIB;
const DST_AT: usize = MIB / 2;

static ASKED: AtomicU64 = AtomicU64::new(0);
/// Commands that write here end with a write error.
static BAD: AtomicU64 = AtomicU64::new(u64::MAX);

/// Copies loop devices as a target does, behind the kernel's back: in their images.
struct Past;

struct Disk {
    image: File,
    /// The device, through its page cache.
    cached: File,
}

impl Plugin for Past {
    const NAME: &'static CStr = c"past";
    const VERSION: &'static CStr = c"1";
    const DESCRIPTION: &'static CStr = c"copies past the page cache";
    const FLAGS: u32 = XCOPY_PLUGIN_KERNEL;
    const COMMANDS: u32 = XCOPY_CAN_COPY;
    const METHODS: &'static [Method] = &[Method::new(c"past").offloads().bypasses_cache()];
    const MAX_RANGES: u32 = 1;
    type Device = Disk;

    fn start(_host: Host) -> Result<Self, Failure> {
        Ok(Past)
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Disk>, Failure> {
        let fd = device.fd().filter(|_| device.kind() == XCOPY_KIND_DISK);
        let fd = fd.ok_or_else(|| Failure::new(errno::ENOTSUP))?;
        let (major, minor) = device.node();
        let backing = format!("/sys/dev/block/{major}:{minor}/loop/backing_file");
        let open = || {
            let image = std::fs::read_to_string(backing)?;
            let image = OpenOptions::new()
                .read(true)
                .write(true)
                .open(image.trim_end())?;
            let cached = File::open(format!("/proc/self/fd/{fd}"))?;
            std::io::Result::Ok(Disk { image, cached })
        };
        let disk = open().map_err(|_| Failure::new(errno::EIO))?;
        Ok(Opened::new(disk, device.block_size(), 0))
    }

    fn probe(&self, _: usize, _: Option<&Disk>, _: Option<&Disk>) -> Result<Verdict, Failure> {
        Ok(Verdict::usable(xcopy_limits {
            max_ranges: 1,
            max_concurrent: 1,
            src_granularity: 512,
            dst_granularity: 512,
            length_granularity: 512,
            ..xcopy_limits::default()
        }))
    }
}

impl Blocking for Past {
    fn execute(&self, command: &mut Command<'_, Disk>) -> Outcome {
        let bytes = command.bytes();
        let Operation::Copy { src, dst, ranges } = command.operation() else {
            return Err(command.unknown());
        };
        ASKED.fetch_add(bytes, Ordering::Relaxed);
        let copy = |range: &xcopy_range| {
            let mut bytes = vec![0; range.length as usize];
            // Somebody reads what is about to be written.
            dst.cached.read_exact_at(&mut bytes, range.dst_offset)?;
            src.image.read_exact_at(&mut bytes, range.src_offset)?;
            dst.image.write_all_at(&bytes, range.dst_offset)
        };
        for range in ranges {
            if range.dst_offset == BAD.load(Ordering::Relaxed) {
                return Err(Failure::new(errno::EIO).next_method().on_write());
            }
            copy(range).map_err(|_| Failure::new(errno::EIO))?;
        }
        Ok(Done::new())
    }
}

unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { init_blocking::<Past>(host) }
}

/// A loop device; its image is removed after it.
struct Loop {
    name: String,
    _image: tempfile::NamedTempFile,
}

impl Loop {
    /// Of an image that holds `stamp` in each block, with the block's number.
    fn new(stamp: u8) -> Option<Loop> {
        let image = tempfile::NamedTempFile::new().expect("an image");
        image
            .as_file()
            .write_all_at(&stamped(stamp), 0)
            .expect("its bytes");
        let made = Process::new("losetup")
            .args(["--find", "--show"])
            .arg(image.path())
            .output();
        match made {
            Ok(output) if output.status.success() => Some(Loop {
                name: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
                _image: image,
            }),
            _ => None,
        }
    }

    /// Everything, through the page cache.
    fn read(&self) -> Vec<u8> {
        let file = File::open(&self.name).expect("the device");
        let mut bytes = vec![0; SIZE];
        file.read_exact_at(&mut bytes, 0).expect("its bytes");
        bytes
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Process::new("losetup")
            .args(["--detach", &self.name])
            .status();
    }
}

/// Blocks of 512 bytes that tell which disk and block they are.
fn stamped(stamp: u8) -> Vec<u8> {
    let mut bytes = vec![stamp; SIZE];
    for (number, block) in bytes.chunks_exact_mut(512).enumerate() {
        block[..8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    bytes
}

/// Two loop devices, opened where the plugin is.
struct Bed {
    rig: Rig,
    src: u32,
    dst: u32,
    to: Loop,
    _from: Loop,
}

impl Bed {
    /// `None`, with the reason printed, where there can be none.
    fn new() -> Option<Bed> {
        let (Some(from), Some(to)) = (Loop::new(0xa1), Loop::new(0xb2)) else {
            println!("SKIP: no loop device: run as root with losetup and free loop devices");
            return None;
        };
        let rig = Rig::new();
        assert_eq!(rig.register(init), 0, "{}", last_error());
        Some(Bed {
            src: rig.open(&from.name),
            dst: rig.open(&to.name),
            rig,
            to,
            _from: from,
        })
    }
}

#[test]
fn no_page_of_the_destination_stays_stale() {
    let Some(Bed {
        rig,
        src,
        dst,
        to,
        _from,
    }) = Bed::new()
    else {
        return;
    };
    // Every page of the destination is cached before, and again during the copy. The
    // reader keeps the device open, or the last close would drop them.
    let _reader = File::open(&to.name).expect("the device");
    assert!(to.read() == stamped(0xb2));
    let done = rig.run(&copy(
        1,
        src,
        dst,
        xcopy_range {
            src_offset: SRC_AT as u64,
            dst_offset: DST_AT as u64,
            length: LENGTH as u64,
        },
    ));
    assert_eq!(
        (done.res, done.bytes_copied),
        (0, LENGTH as u64),
        "{done:?}"
    );
    let asked = ASKED.load(Ordering::Relaxed);
    assert!(
        asked > 0 && asked < LENGTH as u64,
        "both had a part: {asked}"
    );
    let mut expected = stamped(0xb2);
    expected[DST_AT..DST_AT + LENGTH].copy_from_slice(&stamped(0xa1)[SRC_AT..SRC_AT + LENGTH]);
    if done.flags & XCOPY_CPL_CACHE_UNVERIFIED != 0 {
        println!("SKIP: the kernel did not let go of pages that somebody else uses");
        return;
    }
    let seen = to.read();
    let wrong = seen
        .iter()
        .zip(&expected)
        .position(|(seen, expected)| seen != expected);
    assert_eq!(wrong, None, "the first stale byte");
}

/// What the host writes after that may fail too, when nobody is told any more.
#[test]
fn what_the_host_writes_after_a_write_error_is_flushed() {
    let Some(Bed {
        rig,
        src,
        dst,
        to,
        _from,
    }) = Bed::new()
    else {
        return;
    };
    let part = |at: usize| xcopy_range {
        src_offset: at as u64,
        dst_offset: at as u64,
        length: 65_536,
    };
    // A place that the other test does not write to.
    BAD.store((SIZE - 65_536) as u64, Ordering::Relaxed);
    for (at, flushes) in [(0, 0), (SIZE - 65_536, 1)] {
        let before = rig.remote.stats().commands;
        let done = rig.run(&copy(1, src, dst, part(at)));
        assert_eq!((done.res, done.bytes_copied), (0, 65_536), "{done:?}");
        let failed = u64::from(at != 0);
        assert_eq!(done.flags & XCOPY_CPL_FELL_BACK != 0, at != 0, "{done:?}");
        let commands = rig.remote.stats().commands - before;
        assert_eq!(commands, 1 + failed + flushes, "{done:?}");
    }
    assert!(to.read()[SIZE - 65_536..] == stamped(0xa1)[SIZE - 65_536..]);
}
