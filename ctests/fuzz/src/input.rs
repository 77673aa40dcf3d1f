//! Values out of the fuzzer's bytes. When they are used up, everything is 0.

/// Bytes not used yet.
pub struct Input<'a>(pub &'a [u8]);

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 24] = [
    0,
    1,
    2,
    3,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    1 << 20,
    (1 << 20) + 512,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 65_535,
    u64::MAX - 511,
    u64::MAX - 1,
    u64::MAX,
];

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    /// Below `n`, from one byte; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.u8()) % n.max(1)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.u8() % n.max(1) == n.saturating_sub(1)
    }

    /// One of `values`, which is not empty.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// An edge, a small number, or any.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            kind @ 0..128 => EDGES[usize::from(kind) % EDGES.len()],
            128..192 => u64::from(self.u8()) * 512,
            192..240 => u64::from(self.u16()),
            _ => self.u64(),
        }
    }

    /// At most `n` bytes.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
