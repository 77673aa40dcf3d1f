//! What fstat, a few ioctls and sysfs say of an open fd.

use super::backing::behind_loop;
use super::identity::{BlockNode, Identity, Storage, Sysfs};
use crate::error::{Error, Result};
use std::os::fd::RawFd;
use xcopy_abi::*;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// One of XCOPY_KIND_.
    pub kind: u32,
    /// Number of the node, or of the file's file system.
    pub dev: (u32, u32),
    /// Inode of a file; 0 otherwise.
    pub inode: u64,
    /// The disk; `None` for files and for what is made of other devices.
    pub disk: Option<(u32, u32)>,
    /// First byte of the device on that disk.
    pub disk_offset: u64,
    /// Size in bytes when opened.
    pub size: u64,
    /// Bytes of a logical block; 1 for files, unless an fd with O_DIRECT was
    /// given: then what its offsets and lengths must be multiples of.
    pub block_size: u32,
    /// Bytes of a physical block, or of the file system's block.
    pub physical_block_size: u32,
    /// What a stack or a loop device is made of, in words.
    pub stack: Option<String>,
}

/// Facts, and what they were found from.
pub(super) struct Found {
    pub facts: Facts,
    pub identity: Identity,
    /// The block device itself, or the disk behind a character node.
    pub node: Option<BlockNode>,
}

mod ioctl {
    use nix::libc::c_int;
    use nix::request_code_none;
    nix::ioctl_read!(blkgetsize64, 0x12, 114, usize);
    nix::ioctl_read_bad!(blksszget, request_code_none!(0x12, 104), c_int);
    nix::ioctl_read_bad!(blkpbszget, request_code_none!(0x12, 123), std::ffi::c_uint);
    nix::ioctl_read_bad!(blkroget, request_code_none!(0x12, 94), c_int);
}

pub(super) fn stat(fd: RawFd, name: &str) -> Result<libc::stat64> {
    // SAFETY: an all-zero stat is a valid value.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: fstat only writes to the struct; a bad fd is an error.
    match unsafe { libc::fstat64(fd, &mut stat) } {
        0 => Ok(stat),
        _ => Err(Error::last_os(name)),
    }
}

/// Refuses, by its type, what cannot be copied from or to. Also tells the disk
/// behind a character node.
pub(super) fn vet(stat: &libc::stat64, name: &str, sys: &Sysfs) -> Result<Option<BlockNode>> {
    let refuse = |errno, what: &str| {
        Err(Error::new(
            errno,
            format!("{name} is {what}; name a regular file, a disk or a partition"),
        ))
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(None),
        libc::S_IFBLK => Ok(sys.block(number(stat.st_rdev))),
        libc::S_IFCHR => match sys.behind_char(number(stat.st_rdev)) {
            Ok(node) => Ok(Some(node)),
            Err(what) => refuse(libc::ENOTSUP, &what),
        },
        libc::S_IFDIR => refuse(libc::EISDIR, "a directory"),
        libc::S_IFIFO => refuse(libc::EINVAL, "a pipe"),
        libc::S_IFSOCK => refuse(libc::EINVAL, "a socket"),
        libc::S_IFLNK => refuse(libc::EINVAL, "a symbolic link, not what it points to"),
        _ => refuse(libc::EINVAL, "of a type without storage"),
    }
}

/// Finds the facts of an fd that was vetted as `stat`, with the node from that.
pub(super) fn find(
    fd: RawFd,
    stat: &libc::stat64,
    node: Option<BlockNode>,
    direct: bool,
    name: &str,
) -> Result<Found> {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFBLK => block(fd, number(stat.st_rdev), node, name),
        libc::S_IFCHR => char(number(stat.st_rdev), node, name),
        _ => Ok(file(fd, stat, direct)),
    }
}

fn file(fd: RawFd, stat: &libc::stat64, direct: bool) -> Found {
    let facts = Facts {
        kind: XCOPY_KIND_FILE,
        dev: number(stat.st_dev),
        inode: stat.st_ino,
        disk: None,
        disk_offset: 0,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        block_size: if direct { direct_alignment(fd) } else { 1 },
        physical_block_size: u32::try_from(stat.st_blksize).unwrap_or(4096).max(1),
        stack: None,
    };
    let storage = Storage::File {
        dev: stat.st_dev,
        ino: stat.st_ino,
    };
    Found {
        facts,
        identity: Identity { storage, offset: 0 },
        node: None,
    }
}

fn block(fd: RawFd, dev: (u32, u32), node: Option<BlockNode>, name: &str) -> Result<Found> {
    let size = block_size_bytes(fd).map_err(|error| named(error, name, "its size"))?;
    let mut logical = 0;
    // SAFETY: the kernel writes one int behind the pointer.
    unsafe { ioctl::blksszget(fd, &mut logical) }
        .map_err(|error| named(error.into(), name, "its block size"))?;
    let logical = u32::try_from(logical).unwrap_or(512).max(1);
    let mut physical = 0;
    // SAFETY: as above.
    let physical = match unsafe { ioctl::blkpbszget(fd, &mut physical) } {
        Ok(_) => physical.max(logical),
        Err(_) => logical,
    };
    let facts = match &node {
        Some(node) => Facts {
            kind: match (node.stacked, node.partition) {
                (true, _) => XCOPY_KIND_STACKED,
                (false, true) => XCOPY_KIND_PARTITION,
                (false, false) => XCOPY_KIND_DISK,
            },
            dev,
            inode: 0,
            disk: (!node.stacked).then_some(node.whole),
            disk_offset: if node.stacked { 0 } else { node.offset },
            size,
            block_size: logical,
            physical_block_size: physical,
            stack: node.stack.clone(),
        },
        // Disk or partition, alone or stacked: without sysfs nobody can tell,
        // so it gets the kind that is never passed commands.
        None => Facts {
            kind: XCOPY_KIND_STACKED,
            dev,
            inode: 0,
            disk: None,
            disk_offset: 0,
            size,
            block_size: logical,
            physical_block_size: physical,
            stack: Some("unknown: it is not in /sys/dev/block; mount sysfs".to_owned()),
        },
    };
    let identity = match &node {
        Some(node) => behind_loop(fd, node.whole, node.offset, &Sysfs::default())
            .unwrap_or_else(|| node.identity()),
        None => Identity {
            storage: disk(dev),
            offset: 0,
        },
    };
    Ok(Found {
        facts,
        identity,
        node,
    })
}

