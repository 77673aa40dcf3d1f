//! The host's copies between two kernel fds, as a thread of the pool does them.

use super::by_host::answer_of;
use super::by_ring::{Movers, has_holes, is_large};
use super::context::Context;
use super::shared::Answer;
use super::sparse::{Sparse, Verdict};
use crate::device::is_well_known;
use crate::host::{Buffer, CopyJob, Looks, RangesJob, RingCopy, Short};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use xcopy_abi::*;

/// Bytes of one read and one write on the pool: what stays in a core's cache.
const PIECE_BYTES: usize = 256 << 10;

/// A buffer for work on the pool, or the answer that there is none.
fn pool_buffer(context: &Context, bytes: u64) -> Result<(Buffer, usize), Answer> {
    let most = PIECE_BYTES.min(context.buffers.max_size());
    let size = (most as u64).min(bytes.max(1)) as usize;
    match context.buffers.try_take(size) {
        Ok(buffer) => Ok((buffer, size)),
        Err(short) => Err(Answer {
            status: -libc::ENOMEM,
            action: match short {
                Short::Now => XCOPY_ACTION_RETRY,
                Short::Memory => XCOPY_ACTION_FATAL,
            },
            reason: XCOPY_REASON_RESOURCES,
            flags: XCOPY_RESULT_UNTOUCHED,
            ..Default::default()
        }),
    }
}

/// Whether to look for holes. A file in memory looks at each of its pages for one,
/// to the end of the file and for every command anew: only if there is any.
/// Or if that is little beside the copy.
fn looks_for_holes(copy: &RingCopy, keep_holes: bool) -> bool {
    let rest = || file_size(copy.src).saturating_sub(copy.src_offset);
    keep_holes && (is_well_known(copy.src) || has_holes(copy.src) || rest() / 2 <= copy.length)
}

/// Bytes of a file; 0 where that cannot be told.
fn file_size(fd: RawFd) -> u64 {
    // SAFETY: an all-zero stat is valid, and fstat only writes to it.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a bad fd is an error, and leaves it so.
    unsafe { libc::fstat64(fd, &raw mut stat) };
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Carries out a command of many ranges; `ends` are source, destination and its kind.
pub(super) fn ranges_on_pool(
    context: &Context,
    movers: &Movers,
    (src, dst, kind): (RawFd, RawFd, u32),
    ranges: &[xcopy_range],
    keep_holes: bool,
    stop: &AtomicBool,
) -> Answer {
    let (mut buffer, size) = match pool_buffer(context, u64::MAX) {
        Ok(taken) => taken,
        Err(answer) => return answer,
    };
    let way = movers.lists.begin(src, dst);
    let mut looks = Looks::default();
    let done = crate::host::copy_ranges(RangesJob {
        src,
        dst,
        ranges,
        looks: (keep_holes && has_holes(src)).then_some(&mut looks),
        buffer: &mut buffer[..size],
        dst_is_file: kind == XCOPY_KIND_FILE,
        by_kernel: way.by_kernel,
        stop,
    });
    if done.error.is_none() {
        way.ended(done.copied);
    }
    answer_of(&done, XCOPY_METHOD_READ_WRITE)
}

/// One range between two kernel fds, for the pool.
pub(super) struct PoolCopy {
    pub copy: RingCopy,
    /// XCOPY_KIND_ of the destination.
    pub kind: u32,
    pub keep_holes: bool,
    /// What the request knows of its files' holes.
    pub sparse: Option<Arc<Sparse>>,
    /// Bytes of data at most; where the copy spans more, another command goes on.
    pub room: u64,
    /// A source without holes is left to another way, untouched.
    pub only_looks: bool,
    /// Bytes of the source behind these that the request copies next.
    pub ahead: u64,
}

pub(super) fn copy_on_pool(
    context: &Arc<Context>,
    movers: &Movers,
    job: &PoolCopy,
    stop: &AtomicBool,
) -> Answer {
    let copy = &job.copy;
    let mut own = Looks::default();
    let mut shared = job.sparse.as_ref().and_then(|sparse| sparse.looks());
    let looks = shared.as_deref_mut().unwrap_or(&mut own);
    let sparse = job.sparse.as_ref();
    let verdict = sparse.map(|s| s.look(looks, copy.src, copy.src_offset, copy.length));
    if verdict == Some(Verdict::Dense) && job.only_looks {
        return Answer::default();
    }
    let is_looked = matches!(verdict, Some(Verdict::Sparse | Verdict::Dense));
    let keep_holes = is_looked || looks_for_holes(copy, job.keep_holes);
    let (mut buffer, size) = match pool_buffer(context, copy.length) {
        Ok(taken) => taken,
        Err(answer) => return answer,
    };
    let large = is_large(copy.length);
    let way = large.then(|| movers.large.begin(copy.src, copy.dst));
    let done = crate::host::copy(CopyJob {
        src: copy.src,
        dst: copy.dst,
        src_offset: copy.src_offset,
        dst_offset: copy.dst_offset,
        length: copy.length,
        ahead: job.ahead,
        looks: keep_holes.then_some(looks),
        room: job.room,
        buffer: &mut buffer[..size],
        dst_is_file: job.kind == XCOPY_KIND_FILE,
        by_kernel: way.as_ref().is_some_and(|way| way.by_kernel),
        stop,
    });
    if let Some(way) = way.filter(|_| done.error.is_none()) {
        way.ended(done.copied);
    }
    answer_of(&done, XCOPY_METHOD_READ_WRITE)
}
