//! Which devices a plugin is tried on.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use xcopy::abi::*;

use super::disk::{Facts, Spec};
use super::plugin::Plugin;

/// Bytes of a scratch file.
const SCRATCH: u64 = 1 << 20;
/// Specs that are tried of a plugin's own devices: sizes, and nothing at all.
const SPECS: [&str; 3] = ["1M", "1048576", ""];

/// What the user asked for.
pub struct Wishes {
    /// --spec, at most two.
    pub specs: Vec<String>,
    /// Where scratch files are made.
    pub scratch: PathBuf,
    /// How long a call or a command may take.
    pub limit: Duration,
}

/// What is tried on.
pub struct Places {
    /// Pairs of devices, of which the first that opens is taken.
    pub pairs: Vec<(Spec, Spec)>,
    /// How long a call or a command may take.
    pub limit: Duration,
}

impl Places {
    /// The devices for this plugin.
    pub fn new(plugin: &Plugin, wishes: &Wishes) -> io::Result<Places> {
        let mut pairs = Vec::new();
        let (kernel, native) = (
            plugin.table.flags & XCOPY_PLUGIN_KERNEL != 0,
            plugin.table.flags & XCOPY_PLUGIN_NATIVE != 0,
        );
        let named: Vec<Spec> = wishes
            .specs
            .iter()
            .map(
                |spec| match spec.strip_prefix(&format!("{}:", plugin.name)) {
                    Some(own) => Ok(Spec::Native(own.to_owned())),
                    None if kernel && Path::new(spec).exists() => by_kernel(Path::new(spec)),
                    None => Ok(Spec::Native(spec.clone())),
                },
            )
            .collect::<io::Result<_>>()?;
        match &named[..] {
            [first, second, ..] => pairs.push((first.clone(), second.clone())),
            [only] => pairs.push((only.clone(), only.clone())),
            [] => {
                if native {
                    pairs.extend(SPECS.map(|spec| {
                        let spec = Spec::Native(spec.to_owned());
                        (spec.clone(), spec)
                    }));
                }
                if kernel {
                    let file = |name: &str| {
                        let path = wishes.scratch.join(name);
                        File::create(&path)?.set_len(SCRATCH)?;
                        by_kernel(&path)
                    };
                    pairs.push((file("source")?, file("destination")?));
                }
            }
        }
        Ok(Places {
            pairs,
            limit: wishes.limit,
        })
    }
}

/// What the kernel says of a file or a disk.
fn by_kernel(path: &Path) -> io::Result<Spec> {
    let path = path.canonicalize()?;
    let meta = fs::metadata(&path)?;
    let numbers = |dev: u64| (libc::major(dev), libc::minor(dev));
    let mut facts = Facts {
        kind: XCOPY_KIND_FILE,
        size_bytes: meta.len(),
        block_size: 1,
        physical_block_size: meta.blksize() as u32,
        dev: numbers(meta.dev()),
        disk: (0, 0),
        disk_offset: 0,
    };
    if meta.file_type().is_block_device() {
        let file = File::open(&path)?;
        facts.dev = numbers(meta.rdev());
        facts.block_size = number(&file, BLKSSZGET)?;
        facts.physical_block_size = number(&file, BLKPBSZGET)?;
        facts.size_bytes = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
        let node = PathBuf::from(format!("/sys/dev/block/{}:{}", facts.dev.0, facts.dev.1));
        let is_part = node.join("partition").exists();
        facts.kind = if is_part {
            XCOPY_KIND_PARTITION
        } else {
            XCOPY_KIND_DISK
        };
        facts.disk = facts.dev;
        if is_part {
            let word = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
            facts.disk_offset = word(node.join("start")).trim().parse().unwrap_or(0) * 512;
            let disk = word(node.canonicalize()?.join("../dev"));
            if let Some((major, minor)) = disk.trim().split_once(':') {
                facts.disk = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
            }
        }
    } else if meta.file_type().is_char_device() {
        facts.kind = XCOPY_KIND_CHAR;
        facts.dev = numbers(meta.rdev());
    }
    Ok(Spec::Kernel(path, Box::new(facts)))
}

const BLKSSZGET: libc::c_ulong = 0x1268;
const BLKPBSZGET: libc::c_ulong = 0x127b;

fn number(file: &File, request: libc::c_ulong) -> io::Result<u32> {
    let mut value: libc::c_uint = 0;
    // SAFETY: both requests write one unsigned int.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, &mut value) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
