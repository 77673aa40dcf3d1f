//! libxcopy: one C ABI over every way that Linux storage can copy data by itself.
//!
//! The map, from the C surface inward; each room knows only those below it:
//!
//! * [`capi`]: the C functions, one file for each noun. Thin: pointers become
//!   references, panics stop, errors become -errno.
//! * [`engine`]: the life of a request, from its admission to its one completion.
//! * [`plan`]: pure: what the next command is, and whether ranges overlap.
//! * [`queue`]: how other threads reach a queue's owner and wake it.
//! * [`plugin`]: finds, vets, loads and negotiates with backends.
//! * [`device`]: what a path really is, its claims and its page cache.
//! * [`host`]: copying through the host, blocking, for the pool.
//! * [`abi`]: the C types.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

pub use xcopy_abi as abi;

pub mod error;
#[doc(hidden)]
pub mod queue;

#[cfg(not(loom))]
pub mod capi;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod device;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod engine;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod host;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod plan;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod plugin;

#[cfg(not(loom))]
pub use capi::*;
