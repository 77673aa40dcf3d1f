//! The host that the plugin sees: its table, and the book of what was given out.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::mem::offset_of;
use std::sync::{Mutex, MutexGuard, PoisonError};

use xcopy::abi::guard::guard;
use xcopy::abi::*;

use super::arena::{self, Block, Kind};
use super::fault::Fault;
use super::flight::{Ended, Flight, Order, State};
use super::judge::op_name;
use super::{system, wire};

/// One plugin queue.
struct Lane {
    owner: u64,
    destroyed: bool,
}

/// One context.
#[derive(Default)]
struct Started {
    stopped: bool,
    lent: HashMap<usize, (usize, usize)>,
}

/// What was given out and what came back.
#[derive(Default)]
pub struct Book {
    flights: HashMap<u64, Flight>,
    /// Commands that ended and were taken in: op, and whether it was cancelled.
    over: HashMap<u64, (u16, bool)>,
    lanes: HashMap<usize, Lane>,
    contexts: HashMap<usize, Started>,
    devices: HashSet<usize>,
    given: u64,
    /// Blocks whose taking back waits for the end of a cancel.
    deferred: Option<Vec<Block>>,
}

static BOOK: Mutex<Option<Book>> = Mutex::new(None);

/// The book; no call into the plugin may be made with it in hand.
fn with<R>(work: impl FnOnce(&mut Book) -> R) -> R {
    let mut book: MutexGuard<'_, Option<Book>> =
        BOOK.lock().unwrap_or_else(PoisonError::into_inner);
    work(book.get_or_insert_with(|| {
        let mut book = Book::default();
        // No growth later, that would look like a leak of the plugin.
        book.over.reserve(1 << 16);
        book.flights.reserve(1 << 10);
        book.lanes.reserve(1 << 10);
        book.contexts.reserve(1 << 10);
        book
    }))
}

/// Counts cookies through a mixer: a plugin that makes them up does not hit one.
fn cookie_of(count: u64) -> u64 {
    let mut word = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^= word >> 29;
    word.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
}

/// Lays a command out; its cookie.
pub fn make(order: &Order, cmd_private: u32, tail: usize) -> io::Result<u64> {
    let cookie = with(|book| {
        book.given += 1;
        cookie_of(book.given)
    });
    let flight = Flight::new(order, cookie, cmd_private, tail)?;
    with(|book| book.flights.insert(cookie, flight));
    Ok(cookie)
}

/// The command as the plugin gets it.
pub fn pointer(cookie: u64) -> *mut xcopy_cmd {
    with(|book| {
        let flight = book.flights.get(&cookie);
        flight.map_or(std::ptr::null_mut(), Flight::pointer)
    })
}

/// Commands are about to be given to a queue.
pub fn offer(queue: usize, cookies: &[u64]) {
    with(|book| {
        for cookie in cookies {
            if let Some(flight) = book.flights.get_mut(cookie) {
                flight.queue = queue;
                flight.state = State::Offered;
            }
        }
    });
}

/// A queue took the first `taken` of them.
pub fn offered(cookies: &[u64], taken: usize) {
    with(|book| {
        for (index, cookie) in cookies.iter().enumerate() {
            let Some(flight) = book.flights.get_mut(cookie) else {
                continue;
            };
            match (flight.state, index < taken) {
                (State::Offered, true) => flight.state = State::Flying,
                (State::Offered, false) => flight.state = State::Waiting,
                (State::Ended, false) => {
                    let text = format!("submit answered {taken}, but command {index} was ended");
                    wire::fault(Fault::CompletesRefused, &text);
                }
                _ => {}
            }
        }
    });
}

/// Whether a command ended.
pub fn has_ended(cookie: u64) -> bool {
    with(|book| {
        let flight = book.flights.get(&cookie);
        flight.is_none_or(|flight| flight.state == State::Ended)
    })
}

