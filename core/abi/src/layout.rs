//! Sizes and offsets that the ABI fixes, checked when this crate is compiled.

use crate::{plugin::*, types::*};
use core::mem::{offset_of, size_of};

const _: () = {
    assert!(size_of::<xcopy_request>() == 64);
    assert!(offset_of!(xcopy_request, op) == 8);
    assert!(offset_of!(xcopy_request, flags) == 12);
    assert!(offset_of!(xcopy_request, src) == 16);
    assert!(offset_of!(xcopy_request, src_offset) == 24);
    assert!(offset_of!(xcopy_request, dst_offset) == 32);
    assert!(offset_of!(xcopy_request, length) == 40);
    assert!(offset_of!(xcopy_request, methods) == 48);
    assert!(offset_of!(xcopy_request, timeout_ms) == 52);
    assert!(offset_of!(xcopy_request, ext) == 56);
    assert!(size_of::<xcopy_completion>() == 64);
    assert!(offset_of!(xcopy_completion, bytes_done) == 16);
    assert!(offset_of!(xcopy_completion, detail) == 40);
    assert!(offset_of!(xcopy_completion, commands) == 48);
    assert!(offset_of!(xcopy_completion, method) == 52);
    assert!(size_of::<xcopy_range>() == 24);
    assert!(size_of::<xcopy_ext>() == 40);
    assert!(size_of::<xcopy_result>() == 64);
    assert!(size_of::<xcopy_cmd>() == 104);
    assert!(offset_of!(xcopy_plugin, struct_size) == 0);
    assert!(offset_of!(xcopy_plugin, abi_version) == 4);
    assert!(offset_of!(xcopy_host, abi_version) == 4);
};
