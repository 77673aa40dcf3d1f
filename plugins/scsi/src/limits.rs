//! What a copy manager takes in one command, for a pair of logical units.

use xcopy_plugin_sdk::abi::xcopy_limits;
use xcopy_scsi_protocol::Lun;
use xcopy_scsi_protocol::wire::copy::{
    CSCD_BYTES, CSCD_IDENTIFICATION, SEGMENT_BLOCK_TO_BLOCK, SEGMENT_BLOCKS_MAX, SEGMENT_BYTES,
};

/// Segments of one command that this plugin ever sends.
pub const SEGMENTS_MAX: u32 = 64;
/// Bytes of one command at most, however much the target takes: a long command
/// is hard to cancel, and a slow target must not run into its timeout.
const COMMAND_MAX: u64 = 64 << 20;
/// Bytes of one command that are tried without being told.
const PREFERRED: u64 = 32 << 20;

/// Limits as a copy manager states them, in bytes; 0 is as in the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// CSCD descriptors.
    pub cscds: u16,
    /// Segment descriptors.
    pub segments: u16,
    /// Bytes of descriptors.
    pub descriptors_bytes: u32,
    /// Bytes of a segment; 0 is no limit.
    pub segment_bytes: u32,
    /// log2 of the bytes that a segment has to be a multiple of.
    pub granularity_log2: u8,
    /// Copies at once without list identifier; 0 is not stated.
    pub concurrent: u32,
    /// Copies at once with list identifier; 0 is not stated.
    pub identified: u32,
    /// Takes copies without list identifier.
    pub without_list_id: bool,
    /// Knows E4h descriptors and 02h segments, or does not say.
    pub copies_blocks: bool,
}

impl Stated {
    /// What the unit's copy manager states: its operating parameters, or, without
    /// them, VPD page 8Fh. None if it states nothing.
    pub fn of(unit: &Lun) -> Option<Stated> {
        if let Ok(operating) = &unit.facts().operating {
            return Some(Stated {
                cscds: operating.max_cscds,
                segments: operating.max_segments,
                descriptors_bytes: operating.max_descriptors_bytes,
                segment_bytes: operating.max_segment_bytes,
                granularity_log2: operating.segment_granularity_log2,
                concurrent: operating.total_concurrent.into(),
                identified: operating.max_concurrent.into(),
                without_list_id: operating.without_list_id,
                copies_blocks: operating.takes_type(CSCD_IDENTIFICATION)
                    && operating.takes_type(SEGMENT_BLOCK_TO_BLOCK),
            });
        }
        let page = unit.third_party()?;
        let (cscds, segments, descriptors_bytes) = page.parameter_limits?;
        let (concurrent, identified, segment_bytes, granularity_log2) =
            page.general.unwrap_or_default();
        let takes = |code| page.descriptors.is_empty() || page.descriptors.contains(&code);
        Some(Stated {
            cscds,
            segments,
            descriptors_bytes,
            segment_bytes,
            granularity_log2,
            concurrent,
            identified,
            without_list_id: true,
            copies_blocks: takes(CSCD_IDENTIFICATION) && takes(SEGMENT_BLOCK_TO_BLOCK),
        })
    }
}

/// What one command may hold, for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the source's block.
    pub src_block: u32,
    /// Bytes of the destination's block.
    pub dst_block: u32,
    /// Bytes that a segment has to be a multiple of.
    pub granularity: u32,
    /// Segments of one command.
    pub segments: u32,
    /// Bytes of one segment, a multiple of the granularity.
    pub segment_bytes: u64,
    /// Bytes of one command.
    pub command_bytes: u64,
    /// Commands at once; 0 is not stated.
    pub concurrent: u32,
    /// One CSCD descriptor stands for both ends.
    pub one_cscd: bool,
}

/// The limits of a pair, or why the stated ones leave nothing usable, in words.
pub fn limits(
    stated: &Stated,
    src_block: u32,
    dst_block: u32,
    same_unit: bool,
) -> Result<Limits, String> {
    let one_cscd = stated.cscds < 2;
    if stated.cscds == 0 || (one_cscd && !same_unit) {
        return Err(format!(
            "the copy manager takes {} CSCD descriptors, and a copy between two units needs 2",
            stated.cscds
        ));
    }
    if stated.segments == 0 {
        return Err("the copy manager states that it takes no segment descriptors".into());
    }
    if !stated.copies_blocks {
        return Err("the copy manager lists no copies from block device to block device".into());
    }
    let cscds_bytes = if one_cscd { 1 } else { 2 } * CSCD_BYTES as u64;
    let room = u64::from(stated.descriptors_bytes).saturating_sub(cscds_bytes);
    let fitting = room / SEGMENT_BYTES as u64;
    if fitting == 0 {
        return Err(format!(
            "the copy manager has room for {} bytes of descriptors, and one copy needs {}",
            stated.descriptors_bytes,
            cscds_bytes + SEGMENT_BYTES as u64
        ));
    }
    // Blocks are powers of two, and so is the granularity.
    let blocks = src_block.max(dst_block);
    let granularity = match stated.granularity_log2 {
        log2 @ 0..=30 => blocks.max(1 << log2),
        log2 => {
            return Err(format!(
                "the copy manager states a granularity of 2^{log2} bytes"
            ));
        }
    };
    // Blocks are counted in the larger of the two, of which more bytes fit.
    let counted = SEGMENT_BLOCKS_MAX * u64::from(blocks);
    let segment_bytes = match stated.segment_bytes {
        0 => counted,
        bytes => counted.min(bytes.into()),
    };
    let whole = segment_bytes / u64::from(granularity) * u64::from(granularity);
    if whole == 0 {
        return Err(format!(
            "the copy manager takes segments of at most {segment_bytes} bytes, which is less than \
             its unit of {granularity}"
        ));
    }
    let segments = u64::from(stated.segments)
        .min(fitting)
        .min(SEGMENTS_MAX.into());
    let most = COMMAND_MAX / u64::from(granularity) * u64::from(granularity);
    let command_bytes = whole
        .saturating_mul(segments)
        .min(most.max(granularity.into()));
    let concurrent = match (stated.without_list_id, stated.concurrent, stated.identified) {
        (true, 0, other) | (true, other, _) | (false, other, 0) | (false, _, other) => other,
    };
    Ok(Limits {
        src_block,
        dst_block,
        granularity,
        segments: segments as u32,
        segment_bytes: whole.min(command_bytes),
        command_bytes,
        concurrent,
        one_cscd,
    })
}

impl Limits {
    /// For the core.
    pub fn for_core(&self) -> xcopy_limits {
        let preferred = PREFERRED.max(self.granularity.into());
        xcopy_limits {
            preferred_bytes: self.segment_bytes.min(preferred),
            max_bytes: self.command_bytes,
            max_range_bytes: self.segment_bytes,
            src_granularity: self.src_block,
            dst_granularity: self.dst_block,
            length_granularity: self.granularity,
            max_ranges: self.segments,
            max_concurrent: self.concurrent,
            contiguous_dst: 0,
        }
    }
}
