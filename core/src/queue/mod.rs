//! How work that ends on another thread reaches the queue's owner.
//!
//! * [`Lane`]: any thread pushes the index of a finished command, the owner
//!   drains. No lock, no allocation, and no system call.
//! * [`Bell`]: the pollable fd of a queue, for an owner that sleeps. It costs
//!   nothing while it is not armed.
//!
//! The two meet in one bit: arming the bell arms the lane, the one push that
//! finds the lane armed takes the arm and rings through its [`Ringer`].
//! Nothing here knows what an index stands for.

mod bell;
mod lane;
#[cfg(all(test, loom))]
mod loom_tests;
mod sync;
#[cfg(not(loom))]
mod watch;

pub use bell::{Bell, Ringer};
pub use lane::Lane;
#[cfg(not(loom))]
pub use watch::Wait;
