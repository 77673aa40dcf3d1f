//! From what the user names to an open device, with what the command has to
//! know about it: what it is, how large, and whether it was made just now.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xcopy::abi::*;

use crate::failure::{Failure, Result};
use crate::library::{Context, field};

/// An open source or destination.
pub struct Target {
    /// The library's handle.
    pub device: u32,
    /// One of XCOPY_KIND_.
    pub kind: u32,
    /// Bytes; None if not known yet.
    pub size: Option<u64>,
    /// Device number of the node, or of the file's file system.
    pub node: (u32, u32),
    /// What the user named, or made of it (a file in a directory).
    pub path: PathBuf,
    /// Open for regular files.
    pub file: Option<File>,
    /// True if the file did not exist.
    pub created: bool,
}

impl Target {
    /// What messages call it.
    pub fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// A text about it with the name that the user gave: the library knows an open
    /// file by a link to it.
    pub fn in_user_s_words(&self, text: &str) -> String {
        match &self.file {
            Some(file) => renamed(text, &link_to(file), &self.name()),
            None => text.to_owned(),
        }
    }

    /// Looks at the library's idea of the size again.
    pub fn refresh(&mut self, context: &Context) -> Result<()> {
        if self.size.is_none() {
            let info = context.device_info(self.device)?;
            self.size = (info.size_known != 0).then_some(info.size_bytes);
        }
        Ok(())
    }

    /// True if both are the same regular file.
    pub fn same_file(&self, other: &Target) -> Result<bool> {
        match (&self.file, &other.file) {
            (Some(a), Some(b)) => Ok(identity(a, &self.path)? == identity(b, &other.path)?),
            _ => Ok(false),
        }
    }

    /// Removes the file if this run made it and it is still empty: a copy that
    /// never began leaves nothing behind.
    pub fn remove_if_untouched(&self) {
        let Some(file) = &self.file else { return };
        let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(&self.path)) else {
            return;
        };
        let same = (ours.dev(), ours.ino()) == (there.dev(), there.ino());
        if self.created && same && ours.len() == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &File, path: &Path) -> Result<(u64, u64)> {
    let metadata = file.metadata().map_err(|error| cannot_open(path, &error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// True if `path` names a device of a registered plugin, `name:spec`.
fn is_spec(context: &Context, path: &Path) -> Result<bool> {
    let bytes = path.as_os_str().as_bytes();
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
        return Ok(false);
    };
    let plugins = context.plugins()?;
    Ok(plugins
        .iter()
        .any(|plugin| field(&plugin.name).as_bytes() == &bytes[..colon]))
}

/// Opens what is to be read.
pub fn source(context: &Context, path: &Path) -> Result<Target> {
    open(context, path, XCOPY_OPEN_READ)
}

/// Opens what is to be looked at as a destination: it must exist, nothing will
/// be written, so no claim is taken.
pub fn existing_destination(context: &Context, path: &Path) -> Result<Target> {
    open(context, path, XCOPY_OPEN_WRITE | XCOPY_OPEN_OWNED)
}

/// Opens what is to be written: `dst`, or the file in the directory `dst` that
/// is named like `src`. A file that does not exist is created.
pub fn destination(context: &Context, src: &Target, dst: &Path, force: bool) -> Result<Target> {
    refuse_stream(dst)?;
    let flags = XCOPY_OPEN_WRITE | if force { XCOPY_OPEN_FORCE } else { 0 };
    if is_spec(context, dst)? {
        return open(context, dst, flags);
    }
    let mut path = dst.to_owned();
    if dst.is_dir() {
        let name = match src.kind {
            XCOPY_KIND_NATIVE => None,
            _ => src.path.file_name(),
        };
        let Some(name) = name else {
            return Err(Failure::usage(format!(
                "{} is a directory and {} has no file name to use in it; name the file",
                dst.display(),
                src.name()
            )));
        };
        path.push(name);
    }
    match fs::metadata(&path) {
        Ok(_) => open(context, &path, flags).map_err(offer_force),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(context, path, flags, mode_like(src)?)
        }
        Err(error) => Err(cannot_open(&path, &error)),
    }
}

/// Opens what is to be written and must exist, and be nobody else's.
pub fn unclaimed(context: &Context, path: &Path) -> Result<Target> {
    open(context, path, XCOPY_OPEN_WRITE).map_err(|failure| in_words(failure, ""))
}

/// Opens a path, or `name:spec`, that exists.
pub fn open(context: &Context, path: &Path, flags: u32) -> Result<Target> {
    refuse_stream(path)?;
    if is_spec(context, path)? {
        let device = context.open(path.as_os_str(), flags).map_err(|failure| {
            prefixed(
                path,
                failure,
                "write ./NAME for a file whose name has a colon",
            )
        })?;
        let target = described(context, device, path.to_owned(), None, false)?;
        if target.kind == XCOPY_KIND_NATIVE {
            return Ok(target);
        }
        // The plugin opens no devices of its own: it is an ordinary path.
        context.close(device)?;
    }
    let metadata = fs::metadata(path).map_err(|error| cannot_open(path, &error))?;
    if metadata.is_file() {
        let file = open_file(path, flags).map_err(|error| cannot_open(path, &error))?;
        return regular(context, file, path.to_owned(), flags, false);
    }
    refuse_strange(path, &metadata)?;
    let device = context
        .open(path.as_os_str(), flags)
        .map_err(|failure| prefixed(path, failure, ""))?;
    described(context, device, path.to_owned(), None, false)
}

fn open_file(path: &Path, flags: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Never wait for a pipe's other end, should the path have changed its nature.
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    if flags & XCOPY_OPEN_WRITE == 0 {
        return options.read(true).open(path);
    }
    // Reading too lets the library look at cached pages of the destination.
    match options.read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            options.read(false).open(path)
        }
        other => other,
    }
}

