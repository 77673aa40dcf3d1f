//! Tokens as operations of their own: made here, written there, refused by name.
#![allow(missing_docs)]

use copy_manager::fault::TokenFate;
use copy_manager::{CopyManager, Effect, Kind, Personality, When};
use std::ffi::CStr;
use xcopy::abi::*;
use xcopy_ctests::array::Array;
use xcopy_ctests::disk::stamp;
use xcopy_ctests::judge::Extra;
use xcopy_ctests::rig::{Rig, last_error};

const MIB: usize = 1 << 20;

fn with_tokens() -> [Personality; 3] {
    [
        Personality::ctl(),
        Personality::array(),
        Personality::windows(),
    ]
}

fn text(field: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|c| *c as u8).collect();
    let text = CStr::from_bytes_until_nul(&bytes).expect("a NUL");
    text.to_string_lossy().into_owned()
}

fn write(array: &Array, token: u32, at: u64, to: u64, length: u64) -> xcopy_completion {
    array.run(&xcopy_request {
        src_offset: at,
        dst_offset: to,
        ..array.token_request(XCOPY_OP_TOKEN_WRITE, token, array.dst, length)
    })
}

#[test]
fn made_written_in_parts_and_released() {
    for personality in with_tokens() {
        let name = personality.name;
        let array = Array::new(personality, 24 * MIB);
        // More than one token of the array with 8 MiB tokens.
        let (from, length) = (65_536, 20 * MIB as u64);
        let token = array.make_token(from, length);
        let info = array.rig.token_info(token);
        assert_eq!(
            (info.bytes, info.filled, info.method),
            (length, 1, XCOPY_METHOD_ODX)
        );
        assert_eq!(text(&info.plugin), "odx");
        assert_eq!(info.origin_offset, from, "{name}");
        assert!(info.created_s > 0 && info.lifetime_s > 0, "{name}");
        assert_eq!(array.count(Kind::Write), 0, "{name}");
        // Across the borders of its parts, with an offset, and twice.
        let mut wanted = stamp(2, 1, 24 * MIB);
        for (at, to, n) in [
            (0u64, 0u64, 4096usize),
            (8 * MIB as u64 - 1024, 1 << 20, 9 * MIB),
        ] {
            let done = write(&array, token, at, to, n as u64);
            assert_eq!(
                (done.res, done.bytes_done),
                (0, n as u64),
                "{name} {done:?}"
            );
            assert_eq!(done.flags, XCOPY_CPL_OFFLOADED, "{name} {done:?}");
            let start = (from + at) as usize;
            wanted[to as usize..to as usize + n].copy_from_slice(&array.a[start..start + n]);
            assert!(array.target() == wanted, "{name} {at} {to} {n}");
        }
        assert!(array.manager.live_tokens() > 0, "{name}");
        let released = array.run(&array.token_request(XCOPY_OP_TOKEN_RELEASE, token, array.src, 0));
        assert_eq!(released.res, 0, "{name} {released:?}");
        assert_eq!(array.manager.live_tokens(), 0, "{name}");
        let done = write(&array, token, 0, 0, 4096);
        assert_eq!(
            (done.res, done.reason),
            (-libc::ESTALE, XCOPY_REASON_TOKEN),
            "{name}"
        );
        assert!(array.target() == wanted, "{name}: a dead token wrote");
        assert_eq!(array.rig.free_token(token), 0);
    }
}

#[test]
fn one_process_names_the_data_and_another_writes_it() {
    let array = Array::new(Personality::array(), 20 * MIB);
    let token = array.make_token(0, 20 * MIB as u64);
    let bytes = array.rig.export(token);
    assert_eq!(array.rig.free_token(token), 0);
    let other = {
        // Another context stands for another process: it shares no state of the
        // first one's, and reaches the same copy manager.
        let rig = Rig::new();
        assert_eq!(rig.register(xcopy_plugin_odx::init), 0, "{}", last_error());
        rig
    };
    let manager = array.manager.clone();
    let way = manager.connect(manager.nexus("another host"), array.dst_unit);
    // SAFETY: the connection outlives the context.
    let dst = unsafe { other.open_native("odx", way.native()) };
    let token = other.import(&bytes).expect("a token");
    let info = other.token_info(token);
    assert_eq!(
        (info.bytes, info.export_bytes),
        (20 * MIB as u64, bytes.len() as u64)
    );
    // What the caller's transport calls itself, at this host.
    let origin = text(&info.origin);
    let (host, device) = origin.split_once(':').expect("HOST:DEVICE");
    assert!(!host.is_empty() && !device.is_empty(), "{origin}");
    let done = other.run(&array_write(&array, token, dst, 20 * MIB as u64));
    assert_eq!(
        (done.res, done.bytes_offloaded),
        (0, 20 * MIB as u64),
        "{done:?}"
    );
    assert!(array.target() == array.a);
    drop(other);
}