fn char(dev: (u32, u32), node: Option<BlockNode>, name: &str) -> Result<Found> {
    let Some(node) = node else {
        return Err(Error::new(
            libc::ENOTSUP,
            format!("{name} has no disk behind it"),
        ));
    };
    let (block_size, physical_block_size) = node.block_sizes();
    let facts = Facts {
        kind: XCOPY_KIND_CHAR,
        dev,
        inode: 0,
        disk: Some(node.whole),
        disk_offset: node.offset,
        size: node.size().unwrap_or(0),
        block_size,
        physical_block_size,
        stack: None,
    };
    let identity = node.identity();
    Ok(Found {
        facts,
        identity,
        node: Some(node),
    })
}

fn disk((major, minor): (u32, u32)) -> Storage {
    Storage::Disk { major, minor }
}

fn named(error: Error, name: &str, what: &str) -> Error {
    Error::new(error.errno, format!("{name}: cannot find {what}: {error}"))
}

/// Size of a block device in bytes.
pub(super) fn block_size_bytes(fd: RawFd) -> Result<u64> {
    let mut size = 0_u64;
    // SAFETY: the request number is made of size_t, but the kernel writes 64
    // bits on every machine; `size` has them.
    unsafe { ioctl::blkgetsize64(fd, (&raw mut size).cast()) }?;
    Ok(size)
}

/// Whether the disk behind an open block node was removed: then the kernel says
/// ENOSPC to a write, as at the end of a disk of no bytes.
pub fn is_gone(fd: RawFd) -> bool {
    block_size_bytes(fd).is_ok_and(|bytes| bytes == 0)
}

/// Whether a file has no byte any more where a read met its end. Only of files of
/// sysfs, whose size says nothing, one is read again: that may not wait.
pub fn ends_early(fd: RawFd, offset: u64, length: u64) -> bool {
    let end = offset.saturating_add(length);
    if stat(fd, "").is_ok_and(|stat| u64::try_from(stat.st_size).is_ok_and(|size| size < end)) {
        return true;
    }
    // SAFETY: an all-zero statfs is valid.
    let mut system: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: fstatfs only writes to the struct; a bad fd is an error.
    let asked = unsafe { libc::fstatfs64(fd, &raw mut system) } == 0;
    let mut byte = 0_u8;
    let (Ok(at), true) = (
        i64::try_from(offset),
        asked && system.f_type as u32 == SYSFS_MAGIC,
    ) else {
        return false;
    };
    // SAFETY: one byte is writable for the call; a bad fd is an error.
    unsafe { libc::pread64(fd, (&raw mut byte).cast(), 1, at) == 0 }
}

/// Of <linux/magic.h>.
const SYSFS_MAGIC: u32 = 0x6265_6572;

/// Whether the kernel has the disk marked read-only.
pub(super) fn is_read_only(fd: RawFd) -> bool {
    let mut flag = 0;
    // SAFETY: the kernel writes one int behind the pointer.
    unsafe { ioctl::blkroget(fd, &mut flag) }.is_ok() && flag != 0
}

fn number(dev: libc::dev_t) -> (u32, u32) {
    (libc::major(dev), libc::minor(dev))
}

/// What offsets and lengths of an O_DIRECT file must be multiples of.
fn direct_alignment(fd: RawFd) -> u32 {
    // SAFETY: an all-zero statx is a valid value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is an empty C string, which with AT_EMPTY_PATH stands
    // for the fd; statx only writes to the struct.
    let answer = unsafe {
        libc::statx(
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &mut stat,
        )
    };
    // Kernels before 6.1 do not say; a page is enough for every file system.
    match answer == 0 && stat.stx_mask & libc::STATX_DIOALIGN != 0 {
        true if stat.stx_dio_offset_align > 0 => stat.stx_dio_offset_align,
        _ => 4096,
    }
}

/// A block device, or a file on ext4, XFS, btrfs or F2FS: there O_DIRECT is what
/// it says. On others it is refused, or a copy like any other.
pub fn is_well_known(fd: RawFd) -> bool {
    const KNOWN: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];
    // SAFETY: an all-zero stat is valid, and fstat only writes to it.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a bad fd is an error.
    if unsafe { libc::fstat64(fd, &raw mut stat) } != 0 {
        return false;
    }
    if stat.st_mode & libc::S_IFMT == libc::S_IFBLK {
        return true;
    }
    // SAFETY: an all-zero statfs is valid, and fstatfs only writes to it.
    let mut system: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a bad fd is an error.
    let asked = unsafe { libc::fstatfs64(fd, &raw mut system) };
    asked == 0 && KNOWN.contains(&(system.f_type as u32))
}
