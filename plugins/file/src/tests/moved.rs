//! copy_file_range and sendfile on real file systems.

use super::*;
use crate::fs::mount_copies;

const RANGE: usize = 1;
const SEND: usize = 2;

fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset,
        dst_offset,
        length,
    }
}

/// Runs one command and checks every byte of the destination.
fn moves(files: (&File, &File), method: u16, flags: u32, range: xcopy_range) -> xcopy_result {
    moves_to(Opened::new(files.1), files, method, flags, range)
}

/// An fd that the caller lends.
fn borrowed(file: &File) -> Opened {
    let mut desc = desc(XCOPY_KIND_FILE, file.as_raw_fd());
    desc.name = c"".as_ptr();
    Opened::with(desc)
}

fn moves_to(
    opened: Opened,
    files: (&File, &File),
    method: u16,
    flags: u32,
    range: xcopy_range,
) -> xcopy_result {
    let (src, dst) = files;
    let mut expected = contents(dst);
    let ends = (&Opened::new(src), &opened);
    let result = run_command(ends, XCOPY_CMD_COPY, method, flags, range);
    let (from, to) = (range.src_offset as usize, range.dst_offset as usize);
    let n = result.bytes as usize;
    if n > 0 {
        expected.resize(expected.len().max(to + n), 0);
        expected[to..to + n].copy_from_slice(&contents(src)[from..from + n]);
    }
    assert!(contents(dst) == expected, "{range:?}");
    result
}

fn filled(src: &File, dst: &File) {
    src.write_all_at(&stamp(1, 20 * BLOCK + 100), 0).unwrap();
    dst.write_all_at(&stamp(2, 30 * BLOCK + 7), 0).unwrap();
}

/// Any range is moved; a source that ends early is an error of reading.
fn moves_anything(src: &File, dst: &File, method: u16) {
    for open in [Opened::new, borrowed] {
        moves_anything_to(open, src, dst, method);
    }
}

fn moves_anything_to(open: fn(&File) -> Opened, src: &File, dst: &File, method: u16) {
    let moves = |files: (&File, &File), method, flags, range| {
        moves_to(open(files.1), files, method, flags, range)
    };
    for range in [
        range(0, 0, 8 * BLOCK),
        range(1, 5, 3),
        range(4095, 513, 3 * BLOCK + 17),
        range(0, 31 * BLOCK, 20 * BLOCK + 100),
    ] {
        let result = moves((src, dst), method, 0, range);
        assert_eq!(
            (result.status, result.bytes),
            (0, range.length),
            "{range:?}"
        );
    }
    let result = moves((src, dst), method, 0, range(18 * BLOCK, 3, 5 * BLOCK));
    assert_eq!((result.status, result.bytes), (-libc::EIO, 2 * BLOCK + 100));
    assert_eq!(result.action, XCOPY_ACTION_FATAL);
    assert_ne!(result.flags & XCOPY_RESULT_ERR_ON_READ, 0);
    let result = moves((src, dst), method, 0, range(0, i64::MAX as u64, BLOCK));
    assert_eq!(
        (result.bytes, result.flags & XCOPY_RESULT_THROUGH_HOST),
        (0, 0)
    );
    assert!(result.status < 0);
    assert_eq!(
        moves((src, dst), method, 0, range(0, 0, 0)).status,
        -libc::EINVAL
    );
}

