//! The controller itself.

use super::identify;
use crate::disk::Disk;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use xcopy_plugin_nvme::Paths;
use xcopy_plugin_nvme::system::{Answer, Completion};
use xcopy_plugin_nvme::wire::{Command, Entry};

/// Do Not Retry.
pub const DNR: u16 = 0x4000;

/// One namespace.
#[derive(Clone)]
pub struct Unit {
    /// Its bytes.
    pub disk: Arc<Disk>,
    /// Bytes of a block.
    pub block: u32,
    /// Blocks.
    pub blocks: u64,
    /// Blocks of one source range at most.
    pub mssrl: u16,
    /// Blocks of one command at most.
    pub mcl: u32,
    /// Source ranges at most, 0's based.
    pub msrc: u8,
    /// Bytes of metadata.
    pub metadata: u8,
    /// Type of protection information.
    pub pi: u8,
    /// Format of the guard.
    pub pif: u8,
    /// Bits of the storage tag.
    pub storage_bits: u8,
}

impl Unit {
    /// A namespace of 512-byte blocks over a disk, with QEMU's default limits.
    pub fn new(disk: Arc<Disk>) -> Unit {
        let blocks = disk.bytes().len() as u64 / 512;
        Unit {
            disk,
            block: 512,
            blocks,
            mssrl: 128,
            mcl: 128,
            msrc: 127,
            metadata: 0,
            pi: 0,
            pif: 0,
            storage_bits: 0,
        }
    }
}

/// What the next Copy does instead of its work.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It does its ranges before this index, and answers the status.
    Status(u16, usize),
    /// The kernel answers an errno; the command is carried out all the same if the
    /// flag says so.
    Errno(i32, bool),
    /// It does nothing and answers success.
    Lie,
    /// The controller is reset: the command is lost, and the host behaviour too.
    Reset,
}

/// A Copy that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its destination namespace.
    pub nsid: u32,
    /// First block of its destination.
    pub sdlba: u64,
    /// Its source ranges.
    pub entries: Vec<Entry>,
    /// Number of its descriptor format.
    pub format: u8,
    /// Dword 12.
    pub cdw12: u32,
    /// Dword 14.
    pub cdw14: u32,
    /// It came by the ring.
    pub by_ring: bool,
}

/// Changes a controller's state.
pub type Hook = Box<dyn FnMut(&mut State) + Send>;

/// What the controller is and has seen.
pub struct State {
    /// Namespaces by their identifiers.
    pub units: BTreeMap<u32, Unit>,
    /// Optional NVM commands supported.
    pub oncs: u16,
    /// Copy formats supported.
    pub ocfs: u16,
    /// Copy formats that are on.
    pub cdfe: u16,
    /// The errno with which the kernel refuses Set Features.
    pub set_refused: Option<i32>,
    /// The errno with which the kernel refuses Copy.
    pub copy_refused: Option<i32>,
    /// The errno with which the kernel refuses rings.
    pub ring_refused: Option<i32>,
    /// The system has its devices; without them all commands get EAGAIN.
    pub there: bool,
    /// Rings take commands.
    pub ring: bool,
    /// The process may send any command.
    pub privileged: bool,
    /// What the next Copies do.
    pub faults: VecDeque<Fault>,
    /// Called with the state before each Copy.
    pub before_copy: Option<Hook>,
    /// Copies that came.
    pub seen: Vec<Seen>,
    /// Flushes that came.
    pub flushes: u32,
    /// Set Features that came.
    pub sets: u32,
    /// Times that a ring was entered with commands.
    pub enters: u32,
    /// The controllers that reach a namespace, where a test says so.
    pub paths: BTreeMap<u32, Paths>,
    /// What it has in common with other controllers, if it has.
    pub subsystem: Option<String>,
}

impl Default for State {
    fn default() -> State {
        State {
            units: BTreeMap::new(),
            oncs: 1 << 8,
            ocfs: 0xf,
            cdfe: 0,
            set_refused: None,
            copy_refused: None,
            ring_refused: None,
            there: true,
            ring: true,
            privileged: true,
            faults: VecDeque::new(),
            before_copy: None,
            seen: Vec::new(),
            flushes: 0,
            sets: 0,
            enters: 0,
            paths: BTreeMap::new(),
            subsystem: None,
        }
    }
}

/// A controller.
pub struct Controller(Mutex<State>);

fn status(status: u16, result: usize) -> Answer {
    Ok(Completion {
        status,
        result: result as u64,
    })
}

impl Controller {
    pub(super) fn new(state: State) -> Controller {
        Controller(Mutex::new(state))
    }

