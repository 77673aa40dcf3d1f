//! What a copy manager implements, its limits and its ways: data that the engine
//! asks. The ready-made ones are those of known targets; every field may be
//! changed before or while it serves.

mod targets;

use crate::kind::Kind;
use crate::sense::SenseFormat;

/// Whose order of checks and error codes is followed where targets differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// FreeBSD's CTL.
    Ctl,
    /// Linux's LIO.
    Lio,
    /// SCST.
    Scst,
    /// illumos's COMSTAR.
    Comstar,
    /// SPC-4 and SBC-3 to the letter, as a storage array.
    Array,
}

/// Limits of EXTENDED COPY, as RECEIVE COPY OPERATING PARAMETERS and VPD page
/// 8Fh report them (SPC-4 6.18.4).
#[derive(Clone, Debug)]
pub struct CopyLimits {
    /// MAXIMUM CSCD DESCRIPTOR COUNT.
    pub cscds: u16,
    /// MAXIMUM SEGMENT DESCRIPTOR COUNT.
    pub segments: u16,
    /// MAXIMUM DESCRIPTOR LIST LENGTH, in bytes.
    pub descriptor_bytes: u32,
    /// MAXIMUM SEGMENT LENGTH, in bytes; 0 is no limit.
    pub segment_bytes: u32,
    /// MAXIMUM INLINE DATA LENGTH, in bytes.
    pub inline_bytes: u32,
    /// HELD DATA LIMIT, in bytes.
    pub held_bytes: u32,
    /// DATA SEGMENT GRANULARITY, log2 of bytes.
    pub granularity_log2: u8,
    /// TOTAL CONCURRENT COPIES.
    pub total_concurrent: u16,
    /// MAXIMUM CONCURRENT COPIES.
    pub concurrent: u8,
    /// SNLID: a list identifier is not needed.
    pub snlid: bool,
    /// Type codes of the implemented CSCD and segment descriptors.
    pub types: Vec<u8>,
}

/// When the bytes of a token are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMoment {
    /// When the token is written: a source that changes in between shows through.
    OnReference,
    /// When the token is made.
    OnCreation,
}

/// ROD tokens: limits (SBC-4 6.6.9) and ways.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// MAXIMUM RANGE DESCRIPTORS.
    pub ranges: u16,
    /// MAXIMUM INACTIVITY TIMEOUT, in seconds.
    pub max_timeout_s: u32,
    /// DEFAULT INACTIVITY TIMEOUT, in seconds.
    pub default_timeout_s: u32,
    /// MAXIMUM TOKEN TRANSFER SIZE, in bytes; 0 is not reported and not enforced.
    pub max_bytes: u64,
    /// OPTIMAL TRANSFER COUNT, in bytes; 0 is not reported.
    pub optimal_bytes: u64,
    /// The ROD type that is made when none is asked for.
    pub rod_type: u32,
    /// ROD types that may be asked for.
    pub rod_types: Vec<u32>,
    /// When their bytes are taken.
    pub moment: TokenMoment,
    /// OFFSET INTO ROD counts blocks of the source, not of the destination.
    pub offset_in_source_blocks: bool,
    /// The block zero token is known.
    pub zero_token: bool,
    /// A dead token is answered by what became of it, not only as unknown.
    pub tells_why_dead: bool,
    /// RECEIVE ROD TOKEN INFORMATION counts in blocks (F1h), not in bytes.
    pub counts_blocks: bool,
}

/// A copy manager.
#[derive(Clone, Debug)]
pub struct Personality {
    /// Its name, for messages.
    pub name: &'static str,
    /// Whose order of checks it follows.
    pub style: Style,
    /// T10 VENDOR IDENTIFICATION.
    pub vendor: &'static str,
    /// PRODUCT IDENTIFICATION.
    pub product: &'static str,
    /// 3PC of INQUIRY.
    pub third_party: bool,
    /// It has VPD page 8Fh.
    pub third_party_page: bool,
    /// It has REPORT SUPPORTED OPERATION CODES.
    pub reports_commands: bool,
    /// The format of its sense data.
    pub sense: SenseFormat,
    /// The third-party copy commands that it implements.
    pub commands: Vec<Kind>,
    /// Limits of EXTENDED COPY.
    pub copy: CopyLimits,
    /// Its tokens, if it has them.
    pub tokens: Option<TokenRules>,
    /// IMMED is honoured: the copy goes on after the answer.
    pub honours_immed: bool,
    /// Bytes per millisecond of a copy that goes on behind its answer.
    pub background_bytes_per_ms: u64,
    /// ESTIMATED STATUS UPDATE DELAY while it goes on, in milliseconds.
    pub delay_advice_ms: u32,
    /// List identifiers belong to a nexus and a logical unit, not to a nexus alone.
    pub lists_by_unit: bool,
    /// Seconds for which an ended operation can be asked about.
    pub keeps_status_s: u32,
    /// A power-on unit attention awaits each nexus.
    pub power_on_attention: bool,
    /// Answers success and copies nothing.
    pub lies: bool,
}

impl Personality {
    /// Whether it implements a command.
    pub fn implements(&self, kind: Kind) -> bool {
        match kind {
            Kind::Other => false,
            Kind::ReportOperationCodes => self.reports_commands,
            Kind::ExtendedCopyLid1
            | Kind::ExtendedCopyLid4
            | Kind::PopulateToken
            | Kind::WriteUsingToken
            | Kind::CopyOperationAbort
            | Kind::CopyStatusLid1
            | Kind::CopyDataLid1
            | Kind::OperatingParameters
            | Kind::FailureDetails
            | Kind::CopyStatusLid4
            | Kind::CopyDataLid4
            | Kind::RodTokenInformation
            | Kind::ReportAllRodTokens => self.commands.contains(&kind),
            _ => true,
        }
    }
}
