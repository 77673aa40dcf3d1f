//! Makes a range read as zeroes, by the cheapest way that the destination has.

use super::pieces::{Emptiness, Holes, is_hole};
use super::{Outcome, Side, errno, in_file_space, write_full};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use xcopy_abi::XCOPY_KIND_FILE;

/// Bytes per call, so that a stop is seen; a disk may have to write them all.
const FILE_STEP: u64 = 1 << 30;
const DISK_STEP: u64 = 64 << 20;
/// Bytes per write where zeroes have to be written.
const WRITE_STEP: usize = 128 << 10;

/// Aligned for an O_DIRECT fd.
#[repr(align(4096))]
struct Zeroes([u8; WRITE_STEP]);
static ZEROES: Zeroes = Zeroes([0; WRITE_STEP]);

mod ioctl {
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
    nix::ioctl_read_bad!(
        blksszget,
        nix::request_code_none!(0x12, 104),
        nix::libc::c_int
    );
}

/// Ways without data, in the order in which they are tried; writing is last.
#[derive(Clone, Copy)]
enum Way {
    /// A hole of a file.
    FileHole,
    /// Unwritten extents of a file.
    FileRange,
    /// A disk's deallocation, which the kernel refuses unless zeroes are certain.
    DiskHole,
    /// A disk's write-zeroes command.
    DiskRange,
    /// The same on kernels without fallocate for disks.
    DiskIoctl,
}

const FILE_WAYS: &[Way] = &[Way::FileHole, Way::FileRange];
const DISK_WAYS: &[Way] = &[Way::DiskHole, Way::DiskRange, Way::DiskIoctl];

/// Makes `length` bytes of `dst` read as zeroes; a file grows as needed and
/// never shrinks. All bytes count as `zeroed`.
pub fn zero(dst: RawFd, kind: u32, offset: u64, length: u64, stop: &AtomicBool) -> Outcome {
    zero_some(dst, kind, offset, length, u64::MAX, stop)
}

/// The same until `room` bytes took some work, which holes of a file do not: a
/// prefix short of the length is gone on with by another call.
pub fn zero_some(
    dst: RawFd,
    kind: u32,
    offset: u64,
    length: u64,
    mut room: u64,
    stop: &AtomicBool,
) -> Outcome {
    let mut holes = Holes::default();
    zero_within(dst, kind, (offset, length), &mut holes, &mut room, stop)
}

/// The same with what is known of a file's holes; `room` becomes what is left of it.
pub(super) fn zero_within(
    dst: RawFd,
    kind: u32,
    (offset, length): (u64, u64),
    holes: &mut Holes,
    room: &mut u64,
    stop: &AtomicBool,
) -> Outcome {
    let mut done = Outcome::default();
    if !in_file_space(offset, length) {
        done.error = Some((libc::EFBIG, Side::Write));
        return done;
    }
    let is_file = kind == XCOPY_KIND_FILE;
    let (mut ways, step, align) = match is_file {
        true => (FILE_WAYS, FILE_STEP, 1),
        false => (DISK_WAYS, DISK_STEP, logical_block(dst)),
    };
    while done.prefix < length && *room > 0 && !stop.load(Ordering::Relaxed) {
        let at = offset + done.prefix;
        let mut left = length - done.prefix;
        let mut step = step;
        if is_file {
            match holes.at(dst, at, left) {
                Emptiness::Hole(bytes) => {
                    done.add_zeroed(bytes);
                    continue;
                }
                // There is nothing to be taken away, however long it is.
                Emptiness::Beyond => step = u64::MAX,
                Emptiness::Unknown(bytes) => left = bytes,
            }
        }
        // What is out of line with the disk's blocks can only be written.
        let head = at.next_multiple_of(align) - at;
        let (part, way) = match ways.first() {
            _ if head > 0 => (left.min(head), None),
            Some(Way::FileHole) if is_better_written(dst, at, left) => (left, None),
            Some(way) if left >= align => ((left - left % align).min(step), Some(*way)),
            _ => (left.min(WRITE_STEP as u64), None),
        };
        *room = room.saturating_sub(part);
        done.touch(part);
        match way {
            Some(way) => match run(way, dst, at, part) {
                Ok(()) => done.add_zeroed(part),
                Err(libc::EINTR) => {}
                // Another way may do, and writing tells the true error.
                Err(_) => ways = &ways[1..],
            },
            None => {
                let zeroes = &ZEROES.0[..part.min(WRITE_STEP as u64) as usize];
                let (written, error) = write_full(dst, zeroes, at);
                done.add_zeroed(written as u64);
                if let Some(error) = error {
                    done.error = Some((error, Side::Write));
                    break;
                }
            }
        }
    }
    done
}

