//! Admission: what a request must hold, and the place that is reserved for its
//! completion.

use super::bounds::{check_bounds, refuse_finding};
use super::clock::deadline_ns;
use super::devices::Device;
use super::pairs::{Binding, Pair, PairIndex};
use super::queue::Queue;
use super::slot::{Slot, Stage};
use crate::error::{Error, Result};
use crate::plan::{Hull, Scan, check_small};
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};
use xcopy_abi::*;

/// Ranges that are checked wholly at submit; longer lists are streamed.
const SMALL_LIST: u64 = 16;
/// Fields of xcopy_ext that every version has.
const EXT_SIZE: u32 = size_of::<xcopy_ext>() as u32;

/// What an operation needs of its two handles.
struct Needs {
    src: Handle,
    dst: Handle,
    /// Offsets and a length, or ranges.
    extent: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum Handle {
    None,
    Device,
    Token,
}

fn needs(op: u16) -> Option<Needs> {
    use Handle::{Device, None as Nothing, Token};
    let (src, dst, extent) = match op {
        XCOPY_OP_COPY => (Device, Device, true),
        XCOPY_OP_ZERO => (Nothing, Device, true),
        XCOPY_OP_FLUSH => (Nothing, Device, false),
        XCOPY_OP_PREPARE => (Device, Device, false),
        XCOPY_OP_TOKEN_CREATE => (Device, Token, true),
        XCOPY_OP_TOKEN_WRITE => (Token, Device, true),
        XCOPY_OP_TOKEN_RELEASE => (Token, Device, false),
        _ => return None,
    };
    Some(Needs { src, dst, extent })
}

impl Queue {
    /// The whole admission.
    #[cold]
    pub(super) fn admit_slowly(&mut self, request: &xcopy_request) -> Result<()> {
        self.part_twins();
        let needs = check_words(request, self.known)?;
        let ext = check_ext(request)?;
        let index = self.find_pair(request, &needs)?;
        let list = ext.filter(|ext| !ext.ranges.is_null() || ext.nranges != 0);
        let (ranges, nranges) = match list {
            Some(ext) => check_list(request, ext, &needs)?,
            None => (std::ptr::null(), 1),
        };
        let slot = self.slot_of(request, index, ranges, nranges);
        let mut total = request.length;
        let mut scan = None;
        if needs.extent {
            let pair = &self.pairs[index as usize];
            let same = (request.op == XCOPY_OP_COPY)
                .then_some(pair.same_storage)
                .flatten();
            if nranges <= SMALL_LIST {
                let source = slot.source();
                let found = check_small(&source, same);
                refuse_finding(found).map_err(|refusal| refusal.error)?;
                total = source.ranges.iter().map(|range| range.length).sum();
                check_bounds(pair, request.op, &source, &Hull::of(&source))
                    .map_err(|refusal| refusal.error)?;
            } else {
                let disjoint = request.flags & XCOPY_REQ_DISJOINT != 0;
                scan = Some(Box::new(Scan::new(nranges, same, disjoint)));
            }
        }
        let token = self.token_of(request, total)?;
        let pair = &self.pairs[index as usize];
        if let Binding::Failed(error) = &pair.binding {
            return Err(error.clone());
        }
        self.check_prepared(request, index)?;
        let Some(&slot_index) = self.free_slots.last() else {
            return Err(Error::new(
                libc::EAGAIN,
                "all the queue's places are taken: poll, then submit again",
            ));
        };
        let count = self.pairs[index as usize].count.clone();
        count.in_flight.store(
            count.in_flight.load(Ordering::Relaxed) + 1,
            Ordering::Relaxed,
        );
        compiler_fence(Ordering::SeqCst);
        if !alive(&self.pairs[index as usize]) {
            count.in_flight.store(
                count.in_flight.load(Ordering::Relaxed) - 1,
                Ordering::Relaxed,
            );
            return Err(Error::new(libc::EBADF, "the device was closed"));
        }
        self.free_slots.pop();
        self.shared.straight().count_other();
        let mut slot = slot;
        slot.total = total;
        if request.timeout_ms != 0 {
            slot.deadline = deadline_ns(request.timeout_ms);
            self.timed += 1;
            self.earliest = self.earliest.min(slot.deadline);
        }
        if let Some(token) = token {
            slot.extra().token = Some(token);
        }
        let scanning = scan.is_some();
        if scanning {
            slot.extra().scan = scan;
            slot.stage = Stage::Scan;
            self.scans += 1;
        } else {
            slot.stage = Stage::WaitRoute;
        }
        self.slots[slot_index as usize] = slot;
        let pair = PairIndex::word(request.src, request.dst);
        let face = &self.shared.faces[slot_index as usize];
        face.set_counted();
        face.open(request.user_data, pair, total);
        if !scanning {
            self.enter(slot_index);
        }
        Ok(())
    }

