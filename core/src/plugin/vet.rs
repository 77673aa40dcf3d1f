//! Who may have written a file that is about to run inside this process.
//!
//! A file and its directory must belong to root or to the effective user, and
//! nobody else may be able to change them. Group-writable is let through where
//! the effective user owns it and the process has no more rights than its
//! caller, so that a umask of 002 does no harm.
//!
//! What was checked is an open file, what is loaded is its path: dlopen takes
//! no fd that keeps $ORIGIN working. Whoever could swap the file in between must
//! be able to write the directory, which is why that is vetted too; a directory
//! further up that somebody else may rename is not looked at.

use crate::error::{Error, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use std::path::{Path, PathBuf};

/// Whether the process has more rights than its caller (set-user-ID and such).
pub(super) fn is_secure() -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Checks the file and answers its real path, which is the one to load.
pub(super) fn vet(path: &Path) -> Result<PathBuf> {
    let real = path
        .canonicalize()
        .map_err(|error| unusable(path, &error))?;
    // Neither a FIFO nor a device may make this wait.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let stat = look(&real, flags)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "plugin {}: not a regular file; give the .so itself",
                real.display()
            ),
        ));
    }
    judge(&real, "file", &stat)?;
    let directory = real.parent().unwrap_or(Path::new("/"));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    judge(directory, "directory", &look(directory, flags)?)?;
    Ok(real)
}

fn look(path: &Path, flags: OFlag) -> Result<FileStat> {
    let stat = open(path, flags, Mode::empty()).and_then(fstat);
    stat.map_err(|errno| unusable(path, &errno.into()))
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    let what_to_do = match error.raw_os_error() {
        Some(libc::ENOENT) => "; install the plugin there or correct the path",
        Some(libc::EACCES) => "; make it readable (chmod a+r, and a+x for its directories)",
        _ => "",
    };
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Error::new(
        errno,
        format!("plugin {}: {error}{what_to_do}", path.display()),
    )
}

fn judge(path: &Path, what: &str, stat: &FileStat) -> Result<()> {
    let user = nix::unistd::geteuid().as_raw();
    match complaint(stat.st_uid, stat.st_mode, user, is_secure()) {
        None => Ok(()),
        Some((why, what_to_do)) => Err(Error::new(
            libc::EACCES,
            format!(
                "plugin refused: {what} {} {why} (owner {}, mode {:04o}); {what_to_do} {}",
                path.display(),
                stat.st_uid,
                stat.st_mode & 0o7777,
                path.display(),
            ),
        )),
    }
}

/// Why something of this owner and mode is refused, and the command that helps.
fn complaint(owner: u32, mode: u32, user: u32, secure: bool) -> Option<(&'static str, String)> {
    if owner != 0 && owner != user {
        let why = "belongs neither to root nor to the effective user";
        return Some((why, format!("if you trust it: chown {user}")));
    }
    if mode & libc::S_IWOTH != 0 {
        return Some(("can be written by anybody", "chmod o-w".into()));
    }
    if mode & libc::S_IWGRP != 0 && (owner != user || secure) {
        return Some(("can be written by its group", "chmod g-w".into()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn rules() {
        let refused = |owner, mode, user, secure| complaint(owner, mode, user, secure).is_some();
        for (owner, user) in [(0, 0), (0, 1000), (1000, 1000)] {
            assert!(!refused(owner, 0o755, user, false));
            assert!(!refused(owner, 0o755, user, true));
            assert!(refused(owner, 0o757, user, false));
            assert_eq!(refused(owner, 0o775, user, false), owner != user);
            assert!(refused(owner, 0o775, user, true));
        }
        assert!(refused(1000, 0o755, 0, false));
        assert!(refused(1001, 0o755, 1000, false));
        // A sticky bit keeps others from replacing, not from adding.
        assert!(refused(0, 0o1777, 1000, false));
    }

    #[test]
    fn files_and_directories() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().canonicalize().unwrap().join("d");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("libxcopy_a.so");
        fs::write(&file, "x").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        set(&directory, 0o755).unwrap();
        set(&file, 0o644).unwrap();
        assert_eq!(vet(&file).unwrap(), file);

        let link = place.path().join("link.so");
        symlink(&file, &link).unwrap();
        assert_eq!(vet(&link).unwrap(), file);

        set(&file, 0o666).unwrap();
        let error = vet(&file).unwrap_err();
        assert_eq!(error.errno, libc::EACCES);
        assert!(
            error.message.contains("chmod o-w") && error.message.contains("0666"),
            "{error}"
        );
        set(&file, 0o664).unwrap();
        assert!(vet(&file).is_ok());
        set(&directory, 0o777).unwrap();
        let error = vet(&link).unwrap_err();
        assert!(
            error.errno == libc::EACCES && error.message.contains("directory"),
            "{error}"
        );
        set(&directory, 0o755).unwrap();

        assert_eq!(vet(&directory).unwrap_err().errno, libc::EINVAL);
        let fifo = directory.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        assert_eq!(vet(&fifo).unwrap_err().errno, libc::EINVAL);
        let missing = vet(&directory.join("none.so")).unwrap_err();
        assert!(
            missing.errno == libc::ENOENT && missing.message.contains("install"),
            "{missing}"
        );
    }

    #[test]
    fn a_stranger_s_file_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: a file cannot be given away without root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libxcopy_a.so");
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        let error = vet(&file).unwrap_err();
        assert!(
            error.errno == libc::EACCES && error.message.contains("chown 0"),
            "{error}"
        );
    }
}
