//! Random copies against a model of the bytes: faulty plugins of every model,
//! random limits, lists, flags, methods, cancels and deadlines. XCOPY_TEST_SEED
//! repeats a run.
#![allow(missing_docs)]

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy::abi::*;
use xcopy_ctests::disk::{Disk, Random, stamp};
use xcopy_ctests::faulty::{MODELS, Model};
use xcopy_ctests::judge::{Expected, Extra};
use xcopy_ctests::rig::{LONG, Rig, copy, last_error};
use xcopy_ctests::script::{Failing, Fault, Script};

const BLOCK: u64 = 512;
const BLOCKS: u64 = 4096;
/// Of the destination, one for each request in flight.
const ZONE: u64 = BLOCKS / 4;
const OPERATIONS: u64 = 800;

/// Where bytes go.
enum Target {
    Memory(Arc<Disk>),
    File(std::fs::File),
}

impl Target {
    fn read(&self, zone: u64) -> Vec<u8> {
        let (start, size) = (zone * ZONE * BLOCK, (ZONE * BLOCK) as usize);
        match self {
            Target::Memory(disk) => disk.bytes()[start as usize..start as usize + size].to_vec(),
            Target::File(file) => {
                let mut bytes = vec![0; size];
                file.read_exact_at(&mut bytes, start).expect("readable");
                bytes
            }
        }
    }
}

/// Ranges within one zone of the destination, disjoint there; all multiples of
/// `unit` blocks.
fn ranges(random: &mut Random, zone: u64, unit: u64) -> Vec<xcopy_range> {
    let n = match random.below(20) {
        0 => 300 + random.below(700),
        1..=4 => 17 + random.below(100),
        5..=12 => 1,
        _ => 1 + random.below(16),
    };
    let n = n.min(ZONE / unit);
    let span = ZONE / unit / n;
    let bytes = unit * BLOCK;
    let mut list: Vec<_> = (0..n)
        .map(|index| {
            let length = 1 + random.below(span);
            let dst = zone * (ZONE / unit) + index * span + random.below(span - length + 1);
            let src = random.below(BLOCKS / unit - length);
            xcopy_range {
                src_offset: src * bytes,
                dst_offset: dst * bytes,
                length: length * bytes,
            }
        })
        .collect();
    if random.once_in(3) {
        for index in (1..list.len()).rev() {
            list.swap(index, random.below(index as u64 + 1) as usize);
        }
    }
    list
}

fn limits(random: &mut Random) -> xcopy_limits {
    let grain = |random: &mut Random| random.pick(&[0, 1, 512, 512, 512, 1024, 4096]);
    xcopy_limits {
        preferred_bytes: random.pick(&[0, 0, 4096, 65_536]),
        max_bytes: random.pick(&[0, 8192, 65_536, 1 << 20]),
        max_range_bytes: random.pick(&[0, 0, 4096, 32_768]),
        src_granularity: grain(random),
        dst_granularity: grain(random),
        length_granularity: grain(random),
        max_ranges: random.pick(&[0, 1, 2, 16, 64]),
        max_concurrent: random.pick(&[0, 1, 3]),
        contiguous_dst: u32::from(random.once_in(4)),
    }
}

/// A plugin that fails about once in `rate` commands.
fn moody(seed: u64, rate: u64) -> impl FnMut(xcopy_ctests::script::Seen) -> Fault + Send {
    let mut random = Random::new(seed);
    move |seen| {
        let copies = matches!(seen.op, XCOPY_CMD_COPY | XCOPY_CMD_READ | XCOPY_CMD_WRITE);
        if !copies || !random.once_in(rate) {
            return Fault::None;
        }
        match random.below(14) {
            0 => Fault::Late(random.below(3)),
            1 => Fault::Twice,
            2 => Fault::Cookies,
            3 => Fault::Claim(random.below(seen.bytes)),
            4 => Fault::fail(libc::EBUSY, 0),
            5 => Fault::fail(libc::E2BIG, 0),
            6 => Fault::Panic,
            _ => Fault::Fail(Failing {
                errno: random.pick(&[libc::EIO, libc::ENOTSUP, libc::EINVAL, libc::ENOSPC]),
                action: random.pick(&[0, 0, 1, 2, 3, 4]),
                known: random.below(seen.bytes / BLOCK + 1) * BLOCK,
                spoilt: random.below(seen.bytes / BLOCK + 1) * BLOCK,
                ..Failing::default()
            }),
        }
    }
}

struct Going {
    extra: Box<Extra>,
    ranges: Vec<xcopy_range>,
    before: Vec<u8>,
    canceled: bool,
    deadline: bool,
    durable: bool,
}

/// Moves destination ranges to the start of their zone, to compare it alone.
fn within(ranges: &[xcopy_range], zone: u64) -> Vec<xcopy_range> {
    let start = zone * ZONE * BLOCK;
    ranges
        .iter()
        .map(|r| xcopy_range {
            dst_offset: r.dst_offset - start,
            ..*r
        })
        .collect()
}

