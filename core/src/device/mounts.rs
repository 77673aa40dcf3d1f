//! A block device by its node, and who else uses it: mounts, swap, and devices
//! built on it.

use super::identity::{BlockNode, names, parse_number, text};
use super::{facts, open};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The number of a block node, if the path is one.
pub(super) fn block_number(path: &Path) -> Option<(u32, u32)> {
    let metadata = fs::metadata(path).ok()?;
    let rdev = metadata.rdev();
    metadata
        .file_type()
        .is_block_device()
        .then(|| (libc::major(rdev), libc::minor(rdev)))
}

/// Who uses the device, in words, or `None`. A whole device is used if one of
/// its partitions is; a partition is used if the whole device is.
pub(super) fn user_of(node: &BlockNode) -> std::io::Result<Option<String>> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    // Without swap support there is no such file.
    let swaps = fs::read("/proc/swaps").unwrap_or_default();
    Ok(find_user(node, &mounts, &swaps))
}

/// `user_of` over given texts.
pub(super) fn find_user(node: &BlockNode, mounts: &[u8], swaps: &[u8]) -> Option<String> {
    let family = family(node);
    let of = |dev: (u32, u32)| family.iter().find(|member| member.dev == dev);
    for line in mounts.split(|byte| *byte == b'\n') {
        let Some(mount) = Mount::parse(line) else {
            continue;
        };
        // btrfs shows a number of its own; its source is the device.
        let used = of(mount.dev).or_else(|| {
            let source = mount.source.as_deref()?;
            source
                .starts_with("/dev/")
                .then(|| block_number(source))
                .flatten()
                .and_then(of)
        });
        if let Some(member) = used {
            return Some(format!(
                "{} is mounted on {}",
                member.name,
                mount.point.display()
            ));
        }
    }
    for line in swaps.split(|byte| *byte == b'\n').skip(1) {
        let Some(path) = line.split(|byte| *byte == b' ' || *byte == b'\t').next() else {
            continue;
        };
        let path = unescape(path);
        if let Some(member) = block_number(&path).and_then(of) {
            return Some(format!("{} is in use as swap", member.name));
        }
    }
    family.iter().find_map(|member| {
        let holders = names(&member.dir.join("holders"));
        (!holders.is_empty()).then(|| format!("{} is held by {}", member.name, holders.join(", ")))
    })
}

struct Member {
    dev: (u32, u32),
    name: String,
    dir: PathBuf,
}

/// The node itself and what overlaps it: its partitions, or its whole device.
fn family(node: &BlockNode) -> Vec<Member> {
    let member = |dir: &Path| {
        let dev = parse_number(&text(&dir.join("dev"))?)?;
        let name = dir.file_name()?.to_string_lossy().into_owned();
        Some(Member {
            dev,
            name,
            dir: dir.to_owned(),
        })
    };
    let mut family = vec![Member {
        dev: node.dev,
        name: node.name.clone(),
        dir: node.dir.clone(),
    }];
    if node.partition {
        family.extend(member(&node.whole_dir));
    } else {
        // A partition's name begins with its disk's.
        let parts = names(&node.dir).into_iter();
        family.extend(
            parts
                .filter(|name| name.starts_with(&node.name))
                .map(|name| node.dir.join(name))
                .filter(|dir| dir.join("partition").exists())
                .filter_map(|d| member(&d)),
        );
    }
    family
}

/// A line of mountinfo: "36 35 8:1 /root /mnt opts [optional...] - type source opts".
struct Mount {
    dev: (u32, u32),
    point: PathBuf,
    source: Option<PathBuf>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let dev = parse_number(std::str::from_utf8(fields.nth(2)?).ok()?)?;
        let point = unescape(fields.nth(1)?);
        let source = fields
            .by_ref()
            .skip_while(|field| *field != b"-")
            .nth(2)
            .map(unescape);
        Some(Mount { dev, point, source })
    }
}

/// The kernel writes blanks, tabs, newlines and backslashes as \ooo.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\')
            .then(|| std::str::from_utf8(tail.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The node of a block device under /dev, if its number is right.
fn dev_path(node: &BlockNode) -> Option<PathBuf> {
    let by_number = PathBuf::from(format!("/dev/block/{}:{}", node.dev.0, node.dev.1));
    let by_name = Path::new("/dev").join(std::ffi::OsStr::from_bytes(node.dev_name().as_bytes()));
    [by_number, by_name]
        .into_iter()
        .find(|path| block_number(path) == Some(node.dev))
}

/// Opens a block device by its node under /dev, if there is one of the right
/// number; looked at again once it is open.
pub(super) fn open_node(node: &BlockNode, how: i32) -> io::Result<OwnedFd> {
    let path = dev_path(node).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fd = open::open_file(&path, how | libc::O_CLOEXEC)?;
    let stat = facts::stat(fd.as_raw_fd(), "")
        .map_err(|error| io::Error::from_raw_os_error(error.errno))?;
    let right = stat.st_mode & libc::S_IFMT == libc::S_IFBLK
        && (libc::major(stat.st_rdev), libc::minor(stat.st_rdev)) == node.dev;
    if right {
        Ok(fd)
    } else {
        Err(io::Error::from_raw_os_error(libc::ENODEV))
    }
}
