//! Files with holes: a command of the host is bounded by its data and not by its
//! span, so that a hole of any length is one step, and what was found out of the
//! files is kept from one command of a request to the next.

use super::by_ring::has_holes;
use super::queue::Queue;
use super::route::Endpoint;
use super::shared::NO_PLUGIN;
use crate::host::Looks;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard};
use xcopy_abi::*;

/// Whether the source of a request has holes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Not by its blocks, and a search through all of the file would cost too much.
    NotLooked,
    /// It has a block for each byte: the first command looks for unwritten ones.
    Unknown,
    /// It has.
    Sparse,
    /// It has none.
    Dense,
}

/// What a request knows of its files' holes.
pub struct Sparse {
    verdict: AtomicU8,
    looks: Mutex<Looks>,
}

impl Sparse {
    fn new(verdict: Verdict) -> Sparse {
        Sparse {
            verdict: AtomicU8::new(verdict as u8),
            looks: Mutex::default(),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        let verdicts = [Verdict::NotLooked, Verdict::Unknown, Verdict::Sparse];
        let at = usize::from(self.verdict.load(Ordering::Acquire));
        verdicts.get(at).copied().unwrap_or(Verdict::Dense)
    }

    /// What a command may use; None while another one does.
    pub(super) fn looks(&self) -> Option<MutexGuard<'_, Looks>> {
        self.looks.try_lock().ok()
    }

    /// Finds out whether a source has holes that its blocks do not tell of.
    pub(super) fn look(&self, looks: &mut Looks, src: RawFd, at: u64, length: u64) -> Verdict {
        if self.verdict() == Verdict::Unknown {
            let verdict = match looks.is_dense(src, at, length) {
                true => Verdict::Dense,
                false => Verdict::Sparse,
            };
            self.verdict.store(verdict as u8, Ordering::Release);
        }
        self.verdict()
    }
}

impl Queue {
    /// Whether the next command of the host may span all that is left of a range:
    /// the pool ends it when it has moved as much data as another one has.
    pub(super) fn spans_holes(&mut self, index: u32, chosen: usize, left: u64) -> bool {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let Some(method) = pair.methods.get(chosen) else {
            return false;
        };
        if method.plugin != NO_PLUGIN
            || slot.flags & XCOPY_REQ_KEEP_HOLES == 0
            || !self.context.pool.exists()
        {
            return false;
        }
        let ends = (&pair.src_end, &pair.dst_end);
        let (
            Endpoint::Kernel {
                fd: src,
                kind: XCOPY_KIND_FILE,
            },
            Endpoint::Kernel {
                kind: XCOPY_KIND_FILE,
                ..
            },
        ) = ends
        else {
            return false;
        };
        if let Some(sparse) = slot.extra.as_ref().and_then(|extra| extra.sparse.as_ref()) {
            return matches!(sparse.verdict(), Verdict::Unknown | Verdict::Sparse);
        }
        if left <= method.adapt.chunk() {
            return false;
        }
        let verdict = match (has_holes(*src), &pair.src) {
            (true, _) => Verdict::Sparse,
            // A file in memory is searched page by page, to its end: only where that
            // is little beside the copy of its bytes.
            (false, Some(device)) if slot.nranges <= 1 && !self.polls() => {
                let at = slot.source().src_base + slot.range.src_offset;
                let size = device.refresh_size();
                match size.saturating_sub(at) / 2 <= slot.total {
                    true => Verdict::Unknown,
                    false => Verdict::NotLooked,
                }
            }
            (false, _) => Verdict::NotLooked,
        };
        let sparse = std::sync::Arc::new(Sparse::new(verdict));
        self.slots[index as usize].extra().sparse = Some(sparse);
        matches!(verdict, Verdict::Unknown | Verdict::Sparse)
    }
}
