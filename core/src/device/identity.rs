//! Which storage a node stands for: sysfs read into names, disks and offsets.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the unit of `start` and `size` in sysfs, whatever the disk's blocks.
const SECTOR: u64 = 512;

/// What two devices share if they are the same storage.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub enum Storage {
    /// A file.
    File {
        /// Its file system.
        dev: u64,
        /// Its inode.
        ino: u64,
    },
    /// A disk, or a stack of them under its own number.
    Disk {
        /// Major number of the block device.
        major: u32,
        /// Its minor.
        minor: u32,
    },
    /// A disk by the name that it has in all the world, the same behind each path.
    Named(u64),
    /// A plugin's own device.
    Native {
        /// Number of the plugin.
        plugin: u16,
        /// What the plugin said of it.
        id: u64,
    },
    /// Not known; equal to nothing but itself.
    Unknown(u64),
}

impl Storage {
    /// One that equals no other; never `Unknown(0)`.
    pub fn unknown() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Storage::Unknown(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Storage, and where on it a device begins.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub struct Identity {
    /// The storage.
    pub storage: Storage,
    /// First byte of the device on it.
    pub offset: u64,
}

/// A block device as sysfs describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockNode {
    /// Its number.
    pub dev: (u32, u32),
    /// Its name: sda1.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Number of the whole device that it is or is a part of.
    pub whole: (u32, u32),
    /// Directory of that.
    pub whole_dir: PathBuf,
    /// It is a part.
    pub partition: bool,
    /// First byte on the whole.
    pub offset: u64,
    /// It is made of other block devices.
    pub stacked: bool,
    /// What it is made of, in words.
    pub stack: Option<String>,
}

/// Names that are given once in the world: NAA, EUI-64 and UUID, as the kernel writes
/// them. T10 vendor names are not: some makers give all their disks the same.
const UNIQUE: [&str; 3] = ["naa.", "eui.", "uuid."];

impl BlockNode {
    /// The name of the whole disk that no other disk has.
    fn world_wide_name(&self) -> Option<String> {
        ["wwid", "device/wwid"]
            .iter()
            .find_map(|file| text(&self.whole_dir.join(file)))
            .filter(|name| {
                let number = UNIQUE.iter().find_map(|kind| name.strip_prefix(kind));
                // Nothing but zeroes is no name.
                number.is_some_and(|number| number.bytes().any(|c| !matches!(c, b'0' | b'-')))
            })
    }

    /// Which storage the whole disk is.
    pub fn storage(&self) -> Storage {
        match self.world_wide_name() {
            Some(name) => {
                let mut hasher = DefaultHasher::new();
                name.hash(&mut hasher);
                Storage::Named(hasher.finish())
            }
            None => Storage::Disk {
                major: self.whole.0,
                minor: self.whole.1,
            },
        }
    }

    /// Which storage it is, and where on it.
    pub fn identity(&self) -> Identity {
        Identity {
            storage: self.storage(),
            offset: self.offset,
        }
    }

    /// Size of this node in bytes.
    pub fn size(&self) -> Option<u64> {
        number(&self.dir.join("size"))?.checked_mul(SECTOR)
    }

    /// Whether the kernel has the disk marked read-only.
    pub fn is_read_only(&self) -> bool {
        number(&self.dir.join("ro")).is_some_and(|flag| flag != 0)
    }

    /// Logical and physical block size of the disk.
    pub fn block_sizes(&self) -> (u32, u32) {
        let queue = self.whole_dir.join("queue");
        let read = |name| number(&queue.join(name)).and_then(|bytes| u32::try_from(bytes).ok());
        let logical = read("logical_block_size")
            .filter(|bytes| *bytes > 0)
            .unwrap_or(512);
        (
            logical,
            read("physical_block_size").unwrap_or(logical).max(logical),
        )
    }

    /// Name under /dev, which can differ from the name in sysfs.
    pub fn dev_name(&self) -> String {
        text(&self.dir.join("uevent"))
            .and_then(|all| {
                all.lines()
                    .find_map(|line| line.strip_prefix("DEVNAME=").map(str::to_owned))
            })
            .unwrap_or_else(|| self.name.clone())
    }
}

/// The sysfs to read: another one than /sys in tests.
#[derive(Debug, Clone)]
pub(super) struct Sysfs(PathBuf);

impl Default for Sysfs {
    fn default() -> Self {
        Sysfs(PathBuf::from("/sys"))
    }
}

impl Sysfs {
    #[cfg(test)]
    pub fn at(root: &Path) -> Self {
        Sysfs(root.to_owned())
    }

    /// The block device with this number; `None` if sysfs does not know it.
    pub fn block(&self, dev: (u32, u32)) -> Option<BlockNode> {
        let dir = linked(&self.0.join(format!("dev/block/{}:{}", dev.0, dev.1)))?;
        let name = dir.file_name()?.to_str()?.to_owned();
        let partition = dir.join("partition").exists();
        let whole_dir = if partition {
            dir.parent()?.to_owned()
        } else {
            dir.clone()
        };
        let whole = device_number(&whole_dir.join("dev"))?;
        let offset = match partition {
            // Without a start the place on the disk is unknown: no answer at all.
            true => number(&dir.join("start"))?.checked_mul(SECTOR)?,
            false => 0,
        };
        let (stacked, stack) = describe_stack(&whole_dir);
        Some(BlockNode {
            dev,
            name,
            dir,
            whole,
            whole_dir,
            partition,
            offset,
            stacked,
            stack,
        })
    }

