//! What a ring tells the kernel: how it is set up, and the operation of a piece.

use super::ring::PIECES;
use super::ring_chunks::Chunk;
use super::ring_work::{Piece, ReadBy, RingCopy, Step};
use io_uring::{IoUring, opcode, squeue, types};

/// The operation that a piece waits for, on its chunk at `memory`; `None` if it
/// is over.
pub(super) fn entry_of(
    piece: &Piece,
    copy: &RingCopy,
    chunk: Chunk,
    memory: *mut u8,
) -> Option<squeue::Entry> {
    let (read, written) = (piece.read, piece.written);
    let (from, to) = (copy.src_offset + piece.at, copy.dst_offset + piece.at);
    Some(match piece.step {
        Step::Read => {
            let fd = match (piece.read_by, copy.direct_src) {
                (ReadBy::Direct, Some(fd)) => fd,
                _ => copy.src,
            };
            let part = memory.wrapping_add(read as usize);
            let (fd, length) = (types::Fd(fd), piece.want - read);
            let offset = from + u64::from(read);
            match chunk.registered {
                Some(buffer) => opcode::ReadFixed::new(fd, part, length, buffer)
                    .offset(offset)
                    .build(),
                None => opcode::Read::new(fd, part, length).offset(offset).build(),
            }
        }
        Step::Write => {
            let fd = match copy.direct_dst {
                Some(fd) if piece.write_direct => fd,
                _ => copy.dst,
            };
            let part = memory.wrapping_add(written as usize);
            let (fd, length) = (types::Fd(fd), read - written);
            let offset = to + u64::from(written);
            match chunk.registered {
                Some(buffer) => opcode::WriteFixed::new(fd, part, length, buffer)
                    .offset(offset)
                    .build(),
                None => opcode::Write::new(fd, part, length).offset(offset).build(),
            }
        }
        Step::Punch => opcode::Fallocate::new(types::Fd(copy.dst), u64::from(piece.want))
            .offset(to)
            .mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
            .build(),
        Step::Grow => opcode::Write::new(types::Fd(copy.dst), memory, 1)
            .offset(to + u64::from(piece.want) - 1)
            .build(),
        Step::Done => return None,
    })
}

/// The ring. A queue may change its owner while it is idle, so only a pinned
/// one may say that a single thread submits.
pub(super) fn build(pinned: bool) -> std::io::Result<IoUring> {
    let entries = PIECES;
    if pinned {
        let built = IoUring::builder()
            .dontfork()
            .setup_cqsize(entries * 2)
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(entries);
        if built.is_ok() {
            return built;
        }
    }
    // Work that is left to this thread waits until it enters the kernel, which
    // the flag tells; without, each end would interrupt it (Linux 5.19).
    let built = IoUring::builder()
        .dontfork()
        .setup_cqsize(entries * 2)
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match built {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder()
            .dontfork()
            .setup_cqsize(entries * 2)
            .build(entries),
        other => other,
    }
}
