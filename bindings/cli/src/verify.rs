//! `--verify`: reads source and destination back and compares them, what the
//! page cache says and what the device says.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::{Whence, lseek};
use xcopy::abi::*;

use crate::failure::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::progress::Bar;
use crate::target::Target;

/// Bytes compared at a time.
const PIECE: usize = 1 << 20;
/// Alignment of direct reads: enough for every block size in use.
const ALIGN: u64 = 4096;

/// What was copied.
#[derive(Clone, Copy)]
pub struct Region {
    /// First byte in the source.
    pub src_offset: u64,
    /// First byte in the destination.
    pub dst_offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Why the two are not known to be equal, and how far they are.
#[derive(Debug)]
pub struct Broken {
    /// What and where.
    pub failure: Failure,
    /// Bytes before that compared equal.
    pub matched: u64,
}

/// Refuses what cannot be read back by an ordinary read.
pub fn possible(target: &Target) -> Result<()> {
    match target.kind {
        XCOPY_KIND_CHAR | XCOPY_KIND_NATIVE => Err(Failure::usage(format!(
            "--verify reads files and block devices, and {} is neither; leave it out",
            target.name()
        ))),
        _ => Ok(()),
    }
}

/// Compares the region of both.
pub fn compare(
    src: &Target,
    dst: &Target,
    region: Region,
    interrupts: &Interrupts,
    bar: &Bar,
) -> std::result::Result<(), Broken> {
    let mut matched = 0;
    match compare_pieces(src, dst, region, interrupts, bar, &mut matched) {
        Ok(()) => Ok(()),
        Err(failure) => Err(Broken { failure, matched }),
    }
}

fn compare_pieces(
    src: &Target,
    dst: &Target,
    region: Region,
    interrupts: &Interrupts,
    bar: &Bar,
    matched: &mut u64,
) -> Result<()> {
    let source = readable(src)?;
    let destination = readable(dst)?;
    destination
        .sync_data()
        .map_err(|error| unread(dst, &error))?;
    let mut device = Device::new(&destination).map_err(|error| unread(dst, &error))?;
    let holes = Holes::new(src, dst, &source, &destination);
    let (mut expected, mut cached) = (vec![0; PIECE], vec![0; PIECE]);
    while *matched < region.length {
        if interrupts.count() > 0 {
            let name = interrupts.name();
            let text = format!("all is copied, and {name} ended the verifying; verify it again");
            return Err(Failure::failed(libc::ECANCELED, text));
        }
        let left = region.length - *matched;
        let places = (region.src_offset + *matched, region.dst_offset + *matched);
        let skipped = holes.in_both(places, left);
        if skipped > 0 {
            *matched += skipped;
            bar.set(*matched);
            continue;
        }
        let size = left.min(PIECE as u64) as usize;
        let (from, to) = (region.src_offset + *matched, region.dst_offset + *matched);
        let (expected, cached) = (&mut expected[..size], &mut cached[..size]);
        source
            .read_exact_at(expected, from)
            .map_err(|error| unread(src, &error))?;
        destination
            .read_exact_at(cached, to)
            .map_err(|error| unread(dst, &error))?;
        same(
            expected,
            cached,
            "in the page cache",
            dst,
            (from, to),
            matched,
        )?;
        let stored = device.read(to, size).map_err(|error| unread(dst, &error))?;
        same(expected, stored, "on the device", dst, (from, to), matched)?;
        *matched += size as u64;
        bar.set(*matched);
    }
    Ok(())
}

/// Where both are holes there is nothing to be read: of files only, since a disk may
/// hold anything.
struct Holes<'a>(Option<(&'a File, &'a File)>);

impl<'a> Holes<'a> {
    fn new(src: &Target, dst: &Target, source: &'a File, destination: &'a File) -> Self {
        let files = src.kind == XCOPY_KIND_FILE && dst.kind == XCOPY_KIND_FILE;
        Holes(files.then_some((source, destination)))
    }

    /// Bytes from these places on that are holes of both, at most `left`.
    fn in_both(&self, (from, to): (u64, u64), left: u64) -> u64 {
        let Some((source, destination)) = self.0 else {
            return 0;
        };
        match hole(source, from).min(left) {
            0 => 0,
            bytes => hole(destination, to).min(bytes),
        }
    }
}

/// Bytes without data from a place on, up to the end of the file; 0 where that cannot
/// be told.
fn hole(file: &File, at: u64) -> u64 {
    let Ok(place) = i64::try_from(at) else {
        return 0;
    };
    let end = match lseek(file, place, Whence::SeekData) {
        Ok(data) => u64::try_from(data).unwrap_or(0),
        Err(Errno::ENXIO) => file.metadata().map_or(0, |found| found.len()),
        Err(_) => 0,
    };
    end.saturating_sub(at)
}

fn same(
    expected: &[u8],
    found: &[u8],
    place: &str,
    dst: &Target,
    (from, to): (u64, u64),
    matched: &mut u64,
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let equal = expected
        .iter()
        .zip(found)
        .take_while(|(a, b)| a == b)
        .count() as u64;
    *matched += equal;
    Err(Failure::failed(
        libc::EIO,
        format!(
            "verify: {} differs {place} at byte {} from byte {} of SRC; copy again with another \
             --method, and distrust the device if it differs again",
            dst.name(),
            to + equal,
            from + equal
        ),
    ))
}

fn unread(target: &Target, error: &io::Error) -> Failure {
    let next = "the copy is not verified; check that it can be read";
    Failure::io(format!("verify: {}", target.path.display()), error, next)
}

/// A handle to read with. A file is opened again through its descriptor: the
/// path may name another one by now.
fn readable(target: &Target) -> Result<File> {
    let opened = match &target.file {
        Some(file) => File::open(by_descriptor(file)),
        None => File::open(&target.path),
    };
    let file = opened.map_err(|error| unread(target, &error))?;
    if target.file.is_none() {
        let node = file.metadata().map_err(|error| unread(target, &error))?;
        if target.node != (libc::major(node.rdev()), libc::minor(node.rdev())) {
            return Err(Failure::failed(
                libc::ENODEV,
                format!(
                    "verify: {}: names another device by now; copy again",
                    target.name()
                ),
            ));
        }
    }
    Ok(file)
}

fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Reads what the device holds: past the page cache, or with it dropped.
struct Device {
    buffered: File,
    direct: Option<File>,
    memory: Vec<u8>,
    start: usize,
}

impl Device {
    fn new(file: &File) -> io::Result<Self> {
        let buffered = file.try_clone()?;
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(by_descriptor(file))
            .ok();
        let memory = vec![0; PIECE + 3 * ALIGN as usize];
        let start = memory.as_ptr().align_offset(ALIGN as usize);
        Ok(Device {
            buffered,
            direct,
            memory,
            start,
        })
    }

