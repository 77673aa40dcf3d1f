//! Real block devices: loop disks over images.

use super::*;
use crate::device::testing::{LoopDisk, run};

/// A claim that was given up stays for a moment with programs that other tests
/// start: they have copies of all descriptors until they run.
fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(std::time::Instant::now() < end, "it stays claimed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_loop_disk_is_a_disk_claimed_once_per_process() {
    let Some(disk) = LoopDisk::new(8 << 20) else {
        return;
    };
    let number = fs::metadata(disk.path()).unwrap().rdev();
    let number = (libc::major(number), libc::minor(number));
    let exclusive = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(disk.path())
            .map(drop)
    };
    let source = open(disk.path(), READ).unwrap();
    eventually(|| exclusive().ok()); // a source takes no claim
    let facts = source.facts();
    assert_eq!(
        (facts.kind, facts.dev, facts.disk),
        (XCOPY_KIND_DISK, number, Some(number))
    );
    assert_eq!(
        (facts.size, facts.block_size, facts.disk_offset),
        (8 << 20, 512, 0)
    );
    assert!(
        facts.stack.as_deref().unwrap().starts_with("loop over /"),
        "{facts:?}"
    );
    let first = eventually(|| open(disk.path(), WRITE).ok());
    assert_eq!(first.identity(), source.identity());
    let second = open(disk.path(), READ | WRITE).unwrap();
    assert!(exclusive().is_err());
    drop(first);
    assert!(
        exclusive().is_err(),
        "the second handle still holds the claim"
    );
    drop(second);
    eventually(|| exclusive().ok());

    let foreign = eventually(|| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(disk.path())
            .ok()
    });
    let error = refusal(open(disk.path(), WRITE));
    assert_eq!(error.errno, libc::EBUSY);
    assert!(error.message.contains("XCOPY_OPEN_OWNED"));
    assert_eq!(
        refusal(KernelDevice::from_fd(foreign.as_raw_fd(), WRITE)).errno,
        libc::EBUSY
    );
    let owned = KernelDevice::from_fd(foreign.as_raw_fd(), WRITE | XCOPY_OPEN_OWNED).unwrap();
    let forced = open(disk.path(), WRITE | XCOPY_OPEN_FORCE).unwrap();
    // A forced handle without the claim lends none to others.
    assert_eq!(refusal(open(disk.path(), WRITE)).errno, libc::EBUSY);
    drop((foreign, owned));
    let late = eventually(|| open(disk.path(), WRITE).ok());
    assert!(exclusive().is_err());
    drop(late);
    drop(forced);
    eventually(|| exclusive().ok());

    let plain = OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk.path())
        .unwrap();
    let borrowed = eventually(|| KernelDevice::from_fd(plain.as_raw_fd(), WRITE).ok());
    assert!(exclusive().is_err());
    drop(borrowed);
    eventually(|| exclusive().ok());
}

#[test]
fn a_mounted_or_read_only_disk_is_refused() {
    let Some(disk) = LoopDisk::new(400 << 20) else {
        return;
    };
    for kind in ["ext4", "btrfs"] {
        let Some(point) = disk.mount(kind) else {
            continue;
        };
        let error = refusal(open(disk.path(), WRITE));
        assert_eq!(error.errno, libc::EBUSY);
        assert!(
            error.message.contains(point.to_str().unwrap()),
            "{kind}: {}",
            error.message
        );
        assert!(open(disk.path(), READ).is_ok());
        assert!(open(disk.path(), WRITE | XCOPY_OPEN_FORCE).is_ok());
        run("umount", &[point.to_str().unwrap()]).unwrap();
        run("wipefs", &["-aq", disk.path().to_str().unwrap()]).unwrap();
        assert!(open(disk.path(), WRITE).is_ok());
    }
    let Some(disk) = LoopDisk::with(1 << 20, &["--read-only"]) else {
        return;
    };
    let error = refusal(open(disk.path(), WRITE));
    assert!([libc::EROFS, libc::EACCES, libc::EPERM].contains(&error.errno));
    assert!(error.message.contains("blockdev"));
}

