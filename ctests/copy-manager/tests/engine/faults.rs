//! Every fault, and every row of the sense table.

use copy_manager::fault::TokenFate;
use copy_manager::{Effect, Kind, Personality, Refusal, TransportError, When};

use crate::lid1::{self, blocks, naa_cscd};
use crate::rig::{Rig, hex, stamp};
use crate::tokens::{self, INFORMATION, cdb, populate, token, write};

fn copy(rig: &Rig) -> copy_manager::Reply {
    let fields = lid1::list(
        "07 10",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 64, 0, 0)],
    );
    rig.go(1, &lid1::cdb(&fields), &fields)
}

/// All sense codes of the table, on EXTENDED COPY, in both formats: key, ASC, ASCQ.
#[test]
fn any_sense() {
    let rows = [
        (5, 0x20, 0x00),
        (5, 0x24, 0x00),
        (5, 0x00, 0x16),
        (0xA, 0x0D, 0x00),
        (0xA, 0x0D, 0x01),
        (0xA, 0x0D, 0x02),
        (0xA, 0x08, 0x04),
        (0xA, 0x0D, 0x03),
        (0xA, 0x0D, 0x04),
        (0xA, 0x0D, 0x05),
        (5, 0x1A, 0x00),
        (5, 0x26, 0x00),
        (5, 0x26, 0x06),
        (5, 0x26, 0x08),
        (5, 0x26, 0x07),
        (5, 0x26, 0x09),
        (0xA, 0x26, 0x0A),
        (5, 0x26, 0x0B),
        (0xA, 0x26, 0x0C),
        (0xA, 0x26, 0x0D),
        (5, 0x26, 0x15),
        (5, 0x55, 0x03),
        (5, 0x55, 0x0C),
        (5, 0x55, 0x0D),
        (7, 0x27, 0x07),
        (7, 0x27, 0x00),
        (5, 0x21, 0x00),
        (6, 0x29, 0x00),
        (6, 0x2A, 0x09),
        (6, 0x3F, 0x0E),
        (2, 0x04, 0x01),
        (2, 0x08, 0x00),
    ];
    for personality in [Personality::ctl(), Personality::array()] {
        let rig = Rig::new(personality);
        for (key, asc, ascq) in rows {
            rig.manager.clear_faults();
            let answer = Effect::Answer(Refusal::check(key, asc, ascq));
            rig.manager
                .set_fault(Kind::ExtendedCopyLid1, When::First(1), answer.clone());
            let reply = copy(&rig);
            assert_eq!((reply.status, reply.codes()), (2, Some((key, asc, ascq))));
            rig.untouched_but(1, 0, 0);
            let entry = rig.manager.trace().pop().unwrap();
            assert_eq!((entry.effect, entry.status), (Some(answer), Some(2)));
        }
        assert!(copy(&rig).good());
        assert_eq!(rig.manager.fault_hits(), rows.len() as u64);
    }
}

#[test]
fn other_statuses_and_none() {
    let rig = Rig::new(Personality::ctl());
    for status in [0x08, 0x18, 0x28, 0x40] {
        rig.manager.set_fault(
            Kind::ExtendedCopyLid1,
            When::First(1),
            Effect::Answer(Refusal::Status(status)),
        );
        let reply = copy(&rig);
        assert_eq!((reply.status, reply.sense.len()), (status, 0));
        rig.manager.clear_faults();
    }
    rig.untouched_but(1, 0, 0);
    let timeout = Refusal::Transport(TransportError::TimedOut);
    rig.manager.set_fault(
        Kind::ExtendedCopyLid1,
        When::Nth(1),
        Effect::Answer(timeout.clone()),
    );
    rig.manager.set_fault(
        Kind::ExtendedCopyLid1,
        When::Nth(2),
        Effect::AnswerAfter(timeout),
    );
    let reply = copy(&rig);
    assert_eq!(
        (reply.transport, reply.good()),
        (Some(TransportError::TimedOut), false)
    );
    assert_eq!(TransportError::TimedOut.host_byte(), 3);
    rig.untouched_but(1, 0, 0);
    // The copy was made, and its status never came.
    assert!(copy(&rig).transport.is_some());
    assert_eq!(rig.peek(1, 0, 64 * 512), stamp(0, 0, 64 * 512));
    assert_eq!(rig.manager.trace().pop().unwrap().status, None);
}

