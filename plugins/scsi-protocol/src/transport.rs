//! How commands reach a logical unit, and what comes back.

use crate::wire::sense::Sense;
use std::io;
use std::time::Duration;

/// SAM status GOOD.
pub const GOOD: u8 = 0x00;
/// SAM status CHECK CONDITION.
pub const CHECK_CONDITION: u8 = 0x02;
/// SAM status BUSY.
pub const BUSY: u8 = 0x08;
/// SAM status RESERVATION CONFLICT.
pub const RESERVATION_CONFLICT: u8 = 0x18;
/// SAM status TASK SET FULL.
pub const TASK_SET_FULL: u8 = 0x28;
/// SAM status ACA ACTIVE.
pub const ACA_ACTIVE: u8 = 0x30;
/// SAM status TASK ABORTED.
pub const TASK_ABORTED: u8 = 0x40;

/// Data of a command, and which way it goes.
#[derive(Debug)]
pub enum Data<'a> {
    /// There is none.
    None,
    /// From the logical unit.
    In(&'a mut [u8]),
    /// To the logical unit.
    Out(&'a [u8]),
}

impl Data<'_> {
    /// Its bytes.
    pub fn len(&self) -> usize {
        match self {
            Data::None => 0,
            Data::In(room) => room.len(),
            Data::Out(data) => data.len(),
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a command ended that a logical unit, or the way to it, answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// SAM status.
    pub status: u8,
    /// What the host adapter says: Linux's DID_ codes; 0 is well.
    pub host_status: u32,
    /// What the low-level driver says: Linux's DRIVER_ codes; 0 is well.
    pub driver_status: u32,
    /// Sense data as it came, at most 252 bytes.
    pub sense: Vec<u8>,
    /// Bytes of the data that were not transferred.
    pub residual: u32,
}

/// DRIVER_SENSE: sense data is there, which is no failure of the driver's.
const DRIVER_SENSE: u32 = 0x08;

impl Outcome {
    /// The command was carried out: GOOD, or CHECK CONDITION with no more than
    /// NO SENSE or RECOVERED ERROR.
    pub fn is_good(&self) -> bool {
        if self.host_status != 0 || self.driver_status & 0xf & !DRIVER_SENSE != 0 {
            return false;
        }
        match self.status & 0x7e {
            GOOD => true,
            CHECK_CONDITION => self
                .sense()
                .is_some_and(|sense| sense.key <= 1 && !sense.deferred),
            _ => false,
        }
    }

    /// Sense data, taken apart.
    pub fn sense(&self) -> Option<Sense> {
        Sense::parse(&self.sense)
    }

    /// A unit attention condition was reported.
    pub fn is_unit_attention(&self) -> bool {
        self.status & 0x7e == CHECK_CONDITION && self.sense().is_some_and(|sense| sense.key == 0x6)
    }
}

/// The way to one logical unit. All of a copy that belongs together goes by one
/// transport: identifiers and tokens belong to the nexus.
pub trait Transport: Send + Sync {
    /// Carries a command out and waits for its end. Any thread, several at
    /// once. An error says that the command was not sent at all, or that the
    /// way to the unit is gone.
    fn execute(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> io::Result<Outcome>;

    /// Bytes of data of one command at most.
    fn max_transfer(&self) -> usize;

    /// What it is, for texts: `/dev/sg3`, `the caller's connection`.
    fn name(&self) -> &str;
}
