//! Copies, tokens and zeroes, made of operations.

use super::fault::{Fault, Refusal, Why};
use super::operation::{Order, Site, Terms};
use crate::wire::{BlockRange, RANGES_MAX, Token, populate_parameters, write_parameters};
use xcopy_scsi_protocol::wire::cdb::{populate_token, write_using_token};
use xcopy_scsi_protocol::wire::status::CopyState;
use zeroize::Zeroizing;

/// New tokens for one command after the device forgot one, or how it was used.
const TOKENS_MAX: u32 = 4;
/// Times that one command may be done in part.
const SHORTS_MAX: u32 = 8;

/// A piece of a copy, in bytes of each device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte in the source.
    pub src: u64,
    /// First byte in the destination.
    pub dst: u64,
    /// Bytes.
    pub length: u64,
}

/// What a token should be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// ROD TYPE; None leaves it to the device, which need not know any other.
    pub rod_type: Option<u32>,
    /// Seconds of inactivity that it survives; 0 is the device's default.
    pub inactivity_s: u32,
}

/// How far a copy came: `done` bytes from the front are certainly written.
#[derive(Debug)]
pub struct Transferred {
    /// Bytes.
    pub done: u64,
    /// Why it ended before its end, and whether it was the source that failed.
    pub fault: Option<(Fault, bool)>,
}

fn blocks(port_block: u32, at: u64, length: u64) -> Result<BlockRange, Fault> {
    let block = u64::from(port_block.max(1));
    let misaligned = || Fault::untouched(Why::Misaligned);
    if !at.is_multiple_of(block) || !length.is_multiple_of(block) {
        return Err(misaligned());
    }
    Ok(BlockRange {
        lba: at / block,
        blocks: u32::try_from(length / block).map_err(|_| misaligned())?,
    })
}

/// Makes a token: the token, and the bytes that it stands for.
fn populate(
    src: &Site<'_>,
    terms: Terms<'_>,
    ranges: &[BlockRange],
    wanted: Wanted,
) -> Result<(Token, u64), Fault> {
    let block = src.port.block_bytes();
    let asked = bytes_of(ranges, block);
    let order = Order {
        cdb: populate_token,
        parameters: &|immediate| {
            let (rod_type, inactivity_s) = (wanted.rod_type, wanted.inactivity_s);
            Zeroizing::new(populate_parameters(
                ranges,
                immediate,
                rod_type,
                inactivity_s,
            ))
        },
        writes: false,
    };
    let made = src.run(terms, &order).map_err(|fault| Fault {
        untouched: true,
        ..fault
    })?;
    let malformed = |what| Fault::untouched(Why::Malformed(what));
    let whole = made.state.state == CopyState::Done;
    let counted = match made.state.bytes(block) {
        None => return Err(malformed("the transfer count has unknown units")),
        Some(0) => None,
        counted => counted,
    };
    let Some(token) = made.token else {
        return Err(malformed("no token came with the state"));
    };
    let covers = match (counted, token.represents()) {
        (Some(counted), Some(represents)) => counted.min(represents),
        (Some(known), None) | (None, Some(known)) => known,
        (None, None) if whole => asked,
        (None, None) => return Err(malformed("nobody says what the token stands for")),
    };
    if covers > asked {
        return Err(malformed("the token stands for more than was asked"));
    }
    Ok((token, covers - covers % u64::from(block.max(1))))
}

/// Writes from a token: the bytes that are written.
fn write_blocks(
    dst: &Site<'_>,
    terms: Terms<'_>,
    token: &Token,
    ranges: &[BlockRange],
    offset: u64,
    delete: bool,
) -> Result<u64, Fault> {
    let block = dst.port.block_bytes();
    let order = Order {
        cdb: write_using_token,
        parameters: &|immediate| write_parameters(token, ranges, offset, immediate, delete),
        writes: true,
    };
    let ended = dst.run(terms, &order)?;
    let malformed = |what| Fault::new(Why::Malformed(what));
    let Some(written) = ended.state.bytes(block) else {
        return Err(malformed("the transfer count has unknown units"));
    };
    if written > bytes_of(ranges, block) {
        return Err(malformed("more was written than was asked"));
    }
    Ok(written - written % u64::from(block.max(1)))
}

fn bytes_of(ranges: &[BlockRange], block: u32) -> u64 {
    let blocks: u64 = ranges.iter().map(|range| u64::from(range.blocks)).sum();
    blocks.saturating_mul(block.into())
}

