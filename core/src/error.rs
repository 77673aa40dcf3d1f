//! The library's own errors: what went wrong and what to do next, with the
//! errno that C sees.

use thiserror::Error;

/// Why a call was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Error {
    /// A positive errno.
    pub errno: i32,
    /// For a person: what went wrong and what to do next.
    pub message: String,
}

/// Result of everything that can be refused.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its errno (positive) and text.
    #[cold]
    pub fn new(errno: i32, message: impl Into<String>) -> Self {
        Error {
            errno,
            message: message.into(),
        }
    }

    /// The calling thread's last system-call error, told with what was tried.
    #[cold]
    pub fn last_os(what: impl std::fmt::Display) -> Self {
        Self::from_io(what, &std::io::Error::last_os_error())
    }

    /// An I/O error, told with what was tried.
    #[cold]
    pub fn from_io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Error {
            errno,
            message: format!("{what}: {error}"),
        }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Error {
            errno: errno as i32,
            message: errno.desc().to_owned(),
        }
    }
}
