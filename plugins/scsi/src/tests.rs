//! The plugin on units that answer from a script.

mod fallible;
mod limits;
mod rig;
mod verdicts;
