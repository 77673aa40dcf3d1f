//! Opens what the kernel knows: by a path, or by an fd that is borrowed.

use super::backing;
use super::claims::Claim;
use super::facts::{self, Facts, Found};
use super::identity::{BlockNode, Identity, Sysfs};
use super::mounts;
use crate::error::{Error, Result};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use xcopy_abi::*;

/// A file, disk, partition, stack or character node, and the claim on it.
#[derive(Debug)]
pub struct KernelDevice {
    fd: OwnedFd,
    flags: u32,
    name: CString,
    facts: Facts,
    identity: Identity,
    /// The block device itself, or the disk behind a character node.
    node: Option<BlockNode>,
    /// The disk behind a character node, opened as the node is where that may be,
    /// else for reading.
    disk: OnceLock<Option<OwnedFd>>,
    /// The same again with O_DIRECT.
    direct: OnceLock<Option<OwnedFd>>,
    _claims: Vec<Claim>,
}

impl KernelDevice {
    /// Opens a path. Nothing is created, and nothing waits for a writer or reader.
    pub fn open(path: &CStr, flags: u32) -> Result<KernelDevice> {
        let text = path.to_string_lossy();
        check_flags(flags, &text)?;
        // O_PATH has no effect on what it names: a tape does not rewind and a
        // pipe does not wait while its type is looked at.
        let place = open_file(path, libc::O_PATH | libc::O_CLOEXEC)
            .map_err(|error| refused(&text, flags, &error))?;
        let seen = facts::stat(place.as_raw_fd(), &text)?;
        let sys = Sysfs::default();
        let node = facts::vet(&seen, &text, &sys)?;
        let fd = open_for(&place, path, flags).map_err(|error| refused(&text, flags, &error))?;
        let stat = facts::stat(fd.as_raw_fd(), &text)?;
        if (stat.st_dev, stat.st_ino, stat.st_rdev) != (seen.st_dev, seen.st_ino, seen.st_rdev) {
            return Err(Error::new(
                libc::ESTALE,
                format!("{text} was replaced while it was opened; open it again"),
            ));
        }
        let found = facts::find(fd.as_raw_fd(), &stat, node, false, &text)?;
        let by_fd = stat.st_mode & libc::S_IFMT == libc::S_IFBLK;
        let claims = protect(&fd, flags, &found, &text, by_fd)?;
        Ok(Self::assemble(fd, flags, path.to_owned(), found, claims))
    }

