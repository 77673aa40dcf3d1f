//! One file or disk: its handles, and what the model says that it holds.

use crate::api::Library;
use crate::places::{Loop, Place, open_rw};
use crate::random::{Random, stamp};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use xcopy::abi::*;

/// Bytes of an object at most.
pub const CAP: u64 = 1 << 20;

/// Memory that O_DIRECT takes.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// A file or disk under test.
pub struct Object {
    /// Names it among the objects of a pairing.
    pub id: u64,
    /// Handle of the library's own open file.
    pub handle: u32,
    /// Handle of an fd that the test lends.
    pub borrowed: u32,
    /// A file and not a disk.
    pub is_file: bool,
    /// What it must hold.
    pub model: Vec<u8>,
    file: File,
    direct: Option<File>,
    generation: u64,
    seen: Vec<u8>,
    path: PathBuf,
    _disk: Option<Loop>,
}

impl Object {
    /// Makes one at `place`, with content.
    pub fn new(
        library: &Library,
        place: &Place,
        images: &Path,
        name: &str,
        id: u64,
    ) -> Result<Object, String> {
        let io = |error: std::io::Error| format!("{name}: {error}");
        let (path, disk) = match place {
            Place::Files { dir, .. } => (dir.join(name), None),
            Place::Disks { sector, .. } => {
                let disk = Loop::new(&images.join(name), CAP, *sector)?;
                (disk.node.clone(), Some(disk))
            }
        };
        let file = open_rw(&path, place.is_files()).map_err(io)?;
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .ok();
        let flags = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
        let handle = library.open(&path, flags).map_err(|(_, text)| text)?;
        // A disk's second writable handle shares the first one's claim.
        let borrowed = library
            .borrow(file.as_raw_fd(), flags)
            .map_err(|(_, text)| text)?;
        let mut object = Object {
            id,
            handle,
            borrowed,
            is_file: place.is_files(),
            model: Vec::new(),
            file,
            direct,
            generation: 0,
            seen: vec![0; CAP as usize],
            path,
            _disk: disk,
        };
        let size = if object.is_file { CAP / 2 + 777 } else { CAP };
        object.refresh(0, size).map_err(io)?;
        Ok(object)
    }

    /// Bytes that it holds.
    pub fn size(&self) -> u64 {
        self.model.len() as u64
    }

    /// Whether O_DIRECT reads work on it.
    pub fn has_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Writes a new generation of its own stamps.
    pub fn refresh(&mut self, offset: u64, length: u64) -> std::io::Result<()> {
        self.generation += 1;
        let mut bytes = vec![0; length as usize];
        stamp(&mut bytes, self.id, self.generation, offset);
        self.file.write_all_at(&bytes, offset)?;
        self.put(offset, &bytes);
        Ok(())
    }

    /// Makes a hole.
    pub fn punch(&mut self, offset: u64, length: u64) -> std::io::Result<()> {
        let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: takes numbers only.
        let status =
            unsafe { libc::fallocate64(self.file.as_raw_fd(), how, offset as i64, length as i64) };
        if status != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let end = self.model.len().min((offset + length) as usize);
        if let Some(bytes) = self.model.get_mut(offset as usize..end) {
            bytes.fill(0);
        }
        Ok(())
    }

    /// Shortens or lengthens a file.
    pub fn truncate(&mut self, library: &Library, size: u64) -> std::io::Result<()> {
        self.file.set_len(size)?;
        self.model.resize(size as usize, 0);
        for handle in [self.handle, self.borrowed] {
            library.invalidate(handle);
        }
        Ok(())
    }

    /// The model of a write.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[offset as usize..end].copy_from_slice(bytes);
    }

    /// What it really holds, through the page cache; `None` if its size cannot
    /// be told or is not as large as `most` allows.
    pub fn read(&mut self, most: u64) -> Option<Vec<u8>> {
        let size = if self.is_file {
            self.file.metadata().ok()?.len()
        } else {
            CAP
        };
        if size > most {
            return None;
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        Some(bytes)
    }

    /// Compares all of it with the model: through the page cache, or past it.
    pub fn verify(&mut self, direct: bool) -> Result<(), String> {
        let size = self.size();
        if self.is_file {
            let found = self.file.metadata().map_err(|e| e.to_string())?.len();
            if found != size {
                return Err(format!("object {} has {found} bytes, not {size}", self.id));
            }
        }
        let model = &self.model[..];
        let differs = match (&self.direct, direct) {
            (Some(file), true) => {
                let mut pages: Vec<Page> = Vec::new();
                pages.resize_with(model.len().div_ceil(4096), || Page([0; 4096]));
                // SAFETY: pages are plain bytes, one after the other.
                let bytes = unsafe {
                    std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * 4096)
                };
                read_up_to(file, bytes, model.len()).map_err(|e| format!("O_DIRECT: {e}"))?;
                first_difference(&bytes[..model.len()], model)
            }
            _ => {
                let seen = &mut self.seen[..];
                let bytes = &mut seen[..model.len()];
                self.file
                    .read_exact_at(bytes, 0)
                    .map_err(|e| e.to_string())?;
                first_difference(bytes, model)
            }
        };
        match differs {
            None => Ok(()),
            Some((first, last)) => Err(format!(
                "object {} ({}) of {size} bytes differs within {first}..={last}{}",
                self.id,
                self.path.display(),
                if direct { ", read by O_DIRECT" } else { "" }
            )),
        }
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], need: usize) -> std::io::Result<()> {
    let mut done = 0;
    while done < need {
        match file.read_at(&mut bytes[done..], done as u64)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}

/// First and last byte in which two slices of one length differ.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<(usize, usize)> {
    if a == b {
        return None;
    }
    let first = a.iter().zip(b).position(|(a, b)| a != b)?;
    let last = a.iter().zip(b).rposition(|(a, b)| a != b)?;
    Some((first, last))
}

/// A place of some alignment, below `end`.
pub fn somewhere(random: &mut Random, end: u64) -> u64 {
    let at = random.below(end);
    match random.below(5) {
        0 | 1 => at - at % 4096,
        2 => at - at % 512,
        _ => at,
    }
}
