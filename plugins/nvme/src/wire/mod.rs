//! What goes over the wire: commands, source ranges, identify data, features.
//! Layouts only; no I/O, and no panic on any bytes.

mod behavior;
mod command;
mod identify;
mod ranges;
#[cfg(test)]
mod tests;

pub use behavior::{BEHAVIOR_BYTES, Behavior};
pub use command::{Command, Copy, MAX_RANGES, Protection};
pub use identify::{Controller, IDENTIFY_BYTES, LbaFormat, NamespaceData, PiType, Tags};
pub use ranges::{Entry, Format, MAX_BLOCKS};
