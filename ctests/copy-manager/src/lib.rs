//! A SCSI target in memory that copies: EXTENDED COPY (LID1) and (LID4), ROD
//! tokens, and the disk commands that a host needs besides, with faults on demand.
//!
//! Test equipment. It follows SPC-4 and SBC-3, as FreeBSD's CTL does, and knows
//! nothing of the library that is tested with it: its encoders and decoders are
//! its own, so that one mistake can't hide on both sides. Only `connection` knows
//! how the library is handed a unit.
//!
//! The map: [`CopyManager`] is the target; a [`Personality`] says what it
//! implements and how; [`fault`] what goes wrong; [`Entry`] what was asked.
//! Inside, `state` is the way of one command, `command` has one file for each
//! subject, `operation` is a copy that runs, `token` the ROD tokens, `unit` and
//! `disk` the storage.

mod bytes;
mod clock;
mod command;
mod connection;
mod disk;
pub mod fault;
mod kind;
mod manager;
mod operation;
mod personality;
mod reservation;
pub mod sense;
mod service;
mod state;
mod token;
mod trace;
mod unit;

pub use clock::{Clock, ManualClock, RealClock};
pub use connection::Connection;
pub use fault::{Effect, Refusal, TransportError, When};
pub use kind::{Kind, THIRD_PARTY_COPY_IN, THIRD_PARTY_COPY_OUT};
pub use manager::{CopyManager, Reply};
pub use operation::copy_status;
pub use personality::{CopyLimits, Personality, Style, TokenMoment, TokenRules};
pub use service::ServiceTimes;
pub use token::{BLOCK_ZERO, TOKEN_BYTES};
pub use trace::Entry;
pub use unit::{Designator, DiskOptions};
