//! Copies of files with holes through a queue.

use super::context::{self, Context};
use super::queue::{self, Queue};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use xcopy_abi::*;

struct Setup {
    context: Arc<Context>,
    queue: Queue,
    _dir: tempfile::TempDir,
    src: File,
    dst: File,
    request: xcopy_request,
    report: Box<xcopy_report>,
    ext: Box<xcopy_ext>,
}

/// Two files of which the source is made so; None, and a word, where it cannot be.
fn setup(place: &Path, make: impl Fn(&File) -> std::io::Result<u64>) -> Option<Setup> {
    let dir = tempfile::tempdir_in(place).unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let (src, dst) = (File::create_new(&from).unwrap(), File::create_new(&to));
    let length = match make(&src) {
        Ok(length) => length,
        Err(error) => {
            eprintln!("SKIP: {}: {error}", place.display());
            return None;
        }
    };
    let context = Context::new(context::default_options()).unwrap();
    let open = |path: &Path, flags| {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        context.open(&path, flags).unwrap().handle
    };
    // SAFETY: plain data, of which all zeroes are valid.
    let (mut report, mut ext): (Box<xcopy_report>, Box<xcopy_ext>) =
        unsafe { (Box::new(std::mem::zeroed()), Box::new(std::mem::zeroed())) };
    report.size = size_of::<xcopy_report>() as u32;
    ext.size = size_of::<xcopy_ext>() as u32;
    ext.report = &raw mut *report;
    let request = xcopy_request {
        user_data: 42,
        op: XCOPY_OP_COPY,
        flags: XCOPY_REQ_KEEP_HOLES,
        src: open(&from, XCOPY_OPEN_READ),
        dst: open(&to, XCOPY_OPEN_WRITE),
        length,
        ext: &raw const *ext,
        reserved: 0,
        src_offset: 0,
        dst_offset: 0,
        methods: 1 << XCOPY_METHOD_READ_WRITE | 1 << XCOPY_METHOD_ZERO,
        timeout_ms: 0,
    };
    drop(dst);
    Some(Setup {
        queue: Queue::new(context.clone(), queue::default_options()).unwrap(),
        context,
        _dir: dir,
        src: File::open(&from).unwrap(),
        dst: File::options().read(true).write(true).open(&to).unwrap(),
        request,
        report,
        ext,
    })
}

impl Setup {
    fn submit(&mut self) {
        let mut error = None;
        let request = std::ptr::from_ref(&self.request).cast();
        // SAFETY: one request of 64 bytes, whose report lives as long as the queue.
        let n = unsafe { self.queue.submit(request, 64, 1, 0, &mut error) };
        assert_eq!(n, 1, "{error:?}");
    }

    fn poll(&mut self, timeout_ns: i64) -> Option<xcopy_completion> {
        let mut completion = xcopy_completion::default();
        let mut error = None;
        let out = std::ptr::from_mut(&mut completion).cast();
        // SAFETY: room for one completion.
        let n = unsafe { self.queue.poll(out, 64, 1, 1, timeout_ns, &mut error) };
        (n == 1).then_some(completion)
    }

    fn copy(&mut self) -> xcopy_completion {
        self.submit();
        self.poll(-1).expect("it waits without an end")
    }

    fn end(self) {
        self.queue.destroy();
        self.context.shut_down().unwrap();
        drop(self.ext);
    }
}

fn blocks(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

fn in_memory() -> &'static Path {
    Path::new("/dev/shm")
}

/// As long as a file of the place can be, with two islands.
fn huge(file: &File) -> std::io::Result<u64> {
    let sizes = [i64::MAX as u64 - 4095, 1 << 43, 1 << 40];
    let fits = sizes.iter().find(|size| file.set_len(**size).is_ok());
    let size = *fits.ok_or(std::io::Error::last_os_error())?;
    file.write_all_at(&[1; 70_000], 1 << 38)?;
    file.write_all_at(&[2; 9000], size - 9000)?;
    match blocks(file) < 1 << 20 {
        true => Ok(size),
        false => Err(std::io::Error::other("it has no holes")),
    }
}

#[test]
fn a_hole_of_any_length_is_one_step() {
    for place in [in_memory(), &std::env::temp_dir()] {
        let Some(mut setup) = setup(place, huge) else {
            continue;
        };
        let size = setup.request.length;
        for turn in 0..3 {
            // Over an empty file, over the same, over islands that have to go.
            if turn == 2 {
                for at in 0..20 {
                    setup
                        .dst
                        .write_all_at(&[3; 5000], at * (size / 23))
                        .unwrap();
                }
            }
            let done = setup.copy();
            assert_eq!((done.res, done.bytes_done), (0, size));
            assert!(done.commands <= 4, "{} commands", done.commands);
            assert!(done.bytes_copied - done.bytes_offloaded < 200_000);
            assert_eq!(setup.dst.metadata().unwrap().len(), size);
            assert!(blocks(&setup.dst) <= blocks(&setup.src));
            for (at, byte, length) in [(1 << 38, 1, 70_000), (size - 9000, 2, 9000)] {
                let mut seen = vec![0; length];
                setup.dst.read_exact_at(&mut seen, at).unwrap();
                assert!(seen.iter().all(|seen| *seen == byte));
            }
            for at in 0..20 {
                let mut seen = [9; 5000];
                setup
                    .dst
                    .read_exact_at(&mut seen, at * (size / 23))
                    .unwrap();
                assert!(seen == [0; 5000], "at {at}");
            }
        }
        // So is a range that is zeroed.
        setup.request.op = XCOPY_OP_ZERO;
        setup.request.src = 0;
        let done = setup.copy();
        assert_eq!((done.res, done.bytes_done), (0, size));
        assert!(done.commands <= 4, "{} commands", done.commands);
        assert_eq!(blocks(&setup.dst), 0);
        setup.end();
    }
}

