mod disks;

use super::coherence::{self, Dropped};
use super::identity::Sysfs;
use super::mounts::find_user;
use super::testing::{c, is_root, skip};
use super::*;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use xcopy_abi::*;

const READ: u32 = XCOPY_OPEN_READ;
const WRITE: u32 = XCOPY_OPEN_WRITE;

fn open(path: &Path, flags: u32) -> Result<KernelDevice> {
    KernelDevice::open(&c(path), flags)
}

fn refusal(result: Result<KernelDevice>) -> Error {
    let error = result.expect_err("it must be refused");
    println!("{}", error.message);
    error
}

#[test]
fn files_have_facts_and_names_of_one_file_are_one_storage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, [7; 5000]).unwrap();
    fs::hard_link(&path, dir.path().join("b")).unwrap();
    symlink(&path, dir.path().join("c")).unwrap();
    fs::copy(&path, dir.path().join("d")).unwrap();
    let a = open(&path, READ).unwrap();
    let (facts, stat) = (a.facts(), fs::metadata(&path).unwrap());
    assert_eq!(
        (facts.kind, facts.size, facts.block_size),
        (XCOPY_KIND_FILE, 5000, 1)
    );
    assert_eq!((facts.inode, facts.disk), (stat.ino(), None));
    assert_eq!(
        facts.dev,
        (libc::major(stat.dev()), libc::minor(stat.dev()))
    );
    assert_eq!(a.name(), c(&path).as_c_str());
    for name in ["b", "c"] {
        let other = open(&dir.path().join(name), READ | WRITE).unwrap();
        assert_eq!(other.identity(), a.identity());
    }
    assert_ne!(
        open(&dir.path().join("d"), READ).unwrap().identity(),
        a.identity()
    );
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(9)
        .unwrap();
    assert_eq!((a.current_size().unwrap(), a.facts().size), (9, 5000));
    assert_ne!(Storage::unknown(), Storage::unknown());
}

#[test]
fn what_is_not_storage_is_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, b"x").unwrap();
    assert_eq!(refusal(open(&path, 0)).errno, libc::EINVAL);
    assert_eq!(refusal(open(&path, XCOPY_OPEN_FORCE)).errno, libc::EINVAL);
    assert_eq!(refusal(open(&path, READ | 1 << 9)).errno, libc::EINVAL);
    assert_eq!(refusal(open(dir.path(), READ)).errno, libc::EISDIR);
    assert_eq!(
        refusal(open(&dir.path().join("none"), WRITE)).errno,
        libc::ENOENT
    );
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(refusal(open(&fifo, READ)).errno, libc::EINVAL);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    assert_eq!(
        refusal(open(&dir.path().join("socket"), READ)).errno,
        libc::EINVAL
    );
    for node in ["/dev/null", "/dev/tty", "/dev/ptmx"] {
        if Path::new(node).exists() {
            assert_eq!(
                refusal(open(Path::new(node), READ | WRITE)).errno,
                libc::ENOTSUP
            );
        }
    }
}

