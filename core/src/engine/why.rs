//! Why a method was not used: the reason in a completion, the list in a report.

use super::dispatch::lacks_feature;
use super::pairs::{BoundMethod, Pair};
use super::queue::Queue;
use super::route::telling;
use super::slot::Slot;
use crate::plugin::{fixed_mask, worth_of};
use xcopy_abi::*;

/// Methods that no plugin has to offer.
const OWN: u32 = 1 << XCOPY_METHOD_READ_WRITE | 1 << XCOPY_METHOD_ZERO;

impl Queue {
    /// Methods that neither the request's mask nor the context's leaves out.
    fn mask_of(&self, slot: &Slot) -> u32 {
        let named = match slot.methods {
            0 => u32::MAX,
            named => named,
        };
        named & self.context.allowed()
    }

    /// Why no method can be used.
    pub(super) fn why_none(&self, index: u32) -> u16 {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        if let Some(failure) = slot.extra.as_ref().and_then(|e| e.failures.last()) {
            return failure.reason;
        }
        let mask = self.mask_of(slot);
        let has = |id: u16| mask >> id & 1 == 1;
        let rests = |m: &BoundMethod| m.rests.filter(|_| has(m.id));
        if let Some((_, why)) = pair.methods.iter().find_map(rests) {
            return match why {
                XCOPY_REASON_PLUGIN_FAULT => why,
                _ => XCOPY_REASON_FAILED_BEFORE,
            };
        }
        let mut ours = pair
            .verdicts
            .iter()
            .filter(|v| v.plugin.is_some() && has(v.id));
        let refused = ours.clone().filter(|v| !v.usable);
        if let Some(refused) = refused.min_by_key(|v| telling(v)) {
            return refused.reason;
        }
        if ours.clone().any(|v| lacks_feature(slot, v.flags)) {
            return XCOPY_REASON_FEATURE_OFF;
        }
        if unserved(slot, pair).next().is_some() {
            return XCOPY_REASON_NO_PLUGIN;
        }
        if slot.methods == 0
            && let Some(by_name) = ours.find(|v| v.flags & XCOPY_METHOD_BY_NAME != 0)
        {
            return by_name.reason;
        }
        match pair
            .verdicts
            .iter()
            .any(|v| !has(v.id) && (v.plugin.is_some() || v.usable))
        {
            true => XCOPY_REASON_NOT_ALLOWED,
            false => XCOPY_REASON_NO_PLUGIN,
        }
    }

    /// Why a request that `used` did most of was not done by a better method.
    pub(super) fn why_not_better(&self, index: u32, pair: &Pair, used: &BoundMethod) -> u16 {
        let slot = &self.slots[index as usize];
        let mask = self.mask_of(slot);
        let has = |id: u16| mask >> id & 1 == 1;
        let mut better = pair.methods.iter().take_while(|m| m.id != used.id);
        if better
            .clone()
            .any(|m| !has(m.id) && m.flags & XCOPY_METHOD_BY_NAME == 0)
        {
            return XCOPY_REASON_NOT_ALLOWED;
        }
        if better.clone().any(|m| has(m.id) && m.rests.is_some()) {
            return XCOPY_REASON_FAILED_BEFORE;
        }
        if better.any(|m| lacks_feature(slot, m.flags)) {
            return XCOPY_REASON_FEATURE_OFF;
        }
        if slot.methods == 0 {
            return used.why_not_better;
        }
        let worth = worth_on(pair, used.id);
        let mut refused = pair
            .verdicts
            .iter()
            .filter(|v| !v.usable && v.worth > worth);
        let named = refused.clone().filter(|v| has(v.id));
        if let Some(named) = named.min_by_key(|v| telling(v)) {
            named.reason
        } else if unserved(slot, pair).any(|id| worth_of(id) > worth) {
            XCOPY_REASON_NO_PLUGIN
        } else if refused.any(|v| v.flags & XCOPY_METHOD_BY_NAME == 0) {
            XCOPY_REASON_NOT_ALLOWED
        } else {
            used.why_not_better
        }
    }

