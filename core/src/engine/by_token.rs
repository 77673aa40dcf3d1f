//! The operations on tokens.

use super::dispatch::{ONE, Tried, is_allowed};
use super::orders::Order;
use super::queue::Queue;
use super::reasons;
use super::shared::{Answer, Errand, NO_PLUGIN, Purpose, add};
use super::slot::Slot;
use super::tokens::{Piece, Secret, wipe};
use crate::plan::{Cursor, Kind, next_command};
use xcopy_abi::*;

impl Queue {
    pub(super) fn token_next(&mut self, index: u32) -> Tried {
        if self.free_cells.is_empty() || self.is_paused(index) {
            return Tried::Blocked;
        }
        let op = self.slots[index as usize].op;
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let maker = slot
            .extra
            .as_ref()
            .and_then(|e| e.token.as_ref())
            .map(|token| {
                let content = token.content();
                (content.method, content.filled)
            });
        let chosen = pair.methods.iter().position(|m| {
            is_allowed(slot, m)
                && m.rests.is_none()
                && m.plugin != NO_PLUGIN
                && self.plugins[m.plugin as usize].plugin.table().commands & XCOPY_CAN_TOKEN != 0
                && (op == XCOPY_OP_TOKEN_CREATE || maker == Some((m.id, true)))
        });
        let Some(chosen) = chosen else {
            let reason = self.why_none(index);
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        };
        let method = &pair.methods[chosen];
        if method.in_flight >= method.adapt.depth() {
            return Tried::Blocked;
        }
        if op == XCOPY_OP_TOKEN_RELEASE {
            return self.release_next(index, chosen);
        }
        if let Some(blocked) = self.order_cache(index, chosen) {
            return blocked;
        }
        self.token_piece(index, chosen)
    }

    /// One token of the device, made or written.
    pub(super) fn token_piece(&mut self, index: u32, chosen: usize) -> Tried {
        let slot = &mut self.slots[index as usize];
        let Some((piece, from_remainder)) = Self::next_piece(slot) else {
            return Tried::Blocked;
        };
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        let creates = slot.op == XCOPY_OP_TOKEN_CREATE;
        let mut end = piece.end;
        if !creates {
            // A command writes from one of the token's pieces.
            let at = slot.range.src_offset + piece.start.position;
            let token = slot.extra.as_ref().and_then(|e| e.token.clone());
            let content = token.as_ref().map(|t| t.content());
            let found = content.as_ref().and_then(|content| {
                content
                    .pieces
                    .iter()
                    .find(|p| at >= p.position && at - p.position < p.length)
            });
            let Some(found) = found else {
                drop(content);
                self.fail(index, -libc::ESTALE, XCOPY_REASON_TOKEN, 0);
                return Tried::Failed;
            };
            end = end.min(piece.start.position + (found.position + found.length - at));
        }
        // As few tokens as can be, each as large as the device makes it, and written
        // as it is: parts of one may not be to be had (blocks of two sizes).
        let chunk = method.adapt.most();
        let mut out = [ONE];
        let mut cursor = piece.start;
        let limits = xcopy_limits {
            max_ranges: 1,
            src_granularity: 0,
            ..method.limits
        };
        let (source, limits) = (slot.source(), if creates { method.limits } else { limits });
        let step = next_command(&source, &mut cursor, end, &limits, chunk, &mut out);
        let Some(step) = step else {
            return Tried::Blocked;
        };
        if let Kind::Host(reason) = step.kind {
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        }
        Self::consume(slot, cursor, from_remainder);
        if !creates {
            slot.untouched = slot.untouched.max(step.start.position + step.bytes);
            let at = slot.range.src_offset + step.start.position;
            out[0].src_offset = at - self.piece_start(index, at);
        }
        let slot = &self.slots[index as usize];
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        method.in_flight += 1;
        let (plugin, id, src, dst) = (method.plugin, method.id, method.src, method.dst);
        let cell = self.free_cells[self.free_cells.len() - 1];
        let range = self.shared.cells[cell as usize].range.get();
        // SAFETY: the cell is free, so only this thread touches its range.
        unsafe { *range = out[0] };
        let mut buffer = std::ptr::null_mut();
        if creates {
            let taken = self.context.buffers.try_take(TOKEN_ROOM);
            let mut room = match taken {
                Ok(room) => room,
                Err(short) => {
                    let slot = &self.slots[index as usize];
                    self.pairs[slot.pair as usize].methods[chosen].in_flight -= 1;
                    self.put_back(index, step.start, step.start.position + step.bytes, false);
                    return self.no_memory(index, short);
                }
            };
            buffer = room.as_mut_ptr();
            self.buffers[cell as usize] = Some(room);
        }
        let op = if creates {
            XCOPY_CMD_TOKEN_CREATE
        } else {
            XCOPY_CMD_TOKEN_WRITE
        };
        let order = Order {
            op,
            purpose: Purpose::Method,
            plugin,
            method: chosen as u32,
            id,
            src,
            dst,
            ranges: range,
            nranges: 1,
            bytes: step.bytes,
            start: step.start,
            buffer: buffer.cast(),
        };
        self.order(index, order);
        Tried::Sent
    }

    pub(super) fn piece_start(&self, index: u32, at: u64) -> u64 {
        let slot = &self.slots[index as usize];
        let Some(token) = slot.extra.as_ref().and_then(|e| e.token.as_ref()) else {
            return 0;
        };
        let content = token.content();
        content
            .pieces
            .iter()
            .find(|p| at >= p.position && at - p.position < p.length)
            .map_or(0, |p| p.position)
    }