/// The pieces without their first `done` bytes, as far as one token goes: a
/// device refuses a token of ranges that overlap.
fn rest(pieces: &[Piece], done: u64) -> Vec<Piece> {
    let mut skip = done;
    let mut rest: Vec<Piece> = Vec::new();
    for piece in pieces {
        let cut = skip.min(piece.length);
        skip -= cut;
        let left = Piece {
            src: piece.src + cut,
            dst: piece.dst + cut,
            length: piece.length - cut,
        };
        if left.length == 0 {
            continue;
        }
        let meets = |other: &Piece| {
            left.src < other.src + other.length && other.src < left.src + left.length
        };
        if rest.len() == RANGES_MAX || rest.iter().any(meets) {
            break;
        }
        rest.push(left);
    }
    rest
}

/// Cuts pieces to their first `bytes`.
fn cut(pieces: &mut Vec<Piece>, bytes: u64) {
    let mut left = bytes;
    pieces.retain_mut(|piece| {
        piece.length = piece.length.min(left);
        left -= piece.length;
        piece.length > 0
    });
}

/// Copies the pieces in their order, each time from the first byte that is not
/// known to be written: a token that the device forgot is made anew.
pub fn copy(src: &Site<'_>, dst: &Site<'_>, terms: Terms<'_>, pieces: &[Piece]) -> Transferred {
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    let (mut done, mut again, mut shorts) = (0, 0, 0);
    while done < total {
        let stopped = |fault, on_source| Transferred {
            done,
            fault: Some((fault, on_source)),
        };
        let mut now = rest(pieces, done);
        let ranges = |pieces: &[Piece], block, of: fn(&Piece) -> u64| {
            let ranges = pieces.iter().map(|p| blocks(block, of(p), p.length));
            ranges.collect::<Result<Vec<_>, _>>()
        };
        let sources = match ranges(&now, src.port.block_bytes(), |piece| piece.src) {
            Ok(sources) => sources,
            Err(fault) => return stopped(fault, true),
        };
        let (token, covers) = match populate(src, terms, &sources, Wanted::default()) {
            Ok(made) => made,
            Err(fault) if fault.asks_for_another() && again < TOKENS_MAX => {
                again += 1;
                continue;
            }
            Err(fault) => return stopped(fault, true),
        };
        // Whole blocks of the destination.
        let block = u64::from(dst.port.block_bytes().max(1));
        let covers = covers - covers % block;
        cut(&mut now, covers);
        let written = match ranges(&now, dst.port.block_bytes(), |piece| piece.dst) {
            _ if now.is_empty() => Ok(0),
            Ok(places) => write_blocks(dst, terms, &token, &places, 0, true),
            Err(fault) => Err(fault),
        };
        let left_behind = match &written {
            Ok(written) => *written == 0,
            Err(fault) => fault.settled && !fault.refusal().is_some_and(Refusal::is_token_gone),
        };
        if left_behind {
            let _ = release(src, terms, &token);
        }
        match written {
            Ok(written) => {
                done += written;
                let asked: u64 = sources.iter().map(|r| u64::from(r.blocks)).sum();
                if written < asked * u64::from(src.port.block_bytes()) {
                    shorts += 1;
                    if shorts > SHORTS_MAX || written == 0 {
                        let done = done;
                        return Transferred {
                            done,
                            fault: Some((Fault::new(Why::Short), false)),
                        };
                    }
                }
            }
            Err(fault) if fault.asks_for_another() && again < TOKENS_MAX => again += 1,
            Err(fault) => return stopped(fault, false),
        }
    }
    Transferred { done, fault: None }
}

/// Makes one token for all of a range: anew, if the device forgot what came of it.
pub fn create(
    src: &Site<'_>,
    terms: Terms<'_>,
    at: u64,
    length: u64,
    wanted: Wanted,
) -> Result<Token, Fault> {
    let range = blocks(src.port.block_bytes(), at, length)?;
    let mut again = 0;
    let (token, covers) = loop {
        match populate(src, terms, &[range], wanted) {
            Err(fault) if fault.asks_for_another() && again < TOKENS_MAX => again += 1,
            made => break made?,
        }
    };
    if covers < length {
        let _ = release(src, terms, &token);
        return Err(Fault::untouched(Why::Short));
    }
    Ok(token)
}

