//! What was submitted, against what completes: each once, and no more claimed
//! than was asked for.

use std::collections::HashMap;
use std::ffi::CStr;
use xcopy::abi::*;
use xcopy::*;

/// One accepted request.
pub struct Entry<T> {
    /// Bytes that it asked for; None where bytes mean nothing.
    pub bytes: Option<u64>,
    /// What the target keeps with it: what must live until its end.
    pub with: T,
}

/// Requests in flight, by user_data.
pub struct Ledger<T> {
    entries: HashMap<u64, Entry<T>>,
    next: u64,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Ledger {
            entries: HashMap::new(),
            next: 1,
        }
    }
}

impl<T> Ledger<T> {
    /// A user_data that was not used yet.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A request was accepted.
    pub fn accepted(&mut self, user_data: u64, bytes: Option<u64>, with: T) {
        let before = self
            .entries
            .insert(user_data, Entry { bytes, with })
            .is_some();
        assert!(!before, "user_data is not fresh");
    }

    /// The user_data of all in flight.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.entries.keys().copied()
    }

    /// Requests in flight.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks at all that is in flight.
    pub fn each(&mut self, mut look: impl FnMut(&mut T)) {
        self.entries
            .values_mut()
            .for_each(|entry| look(&mut entry.with));
    }

    /// Forgets all: a destroyed queue's requests do not complete.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// A completion came: checks it, and gives back what was kept.
    pub fn completed(&mut self, done: &xcopy_completion) -> Entry<T> {
        let Some(entry) = self.entries.remove(&done.user_data) else {
            panic!("a completion that nobody waits for, or a second one: {done:?}");
        };
        assert!((-4095..=0).contains(&done.res), "{done:?}");
        assert!(done.bytes_done <= done.bytes_copied, "{done:?}");
        assert!(done.bytes_offloaded <= done.bytes_copied, "{done:?}");
        assert_eq!(done.reserved, 0, "{done:?}");
        assert!(done.reason < XCOPY_REASON_COUNT, "{done:?}");
        assert!(usize::from(done.method) < XCOPY_METHOD_MAX, "{done:?}");
        if let Some(bytes) = entry.bytes {
            assert!(done.bytes_copied <= bytes, "more than {bytes}: {done:?}");
            if done.res == 0 {
                assert_eq!(done.bytes_done, bytes, "{done:?}");
            }
        }
        if done.flags & XCOPY_CPL_UNSETTLED != 0 {
            assert!(done.flags & XCOPY_CPL_INDETERMINATE != 0, "{done:?}");
            assert!(done.res < 0, "{done:?}");
        }
        entry
    }
}

/// An answer of the C surface: a failure has words, and none is a panic.
#[track_caller]
pub fn answered(answer: i32) -> i32 {
    if answer < 0 {
        let text = last_error();
        assert_ne!(answer, -libc::EFAULT, "the core panicked: {text}");
        assert!(answer >= -4095, "{answer} is no errno");
        assert!(!text.is_empty(), "{answer} without a text");
    }
    answer
}

/// Waits at most thirty seconds for completions. libFuzzer's own timer interrupts
/// the wait now and then.
///
/// # Safety
/// The queue lives, and no other thread uses it.
pub unsafe fn take(queue: *mut xcopy_queue, places: &mut [xcopy_completion]) -> i32 {
    let size = size_of::<xcopy_completion>();
    let most = places.len() as u32;
    loop {
        // SAFETY: a live queue; as many places as said.
        let n = unsafe { xcopy_poll(queue, places.as_mut_ptr(), size, 1, most, 30_000_000_000) };
        if n != -libc::EINTR {
            return answered(n);
        }
    }
}

/// The text of this thread's last failure.
pub fn last_error() -> String {
    // SAFETY: a NUL-terminated string, valid until this thread's next failure.
    unsafe { CStr::from_ptr(xcopy_last_error()) }
        .to_string_lossy()
        .into_owned()
}
