//! The choice between an offload and the host by measured speed: large requests
//! find it out as they go, others follow what was found out on their pair.

use super::clock::{coarse_ns, precise_ns};
use super::devices::Device;
use super::queue::Queue;
use super::slot::Slot;
use crate::plan::{CONTEST_MIN, Contest, Turn, leader};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Where a piece of a request goes.
pub(super) enum Way {
    /// By this method, at most about so many bytes.
    Method(usize, u64),
    /// What is in flight has to end first.
    Wait,
}

impl Queue {
    /// Which method takes the next piece, when `first` is the one of most worth.
    ///
    /// Only the host is measured against it, and only between devices: what a file
    /// system offers is told apart by verdicts.
    /// Clocks are read for requests of CONTEST_MIN bytes and more alone.
    pub(super) fn by_contest(&mut self, index: u32, first: usize) -> Way {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let is_file = |device: &Option<Arc<Device>>| {
            device
                .as_ref()
                .is_none_or(|device| device.kind == XCOPY_KIND_FILE)
        };
        let rival = pair.host.filter(|host| {
            *host != first
                && pair.methods[first].offloads()
                && !is_file(&pair.src)
                && !is_file(&pair.dst)
                && self.may_copy(slot, &pair.methods[*host])
        });
        let Some(host) = rival else {
            if let Some(extra) = &mut self.slots[index as usize].extra {
                extra.contest = None;
            }
            return Way::Method(first, u64::MAX);
        };
        let sides = [first, host];
        let memories = sides.map(|side| &*pair.methods[side].memory);
        if slot.total < CONTEST_MIN {
            if memories.iter().any(|memory| !memory.has_rate()) {
                return Way::Method(first, u64::MAX);
            }
            let now = coarse_ns();
            let side = leader(memories.map(|memory| memory.rate(now)));
            say_slower(&mut self.slots[index as usize], side);
            return Way::Method(sides[side], u64::MAX);
        }
        let copied = self.shared.faces[index as usize]
            .copied
            .load(Ordering::Relaxed);
        let slot = &mut self.slots[index as usize];
        let idle = slot.in_flight == 0;
        let contest = slot.extra().contest.get_or_insert_with(|| {
            let now = coarse_ns();
            Box::new(Contest::new(
                [0, 1].map(|side: usize| memories[side].rate(now)),
            ))
        });
        let before = contest.rates();
        let turn = contest.turn(copied, idle, precise_ns);
        let (rates, ahead) = (contest.rates(), contest.leader());
        for side in 0..2 {
            if rates[side] != before[side]
                && let Some(rate) = rates[side]
            {
                memories[side].set_rate(rate, coarse_ns());
            }
        }
        say_slower(slot, ahead);
        match turn {
            Turn::Send(side, room) => Way::Method(sides[side], room),
            Turn::Drain => Way::Wait,
        }
    }

    /// Bytes that the slice whose turn it is may still send.
    pub(super) fn contest_room(&self, index: u32) -> u64 {
        let extra = self.slots[index as usize].extra.as_ref();
        extra
            .and_then(|extra| extra.contest.as_ref())
            .map_or(u64::MAX, |contest| contest.room())
    }

    /// Bytes of the request go out, in a command of their own or with others.
    pub(super) fn contest_sent(&mut self, index: u32, bytes: u64) {
        let copied = &self.shared.faces[index as usize].copied;
        if let Some(extra) = &mut self.slots[index as usize].extra
            && let Some(contest) = &mut extra.contest
        {
            contest.sent(bytes, copied.load(Ordering::Relaxed), precise_ns);
        }
    }
}

/// The completion tells when the worthier method is left for its speed.
fn say_slower(slot: &mut Slot, ahead: usize) {
    match (ahead, slot.reason) {
        (1, 0) => slot.reason = XCOPY_REASON_SLOWER,
        (0, XCOPY_REASON_SLOWER) => slot.reason = 0,
        _ => {}
    }
}
