//! The devices that a plugin is tried on, and what is really on them.

use std::ffi::{CString, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use xcopy::abi::*;

use super::arena::{self, Block, Kind};
use super::fault::Fault;
use super::plugin::{Checked, Context};
use super::{calls, host, judge, system, wire};
use crate::library::field;

/// What a device is opened by.
#[derive(Clone, Debug)]
pub enum Spec {
    /// A plugin's own: what stands behind the colon.
    Native(String),
    /// A file or disk, and what the core says of it.
    Kernel(PathBuf, Box<Facts>),
}

/// What the kernel says of a file or disk.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Facts {
    pub kind: u32,
    pub size_bytes: u64,
    pub block_size: u32,
    pub physical_block_size: u32,
    pub dev: (u32, u32),
    pub disk: (u32, u32),
    pub disk_offset: u64,
}

/// The description of a device in the memory that the plugin sees.
pub struct Description {
    block: Block,
    name: Block,
    props: Block,
    file: Option<File>,
    host_device: usize,
    native: bool,
}

/// An open device.
pub struct Disk {
    /// The plugin's handle.
    pub handle: usize,
    /// What the plugin says of it.
    pub props: xcopy_device_props,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of a block, of which offsets are multiples.
    pub block: u32,
    /// The kernel's side, if there is one.
    pub file: Option<File>,
    host_device: usize,
}

/// How an attempt to open ended.
pub enum Opened {
    /// It is open.
    Disk(Disk),
    /// It was refused, and why.
    Refused(String),
}

impl Description {
    /// Describes a device, `tail` bytes longer than today's structs.
    pub fn new(spec: &Spec, tail: usize) -> io::Result<Description> {
        let host_device = host::add_device()?;
        let mut desc = xcopy_device_desc {
            size: (size_of::<xcopy_device_desc>() + tail) as u32,
            kind: XCOPY_KIND_NATIVE,
            open_flags: XCOPY_OPEN_READ | XCOPY_OPEN_WRITE,
            fd: -1,
            name: std::ptr::null(),
            native: std::ptr::null_mut(),
            host_device: host_device as *mut c_void,
            dev_major: 0,
            dev_minor: 0,
            disk_major: 0,
            disk_minor: 0,
            disk_offset: 0,
            inode: 0,
            size_bytes: 0,
            block_size: 1,
            physical_block_size: 1,
        };
        let mut file = None;
        let text = match spec {
            Spec::Native(text) => text.clone().into_bytes(),
            Spec::Kernel(path, facts) => {
                let flags = libc::O_CLOEXEC | libc::O_NOFOLLOW;
                let opened = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(flags)
                    .open(path)?;
                desc.kind = facts.kind;
                desc.fd = opened.as_raw_fd();
                (desc.dev_major, desc.dev_minor) = facts.dev;
                (desc.disk_major, desc.disk_minor) = facts.disk;
                desc.disk_offset = facts.disk_offset;
                desc.size_bytes = facts.size_bytes;
                desc.block_size = facts.block_size;
                desc.physical_block_size = facts.physical_block_size;
                desc.inode = opened.metadata()?.ino();
                file = Some(opened);
                path.as_os_str().as_bytes().to_vec()
            }
        };
        let text = CString::new(text).map_err(io::Error::other)?;
        let text = text.as_bytes_with_nul();
        let name = arena::lend(Kind::Description, text.len(), 1)?;
        desc.name = name.pointer();
        let block = arena::lend(Kind::Description, desc.size as usize, 8)?;
        let props = arena::lend(Kind::Properties, size_of::<xcopy_device_props>() + tail, 8)?;
        // SAFETY: all just lent, long enough, and not known to the plugin yet.
        unsafe {
            name.fill(text);
            block.fill(&vec![0; block.len]);
            block.pointer::<xcopy_device_desc>().write(desc);
            props.fill(&vec![0; props.len]);
            (*props.pointer::<xcopy_device_props>()).size = props.len as u32;
        }
        Ok(Description {
            block,
            name,
            props,
            file,
            host_device,
            native: matches!(spec, Spec::Native(_)),
        })
    }