#[test]
fn the_file_of_a_mounted_or_claimed_loop_disk_is_refused_as_the_disk_is() {
    let Some(disk) = LoopDisk::new(64 << 20) else {
        return;
    };
    let image = disk.image();
    let name = disk.path().file_name().unwrap().to_str().unwrap();
    let refused = |path: &Path, told: &str| {
        let error = refusal(open(path, WRITE));
        assert_eq!(error.errno, libc::EBUSY, "{}", error.message);
        for words in [name, told, "XCOPY_OPEN_FORCE"] {
            assert!(error.message.contains(words), "{words}: {}", error.message);
        }
        assert!(open(path, READ).is_ok(), "reading disturbs nobody");
        assert!(open(path, WRITE | XCOPY_OPEN_FORCE).is_ok());
        assert!(open(path, WRITE | XCOPY_OPEN_OWNED).is_ok());
    };
    let exclusive = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(path)
    };
    // Attached alone it is a file like others; the disk is claimed with it.
    let written = eventually(|| open(&image, READ | WRITE).ok());
    assert!(exclusive(disk.path()).is_err());
    drop(written);
    let foreign = eventually(|| exclusive(disk.path()).ok());
    refused(&image, "claimed");
    let by_fd = OpenOptions::new().write(true).open(&image).unwrap();
    let error = refusal(KernelDevice::from_fd(by_fd.as_raw_fd(), WRITE));
    assert_eq!(error.errno, libc::EBUSY);
    // Another name of the file is the same file.
    let other = image.with_file_name("other");
    fs::hard_link(&image, &other).unwrap();
    fs::rename(&image, image.with_file_name("moved")).unwrap();
    refused(&other, "claimed");
    fs::rename(image.with_file_name("moved"), &image).unwrap();
    drop(foreign);
    eventually(|| open(&image, WRITE).ok());
    let Some(point) = disk.mount("ext4") else {
        return;
    };
    refused(&image, point.to_str().unwrap());
    // A second device over the same file is the same storage too.
    let second = run("losetup", &["-f", "--show", image.to_str().unwrap()]).unwrap();
    let error = open(Path::new(&second), WRITE).err();
    run("losetup", &["-d", &second]).unwrap();
    assert_eq!(error.map(|error| error.errno), Some(libc::EBUSY));
    run("umount", &[point.to_str().unwrap()]).unwrap();
    eventually(|| open(&image, WRITE).ok());
}

#[test]
fn a_loop_disk_over_another_is_the_same_storage() {
    let Some(disk) = LoopDisk::new(64 << 20) else {
        return;
    };
    let below = disk.path().to_str().unwrap();
    let upper = |offset: &str| run("losetup", &["-f", "--show", "-o", offset, below]);
    let (Ok(half), Ok(whole)) = (upper("33554432"), upper("0")) else {
        return skip("no more loop devices");
    };
    let identity = |path: &str| eventually(|| open(Path::new(path), READ).ok()).identity();
    let first = identity(below);
    assert_eq!(identity(&whole), first);
    assert_eq!(identity(&half).storage, first.storage);
    assert_eq!(identity(&half).offset, first.offset + (32 << 20));
    // Mounted above, it is in use below, and in the file below that.
    let point = disk.image().with_file_name("upper");
    fs::create_dir(&point).unwrap();
    let point = point.to_str().unwrap();
    let mounted =
        run("mkfs.ext4", &["-q", &half]).and_then(|_| run("mount", &["-t", "ext4", &half, point]));
    let errors = [disk.path().to_owned(), disk.image()]
        .map(|path| open(&path, WRITE).err().map(|error| error.errno));
    let _ = run("umount", &["-q", point]);
    for device in [&half, &whole] {
        run("losetup", &["-d", device]).unwrap();
    }
    match mounted {
        Ok(_) => assert_eq!(errors, [Some(libc::EBUSY); 2]),
        Err(why) => skip(&why),
    }
    eventually(|| open(disk.path(), WRITE).ok());
}

