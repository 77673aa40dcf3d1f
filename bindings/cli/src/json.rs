//! The shapes that scripts read. Numbers are whole; names are the contract.

use serde::Serialize;
use std::collections::BTreeMap;

/// What `xcopy copy --json` prints.
#[derive(Debug, Serialize)]
pub struct Copy {
    /// Bytes known to be copied.
    pub bytes: u64,
    /// Seconds that it took, to the millisecond.
    pub seconds: f64,
    /// Who moved them; the bytes sum to `bytes`.
    pub methods: Vec<Share>,
    /// Better methods that were left or passed over, best first.
    pub fallbacks: Vec<Fallback>,
    /// Null when all is copied.
    pub error: Option<Error>,
}

/// What one method did.
#[derive(Debug, Serialize)]
pub struct Share {
    /// Name of the method.
    pub name: String,
    /// Plugin that serves it.
    pub plugin: String,
    /// True if its bytes did not pass through the host.
    pub offloaded: bool,
    /// Bytes that it copied.
    pub bytes: u64,
    /// Commands that it was given.
    pub commands: u64,
}

/// A method that was left or passed over.
#[derive(Debug, Serialize)]
pub struct Fallback {
    /// Name of the method.
    pub method: String,
    /// Why.
    pub reason: String,
}

/// Why a copy is not complete.
#[derive(Debug, Serialize)]
pub struct Error {
    /// A positive errno.
    pub errno: i32,
    /// What went wrong; what to do next.
    pub message: String,
    /// The error as the device gave it, or null.
    pub detail: Option<String>,
    /// Longest prefix known to be copied.
    pub bytes_done: u64,
}

/// What `xcopy probe --json` prints.
#[derive(Debug, Serialize)]
pub struct Probe {
    /// Best first.
    pub methods: Vec<Verdict>,
}

/// One method's verdict on a pair.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Name of the method.
    pub name: String,
    /// Plugin that serves it.
    pub plugin: String,
    /// True if the pair can use it.
    pub usable: bool,
    /// Why not, or null.
    pub reason: Option<String>,
    /// The same in the plugin's words, or null if it said no more.
    pub text: Option<String>,
    /// What it can do for the pair.
    pub limits: Limits,
}

/// In bytes; 0 in a maximum is "not stated".
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Limits {
    pub preferred_bytes: u64,
    pub max_bytes: u64,
    pub max_range_bytes: u64,
    pub src_granularity: u32,
    pub dst_granularity: u32,
    pub length_granularity: u32,
    pub max_ranges: u32,
    pub max_concurrent: u32,
    pub contiguous_dst: bool,
}

/// What `xcopy info --json` prints.
#[derive(Debug, Serialize)]
pub struct Info {
    /// What the device was opened with.
    pub name: String,
    /// file, disk, partition, stacked, char or native.
    pub kind: &'static str,
    /// Bytes, or null when not known.
    pub size: Option<u64>,
    /// Bytes of a logical block.
    pub block_size: u32,
    /// Bytes that aligned copies should use.
    pub physical_block_size: u32,
    /// `major:minor` of the node, or of the file's file system.
    pub device: String,
    /// `major:minor` of the whole disk, or null.
    pub disk: Option<String>,
    /// First byte of the device on its disk.
    pub disk_offset: u64,
    /// What plugins found out.
    pub plugins: Findings,
}

/// Plugin, key, and the values of the key.
pub type Findings = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What `xcopy token info --json` prints.
#[derive(Debug, Serialize)]
pub struct Token {
    /// Bytes that it stands for.
    pub bytes: u64,
    /// `HOST:DEVICE` that it was made on.
    pub origin: String,
    /// First byte on that device.
    pub origin_offset: u64,
    /// Name of the method that made it, or null if no plugin here serves it.
    pub method: Option<String>,
    /// Plugin that made it.
    pub plugin: String,
    /// Its type: a ROD type of SPC-4, or the plugin's own.
    #[serde(rename = "type")]
    pub kind: u32,
    /// source, past, past_unchanged, zeroes or unknown.
    pub shows: &'static str,
    /// Seconds since 1970 when it was made, or null.
    pub created: Option<u64>,
    /// Seconds that it lives without being used, or null.
    pub lifetime: Option<u32>,
}

/// What `xcopy plugins --json` prints.
#[derive(Debug, Serialize)]
pub struct Plugins {
    /// In the order of registration.
    pub plugins: Vec<Plugin>,
}

/// One plugin.
#[derive(Debug, Serialize)]
pub struct Plugin {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    pub description: String,
    /// File it was loaded from, or null for a built-in one.
    pub path: Option<String>,
    /// Methods that it serves.
    pub methods: Vec<String>,
    /// polled, threaded, blocking or affine.
    pub model: &'static str,
    /// Interface version that it was built with.
    pub abi: String,
}

/// What `xcopy plugins --check --json` prints.
#[derive(Debug, Default, Serialize)]
pub struct Check {
    /// The file that was checked.
    pub file: String,
    /// What it says of itself, or null if it could not be asked.
    pub plugin: Option<CheckPlugin>,
    /// True if there is no fault.
    pub passed: bool,
    /// What was tried, in order.
    pub checks: Vec<CheckStep>,
    /// What is wrong.
    pub faults: Vec<CheckFault>,
}

/// The plugin under check.
#[derive(Debug, Default, Serialize)]
pub struct CheckPlugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// polled, threaded, blocking or affine.
    pub model: String,
    /// Interface version that it was built with.
    pub abi: String,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct CheckStep {
    /// Its name.
    pub name: String,
    /// passed, failed or skipped.
    pub result: &'static str,
    /// What was seen, or why it does not apply.
    pub text: String,
}

/// One breach of the contract.
#[derive(Debug, Serialize)]
pub struct CheckFault {
    /// Its name: one of a fixed list.
    pub fault: String,
    /// The check in which it showed.
    pub check: String,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
}