/// Whether zeroes are cheaper than a hole in a file: where no whole block comes
/// free a punch writes them too, and syncs the file on some file systems. What is
/// a hole stays one, and an O_DIRECT fd takes no part of a block.
fn is_better_written(fd: RawFd, at: u64, length: u64) -> bool {
    // The smallest block that file systems have in common.
    const BLOCK: u64 = 4096;
    let has_block = at.next_multiple_of(BLOCK) + BLOCK <= at + length;
    // SAFETY: asks for the flags of a number; a bad fd is an error.
    let is_direct = || unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_DIRECT != 0;
    let is_zero = || file_size(fd).is_ok_and(|size| size >= at + length) && is_hole(fd, at, length);
    !has_block && !is_direct() && !is_zero()
}

fn run(way: Way, fd: RawFd, offset: u64, length: u64) -> Result<(), i32> {
    use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
    match way {
        Way::FileHole => {
            grow(fd, offset + length)?;
            fallocate(
                fd,
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                offset,
                length,
            )
        }
        Way::FileRange => fallocate(fd, FALLOC_FL_ZERO_RANGE, offset, length),
        Way::DiskHole => fallocate(
            fd,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            offset,
            length,
        ),
        Way::DiskRange => fallocate(
            fd,
            FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
            offset,
            length,
        ),
        Way::DiskIoctl => {
            // SAFETY: the kernel reads two numbers behind the pointer, which
            // lives for the call.
            unsafe { ioctl::blkzeroout(fd, &[offset, length]) }
                .map(drop)
                .map_err(|e| e as i32)
        }
    }
}

/// Makes a file at least `size` long by its last byte, which is one to be
/// zeroed. ftruncate would cut off what another thread wrote further out
/// between the look at the size and the call.
fn grow(fd: RawFd, size: u64) -> Result<(), i32> {
    if file_size(fd)? >= size {
        return Ok(());
    }
    match write_full(fd, &ZEROES.0[..1], size - 1) {
        // An O_DIRECT fd takes whole blocks only; what is allocated is punched.
        (_, Some(libc::EINVAL)) => fallocate(fd, 0, size - 1, 1),
        (_, Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Bytes of a file.
fn file_size(fd: RawFd) -> Result<u64, i32> {
    // SAFETY: an all-zero stat is valid, and fstat only writes to it.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a bad fd is an error.
    match unsafe { libc::fstat64(fd, &mut stat) } {
        0 => Ok(stat.st_size as u64),
        _ => Err(errno()),
    }
}

fn fallocate(fd: RawFd, mode: i32, offset: u64, length: u64) -> Result<(), i32> {
    // SAFETY: takes numbers only; a bad fd or range is an error.
    match unsafe { libc::fallocate64(fd, mode, offset as i64, length as i64) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// Bytes of a disk's logical block; 512 where it cannot be asked.
fn logical_block(fd: RawFd) -> u64 {
    let mut bytes = 0;
    // SAFETY: the kernel writes one int behind the pointer.
    match unsafe { ioctl::blksszget(fd, &mut bytes) } {
        Ok(_) if bytes > 0 => bytes as u64,
        _ => 512,
    }
}
