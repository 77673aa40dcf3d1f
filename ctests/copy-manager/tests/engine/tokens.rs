//! POPULATE TOKEN, RECEIVE ROD TOKEN INFORMATION, WRITE USING TOKEN, REPORT ALL
//! ROD TOKENS (SBC-4 5.12, 5.59; SPC-4 6.28, 6.30).

use copy_manager::fault::TokenFate;
use copy_manager::{CopyManager, DiskOptions, Personality};

use crate::rig::{MIB, Rig, hex, stamp};

pub const ID: u32 = 0x0102_0304;
pub const POPULATE: &str = "83 10 00000000 01020304 00000020 00 00";
pub const INFORMATION: &str = "84 07 01020304 00000000 00000400 00 00";
pub const WRITE: &str = "83 11 00000000 01020304 00000228 00 00";

/// Parameter data of POPULATE TOKEN (SBC-4 table 72).
pub fn populate(flags: u8, timeout: u32, rod_type: u32, ranges: &[(u64, u32)]) -> Vec<u8> {
    let bytes = ranges.len() as u16 * 16;
    let mut out = (14 + bytes).to_be_bytes().to_vec();
    out.extend([flags, 0]);
    out.extend(timeout.to_be_bytes());
    out.extend(rod_type.to_be_bytes());
    out.extend([0, 0]);
    out.extend(bytes.to_be_bytes());
    for (lba, count) in ranges {
        out.extend(lba.to_be_bytes());
        out.extend(count.to_be_bytes());
        out.extend([0; 4]);
    }
    out
}

/// Parameter data of WRITE USING TOKEN (SBC-4 table 159).
pub fn write(flags: u8, offset: u64, token: &[u8], ranges: &[(u64, u32)]) -> Vec<u8> {
    let bytes = ranges.len() as u16 * 16;
    let mut out = (534 + bytes).to_be_bytes().to_vec();
    out.extend([flags, 0, 0, 0, 0, 0]);
    out.extend(offset.to_be_bytes());
    out.extend(token);
    out.extend([0; 6]);
    out.extend(bytes.to_be_bytes());
    for (lba, count) in ranges {
        out.extend(lba.to_be_bytes());
        out.extend(count.to_be_bytes());
        out.extend([0; 4]);
    }
    out
}

pub fn cdb(action: u8, list: &[u8]) -> String {
    format!("83 {action:02x} 00000000 01020304 {:08x} 00 00", list.len())
}

/// Makes a token of unit 0 and reads it.
pub fn token(rig: &Rig, ranges: &[(u64, u32)]) -> Vec<u8> {
    let fields = populate(0, 0, 0, ranges);
    rig.data(0, &cdb(0x10, &fields), &fields);
    let data = rig.data(0, INFORMATION, &[]);
    assert_eq!(data.len(), 38 + 512);
    data[38..].to_vec()
}

fn tokens_of() -> [Personality; 3] {
    [
        Personality::ctl(),
        Personality::array(),
        Personality::windows(),
    ]
}

