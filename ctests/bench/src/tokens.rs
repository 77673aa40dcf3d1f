//! Copies by tokens with 1, 2, 4 and 8 of them in flight, against a copy manager in
//! memory whose every command takes 5 ms, as an array's does: how the time falls as
//! the depth grows, and what a token costs this side. The data is not moved through
//! the host, and what the copy manager itself computes is counted apart.

use crate::api::Api;
use crate::{Failure, shuffled};
use serde_json::json;
use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::time::Instant;
use xcopy_abi::*;

const USAGE: &str = "\
usage: xcopy-bench tokens [--quick] [--runs N] [--json FILE] [--check] --lib DIR --equipment FILE
  --equipment FILE   libcopy_manager_library.so
  --quick            one run of a quarter of the data
";

const DEPTHS: [u32; 4] = [1, 2, 4, 8];
const TOKEN_BYTES: u64 = 8 << 20;
const SERVICE_US: u64 = 5000;
/// How many times faster four tokens in flight are than one, at least.
const GOAL_AT_4: f64 = 3.5;
/// Microseconds of processor that one token costs, at most.
const GOAL_CPU_US: f64 = 100.0;

struct Options {
    lib: PathBuf,
    equipment: PathBuf,
    runs: usize,
    bytes: u64,
    json: Option<PathBuf>,
    check: bool,
}

fn parse(args: Vec<String>) -> Result<Option<Options>, Failure> {
    let mut options = Options {
        lib: PathBuf::new(),
        equipment: PathBuf::new(),
        runs: 9,
        bytes: 1 << 30,
        json: None,
        check: false,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--quick" => (options.runs, options.bytes) = (1, 256 << 20),
            "--check" => options.check = true,
            "--lib" => options.lib = value()?.into(),
            "--equipment" => options.equipment = value()?.into(),
            "--json" => options.json = Some(value()?.into()),
            "--runs" => {
                options.runs = value()?.parse().map_err(|_| "--runs takes a number")?;
            }
            _ => return Err(format!("unknown argument {arg}\n{USAGE}")),
        }
    }
    match (options.lib.as_os_str(), options.equipment.as_os_str()) {
        (lib, equipment) if lib.is_empty() || equipment.is_empty() => {
            Err("--lib and --equipment are needed".into())
        }
        _ => Ok(Some(options)),
    }
}

/// The copy manager's functions.
struct Equipment {
    new: unsafe extern "C" fn(*const c_char) -> *mut c_void,
    add_disk: unsafe extern "C" fn(*const c_void, u32, u64) -> usize,
    connect: unsafe extern "C" fn(*const c_void, *const c_char, usize) -> *mut c_void,
    service: unsafe extern "C" fn(*const c_void, u64),
    cpu_ns: unsafe extern "C" fn(*const c_void) -> u64,
    live_tokens: unsafe extern "C" fn(*const c_void) -> usize,
}

impl Equipment {
    fn load(path: &Path) -> Result<Equipment, Failure> {
        let wrong = |error: libloading::Error| format!("{}: {error}", path.display());
        // SAFETY: the library has no constructors. It stays for ever.
        let library = unsafe { libloading::Library::new(path) }.map_err(wrong)?;
        let library = Box::leak(Box::new(library));
        // SAFETY: the types are those that copy_manager.h declares.
        unsafe {
            Ok(Equipment {
                new: *library.get(b"copy_manager_new").map_err(wrong)?,
                add_disk: *library.get(b"copy_manager_add_disk").map_err(wrong)?,
                connect: *library.get(b"copy_manager_connect").map_err(wrong)?,
                service: *library.get(b"copy_manager_service").map_err(wrong)?,
                cpu_ns: *library.get(b"copy_manager_cpu_ns").map_err(wrong)?,
                live_tokens: *library.get(b"copy_manager_live_tokens").map_err(wrong)?,
            })
        }
    }
}

/// A target with two disks, and a pair prepared at one depth.
struct Bed {
    api: Api,
    queue: *mut c_void,
    src: u32,
    dst: u32,
}

