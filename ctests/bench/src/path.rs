//! Submit and poll through the library.

use crate::api::Api;
use crate::{Failure, Work, next_random, spin};
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr;
use xcopy_abi::*;

/// Pairs of devices.
pub const PAIRS: usize = 64;
/// Bytes of each device.
const SIZE: u64 = 1 << 30;
/// Pairs in a row before the sequence repeats: longer than a branch predictor
/// remembers.
const SEQUENCE: usize = 1 << 14;

/// A queue and prepared pairs.
struct Prepared {
    queue: *mut c_void,
    /// Handles of source and destination.
    pairs: Vec<(u32, u32)>,
}

fn text(text: impl Into<Vec<u8>>) -> Result<CString, Failure> {
    CString::new(text).map_err(|e| e.to_string())
}

impl Prepared {
    /// Opens the devices of `plugin` and prepares their pairs.
    fn new(
        api: Api,
        plugin: &str,
        npairs: usize,
        load: impl FnOnce(*mut c_void) -> Result<(), Failure>,
    ) -> Result<Prepared, Failure> {
        let (mut context, mut queue) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: defaults, and a place for the context.
        api.check("context", unsafe {
            (api.context_create)(ptr::null(), &mut context)
        })?;
        load(context)?;
        // SAFETY: plain data that the call below fills.
        let mut options: xcopy_queue_options = unsafe { std::mem::zeroed() };
        // SAFETY: the struct and its size; the context and places live.
        unsafe {
            (api.queue_options_init)(&mut options, size_of::<xcopy_queue_options>());
            api.check("queue", (api.queue_create)(context, &options, &mut queue))?;
        }
        let mut path = Prepared {
            queue,
            pairs: Vec::new(),
        };
        for _ in 0..npairs {
            let open = |flags| -> Result<u32, Failure> {
                let (spec, mut device) = (text(format!("{plugin}:{SIZE}"))?, 0);
                // SAFETY: a context, a text and a place for the handle.
                let answer =
                    unsafe { (api.device_open)(context, spec.as_ptr(), flags, &mut device) };
                api.check("device", answer).map(|()| device)
            };
            let pair = (open(XCOPY_OPEN_READ)?, open(XCOPY_OPEN_WRITE)?);
            let prepare = xcopy_request {
                op: XCOPY_OP_PREPARE,
                ..request(pair)
            };
            let mut completion = xcopy_completion::default();
            // SAFETY: the queue, one request and one place.
            unsafe {
                api.check("prepare", (api.submit)(queue, &prepare, 64, 1))?;
                api.check("poll", (api.poll)(queue, &mut completion, 64, 1, 1, -1))?;
            }
            api.check("prepare", completion.res)?;
            path.pairs.push(pair);
        }
        Ok(path)
    }
}

fn request((src, dst): (u32, u32)) -> xcopy_request {
    xcopy_request {
        user_data: 0,
        op: XCOPY_OP_COPY,
        reserved: 0,
        flags: 0,
        src,
        dst,
        src_offset: 0,
        dst_offset: 0,
        length: 0,
        methods: 0,
        timeout_ms: 0,
        ext: ptr::null(),
    }
}

/// Length of the request with this number: differs from its neighbours'.
#[inline]
fn length(number: u64) -> u64 {
    (number % 64 + 1) * 4096
}

