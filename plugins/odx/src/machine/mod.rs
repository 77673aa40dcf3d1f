//! What copying by tokens is, apart from devices and clocks: both are traits, so
//! that every path can be walked by a test in no time.
//!
//! | module | subject |
//! |---|---|
//! | port | a device and a clock, as seen from here |
//! | fault | what goes wrong |
//! | operation | one POPULATE TOKEN or WRITE USING TOKEN and its end |
//! | transfer | copies, tokens and zeroes made of operations |

mod fault;
mod operation;
mod port;
#[cfg(test)]
mod tests;
mod transfer;

pub use fault::{Fault, Why};
pub use operation::{Site, Terms};
pub use port::{Clock, SystemClock};
pub use transfer::{Piece, Transferred, Wanted, copy, create, foreign, release, write, zero};