#[test]
fn partitions_are_places_on_their_disk() {
    let Some(disk) = LoopDisk::with(16 << 20, &["--partscan"]) else {
        return;
    };
    let path = disk.path().to_str().unwrap();
    let mut table = [0_u8; 512];
    for (entry, start, sectors) in [(446, 2048_u32, 4096_u32), (462, 8192, 8192)] {
        table[entry + 4] = 0x83;
        table[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
        table[entry + 12..entry + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    let file = OpenOptions::new().write(true).open(disk.path()).unwrap();
    file.write_all_at(&table, 0).unwrap();
    drop(file);
    if let Err(why) = run("partx", &["-u", path]) {
        return skip(&why);
    }
    let part = std::path::PathBuf::from(format!("{path}p2"));
    if !part.exists() {
        return skip("the kernel made no partition nodes");
    }
    let whole = open(disk.path(), READ).unwrap();
    let source = open(&part, READ).unwrap();
    let facts = source.facts();
    assert_eq!((facts.kind, facts.size), (XCOPY_KIND_PARTITION, 8192 * 512));
    assert_eq!(
        (facts.disk, facts.disk_offset),
        (whole.facts().disk, 8192 * 512)
    );
    assert_eq!(source.identity().storage, whole.identity().storage);
    assert_eq!(source.identity().offset, 8192 * 512);

    // The whole disk's claim covers its partitions; the other way round the
    // kernel refuses, and the text tells why.
    // A losetup elsewhere that tries this device claims it for a moment.
    let write = |path: &Path| eventually(|| open(path, WRITE).ok());
    let all = write(disk.path());
    let second = write(&part);
    drop(all);
    drop(second);
    let second = write(&part);
    let error = refusal(open(disk.path(), WRITE));
    assert!(error.errno == libc::EBUSY && error.message.contains("in this process"));
    let first = write(Path::new(&format!("{path}p1")));
    drop((first, second));
    write(disk.path());
}

#[test]
fn swap_is_a_user() {
    let Some(disk) = LoopDisk::new(16 << 20) else {
        return;
    };
    let path = disk.path().to_str().unwrap();
    if let Err(why) = run("mkswap", &["-q", path]).and_then(|_| run("swapon", &[path])) {
        return skip(&why);
    }
    let error = refusal(open(disk.path(), WRITE));
    run("swapoff", &[path]).unwrap();
    assert!(error.errno == libc::EBUSY && error.message.contains("as swap"));
}

#[test]
fn dropped_pages_are_gone_and_what_lies_below_is_read() {
    let Some(disk) = LoopDisk::with(16 << 20, &["--direct-io=on"]) else {
        return;
    };
    let device = open(disk.path(), READ | WRITE).unwrap();
    let cache = OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk.path())
        .unwrap();
    let below = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk.path())
        .unwrap();
    cache.write_all_at(&[1; 1 << 20], 4096).unwrap();
    coherence::flush_range(device.fd(), 4096, 1 << 20).unwrap();
    let buffers = crate::host::Buffers::new(None, None, std::ptr::null_mut(), 4096, 4096);
    let mut block = buffers.take(4096).unwrap();
    below.read_exact_at(&mut block, 4096).unwrap();
    assert!(block.iter().all(|byte| *byte == 1), "flushed");
    let (by_cachestat, by_mincore) = coherence::for_tests::both(device.fd(), 4096, 1 << 20);
    assert_eq!(by_mincore, Some(true));
    if by_cachestat.is_none() {
        skip("this kernel has no cachestat");
    }
    assert_ne!(by_cachestat, Some(false));
    for (off, len) in [(4096 + 10, 1000), (0, 2 << 20), (5000, 3 << 20)] {
        let mut all = vec![0; 8 << 20];
        cache.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(
            coherence::drop_range(&device, off, len),
            Dropped::Clean,
            "{off}+{len}"
        );
        let both = coherence::for_tests::both(device.fd(), off, len);
        assert!(both.0 != Some(true) && both.1 == Some(false), "{both:?}");
    }
    assert_eq!(coherence::drop_range(&device, 0, 0), Dropped::Clean);
    assert_eq!(
        coherence::drop_range(&device, u64::MAX - 1, 9),
        Dropped::Unverified
    );
    coherence::durable(device.fd()).unwrap();
    coherence::flush_range(device.fd(), 0, 0).unwrap();
    assert!(coherence::flush_range(-1, 0, 0).is_err());
}
