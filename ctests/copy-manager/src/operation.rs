//! Copy operations: what is still to be copied, how far it got, and what is
//! told of it afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::Chunks;
use crate::fault::Refusal;
use crate::personality::Style;
use crate::sense::{Forwarded, Sense, SenseFormat, Side, key, status};
use crate::token::TOKEN_BYTES;
use crate::unit::Unit;

/// COPY OPERATION STATUS (SPC-4 table 271).
pub mod copy_status {
    #![allow(missing_docs, reason = "named as in SPC-4")]
    pub const COMPLETED: u8 = 0x01;
    pub const COMPLETED_WITH_ERRORS: u8 = 0x02;
    pub const COMPLETED_PARTLY: u8 = 0x03;
    pub const IN_PROGRESS_FOREGROUND: u8 = 0x11;
    pub const IN_PROGRESS_BACKGROUND: u8 = 0x12;
    pub const TERMINATED: u8 = 0x60;
}

/// Where bytes come from.
#[derive(Clone)]
pub(crate) enum Source {
    Unit { unit: usize, at: u64 },
    Frozen { bytes: Arc<Chunks>, at: u64 },
    Zero,
}

impl Source {
    pub(crate) fn after(&self, n: u64) -> Source {
        match self {
            Source::Unit { unit, at } => Source::Unit {
                unit: *unit,
                at: at + n,
            },
            Source::Frozen { bytes, at } => Source::Frozen {
                bytes: bytes.clone(),
                at: at + n,
            },
            Source::Zero => Source::Zero,
        }
    }
}

pub(crate) enum Step {
    /// Bytes to a place on a unit.
    Copy {
        source: Source,
        unit: usize,
        at: u64,
        bytes: u64,
    },
    /// Bytes of a ROD that a token comes to represent.
    Represent { bytes: u64 },
    /// A segment descriptor is done.
    Segment,
    /// The operation ends here.
    Fail(Refusal),
}

/// An end before the end.
pub(crate) enum Stop {
    Refuse(Refusal),
    /// The target says that it copied less.
    Short,
}

/// Names an operation. An anonymous one, which nobody can ask about, has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) nexus: usize,
    /// None where list identifiers belong to the nexus alone.
    pub(crate) unit: Option<usize>,
    pub(crate) id: u32,
    pub(crate) anonymous: u64,
}

pub(crate) struct Operation {
    pub(crate) service_action: u8,
    pub(crate) style: Style,
    pub(crate) sense_format: SenseFormat,
    pub(crate) steps: VecDeque<Step>,
    /// Block length that F1h counts in.
    pub(crate) block: u32,
    pub(crate) bytes: u64,
    pub(crate) segments: u16,
    pub(crate) operations: u16,
    pub(crate) segment_now: u16,
    /// After so many bytes.
    pub(crate) stop: Option<(u64, Stop)>,
    pub(crate) lies: bool,
    /// In the background since when.
    pub(crate) background: Option<Duration>,
    pub(crate) forever: bool,
    /// When it ended.
    pub(crate) ended: Option<Duration>,
    pub(crate) status: u8,
    pub(crate) refusal: Option<Refusal>,
    /// The token that it makes.
    pub(crate) makes: Option<Box<[u8; TOKEN_BYTES]>>,
    /// The token that it writes.
    pub(crate) uses: Option<u64>,
}

impl Operation {
    pub(crate) fn new(service_action: u8, style: Style, format: SenseFormat, block: u32) -> Self {
        Operation {
            service_action,
            style,
            sense_format: format,
            steps: VecDeque::new(),
            block,
            bytes: 0,
            segments: 0,
            operations: 0,
            segment_now: 0,
            stop: None,
            lies: false,
            background: None,
            forever: false,
            ended: None,
            status: copy_status::IN_PROGRESS_FOREGROUND,
            refusal: None,
            makes: None,
            uses: None,
        }
    }

    /// COPY OPERATION STATUS now.
    pub(crate) fn status_now(&self) -> u8 {
        if self.forever {
            copy_status::IN_PROGRESS_BACKGROUND
        } else if self.ended.is_some() {
            self.status
        } else if self.background.is_some() {
            copy_status::IN_PROGRESS_BACKGROUND
        } else {
            copy_status::IN_PROGRESS_FOREGROUND
        }
    }

    /// The sense of its end, if it failed.
    pub(crate) fn sense(&self) -> Vec<u8> {
        match &self.refusal {
            Some(Refusal::Check(sense)) => sense.encode(self.sense_format),
            _ => Vec::new(),
        }
    }

