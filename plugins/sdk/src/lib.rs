//! Plugins for libxcopy in safe Rust.
//!
//! A plugin is a type that implements [`Plugin`] and, by how its device works,
//! one of
//!
//! - [`Blocking`]: a call returns when the command has ended. The core's pool
//!   makes the calls. The simplest, and right for ioctls and system calls.
//! - [`Queued`]: commands are taken as [`Job`]s and ended later: in `poll`
//!   ([`init_polled`]), or on threads of the plugin's own ([`init_threaded`]).
//!
//! One line makes it a plugin that the core loads, in a cdylib:
//!
//! ```text
//! xcopy_plugin_sdk::export!(xcopy_plugin_sdk::init_blocking::<MyPlugin>);
//! ```
//!
//! What a C author has to take care of and this crate does by its types: a
//! command ends exactly once (a [`Job`] that is dropped fails), memory of the
//! core is not used after it is over, results are no larger than the command,
//! `complete_local` is called on the owner's thread only, both tables may be
//! longer or shorter than today's, and a panic stops at the boundary: it is
//! answered with -EFAULT, and what the queue held is failed.
//!
//! What it leaves to you: say success only for what certainly happened.
//!
//! | module | subject |
//! |---|---|
//! | plugin | the traits |
//! | device | what `open` gets and gives, events |
//! | verdict | what `probe` says, methods |
//! | command, job | commands, and the duty to end them |
//! | failure | errors |
//! | host | log, memory |
//! | table, blocking, queued, sink | the C side |

mod blocking;
mod command;
mod device;
pub mod errno;
mod failure;
mod host;
mod job;
mod plugin;
mod queued;
mod sink;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

pub use blocking::init_blocking;
pub use command::{Command, Operation};
pub use device::{Description, Events, Opened};
pub use failure::{Done, Failure, Outcome, Said};
pub use host::{Buffer, Host, Level};
pub use job::{Job, JobId};
pub use plugin::{Blocking, Plugin, QueueOptions, Queued};
pub use queued::{init_polled, init_threaded};
pub use verdict::{Method, Verdict};
/// The C types and constants.
pub use xcopy_abi as abi;

/// Exports a plugin's entry point under the name that the core looks up. Once in
/// a cdylib, and nowhere else: two libraries with that symbol would link into
/// one program without an error, and one would answer for both.
#[macro_export]
macro_rules! export {
    ($init:expr) => {
        /// The entry point that the core looks up.
        ///
        /// # Safety
        /// `host` is NULL or the core's table, valid for the life of the process.
        // SAFETY: the name belongs to the plugin contract, and a loaded plugin is
        // bound RTLD_LOCAL, so no other module's symbol of that name is met.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn xcopy_plugin_init_v0(
            host: *const $crate::abi::xcopy_host,
        ) -> *const $crate::abi::xcopy_plugin {
            // SAFETY: handed on as it came, under the same contract.
            unsafe { ($init)(host) }
        }
    };
}
