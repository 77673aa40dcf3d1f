//! Copies by tokens, through the core, against every kind of copy manager.
#![allow(missing_docs)]

use copy_manager::{CopyManager, Effect, Kind, Personality, ServiceTimes, When};
use std::time::{Duration, Instant};
use xcopy::abi::*;
use xcopy_ctests::array::Array;
use xcopy_ctests::disk::stamp;
use xcopy_ctests::fixture::range;

const MIB: usize = 1 << 20;

fn with_tokens() -> [Personality; 3] {
    [
        Personality::ctl(),
        Personality::array(),
        Personality::windows(),
    ]
}

#[test]
fn whole_disks_are_copied_by_tokens_alone() {
    for personality in with_tokens() {
        for blocks in [(512, 512), (4096, 4096), (512, 4096), (4096, 512)] {
            let name = personality.name;
            let mut array = Array::with(personality.clone(), 20 * MIB, blocks, |_| {});
            let ended = array.copy_all();
            let done = ended.done;
            assert_eq!(
                (done.res, done.reason),
                (0, 0),
                "{name} {blocks:?} {done:?}"
            );
            assert_eq!(done.flags, XCOPY_CPL_OFFLOADED, "{name} {done:?}");
            assert_eq!(ended.bytes_by(XCOPY_METHOD_ODX), 20 * MIB as u64, "{name}");
            assert_eq!(
                array.count(Kind::Write) + array.count(Kind::Read),
                0,
                "{name}"
            );
            assert_eq!(array.manager.live_tokens(), 0, "{name}: tokens are left");
            assert_eq!(array.manager.running(), 0, "{name}");
        }
    }
}

#[test]
fn scattered_ranges_share_tokens() {
    let mut array = Array::new(Personality::ctl(), 8 * MIB);
    let ranges: Vec<xcopy_range> = (0..64u64)
        .map(|i| range((63 - i) * 65_536, i * 131_072 + 512, 4096))
        .collect();
    array.manager.clear_trace();
    let ended = array.copy(&ranges, |r| r.flags = XCOPY_REQ_NO_FALLBACK);
    assert_eq!(ended.bytes_by(XCOPY_METHOD_ODX), 64 * 4096);
    // One is the trial of the pair.
    assert_eq!(array.count(Kind::PopulateToken), 2);
    // One source many times over: the device refuses ranges that overlap.
    let ranges: Vec<xcopy_range> = (0..8u64).map(|i| range(4096, i * 8192, 8192)).collect();
    array.manager.clear_trace();
    let ended = array.copy(&ranges, |r| r.flags = XCOPY_REQ_NO_FALLBACK);
    assert_eq!(ended.bytes_by(XCOPY_METHOD_ODX), 64 * 1024);
    assert_eq!(array.count(Kind::PopulateToken), 8);
}

#[test]
fn a_target_s_limits_are_kept() {
    // 8 MiB tokens: the trace says how large each was.
    let mut array = Array::new(Personality::array(), 40 * MIB);
    let ended = array.copy_all();
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    let limits = Personality::array().tokens.expect("tokens");
    let largest = array
        .manager
        .trace()
        .iter()
        .filter(|entry| entry.kind == Kind::PopulateToken)
        .map(|entry| {
            let blocks = entry.parameters[24..28].first_chunk().expect("four bytes");
            u64::from(u32::from_be_bytes(*blocks)) * 512
        })
        .max();
    assert!(
        largest.expect("commands") <= limits.max_bytes,
        "{largest:?}"
    );
}

#[test]
fn targets_without_tokens_are_told_apart() {
    let refused = [
        (Personality::lio(), "no VPD page 8Fh"),
        (Personality::scst(), "tokens"),
        (Personality::comstar(), "tokens"),
    ];
    for (personality, words) in refused {
        let name = personality.name;
        let mut array = Array::new(personality, MIB);
        let (usable, reason, text) = array.verdict(array.src, array.dst);
        assert_eq!(
            (usable, reason),
            (false, XCOPY_REASON_NOT_SUPPORTED),
            "{name}"
        );
        assert!(text.contains(words), "{name}: {text}");
        let ended = array.copy(&[range(0, 0, MIB as u64)], |_| {});
        let done = ended.done;
        assert_eq!(
            (done.res, done.reason),
            (0, XCOPY_REASON_NOT_SUPPORTED),
            "{name}"
        );
        assert_eq!(
            ended.bytes_by(XCOPY_METHOD_READ_WRITE),
            MIB as u64,
            "{name}"
        );
        let ended = array.copy_all();
        assert_eq!(ended.done.res, -libc::ENOTSUP, "{name}");
    }
}

#[test]
fn two_copy_managers_are_found_out_before_anything_is_written() {
    for personality in with_tokens() {
        let name = personality.name;
        let one = CopyManager::new(personality.clone());
        let two = CopyManager::new(personality);
        let mut array = Array::on(one, two, MIB, (512, 512), |_| {});
        let (usable, reason, text) = array.verdict(array.src, array.dst);
        assert_eq!(
            (usable, reason),
            (false, XCOPY_REASON_CROSS_DEVICE),
            "{name}"
        );
        assert!(text.contains("does not take a token of"), "{text}");
        assert_eq!(array.manager.live_tokens(), 0, "{name}: the trial's token");
        assert!(array.target() == stamp(2, 1, MIB), "{name}");
        let ended = array.copy(&[range(512, 0, 65_536)], |_| {});
        assert_eq!(ended.bytes_by(XCOPY_METHOD_READ_WRITE), 65_536, "{name}");
        assert_eq!(ended.done.reason, XCOPY_REASON_CROSS_DEVICE, "{name}");
    }
}

