//! A hint to the processor about memory that another one wrote last.

/// Asks for the line at `at`, to be written soon, and does not wait for it. A
/// locked instruction waits for its line, one after the other: a batch of them is
/// asked for at once before. Any address will do.
#[inline(always)]
pub fn for_writing<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint touches no memory as far as a program can tell, never faults,
    // and is no operation on a processor without it.
    unsafe {
        std::arch::asm!(
            "prefetchw [{}]",
            in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}
