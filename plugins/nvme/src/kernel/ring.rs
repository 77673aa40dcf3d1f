//! Commands by io_uring (IORING_OP_URING_CMD, Linux 5.19): one call of the kernel
//! for a batch, and no thread.

use super::node::Node;
use crate::system::{Answer, Completion, Ring};
use crate::wire::Command;
use io_uring::cqueue::Entry32;
use io_uring::squeue::Entry128;
use io_uring::{IoUring, Probe, opcode, types};
use std::io::{self, Error};
use std::os::fd::BorrowedFd;
use zerocopy::IntoBytes;

/// `_IOWR('N', 0x80, struct nvme_uring_cmd)` of <linux/nvme_ioctl.h>.
const NVME_URING_CMD_IO: u32 = 3 << 30 | (size_of::<Command>() as u32) << 16 | 0x4e << 8 | 0x80;

/// A ring whose entries have room for NVMe commands and their results.
pub struct UringRing {
    ring: IoUring<Entry128, Entry32>,
    /// Commands in the submission queue that the kernel does not know of yet.
    queued: u32,
}

impl UringRing {
    /// A ring for so many commands at once. An error says why there is none: the
    /// kernel lacks it, it is switched off, or a sandbox or limit forbids it.
    pub fn new(entries: u32, pinned: bool) -> io::Result<UringRing> {
        let ring = build(entries, pinned)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::UringCmd80::CODE) {
            return Err(Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(UringRing { ring, queued: 0 })
    }
}

/// A queue may change its owner while it is idle, so only a pinned one may say
/// that a single thread submits. Work that the kernel leaves to that thread waits
/// until it enters, which a flag tells; without, each end would interrupt it.
fn build(entries: u32, pinned: bool) -> io::Result<IoUring<Entry128, Entry32>> {
    let entries = entries.next_power_of_two();
    let builder = || {
        let mut builder = IoUring::<Entry128, Entry32>::builder();
        builder
            .dontfork()
            .setup_cqsize(entries * 2)
            .setup_coop_taskrun()
            .setup_taskrun_flag();
        builder
    };
    if pinned && let Ok(ring) = builder().setup_single_issuer().build(entries) {
        return Ok(ring);
    }
    builder().build(entries)
}

impl Ring<Node> for UringRing {
    fn push(&mut self, node: &Node, command: Command, token: u64) -> bool {
        let Some(fd) = node.char_fd() else {
            return false;
        };
        let mut place = [0; 80];
        let bytes = command.as_bytes();
        place[..bytes.len()].copy_from_slice(bytes);
        let entry = opcode::UringCmd80::new(types::Fd(fd), NVME_URING_CMD_IO)
            .cmd(place)
            .build()
            .user_data(token);
        // SAFETY: the node is open until the device is closed, and its data, whose
        // address and exact length the command has, stays as it is until the
        // command ends: the caller's word.
        let mut pushed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        if !pushed {
            self.enter();
            // SAFETY: as above.
            pushed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        }
        self.queued += u32::from(pushed);
        pushed
    }

    fn enter(&mut self) {
        const GET_EVENTS: u32 = 1;
        let mut submission = self.ring.submission();
        submission.sync();
        let queued = submission.len() as u32;
        let tasks = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if queued == 0 && !tasks {
            self.queued = 0;
            return;
        }
        let flags = if tasks { GET_EVENTS } else { 0 };
        // SAFETY: every queued entry was made by `push`; there is no argument.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(queued, 0, flags, None)
        };
        // Refused for now (EAGAIN, EBUSY, EINTR): what is left stays queued, and
        // `is_ready` says so.
        self.queued = queued.saturating_sub(entered.unwrap_or(0) as u32);
    }

    fn next(&mut self) -> Option<(u64, Answer)> {
        let entry = self.ring.completion().next()?;
        let answer = match entry.result() {
            status @ 0.. => Ok(Completion {
                status: (status & 0x7fff) as u16,
                result: entry.big_cqe()[0],
            }),
            error => Err(-error),
        };
        Some((entry.user_data(), answer))
    }

    fn is_ready(&mut self) -> bool {
        let submission = self.ring.submission();
        let tasks = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        tasks || self.queued > 0 || !self.ring.completion().is_empty()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns its fd and is borrowed as long as the answer is.
        unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&self.ring)) }
    }

    fn abandon(self) {
        std::mem::forget(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_request_is_that_of_the_kernels_header() {
        assert_eq!(NVME_URING_CMD_IO, 0xc048_4e80);
    }

    #[test]
    fn a_ring_of_any_size_is_made_where_the_kernel_has_it() {
        for (entries, pinned) in [(1, false), (3, true), (1024, false)] {
            match UringRing::new(entries, pinned) {
                Ok(mut ring) => {
                    assert!(ring.fd().as_raw_fd() >= 0);
                    assert!(!ring.is_ready());
                    ring.enter();
                    assert!(ring.next().is_none());
                }
                Err(error) => println!("SKIP: no ring: {error}"),
            }
        }
    }
}
