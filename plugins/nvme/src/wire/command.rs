//! Commands, as Linux takes them for passthrough.

use super::behavior::BEHAVIOR_BYTES;
use super::identify::IDENTIFY_BYTES;
use super::ranges::Format;
use zerocopy::{Immutable, IntoBytes};

/// Source ranges of one Copy at most: NR is 8 bits, 0's based (NVM Command Set
/// 1.0 3.2.2).
pub const MAX_RANGES: usize = 256;

const FLUSH: u8 = 0x00;
const COPY: u8 = 0x19;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;

/// Feature identifier of Host Behavior Support (NVMe Base 2.0 5.27.1.18).
const HOST_BEHAVIOR: u32 = 0x16;

/// `struct nvme_uring_cmd` of <linux/nvme_ioctl.h>, which begins `struct
/// nvme_passthru_cmd64` too. The kernel makes it little endian.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
pub struct Command {
    /// Opcode.
    pub opcode: u8,
    /// Must be 0 for passthrough: no fused commands, no SGLs.
    pub flags: u8,
    /// 0.
    pub reserved1: u16,
    /// Namespace; of a Copy the destination's.
    pub nsid: u32,
    /// Dword 2.
    pub cdw2: u32,
    /// Dword 3.
    pub cdw3: u32,
    /// Metadata buffer; 0.
    pub metadata: u64,
    /// Data buffer.
    pub addr: u64,
    /// 0.
    pub metadata_len: u32,
    /// Exactly the bytes that the command transfers: the kernel maps no more, and
    /// a device without SGLs is told no other length.
    pub data_len: u32,
    /// Dword 10.
    pub cdw10: u32,
    /// Dword 11.
    pub cdw11: u32,
    /// Dword 12.
    pub cdw12: u32,
    /// Dword 13.
    pub cdw13: u32,
    /// Dword 14.
    pub cdw14: u32,
    /// Dword 15.
    pub cdw15: u32,
    /// Milliseconds until the kernel gives up and resets the controller; 0 is its
    /// default.
    pub timeout_ms: u32,
    /// 0.
    pub reserved2: u32,
}

/// What a Copy does with protection information: the controller checks the guard
/// of what it reads and makes new tags for what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The initial logical block reference tag of the destination.
    pub reference: u64,
}

/// The dwords of a Copy (NVM Command Set 1.0 3.2.2).
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// The destination namespace.
    pub nsid: u32,
    /// First logical block of the destination.
    pub sdlba: u64,
    /// Source ranges: 1 to [`MAX_RANGES`].
    pub ranges: usize,
    /// Format of their descriptors.
    pub format: Format,
    /// Force Unit Access.
    pub durable: bool,
    /// For namespaces with protection information.
    pub protection: Option<Protection>,
}

/// PRINFO bits (NVM Command Set 1.0 figure 11): action, and check of the guard.
const PRACT: u32 = 0b1000;
const CHECK_GUARD: u32 = 0b0100;

impl Command {
    /// Copy, without its data buffer.
    pub fn copy(copy: &Copy) -> Command {
        let nr = (copy.ranges.clamp(1, MAX_RANGES) - 1) as u32;
        let mut cdw12 = nr | u32::from(copy.format.number()) << 8 | u32::from(copy.durable) << 30;
        let mut reference = 0;
        if let Some(protection) = copy.protection {
            cdw12 |= (PRACT | CHECK_GUARD) << 12 | PRACT << 26;
            reference = protection.reference;
        }
        Command {
            opcode: COPY,
            nsid: copy.nsid,
            cdw3: (reference >> 32) as u32,
            cdw10: copy.sdlba as u32,
            cdw11: (copy.sdlba >> 32) as u32,
            cdw12,
            cdw14: reference as u32,
            ..Command::default()
        }
    }

    /// Flush of one namespace (NVMe Base 2.0 7.1).
    pub fn flush(nsid: u32) -> Command {
        Command {
            opcode: FLUSH,
            nsid,
            ..Command::default()
        }
    }

    /// Identify Controller, CNS 01h (NVMe Base 2.0 5.17.2.1).
    pub fn identify_controller() -> Command {
        Command::identify(0, 0x01)
    }

    /// Identify Namespace of the NVM command set, CNS 00h.
    pub fn identify_namespace(nsid: u32) -> Command {
        Command::identify(nsid, 0x00)
    }

    /// I/O Command Set specific Identify Namespace, CNS 05h, of the NVM command
    /// set (CSI 00h).
    pub fn identify_nvm(nsid: u32) -> Command {
        Command::identify(nsid, 0x05)
    }

    fn identify(nsid: u32, cns: u32) -> Command {
        Command {
            opcode: IDENTIFY,
            nsid,
            data_len: IDENTIFY_BYTES as u32,
            cdw10: cns,
            ..Command::default()
        }
    }

    /// Get Features, the current Host Behavior Support.
    pub fn get_behavior() -> Command {
        Command {
            opcode: GET_FEATURES,
            data_len: BEHAVIOR_BYTES as u32,
            cdw10: HOST_BEHAVIOR,
            ..Command::default()
        }
    }

    /// Set Features, Host Behavior Support, not saved over a reset.
    pub fn set_behavior() -> Command {
        Command {
            opcode: SET_FEATURES,
            ..Command::get_behavior()
        }
    }

    /// Whether it is a Copy.
    pub fn is_copy(&self) -> bool {
        self.opcode == COPY
    }

    /// The number of source ranges and the descriptor format of a Copy.
    pub fn copy_shape(&self) -> Option<(usize, Format)> {
        let format = Format::of((self.cdw12 >> 8 & 0xf) as u8)?;
        self.is_copy()
            .then_some(((self.cdw12 & 0xff) as usize + 1, format))
    }
}