struct Tally {
    by_method: HashMap<u16, u64>,
    operations: u64,
    failures: u64,
    canceled: u64,
    ends: HashMap<(i32, u16), u64>,
    names: HashMap<u16, String>,
}

/// One rig of a random personality; `operations` requests.
fn round(seed: u64, model: Model, to_file: bool, operations: u64, tally: &mut Tally) {
    let mut random = Random::new(seed);
    let rig = Rig::with(
        |options| options.retry_after_s = 0,
        |options| {
            options.capacity = 4 + random.below(8) as u32;
            options.window = 1 + random.below(16) as u32;
            options.chunk = random.pick(&[0, 0, 16_384, 65_536]);
        },
    );
    let script = Script::new();
    assert_eq!(model.register(&rig, &script), 0, "{}", last_error());
    let limits = limits(&mut random);
    let grains = [
        limits.src_granularity,
        limits.dst_granularity,
        limits.length_granularity,
    ];
    let unit = u64::from(grains.into_iter().max().unwrap_or(0)).max(BLOCK) / BLOCK;
    script.set_up(|setup| {
        setup.limits = limits;
        setup.max_io = random.pick(&[0, 0, 4096, 65_536]);
        setup.cancels = random.once_in(2);
        setup.inside_submit = random.once_in(3);
    });
    let size = (BLOCKS * BLOCK) as usize;
    let content = stamp(seed, 1, size);
    script.add_disk("a", Disk::new(content.clone(), 512, 0));
    let src = rig.open(&model.disk("a"));
    let directory = tempfile::tempdir().expect("a directory");
    let (target, dst) = if to_file {
        let path = directory.path().join("target");
        std::fs::write(&path, stamp(seed, 2, size)).expect("written");
        let file = std::fs::File::open(&path).expect("readable");
        (Target::File(file), rig.open(&path.display().to_string()))
    } else {
        let disk = script.add_disk("b", Disk::new(stamp(seed, 2, size), 512, 0));
        (Target::Memory(disk), rig.open(&model.disk("b")))
    };
    script.choose(moody(seed, 10 + random.below(200)));
    let letters = [format!("{}_a", model.name()), format!("{}_b", model.name())];
    let by_host = 1 << XCOPY_METHOD_READ_WRITE;
    let (a, b) = (rig.mask(&letters[0]), rig.mask(&letters[1]));
    let masks = match to_file {
        false => vec![0, 0, by_host, a, b | by_host, a | b],
        // No plugin reaches both ends.
        true => vec![0, by_host, 0, by_host, a | by_host, a],
    };
    for name in &letters {
        tally
            .names
            .insert(rig.mask(name).trailing_zeros() as u16, name.clone());
    }
    tally
        .names
        .insert(XCOPY_METHOD_READ_WRITE, "read_write".into());
    let mut going: HashMap<u64, Going> = HashMap::new();
    let mut next = 0;
    while next < operations || !going.is_empty() {
        // Else the first breach of the contract would rest a method for good.
        if random.once_in(2) {
            assert_eq!(rig.remote.invalidate(src), 0, "seed {seed}");
        }
        let busy: Vec<u64> = going.keys().map(|user_data| user_data % 4).collect();
        let free = (0..4).find(|zone| !busy.contains(zone));
        if let Some(zone) = free.filter(|_| next < operations) {
            next += 1;
            let user_data = next * 4 + zone;
            // Mostly what the method takes, so that not all goes by the host.
            let unit = if random.once_in(4) { 1 } else { unit };
            let list = ranges(&mut random, zone, unit);
            let alone = list.len() == 1 && random.once_in(2);
            let extra = Extra::new(if alone { Vec::new() } else { list.clone() });
            let mut request = match alone {
                true => copy(user_data, src, dst, list[0]),
                false => copy(user_data, src, dst, xcopy_range::default()),
            };
            // Without an ext the straight way is open.
            if !alone || random.once_in(2) {
                request.ext = &raw const extra.ext;
            }
            let with_report = !request.ext.is_null();
            request.methods = random.pick(&masks);
            request.flags = random.pick(&[
                0,
                0,
                0,
                XCOPY_REQ_NO_FALLBACK,
                XCOPY_REQ_FAST_ONLY,
                XCOPY_REQ_DISJOINT,
                XCOPY_REQ_NO_COHERENCE | XCOPY_REQ_DURABLE,
            ]);
            let deadline = random.once_in(25);
            request.timeout_ms = if deadline {
                1 + random.below(8) as u32
            } else {
                0
            };
            let before = target.read(zone);
            assert_eq!(rig.submit(&request), 1, "seed {seed}: {}", last_error());
            let canceled = random.once_in(25);
            if canceled {
                let asked = rig.remote.cancel(user_data);
                assert!(asked == 1 || asked == -libc::ENOENT, "seed {seed}: {asked}");
            }
            let going_on = Going {
                extra,
                ranges: list,
                before,
                canceled,
                deadline,
                durable: request.flags & XCOPY_REQ_DURABLE != 0,
            };
            assert!(going.insert(user_data, going_on).is_none());
            if !with_report && let Some(g) = going.get_mut(&user_data) {
                g.extra.report.size = 0;
            }
        }
        let min = u32::from(going.len() == 4 || next == operations);
        for done in rig.poll(min, 8, if min == 1 { LONG } else { 0 }) {
            let Some(ended) = going.remove(&done.user_data) else {
                panic!("seed {seed} {model:?}: ended twice, or never begun: {done:?}");
            };
            judge(seed, model, &done, &ended, &content, &target, tally);
        }
        assert_eq!(rig.remote.in_flight() as usize, going.len(), "seed {seed}");
    }
    for device in [src, dst] {
        assert!(rig.remote.close(device) >= 0, "seed {seed}");
        for _ in 0..20_000 {
            if rig.remote.is_closed(device) == 1 {
                break;
            }
            rig.ready();
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        assert_eq!(rig.remote.is_closed(device), 1, "seed {seed} {model:?}");
    }
    let stats = rig.remote.stats();
    assert_eq!(
        (stats.requests, stats.completions),
        (operations, operations),
        "seed {seed}"
    );
    drop(rig);
    assert_eq!(script.open.load(Ordering::Acquire), 0, "seed {seed}");
    assert_eq!(script.queues.load(Ordering::Acquire), 0, "seed {seed}");
    assert_eq!(
        script.violations(),
        Vec::<String>::new(),
        "seed {seed} {model:?}"
    );
}

fn judge(
    seed: u64,
    model: Model,
    done: &xcopy_completion,
    ended: &Going,
    content: &[u8],
    target: &Target,
    tally: &mut Tally,
) {
    let zone = done.user_data % 4;
    let list = within(&ended.ranges, zone);
    let expected = Expected {
        src: content,
        before: &ended.before,
        ranges: &list,
        flushes: ended.durable,
    };
    let report = (ended.extra.report.size != 0).then_some(&*ended.extra.report);
    if let Err(text) = expected.check(done, report, &target.read(zone)) {
        panic!("seed {seed} {model:?}: {text}\n{} ranges", list.len());
    }
    let allowed = [
        0,
        -libc::EIO,
        -libc::ENOTSUP,
        -libc::EINVAL,
        -libc::ENOSPC,
        -libc::ECANCELED,
        -libc::ETIMEDOUT,
    ];
    assert!(
        allowed.contains(&done.res),
        "seed {seed} {model:?} {done:?}"
    );
    assert!(
        done.res != -libc::ECANCELED || ended.canceled,
        "seed {seed} {model:?} {done:?}"
    );
    assert!(
        done.res != -libc::ETIMEDOUT || ended.deadline,
        "seed {seed} {model:?} {done:?}"
    );
    tally.operations += 1;
    *tally.ends.entry((done.res, done.reason)).or_default() += 1;
    tally.failures += u64::from(done.res != 0);
    tally.canceled += u64::from(done.res == -libc::ECANCELED || done.res == -libc::ETIMEDOUT);
    if let Some(report) = report {
        for share in &report.shares[..report.nshares as usize] {
            *tally.by_method.entry(share.method).or_default() += u64::from(share.bytes > 0);
        }
    } else if done.bytes_copied > 0 {
        *tally.by_method.entry(done.method).or_default() += 1;
    }
}

/// Four models into memory and into files.
#[test]
fn random_copies() {
    let seed = std::env::var("XCOPY_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let first: u64 = seed.unwrap_or(1);
    for model in MODELS {
        let mut tally = Tally {
            by_method: HashMap::new(),
            operations: 0,
            failures: 0,
            canceled: 0,
            ends: HashMap::new(),
            names: HashMap::new(),
        };
        for personality in 0..8 {
            let to_file = personality % 4 == 3;
            round(
                first * 100 + personality,
                model,
                to_file,
                OPERATIONS / 8,
                &mut tally,
            );
        }
        println!(
            "{model:?}: {} operations, {} failed, {} stopped, by method {:?}, ends {:?}",
            tally.operations, tally.failures, tally.canceled, tally.by_method, tally.ends
        );
        assert_eq!(tally.operations, OPERATIONS);
        // Most refusals are right: an offload was demanded that cannot be.
        let succeeded = OPERATIONS - tally.failures;
        assert!(
            succeeded >= OPERATIONS / 5,
            "{model:?}: only {succeeded} succeed"
        );
        for (method, name) in &tally.names {
            let n = tally.by_method.get(method).copied().unwrap_or(0);
            assert!(
                n >= OPERATIONS / 20,
                "{model:?}: {name} moved bytes in {n} operations only"
            );
        }
    }
}
