use super::*;
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use xcopy_abi::{XCOPY_KIND_FILE, xcopy_alloc_fn, xcopy_free_fn};

static RUN: AtomicBool = AtomicBool::new(false);

fn file(size: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file
}

/// Bytes that say where they are and whose they are.
fn stamp(seed: u8, offset: u64, length: usize) -> Vec<u8> {
    (offset..offset + length as u64)
        .map(|at| seed ^ (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn job<'a>(
    src: &File,
    dst: &File,
    (src_offset, dst_offset, length): (u64, u64, u64),
    buffer: &'a mut [u8],
    stop: &'a AtomicBool,
) -> CopyJob<'a> {
    CopyJob {
        src: src.as_raw_fd(),
        dst: dst.as_raw_fd(),
        src_offset,
        dst_offset,
        length,
        ahead: 0,
        looks: None,
        room: u64::MAX,
        buffer,
        dst_is_file: true,
        by_kernel: false,
        stop,
    }
}

#[test]
fn where_asked_to_the_kernel_moves_the_bytes() {
    let in_memory = || tempfile::tempfile_in("/dev/shm").unwrap();
    let (src, dst) = (in_memory(), in_memory());
    let length = 9 << 20;
    src.write_all_at(&stamp(1, 0, length), 0).unwrap();
    dst.write_all_at(&stamp(2, 0, 100), 0).unwrap();
    let (stop, mut buffer) = (AtomicBool::new(false), vec![0; 4096]);
    let range = (5, 7, length as u64 - 5);
    let mut moved = job(&src, &dst, range, &mut buffer, &stop);
    moved.by_kernel = true;
    let out = copy(moved);
    assert_eq!(
        (out.prefix, out.copied, out.error),
        (range.2, range.2, None)
    );
    let mut wanted = stamp(2, 0, 7);
    wanted.extend_from_slice(&stamp(1, 5, length - 5));
    assert!(contents(&dst) == wanted);
    // A source that ends early: up to the byte, and with the true error.
    src.set_len(1 << 20).unwrap();
    let mut moved = job(&src, &dst, (0, 0, 2 << 20), &mut buffer, &stop);
    moved.by_kernel = true;
    let out = copy(moved);
    assert_eq!(out.prefix, 1 << 20);
    assert_eq!(out.error, Some((libc::EIO, Side::Read)));
}

#[test]
fn copies_exactly_the_range() {
    let (src, dst) = (file(0), file(0));
    src.write_all_at(&stamp(1, 0, 100_000), 0).unwrap();
    dst.write_all_at(&stamp(2, 0, 120_000), 0).unwrap();
    let mut buffer = vec![0; 4096];
    let out = copy(job(&src, &dst, (777, 12_345, 54_321), &mut buffer, &RUN));
    assert_eq!(
        (out.copied, out.zeroed, out.prefix, out.error),
        (54_321, 0, 54_321, None)
    );
    let mut expected = stamp(2, 0, 120_000);
    expected[12_345..12_345 + 54_321].copy_from_slice(&stamp(1, 0, 100_000)[777..777 + 54_321]);
    assert_eq!(contents(&dst), expected);
}

#[test]
fn a_source_that_shrank_is_a_read_error_after_its_end() {
    let (src, dst) = (file(0), file(0));
    src.write_all_at(&stamp(1, 0, 10_000), 0).unwrap();
    let mut buffer = vec![0; 4096];
    let out = copy(job(&src, &dst, (0, 0, 20_000), &mut buffer, &RUN));
    assert_eq!(
        (out.copied, out.prefix, out.error),
        (10_000, 10_000, Some((libc::EIO, Side::Read)))
    );
    assert_eq!(contents(&dst), stamp(1, 0, 10_000));
}

#[test]
fn errors_name_their_side() {
    let (src, dst) = (file(10_000), file(0));
    let mut buffer = vec![0; 4096];
    let read_only = File::open("/proc/self/exe").unwrap();
    let out = copy(job(&src, &read_only, (0, 0, 4096), &mut buffer, &RUN));
    assert_eq!(
        (out.prefix, out.error),
        (0, Some((libc::EBADF, Side::Write)))
    );
    let write_only = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let out = copy(job(&write_only, &dst, (0, 0, 4096), &mut buffer, &RUN));
    assert_eq!(
        (out.prefix, out.error),
        (0, Some((libc::EBADF, Side::Read)))
    );
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = copy(job(&src, &full, (0, 0, 4096), &mut buffer, &RUN));
    assert_eq!(
        (out.prefix, out.error),
        (0, Some((libc::ENOSPC, Side::Write)))
    );
    let out = copy(job(&src, &dst, (u64::MAX - 5, 0, 10), &mut buffer, &RUN));
    assert_eq!(out.error, Some((libc::EINVAL, Side::Read)));
    let out = copy(job(&src, &dst, (0, i64::MAX as u64, 10), &mut buffer, &RUN));
    assert_eq!(out.error, Some((libc::EFBIG, Side::Write)));
    let out = copy(job(&src, &dst, (0, 0, 10), &mut [], &RUN));
    assert_eq!(out.error, Some((libc::EINVAL, Side::Read)));
}

#[test]
fn stops_between_chunks_without_an_error() {
    let (src, dst) = (file(1 << 20), file(7));
    let stop = AtomicBool::new(true);
    let mut buffer = vec![0; 4096];
    let out = copy(job(&src, &dst, (0, 0, 1 << 20), &mut buffer, &stop));
    assert_eq!(out, Outcome::default());
    assert_eq!(
        zero(dst.as_raw_fd(), XCOPY_KIND_FILE, 0, 1 << 20, &stop),
        Outcome::default()
    );
    assert_eq!(dst.metadata().unwrap().len(), 7);
}

#[test]
fn keeps_holes_and_the_callers_position() {
    use std::io::{Seek, SeekFrom};
    const MIB: u64 = 1 << 20;
    let (mut src, dst) = (file(16 * MIB), file(0));
    for at in [0, 5 * MIB + 4096, 9 * MIB] {
        src.write_all_at(&stamp(1, at, 65_536), at).unwrap();
    }
    // What was there before must not shine through a hole.
    dst.write_all_at(&stamp(2, 0, 3 << 20), 0).unwrap();
    src.seek(SeekFrom::Start(4242)).unwrap();
    let mut buffer = vec![0; MIB as usize];
    let mut looks = Looks::default();
    let mut holes = job(&src, &dst, (0, 0, 16 * MIB), &mut buffer, &RUN);
    holes.looks = Some(&mut looks);
    let out = copy(holes);
    assert_eq!((out.prefix, out.error), (16 * MIB, None));
    assert_eq!(out.copied + out.zeroed, 16 * MIB);
    assert_eq!(src.stream_position().unwrap(), 4242);
    assert_eq!(contents(&dst), contents(&src));
    if src.metadata().unwrap().blocks() * 512 < 16 * MIB {
        assert_eq!(out.copied, 3 * 65_536);
        assert!(dst.metadata().unwrap().blocks() * 512 <= 4 * 65_536);
    } else {
        eprintln!("SKIP: the temporary directory's file system has no holes");
    }
    // A range that lies wholly in a hole at the end, and beyond it.
    let mut beyond = job(&src, &dst, (15 * MIB, 0, 2 * MIB), &mut buffer, &RUN);
    beyond.looks = Some(&mut looks);
    let out = copy(beyond);
    assert_eq!(
        (out.prefix, out.error),
        (MIB, Some((libc::EIO, Side::Read)))
    );
}

/// Whatever the destination was, it reads as the source afterwards, and a failure
/// leaves it as long as is said to be done.
#[test]
fn holes_over_every_kind_of_destination() {
    const KIB: u64 = 1024;
    const SIZE: u64 = 2048 * KIB;
    let src = file(SIZE);
    for at in [64 * KIB, 700 * KIB + 5, 1600 * KIB] {
        src.write_all_at(&stamp(1, at, 65_536), at).unwrap();
    }
    let before: [fn(&File); 5] = [
        |_| {},
        |dst| dst.write_all_at(&stamp(2, 0, 900_001), 0).unwrap(),
        |dst| dst.write_all_at(&stamp(2, 0, 3 << 20), 0).unwrap(),
        |dst| dst.set_len(3 << 20).unwrap(),
        // Dirty pages over a hole, and a block beyond the end.
        |dst| dst.write_all_at(&stamp(2, 0, 9), 1500 * KIB).unwrap(),
    ];
    for (case, before) in before.iter().enumerate() {
        for (from, to, length) in [
            (0, 0, SIZE),
            (10, 4096, SIZE - 10),
            (0, 100 * KIB, 660 * KIB),
        ] {
            let dst = file(0);
            before(&dst);
            let mut expected = contents(&dst);
            let mut buffer = vec![0; 64 * KIB as usize];
            let mut looks = Looks::default();
            let mut holes = job(&src, &dst, (from, to, length), &mut buffer, &RUN);
            (holes.looks, holes.ahead) = (Some(&mut looks), length);
            let out = copy(holes);
            assert_eq!((out.prefix, out.error), (length, None));
            assert_eq!(out.copied + out.zeroed, length);
            let end = (to + length) as usize;
            expected.resize(expected.len().max(end), 0);
            let source = &contents(&src)[from as usize..(from + length) as usize];
            expected[to as usize..end].copy_from_slice(source);
            assert_eq!(contents(&dst), expected, "{case} {from} {to} {length}");
        }
    }
    // Nothing can be written: the hole that was passed over is not done.
    let dst = tempfile::NamedTempFile::new().unwrap();
    let (dst, mut buffer) = (File::open(dst.path()).unwrap(), vec![0; 4096]);
    let mut looks = Looks::default();
    let mut refused = job(&src, &dst, (0, 0, SIZE), &mut buffer, &RUN);
    refused.looks = Some(&mut looks);
    let out = copy(refused);
    assert_eq!((out.prefix, out.copied, out.zeroed), (0, 0, 0));
    assert!(matches!(out.error, Some((libc::EBADF, Side::Write))));
}

/// The caller may read on by his fd's position while holes are looked for.
#[test]
fn the_callers_position_stays_meanwhile() {
    use std::io::{Read, Seek, SeekFrom};
    const SIZE: u64 = 4 << 20;
    let (mut src, dst) = (file(SIZE), file(0));
    for at in (0..SIZE).step_by(16_384) {
        src.write_all_at(&stamp(1, at, 4096), at).unwrap();
    }
    let expected = contents(&src);
    let (done, shared) = (AtomicBool::new(false), src.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 4096];
            for _ in 0..30 {
                let mut looks = Looks::default();
                let mut holes = job(&shared, &dst, (0, 0, SIZE), &mut buffer, &RUN);
                holes.looks = Some(&mut looks);
                assert_eq!(copy(holes).prefix, SIZE);
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let mut seen = vec![0; SIZE as usize];
            src.seek(SeekFrom::Start(0)).unwrap();
            src.read_exact(&mut seen).unwrap();
            assert!(seen == expected, "another position was read");
        }
    });
}