    pub(super) fn release_next(&mut self, index: u32, chosen: usize) -> Tried {
        let slot = &mut self.slots[index as usize];
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        method.in_flight += 1;
        let (plugin, id, src, dst) = (method.plugin, method.id, method.src, method.dst);
        let extra = slot.extra();
        let piece = extra.next_piece;
        extra.next_piece += 1;
        let start = Cursor {
            index: piece as u64,
            offset: 0,
            position: 0,
        };
        let order = Order {
            op: XCOPY_CMD_TOKEN_RELEASE,
            purpose: Purpose::Method,
            plugin,
            method: chosen as u32,
            id,
            src,
            dst,
            ranges: std::ptr::null(),
            nranges: 0,
            bytes: 0,
            start,
            buffer: std::ptr::null_mut(),
        };
        self.order(index, order);
        Tried::Sent
    }

    /// The token fields of a command.
    pub(super) fn token_words(&self, slot: &Slot, order: &Order) -> TokenWords {
        let none = TokenWords {
            at: std::ptr::null_mut(),
            size: 0,
            kind: 0,
            lifetime_s: 0,
        };
        match order.op {
            XCOPY_CMD_TOKEN_CREATE => {
                // SAFETY: NULL, or the caller's struct, valid until the completion.
                let ext = unsafe { slot.ext.as_ref() };
                TokenWords {
                    at: order.buffer.cast(),
                    size: TOKEN_ROOM as u32,
                    kind: ext.map_or(0, |e| e.token_type),
                    lifetime_s: ext.map_or(0, |e| e.token_lifetime_s),
                }
            }
            XCOPY_CMD_TOKEN_WRITE | XCOPY_CMD_TOKEN_RELEASE => {
                let Some(token) = slot.extra.as_ref().and_then(|e| e.token.as_ref()) else {
                    return none;
                };
                let content = token.content();
                let at = slot.range.src_offset + order.start.position;
                let piece = if order.op == XCOPY_CMD_TOKEN_WRITE {
                    content
                        .pieces
                        .iter()
                        .find(|p| at >= p.position && at - p.position < p.length)
                } else {
                    content.pieces.get(order.start.index as usize)
                };
                // The content cannot change while `users` is above 0, and its
                // memory stays where it is, so the pointer outlives the guard.
                piece.map_or(none, |p| TokenWords {
                    at: p.secret.bytes().as_ptr().cast_mut(),
                    size: p.secret.bytes().len() as u32,
                    kind: content.token_type,
                    lifetime_s: content.lifetime_s,
                })
            }
            _ => none,
        }
    }

    /// Keeps a device's token until all of the range has one.
    pub(super) fn keep_token(
        &mut self,
        index: u32,
        cell: u32,
        errand: &Errand,
        answer: &Answer,
        bytes: u64,
    ) {
        let room = self.buffers[cell as usize].take();
        let slot = &mut self.slots[index as usize];
        let size = answer.token_size as usize;
        let Some(mut room) = room.filter(|room| size > 0 && size <= room.len()) else {
            add(&self.shared.stats.plugin_faults, 1);
            let detail = reasons::fault_detail(slot.method, XCOPY_FAULT_SHORT);
            return self.fail(index, -libc::EIO, XCOPY_REASON_PLUGIN_FAULT, detail);
        };
        let secret = Secret::new(room[..size].to_vec());
        wipe(&mut room[..size]);
        let extra = slot.extra();
        extra.pieces.push(Piece {
            position: errand.start.position,
            length: bytes,
            secret,
        });
        if let Some(token) = &extra.token {
            let mut content = token.content();
            content.token_type = answer.token_type;
            // The shortest of its parts is how long it lives.
            let told = answer.token_lifetime_s;
            if told != 0 && (content.lifetime_s == 0 || told < content.lifetime_s) {
                content.lifetime_s = told;
            }
        }
    }

    pub(super) fn fill_token(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let (total, method, pair) = (slot.total, slot.method, slot.pair);
        // SAFETY: NULL, or the caller's struct, valid until the completion.
        let wanted_s = unsafe { slot.ext.as_ref() }.map_or(0, |e| e.token_lifetime_s);
        let origin_offset = slot.range.src_offset;
        let device = self.pairs[pair as usize].src.clone();
        let plugin = self.pairs[pair as usize]
            .methods
            .iter()
            .find(|m| m.id == method)
            .and_then(|m| self.plugins.get(m.plugin as usize))
            .map_or(String::new(), |p| p.plugin.name().to_owned());
        let extra = slot.extra();
        let mut pieces = std::mem::take(&mut extra.pieces);
        pieces.sort_by_key(|p| p.position);
        if let Some(token) = &extra.token {
            let mut content = token.content();
            content.pieces = pieces;
            content.bytes = total;
            content.method = method;
            content.plugin = plugin;
            if content.lifetime_s == 0 {
                content.lifetime_s = wanted_s;
            }
            content.created_s = super::tokens::seconds_now();
            content.origin_offset = origin_offset;
            content.origin = device.map_or(String::new(), |device| {
                super::tokens::origin_of(&device.name.to_string_lossy())
            });
            content.filled = true;
        }
    }
}

/// Room that a plugin gets for one token: SPC-4's are 512 bytes.
const TOKEN_ROOM: usize = 4096;

/// The token fields of a command.
pub(super) struct TokenWords {
    pub(super) at: *mut u8,
    pub(super) size: u32,
    pub(super) kind: u32,
    pub(super) lifetime_s: u32,
}
