//! The ring that the kernel shares with a handler (linux/target_core_user.h,
//! Documentation/target/tcmu-design.rst): a mailbox, command entries, data.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Mailbox: version u16, flags u16, cmdr_off u32, cmdr_size u32, cmd_head u32,
/// and on the next cache line cmd_tail u32.
const FLAGS: usize = 2;
const RING_OFFSET: usize = 4;
const RING_SIZE: usize = 8;
const HEAD: usize = 12;
const TAIL: usize = 64;
const VERSION: u16 = 2;
const CAN_SAY_LENGTH: u16 = 1 << 1;

/// Entry: len_op u32, cmd_id u16, kflags u8, uflags u8; a request goes on with
/// iov_cnt u32, bidi u32, dif u32, a pad, cdb_off u64, two pads u64, iovec[]; a
/// response with status u8, 3 bytes, read_len u32, 96 bytes of sense.
const ID: usize = 4;
const USER_FLAGS: usize = 7;
const IOV_COUNT: usize = 8;
const CDB_OFFSET: usize = 24;
const IOVS: usize = 48;
const STATUS: usize = 8;
const READ_LENGTH: usize = 12;
const SENSE: usize = 16;
const SENSE_BYTES: usize = 96;
const OP_COMMAND: u32 = 1;
const SAYS_LENGTH: u8 = 1 << 1;

/// One command, taken off the ring.
pub struct Request {
    id: u16,
    pub cdb: Vec<u8>,
    /// Offset and length of the pieces of its data.
    pieces: Vec<(usize, usize)>,
}

/// How it ends.
pub struct Response<'a> {
    pub status: u8,
    pub sense: &'a [u8],
    /// Bytes that were put to its data.
    pub length: u32,
}

pub struct Ring {
    file: File,
    base: NonNull<u8>,
    size: usize,
    entries: usize,
    entries_size: u32,
    says_length: bool,
    /// Where the next command is taken, and where the next response goes.
    next: Mutex<u32>,
    tail: Mutex<u32>,
}