/// Every byte of the three commands, by hand.
#[test]
fn a_copy_by_hand() {
    for personality in tokens_of() {
        let ctl = personality.name == "ctl";
        let rig = Rig::new(personality);
        // 16 blocks from LBA 100h.
        let fields =
            hex("001e 00 00 00000000 00000000 0000 0010 0000000000000100 00000010 00000000");
        assert!(rig.data(0, POPULATE, &fields).is_empty());
        let data = rig.data(0, INFORMATION, &[]);
        // Available 546; SA 10h; 01h; no sense; F1h: 16 blocks; 514 bytes of token.
        let delay = if ctl { "ffffffff" } else { "fffffffe" };
        let head = format!(
            "00000222 10 01 0000 {delay} 00 00 00 f1 0000000000000010 0000 000000000000 \
             00000202 0000"
        );
        assert_eq!(data[..38], hex(&head));
        let token = &data[38..];
        assert_eq!(token.len(), 512);
        // SPC-4 table 97: ROD type, length 01F8h, creator, bytes represented.
        assert_eq!(token[..4], hex(if ctl { "00010000" } else { "00800000" }));
        assert_eq!(token[6..8], hex("01f8"));
        assert_eq!(
            token[16..48],
            hex("e4 00 0000 01 02 00 08 02000c0ffee00000 0000000000000000 00000000 00 000200")
        );
        assert_eq!(token[48..64], hex("0000000000000000 0000000000002000"));
        assert_eq!(token[96..100], hex("00000200"));
        // Written to LBA 200h of unit 1.
        let mut fields = hex("0226 00 00 00000000 0000000000000000");
        fields.extend(token);
        fields.extend(hex("000000000000 0010 0000000000000200 00000010 00000000"));
        assert_eq!(fields.len(), 552);
        assert!(rig.data(1, WRITE, &fields).is_empty());
        assert_eq!(rig.peek(1, 512 * 512, 8192), stamp(0, 256 * 512, 8192));
        rig.untouched_but(1, 512 * 512, 8192);
        // RRTI of the write: SA 11h, 16 blocks, no token.
        let data = rig.data(1, INFORMATION, &[]);
        assert_eq!(data[..6], hex("00000020 11 01"));
        assert_eq!(data[15..24], hex("f1 0000000000000010"));
        assert_eq!(data[32..], hex("00000000"));
        // It is told once.
        assert_eq!(rig.refused(1, INFORMATION, &[]), (5, 0x24, 0));
    }
}

#[test]
fn others_have_no_tokens() {
    for personality in [
        Personality::lio(),
        Personality::scst(),
        Personality::comstar(),
    ] {
        let rig = Rig::new(personality);
        let fields = populate(0, 0, 0, &[(0, 8)]);
        assert_eq!(rig.refused(0, POPULATE, &fields), (5, 0x20, 0));
        assert_eq!(rig.refused(0, INFORMATION, &[]), (5, 0x20, 0));
    }
    let windows = Rig::new(Personality::windows());
    assert_eq!(
        windows.refused(0, "83 00 00000000 00000000 00000000 00 00", &[]),
        (5, 0x20, 0)
    );
}

#[test]
fn several_ranges_and_an_offset() {
    for personality in tokens_of() {
        let rig = Rig::new(personality);
        let token = token(&rig, &[(100, 8), (300, 24)]);
        // From block 4 on: 4 of the first range, 12 of the second, to two places.
        let fields = write(0, 4, &token, &[(50, 6), (70, 10)]);
        rig.data(1, &cdb(0x11, &fields), &fields);
        assert_eq!(rig.peek(1, 50 * 512, 4 * 512), stamp(0, 104 * 512, 4 * 512));
        assert_eq!(rig.peek(1, 54 * 512, 2 * 512), stamp(0, 300 * 512, 2 * 512));
        assert_eq!(
            rig.peek(1, 70 * 512, 10 * 512),
            stamp(0, 302 * 512, 10 * 512)
        );
        assert_eq!(rig.peek(1, 56 * 512, 512), stamp(1, 56 * 512, 512));
    }
}

/// OFFSET INTO ROD counts destination blocks in SBC-3, source blocks in CTL.
#[test]
fn the_offsets_unit() {
    for (personality, first) in [
        (Personality::array(), 128 + 16),
        (Personality::ctl(), 128 + 2),
    ] {
        let rig = Rig::new(personality);
        let token = token(&rig, &[(128, 64)]);
        let fields = write(0, 2, &token, &[(5, 1)]);
        rig.data(2, &cdb(0x11, &fields), &fields);
        assert_eq!(rig.peek(2, 5 * 4096, 4096), stamp(0, first * 512, 4096));
        rig.untouched_but(2, 5 * 4096, 4096);
    }
}

