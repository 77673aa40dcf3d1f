//! Draws of ranges and methods, and what must come of them.

use crate::api::{Ended, Job, text};
use crate::expect::Verdict;
use crate::object::somewhere;
use crate::pairing::Pairing;
use xcopy::abi::*;

/// What a method can do for an ordered pair of objects, by their kinds.
#[derive(Clone, Copy, Default)]
pub struct Known {
    /// Mask of usable methods.
    pub usable: u32,
    /// Mask of those that offload.
    pub offloads: u32,
    /// What reflink's offsets and lengths must be multiples of.
    pub granularity: u64,
}

impl Pairing<'_> {
    /// Up to `most` ranges that share no byte, in `room` bytes from `start` on,
    /// in random order.
    pub fn destinations(
        &mut self,
        dst: usize,
        start: u64,
        room: u64,
        most: u64,
    ) -> Vec<xcopy_range> {
        let n = 1 + self.random.below(most);
        let cell = room / n;
        let longest = if most == 1 { cell } else { cell.min(16 << 10) };
        let grows = self.objects[dst].is_file && self.random.chance(30);
        let end = if grows {
            start + room
        } else {
            self.objects[dst].size()
        };
        let mut ranges: Vec<xcopy_range> = Vec::new();
        for at in 0..n {
            let skip = somewhere(&mut self.random, cell);
            let first = start + at * cell + skip;
            let length = 1 + self.random.below((cell - skip).min(longest));
            if first + length <= end {
                ranges.push(xcopy_range {
                    src_offset: 0,
                    dst_offset: first,
                    length,
                });
            }
        }
        if ranges.is_empty() {
            ranges.push(xcopy_range {
                src_offset: 0,
                dst_offset: start,
                length: 1 + self.random.below(room.min(4096)),
            });
        }
        for at in (1..ranges.len()).rev() {
            ranges.swap(at, self.random.below(at as u64 + 1) as usize);
        }
        ranges
    }

    /// Gives each range a place in the source.
    pub fn sources_of(&mut self, src: usize, ranges: &mut [xcopy_range]) {
        let size = self.objects[src].size();
        // Close together, as what changed in an image does, or anywhere.
        let mut near = match self.random.chance(40) {
            true => Some(somewhere(&mut self.random, size)),
            false => None,
        };
        for range in ranges {
            range.length = range.length.min(size);
            let room = size - range.length + 1;
            range.src_offset = match near.filter(|at| *at < room) {
                Some(at) => at,
                None => somewhere(&mut self.random, room),
            };
            if near.is_some() {
                let gap = self.random.below(10_000).saturating_sub(5000);
                near = Some(range.src_offset + range.length + gap);
            }
        }
    }

    /// Cuts some ranges into several that adjoin.
    pub fn cut(&mut self, ranges: &mut Vec<xcopy_range>) {
        let mut cut = Vec::new();
        for range in ranges.iter() {
            let mut rest = *range;
            while rest.length > 1 && self.random.chance(40) {
                let length = 1 + self.random.below(rest.length - 1);
                cut.push(xcopy_range { length, ..rest });
                rest.src_offset += length;
                rest.dst_offset += length;
                rest.length -= length;
            }
            cut.push(rest);
        }
        *ranges = cut;
    }

    /// Moves what it can onto multiples of `block`, down.
    pub fn align(&mut self, ranges: &mut [xcopy_range], block: u64, src: usize, dst: usize) {
        let (src_size, dst_size) = (self.objects[src].size(), self.objects[dst].size());
        for range in ranges {
            let down = |offset: u64| offset - offset % block;
            let length = down(range.length).max(block);
            let (from, to) = (down(range.src_offset), down(range.dst_offset));
            let fits = self.objects[dst].is_file || to + length <= dst_size;
            if range.length >= block && from + length <= src_size && fits {
                (range.src_offset, range.dst_offset, range.length) = (from, to, length);
            }
        }
    }

    pub fn one_of(&mut self, mask: u32) -> u32 {
        let bits: Vec<u32> = (0..32).filter(|bit| mask >> bit & 1 == 1).collect();
        1 << self.random.pick(&bits)
    }

    /// Methods for one request, and whether falling back is forbidden.
    pub fn pick_methods(&mut self, known: Known) -> (u32, u32) {
        let all = MOVES | 1 << XCOPY_METHOD_REFLINK;
        match self.random.below(20) {
            0..=5 => (0, 0),
            6..=7 => (1 << XCOPY_METHOD_READ_WRITE, 0),
            8..=13 => (self.one_of(known.usable & all), 0),
            14..=15 => (
                self.one_of(known.usable & all) | 1 << XCOPY_METHOD_READ_WRITE,
                0,
            ),
            16 => (all, 0),
            17 => (self.one_of(all), 0),
            18 => (0, XCOPY_REQ_NO_FALLBACK),
            _ => (self.one_of(all), XCOPY_REQ_NO_FALLBACK),
        }
    }

    /// Whether a request whose ranges are right can be done.
    pub fn judge(&self, job: &Job, known: Known) -> Verdict {
        let in_line = job.ranges.iter().all(|range| {
            (range.src_offset | range.dst_offset | range.length)
                .is_multiple_of(known.granularity.max(1))
        });
        let mask = if job.methods == 0 {
            u32::MAX
        } else {
            job.methods
        };
        let usable = mask & known.usable;
        let can = match job.flags & XCOPY_REQ_NO_FALLBACK != 0 {
            true => usable & known.offloads != 0 && in_line,
            false => usable & MOVES != 0 || (usable & 1 << XCOPY_METHOD_REFLINK != 0 && in_line),
        };
        // copy_file_range shares the last block of a file that becomes the end
        // of another, whatever its length.
        let ends = mask & known.offloads & 1 << XCOPY_METHOD_COPY_FILE_RANGE != 0
            && job.flags & XCOPY_REQ_NO_FALLBACK != 0;
        match (can, ends) {
            (true, _) => Verdict::Done,
            (false, true) => Verdict::Either,
            (false, false) => Verdict::Unsupported,
        }
    }

    /// Whether a completion claims no offload that cannot have been: bytes that lie
    /// differently in their blocks at both ends cannot be shared.
    pub fn check_claim(job: &Job, known: Known, ended: &Result<Ended, i32>) -> Result<(), String> {
        let Ok(ended) = ended else { return Ok(()) };
        let shares = &ended.report.shares[..ended.report.nshares as usize];
        let zero = shares
            .iter()
            .filter(|share| share.method == XCOPY_METHOD_ZERO);
        let zeroed: u64 = zero.map(|share| share.bytes).sum();
        let in_line = |range: &&xcopy_range| {
            let apart = range.src_offset.abs_diff(range.dst_offset);
            known.granularity != 0 && apart.is_multiple_of(known.granularity)
        };
        let most: u64 = job
            .ranges
            .iter()
            .filter(in_line)
            .map(|range| range.length)
            .sum();
        let claimed = ended.completion.bytes_offloaded;
        match claimed <= most + zeroed {
            true => Ok(()),
            false => Err(format!("{claimed} bytes offloaded, of {most} that can be")),
        }
    }
}

/// Methods that move any bytes, in line with blocks or not.
pub const MOVES: u32 =
    1 << XCOPY_METHOD_READ_WRITE | 1 << XCOPY_METHOD_COPY_FILE_RANGE | 1 << XCOPY_METHOD_SENDFILE;

impl Known {
    /// From the verdicts on a pair.
    pub fn of(infos: &[xcopy_method_info]) -> Known {
        let mut known = Known::default();
        for info in infos.iter().filter(|info| info.usable != 0) {
            known.usable |= 1 << info.method;
            if info.offloaded != 0 {
                known.offloads |= 1 << info.method;
            }
            if text(&info.name) == "reflink" {
                known.granularity = u64::from(info.limits.src_granularity);
            }
        }
        known
    }
}
