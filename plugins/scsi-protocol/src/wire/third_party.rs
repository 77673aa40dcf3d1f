//! VPD page 8Fh, Third-party Copy (SPC-4 7.8.17): a list of descriptors, of
//! which those that are not known are passed over.

use super::bytes::{be16, be32, be64};
use super::inquiry::page_content;

/// ROD limits, for tokens (SBC-4 6.6.9.3, type 0000h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RodLimits {
    /// Ranges of one command at most; 0 is not stated.
    pub max_ranges: u16,
    /// Seconds of inactivity at most; 0 is not stated.
    pub max_inactivity_s: u32,
    /// Seconds of inactivity if the command states none.
    pub default_inactivity_s: u32,
    /// Blocks of one token at most; 0 is not stated.
    pub max_blocks: u64,
    /// Blocks of one token that work best; 0 is not stated.
    pub optimal_blocks: u64,
}

/// A type of ROD (type 0108h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RodType {
    /// ROD TYPE.
    pub code: u32,
    /// The copy manager's tokens of this type can be asked for (TOKEN_OUT).
    pub token_out: bool,
    /// It takes tokens of this type (TOKEN_IN).
    pub token_in: bool,
    /// Usable in EXTENDED COPY by internal RODs (ECPY_INT).
    pub internal: bool,
    /// PREFERENCE INDICATOR.
    pub preference: u16,
}

/// ROD device features that concern all tokens (type 0106h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RodFeatures {
    /// REMOTE TOKENS: what it does with tokens of other copy managers.
    pub remote_tokens: u8,
    /// Seconds that a token lives at least.
    pub min_lifetime_s: u32,
    /// Seconds that a token lives at most.
    pub max_lifetime_s: u32,
    /// Seconds of inactivity at most.
    pub max_inactivity_s: u32,
}

/// What VPD page 8Fh says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThirdParty {
    /// Operation codes with their service actions (type 0001h).
    pub commands: Vec<(u8, Vec<u8>)>,
    /// CSCDs, segments and bytes of descriptors at most (type 0004h).
    pub parameter_limits: Option<(u16, u16, u32)>,
    /// Descriptor type codes (type 0008h).
    pub descriptors: Vec<u8>,
    /// CSCD identifiers above 7FFh (type 000Ch).
    pub cscd_ids: Vec<u16>,
    /// ROD limits (type 0000h).
    pub rod_limits: Option<RodLimits>,
    /// ROD features (type 0106h).
    pub rod_features: Option<RodFeatures>,
    /// ROD types (type 0108h).
    pub rod_types: Vec<RodType>,
    /// Copies at once, of those identified, bytes of a segment at most, log2 of
    /// its granularity (type 8001h).
    pub general: Option<(u32, u32, u32, u8)>,
}

impl ThirdParty {
    /// From the page; None if it is another one.
    pub fn parse(bytes: &[u8]) -> Option<ThirdParty> {
        let mut rest = page_content(bytes, 0x8f)?;
        let mut page = ThirdParty::default();
        while let (Some(kind), Some(len)) = (be16(rest, 0), be16(rest, 2)) {
            // A descriptor that is cut off is used as far as it goes.
            let end = rest.len().min(4 + usize::from(len));
            let (this, next) = rest.split_at(end);
            page.add(kind, this);
            rest = next;
        }
        Some(page)
    }

    fn add(&mut self, kind: u16, this: &[u8]) {
        match kind {
            0x0000 => self.rod_limits = rod_limits(this).or(self.rod_limits),
            0x0001 => self.add_commands(this),
            0x0004 => {
                let limits = (be16(this, 8), be16(this, 10), be32(this, 12));
                if let (Some(cscds), Some(segments), Some(bytes)) = limits {
                    self.parameter_limits = Some((cscds, segments, bytes));
                }
            }
            0x0008 => {
                let n = this.get(4).copied().map_or(0, usize::from);
                let codes = this.get(5..).unwrap_or_default();
                self.descriptors.extend(&codes[..codes.len().min(n)]);
            }
            0x000c => {
                let n = be16(this, 4).map_or(0, usize::from);
                let ids = this.get(6..).unwrap_or_default();
                let ids = ids[..ids.len().min(n)].chunks_exact(2);
                self.cscd_ids.extend(ids.filter_map(|id| be16(id, 0)));
            }
            0x0106 => self.rod_features = rod_features(this).or(self.rod_features),
            0x0108 => self.add_types(this),
            0x8001 => {
                let limits = (be32(this, 4), be32(this, 8), be32(this, 12));
                if let (Some(total), Some(identified), Some(bytes)) = limits {
                    let granularity = this.get(16).copied().unwrap_or(0);
                    self.general = Some((total, identified, bytes, granularity));
                }
            }
            _ => {}
        }
    }

    fn add_commands(&mut self, this: &[u8]) {
        let n = this.get(4).copied().map_or(0, usize::from);
        let list = this.get(5..).unwrap_or_default();
        let mut list = &list[..list.len().min(n)];
        while let [opcode, count, rest @ ..] = list {
            let (actions, next) = rest.split_at(rest.len().min((*count).into()));
            self.commands.push((*opcode, actions.to_vec()));
            list = next;
        }
    }

    fn add_types(&mut self, this: &[u8]) {
        let n = be16(this, 6).map_or(0, usize::from);
        let list = this.get(8..).unwrap_or_default();
        for entry in list[..list.len().min(n)].chunks_exact(64) {
            if let (Some(code), Some(preference)) = (be32(entry, 0), be16(entry, 6)) {
                self.rod_types.push(RodType {
                    code,
                    token_out: entry[4] & 1 != 0,
                    token_in: entry[4] & 2 != 0,
                    internal: entry[4] & 0x80 != 0,
                    preference,
                });
            }
        }
    }

    /// The page lists the service action of the operation code.
    pub fn has_command(&self, opcode: u8, service_action: u8) -> bool {
        self.commands
            .iter()
            .any(|(code, actions)| *code == opcode && actions.contains(&service_action))
    }

    /// The page lists commands at all.
    pub fn lists_commands(&self) -> bool {
        !self.commands.is_empty()
    }
}

fn rod_limits(this: &[u8]) -> Option<RodLimits> {
    Some(RodLimits {
        max_ranges: be16(this, 10)?,
        max_inactivity_s: be32(this, 12)?,
        default_inactivity_s: be32(this, 16)?,
        max_blocks: be64(this, 20)?,
        optimal_blocks: be64(this, 28)?,
    })
}

fn rod_features(this: &[u8]) -> Option<RodFeatures> {
    Some(RodFeatures {
        remote_tokens: this.get(4)? & 0xf,
        min_lifetime_s: be32(this, 16)?,
        max_lifetime_s: be32(this, 20)?,
        max_inactivity_s: be32(this, 24)?,
    })
}
