//! Where a file has data and where holes.

use super::errno;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pieces that are looked for at once.
const AHEAD: usize = 64;

/// A run of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data, as far as is known.
    Data(u64),
    /// Reads as zeroes and holds no block.
    Hole(u64),
}

/// The pieces of a range, a few found at a time. What its source becomes
/// meanwhile is nobody's promise.
pub struct Pieces {
    fd: RawFd,
    at: u64,
    end: u64,
    found: VecDeque<Piece>,
}

impl Pieces {
    /// Those of `length` bytes from `at` on.
    pub fn new(fd: RawFd, at: u64, length: u64) -> Pieces {
        Pieces {
            fd,
            at,
            end: at.saturating_add(length),
            found: VecDeque::new(),
        }
    }

    /// What was found and not taken yet, after a search if there is nothing.
    pub fn known(&mut self) -> impl Iterator<Item = Piece> {
        if self.found.is_empty() && self.at < self.end {
            self.search();
        }
        self.found.iter().copied()
    }

    fn search(&mut self) {
        let Some(search) = Search::begin(self.fd) else {
            self.push(Piece::Data(self.end - self.at));
            return;
        };
        let mut is_data = false;
        while self.at < self.end && self.found.len() < AHEAD {
            let left = self.end - self.at;
            let piece = match is_data {
                true => search.data(self.at, left),
                false => search.hole(self.at, left),
            };
            match piece {
                Some(piece) => self.push(piece),
                // The other kind follows at once, or nothing can be told: data.
                None if is_data => self.push(Piece::Data(left)),
                None => {}
            }
            is_data = !is_data;
        }
    }

    fn push(&mut self, piece: Piece) {
        let (Piece::Data(length) | Piece::Hole(length)) = piece;
        self.at += length;
        self.found.push_back(piece);
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        self.known().next()?;
        self.found.pop_front()
    }
}

/// What there is to do to make a range of a file a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptiness {
    /// Nothing: it is within the file and holds no data.
    Hole,
    /// The file ends before it: nothing, once it is long enough.
    Beyond,
    /// It holds data, or that cannot be told.
    Unknown,
}

/// Looks into a destination for as long as a copy takes.
pub struct Holes(Option<Search>);

impl Holes {
    /// Of a regular file.
    pub fn of(fd: RawFd) -> Holes {
        // The shared position would be kept from others meanwhile.
        let own = |search: &Search| matches!(search.file, Position::Own(_));
        Holes(Search::begin(fd).filter(own))
    }

    /// Of `length` bytes from `at` on.
    pub fn at(&self, at: u64, length: u64) -> Emptiness {
        let Some(search) = &self.0 else {
            return Emptiness::Unknown;
        };
        let end = at.saturating_add(length);
        match search.seek(at, libc::SEEK_DATA) {
            Ok(data) if data >= end => Emptiness::Hole,
            Err(libc::ENXIO) => match search.seek(0, libc::SEEK_END) {
                Ok(size) if size >= end => Emptiness::Hole,
                Ok(size) if size <= at => Emptiness::Beyond,
                _ => Emptiness::Unknown,
            },
            _ => Emptiness::Unknown,
        }
    }
}

/// Whether `length` bytes from `at` on hold no data; false where that cannot be told.
pub fn is_hole(fd: RawFd, at: u64, length: u64) -> bool {
    let Some(search) = Search::begin(fd) else {
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
struct Search {
    file: Position,
}

enum Position {
    Own(File),
    Shared {
        fd: RawFd,
        before: u64,
        /// Keeps two searches from each putting back the other's position.
        _guard: MutexGuard<'static, ()>,
    },
}

impl Search {
    fn begin(fd: RawFd) -> Option<Search> {
        static POSITION: Mutex<()> = Mutex::new(());
        let own = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{fd}"));
        let file = match own {
            Ok(file) => Position::Own(file),
            Err(_) => {
                let guard = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
                Position::Shared {
                    fd,
                    before: seek(fd, 0, libc::SEEK_CUR).ok()?,
                    _guard: guard,
                }
            }
        };
        Some(Search { file })
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
        let fd = match &self.file {
            Position::Own(file) => file.as_raw_fd(),
            Position::Shared { fd, .. } => *fd,
        };
        seek(fd, to, whence)
    }
}

fn seek(fd: RawFd, to: u64, whence: i32) -> Result<u64, i32> {
    // SAFETY: takes numbers only; a bad fd or place is an error.
    let at = unsafe { libc::lseek64(fd, to as i64, whence) };
    u64::try_from(at).map_err(|_| errno())
}

impl Drop for Search {
    fn drop(&mut self) {
        if let Position::Shared { fd, before, .. } = self.file {
            let _ = seek(fd, before, libc::SEEK_SET);
        }
    }
}
