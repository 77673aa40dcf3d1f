//! Where a file has data and where holes.

use super::copy::ask_for;
use super::errno;
use crate::device::cached_pages;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pieces that are known ahead at most; more are looked for at half of them.
const AHEAD: usize = 64;
/// The same in bytes of data.
const AHEAD_BYTES: u64 = 8 << 20;
/// Bytes of an island that are asked for: of a longer one the kernel reads the rest
/// ahead by itself.
const ASK_BYTES: u64 = 1 << 20;

/// A run of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data, as far as is known.
    Data(u64),
    /// Reads as zeroes and holds no block.
    Hole(u64),
}

/// What a copy knows of where its files have data. It may be kept from one command
/// of a request to the next, of the same two files: what they become meanwhile by
/// others is nobody's promise.
#[derive(Default)]
pub struct Looks {
    pub(super) src: Pieces,
    pub(super) dst: Holes,
}

impl Looks {
    /// Whether `length` bytes from `at` on have no hole, as far as can be told.
    pub fn is_dense(&mut self, src: RawFd, at: u64, length: u64) -> bool {
        self.src.at(src, at, at.saturating_add(length)) == Piece::Data(length)
    }
}

/// The pieces of a source, a few found ahead.
#[derive(Default)]
pub(super) struct Pieces {
    own: Own,
    /// Where what was found begins and ends.
    from: u64,
    to: u64,
    found: VecDeque<Piece>,
    /// Bytes of data among it.
    data: u64,
}

impl Pieces {
    /// What lies at `at`, up to `end`, which is behind it. What follows is looked for
    /// too, and the disk is asked for islands that it has to read: the kernel reads
    /// nothing ahead beyond a hole, so that it would be waited for one by one.
    pub(super) fn at(&mut self, fd: RawFd, at: u64, end: u64) -> Piece {
        self.forget(at);
        if self.to < end && self.found.len() <= AHEAD / 2 && self.data < AHEAD_BYTES {
            let (known, from) = (self.found.len(), self.to);
            self.search(fd, end);
            self.ask(fd, known, from);
        }
        let left = end - at;
        match self.found.front() {
            Some(Piece::Data(length)) => Piece::Data(left.min(*length)),
            Some(Piece::Hole(length)) => Piece::Hole(left.min(*length)),
            None => Piece::Data(left),
        }
    }

    /// Drops what lies before `at`.
    fn forget(&mut self, at: u64) {
        if at < self.from || at >= self.to {
            self.found.clear();
            (self.from, self.to, self.data) = (at, at, 0);
        }
        while self.from < at
            && let Some(piece) = self.found.front_mut()
        {
            let (Piece::Data(length) | Piece::Hole(length)) = piece;
            let passed = (*length).min(at - self.from);
            *length -= passed;
            let is_over = *length == 0;
            self.from += passed;
            if let Piece::Data(_) = piece {
                self.data -= passed;
            }
            if is_over {
                self.found.pop_front();
            }
        }
    }

    fn search(&mut self, fd: RawFd, end: u64) {
        let own = self.own.of(fd);
        let Some(search) = Search::begin(fd, own) else {
            return self.push(Piece::Data(end - self.to));
        };
        let (mut found, mut data, mut at) = (Vec::with_capacity(AHEAD), 0, self.to);
        let mut is_data = false;
        while at < end && self.found.len() + found.len() < AHEAD && self.data + data < AHEAD_BYTES {
            let left = end - at;
            let piece = match is_data {
                true => search.data(at, left),
                false => search.hole(at, left),
            };
            match piece {
                Some(piece) => {
                    let (Piece::Data(length) | Piece::Hole(length)) = piece;
                    at += length;
                    data += if is_data { length } else { 0 };
                    found.push(piece);
                }
                // The other kind follows at once, or nothing can be told: data.
                None if is_data => {
                    found.push(Piece::Data(left));
                    at = end;
                }
                None => {}
            }
            is_data = !is_data;
        }
        drop(search);
        for piece in found {
            self.push(piece);
        }
    }

    fn push(&mut self, piece: Piece) {
        let (Piece::Data(length) | Piece::Hole(length)) = piece;
        self.to += length;
        if let Piece::Data(_) = piece {
            self.data += length;
        }
        self.found.push_back(piece);
    }

    /// Asks for the islands behind the first `known` pieces, the first of which lies
    /// at `start`, if the first island is not in the page cache.
    fn ask(&self, fd: RawFd, known: usize, mut start: u64) {
        let found = self.found.iter().skip(known);
        if !found.clone().any(|piece| matches!(piece, Piece::Hole(_))) {
            return;
        }
        let mut is_first = true;
        for piece in found {
            let (Piece::Data(length) | Piece::Hole(length)) = *piece;
            if let Piece::Data(_) = piece {
                let length = length.min(ASK_BYTES);
                if is_first && cached_pages(fd, start, length) != Some(0) {
                    return;
                }
                ask_for(fd, start, length);
                is_first = false;
            }
            start += length;
        }
    }
}

/// What there is to do to make a range of a file a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptiness {
    /// Nothing for so many bytes: they are within the file and hold no data.
    Hole(u64),
    /// The file ends before it: nothing, once it is long enough.
    Beyond,
    /// So many bytes hold data, or that cannot be told.
    Unknown(u64),
}

