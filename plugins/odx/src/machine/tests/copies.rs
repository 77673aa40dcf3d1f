//! Copies, tokens and zeroes: partial ones, forgotten tokens, offsets.

use super::target::Answer::Sense;
use super::target::*;
use crate::machine::{Piece, Wanted, Why, copy, create, foreign, release, write};
use crate::wire::Token;

const MIB: u64 = 1 << 20;

fn piece(src: u64, dst: u64, length: u64) -> Piece {
    Piece { src, dst, length }
}

/// Ranges of a parameter list, with the token's name and OFFSET INTO ROD of WUT.
fn ranges(list: &[u8], header: usize) -> Vec<(u64, u32)> {
    list[header..]
        .chunks(16)
        .map(|range| {
            let lba = u64::from_be_bytes(*range.first_chunk().expect("eight"));
            let blocks = u32::from_be_bytes(*range[8..].first_chunk().expect("four"));
            (lba, blocks)
        })
        .collect()
}

#[test]
fn several_ranges_are_one_token() {
    let clock = Ticks::default();
    let src = Target::new(&clock, [ok(), made(6, 1)]);
    let dst = Target::new(&clock, [ok(), state(0x01, 6, 0)]);
    let pieces = [piece(0, 4096, 1024), piece(8192, 512, 2048)];
    let transferred = copy(&src.site(), &dst.site(), terms(&clock), &pieces);
    assert_eq!(
        (transferred.done, transferred.fault.is_none()),
        (3072, true)
    );
    let populate = &src.seen.borrow()[0].parameters;
    assert_eq!(ranges(populate, 16), [(0, 2), (16, 4)]);
    let using = &dst.seen.borrow()[0].parameters;
    assert_eq!(ranges(using, 536), [(8, 2), (1, 4)]);
    assert_eq!(
        (using[2], using[16 + 200]),
        (2, 1),
        "DEL_TKN, and the token"
    );
}

#[test]
fn sources_that_overlap_need_a_token_each() {
    let clock = Ticks::default();
    let src = Target::new(&clock, [ok(), made(4, 1), ok(), made(4, 2)]);
    let dst = Target::new(&clock, [ok(), state(1, 4, 0), ok(), state(1, 4, 0)]);
    let pieces = [piece(0, 4096, 2048), piece(1024, 65_536, 2048)];
    let transferred = copy(&src.site(), &dst.site(), terms(&clock), &pieces);
    assert_eq!(
        (transferred.done, transferred.fault.is_none()),
        (4096, true)
    );
    assert_eq!(src.actions(), [PT, RRTI, PT, RRTI]);
}

#[test]
fn a_forgotten_token_is_made_again_from_the_first_unwritten_byte() {
    for ascq in [0x04, 0x06, 0x07, 0x08, 0x09] {
        let clock = Ticks::default();
        let src = Target::new(
            &clock,
            [
                ok(),
                made(2048, 1),
                ok(),
                made(1024, 2),
                ok(),
                made(1024, 3),
            ],
        );
        let dst = Target::new(
            &clock,
            [
                ok(),
                state(0x03, 1024, 0), // half of it
                Sense(5, 0x23, ascq),
                Sense(5, 0x24, 0), // nothing is held of the refused one
                ok(),
                state(0x01, 1024, 0),
            ],
        );
        let whole = [piece(MIB, 0, MIB)];
        let transferred = copy(&src.site(), &dst.site(), terms(&clock), &whole);
        assert_eq!((transferred.done, transferred.fault.is_none()), (MIB, true));
        let seen = src.seen.borrow();
        assert_eq!(ranges(&seen[0].parameters, 16), [(2048, 2048)]);
        assert_eq!(ranges(&seen[2].parameters, 16), [(3072, 1024)]);
        assert_eq!(ranges(&seen[4].parameters, 16), [(3072, 1024)]);
        let seen = dst.seen.borrow();
        assert_eq!(ranges(&seen[4].parameters, 536), [(1024, 1024)]);
        assert_eq!(seen[4].parameters[16 + 200], 3, "the last token");
    }
}

