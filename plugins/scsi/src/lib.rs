//! Copies between SCSI disks with EXTENDED COPY: the target moves the blocks,
//! and the host only says which.
//!
//! A command goes to the destination's logical unit, or to the source's where only
//! that one has a copy manager. LID1 is used wherever the target has it, because
//! all that copy at all know it; LID4 where VPD page 8Fh lists only that. No
//! status is ever held: commands go without list identifier (usage 11b), or
//! with one that is discarded at their end (10b) where the target wants one.
//!
//! Commands go by SG_IO, each from a thread of the core's pool. A kernel whose bsg
//! nodes take commands by io_uring could do without the threads; that way is not
//! taken yet. The target's stated concurrency holds for a destination and all queues
//! of a context; several contexts and processes together may ask more of it, whose
//! answer (BUSY, TASK SET FULL) has the core ask less.
//!
//! | module | subject |
//! |---|---|
//! | limits | what a copy manager takes, for a pair; pure |
//! | segments | ranges in bytes as segments in blocks; pure |
//! | pair | how a pair is copied: manager, form, names |
//! | copy | one command, and what follows its failure |
//! | probe | the verdict on a pair |

mod copy;
mod limits;
mod pair;
mod probe;
mod segments;
#[cfg(test)]
mod tests;

use pair::{Pair, Pairs};
use std::ffi::CStr;
use std::sync::Arc;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{
    Blocking, Command, Description, Done, Failure, Host, Level, Method, Opened, Operation, Outcome,
    Plugin, Verdict, init_blocking,
};
use xcopy_scsi_protocol::{Lun, open};

/// One context's state.
pub struct Scsi {
    host: Host,
    pairs: Arc<Pairs>,
}

/// An open logical unit.
pub struct Disk {
    lun: Lun,
    /// Names it in `Pairs`.
    id: u64,
    pairs: Arc<Pairs>,
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.pairs.forget(self.id);
    }
}

impl Plugin for Scsi {
    const NAME: &'static CStr = c"scsi";
    const VERSION: &'static CStr = c"0.1.0";
    const DESCRIPTION: &'static CStr = c"SCSI EXTENDED COPY between disks of one array";
    const FLAGS: u32 = XCOPY_PLUGIN_KERNEL | XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 =
        XCOPY_CAN_COPY | XCOPY_CAN_READ | XCOPY_CAN_WRITE | XCOPY_CAN_ZERO | XCOPY_CAN_FLUSH;
    const METHODS: &'static [Method] = &[Method::new(c"scsi_xcopy").offloads().bypasses_cache()];
    const MAX_RANGES: u32 = limits::SEGMENTS_MAX;
    type Device = Disk;

    fn start(host: Host) -> Result<Scsi, Failure> {
        Ok(Scsi {
            host,
            pairs: Arc::default(),
        })
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Disk>, Failure> {
        let opened = open(device)?;
        Ok(opened.map(|lun| Disk {
            lun,
            id: self.pairs.new_id(),
            pairs: self.pairs.clone(),
        }))
    }

    fn probe(
        &self,
        _method: usize,
        src: Option<&Disk>,
        dst: Option<&Disk>,
    ) -> Result<Verdict, Failure> {
        let (Some(src), Some(dst)) = (src, dst) else {
            return Ok(Verdict::refused(
                XCOPY_REASON_NOT_SUPPORTED,
                "EXTENDED COPY makes no tokens",
            ));
        };
        match probe::judge(&src.lun, &dst.lun) {
            Ok(pair) => {
                let verdict = Verdict::usable(pair.limits.for_core());
                self.pairs.keep((src.id, dst.id), Arc::new(pair));
                Ok(verdict)
            }
            Err(refusal) => Ok(refusal.verdict()),
        }
    }

    fn describe(&self, device: &Disk) -> Option<String> {
        Some(device.lun.describe())
    }
}

impl Scsi {
    /// How the pair is copied; judged now if it was not yet.
    fn pair(&self, src: &Disk, dst: &Disk) -> Result<Arc<Pair>, Failure> {
        let key = (src.id, dst.id);
        if let Some(pair) = self.pairs.find(key) {
            return Ok(pair);
        }
        let pair = probe::judge(&src.lun, &dst.lun).map_err(|refusal| refusal.failure())?;
        let pair = Arc::new(pair);
        self.pairs.keep(key, pair.clone());
        Ok(pair)
    }
}

impl Blocking for Scsi {
    fn execute(&self, command: &mut Command<'_, Disk>) -> Outcome {
        match command.operation() {
            Operation::Copy { src, dst, ranges } => {
                let pair = self.pair(src, dst)?;
                let log = |text: &str| self.host.log(Level::Info, text);
                copy::execute(&log, &pair, &src.lun, &dst.lun, ranges)?;
            }
            Operation::Read {
                src,
                offset,
                buffer,
            } => src.lun.read(offset, buffer)?,
            Operation::Write { dst, offset, data } => dst.lun.write(offset, data)?,
            Operation::Zero { dst, ranges } => {
                for range in ranges {
                    dst.lun.zero(range.dst_offset, range.length)?;
                }
            }
            Operation::Flush { dst } => dst.lun.flush()?,
            _ => return Err(command.unknown()),
        }
        Ok(Done::new())
    }
}

/// The plugin's entry, for programs that link it statically.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { init_blocking::<Scsi>(host) }
}
