//! One operation: polling, deadlines, lost states, list identifiers.

use super::target::Answer::{Error, Host, Sense, Status};
use super::target::*;
use crate::machine::port::Clock;
use crate::machine::{Fault, Terms, Wanted, Why, create, zero};
use crate::wire::Token;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn make(target: &Target<'_>, terms: Terms<'_>) -> Result<Token, Fault> {
    create(&target.site(), terms, 0, MIB, Wanted::default())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_synchronous_one_is_two_commands() {
    let clock = Ticks::default();
    let target = Target::new(&clock, [ok(), made(2048, 7)]);
    let token = make(&target, terms(&clock)).expect("a token");
    assert_eq!(token.bytes()[200], 7);
    assert_eq!(target.actions(), [PT, RRTI]);
    let seen = target.seen.borrow();
    assert_eq!(seen[0].list, seen[1].list);
    assert_eq!(seen[0].parameters[2], 0, "neither IMMED nor RTV");
    assert_eq!(clock.now(), Duration::ZERO);
}

#[test]
fn polling_follows_the_device_s_advice() {
    let clock = Ticks::default();
    let answers = [
        ok(),
        state(0x11, 0, 250),
        state(0x12, 1, 250),
        state(0x12, 2, 0xffff_fffe), // no advice: the first pause again
        state(0x10, 3, 60_000),      // too much of it
        made(2048, 1),
    ];
    let target = Target::new(&clock, answers);
    let wanted = Terms {
        immediate: true,
        ..terms(&clock)
    };
    make(&target, wanted).expect("a token");
    let seen = target.seen.borrow();
    assert_eq!(seen[0].parameters[2], 1, "IMMED");
    let at: Vec<u128> = seen.iter().map(|seen| seen.at.as_millis()).collect();
    assert_eq!(at, [0, 0, 250, 500, 502, 10_502]);
}

#[test]
fn without_advice_the_pauses_grow() {
    let clock = Ticks::default();
    let mut answers = vec![ok()];
    answers.extend((0..14).map(|_| state(0x10, 0, 0)));
    answers.push(made(2048, 1));
    let target = Target::new(&clock, answers);
    make(&target, terms(&clock)).expect("a token");
    let seen = target.seen.borrow();
    let pauses: Vec<u128> = seen[1..]
        .windows(2)
        .map(|two| (two[1].at - two[0].at).as_millis())
        .collect();
    assert_eq!(
        pauses,
        [2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 500, 500, 500, 500]
    );
}

#[test]
fn one_that_does_not_move_is_aborted() {
    let clock = Ticks::default();
    let mut target = Target::new(&clock, [ok()]);
    let aborted = std::cell::Cell::new(false);
    target.rest = Box::new(move |action, _| match action {
        ABORT => {
            aborted.set(true);
            ok()
        }
        _ if aborted.get() => state(0x60, 0, 0),
        _ => state(0x12, 5, 1000),
    });
    let fault = zero(&target.site(), terms(&clock), 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert_eq!((fault.why, fault.settled), (Why::Stuck, true));
    assert_eq!(clock.now().as_secs(), 120);
    assert_eq!(target.actions().iter().filter(|a| **a == ABORT).count(), 1);
}

#[test]
fn a_deadline_aborts_and_waits_for_the_end() {
    let clock = Ticks::default();
    let mut target = Target::new(&clock, [ok()]);
    let ended = std::cell::Cell::new(0);
    target.rest = Box::new(move |action, _| match action {
        ABORT => {
            ended.set(1);
            ok()
        }
        // It takes four readings to end.
        _ if ended.get() > 0 => {
            ended.set(ended.get() + 1);
            state(if ended.get() > 4 { 0x60 } else { 0x12 }, 0, 0)
        }
        _ => state(0x12, 0, 400),
    });
    let wanted = Terms {
        deadline: Some(seconds(1)),
        immediate: true,
        ..terms(&clock)
    };
    let fault = zero(&target.site(), wanted, 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert_eq!((fault.why, fault.settled), (Why::TimedOut, true));
    let seen = target.seen.borrow();
    let abort = seen.iter().find(|seen| seen.action == ABORT).expect("one");
    assert_eq!(abort.at, seconds(1), "not later than the deadline");
}

#[test]
fn one_that_ended_well_before_its_abort_is_done() {
    let clock = Ticks::default();
    let answers = [
        ok(),
        state(0x12, 0, 5000),
        state(0x12, 0, 5000),
        ok(),
        state(0x01, 2048, 0),
    ];
    let target = Target::new(&clock, answers);
    let wanted = Terms {
        deadline: Some(seconds(2)),
        immediate: true,
        ..terms(&clock)
    };
    let transferred = zero(&target.site(), wanted, 0, MIB);
    assert_eq!((transferred.done, transferred.fault.is_none()), (MIB, true));
    assert_eq!(target.actions(), [WUT, RRTI, RRTI, ABORT, RRTI]);
}

#[test]
fn what_cannot_be_ended_is_not_settled() {
    let clock = Ticks::default();
    let mut target = Target::new(&clock, [ok()]);
    target.rest = Box::new(|action, _| match action {
        ABORT => Sense(5, 0x20, 0),
        _ => state(0x12, 0, 0),
    });
    let wanted = Terms {
        deadline: Some(seconds(1)),
        immediate: true,
        ..terms(&clock)
    };
    let fault = zero(&target.site(), wanted, 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert_eq!((fault.why, fault.settled), (Why::TimedOut, false));
    assert_eq!(clock.now().as_secs(), 31, "thirty seconds of patience");
}

#[test]
fn a_lost_state_is_no_success() {
    let clock = Ticks::default();
    // Without IMMED the command had ended: nothing can write any more.
    let mut target = Target::new(&clock, []);
    target.rest = Box::new(|action, _| match action {
        WUT => ok(),
        _ => Sense(5, 0x24, 0),
    });
    let transferred = zero(&target.site(), terms(&clock), 0, MIB);
    let fault = transferred.fault.expect("a fault").0;
    assert_eq!(
        (transferred.done, fault.why, fault.settled),
        (0, Why::StatusLost, true)
    );
    assert_eq!(target.actions(), [WUT, RRTI]);
    // With IMMED an abort has to show that it is over.
    target.seen.borrow_mut().clear();
    let wanted = Terms {
        immediate: true,
        ..terms(&clock)
    };
    let fault = zero(&target.site(), wanted, 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert_eq!((fault.why, fault.settled), (Why::StatusLost, true));
    assert_eq!(target.actions(), [WUT, RRTI, ABORT, RRTI]);
}

#[test]
fn the_reading_is_repeated_only_where_it_was_not_carried_out() {
    let clock = Ticks::default();
    let answers = [ok(), Sense(6, 0x2a, 9), Status(0x28), made(2048, 1)];
    let target = Target::new(&clock, answers);
    make(&target, terms(&clock)).expect("a token");
    // Lost on the way: asked no second time, the token may be gone. It is made anew,
    // a number of times.
    for lost in [|| Host(3), || Error(5)] {
        let answers = [ok(), lost(), ok(), made(2048, 1)];
        let target = Target::new(&clock, answers);
        make(&target, terms(&clock)).expect("a token");
        assert_eq!(target.actions(), [PT, RRTI, PT, RRTI]);
        let target = Target::new(&clock, (0..5).flat_map(|_| [ok(), lost()]));
        let fault = make(&target, terms(&clock)).expect_err("a fault");
        assert_eq!(fault.why, Why::StatusLost);
        assert_eq!(target.actions(), [PT, RRTI].repeat(5));
    }
}

#[test]
fn a_list_identifier_in_use_is_changed() {
    let clock = Ticks::default();
    let answers = [
        Sense(5, 0x00, 0x16),
        Sense(5, 0x00, 0x16),
        ok(),
        made(2048, 1),
    ];
    let target = Target::new(&clock, answers);
    make(&target, terms(&clock)).expect("a token");
    let lists: Vec<u32> = target.seen.borrow().iter().map(|seen| seen.list).collect();
    let different: HashSet<u32> = lists.iter().copied().collect();
    assert_eq!((different.len(), lists[2]), (3, lists[3]));
    let mut target = Target::new(&clock, []);
    target.rest = Box::new(|_, _| Sense(5, 0x00, 0x16));
    let fault = make(&target, terms(&clock)).expect_err("a fault");
    assert_eq!((fault.why, fault.untouched), (Why::IdentifiersBusy, true));
    assert_eq!(target.actions().len(), 10);
}

#[test]
fn immed_is_left_where_it_is_refused() {
    let clock = Ticks::default();
    let answers = [
        Sense(5, 0x26, 0),
        Sense(5, 0x24, 0), // the reading of what the refused one left
        ok(),
        made(2048, 1),
    ];
    let target = Target::new(&clock, answers);
    let wanted = Terms {
        immediate: true,
        ..terms(&clock)
    };
    make(&target, wanted).expect("a token");
    let flags = |at: usize| target.seen.borrow()[at].parameters[2];
    assert_eq!((flags(0), flags(2)), (1, 0));
    assert!(target.no_immediate.load(Ordering::Relaxed));
    // And not tried again.
    let again = Target::new(&clock, [ok(), made(2048, 1)]);
    again.no_immediate.store(true, Ordering::Relaxed);
    make(&again, wanted).expect("a token");
    assert_eq!(again.seen.borrow()[0].parameters[2], 0);
}

#[test]
fn busy_is_waited_for_and_not_for_ever() {
    let clock = Ticks::default();
    let answers = [Status(8), Status(0x28), ok(), made(2048, 1)];
    let target = Target::new(&clock, answers);
    make(&target, terms(&clock)).expect("a token");
    assert_eq!(clock.now().as_millis(), 10);
    let mut target = Target::new(&clock, []);
    target.rest = Box::new(|_, _| Status(8));
    let fault = make(&target, terms(&clock)).expect_err("a fault");
    assert!(fault.refusal().is_some_and(|r| r.is_busy()) && fault.untouched);
}

#[test]
fn statuses_that_are_failures() {
    for (status, sam) in [(0x02, 0x02), (0x04, 0x02), (0x60, 0x40), (0x7f, 0x02)] {
        let clock = Ticks::default();
        let target = Target::new(&clock, [ok(), state(status, 2048, 0)]);
        let transferred = zero(&target.site(), terms(&clock), 0, MIB);
        let fault = transferred.fault.expect("a fault").0;
        let refusal = fault.refusal().expect("a refusal");
        assert_eq!(
            (transferred.done, refusal.0.status),
            (0, sam),
            "{status:02x}h"
        );
        assert!(!fault.untouched && fault.settled);
    }
}

#[test]
fn a_command_that_times_out_on_the_way_is_ended_first() {
    let clock = Ticks::default();
    let answers = [Host(3), ok(), state(0x12, 0, 0), state(0x60, 0, 0)];
    let target = Target::new(&clock, answers);
    let fault = zero(&target.site(), terms(&clock), 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert!(fault.settled && !fault.untouched);
    assert_eq!(target.actions(), [WUT, ABORT, RRTI, RRTI]);
    // The way is gone altogether: nobody can say that it ended.
    let mut target = Target::new(&clock, [Host(3)]);
    target.rest = Box::new(|_, _| Host(1));
    let fault = zero(&target.site(), terms(&clock), 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert!(!fault.settled);
    // Never sent: nothing to settle.
    let target = Target::new(&clock, [Error(1)]);
    let fault = zero(&target.site(), terms(&clock), 0, MIB)
        .fault
        .expect("a fault")
        .0;
    assert_eq!(
        (fault.why, fault.untouched, fault.settled),
        (Why::Unsent(1), true, true)
    );
}

#[test]
fn answers_that_cannot_be() {
    let clock = Ticks::default();
    let cases: Vec<Vec<super::target::Answer>> = vec![
        vec![ok(), Answer::Good(vec![0; 20])],
        vec![ok(), state(0x01, 2048, 0)], // no token
        vec![ok(), made(4096, 1)],        // more than was asked for
    ];
    for (at, answers) in cases.into_iter().enumerate() {
        let target = Target::new(&clock, answers);
        let fault = make(&target, terms(&clock)).expect_err("a fault");
        assert!(matches!(fault.why, Why::Malformed(_)), "{at}: {fault:?}");
    }
    let target = Target::new(&clock, [ok(), state(0x01, 4096, 0)]);
    let transferred = zero(&target.site(), terms(&clock), 0, MIB);
    assert_eq!(transferred.done, 0);
    assert!(matches!(
        transferred.fault.expect("a fault").0.why,
        Why::Malformed(_)
    ));
}
