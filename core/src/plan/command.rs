//! The next command of a request: ranges are cut and packed within a method's
//! limits, one command at a time, so that a request is never expanded.

use xcopy_abi::{XCOPY_REASON_LIMITS, XCOPY_REASON_MISALIGNED, xcopy_limits, xcopy_range};

use super::grain::{Grain, Masks, Moduli};

/// Where a host copy is cut: devices with larger blocks than this are rare, and
/// a start on a block boundary is worth keeping.
const HOST_BLOCK: u64 = 4096;

/// A place in a request's ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the range.
    pub index: u64,
    /// Bytes into that range.
    pub offset: u64,
    /// Bytes from the request's start, in range order.
    pub position: u64,
}

impl Cursor {
    /// Walks `bytes` forward, at most to the end of the last range.
    pub fn advance(&mut self, ranges: &[xcopy_range], mut bytes: u64) {
        while let Some(range) = range_at(ranges, self.index) {
            let rest = range.length.saturating_sub(self.offset);
            if bytes < rest {
                self.offset += bytes;
                self.position = self.position.wrapping_add(bytes);
                return;
            }
            bytes -= rest;
            self.position = self.position.wrapping_add(rest);
            self.index += 1;
            self.offset = 0;
            if bytes == 0 {
                return;
            }
        }
    }

    /// Moves within a range of `length` bytes by at most what is left of it.
    #[inline]
    fn take(&mut self, length: u64, bytes: u64) {
        self.position = self.position.wrapping_add(bytes);
        self.offset = self.offset.wrapping_add(bytes);
        if self.offset >= length {
            self.index += 1;
            self.offset = 0;
        }
    }
}

/// Who carries a step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The method whose limits were given.
    Method,
    /// The host: XCOPY_REASON_ says why the method cannot.
    Host(u16),
}

/// One command: the bytes from `start` on, without a gap in linear position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who carries it out.
    pub kind: Kind,
    /// Its first byte; with `start.position + bytes` it can be planned again.
    pub start: Cursor,
    /// Number of ranges written to `out`.
    pub ranges: u32,
    /// Bytes of them all.
    pub bytes: u64,
}

/// The ranges of a request and the bases that are added to each.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As the caller stated them.
    pub ranges: &'a [xcopy_range],
    /// Added to each source offset.
    pub src_base: u64,
    /// Added to each destination offset.
    pub dst_base: u64,
}

/// What is left of one range: absolute offsets, and the range's whole length.
#[derive(Clone, Copy)]
struct Piece {
    src: u64,
    dst: u64,
    left: u64,
    range_length: u64,
}

impl Piece {
    #[inline]
    fn range(&self, bytes: u64) -> xcopy_range {
        xcopy_range {
            src_offset: self.src,
            dst_offset: self.dst,
            length: bytes,
        }
    }
}

/// Limits with "not stated" resolved.
#[derive(Clone, Copy)]
struct Caps {
    /// Bytes of the command.
    command: u64,
    /// Bytes of one range.
    range: u64,
    /// Ranges.
    ranges: usize,
    contiguous_dst: bool,
}

#[inline]
fn range_at(ranges: &[xcopy_range], index: u64) -> Option<&xcopy_range> {
    usize::try_from(index)
        .ok()
        .and_then(|index| ranges.get(index))
}

/// The smaller of two limits, of which 0 is none; u64::MAX if both are.
#[inline]
fn smaller(a: u64, b: u64) -> u64 {
    a.wrapping_sub(1).min(b.wrapping_sub(1)).saturating_add(1)
}

impl Source<'_> {
    /// What is left at the cursor before the linear `end`.
    #[inline]
    fn piece_at(&self, cursor: &Cursor, end: u64) -> Option<Piece> {
        let range = range_at(self.ranges, cursor.index)?;
        if cursor.position >= end || cursor.offset >= range.length {
            return None;
        }
        // Sums were checked when the request came; wrapping only keeps this
        // total.
        let src = self.src_base.wrapping_add(range.src_offset);
        let dst = range.dst_offset.wrapping_add(cursor.offset);
        Some(Piece {
            src: src.wrapping_add(cursor.offset),
            dst: dst.wrapping_add(self.dst_base),
            left: (range.length - cursor.offset).min(end - cursor.position),
            range_length: range.length,
        })
    }

    /// The same, past empty ranges.
    #[inline]
    fn piece(&self, cursor: &mut Cursor, end: u64) -> Option<Piece> {
        while cursor.position < end && cursor.offset >= range_at(self.ranges, cursor.index)?.length
        {
            cursor.index += 1;
            cursor.offset = 0;
        }
        self.piece_at(cursor, end)
    }
}

/// The next command for what lies between `cursor` and the linear position
/// `end`; its ranges, with absolute offsets, go to `out`, and the cursor moves
/// past it. None at the end, and when `out` is empty.
///
/// A command has at most `chunk` bytes (0 is no opinion). A step of the host
/// has one range; only what the method cannot take becomes one.
#[inline]
pub fn next_command(
    source: &Source,
    cursor: &mut Cursor,
    end: u64,
    limits: &xcopy_limits,
    chunk: u64,
    out: &mut [xcopy_range],
) -> Option<Step> {
    // Nearly every request is one aligned range within the limits. Nothing of
    // this is handed on, so that it stays in registers.
    if let Some(step) = whole_command(source, cursor, end, limits, chunk, out) {
        return Some(step);
    }
    plan_any(source, cursor, end, limits, chunk, out)
}

