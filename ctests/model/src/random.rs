//! Random numbers from a seed, and content that says where it belongs.

/// Mixes a word so that neighbours share no pattern.
pub fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same numbers from the same seed on every machine.
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

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.word() % end }
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Fills `bytes`, which begin at `offset` of object `object`, so that each 8
/// bytes are made from the object, their 512-byte block, the generation and
/// their place in the block.
pub fn stamp(bytes: &mut [u8], object: u64, generation: u64, offset: u64) {
    let seed = mix(object << 40 ^ generation);
    let mut at = 0;
    while at < bytes.len() {
        let position = offset + at as u64;
        let word = mix(seed ^ mix(position / 512) ^ ((position % 512) / 8)).to_le_bytes();
        let skip = (position % 8) as usize;
        let n = (8 - skip).min(bytes.len() - at);
        bytes[at..at + n].copy_from_slice(&word[skip..skip + n]);
        at += n;
    }
}
