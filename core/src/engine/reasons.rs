//! Reasons in words: why a method was not used, and what to do about it.

use std::ffi::CStr;
use xcopy_abi::*;

static TEXTS: [&CStr; XCOPY_REASON_COUNT as usize] = [
    c"nothing better was passed over",
    c"the method mask leaves it out",
    c"no loaded plugin offers such a method for these devices",
    c"the plugin does not serve this kind of device",
    c"source and destination are on different devices, file systems or controllers",
    c"the device or file system does not support it",
    c"offset or length does not meet its granularity",
    c"block sizes of source and destination differ",
    c"a privilege is missing",
    c"the device's stated limits, or the chunk that was asked for, leave nothing usable",
    c"it failed on this request",
    c"it failed before on this pair and rests for a while",
    c"it is slower here",
    c"the stack of devices cannot be resolved to one disk",
    c"the context has no pool of threads and it needs one",
    c"the plugin broke its contract",
    c"the deadline passed",
    c"the request was cancelled",
    c"the device went away",
    c"ranges of the request overlap, or many of them do not ascend",
    c"a range is empty or lies beyond the end",
    c"a persistent reservation forbids the write",
    c"the device has no resources for it now, or the host no memory",
    c"the token is unknown, expired, revoked, damaged or another plugin's",
    c"a device feature has to be switched on and was not allowed to be",
    c"the running kernel refuses or lacks the interface",
    c"it is only used by name",
    c"the queue was destroyed by force",
];

/// A reason as a C string.
pub fn c_text(reason: u16) -> &'static CStr {
    TEXTS
        .get(usize::from(reason))
        .copied()
        .unwrap_or(c"unknown reason")
}

/// A plugin's reason, or `instead` if this version has no such reason.
pub fn known(reason: u16, instead: u16) -> u16 {
    if reason < XCOPY_REASON_COUNT {
        reason
    } else {
        instead
    }
}

/// A reason in words.
pub fn text(reason: u16) -> &'static str {
    c_text(reason).to_str().unwrap_or("")
}

/// In a detail word with an errno: the source ended before its range.
pub const SOURCE_ENDED: u64 = 1 << 32;

/// Packs an errno of the kernel into a detail word.
pub fn errno_detail(method: u16, errno: i32) -> u64 {
    XCOPY_DETAIL_ERRNO << XCOPY_DETAIL_DOMAIN_SHIFT
        | u64::from(method & 0xff) << XCOPY_DETAIL_METHOD_SHIFT
        | u64::from(errno.unsigned_abs())
}

/// Packs a plugin's breach of contract into a detail word.
pub fn fault_detail(method: u16, fault: u32) -> u64 {
    XCOPY_DETAIL_FAULT << XCOPY_DETAIL_DOMAIN_SHIFT
        | u64::from(method & 0xff) << XCOPY_DETAIL_METHOD_SHIFT
        | u64::from(fault)
}

/// What additional sense codes of tokens mean (SPC-4 annex F), in brackets.
fn sense_name(asc: u8, ascq: u8) -> &'static str {
    match (asc, ascq) {
        (0x23, 0x00) => " (invalid token operation)",
        (0x23, 0x01) => " (unsupported type of token)",
        (0x23, 0x02) => " (token of another copy manager: remote use is not supported)",
        (0x23, 0x03) => " (token of another copy manager: its creation is not supported)",
        (0x23, 0x04) => " (token unknown: never made here, or forgotten)",
        (0x23, 0x05) => " (token corrupt)",
        (0x23, 0x06) => " (token revoked)",
        (0x23, 0x07) => " (token expired)",
        (0x23, 0x08) => " (token cancelled)",
        (0x23, 0x09) => " (token deleted)",
        (0x23, 0x0a) => " (token of invalid length)",
        (0x55, 0x0c) => " (no resources to make a token's data)",
        (0x55, 0x0d) => " (no resources to make a token)",
        _ => "",
    }
}

/// A detail word in words.
pub fn detail_text(detail: u64) -> String {
    match detail >> XCOPY_DETAIL_DOMAIN_SHIFT {
        XCOPY_DETAIL_NONE => String::new(),
        XCOPY_DETAIL_ERRNO if detail & SOURCE_ENDED != 0 => {
            "the source ended before its range: it is shorter than it was, or than it says".into()
        }
        XCOPY_DETAIL_ERRNO => std::io::Error::from_raw_os_error(detail as u32 as i32).to_string(),
        XCOPY_DETAIL_SCSI => {
            let (asc, ascq) = ((detail >> 20) as u8, (detail >> 28) as u8);
            format!(
                "SCSI status {:#04x}, host byte {:#04x}, sense {:x}h/{asc:02x}h/{ascq:02x}h{}, \
                 segment {}",
                detail & 0xff,
                detail >> 8 & 0xff,
                detail >> 16 & 0xf,
                sense_name(asc, ascq),
                detail >> 36 & 0xffff,
            )
        }
        XCOPY_DETAIL_NVME => format!(
            "NVMe status {:#06x}, first failed range {}",
            detail & 0xffff,
            detail >> 16 & 0xffff,
        ),
        XCOPY_DETAIL_FAULT => match detail as u32 {
            XCOPY_FAULT_SHORT => "the plugin claimed success with fewer bytes than asked",
            XCOPY_FAULT_OVER_REPORT => "the plugin claimed more bytes than asked",
            XCOPY_FAULT_COOKIE => "the plugin answered a command that was not in flight",
            XCOPY_FAULT_STATUS => "the plugin answered a status that is no errno",
            XCOPY_FAULT_COUNT => "the plugin claimed to have taken more commands than it got",
            XCOPY_FAULT_PANIC => "the plugin panicked",
            _ => "the plugin broke its contract",
        }
        .to_owned(),
        XCOPY_DETAIL_VENDOR => format!("vendor code {:#x}", detail & 0xffff_ffff_ffff),
        domain => format!("unknown domain {domain}: {detail:#018x}"),
    }
}
