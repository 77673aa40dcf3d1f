//! The choice between an offload and the host for many small ranges, of which one
//! command of the host takes many: its trials stay as small as those of large ones.
//! On loop devices, since the host bridges native devices range by range.
#![allow(missing_docs)]

use std::ffi::CStr;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU64, Ordering};
use xcopy::abi::*;
use xcopy_ctests::rig::{Rig, last_error, request};
use xcopy_plugin_sdk::{
    Blocking, Command, Description, Done, Failure, Host, Method, Opened, Operation, Outcome,
    Plugin, Verdict, errno, init_blocking,
};

const RANGE: u64 = 4096;
const COUNT: u64 = 16384;
/// Bytes of the request: long enough to compare methods.
const LARGE: u64 = COUNT * RANGE;

/// Bytes that the plugin was asked for.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Copies disks in no time: it says so and does nothing.
struct Instant;

impl Plugin for Instant {
    const NAME: &'static CStr = c"instant";
    const VERSION: &'static CStr = c"1";
    const DESCRIPTION: &'static CStr = c"says that it copied";
    const FLAGS: u32 = XCOPY_PLUGIN_KERNEL;
    const COMMANDS: u32 = XCOPY_CAN_COPY;
    const METHODS: &'static [Method] = &[Method::new(c"instant").offloads()];
    const MAX_RANGES: u32 = 16;
    type Device = ();

    fn start(_host: Host) -> Result<Self, Failure> {
        Ok(Instant)
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<()>, Failure> {
        match device.kind() {
            XCOPY_KIND_DISK => Ok(Opened::new((), device.block_size(), device.size_bytes())),
            _ => Err(Failure::new(errno::ENOTSUP)),
        }
    }

    fn probe(&self, _: usize, _: Option<&()>, _: Option<&()>) -> Result<Verdict, Failure> {
        Ok(Verdict::usable(xcopy_limits {
            max_bytes: 16 * RANGE,
            max_ranges: 16,
            max_concurrent: 4,
            ..xcopy_limits::default()
        }))
    }
}

impl Blocking for Instant {
    fn execute(&self, command: &mut Command<'_, ()>) -> Outcome {
        let bytes = command.bytes();
        match command.operation() {
            Operation::Copy { .. } => {
                ASKED.fetch_add(bytes, Ordering::Relaxed);
                Ok(Done::new())
            }
            _ => Err(command.unknown()),
        }
    }
}

unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { init_blocking::<Instant>(host) }
}

/// A loop device; its image is removed after it.
struct Loop {
    name: String,
    _image: tempfile::NamedTempFile,
}

impl Loop {
    fn new() -> Option<Loop> {
        let image = tempfile::NamedTempFile::new().expect("an image");
        image.as_file().set_len(2 * LARGE).expect("its size");
        let made = Process::new("losetup")
            .args(["--find", "--show"])
            .arg(image.path())
            .output();
        match made {
            Ok(output) if output.status.success() => {
                let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                Some(Loop {
                    name,
                    _image: image,
                })
            }
            _ => None,
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Process::new("losetup")
            .args(["--detach", &self.name])
            .status();
    }
}

#[test]
fn the_hosts_share_of_a_gather_is_its_trials() {
    let (Some(from), Some(to)) = (Loop::new(), Loop::new()) else {
        println!("SKIP: no loop device: run as root with losetup and free loop devices");
        return;
    };
    let rig = Rig::new();
    assert_eq!(rig.register(init), 0, "{}", last_error());
    let (src, dst) = (rig.open(&from.name), rig.open(&to.name));
    // Every other block, to one piece.
    let ranges: Vec<_> = (0..COUNT)
        .map(|n| xcopy_range {
            src_offset: 2 * n * RANGE,
            dst_offset: n * RANGE,
            length: RANGE,
        })
        .collect();
    let ext = xcopy_ext {
        size: size_of::<xcopy_ext>() as u32,
        reserved: 0,
        ranges: ranges.as_ptr(),
        nranges: COUNT,
        report: std::ptr::null_mut(),
        token_lifetime_s: 0,
        token_type: 0,
    };
    let done = rig.run(&xcopy_request {
        ext: &ext,
        ..request(7, XCOPY_OP_COPY, src, dst)
    });
    assert_eq!((done.res, done.bytes_copied), (0, LARGE), "{done:?}");
    let asked = ASKED.load(Ordering::Relaxed);
    assert_eq!(done.bytes_offloaded, asked, "{done:?}");
    assert!(asked >= LARGE - (8 << 20), "{asked}: {done:?}");
    assert!(asked < LARGE, "the host had its trial: {done:?}");
}