/// Holes through an fd that takes whole blocks only.
#[test]
fn holes_into_an_o_direct_file() {
    use std::os::unix::fs::OpenOptionsExt;
    const SIZE: u64 = 1 << 20;
    let (src, dst) = (file(SIZE), tempfile::NamedTempFile::new().unwrap());
    src.write_all_at(&stamp(1, 0, 65_536), 65_536).unwrap();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(dst.path());
    let Ok(direct) = opened else {
        return eprintln!("SKIP: the temporary directory has no O_DIRECT");
    };
    let mut buffer = crate::host::Buffers::new(None, None, std::ptr::null_mut(), 0, 1 << 20)
        .take(1 << 20)
        .unwrap();
    let mut looks = Looks::default();
    let mut holes = job(&src, &direct, (0, 0, SIZE), &mut buffer, &RUN);
    holes.looks = Some(&mut looks);
    let out = copy(holes);
    assert_eq!((out.prefix, out.error), (SIZE, None));
    assert_eq!(contents(dst.as_file()), contents(&src));
    if src.metadata().unwrap().blocks() * 512 < SIZE {
        assert!(dst.as_file().metadata().unwrap().blocks() * 512 <= 2 * 65_536);
    }
}

/// What is no whole block goes by another description of the file, at any place.
#[test]
fn parts_of_blocks_through_o_direct() {
    use std::os::unix::fs::OpenOptionsExt;
    const SIZE: usize = 300_000;
    let (from, to) = (file(0), tempfile::NamedTempFile::new().unwrap());
    from.write_all_at(&stamp(1, 0, SIZE), 0).unwrap();
    let direct = |path: &std::path::Path| {
        let mut how = OpenOptions::new();
        how.read(true).write(true).custom_flags(libc::O_DIRECT);
        how.open(path)
    };
    let Ok(dst) = direct(to.path()) else {
        return eprintln!("SKIP: the temporary directory has no O_DIRECT");
    };
    let src = direct(format!("/proc/self/fd/{}", from.as_raw_fd()).as_ref()).unwrap();
    let mut buffer = crate::host::Buffers::new(None, None, std::ptr::null_mut(), 0, 1 << 20)
        .take(1 << 20)
        .unwrap();
    for (from_at, to_at, length) in [
        (0, 0, SIZE as u64),
        (4096, 8192, 100_001),
        (7, 4096, 5000),
        (0, 99, 70_000),
    ] {
        to.as_file().set_len(0).unwrap();
        to.as_file().write_all_at(&stamp(2, 0, 5000), 0).unwrap();
        let mut expected = stamp(2, 0, 5000);
        let range = (from_at, to_at, length);
        let out = copy(job(&src, &dst, range, &mut buffer[..65_536], &RUN));
        assert_eq!((out.prefix, out.error), (length, None), "{range:?}");
        let end = (to_at + length) as usize;
        expected.resize(expected.len().max(end), 0);
        expected[to_at as usize..end].copy_from_slice(&stamp(1, from_at, length as usize));
        assert!(contents(to.as_file()) == expected, "{range:?}");
    }
}

