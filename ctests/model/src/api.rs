//! The C surface behind safe functions, for one thread.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use xcopy::abi::*;
use xcopy::*;

/// The text of this thread's last failure.
pub fn last_error() -> String {
    // SAFETY: a C string, valid until this thread's next failing call.
    unsafe { CStr::from_ptr(xcopy_last_error()) }
        .to_string_lossy()
        .into_owned()
}

/// A context with the file plugin and its queues.
pub struct Library {
    context: *mut xcopy_context,
    queues: Vec<*mut xcopy_queue>,
}

/// Chunk and depth of the queues; 0 leaves it to the library.
pub const QUEUES: [(u64, u32); 4] = [(0, 0), (16 << 10, 3), (65_536, 8), (192 << 10, 1)];

/// One request and what came of it.
pub struct Job {
    /// Operation.
    pub op: u16,
    /// Request flags.
    pub flags: u32,
    /// Source handle.
    pub src: u32,
    /// Destination handle.
    pub dst: u32,
    /// Allowed methods, 0 for any.
    pub methods: u32,
    /// In absolute bytes.
    pub ranges: Vec<xcopy_range>,
    /// Given as a list, with these bases, even if there is one range only.
    pub bases: Option<(u64, u64)>,
}

/// How a request ended.
pub struct Ended {
    /// The completion.
    pub completion: xcopy_completion,
    /// Its report.
    pub report: Box<xcopy_report>,
}

/// A request's memory, in place until its completion.
struct Held {
    ext: Box<xcopy_ext>,
    report: Box<xcopy_report>,
    _ranges: Vec<xcopy_range>,
}

impl Library {
    /// A context and the queues of `QUEUES`.
    pub fn new() -> Result<Library, String> {
        let mut context = std::ptr::null_mut();
        // SAFETY: default options, and a place for the context.
        check(unsafe { xcopy_context_create(std::ptr::null(), &mut context) })?;
        let mut library = Library {
            context,
            queues: Vec::new(),
        };
        // SAFETY: the context is open.
        check(unsafe { xcopy_plugin_register(context, Some(xcopy_plugin_file::init)) })?;
        for (chunk, depth) in QUEUES {
            library.add_queue(chunk, depth)?;
        }
        Ok(library)
    }

    fn add_queue(&mut self, chunk: u64, depth: u32) -> Result<(), String> {
        // SAFETY: plain numbers, for which zeroes are valid.
        let mut options: xcopy_queue_options = unsafe { std::mem::zeroed() };
        let mut queue = std::ptr::null_mut();
        // SAFETY: the options are as large as said, the context is open.
        unsafe {
            check(xcopy_queue_options_init(
                &mut options,
                size_of::<xcopy_queue_options>(),
            ))?;
            options.chunk = chunk;
            options.depth = depth;
            check(xcopy_queue_create(self.context, &options, &mut queue))?;
        }
        self.queues.push(queue);
        Ok(())
    }

