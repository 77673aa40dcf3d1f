//! What RECEIVE ROD TOKEN INFORMATION and REPORT ALL ROD TOKENS answer.

use super::{Token, u32_at};
use xcopy_scsi_protocol::wire::status::StatusLid4;

/// Bytes of an entry of REPORT ALL ROD TOKENS (SPC-4 6.5.8).
const MANAGEMENT_TOKEN: u32 = 96;

/// The state of a copy operation, and the token that it made.
#[derive(Debug)]
pub struct Information {
    /// Its state.
    pub state: StatusLid4,
    /// The token, if one was made and came whole.
    pub token: Option<Token>,
}

impl Information {
    /// Reads what a device sent (SPC-4 6.5.7): None if it is no such answer.
    pub fn decode(bytes: &[u8]) -> Option<Information> {
        let state = StatusLid4::parse(bytes)?;
        let available = u32_at(bytes, 0)? as usize;
        let sent = &bytes[..bytes.len().min(available.saturating_add(4))];
        let token = u32_at(sent, state.tail).and_then(|length| {
            let start = state.tail.checked_add(4)?;
            let descriptors = sent.get(start..start.checked_add(length as usize)?)?;
            // Two bytes name the CSCD that made it.
            Token::new(descriptors.get(2..)?)
        });
        Some(Information { state, token })
    }
}

/// How many tokens a device lists as live (SPC-4 6.5.8).
pub fn management_tokens(bytes: &[u8]) -> Option<u32> {
    // Bytes 4 to 7 are reserved and counted.
    let list = u32_at(bytes, 0)?.checked_sub(4)?;
    Some(list / MANAGEMENT_TOKEN)
}