#[test]
fn ranges_are_offloaded_where_extents_are_shared() {
    for kind in ["xfs", "btrfs"] {
        let Some(mounted) = Mounted::new(kind, &[]) else {
            continue;
        };
        let (src, dst) = (mounted.file("a"), mounted.file("b"));
        filled(&src, &dst);
        let before = (state(&src), state(&dst));
        let verdict = probe_opened(&Opened::new(&src), &Opened::new(&dst))[RANGE];
        assert!(
            (state(&src), state(&dst)) == before,
            "the trial changed a file"
        );
        assert_eq!(
            (verdict.usable, verdict.flags),
            (1, 0),
            "{}",
            text_of(&verdict)
        );
        let id = XCOPY_METHOD_COPY_FILE_RANGE;
        let host = |result: xcopy_result| result.flags & XCOPY_RESULT_THROUGH_HOST != 0;

        src.sync_all().unwrap();
        for only in [0, XCOPY_CMD_OFFLOAD_ONLY] {
            let result = moves((&src, &dst), id, only, range(2 * BLOCK, BLOCK, 8 * BLOCK));
            assert_eq!(
                (result.status, result.bytes, host(result)),
                (0, 8 * BLOCK, false)
            );
        }
        // The end of the file need not be in line when it becomes the end.
        let whole = range(0, 30 * BLOCK, 20 * BLOCK + 100);
        let result = moves((&src, &dst), id, XCOPY_CMD_OFFLOAD_ONLY, whole);
        assert_eq!((result.status, host(result)), (0, false), "{kind}");
        // What is out of line passes through the host, and is said to.
        let result = moves((&src, &dst), id, 0, range(5, BLOCK, 8 * BLOCK));
        assert_eq!((result.status, host(result)), (0, true));
        let result = moves(
            (&src, &dst),
            id,
            XCOPY_CMD_OFFLOAD_ONLY,
            range(5, BLOCK, 8 * BLOCK),
        );
        assert_eq!((result.bytes, result.reason), (0, XCOPY_REASON_MISALIGNED));
        assert_eq!(result.flags, XCOPY_RESULT_UNTOUCHED);
        let result = moves(
            (&src, &dst),
            id,
            XCOPY_CMD_OFFLOAD_ONLY,
            range(0, 0, 8 * BLOCK + 9),
        );
        assert_eq!(
            (result.bytes, result.reason),
            (8 * BLOCK, XCOPY_REASON_MISALIGNED)
        );
        assert_eq!((result.action, result.flags), (XCOPY_ACTION_NEXT_METHOD, 0));
        // The kernel falls back without a word where no extent can be shared.
        moves_anything(&src, &dst, id);
    }
}

#[test]
fn elsewhere_the_kernel_moves_the_bytes_by_name_only() {
    let mut mounts = Vec::new();
    mounts.extend(Mounted::new("ext4", &[]));
    mounts.extend(Mounted::new("xfs", &["-m", "reflink=0"]));
    let mut dirs: Vec<&Path> = mounts
        .iter()
        .map(|mounted| mounted.point.as_path())
        .collect();
    let shm = tempfile::tempdir_in("/dev/shm");
    match &shm {
        Ok(dir) => dirs.push(dir.path()),
        Err(error) => skip(&format!("/dev/shm: {error}")),
    }
    for dir in &dirs {
        let (src, dst) = (make(dir, "a"), make(dir, "b"));
        filled(&src, &dst);
        let verdicts = probe_opened(&Opened::new(&src), &Opened::new(&dst));
        let flags = XCOPY_VERDICT_BY_NAME | XCOPY_VERDICT_THROUGH_HOST | XCOPY_VERDICT_FILLS_HOLES;
        assert_eq!((verdicts[RANGE].usable, verdicts[RANGE].flags), (1, flags));
        assert_eq!(verdicts[RANGE].reason, XCOPY_REASON_SLOWER);
        assert_eq!(
            (verdicts[SEND].usable, verdicts[SEND].limits.max_concurrent),
            (1, 1)
        );
        moves_anything(&src, &dst, XCOPY_METHOD_COPY_FILE_RANGE);
        moves_anything(&src, &dst, XCOPY_METHOD_SENDFILE);
    }
    if let [first, .., last] = dirs[..] {
        let (src, dst) = (make(first, "c"), make(last, "d"));
        filled(&src, &dst);
        let verdicts = probe_opened(&Opened::new(&src), &Opened::new(&dst));
        assert_eq!(
            (verdicts[RANGE].usable, verdicts[RANGE].reason),
            (0, XCOPY_REASON_CROSS_DEVICE)
        );
        moves_anything(&src, &dst, XCOPY_METHOD_SENDFILE);
    }
}

#[test]
fn sendfile_leaves_the_position_of_every_fd_alone() {
    use std::io::Seek;
    let dir = tempfile::tempdir().unwrap();
    let (src, mut dst) = (make(dir.path(), "a"), make(dir.path(), "b"));
    filled(&src, &dst);
    dst.seek(std::io::SeekFrom::Start(77)).unwrap();
    moves_anything(&src, &dst, XCOPY_METHOD_SENDFILE);
    assert_eq!(dst.stream_position().unwrap(), 77);
}