#[test]
fn in_the_middle() {
    let rig = Rig::new(Personality::ctl());
    let within = Effect::AnswerWithin(10 * 512 + 100, Refusal::check(0xA, 0x0D, 0x02));
    rig.manager
        .set_fault(Kind::ExtendedCopyLid1, When::Nth(1), within);
    assert_eq!(copy(&rig).codes(), Some((0xA, 0x0D, 0x02)));
    assert_eq!(rig.peek(1, 0, 5120), stamp(0, 0, 5120));
    rig.untouched_but(1, 0, 5120);
    // Beyond its length it comes at the end.
    let within = Effect::AnswerWithin(1 << 30, Refusal::Status(0x40));
    rig.manager
        .set_fault(Kind::ExtendedCopyLid1, When::Nth(1), within);
    assert_eq!(copy(&rig).status, 0x40);
    assert_eq!(rig.peek(1, 0, 64 * 512), stamp(0, 0, 64 * 512));
    let half = Effect::AnswerWithin(512, Refusal::check(0xB, 0x4B, 0));
    rig.manager.set_fault(Kind::Write, When::Nth(1), half);
    let reply = rig.go(1, "2a 00 00000064 00 0002 00", &[5; 1024]);
    assert_eq!(reply.codes(), Some((0xB, 0x4B, 0)));
    assert_eq!(rig.peek(1, 100 * 512, 512), [5; 512]);
    assert_eq!(rig.peek(1, 101 * 512, 512), stamp(1, 101 * 512, 512));
}

#[test]
fn tokens_that_are_no_more() {
    for (fate, ascq) in [
        (TokenFate::Unknown, 0x04),
        (TokenFate::Revoked, 0x06),
        (TokenFate::Expired, 0x07),
        (TokenFate::Cancelled, 0x08),
        (TokenFate::Deleted, 0x09),
    ] {
        for personality in [Personality::ctl(), Personality::array()] {
            let rig = Rig::new(personality);
            let bytes = token(&rig, &[(0, 8)]);
            rig.manager
                .set_fault(Kind::WriteUsingToken, When::Nth(2), Effect::Token(fate));
            let fields = write(0, 0, &bytes, &[(0, 8)]);
            rig.data(1, &cdb(0x11, &fields), &fields);
            assert_eq!(
                rig.refused(1, &cdb(0x11, &fields), &fields),
                (5, 0x23, ascq)
            );
            // It stays so.
            assert_eq!(rig.refused(1, &cdb(0x11, &fields), &fields).1, 0x23);
            assert_eq!(rig.manager.live_tokens(), 0);
        }
    }
}

#[test]
fn list_identifier_busy() {
    let fields = populate(0, 0, 0, &[(0, 8)]);
    let rig = Rig::new(Personality::array());
    rig.manager
        .set_fault(Kind::PopulateToken, When::First(2), Effect::ListIdBusy);
    assert_eq!(
        rig.refused(0, &cdb(0x10, &fields), &fields),
        (5, 0x00, 0x16)
    );
    assert_eq!(
        rig.refused(0, &cdb(0x10, &fields), &fields),
        (5, 0x00, 0x16)
    );
    rig.data(0, &cdb(0x10, &fields), &fields);
    let rig = Rig::new(Personality::ctl());
    rig.manager
        .set_fault(Kind::PopulateToken, When::First(1), Effect::ListIdBusy);
    let reply = rig.go(0, &cdb(0x10, &fields), &fields);
    assert_eq!(
        reply.sense,
        hex("70 00 05 00000000 0a 00000000 26 00 00 800000")
    );
}

