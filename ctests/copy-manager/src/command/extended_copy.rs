//! EXTENDED COPY (LID1) and (LID4): the parameter list, and what is refused in it
//! (SPC-4 6.4).

use crate::bytes::{u8_at, u16_at, u32_at};
use crate::fault::Refusal;
use crate::kind::Kind;
use crate::operation::{Operation, Step};
use crate::personality::Style;
use crate::sense::Sense;
use crate::state::{Call, Done, Outcome, State};

/// Bytes of a CSCD descriptor; CSCD descriptor extensions are not implemented.
pub(super) const CSCD_BYTES: usize = 32;
/// Identification CSCD descriptor.
const IDENTIFICATION: u8 = 0xE4;

/// The header of either format, and the three lists behind it.
pub(super) struct List<'a> {
    id: u32,
    /// LIST ID USAGE: 00b hold, 10b discard, 11b none.
    usage: u8,
    immed: bool,
    pub(super) cscds: &'a [u8],
    pub(super) segments: &'a [u8],
    /// Where the segment descriptors begin in the parameter list.
    pub(super) segments_at: usize,
    inline: usize,
    /// The parameter list's bytes, and how many its lengths sum up to.
    bytes: usize,
    told: usize,
}

const LID1_HEADER: usize = 16;
const LID4_HEADER: usize = 48;

fn parse(list: &[u8], lid4: bool) -> List<'_> {
    let (header, cscds, segments, inline) = if lid4 {
        (
            LID4_HEADER,
            usize::from(u16_at(list, 42)),
            usize::from(u16_at(list, 44)),
            usize::from(u16_at(list, 46)),
        )
    } else {
        (
            LID1_HEADER,
            usize::from(u16_at(list, 2)),
            u32_at(list, 8) as usize,
            u32_at(list, 12) as usize,
        )
    };
    let part = |from: usize, len: usize| {
        let from = from.min(list.len());
        &list[from..from.saturating_add(len).min(list.len())]
    };
    List {
        id: if lid4 {
            u32_at(list, 20)
        } else {
            u32::from(u8_at(list, 0))
        },
        usage: u8_at(list, 1) >> 3 & 3,
        immed: lid4 && u8_at(list, 15) & 1 != 0,
        cscds: part(header, cscds),
        segments: part(header + cscds, segments),
        segments_at: header + cscds,
        inline,
        bytes: list.len(),
        told: header
            .saturating_add(cscds)
            .saturating_add(segments)
            .saturating_add(inline),
    }
}

/// PARAMETER LIST LENGTH ERROR.
fn length_error() -> Refusal {
    Sense::illegal(0x1A, 0x00).into()
}

impl State {
    pub(crate) fn extended_copy(&mut self, call: &Call<'_>) -> Outcome {
        let lid4 = call.kind == Kind::ExtendedCopyLid4;
        let promised = u32_at(&call.cdb, 10) as usize;
        if promised == 0 {
            return Ok(Done::Data(Vec::new()));
        }
        let header = if lid4 { LID4_HEADER } else { LID1_HEADER };
        let limits = &self.personality.copy;
        let most = limits.descriptor_bytes.saturating_add(limits.inline_bytes) as usize;
        let style = self.personality.style;
        let list = call.list();
        if list.len() < header || promised > header.saturating_add(most) {
            return Err(match style {
                Style::Ctl => Sense::field_in_cdb(9).into(),
                _ => length_error(),
            });
        }
        // LID4: PARAMETER LIST FORMAT 01h.
        if lid4 && list[0] != 0x01 && style != Style::Ctl {
            return Err(Sense::field_in_list(0).into());
        }
        let list = parse(list, lid4);
        let id = self.list_id(&list)?;
        self.check_lengths(&list)?;
        // LIO reads the segments first, and so complains of them first.
        let (segments, cscds) = if style == Style::Lio {
            let segments = self.segments(&list)?;
            (segments, self.cscds(&list)?)
        } else {
            let cscds = self.cscds(&list)?;
            (self.segments(&list)?, cscds)
        };
        let unit = &self.units[call.unit];
        let mut operation = Operation::new(
            call.cdb[1] & 0x1F,
            style,
            self.personality.sense,
            unit.block_size,
        );
        self.before_start(call, &cscds, &segments)?;
        for (number, segment) in segments.iter().enumerate() {
            match self.step(call, &cscds, segment) {
                Ok(steps) => operation.steps.extend(steps),
                Err(Refusal::Check(sense)) => {
                    let sense = if style == Style::Lio {
                        *sense
                    } else {
                        sense.at_segment(number)
                    };
                    operation.steps.push_back(Step::Fail(sense.into()));
                    break;
                }
                Err(refusal) => {
                    operation.steps.push_back(Step::Fail(refusal));
                    break;
                }
            }
            operation.steps.push_back(Step::Segment);
        }
        self.start(call, id, list.immed, operation)
    }

