//! Tokens between users: whose they are, who may use them at once, and what is left
//! of one that failed.
#![allow(missing_docs)]

use copy_manager::{Effect, Kind, Personality, Refusal, ServiceTimes, When};
use std::sync::Barrier;
use std::time::{Duration, Instant};
use xcopy::abi::*;
use xcopy_ctests::array::Array;
use xcopy_ctests::disk::stamp;
use xcopy_ctests::faulty::Model;
use xcopy_ctests::fixture::Fixture;
use xcopy_ctests::judge::Extra;
use xcopy_ctests::rig::{LONG, request};

const MIB: usize = 1 << 20;
const LENGTH: u64 = 65_536;

fn name_of(info: &xcopy_token_info) -> String {
    let bytes = info.plugin.iter().take_while(|c| **c != 0);
    bytes.map(|c| *c as u8 as char).collect()
}

fn token_of(f: &Fixture) -> u32 {
    let token = f.rig.token();
    let made = f.rig.run(&xcopy_request {
        length: LENGTH,
        ..request(1, XCOPY_OP_TOKEN_CREATE, f.src, token)
    });
    assert_eq!((made.res, made.bytes_done), (0, LENGTH), "{made:?}");
    token
}

#[test]
fn a_token_is_its_makers_whatever_the_numbers() {
    // Both plugins' methods get the same numbers, each in its own context.
    let one = Fixture::new(Model::Polled);
    let two = Fixture::new(Model::Threaded);
    let info = one.rig.token_info(token_of(&one));
    assert_eq!(info.method, XCOPY_METHOD_DYNAMIC);
    assert_eq!(
        two.rig.token_info(token_of(&two)).method,
        XCOPY_METHOD_DYNAMIC
    );
    let bytes = one.rig.export(token_of(&one));

    // Its plugin is not known there: it can be held, and not used.
    let token = two.rig.import(&bytes).expect("a token");
    let info = two.rig.token_info(token);
    assert_eq!(
        (name_of(&info), info.method),
        ("faulty_polled".to_owned(), XCOPY_METHOD_NONE)
    );
    let before = two.target.bytes().clone();
    for (op, length) in [(XCOPY_OP_TOKEN_WRITE, LENGTH), (XCOPY_OP_TOKEN_RELEASE, 0)] {
        let done = two.rig.run(&xcopy_request {
            length,
            ..request(2, op, token, two.dst)
        });
        assert_eq!(
            (done.res, done.reason, done.commands),
            (-libc::ESTALE, XCOPY_REASON_TOKEN, 0),
            "{done:?}"
        );
    }
    assert_eq!(two.script.count(XCOPY_CMD_TOKEN_WRITE), 0);
    assert_eq!(two.script.count(XCOPY_CMD_TOKEN_RELEASE), 0);
    assert!(*two.target.bytes() == before);

    // Once it is known it has another number, and its own devices take the token.
    let both = Fixture::on(two.rig, Model::Polled);
    let info = both.rig.token_info(token);
    assert!(info.method > XCOPY_METHOD_DYNAMIC, "{}", info.method);
    let done = both.rig.run(&xcopy_request {
        length: LENGTH,
        ..request(3, XCOPY_OP_TOKEN_WRITE, token, both.dst)
    });
    assert_eq!((done.res, done.bytes_done), (0, LENGTH), "{done:?}");
    // The other plugin's devices still do not.
    let done = both.rig.run(&xcopy_request {
        length: LENGTH,
        ..request(4, XCOPY_OP_TOKEN_WRITE, token, two.dst)
    });
    assert_eq!(
        (done.res, done.reason),
        (-libc::ESTALE, XCOPY_REASON_TOKEN),
        "{done:?}"
    );
    assert_eq!(two.script.count(XCOPY_CMD_TOKEN_WRITE), 0);
}

#[test]
fn serialised_forms_of_other_versions_are_refused_by_name() {
    let f = Fixture::new(Model::Polled);
    let bytes = f.rig.export(token_of(&f));
    for version in [0u32, 1, 2, 4, u32::MAX] {
        let mut other = bytes.clone();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        assert_eq!(f.rig.import(&other), Err(-libc::EINVAL));
        let text = xcopy_ctests::rig::last_error();
        assert!(text.contains(&format!("version is {version}")), "{text}");
    }
}

/// Creates a token with what a caller may ask for.
fn create(array: &Array, token: u32, length: usize, ext: (u32, u32)) -> xcopy_completion {
    let mut extra = Extra::new(Vec::new());
    (extra.ext.token_type, extra.ext.token_lifetime_s) = ext;
    array.run(&xcopy_request {
        ext: &raw const extra.ext,
        ..array.token_request(XCOPY_OP_TOKEN_CREATE, array.src, token, length as u64)
    })
}

