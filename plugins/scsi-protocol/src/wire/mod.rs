//! Layouts on the wire, big-endian: encoders and decoders without any I/O. A
//! decoder takes whatever bytes a target sends: it answers what they say, or
//! None, and never reads beyond them.

pub mod block;
mod bytes;
pub mod cdb;
pub mod copy;
pub mod designator;
pub mod inquiry;
pub mod operating;
pub mod sense;
pub mod status;
pub mod third_party;