#[test]
fn fds_are_borrowed_and_their_mode_must_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, [1; 4096]).unwrap();
    let by = |options: &mut OpenOptions| options.open(&path).unwrap();
    let read = by(OpenOptions::new().read(true));
    let write = by(OpenOptions::new().write(true));
    let append = by(OpenOptions::new().read(true).append(true));
    let place = by(OpenOptions::new().read(true).custom_flags(libc::O_PATH));
    let both = by(OpenOptions::new().read(true).write(true));
    let from = |file: &File, flags| KernelDevice::from_fd(file.as_raw_fd(), flags);
    assert_eq!(refusal(from(&read, WRITE)).errno, libc::EACCES);
    assert_eq!(refusal(from(&write, READ)).errno, libc::EACCES);
    assert_eq!(refusal(from(&append, WRITE)).errno, libc::EINVAL);
    assert_eq!(refusal(from(&place, READ)).errno, libc::EBADF);
    assert_eq!(refusal(KernelDevice::from_fd(-1, READ)).errno, libc::EBADF);
    assert_eq!(
        refusal(KernelDevice::from_fd(1 << 20, READ)).errno,
        libc::EBADF
    );
    assert!(from(&append, READ).is_ok());
    let device = from(&both, READ | WRITE).unwrap();
    assert_eq!(device.name(), c"");
    assert_ne!(device.fd(), both.as_raw_fd());
    drop(both);
    assert_eq!(device.current_size().unwrap(), 4096);
    // SAFETY: F_GETFD takes and gives numbers only.
    let close_on_exec = unsafe { libc::fcntl(device.fd(), libc::F_GETFD) };
    assert_eq!(close_on_exec, libc::FD_CLOEXEC);
    let pipe = nix::unistd::pipe().unwrap();
    assert_eq!(
        refusal(KernelDevice::from_fd(pipe.0.as_raw_fd(), READ)).errno,
        libc::EINVAL
    );
    match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
    {
        Ok(direct) => assert!(from(&direct, READ).unwrap().facts().block_size >= 512),
        Err(_) => skip("no O_DIRECT in the temporary directory"),
    }
}

/// Runs a check in a child of another user, because root may do everything.
fn as_nobody(check: impl FnOnce() -> bool) {
    if !is_root() {
        assert!(check());
        return;
    }
    // SAFETY: the child gives up its rights, makes the check and exits; it
    // takes no lock that another test's thread could hold.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: numbers only; _exit runs nothing of the parent's.
            unsafe {
                let dropped = libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(65534) == 0
                    && libc::setuid(65534) == 0;
                libc::_exit(if dropped && check() { 0 } else { 1 });
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child just made.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
}

#[test]
fn an_ordinary_user_is_told_what_is_not_permitted() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = |name: &str, mode| {
        let path = dir.path().join(name);
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        c(&path)
    };
    let (readable, closed, drop_box) = (file("r", 0o444), file("n", 0), file("w", 0o222));
    as_nobody(|| {
        let errno = |path, flags| {
            KernelDevice::open(path, flags)
                .err()
                .map(|error| error.errno)
        };
        errno(&readable, READ).is_none()
            && errno(&readable, WRITE) == Some(libc::EACCES)
            && errno(&closed, READ) == Some(libc::EACCES)
            && errno(&drop_box, WRITE).is_none()
            && errno(&drop_box, READ | WRITE) == Some(libc::EACCES)
    });
}

/// A sysfs of files, with a SCSI disk, its generic nodes, a tape, NVMe, dm, md.
fn fake_sysfs(root: &Path) -> Sysfs {
    let dir = |path: &str| fs::create_dir_all(root.join(path)).unwrap();
    let put = |path: &str, text: &str| {
        dir(Path::new(path).parent().unwrap().to_str().unwrap());
        fs::write(root.join(path), format!("{text}\n")).unwrap();
    };
    let link = |path: &str, to: &str| {
        dir(Path::new(path).parent().unwrap().to_str().unwrap());
        symlink(root.join(to), root.join(path)).unwrap();
    };
    let disk = |path: &str, number: &str| {
        put(&format!("{path}/dev"), number);
        put(&format!("{path}/size"), "2048");
        put(&format!("{path}/queue/logical_block_size"), "4096");
        dir(&format!("{path}/holders"));
        link(&format!("dev/block/{number}"), path);
    };
    let char = |path: &str, number: &str, class: &str, device: &str| {
        put(&format!("{path}/dev"), number);
        dir(&format!("class/{class}"));
        link(&format!("{path}/subsystem"), &format!("class/{class}"));
        link(&format!("{path}/device"), device);
        link(&format!("dev/char/{number}"), path);
    };
    disk("devices/h/0:0:0:0/block/sda", "8:0");
    let part = "devices/h/0:0:0:0/block/sda/sda1";
    disk(part, "8:1");
    put(&format!("{part}/partition"), "1");
    put(&format!("{part}/start"), "34");
    char(
        "devices/h/0:0:0:0/scsi_generic/sg0",
        "21:0",
        "scsi_generic",
        "devices/h/0:0:0:0",
    );
    char(
        "devices/h/0:0:0:0/bsg/0:0:0:0",
        "250:0",
        "bsg",
        "devices/h/0:0:0:0",
    );
    dir("devices/h/0:0:1:0");
    char(
        "devices/h/0:0:1:0/scsi_generic/sg1",
        "21:1",
        "scsi_generic",
        "devices/h/0:0:1:0",
    );
    disk("devices/n/nvme0/nvme0n1", "259:0");
    char(
        "devices/n/nvme0/ng0n1",
        "238:0",
        "nvme-generic",
        "devices/n/nvme0",
    );
    char(
        "devices/n/nvme0/ng0n2",
        "238:1",
        "nvme-generic",
        "devices/n/nvme0",
    );
    char("devices/n/nvme0", "239:0", "nvme", "devices/n");
    disk("devices/virtual/block/dm-0", "252:0");
    put("devices/virtual/block/dm-0/dm/name", "vg-lv");
    put("devices/virtual/block/dm-0/dm/uuid", "LVM-abc");
    disk("devices/virtual/block/md0", "9:0");
    put("devices/virtual/block/md0/md/level", "raid1");
    disk("devices/virtual/block/md0/md0p1", "259:9");
    put("devices/virtual/block/md0/md0p1/partition", "1");
    put("devices/virtual/block/md0/md0p1/start", "8");
    disk("devices/virtual/block/odd", "251:0");
    dir("devices/virtual/block/odd/slaves/sda");
    Sysfs::at(root)
}

