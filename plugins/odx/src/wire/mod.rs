//! What goes over the wire for tokens beside what the protocol crate has: ROD
//! tokens (SPC-4 6.4.6), parameter lists (SBC-4 5.12, 5.59) and the answer of
//! RECEIVE ROD TOKEN INFORMATION (5.25). All fields are big endian. Decoders take any
//! bytes: what is cut off is None, never a panic.

mod information;
mod parameters;
#[cfg(test)]
mod tests;
mod token;

pub use information::{Information, management_tokens};
pub use parameters::{BlockRange, RANGES_MAX, populate_parameters, write_parameters};
pub use token::{ROD_TYPE_BLOCK_ZERO, TOKEN_BYTES, Token};

/// Two bytes at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*two))
}

/// Four bytes at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

/// Eight bytes at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*eight))
}

/// Puts `value` at `at`; the caller made the room.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}
