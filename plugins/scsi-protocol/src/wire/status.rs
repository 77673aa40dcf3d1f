//! How a copy stands: RECEIVE COPY STATUS and FAILURE DETAILS.

use super::bytes::{be16, be32, be64};

/// COPY OPERATION STATUS (SPC-4 6.23, table of LID4; LID1 has the first three).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It goes on.
    InProgress,
    /// It ended, and all is copied (01h).
    Done,
    /// It ended, all is copied, and only a part of the ROD was used (03h).
    DonePartialRod,
    /// It ended with errors (02h).
    Failed,
    /// It ended without error, and not all is copied (04h).
    Residual,
    /// It was ended by somebody (60h), a reservation that was preempted for one.
    Terminated,
    /// A value that nobody defined.
    Unknown(u8),
}

impl CopyState {
    /// Of COPY OPERATION STATUS as LID4 and RRTI have it.
    pub fn of(code: u8) -> CopyState {
        match code & 0x7f {
            0x01 => CopyState::Done,
            0x02 => CopyState::Failed,
            0x03 => CopyState::DonePartialRod,
            0x04 => CopyState::Residual,
            0x10..=0x12 => CopyState::InProgress,
            0x60 => CopyState::Terminated,
            other => CopyState::Unknown(other),
        }
    }
}

/// TRANSFER COUNT UNITS (SPC-4 6.22): bytes of one unit. None for what nobody
/// defined; F1h are blocks of the destination.
pub fn unit_bytes(code: u8, block_size: u32) -> Option<u64> {
    match code {
        0x00..=0x06 => Some(1 << (10 * u32::from(code))),
        0xf1 => Some(block_size.into()),
        _ => None,
    }
}

/// RECEIVE COPY STATUS(LID1) parameter data (SPC-4 6.22): 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLid1 {
    /// Data is held (HDD).
    pub held: bool,
    /// How it stands.
    pub state: CopyState,
    /// Segments that were processed.
    pub segments: u16,
    /// TRANSFER COUNT UNITS.
    pub units: u8,
    /// TRANSFER COUNT, in those units.
    pub count: u32,
}

/// Bytes of RECEIVE COPY STATUS(LID1) parameter data.
pub const STATUS_LID1_BYTES: usize = 12;

impl StatusLid1 {
    /// From the parameter data; None if it is too short.
    pub fn parse(bytes: &[u8]) -> Option<StatusLid1> {
        if be32(bytes, 0)? < 8 || bytes.len() < STATUS_LID1_BYTES {
            return None;
        }
        Some(StatusLid1 {
            held: bytes[4] & 0x80 != 0,
            state: match bytes[4] & 0x7f {
                0x00 => CopyState::InProgress,
                0x01 => CopyState::Done,
                0x02 => CopyState::Failed,
                other => CopyState::Unknown(other),
            },
            segments: be16(bytes, 5)?,
            units: bytes[7],
            count: be32(bytes, 8)?,
        })
    }
}

/// RECEIVE COPY FAILURE DETAILS(LID1) parameter data (SPC-4 6.20).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetails {
    /// SAM status of the copy.
    pub status: u8,
    /// Its sense data, at most what was sent.
    pub sense: Vec<u8>,
}

impl FailureDetails {
    /// From the parameter data; None if there are no details.
    pub fn parse(bytes: &[u8]) -> Option<FailureDetails> {
        let available = usize::try_from(be32(bytes, 0)?).ok()?;
        let bytes = &bytes[..bytes.len().min(available.saturating_add(4))];
        let stated = usize::from(be16(bytes, 58)?);
        let sense = bytes.get(60..)?;
        Some(FailureDetails {
            status: bytes[56],
            sense: sense[..sense.len().min(stated)].to_vec(),
        })
    }
}

/// What RECEIVE COPY STATUS(LID4) and RECEIVE ROD TOKEN INFORMATION begin with
/// (SPC-4 6.23, 6.26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLid4 {
    /// Service action of the command that it tells of.
    pub service_action: u8,
    /// How it stands.
    pub state: CopyState,
    /// OPERATION COUNTER.
    pub counter: u16,
    /// Milliseconds after which to ask again; None if the target has no advice.
    pub delay_ms: Option<u32>,
    /// SAM status of the copy when it ended.
    pub status: u8,
    /// Its sense data.
    pub sense: Vec<u8>,
    /// TRANSFER COUNT UNITS.
    pub units: u8,
    /// TRANSFER COUNT, in those units.
    pub count: u64,
    /// Segments that were processed.
    pub segments: u16,
    /// Bytes before what follows the sense data field.
    pub tail: usize,
}

/// Bytes of the head without sense data.
pub const STATUS_LID4_BYTES: usize = 32;

impl StatusLid4 {
    /// From the parameter data; None if it is too short.
    pub fn parse(bytes: &[u8]) -> Option<StatusLid4> {
        let available = usize::try_from(be32(bytes, 0)?).ok()?;
        let bytes = &bytes[..bytes.len().min(available.saturating_add(4))];
        if bytes.len() < STATUS_LID4_BYTES {
            return None;
        }
        let (field, len) = (usize::from(bytes[13]), usize::from(bytes[14]));
        let sense = bytes.get(STATUS_LID4_BYTES..)?;
        Some(StatusLid4 {
            service_action: bytes[4] & 0x1f,
            state: CopyState::of(bytes[5]),
            counter: be16(bytes, 6)?,
            // 0 and FFFFFFFEh on are no advice (Windows and SPC-4 differ).
            delay_ms: be32(bytes, 8).filter(|ms| (1..0xffff_fffe).contains(ms)),
            status: bytes[12],
            sense: sense[..sense.len().min(len).min(field)].to_vec(),
            units: bytes[15],
            count: be64(bytes, 16)?,
            segments: be16(bytes, 24)?,
            tail: STATUS_LID4_BYTES + field,
        })
    }

    /// Bytes that were transferred; None if the units are unknown or the count
    /// is no number of bytes.
    pub fn bytes(&self, block_size: u32) -> Option<u64> {
        self.count.checked_mul(unit_bytes(self.units, block_size)?)
    }
}
