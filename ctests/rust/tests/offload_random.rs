//! Random copies between units of every kind of target, under random faults: the
//! right bytes or an exact error, and never a wrong byte outside the ranges.
//! XCOPY_TEST_SEED repeats a run, XCOPY_TEST_COPIES sets its length.
#![allow(missing_docs)]

use copy_manager::fault::TokenFate;
use copy_manager::{Effect, Kind, Personality, Refusal, TransportError, When};
use xcopy::abi::*;
use xcopy_ctests::disk::Random;
use xcopy_ctests::units::{Plugin, Units};

const SIZE: u64 = 512 << 10;
/// Copies between one pair of units.
const STAGE: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn copies() -> u64 {
    let by_profile = if cfg!(debug_assertions) {
        1_000
    } else {
        10_000
    };
    number("XCOPY_TEST_COPIES").unwrap_or(by_profile)
}

fn personality(plugin: Plugin, random: &mut Random) -> Personality {
    let mut personality = match plugin {
        Plugin::Scsi => random.pick(&[
            Personality::ctl as fn() -> _,
            Personality::lio,
            Personality::array,
            Personality::scst,
            Personality::comstar,
        ])(),
        Plugin::Odx => random.pick(&[
            Personality::ctl as fn() -> _,
            Personality::array,
            Personality::windows,
        ])(),
    };
    // Small limits, so that small copies meet them.
    if !random.once_in(4) {
        if let Some(tokens) = &mut personality.tokens {
            tokens.max_bytes = random.pick(&[8 << 10, 64 << 10, 256 << 10]);
            tokens.optimal_bytes = tokens.max_bytes;
            tokens.ranges = random.pick(&[1, 2, 8]);
        }
        personality.copy.segment_bytes = random.pick(&[8 << 10, 16 << 10, 64 << 10]);
        personality.copy.segments = personality.copy.segments.min(random.pick(&[1, 2, 100]));
    }
    if plugin == Plugin::Scsi && random.once_in(6) {
        personality
            .commands
            .retain(|kind| *kind != Kind::ExtendedCopyLid1);
    }
    personality
}

/// Disjoint ranges, ascending in the destination, of whole blocks of both sides.
fn ranges(random: &mut Random, (from, to): (u64, u64)) -> Vec<xcopy_range> {
    let unit = from.max(to);
    let n = random.pick(&[1, 1, 1, 2, 5, 30]);
    let span = SIZE / n / unit * unit;
    (0..n)
        .map(|index| {
            let most = span.min(random.pick(&[unit * 2, 64 << 10, SIZE])) / unit;
            let length = (1 + random.below(most)) * unit;
            let place =
                |random: &mut Random, free: u64, block| random.below(free / block + 1) * block;
            xcopy_range {
                src_offset: place(random, SIZE - length, from),
                dst_offset: index * span + place(random, span - length, to),
                length,
            }
        })
        .collect()
}

/// An answer of the table of sense data, or a status.
fn refusal(random: &mut Random) -> Refusal {
    let (key, asc, ascq) = random.pick(&[
        (0x5, 0x20, 0x00),
        (0x5, 0x24, 0x00),
        (0x5, 0x00, 0x16),
        (0xA, 0x0D, 0x00),
        (0xA, 0x0D, 0x01),
        (0xA, 0x0D, 0x02),
        (0xA, 0x08, 0x04),
        (0xA, 0x0D, 0x03),
        (0xA, 0x0D, 0x04),
        (0xA, 0x0D, 0x05),
        (0x5, 0x1A, 0x00),
        (0x5, 0x26, 0x00),
        (0x5, 0x26, 0x06),
        (0x5, 0x26, 0x08),
        (0x5, 0x26, 0x07),
        (0x5, 0x26, 0x09),
        (0xA, 0x26, 0x0A),
        (0x5, 0x26, 0x0B),
        (0xA, 0x26, 0x0C),
        (0xA, 0x26, 0x0D),
        (0x5, 0x26, 0x15),
        (0x5, 0x23, 0x00),
        (0x5, 0x23, 0x01),
        (0x5, 0x23, 0x02),
        (0x5, 0x23, 0x04),
        (0x5, 0x23, 0x05),
        (0x5, 0x23, 0x07),
        (0x5, 0x55, 0x03),
        (0x5, 0x55, 0x0C),
        (0x5, 0x55, 0x0D),
        (0x7, 0x27, 0x07),
        (0x5, 0x21, 0x00),
        (0x6, 0x29, 0x00),
        (0x6, 0x29, 0x07),
        (0x6, 0x2A, 0x09),
        (0x6, 0x3F, 0x0E),
        (0x2, 0x04, 0x01),
        (0x3, 0x11, 0x00),
        (0x4, 0x44, 0x00),
        (0xB, 0x00, 0x00),
    ]);
    match random.below(8) {
        0 => Refusal::Status(random.pick(&[0x08, 0x18, 0x28, 0x40])),
        1 => Refusal::Transport(random.pick(&[
            TransportError::TimedOut,
            TransportError::Error,
            TransportError::Reset,
        ])),
        _ => Refusal::check(key, asc, ascq),
    }
}