    /// Borrows an fd by duplicating it; its access mode must cover `flags`. A
    /// disk that the caller has claimed needs XCOPY_OPEN_OWNED: whether the fd
    /// holds an O_EXCL claim cannot be seen, and a second one is refused.
    pub fn from_fd(fd: RawFd, flags: u32) -> Result<KernelDevice> {
        let text = format!("fd {fd}");
        check_flags(flags, &text)?;
        // SAFETY: F_DUPFD_CLOEXEC takes numbers only; a bad fd is an error.
        // Above the standard streams, which others may close and open anew.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
        if copy < 0 {
            return Err(Error::last_os(format_args!("{text} cannot be duplicated")));
        }
        // SAFETY: fcntl just made it, and nobody else knows it.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        // SAFETY: F_GETFL takes and gives numbers only.
        let mode = unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_GETFL) };
        if mode < 0 {
            return Err(Error::last_os(&text));
        }
        check_mode(mode, flags, &text)?;
        let stat = facts::stat(copy.as_raw_fd(), &text)?;
        let node = facts::vet(&stat, &text, &Sysfs::default())?;
        let direct = mode & libc::O_DIRECT != 0;
        let found = facts::find(copy.as_raw_fd(), &stat, node, direct, &text)?;
        let claims = protect(&copy, flags, &found, &text, false)?;
        Ok(Self::assemble(
            copy,
            flags,
            CString::default(),
            found,
            claims,
        ))
    }

    fn assemble(fd: OwnedFd, flags: u32, name: CString, found: Found, claims: Vec<Claim>) -> Self {
        let Found {
            facts,
            identity,
            node,
        } = found;
        KernelDevice {
            fd,
            flags,
            name,
            facts,
            identity,
            node,
            disk: OnceLock::new(),
            direct: OnceLock::new(),
            _claims: claims,
        }
    }

    /// The library's own fd.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The XCOPY_OPEN_ flags.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What it is, as found when it was opened.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whose storage it is, and where on it.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The path it was opened by; empty for an fd.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// Its size in bytes now.
    pub fn current_size(&self) -> Result<u64> {
        match self.facts.kind {
            XCOPY_KIND_FILE => {
                let stat = facts::stat(self.fd(), &self.name.to_string_lossy())?;
                Ok(u64::try_from(stat.st_size).unwrap_or(0))
            }
            XCOPY_KIND_CHAR => self.node.as_ref().and_then(BlockNode::size).ok_or_else(|| {
                Error::new(libc::ENODEV, "the disk behind the character node is gone")
            }),
            _ => facts::block_size_bytes(self.fd()),
        }
    }

    /// The same file or disk open past the page cache, if the library opened it
    /// itself and its file system is known to do that well. Opened when first
    /// asked for, which may block.
    pub fn direct_fd(&self) -> Option<RawFd> {
        let open = || {
            let base = match self.facts.kind {
                XCOPY_KIND_CHAR => self.disk()?,
                _ => &self.fd,
            };
            let usable = !self.name.is_empty() && facts::is_well_known(base.as_raw_fd());
            if !usable {
                return None;
            }
            let how = access(base)? | libc::O_DIRECT | libc::O_CLOEXEC | libc::O_NOCTTY;
            let fd = open_file(&link_to(base), how).ok()?;
            let name = self.name.to_string_lossy();
            let one = facts::stat(base.as_raw_fd(), &name).ok()?;
            let other = facts::stat(fd.as_raw_fd(), &name).ok()?;
            let same = (one.st_dev, one.st_ino, one.st_rdev)
                == (other.st_dev, other.st_ino, other.st_rdev);
            same.then_some(fd)
        };
        self.direct
            .get_or_init(open)
            .as_ref()
            .map(AsRawFd::as_raw_fd)
    }

    /// An fd whose page cache is that of the device: its own, or the disk's
    /// behind a character node, opened when first asked for. `None` if that
    /// cannot be opened. A partition and its disk have a cache each.
    pub fn cache_fd(&self) -> Option<RawFd> {
        match self.facts.kind {
            XCOPY_KIND_CHAR => self.disk().map(AsRawFd::as_raw_fd),
            _ => Some(self.fd()),
        }
    }

    /// The disk behind a character node, for the host's reads and writes, which
    /// the node itself does not take. `None` if it cannot be opened so.
    pub fn disk_fd(&self) -> Option<RawFd> {
        let disk = self.disk()?;
        let writes = self.flags & XCOPY_OPEN_WRITE != 0;
        (!writes || access(disk)? != libc::O_RDONLY).then(|| disk.as_raw_fd())
    }

    fn disk(&self) -> Option<&OwnedFd> {
        let open = || {
            let node = self.node.as_ref()?;
            let how = match self.flags & XCOPY_OPEN_WRITE {
                0 => libc::O_RDONLY,
                _ => libc::O_RDWR,
            };
            mounts::open_node(node, how)
                .or_else(|_| mounts::open_node(node, libc::O_RDONLY))
                .ok()
        };
        self.disk.get_or_init(open).as_ref()
    }
}

/// The access mode of an fd.
fn access(fd: &OwnedFd) -> Option<i32> {
    // SAFETY: F_GETFL takes and gives numbers only.
    let mode = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    (mode >= 0).then_some(mode & libc::O_ACCMODE)
}

