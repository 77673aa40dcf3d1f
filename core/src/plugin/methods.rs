//! Numbers, names and places of methods.

use std::ffi::CStr;
use xcopy_abi::*;

/// Methods whose number never changes: name, number, worth. The order is that
/// of falling worth.
pub const FIXED_METHODS: &[(&str, u16, u32)] = &[
    ("null", XCOPY_METHOD_NULL, 950),
    ("reflink", XCOPY_METHOD_REFLINK, 900),
    ("nvme_copy", XCOPY_METHOD_NVME_COPY, 800),
    ("scsi_xcopy", XCOPY_METHOD_SCSI_XCOPY, 700),
    ("odx", XCOPY_METHOD_ODX, 600),
    ("copy_file_range", XCOPY_METHOD_COPY_FILE_RANGE, 500),
    ("read_write", XCOPY_METHOD_READ_WRITE, 300),
    ("sendfile", XCOPY_METHOD_SENDFILE, 200),
    ("zero", XCOPY_METHOD_ZERO, 0),
];

/// Methods that are the core's own and that no plugin may claim.
pub(super) const RESERVED: [u16; 2] = [XCOPY_METHOD_READ_WRITE, XCOPY_METHOD_ZERO];

/// Worth of a plugin's own method that offloads and states none: before the
/// kernel's copies, after the methods that this library knows to be better.
const WORTH_OFFLOADS: u32 = 650;
/// Worth of one that moves the bytes through the host: after the core's own.
const WORTH_EMULATES: u32 = 250;

/// One method of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its XCOPY_METHOD_ flags.
    pub flags: u32,
    /// Higher is tried first; never 0 for "not stated".
    pub worth: u32,
}

/// The name of a fixed method, as C reads it.
pub fn fixed_name(id: u16) -> Option<&'static CStr> {
    Some(match id {
        XCOPY_METHOD_REFLINK => c"reflink",
        XCOPY_METHOD_NVME_COPY => c"nvme_copy",
        XCOPY_METHOD_SCSI_XCOPY => c"scsi_xcopy",
        XCOPY_METHOD_ODX => c"odx",
        XCOPY_METHOD_COPY_FILE_RANGE => c"copy_file_range",
        XCOPY_METHOD_SENDFILE => c"sendfile",
        XCOPY_METHOD_READ_WRITE => c"read_write",
        XCOPY_METHOD_ZERO => c"zero",
        XCOPY_METHOD_NULL => c"null",
        _ => return None,
    })
}

/// The fixed methods as a mask.
pub fn fixed_mask() -> u32 {
    FIXED_METHODS
        .iter()
        .fold(0, |mask, (_, id, _)| mask | 1 << id)
}

/// The number of a fixed method.
pub(super) fn fixed_id(name: &str) -> Option<u16> {
    FIXED_METHODS
        .iter()
        .find(|fixed| fixed.0 == name)
        .map(|fixed| fixed.1)
}

/// The place of a method that states none.
pub(super) fn default_worth(id: u16, flags: u32) -> u32 {
    match FIXED_METHODS.iter().find(|fixed| fixed.1 == id) {
        Some(fixed) => fixed.2,
        None if flags & XCOPY_METHOD_OFFLOADS != 0 => WORTH_OFFLOADS,
        None => WORTH_EMULATES,
    }
}

/// The place of a fixed method: higher is tried first.
pub fn worth_of(id: u16) -> u32 {
    FIXED_METHODS
        .iter()
        .find(|(_, fixed, _)| *fixed == id)
        .map_or(0, |(_, _, worth)| *worth)
}
