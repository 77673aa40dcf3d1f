//! A complete plugin: devices `template_rust:BYTES` in memory, the method
//! `template_rust` between two of them. Copy the directory, rename, and put your
//! device behind it.
//!
//! It is POLLED: commands are taken in `submit` and ended in `poll`, on the
//! thread of whoever copies, and sleepers are woken by a descriptor. If your
//! device's calls block, implement `Blocking` instead of `Queued`: one function.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{
    Description, Done, Failure, Host, Job, JobId, Method, Opened, Operation, Outcome, Plugin,
    QueueOptions, Queued, Verdict, errno,
};

const BLOCK: u32 = 512;
const RANGES: u32 = 16;

/// One context's state: nothing, here.
struct Template;

/// A device. Commands of several queues share it, hence the lock.
struct Disk(RwLock<Vec<u8>>);

impl Plugin for Template {
    const NAME: &'static CStr = c"template_rust";
    const VERSION: &'static CStr = c"0.1";
    const DESCRIPTION: &'static CStr = c"memory";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 =
        XCOPY_CAN_COPY | XCOPY_CAN_ZERO | XCOPY_CAN_FLUSH | XCOPY_CAN_READ | XCOPY_CAN_WRITE;
    /// `.offloads()` belongs on a method whose bytes do not pass through the host.
    const METHODS: &'static [Method] = &[Method::new(c"template_rust")];
    const MAX_RANGES: u32 = RANGES;

    type Device = Disk;

    fn start(_host: Host) -> Result<Template, Failure> {
        Ok(Template)
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Disk>, Failure> {
        let size = device.name().and_then(|name| name.parse::<usize>().ok());
        let size = size
            .filter(|size| *size > 0 && size.is_multiple_of(BLOCK as usize))
            .ok_or_else(|| {
                Failure::new(errno::EINVAL).because("give a size in bytes, a multiple of 512")
            })?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| {
            Failure::new(errno::ENOMEM).because("memory has no room for that; give a smaller size")
        })?;
        bytes.resize(size, 0);
        Ok(Opened::new(Disk(RwLock::new(bytes)), BLOCK, size as u64))
    }

    fn probe(
        &self,
        _method: usize,
        src: Option<&Disk>,
        dst: Option<&Disk>,
    ) -> Result<Verdict, Failure> {
        if src.is_none() || dst.is_none() {
            let text = "makes no tokens; copy between two of its devices";
            return Ok(Verdict::refused(XCOPY_REASON_WRONG_DEVICE, text));
        }
        Ok(Verdict::usable(xcopy_limits {
            src_granularity: BLOCK,
            dst_granularity: BLOCK,
            length_granularity: BLOCK,
            max_ranges: RANGES,
            ..xcopy_limits::default()
        }))
    }
}

/// One queue: jobs that wait, and a pair of sockets that wakes a sleeper.
struct Queue {
    jobs: VecDeque<Job<Disk>>,
    window: usize,
    wake: UnixStream,
    sleeper: UnixStream,
    armed: bool,
}

impl Queue {
    fn wake_sleeper(&mut self) {
        if self.armed && !self.jobs.is_empty() {
            // A full socket is readable already.
            let _ = self.wake.write(&[1]);
        }
    }
}

impl Queued for Template {
    type Queue = Queue;
    const HAS_FD: bool = true;
    const CANCELS: bool = true;

    fn queue(&self, options: QueueOptions) -> Result<Queue, Failure> {
        let (wake, sleeper) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        sleeper.set_nonblocking(true)?;
        let window = options.window as usize;
        Ok(Queue {
            jobs: VecDeque::with_capacity(window),
            window,
            wake,
            sleeper,
            armed: false,
        })
    }

    fn submit(&self, queue: &mut Queue, job: Job<Disk>) -> Result<(), Job<Disk>> {
        if queue.jobs.len() == queue.window {
            return Err(job);
        }
        queue.jobs.push_back(job);
        queue.wake_sleeper();
        Ok(())
    }

    fn poll(&self, queue: &mut Queue, max: usize) {
        for _ in 0..max {
            let Some(job) = queue.jobs.pop_front() else {
                // Nothing to do, so nothing to be woken for.
                let mut bytes = [0; 64];
                while queue.sleeper.read(&mut bytes).is_ok_and(|n| n > 0) {}
                return;
            };
            job.run(carry_out);
        }
    }

    fn fd<'a>(&self, queue: &'a mut Queue) -> Option<BorrowedFd<'a>> {
        Some(queue.sleeper.as_fd())
    }

    fn arm(&self, queue: &mut Queue, on: bool) -> bool {
        queue.armed = on;
        on && !queue.jobs.is_empty()
    }

    fn cancel(&self, queue: &mut Queue, job: JobId) {
        if let Some(at) = queue.jobs.iter().position(|waiting| waiting.id() == job)
            && let Some(job) = queue.jobs.remove(at)
        {
            job.end(Err(Failure::new(errno::ECANCELED).untouched()));
        }
    }
}

/// Success only for what certainly happened: a lost answer is an error.
fn carry_out(operation: Operation<'_, Disk>) -> Outcome {
    match operation {
        Operation::Copy { src, dst, ranges } => {
            for range in ranges {
                // One lock at a time: both ends may be the same device.
                let bytes = part(&src.read()?, range.src_offset, range.length)?.to_vec();
                let mut to = dst.write()?;
                part_mut(&mut to, range.dst_offset, range.length)?.copy_from_slice(&bytes);
            }
        }
        Operation::Zero { dst, ranges } => {
            for range in ranges {
                part_mut(&mut dst.write()?, range.dst_offset, range.length)?.fill(0);
            }
        }
        Operation::Read {
            src,
            offset,
            buffer,
        } => {
            let from = src.read()?;
            buffer.copy_from_slice(part(&from, offset, buffer.len() as u64)?);
        }
        Operation::Write { dst, offset, data } => {
            part_mut(&mut dst.write()?, offset, data.len() as u64)?.copy_from_slice(data);
        }
        Operation::Flush { .. } => {}
        _ => return Err(Failure::new(errno::ENOTSUP).next_method().untouched()),
    }
    Ok(Done::new())
}

impl Disk {
    fn read(&self) -> Result<RwLockReadGuard<'_, Vec<u8>>, Failure> {
        // A panic in the midst of a write: what is there is not known.
        self.0.read().map_err(|_| Failure::new(errno::EIO).fatal())
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Vec<u8>>, Failure> {
        self.0.write().map_err(|_| Failure::new(errno::EIO).fatal())
    }
}

/// Bytes `start..start + length`, if they are all there.
fn place(start: u64, length: u64) -> Option<std::ops::Range<usize>> {
    let end = start.checked_add(length)?;
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn outside() -> Failure {
    Failure::new(errno::EINVAL).reason(XCOPY_REASON_BOUNDS)
}

fn part(bytes: &[u8], start: u64, length: u64) -> Result<&[u8], Failure> {
    let place = place(start, length);
    place.and_then(|place| bytes.get(place)).ok_or_else(outside)
}

fn part_mut(bytes: &mut [u8], start: u64, length: u64) -> Result<&mut [u8], Failure> {
    let place = place(start, length);
    place
        .and_then(|place| bytes.get_mut(place))
        .ok_or_else(outside)
}

xcopy_plugin_sdk::export!(xcopy_plugin_sdk::init_polled::<Template>);
