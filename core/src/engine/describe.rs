//! What plugins found out of a device, for a person.

use super::context::Context;
use super::devices::{Attachment, Device};
use super::route::concerns;
use crate::error::{Error, Result};
use std::ffi::c_char;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Bytes of one plugin's text at most.
const TEXT_MAX: usize = 64 << 10;
/// Bytes that most texts fit into.
const TEXT_USUAL: usize = 4 << 10;

impl Context {
    /// Lines of "plugin: key: value" by all plugins that opened the device or can
    /// open it now. May block.
    pub fn describe(&self, handle: u32) -> Result<String> {
        let device = self.device(handle)?;
        device.users.fetch_add(1, Ordering::SeqCst);
        let text = if device.is_dead() {
            Err(Error::new(libc::EBADF, "the device was closed"))
        } else {
            self.by_plugins(&device)
        };
        device.users.fetch_sub(1, Ordering::SeqCst);
        self.release_if_idle(&device);
        text
    }

    fn by_plugins(&self, device: &Arc<Device>) -> Result<String> {
        let mut all = String::new();
        for plugin in self.registry.plugins() {
            let asked = plugin.model() != XCOPY_MODEL_AFFINE && plugin.table().describe.is_some();
            if !asked || !concerns(&plugin, Some(device), None) {
                continue;
            }
            let name = plugin.name().to_owned();
            let Some(text) = text_by(&device.attach(&plugin)?) else {
                continue;
            };
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                // Writing to a String does not fail.
                let _ = writeln!(all, "{name}: {line}");
            }
        }
        Ok(all)
    }
}

fn text_by(attachment: &Attachment) -> Option<String> {
    let handle = attachment.handle.as_ref().ok()?;
    let describe = attachment.plugin.table().describe?;
    let mut room: Vec<c_char> = vec![0; TEXT_USUAL];
    loop {
        // SAFETY: the plugin's own state and handle, which is open while the
        // device is held; the room outlives the call.
        let answer = unsafe {
            describe(
                attachment.plugin.state(),
                handle.0,
                room.as_mut_ptr(),
                room.len(),
            )
        };
        let whole = usize::try_from(answer).ok()?;
        if whole < room.len() || room.len() >= TEXT_MAX {
            break;
        }
        room.resize((whole + 1).min(TEXT_MAX), 0);
    }
    let bytes = room.iter().take_while(|c| **c != 0).map(|c| *c as u8);
    Some(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
}