fn check_flags(flags: u32, name: &str) -> Result<()> {
    if flags & !XCOPY_OPEN_ALL != 0 {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "{name}: unknown open flags {:#x}; clear them",
                flags & !XCOPY_OPEN_ALL
            ),
        ));
    }
    if flags & (XCOPY_OPEN_READ | XCOPY_OPEN_WRITE) == 0 {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "{name}: pass XCOPY_OPEN_READ for a source, XCOPY_OPEN_WRITE for a destination"
            ),
        ));
    }
    Ok(())
}

fn check_mode(mode: i32, flags: u32, name: &str) -> Result<()> {
    let refuse = |errno, what: &str| Err(Error::new(errno, format!("{name} {what}")));
    if mode & libc::O_PATH != 0 {
        return refuse(
            libc::EBADF,
            "was opened with O_PATH; open it for reading or writing",
        );
    }
    let access = mode & libc::O_ACCMODE;
    if flags & XCOPY_OPEN_READ != 0 && access == libc::O_WRONLY {
        return refuse(
            libc::EACCES,
            "is not open for reading; open it with O_RDWR or O_RDONLY",
        );
    }
    if flags & XCOPY_OPEN_WRITE != 0 {
        if access == libc::O_RDONLY {
            return refuse(libc::EACCES, "is not open for writing; open it with O_RDWR");
        }
        if mode & libc::O_APPEND != 0 {
            return refuse(
                libc::EINVAL,
                "is open with O_APPEND, which writes at the end only; open it without",
            );
        }
    }
    Ok(())
}

