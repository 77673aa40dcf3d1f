//! A ring whose commands are carried out when it is entered, and seen later.

use super::SimPort;
use super::controller::Controller;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use xcopy_plugin_nvme::system::{Answer, Ring};
use xcopy_plugin_nvme::wire::Command;

/// See the module.
pub struct SimRing {
    queued: Vec<(Arc<Controller>, Command, u64)>,
    ended: VecDeque<(u64, Answer)>,
    fd: EventFd,
}

impl SimRing {
    pub(super) fn new() -> Result<SimRing, String> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let fd = EventFd::from_value_and_flags(0, flags).map_err(|e| e.to_string())?;
        Ok(SimRing {
            queued: Vec::new(),
            ended: VecDeque::new(),
            fd,
        })
    }
}

impl Ring<SimPort> for SimRing {
    fn push(&mut self, port: &SimPort, command: Command, token: u64) -> bool {
        self.queued.push((port.controller.clone(), command, token));
        true
    }

    fn enter(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.queued);
        if let Some((controller, ..)) = batch.first() {
            controller.with(|state| state.enters += 1);
        }
        for (controller, command, token) in batch {
            let data = match command.data_len {
                0 => &[][..],
                // SAFETY: address and length of the plugin's buffer, which stays
                // as it is until the token comes back.
                length => unsafe {
                    std::slice::from_raw_parts(command.addr as *const u8, length as usize)
                },
            };
            let answer = controller.io(&command, data, true);
            self.ended.push_back((token, answer));
        }
        let _ = self.fd.write(1);
    }

    fn next(&mut self) -> Option<(u64, Answer)> {
        let ended = self.ended.pop_front();
        if self.ended.is_empty() {
            let _ = self.fd.read();
        }
        ended
    }

    fn is_ready(&mut self) -> bool {
        !self.ended.is_empty()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn abandon(self) {}
}