/// What a copy took.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    /// Of this side, for one token.
    cpu_us: f64,
}

impl Bed {
    fn new(
        api: Api,
        equipment: &Equipment,
        target: *const c_void,
        units: [usize; 2],
        depth: u32,
    ) -> Result<Bed, Failure> {
        let mut context = std::ptr::null_mut();
        // SAFETY: plain data, for which zeroes are valid (NULL and None); places of
        // the sizes given; live handles.
        unsafe {
            let mut options: xcopy_context_options = std::mem::zeroed();
            let size = size_of::<xcopy_context_options>();
            api.check("options", (api.context_options_init)(&mut options, size))?;
            // As many threads as commands can block, and those that others need.
            options.pool_threads = 16;
            api.check("context", (api.context_create)(&options, &mut context))?;
            let name = CString::new("odx").unwrap_or_default();
            api.check("odx", (api.plugin_load)(context, name.as_ptr()))?;
            let mut queue_options: xcopy_queue_options = std::mem::zeroed();
            let size = size_of::<xcopy_queue_options>();
            api.check("queue", (api.queue_options_init)(&mut queue_options, size))?;
            queue_options.depth = depth;
            queue_options.chunk = TOKEN_BYTES;
            let mut queue = std::ptr::null_mut();
            api.check(
                "queue",
                (api.queue_create)(context, &queue_options, &mut queue),
            )?;
            let mut bed = Bed {
                api,
                queue,
                src: 0,
                dst: 0,
            };
            for (device, unit) in [(&mut bed.src, units[0]), (&mut bed.dst, units[1])] {
                let host = CString::new("bench").unwrap_or_default();
                let native = (equipment.connect)(target, host.as_ptr(), unit);
                let flags = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
                let open = api.device_open_native;
                let opened = open(context, name.as_ptr(), native, flags, device);
                api.check("device", opened)?;
            }
            bed.run(XCOPY_OP_PREPARE, 0)?;
            Ok(bed)
        }
    }

    fn run(&self, op: u16, length: u64) -> Result<xcopy_completion, Failure> {
        let request = xcopy_request {
            user_data: 1,
            op,
            reserved: 0,
            flags: if op == XCOPY_OP_COPY {
                XCOPY_REQ_NO_FALLBACK
            } else {
                0
            },
            src: self.src,
            dst: self.dst,
            src_offset: 0,
            dst_offset: 0,
            length,
            methods: 0,
            timeout_ms: 0,
            ext: std::ptr::null(),
        };
        let mut done = xcopy_completion::default();
        // SAFETY: a live queue, one request, one place for its end.
        unsafe {
            let taken = (self.api.submit)(self.queue, &request, 64, 1);
            self.api.check("submit", taken)?;
            let n = (self.api.poll)(self.queue, &mut done, 64, 1, 1, -1);
            self.api.check("poll", n)?;
        }
        match (done.res, done.bytes_offloaded == length) {
            (0, true) => Ok(done),
            _ => Err(format!("a copy ended otherwise than by tokens: {done:?}")),
        }
    }
}

fn process_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// First quartile, median, third quartile.
fn quartiles(samples: &[Sample], of: fn(&Sample) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
    [at(0.25), at(0.5), at(0.75)]
}