/// Blocks that were set aside and never written read as zeroes: no byte of them is
/// moved, whether or not the copy goes past the page cache.
#[test]
fn unwritten_blocks_are_holes() {
    const SIZE: u64 = 48 << 20;
    let preallocated = |file: &File, bytes: u64| {
        // SAFETY: takes numbers only.
        match unsafe { libc::fallocate64(file.as_raw_fd(), 0, 0, bytes as i64) } {
            0 => Ok(bytes),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    let make = |file: &File| {
        preallocated(file, SIZE)?;
        file.write_all_at(&[7; 1 << 20], 20 << 20)?;
        file.sync_all()?;
        Ok(SIZE)
    };
    for place in [in_memory(), &std::env::temp_dir()] {
        let Some(mut small) = setup(place, |file| preallocated(file, 300_000)) else {
            continue;
        };
        let done = small.copy();
        assert_eq!((done.res, done.bytes_done), (0, 300_000));
        assert_eq!(done.bytes_offloaded, 300_000);
        small.end();
    }
    for place in [in_memory(), &std::env::temp_dir()] {
        for flags in [0, XCOPY_REQ_DURABLE] {
            let Some(mut setup) = setup(place, make) else {
                continue;
            };
            setup.request.flags |= flags;
            let done = setup.copy();
            assert_eq!((done.res, done.bytes_done), (0, SIZE));
            assert_eq!(done.bytes_copied - done.bytes_offloaded, 1 << 20);
            assert!(blocks(&setup.dst) <= 2 << 20);
            let mut seen = vec![0; SIZE as usize];
            setup.dst.read_exact_at(&mut seen, 0).unwrap();
            let island = (20 << 20)..(21 << 20);
            let right = |(at, byte): (usize, &u8)| *byte == 7 * u8::from(island.contains(&at));
            assert!(seen.iter().enumerate().all(right));
            setup.end();
        }
    }
}

/// However far a copy came: what is said to be done is there, nothing at or behind
/// `untouched_from` was changed, and what lies between is told to be unknown.
#[test]
fn a_cancelled_copy_says_what_it_touched() {
    const SIZE: u64 = 32 << 20;
    const ISLAND: u64 = 192 << 10;
    let make = |holes: bool| {
        move |file: &File| {
            file.set_len(SIZE)?;
            for at in (0..SIZE).step_by(256 << 10) {
                let length = if holes { ISLAND } else { 256 << 10 };
                file.write_all_at(&vec![1; length as usize], at)?;
            }
            Ok(SIZE)
        }
    };
    let before = vec![0xee; SIZE as usize];
    let mut early = 0;
    for (holes, flags) in [
        (true, XCOPY_REQ_KEEP_HOLES),
        (false, XCOPY_REQ_KEEP_HOLES),
        (false, XCOPY_REQ_DURABLE),
        (false, 0),
    ] {
        let Some(mut setup) = setup(&std::env::temp_dir(), make(holes)) else {
            continue;
        };
        setup.request.flags = flags;
        let (mut wanted, mut seen) = (vec![0; SIZE as usize], vec![0; SIZE as usize]);
        setup.src.read_exact_at(&mut wanted, 0).unwrap();
        for turn in 0..8 {
            setup.dst.set_len(0).unwrap();
            setup.dst.write_all_at(&before, 0).unwrap();
            setup.submit();
            let mut early_end = None;
            for _ in 0..turn {
                early_end = early_end.or_else(|| setup.poll(1_000_000));
            }
            setup.queue.shared().ask_cancel(|_| true);
            let done = early_end.unwrap_or_else(|| setup.poll(-1).expect("its end"));
            let (prefix, untouched) = (done.bytes_done, setup.report.untouched_from);
            let told = done.flags & XCOPY_CPL_INDETERMINATE != 0;
            early += u32::from(done.res != 0 && prefix > 0);
            assert!(prefix <= untouched && untouched <= SIZE, "{done:?}");
            assert_eq!(
                told,
                done.res != 0 && prefix < untouched,
                "{done:?} {untouched}"
            );
            setup.dst.read_exact_at(&mut seen, 0).unwrap();
            let (prefix, behind) = (prefix as usize, untouched as usize);
            assert!(seen[..prefix] == wanted[..prefix], "{done:?}");
            assert!(seen[behind..] == before[behind..], "{done:?} {untouched}");
        }
        setup.end();
    }
    assert!(early > 0, "none was cancelled under way");
}