#[test]
fn tokens_are_not_made_for_ever() {
    let clock = Ticks::default();
    let mut src = Target::new(&clock, []);
    src.rest = Box::new(|action, _| match action {
        RRTI => made(2048, 1),
        _ => ok(),
    });
    let mut dst = Target::new(&clock, []);
    dst.rest = Box::new(|action, _| match action {
        RRTI => Sense(5, 0x24, 0),
        _ => Sense(5, 0x23, 0x07),
    });
    let transferred = copy(&src.site(), &dst.site(), terms(&clock), &[piece(0, 0, MIB)]);
    let (fault, on_source) = transferred.fault.expect("a fault");
    assert!(fault.refusal().is_some_and(|r| r.is_token_gone()) && !on_source);
    let tokens = src.actions().iter().filter(|a| **a == PT).count();
    assert_eq!((transferred.done, tokens), (0, 5));
}

#[test]
fn a_lost_status_is_copied_again() {
    let clock = Ticks::default();
    let src = Target::new(
        &clock,
        [
            ok(),
            made(2048, 1),
            // The first token is given back: it is gone.
            Sense(5, 0x23, 0x09),
            Sense(5, 0x24, 0),
            ok(),
            made(2048, 2),
        ],
    );
    let dst = Target::new(
        &clock,
        [ok(), Sense(5, 0x24, 0), ok(), state(0x01, 2048, 0)],
    );
    let transferred = copy(&src.site(), &dst.site(), terms(&clock), &[piece(0, 0, MIB)]);
    assert_eq!((transferred.done, transferred.fault.is_none()), (MIB, true));
    let seen = dst.seen.borrow();
    assert_eq!(ranges(&seen[2].parameters, 536), [(0, 2048)]);
}

#[test]
fn short_ends_go_on_and_nothing_is_given_up_early() {
    let clock = Ticks::default();
    let mut src = Target::new(&clock, []);
    src.rest = Box::new(|action, seen| match (action, &seen.parameters) {
        (RRTI, _) => state(0x01, 0, 0), // of the release
        _ => ok(),
    });
    // One that writes nothing and calls it success.
    let left = std::cell::Cell::new(2u32);
    src.rest = Box::new(move |action, _| match action {
        RRTI => {
            left.set(left.get().wrapping_sub(1));
            if left.get() == 1 {
                made(2048, 1)
            } else {
                state(0x01, 0, 0)
            }
        }
        _ => ok(),
    });
    let dst = Target::new(&clock, [ok(), state(0x01, 0, 0)]);
    let transferred = copy(&src.site(), &dst.site(), terms(&clock), &[piece(0, 0, MIB)]);
    assert_eq!(transferred.done, 0);
    assert_eq!(transferred.fault.expect("a fault").0.why, Why::Short);
    // The token that was not used is given back, with no blocks to write.
    let seen = src.seen.borrow();
    assert_eq!(seen[2].action, WUT);
    assert_eq!(
        (seen[2].parameters[2], ranges(&seen[2].parameters, 536)),
        (2, vec![(0, 0)])
    );
}

#[test]
fn a_failed_copy_gives_its_token_back_and_claims_nothing() {
    let clock = Ticks::default();
    let src = Target::new(&clock, [ok(), made(2048, 1), ok(), state(0x01, 0, 0)]);
    let dst = Target::new(
        &clock,
        [ok(), state(0x02, 1024, 0)], // errors, with a count that proves nothing
    );
    let transferred = copy(&src.site(), &dst.site(), terms(&clock), &[piece(0, 0, MIB)]);
    assert_eq!(transferred.done, 0);
    assert_eq!(src.actions(), [PT, RRTI, WUT, RRTI]);
}

#[test]
fn a_token_for_less_is_refused_and_given_back() {
    let clock = Ticks::default();
    let src = Target::new(&clock, [ok(), made(1024, 1), ok(), state(0x01, 0, 0)]);
    let fault = create(&src.site(), terms(&clock), 0, MIB, Wanted::default());
    assert_eq!(fault.expect_err("a fault").why, Why::Short);
    assert_eq!(src.actions(), [PT, RRTI, WUT, RRTI]);
}