#[test]
fn past_the_end_of_the_rod() {
    let rig = Rig::new(Personality::array());
    let bytes = token(&rig, &[(0, 16)]);
    let fields = write(0, 8, &bytes, &[(0, 16)]);
    assert_eq!(rig.refused(1, &cdb(0x11, &fields), &fields), (5, 0x26, 0));
    rig.untouched_but(1, 0, 0);
    // CTL writes what there is.
    let rig = Rig::new(Personality::ctl());
    let bytes = token(&rig, &[(0, 16)]);
    let fields = write(0, 8, &bytes, &[(0, 16)]);
    assert_eq!(rig.refused(1, &cdb(0x11, &fields), &fields), (5, 0x26, 0));
    assert_eq!(rig.peek(1, 0, 4096), stamp(0, 4096, 4096));
    rig.untouched_but(1, 0, 4096);
    // Status 02h with that sense, eight blocks.
    let data = rig.data(1, INFORMATION, &[]);
    assert_eq!((data[5], data[12], data[13]), (2, 2, 18));
    assert_eq!(data[16..24], hex("0000000000000008"));
    assert_eq!(
        data[32..50],
        hex("70 00 05 00000000 0a 00000000 26 00 00 000000")
    );
}

#[test]
fn what_a_changed_source_shows() {
    // CTL's token is a reference, the array's a point in time.
    for (personality, shows) in [(Personality::ctl(), 9), (Personality::array(), 0)] {
        let rig = Rig::new(personality);
        let token = token(&rig, &[(0, 8)]);
        rig.manager.poke(0, 0, &stamp(9, 0, 4096));
        let fields = write(0, 0, &token, &[(0, 8)]);
        rig.data(1, &cdb(0x11, &fields), &fields);
        assert_eq!(rig.peek(1, 0, 4096), stamp(shows, 0, 4096));
    }
}

#[test]
fn zero_token() {
    for personality in tokens_of() {
        let ctl = personality.name == "ctl";
        let rig = Rig::new(personality);
        let mut zero = hex("ffff0001 0000 01f8");
        zero.resize(512, 0);
        let fields = write(0, 0, &zero, &[(10, 6), (30, 200)]);
        rig.data(1, &cdb(0x11, &fields), &fields);
        assert_eq!(rig.peek(1, 10 * 512, 6 * 512), vec![0; 6 * 512]);
        assert_eq!(rig.peek(1, 30 * 512, 200 * 512), vec![0; 200 * 512]);
        assert_eq!(
            rig.peek(1, 16 * 512, 14 * 512),
            stamp(1, 16 * 512, 14 * 512)
        );
        rig.untouched_but(1, 10 * 512, 220 * 512);
        // CTL looks at the type alone.
        zero[6..8].fill(0);
        let fields = write(0, 0, &zero, &[(10, 6)]);
        let reply = rig.go(1, &cdb(0x11, &fields), &fields);
        assert_eq!(
            reply.codes(),
            if ctl { None } else { Some((5, 0x23, 0x0A)) }
        );
    }
    let rig = Rig::new(Personality::array());
    rig.manager
        .change(|p| p.tokens.as_mut().unwrap().zero_token = false);
    let mut zero = hex("ffff0001 0000 01f8");
    zero.resize(512, 0);
    let fields = write(0, 0, &zero, &[(10, 6)]);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x01)
    );
}