    fn end(&mut self, now: Duration, status: u8, refusal: Option<Refusal>) {
        self.steps.clear();
        self.ended = Some(now);
        self.status = status;
        self.refusal = refusal;
        if status == copy_status::COMPLETED_WITH_ERRORS || status == copy_status::TERMINATED {
            self.makes = None;
        }
    }

    pub(crate) fn abort(&mut self, now: Duration) {
        let runs = self.ended.is_none() || self.forever;
        self.forever = false;
        if runs {
            let refusal = Refusal::Status(status::TASK_ABORTED);
            self.end(now, copy_status::TERMINATED, Some(refusal));
        }
    }

    /// What a copy source or destination said, as this manager passes it on.
    fn third_party(&self, side: Side, inner: Sense) -> Refusal {
        // SBC-3: WRITE USING TOKEN reports it as its own.
        if self.service_action == 0x11 {
            return inner.into();
        }
        let (ascq, forward) = match self.style {
            // Any error in the middle is "not reachable" there.
            Style::Lio => (0x02, false),
            Style::Comstar => (0x01, false),
            _ => (0x01, true),
        };
        let forwarded = forward.then(|| Forwarded {
            side,
            status: status::CHECK_CONDITION,
            sense: inner.encode(self.sense_format),
        });
        Sense {
            forwarded,
            ..Sense::copy_aborted(0x0D, ascq).at_segment(usize::from(self.segment_now))
        }
        .into()
    }