#[test]
fn zero_touches_nothing_else_and_grows() {
    for (offset, length) in [
        (0, 1),
        (100, 5000),
        (4096, 8192),
        (4095, 200_000),
        (300_000, 4097),
    ] {
        let dst = file(0);
        dst.write_all_at(&stamp(3, 0, 100_000), 0).unwrap();
        let out = zero(dst.as_raw_fd(), XCOPY_KIND_FILE, offset, length, &RUN);
        assert_eq!((out.zeroed, out.prefix, out.error), (length, length, None));
        let mut expected = stamp(3, 0, 100_000);
        let end = (offset + length) as usize;
        expected.resize(expected.len().max(end), 0);
        expected[offset as usize..end].fill(0);
        assert_eq!(contents(&dst), expected, "{offset}+{length}");
    }
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = zero(full.as_raw_fd(), XCOPY_KIND_FILE, 0, 4096, &RUN);
    assert_eq!(
        (out.prefix, out.error),
        (0, Some((libc::ENOSPC, Side::Write)))
    );
}

#[test]
fn zero_at_the_end_never_cuts_what_others_wrote() {
    const PART: u64 = 64 << 10;
    let dst = file(0);
    std::thread::scope(|scope| {
        for part in 0..32 {
            let dst = &dst;
            scope.spawn(move || {
                if part % 2 == 0 {
                    let out = zero(dst.as_raw_fd(), XCOPY_KIND_FILE, part * PART, PART, &RUN);
                    assert_eq!(out.error, None);
                } else {
                    dst.write_all_at(&stamp(1, part * PART, PART as usize), part * PART)
                        .unwrap();
                }
            });
        }
    });
    let bytes = contents(&dst);
    assert_eq!(bytes.len() as u64, 32 * PART);
    for part in 0..32 {
        let expected = match part % 2 {
            0 => vec![0; PART as usize],
            _ => stamp(1, part * PART, PART as usize),
        };
        assert!(
            bytes[(part * PART) as usize..][..PART as usize] == expected,
            "part {part}"
        );
    }
}

