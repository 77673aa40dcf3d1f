//! Trials and clones on real file systems.

mod moved;

use super::*;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

const BLOCK: u64 = 4096;

fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

fn run_program(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// A file system on an image of its own.
struct Mounted {
    point: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    fn new(kind: &str, options: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, point) = (dir.path().join("image"), dir.path().join("mnt"));
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(&point).unwrap();
        let (file, place) = (image.to_str().unwrap(), point.to_str().unwrap());
        let made = run_program(
            &format!("mkfs.{kind}"),
            &[&["-q"], options, &[file]].concat(),
        )
        .and_then(|()| run_program("mount", &["-o", "loop", "-t", kind, file, place]));
        match made {
            Ok(()) => Some(Mounted { point, _dir: dir }),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn file(&self, name: &str) -> File {
        make(&self.point, name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = run_program("umount", &[self.point.to_str().unwrap_or_default()]) {
            eprintln!("{why}");
        }
    }
}

fn make(dir: &Path, name: &str) -> File {
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .clone();
    options.open(dir.join(name)).unwrap()
}

fn stamp(seed: u64, length: u64) -> Vec<u8> {
    (0..length)
        .map(|at| ((at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The plugin's table as the core gets it.
fn table() -> &'static xcopy_plugin {
    let host = xcopy_host {
        struct_size: size_of::<xcopy_host>() as u32,
        abi_version: XCOPY_ABI_VERSION,
        log: None,
        alloc: None,
        free: None,
        complete: None,
        complete_local: None,
        device_event: None,
    };
    // SAFETY: a whole host table; the plugin's is static.
    unsafe { init(&host).as_ref() }.unwrap()
}

fn desc(kind: u32, fd: RawFd) -> xcopy_device_desc {
    xcopy_device_desc {
        size: size_of::<xcopy_device_desc>() as u32,
        kind,
        open_flags: XCOPY_OPEN_READ,
        fd,
        name: c"path".as_ptr(),
        native: ptr::null_mut(),
        host_device: ptr::null_mut(),
        dev_major: 0,
        dev_minor: 0,
        disk_major: 0,
        disk_minor: 0,
        disk_offset: 0,
        inode: 0,
        size_bytes: 0,
        block_size: 1,
        physical_block_size: 4096,
    }
}

/// A device opened through the table, closed through it.
struct Opened(*mut c_void);

impl Opened {
    fn new(file: &File) -> Self {
        Opened::with(desc(XCOPY_KIND_FILE, file.as_raw_fd()))
    }

    fn with(desc: xcopy_device_desc) -> Self {
        let mut device = ptr::null_mut();
        let mut props = xcopy_device_props::default();
        // SAFETY: all pointers are to live values of their types.
        let answer =
            unsafe { table().open.unwrap()(ptr::null_mut(), &desc, &mut device, &mut props) };
        assert_eq!(answer, 0);
        Opened(device)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once.
        unsafe { table().close.unwrap()(ptr::null_mut(), self.0) }
    }
}

fn probe_pair(src: &File, dst: &File) -> xcopy_verdict {
    probe_opened(&Opened::new(src), &Opened::new(dst))[0]
}

fn probe_opened(src: &Opened, dst: &Opened) -> [xcopy_verdict; 3] {
    let mut verdicts = [xcopy_verdict::default(); 3];
    let probe = table().probe.unwrap();
    // SAFETY: open devices, and room for one verdict.
    let answer = unsafe {
        probe(
            ptr::null_mut(),
            src.0,
            dst.0,
            verdicts.as_mut_ptr(),
            size_of::<xcopy_verdict>(),
            3,
        )
    };
    assert_eq!(answer, 0);
    verdicts
}

fn copy(
    src: &File,
    dst: &File,
    op: u16,
    src_offset: u64,
    dst_offset: u64,
    length: u64,
) -> xcopy_result {
    let range = xcopy_range {
        src_offset,
        dst_offset,
        length,
    };
    let ends = (&Opened::new(src), &Opened::new(dst));
    run_command(ends, op, XCOPY_METHOD_REFLINK, 0, range)
}

fn run_command(
    (src, dst): (&Opened, &Opened),
    op: u16,
    method: u16,
    flags: u32,
    range: xcopy_range,
) -> xcopy_result {
    let length = range.length;
    let mut command = xcopy_cmd {
        cookie: 77,
        op,
        method,
        flags,
        src: src.0,
        dst: dst.0,
        ranges: &range,
        nranges: 1,
        timeout_ms: 0,
        bytes: length,
        buffer: ptr::null_mut(),
        token: ptr::null_mut(),
        token_size: 0,
        token_type: 0,
        token_lifetime_s: 0,
        method_index: 0,
        arg: ptr::null_mut(),
        private_data: ptr::null_mut(),
    };
    let mut result = xcopy_result::default();
    // SAFETY: a whole command and room for its result.
    let answer = unsafe { table().execute.unwrap()(ptr::null_mut(), &mut command, &mut result) };
    assert_eq!((answer, result.cookie), (0, 77));
    result
}

fn text_of(verdict: &xcopy_verdict) -> String {
    verdict
        .text
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8 as char)
        .collect()
}

/// What a trial must leave as it was.
fn state(file: &File) -> (u64, u32, i64, i64, i64, i64, Vec<u8>) {
    let m = file.metadata().unwrap();
    let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    (
        m.len(),
        m.mode(),
        times.0,
        times.1,
        times.2,
        times.3,
        contents(file),
    )
}

fn shares(src: &File, dst: &File) {
    src.write_all_at(&stamp(1, 20 * BLOCK + 100), 0).unwrap();
    dst.write_all_at(&stamp(2, 3 * BLOCK + 7), 0).unwrap();
    // Set-user-id bits are lost by a write, so they show one.
    dst.set_permissions(fs::Permissions::from_mode(0o4755))
        .unwrap();
    let before = (state(src), state(dst));
    let verdict = probe_pair(src, dst);
    assert_eq!(verdict.usable, 1, "{}", text_of(&verdict));
    assert_eq!(u64::from(verdict.limits.dst_granularity), BLOCK);
    assert!(
        (state(src), state(dst)) == before,
        "the trial changed a file"
    );

    let result = copy(src, dst, XCOPY_CMD_COPY, 2 * BLOCK, BLOCK, 8 * BLOCK);
    assert_eq!((result.status, result.bytes), (0, 8 * BLOCK));
    let mut expected = stamp(2, 3 * BLOCK + 7);
    expected.truncate(BLOCK as usize);
    expected.extend_from_slice(&stamp(1, 20 * BLOCK)[2 * BLOCK as usize..10 * BLOCK as usize]);
    assert!(contents(dst) == expected);

    let result = copy(src, dst, XCOPY_CMD_COPY, 1, 0, BLOCK);
    assert_eq!(
        (result.status, result.action),
        (-libc::EINVAL, XCOPY_ACTION_NEXT_METHOD)
    );
    let errno = XCOPY_DETAIL_ERRNO << 60 | 1 << 52 | libc::EINVAL as u64;
    assert_eq!((result.bytes, result.detail), (0, errno));
    // The kernel's "to the end" is not a request's empty range.
    assert_eq!(
        copy(src, dst, XCOPY_CMD_COPY, 0, 0, 0).status,
        -libc::EINVAL
    );
    let far = copy(src, dst, XCOPY_CMD_COPY, 64 * BLOCK, 0, BLOCK);
    assert_eq!(far.action, XCOPY_ACTION_NEXT_METHOD);
    assert_eq!(
        copy(src, dst, XCOPY_CMD_ZERO, 0, 0, BLOCK).status,
        -libc::EOPNOTSUPP
    );
    assert!(contents(dst) == expected);
}

#[test]
fn file_systems_that_share_extents_do() {
    for kind in ["xfs", "btrfs"] {
        let Some(mounted) = Mounted::new(kind, &[]) else {
            continue;
        };
        shares(&mounted.file("a"), &mounted.file("b"));
        if kind == "btrfs" {
            // A subvolume has a device number of its own, and shares all the same.
            let sub = mounted.point.join("sub");
            match run_program(
                "btrfs",
                &["-q", "subvolume", "create", sub.to_str().unwrap()],
            ) {
                Ok(()) => shares(&mounted.file("c"), &make(&sub, "d")),
                Err(why) => skip(&why),
            }
        }
        let verdict = probe_pair(&mounted.file("e"), &tempfile::tempfile().unwrap());
        assert_eq!(verdict.usable, 0);
        println!("{kind} to the temporary directory: {}", text_of(&verdict));
        // No end of the range is a file position.
        let dst = mounted.file("f");
        let src = mounted.file("g");
        src.write_all_at(&stamp(1, BLOCK), 0).unwrap();
        let result = copy(
            &src,
            &dst,
            XCOPY_CMD_COPY,
            0,
            i64::MAX as u64 / BLOCK * BLOCK,
            BLOCK,
        );
        println!("{kind} beyond all positions: {}", result.status);
        assert!(result.status < 0 && result.bytes == 0);
    }
}

#[test]
fn file_systems_that_do_not_share_are_found_out_without_a_change() {
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
        src.write_all_at(&stamp(1, 4 * BLOCK), 0).unwrap();
        dst.write_all_at(&stamp(2, 3 * BLOCK), 0).unwrap();
        let before = (state(&src), state(&dst));
        let verdict = probe_pair(&src, &dst);
        assert_eq!(
            (verdict.usable, verdict.reason),
            (0, XCOPY_REASON_NOT_SUPPORTED)
        );
        assert!(text_of(&verdict).contains("reflink=1"));
        let result = copy(&src, &dst, XCOPY_CMD_COPY, 0, 0, BLOCK);
        assert_eq!(result.action, XCOPY_ACTION_NEXT_METHOD);
        assert_eq!(result.flags, XCOPY_RESULT_UNTOUCHED);
        assert!((state(&src), state(&dst)) == before);
    }
    if let [first, .., last] = dirs[..] {
        let verdict = probe_pair(&make(first, "a"), &make(last, "b"));
        assert_eq!(
            (verdict.usable, verdict.reason),
            (0, XCOPY_REASON_CROSS_DEVICE)
        );
    }
}

#[test]
fn overlay_shares_what_its_upper_layer_does() {
    let Some(mounted) = Mounted::new("xfs", &[]) else {
        return;
    };
    let dir = |name: &str| {
        let dir = mounted.point.join(name);
        fs::create_dir(&dir).unwrap();
        dir.to_str().unwrap().to_owned()
    };
    let (lower, upper, work, merged) = (dir("lower"), dir("upper"), dir("work"), dir("merged"));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    if let Err(why) = run_program(
        "mount",
        &["-t", "overlay", "overlay", "-o", &options, &merged],
    ) {
        return skip(&why);
    }
    shares(
        &make(Path::new(&merged), "a"),
        &make(Path::new(&merged), "b"),
    );
    run_program("umount", &[&merged]).unwrap();
}

#[test]
fn what_is_not_a_file_is_refused_in_words() {
    let open = table().open.unwrap();
    let mut device = ptr::null_mut();
    for (kind, fd) in [
        (XCOPY_KIND_CHAR, 0),
        (XCOPY_KIND_NATIVE, -1),
        (XCOPY_KIND_FILE, -1),
    ] {
        let mut props = xcopy_device_props::default();
        // SAFETY: all pointers are to live values of their types.
        let answer = unsafe { open(ptr::null_mut(), &desc(kind, fd), &mut device, &mut props) };
        assert_eq!(answer, -libc::ENOTSUP);
        assert_ne!(props.text[0], 0);
        // An older core's shorter struct is not written to.
        let mut short = xcopy_device_props {
            size: 56,
            ..xcopy_device_props::default()
        };
        // SAFETY: as above.
        let answer = unsafe { open(ptr::null_mut(), &desc(kind, fd), &mut device, &mut short) };
        assert_eq!((answer, short.text[0]), (-libc::ENOTSUP, 0));
    }
    assert!(device.is_null());
    let mut small = desc(XCOPY_KIND_FILE, 0);
    small.size = 8;
    // SAFETY: as above; NULLs are refused.
    unsafe {
        assert_eq!(
            open(ptr::null_mut(), &small, &mut device, ptr::null_mut()),
            -libc::EINVAL
        );
        assert_eq!(
            open(ptr::null_mut(), ptr::null(), &mut device, ptr::null_mut()),
            -libc::EINVAL
        );
        table().close.unwrap()(ptr::null_mut(), ptr::null_mut());
        let execute = table().execute.unwrap();
        assert_eq!(
            execute(ptr::null_mut(), ptr::null_mut(), ptr::null_mut()),
            -libc::EINVAL
        );
        let probe = table().probe.unwrap();
        let mut verdict = xcopy_verdict::default();
        let (null, stride) = (ptr::null_mut(), size_of::<xcopy_verdict>());
        assert_eq!(
            probe(null, null, null, &mut verdict, stride, 1),
            -libc::EINVAL
        );
        assert_eq!(probe(null, null, null, &mut verdict, 1, 1), -libc::EINVAL);
        assert!(init(ptr::null()).is_null());
    }
}

#[test]
fn errors_that_matter_are_judged() {
    let action = |errno| judge(errno).action;
    for errno in [
        libc::EOPNOTSUPP,
        libc::EXDEV,
        libc::EINVAL,
        libc::ENOTTY,
        libc::ETXTBSY,
    ] {
        assert_eq!(action(errno), XCOPY_ACTION_NEXT_METHOD);
    }
    for errno in [libc::EDQUOT, libc::EROFS, libc::EFBIG] {
        assert_eq!(action(errno), XCOPY_ACTION_FATAL);
        assert_eq!(judge(errno).flags, XCOPY_RESULT_ERR_ON_WRITE);
    }
    for errno in [libc::EINTR, libc::EAGAIN] {
        assert_eq!(action(errno), XCOPY_ACTION_RETRY);
    }
    assert_eq!(action(libc::EIO), XCOPY_ACTION_DEFAULT);
}

/// A command spans the more of a file the less data that has.
#[test]
fn a_clone_of_a_file_of_holes_is_few_commands() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[1; 8192], 0).unwrap();
    assert_eq!(span_of(file.as_raw_fd(), 1 << 20), Ok(1 << 20));
    if file.set_len(1 << 43).is_err() {
        return skip("no file of 8 TiB here");
    }
    assert_eq!(span_of(file.as_raw_fd(), 1 << 20), Ok(1 << 43));
    file.write_all_at(&vec![1; 4 << 20], 1 << 40).unwrap();
    let span = span_of(file.as_raw_fd(), 1 << 20).unwrap();
    assert!((1 << 40..1 << 42).contains(&span), "{span}");
    assert!(span_of(-1, 1).is_err());
}