#[test]
fn several_tokens_are_in_flight() {
    let mut array = Array::new(Personality::array(), 64 * MIB);
    array.manager.set_service(ServiceTimes {
        other: Duration::from_millis(5),
        ..ServiceTimes::default()
    });
    let ended = array.copy_all();
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    let most = array.manager.most_in_service();
    assert!(most >= 4, "{most} at once");
}

#[test]
fn a_deadline_ends_what_never_ends() {
    let mut array = Array::new(Personality::array(), 32 * MIB);
    assert_eq!(array.copy_all().done.res, 0);
    array
        .manager
        .set_fault(Kind::WriteUsingToken, When::Nth(2), Effect::NeverEnds);
    let begun = Instant::now();
    let ended = array.copy(&[range(0, 0, 32 * MIB as u64)], |r| {
        r.timeout_ms = 300;
        r.flags = XCOPY_REQ_NO_FALLBACK;
    });
    let done = ended.done;
    assert_eq!(
        (done.res, done.reason),
        (-libc::ETIMEDOUT, XCOPY_REASON_TIMED_OUT),
        "{done:?}"
    );
    assert_eq!(done.flags & XCOPY_CPL_UNSETTLED, 0, "{done:?}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(array.count(Kind::CopyOperationAbort) > 0);
    assert_eq!(
        array.manager.running(),
        0,
        "settled means that nothing runs"
    );
    // The pair goes on as if nothing had been.
    array.manager.clear_faults();
    assert_eq!(array.copy_all().done.res, 0);
}

#[test]
fn large_commands_go_in_the_background() {
    let mut personality = Personality::windows();
    personality.honours_immed = true;
    personality.background_bytes_per_ms = 4 << 20;
    personality.delay_advice_ms = 3;
    if let Some(tokens) = &mut personality.tokens {
        tokens.max_bytes = 80 << 20;
        tokens.optimal_bytes = 80 << 20;
    }
    let size = 160 * MIB;
    let mut array = Array::with(personality, size, (512, 512), |queue| {
        queue.chunk = 80 << 20;
    });
    let ended = array.copy_all();
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    let trace = array.manager.trace();
    let immediate = trace
        .iter()
        .filter(|entry| entry.kind == Kind::WriteUsingToken && entry.parameters[2] & 1 == 1);
    assert_eq!(immediate.count(), 2);
    assert!(array.count(Kind::RodTokenInformation) > 8, "it was polled");
}

#[test]
fn zeroing_takes_what_the_device_has() {
    for (zero_token, write_same) in [(true, true), (false, true), (false, false)] {
        let mut personality = Personality::ctl();
        if let Some(tokens) = &mut personality.tokens {
            tokens.zero_token = zero_token;
        }
        let array = Array::new(personality, 4 * MIB);
        if !write_same {
            let refusal = copy_manager::Refusal::check(5, 0x20, 0);
            array
                .manager
                .set_fault(Kind::WriteSame, When::Always, Effect::Answer(refusal));
        }
        array.manager.clear_trace();
        let done = array.run(&xcopy_request {
            dst_offset: 65_536,
            length: MIB as u64,
            ..array.token_request(XCOPY_OP_ZERO, 0, array.dst, 0)
        });
        assert_eq!((done.res, done.bytes_done), (0, MIB as u64), "{done:?}");
        let (mut wanted, now) = (stamp(2, 1, 4 * MIB), array.target());
        wanted[65_536..65_536 + MIB].fill(0);
        assert!(now == wanted, "{zero_token} {write_same}");
        let used = (
            array.count(Kind::WriteUsingToken) > 0,
            array.count(Kind::WriteSame) > 0,
            array.count(Kind::Write) > 0,
        );
        let expected = match (zero_token, write_same) {
            (true, _) => (true, false, false),
            (_, true) => (false, true, false),
            _ => (false, true, true),
        };
        assert_eq!(used, expected, "{zero_token} {write_same}");
    }
}

#[test]
fn a_liar_is_believed_and_reading_back_shows_it() {
    let array = Array::new(Personality::liar(), MIB);
    let request = xcopy_ctests::rig::copy(1, array.src, array.dst, range(0, 0, MIB as u64));
    let done = array.run(&request);
    assert_eq!((done.res, done.bytes_offloaded), (0, MIB as u64));
    assert!(array.target() != array.a);
}

#[test]
fn durable_copies_are_flushed() {
    let mut array = Array::new(Personality::ctl(), MIB);
    let ended = array.copy(&[range(0, 0, 65_536)], |r| r.flags = XCOPY_REQ_DURABLE);
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    assert!(array.count(Kind::SynchronizeCache) > 0);
}