/// What may befall a command that changes the destination, or tells of it. All of
/// it is seen: a lie would not be.
fn effect(random: &mut Random, kind: Kind) -> Effect {
    let fates = [
        TokenFate::Unknown,
        TokenFate::Revoked,
        TokenFate::Expired,
        TokenFate::Cancelled,
        TokenFate::Deleted,
    ];
    if matches!(kind, Kind::Inquiry | Kind::ReadCapacity) {
        // What says that the unit is another one would be believed.
        return Effect::Answer(match random.below(3) {
            0 => Refusal::Status(0x08),
            1 => Refusal::Transport(TransportError::TimedOut),
            _ => Refusal::check(6, 0x29, 0x00),
        });
    }
    match random.below(14) {
        0 | 1 => Effect::AnswerWithin(random.below(64) * 512, refusal(random)),
        2 => Effect::AnswerAfter(refusal(random)),
        3 => Effect::NexusLoss,
        4 if kind.starts_an_operation() => Effect::ListIdBusy,
        5 if kind.starts_an_operation() => Effect::Short(random.below(64) * 512),
        6 if kind != Kind::Write && kind != Kind::Read => Effect::LoseStatus,
        7 if kind == Kind::WriteUsingToken => Effect::Token(random.pick(&fates)),
        7 if kind == Kind::RodTokenInformation => Effect::OtherUnits,
        8 if kind.starts_an_operation() => Effect::NoResources,
        9 if kind.starts_an_operation() => Effect::Granularity,
        _ => Effect::Answer(refusal(random)),
    }
}

fn set_faults(random: &mut Random, plugin: Plugin, units: &Units) {
    let offload: &[Kind] = match plugin {
        Plugin::Scsi => match units
            .manager
            .personality()
            .implements(Kind::ExtendedCopyLid1)
        {
            true => &[Kind::ExtendedCopyLid1],
            false => &[
                Kind::ExtendedCopyLid4,
                Kind::ExtendedCopyLid4,
                Kind::CopyStatusLid4,
            ],
        },
        Plugin::Odx => &[
            Kind::PopulateToken,
            Kind::WriteUsingToken,
            Kind::RodTokenInformation,
        ],
    };
    let others = [
        Kind::Read,
        Kind::Write,
        Kind::Inquiry,
        Kind::ReadCapacity,
        Kind::SynchronizeCache,
    ];
    for _ in 0..random.pick(&[0, 1, 1, 2, 3, 5]) {
        let kind = match random.once_in(5) {
            true => random.pick(&others),
            false => random.pick(offload),
        };
        // Not for ever: what is tried again for ever takes its time.
        let when = match random.below(3) {
            0 => When::First(1 + random.below(3)),
            1 => When::Nth(1 + random.below(20)),
            _ => When::Nth(1 + random.below(4)),
        };
        units.manager.set_fault(kind, when, effect(random, kind));
    }
}

/// What a storm was made of: no storm counts that only took one way.
#[derive(Default, Debug)]
struct Seen {
    copies: u64,
    offloaded: u64,
    by_host: u64,
    mixed: u64,
    failed: u64,
    partly: u64,
    struck: u64,
}

/// Side by side, because most of their time is pauses.
const THREADS: u64 = 8;