    /// The pair of a request, made if it is new, with its handles checked.
    fn find_pair(&mut self, request: &xcopy_request, needs: &Needs) -> Result<u32> {
        if (needs.src == Handle::Device && request.src == 0)
            || (needs.dst == Handle::Device && request.dst == 0)
        {
            return Err(Error::new(
                libc::EBADF,
                "the operation needs a device, not handle 0",
            ));
        }
        let handle = |handle: u32, kind: Handle| if kind == Handle::Device { handle } else { 0 };
        let key = (
            handle(request.src, needs.src),
            handle(request.dst, needs.dst),
        );
        let word = PairIndex::word(key.0, key.1);
        let index = match self.index.get(word) {
            Some(index) if alive(&self.pairs[index as usize]) => index,
            _ => {
                let device = |handle: u32, kind: Handle| -> Result<Option<Arc<Device>>> {
                    if kind == Handle::Device {
                        self.context.device(handle).map(Some)
                    } else {
                        Ok(None)
                    }
                };
                let src = device(request.src, needs.src)?;
                let dst = device(request.dst, needs.dst)?;
                self.make_pair(key, src, dst)
            }
        };
        let pair = &self.pairs[index as usize];
        if let Some(src) = &pair.src
            && src.flags & XCOPY_OPEN_READ == 0
        {
            return Err(Error::new(
                libc::EACCES,
                "the source was not opened with XCOPY_OPEN_READ",
            ));
        }
        if let Some(dst) = &pair.dst
            && dst.flags & XCOPY_OPEN_WRITE == 0
            && !matches!(request.op, XCOPY_OP_PREPARE | XCOPY_OP_TOKEN_RELEASE)
        {
            return Err(Error::new(
                libc::EROFS,
                "the destination was not opened with XCOPY_OPEN_WRITE",
            ));
        }
        for device in [&pair.src, &pair.dst].into_iter().flatten() {
            if device.is_removed() {
                return Err(Error::new(libc::ENODEV, "the device was removed"));
            }
        }
        Ok(index)
    }

    fn slot_of(
        &self,
        request: &xcopy_request,
        pair: u32,
        ranges: *const xcopy_range,
        nranges: u64,
    ) -> Slot {
        let listed = !ranges.is_null();
        Slot {
            range: xcopy_range {
                src_offset: request.src_offset,
                dst_offset: request.dst_offset,
                length: request.length,
            },
            ranges,
            nranges,
            src_base: if listed { request.src_offset } else { 0 },
            dst_base: if listed { request.dst_offset } else { 0 },
            ext: request.ext,
            pair,
            methods: request.methods,
            flags: request.flags,
            op: request.op,
            ..Slot::free()
        }
    }