    /// The other nodes of the storage that a node is: its disk behind other paths, or
    /// their partitions at the same place.
    pub fn other_paths(&self, node: &BlockNode) -> Vec<BlockNode> {
        let storage = node.storage();
        if !matches!(storage, Storage::Named(_)) {
            return Vec::new();
        }
        let all = self.0.join("block");
        let disk = |name: String| self.block(device_number(&all.join(name).join("dev"))?);
        let others = names(&all)
            .into_iter()
            .filter_map(disk)
            .filter(|other| other.whole != node.whole && other.storage() == storage);
        if !node.partition {
            return others.collect();
        }
        let parts = |disk: BlockNode| {
            let part = |name: String| self.block(device_number(&disk.dir.join(name).join("dev"))?);
            let parts = names(&disk.dir).into_iter();
            parts
                .filter(|name| name.starts_with(&disk.name))
                .filter_map(part)
                .collect::<Vec<_>>()
        };
        others
            .flat_map(parts)
            .filter(|part| part.offset == node.offset)
            .collect()
    }

    /// The loop devices that have something behind them.
    pub fn loops(&self) -> Vec<BlockNode> {
        let all = self.0.join("block");
        names(&all)
            .into_iter()
            .filter(|name| name.starts_with("loop"))
            .map(|name| all.join(name))
            .filter(|dir| dir.join("loop/backing_file").exists())
            .filter_map(|dir| self.block(device_number(&dir.join("dev"))?))
            .collect()
    }

    /// The disk behind a character node of a storage driver (sg, bsg, ng), or
    /// what the node is instead.
    pub fn behind_char(&self, dev: (u32, u32)) -> Result<BlockNode, String> {
        let link = self.0.join(format!("dev/char/{}:{}", dev.0, dev.1));
        let dir = linked(&link).ok_or("a character device that sysfs does not know")?;
        let class = linked(&dir.join("subsystem"))
            .and_then(|class| Some(class.file_name()?.to_str()?.to_owned()))
            .unwrap_or_default();
        let disk = match class.as_str() {
            "scsi_generic" | "bsg" => only_entry(&dir.join("device/block")),
            "nvme-generic" => nvme_disk(&dir),
            "nvme" | "nvme-subsystem" => {
                return Err("an NVMe controller, not a namespace; name the namespace \
                            (/dev/nvme0n1 or /dev/ng0n1)"
                    .to_owned());
            }
            "" => return Err("a character device without a driver class".to_owned()),
            class => return Err(format!("a character device of class '{class}'")),
        };
        disk.and_then(|disk| self.block(device_number(&disk.join("dev"))?))
            .ok_or_else(|| format!("a '{class}' node with no disk behind it"))
    }
}

/// What a link of sysfs leads to: no directory on the way there is a link, so one
/// look is enough.
fn linked(link: &Path) -> Option<PathBuf> {
    let mut dir = link.parent()?.to_owned();
    for part in fs::read_link(link).ok()?.components() {
        match part {
            Component::ParentDir => drop(dir.pop()),
            Component::CurDir => {}
            part => dir.push(part),
        }
    }
    Some(dir)
}

/// The one entry of a directory.
fn only_entry(dir: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(dir).ok()?;
    let first = entries.next()?.ok()?;
    entries.next().is_none().then(|| first.path())
}

/// ng0n1 and nvme0n1 carry the same numbers and hang under the same controller
/// or subsystem.
fn nvme_disk(dir: &Path) -> Option<PathBuf> {
    let numbers = dir.file_name()?.to_str()?.strip_prefix("ng")?;
    Some(dir.parent()?.join(format!("nvme{numbers}")))
}

/// Whether a whole device is made of others, and what it is in words.
fn describe_stack(dir: &Path) -> (bool, Option<String>) {
    if let Some(name) = text(&dir.join("dm/name")) {
        let uuid = text(&dir.join("dm/uuid")).unwrap_or_default();
        let kind = uuid
            .split('-')
            .next()
            .filter(|kind| !kind.is_empty())
            .map(str::to_owned);
        let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        return (true, Some(format!("device-mapper '{name}'{kind}")));
    }
    if dir.join("md").is_dir() {
        let level = text(&dir.join("md/level")).unwrap_or_default();
        return (true, Some(format!("md {level}").trim_end().to_owned()));
    }
    if dir.join("bcache").is_dir() {
        return (true, Some("bcache".to_owned()));
    }
    let below = names(&dir.join("slaves"));
    if !below.is_empty() {
        return (true, Some(format!("made of {}", below.join(", "))));
    }
    // A loop device is a disk to the kernel, and its own storage.
    (
        false,
        text(&dir.join("loop/backing_file")).map(|file| format!("loop over {file}")),
    )
}

/// Names in a directory, sorted; none if it is not there.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(super) fn text(path: &Path) -> Option<String> {
    Some(
        String::from_utf8_lossy(&fs::read(path).ok()?)
            .trim_end()
            .to_owned(),
    )
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// "8:16" as a number.
pub(super) fn parse_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn device_number(path: &Path) -> Option<(u32, u32)> {
    parse_number(&text(path)?)
}