    /// Copies up to `budget` bytes more.
    pub(crate) fn run(&mut self, units: &mut [Unit], budget: u64, now: Duration) {
        let mut budget = budget;
        while self.ended.is_none() {
            let Some(step) = self.steps.pop_front() else {
                match self.stop.take() {
                    Some((_, Stop::Refuse(refusal))) => {
                        self.end(now, copy_status::COMPLETED_WITH_ERRORS, Some(refusal));
                    }
                    _ => self.end(now, copy_status::COMPLETED, None),
                }
                return;
            };
            match step {
                Step::Segment => {
                    self.segments = self.segments.saturating_add(1);
                    self.segment_now = self.segments;
                }
                Step::Fail(refusal) => {
                    self.end(now, copy_status::COMPLETED_WITH_ERRORS, Some(refusal));
                }
                Step::Represent { bytes } => {
                    let n = self.allowed(bytes, budget);
                    self.bytes += n;
                    budget -= n;
                    if n < bytes {
                        self.steps.push_front(Step::Represent { bytes: bytes - n });
                        if !self.stopped(now) {
                            return;
                        }
                    }
                }
                Step::Copy {
                    source,
                    unit,
                    at,
                    bytes,
                } => {
                    let n = self.allowed(bytes, budget);
                    let copied = self.copy(units, &source, unit, at, n, now);
                    self.bytes += copied;
                    self.operations = self.operations.saturating_add(u16::from(copied > 0));
                    budget -= copied;
                    if copied < bytes && self.ended.is_none() {
                        let (source, at) = (source.after(copied), at + copied);
                        self.steps.push_front(Step::Copy {
                            source,
                            unit,
                            at,
                            bytes: bytes - copied,
                        });
                        if !self.stopped(now) {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// How much of `bytes` budget and stop allow, in whole blocks.
    fn allowed(&self, bytes: u64, budget: u64) -> u64 {
        let stop = self
            .stop
            .as_ref()
            .map_or(u64::MAX, |(at, _)| at.saturating_sub(self.bytes));
        let n = budget.min(stop);
        if n >= bytes {
            return bytes;
        }
        n - n % u64::from(self.block.max(1))
    }

    /// Ends the operation if it is where it shall stop.
    fn stopped(&mut self, now: Duration) -> bool {
        let block = u64::from(self.block.max(1));
        if self
            .stop
            .as_ref()
            .is_none_or(|(at, _)| self.bytes + block <= *at)
        {
            return false;
        }
        match self.stop.take() {
            Some((_, Stop::Refuse(refusal))) => {
                self.end(now, copy_status::COMPLETED_WITH_ERRORS, Some(refusal));
            }
            // LID1 has no status for a residual: the segment is an underrun.
            _ if self.service_action == 0x00 || self.service_action == 0x01 => {
                let sense = Sense::copy_aborted(0x0D, 0x04);
                let sense = sense.at_segment(usize::from(self.segment_now));
                self.end(now, copy_status::COMPLETED_WITH_ERRORS, Some(sense.into()));
            }
            _ => self.end(now, copy_status::COMPLETED_PARTLY, None),
        }
        true
    }

    /// Copies, as far as both sides let it; ends the operation if they do not.
    fn copy(
        &mut self,
        units: &mut [Unit],
        source: &Source,
        unit: usize,
        at: u64,
        bytes: u64,
        now: Duration,
    ) -> u64 {
        let mut bytes = bytes;
        let mut failure = None;
        if let Source::Unit { unit, at } = source
            && let Some((good, sense)) = units.get(*unit).and_then(|u| unreadable(u, *at, bytes))
        {
            bytes = good;
            failure = Some(self.third_party(Side::Source, sense));
        }
        if let Some((good, sense)) = units.get(unit).and_then(|u| unwritable(u, at, bytes)) {
            bytes = good;
            failure = Some(self.third_party(Side::Destination, sense));
        }
        bytes -= bytes % u64::from(self.block.max(1));
        if !self.lies {
            let chunks = match source {
                Source::Unit { unit, at } => units
                    .get(*unit)
                    .map(|u| (u.chunks.snapshot(*at, bytes), *at)),
                _ => None,
            };
            if let Some(to) = units.get_mut(unit) {
                match (source, chunks) {
                    (
                        Source::Frozen {
                            bytes: frozen,
                            at: from,
                        },
                        _,
                    ) => {
                        to.chunks.paste(at, frozen, *from, bytes);
                    }
                    (_, Some((chunks, from))) => to.chunks.paste(at, &chunks, from, bytes),
                    _ => to.chunks.zero(at, bytes),
                }
            }
        }
        if let Some(refusal) = failure {
            self.end(now, copy_status::COMPLETED_WITH_ERRORS, Some(refusal));
        }
        bytes
    }
}

/// How many of the bytes can be read, and what the unit says to the next.
fn unreadable(unit: &Unit, at: u64, bytes: u64) -> Option<(u64, Sense)> {
    let block = u64::from(unit.block_size);
    let (lba, count) = (at / block, bytes.div_ceil(block));
    if unit.removed {
        return Some((0, Sense::illegal(0x25, 0x00)));
    }
    if let Err(first) = unit.holds(lba, count) {
        return Some((0, Sense::out_of_range(first)));
    }
    let bad = unit.bad_in(lba, count)?;
    let sense = Sense {
        information: Some(bad),
        ..Sense::new(key::MEDIUM_ERROR, 0x11, 0x00)
    };
    Some(((bad * block).saturating_sub(at), sense))
}

fn unwritable(unit: &Unit, at: u64, bytes: u64) -> Option<(u64, Sense)> {
    let block = u64::from(unit.block_size);
    if unit.removed {
        return Some((0, Sense::illegal(0x25, 0x00)));
    }
    if unit.write_protected {
        return Some((0, Sense::new(key::DATA_PROTECT, 0x27, 0x00)));
    }
    let first = unit.holds(at / block, bytes.div_ceil(block)).err()?;
    Some((0, Sense::out_of_range(first)))
}

/// All operations that run or can be asked about.
#[derive(Default)]
pub(crate) struct Operations {
    map: BTreeMap<Key, Operation>,
    anonymous: u64,
}

impl Operations {
    pub(crate) fn anonymous(&mut self, nexus: usize) -> Key {
        self.anonymous += 1;
        Key {
            nexus,
            unit: None,
            id: 0,
            anonymous: self.anonymous,
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Operation> {
        self.map.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Operation> {
        self.map.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: Key, operation: Operation) {
        self.map.insert(key, operation);
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Operation> {
        self.map.remove(key)
    }

    pub(crate) fn running(&self) -> usize {
        self.map
            .values()
            .filter(|operation| operation.ended.is_none())
            .count()
    }

    pub(crate) fn in_background(&self) -> Vec<Key> {
        let runs = |o: &Operation| o.ended.is_none() && o.background.is_some();
        self.map
            .iter()
            .filter(|(_, o)| runs(o))
            .map(|(key, _)| *key)
            .collect()
    }

    pub(crate) fn of_nexus(&self, nexus: usize) -> Vec<Key> {
        self.map
            .keys()
            .filter(|key| key.nexus == nexus)
            .copied()
            .collect()
    }

    /// Drops what ended so long ago that nobody may ask any more, and what
    /// ended and cannot be asked about.
    pub(crate) fn forget(&mut self, now: Duration, kept: Duration) {
        self.map.retain(|key, operation| match operation.ended {
            _ if operation.forever => true,
            Some(ended) => key.anonymous == 0 && now < ended + kept,
            None => true,
        });
    }
}