    fn token_of(
        &self,
        request: &xcopy_request,
        total: u64,
    ) -> Result<Option<super::tokens::TokenUse>> {
        let token = match request.op {
            XCOPY_OP_TOKEN_CREATE => self.context.token(request.dst)?,
            XCOPY_OP_TOKEN_WRITE | XCOPY_OP_TOKEN_RELEASE => self.context.token(request.src)?,
            _ => return Ok(None),
        };
        let fills = request.op == XCOPY_OP_TOKEN_CREATE;
        // Taken first and looked at then: another thread's request may be the next.
        let taken = if fills { token.take() } else { token.share() };
        let content = token.content();
        let taken = match taken {
            Some(taken) if content.filled != fills => taken,
            _ if fills => {
                return Err(Error::new(
                    libc::EBUSY,
                    "the token is filled or in use: make a new one",
                ));
            }
            _ => {
                return Err(Error::new(
                    libc::EINVAL,
                    "the token is empty: TOKEN_CREATE fills it",
                ));
            }
        };
        if request.op == XCOPY_OP_TOKEN_WRITE {
            let end = request.src_offset.checked_add(total);
            if end.is_none_or(|end| end > content.bytes) {
                return Err(Error::new(
                    libc::EINVAL,
                    format!("the range ends beyond the token's {} bytes", content.bytes),
                ));
            }
        }
        drop(content);
        Ok(Some(taken))
    }
}

fn check_words(request: &xcopy_request, known: u32) -> Result<Needs> {
    let invalid = |text: &str| Err(Error::new(libc::EINVAL, text));
    let Some(needs) = needs(request.op) else {
        return Err(Error::new(
            libc::EINVAL,
            format!("unknown operation {}", request.op),
        ));
    };
    if request.reserved != 0 {
        return invalid("reserved is not 0");
    }
    if request.flags & !XCOPY_REQ_ALL != 0 {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "unknown request flags {:#x}",
                request.flags & !XCOPY_REQ_ALL
            ),
        ));
    }
    if request.methods & !known != 0 {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "bits {:#x} of methods stand for no method: xcopy_method_mask makes masks of names",
                request.methods & !known
            ),
        ));
    }
    if request.flags & XCOPY_REQ_EXCLUSIVE != 0 && request.op != XCOPY_OP_PREPARE {
        return invalid("XCOPY_REQ_EXCLUSIVE goes with XCOPY_OP_PREPARE only");
    }
    if needs.src == Handle::None && request.src != 0 {
        return invalid("src must be 0 for this operation");
    }
    if !needs.extent && (request.src_offset | request.dst_offset | request.length) != 0 {
        return invalid("offsets and length must be 0 for this operation");
    }
    if needs.src == Handle::None && request.src_offset != 0 {
        return invalid("src_offset must be 0 for this operation");
    }
    if request.op == XCOPY_OP_TOKEN_CREATE && request.dst_offset != 0 {
        return invalid("dst_offset must be 0: a token begins with its first byte");
    }
    Ok(needs)
}

fn check_ext(request: &xcopy_request) -> Result<Option<&xcopy_ext>> {
    // SAFETY: NULL, or the caller's struct, valid until the completion.
    let Some(ext) = (unsafe { request.ext.as_ref() }) else {
        return Ok(None);
    };
    if ext.size < EXT_SIZE {
        return Err(Error::new(
            libc::EINVAL,
            "ext.size is smaller than xcopy_ext: set it",
        ));
    }
    if ext.size > EXT_SIZE {
        if ext.size > 4096 {
            return Err(Error::new(libc::E2BIG, "ext.size is larger than 4,096"));
        }
        let known = EXT_SIZE as usize;
        // SAFETY: the caller says that ext.size bytes are there.
        let tail = unsafe {
            std::slice::from_raw_parts(
                request.ext.cast::<u8>().add(known),
                ext.size as usize - known,
            )
        };
        if tail.iter().any(|byte| *byte != 0) {
            return Err(Error::new(
                libc::E2BIG,
                "ext has fields that this version does not know: leave them 0",
            ));
        }
    }
    if ext.reserved != 0 {
        return Err(Error::new(libc::EINVAL, "ext.reserved is not 0"));
    }
    // SAFETY: NULL, or the caller's struct.
    if let Some(report) = unsafe { ext.report.as_ref() }
        && (report.size as usize) < std::mem::offset_of!(xcopy_report, shares)
    {
        return Err(Error::new(
            libc::EINVAL,
            "report.size is too small: set it before submit",
        ));
    }
    Ok(Some(ext))
}

fn check_list(
    request: &xcopy_request,
    ext: &xcopy_ext,
    needs: &Needs,
) -> Result<(*const xcopy_range, u64)> {
    let invalid = |text: &str| Err(Error::new(libc::EINVAL, text));
    if !needs.extent || matches!(request.op, XCOPY_OP_TOKEN_CREATE | XCOPY_OP_TOKEN_WRITE) {
        return invalid("this operation takes no list of ranges");
    }
    if ext.ranges.is_null() || ext.nranges == 0 {
        return invalid("ranges and nranges must both be given, or neither");
    }
    if !ext.ranges.is_aligned() {
        return invalid("ranges must be aligned to 8 bytes");
    }
    if request.length != 0 {
        return invalid("length must be 0 when ranges are given");
    }
    if ext.nranges > isize::MAX as u64 / size_of::<xcopy_range>() as u64 {
        return invalid("there are more ranges than memory can hold");
    }
    Ok((ext.ranges, ext.nranges))
}

/// Whether neither handle of a pair was closed.
pub(super) fn alive(pair: &Pair) -> bool {
    [&pair.src, &pair.dst]
        .into_iter()
        .flatten()
        .all(|device| !device.is_dead())
}