#[test]
fn zeroes_a_disk_to_the_byte() {
    let Some(disk) = crate::device::testing::LoopDisk::new(8 << 20) else {
        return;
    };
    let dst = OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk.path())
        .unwrap();
    for (offset, length) in [(512, 4096), (3, 100), (700, 5_000_000), (0, 8 << 20)] {
        dst.write_all_at(&stamp(5, 0, 8 << 20), 0).unwrap();
        let out = zero(
            dst.as_raw_fd(),
            xcopy_abi::XCOPY_KIND_DISK,
            offset,
            length,
            &RUN,
        );
        assert_eq!((out.zeroed, out.prefix, out.error), (length, length, None));
        let mut expected = stamp(5, 0, 8 << 20);
        expected[offset as usize..(offset + length) as usize].fill(0);
        let mut bytes = vec![0; 8 << 20];
        dst.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == expected, "{offset}+{length}");
    }
    let out = zero(
        dst.as_raw_fd(),
        xcopy_abi::XCOPY_KIND_DISK,
        8 << 20,
        4096,
        &RUN,
    );
    assert_eq!(
        (out.prefix, out.error),
        (0, Some((libc::ENOSPC, Side::Write)))
    );
}

#[test]
fn buffers_keep_to_the_budget_and_are_used_again() {
    let buffers = Buffers::new(None, None, std::ptr::null_mut(), 0, 5 << 20);
    assert_eq!(buffers.max_size(), 4 << 20);
    let four = buffers.take(3 << 20).unwrap();
    assert_eq!(four.len(), 4 << 20);
    assert_eq!(four.as_ptr() as usize % 4096, 0);
    let one = buffers.take(1).unwrap();
    assert_eq!(one.len(), 1 << 20);
    assert!(buffers.take(1).is_none());
    let at = one.as_ptr();
    drop(one);
    assert_eq!(buffers.take(1 << 20).unwrap().as_ptr(), at);
    drop(four);
    // The idle large one makes room for small ones.
    let small: Vec<_> = std::iter::from_fn(|| buffers.take(1)).collect();
    assert_eq!(small.len(), 5);
    assert_eq!(buffers.in_use(), 5 << 20);
    drop(small);
    assert_eq!(buffers.in_use(), 0);
    assert!(buffers.take((4 << 20) + 1).is_none());
    assert!(buffers.take(usize::MAX).is_none());
    // A smaller budget makes smaller buffers, in pages.
    for (budget, unit) in [(0, 4096), (65_536, 65_536), (100_000, 98_304)] {
        let buffers = Buffers::new(None, None, std::ptr::null_mut(), 1 << 20, budget);
        assert_eq!((buffers.unit(), buffers.max_size()), (unit, unit));
        assert_eq!(buffers.take(9).unwrap().len(), unit);
        assert_eq!(buffers.try_take(unit + 1).err(), Some(Short::Memory));
    }
}

