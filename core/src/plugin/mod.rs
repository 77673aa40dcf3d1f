//! Plugins: found, vetted, loaded, negotiated with, and registered.
//!
//! | file | holds |
//! |---|---|
//! | `find.rs` | names, files and the directories that are searched |
//! | `vet.rs` | who may have written a file that is about to run inside us |
//! | `load.rs` | from a file to its entry point |
//! | `table.rs` | the copy of a plugin's table, and what is refused in it |
//! | `methods.rs` | numbers, names and places of methods |
//! | `registry.rs` | the plugins of one context |

mod find;
mod load;
mod methods;
mod registry;
mod table;
#[cfg(test)]
mod tests;
mod vet;

pub use find::{is_name, search_directories};
pub use methods::{FIXED_METHODS, Method, fixed_mask, fixed_name, worth_of};
pub use registry::{Plugin, Registry};