#[test]
fn lost_status() {
    for personality in [Personality::ctl(), Personality::array()] {
        let rig = Rig::new(personality);
        let fields = populate(0, 0, 0, &[(0, 8)]);
        // By the command that it is the status of, and by the one that asks.
        rig.manager
            .set_fault(Kind::PopulateToken, When::Nth(1), Effect::LoseStatus);
        rig.data(0, &cdb(0x10, &fields), &fields);
        assert_eq!(rig.refused(0, INFORMATION, &[]), (5, 0x24, 0));
        rig.manager
            .set_fault(Kind::RodTokenInformation, When::Nth(1), Effect::LoseStatus);
        rig.data(0, &cdb(0x10, &fields), &fields);
        assert_eq!(rig.refused(0, INFORMATION, &[]), (5, 0x24, 0));
        rig.data(0, &cdb(0x10, &fields), &fields);
        assert_eq!(rig.data(0, INFORMATION, &[])[5], 1);
    }
}

#[test]
fn in_progress_for_ever() {
    let rig = Rig::new(Personality::array());
    for flags in [0, 1] {
        rig.manager
            .set_fault(Kind::PopulateToken, When::Nth(1), Effect::NeverEnds);
        let fields = populate(flags, 0, 0, &[(0, 8)]);
        rig.data(0, &cdb(0x10, &fields), &fields);
        for _ in 0..3 {
            rig.wait(60_000);
            let data = rig.data(0, INFORMATION, &[]);
            // 12h, advice of 2 ms, no token.
            assert_eq!((data[5], &data[8..12]), (0x12, &hex("00000002")[..]));
            assert_eq!(data[32..], hex("00000000"));
        }
        assert_eq!(rig.refused(0, &cdb(0x10, &fields), &fields), (5, 0, 0x16));
        rig.data(0, "83 1c 01020304 00 00 00 00 00 00 00 00 00 00", &[]);
        assert_eq!(rig.data(0, INFORMATION, &[])[5], 0x60);
        rig.manager.clear_faults();
    }
}

