//! List identifiers: unique among the commands of this process, and drawn at
//! random, because the nexus is shared with other processes, whose identifiers
//! nobody here knows.

use std::collections::HashSet;
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static IN_USE: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);

/// A list identifier that no other command of the process has while it lives.
#[derive(Debug)]
pub struct ListIdLease(u32);

impl ListIdLease {
    /// One of 32 bits, for LID4 commands and tokens; never below 256.
    pub fn long() -> io::Result<ListIdLease> {
        Self::draw(|random| random.max(0x100))
    }

    /// One of 8 bits, for LID1 commands; never 0. EBUSY if all are in use.
    pub fn short() -> io::Result<ListIdLease> {
        Self::draw(|random| (random & 0xff).max(1))
    }

    /// The identifier.
    pub fn id(&self) -> u32 {
        self.0
    }

    fn draw(fit: impl Fn(u32) -> u32) -> io::Result<ListIdLease> {
        for _ in 0..4096 {
            let id = fit(random()?);
            if in_use().insert(id) {
                return Ok(ListIdLease(id));
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}

impl Drop for ListIdLease {
    fn drop(&mut self) {
        in_use().remove(&self.0);
    }
}

fn in_use() -> MutexGuard<'static, HashSet<u32>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> io::Result<u32> {
    let mut bytes = [0u8; 4];
    // SAFETY: the kernel writes at most four bytes behind the pointer.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
        4 => Ok(u32::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}
