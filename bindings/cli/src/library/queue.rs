//! Requests: a queue, and the memory of what is in flight on it.

use super::{Context, checked};
use crate::failure::{Failure, Result};
use std::collections::HashMap;
use std::marker::PhantomData;
use xcopy::abi::*;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// XCOPY_OP_
    pub op: u16,
    /// XCOPY_REQ_
    pub flags: u32,
    /// Device or token.
    pub src: u32,
    /// Device or token.
    pub dst: u32,
    /// First byte to read.
    pub src_offset: u64,
    /// First byte to write.
    pub dst_offset: u64,
    /// Bytes.
    pub length: u64,
    /// Mask, 0 is any.
    pub methods: u32,
    /// Seconds that a token should live, 0 is the device's choice.
    pub token_lifetime_s: u32,
}

/// The end of a request.
pub struct Finished {
    /// What happened.
    pub completion: xcopy_completion,
    /// What did not fit into it.
    pub report: Box<xcopy_report>,
}

/// A queue. Whoever drops it with a request in flight leaves it, and the memory
/// that the request uses, behind.
pub struct Queue<'c> {
    raw: *mut xcopy::xcopy_queue,
    held: HashMap<u64, Held>,
    next: u64,
    context: PhantomData<&'c Context>,
}

/// The memory of one request in flight. Raw pointers: the library writes to it.
struct Held {
    ext: *mut xcopy_ext,
    report: *mut xcopy_report,
}

impl Context {
    /// A queue for one request at a time; 0 leaves depth and chunk to the library.
    pub fn queue(&self, depth: u32, chunk: u64) -> Result<Queue<'_>> {
        let mut options = xcopy_queue_options {
            size: 0,
            flags: 0,
            capacity: 0,
            window: 0,
            depth: 0,
            reserved: 0,
            chunk: 0,
        };
        // SAFETY: the pointer is valid for the size that is passed.
        checked(unsafe { xcopy::xcopy_queue_options_init(&mut options, size_of_val(&options)) })?;
        let window = if options.window == 0 {
            options.capacity
        } else {
            options.window
        };
        options.window = window.max(depth);
        options.depth = depth;
        options.chunk = chunk;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the context is live, options are initialised, raw is writable.
        checked(unsafe { xcopy::xcopy_queue_create(self.raw, &options, &mut raw) })?;
        Ok(Queue {
            raw,
            held: HashMap::new(),
            next: 1,
            context: PhantomData,
        })
    }
}

impl Queue<'_> {
    /// Submits a request; the answer names it.
    pub fn submit(&mut self, request: &Request) -> Result<u64> {
        let report = Box::into_raw(Box::new(empty_report()));
        let ext = Box::into_raw(Box::new(xcopy_ext {
            size: size_of::<xcopy_ext>() as u32,
            reserved: 0,
            ranges: std::ptr::null(),
            nranges: 0,
            report,
            token_lifetime_s: request.token_lifetime_s,
            token_type: 0,
        }));
        let held = Held { ext, report };
        let user_data = self.next;
        let raw = xcopy_request {
            user_data,
            op: request.op,
            reserved: 0,
            flags: request.flags,
            src: request.src,
            dst: request.dst,
            src_offset: request.src_offset,
            dst_offset: request.dst_offset,
            length: request.length,
            methods: request.methods,
            timeout_ms: 0,
            ext,
        };
        // SAFETY: the queue is live and used by this thread only; the request is
        // readable for its stride; ext and report stay until the completion.
        let code = unsafe { xcopy::xcopy_submit(self.raw, &raw, size_of_val(&raw), 1) };
        match checked(code) {
            Ok(1..) => {
                self.next += 1;
                self.held.insert(user_data, held);
                Ok(user_data)
            }
            refused => {
                held.free();
                refused?;
                Err(Failure::failed(
                    libc::EAGAIN,
                    "the queue took no request; try again",
                ))
            }
        }
    }

    /// Takes a completion, waiting up to `timeout_ns`.
    pub fn poll(&mut self, timeout_ns: i64) -> Result<Option<Finished>> {
        let mut completion = xcopy_completion::default();
        let stride = size_of_val(&completion);
        // SAFETY: the queue is live and used by this thread only; there is room
        // for one completion of this stride.
        let code =
            unsafe { xcopy::xcopy_poll(self.raw, &mut completion, stride, 1, 1, timeout_ns) };
        if code == -libc::EINTR || checked(code)? == 0 {
            return Ok(None);
        }
        let report = match self.held.remove(&completion.user_data) {
            Some(held) if completion.flags & XCOPY_CPL_UNSETTLED == 0 => held.free(),
            Some(held) => {
                // SAFETY: the report was written before the completion was
                // visible. It is copied and left behind: what is not settled
                // may still refer to it.
                Box::new(unsafe { *held.report })
            }
            None => Box::new(empty_report()),
        };
        Ok(Some(Finished { completion, report }))
    }

    /// Asks a request to end early. That it has ended already is no error.
    pub fn cancel(&self, user_data: u64) -> Result<()> {
        // SAFETY: the queue is live; cancel may be called at any time.
        match unsafe { xcopy::xcopy_cancel(self.raw, user_data) } {
            code if code == -libc::ENOENT => Ok(()),
            code => checked(code).map(drop),
        }
    }

    /// How far a running request is; None when it runs no more.
    pub fn progress(&self, user_data: u64) -> Option<xcopy_progress> {
        let mut progress = xcopy_progress::default();
        // SAFETY: the queue is live, progress is writable for its size.
        let code = unsafe {
            xcopy::xcopy_progress(self.raw, user_data, &mut progress, size_of_val(&progress))
        };
        (code >= 0).then_some(progress)
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        if self.held.is_empty() {
            // SAFETY: raw came from queue_create, is not used again, and
            // nothing is in flight.
            unsafe { xcopy::xcopy_queue_destroy(self.raw, 0) };
        }
    }
}

impl Held {
    /// Only when the library is done with both.
    fn free(self) -> Box<xcopy_report> {
        // SAFETY: both came from Box::into_raw in submit, self is consumed, and
        // the request was refused or has completed and is settled.
        unsafe {
            drop(Box::from_raw(self.ext));
            Box::from_raw(self.report)
        }
    }
}

/// A report for the library to fill.
pub fn empty_report() -> xcopy_report {
    xcopy_report {
        size: size_of::<xcopy_report>() as u32,
        nshares: 0,
        nfallbacks: 0,
        sense_len: 0,
        failed_index: 0,
        failed: xcopy_range::default(),
        untouched_from: 0,
        shares: [xcopy_method_share::default(); XCOPY_METHOD_MAX],
        fallbacks: [xcopy_fallback::default(); XCOPY_REPORT_FALLBACKS],
        sense: [0; XCOPY_SENSE_MAX],
        reserved: 0,
    }
}
