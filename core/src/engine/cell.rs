//! Command cells: what a backend sees of a command, what its owner keeps beside
//! it, and the word by which an answer is matched to it.

use crate::plan::Cursor;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use xcopy_abi::*;

/// Bit of a state: nobody uses the command. Beside it and `DONE` the state is the
/// command's cookie, so that one comparison tells whether an answer is to it. No
/// cookie that was checked to name a cell has either bit.
const FREE: u64 = 1 << 30;
/// Bit of a state: its result is written and on the way to the owner.
const DONE: u64 = 1 << 31;
/// What the generation in a cookie's high half advances by.
const GENERATION: u64 = 1 << 32;

/// What a command is for, so that its end is understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A method's command for a piece of a request.
    Method,
    /// The host copies a piece on the pool, or zeroes it.
    Host,
    /// The host has read a piece into a buffer and will write it.
    BridgeRead,
    /// The host writes a piece from a buffer.
    BridgeWrite,
    /// Makes a request durable.
    Flush,
    /// Opens a device on this queue.
    Open,
    /// Judges a pair on this queue.
    Probe,
    /// Closes a device on this queue.
    Close,
}

/// What the owner knows of a command in flight.
#[derive(Clone, Copy)]
pub struct Errand {
    /// Index of the request's slot, or of the route or device it works for.
    pub slot: u32,
    /// Index of the plugin queue, or `NO_PLUGIN`.
    pub plugin: u32,
    /// Index of the method in the route's list.
    pub method: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// Number of ranges.
    pub ranges: u32,
    /// Where its piece begins.
    pub start: Cursor,
}

/// `Errand.plugin` of a command that the pool carries out.
pub const NO_PLUGIN: u32 = u32::MAX;

/// What the owner knows of a command that goes the straight way, in the line of
/// the cell's state. The slot of its request holds nothing yet.
#[derive(Clone, Copy)]
pub struct Ticket {
    /// Bytes of the request.
    pub total: u64,
    /// Index of the pair.
    pub pair: u32,
    /// Index of the request's slot, reserved.
    pub slot: u16,
    /// Index of the plugin queue, or `NO_WAY` of a command that goes another way.
    pub plugin: u16,
}

/// `Ticket.plugin` of a command that does not go the straight way.
pub const NO_WAY: u16 = u16::MAX;

/// The part of a result that outlives the plugin's call.
#[derive(Clone, Copy, Default)]
pub struct Answer {
    /// 0 or -errno.
    pub status: i32,
    /// XCOPY_ACTION_.
    pub action: u16,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// Bytes known to be done.
    pub bytes: u64,
    /// Of those, bytes that were holes or zeroes.
    pub zeroed: u64,
    /// The device's words.
    pub detail: u64,
    /// XCOPY_RESULT_ flags.
    pub flags: u32,
    /// Bytes that a token took.
    pub token_size: u32,
    /// Type of that token.
    pub token_type: u32,
    /// Seconds that it lives.
    pub token_lifetime_s: u32,
    /// Bytes of sense data kept by `Senses`.
    pub sense_len: u32,
}

/// A command: what the backend sees, and what the owner keeps beside it.
#[repr(C, align(64))]
pub struct CommandCell {
    /// What the backend sees. First, so that its address is the cell's.
    pub cmd: UnsafeCell<xcopy_cmd>,
    state: AtomicU64,
    ticket: UnsafeCell<Ticket>,
    /// Room for the range of a command that has one.
    pub range: UnsafeCell<xcopy_range>,
    /// XCOPY_REQ_ flags and methods of a request on the straight way.
    pub request: Cell<(u32, u32)>,
    /// The owner's.
    pub errand: Cell<Errand>,
    pub(super) answer: UnsafeCell<Answer>,
    /// Asks work on the pool to end early.
    pub stop: AtomicBool,
}

impl CommandCell {
    /// A free cell.
    pub fn new(index: u32) -> CommandCell {
        CommandCell {
            cmd: UnsafeCell::new(CommandCell::no_command()),
            state: AtomicU64::new(u64::from(index) | FREE),
            ticket: UnsafeCell::new(Ticket {
                total: 0,
                pair: 0,
                slot: 0,
                plugin: NO_WAY,
            }),
            range: UnsafeCell::new(xcopy_range::default()),
            request: Cell::new((0, 0)),
            errand: Cell::new(Errand {
                slot: 0,
                plugin: NO_PLUGIN,
                method: 0,
                purpose: Purpose::Method,
                ranges: 0,
                start: Cursor::default(),
            }),
            answer: UnsafeCell::new(Answer::default()),
            stop: AtomicBool::new(false),
        }
    }

