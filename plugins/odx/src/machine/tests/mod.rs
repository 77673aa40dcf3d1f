//! Every way through operations and copies, with scripted devices and a clock
//! that passes only by sleeping.

mod copies;
mod operations;
mod target;
