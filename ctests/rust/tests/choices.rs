//! Which method is taken, why not a better one, and what events change.
#![allow(missing_docs)]

use std::sync::{Arc, Mutex};
use xcopy::abi::*;
use xcopy_ctests::faulty::{MODELS, raise};
use xcopy_ctests::fixture::{Fixture, SIZE, range};
use xcopy_ctests::rig::last_error;
use xcopy_ctests::script::{Fault, Script};

const PIECE: u64 = 65_536;
const HOST: u16 = XCOPY_METHOD_READ_WRITE;

/// Methods and reasons.
type Listed<'a> = &'a [(u16, u16)];

#[test]
fn masks_and_flags() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        let (a, b) = (f.method('a'), f.method('b'));
        let bit = |method: u16| 1u32 << method;
        let none = XCOPY_METHOD_NONE;
        let denied = XCOPY_REASON_NOT_ALLOWED;
        let no_plugin = XCOPY_REASON_NO_PLUGIN;
        let offload = XCOPY_REQ_NO_FALLBACK;
        let fast = XCOPY_REQ_FAST_ONLY;
        // mask, flags: method taken, reason
        let cases = [
            (0, 0, a, 0),
            (0, offload, a, 0),
            (0, fast, a, 0),
            (bit(a), 0, a, 0),
            (bit(a) | bit(HOST), offload | fast, a, 0),
            (bit(b), 0, b, denied),
            (bit(b), offload, b, denied),
            (bit(b) | bit(HOST), 0, b, denied),
            (bit(HOST), 0, HOST, denied),
            (bit(HOST), offload, none, denied),
            (bit(HOST), fast, none, denied),
            (bit(XCOPY_METHOD_REFLINK), 0, none, no_plugin),
            (bit(XCOPY_METHOD_REFLINK) | bit(HOST), 0, HOST, denied),
        ];
        for (mask, flags, method, reason) in cases {
            let ended = f.copy(range(512, 0, PIECE), |r| {
                (r.methods, r.flags) = (mask, flags)
            });
            let done = ended.done;
            let what = format!("{model:?} mask {mask:#x} flags {flags:#x} {done:?}");
            assert_eq!((done.method, done.reason), (method, reason), "{what}");
            let res = if method == none { -libc::ENOTSUP } else { 0 };
            assert_eq!(done.res, res, "{what}");
            if method != none {
                assert_eq!(ended.bytes_by(method), PIECE, "{what}");
                assert_eq!(
                    done.bytes_offloaded,
                    if method == HOST { 0 } else { PIECE },
                    "{what}"
                );
            } else {
                assert_eq!(
                    (done.commands, ended.report.untouched_from),
                    (0, 0),
                    "{what}"
                );
            }
        }
        f.finish();
    }
}

#[test]
fn a_report_lists_what_the_mask_names() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script
            .set_up(|s| s.refuse = [0, XCOPY_REASON_CROSS_DEVICE]);
        let (a, b) = (f.method('a'), f.method('b'));
        let bit = |method: u16| 1u32 << method;
        let denied = XCOPY_REASON_NOT_ALLOWED;
        let (refused, none) = (XCOPY_REASON_CROSS_DEVICE, XCOPY_REASON_NO_PLUGIN);
        let (nvme, odx) = (XCOPY_METHOD_NVME_COPY, XCOPY_METHOD_ODX);
        // What is left out is told only if it would have been used.
        let cases: [(u32, i32, u16, Listed); 5] = [
            (bit(HOST), 0, denied, &[(a, denied)]),
            (bit(b) | bit(HOST), 0, denied, &[(a, denied), (b, refused)]),
            (
                bit(b),
                -libc::ENOTSUP,
                refused,
                &[(a, denied), (HOST, denied), (b, refused)],
            ),
            (
                bit(nvme),
                -libc::ENOTSUP,
                none,
                &[(a, denied), (HOST, denied), (nvme, none)],
            ),
            (bit(a) | bit(odx), 0, 0, &[]),
        ];
        for (mask, res, reason, listed) in cases {
            let ended = f.copy(range(512, 0, PIECE), |r| r.methods = mask);
            let what = format!("{model:?} mask {mask:#x} {:?}", ended.done);
            assert_eq!((ended.done.res, ended.done.reason), (res, reason), "{what}");
            let fallbacks = &ended.report.fallbacks[..ended.report.nfallbacks as usize];
            let fallbacks: Vec<_> = fallbacks.iter().map(|f| (f.method, f.reason)).collect();
            assert_eq!(fallbacks, listed, "{what}");
        }
        f.finish();
    }
}

