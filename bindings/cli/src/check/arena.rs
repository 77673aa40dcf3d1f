//! Memory that tells when it is touched at the wrong time.
//!
//! Everything that the plugin is lent lies at the end of pages of its own, with
//! an inaccessible page behind it, and becomes inaccessible when the plugin has
//! to give it back. An access then ends the process, after saying what it was.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::fault::Fault;
use super::{calls, system, wire};

const PAGE: usize = 4096;
/// Address space, not memory.
const SPACE: usize = 8 << 30;
/// Blocks that one check may lend.
const BLOCKS: usize = 1 << 16;
/// What lies between the end of a block and the end of its page.
const CANARY: u8 = 0xc5;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Host = 1,
    Opaque,
    Command,
    Ranges,
    Private,
    Buffer,
    Token,
    Batch,
    Description,
    Properties,
    Verdicts,
    Options,
    Place,
    Arguments,
}

const NAMES: [&str; 15] = [
    "memory that it was not given",
    "the host's table",
    "an opaque handle of the core",
    "a command",
    "a command's ranges",
    "a command's private bytes",
    "a command's buffer",
    "a command's token",
    "submit's array of commands",
    "the device's description",
    "the device's properties",
    "the verdicts",
    "the queue's options",
    "the place for a handle",
    "a command's arguments",
];

/// A lent block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// First byte that the plugin sees.
    pub at: usize,
    /// Bytes that it sees.
    pub len: usize,
    /// First byte of the pages.
    pages: usize,
    /// Bytes of the pages.
    span: usize,
    /// What it is.
    pub kind: Kind,
}

struct Entry {
    pages: AtomicUsize,
    end: AtomicUsize,
    kind: AtomicU8,
}

static SPACE_AT: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The table of blocks, for the crash handler: it lies in the arena's mapping.
static TABLE: AtomicUsize = AtomicUsize::new(0);

/// Reserves the address space. Once, before anything is lent.
pub fn reserve() -> io::Result<()> {
    let map = |size: usize, protection: i32| {
        // SAFETY: a new private mapping wherever the kernel likes.
        let at = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0)
        };
        match at {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            at => Ok(at as usize),
        }
    };
    let table = map(
        BLOCKS * size_of::<Entry>(),
        libc::PROT_READ | libc::PROT_WRITE,
    )?;
    TABLE.store(table, Ordering::Release);
    let space = map(SPACE, libc::PROT_NONE)?;
    NEXT.store(space + PAGE, Ordering::Release);
    SPACE_AT.store(space, Ordering::Release);
    Ok(())
}

fn entry(index: usize) -> Option<&'static Entry> {
    let table = TABLE.load(Ordering::Acquire);
    if table == 0 || index >= BLOCKS {
        return None;
    }
    // SAFETY: `reserve` mapped BLOCKS entries there for the life of the process;
    // zero bytes are valid atomics.
    Some(unsafe { &*(table as *const Entry).add(index) })
}

