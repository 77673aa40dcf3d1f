//! Copies many small ranges through host memory: what lies close together at the
//! source is read at once, and what the disk has to read is asked for ahead.

use super::copy::ask_for;
use super::{CopyJob, Looks, Outcome, copy, read_full, write_full};
use crate::device::cached_pages;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use xcopy_abi::xcopy_range;

/// Bytes between two ranges that are read and not used: copying so many within
/// the processor costs what a system call does.
const GAP_BYTES: u64 = 4096;
/// Ranges up to this length are moved together in the buffer, to be written at
/// once where they adjoin at the destination.
const MOVE_BYTES: u64 = 4096;
/// Ranges from this length on the kernel moves by itself where it is asked to.
const PAGE_BYTES: u64 = 4096;
/// Ranges that are asked for ahead, where the first of them is not in the page cache.
const AHEAD: usize = 16;

/// Copies of one pair of files.
pub struct RangesJob<'a> {
    /// Open for reading.
    pub src: RawFd,
    /// Open for writing.
    pub dst: RawFd,
    /// Absolute offsets; each is below 2^63 with its length.
    pub ranges: &'a [xcopy_range],
    /// Where holes are looked for, as in `CopyJob`.
    pub looks: Option<&'a mut Looks>,
    /// Bounds what is read at once.
    pub buffer: &'a mut [u8],
    /// The destination is a regular file, not a disk.
    pub dst_is_file: bool,
    /// The kernel is asked to move the larger ranges by itself (`Mover`).
    pub by_kernel: bool,
    /// Ends the copies between two ranges.
    pub stop: &'a AtomicBool,
}

/// Copies the ranges in their order; offsets of the outcome are bytes from the
/// start of the first, in that order.
pub fn copy_ranges(mut job: RangesJob) -> Outcome {
    let mut done = Outcome::default();
    let mut at = 0;
    while let Some(rest) = job.ranges.get(at..).filter(|rest| !rest.is_empty()) {
        if at.is_multiple_of(AHEAD) {
            ask_ahead(job.src, rest);
        }
        let limit = AHEAD - at % AHEAD;
        let single = job.looks.is_some() || job.by_kernel && rest[0].length >= PAGE_BYTES;
        let group = &rest[..match single {
            true => 1,
            false => near(rest, job.buffer.len() as u64).min(limit),
        }];
        at += group.len();
        if job.stop.load(Ordering::Relaxed) {
            return done;
        }
        if group.len() > 1 {
            let bytes = group.iter().map(|range| range.length).sum();
            done.touch(bytes);
            if job.together(group) {
                done.add_copied(bytes);
                continue;
            }
        }
        for range in group {
            let part = job.alone(range);
            done.touch(part.touched);
            done.copied += part.copied;
            done.zeroed += part.zeroed;
            done.prefix += part.prefix;
            done.error = part.error;
            if part.prefix < range.length {
                return done;
            }
        }
    }
    done
}

impl RangesJob<'_> {
    fn alone(&mut self, range: &xcopy_range) -> Outcome {
        copy(CopyJob {
            src: self.src,
            dst: self.dst,
            src_offset: range.src_offset,
            dst_offset: range.dst_offset,
            length: range.length,
            ahead: 0,
            looks: self.looks.as_deref_mut(),
            room: u64::MAX,
            buffer: self.buffer,
            dst_is_file: self.dst_is_file,
            by_kernel: self.by_kernel && range.length >= PAGE_BYTES,
            stop: self.stop,
        })
    }

    /// One read for ranges that lie close together. False after any trouble: then
    /// each is to be copied by itself, which finds the true error and its place.
    fn together(&mut self, group: &[xcopy_range]) -> bool {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return false;
        };
        let base = first.src_offset;
        let window = (last.src_offset + last.length - base) as usize;
        let Some(window) = self.buffer.get_mut(..window) else {
            return false;
        };
        if read_full(self.src, window, base) != (window.len(), None) {
            return false;
        }
        let mut at = 0;
        while let Some(range) = group.get(at) {
            let start = (range.src_offset - base) as usize;
            let mut end = start + range.length as usize;
            let mut dst_end = range.dst_offset + range.length;
            at += 1;
            while let Some(next) = group.get(at).filter(|next| next.dst_offset == dst_end) {
                let from = (next.src_offset - base) as usize;
                let length = next.length as usize;
                if from != end && next.length > MOVE_BYTES {
                    break;
                }
                window.copy_within(from..from + length, end);
                end += length;
                dst_end += next.length;
                at += 1;
            }
            if write_full(self.dst, &window[start..end], range.dst_offset)
                .1
                .is_some()
            {
                return false;
            }
        }
        true
    }
}