    /// Opens a path.
    pub fn open(&self, path: &Path, flags: u32) -> Result<u32, (i32, String)> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| (0, e.to_string()))?;
        let mut device = 0;
        // SAFETY: a C string and a place for the handle.
        let status = unsafe { xcopy_device_open(self.context, name.as_ptr(), flags, &mut device) };
        done(status, device)
    }

    /// Borrows an fd.
    pub fn borrow(&self, fd: i32, flags: u32) -> Result<u32, (i32, String)> {
        let mut device = 0;
        // SAFETY: a number and a place for the handle.
        let status = unsafe { xcopy_device_open_fd(self.context, fd, flags, &mut device) };
        done(status, device)
    }

    /// Forgets what is known of a device, its size too.
    pub fn invalidate(&self, device: u32) {
        // SAFETY: the context is open.
        unsafe { xcopy_device_invalidate(self.context, device) };
    }

    /// The verdicts on a pair.
    pub fn methods(&self, src: u32, dst: u32) -> Result<Vec<xcopy_method_info>, String> {
        // SAFETY: plain data, for which zeroes are valid.
        let mut infos: Vec<xcopy_method_info> = vec![unsafe { std::mem::zeroed() }; 32];
        let stride = size_of::<xcopy_method_info>();
        // SAFETY: 32 places of that stride.
        let n = unsafe { xcopy_pair_query(self.context, src, dst, infos.as_mut_ptr(), stride, 32) };
        infos.truncate(check(n)? as usize);
        Ok(infos)
    }

    /// Submits requests and waits for all. A refusal is the request's errno.
    pub fn run(&self, queue: usize, jobs: &[Job]) -> Result<Vec<Result<Ended, i32>>, String> {
        self.run_watching(queue, jobs, |_| {})
    }

    /// The same; `watch` is called between polls with the bytes of the first
    /// request that are known to be copied.
    pub fn run_watching(
        &self,
        queue: usize,
        jobs: &[Job],
        mut watch: impl FnMut(u64),
    ) -> Result<Vec<Result<Ended, i32>>, String> {
        let queue = self.queues[queue];
        let mut held = Vec::with_capacity(jobs.len());
        let mut results: Vec<Option<Result<Ended, i32>>> = Vec::new();
        let mut open = HashMap::new();
        for (at, job) in jobs.iter().enumerate() {
            let mut memory = Held::new(job);
            let request = memory.request(job, at as u64);
            // SAFETY: the request's memory stays until its completion.
            let n = unsafe { xcopy_submit(queue, &request, size_of::<xcopy_request>(), 1) };
            held.push(Some(memory));
            match n {
                1 => {
                    open.insert(at as u64, ());
                    results.push(None);
                }
                n if n < 0 && last_error().is_empty() => {
                    return Err(format!("refused with {n} and no text"));
                }
                n => results.push(Some(Err(-n))),
            }
        }
        while !open.is_empty() {
            let mut completion = xcopy_completion::default();
            let stride = size_of::<xcopy_completion>();
            // SAFETY: room for one completion.
            let n = unsafe { xcopy_poll(queue, &mut completion, stride, 1, 1, 1_000_000) };
            let mut progress = xcopy_progress::default();
            // SAFETY: as large as said.
            let status =
                unsafe { xcopy_progress(queue, 0, &mut progress, size_of::<xcopy_progress>()) };
            if status == 0 {
                watch(progress.bytes_copied);
            }
            if n == 0 || n == -libc::EINTR {
                continue;
            }
            check(n)?;
            let at = completion.user_data;
            if open.remove(&at).is_none() {
                return Err(format!(
                    "request {at} completed twice, or was never submitted"
                ));
            }
            let memory = held[at as usize].take().ok_or("memory taken twice")?;
            results[at as usize] = Some(Ok(Ended {
                completion,
                report: memory.report,
            }));
        }
        // SAFETY: the queue is open.
        let left = unsafe { xcopy_queue_in_flight(queue) };
        if left != 0 {
            return Err(format!(
                "{left} requests are in flight after the last completion"
            ));
        }
        results
            .into_iter()
            .map(|result| result.ok_or_else(|| "a request without a completion".to_owned()))
            .collect()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: made by `new`; nothing is in flight unless a check failed.
        unsafe {
            for queue in &self.queues {
                xcopy_queue_destroy(*queue, 0);
            }
            xcopy_context_free(self.context);
        }
    }
}

impl Held {
    fn new(job: &Job) -> Held {
        // SAFETY: plain data, for which zeroes are valid.
        let mut report: Box<xcopy_report> = Box::new(unsafe { std::mem::zeroed() });
        report.size = size_of::<xcopy_report>() as u32;
        let (src, dst) = job.bases.unwrap_or((0, 0));
        let ranges: Vec<_> = job
            .ranges
            .iter()
            .map(|range| xcopy_range {
                src_offset: range.src_offset - src,
                dst_offset: range.dst_offset - dst,
                length: range.length,
            })
            .collect();
        let listed = job.bases.is_some() || ranges.len() > 1;
        let ext = Box::new(xcopy_ext {
            size: size_of::<xcopy_ext>() as u32,
            reserved: 0,
            ranges: if listed {
                ranges.as_ptr()
            } else {
                std::ptr::null()
            },
            nranges: if listed { ranges.len() as u64 } else { 0 },
            report: &raw mut *report,
            token_lifetime_s: 0,
            token_type: 0,
        });
        Held {
            ext,
            report,
            _ranges: ranges,
        }
    }

    fn request(&mut self, job: &Job, user_data: u64) -> xcopy_request {
        // Taken anew: moving the box would end an older pointer's right.
        self.ext.report = &raw mut *self.report;
        let mut request = xcopy_request {
            user_data,
            op: job.op,
            reserved: 0,
            flags: job.flags,
            src: job.src,
            dst: job.dst,
            src_offset: 0,
            dst_offset: 0,
            length: 0,
            methods: job.methods,
            timeout_ms: 0,
            ext: &raw const *self.ext,
        };
        match (&job.ranges[..], job.bases) {
            ([range], None) => {
                request.src_offset = range.src_offset;
                request.dst_offset = range.dst_offset;
                request.length = range.length;
            }
            (_, bases) => (request.src_offset, request.dst_offset) = bases.unwrap_or((0, 0)),
        }
        request
    }
}

fn check(status: i32) -> Result<i32, String> {
    match status {
        n if n >= 0 => Ok(n),
        n => Err(format!("{n}: {}", last_error())),
    }
}

fn done(status: i32, device: u32) -> Result<u32, (i32, String)> {
    match status {
        0 => Ok(device),
        status => Err((-status, last_error())),
    }
}

/// A fixed text field.
pub fn text(field: &[std::ffi::c_char]) -> String {
    field
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8 as char)
        .collect()
}

/// The name of a fixed method.
pub fn method_name(method: u16) -> String {
    // SAFETY: NULL is legal for fixed methods; the name is static or NULL.
    let name = unsafe { xcopy_method_name(std::ptr::null_mut(), method).as_ref() };
    match name {
        // SAFETY: a static C string.
        Some(name) => unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned(),
        None => format!("method {method}"),
    }
}