#[test]
fn limits_of_populate() {
    let rig = Rig::new(Personality::array());
    let refused = |fields: &[u8]| rig.refused(0, &cdb(0x10, fields), fields);
    // Over 8 MiB; nine ranges; overlapping; beyond the end; timeout over 120 s.
    assert_eq!(
        refused(&populate(0, 0, 0, &[(0, 16384), (16384, 1)])),
        (5, 0x26, 0)
    );
    let nine: Vec<(u64, u32)> = (0..9).map(|n| (n * 8, 8)).collect();
    assert_eq!(refused(&populate(0, 0, 0, &nine)), (5, 0x26, 0x08));
    assert_eq!(refused(&populate(0, 0, 0, &[(0, 8), (7, 8)])), (5, 0x26, 0));
    assert_eq!(refused(&populate(0, 0, 0, &[(32760, 9)])), (5, 0x21, 0));
    assert_eq!(refused(&populate(0, 0, 0, &[(u64::MAX, 9)])), (5, 0x21, 0));
    let fields = populate(0, 121, 0, &[(0, 8)]);
    let reply = rig.go(0, &cdb(0x10, &fields), &fields);
    assert_eq!(
        reply.sense,
        hex("72 05 26 00 00000008 02 06 0000 80 0004 00")
    );
    // RTV with a type that is not made: byte 8.
    let fields = populate(2, 0, 0x0001_0000, &[(0, 8)]);
    let reply = rig.go(0, &cdb(0x10, &fields), &fields);
    assert_eq!(
        reply.sense,
        hex("72 05 26 00 00000008 02 06 0000 80 0008 00")
    );
    rig.data(
        0,
        &cdb(0x10, &fields),
        &populate(2, 0, 0x0080_0002, &[(0, 8)]),
    );
    assert_eq!(rig.data(0, INFORMATION, &[])[38..42], hex("00800002"));
    // Lengths that do not agree.
    let mut fields = populate(0, 0, 0, &[(0, 8)]);
    fields[15] = 32;
    assert_eq!(refused(&fields), (5, 0x26, 0));
    fields[1] = 14;
    assert_eq!(refused(&fields), (5, 0x26, 0));
    assert_eq!(refused(&fields[..10]), (5, 0x1A, 0));
    assert_eq!(rig.manager.live_tokens(), 1);
    let ctl = Rig::new(Personality::ctl());
    // Without RTV the type is not looked at; with it only 00010000h.
    let fields = populate(0, 0, 0x0080_0000, &[(0, 8)]);
    ctl.data(0, &cdb(0x10, &fields), &fields);
    let fields = populate(2, 0, 0x0080_0000, &[(0, 8)]);
    assert_eq!(ctl.refused(0, &cdb(0x10, &fields), &fields), (5, 0x26, 0));
    let fields = populate(0, 601, 0, &[(0, 8)]);
    assert_eq!(ctl.refused(0, &cdb(0x10, &fields), &fields), (5, 0x26, 0));
}

#[test]
fn a_token_dies_of_idleness() {
    for (personality, seconds, codes) in [
        (Personality::array(), 30, (5, 0x23, 0x07)),
        (Personality::ctl(), 60, (5, 0x23, 0x04)),
    ] {
        let rig = Rig::new(personality);
        let bytes = token(&rig, &[(0, 8)]);
        let fields = write(0, 0, &bytes, &[(0, 8)]);
        // Use renews it.
        for _ in 0..3 {
            rig.wait(seconds * 1000 - 500);
            rig.data(1, &cdb(0x11, &fields), &fields);
        }
        rig.wait(seconds * 1000 + 500);
        assert_eq!(rig.refused(1, &cdb(0x11, &fields), &fields), codes);
        assert_eq!(rig.manager.live_tokens(), 0);
    }
    // The time asked for counts.
    let rig = Rig::new(Personality::array());
    let fields = populate(0, 5, 0, &[(0, 8)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    let bytes = rig.data(0, INFORMATION, &[])[38..].to_vec();
    rig.wait(6000);
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x07)
    );
}

#[test]
fn what_became_of_it() {
    for (fate, ascq) in [
        (TokenFate::Unknown, 0x04),
        (TokenFate::Revoked, 0x06),
        (TokenFate::Expired, 0x07),
        (TokenFate::Cancelled, 0x08),
        (TokenFate::Deleted, 0x09),
    ] {
        let rig = Rig::new(Personality::array());
        let bytes = token(&rig, &[(0, 8)]);
        rig.manager.end_tokens(fate);
        let fields = write(0, 0, &bytes, &[(0, 8)]);
        assert_eq!(
            rig.refused(1, &cdb(0x11, &fields), &fields),
            (5, 0x23, ascq)
        );
    }
}

