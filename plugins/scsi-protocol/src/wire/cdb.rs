//! Command descriptor blocks.

use std::ops::Deref;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

/// A command descriptor block: 6, 10 or 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb {
    bytes: [u8; 16],
    len: u8,
}

impl Cdb {
    fn new(command: &(impl IntoBytes + Immutable)) -> Cdb {
        let from = command.as_bytes();
        let mut bytes = [0; 16];
        let len = from.len().min(bytes.len());
        bytes[..len].copy_from_slice(&from[..len]);
        Cdb {
            bytes,
            len: len as u8,
        }
    }

    /// The operation code.
    pub fn opcode(&self) -> u8 {
        self.bytes[0]
    }
}

impl Deref for Cdb {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// THIRD-PARTY COPY OUT (SPC-4 6.4 EXTENDED COPY and its service actions).
pub const THIRD_PARTY_COPY_OUT: u8 = 0x83;
/// THIRD-PARTY COPY IN (SPC-4 6.18 RECEIVE COPY RESULTS and its service actions).
pub const THIRD_PARTY_COPY_IN: u8 = 0x84;

/// Service action of 83h: EXTENDED COPY(LID1).
pub const EXTENDED_COPY_LID1: u8 = 0x00;
/// Service action of 83h: EXTENDED COPY(LID4).
pub const EXTENDED_COPY_LID4: u8 = 0x01;
/// Service action of 83h: POPULATE TOKEN.
pub const POPULATE_TOKEN: u8 = 0x10;
/// Service action of 83h: WRITE USING TOKEN.
pub const WRITE_USING_TOKEN: u8 = 0x11;
/// Service action of 83h: COPY OPERATION ABORT.
pub const COPY_OPERATION_ABORT: u8 = 0x1c;
/// Service action of 84h: RECEIVE COPY STATUS(LID1).
pub const RECEIVE_COPY_STATUS_LID1: u8 = 0x00;
/// Service action of 84h: RECEIVE COPY OPERATING PARAMETERS.
pub const RECEIVE_COPY_OPERATING_PARAMETERS: u8 = 0x03;
/// Service action of 84h: RECEIVE COPY FAILURE DETAILS(LID1).
pub const RECEIVE_COPY_FAILURE_DETAILS_LID1: u8 = 0x04;
/// Service action of 84h: RECEIVE COPY STATUS(LID4).
pub const RECEIVE_COPY_STATUS_LID4: u8 = 0x05;
/// Service action of 84h: RECEIVE ROD TOKEN INFORMATION.
pub const RECEIVE_ROD_TOKEN_INFORMATION: u8 = 0x07;
/// Service action of 84h: REPORT ALL ROD TOKENS.
pub const REPORT_ALL_ROD_TOKENS: u8 = 0x08;

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Six {
    opcode: u8,
    flags: u8,
    page: u8,
    length: U16,
    control: u8,
}

/// Operation code, flags, an address, a count: the commands of 16 bytes.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Sixteen {
    opcode: u8,
    flags: u8,
    lba: U64,
    count: U32,
    group: u8,
    control: u8,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct CopyOut {
    opcode: u8,
    service_action: u8,
    abort_list_id: U32,
    list_id: U32,
    length: U32,
    group: u8,
    control: u8,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct CopyInLid1 {
    opcode: u8,
    service_action: u8,
    list_id: u8,
    reserved: [u8; 7],
    length: U32,
    reserved_14: u8,
    control: u8,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct CopyInLid4 {
    opcode: u8,
    service_action: u8,
    list_id: U32,
    reserved: [u8; 4],
    length: U32,
    reserved_14: u8,
    control: u8,
}

fn six(opcode: u8, flags: u8, page: u8, length: u16) -> Cdb {
    Cdb::new(&Six {
        opcode,
        flags,
        page,
        length: length.into(),
        control: 0,
    })
}

fn sixteen(opcode: u8, flags: u8, lba: u64, count: u32) -> Cdb {
    Cdb::new(&Sixteen {
        opcode,
        flags,
        lba: lba.into(),
        count: count.into(),
        group: 0,
        control: 0,
    })
}

/// TEST UNIT READY (SPC-4 6.37).
pub fn test_unit_ready() -> Cdb {
    six(0x00, 0, 0, 0)
}

/// INQUIRY, standard data (SPC-4 6.6).
pub fn inquiry(allocation: u16) -> Cdb {
    six(0x12, 0, 0, allocation)
}

/// INQUIRY of a vital product data page (SPC-4 6.6, EVPD).
pub fn inquiry_page(page: u8, allocation: u16) -> Cdb {
    six(0x12, 1, page, allocation)
}

/// MODE SENSE(6) of a page, without block descriptors (SPC-4 6.13).
pub fn mode_sense_6(page: u8, allocation: u8) -> Cdb {
    six(0x1a, 0x08, page & 0x3f, allocation.into())
}

/// READ CAPACITY(16) (SBC-3 5.16).
pub fn read_capacity_16(allocation: u32) -> Cdb {
    sixteen(0x9e, 0x10, 0, allocation)
}

/// READ(16) (SBC-3 5.10).
pub fn read_16(lba: u64, blocks: u32) -> Cdb {
    sixteen(0x88, 0, lba, blocks)
}

/// WRITE(16) (SBC-3 5.28); with `fua` the data is on the medium when it ends.
pub fn write_16(lba: u64, blocks: u32, fua: bool) -> Cdb {
    sixteen(0x8a, u8::from(fua) << 3, lba, blocks)
}

/// WRITE SAME(16) of one block of data (SBC-3 5.37), without UNMAP.
pub fn write_same_16(lba: u64, blocks: u32) -> Cdb {
    sixteen(0x93, 0, lba, blocks)
}

/// SYNCHRONIZE CACHE(16) of the whole medium (SBC-3 5.22).
pub fn synchronize_cache_16() -> Cdb {
    sixteen(0x91, 0, 0, 0)
}

/// SYNCHRONIZE CACHE(10) of the whole medium (SBC-3 5.21).
pub fn synchronize_cache_10() -> Cdb {
    Cdb::new(&[0x35u8, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn copy_out(service_action: u8, abort_list_id: u32, list_id: u32, length: u32) -> Cdb {
    Cdb::new(&CopyOut {
        opcode: THIRD_PARTY_COPY_OUT,
        service_action,
        abort_list_id: abort_list_id.into(),
        list_id: list_id.into(),
        length: length.into(),
        group: 0,
        control: 0,
    })
}

/// EXTENDED COPY(LID1) with a parameter list of `length` bytes (SPC-4 6.4).
pub fn extended_copy_lid1(length: u32) -> Cdb {
    copy_out(EXTENDED_COPY_LID1, 0, 0, length)
}

/// EXTENDED COPY(LID4) with a parameter list of `length` bytes (SPC-4 6.5).
pub fn extended_copy_lid4(length: u32) -> Cdb {
    copy_out(EXTENDED_COPY_LID4, 0, 0, length)
}

/// POPULATE TOKEN (SBC-4 5.12): the list identifier is in bytes 6 to 9.
pub fn populate_token(list_id: u32, length: u32) -> Cdb {
    copy_out(POPULATE_TOKEN, 0, list_id, length)
}

/// WRITE USING TOKEN (SBC-4 5.59): the list identifier is in bytes 6 to 9.
pub fn write_using_token(list_id: u32, length: u32) -> Cdb {
    copy_out(WRITE_USING_TOKEN, 0, list_id, length)
}

/// COPY OPERATION ABORT (SPC-4 6.3): the list identifier is in bytes 2 to 5.
pub fn copy_operation_abort(list_id: u32) -> Cdb {
    copy_out(COPY_OPERATION_ABORT, list_id, 0, 0)
}

fn copy_in_lid1(service_action: u8, list_id: u8, allocation: u32) -> Cdb {
    Cdb::new(&CopyInLid1 {
        opcode: THIRD_PARTY_COPY_IN,
        service_action,
        list_id,
        reserved: [0; 7],
        length: allocation.into(),
        reserved_14: 0,
        control: 0,
    })
}

fn copy_in_lid4(service_action: u8, list_id: u32, allocation: u32) -> Cdb {
    Cdb::new(&CopyInLid4 {
        opcode: THIRD_PARTY_COPY_IN,
        service_action,
        list_id: list_id.into(),
        reserved: [0; 4],
        length: allocation.into(),
        reserved_14: 0,
        control: 0,
    })
}

/// RECEIVE COPY OPERATING PARAMETERS (SPC-4 6.21).
pub fn receive_copy_operating_parameters(allocation: u32) -> Cdb {
    copy_in_lid1(RECEIVE_COPY_OPERATING_PARAMETERS, 0, allocation)
}

/// RECEIVE COPY STATUS(LID1) (SPC-4 6.22).
pub fn receive_copy_status_lid1(list_id: u8, allocation: u32) -> Cdb {
    copy_in_lid1(RECEIVE_COPY_STATUS_LID1, list_id, allocation)
}

/// RECEIVE COPY FAILURE DETAILS(LID1) (SPC-4 6.20).
pub fn receive_copy_failure_details_lid1(list_id: u8, allocation: u32) -> Cdb {
    copy_in_lid1(RECEIVE_COPY_FAILURE_DETAILS_LID1, list_id, allocation)
}

/// RECEIVE COPY STATUS(LID4) (SPC-4 6.23).
pub fn receive_copy_status_lid4(list_id: u32, allocation: u32) -> Cdb {
    copy_in_lid4(RECEIVE_COPY_STATUS_LID4, list_id, allocation)
}

/// RECEIVE ROD TOKEN INFORMATION (SBC-4 5.25, SPC-4 6.26).
pub fn receive_rod_token_information(list_id: u32, allocation: u32) -> Cdb {
    copy_in_lid4(RECEIVE_ROD_TOKEN_INFORMATION, list_id, allocation)
}

/// REPORT ALL ROD TOKENS (SPC-4 6.27).
pub fn report_all_rod_tokens(allocation: u32) -> Cdb {
    copy_in_lid4(REPORT_ALL_ROD_TOKENS, 0, allocation)
}
