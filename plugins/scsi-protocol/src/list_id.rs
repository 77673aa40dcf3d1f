//! List identifiers: unique among the commands of this process, and drawn at
//! random, because the nexus is shared with other processes, whose identifiers
//! nobody here knows. A plugin that is loaded has a table of its own, so each kind
//! of user draws from a half of its own.

use std::collections::HashSet;
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static IN_USE: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);

/// A list identifier that no other command of the process has while it lives.
#[derive(Debug)]
pub struct ListIdLease(u32);

/// What a list identifier of 32 bits is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListIdUser {
    /// EXTENDED COPY LID4.
    Copies,
    /// POPULATE TOKEN and WRITE USING TOKEN.
    Tokens,
}

impl ListIdLease {
    /// One of 32 bits, 31 of them random; never below 256.
    pub fn long(user: ListIdUser) -> io::Result<ListIdLease> {
        const TOKENS: u32 = 1 << 31;
        Self::draw(|random| match user {
            ListIdUser::Copies => (random & !TOKENS).max(0x100),
            ListIdUser::Tokens => random | TOKENS,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_tokens_never_meet() {
        let draw = |user| (0..1000).map(move |_| ListIdLease::long(user).unwrap());
        let copies: Vec<_> = draw(ListIdUser::Copies).collect();
        let tokens: Vec<_> = draw(ListIdUser::Tokens).collect();
        assert!(
            copies
                .iter()
                .all(|one| (0x100..1 << 31).contains(&one.id()))
        );
        assert!(tokens.iter().all(|one| one.id() >= 1 << 31));
        let different: HashSet<_> = copies.iter().chain(&tokens).map(|one| one.id()).collect();
        assert_eq!(different.len(), 2000);
    }
}