    fn read(&mut self, offset: u64, size: usize) -> io::Result<&[u8]> {
        let lead = (offset % ALIGN) as usize;
        let span = (lead + size).next_multiple_of(ALIGN as usize);
        let from = offset - lead as u64;
        let room = self
            .memory
            .get_mut(self.start..self.start.saturating_add(span))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        if let Some(direct) = &self.direct {
            match fill(direct, room, from, lead + size) {
                Ok(()) => return Ok(&self.memory[self.start + lead..][..size]),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        // Best effort: a file system without direct reads keeps what it likes.
        let _ = posix_fadvise(
            &self.buffered,
            from as libc::off_t,
            span as libc::off_t,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        );
        let room = &mut self.memory[self.start..][..size];
        self.buffered.read_exact_at(room, offset)?;
        Ok(room)
    }
}

/// Reads at least `needed` bytes into aligned `room`; a file's end may cut it.
fn fill(file: &File, room: &mut [u8], offset: u64, needed: usize) -> io::Result<()> {
    let mut filled = 0;
    while filled < needed {
        match file.read_at(&mut room[filled..], offset + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn target(path: &Path, bytes: &[u8]) -> Target {
        std::fs::write(path, bytes).expect("a file");
        Target {
            device: 0,
            kind: XCOPY_KIND_FILE,
            size: Some(bytes.len() as u64),
            node: (0, 0),
            path: path.to_owned(),
            file: Some(OpenOptions::new().write(true).open(path).expect("the file")),
            created: false,
        }
    }

    fn check(directory: &Path) {
        let interrupts = Interrupts::watch().expect("signals");
        let bar = Bar::new("verifying", 0, true);
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| ((i / 7) ^ i) as u8).collect();
        let src = target(&directory.join("src"), &bytes);
        let region = |src_offset, dst_offset, length| Region {
            src_offset,
            dst_offset,
            length,
        };
        let compare = |dst: &[u8], region| {
            let dst = target(&directory.join("dst"), dst);
            compare(&src, &dst, region, &interrupts, &bar)
        };
        let whole = region(0, 0, 3_000_000);
        assert!(compare(&bytes, whole).is_ok());
        assert!(compare(&bytes[777..], region(777, 0, 2_999_223)).is_ok());
        assert!(compare(&bytes, region(1_500_000, 1_500_000, 1_000_001)).is_ok());
        assert!(compare(&bytes, region(5, 5, 0)).is_ok());
        for at in [0, 1, 4095, 4096, 1 << 20, 2_500_000, 2_999_999] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            let broken = compare(&wrong, whole).expect_err("they differ");
            assert_eq!(broken.matched, at as u64);
            assert!(broken.failure.to_string().contains(&format!("byte {at} ")));
            if at > 4096 {
                assert!(compare(&wrong, region(0, 0, at as u64)).is_ok());
            }
        }
        let short = compare(&bytes[..2_000_000], whole).expect_err("it is too short");
        assert!(short.matched < 2_000_000);
    }

    /// A difference in what is a hole of one side only is found, and 8 TiB of holes
    /// are not read.
    #[test]
    fn holes_of_both_are_passed_over() {
        let interrupts = Interrupts::watch().expect("signals");
        let bar = Bar::new("verifying", 0, true);
        let directory = tempfile::tempdir().expect("a directory");
        let [src, dst] = ["src", "dst"].map(|name| target(&directory.path().join(name), b"ab"));
        let file = |target: &Target| target.file.as_ref().expect("a file").try_clone();
        let (from, to) = (file(&src).expect("it"), file(&dst).expect("it"));
        let size = 1_u64 << 43;
        if from.set_len(size).and_then(|()| to.set_len(size)).is_err() {
            return eprintln!("SKIP: no file of 8 TiB here");
        }
        let whole = Region {
            src_offset: 0,
            dst_offset: 0,
            length: size,
        };
        assert!(compare(&src, &dst, whole, &interrupts, &bar).is_ok());
        for (file, at) in [(&to, 5 << 40), (&from, 3 << 40)] {
            file.write_all_at(&[0, 0, 1], at).expect("room");
            let broken = compare(&src, &dst, whole, &interrupts, &bar).expect_err("they differ");
            assert_eq!(broken.matched, at + 2);
        }
        to.set_len(size - 1).expect("shorter");
        to.write_all_at(&[0, 0, 1], 3 << 40).expect("room");
        from.write_all_at(&[0, 0, 1], 5 << 40).expect("room");
        assert!(compare(&src, &dst, whole, &interrupts, &bar).is_err());
    }

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        check(tempfile::tempdir().expect("a directory").path());
        // A file system in memory: direct reads may not be there.
        if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
            check(memory.path());
        }
    }
}
