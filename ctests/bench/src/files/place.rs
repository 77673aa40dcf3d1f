//! File systems and disks made for the run, and taken away after it.

use crate::Failure;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of the run; nothing of it is left behind.
pub struct Work {
    dir: PathBuf,
}

/// Runs a tool for its output.
pub fn tool(name: &str, args: &[&str]) -> Result<String, Failure> {
    let output = Command::new(name)
        .args(args)
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} {}: {}", args.join(" "), said.trim()))
}

fn words(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .ok_or_else(|| format!("{}: not UTF-8", path.display()))
}

impl Work {
    /// A fresh directory in `parent`.
    pub fn new(parent: &Path) -> Result<Work, Failure> {
        let dir = parent.join("work");
        let work = Work { dir };
        work.clear()?;
        Ok(work)
    }

    /// A directory on the disk itself.
    pub fn disk(&self) -> Result<PathBuf, Failure> {
        let dir = self.dir.join("disk");
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(dir)
    }

    /// A file system in memory.
    pub fn memory(&self, bytes: u64) -> Result<PathBuf, Failure> {
        let dir = self.dir.join("memory");
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let size = format!("size={bytes}");
        tool("mount", &["-t", "tmpfs", "-o", &size, "none", words(&dir)?])?;
        Ok(dir)
    }

    /// A file system on an image that lies on the disk.
    pub fn image(&self, mkfs: &[&str], bytes: u64) -> Result<PathBuf, Failure> {
        let (image, dir) = (self.disk()?.join("image"), self.dir.join("mounted"));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let file = File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(bytes).map_err(|e| e.to_string())?;
        let [name, args @ ..] = mkfs else {
            return Err("no mkfs".into());
        };
        let args: Vec<&str> = args.iter().copied().chain([words(&image)?]).collect();
        tool(name, &args)?;
        tool("mount", &["-o", "loop", words(&image)?, words(&dir)?])?;
        Ok(dir)
    }

    /// A loop device on a file of the disk, past the page cache below it.
    pub fn loop_device(&self, name: &str, bytes: u64) -> Result<PathBuf, Failure> {
        let image = self.disk()?.join(name);
        let file = File::create(&image).map_err(|e| e.to_string())?;
        super::content::allocate(&file, bytes)?;
        let args = ["--show", "-f", "--direct-io=on", words(&image)?];
        tool("losetup", &args).map(PathBuf::from)
    }

    /// Unmounts, detaches and removes everything.
    pub fn clear(&self) -> Result<(), Failure> {
        for name in ["memory", "mounted"] {
            let dir = self.dir.join(name);
            if tool("mountpoint", &["-q", words(&dir)?]).is_ok() {
                tool("umount", &[words(&dir)?])?;
            }
        }
        let disk = self.dir.join("disk");
        for entry in fs::read_dir(&disk).into_iter().flatten().flatten() {
            let used = tool(
                "losetup",
                &["-n", "-O", "NAME", "-j", words(&entry.path())?],
            );
            for node in used.unwrap_or_default().lines() {
                tool("losetup", &["-d", node.trim()])?;
            }
        }
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {e}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(why) = self.clear() {
            eprintln!("xcopy-bench: left behind: {why}");
        }
    }
}
