//! A namespace as the plugin knows it: where the device lies on it, and what it
//! and its controller said of themselves.

use crate::behavior::Switches;
use crate::paths::Paths;
use crate::status::{is_gone, is_unknown_way};
use crate::system::{Completion, Link, Port};
use crate::wire::{Command, Controller, IDENTIFY_BYTES, MAX_BLOCKS, NamespaceData, Tags};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::errno::*;
use xcopy_plugin_sdk::{Events, Failure, Host};

/// Looks at a namespace that gives no answer, beyond the first.
const LOOKS: u32 = 20;
/// Between two of them.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What controller and namespace said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Identify Controller.
    pub controller: Controller,
    /// Identify Namespace, with the tags of its format.
    pub data: NamespaceData,
}

impl Facts {
    /// The limits of a Copy between two namespaces, in blocks: of one range, of
    /// one command, and of ranges. None if either does not support it.
    pub fn limits(&self, other: &Facts) -> Option<(u32, u32, u32)> {
        let (a, b) = (&self.data, &other.data);
        let range = u32::from(a.mssrl.min(b.mssrl)).min(MAX_BLOCKS);
        let command = a.mcl.min(b.mcl);
        let ranges = u32::from(a.msrc.min(b.msrc)) + 1;
        (range > 0 && command > 0).then_some((range.min(command), command, ranges))
    }
}

/// What was found when a namespace was looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// As before.
    Same,
    /// It says something else than before.
    Changed,
    /// It is not there any more.
    Gone,
    /// It could not be asked.
    Unknown,
}

/// A device on a namespace.
pub struct Namespace<P> {
    /// The way to it.
    pub port: P,
    /// Its identifier.
    pub nsid: u32,
    /// First byte of the device on the namespace.
    pub offset: u64,
    /// Bytes of a logical block when it was opened.
    pub block: u32,
    /// The destination may be written by it.
    pub writable: bool,
    /// See [`Link::local`].
    pub local: bool,
    /// See [`Link::controller`].
    pub controller: String,
    /// [`Link::name`].
    pub name: String,
    /// The controller's host behaviour.
    pub switches: Arc<Switches>,
    host: Host,
    events: Events,
    facts: Mutex<Facts>,
    /// The kernel takes no commands for it by a ring.
    no_ring: AtomicBool,
    /// Its commands take several controllers by turns, when last looked at.
    turns: AtomicBool,
}