#[test]
fn a_buffer_that_is_in_use_may_come_and_memory_that_is_not_there_does_not() {
    let buffers = Buffers::new(None, None, std::ptr::null_mut(), 4096, 8192);
    let held = [buffers.take(1).unwrap(), buffers.take(1).unwrap()];
    assert_eq!(buffers.try_take(1).err(), Some(Short::Now));
    assert_eq!(buffers.try_take(8193).err(), Some(Short::Memory));
    drop(held);
    // An allocator that has one.
    let (alloc, free): (xcopy_alloc_fn, xcopy_free_fn) = (Some(one_alloc), Some(one_free));
    let left = AtomicUsize::new(1);
    let buffers = Buffers::new(
        alloc,
        free,
        (&raw const left).cast_mut().cast(),
        4096,
        1 << 20,
    );
    let one = buffers.take(1).unwrap();
    assert_eq!(buffers.try_take(1).err(), Some(Short::Now));
    drop(one);
    // What idles is given back, for the allocator to make something else of.
    assert_eq!(buffers.try_take(8192).err(), Some(Short::Now));
    assert_eq!(left.load(Ordering::Relaxed), 1);
    let two = buffers.take(8192).unwrap();
    drop(two);
    left.store(0, Ordering::Relaxed);
    buffers.take(8192).unwrap();
    assert_eq!(buffers.try_take(1).err(), Some(Short::Now));
    left.store(0, Ordering::Relaxed);
    assert_eq!(buffers.try_take(1).err(), Some(Short::Memory));
    assert_eq!(buffers.in_use(), 0);
}

