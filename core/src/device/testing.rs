//! What tests of devices need: loop disks over images that they made.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program; its output, or why not.
pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

/// Loudly tells that a test did not run.
pub fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// A loop device over an image in a directory of its own.
pub struct LoopDisk {
    device: PathBuf,
    dir: tempfile::TempDir,
}

impl LoopDisk {
    /// `None`, with the reason printed, where there can be none.
    pub fn new(size: u64) -> Option<Self> {
        Self::with(size, &[])
    }

    pub fn with(size: u64, options: &[&str]) -> Option<Self> {
        if !is_root() {
            skip("a loop device needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(size).unwrap();
        let image = image.to_str().unwrap().to_owned();
        let args = [&["--find", "--show"], options, &[&image]].concat();
        match run("losetup", &args) {
            Ok(device) => Some(LoopDisk {
                device: PathBuf::from(device),
                dir,
            }),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.device
    }

    /// The file that it is made of.
    pub fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Makes a file system and mounts it; the mount point.
    pub fn mount(&self, kind: &str) -> Option<PathBuf> {
        let device = self.device.to_str().unwrap();
        let point = self.dir.path().join("mnt");
        fs::create_dir_all(&point).unwrap();
        let made = run(&format!("mkfs.{kind}"), &["-q", device])
            .and_then(|_| run("mount", &["-t", kind, device, point.to_str().unwrap()]));
        match made {
            Ok(_) => Some(point),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = run(
            "umount",
            &[
                "-q",
                self.dir.path().join("mnt").to_str().unwrap_or_default(),
            ],
        );
        if let Err(why) = run("losetup", &["-d", self.device.to_str().unwrap_or_default()]) {
            eprintln!("{why}");
        }
    }
}