/// Runs it. False if `--check` was given and a goal is missed.
pub fn main(args: Vec<String>) -> Result<bool, Failure> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(true);
    };
    let api = Api::load(&options.lib.join("libxcopy.so.0"))?;
    let equipment = Equipment::load(&options.equipment)?;
    let name = CString::new("array").unwrap_or_default();
    // SAFETY: NUL-terminated.
    let target = unsafe { (equipment.new)(name.as_ptr()) };
    // SAFETY: a live target.
    let disk = || unsafe { (equipment.add_disk)(target, 512, options.bytes) };
    let units = [disk(), disk()];
    // SAFETY: a live target.
    unsafe { (equipment.service)(target, SERVICE_US) };
    let beds: Vec<Bed> = DEPTHS
        .iter()
        .map(|depth| Bed::new(api, &equipment, target, units, *depth))
        .collect::<Result<_, _>>()?;
    let tokens = options.bytes / TOKEN_BYTES;
    let mut samples = vec![Vec::new(); DEPTHS.len()];
    let mut random = 0x2545_f491_4f6c_dd1d ^ u64::from(std::process::id());
    for _ in 0..options.runs {
        for at in shuffled(DEPTHS.len(), &mut random) {
            // SAFETY: a live target.
            let theirs = || unsafe { (equipment.cpu_ns)(target) };
            let (wall, cpu, other) = (Instant::now(), process_cpu_ns(), theirs());
            let done = beds[at].run(XCOPY_OP_COPY, options.bytes)?;
            let seconds = wall.elapsed().as_secs_f64();
            let ours = (process_cpu_ns() - cpu).saturating_sub(theirs() - other);
            if u64::from(done.commands) != tokens {
                return Err(format!("{} commands for {tokens} tokens", done.commands));
            }
            samples[at].push(Sample {
                seconds,
                cpu_us: ours as f64 / tokens as f64 / 1000.0,
            });
        }
    }
    // SAFETY: a live target.
    let left = unsafe { (equipment.live_tokens)(target) };
    if left != 0 {
        return Err(format!("{left} tokens were left on the target"));
    }
    conclude(&options, &samples)
}

fn conclude(options: &Options, samples: &[Vec<Sample>]) -> Result<bool, Failure> {
    println!(
        "{} MiB in tokens of {} MiB, {} ms for each command, {} runs",
        options.bytes >> 20,
        TOKEN_BYTES >> 20,
        SERVICE_US / 1000,
        options.runs
    );
    println!("in flight   seconds    q1      q3     times  CPU us of a token");
    let walls: Vec<[f64; 3]> = samples
        .iter()
        .map(|of| quartiles(of, |sample| sample.seconds))
        .collect();
    let cpus: Vec<[f64; 3]> = samples
        .iter()
        .map(|of| quartiles(of, |sample| sample.cpu_us))
        .collect();
    for (at, depth) in DEPTHS.iter().enumerate() {
        let ([q1, median, q3], times) = (walls[at], walls[0][1] / walls[at][1]);
        println!(
            "{depth:9} {median:9.3} {q1:7.3} {q3:7.3} {times:8.2} {:12.1}",
            cpus[at][1]
        );
    }
    let at_4 = walls[0][1] / walls[2][1];
    let cpu = cpus.iter().map(|cpu| cpu[1]).fold(0.0, f64::max);
    let word = |kept| if kept { "kept" } else { "MISSED" };
    let kept = [at_4 >= GOAL_AT_4, cpu <= GOAL_CPU_US];
    println!(
        "goal {}: four in flight are {at_4:.2} times as fast as one ({GOAL_AT_4} at least)",
        word(kept[0])
    );
    println!(
        "goal {}: a token costs {cpu:.1} us of processor ({GOAL_CPU_US} at most)",
        word(kept[1])
    );
    if let Some(path) = &options.json {
        let rows: Vec<_> = DEPTHS
            .iter()
            .enumerate()
            .map(|(at, depth)| {
                json!({
                    "in_flight": depth,
                    "seconds": { "q1": walls[at][0], "median": walls[at][1], "q3": walls[at][2] },
                    "times": walls[0][1] / walls[at][1],
                    "cpu_us_per_token": { "q1": cpus[at][0], "median": cpus[at][1], "q3": cpus[at][2] },
                })
            })
            .collect();
        let all = json!({
            "bytes": options.bytes, "token_bytes": TOKEN_BYTES, "service_us": SERVICE_US,
            "runs": options.runs, "depths": rows,
            "goals": { "times_at_4": GOAL_AT_4, "cpu_us_per_token": GOAL_CPU_US },
        });
        std::fs::write(path, format!("{all:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(kept.iter().all(|kept| *kept) || !options.check)
}
