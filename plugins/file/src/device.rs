//! An open file or block device, as the plugin keeps it.

use crate::fs::{errno, server_copies, stat};
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// An open file or block device.
pub struct Device {
    /// The core's, valid until `close`.
    pub fd: RawFd,
    /// XCOPY_KIND_.
    pub kind: u32,
    /// The library opened it by a path: no caller shares its open file.
    pub by_path: bool,
    server: OnceLock<bool>,
    private: Mutex<Private>,
}

/// A second open file of a destination, for sendfile, which writes at the file
/// position: that of `fd` is shared with everybody who duplicated it, and moving
/// it would let somebody write in the wrong place.
#[derive(Default)]
pub struct Private(Option<OwnedFd>);

impl Device {
    /// Around the core's fd.
    pub fn new(fd: RawFd, kind: u32, by_path: bool) -> Device {
        Device {
            fd,
            kind,
            by_path,
            server: OnceLock::new(),
            private: Mutex::default(),
        }
    }

    /// Whether the server of its network file system copies by itself.
    pub fn server_copies(&self) -> bool {
        *self.server.get_or_init(|| server_copies(self.fd))
    }

    /// Number of its file system.
    pub fn file_system(&self) -> Option<u64> {
        stat(self.fd).ok().map(|stat| stat.st_dev)
    }

    /// The second open file; whoever holds it owns its position.
    pub fn private(&self) -> MutexGuard<'_, Private> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Private {
    /// The open file of `device`, opened now if it was not yet. By the link of
    /// its fd, so that it is the same file whatever became of its path.
    pub fn get(&mut self, device: &Device) -> Result<&OwnedFd, i32> {
        if !device.by_path {
            return Err(libc::EOPNOTSUPP);
        }
        let fd = match self.0.take() {
            Some(fd) => fd,
            None => open_again(device.fd)?,
        };
        Ok(self.0.insert(fd))
    }
}

fn open_again(fd: RawFd) -> Result<OwnedFd, i32> {
    let link = CString::new(format!("/proc/self/fd/{fd}")).map_err(|_| libc::EINVAL)?;
    let opened = loop {
        // SAFETY: the path is a C string; without O_CREAT there is no mode.
        let opened = unsafe { libc::open64(link.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        if opened >= 0 {
            break opened;
        }
        match errno() {
            libc::EINTR => {}
            // /proc is not mounted.
            libc::ENOENT => return Err(libc::EOPNOTSUPP),
            errno => return Err(errno),
        }
    };
    // SAFETY: open just made it, and nobody else knows it.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    let (was, is) = (stat(fd)?, stat(opened.as_raw_fd())?);
    match (was.st_dev, was.st_ino, was.st_rdev) == (is.st_dev, is.st_ino, is.st_rdev) {
        true => Ok(opened),
        false => Err(libc::EOPNOTSUPP),
    }
}
