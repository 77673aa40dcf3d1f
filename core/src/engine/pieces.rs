//! What is left of a request: remainders first, then what its cursor did not reach.

use super::queue::Queue;
use super::slot::{Remainder, Slot};
use crate::plan::Cursor;
use xcopy_abi::*;

impl Queue {
    /// Whether a request has something left to dispatch.
    pub(super) fn is_unfinished(&self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        match slot.op {
            XCOPY_OP_FLUSH => slot.cursor.position == 0,
            XCOPY_OP_TOKEN_RELEASE => self.has_pieces(slot),
            _ => slot.has_work(),
        }
    }

    fn has_pieces(&self, slot: &Slot) -> bool {
        let Some(extra) = &slot.extra else {
            return false;
        };
        extra
            .token
            .as_ref()
            .is_some_and(|t| extra.next_piece < t.content().pieces.len())
    }

    /// The next piece: remainders before the cursor.
    pub(super) fn next_piece(slot: &Slot) -> Option<(Remainder, bool)> {
        if let Some(extra) = &slot.extra
            && let Some(piece) = extra.remainders.last()
        {
            return Some((*piece, true));
        }
        (slot.cursor.position < slot.total).then_some((
            Remainder {
                start: slot.cursor,
                end: slot.total,
                tainted: false,
                host: false,
            },
            false,
        ))
    }

    /// Moves on past what a step took.
    pub(super) fn consume(slot: &mut Slot, cursor: Cursor, from_remainder: bool) {
        if from_remainder {
            let remainders = &mut slot.extra().remainders;
            if let Some(piece) = remainders.last_mut() {
                piece.start = cursor;
                if piece.start.position >= piece.end {
                    remainders.pop();
                }
            }
        } else {
            slot.cursor = cursor;
        }
    }

    /// Puts a piece that was not done among the remainders.
    pub(super) fn put_back(&mut self, index: u32, start: Cursor, end: u64, tainted: bool) {
        let extra = self.slots[index as usize].extra();
        extra.touched = extra.touched.max(if tainted { end } else { 0 });
        extra.remainders.push(Remainder {
            start,
            end,
            tainted,
            host: false,
        });
    }
}
