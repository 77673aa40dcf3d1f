//! Where copies go: file systems on images of their own, tmpfs, loop devices.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program; its words if it fails.
pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// A file system mounted from an image, or one in memory. Unmounted when dropped.
pub struct Mounted {
    /// Where it is mounted.
    pub point: PathBuf,
}

impl Mounted {
    /// Makes an image of `size` bytes under `dir` and mounts it.
    pub fn new(dir: &Path, name: &str, kind: &str, size: u64) -> Result<Mounted, String> {
        let (image, point) = (dir.join(format!("{name}.img")), dir.join(name));
        fs::create_dir(&point).map_err(|e| e.to_string())?;
        let place = point.to_string_lossy().into_owned();
        if kind == "ramfs" {
            run("mount", &["-t", "ramfs", "none", &place])?;
            return Ok(Mounted { point });
        }
        if kind == "tmpfs" {
            let options = format!("size={size}");
            run("mount", &["-t", "tmpfs", "-o", &options, "none", &place])?;
            return Ok(Mounted { point });
        }
        let file = File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(size).map_err(|e| e.to_string())?;
        let path = image.to_string_lossy().into_owned();
        let options: &[&str] = match kind {
            "ext4" => &["-q", "-m", "0"],
            "btrfs" => &["-q"],
            _ => &["-q", "-f"],
        };
        run(&format!("mkfs.{kind}"), &[options, &[&path]].concat())?;
        run("mount", &["-o", "loop", "-t", kind, &path, &place])?;
        Ok(Mounted { point })
    }

    /// Mounts it anew with other options.
    pub fn remount(&self, options: &str) -> Result<(), String> {
        let options = format!("remount,{options}");
        run("mount", &["-o", &options, &self.point.to_string_lossy()]).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = run("umount", &[&self.point.to_string_lossy()]) {
            eprintln!("{why}");
        }
    }
}

/// A loop device, detached when dropped.
pub struct Loop {
    /// Its node.
    pub node: PathBuf,
}

impl Loop {
    /// Over a new image of `size` bytes.
    pub fn new(image: &Path, size: u64, sector: u32) -> Result<Loop, String> {
        let file = File::create(image).map_err(|e| e.to_string())?;
        file.set_len(size).map_err(|e| e.to_string())?;
        let (sector, path) = (sector.to_string(), image.to_string_lossy().into_owned());
        let args = ["--find", "--show", "--sector-size", &sector, &path];
        // Another process may take the free number first.
        let mut last = String::new();
        for _ in 0..20 {
            match run("losetup", &args) {
                Ok(node) => return Ok(Loop { node: node.into() }),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(why) = run("losetup", &["-d", &self.node.to_string_lossy()]) {
            eprintln!("{why}");
        }
    }
}

/// A kind of source and destination.
pub enum Place {
    /// A directory of a file system.
    Files {
        /// What it is called.
        name: &'static str,
        /// The directory.
        dir: PathBuf,
    },
    /// Loop devices with sectors of this size.
    Disks {
        /// What it is called.
        name: &'static str,
        /// Bytes of a sector.
        sector: u32,
    },
}

impl Place {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Place::Files { name, .. } | Place::Disks { name, .. } => name,
        }
    }

    /// Whether it holds files.
    pub fn is_files(&self) -> bool {
        matches!(self, Place::Files { .. })
    }
}

/// All places, or why one is missing.
pub struct Places {
    /// Those that are there.
    pub places: Vec<Place>,
    /// Name and reason of those that are not.
    pub missing: Vec<(&'static str, String)>,
    mounted: Vec<Mounted>,
    /// For images; on tmpfs if there is one, so that syncs cost little.
    pub dir: tempfile::TempDir,
}

/// All kinds of places that this test knows.
pub const NAMES: [&str; 6] = ["tmpfs", "ext4", "xfs", "btrfs", "loop512", "loop4096"];

impl Places {
    /// Makes what this machine and user allow.
    pub fn new() -> std::io::Result<Places> {
        let dir = match tempfile::tempdir_in("/dev/shm") {
            Ok(dir) => dir,
            Err(_) => tempfile::tempdir()?,
        };
        let mut places = Places {
            places: Vec::new(),
            missing: Vec::new(),
            mounted: Vec::new(),
            dir,
        };
        places.add_tmpfs();
        for (name, size) in [
            ("ext4", 256 << 20),
            ("xfs", 400 << 20),
            ("btrfs", 400 << 20),
        ] {
            match Mounted::new(places.dir.path(), name, name, size) {
                Ok(mounted) => {
                    let dir = mounted.point.clone();
                    places.places.push(Place::Files { name, dir });
                    places.mounted.push(mounted);
                }
                Err(why) => places.missing.push((name, why)),
            }
        }
        for (name, sector) in [("loop512", 512), ("loop4096", 4096)] {
            match Loop::new(&places.dir.path().join(name), 1 << 20, sector) {
                Ok(_) => places.places.push(Place::Disks { name, sector }),
                Err(why) => places.missing.push((name, why)),
            }
        }
        Ok(places)
    }

    fn add_tmpfs(&mut self) {
        let dir = self.dir.path().join("files");
        let found = run(
            "stat",
            &["-f", "-c", "%T", &self.dir.path().to_string_lossy()],
        );
        match (found.as_deref(), fs::create_dir(&dir)) {
            (Ok("tmpfs"), Ok(())) => self.places.push(Place::Files { name: "tmpfs", dir }),
            other => self.missing.push(("tmpfs", format!("{other:?}"))),
        }
    }

    /// The directory of a file system.
    pub fn dir_of(&self, wanted: &str) -> Option<&Path> {
        self.places.iter().find_map(|place| match place {
            Place::Files { name, dir } if *name == wanted => Some(dir.as_path()),
            _ => None,
        })
    }
}

/// Makes a file, or opens a node, for reading and writing.
pub fn open_rw(path: &Path, create: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
}