#[test]
fn what_fails_for_one_token_says_nothing_of_the_next() {
    for personality in [Personality::array(), Personality::ctl()] {
        let name = personality.name;
        let array = Array::new(personality.clone(), 2 * MIB);
        let other = Array::new(personality, 2 * MIB);
        let good = array.make_token(0, MIB as u64);
        let foreign = other.rig.export(other.make_token(0, MIB as u64));
        let foreign = array.rig.import(&foreign).expect("a token");
        let write = |token| {
            let request = array.token_request(XCOPY_OP_TOKEN_WRITE, token, array.dst, MIB as u64);
            array.run(&request)
        };
        assert_eq!(write(foreign).res, -libc::ESTALE, "{name}");
        assert_eq!(write(good).res, 0, "{name}");

        // A type that the device does not make, and a life that it does not give.
        let token = array.rig.token();
        for (ext, reason) in [
            ((0x0080_fffe, 0), XCOPY_REASON_NOT_SUPPORTED),
            ((0, u32::MAX), XCOPY_REASON_LIMITS),
        ] {
            let done = create(&array, token, MIB, ext);
            assert_eq!(
                (done.res, done.reason),
                (-libc::EINVAL, reason),
                "{name} {done:?}"
            );
            assert_eq!(create(&array, array.rig.token(), MIB, (0, 0)).res, 0);
        }

        // Refusals of the commands, and statuses that are lost for good.
        let refusals = [
            (Kind::PopulateToken, Refusal::check(5, 0x26, 0x00)),
            (Kind::PopulateToken, Refusal::check(5, 0x24, 0x00)),
            (Kind::WriteUsingToken, Refusal::check(5, 0x23, 0x01)),
            (Kind::WriteUsingToken, Refusal::check(5, 0x23, 0x02)),
            (Kind::WriteUsingToken, Refusal::check(5, 0x24, 0x00)),
        ];
        let mut effects: Vec<_> = refusals
            .into_iter()
            .map(|(kind, refusal)| (kind, Effect::Answer(refusal)))
            .collect();
        effects.push((Kind::PopulateToken, Effect::LoseStatus));
        effects.push((Kind::WriteUsingToken, Effect::LoseStatus));
        for (kind, effect) in effects {
            array.manager.set_fault(kind, When::Always, effect.clone());
            let run = || match kind {
                Kind::PopulateToken => create(&array, array.rig.token(), MIB, (0, 0)),
                _ => write(good),
            };
            let failed = run();
            assert!(failed.res < 0, "{name} {effect:?} {failed:?}");
            array.manager.clear_faults();
            let done = run();
            assert_eq!(done.res, 0, "{name} {effect:?} {done:?}");
        }

        // That it lacks the command is about all tokens.
        let lacks = Effect::Answer(Refusal::check(5, 0x20, 0x00));
        array
            .manager
            .set_fault(Kind::PopulateToken, When::Always, lacks);
        assert!(create(&array, array.rig.token(), MIB, (0, 0)).res < 0);
        array.manager.clear_faults();
        let done = create(&array, array.rig.token(), MIB, (0, 0));
        assert_eq!(
            (done.res, done.reason),
            (-libc::ENOTSUP, XCOPY_REASON_FAILED_BEFORE),
            "{name} {done:?}"
        );
    }
}

#[test]
fn a_token_whose_status_is_lost_is_made_again() {
    let array = Array::new(Personality::array(), MIB);
    for times in 1..=3 {
        array
            .manager
            .set_fault(Kind::PopulateToken, When::First(times), Effect::LoseStatus);
        let token = array.make_token(0, MIB as u64);
        array.manager.clear_faults();
        let done =
            array.run(&array.token_request(XCOPY_OP_TOKEN_WRITE, token, array.dst, MIB as u64));
        assert_eq!(done.res, 0, "{done:?}");
    }
    assert!(array.target() == array.a);
}

fn slow(millis: u64) -> ServiceTimes {
    ServiceTimes {
        other: Duration::from_millis(millis),
        ..ServiceTimes::default()
    }
}

#[test]
fn a_token_that_fails_leaves_nothing_on_the_device() {
    // Tokens of 8 MiB: the fourth fails.
    let array = Array::new(Personality::array(), 64 * MIB);
    let refusal = Effect::Answer(Refusal::check(3, 0x11, 0x00));
    array
        .manager
        .set_fault(Kind::PopulateToken, When::Nth(4), refusal);
    let token = array.rig.token();
    let done = create(&array, token, 64 * MIB, (0, 100));
    assert!(done.res < 0 && done.bytes_done == 0, "{done:?}");
    assert_eq!(array.manager.live_tokens(), 0);
    let info = array.rig.token_info(token);
    assert_eq!((info.filled, info.bytes, info.lifetime_s), (0, 0, 0));
    array.manager.clear_faults();

    // Nothing of the first try is in the next one.
    assert_eq!(create(&array, token, 64 * MIB, (0, 30)).res, 0);
    assert_eq!(array.rig.token_info(token).lifetime_s, 30);
    assert_eq!(array.manager.live_tokens(), 8);
    let released = array.run(&array.token_request(XCOPY_OP_TOKEN_RELEASE, token, array.src, 0));
    assert_eq!((released.res, array.manager.live_tokens()), (0, 0));

    // Cancelled, and out of time: with one command at a time some are made.
    for cancels in [true, false] {
        let mut times = slow(10);
        times.lanes = 1;
        array.manager.set_service(times);
        let token = array.rig.token();
        let mut request = array.token_request(XCOPY_OP_TOKEN_CREATE, array.src, token, 64 << 20);
        request.timeout_ms = if cancels { 0 } else { 60 };
        assert_eq!(array.rig.submit(&request), 1);
        array.rig.poll(0, 1, 0);
        std::thread::sleep(Duration::from_millis(60));
        if cancels {
            assert_eq!(array.rig.remote.cancel(request.user_data), 1);
        }
        let done = array.rig.poll(1, 1, LONG)[0];
        let wanted = if cancels {
            libc::ECANCELED
        } else {
            libc::ETIMEDOUT
        };
        assert_eq!((done.res, done.bytes_done), (-wanted, 0), "{done:?}");
        array.manager.set_service(slow(0));
        assert_eq!(array.manager.live_tokens(), 0, "{cancels}");
        assert_eq!(array.rig.free_token(token), 0);
    }
}

