//! Devices and verdicts.

use super::{DEVICE_PLACE, DEVICES, draw};
use crate::input::Input;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::Ordering;
use xcopy::abi::*;

/// Text, not always with an end.
fn text(field: &mut [c_char], input: &mut Input) {
    match input.u8() % 8 {
        0 => field.fill(input.u8() as c_char),
        1 => {
            let n = input.below(20);
            for (to, from) in field.iter_mut().zip(input.bytes(n)) {
                *to = *from as c_char;
            }
        }
        _ => {}
    }
}

pub(super) unsafe extern "C" fn open(
    _state: *mut c_void,
    desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    // SAFETY: the core's descriptor and places, live during the call.
    let (desc, props) = unsafe { (&*desc, &mut *props) };
    (props.block_size, props.size_bytes) = (512, 1 << 20);
    let status = draw(|input| {
        if input.one_in(4) {
            props.block_size = input.number() as u32;
            props.size_bytes = input.number();
            props.preferred_io_bytes = input.number();
            props.max_io_bytes = input.number();
            props.identity = input.u8().into();
            props.identity_offset = input.number();
            props.read_only = input.u8() as u32 % 3;
            text(&mut props.text, input);
        }
        match input.u8() {
            0 => -i32::from(input.u8()),
            1 => input.u32() as i32,
            _ => 0,
        }
    });
    let status = status.unwrap_or(0);
    if status == 0 {
        DEVICE_PLACE.store(desc.host_device, Ordering::Release);
        DEVICES.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the core's place for the handle.
        unsafe { *device = Box::into_raw(Box::new(desc.host_device)).cast() };
    }
    status
}

pub(super) unsafe extern "C" fn close(_state: *mut c_void, device: *mut c_void) {
    // SAFETY: `open` made it, and close is the last call with it.
    let place = unsafe { Box::from_raw(device.cast::<*mut c_void>()) };
    let _ =
        DEVICE_PLACE.compare_exchange(*place, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
    DEVICES.fetch_sub(1, Ordering::AcqRel);
}

pub(super) unsafe extern "C" fn probe(
    _state: *mut c_void,
    _src: *mut c_void,
    _dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    stride: usize,
    n: u32,
) -> c_int {
    for index in 0..n as usize {
        // SAFETY: n verdicts, stride bytes apart, by the contract.
        let verdict = unsafe {
            &mut *verdicts
                .cast::<u8>()
                .add(stride * index)
                .cast::<xcopy_verdict>()
        };
        verdict.usable = 1;
        draw(|input| {
            if input.one_in(2) {
                return;
            }
            verdict.usable = input.u8() as u32 % 3;
            verdict.reason = input.u8().into();
            verdict.ttl_s = input.u8() as u16 % 2;
            verdict.limits = xcopy_limits {
                preferred_bytes: input.number(),
                max_bytes: input.number(),
                max_range_bytes: input.number(),
                src_granularity: input.number() as u32,
                dst_granularity: input.number() as u32,
                length_granularity: input.number() as u32,
                max_ranges: input.number() as u32,
                max_concurrent: input.u8().into(),
                contiguous_dst: input.u8() as u32 % 3,
            };
            verdict.bytes_per_us = input.u16().into();
            verdict.flags = if input.one_in(8) { input.u32() } else { 0 };
            text(&mut verdict.text, input);
        });
    }
    draw(|input| {
        if input.one_in(16) {
            -i32::from(input.u8())
        } else {
            0
        }
    })
    .unwrap_or(0)
}
