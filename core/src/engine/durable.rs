//! Making what was written survive power loss: FLUSH, and the last command of a
//! DURABLE request.

use super::devices::PluginHandle;
use super::dispatch::Tried;
use super::orders::Order;
use super::queue::Queue;
use super::route::Endpoint;
use super::shared::{Answer, Purpose};
use crate::plan::{Kind, Step};
use xcopy_abi::*;

impl Queue {
    pub(super) fn flush_next(&mut self, index: u32) -> Tried {
        let pair = self.slots[index as usize].pair;
        let tried = self.send_flush(index, pair);
        if matches!(tried, Tried::Sent) {
            self.slots[index as usize].cursor.position = 1;
        }
        tried
    }

    /// Makes the destination durable: an fsync on the pool or a FLUSH.
    pub(super) fn send_flush(&mut self, index: u32, pair: u32) -> Tried {
        if self.free_cells.is_empty() {
            return Tried::Blocked;
        }
        let pair = &self.pairs[pair as usize];
        let (end, plugin) = (pair.dst_end.clone(), pair.end_plugins.1);
        let start = self.slots[index as usize].cursor;
        let step = Step {
            kind: Kind::Method,
            start,
            ranges: 0,
            bytes: 0,
        };
        match &end {
            Endpoint::Kernel { fd, .. } => {
                let fd = *fd;
                let work = move |_: &std::sync::atomic::AtomicBool| {
                    let mut answer = Answer::default();
                    if let Err(error) = crate::device::durable(fd) {
                        answer.status = -error.errno;
                        answer.action = XCOPY_ACTION_FATAL;
                        answer.flags = XCOPY_RESULT_ERR_ON_WRITE;
                        answer.detail =
                            super::reasons::errno_detail(XCOPY_METHOD_NONE, error.errno);
                    }
                    answer
                };
                self.send_leg_to_pool(index, usize::MAX, step, Purpose::Flush, work);
            }
            Endpoint::Plugin {
                plugin: owner,
                handle,
                ..
            } if owner.table().commands & XCOPY_CAN_FLUSH != 0 => {
                let order = Order {
                    op: XCOPY_CMD_FLUSH,
                    purpose: Purpose::Flush,
                    plugin,
                    method: u32::MAX,
                    id: XCOPY_METHOD_NONE,
                    src: PluginHandle(std::ptr::null_mut()),
                    dst: *handle,
                    ranges: std::ptr::null(),
                    nranges: 0,
                    bytes: 0,
                    start,
                    buffer: std::ptr::null_mut(),
                };
                self.order(index, order);
            }
            // Its commands were durable one by one (XCOPY_CMD_DURABLE).
            Endpoint::Plugin { .. } => {}
            Endpoint::None(reason, _) => {
                let reason = *reason;
                self.fail(index, -libc::ENOTSUP, reason, 0);
                return Tried::Failed;
            }
        }
        Tried::Sent
    }

    /// The last command of a DURABLE request; false if none is free now.
    pub(super) fn make_durable(&mut self, index: u32) -> bool {
        let pair = self.slots[index as usize].pair;
        let before = self.slots[index as usize].in_flight;
        match self.send_flush(index, pair) {
            Tried::Blocked => false,
            _ => {
                if self.slots[index as usize].in_flight == before {
                    self.complete(index);
                }
                true
            }
        }
    }
}
