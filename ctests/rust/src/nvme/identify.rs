//! Identify data, byte by byte from the specification.

use super::controller::{State, Unit};

/// Identify Controller (NVMe Base 2.0 figure 275).
pub(super) fn controller(state: &State, data: &mut [u8]) {
    data.fill(0);
    data[520..522].copy_from_slice(&state.oncs.to_le_bytes());
    data[534..536].copy_from_slice(&state.ocfs.to_le_bytes());
    // CTRATT bit 15: extended LBA formats.
    data[97] = 0x80;
}

/// Identify Namespace (NVM Command Set 1.0 figure 97); zeroes if it is not there.
pub(super) fn namespace(unit: Option<&Unit>, data: &mut [u8]) {
    data.fill(0);
    let Some(unit) = unit else { return };
    data[..8].copy_from_slice(&unit.blocks.to_le_bytes());
    data[29] = unit.pi;
    data[74..76].copy_from_slice(&unit.mssrl.to_le_bytes());
    data[76..80].copy_from_slice(&unit.mcl.to_le_bytes());
    data[80] = unit.msrc;
    data[128] = unit.metadata;
    data[130] = unit.block.trailing_zeros() as u8;
}

/// CNS 05h: ELBAF 0 has the guard's format in bits 8:7.
pub(super) fn nvm(unit: Option<&Unit>, data: &mut [u8]) {
    data.fill(0);
    if let Some(unit) = unit {
        let elbaf = u32::from(unit.pif) << 7 | u32::from(unit.storage_bits);
        data[12..16].copy_from_slice(&elbaf.to_le_bytes());
    }
}