/// Takes the end of a command in; None if it has none.
pub fn collect(cookie: u64) -> Option<Ended> {
    with(|book| {
        let flight = book.flights.get(&cookie)?;
        if flight.state != State::Ended {
            return None;
        }
        let flight = book.flights.remove(&cookie)?;
        book.over.insert(cookie, (flight.asked.op, flight.canceled));
        flight.ended
    })
}

/// Cancel is about to be called for a command; until `canceled` its memory
/// stays readable, because it may end meanwhile on another thread.
pub fn cancel(cookie: u64) -> bool {
    with(|book| match book.flights.get_mut(&cookie) {
        Some(flight) if flight.state == State::Flying => {
            flight.canceled = true;
            book.deferred.get_or_insert_default();
            true
        }
        _ => false,
    })
}

/// Cancel returned.
pub fn canceled() {
    let blocks = with(|book| book.deferred.take()).unwrap_or_default();
    blocks.iter().for_each(Block::take_back);
}

/// The end of a command of the model BLOCKING.
pub fn end_blocking(cookie: u64, answer: i32, mut result: xcopy_result) {
    if result.cookie != cookie {
        let text = format!(
            "execute of the command {cookie:#x} ended with the cookie {:#x}",
            result.cookie
        );
        wire::fault(Fault::CompletesUnknown, &text);
    }
    if answer != 0 && result.status == 0 {
        if result.bytes != 0 {
            let text = format!(
                "execute answered {answer}, but its result claims {} bytes",
                result.bytes
            );
            wire::fault(Fault::OverReports, &text);
            result.bytes = 0;
        }
        result.status = answer;
    }
    let blocks = with(|book| match book.flights.get_mut(&cookie) {
        Some(flight) => flight.end(&result),
        None => Vec::new(),
    });
    blocks.iter().for_each(Block::take_back);
}

/// A new queue, owned by this thread; its host_queue.
pub fn add_lane() -> io::Result<usize> {
    let block = arena::lend(Kind::Opaque, 0, 1)?;
    let owner = system::thread_id();
    let lane = Lane {
        owner,
        destroyed: false,
    };
    with(|book| book.lanes.insert(block.at, lane));
    Ok(block.at)
}

/// This thread owns the queue from now on.
pub fn own_lane(queue: usize) {
    with(|book| {
        if let Some(lane) = book.lanes.get_mut(&queue) {
            lane.owner = system::thread_id();
        }
    });
}

/// The plugin's queue is destroyed.
pub fn destroy_lane(queue: usize) {
    with(|book| {
        if let Some(lane) = book.lanes.get_mut(&queue) {
            lane.destroyed = true;
        }
    });
}

/// A new device's host_device.
pub fn add_device() -> io::Result<usize> {
    let block = arena::lend(Kind::Opaque, 0, 1)?;
    with(|book| book.devices.insert(block.at));
    Ok(block.at)
}

/// The device was closed.
pub fn remove_device(device: usize) {
    with(|book| book.devices.remove(&device));
}

/// A new context's host_ctx.
pub fn add_context() -> io::Result<usize> {
    let block = arena::lend(Kind::Opaque, 0, 1)?;
    with(|book| book.contexts.insert(block.at, Started::default()));
    Ok(block.at)
}

/// The context was stopped.
pub fn stop_context(context: usize) {
    let left = with(|book| {
        let context = book.contexts.get_mut(&context)?;
        context.stopped = true;
        let left = context.lent.len();
        context.lent = HashMap::new();
        Some(left)
    });
    if let Some(left) = left.filter(|left| *left > 0) {
        let text = format!("{left} blocks of host.alloc were not freed before stop returned");
        wire::fault(Fault::LeaksMemory, &text);
    }
}

/// The table, `tail` bytes longer than today's.
pub fn table(tail: usize) -> io::Result<*const xcopy_host> {
    let block = arena::lend(Kind::Host, size_of::<xcopy_host>() + tail, 8)?;
    let later = u32::from(tail > 0);
    let table = xcopy_host {
        struct_size: block.len as u32,
        abi_version: XCOPY_ABI_VERSION + later,
        log: Some(log),
        alloc: Some(alloc),
        free: Some(free),
        complete: Some(complete),
        complete_local: Some(complete_local),
        device_event: Some(device_event),
    };
    // SAFETY: just lent, long enough, and nobody knows it yet.
    unsafe { block.pointer::<xcopy_host>().write(table) };
    Ok(block.pointer::<xcopy_host>())
}