fn storm(plugin: Plugin) {
    let seed = number("XCOPY_TEST_SEED").unwrap_or(0x0FF1_0AD5);
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || part(plugin, seed, thread, copies() / THREADS)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("its text is above"))
            .fold(Seen::default(), |a, b| Seen {
                copies: a.copies + b.copies,
                offloaded: a.offloaded + b.offloaded,
                by_host: a.by_host + b.by_host,
                mixed: a.mixed + b.mixed,
                failed: a.failed + b.failed,
                partly: a.partly + b.partly,
                struck: a.struck + b.struck,
            })
    });
    println!("{plugin:?}: {seen:?}");
    let at_least = |n: u64, share: u64| n * share >= seen.copies;
    assert!(at_least(seen.offloaded, 5), "{seen:?}");
    assert!(
        at_least(seen.by_host, 30) && at_least(seen.mixed, 60),
        "{seen:?}"
    );
    assert!(
        at_least(seen.failed, 10) && at_least(seen.partly, 40),
        "{seen:?}"
    );
    assert!(at_least(seen.struck, 4), "{seen:?}");
}

fn part(plugin: Plugin, seed: u64, thread: u64, copies: u64) -> Seen {
    let mut random = Random::new(seed ^ u64::from(plugin.method()) << 32 ^ thread << 40);
    let mut seen = Seen::default();
    let mut done = 0;
    while done < copies {
        let personality = personality(plugin, &mut random);
        let name = personality.name;
        let blocks = random.pick(&[(512, 512), (4096, 4096), (512, 4096), (4096, 512)]);
        let mut units = Units::new(plugin, personality, SIZE as usize, blocks);
        for _ in 0..STAGE.min(copies - done) {
            done += 1;
            units.manager.clear_trace();
            // Mostly the pair is judged before the trouble begins.
            if !random.once_in(4) {
                assert_eq!(units.prepare().res, 0);
            }
            let hits = units.manager.fault_hits();
            set_faults(&mut random, plugin, &units);
            let list = ranges(&mut random, (blocks.0.into(), blocks.1.into()));
            let flags = random.pick(&[0, 0, XCOPY_REQ_NO_FALLBACK, XCOPY_REQ_DURABLE]);
            let methods = random.pick(&[0, 0, 1 << plugin.method()]);
            let result = units.try_copy(&list, |request| {
                request.flags = flags;
                request.methods = methods;
            });
            units.manager.clear_faults();
            // No unit went, and none is taken for gone.
            let removed = [units.src, units.dst].map(|device| {
                units.rig.remote.events(device).unwrap_or(0) & XCOPY_EVENT_REMOVED != 0
            });
            let ended = match result {
                Ok(ended) if removed == [false; 2] => ended,
                result => {
                    let text = result.err().unwrap_or("a unit counts as removed".into());
                    let trace: Vec<String> = units
                        .manager
                        .trace()
                        .iter()
                        .map(|e| format!("{} {:?} {:?} {:?}", e.unit, e.kind, e.status, e.effect))
                        .collect();
                    panic!(
                        "seed {seed}, thread {thread}, copy {done}, {name} {blocks:?}: {text}\n{}",
                        trace.join("\n")
                    );
                }
            };
            let (completion, method) = (&ended.done, plugin.method());
            let offloaded = ended.bytes_by(method);
            let by_host = ended.bytes_by(XCOPY_METHOD_READ_WRITE);
            assert!(
                flags & XCOPY_REQ_NO_FALLBACK == 0 || by_host == 0,
                "bytes through the host: {completion:?}"
            );
            assert_eq!(units.manager.running(), 0, "{name}: something still runs");
            seen.offloaded += u64::from(offloaded > 0 && by_host == 0);
            seen.by_host += u64::from(by_host > 0 && offloaded == 0);
            seen.mixed += u64::from(by_host > 0 && offloaded > 0);
            seen.failed += u64::from(completion.res < 0);
            seen.partly += u64::from(completion.res < 0 && completion.bytes_copied > 0);
            seen.struck += u64::from(units.manager.fault_hits() > hits);
        }
    }
    seen.copies = done;
    seen
}

#[test]
fn extended_copy() {
    storm(Plugin::Scsi);
}

#[test]
fn tokens() {
    storm(Plugin::Odx);
}