#[test]
fn a_full_file_system_is_told_with_the_exact_prefix() {
    let Some(mounted) = Mounted::new("ext4", &[]) else {
        return;
    };
    let source = tempfile::tempfile().unwrap();
    source.set_len(600 << 20).unwrap();
    for (name, id, src) in [
        ("x", XCOPY_METHOD_SENDFILE, &source),
        ("y", XCOPY_METHOD_COPY_FILE_RANGE, &mounted.file("sparse")),
    ] {
        src.set_len(600 << 20).unwrap();
        let dst = mounted.file(name);
        let ends = (&Opened::new(src), &Opened::new(&dst));
        let result = run_command(ends, XCOPY_CMD_COPY, id, 0, range(0, 0, 600 << 20));
        assert_eq!(
            (result.status, result.action),
            (-libc::ENOSPC, XCOPY_ACTION_FATAL)
        );
        assert_ne!(result.flags & XCOPY_RESULT_ERR_ON_WRITE, 0);
        assert!(result.bytes > 100 << 20, "{}", result.bytes);
        assert!(dst.metadata().unwrap().len() >= result.bytes);
        dst.set_len(0).unwrap();
    }
}

#[test]
fn mounts_tell_whether_their_server_copies() {
    let line = |kind: &str, options: &str| {
        format!("41 22 0:53 / /mnt rw,relatime shared:9 - {kind} host:/x {options}")
    };
    for (kind, options, copies) in [
        ("nfs4", "rw,vers=4.2,rsize=1048576", true),
        ("nfs4", "rw,vers=4.1,rsize=1048576", false),
        ("nfs", "rw,vers=3", false),
        ("cifs", "rw,vers=3.1.1,cache=strict", true),
        ("cifs", "rw,vers=1.0", false),
        ("smb3", "rw,vers=3.0", true),
        ("ceph", "rw,acl", false),
        ("ceph", "rw,copyfrom,acl", true),
        ("ext4", "rw,vers=4.2", false),
    ] {
        assert_eq!(
            mount_copies(&line(kind, options), "0:53"),
            copies,
            "{kind} {options}"
        );
        assert!(!mount_copies(&line(kind, options), "0:5"));
    }
    for odd in [
        "",
        " - ",
        "1 2 0:53 - nfs4",
        "1 2 0:53 / /m rw - nfs4 x vers=,",
    ] {
        assert!(!mount_copies(odd, "0:53"), "{odd}");
    }
}

/// A loop device, detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn new(image: &Path) -> Option<Loop> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image)
            .output();
        match made {
            Ok(made) if made.status.success() => {
                Some(Loop(String::from_utf8_lossy(&made.stdout).trim().into()))
            }
            other => {
                skip(&format!("losetup: {other:?}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(why) = run_program("losetup", &["-d", self.0.to_str().unwrap_or_default()]) {
            eprintln!("{why}");
        }
    }
}

#[test]
fn block_devices_are_asked_not_assumed() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let Some(disk) = Loop::new(&image) else {
        return;
    };
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk.0)
        .unwrap();
    let file = make(dir.path(), "file");
    file.write_all_at(&stamp(3, 16 * BLOCK), 0).unwrap();
    let end = |file: &File, kind| Opened::with(desc(kind, file.as_raw_fd()));
    let (a, b) = (end(&file, XCOPY_KIND_FILE), end(&disk, XCOPY_KIND_STACKED));
    let verdicts = probe_opened(&a, &b);
    assert_eq!(
        (verdicts[0].usable, verdicts[0].reason),
        (0, XCOPY_REASON_WRONG_DEVICE)
    );
    println!("copy_file_range to a disk: {}", text_of(&verdicts[RANGE]));
    if verdicts[RANGE].usable == 1 {
        assert_ne!(verdicts[RANGE].flags & XCOPY_VERDICT_THROUGH_HOST, 0);
    } else {
        assert_eq!(verdicts[RANGE].reason, XCOPY_REASON_NOT_SUPPORTED);
    }
    assert_eq!(verdicts[SEND].usable, 1);
    let (op, id) = (XCOPY_CMD_COPY, XCOPY_METHOD_SENDFILE);
    let result = run_command((&a, &b), op, id, 0, range(3, 700, 9 * BLOCK));
    assert_eq!((result.status, result.bytes), (0, 9 * BLOCK));
    let mut bytes = vec![0; 9 * BLOCK as usize];
    disk.read_exact_at(&mut bytes, 700).unwrap();
    assert!(bytes == stamp(3, 16 * BLOCK)[3..][..9 * BLOCK as usize]);
    // And back.
    let back = make(dir.path(), "back");
    let (b, c) = (end(&disk, XCOPY_KIND_STACKED), end(&back, XCOPY_KIND_FILE));
    let result = run_command((&b, &c), op, id, 0, range(700, 0, 9 * BLOCK));
    assert_eq!((result.status, result.bytes), (0, 9 * BLOCK));
    assert!(contents(&back) == bytes);
}
