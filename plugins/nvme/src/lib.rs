//! The NVMe plugin: the controller copies by itself (the Copy command, 19h).
//!
//! One command has up to 256 source ranges and one destination. Ranges are packed
//! into commands by what the namespaces state (MSSRL, MCL, MSRC). Commands go by
//! io_uring to the namespace's character node (/dev/ngXnY), without a thread; by
//! ioctl on a few threads where that is not to be had.
//!
//! Copies between two namespaces of one controller need a feature of it switched
//! on, Host Behavior Support: done only where the request allows it, and where
//! the kernel does.
//!
//! | module | subject |
//! |---|---|
//! | wire | layouts of commands, descriptors, identify data |
//! | status | statuses and errnos, and what follows |
//! | system | what is needed of the system; `kernel` is Linux |
//! | behavior | which descriptor formats are on |
//! | namespace, describe | a device, and what was said of it |
//! | pair, paths | verdicts, and making a Copy |
//! | carry | ends of commands, looks at the device |
//! | queue, workers | commands under way |

mod behavior;
mod carry;
mod describe;
mod kernel;
mod namespace;
mod pair;
mod paths;
mod queue;
mod status;
pub mod system;
pub mod wire;
mod workers;

use behavior::Controllers;
use namespace::Namespace;
use queue::Queue;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use system::System;
use workers::Workers;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{
    Description, Failure, Host, Job, Level, Method, Opened, Plugin, QueueOptions, Queued, Verdict,
    init_polled,
};

pub use kernel::Kernel;
pub use paths::Paths;

/// One context's state, over a kind of system.
pub struct Nvme<S> {
    host: Host,
    workers: Arc<Workers>,
    controllers: Controllers,
    /// That there is no ring was said.
    told: AtomicBool,
    system: PhantomData<fn(S)>,
}

/// The plugin's entry point, for static registration.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { init_polled::<Nvme<Kernel>>(host) }
}

impl<S: System> Plugin for Nvme<S> {
    const NAME: &'static CStr = S::NAME;
    const VERSION: &'static CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"?",
        };
    const DESCRIPTION: &'static CStr = c"Lets NVMe controllers copy (the Copy command)";
    const FLAGS: u32 = S::FLAGS;
    const COMMANDS: u32 = XCOPY_CAN_COPY | XCOPY_CAN_FLUSH;
    const METHODS: &'static [Method] = &[Method::new(c"nvme_copy").offloads().bypasses_cache()];
    const MAX_RANGES: u32 = wire::MAX_RANGES as u32;
    type Device = Namespace<S::Port>;

    fn start(host: Host) -> Result<Self, Failure> {
        Ok(Nvme {
            host,
            workers: Arc::default(),
            controllers: Controllers::default(),
            told: AtomicBool::new(false),
            system: PhantomData,
        })
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Self::Device>, Failure> {
        let link = S::connect(device)?;
        let (block, size) = (link.block, link.size);
        let switches = self.controllers.of(&link.controller);
        let namespace = Namespace::new(link, switches, (self.host.clone(), device.events()))?;
        Ok(Opened::new(namespace, block, size))
    }

    fn probe(
        &self,
        _method: usize,
        src: Option<&Self::Device>,
        dst: Option<&Self::Device>,
    ) -> Result<Verdict, Failure> {
        match (src, dst) {
            (Some(src), Some(dst)) => pair::judge(src, dst),
            _ => Ok(Verdict::refused(
                XCOPY_REASON_NOT_SUPPORTED,
                "NVMe has no tokens",
            )),
        }
    }

    fn describe(&self, device: &Self::Device) -> Option<String> {
        Some(device.describe())
    }
}

impl<S: System> Queued for Nvme<S> {
    type Queue = Queue<S>;
    const HAS_FD: bool = true;

    fn queue(&self, options: QueueOptions) -> Result<Queue<S>, Failure> {
        let ring = match S::ring(queue::entries(options.window), options.pinned) {
            Ok(ring) => Some(ring),
            Err(why) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    let text = format!("NVMe commands go by ioctl on a few threads: {why}");
                    self.host.log(Level::Info, &text);
                }
                None
            }
        };
        Queue::new(options, ring, self.workers.clone())
    }

    fn submit(
        &self,
        queue: &mut Queue<S>,
        job: Job<Self::Device>,
    ) -> Result<(), Job<Self::Device>> {
        queue.submit(job)
    }

    fn submitted(&self, queue: &mut Queue<S>) {
        queue.enter();
    }

    fn poll(&self, queue: &mut Queue<S>, max: usize) {
        queue.poll(max);
    }

    fn fd<'a>(&self, queue: &'a mut Queue<S>) -> Option<BorrowedFd<'a>> {
        Some(queue.fd())
    }

    fn arm(&self, queue: &mut Queue<S>, _on: bool) -> bool {
        queue.is_ready()
    }
}