    /// Gives the free command to a backend; its cookie.
    #[inline(always)]
    pub fn launch(&self) -> u64 {
        let state = self.state.load(Ordering::Relaxed);
        let cookie = (state & !(FREE | DONE)).wrapping_add(GENERATION);
        self.state.store(cookie, Ordering::Release);
        cookie
    }

    /// Takes the command back.
    #[inline(always)]
    pub fn land(&self) {
        let state = self.state.load(Ordering::Relaxed);
        self.state.store(state & !DONE | FREE, Ordering::Relaxed);
    }

    /// Takes a flying command back at once, whose answer is good; the owner only.
    #[inline(always)]
    pub fn land_flying(&self, cookie: u64) {
        self.state.store(cookie | FREE, Ordering::Relaxed);
    }

    /// Whether the command of this cookie is with a backend.
    #[inline(always)]
    pub fn is(&self, cookie: u64) -> bool {
        self.state.load(Ordering::Acquire) == cookie
    }

    /// Whether a backend has the command.
    pub fn is_flying(&self) -> bool {
        self.state.load(Ordering::Acquire) & (FREE | DONE) == 0
    }

    /// Whether the command is in use: with a backend, or ended and not looked at.
    pub fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) & FREE == 0
    }

    /// Ends the command; false if another did. Any thread.
    #[inline]
    pub fn claim(&self, cookie: u64) -> bool {
        let done = cookie | DONE;
        self.state
            .compare_exchange(cookie, done, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends the command, known to fly, without an exchange; the owner only.
    #[inline]
    pub fn end(&self, cookie: u64) {
        self.state.store(cookie | DONE, Ordering::Relaxed);
    }

    /// What the owner knows of the command; the owner only, while it ends.
    #[inline]
    pub fn errand(&self) -> &Errand {
        // SAFETY: only the owner's thread sets it, and not between the end of a
        // command and its next use, for which this is read.
        unsafe { &*self.errand.as_ptr() }
    }

    /// Place of the ticket; the owner's.
    #[inline(always)]
    pub fn ticket(&self) -> *mut Ticket {
        self.ticket.get()
    }

    /// Whether the command goes, or went, the straight way; the owner only.
    #[inline(always)]
    pub fn is_straight(&self) -> bool {
        // SAFETY: a place that only the owner's thread touches.
        unsafe { (*self.ticket.get()).plugin != NO_WAY }
    }

    /// Takes the command off the straight way; the owner only.
    pub fn turn_off(&self) {
        // SAFETY: as above.
        unsafe { (*self.ticket.get()).plugin = NO_WAY };
    }

    /// Whether the answer of a command that ended is that all of `total` bytes
    /// were copied as expected; the owner only.
    #[inline]
    pub fn ended_well(&self, total: u64) -> bool {
        let answer = self.answer.get();
        // SAFETY: as in `QueueShared::answer`.
        let (status, flags, bytes) =
            unsafe { ((*answer).status, (*answer).flags, (*answer).bytes) };
        status == 0 && flags & XCOPY_RESULT_THROUGH_HOST == 0 && bytes == total
    }

    /// A command that says nothing.
    pub fn no_command() -> xcopy_cmd {
        xcopy_cmd {
            cookie: 0,
            op: 0,
            method: 0,
            flags: 0,
            src: std::ptr::null_mut(),
            dst: std::ptr::null_mut(),
            ranges: std::ptr::null(),
            nranges: 0,
            timeout_ms: 0,
            bytes: 0,
            buffer: std::ptr::null_mut(),
            token: std::ptr::null_mut(),
            token_size: 0,
            token_type: 0,
            token_lifetime_s: 0,
            reserved: 0,
            arg: std::ptr::null_mut(),
            private_data: std::ptr::null_mut(),
        }
    }
}

// What the straight way's end looks at is one line of the cell.
const _: () = assert!(std::mem::offset_of!(CommandCell, range) == 128);