#[test]
fn delete_damage_and_strangers() {
    let rig = Rig::new(Personality::array());
    let bytes = token(&rig, &[(0, 8)]);
    let mut damaged = bytes.clone();
    damaged[400] ^= 1;
    let fields = write(0, 0, &damaged, &[(0, 8)]);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x05)
    );
    damaged[7] = 0xF7;
    let fields = write(0, 0, &damaged, &[(0, 8)]);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x0A)
    );
    let stranger = Rig::new(Personality::array());
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    assert_eq!(
        stranger.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x02)
    );
    // DEL_TKN: this write, and no other.
    let fields = write(2, 0, &bytes, &[(0, 8)]);
    rig.data(1, &cdb(0x11, &fields), &fields);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x09)
    );
    rig.untouched_but(1, 0, 4096);
    // CTL knows one answer for all.
    let rig = Rig::new(Personality::ctl());
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x04)
    );
}

/// SPC-4 6.30: 96 bytes of each.
#[test]
fn all_tokens() {
    let cdb = "84 08 00000000 00000000 00001000 00 00";
    let rig = Rig::new(Personality::ctl());
    assert_eq!(rig.data(0, cdb, &[]), hex("00000004 00000000"));
    let (a, b) = (token(&rig, &[(0, 8)]), token(&rig, &[(8, 8)]));
    let data = rig.data(0, cdb, &[]);
    assert_eq!(data[..8], hex("000000c4 00000000"));
    assert_eq!((&data[8..104], &data[104..]), (&a[..96], &b[..96]));
}

#[test]
fn another_initiator_may_write_it_but_not_ask_for_it() {
    let rig = Rig::new(Personality::array());
    let other = rig.manager.nexus("other");
    for unit in 0..2 {
        rig.manager
            .execute(other, unit, &hex("00 00 00 00 00 00"), &[]);
    }
    let fields = populate(0, 0, 0, &[(0, 8)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    let reply = rig.manager.execute(other, 0, &hex(INFORMATION), &[]);
    assert_eq!(reply.codes(), Some((5, 0x24, 0)));
    let bytes = rig.data(0, INFORMATION, &[])[38..].to_vec();
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    assert!(
        rig.manager
            .execute(other, 1, &hex(&cdb(0x11, &fields)), &fields)
            .good()
    );
    // Its maker's nexus is lost: cancelled.
    rig.manager.lose_nexus(rig.nexus);
    let reply = rig
        .manager
        .execute(other, 1, &hex(&cdb(0x11, &fields)), &fields);
    assert_eq!(reply.codes(), Some((5, 0x23, 0x08)));
}

#[test]
fn a_short_answer_ends_it_too() {
    let rig = Rig::new(Personality::ctl());
    let fields = populate(0, 0, 0, &[(0, 8)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    let short = rig.data(0, "84 07 01020304 00000000 00000020 00 00", &[]);
    assert_eq!(short.len(), 32);
    assert_eq!(rig.refused(0, INFORMATION, &[]), (5, 0x24, 0));
}

/// A gibibyte costs what was written, and its copy nothing more.
#[test]
fn large_disks_are_cheap() {
    let manager = CopyManager::new(Personality::ctl());
    let big = manager.add_disk(DiskOptions::new(512, 1 << 40));
    let other = manager.add_disk(DiskOptions::new(512, 1 << 40));
    let nexus = manager.nexus("tests");
    for unit in [big, other] {
        manager.execute(nexus, unit, &[0; 6], &[]);
    }
    manager.poke(big, 1 << 39, &stamp(3, 0, MIB));
    let fields = populate(0, 0, 0, &[((1 << 30) - 2048, 1 << 22)]);
    assert!(
        manager
            .execute(nexus, big, &hex(&cdb(0x10, &fields)), &fields)
            .good()
    );
    let data = manager.execute(nexus, big, &hex(INFORMATION), &[]).data;
    let fields = write(0, 0, &data[38..], &[(0, 1 << 22)]);
    assert!(
        manager
            .execute(nexus, other, &hex(&cdb(0x11, &fields)), &fields)
            .good()
    );
    let mut back = vec![1; 3 << 20];
    manager.peek(other, 0, &mut back);
    assert!(back[..1 << 20].iter().all(|byte| *byte == 0));
    assert!(back[1 << 20..2 << 20] == stamp(3, 0, MIB));
    assert!(back[2 << 20..].iter().all(|byte| *byte == 0));
    assert_eq!(ID, 0x0102_0304);
}
