//! Free commands of the straight way: a cell and a slot together, made ready for one
//! plugin, so that a request finds all that it needs in one step.

use super::cell::{CommandCell, Errand, Purpose};
use super::host_queue::HostQueue;
use super::queue::Queue;
use crate::plan::Cursor;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl Queue {
    /// Puts a free cell and a free slot together for a plugin, if there are any.
    #[cold]
    pub(super) fn join_twins(&mut self, host: &HostQueue) {
        if self.free_slots.is_empty() || self.free_cells.is_empty() {
            // Those of other plugins.
            self.part_twins();
        }
        if self.free_slots.is_empty() || self.free_cells.is_empty() {
            return;
        }
        let (Some(slot), Some(index)) = (self.free_slots.pop(), self.free_cells.pop()) else {
            return;
        };
        let reach = &self.shared.straight_reach;
        reach.store(
            reach.load(Ordering::Relaxed).max(slot + 1),
            Ordering::Relaxed,
        );
        let cell = &self.shared.cells[index as usize];
        cell.set_errand(Errand {
            slot,
            plugin: host.plugin,
            method: 0,
            purpose: Purpose::Method,
            ranges: 1,
            start: Cursor::default(),
        });
        cell.slot.set(slot);
        cell.face.set(&self.shared.faces[slot as usize]);
        // SAFETY: the cell is free, so only this thread, its owner's, touches it.
        unsafe {
            *cell.cmd.get() = xcopy_cmd {
                private_data: self.plugins[host.plugin as usize].private_of(index),
                ..CommandCell::no_command()
            };
        }
        host.put_twin(cell);
    }

    /// Gives the other way the free cells and slots of this one.
    #[inline]
    pub(super) fn part_twins(&mut self) {
        for host in self.shared.straight().hosts() {
            let mut twin = host.take_twins();
            // SAFETY: the owner's list of cells of this queue.
            while let Some(cell) = unsafe { twin.as_ref() } {
                self.free_slots.push(cell.slot.get());
                self.free_cells.push(cell.index());
                twin = cell.next.get();
            }
        }
    }

    /// Whether there are any such.
    pub(super) fn has_twins(&self) -> bool {
        let mut hosts = self.shared.straight().hosts();
        hosts.any(|host| !host.twin().is_null())
    }
}