#[test]
fn a_method_for_other_devices_tells_least() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        let told = XCOPY_REASON_CROSS_DEVICE;
        f.script
            .set_up(|s| s.refuse = [XCOPY_REASON_WRONG_DEVICE, told]);
        let (a, b) = (f.method('a'), f.method('b'));
        for mask in [0, 1 << a | 1 << b | 1 << HOST] {
            let done = f.copy(range(0, 0, PIECE), |r| r.methods = mask).done;
            assert_eq!((done.method, done.reason), (HOST, told), "{model:?} {mask}");
            let done = f
                .copy(range(0, 0, PIECE), |r| {
                    (r.methods, r.flags) = (mask, XCOPY_REQ_NO_FALLBACK);
                })
                .done;
            assert_eq!((done.res, done.reason), (-libc::ENOTSUP, told), "{model:?}");
        }
        f.finish();
    }
}

#[test]
fn a_query_begins_with_what_is_taken() {
    let (slower, feature) = (XCOPY_VERDICT_BY_NAME, XCOPY_VERDICT_NEEDS_FEATURE);
    for model in MODELS {
        for flags in [[0, 0], [slower, 0], [0, slower], [feature, slower]] {
            let mut f = Fixture::new(model);
            f.script.set_up(|s| s.flags = flags);
            let taken = f.copy(range(0, 0, PIECE), |_| {}).done.method;
            let listed: Vec<_> = f.rig.query(f.src, f.dst).iter().map(|m| m.method).collect();
            assert_eq!(listed[0], taken, "{model:?} {flags:?} {listed:?}");
            assert_eq!(listed.len(), 3, "{model:?} {listed:?}");
            f.finish();
        }
    }
}

#[test]
fn a_command_says_the_methods_place_in_the_table() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = seen.clone();
        f.script.choose(move |command| {
            list.lock().unwrap().push((command.method, command.index));
            Fault::None
        });
        let (a, b) = (f.method('a'), f.method('b'));
        for _ in 0..2 {
            // Without a report the straight way is open.
            assert_eq!(f.copy_plainly(range(0, 0, 512)).res, 0, "{model:?}");
            for method in [a, b] {
                let ended = f.copy(range(0, 0, 512), |r| r.methods = 1 << method);
                assert_eq!(ended.done.method, method, "{model:?}");
            }
        }
        // Now b is the better one, on the straight way too.
        f.script
            .set_up(|s| s.refuse = [XCOPY_REASON_NOT_SUPPORTED, 0]);
        assert_eq!(f.rig.remote.invalidate(f.src), 0);
        for _ in 0..3 {
            assert_eq!(f.copy_plainly(range(0, 0, 512)).method, b, "{model:?}");
        }
        let seen = seen.lock().unwrap();
        let count = |pair| seen.iter().filter(|seen| **seen == pair).count();
        assert_eq!((count((a, 0)), count((b, 1))), (4, 5), "{model:?} {seen:?}");
        drop(seen);
        f.finish();
    }
}

