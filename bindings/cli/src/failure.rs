//! How the command ends when it does not end well.

use std::fmt;

use nix::errno::Errno;

/// Result of everything that can fail.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why the command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line asks for something that cannot be: exit 2.
    Usage(String),
    /// It was tried and failed, or was refused: exit 1.
    Failed {
        /// A positive errno.
        errno: i32,
        /// What went wrong; what to do next.
        message: String,
    },
}

impl Failure {
    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::Usage(message.into())
    }

    /// A failure with its positive errno.
    pub fn failed(errno: i32, message: impl Into<String>) -> Self {
        Failure::Failed {
            errno,
            message: message.into(),
        }
    }

    /// A failed system call on `what`, with what to do next.
    pub fn io(what: impl fmt::Display, error: &std::io::Error, next: impl fmt::Display) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let text = match error.raw_os_error() {
            Some(errno) => errno_text(errno).to_owned(),
            None => error.to_string(),
        };
        Failure::failed(errno, format!("{what}: {text}; {next}"))
    }

    /// The process's exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Failed { .. } => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => write!(f, "{message}; see xcopy --help"),
            Failure::Failed { message, .. } => f.write_str(message),
        }
    }
}

/// A positive errno in words.
pub fn errno_text(errno: i32) -> &'static str {
    match errno {
        // The C library's words speak of sockets.
        libc::ENOTSUP => "Operation not supported",
        _ => Errno::from_raw(errno).desc(),
    }
}
