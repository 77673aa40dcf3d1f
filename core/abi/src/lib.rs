//! The C types and constants of libxcopy, for the library, for Rust plugins and
//! for the header generator. `types` becomes `xcopy_types.h`, `plugin` becomes
//! `xcopy_plugin.h`; `guard` (feature `std`) stops panics at a C boundary.
#![no_std]
#![allow(non_camel_case_types)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "std")]
pub mod guard;
mod layout;
mod plugin;
mod types;

pub use plugin::*;
pub use types::*;