fn alive(book: &mut Book, host_ctx: *mut c_void, what: &str) -> bool {
    match book.contexts.get(&(host_ctx as usize)) {
        Some(context) if context.stopped => {
            wire::fault(
                Fault::AfterStop,
                &format!("host.{what} was called after stop"),
            );
            false
        }
        Some(_) => true,
        None => {
            let text = format!("host.{what} was called with another host_ctx than start got");
            wire::fault(Fault::TouchesHost, &text);
            false
        }
    }
}

unsafe extern "C" fn log(host_ctx: *mut c_void, level: u32, message: *const c_char) {
    guard((), || {
        with(|book| alive(book, host_ctx, "log"));
        if !(XCOPY_LOG_ERROR..=XCOPY_LOG_DEBUG).contains(&level) || message.is_null() {
            wire::fault(Fault::BadAnswer, "host.log without a level or a message");
            return;
        }
        // SAFETY: the plugin's word; a bad one is told by the crash handler.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        crate::say(&format!("the plugin logs: {text}"));
    });
}

unsafe extern "C" fn alloc(host_ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        if !with(|book| alive(book, host_ctx, "alloc")) || size == 0 || !align.is_power_of_two() {
            return std::ptr::null_mut();
        }
        let mut memory = std::ptr::null_mut();
        // SAFETY: a live place, a power of two of at least a pointer, not 0.
        let status = unsafe { libc::posix_memalign(&mut memory, align.max(8), size) };
        if status != 0 {
            return std::ptr::null_mut();
        }
        with(|book| {
            if let Some(context) = book.contexts.get_mut(&(host_ctx as usize)) {
                context.lent.insert(memory as usize, (size, align));
            }
        });
        memory
    })
}

unsafe extern "C" fn free(host_ctx: *mut c_void, memory: *mut c_void, size: usize, align: usize) {
    guard((), || {
        if memory.is_null() || !with(|book| alive(book, host_ctx, "free")) {
            return;
        }
        let given = with(|book| {
            let context = book.contexts.get_mut(&(host_ctx as usize))?;
            context.lent.remove(&(memory as usize))
        });
        match given {
            None => wire::fault(Fault::BadFree, "host.free of what alloc did not give"),
            Some(given) => {
                if given != (size, align) {
                    let text = format!("given {given:?} (size, align), freed ({size}, {align})");
                    wire::fault(Fault::BadFree, &text);
                }
                // SAFETY: posix_memalign gave it, and it was taken off the list.
                unsafe { libc::free(memory) };
            }
        }
    });
}

unsafe extern "C" fn device_event(host_device: *mut c_void, events: u32, _size_bytes: u64) {
    guard((), || {
        let known = XCOPY_EVENT_REMOVED | XCOPY_EVENT_RESIZED | XCOPY_EVENT_LIMITS_CHANGED;
        if !with(|book| book.devices.contains(&(host_device as usize))) {
            wire::fault(Fault::BadEvent, "an event of a device that is not open");
        } else if events == 0 || events & !known != 0 {
            wire::fault(Fault::BadEvent, &format!("events {events:#x}"));
        }
    });
}

unsafe extern "C" fn complete(
    queue: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    // SAFETY: handed on as it came.
    guard((), || unsafe {
        finish(queue as usize, results, stride, n, false)
    });
}

unsafe extern "C" fn complete_local(
    queue: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    // SAFETY: handed on as it came.
    guard((), || unsafe {
        finish(queue as usize, results, stride, n, true)
    });
}

/// Size of a result in the first version of the interface.
const FIRST_RESULT: usize = offset_of!(xcopy_result, token_type) + size_of::<u32>();