#[test]
fn a_mask_names_methods_only() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        let bit = |method: u16| 1u32 << method;
        let (a, b) = (f.method('a'), f.method('b'));
        assert_eq!(f.copy_plainly(range(0, 0, 4096)).res, 0, "{model:?}");
        let extra = xcopy_ctests::judge::Extra::new(Vec::new());
        for unknown in [0, 10, 15, b + 1, 31] {
            for others in [0, bit(a), u32::MAX] {
                let mut request = f.request(range(0, 0, 4096));
                request.methods = others | bit(unknown);
                for ext in [std::ptr::null(), &raw const extra.ext] {
                    request.ext = ext;
                    let refused = f.rig.submit(&request);
                    assert_eq!(refused, -libc::EINVAL, "{model:?} {unknown} {others:#x}");
                    assert!(
                        last_error().contains("stand for no method"),
                        "{}",
                        last_error()
                    );
                }
            }
        }
        // Every method of the header may be named, and a plugin that comes brings more.
        let fixed = (XCOPY_METHOD_REFLINK..=XCOPY_METHOD_NULL).fold(0, |m, id| m | bit(id));
        let plain = f.copy(range(0, 0, 4096), |r| r.methods = fixed | bit(a) | bit(b));
        assert_eq!((plain.done.res, plain.done.method), (0, a), "{model:?}");
        let other = MODELS
            .into_iter()
            .find(|m| *m != model)
            .expect("four models");
        assert_eq!(other.register(&f.rig, &Script::new()), 0);
        let more = f.copy(range(0, 0, 4096), |r| r.methods = bit(a) | bit(b + 1));
        assert_eq!((more.done.res, more.done.method), (0, a), "{model:?}");
        f.finish();
    }
    for never in [1, 1 << 10, 1 << 15] {
        // SAFETY: plain data, for which zeroes are valid; places of the sizes given.
        let status = unsafe {
            let mut options: xcopy_context_options = std::mem::zeroed();
            let mut context = std::ptr::null_mut();
            xcopy::xcopy_context_options_init(&mut options, size_of::<xcopy_context_options>());
            options.methods = never;
            xcopy::xcopy_context_create(&options, &mut context)
        };
        assert_eq!(status, -libc::EINVAL, "{never:#x}");
    }
}

#[test]
fn the_contexts_mask_holds_for_all() {
    for model in MODELS {
        let mut f = Fixture::with(model, |o| o.methods = 1 << HOST, |_| {});
        let ended = f.copy(range(0, 0, PIECE), |_| {});
        assert_eq!(ended.bytes_by(HOST), PIECE, "{model:?} {:?}", ended.done);
        let refused = f.copy(range(0, 0, PIECE), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
        assert_eq!(refused.done.res, -libc::ENOTSUP, "{model:?}");
        assert_eq!(refused.done.reason, XCOPY_REASON_NOT_ALLOWED, "{model:?}");
        assert_eq!(f.script.count(XCOPY_CMD_COPY), 0, "{model:?}");
        let methods = f.rig.query(f.src, f.dst);
        let a = methods.iter().find(|m| m.method == f.method('a'));
        if let Some(a) = a {
            assert_eq!(
                (a.usable, a.reason),
                (0, XCOPY_REASON_NOT_ALLOWED),
                "{model:?}"
            );
        }
        f.finish();
    }
}

#[test]
fn misaligned_heads_and_tails() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.set_up(|s| {
            s.limits.src_granularity = 4096;
            s.limits.dst_granularity = 4096;
            s.limits.length_granularity = 4096;
        });
        let a = f.method('a');
        let ended = f.copy(range(512, 512 + 8192, 10 * 4096), |_| {});
        assert_eq!(ended.done.res, 0, "{model:?} {:?}", ended.done);
        assert_eq!(ended.bytes_by(a), 9 * 4096, "{model:?} {:?}", ended.done);
        assert_eq!(ended.bytes_by(HOST), 4096, "{model:?} {:?}", ended.done);
        let wanted = XCOPY_CPL_EMULATED | XCOPY_CPL_FELL_BACK;
        assert_eq!(ended.done.flags, wanted, "{model:?} {:?}", ended.done);
        assert_eq!(ended.done.reason, XCOPY_REASON_MISALIGNED, "{model:?}");
        let refused = f.copy(range(512, 512, 4096), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
        assert_eq!(
            refused.done.res,
            -libc::ENOTSUP,
            "{model:?} {:?}",
            refused.done
        );
        assert_eq!(refused.done.reason, XCOPY_REASON_MISALIGNED, "{model:?}");
        // The same behind an aligned part: nothing of it is begun.
        let bit = |method: u16| 1u32 << method;
        for (mask, flags) in [
            (0, XCOPY_REQ_NO_FALLBACK),
            (bit(a), 0),
            (bit(a) | bit(f.method('b')), 0),
        ] {
            let refused = f.copy(range(4096, 8192, 9 * 4096 + 512), |r| {
                (r.methods, r.flags) = (mask, flags)
            });
            let done = refused.done;
            assert_eq!(
                (done.res, done.reason, done.commands),
                (-libc::ENOTSUP, XCOPY_REASON_MISALIGNED, 0),
                "{model:?} {done:?}"
            );
            assert_eq!((done.flags, refused.report.untouched_from), (0, 0));
        }
        f.finish();
    }
}