/// The range at the cursor, if it is a command of the method by itself.
#[inline]
fn whole_command(
    source: &Source,
    cursor: &mut Cursor,
    end: u64,
    limits: &xcopy_limits,
    chunk: u64,
    out: &mut [xcopy_range],
) -> Option<Step> {
    let grain = Masks::new(limits)?;
    let start = *cursor;
    let piece = source.piece_at(&start, end)?;
    let slot = out.first_mut()?;
    let range_max = smaller(limits.max_range_bytes, smaller(limits.max_bytes, chunk));
    let bytes = grain.whole(piece.left);
    let alone = limits.max_ranges <= 1 || start.position.wrapping_add(bytes) >= end;
    let legal = bytes != 0 && bytes <= range_max && grain.unit_fits(range_max);
    if !alone || !legal || !grain.aligned(piece.src, piece.dst) {
        return None;
    }
    *slot = piece.range(bytes);
    cursor.take(piece.range_length, bytes);
    Some(Step {
        kind: Kind::Method,
        start,
        ranges: 1,
        bytes,
    })
}

#[inline(never)]
fn plan_any(
    source: &Source,
    cursor: &mut Cursor,
    end: u64,
    limits: &xcopy_limits,
    chunk: u64,
    out: &mut [xcopy_range],
) -> Option<Step> {
    match Masks::new(limits) {
        Some(grain) => plan(source, cursor, end, limits, chunk, out, grain),
        None => plan(source, cursor, end, limits, chunk, out, Moduli::new(limits)),
    }
}

fn plan<G: Grain>(
    source: &Source,
    cursor: &mut Cursor,
    end: u64,
    limits: &xcopy_limits,
    chunk: u64,
    out: &mut [xcopy_range],
    grain: G,
) -> Option<Step> {
    let piece = source.piece(cursor, end)?;
    let slot = out.first_mut()?;
    let command = smaller(limits.max_bytes, chunk);
    let range = smaller(limits.max_range_bytes, command);
    if !grain.unit_fits(range) {
        return Some(host_step(
            cursor,
            piece,
            piece.left,
            XCOPY_REASON_LIMITS,
            chunk,
            slot,
        ));
    }
    if grain.whole(piece.left) == 0 || !grain.aligned(piece.src, piece.dst) {
        return Some(misaligned(cursor, piece, grain, chunk, slot));
    }
    let caps = Caps {
        command,
        range,
        ranges: limits.max_ranges.max(1) as usize,
        contiguous_dst: limits.contiguous_dst != 0,
    };
    Some(pack(source, cursor, end, caps, out, grain))
}

/// Fills a command with what follows until a limit, a gap in a contiguous
/// destination or a piece for the host ends it.
fn pack<G: Grain>(
    source: &Source,
    cursor: &mut Cursor,
    end: u64,
    caps: Caps,
    out: &mut [xcopy_range],
    grain: G,
) -> Step {
    let start = *cursor;
    let mut ranges = 0;
    let mut bytes = 0;
    let mut dst_end = 0;
    for slot in out.iter_mut().take(caps.ranges) {
        let Some(piece) = source.piece(cursor, end) else {
            break;
        };
        let apart = caps.contiguous_dst && ranges > 0 && piece.dst != dst_end;
        if apart || !grain.aligned(piece.src, piece.dst) {
            break;
        }
        let room = caps.range.min(caps.command - bytes);
        let whole = grain.whole(piece.left);
        let taken = if whole <= room {
            whole
        } else {
            grain.cut(room)
        };
        if taken == 0 {
            break;
        }
        *slot = piece.range(taken);
        ranges += 1;
        bytes += taken;
        dst_end = piece.dst.wrapping_add(taken);
        cursor.take(piece.range_length, taken);
    }
    Step {
        kind: Kind::Method,
        start,
        ranges,
        bytes,
    }
}

/// A head before the first aligned place, a tail shorter than the length
/// granularity, or a piece that is never aligned.
fn misaligned<G: Grain>(
    cursor: &mut Cursor,
    piece: Piece,
    grain: G,
    chunk: u64,
    slot: &mut xcopy_range,
) -> Step {
    let head = grain
        .head(piece.src, piece.dst)
        // A head that leaves the method no legal length is no head.
        .filter(|&head| head < piece.left && grain.whole(piece.left - head) != 0);
    let bytes = head.unwrap_or(piece.left);
    host_step(cursor, piece, bytes, XCOPY_REASON_MISALIGNED, chunk, slot)
}

fn host_step(
    cursor: &mut Cursor,
    piece: Piece,
    bytes: u64,
    reason: u16,
    chunk: u64,
    slot: &mut xcopy_range,
) -> Step {
    let start = *cursor;
    let bytes = if chunk == 0 || bytes <= chunk {
        bytes
    } else if chunk > HOST_BLOCK {
        chunk - chunk % HOST_BLOCK
    } else {
        chunk
    };
    *slot = piece.range(bytes);
    cursor.take(piece.range_length, bytes);
    Step {
        kind: Kind::Host(reason),
        start,
        ranges: 1,
        bytes,
    }
}