    /// Looks at, or changes, its state.
    pub fn with<R>(&self, call: impl FnOnce(&mut State) -> R) -> R {
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn admin(&self, command: &Command, data: &mut [u8]) -> Answer {
        assert_eq!(command.data_len as usize, data.len());
        self.with(|state| {
            if !state.there {
                return Err(libc::EAGAIN);
            }
            let unit = state.units.get(&command.nsid);
            match (command.opcode, command.cdw10) {
                (0x06, 0x01) => identify::controller(state, data),
                (0x06, 0x00) => identify::namespace(unit, data),
                (0x06, 0x05) => identify::nvm(unit, data),
                (0x0a, 0x16) => {
                    data.fill(0);
                    // Bits that belong to the driver.
                    (data[0], data[2]) = (1, 1);
                    data[4..6].copy_from_slice(&state.cdfe.to_le_bytes());
                }
                (0x09, 0x16) => {
                    state.sets += 1;
                    if let Some(errno) = state.set_refused {
                        return Err(errno);
                    }
                    assert_eq!((data[0], data[2]), (1, 1), "other bits have to be kept");
                    state.cdfe = u16::from_le_bytes([data[4], data[5]]);
                }
                other => panic!("admin command {other:x?}"),
            }
            status(0, 0)
        })
    }

    pub(super) fn io(&self, command: &Command, data: &[u8], by_ring: bool) -> Answer {
        assert!(command.timeout_ms >= 60_000 || command.cdw10 == 0);
        assert_eq!((command.flags, command.metadata_len), (0, 0));
        assert_eq!(command.data_len as usize, data.len());
        self.with(|state| {
            if by_ring && let Some(errno) = state.ring_refused {
                return Err(errno);
            }
            match command.opcode {
                0x00 => {
                    state.flushes += 1;
                    status(0, 0)
                }
                0x19 => state.copy(command, data, by_ring),
                other => panic!("command {other:#x}"),
            }
        })
    }
}

impl State {
    /// Namespaces 1, 2, … over these disks.
    pub fn over(disks: &[Arc<Disk>]) -> State {
        let units = (1..).zip(disks.iter().cloned().map(Unit::new)).collect();
        State {
            units,
            ..State::default()
        }
    }

    /// Changes every namespace.
    pub fn each(mut self, change: impl Fn(&mut Unit)) -> State {
        self.units.values_mut().for_each(change);
        self
    }

    fn copy(&mut self, command: &Command, data: &[u8], by_ring: bool) -> Answer {
        if !self.there {
            return Err(libc::EAGAIN);
        }
        if let Some(errno) = self.copy_refused {
            return Err(errno);
        }
        if let Some(mut before) = self.before_copy.take() {
            before(self);
            self.before_copy.get_or_insert(before);
        }
        let Some((ranges, format)) = command.copy_shape() else {
            return status(0x002 | DNR, 0);
        };
        assert_eq!(data.len(), ranges * format.entry_bytes(), "exact length");
        let entries: Vec<Entry> = format.entries(data).collect();
        let sdlba = u64::from(command.cdw11) << 32 | u64::from(command.cdw10);
        self.seen.push(Seen {
            nsid: command.nsid,
            sdlba,
            entries: entries.clone(),
            format: format.number(),
            cdw12: command.cdw12,
            cdw14: command.cdw14,
            by_ring,
        });
        let fault = self.faults.pop_front();
        match fault {
            Some(Fault::Reset) => {
                self.cdfe = 0;
                return Err(libc::EINTR);
            }
            Some(Fault::Lie) => return status(0, 0),
            Some(Fault::Errno(errno, false)) => return Err(errno),
            _ => {}
        }
        let Some(unit) = self.units.get(&command.nsid) else {
            // As QEMU answers for a namespace that was detached.
            return status(0x002 | DNR, 0);
        };
        let on = !format.names_source() || self.cdfe & format.bit() != 0;
        if self.ocfs & format.bit() == 0 || !on {
            return status(0x002 | DNR, 0);
        }
        let wide = unit.pif != 0;
        if wide != matches!(format.number(), 1 | 3) {
            return status(0x10a | DNR, 0);
        }
        let total: u64 = entries.iter().map(|entry| u64::from(entry.blocks)).sum();
        if ranges > usize::from(unit.msrc) + 1 || total > u64::from(unit.mcl) {
            return status(0x183 | DNR, 0);
        }
        let stop = match fault {
            Some(Fault::Status(_, index)) => index,
            _ => ranges,
        };
        let mut target = sdlba;
        for (index, entry) in entries.iter().enumerate().take(stop) {
            let snsid = match format.names_source() {
                true => entry.nsid,
                false => command.nsid,
            };
            let Some(source) = self.units.get(&snsid) else {
                return status(0x00b | DNR, index);
            };
            if entry.blocks > u32::from(source.mssrl) {
                return status(0x183 | DNR, index);
            }
            let blocks = u64::from(entry.blocks);
            let fits = |unit: &Unit, at: u64| at.saturating_add(blocks) <= unit.blocks;
            if !fits(source, entry.slba) || !fits(unit, target) {
                return status(0x080 | DNR, index);
            }
            let size = u64::from(unit.block);
            let bytes = source.disk.read(entry.slba * size, blocks * size);
            let bytes = bytes.expect("within the namespace");
            assert!(unit.disk.write(target * size, &bytes));
            target += blocks;
        }
        match fault {
            Some(Fault::Status(code, index)) => status(code, index),
            Some(Fault::Errno(errno, _)) => Err(errno),
            _ => status(0, 0),
        }
    }
}
