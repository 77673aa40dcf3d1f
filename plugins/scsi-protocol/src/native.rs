//! The caller's own connection to a logical unit, as `xcopy_scsi.h` has it.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};

/// Command data: there is none.
pub const XCOPY_SCSI_NO_DATA: u32 = 0;
/// Command data comes from the logical unit.
pub const XCOPY_SCSI_FROM_UNIT: u32 = 1;
/// Command data goes to the logical unit.
pub const XCOPY_SCSI_TO_UNIT: u32 = 2;

/// One SCSI command and its end. The library's memory, valid during the call.
#[repr(C)]
#[derive(Debug)]
pub struct xcopy_scsi_command {
    /// sizeof as the library was compiled.
    pub size: u32,
    /// One of XCOPY_SCSI_.
    pub direction: u32,
    /// The command descriptor block.
    pub cdb: *const u8,
    /// Its bytes: 6, 10, 12 or 16.
    pub cdb_len: u32,
    /// Milliseconds after which the command should be aborted.
    pub timeout_ms: u32,
    /// Data to or from the unit; NULL if there is none.
    pub data: *mut c_void,
    /// Its bytes.
    pub data_len: u32,
    /// Bytes of room at `sense`.
    pub sense_room: u32,
    /// Room for sense data.
    pub sense: *mut u8,
    /// To be filled: bytes of sense data put there.
    pub sense_len: u32,
    /// To be filled: bytes of data that were not transferred.
    pub residual: u32,
    /// To be filled: SAM status (0 GOOD, 2 CHECK CONDITION, 8 BUSY and so on).
    pub status: u32,
    /// To be filled: a host status by Linux's DID_ numbers (3 is a timeout), if
    /// the command was sent and its status never came; else 0. It must be able to
    /// do nothing more by then: abort it first, or wait, as Linux does before it
    /// answers SG_IO. What it still wrote would lie over what is copied since.
    pub host_status: u32,
}

/// A connection to one logical unit: the native device of the plugins `scsi` and
/// `odx`. It and what it points to must stay valid until the device was released.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xcopy_scsi_transport {
    /// sizeof of the struct that the caller was compiled with.
    pub size: u32,
    /// Bytes of data of one command at most; 0 is 1 MiB.
    pub max_transfer: u32,
    /// Calls of `execute` at once at most: 1 if the connection is for one thread
    /// at a time; 0 is no limit.
    pub max_concurrent: u32,
    /// Must be 0.
    pub reserved: u32,
    /// First argument of `execute`.
    pub ctx: *mut c_void,
    /// Carries a command out, waits for its end and fills its end: 0, or -errno
    /// if it was not sent (-ENODEV: the unit is gone). Called from any thread;
    /// must not unwind.
    pub execute:
        Option<unsafe extern "C" fn(ctx: *mut c_void, command: *mut xcopy_scsi_command) -> c_int>,
    /// What to call it in texts, NUL-terminated; or NULL.
    pub name: *const c_char,
}