/// Writes `length` bytes of a token, from its byte `offset` on.
pub fn write(
    dst: &Site<'_>,
    terms: Terms<'_>,
    token: &Token,
    offset: u64,
    at: u64,
    length: u64,
) -> Transferred {
    let block = dst.port.block_bytes();
    let (mut done, mut again, mut shorts) = (0, 0, 0);
    while done < length {
        let stopped = |fault| Transferred {
            done,
            fault: Some((fault, false)),
        };
        let into = match offset_into(token, offset + done, block) {
            Ok(into) => into,
            Err(fault) => return stopped(fault),
        };
        let range = match blocks(block, at + done, length - done) {
            Ok(range) => range,
            Err(fault) => return stopped(fault),
        };
        match write_blocks(dst, terms, token, &[range], into, false) {
            Ok(written) => {
                done += written;
                shorts += 1;
                if done < length && (written == 0 || shorts > SHORTS_MAX) {
                    return Transferred {
                        done,
                        fault: Some((Fault::new(Why::Short), false)),
                    };
                }
            }
            Err(fault) if fault.why == Why::StatusLost && fault.settled && again < TOKENS_MAX => {
                again += 1;
            }
            Err(fault) => return stopped(fault),
        }
    }
    Transferred { done, fault: None }
}

/// OFFSET INTO ROD counts blocks of the destination (SBC-4 5.59.2); copy
/// managers are known that take those of the source. Where the two differ no
/// offset but 0 is safe.
fn offset_into(token: &Token, offset: u64, block: u32) -> Result<u64, Fault> {
    if offset == 0 {
        return Ok(0);
    }
    if token.block_length().is_some_and(|length| length != block) {
        return Err(Fault::untouched(Why::Offset));
    }
    match offset.is_multiple_of(block.max(1).into()) {
        true => Ok(offset / u64::from(block.max(1))),
        false => Err(Fault::untouched(Why::Misaligned)),
    }
}

/// Writes zeroes by the token that stands for them.
pub fn zero(dst: &Site<'_>, terms: Terms<'_>, at: u64, length: u64) -> Transferred {
    // Not a token that anybody made: it needs no offset.
    let (token, block) = (Token::zeroes(), dst.port.block_bytes());
    let (mut done, mut shorts) = (0, 0);
    while done < length {
        let written = blocks(block, at + done, length - done)
            .and_then(|range| write_blocks(dst, terms, &token, &[range], 0, false));
        let fault = match written {
            Ok(written) => {
                done += written;
                shorts += 1;
                if done == length || (written > 0 && shorts <= SHORTS_MAX) {
                    continue;
                }
                Fault::new(Why::Short)
            }
            Err(fault) => fault,
        };
        return Transferred {
            done,
            fault: Some((fault, false)),
        };
    }
    Transferred { done, fault: None }
}

/// A range of no blocks writes nothing and is no error (SBC-4 5.12.3).
const NO_BLOCKS: BlockRange = BlockRange { lba: 0, blocks: 0 };

/// Lets the device forget a token.
pub fn release(site: &Site<'_>, terms: Terms<'_>, token: &Token) -> Result<(), Fault> {
    let terms = Terms {
        immediate: false,
        ..terms
    };
    match write_blocks(site, terms, token, &[NO_BLOCKS], 0, true) {
        Err(fault) if fault.refusal().is_some_and(Refusal::is_token_gone) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Whether the destination knows the source's tokens: makes one for a block and
/// writes nothing from it. The refusal, if the two have different copy managers
/// or none; a fault of the source; else nothing speaks against it.
pub fn foreign(src: &Site<'_>, dst: &Site<'_>, terms: Terms<'_>) -> Result<Option<Refusal>, Fault> {
    let terms = Terms {
        immediate: false,
        ..terms
    };
    let first = BlockRange { lba: 0, blocks: 1 };
    let (token, _) = populate(src, terms, &[first], Wanted::default())?;
    match write_blocks(dst, terms, &token, &[NO_BLOCKS], 0, true) {
        Ok(_) => Ok(None),
        Err(fault) => {
            let _ = release(src, terms, &token);
            // A token that is revoked or has expired says nothing of the next one.
            let foreign = |refusal: &Refusal| {
                matches!(
                    refusal.code(),
                    Some((0x5, 0x20, _) | (0x5, 0x23, 0x00..=0x04))
                )
            };
            Ok(fault.refusal().filter(|refusal| foreign(refusal)).cloned())
        }
    }
}
