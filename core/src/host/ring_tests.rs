//! Tests of the ring against real files. Where the kernel offers no io_uring
//! they fail: nothing else would tell that it was never used.

use super::*;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn buffers(budget: u64) -> Buffers {
    Buffers::new(None, None, std::ptr::null_mut(), MIB, budget)
}

/// Bytes that differ from place to place, never zero for long.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
        bytes.extend_from_slice(&(state >> 7).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn file_with(bytes: &[u8]) -> (tempfile::NamedTempFile, File) {
    let named = tempfile::NamedTempFile::new_in(disk_dir()).unwrap();
    named.as_file().write_all_at(bytes, 0).unwrap();
    let file = named.reopen().unwrap();
    (named, file)
}

/// A directory on a disk: /tmp is often in memory, where O_DIRECT says nothing.
fn disk_dir() -> std::path::PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Into::into))
        .unwrap_or_else(std::env::temp_dir)
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn copy_of(src: &File, dst: &File, (from, to, length): (u64, u64, u64)) -> RingCopy {
    RingCopy {
        tag: 7,
        src: src.as_raw_fd(),
        dst: dst.as_raw_fd(),
        src_offset: from,
        dst_offset: to,
        length,
        punch: false,
        direct_src: None,
        direct_dst: None,
    }
}

fn direct(named: &tempfile::NamedTempFile) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(named.path())
        .unwrap()
}

/// Runs all that was started; `stop` is asked for each tag at each turn.
fn run(ring: &mut HostRing, mut stop: impl FnMut(u64) -> bool) -> Vec<(u64, Outcome)> {
    let mut ended = Vec::new();
    let begin = Instant::now();
    while ring.active() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "it hangs");
        ring.submit();
        if !ring.is_ready() {
            let mut place = libc::pollfd {
                fd: ring.fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd that lives through the call.
            unsafe { libc::poll(&mut place, 1, 1000) };
        }
        let stop = std::cell::RefCell::new(&mut stop);
        ring.collect(
            |tag| (*stop.borrow_mut())(tag),
            |tag, done| ended.push((tag, done)),
        );
    }
    ended
}

fn run_one(ring: &mut HostRing, copy: RingCopy) -> Outcome {
    assert!(ring.start(copy));
    let ended = run(ring, |_| false);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].0, copy.tag);
    ended[0].1
}

#[test]
fn copies_any_range_and_nothing_else() {
    for pinned in [false, true] {
        let mut ring = HostRing::new(buffers(128 << 20), pinned).unwrap();
        let old = pattern(2, 6 * MIB);
        let data = pattern(1, 5 * MIB + 77);
        let (_a, src) = file_with(&data);
        for (from, to, length) in [
            (0, 0, 5 * MIB + 77),
            (1, 3, 4 * MIB),
            (777, 12_345, 54_321),
            (9, 9, 1),
            (0, 0, 0),
        ] {
            let (_b, dst) = file_with(&old);
            let copy = copy_of(&src, &dst, (from as u64, to as u64, length as u64));
            let done = run_one(&mut ring, copy);
            assert_eq!((done.prefix, done.error), (length as u64, None));
            assert_eq!((done.copied, done.zeroed), (length as u64, 0));
            let mut expected = old.clone();
            expected[to..to + length].copy_from_slice(&data[from..from + length]);
            assert!(contents(&dst) == expected, "{from} {to} {length}");
        }
        assert!(!ring.is_ready());
    }
}