/// # Safety
/// As the plugin contract has it for `complete`.
unsafe fn finish(queue: usize, results: *const xcopy_result, stride: usize, n: u32, local: bool) {
    let name = if local { "complete_local" } else { "complete" };
    if stride < FIRST_RESULT || !stride.is_multiple_of(8) || n > 1 << 20 {
        let text = format!("{name} of {n} results with a stride of {stride}");
        return wire::fault(Fault::BadStride, &text);
    }
    // All are read before any memory is taken back: results and sense data may
    // lie in a command's private bytes.
    let mut copies = Vec::with_capacity(n as usize);
    for index in 0..n as usize {
        let mut result = xcopy_result::default();
        // SAFETY: the plugin's word: n results of stride bytes.
        unsafe {
            let from = results.cast::<u8>().add(index * stride);
            let size = stride.min(size_of::<xcopy_result>());
            std::ptr::copy_nonoverlapping(from, (&raw mut result).cast::<u8>(), size);
            if !result.sense.is_null()
                && (1..=XCOPY_SENSE_MAX).contains(&(result.sense_len as usize))
            {
                let sense = std::slice::from_raw_parts(result.sense, result.sense_len as usize);
                std::hint::black_box(sense.iter().map(|b| u64::from(*b)).sum::<u64>());
            }
        }
        copies.push(result);
    }
    let blocks = with(|book| book.end(queue, &copies, local, name));
    blocks.iter().for_each(Block::take_back);
}

impl Book {
    fn end(
        &mut self,
        queue: usize,
        results: &[xcopy_result],
        local: bool,
        name: &str,
    ) -> Vec<Block> {
        match self.lanes.get(&queue) {
            None => {
                let text = format!("{name} on a host_queue that was never given");
                wire::fault(Fault::CompletesUnknown, &text);
                return Vec::new();
            }
            Some(lane) if lane.destroyed => {
                let text = format!("{name} after queue_destroy");
                wire::fault(Fault::AfterDestroy, &text);
                return Vec::new();
            }
            Some(lane) if local && lane.owner != system::thread_id() => {
                let text = "complete_local on a thread that does not own the queue";
                wire::fault(Fault::WrongThread, text);
            }
            Some(_) => {}
        }
        let mut blocks = Vec::new();
        for result in results {
            blocks.extend(self.end_one(queue, result, name));
        }
        match &mut self.deferred {
            Some(deferred) => {
                deferred.append(&mut blocks);
                Vec::new()
            }
            None => blocks,
        }
    }

    fn end_one(&mut self, queue: usize, result: &xcopy_result, name: &str) -> Vec<Block> {
        let cookie = result.cookie;
        let twice = |op: u16, canceled: bool| {
            let (fault, when) = if canceled {
                (Fault::AnswersAfterCancel, "after it was cancelled")
            } else {
                (Fault::CompletesTwice, "by another result")
            };
            let text = format!(
                "a {} command had ended, and ended again {when}",
                op_name(op)
            );
            wire::fault(fault, &text);
        };
        if let Some((op, canceled)) = self.over.get(&cookie) {
            twice(*op, *canceled);
            return Vec::new();
        }
        let Some(flight) = self.flights.get_mut(&cookie) else {
            let text = format!("{name} with the cookie {cookie:#x}, which no command has");
            wire::fault(Fault::CompletesUnknown, &text);
            return Vec::new();
        };
        match flight.state {
            State::Ended => {
                twice(flight.asked.op, flight.canceled);
                Vec::new()
            }
            State::Waiting => {
                let op = op_name(flight.asked.op);
                let text = format!("a {op} command ended that submit had not taken");
                wire::fault(Fault::CompletesRefused, &text);
                Vec::new()
            }
            State::Offered | State::Flying => {
                if flight.queue != queue {
                    let text = format!("{name} on another queue than the command was given to");
                    wire::fault(Fault::WrongQueue, &text);
                }
                flight.end(result)
            }
        }
    }
}
