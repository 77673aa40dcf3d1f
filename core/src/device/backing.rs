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

/// A loop device is its backing file, from an offset on: copies between the two
/// overlap. So is a partition of one: the driver answers there too. None for every
/// other disk, and for one that has no file.
pub(super) fn behind_loop(fd: RawFd, whole: (u32, u32), offset: u64) -> Option<Identity> {
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
    // A loop over a disk stays a disk of its own.
    (backing == 0 && inode != 0).then_some(Identity {
        storage: Storage::File {
            dev: device,
            ino: inode,
        },
        offset: start.checked_add(offset)?,
    })
}

/// The loop devices that are made of a file; none for other storage.
pub(super) fn loops_over(storage: Storage, sys: &Sysfs) -> Vec<BlockNode> {
    let Storage::File { dev, ino } = storage else {
        return Vec::new();
    };
    let mut loops = sys.loops();
    loops.retain(|node| match mounts::open_node(node, libc::O_RDONLY) {
        Ok(fd) => behind_loop(fd.as_raw_fd(), node.whole, 0)
            .is_some_and(|identity| identity.storage == storage),
        // Who may not open it goes by the name that everybody may read.
        Err(_) => text(&node.dir.join("loop/backing_file"))
            .and_then(|file| fs::metadata(file).ok())
            .is_some_and(|found| (found.dev(), found.ino()) == (dev, ino)),
    });
    loops
}
