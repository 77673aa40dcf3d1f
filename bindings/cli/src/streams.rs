//! Whether standard output was open when the command was started. Before main the
//! runtime opens /dev/null in its place, and a result would vanish there.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Called by the loader (or the C runtime) before the runtime of Rust is set up.
// SAFETY: .init_array holds pointers to functions of this form, called once on the
// first thread; look needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: F_GETFD takes and gives numbers only.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    CLOSED.store(flags < 0, Ordering::Relaxed);
}

/// True if there is nowhere to print a result to.
pub fn output_is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}