/// The polled path: `batch` requests are submitted, then taken.
pub fn null_path(api: Api, plugin: &Path, npairs: usize, batch: u32) -> Result<Work, Failure> {
    let file = text(plugin.as_os_str().as_encoded_bytes())?;
    let path = Prepared::new(api, "null", npairs, |context| {
        // SAFETY: a context and a text.
        api.check("plugin", unsafe {
            (api.plugin_load)(context, file.as_ptr())
        })
    })?;
    let mut random = 88_172_645_463_325_252;
    let pairs: [(u32, u32); PAIRS] = std::array::from_fn(|k| path.pairs[k % npairs]);
    let sequence: Box<[u8; SEQUENCE]> = Box::new(std::array::from_fn(|_| {
        (next_random(&mut random) % npairs as u64) as u8
    }));
    let mut requests = vec![request(path.pairs[0]); batch as usize];
    let mut completions = vec![xcopy_completion::default(); batch as usize];
    let mut number = 0u64;
    Ok(Box::new(move |ops| {
        // In registers, where the driver's own cost is small.
        let (submit, poll, queue) = (api.submit, api.poll, path.queue);
        let (requests, completions) = (&mut requests[..], &mut completions[..]);
        let (mut first, end) = (number, number + ops);
        while first < end {
            for (number, request) in (first..).zip(requests.iter_mut()) {
                let pair = sequence[number as usize % SEQUENCE];
                (request.src, request.dst) = pairs[usize::from(pair) % PAIRS];
                request.user_data = number;
                request.src_offset = number % 1024 * 4096;
                request.length = length(number);
            }
            // SAFETY: the queue, and `batch` requests.
            let accepted = unsafe { submit(queue, requests.as_ptr(), 64, batch) };
            if accepted != batch as i32 {
                return Err(fell_short(api, "accepted", accepted, batch));
            }
            // SAFETY: the queue, and `batch` places.
            let taken = unsafe { poll(queue, completions.as_mut_ptr(), 64, 0, batch, 0) };
            if taken != batch as i32 {
                return Err(fell_short(api, "taken", taken, batch));
            }
            // In order, since the null plugin ends commands in order.
            for (expected, completion) in (first..).zip(completions.iter()) {
                if completion.user_data != expected
                    || completion.res != 0
                    || completion.bytes_done != length(expected)
                    || completion.bytes_offloaded != length(expected)
                {
                    return Err(format!("request {expected} ended wrongly: {completion:?}"));
                }
            }
            first += u64::from(batch);
        }
        number = end;
        Ok(())
    }))
}

#[cold]
fn fell_short(api: Api, what: &str, answer: i32, batch: u32) -> Failure {
    match api.check(what, answer) {
        Ok(()) => format!("{answer} of {batch} {what}"),
        Err(error) => error,
    }
}

/// The lane: a plugin's thread ends commands while this one submits and polls,
/// both spinning, with `depth` requests in flight.
pub fn lane_path(api: Api, depth: u32, batch: u32) -> Result<Work, Failure> {
    let path = Prepared::new(api, spin::NAME, 1, |context| {
        // SAFETY: a context and an entry point.
        api.check("plugin", unsafe {
            (api.plugin_register)(context, Some(spin::init))
        })
    })?;
    let mut requests = vec![request(path.pairs[0]); batch as usize];
    let mut completions = vec![xcopy_completion::default(); batch as usize];
    let mut seen = vec![0u8; 1];
    let mut begun = 0u64;
    Ok(Box::new(move |ops| {
        let (first, end) = (begun, begun + ops);
        seen.clear();
        seen.resize(ops as usize, 0);
        let mut ended = begun;
        while ended < end {
            while begun < end && begun - ended + u64::from(batch) <= u64::from(depth) {
                for (k, request) in requests.iter_mut().enumerate() {
                    request.user_data = begun + k as u64;
                    request.length = length(request.user_data);
                }
                // SAFETY: the queue, and `batch` requests.
                let accepted = unsafe { (api.submit)(path.queue, requests.as_ptr(), 64, batch) };
                if accepted != batch as i32 {
                    api.check("submit", accepted)?;
                    return Err(format!("{accepted} of {batch} accepted"));
                }
                begun += u64::from(batch);
            }
            // SAFETY: the queue, and `batch` places.
            let taken =
                unsafe { (api.poll)(path.queue, completions.as_mut_ptr(), 64, 0, batch, 0) };
            api.check("poll", taken)?;
            if taken == 0 {
                std::hint::spin_loop();
            }
            for completion in &completions[..taken as usize] {
                let expected = length(completion.user_data);
                let place = completion.user_data.wrapping_sub(first) as usize;
                let once = seen
                    .get_mut(place)
                    .is_some_and(|n| std::mem::replace(n, 1) == 0);
                if !once || completion.res != 0 || completion.bytes_done != expected {
                    return Err(format!("ended wrongly: {completion:?}"));
                }
            }
            ended += taken as u64;
        }
        Ok(())
    }))
}