    /// Methods that were left on the way, then those that were passed over. Of those
    /// that a mask leaves out only what would have been used is worth a word.
    pub(super) fn report_fallbacks(&self, slot: &Slot, used: u16, full: &mut xcopy_report) {
        let mut at = 0;
        let mut push = |fallback: xcopy_fallback| {
            if at < XCOPY_REPORT_FALLBACKS {
                full.fallbacks[at] = fallback;
                at += 1;
            }
        };
        let passed_over = |method: u16, reason: u16| xcopy_fallback {
            method,
            reason,
            error: 0,
            detail: 0,
        };
        let failures = slot.extra.as_ref().map_or(&[][..], |e| &e.failures);
        for failure in failures {
            push(xcopy_fallback {
                error: failure.error,
                detail: failure.detail,
                ..passed_over(failure.method, failure.reason)
            });
        }
        let pair = &self.pairs[slot.pair as usize];
        let worth = worth_on(pair, used);
        let mask = self.mask_of(slot);
        for verdict in pair.verdicts.iter().filter(|v| v.worth > worth) {
            if failures.iter().any(|f| f.method == verdict.id) || verdict.id == used {
                continue;
            }
            let by_name = verdict.flags & XCOPY_METHOD_BY_NAME != 0;
            let bound = pair.methods.iter().find(|m| m.id == verdict.id);
            let reason = if mask >> verdict.id & 1 == 0 {
                match verdict.usable && !by_name {
                    true => XCOPY_REASON_NOT_ALLOWED,
                    false => continue,
                }
            } else if !verdict.usable {
                verdict.reason
            } else if bound.is_some_and(|m| m.rests.is_some()) {
                XCOPY_REASON_FAILED_BEFORE
            } else if by_name {
                // Named or not, it could not have kept the host out.
                let passes_host = slot.flags & XCOPY_REQ_NO_FALLBACK != 0 && !verdict.offloads();
                if passes_host {
                    continue;
                }
                verdict.reason
            } else if lacks_feature(slot, verdict.flags) {
                XCOPY_REASON_FEATURE_OFF
            } else if slot.reason == XCOPY_REASON_SLOWER
                || (slot.outcome & XCOPY_CPL_FELL_BACK != 0 && slot.reason != 0)
            {
                slot.reason
            } else {
                continue;
            };
            push(passed_over(verdict.id, reason));
        }
        for id in unserved(slot, pair).filter(|id| worth_of(*id) > worth) {
            push(passed_over(id, XCOPY_REASON_NO_PLUGIN));
        }
        full.nfallbacks = at as u32;
        if let Some(id) = slower_of_two(slot, pair)
            && at < XCOPY_REPORT_FALLBACKS
            && !full.fallbacks[..at].iter().any(|f| f.method == id)
        {
            full.fallbacks[at] = passed_over(id, XCOPY_REASON_SLOWER);
            full.nfallbacks += 1;
        }
    }
}

/// The method that moved a part of a request only to be measured against another.
pub(super) fn slower_of_two(slot: &Slot, pair: &Pair) -> Option<u16> {
    let extra = slot.extra.as_ref()?;
    let contest = extra.contest.as_ref().filter(|c| c.is_mixed())?;
    if contest.leader() == 0 {
        return Some(pair.methods.get(pair.host?)?.id);
    }
    let moved = |id: u16| extra.shares.iter().any(|share| share.method == id);
    let mut offloads = pair.methods.iter().filter(|m| m.offloads());
    offloads.find(|m| moved(m.id)).map(|m| m.id)
}

/// The place of a method among those of a pair.
fn worth_on(pair: &Pair, id: u16) -> u32 {
    let verdict = pair.verdicts.iter().find(|v| v.id == id);
    verdict.map_or(0, |v| v.worth)
}

/// Methods that a request names and that no plugin offers for its devices.
fn unserved(slot: &Slot, pair: &Pair) -> impl Iterator<Item = u16> {
    let served = pair.verdicts.iter().fold(OWN, |mask, v| mask | 1 << v.id);
    let left = slot.methods & fixed_mask() & !served;
    (0..XCOPY_METHOD_DYNAMIC).filter(move |id| left >> id & 1 == 1)
}
