//! What a path or fd of the kernel really is: file, disk, partition or stack;
//! whose storage it is, who else holds it, and what the page cache has of it.

mod coherence;

mod backing;
mod claims;
mod facts;
mod identity;
mod mounts;
mod open;

pub use coherence::{Dropped, cached_pages, drop_early, drop_range, durable, flush_range};
pub use facts::{Facts, ends_early, is_gone, is_well_known};
pub use identity::{Identity, Storage};
pub use open::KernelDevice;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
