//! The operations on tokens.

use super::dispatch::{ONE, Tried, is_allowed};
use super::orders::Order;
use super::pairs::BoundMethod;
use super::queue::Queue;
use super::reasons;
use super::route::RouteMethod;
use super::shared::{Answer, Errand, NO_PLUGIN, Purpose, add};
use super::slot::{Slot, Stage};
use super::tokens::{Maker, Piece, Secret};
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
        let chosen = pair.methods.iter().position(|m| {
            is_allowed(slot, m)
                && m.rests.is_none()
                && m.plugin != NO_PLUGIN
                && self.plugins[m.plugin as usize].plugin.table().commands & XCOPY_CAN_TOKEN != 0
                && self.is_maker(slot, m)
        });
        let Some(chosen) = chosen else {
            return self.refuse_token(index);
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

    /// Whether a method made the token of a request, or may make it.
    fn is_maker(&self, slot: &Slot, method: &BoundMethod) -> bool {
        let Some(extra) = &slot.extra else {
            return false;
        };
        if slot.op == XCOPY_OP_TOKEN_CREATE {
            // All of a token is of one maker.
            let by = extra.making.by;
            return by.is_none_or(|by| by == (method.plugin, method.id));
        }
        let plugin = &self.plugins[method.plugin as usize].plugin;
        extra.token.as_ref().is_some_and(|token| {
            let maker = &token.content().maker;
            maker.plugin == plugin.name() && plugin.method_name(method.id) == Some(&*maker.method)
        })
    }

    /// No method can make the token of a request, or use it.
    fn refuse_token(&mut self, index: u32) -> Tried {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let maker = match slot.extra.as_ref().and_then(|e| e.token.as_ref()) {
            Some(token) if slot.op != XCOPY_OP_TOKEN_CREATE => token.content().maker.clone(),
            _ => Maker::default(),
        };
        let serves = |m: &RouteMethod| {
            m.plugin.as_ref().is_some_and(|p| {
                p.name() == maker.plugin && p.method_name(m.id) == Some(&*maker.method)
            })
        };
        let foreign = !maker.plugin.is_empty() && !pair.verdicts.iter().any(serves);
        if !foreign {
            let reason = self.why_none(index);
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        }
        let mut others: Vec<_> = pair
            .verdicts
            .iter()
            .filter(|m| m.usable)
            .filter_map(|m| m.plugin.as_ref())
            .collect();
        others.dedup_by_key(|plugin| plugin.name().to_owned());
        let others: Vec<_> = others.iter().map(|plugin| plugin.name()).collect();
        let served = match others.as_slice() {
            [] => "no loaded plugin".to_owned(),
            [one] => format!("plugin {one}"),
            many => format!("plugins {}", many.join(", ")),
        };
        self.context.log(
            XCOPY_LOG_WARNING,
            &format!(
                "the token is of plugin {} (method {}), and the device is served by {served}: \
                 only its maker can use a token",
                maker.plugin, maker.method
            ),
        );
        let status = match others.is_empty() {
            true => -libc::ENOTSUP,
            false => -libc::ESTALE,
        };
        self.fail(index, status, XCOPY_REASON_TOKEN, 0);
        Tried::Failed
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
            let token = slot.extra.as_ref().and_then(|e| e.token.as_ref());
            let left = token.and_then(|token| {
                let content = token.content();
                let found = content.piece_at(at)?;
                Some(found.position + found.length - at)
            });
            let Some(left) = left else {
                self.fail(index, -libc::ESTALE, XCOPY_REASON_TOKEN, 0);
                return Tried::Failed;
            };
            end = end.min(piece.start.position.saturating_add(left));
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
            room.keep_secret(TOKEN_ROOM);
            buffer = room.as_mut_ptr();
            self.buffers[cell as usize] = Some(room);
            self.slots[index as usize].extra().making.by = Some((plugin, id));
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
        content.piece_at(at).map_or(0, |p| p.position)
    }

    pub(super) fn release_next(&mut self, index: u32, chosen: usize) -> Tried {
        let extra = self.slots[index as usize].extra();
        let piece = extra.next_piece;
        extra.next_piece += 1;
        let start = Cursor {
            index: piece as u64,
            ..Cursor::default()
        };
        self.order_release(index, chosen, start, Purpose::Method);
        Tried::Sent
    }

    /// Sends the release of the piece at `start.index`.
    fn order_release(&mut self, index: u32, chosen: usize, start: Cursor, purpose: Purpose) {
        let slot = &self.slots[index as usize];
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        method.in_flight += 1;
        let (plugin, id) = (method.plugin, method.id);
        // Whoever made it is asked to forget it.
        let (src, dst) = match purpose {
            Purpose::Unmake => (method.dst, method.src),
            _ => (method.src, method.dst),
        };
        let order = Order {
            op: XCOPY_CMD_TOKEN_RELEASE,
            purpose,
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
            XCOPY_CMD_TOKEN_RELEASE if order.purpose == Purpose::Unmake => {
                let making = slot.extra.as_ref().map(|e| &e.making);
                let piece =
                    making.and_then(|m| Some((m, m.pieces.get(order.start.index as usize)?)));
                // The pieces stay where they are until the slot is given back.
                piece.map_or(none, |(making, piece)| TokenWords {
                    at: piece.secret.bytes().as_ptr().cast_mut(),
                    size: piece.secret.bytes().len() as u32,
                    kind: making.token_type,
                    lifetime_s: making.lifetime_s,
                })
            }
            XCOPY_CMD_TOKEN_WRITE | XCOPY_CMD_TOKEN_RELEASE => {
                let Some(token) = slot.extra.as_ref().and_then(|e| e.token.as_ref()) else {
                    return none;
                };
                let content = token.content();
                let at = slot.range.src_offset + order.start.position;
                let piece = if order.op == XCOPY_CMD_TOKEN_WRITE {
                    content.piece_at(at)
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
        let Some(room) = room.filter(|room| size > 0 && size <= TOKEN_ROOM.min(room.len())) else {
            add(&self.shared.stats.plugin_faults, 1);
            let detail = reasons::fault_detail(slot.method, XCOPY_FAULT_SHORT);
            return self.fail(index, -libc::EIO, XCOPY_REASON_PLUGIN_FAULT, detail);
        };
        let making = &mut slot.extra().making;
        making.pieces.push(Piece {
            position: errand.start.position,
            length: bytes,
            secret: Secret::new(room[..size].to_vec()),
        });
        making.token_type = answer.token_type;
        // The shortest of its parts is how long it lives.
        let told = answer.token_lifetime_s;
        if told != 0 && (making.lifetime_s == 0 || told < making.lifetime_s) {
            making.lifetime_s = told;
        }
    }

    /// Keeps a token that came after its request was answered, to be unmade.
    pub(super) fn keep_late_token(&mut self, cell: u32, errand: &Errand, answer: &Answer) {
        let is_token = self.slots[errand.slot as usize].op == XCOPY_OP_TOKEN_CREATE
            && errand.purpose == Purpose::Method;
        if is_token && answer.status == 0 && answer.token_size > 0 {
            let bytes = self.command_bytes(cell);
            self.keep_token(errand.slot, cell, errand, answer, bytes);
        }
    }

    /// Lets the device forget what it made for a token that did not come about;
    /// false once nothing is left to do.
    pub(super) fn unmake(&mut self, index: u32) -> bool {
        let slot = &self.slots[index as usize];
        let Some(making) = slot.extra.as_ref().map(|e| &e.making) else {
            return false;
        };
        let Some(by) = making.by.filter(|_| !making.pieces.is_empty()) else {
            return false;
        };
        if slot.op != XCOPY_OP_TOKEN_CREATE {
            return false;
        }
        let methods = &self.pairs[slot.pair as usize].methods;
        let Some(chosen) = methods.iter().position(|m| (m.plugin, m.id) == by) else {
            return false;
        };
        if !making.is_given_up && slot.stage == Stage::Run {
            // Of a token that is not there no byte is.
            let total = slot.total;
            self.lose(index, Cursor::default(), total, false);
            self.slots[index as usize].extra().making.is_given_up = true;
        }
        loop {
            let slot = &mut self.slots[index as usize];
            let making = &mut slot.extra().making;
            if making.unmade >= making.pieces.len() {
                break;
            }
            let method = &mut self.pairs[slot.pair as usize].methods[chosen];
            let blocked = self.free_cells.is_empty() || method.in_flight >= method.adapt.depth();
            if blocked && slot.in_flight == 0 && slot.stage == Stage::Run {
                // No end of its own brings it back here.
                self.list(index);
                return true;
            }
            if blocked {
                break;
            }
            let start = Cursor {
                index: slot.extra().making.unmade as u64,
                ..Cursor::default()
            };
            slot.extra().making.unmade += 1;
            self.order_release(index, chosen, start, Purpose::Unmake);
        }
        self.slots[index as usize].in_flight > 0
    }

    pub(super) fn fill_token(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let (total, pair) = (slot.total, slot.pair);
        // SAFETY: NULL, or the caller's struct, valid until the completion.
        let wanted_s = unsafe { slot.ext.as_ref() }.map_or(0, |e| e.token_lifetime_s);
        let origin_offset = slot.range.src_offset;
        let device = self.pairs[pair as usize].src.clone();
        let extra = slot.extra();
        let making = std::mem::take(&mut extra.making);
        let maker = making.by.and_then(|(plugin, method)| {
            let plugin = &self.plugins.get(plugin as usize)?.plugin;
            Some(Maker {
                plugin: plugin.name().to_owned(),
                method: plugin.method_name(method)?.to_owned(),
            })
        });
        let mut pieces = making.pieces;
        pieces.sort_by_key(|p| p.position);
        if let Some(token) = &extra.token {
            let mut content = token.content();
            content.pieces = pieces;
            content.bytes = total;
            content.maker = maker.unwrap_or_default();
            content.token_type = making.token_type;
            content.lifetime_s = match making.lifetime_s {
                0 => wanted_s,
                told => told,
            };
            content.created_s = super::tokens::seconds_now();
            content.origin_offset = origin_offset;
            content.origin = device.map_or(String::new(), |device| {
                super::tokens::origin_of(&device.known_as())
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
