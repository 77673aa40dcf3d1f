//! Memory disks with stamped content.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A disk in memory.
pub struct Disk {
    /// Logical block size.
    pub block: u32,
    /// Not 0: other disks with the same number are the same storage.
    pub identity: u64,
    bytes: Mutex<Vec<u8>>,
}

impl Disk {
    /// A disk with this content.
    pub fn new(bytes: Vec<u8>, block: u32, identity: u64) -> Disk {
        Disk {
            block,
            identity,
            bytes: Mutex::new(bytes),
        }
    }

    /// Its content.
    pub fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads; None beyond the end.
    pub fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes().get(start..end).map(<[u8]>::to_vec)
    }

    /// Writes; false beyond the end.
    pub fn write(&self, offset: u64, data: &[u8]) -> bool {
        let Ok(start) = usize::try_from(offset) else {
            return false;
        };
        let mut bytes = self.bytes();
        match start
            .checked_add(data.len())
            .and_then(|end| bytes.get_mut(start..end))
        {
            Some(place) => {
                place.copy_from_slice(data);
                true
            }
            None => false,
        }
    }
}

/// Mixes a word well enough that neighbours share no pattern.
pub fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `size` bytes in which every 8 are made from the disk, their 512-byte block,
/// the generation and their place in the block.
pub fn stamp(disk: u64, generation: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    let mut word = 0u64;
    while bytes.len() < size {
        let (block, place) = (word / 64, word % 64);
        let value = mix(mix(disk << 32 | generation) ^ mix(block) ^ place);
        bytes.extend_from_slice(&value.to_le_bytes());
        word += 1;
    }
    bytes.truncate(size);
    bytes
}

/// Random numbers from a seed, the same on every machine.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