    /// The list identifier by which the operation can be asked about.
    fn list_id(&self, list: &List<'_>) -> Result<Option<u32>, Refusal> {
        let bad = |byte| Err(Sense::field_in_list(byte).into());
        match self.personality.style {
            Style::Lio => Ok(None),
            Style::Comstar if list.usage != 3 || list.id != 0 => bad(0),
            Style::Comstar => Ok(None),
            Style::Scst | Style::Array if list.usage == 1 => bad(1),
            Style::Scst | Style::Array if list.usage == 3 && list.id != 0 => bad(0),
            _ if list.usage == 3 => Ok(None),
            _ => Ok(Some(list.id)),
        }
    }

    fn check_lengths(&self, list: &List<'_>) -> Result<(), Refusal> {
        let limits = &self.personality.copy;
        let style = self.personality.style;
        if list.cscds.len() > usize::from(limits.cscds) * CSCD_BYTES {
            return Err(Sense::illegal(0x26, 0x06).into());
        }
        // By the shortest segment descriptor there is; their number is checked later.
        if style == Style::Ctl && list.segments.len() > usize::from(limits.segments) * 28 {
            return Err(Sense::illegal(0x26, 0x08).into());
        }
        if list.inline > limits.inline_bytes as usize && style != Style::Ctl {
            return Err(Sense::illegal(0x26, 0x0B).into());
        }
        let descriptors = list.cscds.len() + list.segments.len();
        if descriptors > limits.descriptor_bytes as usize || list.told > list.bytes {
            return Err(length_error());
        }
        if style == Style::Ctl && list.inline > limits.inline_bytes as usize {
            return Err(length_error());
        }
        if style == Style::Scst && list.bytes > list.told {
            return Err(Sense::illegal(0x26, 0x0B).into());
        }
        if !list.cscds.len().is_multiple_of(CSCD_BYTES) {
            return Err(length_error());
        }
        Ok(())
    }

    /// The CSCD descriptors, of types that are implemented.
    fn cscds<'a>(&self, list: &List<'a>) -> Result<Vec<&'a [u8]>, Refusal> {
        let cscds: Vec<&[u8]> = list.cscds.chunks_exact(CSCD_BYTES).collect();
        for cscd in &cscds {
            if cscd[0] != IDENTIFICATION {
                return Err(Sense::illegal(0x26, 0x07).into());
            }
            let (code_set, kind, length) = (cscd[4] & 0x0F, cscd[5] & 0x0F, usize::from(cscd[7]));
            let association = cscd[5] >> 4 & 3;
            let refused = match self.personality.style {
                // Only its own NAA 6h.
                Style::Lio => {
                    code_set != 1
                        || association != 0
                        || kind != 3
                        || length != 16
                        || cscd[8] >> 4 != 6
                }
                Style::Comstar => length != 16,
                Style::Ctl => false,
                _ => association != 0 || length > 20,
            };
            if refused {
                return Err(Sense::field_in_list(4).into());
            }
        }
        Ok(cscds)
    }
}
