//! Many ranges in one request, by the library and by plain loops; each runs as a
//! process of its own.

use super::options::Options;
use super::place::tool;
use crate::api::Api;
use crate::{Failure, next_random};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::time::Instant;
use xcopy_abi::*;

/// Ranges that ascend, with gaps between them: what changed since a backup.
pub struct List {
    name: &'static str,
    title: &'static str,
    count: usize,
    /// Lengths are multiples of this, and gaps too.
    unit: u64,
    /// Units of the longest range and of the longest gap.
    longest: (u64, u64),
}

impl List {
    /// 100,000 of 4 to 64 KiB.
    pub fn large() -> List {
        List {
            name: "large",
            title: "100,000 ranges of 4 to 64 KiB",
            count: 100_000,
            unit: 4096,
            longest: (16, 16),
        }
    }

    /// A quarter of them: what a disk takes without waiting for its writes.
    pub fn fewer() -> List {
        List {
            name: "fewer",
            title: "25,000 ranges of 4 to 64 KiB",
            count: 25_000,
            ..List::large()
        }
    }

    /// 500,000 of 31 bytes.
    pub fn tiny() -> List {
        List {
            name: "tiny",
            title: "500,000 ranges of 31 bytes",
            count: 500_000,
            unit: 31,
            longest: (1, 4),
        }
    }

    fn named(name: &str) -> Result<List, Failure> {
        let all = [List::large(), List::fewer(), List::tiny()];
        let found = all.into_iter().find(|list| list.name == name);
        found.ok_or_else(|| format!("no list {name}"))
    }

    /// What `named` finds it by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is, in words.
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// Offset and length of each.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        let (unit, (range, gap), mut at, mut random) = (self.unit, self.longest, 0, 7);
        (0..self.count).map(move |_| {
            at += unit * (next_random(&mut random) % gap);
            let length = unit * (next_random(&mut random) % range + 1);
            let place = (at, length);
            at += length;
            place
        })
    }

    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.places().map(|(_, length)| length).sum()
    }

    /// Where the last one ends.
    pub fn end(&self) -> u64 {
        self.places().last().map_or(0, |(at, length)| at + length)
    }

    /// Whether a new file has the ranges' bytes, and zeroes between them.
    pub fn compare(&self, src: &Path, dst: &Path) -> Result<(), Failure> {
        let open = |path: &Path| File::open(path).map_err(|e| format!("{}: {e}", path.display()));
        let (one, other) = (open(src)?, open(dst)?);
        let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut before = 0;
        for (at, length) in self.places() {
            let (gap, n) = ((at - before) as usize, length as usize);
            other
                .read_exact_at(&mut b[..gap], before)
                .map_err(|e| e.to_string())?;
            if b[..gap].iter().any(|byte| *byte != 0) {
                return Err(format!("something was written near byte {before}"));
            }
            one.read_exact_at(&mut a[..n], at)
                .map_err(|e| e.to_string())?;
            other
                .read_exact_at(&mut b[..n], at)
                .map_err(|e| e.to_string())?;
            if a[..n] != b[..n] {
                return Err(format!("differs near byte {at}"));
            }
            before = at + length;
        }
        Ok(())
    }
}

/// `HOW LIST BUILD SRC DST`.
pub fn child(args: &[String]) -> Result<(), Failure> {
    let [how, list, build, src, dst] = args else {
        return Err("--child needs HOW LIST BUILD SRC DST".into());
    };
    if how == "plan" {
        return plan(Path::new(build));
    }
    let list = List::named(list)?;
    let file = File::open(src).map_err(|e| format!("{src}: {e}"))?;
    let mut options = OpenOptions::new();
    let new = options.read(true).write(true).create(true).truncate(false);
    let out = new.open(dst).map_err(|e| format!("{dst}: {e}"))?;
    match &**how {
        "loop" => by_loop(&list, &file, &out),
        "copy_file_range" => by_copy_file_range(&list, &file, &out),
        "library" => by_library(&list, Path::new(build), src, dst),
        _ => Err(format!("no way {how}")),
    }
}