fn array_write(array: &Array, token: u32, dst: u32, length: u64) -> xcopy_request {
    array.token_request(XCOPY_OP_TOKEN_WRITE, token, dst, length)
}

#[test]
fn what_a_token_shows_of_a_source_that_changes() {
    let shown = [
        (Personality::ctl(), XCOPY_TOKEN_SHOWS_SOURCE, 3),
        (Personality::array(), XCOPY_TOKEN_SHOWS_PAST, 1),
    ];
    for (personality, shows, disk) in shown {
        let name = personality.name;
        let array = Array::new(personality, MIB);
        let token = array.make_token(0, MIB as u64);
        assert_eq!(array.rig.token_info(token).shows, shows, "{name}");
        array.manager.poke(0, 0, &stamp(3, 1, MIB));
        let done = write(&array, token, 0, 0, MIB as u64);
        assert_eq!(done.res, 0, "{name} {done:?}");
        assert!(array.target() == stamp(disk, 1, MIB), "{name}");
    }
}

#[test]
fn a_type_and_a_lifetime_can_be_asked_for() {
    let array = Array::new(Personality::array(), MIB);
    let types = Personality::array().tokens.expect("tokens").rod_types;
    for rod_type in types {
        let token = array.rig.token();
        let mut extra = Extra::new(Vec::new());
        extra.ext.nranges = 0;
        extra.ext.token_type = rod_type;
        extra.ext.token_lifetime_s = 30;
        let made = array.run(&xcopy_request {
            ext: &raw const extra.ext,
            ..array.token_request(XCOPY_OP_TOKEN_CREATE, array.src, token, MIB as u64)
        });
        assert_eq!(made.res, 0, "{rod_type:#x} {made:?}");
        let info = array.rig.token_info(token);
        assert_eq!(info.lifetime_s, 30, "{rod_type:#x}");
        let list = &array.manager.trace().last().map(|e| e.kind);
        assert_eq!(*list, Some(Kind::RodTokenInformation));
    }
    // One that it does not have, and a life that it does not give.
    for (rod_type, lifetime_s) in [(0x0080_fffe, 0), (0, u32::MAX)] {
        let token = array.rig.token();
        let mut extra = Extra::new(Vec::new());
        extra.ext.token_type = rod_type;
        extra.ext.token_lifetime_s = lifetime_s;
        let made = array.run(&xcopy_request {
            ext: &raw const extra.ext,
            ..array.token_request(XCOPY_OP_TOKEN_CREATE, array.src, token, MIB as u64)
        });
        assert!(made.res < 0, "{made:?}");
        assert_eq!(array.rig.token_info(token).filled, 0);
    }
}

#[test]
fn dead_tokens_are_refused_by_name() {
    let fates = [
        (TokenFate::Unknown, "unknown"),
        (TokenFate::Revoked, "revoked"),
        (TokenFate::Expired, "expired"),
        (TokenFate::Cancelled, "cancelled"),
        (TokenFate::Deleted, "deleted"),
    ];
    for (fate, name) in fates {
        let array = Array::new(Personality::array(), MIB);
        let token = array.make_token(0, MIB as u64);
        array.manager.end_tokens(fate);
        let before = array.target();
        let done = write(&array, token, 0, 0, MIB as u64);
        assert_eq!(
            (done.res, done.bytes_copied),
            (-libc::ESTALE, 0),
            "{name} {done:?}"
        );
        assert_eq!(done.reason, XCOPY_REASON_TOKEN, "{name}");
        let mut words = [0; 200];
        // SAFETY: room for as many bytes as the size says.
        unsafe { xcopy::xcopy_detail_string(done.detail, words.as_mut_ptr(), words.len()) };
        assert!(text(&words).contains(name), "{}", text(&words));
        assert!(array.target() == before, "{name}");
    }
}

