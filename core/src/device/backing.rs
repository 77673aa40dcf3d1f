//! Loop devices: which file each of them is, seen from the device and from the
//! file.

use super::identity::{BlockNode, Identity, Storage, Sysfs, text};
use super::mounts;
use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Major number of loop devices (Documentation/admin-guide/devices.txt).
const LOOP_MAJOR: u32 = 7;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4c05;

/// A loop device is what it is made of, from an offset on: copies between the two
/// overlap. So is a partition of one: the driver answers there too. None for every
/// other disk, and for one that is made of nothing.
pub(super) fn behind_loop(
    fd: RawFd,
    whole: (u32, u32),
    offset: u64,
    sys: &Sysfs,
) -> Option<Identity> {
    // `struct loop_info64` of <linux/loop.h>: 232 bytes, in 64-bit words up to
    // the size limit: device, inode, rdevice, offset.
    let mut info = [0u64; 29];
    if whole.0 != LOOP_MAJOR {
        return None;
    }
    // SAFETY: the kernel writes one loop_info64, which `info` has room for.
    if unsafe { libc::ioctl(fd, LOOP_GET_STATUS64 as _, info.as_mut_ptr()) } != 0 {
        return None;
    }
    let [device, inode, backing, start, ..] = info;
    let start = start.checked_add(offset)?;
    if backing != 0 {
        let below = identity_of(&sys.block(number(backing))?, sys);
        return Some(Identity {
            offset: below.offset.checked_add(start)?,
            ..below
        });
    }
    (inode != 0).then_some(Identity {
        storage: Storage::File {
            dev: device,
            ino: inode,
        },
        offset: start,
    })
}

/// Which storage a block device is; one that may not be opened is its own.
fn identity_of(node: &BlockNode, sys: &Sysfs) -> Identity {
    let behind = || {
        let fd = mounts::open_node(node, libc::O_RDONLY).ok()?;
        behind_loop(fd.as_raw_fd(), node.whole, node.offset, sys)
    };
    let is_loop = node.whole.0 == LOOP_MAJOR;
    is_loop
        .then(behind)
        .flatten()
        .unwrap_or_else(|| node.identity())
}

/// A device number as the kernel writes it in 64 bits (new_encode_dev).
fn number(dev: u64) -> (u32, u32) {
    (libc::major(dev), libc::minor(dev))
}

/// The loop devices that are made of a file, or of some of these bytes of a disk.
pub(super) fn loops_over(of: Identity, size: u64, sys: &Sysfs) -> Vec<BlockNode> {
    if matches!(of.storage, Storage::Native { .. } | Storage::Unknown(_)) {
        return Vec::new();
    }
    let mut loops = sys.loops();
    loops.retain(|node| match mounts::open_node(node, libc::O_RDONLY) {
        Ok(fd) => behind_loop(fd.as_raw_fd(), node.whole, 0, sys)
            .is_some_and(|found| shares(of, size, found, node.size())),
        // Who may not open it goes by the name that everybody may read.
        Err(_) => text(&node.dir.join("loop/backing_file"))
            .and_then(|file| fs::metadata(file).ok())
            .is_some_and(|found| match of.storage {
                Storage::File { dev, ino } => (found.dev(), found.ino()) == (dev, ino),
                _ => sys
                    .block(number(found.rdev()))
                    .map(|below| (identity_of(&below, sys), below.size()))
                    .is_some_and(|(below, length)| shares(of, size, below, length)),
            }),
    });
    loops
}

/// Whether a device lies on some of these bytes of a disk, or on the file.
fn shares(of: Identity, size: u64, found: Identity, length: Option<u64>) -> bool {
    let end = found.offset.saturating_add(length.unwrap_or(u64::MAX));
    let meets = end > of.offset && found.offset < of.offset.saturating_add(size);
    found.storage == of.storage && (meets || matches!(of.storage, Storage::File { .. }))
}
