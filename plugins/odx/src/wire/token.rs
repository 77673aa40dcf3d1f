//! ROD tokens (SPC-4 6.4.6): opaque but for the fields read here.

use super::{put, u16_at, u32_at, u64_at};
use zeroize::Zeroizing;

/// Bytes of a token of a block device (SPC-4 6.4.6.2).
pub const TOKEN_BYTES: usize = 512;
/// ROD TYPE of the token that stands for zeroes (SBC-4 4.28.4).
pub const ROD_TYPE_BLOCK_ZERO: u32 = 0xffff_0001;
/// ROD TOKEN LENGTH: the bytes behind itself.
const LENGTH: u16 = 0x01f8;

/// A token: a bearer secret, wiped when it is dropped and never printed. On the
/// heap, so that no move leaves a copy behind.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// Takes a token over from what a device or a caller gave.
    pub fn new(bytes: &[u8]) -> Option<Token> {
        let bytes = bytes.get(..TOKEN_BYTES)?;
        (u16_at(bytes, 6) == Some(LENGTH)).then(|| Token(Zeroizing::new(bytes.to_vec())))
    }

    /// The token that stands for zeroes, known to every device that has it.
    pub fn zeroes() -> Token {
        let mut bytes = Zeroizing::new(vec![0; TOKEN_BYTES]);
        put(&mut bytes, 0, &ROD_TYPE_BLOCK_ZERO.to_be_bytes());
        put(&mut bytes, 6, &LENGTH.to_be_bytes());
        Token(bytes)
    }

    /// The secret.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// ROD TYPE: what it means for the source to change.
    pub fn rod_type(&self) -> u32 {
        u32_at(&self.0, 0).unwrap_or(0)
    }

    /// NUMBER OF BYTES REPRESENTED; None if the copy manager does not say.
    pub fn represents(&self) -> Option<u64> {
        let (high, low) = (u64_at(&self.0, 48)?, u64_at(&self.0, 56)?);
        (high == 0 && low != 0 && low != u64::MAX).then_some(low)
    }

    /// Logical block length of the device it was made on (SBC-4 4.28.5: READ
    /// CAPACITY's data without the address); None if it is not stated.
    pub fn block_length(&self) -> Option<u32> {
        u32_at(&self.0, 96).filter(|length| *length != 0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(type {:#010x})", self.rod_type())
    }
}