impl<P: Port> Namespace<P> {
    /// Asks controller and namespace what they are, and checks that the device
    /// lies where it should.
    pub fn new(
        link: Link<P>,
        switches: Arc<Switches>,
        (host, events): (Host, Events),
    ) -> Result<Namespace<P>, Failure> {
        let facts = identify(&link.port, link.nsid)?;
        let block = u64::from(facts.data.format.block);
        let size = u128::from(facts.data.blocks) * u128::from(block);
        let end = u128::from(link.offset) + u128::from(link.size);
        if facts.data.blocks == 0 {
            return Err(Failure::new(ENODEV).because("the namespace is not attached any more"));
        }
        if block == 0 || facts.data.format.block != link.block {
            return Err(Failure::new(ENOTSUP).because(format!(
                "the kernel has blocks of {} bytes and the controller says {block}: rescan it",
                link.block
            )));
        }
        if !link.offset.is_multiple_of(block) || end > size {
            return Err(Failure::new(ENOTSUP).because(format!(
                "bytes {} to {end} do not lie on whole blocks of the namespace, which has \
                 {size} bytes: check the partition table",
                link.offset
            )));
        }
        Ok(Namespace {
            port: link.port,
            nsid: link.nsid,
            offset: link.offset,
            block: link.block,
            writable: link.writable,
            local: link.local,
            controller: link.controller,
            name: link.name,
            events,
            facts: Mutex::new(facts),
            switches,
            host,
            no_ring: AtomicBool::new(false),
            turns: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it.
    pub fn facts(&self) -> Facts {
        *self.lock()
    }

    /// The core's log.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Tells the core what became of it.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Whether a ring takes its commands.
    pub fn has_ring(&self) -> bool {
        !self.no_ring.load(Ordering::Relaxed) && self.port.has_ring()
    }

    /// The kernel takes no commands for it by a ring.
    pub fn forget_ring(&self) {
        self.no_ring.store(true, Ordering::Relaxed);
    }

    /// Whether its commands took several controllers by turns at the last look.
    pub fn takes_turns(&self) -> bool {
        self.turns.load(Ordering::Relaxed)
    }

    /// The controllers that reach it now. Blocks.
    pub fn paths(&self) -> Paths {
        let paths = self.port.paths();
        let turns = paths.controllers.len() > 1 && paths.alternate.is_some();
        self.turns.store(turns, Ordering::Relaxed);
        paths
    }

    /// Asks again what it is; tells the core if that changed. Blocks.
    pub fn look_again(&self) -> Presence {
        let fresh = match self.ask_patiently() {
            Ok(fresh) => fresh,
            Err(Refused::Errno(errno)) if is_gone(errno) || !self.port.is_there() => {
                return self.gone();
            }
            // Invalid Namespace or Format: the identifier is of none.
            Err(Refused::Status(status)) if status & 0x7ff == 0x00b => return self.gone(),
            Err(_) => return Presence::Unknown,
        };
        if fresh.data.blocks == 0 {
            return self.gone();
        }
        let before = std::mem::replace(&mut *self.lock(), fresh);
        if before == fresh {
            return Presence::Same;
        }
        if before.data.blocks != fresh.data.blocks && self.offset == 0 {
            let block = u64::from(fresh.data.format.block);
            let size = fresh.data.blocks.saturating_mul(block);
            self.events.resized(size);
        }
        self.events.limits_changed();
        Presence::Changed
    }

    /// While the kernel takes a namespace out, or its controller resets, nobody
    /// answers for a moment.
    fn ask_patiently(&self) -> Result<Facts, Refused> {
        let mut left = LOOKS;
        loop {
            match ask(&self.port, self.nsid) {
                Err(Refused::Errno(EAGAIN | EINTR | EBUSY | EIO))
                    if left > 0 && self.port.is_there() =>
                {
                    left -= 1;
                    std::thread::sleep(LOOK_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    fn gone(&self) -> Presence {
        self.events.removed();
        Presence::Gone
    }
}

/// Why a question was not answered.
enum Refused {
    Errno(i32),
    Status(u16),
}

fn asked(port: &impl Port, command: Command, data: &mut [u8]) -> Result<(), Refused> {
    match port.admin(command, data) {
        Ok(Completion { status: 0, .. }) => Ok(()),
        Ok(Completion { status, .. }) => Err(Refused::Status(status)),
        Err(errno) => Err(Refused::Errno(errno)),
    }
}

fn ask(port: &impl Port, nsid: u32) -> Result<Facts, Refused> {
    let mut data = vec![0; IDENTIFY_BYTES];
    asked(port, Command::identify_controller(), &mut data)?;
    let controller = Controller::parse(&data).unwrap_or_default();
    data.fill(0);
    asked(port, Command::identify_namespace(nsid), &mut data)?;
    let mut found = NamespaceData::parse(&data).unwrap_or_default();
    if controller.extended_formats {
        data.fill(0);
        match asked(port, Command::identify_nvm(nsid), &mut data) {
            Ok(()) => {
                found.format.tags = Tags::parse(&data, found.format_index).unwrap_or_default();
            }
            // No such data structure: 16-bit guards and no storage tags.
            Err(Refused::Status(_)) => {}
            Err(refused) => return Err(refused),
        }
    }
    Ok(Facts {
        controller,
        data: found,
    })
}

fn identify(port: &impl Port, nsid: u32) -> Result<Facts, Failure> {
    ask(port, nsid).map_err(|refused| match refused {
        Refused::Errno(errno @ (EPERM | EACCES)) => Failure::new(errno).because(format!(
            "the kernel refuses NVMe Identify to this user: it wants CAP_SYS_ADMIN (Linux 6.2 \
             and later let the node's owner){}",
            port.hindrance()
        )),
        Refused::Errno(errno) if is_gone(errno) => {
            Failure::new(ENODEV).because("the namespace is gone")
        }
        Refused::Errno(errno) if is_unknown_way(errno) => {
            Failure::new(ENOTSUP).because("the kernel takes no NVMe commands for this device")
        }
        Refused::Errno(errno) => Failure::new(errno).because(format!(
            "NVMe Identify failed: {}",
            std::io::Error::from_raw_os_error(errno)
        )),
        Refused::Status(status) => Failure::new(EIO)
            .reason(XCOPY_REASON_NOT_SUPPORTED)
            .because(format!(
                "the controller answers Identify with status {status:#x}"
            )),
    })
}
