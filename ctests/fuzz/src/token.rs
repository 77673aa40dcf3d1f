//! Serialised tokens: damaged ones are refused, and what is taken comes out as
//! it went in.

use crate::input::Input;
use crate::ledger::answered;
use std::ptr;
use xcopy::abi::*;
use xcopy::*;

/// The checksum at its place, so that what is behind it is reached.
fn seal(bytes: &mut [u8]) {
    let n = bytes.len() as u32;
    if bytes.len() < 24 {
        return;
    }
    bytes[..12].copy_from_slice(b"XCPYTOKN\x03\0\0\0");
    bytes[12..16].copy_from_slice(&n.to_le_bytes());
    bytes[16..24].fill(0);
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
}

/// A token of `input`'s pieces, which need not fit together.
fn compose(input: &mut Input) -> Vec<u8> {
    let count = input.below(5);
    let mut pieces = Vec::new();
    let mut position = 0u64;
    for _ in 0..count {
        let length = input.number();
        let start = if input.one_in(8) {
            input.number()
        } else {
            position
        };
        position = position.wrapping_add(length);
        let n = input.below(32);
        let secret = input.bytes(n);
        let said = if input.one_in(8) {
            input.u32()
        } else {
            secret.len() as u32
        };
        pieces.extend_from_slice(&start.to_le_bytes());
        pieces.extend_from_slice(&length.to_le_bytes());
        pieces.extend_from_slice(&said.to_le_bytes());
        pieces.extend_from_slice(secret);
    }
    let mut bytes = vec![0; 24];
    bytes.extend_from_slice(&u32::from(input.one_in(16)).to_le_bytes());
    bytes.extend_from_slice(&input.u32().to_le_bytes());
    bytes.extend_from_slice(&input.u32().to_le_bytes());
    let said = if input.one_in(8) {
        input.u32()
    } else {
        count as u32
    };
    bytes.extend_from_slice(&said.to_le_bytes());
    let total = if input.one_in(8) {
        input.number()
    } else {
        position
    };
    bytes.extend_from_slice(&total.to_le_bytes());
    bytes.extend_from_slice(&input.number().to_le_bytes());
    bytes.extend_from_slice(&input.number().to_le_bytes());
    for known in [&b"null"[..], b"null_copy"] {
        let mut name = [0u8; 32];
        let given = match input.one_in(4) {
            true => {
                let n = input.below(33);
                input.bytes(n)
            }
            false => known,
        };
        name[..given.len()].copy_from_slice(given);
        bytes.extend_from_slice(&name);
    }
    let mut origin = [0u8; 128];
    let n = input.below(129);
    let given = input.bytes(n);
    origin[..given.len()].copy_from_slice(given);
    bytes.extend_from_slice(&origin);
    bytes.extend(pieces);
    bytes
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut bytes = match input.u8() % 3 {
        0 => input.0.to_vec(),
        1 => {
            let mut bytes = input.0.to_vec();
            seal(&mut bytes);
            bytes
        }
        _ => {
            let mut bytes = compose(&mut input);
            seal(&mut bytes);
            bytes
        }
    };
    let mut context = ptr::null_mut();
    // SAFETY: NULL is the default; a place for the answer.
    let status = unsafe { xcopy_context_create(ptr::null(), &mut context) };
    assert_eq!(answered(status), 0);
    round_trip(context, &bytes);
    // One bit of damage is always found.
    if !bytes.is_empty() {
        let place = input.u32() as usize % bytes.len();
        bytes[place] ^= 1 << input.below(8);
        if place >= 24 {
            let mut token = 0;
            // SAFETY: as many bytes as the size says, a place for the answer.
            let status = unsafe {
                xcopy_token_import(context, bytes.as_ptr().cast(), bytes.len(), &mut token)
            };
            assert!(answered(status) < 0, "damage at {place} was not found");
        }
    }
    // SAFETY: a live context, given up here.
    assert_eq!(answered(unsafe { xcopy_context_free(context) }), 0);
}

fn round_trip(context: *mut xcopy_context, bytes: &[u8]) {
    let mut token = 0;
    let size = bytes.len();
    // SAFETY: as many bytes as the size says (an empty slice has a pointer, too),
    // a place for the answer.
    let status = unsafe { xcopy_token_import(context, bytes.as_ptr().cast(), size, &mut token) };
    if answered(status) != 0 {
        assert_eq!(token, 0, "a refusal that answers");
        return;
    }
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: xcopy_token_info = unsafe { std::mem::zeroed() };
    // SAFETY: a live context and a place of the size given.
    let status =
        unsafe { xcopy_token_info(context, token, &mut info, size_of::<xcopy_token_info>()) };
    assert_eq!(status, 0);
    assert_eq!((info.filled, info.export_bytes), (1, size as u64));
    assert!(info.bytes > 0);
    let mut out = vec![0u8; size].into_boxed_slice();
    let mut used = 0;
    // SAFETY: as many bytes as the size says, a place for the answer.
    let status =
        unsafe { xcopy_token_export(context, token, out.as_mut_ptr().cast(), size - 1, &mut used) };
    assert_eq!((status, used), (-libc::ENOBUFS, size));
    // SAFETY: as above.
    let status =
        unsafe { xcopy_token_export(context, token, out.as_mut_ptr().cast(), size, &mut used) };
    assert_eq!((status, used), (0, size));
    // What is behind the NUL of the two names is not kept.
    let mut again = 0;
    // SAFETY: as above.
    let status = unsafe { xcopy_token_import(context, out.as_ptr().cast(), size, &mut again) };
    assert_eq!(answered(status), 0, "what was written cannot be read");
    // SAFETY: a live context.
    unsafe {
        assert_eq!(answered(xcopy_token_free(context, token)), 0);
        assert_eq!(answered(xcopy_token_free(context, again)), 0);
        assert_eq!(answered(xcopy_token_free(context, token)), -libc::EBADF);
    }
}
