//! SCSI copy offload by tokens: POPULATE TOKEN makes a token for blocks of one
//! logical unit, WRITE USING TOKEN writes what it stands for to another one, and
//! the data stays in the array (SPC-4 5.17.6, SBC-4 4.28; "ODX" elsewhere).
//!
//! Method `odx` copies that way, and tokens are operations of their own: one
//! process, or host, can name the data and another one write it.
//!
//! **A token is a bearer secret**: who has it can read the data. It is wiped from
//! memory after use, and never logged; list identifiers are random, since who
//! guesses one could ask the device for the token of it.
//!
//! **What a token shows** of a source that is written to between the two halves
//! depends on its ROD TYPE, which is reported with it: access upon reference
//! shows the source as it is when the token is written from, a point in time copy
//! the source as it was. The type is the device's choice unless the caller asks
//! for one. A copy by method `odx` promises no more than any other copy: bytes
//! that change meanwhile are copied in one state or the other.
//!
//! | module | subject |
//! |---|---|
//! | device | what is open |
//! | verdict | what a pair can do |
//! | execute | commands of the core |
//! | failure | faults as the core hears of them |
//! | machine | operations and copies, without devices and clocks |
//! | wire | tokens and parameter lists |

mod device;
mod execute;
mod failure;
mod machine;
mod verdict;
pub mod wire;

use device::Device;
use std::ffi::CStr;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{
    Blocking, Command, Description, Failure, Host, Method, Opened, Outcome, Plugin, Verdict,
};

/// The entry point.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { xcopy_plugin_sdk::init_blocking::<Odx>(host) }
}

/// The plugin. What it knows is in its devices.
struct Odx {
    host: Host,
}

impl Plugin for Odx {
    const NAME: &'static CStr = c"odx";
    const VERSION: &'static CStr = c"0.1.0";
    const DESCRIPTION: &'static CStr =
        c"SCSI copy by tokens (POPULATE TOKEN, WRITE USING TOKEN), and the tokens themselves";
    const FLAGS: u32 = XCOPY_PLUGIN_KERNEL | XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 = XCOPY_CAN_COPY
        | XCOPY_CAN_ZERO
        | XCOPY_CAN_FLUSH
        | XCOPY_CAN_READ
        | XCOPY_CAN_WRITE
        | XCOPY_CAN_TOKEN;
    const METHODS: &'static [Method] = &[Method::new(c"odx").offloads().bypasses_cache()];
    const MAX_RANGES: u32 = wire::RANGES_MAX as u32;

    type Device = Device;

    fn start(host: Host) -> Result<Odx, Failure> {
        Ok(Odx { host })
    }

    fn open(&self, desc: &Description<'_>) -> Result<Opened<Device>, Failure> {
        device::open(desc)
    }

    fn probe(
        &self,
        _method: usize,
        src: Option<&Device>,
        dst: Option<&Device>,
    ) -> Result<Verdict, Failure> {
        Ok(verdict::verdict(src, dst))
    }

    fn describe(&self, device: &Device) -> Option<String> {
        Some(device.describe())
    }
}

impl Blocking for Odx {
    fn execute(&self, command: &mut Command<'_, Device>) -> Outcome {
        execute::execute(&self.host, command)
    }
}