#[test]
fn short_transfers() {
    let rig = Rig::new(Personality::array());
    // A token of less: 03h, five blocks, and the token knows.
    rig.manager
        .set_fault(Kind::PopulateToken, When::Nth(1), Effect::Short(5 * 512));
    let fields = populate(0, 0, 0, &[(0, 4), (16, 4)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    let data = rig.data(0, INFORMATION, &[]);
    assert_eq!((data[5], &data[16..24]), (3, &hex("0000000000000005")[..]));
    let token = &data[38..];
    assert_eq!(token[56..64], hex("0000000000000a00"));
    let fields = write(0, 0, token, &[(0, 8)]);
    assert_eq!(rig.refused(1, &cdb(0x11, &fields), &fields), (5, 0x26, 0));
    // A write of less.
    rig.manager
        .set_fault(Kind::WriteUsingToken, When::Nth(1), Effect::Short(3 * 512));
    let fields = write(0, 0, token, &[(0, 5)]);
    rig.data(1, &cdb(0x11, &fields), &fields);
    let data = rig.data(1, INFORMATION, &[]);
    assert_eq!(
        (data[5], &data[15..24]),
        (3, &hex("f1 0000000000000003")[..])
    );
    assert_eq!(rig.peek(1, 0, 3 * 512), stamp(0, 0, 3 * 512));
    rig.untouched_but(1, 0, 3 * 512);
    // LID1 has no words for it: underrun.
    rig.manager
        .set_fault(Kind::ExtendedCopyLid1, When::Nth(1), Effect::Short(512));
    assert_eq!(copy(&rig).codes(), Some((0xA, 0x0D, 0x04)));
    // All was written, and less is told.
    let fields = write(0, 0, token, &[(0, 5)]);
    rig.data(1, &cdb(0x11, &fields), &fields);
    rig.manager
        .set_fault(Kind::RodTokenInformation, When::Nth(1), Effect::Short(1024));
    assert_eq!(
        rig.data(1, INFORMATION, &[])[15..24],
        hex("f1 0000000000000002")
    );
}

#[test]
fn the_other_units() {
    let rig = Rig::new(Personality::ctl());
    rig.manager
        .set_fault(Kind::RodTokenInformation, When::Nth(1), Effect::OtherUnits);
    let fields = populate(0, 0, 0, &[(0, 16)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    assert_eq!(
        rig.data(0, INFORMATION, &[])[15..24],
        hex("00 0000000000002000")
    );
    // RECEIVE COPY STATUS (LID4) counts bytes, or blocks then.
    rig.manager
        .set_fault(Kind::CopyStatusLid4, When::Nth(2), Effect::OtherUnits);
    let status = "84 05 01020304 00000000 00000400 00 00";
    rig.data(0, &cdb(0x10, &fields), &fields);
    assert_eq!(rig.data(0, status, &[])[15..24], hex("00 0000000000002000"));
    rig.data(0, &cdb(0x10, &fields), &fields);
    assert_eq!(rig.data(0, status, &[])[15..24], hex("f1 0000000000000010"));
}

#[test]
fn granularity_and_resources() {
    let rig = Rig::new(Personality::ctl());
    rig.manager
        .set_fault(Kind::ExtendedCopyLid1, When::Nth(1), Effect::Granularity);
    rig.manager
        .set_fault(Kind::ExtendedCopyLid1, When::Nth(2), Effect::NoResources);
    assert_eq!(copy(&rig).codes(), Some((0xA, 0x26, 0x0D)));
    assert_eq!(copy(&rig).codes(), Some((5, 0x55, 0x0C)));
    assert!(copy(&rig).good());
    rig.manager
        .set_fault(Kind::PopulateToken, When::Every(2), Effect::NoResources);
    let fields = populate(0, 0, 0, &[(0, 8)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    assert_eq!(
        rig.refused(0, &cdb(0x10, &fields), &fields),
        (5, 0x55, 0x0D)
    );
    assert_eq!(rig.manager.live_tokens(), 1);
}

#[test]
fn nexus_loss() {
    let rig = Rig::new(Personality::array());
    let bytes = token(&rig, &[(0, 8)]);
    let fields = populate(0, 0, 0, &[(0, 8)]);
    rig.data(0, &cdb(0x10, &fields), &fields);
    rig.manager
        .set_fault(Kind::WriteUsingToken, When::Nth(1), Effect::NexusLoss);
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    // I_T NEXUS LOSS OCCURRED, on the other units as well.
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (6, 0x29, 0x07)
    );
    assert_eq!(rig.refused(0, "00 00 00 00 00 00", &[]), (6, 0x29, 0x07));
    assert_eq!(rig.refused(0, INFORMATION, &[]), (5, 0x24, 0));
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x08)
    );
    rig.untouched_but(1, 0, 0);
    assert_eq!(rig.manager.live_tokens(), 0);
    // A reset of the unit does it too.
    let bytes = token(&rig, &[(0, 8)]);
    rig.manager.reset_unit(0);
    assert_eq!(rig.refused(0, "00 00 00 00 00 00", &[]), (6, 0x29, 0x03));
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    assert_eq!(
        rig.refused(1, &cdb(0x11, &fields), &fields),
        (5, 0x23, 0x08)
    );
}

#[test]
fn lies() {
    let rig = Rig::new(Personality::ctl());
    rig.manager
        .set_fault(Kind::ExtendedCopyLid1, When::Nth(1), Effect::Lie);
    assert!(copy(&rig).good());
    rig.untouched_but(1, 0, 0);
    assert!(copy(&rig).good());
    assert_eq!(rig.peek(1, 0, 512), stamp(0, 0, 512));
    let liar = Rig::new(Personality::liar());
    assert!(copy(&liar).good());
    let bytes = token(&liar, &[(0, 8)]);
    let fields = write(0, 0, &bytes, &[(0, 8)]);
    liar.data(1, &cdb(0x11, &fields), &fields);
    let data = liar.data(1, INFORMATION, &[]);
    assert_eq!(
        (data[5], &data[15..24]),
        (1, &hex("f1 0000000000000008")[..])
    );
    liar.untouched_but(1, 0, 0);
    // What the host writes itself is written.
    liar.data(1, "2a 00 00000000 00 0001 00", &[3; 512]);
    assert_eq!(liar.peek(1, 0, 512), [3; 512]);
    assert_eq!(tokens::ID, 0x0102_0304);
}
