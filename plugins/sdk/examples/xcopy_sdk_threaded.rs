//! A plugin whose jobs end on a thread of its own, as with a library that calls
//! back.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{
    Description, Done, Failure, Host, Job, Method, Opened, Operation, Plugin, QueueOptions, Queued,
    Verdict, errno,
};

struct Example;

/// Blocks of memory.
struct Disk(Mutex<Vec<u8>>);

impl Plugin for Example {
    const NAME: &'static CStr = c"sdk_threaded";
    const VERSION: &'static CStr = c"0.1";
    const DESCRIPTION: &'static CStr = c"an example with a thread of its own";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 = XCOPY_CAN_COPY | XCOPY_CAN_READ | XCOPY_CAN_WRITE;
    const METHODS: &'static [Method] = &[Method::new(c"sdk_threaded")];

    type Device = Disk;

    fn start(_host: Host) -> Result<Example, Failure> {
        Ok(Example)
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Disk>, Failure> {
        let size = device.name().and_then(|name| name.parse::<usize>().ok());
        match size.filter(|size| (1..=64 << 20).contains(size)) {
            Some(size) => {
                let size = size.next_multiple_of(512);
                let disk = Disk(Mutex::new(vec![0; size]));
                Ok(Opened::new(disk, 512, size as u64))
            }
            None => {
                Err(Failure::new(errno::EINVAL).because("give a size in bytes, at most 64 MiB"))
            }
        }
    }

    fn probe(&self, _: usize, src: Option<&Disk>, dst: Option<&Disk>) -> Result<Verdict, Failure> {
        Ok(match src.is_some() && dst.is_some() {
            true => Verdict::usable(xcopy_limits::default()),
            false => Verdict::refused(XCOPY_REASON_WRONG_DEVICE, "makes no tokens"),
        })
    }
}

/// One queue: its thread, which ends when the sender is gone.
struct Queue {
    jobs: Option<Sender<Job<Disk>>>,
    worker: Option<JoinHandle<()>>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

impl Queued for Example {
    type Queue = Queue;

    fn queue(&self, _options: QueueOptions) -> Result<Queue, Failure> {
        let (jobs, waiting) = channel::<Job<Disk>>();
        let worker = std::thread::Builder::new().spawn(move || {
            for job in waiting {
                job.run(|operation| {
                    carry_out(operation).ok_or_else(|| Failure::new(errno::EINVAL))?;
                    Ok(Done::new())
                });
            }
        })?;
        Ok(Queue {
            jobs: Some(jobs),
            worker: Some(worker),
        })
    }

    fn submit(&self, queue: &mut Queue, job: Job<Disk>) -> Result<(), Job<Disk>> {
        match &queue.jobs {
            Some(jobs) => jobs.send(job).map_err(|refused| refused.0),
            None => Err(job),
        }
    }

    fn poll(&self, _queue: &mut Queue, _max: usize) {}
}

fn carry_out(operation: Operation<'_, Disk>) -> Option<()> {
    let lock = |disk: &'_ Disk, work: &mut dyn FnMut(&mut Vec<u8>) -> Option<()>| {
        work(&mut disk.0.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let place = |at: u64, len: usize| at as usize..at as usize + len;
    match operation {
        Operation::Copy { src, dst, ranges } => {
            let mut pieces = VecDeque::new();
            lock(src, &mut |bytes| {
                for range in ranges {
                    let piece = bytes.get(place(range.src_offset, range.length as usize))?;
                    pieces.push_back((range.dst_offset, piece.to_vec()));
                }
                Some(())
            })?;
            lock(dst, &mut |bytes| {
                for (at, piece) in &pieces {
                    bytes
                        .get_mut(place(*at, piece.len()))?
                        .copy_from_slice(piece);
                }
                Some(())
            })
        }
        Operation::Read {
            src,
            offset,
            buffer,
        } => lock(src, &mut |bytes| {
            buffer.copy_from_slice(bytes.get(place(offset, buffer.len()))?);
            Some(())
        }),
        Operation::Write { dst, offset, data } => lock(dst, &mut |bytes| {
            bytes
                .get_mut(place(offset, data.len()))?
                .copy_from_slice(data);
            Some(())
        }),
        _ => None,
    }
}

xcopy_plugin_sdk::export!(xcopy_plugin_sdk::init_threaded::<Example>);
