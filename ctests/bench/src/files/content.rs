//! Sources, and what came of them.

use crate::{Failure, next_random};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes of the buffers here: small, since a child's peak memory begins with ours.
const BUFFER: usize = 256 << 10;

fn said(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

/// Gives a file its blocks.
pub fn allocate(file: &File, bytes: u64) -> Result<(), Failure> {
    // SAFETY: takes numbers only.
    match unsafe { libc::fallocate64(file.as_raw_fd(), 0, 0, bytes as i64) } {
        0 => Ok(()),
        _ => Err(format!("no room: {}", io::Error::last_os_error())),
    }
}

/// Bytes that no tool can make smaller: each 512 of them differ.
fn fill(buffer: &mut [u8], random: &mut u64) {
    for word in buffer.chunks_mut(8) {
        let bytes = next_random(random).to_ne_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
}

/// Writes a file, or a disk, of random bytes.
pub fn dense(path: &Path, bytes: u64) -> Result<(), Failure> {
    pieces(path, bytes, std::iter::once((0, bytes)))
}

/// Writes a file of holes with data in these places.
pub fn pieces(
    path: &Path,
    bytes: u64,
    places: impl Iterator<Item = (u64, u64)>,
) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(said(path))?;
    if file.metadata().map_err(said(path))?.is_file() {
        file.set_len(bytes).map_err(said(path))?;
    }
    let (mut buffer, mut random) = (vec![0; BUFFER], 0x1234_5678_9abc_def1);
    for (start, length) in places {
        let mut at = start;
        while at < start + length {
            let n = (start + length - at).min(BUFFER as u64) as usize;
            fill(&mut buffer[..n], &mut random);
            file.write_all_at(&buffer[..n], at).map_err(said(path))?;
            at += n as u64;
        }
    }
    file.sync_all().map_err(said(path))
}

/// The islands of a sparse image: 64 KiB each, so that a share of it is data.
pub fn islands(bytes: u64, percent: u64) -> impl Iterator<Item = (u64, u64)> {
    const ISLAND: u64 = 64 << 10;
    let mut random = 99;
    (0..bytes / ISLAND)
        .filter(move |_| next_random(&mut random) % 100 < percent)
        .map(|island| (island * ISLAND, ISLAND))
}

/// Runs of data, at most `size` bytes in all.
fn data_runs(file: &File, size: u64) -> Vec<(u64, u64)> {
    let seek = |at: u64, whence| {
        // SAFETY: takes numbers only.
        u64::try_from(unsafe { libc::lseek64(file.as_raw_fd(), at as i64, whence) }).ok()
    };
    let (mut runs, mut at) = (Vec::new(), 0);
    while let Some(data) = seek(at, libc::SEEK_DATA).filter(|data| *data < size) {
        let hole = seek(data, libc::SEEK_HOLE).unwrap_or(size).min(size);
        runs.push((data, hole));
        at = hole;
    }
    runs
}

/// Whether a copy has the source's bytes: an error says where not. The answer is
/// how many bytes of data the copy has in place of holes.
pub fn compare(src: &Path, dst: &Path, bytes: u64) -> Result<u64, Failure> {
    let one = File::open(src).map_err(said(src))?;
    let other = File::open(dst).map_err(said(dst))?;
    let found = other.metadata().map_err(said(dst))?;
    if found.is_file() && found.size() != bytes {
        return Err(format!("{}: {} bytes", dst.display(), found.size()));
    }
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    let disk = vec![(0, bytes)];
    let is_file = one.metadata().map_err(said(src))?.is_file();
    let runs = |file: &File| {
        if is_file {
            data_runs(file, bytes)
        } else {
            disk.clone()
        }
    };
    let (of_one, of_other) = (runs(&one), runs(&other));
    // Data of either is compared with what is there in the other.
    for (start, end) in of_one.iter().chain(&of_other) {
        let mut at = *start;
        while at < *end {
            let n = (end - at).min(BUFFER as u64) as usize;
            one.read_exact_at(&mut a[..n], at).map_err(said(src))?;
            other.read_exact_at(&mut b[..n], at).map_err(said(dst))?;
            if a[..n] != b[..n] {
                return Err(format!("{}: differs near byte {at}", dst.display()));
            }
            at += n as u64;
        }
    }
    let total = |runs: &[(u64, u64)]| runs.iter().map(|(start, end)| end - start).sum::<u64>();
    Ok(total(&of_other).saturating_sub(total(&of_one)))
}

/// Reads a file, so that it is in the page cache.
pub fn warm(path: &Path) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(said(path))?;
    let size = file.metadata().map_err(said(path))?.size();
    let runs = data_runs(&file, size);
    let data = runs.iter().map(|(start, end)| end - start).sum();
    if data > 0 && cached(&file, size).is_some_and(|bytes| bytes >= data) {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER];
    if runs.is_empty() {
        while file.read(&mut buffer).map_err(said(path))? > 0 {}
    }
    for (start, end) in runs {
        let mut at = start;
        while at < end {
            let n = (end - at).min(BUFFER as u64) as usize;
            at += file
                .read_at(&mut buffer[..n], at)
                .map_err(said(path))?
                .max(1) as u64;
        }
    }
    Ok(())
}

/// Drops a file from the page cache, and looks whether it is gone.
pub fn cool(path: &Path) -> Result<(), Failure> {
    let file = File::open(path).map_err(said(path))?;
    let size = file.metadata().map_err(said(path))?.size();
    for _ in 0..5 {
        // SAFETY: takes numbers only.
        unsafe { libc::posix_fadvise64(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        match cached(&file, size) {
            Some(bytes) if bytes > size / 100 => {}
            _ => return Ok(()),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Err(format!("{} stays in the page cache", path.display()))
}

/// Bytes in the page cache; None where the kernel does not say (before 6.5).
fn cached(file: &File, size: u64) -> Option<u64> {
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = [0u64, size];
    let mut counts = [0u64; 5];
    // SAFETY: two structs of the kernel's layout that live through the call.
    let asked = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            counts.as_mut_ptr(),
            0,
        )
    };
    (asked == 0).then(|| counts[0] * 4096)
}

/// Writes the file system's dirty pages, so that no run pays for another.
pub fn settle(path: &Path) {
    let dir = path.parent().unwrap_or(Path::new("/"));
    if let Ok(dir) = File::open(dir) {
        // SAFETY: takes a number only.
        unsafe { libc::syncfs(dir.as_raw_fd()) };
    }
    let _ = io::stdout().flush();
}

/// Makes a file and its name durable, as an operator's `sync FILE DIR` would.
pub fn durable(path: &Path) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(said(path))?;
    file.sync_all().map_err(said(path))?;
    match path
        .parent()
        .filter(|_| file.metadata().is_ok_and(|m| m.is_file()))
    {
        Some(dir) => File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(said(dir)),
        None => Ok(()),
    }
}