#[test]
fn what_is_wanted_of_a_token_is_asked_for() {
    let clock = Ticks::default();
    let src = Target::new(&clock, [ok(), made(2048, 1)]);
    let wanted = Wanted {
        rod_type: Some(0x0080_0000),
        inactivity_s: 300,
    };
    create(&src.site(), terms(&clock), 0, MIB, wanted).expect("a token");
    let seen = src.seen.borrow();
    assert_eq!(seen[0].parameters[2], 2, "RTV");
    assert_eq!(seen[0].parameters[4..12], [0, 0, 1, 0x2c, 0, 0x80, 0, 0]);
}

#[test]
fn a_token_is_written_from_an_offset() {
    let clock = Ticks::default();
    let token = Token::new(&token_bytes(9, MIB)).expect("a token");
    let dst = Target::new(&clock, [ok(), state(0x03, 4, 0), ok(), state(0x01, 4, 0)]);
    let transferred = write(&dst.site(), terms(&clock), &token, 4096, 65_536, 4096);
    assert_eq!(
        (transferred.done, transferred.fault.is_none()),
        (4096, true)
    );
    let seen = dst.seen.borrow();
    let offset = |at: usize| seen[at].parameters[8..16].to_vec();
    assert_eq!(
        (offset(0), offset(2)),
        (8u64.to_be_bytes().to_vec(), 12u64.to_be_bytes().to_vec())
    );
    assert_eq!(ranges(&seen[2].parameters, 536), [(132, 4)]);
    assert_eq!(seen[0].parameters[2], 0, "kept for others");
}

#[test]
fn an_offset_is_not_said_in_blocks_of_two_sizes() {
    let clock = Ticks::default();
    let token = Token::new(&token_bytes(9, MIB)).expect("a token");
    let mut dst = Target::new(&clock, [ok(), state(0x01, 1, 0)]);
    dst.block = 4096;
    let transferred = write(&dst.site(), terms(&clock), &token, 0, 0, 4096);
    assert_eq!(
        (transferred.done, transferred.fault.is_none()),
        (4096, true)
    );
    let fault = write(&dst.site(), terms(&clock), &token, 4096, 0, 4096).fault;
    assert_eq!(fault.expect("a fault").0.why, Why::Offset);
}

#[test]
fn a_release_writes_nothing() {
    let clock = Ticks::default();
    let token = Token::new(&token_bytes(9, MIB)).expect("a token");
    let target = Target::new(&clock, [ok(), state(0x01, 0, 0)]);
    release(&target.site(), terms(&clock), &token).expect("released");
    assert_eq!(ranges(&target.seen.borrow()[0].parameters, 536), [(0, 0)]);
    // Gone already: as good.
    let target = Target::new(&clock, [Sense(5, 0x23, 0x09), Sense(5, 0x24, 0)]);
    release(&target.site(), terms(&clock), &token).expect("released");
}

#[test]
fn another_copy_manager_is_found_out_without_a_write() {
    for ascq in [0x02, 0x03, 0x04] {
        let clock = Ticks::default();
        let src = Target::new(&clock, [ok(), made(1, 1), ok(), state(0x01, 0, 0)]);
        let dst = Target::new(&clock, [Sense(5, 0x23, ascq), Sense(5, 0x24, 0)]);
        let refusal = foreign(&src.site(), &dst.site(), terms(&clock)).expect("an answer");
        assert_eq!(refusal.expect("a refusal").code(), Some((5, 0x23, ascq)));
        assert_eq!(ranges(&dst.seen.borrow()[0].parameters, 536), [(0, 0)]);
    }
    // A token that was revoked meanwhile is no sign of it.
    let clock = Ticks::default();
    let src = Target::new(
        &clock,
        [ok(), made(1, 1), Sense(5, 0x23, 0x06), Sense(5, 0x24, 0)],
    );
    let dst = Target::new(&clock, [Sense(5, 0x23, 0x06), Sense(5, 0x24, 0)]);
    let refusal = foreign(&src.site(), &dst.site(), terms(&clock)).expect("an answer");
    assert!(refusal.is_none());
    let src = Target::new(&clock, [ok(), made(1, 1)]);
    let dst = Target::new(&clock, [ok(), state(0x01, 0, 0)]);
    assert!(
        foreign(&src.site(), &dst.site(), terms(&clock))
            .expect("an answer")
            .is_none()
    );
}