/// An allocator of as many buffers as its context says.
unsafe extern "C" fn one_alloc(ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
    // SAFETY: the test's counter.
    let left = unsafe { &*ctx.cast::<AtomicUsize>() };
    let take = |left: usize| left.checked_sub(1);
    if left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_err()
    {
        return std::ptr::null_mut();
    }
    // SAFETY: the pool's alignment is a power of two of at least a pointer.
    unsafe { libc::aligned_alloc(align, size) }
}

unsafe extern "C" fn one_free(ctx: *mut c_void, memory: *mut c_void, _: usize, _: usize) {
    // SAFETY: the test's counter, and memory of aligned_alloc.
    unsafe {
        (*ctx.cast::<AtomicUsize>()).fetch_add(1, Ordering::Relaxed);
        libc::free(memory);
    }
}

static LIVE: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn count_alloc(ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
    if ctx.is_null() {
        return ctx;
    }
    LIVE.fetch_add(size, Ordering::Relaxed);
    // SAFETY: the pool's alignment is a power of two of at least a pointer.
    unsafe { libc::aligned_alloc(align, size) }
}

unsafe extern "C" fn count_free(_: *mut c_void, memory: *mut c_void, size: usize, _: usize) {
    LIVE.fetch_sub(size, Ordering::Relaxed);
    // SAFETY: it came from aligned_alloc.
    unsafe { libc::free(memory) }
}

#[test]
fn buffers_come_from_the_given_allocator_and_go_back() {
    let none = Buffers::new(
        Some(count_alloc),
        Some(count_free),
        std::ptr::null_mut(),
        0,
        1 << 20,
    );
    assert!(none.take(1).is_none());
    assert_eq!(none.in_use(), 0);
    let mut ctx = 0_u8;
    let buffers = Buffers::new(
        Some(count_alloc),
        Some(count_free),
        (&raw mut ctx).cast(),
        4096,
        1 << 20,
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for size in (1..60_000).step_by(977) {
                    let Some(mut buffer) = buffers.take(size) else {
                        continue;
                    };
                    assert!(buffer.len() >= size);
                    buffer.fill(7);
                    assert!(LIVE.load(Ordering::Relaxed) <= 1 << 20);
                }
            });
        }
    });
    let last = buffers.take(1).unwrap();
    drop(buffers);
    assert!(LIVE.load(Ordering::Relaxed) > 0);
    drop(last);
    assert_eq!(LIVE.load(Ordering::Relaxed), 0);
}
