//! A namespace's nodes, and commands by ioctl.

use super::sysfs::Place;
use crate::paths::Paths;
use crate::system::{Answer, Completion, Port};
use crate::wire::Command;
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use xcopy_plugin_sdk::errno::EIO;

/// `struct nvme_passthru_cmd64` of <linux/nvme_ioctl.h>.
#[repr(C)]
#[derive(Default)]
pub struct Passthrough {
    command: Command,
    result: u64,
}

const _: () = assert!(size_of::<Passthrough>() == 80);

mod ioctl {
    nix::ioctl_none_bad!(nsid, nix::request_code_none!(b'N', 0x40));
    nix::ioctl_readwrite!(admin, b'N', 0x47, super::Passthrough);
    nix::ioctl_readwrite!(io, b'N', 0x48, super::Passthrough);
}

/// The nodes of one namespace.
pub struct Node {
    /// The core's: a block node, or a character node that the caller named. Open
    /// as long as the device is.
    core: RawFd,
    /// The character node, if the plugin could open it.
    own: Option<File>,
    /// The core's is a character node.
    core_is_char: bool,
    /// Why there is no character node, in words.
    missing: String,
    privileged: bool,
    place: Place,
}

impl Node {
    /// Around the core's fd; the character node is opened for a destination.
    pub fn new(core: RawFd, is_char: bool, writes: bool, place: Place) -> Node {
        let (own, missing) = if is_char || !writes {
            (None, String::new())
        } else {
            match open_char(&place) {
                Ok(file) => (Some(file), String::new()),
                Err(why) => (None, why),
            }
        };
        Node {
            core,
            own,
            core_is_char: is_char,
            missing,
            privileged: may_administer(),
            place,
        }
    }

    /// The character node, which a ring takes commands for.
    pub fn char_fd(&self) -> Option<RawFd> {
        match &self.own {
            Some(file) => Some(file.as_raw_fd()),
            None => self.core_is_char.then_some(self.core),
        }
    }

    /// A partition's own node takes commands from the privileged only.
    fn command_fd(&self) -> RawFd {
        self.char_fd().unwrap_or(self.core)
    }

    /// The namespace's identifier, or an errno.
    pub fn nsid(&self) -> Result<u32, i32> {
        // SAFETY: takes no memory; the fd is the core's, open with the device, or
        // our own.
        match unsafe { ioctl::nsid(self.command_fd()) } {
            Ok(nsid @ 1..) => Ok(nsid as u32),
            Ok(_) => Err(EIO),
            Err(errno) => Err(errno as i32),
        }
    }
}

impl Port for Node {
    fn admin(&self, mut command: Command, data: &mut [u8]) -> Answer {
        // The kernel maps what the command says, and there is no more than that.
        command.data_len = command.data_len.min(data.len() as u32);
        command.addr = data.as_mut_ptr() as u64;
        let mut passthrough = Passthrough { command, result: 0 };
        // SAFETY: the kernel reads and writes the struct and `data`, which is as
        // long as the command says; both live through the call.
        answer(
            unsafe { ioctl::admin(self.command_fd(), &mut passthrough) },
            &passthrough,
        )
    }

    fn io(&self, mut command: Command, data: &[u8]) -> Answer {
        command.data_len = command.data_len.min(data.len() as u32);
        command.addr = match command.data_len {
            0 => 0,
            _ => data.as_ptr() as u64,
        };
        let mut passthrough = Passthrough { command, result: 0 };
        // SAFETY: as above; commands of this plugin only read their data.
        answer(
            unsafe { ioctl::io(self.command_fd(), &mut passthrough) },
            &passthrough,
        )
    }

    fn is_there(&self) -> bool {
        self.place.exists()
    }

    fn has_ring(&self) -> bool {
        self.char_fd().is_some()
    }

    fn would_send(&self, mut command: Command) -> Result<(), i32> {
        if self.privileged {
            return Ok(());
        }
        // The kernel asks who may send it before it maps the data, of which there
        // is none at an address that no process has: it gets no further.
        command.data_len = 32;
        command.addr = u64::MAX << 13;
        let mut passthrough = Passthrough { command, result: 0 };
        // SAFETY: the kernel reads the struct, and refuses the address.
        match unsafe { ioctl::io(self.command_fd(), &mut passthrough) } {
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => Err(errno as i32),
            _ => Ok(()),
        }
    }

    fn hindrance(&self) -> String {
        match self.missing.as_str() {
            "" => String::new(),
            missing => format!("; {missing}"),
        }
    }

    fn paths(&self) -> Paths {
        self.place.paths()
    }
}

fn answer(called: nix::Result<i32>, passthrough: &Passthrough) -> Answer {
    match called {
        Ok(status) => Ok(Completion {
            status: (status & 0x7fff) as u16,
            result: passthrough.result,
        }),
        Err(errno) => Err(errno as i32),
    }
}

/// Opens the character node for writing, or says why not.
fn open_char(place: &Place) -> Result<File, String> {
    let path = format!("/dev/{}", place.node_name());
    let Some(number) = place.node else {
        return Err("the kernel has no character nodes for namespaces (Linux 5.13)".to_owned());
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(&path)
        .map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EACCES | Errno::EPERM) => {
                format!("{path} cannot be opened for writing: give this user the node")
            }
            _ => format!("{path} cannot be opened: {error}"),
        })?;
    let right = file.metadata().is_ok_and(|found| {
        let device = found.rdev();
        found.file_type().is_char_device() && (libc::major(device), libc::minor(device)) == number
    });
    match right {
        true => Ok(file),
        false => Err(format!("{path} is not the node of {}", place.disk)),
    }
}

/// Whether this process has CAP_SYS_ADMIN, with which the kernel takes any command.
fn may_administer() -> bool {
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> SYS_ADMIN & 1 == 1)
}
