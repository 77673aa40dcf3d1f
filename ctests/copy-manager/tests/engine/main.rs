//! The engine against byte strings written by hand from the tables of SPC-4 and
//! SBC-3: every command, every target's ways, every fault.

mod discovery;
mod disk;
mod faults;

mod lid1;
mod lid4;
mod rig;
mod targets;

mod tokens;