/// How many of the first ranges ascend at the source with small gaps and lie
/// within a window of `room` bytes; at least 1.
fn near(ranges: &[xcopy_range], room: u64) -> usize {
    let end = |range: &xcopy_range| range.src_offset.saturating_add(range.length);
    let Some(base) = ranges.first().map(|first| first.src_offset) else {
        return 1;
    };
    let follows = |pair: &&[xcopy_range]| match pair {
        [one, next] => {
            let gap = next.src_offset.checked_sub(end(one));
            gap.is_some_and(|gap| gap <= GAP_BYTES) && end(next) - base <= room
        }
        _ => false,
    };
    1 + ranges.windows(2).take_while(follows).count()
}

/// Has the kernel begin to read what comes next, if it is not in the page cache:
/// reads of scattered places would wait for the disk one by one.
fn ask_ahead(src: RawFd, ranges: &[xcopy_range]) {
    let [first, rest @ ..] = ranges else { return };
    if cached_pages(src, first.src_offset, first.length) != Some(0) {
        return;
    }
    for range in rest.iter().take(AHEAD - 1) {
        ask_for(src, range.src_offset, range.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    fn pattern(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u8
        };
        (0..length).map(step).collect()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("room");
        file
    }

    fn run(src: &File, dst: &File, ranges: &[xcopy_range], room: usize) -> Outcome {
        let mut buffer = vec![0; room];
        copy_ranges(RangesJob {
            src: src.as_raw_fd(),
            dst: dst.as_raw_fd(),
            ranges,
            looks: None,
            buffer: &mut buffer,
            dst_is_file: true,
            by_kernel: false,
            stop: &AtomicBool::new(false),
        })
    }

    fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
        xcopy_range {
            src_offset,
            dst_offset,
            length,
        }
    }

    #[test]
    fn every_shape_of_list_copies_its_bytes_and_no_others() {
        let (source, before) = (pattern(1, 600_000), pattern(2, 600_000));
        let src = file(&source);
        type Shape = fn(u64) -> xcopy_range;
        let shapes: [Shape; 6] = [
            |i| range(i * 100, i * 31, 31),                // gaps, gathered
            |i| range(i * 31, i * 100, 31),                // no gaps, scattered
            |i| range(i * 5000, i * 5000, 4999),           // gaps of one
            |i| range(500_000 - i * 4096, i * 4096, 4096), // backwards
            |i| range(i * 4096, (i ^ 1) * 4096, 4096),     // swapped places
            |i| range(i * 9000, i * 4500, 4500),           // gaps too large
        ];
        for (shape, make) in shapes.iter().enumerate() {
            for room in [4999, 10_000, 256 << 10] {
                let ranges: Vec<_> = (0..60).map(make).collect();
                let dst = file(&before);
                let done = run(&src, &dst, &ranges, room);
                let total = ranges.iter().map(|range| range.length).sum::<u64>();
                assert_eq!((done.prefix, done.copied, done.error), (total, total, None));
                let mut wanted = before.clone();
                for range in &ranges {
                    let (from, to) = (range.src_offset as usize, range.dst_offset as usize);
                    let length = range.length as usize;
                    wanted[to..to + length].copy_from_slice(&source[from..from + length]);
                }
                let mut found = vec![0; before.len()];
                dst.read_exact_at(&mut found, 0).expect("its bytes");
                assert!(found == wanted, "shape {shape}, room {room}");
            }
        }
    }

    #[test]
    fn the_prefix_ends_where_the_source_does() {
        let source = pattern(3, 10_000);
        let (src, dst) = (file(&source), file(&[]));
        let ranges: Vec<_> = (0..100).map(|i| range(i * 110, i * 100, 100)).collect();
        let done = run(&src, &dst, &ranges, 64 << 10);
        // Range 90 ends at the end, byte 10,000, and range 91 begins beyond it.
        assert_eq!(done.prefix, 91 * 100);
        assert_eq!(done.error, Some((libc::EIO, super::super::Side::Read)));
        assert_eq!(dst.metadata().expect("a size").len(), 9100);
    }

    #[test]
    fn a_stop_is_seen_between_ranges() {
        let (src, dst) = (file(&pattern(4, 4096)), file(&[]));
        let done = copy_ranges(RangesJob {
            src: src.as_raw_fd(),
            dst: dst.as_raw_fd(),
            ranges: &[range(0, 0, 100), range(200, 100, 100)],
            looks: None,
            buffer: &mut [0; 4096],
            dst_is_file: true,
            by_kernel: false,
            stop: &AtomicBool::new(true),
        });
        assert_eq!(done, Outcome::default());
    }
}
