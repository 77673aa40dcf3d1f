//! Big-endian fields at an offset; None where the bytes end before.

/// Two bytes.
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Four bytes.
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Eight bytes.
pub fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A layout from the front of what a target sent: what it did not send is zero.
pub fn padded<T: zerocopy::FromBytes + zerocopy::IntoBytes>(bytes: &[u8]) -> T {
    let mut value = T::new_zeroed();
    let room = value.as_mut_bytes();
    let len = room.len().min(bytes.len());
    room[..len].copy_from_slice(&bytes[..len]);
    value
}

/// An ASCII field: printable, without the blanks around it.
pub fn ascii(bytes: &[u8]) -> String {
    let text: String = bytes
        .iter()
        .take_while(|b| **b != 0)
        .map(|b| match b {
            0x20..=0x7e => *b as char,
            _ => '?',
        })
        .collect();
    text.trim().to_owned()
}
