//! Segment descriptors (SPC-4 6.4.6), and the units that CSCD descriptors name.

use super::extended_copy::List;
use crate::bytes::{u8_at, u16_at, u24_at, u64_at};
use crate::fault::Refusal;
use crate::operation::{Source, Step};
use crate::personality::Style;
use crate::sense::{Sense, key, status};
use crate::state::{Call, State};

/// A segment descriptor whose type is implemented.
pub(super) enum Segment {
    /// 02h, block device to block device.
    Blocks {
        source: u16,
        destination: u16,
        by_destination: bool,
        count: u16,
        from: u64,
        to: u64,
    },
    /// 07h, verify CSCD.
    Verify { source: u16 },
    /// 14h, register a reservation key.
    Register {
        destination: u16,
        key: u64,
        action_key: u64,
    },
}

/// The CSCD descriptor ID of the unit that the command was sent to.
const ADDRESSED: u16 = 0xFFFF;

/// A copy source or destination.
struct Place {
    unit: usize,
    /// Block length, by its descriptor where the manager believes it.
    block: u64,
}

impl State {
    pub(super) fn segments(&self, list: &List<'_>) -> Result<Vec<Segment>, Refusal> {
        let style = self.personality.style;
        let limits = &self.personality.copy;
        let bytes = list.segments;
        let mut segments = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if segments.len() >= usize::from(limits.segments) {
                return Err(Sense::illegal(0x26, 0x08).into());
            }
            let segment = &bytes[at..];
            let (code, length) = (segment[0], usize::from(u16_at(segment, 2)));
            let field = |byte: usize| {
                Refusal::from(Sense::field_in_list((list.segments_at + at + byte) as u16))
            };
            if !limits.types.contains(&code) || code >= 0x80 {
                return Err(Sense::illegal(0x26, 0x09).into());
            }
            if code == 0x02 && length != 0x18 && style != Style::Ctl {
                return Err(field(2));
            }
            if at + 4 + length > bytes.len() {
                return Err(Sense::illegal(0x1A, 0x00).into());
            }
            let parsed = match code {
                0x02 => Segment::Blocks {
                    source: u16_at(segment, 4),
                    destination: u16_at(segment, 6),
                    by_destination: segment.get(1).is_some_and(|flags| flags & 2 != 0),
                    count: u16_at(segment, 10),
                    from: u64_at(segment, 12),
                    to: u64_at(segment, 20),
                },
                0x07 => Segment::Verify {
                    source: u16_at(segment, 4),
                },
                _ => Segment::Register {
                    destination: u16_at(segment, 6),
                    key: u64_at(segment, 8),
                    action_key: u64_at(segment, 16),
                },
            };
            if let (
                Style::Lio,
                Segment::Blocks {
                    source,
                    destination,
                    ..
                },
            ) = (style, &parsed)
                && (*source > 0x7FF || *destination > 0x7FF)
            {
                return Err(field(4));
            }
            segments.push(parsed);
            at += 4 + length;
        }
        Ok(segments)
    }

    /// What COMSTAR and LIO look at before the first segment.
    pub(super) fn before_start(
        &self,
        call: &Call<'_>,
        cscds: &[&[u8]],
        segments: &[Segment],
    ) -> Result<(), Refusal> {
        let style = self.personality.style;
        if !matches!(style, Style::Lio | Style::Comstar) {
            return Ok(());
        }
        for segment in segments {
            let Segment::Blocks {
                source,
                destination,
                ..
            } = segment
            else {
                continue;
            };
            let (from, to) = (
                self.place(call, cscds, *source),
                self.place(call, cscds, *destination),
            );
            let (Some(from), Some(to)) = (from, to) else {
                return Err(self.unreachable());
            };
            if style == Style::Lio && from.unit != call.unit && to.unit != call.unit {
                return Err(self.unreachable());
            }
            if style == Style::Comstar {
                let (a, b) = (&self.units[from.unit], &self.units[to.unit]);
                if a.reservations.forbid_read(call.nexus) || b.reservations.forbid_write(call.nexus)
                {
                    return Err(Refusal::Status(status::RESERVATION_CONFLICT));
                }
            }
        }
        Ok(())
    }

    /// COPY TARGET DEVICE NOT REACHABLE, as each says it.
    fn unreachable(&self) -> Refusal {
        match self.personality.style {
            Style::Ctl => Sense::copy_aborted(0x08, 0x04).into(),
            Style::Comstar => Sense::illegal(0x0D, 0x02).into(),
            _ => Sense::copy_aborted(0x0D, 0x02).into(),
        }
    }

    /// The unit that a CSCD descriptor ID names, among those that the nexus sees.
    fn place(&self, call: &Call<'_>, cscds: &[&[u8]], id: u16) -> Option<Place> {
        if id == ADDRESSED && self.personality.style != Style::Lio {
            let block = u64::from(self.units.get(call.unit)?.block_size);
            return Some(Place {
                unit: call.unit,
                block,
            });
        }
        let cscd = cscds.get(usize::from(id))?;
        let length = usize::from(u8_at(cscd, 7));
        let designator = cscd.get(8..8 + length)?;
        let (code_set, kind) = (u8_at(cscd, 4) & 0x0F, u8_at(cscd, 5) & 0x0F);
        let unit = (0..self.units.len()).find(|unit| {
            self.sees(call.nexus, *unit)
                && self.units[*unit].designators.iter().any(|name| {
                    name.code_set == code_set && name.kind == kind && name.bytes == designator
                })
        })?;
        // Device type specific parameters: DISK BLOCK LENGTH, 0 is not said.
        let told = u64::from(u24_at(cscd, 29));
        let block = u64::from(self.units[unit].block_size);
        Some(Place {
            unit,
            block: if told == 0 { block } else { told },
        })
    }

    /// What one segment comes to.
    pub(super) fn step(
        &mut self,
        call: &Call<'_>,
        cscds: &[&[u8]],
        segment: &Segment,
    ) -> Result<Vec<Step>, Refusal> {
        let place = |state: &State, id| {
            state
                .place(call, cscds, id)
                .ok_or_else(|| state.unreachable())
        };
        match *segment {
            Segment::Verify { source } => {
                place(self, source)?;
                Ok(Vec::new())
            }
            Segment::Register {
                destination,
                key,
                action_key,
            } => {
                let unit = place(self, destination)?.unit;
                let reservations = &mut self.units[unit].reservations;
                match reservations.out(call.nexus, 0, 0, key, action_key) {
                    Ok(()) => Ok(Vec::new()),
                    Err(_) => Err(Sense::copy_aborted(0x0D, 0x01).into()),
                }
            }
            Segment::Blocks {
                source,
                destination,
                by_destination,
                count,
                from,
                to,
            } => {
                let (source, destination) = (place(self, source)?, place(self, destination)?);
                let block = if by_destination {
                    destination.block
                } else {
                    source.block
                };
                let bytes = u64::from(count) * block;
                let sizes = [source.unit, destination.unit].map(|unit| self.units[unit].block_size);
                if self.personality.style == Style::Lio && sizes[0] != sizes[1] {
                    // Also of no blocks, as seen on Linux 6.12.
                    return Err(Refusal::check(key::NOT_READY, 0x08, 0x00));
                }
                if bytes == 0 {
                    return Ok(Vec::new());
                }
                self.check_segment(call, &source, &destination, bytes)?;
                let at = |lba: u64, block: u64| {
                    lba.checked_mul(block)
                        .ok_or_else(|| Sense::out_of_range(lba))
                };
                let source = Source::Unit {
                    unit: source.unit,
                    at: at(from, source.block)?,
                };
                let at = at(to, destination.block)?;
                Ok(vec![Step::Copy {
                    source,
                    unit: destination.unit,
                    at,
                    bytes,
                }])
            }
        }
    }

    fn check_segment(
        &self,
        call: &Call<'_>,
        source: &Place,
        destination: &Place,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let limits = &self.personality.copy;
        let style = self.personality.style;
        let (from, to) = (&self.units[source.unit], &self.units[destination.unit]);
        let unequal = from.block_size != to.block_size;
        let lied = source.block != u64::from(from.block_size)
            || destination.block != u64::from(to.block_size);
        if style != Style::Ctl && (lied || (unequal && style != Style::Array)) {
            return Err(Sense::copy_aborted(0x0D, 0x03).into());
        }
        if !bytes.is_multiple_of(source.block) || !bytes.is_multiple_of(destination.block) {
            return Err(Sense::copy_aborted(0x26, 0x0A).into());
        }
        if limits.segment_bytes != 0 && bytes > u64::from(limits.segment_bytes) {
            return Err(Sense::illegal(0x26, 0x00).into());
        }
        if !bytes.is_multiple_of(1 << limits.granularity_log2.min(63)) {
            return Err(Sense::copy_aborted(0x26, 0x0D).into());
        }
        let conflict =
            from.reservations.forbid_read(call.nexus) || to.reservations.forbid_write(call.nexus);
        if conflict {
            return Err(Sense {
                forwarded: Some(crate::sense::Forwarded {
                    side: crate::sense::Side::Destination,
                    status: status::RESERVATION_CONFLICT,
                    sense: Vec::new(),
                }),
                ..Sense::copy_aborted(0x0D, 0x01)
            }
            .into());
        }
        Ok(())
    }
}