#[test]
fn a_token_that_comes_after_its_request_was_answered_is_released() {
    let array = Array::new(Personality::array(), 16 * MIB);
    array.make_token(0, MIB as u64);
    let before = array.manager.live_tokens();
    array.manager.set_service(slow(100));
    let token = array.rig.token();
    let mut request = array.token_request(XCOPY_OP_TOKEN_CREATE, array.src, token, 16 << 20);
    request.timeout_ms = 50;
    request.flags = XCOPY_REQ_ABANDON_ON_TIMEOUT;
    let done = array.run(&request);
    assert_eq!(done.res, -libc::ETIMEDOUT, "{done:?}");
    assert!(done.flags & XCOPY_CPL_UNSETTLED != 0, "{done:?}");
    assert_eq!(array.rig.free_token(token), -libc::EBUSY);
    let begun = Instant::now();
    while array.rig.free_token(token) == -libc::EBUSY {
        assert!(begun.elapsed() < Duration::from_secs(20), "still in use");
        array.rig.poll(0, 1, 0);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(array.manager.live_tokens(), before);
}

#[test]
fn a_forced_end_gives_the_token_back() {
    let array = Array::new(Personality::array(), 16 * MIB);
    let token = array.make_token(0, 16 << 20);
    for op in [XCOPY_OP_TOKEN_WRITE, XCOPY_OP_TOKEN_CREATE] {
        let mut beside = array.rig.beside(|_| {});
        array.manager.set_service(slow(200));
        let empty = array.rig.token();
        let (src, dst, used) = match op {
            XCOPY_OP_TOKEN_WRITE => (token, array.dst, token),
            _ => (array.src, empty, empty),
        };
        let request = array.token_request(op, src, dst, 16 << 20);
        assert_eq!(beside.submit(&request), 1);
        let begun = Instant::now();
        while array.manager.running() == 0 && begun.elapsed() < Duration::from_millis(100) {
            beside.poll(0, 1, 0);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(array.rig.free_token(used), -libc::EBUSY);
        assert_eq!(beside.destroy(XCOPY_DESTROY_FORCE), 0);
        // What the plugin still reads stays; the handle is the caller's again.
        assert_eq!(array.rig.free_token(used), 0, "{op}");
        array.manager.set_service(slow(0));
    }
    std::thread::sleep(Duration::from_millis(500));
    let target = array.target();
    let untouched = stamp(2, 1, 16 * MIB);
    for (at, block) in target.chunks(512).enumerate() {
        let place = at * 512..at * 512 + 512;
        assert!(
            block == &array.a[place.clone()] || block == &untouched[place],
            "block {at} is neither old nor new"
        );
    }
}

#[test]
fn one_request_fills_a_token() {
    let f = Fixture::new(Model::Polled);
    let mut queues = [f.rig.beside(|_| {}), f.rig.beside(|_| {})];
    for round in 0..3000 {
        let token = f.rig.token();
        let gate = Barrier::new(2);
        let answers = std::thread::scope(|scope| {
            let racers = queues.each_mut().map(|queue| {
                let (gate, src) = (&gate, f.src);
                scope.spawn(move || {
                    let fills = xcopy_request {
                        length: LENGTH,
                        ..request(1, XCOPY_OP_TOKEN_CREATE, src, token)
                    };
                    gate.wait();
                    queue.submit(&fills)
                })
            });
            racers.map(|racer| racer.join().expect("a racer"))
        });
        let mut sorted = answers;
        sorted.sort_unstable();
        assert_eq!(sorted, [-libc::EBUSY, 1], "round {round}");
        let winner = &queues[answers.iter().position(|a| *a == 1).expect("one")];
        assert_eq!(f.rig.free_token(token), -libc::EBUSY);
        assert_eq!(winner.poll(1, 1, LONG)[0].res, 0);
        assert_eq!(f.rig.token_info(token).filled, 1);
        assert_eq!(f.rig.free_token(token), 0);
    }
}
