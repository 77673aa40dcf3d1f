//! A token's file: mode 0600 when it is made, and never a name that leads elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::failure::{Failure, Result};
use crate::say;

/// Larger files are no tokens: a terabyte in tokens of 512 bytes for each 8 MiB.
const MAX_FILE: u64 = 64 << 20;

/// A file for a token that is to be made; removed again unless it was kept.
pub struct Fresh {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Fresh {
    /// Makes the file, which must not exist.
    pub fn make(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| cannot(path, &error, "name a file that does not exist"))?;
        Ok(Fresh {
            file,
            path: path.to_owned(),
            kept: false,
        })
    }

    /// Writes the token, for good.
    pub fn keep(mut self, secret: &[u8]) -> Result<()> {
        self.file
            .write_all(secret)
            .and_then(|()| self.file.sync_all())
            .map_err(|error| cannot(&self.path, &error, "make room and create the token again"))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A token's file that was read.
pub struct Stored {
    /// The serialised token.
    pub secret: Zeroizing<Vec<u8>>,
    path: PathBuf,
    identity: (u64, u64),
}

impl Stored {
    /// Reads a file; one that others can read is worth a warning.
    pub fn read(path: &Path) -> Result<Self> {
        let next = "name a file that xcopy token create has made";
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| cannot(path, &error, next))?;
        let metadata = file
            .metadata()
            .map_err(|error| cannot(path, &error, next))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE || metadata.len() == 0 {
            return Err(Failure::failed(
                libc::EINVAL,
                format!("{}: no token; {next}", path.display()),
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            say(&format!(
                "warning: {}: others may read this token and with it the data; chmod 600 it",
                path.display()
            ));
        }
        // All of the room at once: growing would leave copies behind.
        let mut secret = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.take(metadata.len())
            .read_to_end(&mut secret)
            .map_err(|error| cannot(path, &error, next))?;
        Ok(Stored {
            secret,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Removes the very file that was read, not a link to it, once its token is dead.
    pub fn remove(&self) -> Result<()> {
        let failed = |error: &std::io::Error| {
            let what = format!(
                "the token is released, but its file {}",
                self.path.display()
            );
            Failure::io(what, error, "it is of no use any more: remove it")
        };
        let path = fs::canonicalize(&self.path).map_err(|error| failed(&error))?;
        let there = fs::symlink_metadata(&path).map_err(|error| failed(&error))?;
        if (there.dev(), there.ino()) != self.identity {
            return Err(Failure::failed(
                libc::ESTALE,
                format!(
                    "the token is released, but {} is another file by now and stays; remove the \
                     one that was read",
                    self.path.display()
                ),
            ));
        }
        fs::remove_file(&path).map_err(|error| failed(&error))
    }
}

fn cannot(path: &Path, error: &std::io::Error, next: &str) -> Failure {
    Failure::io(path.display(), error, next)
}