#[test]
fn a_disk_is_the_same_storage_behind_each_path() {
    let dir = tempfile::tempdir().unwrap();
    let (root, sys) = (dir.path(), fake_sysfs(dir.path()));
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let again = "devices/i/0:0:0:0/block/sdb";
    for (path, number, part) in [
        (again, "8:16", false),
        ("devices/i/0:0:0:0/block/sdb/sdb1", "8:17", true),
    ] {
        put(&format!("{path}/dev"), number);
        put(&format!("{path}/size"), "2048");
        if part {
            put(&format!("{path}/partition"), "1");
            put(&format!("{path}/start"), "34");
        }
        symlink(root.join(path), root.join(format!("dev/block/{number}"))).unwrap();
    }
    fs::create_dir_all(root.join("block")).unwrap();
    for (name, path) in [("sda", "devices/h/0:0:0:0/block/sda"), ("sdb", again)] {
        symlink(root.join(path), root.join("block").join(name)).unwrap();
    }
    let wwids = [
        "devices/h/0:0:0:0/block/sda/device/wwid",
        "devices/i/0:0:0:0/block/sdb/device/wwid",
    ];
    let nodes = || [(8, 0), (8, 16)].map(|dev| sys.block(dev).unwrap());
    for (names, same) in [
        (["naa.6001405", "naa.6001405"], true),
        (["naa.6001405", "naa.6001406"], false),
        (["naa.0000000", "naa.0000000"], false),
        (["t10.USB     Flash", "t10.USB     Flash"], false),
    ] {
        wwids
            .iter()
            .zip(names)
            .for_each(|(path, name)| put(path, name));
        let [a, b] = nodes();
        assert_eq!(a.storage() == b.storage(), same, "{names:?}");
        let others: Vec<_> = sys
            .other_paths(&a)
            .iter()
            .map(|node| node.name.clone())
            .collect();
        assert_eq!(others, if same { vec!["sdb"] } else { vec![] }, "{names:?}");
        let parts: Vec<_> = sys
            .other_paths(&sys.block((8, 1)).unwrap())
            .iter()
            .map(|node| node.dev)
            .collect();
        assert_eq!(
            parts,
            if same { vec![(8, 17)] } else { vec![] },
            "{names:?}"
        );
    }
}

