//! ROD tokens: their bytes (SPC-4 6.4.6, SBC-4 4.28), their life.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::disk::Chunks;
use crate::fault::TokenFate;
use crate::operation::Source;
use crate::unit::Unit;

/// Bytes of a ROD token.
pub const TOKEN_BYTES: usize = 512;
/// ROD TYPE of the block device zero ROD token (SBC-4 4.28.4).
pub const BLOCK_ZERO: u32 = 0xFFFF_0001;
/// ROD TOKEN LENGTH of all of them.
const LENGTH_FIELD: u16 = 0x01F8;
/// Where the manager writes which one it is: a token of another is foreign.
const INSTANCE_AT: usize = 128;

pub(crate) struct Token {
    pub(crate) bytes: Box<[u8; TOKEN_BYTES]>,
    pub(crate) unit: usize,
    pub(crate) block_size: u32,
    /// LBA and number of blocks.
    ranges: Vec<(u64, u64)>,
    /// What the ranges held, at the same offsets; None is read upon reference.
    frozen: Option<Arc<Chunks>>,
    pub(crate) represents: u64,
    timeout: Duration,
    last_used: Duration,
    pub(crate) nexus: usize,
    /// Operations that write it now.
    pub(crate) active: u32,
    pub(crate) delete: bool,
}

impl Token {
    /// The sources of `len` bytes from `at`, as far as there are any.
    pub(crate) fn sources(&self, at: u64, len: u64) -> Vec<(Source, u64)> {
        let mut out = Vec::new();
        let (mut skip, mut left) = (at, len);
        for (lba, count) in &self.ranges {
            let bytes = count.saturating_mul(u64::from(self.block_size));
            if skip >= bytes {
                skip -= bytes;
                continue;
            }
            let n = (bytes - skip).min(left);
            if n == 0 {
                break;
            }
            let at = lba.saturating_mul(u64::from(self.block_size)) + skip;
            let source = match &self.frozen {
                Some(bytes) => Source::Frozen {
                    bytes: bytes.clone(),
                    at,
                },
                None => Source::Unit {
                    unit: self.unit,
                    at,
                },
            };
            out.push((source, n));
            skip = 0;
            left -= n;
        }
        out
    }
}

/// What a token is made of.
pub(crate) struct NewToken<'a> {
    pub(crate) unit: usize,
    pub(crate) nexus: usize,
    pub(crate) ranges: &'a [(u64, u64)],
    pub(crate) rod_type: u32,
    pub(crate) frozen: bool,
    pub(crate) timeout: Duration,
    pub(crate) now: Duration,
}

/// Why a token is not taken.
pub(crate) enum NoToken {
    /// It was here.
    Dead(TokenFate),
    /// ROD TOKEN LENGTH is wrong (23h/0Ah).
    Length,
    /// Another copy manager's (23h/02h).
    Foreign,
    /// One of ours, changed (23h/05h).
    Corrupt,
}

pub(crate) struct Tokens {
    live: BTreeMap<u64, Token>,
    dead: HashMap<u64, TokenFate>,
    next: u64,
    /// Tells this copy manager from every other in the process.
    pub(crate) instance: u64,
}