// SAFETY: the mapping lives as long as the ring; places in it are the kernel's
// or one command's, and the two cursors are locked.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Of /dev/`device`.
    pub fn open(device: &str) -> io::Result<Ring> {
        let text = fs::read_to_string(format!("/sys/class/uio/{device}/maps/map0/size"))?;
        let size = usize::from_str_radix(text.trim().trim_start_matches("0x"), 16)
            .map_err(io::Error::other)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/dev/{device}"))?;
        // SAFETY: a new mapping of a file that is open; nothing is replaced.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        let mut ring = Ring {
            file,
            base,
            size,
            entries: 0,
            entries_size: 0,
            says_length: false,
            next: Mutex::new(0),
            tail: Mutex::new(0),
        };
        if u16::from_ne_bytes(ring.read(0)) != VERSION {
            return Err(io::Error::other("another version of the ring"));
        }
        ring.says_length = u16::from_ne_bytes(ring.read(FLAGS)) & CAN_SAY_LENGTH != 0;
        ring.entries = u32::from_ne_bytes(ring.read(RING_OFFSET)) as usize;
        ring.entries_size = u32::from_ne_bytes(ring.read(RING_SIZE));
        if ring.entries_size == 0 || ring.entries + ring.entries_size as usize > size {
            return Err(io::Error::other("the ring is not in its mapping"));
        }
        let tail = ring.word(TAIL).load(Ordering::Acquire);
        ring.next = Mutex::new(tail);
        ring.tail = Mutex::new(tail);
        Ok(ring)
    }

    fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        self.take(at, &mut out);
        out
    }

    /// Bytes of the mapping; what lies outside is zero.
    fn take(&self, at: usize, out: &mut [u8]) {
        if at
            .checked_add(out.len())
            .is_some_and(|end| end <= self.size)
        {
            // SAFETY: within the mapping, as just checked; the kernel does not
            // write a command's bytes before it has been answered.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.base.as_ptr().add(at),
                    out.as_mut_ptr(),
                    out.len(),
                );
            }
        }
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        if at
            .checked_add(bytes.len())
            .is_some_and(|end| end <= self.size)
        {
            // SAFETY: as in `take`; the place is of a command that is ours, or of
            // the entry at the tail, which is locked.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    bytes.as_ptr(),
                    self.base.as_ptr().add(at),
                    bytes.len(),
                );
            }
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: one of the mailbox's two cursors: aligned, in the mapping, and
        // only used atomically by both sides.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    /// Waits for the kernel's next signal; an error when the device is gone.
    pub fn wait(&self) -> io::Result<()> {
        let mut count = [0; 4];
        (&self.file).read_exact(&mut count)
    }

    /// Length and operation of the entry at `at`.
    fn entry(&self, at: u32) -> (u32, u32) {
        let word = u32::from_ne_bytes(self.read(self.entries + at as usize));
        // An entry is never empty: this keeps the cursor moving on any bytes.
        ((word & !7).max(8), word & 7)
    }

    /// The next command.
    pub fn next(&self) -> Option<Request> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *next == self.word(HEAD).load(Ordering::Acquire) {
                return None;
            }
            let at = self.entries + *next as usize;
            let (length, operation) = self.entry(*next);
            *next = (*next + length) % self.entries_size;
            if operation != OP_COMMAND {
                continue;
            }
            let pieces = (0..u32::from_ne_bytes(self.read(at + IOV_COUNT)).min(4096) as usize)
                .map(|n| {
                    let piece = at + IOVS + 16 * n;
                    (
                        u64::from_ne_bytes(self.read(piece)) as usize,
                        u64::from_ne_bytes(self.read(piece + 8)) as usize,
                    )
                })
                .collect();
            let cdb_at = u64::from_ne_bytes(self.read(at + CDB_OFFSET)) as usize;
            let [opcode] = self.read(cdb_at);
            let mut cdb = vec![
                0;
                match opcode >> 5 {
                    0 => 6,
                    1 | 2 => 10,
                    5 => 12,
                    _ => 16,
                }
            ];
            self.take(cdb_at, &mut cdb);
            return Some(Request {
                id: u16::from_ne_bytes(self.read(at + ID)),
                cdb,
                pieces,
            });
        }
    }

    /// The data that came with a command.
    pub fn data(&self, request: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, length) in &request.pieces {
            let from = out.len();
            out.resize(from + (*length).min(self.size), 0);
            self.take(*at, &mut out[from..]);
        }
        out
    }

    /// Puts an answer into a command's data; how many bytes found room.
    pub fn answer(&self, request: &Request, mut bytes: &[u8]) -> u32 {
        let mut done = 0;
        for (at, length) in &request.pieces {
            let n = bytes.len().min(*length);
            self.put(*at, &bytes[..n]);
            bytes = &bytes[n..];
            done += n as u32;
        }
        done
    }

    /// Ends a command, in any order: its answer goes into the entry at the tail,
    /// under its own number.
    pub fn complete(&self, request: &Request, response: &Response<'_>) -> io::Result<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let length = loop {
            let (length, operation) = self.entry(*tail);
            if operation == OP_COMMAND {
                break length;
            }
            *tail = (*tail + length) % self.entries_size;
        };
        let at = self.entries + *tail as usize;
        self.put(at + ID, &request.id.to_ne_bytes());
        self.put(
            at + USER_FLAGS,
            &[if self.says_length { SAYS_LENGTH } else { 0 }],
        );
        self.put(at + STATUS, &[response.status, 0, 0, 0]);
        self.put(at + READ_LENGTH, &response.length.to_ne_bytes());
        let mut sense = [0; SENSE_BYTES];
        let n = response.sense.len().min(SENSE_BYTES);
        sense[..n].copy_from_slice(&response.sense[..n]);
        self.put(at + SENSE, &sense);
        *tail = (*tail + length) % self.entries_size;
        self.word(TAIL).store(*tail, Ordering::Release);
        drop(tail);
        (&self.file).write_all(&[0; 4])
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made; nobody uses it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}
