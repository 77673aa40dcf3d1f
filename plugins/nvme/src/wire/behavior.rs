//! Host Behavior Support (NVMe Base 2.0 5.27.1.18, feature 16h).

/// Bytes of the feature's data.
pub const BEHAVIOR_BYTES: usize = 512;

/// Place of Copy Descriptor Formats Enable (CDFE), little endian.
const CDFE: usize = 4;

/// What the host has told the controller that it knows. Everything but CDFE is
/// kept as it was read: other bits belong to the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior([u8; BEHAVIOR_BYTES]);

impl Default for Behavior {
    fn default() -> Behavior {
        Behavior([0; BEHAVIOR_BYTES])
    }
}

impl Behavior {
    /// The data, to be read into and written from.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Descriptor formats that are on, as bits.
    pub fn formats(&self) -> u16 {
        u16::from_le_bytes([self.0[CDFE], self.0[CDFE + 1]])
    }

    /// Switches formats on.
    pub fn allow(&mut self, formats: u16) {
        let both = (self.formats() | formats).to_le_bytes();
        self.0[CDFE..CDFE + 2].copy_from_slice(&both);
    }
}
