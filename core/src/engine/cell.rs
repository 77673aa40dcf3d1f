//! Command cells: what a backend sees of a command, what its owner keeps beside
//! it, and the word by which an answer is matched to it.

use super::prefetch::for_writing;
use super::shared::SlotFace;
use super::way::Way;
use crate::plan::Cursor;
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use xcopy_abi::*;

/// Bit of a state: its result is written and on the way to the owner. Beside it
/// and `FREE` the state is the command's cookie, so that one comparison tells
/// whether an answer is to it. No cookie that was checked to name a cell has
/// either bit.
const DONE: u64 = 1 << 30;
/// Bit of a state: nobody uses the command. Added once more it vanishes and
/// counts the generation, the cookie's high half, up.
const FREE: u64 = 1 << 31;

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
    /// Lets a device forget a part of a token that did not come about.
    Unmake,
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
    /// The host's own work: bytes from the start that may have been touched.
    pub touched: u64,
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

/// A command: what the backend sees, and what the owner keeps beside it. Who
/// completes it from another thread touches the first two lines and `end`, and
/// the owner writes nothing else there while it flies.
#[repr(C, align(64))]
pub struct CommandCell {
    /// What the backend sees. First, so that its address is the cell's.
    pub cmd: UnsafeCell<xcopy_cmd>,
    state: AtomicU64,
    way: Cell<*const Way>,
    /// On the straight way: XCOPY_REQ_ flags of the request (low half), and the
    /// methods that it named.
    pub choice: Cell<u64>,
    /// Room for the range of a command that has one.
    pub range: UnsafeCell<xcopy_range>,
    /// A twin's slot.
    pub slot: Cell<u32>,
    /// The public words of that slot.
    pub face: Cell<*const SlotFace>,
    /// The next free twin.
    pub next: Cell<*const CommandCell>,
    /// Asks work on the pool to end early.
    pub stop: AtomicBool,
    end: End,
    errand: Cell<Errand>,
}

/// What the end of a command needs besides its state.
#[repr(C, align(64))]
struct End {
    /// Index of the plugin queue whose answer counts.
    plugin: AtomicU32,
    answer: UnsafeCell<Answer>,
}

impl CommandCell {
    /// A free cell; `off` is the way of those that are not straight.
    pub fn new(index: u32, off: *const Way) -> CommandCell {
        CommandCell {
            cmd: UnsafeCell::new(CommandCell::no_command()),
            state: AtomicU64::new(u64::from(index) | FREE),
            way: Cell::new(off),
            range: UnsafeCell::new(xcopy_range::default()),
            choice: Cell::new(0),
            slot: Cell::new(0),
            face: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            stop: AtomicBool::new(false),
            end: End {
                plugin: AtomicU32::new(NO_PLUGIN),
                answer: UnsafeCell::new(Answer::default()),
            },
            errand: Cell::new(Errand {
                slot: 0,
                plugin: NO_PLUGIN,
                method: 0,
                purpose: Purpose::Method,
                ranges: 0,
                start: Cursor::default(),
            }),
        }
    }

    /// Its index.
    #[inline(always)]
    pub fn index(&self) -> u32 {
        (self.state.load(Ordering::Relaxed) & (DONE - 1)) as u32
    }

    /// Gives the free command to a backend; its cookie.
    #[inline(always)]
    pub fn launch(&self) -> u64 {
        let cookie = self.state.load(Ordering::Relaxed).wrapping_add(FREE);
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
        // A flying command's state has neither bit.
        self.state
            .store(cookie.wrapping_add(FREE), Ordering::Relaxed);
    }

    /// Whether the command of this cookie is with a backend.
    #[inline(always)]
    pub fn is(&self, cookie: u64) -> bool {
        self.state.load(Ordering::Acquire) == cookie
    }

    /// Asks for what the end of the command writes, which another thread wrote last.
    #[inline(always)]
    pub fn expect_end(&self) {
        for_writing(&self.state);
        for_writing(&self.end);
    }

    /// The same for the owner, who may launch it again.
    #[inline(always)]
    pub fn expect_delivery(&self) {
        self.expect_end();
        for_writing(&self.cmd);
    }

    /// Whether a backend has the command.
    pub fn is_flying(&self) -> bool {
        self.flying().is_some()
    }

    /// The command's cookie, if a backend has it.
    pub fn flying(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state & (FREE | DONE) == 0).then_some(state)
    }

    /// Whether the command is in use: with a backend, or ended and not looked at.
    pub fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) & FREE == 0
    }

    /// Whether this plugin queue has, or had last, the command; any thread.
    #[inline(always)]
    pub fn is_of(&self, plugin: u32) -> bool {
        self.end.plugin.load(Ordering::Relaxed) == plugin
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

    /// Where the answer goes; whoever ended the command, until it is delivered,
    /// and then the owner.
    #[inline(always)]
    pub fn answer(&self) -> *mut Answer {
        self.end.answer.get()
    }

    /// What the owner knows of the command; the owner only.
    #[inline(always)]
    pub fn errand(&self) -> Errand {
        self.errand.get()
    }

    /// Says what the command is for; the owner only, before a backend has it.
    #[inline]
    pub fn set_errand(&self, errand: Errand) {
        self.end.plugin.store(errand.plugin, Ordering::Relaxed);
        self.errand.set(errand);
    }

    /// Its way, of the straight ones or of none; the owner only.
    #[inline(always)]
    pub fn way(&self) -> *const Way {
        self.way.get()
    }

    /// Sends the command this way; the owner only.
    #[inline(always)]
    pub fn set_way(&self, way: *const Way) {
        self.way.set(way);
    }

    /// Bytes of the request of a command on the straight way; the owner only.
    ///
    /// # Safety
    /// The command is, or was, on the straight way.
    #[inline(always)]
    pub unsafe fn total(&self) -> u64 {
        // SAFETY: the caller's word: a twin has a face, of the same queue.
        unsafe { (*self.face.get()).total.load(Ordering::Relaxed) }
    }

    /// Whether the answer of a command that ended is that all of `total` bytes
    /// were copied as expected; the owner only.
    #[inline]
    pub fn ended_well(&self, total: u64) -> bool {
        let answer = self.answer();
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
            method_index: 0,
            arg: std::ptr::null_mut(),
            private_data: std::ptr::null_mut(),
        }
    }
}

// A good end looks at the second line of a cell and writes the fourth, or, on the
// owner's thread, looks at the third.
const _: () = assert!(std::mem::offset_of!(CommandCell, range) == 128);
const _: () = assert!(std::mem::offset_of!(CommandCell, end) == 192);