    /// Where the description is.
    pub fn pointer(&self) -> *const xcopy_device_desc {
        self.block.pointer::<xcopy_device_desc>()
    }

    /// Takes the plugin's answer in: `props` are those of an OPEN command, or
    /// None if it was told to fill this description's own.
    pub fn finish(
        self,
        answer: i32,
        handle: *mut c_void,
        props: Option<xcopy_device_props>,
    ) -> Opened {
        // SAFETY: not taken back yet; plain data.
        let props =
            props.unwrap_or_else(|| unsafe { self.props.pointer::<xcopy_device_props>().read() });
        for block in [self.block, self.name, self.props] {
            block.take_back();
        }
        let text = field(&props.text);
        if answer != 0 {
            host::remove_device(self.host_device);
            if !(-4095..=0).contains(&answer) {
                wire::fault(Fault::BadStatus, &format!("open answered {answer}"));
            } else if answer == -libc::EFAULT {
                wire::fault(Fault::Panics, "open answered -EFAULT: it stopped a panic");
            } else if text.is_empty() {
                wire::fault(
                    Fault::NoText,
                    &format!("open answered {answer} and said nothing"),
                );
            } else if !props.text.contains(&0) {
                wire::fault(Fault::BadProps, "text does not end");
            }
            return Opened::Refused(text);
        }
        for (fault, text) in judge::properties(&props, self.native) {
            wire::fault(fault, &text);
        }
        let size = match &self.file {
            Some(file) => size_of_file(file),
            None => props.size_bytes,
        };
        Opened::Disk(Disk {
            handle: handle as usize,
            props,
            size,
            block: props.block_size.max(1),
            file: self.file,
            host_device: self.host_device,
        })
    }
}

fn size_of_file(file: &File) -> u64 {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    let end = file.seek(SeekFrom::End(0)).unwrap_or(0);
    // The plugin may use the position; it begins where an opened one does.
    let _ = file.rewind();
    end
}

impl Context<'_> {
    /// Opens a device on this thread.
    pub fn open(&self, spec: &Spec) -> Checked<Opened> {
        let Some(open) = self.plugin.table.open else {
            return Ok(Opened::Refused("the plugin has no open".into()));
        };
        let desc = Description::new(spec, self.plugin.tail)?;
        let place = arena::lend(Kind::Place, size_of::<*mut c_void>(), 8)?;
        // SAFETY: everything was just lent and is as the contract has it.
        let (answer, handle) = unsafe {
            let at: *mut *mut c_void = place.pointer();
            at.write(std::ptr::null_mut());
            let props = desc.props.pointer();
            let answer = calls::slow(&"open", || open(self.state, desc.pointer(), at, props));
            (answer, at.read())
        };
        place.take_back();
        Ok(desc.finish(answer, handle, None))
    }

    /// Closes a device that nothing uses.
    pub fn close(&self, disk: Disk) {
        if let Some(close) = self.plugin.table.close {
            // SAFETY: the handle is the plugin's own, and closed once.
            calls::slow(&"close", || unsafe {
                close(self.state, disk.handle as *mut c_void);
            });
        }
        disk.forget();
    }
}

impl Disk {
    /// After the plugin closed it.
    pub fn forget(self) {
        if let Some(file) = &self.file
            && !system::is_open(file.as_raw_fd())
        {
            wire::fault(Fault::ClosesFd, "close closed the core's descriptor");
            // Closing it again would hit whoever has the number now.
            std::mem::forget(self.file);
        }
        host::remove_device(self.host_device);
    }

    /// What the kernel has there, past the page cache where that can be.
    pub fn kernel_bytes(&self, at: u64, len: usize) -> Option<io::Result<Vec<u8>>> {
        let file = self.file.as_ref()?;
        let read = || {
            file.sync_all()?;
            // SAFETY: takes no pointers.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        };
        Some(read())
    }

    /// Puts bytes there by the kernel; None without one.
    pub fn write_by_kernel(&self, at: u64, bytes: &[u8]) -> Option<io::Result<()>> {
        let file = self.file.as_ref()?;
        Some(file.write_all_at(bytes, at).and_then(|()| file.sync_all()))
    }
}
