//! What the file system under an fd is, and what it says of extents.

use std::io;
use std::os::fd::RawFd;

/// This thread's last errno.
pub fn errno() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// fstat.
pub fn stat(fd: RawFd) -> Result<libc::stat64, i32> {
    // SAFETY: an all-zero stat is a valid value.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: fstat only writes to the struct; a bad fd is an error.
    match unsafe { libc::fstat64(fd, &mut stat) } {
        0 => Ok(stat),
        _ => Err(errno()),
    }
}

/// Bytes of a file.
pub fn size(fd: RawFd) -> Result<u64, i32> {
    Ok(u64::try_from(stat(fd)?.st_size).unwrap_or(0))
}

fn statfs(fd: RawFd) -> Result<libc::statfs64, i32> {
    // SAFETY: an all-zero statfs is a valid value.
    let mut stat: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: fstatfs only writes to the struct; a bad fd is an error.
    match unsafe { libc::fstatfs64(fd, &mut stat) } {
        0 => Ok(stat),
        _ => Err(errno()),
    }
}

/// The file system's magic number.
#[allow(
    clippy::unnecessary_cast,
    reason = "the field's type differs between machines"
)]
pub fn magic(fd: RawFd) -> Result<i64, i32> {
    // 32 bits of meaning, with the sign of the field's type.
    Ok((statfs(fd)?.f_type as i64) & 0xffff_ffff)
}

/// The file system's block, which offsets and lengths must be multiples of to
/// share extents. A network file system states its transfer size, which is a
/// multiple of it.
#[allow(
    clippy::unnecessary_cast,
    reason = "the field's type differs between machines"
)]
pub fn block_of(fd: RawFd) -> Result<u32, i32> {
    let bytes = statfs(fd)?.f_bsize as u64;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (512..=1 << 26).contains(&bytes) => Ok(bytes),
        _ => Ok(4096),
    }
}

/// SMB, by its old and its newer number.
pub const SMB: [i64; 2] = [0xff53_4d42, 0xfe53_4d42];
const NFS: i64 = 0x6969;
const CEPH: i64 = 0x00c3_6400;

/// Whether the server of a network file system copies ranges by itself: NFS
/// from 4.2 on, SMB from 2 on, Ceph where the mount asks for it. The file system
/// alone does not tell, so its mount's options are read.
pub fn server_copies(fd: RawFd) -> bool {
    let Ok(kind) = magic(fd) else { return false };
    if kind != NFS && kind != CEPH && !SMB.contains(&kind) {
        return false;
    }
    let (Ok(stat), Ok(table)) = (stat(fd), std::fs::read_to_string("/proc/self/mountinfo")) else {
        return false;
    };
    let device = format!("{}:{}", libc::major(stat.st_dev), libc::minor(stat.st_dev));
    table.lines().any(|line| mount_copies(line, &device))
}

/// Whether a line of mountinfo is that of `device`, and its server copies.
pub fn mount_copies(line: &str, device: &str) -> bool {
    let Some((place, system)) = line.split_once(" - ") else {
        return false;
    };
    if place.split(' ').nth(2) != Some(device) {
        return false;
    }
    let mut words = system.split(' ');
    let (kind, options) = (words.next().unwrap_or(""), words.nth(1).unwrap_or(""));
    let version = options
        .split(',')
        .find_map(|option| option.strip_prefix("vers="))
        .and_then(|version| version.get(..3).unwrap_or(version).parse::<f32>().ok());
    match kind {
        "nfs4" => version.is_some_and(|version| version >= 4.2),
        "cifs" | "smb3" => version.is_some_and(|version| version >= 2.0),
        "ceph" => options.split(',').any(|option| option == "copyfrom"),
        _ => false,
    }
}

/// FS_IOC_FIEMAP with room for one extent.
#[repr(C)]
#[derive(Default)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
    logical: u64,
    physical: u64,
    extent_length: u64,
    reserved64: [u64; 2],
    extent_flags: u32,
    reserved32: [u32; 3],
}

const FS_IOC_FIEMAP: u32 = 0xc020_660b;
const FIEMAP_EXTENT_SHARED: u32 = 0x2000;

/// Whether what lies in a range of a file is shared with another place: its
/// first and its last extent, or a hole where there are none. A file system
/// that has no extents shares nothing. Pages that are yet to be written would
/// hide behind the extents that they replace: they are written first, and a
/// range that was shared has none.
pub fn is_shared(fd: RawFd, offset: u64, length: u64, block: u64) -> bool {
    let (Ok(start), Ok(bytes)) = (i64::try_from(offset), i64::try_from(length)) else {
        return false;
    };
    let tail = length.min(block);
    let shared = || shared_at(fd, offset, length) && shared_at(fd, offset + length - tail, tail);
    if !shared() {
        return false;
    }
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: takes numbers only.
    unsafe { libc::sync_file_range(fd, start, bytes, how) == 0 && shared() }
}

fn shared_at(fd: RawFd, start: u64, length: u64) -> bool {
    let mut map = Fiemap {
        start,
        length,
        room: 1,
        ..Fiemap::default()
    };
    // SAFETY: the kernel reads the head and writes it and at most one extent,
    // for which the struct has room.
    match unsafe { libc::ioctl(fd, FS_IOC_FIEMAP as _, &raw mut map) } {
        0 => map.mapped == 0 || map.extent_flags & FIEMAP_EXTENT_SHARED != 0,
        _ => false,
    }
}