#[test]
fn goes_past_the_cache_and_agrees_with_it() {
    let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
    let data = pattern(3, 6 * MIB + 5000);
    let length = data.len() as u64;
    for (cold, to_disk) in [(true, true), (true, false), (false, true)] {
        let (a, src) = file_with(&data);
        let (b, dst) = file_with(&pattern(4, 7 * MIB));
        if cold {
            src.sync_all().unwrap();
            // SAFETY: takes numbers only.
            unsafe { libc::posix_fadvise(src.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
        // Dirty in the cache only: what is read past it must still see this.
        let mut expected = data.clone();
        expected[MIB + 3..MIB + 8].copy_from_slice(b"dirty");
        src.write_all_at(b"dirty", MIB as u64 + 3).unwrap();
        let (direct_src, direct_dst) = (direct(&a), direct(&b));
        // The destination's pages are cached, and stale once it is written.
        let _ = contents(&dst);
        let mut copy = copy_of(&src, &dst, (0, 4096, length));
        copy.direct_src = Some(direct_src.as_raw_fd());
        copy.direct_dst = to_disk.then_some(direct_dst.as_raw_fd());
        let cached = || crate::device::cached_pages(src.as_raw_fd(), 0, length);
        let before = cached();
        let done = run_one(&mut ring, copy);
        // Looking for pages must not read them in: only the tail is.
        if let (Some(before), Some(after)) = (before, cached()) {
            assert!(after <= before + 64, "{before} to {after} pages");
        }
        assert_eq!((done.prefix, done.error), (length, None));
        let seen = contents(&dst);
        assert!(seen[4096..4096 + expected.len()] == expected[..]);
        let old = pattern(4, 7 * MIB);
        assert!(seen[..4096] == old[..4096]);
        assert!(seen[4096 + expected.len()..] == old[4096 + expected.len()..]);
    }
}

#[test]
fn takes_the_cache_where_direct_is_refused() {
    let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
    let data = pattern(5, 3 * MIB);
    let (_a, src) = file_with(&data);
    let (_b, dst) = file_with(&[]);
    // Pipes are no files: every direct operation is refused.
    let (reads, writes) = std::io::pipe().unwrap();
    let mut copy = copy_of(&src, &dst, (0, 0, data.len() as u64));
    copy.direct_src = Some(writes.as_raw_fd());
    copy.direct_dst = Some(reads.as_raw_fd());
    let done = run_one(&mut ring, copy);
    // A wrong fd is an error and not a wrong copy.
    assert_eq!(done.error, Some((libc::EBADF, Side::Write)));
    assert_eq!(done.prefix, 0);
    // An offset that is not a block's: the cache, without a try.
    let (b, dst) = file_with(&[]);
    let direct = direct(&b);
    let mut copy = copy_of(&src, &dst, (1, 0, 2 * MIB as u64));
    copy.direct_dst = Some(direct.as_raw_fd());
    assert_eq!(run_one(&mut ring, copy).prefix, 2 * MIB as u64);
    assert!(contents(&dst) == data[1..1 + 2 * MIB]);
}

#[test]
fn a_source_that_shrank_is_a_read_error_after_its_end() {
    let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
    let data = pattern(6, MIB + 10_000);
    let (a, src) = file_with(&data);
    for by in [None, Some(direct(&a))] {
        let (_b, dst) = file_with(&[]);
        let mut copy = copy_of(&src, &dst, (0, 0, 4 * MIB as u64));
        copy.direct_src = by.as_ref().map(AsRawFd::as_raw_fd);
        // SAFETY: takes numbers only.
        unsafe { libc::fdatasync(src.as_raw_fd()) };
        // SAFETY: as above.
        unsafe { libc::posix_fadvise(src.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let done = run_one(&mut ring, copy);
        assert_eq!(done.error, Some((libc::EIO, Side::Read)));
        assert_eq!(
            (done.prefix, done.copied),
            (data.len() as u64, data.len() as u64)
        );
        assert!(contents(&dst)[..data.len()] == data[..]);
    }
}

#[test]
fn errors_name_their_side_and_end_the_prefix() {
    let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
    let (_a, src) = file_with(&pattern(7, 3 * MIB));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = run_one(&mut ring, copy_of(&src, &full, (0, 0, 3 * MIB as u64)));
    assert_eq!(
        (done.prefix, done.error),
        (0, Some((libc::ENOSPC, Side::Write)))
    );
    let read_only = File::open("/proc/self/exe").unwrap();
    let done = run_one(&mut ring, copy_of(&src, &read_only, (0, 0, 4096)));
    assert_eq!(
        (done.prefix, done.error),
        (0, Some((libc::EBADF, Side::Write)))
    );
    let (_b, dst) = file_with(&[]);
    let done = run_one(&mut ring, copy_of(&src, &dst, (u64::MAX - 5, 0, 10)));
    assert_eq!(done.error, Some((libc::EINVAL, Side::Read)));
    let done = run_one(&mut ring, copy_of(&src, &dst, (0, i64::MAX as u64, 10)));
    assert_eq!(done.error, Some((libc::EFBIG, Side::Write)));
}

/// A file system that fills up half way: needs root for the mount.
#[test]
fn a_full_file_system_leaves_a_true_prefix() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    use nix::mount::{MsFlags, mount, umount};
    let dir = tempfile::tempdir().unwrap();
    let mounted = mount(
        Some("none"),
        dir.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=2M"),
    );
    if mounted.is_err() {
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
        let data = pattern(8, 5 * MIB);
        let (_a, src) = file_with(&data);
        let dst = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("full"))
            .unwrap();
        let done = run_one(&mut ring, copy_of(&src, &dst, (0, 0, data.len() as u64)));
        assert_eq!(done.error, Some((libc::ENOSPC, Side::Write)));
        assert!(done.prefix <= 2 * MIB as u64 && done.prefix > 0);
        let seen = contents(&dst);
        assert!(seen[..done.prefix as usize] == data[..done.prefix as usize]);
    });
    umount(dir.path()).unwrap();
    outcome.unwrap();
}

#[test]
fn a_stopped_command_ends_with_what_it_did() {
    let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
    let data = pattern(9, 32 * MIB);
    let (_a, src) = file_with(&data);
    let (_b, dst) = file_with(&[]);
    let (_c, other) = file_with(&[]);
    let mut turns = 0;
    let long = copy_of(&src, &dst, (0, 0, data.len() as u64));
    assert!(ring.start(long));
    let short = RingCopy {
        tag: 8,
        ..copy_of(&src, &other, (0, 0, 2 * MIB as u64))
    };
    assert!(ring.start(short));
    let mut ended = run(&mut ring, |tag| {
        turns += 1;
        tag == 7 && turns > 4
    });
    ended.sort_by_key(|(tag, _)| *tag);
    let done = ended[0].1;
    assert_eq!(done.error, None);
    assert!(done.prefix < data.len() as u64, "nothing was stopped");
    assert!(contents(&dst)[..done.prefix as usize] == data[..done.prefix as usize]);
    assert_eq!((ended[1].0, ended[1].1.prefix), (8, 2 * MIB as u64));
    // Stopped before it began.
    assert!(ring.start(long));
    ring.collect(|_| true, |_, done| assert_eq!(done, Outcome::default()));
    assert_eq!(ring.active(), 0);
}

#[test]
fn one_buffer_is_enough_and_none_is_told() {
    let all = buffers(MIB as u64);
    let mut ring = HostRing::new(all.clone(), false).unwrap();
    let data = pattern(10, 9 * MIB + 1);
    let (a, src) = file_with(&data);
    let (direct_src, length) = (direct(&a), data.len() as u64);
    for by in [None, Some(direct_src.as_raw_fd())] {
        let files: Vec<_> = (0..4).map(|_| file_with(&[])).collect();
        let mut started = 0;
        for (tag, (named, dst)) in files.iter().enumerate() {
            let direct_dst = direct(named);
            let copy = RingCopy {
                tag: tag as u64,
                direct_src: by,
                direct_dst: by.map(|_| direct_dst.as_raw_fd()),
                ..copy_of(&src, dst, (0, 0, length))
            };
            let begun = ring.start(copy);
            // A large piece takes all of the buffer, a small one a quarter.
            assert_eq!(begun, started < if by.is_some() { 1 } else { 4 });
            started += usize::from(begun);
            std::mem::forget(direct_dst);
        }
        assert_eq!(all.in_use(), MIB);
        assert_eq!(run(&mut ring, |_| false).len(), started);
        assert_eq!(all.in_use(), 0);
        for (_, dst) in &files[..started] {
            assert!(contents(dst) == data);
        }
    }
    let taken = all.take(1).unwrap();
    let (_b, dst) = file_with(&[]);
    assert!(!ring.start(copy_of(&src, &dst, (0, 0, 1))));
    assert_eq!(ring.active(), 0);
    drop(taken);
    assert_eq!(run_one(&mut ring, copy_of(&src, &dst, (0, 0, 1))).prefix, 1);
}

#[test]
fn many_small_commands_end_once_each() {
    let mut ring = HostRing::new(buffers(4 << 20), false).unwrap();
    let data = pattern(11, 4 * MIB);
    let (_a, src) = file_with(&data);
    let (_b, dst) = file_with(&vec![0; data.len()]);
    let mut left: Vec<u64> = (0..1024).collect();
    let mut seen = vec![0; 1024];
    while !left.is_empty() || ring.active() > 0 {
        while let Some(at) = left.pop() {
            let copy = RingCopy {
                tag: at,
                ..copy_of(&src, &dst, (at * 4096, at * 4096, 4096))
            };
            if !ring.start(copy) {
                left.push(at);
                break;
            }
        }
        ring.submit();
        ring.collect(
            |_| false,
            |tag, done| {
                assert_eq!((done.prefix, done.error), (4096, None));
                seen[tag as usize] += 1;
            },
        );
    }
    assert!(seen.iter().all(|n| *n == 1));
    assert!(contents(&dst) == data);
}

#[test]
fn zeroes_become_holes_and_the_file_its_length() {
    let mut ring = HostRing::new(buffers(128 << 20), false).unwrap();
    let mut data = vec![0; 8 * MIB];
    data[..MIB].copy_from_slice(&pattern(12, MIB));
    data[4 * MIB..5 * MIB].copy_from_slice(&pattern(13, MIB));
    // One byte in an otherwise empty piece, at its very end.
    data[3 * MIB - 1] = 9;
    let (_a, src) = file_with(&data);
    for old in [vec![], pattern(14, 8 * MIB)] {
        let (_b, dst) = file_with(&old);
        let mut copy = copy_of(&src, &dst, (0, 0, data.len() as u64));
        copy.punch = true;
        let done = run_one(&mut ring, copy);
        assert_eq!((done.prefix, done.error), (data.len() as u64, None));
        assert_eq!(done.copied + done.zeroed, data.len() as u64);
        assert!(contents(&dst) == data);
        if done.zeroed > 0 {
            assert_eq!(done.zeroed, (6 * MIB - (MIB >> 2)) as u64);
            assert!(dst.metadata().unwrap().blocks() * 512 < 3 * MIB as u64);
        }
    }
    // A destination without holes gets its zeroes written.
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let mut copy = copy_of(&src, &null, (5 * MIB as u64, 0, 2 * MIB as u64));
    copy.punch = true;
    let done = run_one(&mut ring, copy);
    assert_eq!(
        (done.copied, done.zeroed, done.error),
        (2 * MIB as u64, 0, None)
    );
}