#[test]
fn invalidate_wakes_a_resting_method() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        let a = f.method('a');
        let nth = f.script.count(XCOPY_CMD_COPY);
        f.script
            .fault(XCOPY_CMD_COPY, nth, 1, Fault::fail(libc::ENOTSUP, 0));
        assert_eq!(
            f.copy(range(0, 0, PIECE), |_| {}).bytes_by(a),
            0,
            "{model:?}"
        );
        let rests = f.copy(range(0, 0, PIECE), |_| {});
        assert_eq!(rests.bytes_by(a), 0, "{model:?}");
        assert_eq!(
            rests.done.reason, XCOPY_REASON_FAILED_BEFORE,
            "{model:?} {:?}",
            rests.done
        );
        let seen = f.rig.query(f.src, f.dst);
        let verdict = seen.iter().find(|m| m.method == a).expect("a verdict");
        assert_eq!(
            (verdict.usable, verdict.reason),
            (0, XCOPY_REASON_FAILED_BEFORE)
        );
        assert_eq!(f.rig.remote.invalidate(f.dst), 0);
        let again = f.copy(range(0, 0, PIECE), |_| {});
        assert_eq!(again.bytes_by(a), PIECE, "{model:?} {:?}", again.done);
        f.finish();
    }
}

#[test]
fn a_rest_ends_by_itself() {
    for model in MODELS {
        let mut f = Fixture::with(model, |o| o.retry_after_s = 1, |_| {});
        let a = f.method('a');
        f.script
            .fault(XCOPY_CMD_COPY, 0, 1, Fault::fail(libc::ENOTSUP, 0));
        assert_eq!(
            f.copy(range(0, 0, PIECE), |_| {}).bytes_by(a),
            0,
            "{model:?}"
        );
        assert_eq!(
            f.copy(range(0, 0, PIECE), |_| {}).bytes_by(a),
            0,
            "{model:?}"
        );
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let again = f.copy(range(0, 0, PIECE), |_| {});
        assert_eq!(again.bytes_by(a), PIECE, "{model:?} {:?}", again.done);
        f.finish();
    }
}

#[test]
fn events() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        assert_eq!(f.copy_plainly(range(0, 0, 4096)).res, 0);
        let device = f.script.host_device("b").expect("it is open");
        let (probes, bits) = (
            f.script.probes.load(std::sync::atomic::Ordering::Acquire),
            XCOPY_EVENT_LIMITS_CHANGED | XCOPY_EVENT_RESIZED,
        );
        f.script.set_up(|s| s.limits.max_bytes = 8192);
        raise(device, bits, SIZE as u64 / 2);
        assert_eq!(
            f.rig.remote.info(f.dst).map(|i| (i.events, i.size_bytes)),
            Ok((bits, SIZE as u64 / 2))
        );
        assert_eq!(f.rig.remote.events(f.dst), Ok(bits), "{model:?}");
        assert_eq!(f.rig.remote.events(f.dst), Ok(0), "{model:?}");
        let beyond = f.request(range(0, SIZE as u64 / 2, 512));
        assert_eq!(f.rig.submit(&beyond), -libc::EINVAL, "{model:?}");
        // The new limits hold at once: the plugin itself looks at each command.
        assert_eq!(
            f.copy(range(0, 0, PIECE), |_| {}).done.commands,
            8,
            "{model:?}"
        );
        assert!(f.script.probes.load(std::sync::atomic::Ordering::Acquire) > probes);
        raise(device, XCOPY_EVENT_REMOVED, 0);
        let gone = f.request(range(0, 0, 512));
        assert_eq!(f.rig.submit(&gone), -libc::ENODEV, "{model:?}");
        assert_eq!(
            f.rig.remote.events(f.dst),
            Ok(XCOPY_EVENT_REMOVED),
            "{model:?}"
        );
        assert_eq!(f.rig.submit(&gone), -libc::ENODEV, "{model:?}");
        f.finish();
    }
}