#[test]
fn a_token_of_another_copy_manager_is_refused() {
    for personality in with_tokens() {
        let name = personality.name;
        let one = Array::new(personality.clone(), MIB);
        let token = one.make_token(0, MIB as u64);
        let bytes = one.rig.export(token);
        let two = Array::on(
            CopyManager::new(personality.clone()),
            CopyManager::new(personality),
            MIB,
            (512, 512),
            |_| {},
        );
        let token = two.rig.import(&bytes).expect("a token");
        let done = write(&two, token, 0, 0, MIB as u64);
        assert_eq!(
            (done.res, done.bytes_copied),
            (-libc::ESTALE, 0),
            "{name} {done:?}"
        );
        assert!(two.target() == stamp(2, 1, MIB), "{name}");
    }
}

#[test]
fn what_no_device_made_is_refused() {
    let array = Array::new(Personality::ctl(), MIB);
    let token = array.make_token(0, MIB as u64);
    let bytes = array.rig.export(token);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert_eq!(array.rig.import(&damaged), Err(-libc::EINVAL), "byte {at}");
    }
    for cut in [0, 1, 23, 224, bytes.len() - 1] {
        assert_eq!(array.rig.import(&bytes[..cut]), Err(-libc::EINVAL), "{cut}");
    }
}

#[test]
fn blocks_of_two_sizes() {
    // In one go OFFSET INTO ROD is 0, which means the same to everybody.
    for blocks in [(512, 4096), (4096, 512)] {
        let array = Array::with(Personality::ctl(), MIB, blocks, |_| {});
        let token = array.make_token(0, MIB as u64);
        let done = write(&array, token, 0, 0, MIB as u64);
        assert_eq!(done.res, 0, "{blocks:?} {done:?}");
        assert!(array.target() == array.a, "{blocks:?}");
        let before = array.target();
        let done = write(&array, token, 8192, 0, 8192);
        assert_eq!(
            (done.res, done.reason),
            (-libc::ENOTSUP, XCOPY_REASON_BLOCK_SIZE),
            "{blocks:?} {done:?}"
        );
        assert!(array.target() == before, "{blocks:?}");
    }
}

#[test]
fn writes_in_part_go_on() {
    for effect in [Effect::Short(4096), Effect::LoseStatus] {
        for personality in with_tokens() {
            let name = personality.name;
            let array = Array::new(personality, MIB);
            let token = array.make_token(0, MIB as u64);
            array
                .manager
                .set_fault(Kind::WriteUsingToken, When::First(2), effect.clone());
            let done = write(&array, token, 65_536, 4096, 65_536);
            assert_eq!(
                (done.res, done.bytes_done),
                (0, 65_536),
                "{name} {effect:?} {done:?}"
            );
            let mut wanted = stamp(2, 1, MIB);
            wanted[4096..4096 + 65_536].copy_from_slice(&array.a[65_536..2 * 65_536]);
            assert!(array.target() == wanted, "{name} {effect:?}");
        }
    }
}

#[test]
fn a_smaller_token_than_asked_for_is_split() {
    let array = Array::new(Personality::ctl(), 8 * MIB);
    // The device says so only when asked.
    array
        .manager
        .set_fault(Kind::PopulateToken, When::Always, Effect::Short(MIB as u64));
    let token = array.make_token(0, 8 * MIB as u64);
    let done = write(&array, token, 0, 0, 8 * MIB as u64);
    assert_eq!(done.res, 0, "{done:?}");
    assert!(array.target() == array.a);
}

#[test]
fn whole_tokens_fit_blocks_of_two_sizes() {
    // Tokens of 8 MiB, each written from its first byte.
    let array = Array::with(Personality::array(), 20 * MIB, (512, 4096), |_| {});
    let token = array.make_token(0, 20 * MIB as u64);
    let done = write(&array, token, 0, 0, 20 * MIB as u64);
    assert_eq!(done.res, 0, "{done:?}");
    assert!(array.target() == array.a);
}
