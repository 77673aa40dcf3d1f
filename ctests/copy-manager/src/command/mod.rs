//! The commands, one file per subject; each extends [`State`](crate::state::State).

mod block;
mod extended_copy;
mod inquiry;
mod mode;
mod populate;
mod ranges;
mod reserve;
mod segment;
mod status;
mod third_party_page;
mod write_using;