/// One step of SplitMix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Tokens {
    pub(crate) fn new(instance: u64) -> Tokens {
        Tokens {
            live: BTreeMap::new(),
            dead: HashMap::new(),
            next: 1,
            instance,
        }
    }

    pub(crate) fn create(&mut self, unit: &Unit, new: NewToken<'_>) -> Box<[u8; TOKEN_BYTES]> {
        let number = self.next;
        self.next += 1;
        let block = u64::from(unit.block_size);
        let blocks: u64 = new.ranges.iter().map(|(_, count)| *count).sum();
        let bytes = self.encode(number, unit, new.rod_type, blocks * block);
        let frozen = new.frozen.then(|| {
            let mut all = Chunks::default();
            for (lba, count) in new.ranges {
                all.merge(unit.chunks.snapshot(lba * block, count * block));
            }
            Arc::new(all)
        });
        let token = Token {
            bytes: bytes.clone(),
            unit: new.unit,
            block_size: unit.block_size,
            ranges: new.ranges.to_vec(),
            frozen,
            represents: blocks * block,
            timeout: new.timeout,
            last_used: new.now,
            nexus: new.nexus,
            active: 0,
            delete: false,
        };
        self.live.insert(number, token);
        bytes
    }

    fn encode(
        &self,
        number: u64,
        unit: &Unit,
        rod_type: u32,
        represents: u64,
    ) -> Box<[u8; TOKEN_BYTES]> {
        let mut out = Box::new([0; TOKEN_BYTES]);
        put(&mut out[..], 0, &rod_type.to_be_bytes());
        put(&mut out[..], 6, &LENGTH_FIELD.to_be_bytes());
        put(&mut out[..], 8, &number.to_be_bytes());
        // CREATOR LOGICAL UNIT DESCRIPTOR: an identification CSCD descriptor.
        out[16] = 0xE4;
        if let Some(name) = unit.designators.iter().find(|d| d.kind == 3 || d.kind == 2) {
            out[20] = name.code_set;
            out[21] = name.kind;
            out[23] = name.bytes.len().min(20) as u8;
            put(&mut out[..], 24, &name.bytes[..name.bytes.len().min(20)]);
        }
        put(&mut out[..], 45, &unit.block_size.to_be_bytes()[1..]);
        put(&mut out[..], 56, &represents.to_be_bytes());
        // Device type specific data: READ CAPACITY (16) without its LBA.
        put(&mut out[..], 96, &unit.block_size.to_be_bytes());
        out[101] = unit.physical_exponent & 0x0F;
        put(&mut out[..], INSTANCE_AT, &self.instance.to_be_bytes());
        let mut state = self.instance ^ number.rotate_left(17);
        for at in (INSTANCE_AT + 8..TOKEN_BYTES).step_by(8) {
            put(&mut out[..], at, &mix(&mut state).to_be_bytes());
        }
        out
    }

    /// The number of a token that can be written.
    pub(crate) fn find(&self, bytes: &[u8]) -> Result<u64, NoToken> {
        let number = u64_at(bytes, 8);
        if let Some(token) = self.live.get(&number)
            && token.bytes[..] == *bytes
        {
            return Ok(number);
        }
        if u16_at(bytes, 6) != LENGTH_FIELD {
            return Err(NoToken::Length);
        }
        if u64_at(bytes, INSTANCE_AT) != self.instance {
            return Err(NoToken::Foreign);
        }
        if self.live.contains_key(&number) {
            return Err(NoToken::Corrupt);
        }
        Err(NoToken::Dead(
            self.dead
                .get(&number)
                .copied()
                .unwrap_or(TokenFate::Unknown),
        ))
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Token> {
        self.live.get_mut(&number)
    }

    /// An operation that wrote the token has ended.
    pub(crate) fn release(&mut self, number: u64, now: Duration) {
        let Some(token) = self.live.get_mut(&number) else {
            return;
        };
        token.active = token.active.saturating_sub(1);
        token.last_used = now;
        if token.delete && token.active == 0 {
            self.kill(number, TokenFate::Deleted);
        }
    }

    pub(crate) fn kill(&mut self, number: u64, fate: TokenFate) {
        if self.live.remove(&number).is_some() && fate != TokenFate::Unknown {
            self.dead.insert(number, fate);
        }
    }

    pub(crate) fn kill_all(&mut self, fate: TokenFate, which: impl Fn(&Token) -> bool) {
        let numbers: Vec<u64> = self
            .live
            .iter()
            .filter(|(_, token)| which(token))
            .map(|(n, _)| *n)
            .collect();
        numbers
            .into_iter()
            .for_each(|number| self.kill(number, fate));
    }

    /// Tokens that nobody used for longer than their timeout expire.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.kill_all(TokenFate::Expired, |token| {
            token.active == 0 && now > token.last_used + token.timeout
        });
    }

    /// The first 96 bytes of each (REPORT ALL ROD TOKENS, SPC-4 6.30).
    pub(crate) fn management(&self) -> impl Iterator<Item = &[u8]> {
        self.live.values().map(|token| &token.bytes[..96])
    }

    pub(crate) fn count(&self) -> usize {
        self.live.len()
    }
}

/// Whether it is the block zero token, by ROD TYPE alone as CTL looks, and
/// whether the rest is as SBC-3 wants it.
pub(crate) fn block_zero(bytes: &[u8]) -> Option<bool> {
    (u32_at(bytes, 0) == BLOCK_ZERO).then(|| {
        u16_at(bytes, 4) == 0
            && u16_at(bytes, 6) == LENGTH_FIELD
            && bytes
                .get(8..TOKEN_BYTES)
                .is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    })
}