pub(super) fn open_file(path: &CStr, how: i32) -> io::Result<OwnedFd> {
    loop {
        // SAFETY: the path is a C string; without O_CREAT there is no mode.
        let fd = unsafe { libc::open64(path.as_ptr(), how) };
        if fd >= 0 {
            // SAFETY: open just made it, and nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Opens what `place` holds; by the path again only where /proc is not mounted.
fn open_place(place: &OwnedFd, path: &CStr, how: i32) -> io::Result<OwnedFd> {
    match open_file(&link_to(place), how) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open_file(path, how),
        other => other,
    }
}

fn link_to(fd: &OwnedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

fn open_for(place: &OwnedFd, path: &CStr, flags: u32) -> io::Result<OwnedFd> {
    let how = libc::O_CLOEXEC | libc::O_NOCTTY;
    if flags & XCOPY_OPEN_WRITE == 0 {
        return open_place(place, path, how | libc::O_RDONLY);
    }
    // A destination is opened for reading too if it may be: looking at its
    // page cache needs that on older kernels.
    match open_place(place, path, how | libc::O_RDWR) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && flags & XCOPY_OPEN_READ == 0 =>
        {
            open_place(place, path, how | libc::O_WRONLY)
        }
        other => other,
    }
}

/// The text for a path that could not be opened.
fn refused(name: &str, flags: u32, error: &io::Error) -> Error {
    let write = flags & XCOPY_OPEN_WRITE != 0;
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let hint = match errno {
        libc::ENOENT if write => "a destination must exist; create it first",
        libc::EACCES | libc::EPERM if write => {
            "writing it is not permitted; check its mode, that a disk is not read-only \
             (blockdev --getro), or run as a user who may"
        }
        libc::EACCES | libc::EPERM => "reading it is not permitted; run as a user who may",
        libc::EROFS => {
            "it is read-only, or on a file system that is; make it writable (blockdev --setrw) \
             or remount that"
        }
        libc::ETXTBSY => "it is a running program or a swap file; stop that first",
        libc::EBUSY => "it is in use exclusively, or mounted; stop that user first",
        libc::ENXIO | libc::ENODEV => "there is no such device behind the node",
        libc::EMFILE | libc::ENFILE => "close other files or raise the limit (ulimit -n)",
        _ => return Error::from_io(name, error),
    };
    Error::new(errno, format!("{name}: {error}: {hint}"))
}

/// Makes sure that nobody else uses what is to be written: a disk, or a file
/// that is a loop device for others.
fn protect(fd: &OwnedFd, flags: u32, found: &Found, name: &str, by_fd: bool) -> Result<Vec<Claim>> {
    if flags & XCOPY_OPEN_WRITE == 0 {
        return Ok(Vec::new());
    }
    let mut claims = Vec::new();
    if found.facts.kind != XCOPY_KIND_FILE {
        claims.extend(protect_disk(fd, flags, found, name, by_fd)?);
    }
    if flags & (XCOPY_OPEN_OWNED | XCOPY_OPEN_FORCE) == 0 {
        claims.extend(protect_loops(found, name)?);
    }
    Ok(claims)
}

/// Claims the loop devices that are made of what is to be written.
fn protect_loops(found: &Found, name: &str) -> Result<Vec<Claim>> {
    let itself = found.node.as_ref().map(|node| node.whole);
    let mut claims = Vec::new();
    let (identity, size) = (found.identity, found.facts.size);
    for node in backing::loops_over(identity, size, &Sysfs::default()) {
        if Some(node.whole) == itself {
            continue;
        }
        let named = format!("{name} is what {} is made of", node.name);
        refuse_used(&node, &named)?;
        let exclusive = || mounts::open_node(&node, libc::O_RDONLY | libc::O_EXCL);
        match Claim::take(&node, false, exclusive) {
            Ok(claim) => claims.push(claim),
            Err(error) if error.errno == libc::EBUSY => {
                let text = format!("{named}: {}", error.message);
                return Err(Error::new(error.errno, text));
            }
            // The file is the user's, the device need not be.
            Err(_) => {}
        }
    }
    Ok(claims)
}

/// Refuses a disk that is mounted, swapped to or built upon.
fn refuse_used(node: &BlockNode, name: &str) -> Result<()> {
    let user = mounts::user_of(node).map_err(|error| {
        Error::from_io(
            format_args!(
                "{name}: whether it is mounted cannot be told; mount /proc, or pass \
                 XCOPY_OPEN_FORCE"
            ),
            &error,
        )
    })?;
    match user {
        None => Ok(()),
        Some(user) => Err(Error::new(
            libc::EBUSY,
            format!("{name}: {user}; release it, or pass XCOPY_OPEN_FORCE to write anyway"),
        )),
    }
}

/// Makes sure that nobody else uses a disk that is to be written.
fn protect_disk(
    fd: &OwnedFd,
    flags: u32,
    found: &Found,
    name: &str,
    by_fd: bool,
) -> Result<Option<Claim>> {
    // A generic node writes to its disk past the kernel's mark.
    let read_only = match found.facts.kind {
        XCOPY_KIND_CHAR => found.node.as_ref().is_some_and(BlockNode::is_read_only),
        _ => facts::is_read_only(fd.as_raw_fd()),
    };
    if read_only {
        return Err(Error::new(
            libc::EROFS,
            format!("{name} is read-only; make it writable first (blockdev --setrw)"),
        ));
    }
    if flags & XCOPY_OPEN_OWNED != 0 {
        return Ok(None);
    }
    let force = flags & XCOPY_OPEN_FORCE != 0;
    let Some(node) = &found.node else {
        return match force {
            true => Ok(None),
            false => Err(Error::new(
                libc::ENODEV,
                format!(
                    "{name} is not in /sys/dev/block, so whether it is mounted cannot be told; \
                     mount sysfs, or pass XCOPY_OPEN_FORCE"
                ),
            )),
        };
    };
    if !force {
        refuse_used(node, name)?;
        for other in Sysfs::default().other_paths(node) {
            refuse_used(&other, &format!("{name} is {} by another path", other.name))?;
        }
    }
    let exclusive = || {
        if by_fd {
            match open_file(
                &link_to(fd),
                libc::O_RDONLY | libc::O_EXCL | libc::O_CLOEXEC,
            ) {
                Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {}
                other => return other,
            }
        }
        mounts::open_node(node, libc::O_RDONLY | libc::O_EXCL).or_else(|error| {
            match error.raw_os_error() {
                Some(libc::EBUSY) => Err(error),
                _ => mounts::open_node(node, libc::O_WRONLY | libc::O_EXCL),
            }
        })
    };
    Claim::take(node, force, exclusive).map(Some)
}
