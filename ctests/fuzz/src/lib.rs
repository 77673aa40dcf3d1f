//! Fuzz targets: each takes any bytes, does what they say, and panics if
//! libxcopy broke a promise. `ctests/fuzz/run` drives them by libFuzzer, or by
//! `plain` where there is none.
//!
//! | target | what it feeds |
//! |---|---|
//! | `requests` | the C surface: requests, handles, strides, exts, in any order |
//! | `answers` | what a plugin says: its table, verdicts, results |
//! | `names` | method lists, device specs, sizes, plugin names |
//! | `token` | serialised tokens |
//! | `plan` | limits and ranges |
//! | `nvme` | what an NVMe controller answers |
//! | `scsi` | what a SCSI target answers |

pub mod answers;
pub mod input;
pub mod ledger;
pub mod names;
pub mod nvme;
pub mod plan;
mod plugin;
pub mod requests;
pub mod scsi;
#[path = "../../../bindings/cli/src/size.rs"]
#[allow(dead_code)]
mod size;
pub mod token;

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("requests", requests::run),
    ("answers", answers::run),
    ("names", names::run),
    ("token", token::run),
    ("plan", plan::run),
    ("scsi", scsi::run),
    ("nvme", nvme::run),
];
