//! Ranges in bytes as segments in blocks.

use crate::limits::Limits;
use xcopy_plugin_sdk::abi::xcopy_range;
use xcopy_scsi_protocol::Lun;
use xcopy_scsi_protocol::wire::copy::Segment;

/// The segments of a command, one for each range. None if a range is not within
/// the limits or the units: the core plans by the limits, so that is a fault.
pub fn segments(
    limits: &Limits,
    src: &Lun,
    dst: &Lun,
    ranges: &[xcopy_range],
) -> Option<Vec<Segment>> {
    if ranges.len() > limits.segments as usize {
        return None;
    }
    let mut segments = Vec::with_capacity(ranges.len());
    for range in ranges {
        if range.length > limits.segment_bytes
            || !range.length.is_multiple_of(limits.granularity.into())
        {
            return None;
        }
        let (source_lba, source_blocks) = src.blocks(range.src_offset, range.length)?;
        let (destination_lba, destination_blocks) = dst.blocks(range.dst_offset, range.length)?;
        // Counted in the larger block, so that the count is the smaller one.
        let in_destination_blocks = limits.dst_block > limits.src_block;
        let blocks = match in_destination_blocks {
            true => destination_blocks,
            false => source_blocks,
        };
        segments.push(Segment {
            source: 0,
            destination: u16::from(!limits.one_cscd),
            in_destination_blocks,
            blocks: u16::try_from(blocks).ok()?,
            source_lba,
            destination_lba,
        });
    }
    Some(segments)
}
