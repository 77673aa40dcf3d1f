//! Exclusive use of destination disks, once per process.
//!
//! A second O_EXCL open of a disk in one process is refused like a foreign
//! one, so the process holds one claim per device and counts its handles.

use super::identity::BlockNode;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Number = (u32, u32);

struct Entry {
    whole: Number,
    handles: u64,
    /// `None` if only forced handles are open and the claim could not be had.
    held: Option<OwnedFd>,
}

static CLAIMS: Mutex<BTreeMap<Number, Entry>> = Mutex::new(BTreeMap::new());

fn claims() -> MutexGuard<'static, BTreeMap<Number, Entry>> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle's share of a claim, given back on drop.
#[derive(Debug)]
pub(super) struct Claim(Number);

impl Claim {
    /// Takes a share of the claim on `node`, or the claim itself by
    /// `open_exclusive`. With `force` a claim that cannot be had is done without.
    pub fn take(
        node: &BlockNode,
        force: bool,
        open_exclusive: impl FnOnce() -> std::io::Result<OwnedFd>,
    ) -> Result<Claim> {
        let mut claims = claims();
        // The claim on a whole disk covers its partitions, in the kernel too.
        let held = [node.dev, node.whole]
            .into_iter()
            .find(|dev| claims.get(dev).is_some_and(|entry| entry.held.is_some()));
        let shared = held.or(force.then_some(node.dev));
        if let Some(dev) = shared
            && let Some(entry) = claims.get_mut(&dev)
        {
            entry.handles += 1;
            return Ok(Claim(dev));
        }
        let held = match open_exclusive() {
            Ok(fd) => Some(fd),
            Err(_) if force => None,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let own = !node.partition
                    && claims.iter().any(|(dev, entry)| {
                        *dev != node.dev && entry.whole == node.dev && entry.held.is_some()
                    });
                return Err(busy(node, own));
            }
            Err(error) => {
                return Err(Error::new(
                    error.raw_os_error().unwrap_or(libc::EIO),
                    format!(
                        "{} cannot be claimed (O_EXCL): {error}; let this user open it for \
                         writing, pass XCOPY_OPEN_OWNED if the claim is yours, or \
                         XCOPY_OPEN_FORCE to write anyway",
                        node.name
                    ),
                ));
            }
        };
        let entry = claims.entry(node.dev).or_insert(Entry {
            whole: node.whole,
            handles: 0,
            held: None,
        });
        entry.handles += 1;
        entry.held = held;
        Ok(Claim(node.dev))
    }
}

fn busy(node: &BlockNode, own: bool) -> Error {
    let name = &node.name;
    Error::new(
        libc::EBUSY,
        if own {
            format!(
                "a partition of {name} is open for writing in this process; close it first, \
                 or open {name} before its partitions"
            )
        } else {
            format!(
                "{name} is claimed by another process or by the kernel; stop that user, pass \
                 XCOPY_OPEN_OWNED if the claim is yours, or XCOPY_OPEN_FORCE to write anyway"
            )
        },
    )
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = claims();
        if let Some(entry) = claims.get_mut(&self.0) {
            entry.handles -= 1;
            if entry.handles == 0 {
                claims.remove(&self.0);
            }
        }
    }
}