/// Where a destination has no data. What was found stays true but for what is
/// written on purpose.
#[derive(Default)]
pub(super) struct Holes {
    own: Own,
    /// Without data, from here to there; to the end, wherever that is, with u64::MAX.
    empty: (u64, u64),
    /// Bytes of the file, at least, when there was no data up to its end.
    size: u64,
}

impl Holes {
    /// What is at `at`, for up to `length` bytes, of which there are some.
    pub(super) fn at(&mut self, fd: RawFd, at: u64, length: u64) -> Emptiness {
        let end = at.saturating_add(length);
        let (from, to) = self.empty;
        if at >= from
            && at < to
            && let Some(known) = self.within_empty(at, end)
        {
            return known;
        }
        let Some(search) = Search::begin(fd, self.own.of(fd)) else {
            return Emptiness::Unknown(length);
        };
        match search.seek(at, libc::SEEK_DATA) {
            Ok(data) if data > at => self.empty = (at, data),
            Err(libc::ENXIO) => match search.seek(0, libc::SEEK_END) {
                Ok(size) => (self.empty, self.size) = ((at, u64::MAX), size),
                Err(_) => return Emptiness::Unknown(length),
            },
            Ok(_) => {
                return match search.seek(at, libc::SEEK_HOLE) {
                    Ok(hole) if hole > at => Emptiness::Unknown(length.min(hole - at)),
                    _ => Emptiness::Unknown(length),
                };
            }
            Err(_) => return Emptiness::Unknown(length),
        }
        drop(search);
        self.within_empty(at, end)
            .unwrap_or(Emptiness::Unknown(length))
    }

    /// The same, where nothing is known to be.
    fn within_empty(&self, at: u64, end: u64) -> Option<Emptiness> {
        match self.empty.1 {
            // A file has grown by what was written behind this: not looked at again.
            u64::MAX if self.size <= at => Some(Emptiness::Beyond),
            u64::MAX => Some(Emptiness::Hole(self.size.min(end) - at)),
            data => Some(Emptiness::Hole(data.min(end) - at)),
        }
    }
}

/// Whether `length` bytes from `at` on hold no data; false where that cannot be told.
pub fn is_hole(fd: RawFd, at: u64, length: u64) -> bool {
    let mut own = Own::default();
    let Some(search) = Search::begin(fd, own.of(fd)) else {
        return false;
    };
    match search.seek(at, libc::SEEK_DATA) {
        Ok(data) => data >= at.saturating_add(length),
        Err(error) => error == libc::ENXIO,
    }
}

/// A search needs a file position, and the fd's is shared with every duplicate, the
/// caller's too. So it is one of its own description of the same file; where that
/// cannot be had, the shared one is put back.
struct Search<'a> {
    fd: RawFd,
    shared: Option<Shared>,
    /// Keeps the description open.
    _own: PhantomData<&'a File>,
}

/// A description of a file of one's own, made when first wanted.
#[derive(Default)]
struct Own {
    tried: bool,
    file: Option<File>,
}

impl Own {
    fn of(&mut self, fd: RawFd) -> Option<&File> {
        if !self.tried {
            self.tried = true;
            self.file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{fd}"))
                .ok();
        }
        self.file.as_ref()
    }
}

/// The position that others use too.
struct Shared {
    before: u64,
    /// Keeps two searches from each putting back the other's position.
    _guard: MutexGuard<'static, ()>,
}

impl<'a> Search<'a> {
    fn begin(fd: RawFd, own: Option<&'a File>) -> Option<Search<'a>> {
        static POSITION: Mutex<()> = Mutex::new(());
        let (fd, shared) = match own {
            Some(file) => (file.as_raw_fd(), None),
            None => {
                let guard = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
                let shared = Shared {
                    before: seek(fd, 0, libc::SEEK_CUR).ok()?,
                    _guard: guard,
                };
                (fd, Some(shared))
            }
        };
        Some(Search {
            fd,
            shared,
            _own: PhantomData,
        })
    }

    /// The data that starts at `at`, at most `left` bytes of it.
    fn data(&self, at: u64, left: u64) -> Option<Piece> {
        match self.seek(at, libc::SEEK_HOLE) {
            Ok(hole) if hole > at => Some(Piece::Data((hole - at).min(left))),
            _ => None,
        }
    }

    /// The hole that starts at `at`, at most `left` bytes of it. None beyond the
    /// end, so that the read finds it.
    fn hole(&self, at: u64, left: u64) -> Option<Piece> {
        let end = match self.seek(at, libc::SEEK_DATA) {
            Ok(data) => data,
            // No data from here to the end.
            Err(libc::ENXIO) => self.seek(0, libc::SEEK_END).ok()?,
            Err(_) => return None,
        };
        (end > at).then(|| Piece::Hole((end - at).min(left)))
    }

    fn seek(&self, to: u64, whence: i32) -> Result<u64, i32> {
        seek(self.fd, to, whence)
    }
}

fn seek(fd: RawFd, to: u64, whence: i32) -> Result<u64, i32> {
    // SAFETY: takes numbers only; a bad fd or place is an error.
    let at = unsafe { libc::lseek64(fd, to as i64, whence) };
    u64::try_from(at).map_err(|_| errno())
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let _ = seek(self.fd, shared.before, libc::SEEK_SET);
        }
    }
}
