//! The planner: pure functions from ranges and limits to commands. No I/O, no
//! clock, no lock.
//!
//! `command` cuts and packs ranges into the next command of a method, `grain`
//! is the arithmetic of granularities below it, `overlap` tells whether ranges
//! can be copied at all, `adapt` finds size and depth of the commands, `contest` which
//! of two methods is the faster one.

mod adapt;
mod command;
mod contest;
mod grain;
mod overlap;

#[cfg(test)]
mod adapt_tests;
#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod contest_tests;
#[cfg(test)]
mod overlap_tests;

pub use adapt::Adapt;
pub use command::{Cursor, Kind, Source, Step, next_command};
pub use contest::{CONTEST_MIN, Contest, Rate, Turn, leader};
pub use overlap::{Finding, Hull, Scan, check_small};