/// The permissions that a new file takes from its source, before the umask: what
/// only its owner may read stays so. A disk's say nothing of a file.
fn mode_like(src: &Target) -> Result<u32> {
    let Some(file) = &src.file else {
        return Ok(0o666);
    };
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| cannot_open(&src.path, &error))?;
    Ok(metadata.mode() & 0o777)
}

fn create(context: &Context, path: PathBuf, flags: u32, mode: u32) -> Result<Target> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode);
    let file = options.open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::io(
            path.display(),
            &error,
            "it is a link that leads nowhere, or was made just now; remove it or name its target",
        ),
        _ => cannot_open(&path, &error),
    })?;
    let made = match file.try_clone() {
        Ok(clone) => regular(context, clone, path.clone(), flags, true),
        Err(error) => Err(cannot_open(&path, &error)),
    };
    if made.is_err() {
        let _ = fs::remove_file(&path);
    }
    made
}

fn regular(
    context: &Context,
    file: File,
    path: PathBuf,
    flags: u32,
    created: bool,
) -> Result<Target> {
    let metadata = file
        .metadata()
        .map_err(|error| cannot_open(&path, &error))?;
    if !metadata.is_file() {
        return Err(Failure::failed(
            libc::EINVAL,
            format!(
                "{}: changed its nature while it was opened; try again",
                path.display()
            ),
        ));
    }
    if flags & XCOPY_OPEN_WRITE != 0 {
        refuse_no_storage(&file, &path)?;
    }
    let device = open_again(context, &file, flags)
        .or_else(|_| context.open_fd(file.as_fd(), flags))
        .map_err(|failure| {
            let fd = format!("fd {}", file.as_raw_fd());
            prefixed(&path, in_name(failure, &fd, &path), "")
        })?;
    described(context, device, path, Some(file), created)
}

/// Has the library open the very file that is open here, whatever its name leads
/// to by now: only a file that it opened itself does it open again to go past the
/// page cache. Refused where /proc is not mounted, or where the file may not be
/// opened a second time.
fn open_again(context: &Context, file: &File, flags: u32) -> Result<u32> {
    let link = link_to(file);
    let link = Path::new(&link);
    let ours = identity_of(&file.metadata());
    let is_ours = || ours.is_some() && ours == identity_of(&fs::metadata(link));
    let other = || Failure::failed(libc::ESTALE, format!("{}: is another file", link.display()));
    if !is_ours() {
        return Err(other());
    }
    let device = context.open(link.as_os_str(), flags)?;
    // A link of procfs cannot change while the file is open; another could.
    if !is_ours() {
        context.close(device)?;
        return Err(other());
    }
    Ok(device)
}