fn by_loop(list: &List, src: &File, dst: &File) -> Result<(), Failure> {
    let mut buffer = vec![0; 64 << 10];
    for (at, length) in list.places() {
        let part = &mut buffer[..length as usize];
        src.read_exact_at(part, at).map_err(|e| e.to_string())?;
        dst.write_all_at(part, at).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn by_copy_file_range(list: &List, src: &File, dst: &File) -> Result<(), Failure> {
    for (at, length) in list.places() {
        let (mut from, mut to, mut left) = (at as i64, at as i64, length as usize);
        while left > 0 {
            let (src, dst) = (src.as_raw_fd(), dst.as_raw_fd());
            // SAFETY: two places for the offsets, which live through the call.
            match unsafe { libc::copy_file_range(src, &mut from, dst, &mut to, left, 0) } {
                n if n > 0 => left -= n as usize,
                _ => return Err(std::io::Error::last_os_error().to_string()),
            }
        }
    }
    Ok(())
}

fn open(api: Api, context: *mut std::ffi::c_void, path: &str, flags: u32) -> Result<u32, Failure> {
    let path = std::ffi::CString::new(path).map_err(|e| e.to_string())?;
    let mut device = 0;
    // SAFETY: a context, a text and a place for the handle.
    let answer = unsafe { (api.device_open)(context, path.as_ptr(), flags, &mut device) };
    api.check("device", answer).map(|()| device)
}

/// Copies the ranges in one request; answers its completion.
fn submit(
    build: &Path,
    (src, dst): (&str, &str),
    ranges: &[xcopy_range],
) -> Result<(xcopy_completion, f64), Failure> {
    let api = Api::load(&build.join("lib/libxcopy.so.0"))?;
    let (mut context, mut queue) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: defaults, and places for what is made.
    unsafe {
        api.check("context", (api.context_create)(ptr::null(), &mut context))?;
        let plugins = build.join("lib/xcopy/plugins");
        let plugins = plugins.into_os_string().into_encoded_bytes();
        let plugins = std::ffi::CString::new(plugins).map_err(|e| e.to_string())?;
        api.check("plugins", (api.plugin_load_all)(context, plugins.as_ptr()))?;
        api.check(
            "queue",
            (api.queue_create)(context, ptr::null(), &mut queue),
        )?;
    }
    let ext = xcopy_ext {
        size: size_of::<xcopy_ext>() as u32,
        reserved: 0,
        ranges: ranges.as_ptr(),
        nranges: ranges.len() as u64,
        report: ptr::null_mut(),
        token_lifetime_s: 0,
        token_type: 0,
    };
    let mut request = xcopy_request {
        user_data: 1,
        op: XCOPY_OP_PREPARE,
        reserved: 0,
        flags: 0,
        src: open(api, context, src, XCOPY_OPEN_READ)?,
        dst: open(api, context, dst, XCOPY_OPEN_WRITE)?,
        src_offset: 0,
        dst_offset: 0,
        length: 0,
        methods: 0,
        timeout_ms: 0,
        ext: ptr::null(),
    };
    let mut completion = xcopy_completion::default();
    let mut run = |request: &xcopy_request| {
        // SAFETY: the queue, one request, whose list and ext live, and one place.
        unsafe {
            api.check("submit", (api.submit)(queue, request, 64, 1))?;
            api.check("poll", (api.poll)(queue, &mut completion, 64, 1, 1, -1))?;
        }
        api.check("completion", completion.res)
    };
    run(&request)?;
    (request.op, request.ext) = (XCOPY_OP_COPY, &ext);
    let begun = Instant::now();
    run(&request)?;
    Ok((completion, begun.elapsed().as_secs_f64()))
}

fn by_library(list: &List, build: &Path, src: &str, dst: &str) -> Result<(), Failure> {
    let range = |(at, length)| xcopy_range {
        src_offset: at,
        dst_offset: at,
        length,
    };
    let ranges: Vec<xcopy_range> = list.places().map(range).collect();
    let (completion, _) = submit(build, (src, dst), &ranges)?;
    match completion.bytes_done == list.bytes() {
        true => Ok(()),
        false => Err(format!("ended short: {completion:?}")),
    }
}

/// Ranges of the planning figure.
const PLANNED: u64 = 10_000_000;

/// Ten million ranges through the null plugin: what each costs, and the memory.
fn plan(build: &Path) -> Result<(), Failure> {
    let range = |i| xcopy_range {
        src_offset: i * 8192,
        dst_offset: i * 8192,
        length: 4096,
    };
    let ranges: Vec<xcopy_range> = (0..PLANNED).map(range).collect();
    let own = peak_bytes()?;
    let size = PLANNED * 8192;
    let specs = (format!("null:{size},id=1"), format!("null:{size},id=2"));
    let (completion, seconds) = submit(build, (&specs.0, &specs.1), &ranges)?;
    let more = peak_bytes()?.saturating_sub(own);
    if completion.bytes_done != PLANNED * 4096 {
        return Err(format!("ended short: {completion:?}"));
    }
    println!(
        "{:.1} {:.1}",
        seconds * 1e9 / PLANNED as f64,
        more as f64 / 1_048_576.0
    );
    Ok(())
}

/// Peak resident bytes of this process.
fn peak_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| "no VmHWM".into())
}

/// MiB: 16, and the default budget of bounce buffers, which a try of the host's way
/// may use for a moment.
const MEMORY_GOAL: f64 = 144.0;

/// The figures that have no peer: planning, its memory, and Python's batches.
pub fn planning(options: &Options) -> Result<(), Failure> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let build = options.build.to_string_lossy().into_owned();
    let args = ["files", "--child", "plan", "-", &build, "-", "-"];
    let said = tool(&own.to_string_lossy(), &args)?;
    let mut figures = said
        .split_whitespace()
        .filter_map(|word| word.parse::<f64>().ok());
    let (Some(each), Some(memory)) = (figures.next(), figures.next()) else {
        return Err(format!("planning: {said}"));
    };
    let verdict = |good| if good { "met" } else { "MISSED" };
    println!("\nplanning: 10,000,000 ranges through the null plugin");
    println!(
        "  {each:.1} ns a range, goal 100: {}",
        verdict(each <= 100.0)
    );
    println!(
        "  {memory:.1} MiB of memory beside the list, goal {MEMORY_GOAL} (16 and the bounce \
         buffers' 128): {}",
        verdict(memory <= MEMORY_GOAL)
    );
    Ok(())
}
