//! What the plugin needs of the system below: a way to send commands, and a ring
//! for many of them. Linux has it in `kernel`; tests bring controllers of their
//! own.

use crate::paths::Paths;
use crate::wire::Command;
use std::os::fd::BorrowedFd;
use xcopy_plugin_sdk::{Description, Failure};

/// How a command ended at the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// 0 for success, else status code, type and flags: 15 bits.
    pub status: u16,
    /// Command specific; of a Copy that failed, the first range not copied.
    pub result: u64,
}

/// The end of a command: by the controller, or a positive errno of the kernel,
/// which refused or lost it.
pub type Answer = Result<Completion, i32>;

/// The way to one namespace. Its calls block, any thread.
pub trait Port: Send + Sync + 'static {
    /// An admin command with its data, read or written.
    fn admin(&self, command: Command, data: &mut [u8]) -> Answer;
    /// A command for the namespace. `command` states address and length of its
    /// data.
    fn io(&self, command: Command, data: &[u8]) -> Answer;
    /// Whether the system still has the device.
    fn is_there(&self) -> bool;
    /// Whether a ring takes commands for it.
    fn has_ring(&self) -> bool;
    /// Whether the kernel would let this process send a command to the namespace,
    /// or an errno. Nothing is sent.
    fn would_send(&self, command: Command) -> Result<(), i32>;
    /// What is in the way of commands, in words; empty if nothing is known.
    fn hindrance(&self) -> String;
    /// The controllers that reach the namespace now.
    fn paths(&self) -> Paths;
}

/// A namespace that was found.
pub struct Link<P> {
    /// The way to it.
    pub port: P,
    /// Its identifier.
    pub nsid: u32,
    /// Names the controller, or the subsystem of a multipath namespace: namespaces
    /// with the same name can be copied between, if the controller can.
    pub controller: String,
    /// Names the namespace: links with the same name lead to the same one.
    pub name: String,
    /// First byte of the device on the namespace.
    pub offset: u64,
    /// Bytes of the device.
    pub size: u64,
    /// Bytes of a logical block, as the kernel has it.
    pub block: u32,
    /// A lost path is followed by a reset that ends what was under way (PCIe).
    pub local: bool,
    /// The destination may be written by it.
    pub writable: bool,
}

/// Commands handed over together and ended later, on one thread.
pub trait Ring<P>: Send + 'static {
    /// Queues a command; false if there is no room. `command` states address and
    /// length of its data, which stay as they are until `token` comes back.
    fn push(&mut self, port: &P, command: Command, token: u64) -> bool;
    /// Hands on what was queued and lets the kernel finish what it can: one call
    /// of the kernel, or none.
    fn enter(&mut self);
    /// The next command that ended. No call of the kernel.
    fn next(&mut self) -> Option<(u64, Answer)>;
    /// Whether `enter` or `next` has something to do now. No call of the kernel.
    fn is_ready(&mut self) -> bool;
    /// Readable while something ended.
    fn fd(&self) -> BorrowedFd<'_>;
    /// The kernel still works on its commands: it must not be freed.
    fn abandon(self);
}

/// A kind of system.
pub trait System: Send + Sync + 'static {
    /// The plugin's name with it.
    const NAME: &'static std::ffi::CStr;
    /// XCOPY_PLUGIN_ flags: which devices it finds.
    const FLAGS: u32;
    /// Its ports.
    type Port: Port;
    /// Its rings.
    type Ring: Ring<Self::Port>;

    /// The namespace behind a device of the core's. A refusal says what is
    /// missing.
    fn connect(device: &Description<'_>) -> Result<Link<Self::Port>, Failure>;

    /// A ring for so many commands at once, or why there is none.
    fn ring(entries: u32, pinned: bool) -> Result<Self::Ring, String>;
}