#[test]
fn generic_nodes_lead_to_their_disk_and_stacks_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let sys = fake_sysfs(dir.path());
    for generic in [(21, 0), (250, 0)] {
        let node = sys.behind_char(generic).unwrap();
        assert_eq!(
            (node.name.as_str(), node.whole, node.offset),
            ("sda", (8, 0), 0)
        );
        assert_eq!(
            (node.size(), node.block_sizes()),
            (Some(1 << 20), (4096, 4096))
        );
    }
    assert_eq!(sys.behind_char((238, 0)).unwrap().dev, (259, 0));
    let mark = dir.path().join("devices/h/0:0:0:0/block/sda/ro");
    for (flag, read_only) in [("0\n", false), ("1\n", true)] {
        fs::write(&mark, flag).unwrap();
        assert_eq!(sys.behind_char((21, 0)).unwrap().is_read_only(), read_only);
    }
    for refused in [(21, 1), (238, 1), (239, 0), (1, 3)] {
        println!("{}", sys.behind_char(refused).unwrap_err());
    }
    let part = sys.block((8, 1)).unwrap();
    assert_eq!(
        (part.whole, part.offset, part.partition),
        ((8, 0), 34 * 512, true)
    );
    let stack = |dev| {
        let node = sys.block(dev).unwrap();
        (node.stacked, node.stack.unwrap_or_default())
    };
    assert_eq!(stack((8, 0)), (false, String::new()));
    assert_eq!(
        stack((252, 0)),
        (true, "device-mapper 'vg-lv' (LVM)".to_owned())
    );
    assert_eq!(stack((9, 0)), (true, "md raid1".to_owned()));
    assert_eq!(stack((259, 9)), (true, "md raid1".to_owned()));
    assert_eq!(stack((251, 0)), (true, "made of sda".to_owned()));
    assert_eq!(sys.block((77, 7)), None);
    fs::remove_file(dir.path().join("devices/h/0:0:0:0/block/sda/sda1/start")).unwrap();
    assert_eq!(sys.block((8, 1)), None, "a partition without a known start");
}

#[test]
fn users_of_a_disk_and_of_its_partitions_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let sys = fake_sysfs(dir.path());
    let (disk, part) = (sys.block((8, 0)).unwrap(), sys.block((8, 1)).unwrap());
    let find = |node, mounts: &str| find_user(node, mounts.as_bytes(), b"Filename Type\n");
    let other = "30 1 8:16 / /srv rw shared:1 master:2 - ext4 /dev/sdb rw\n";
    assert_eq!(find(&disk, other), None);
    let mounted = format!("{other}31 1 8:1 / /a\\040b rw - xfs /dev/sda1 rw\n");
    let told = Some("sda1 is mounted on /a b".to_owned());
    assert_eq!(
        (find(&disk, &mounted), find(&part, &mounted)),
        (told.clone(), told)
    );
    let whole = "31 1 8:0 / /w rw - xfs /dev/sda rw\n";
    assert_eq!(find(&part, whole).unwrap(), "sda is mounted on /w");
    for broken in [
        "",
        "\n\n",
        "31",
        "31 1 x:y / /w",
        "31 1 8:16 / \\04 - ",
        "1 1 8:99999999999 / /",
    ] {
        assert_eq!(find(&disk, broken), None);
    }
    fs::create_dir(disk.dir.join("sda1/holders/dm-0")).unwrap();
    assert_eq!(find(&disk, "").unwrap(), "sda1 is held by dm-0");
    assert_eq!(find(&part, "").unwrap(), "sda1 is held by dm-0");
}

#[test]
fn pages_that_cannot_go_are_told() {
    // The pages of a memory file are its only copy.
    let file = File::from(
        nix::sys::memfd::memfd_create(c"pages", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap(),
    );
    file.write_all_at(&[1; 8192], 0).unwrap();
    let device = KernelDevice::from_fd(file.as_raw_fd(), READ | WRITE).unwrap();
    assert_eq!(coherence::drop_range(&device, 0, 8192), Dropped::Unverified);
    assert_eq!(
        coherence::drop_range(&device, 1 << 20, 8192),
        Dropped::Clean
    );
    coherence::flush_range(device.fd(), 0, 8192).unwrap();
    coherence::durable(device.fd()).unwrap();
}