fn link_to(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn identity_of(metadata: &io::Result<Metadata>) -> Option<(u64, u64)> {
    let metadata = metadata.as_ref().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn described(
    context: &Context,
    device: u32,
    path: PathBuf,
    file: Option<File>,
    created: bool,
) -> Result<Target> {
    let info = context.device_info(device)?;
    let size = (info.size_known != 0).then_some(info.size_bytes);
    let node = (info.dev_major, info.dev_minor);
    Ok(Target {
        device,
        kind: info.kind,
        size,
        node,
        path,
        file,
        created,
    })
}

fn refuse_stream(path: &Path) -> Result<()> {
    if path == OsStr::new("-") {
        return Err(Failure::usage(
            "'-' (standard input or output) cannot be copied; write ./- for a file of that name",
        ));
    }
    Ok(())
}

fn refuse_strange(path: &Path, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let (errno, what) = if kind.is_dir() {
        (libc::EISDIR, "is a directory")
    } else if kind.is_fifo() {
        (libc::ESPIPE, "is a pipe")
    } else if kind.is_socket() {
        (libc::ENXIO, "is a socket")
    } else {
        return Ok(());
    };
    let next = "name a file, a disk or a partition";
    Err(Failure::failed(
        errno,
        format!("{}: {what}; {next}", path.display()),
    ))
}

fn cannot_open(path: &Path, error: &io::Error) -> Failure {
    let next = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => "check the path",
        Some(libc::EACCES | libc::EPERM) => "ask for permission, or run as its owner",
        Some(libc::EROFS) => "remount the file system writable, or choose another place",
        Some(libc::ETXTBSY) => "it is a program that runs; copy to a new name instead",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
        _ => "check that it can be opened with other tools",
    };
    Failure::io(path.display(), error, next)
}

/// The library's refusal of a claimed destination in words of the command, where
/// that has --force.
fn offer_force(failure: Failure) -> Failure {
    in_words(failure, ", or give --force")
}

/// The same without the flags of the interface for what `instead` says.
fn in_words(failure: Failure, instead: &str) -> Failure {
    let Failure::Failed { errno, mut message } = failure else {
        return failure;
    };
    for flags in FORCE_WORDS {
        message = message.replace(flags, instead);
    }
    Failure::Failed { errno, message }
}

/// How the library speaks of its flags.
const FORCE_WORDS: [&str; 2] = [
    ", pass XCOPY_OPEN_OWNED if the claim is yours, or XCOPY_OPEN_FORCE",
    ", or pass XCOPY_OPEN_FORCE",
];

/// Refuses files of file systems that keep nothing: a copy into one would end
/// somewhere in the middle.
fn refuse_no_storage(file: &File, path: &Path) -> Result<()> {
    use nix::sys::statfs;
    let found = statfs::fstatfs(file).map_err(|errno| cannot_open(path, &errno.into()))?;
    let none = [
        statfs::PROC_SUPER_MAGIC,
        statfs::SYSFS_MAGIC,
        statfs::DEBUGFS_MAGIC,
        statfs::TRACEFS_MAGIC,
        statfs::SECURITYFS_MAGIC,
        statfs::CGROUP_SUPER_MAGIC,
        statfs::CGROUP2_SUPER_MAGIC,
    ];
    if none.contains(&found.filesystem_type()) {
        return Err(Failure::failed(
            libc::ENOTSUP,
            format!(
                "{}: is an interface of the kernel and no storage; use cat or tee",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// The library's refusal of an fd, with the path that was opened.
fn in_name(failure: Failure, fd: &str, path: &Path) -> Failure {
    match failure {
        Failure::Failed { errno, message } => {
            let message = renamed(&message, fd, &path.to_string_lossy());
            Failure::Failed { errno, message }
        }
        usage => usage,
    }
}

/// `text` with `to` where `from` stands and no further digit follows.
fn renamed(text: &str, from: &str, to: &str) -> String {
    let mut parts = text.split(from);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let longer = part.starts_with(|next: char| next.is_ascii_digit());
        out.push_str(if longer { from } else { to });
        out.push_str(part);
    }
    out
}

/// The library's refusal, with the path if it does not name it, and a hint.
pub fn prefixed(path: &Path, failure: Failure, hint: &str) -> Failure {
    let Failure::Failed { errno, mut message } = failure else {
        return failure;
    };
    let name = path.to_string_lossy();
    if !message.contains(name.as_ref()) {
        message = format!("{name}: {message}");
    }
    if !hint.is_empty() {
        message = format!("{message}; {hint}");
    }
    Failure::Failed { errno, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_of_the_interface_is_told() {
        for said in [
            "sda is claimed; stop that user, pass XCOPY_OPEN_OWNED if the claim is yours, or \
             XCOPY_OPEN_FORCE to write anyway",
            "sda cannot be claimed (O_EXCL): Permission denied; let this user open it for writing, \
             pass XCOPY_OPEN_OWNED if the claim is yours, or XCOPY_OPEN_FORCE to write anyway",
            "sda: mounted on /; release it, or pass XCOPY_OPEN_FORCE to write anyway",
            "sda: cannot be told; mount /proc, or pass XCOPY_OPEN_FORCE",
        ] {
            for (instead, force) in [(", or give --force", true), ("", false)] {
                let told = in_words(Failure::failed(16, said), instead).to_string();
                assert!(
                    !told.contains("XCOPY_") && told.starts_with("sda"),
                    "{told}"
                );
                assert_eq!(told.contains("--force"), force, "{told}");
            }
        }
    }
}