/// Lends `len` bytes, the first of which is at a multiple of `align` (at most a
/// page). `len` 0 lends an address that must not be used.
pub fn lend(kind: Kind, len: usize, align: usize) -> io::Result<Block> {
    let full = || io::Error::other("the check lent more than it has");
    let span = len.next_multiple_of(PAGE).max(PAGE);
    let pages = NEXT.fetch_add(span + PAGE, Ordering::AcqRel);
    let space = SPACE_AT.load(Ordering::Acquire);
    let entry = entry(COUNT.fetch_add(1, Ordering::AcqRel)).ok_or_else(full)?;
    if space == 0 || pages + span + PAGE > space + SPACE {
        return Err(full());
    }
    let at = if len == 0 {
        pages
    } else {
        (pages + span - len) & !(align.max(1) - 1)
    };
    entry.kind.store(kind as u8, Ordering::Relaxed);
    entry.pages.store(pages, Ordering::Relaxed);
    entry.end.store(pages + span, Ordering::Release);
    let block = Block {
        at,
        len,
        pages,
        span,
        kind,
    };
    if len > 0 {
        protect(&block, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the pages were just made writable, and nobody knows them yet.
        unsafe {
            let behind = at + len;
            std::ptr::write_bytes(behind as *mut u8, CANARY, pages + span - behind);
        }
    }
    Ok(block)
}

fn protect(block: &Block, protection: i32) -> io::Result<()> {
    // SAFETY: pages of the reserved space, which only this module hands out.
    match unsafe { libc::mprotect(block.pages as *mut _, block.span, protection) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Block {
    /// The block as a pointer to what lies there.
    pub fn pointer<T>(&self) -> *mut T {
        self.at as *mut T
    }

    /// Its bytes.
    ///
    /// # Safety
    /// The block was not taken back, and nobody writes to it meanwhile.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: readable for `len` until taken back, by the caller's word.
        unsafe { std::slice::from_raw_parts(self.at as *const u8, self.len) }
    }

    /// Puts bytes at its beginning.
    ///
    /// # Safety
    /// The block was not taken back, and nobody uses it meanwhile.
    pub unsafe fn fill(&self, bytes: &[u8]) {
        let n = bytes.len().min(self.len);
        // SAFETY: writable for `len`, by the caller's word.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at as *mut u8, n) };
    }

    /// Takes the block back: from now on it must not be touched. A second time
    /// does nothing.
    pub fn take_back(&self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: readable until taken back; a block is taken back by one thread.
        let slack = unsafe {
            let behind = self.at + self.len;
            std::slice::from_raw_parts(behind as *const u8, self.pages + self.span - behind)
        };
        if slack.iter().any(|byte| *byte != CANARY) {
            let text = format!("wrote behind {} of {} bytes", self.name(), self.len);
            wire::fault(Fault::Overruns, &text);
        }
        if protect(self, libc::PROT_NONE).is_ok() {
            // SAFETY: our own pages, whose content nobody may look at any more.
            unsafe { libc::madvise(self.pages as *mut _, self.span, libc::MADV_DONTNEED) };
        }
    }

    fn name(&self) -> &'static str {
        NAMES[self.kind as usize]
    }
}

/// What an access to `address` was.
fn explain(address: usize) -> Option<(Fault, &'static str, &'static str)> {
    let space = SPACE_AT.load(Ordering::Acquire);
    if space == 0 || address < space || address >= space + SPACE {
        return None;
    }
    for index in 0..COUNT.load(Ordering::Acquire).min(BLOCKS) {
        let entry = entry(index)?;
        let (pages, end) = (
            entry.pages.load(Ordering::Relaxed),
            entry.end.load(Ordering::Acquire),
        );
        let kind = entry.kind.load(Ordering::Relaxed);
        let name = NAMES.get(kind as usize).copied().unwrap_or(NAMES[0]);
        if address >= pages && address < end {
            return Some(if kind == Kind::Opaque as u8 {
                (Fault::TouchesHost, "looked into ", name)
            } else {
                (Fault::HoldsMemory, "still used after it was over: ", name)
            });
        }
        if address >= end && address < end + PAGE {
            return Some((Fault::Overruns, "went beyond the end of ", name));
        }
    }
    None
}

unsafe extern "C" fn on_signal(
    signal: i32,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    let address = match signal {
        // SAFETY: the kernel's siginfo; si_addr is there for the signals of memory.
        libc::SIGSEGV | libc::SIGBUS => unsafe { (*info).si_addr() as usize },
        _ => 0,
    };
    let found = explain(address);
    let (fault, did, what) = found.unwrap_or(match signal {
        libc::SIGABRT => (
            Fault::Panics,
            "the process was aborted: ",
            "a panic or an assertion left the plugin",
        ),
        libc::SIGSEGV => (Fault::Crashes, "segmentation fault", ""),
        libc::SIGBUS => (Fault::Crashes, "bus error", ""),
        libc::SIGFPE => (Fault::Crashes, "arithmetic error", ""),
        libc::SIGILL => (Fault::Crashes, "illegal instruction", ""),
        _ => (Fault::Crashes, "killed by a signal", ""),
    });
    let parts = [
        "fault\t",
        fault.id(),
        "\t",
        did,
        what,
        " (in ",
        calls::innermost_in_a_signal(),
        ")\n",
    ];
    for part in parts {
        let _ = system::write(wire::fd(), part.as_bytes());
    }
    system::end_now()
}

/// Says what a crash was, from now on.
pub fn watch_crashes() -> io::Result<()> {
    const STACK: usize = 64 << 10;
    // SAFETY: a new mapping that stays; a live struct; a handler that uses only
    // what is allowed in one.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let stack = libc::mmap(std::ptr::null_mut(), STACK, access, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = libc::stack_t {
            ss_sp: stack,
            ss_flags: 0,
            ss_size: STACK,
        };
        libc::sigaltstack(&stack, std::ptr::null_mut());
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: unsafe extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGABRT,
            libc::SIGFPE,
            libc::SIGILL,
        ] {
            if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        libc::atexit(on_exit);
    }
    Ok(())
}

extern "C" fn on_exit() {
    if !wire::is_done() {
        wire::fault(Fault::Exits, "ended the process");
        system::end_now();
    }
}
