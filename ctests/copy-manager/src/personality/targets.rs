//! The limits and ways of known targets.

use super::{CopyLimits, Personality, Style, TokenMoment, TokenRules};
use crate::kind::Kind;
use crate::sense::SenseFormat;

/// Access upon reference (SPC-4 table 98).
const ACCESS_ON_REFERENCE: u32 = 0x0001_0000;
/// Point in time copy, default.
const POINT_IN_TIME: u32 = 0x0080_0000;
/// Point in time copy, persistent.
const POINT_IN_TIME_PERSISTENT: u32 = 0x0080_0002;
/// Any type of point in time copy.
const POINT_IN_TIME_ANY: u32 = 0x0080_FFFF;

const MIB: u64 = 1 << 20;

/// The token commands, with what tells of them.
const TOKENS: [Kind; 4] = [
    Kind::PopulateToken,
    Kind::WriteUsingToken,
    Kind::RodTokenInformation,
    Kind::ReportAllRodTokens,
];
const LID1: [Kind; 4] = [
    Kind::ExtendedCopyLid1,
    Kind::OperatingParameters,
    Kind::CopyStatusLid1,
    Kind::FailureDetails,
];
const LID4: [Kind; 3] = [
    Kind::ExtendedCopyLid4,
    Kind::CopyStatusLid4,
    Kind::CopyOperationAbort,
];

fn one_segment(descriptor_bytes: u32, segment_bytes: u32) -> CopyLimits {
    CopyLimits {
        cscds: 2,
        segments: 1,
        descriptor_bytes,
        segment_bytes,
        inline_bytes: 0,
        held_bytes: 0,
        granularity_log2: 9,
        total_concurrent: 1,
        concurrent: 1,
        snlid: true,
        types: vec![0x02, 0xE4],
    }
}

impl Personality {
    /// FreeBSD's CTL (sys/cam/ctl/ctl_tpc.c): LID1, LID4 and tokens, synchronous,
    /// tokens are references.
    pub fn ctl() -> Personality {
        Personality {
            name: "ctl",
            style: Style::Ctl,
            vendor: "FREEBSD",
            product: "CTLDISK",
            third_party: true,
            third_party_page: true,
            reports_commands: true,
            sense: SenseFormat::Fixed,
            commands: [&LID1[..], &LID4[..], &TOKENS[..]].concat(),
            copy: CopyLimits {
                cscds: 64,
                segments: 64,
                descriptor_bytes: 8192,
                segment_bytes: 0,
                inline_bytes: 0,
                held_bytes: 0,
                granularity_log2: 0,
                total_concurrent: 255,
                concurrent: 255,
                snlid: true,
                types: vec![0x02, 0x07, 0x14, 0xE4],
            },
            tokens: Some(TokenRules {
                ranges: 64,
                max_timeout_s: 600,
                default_timeout_s: 60,
                max_bytes: 0,
                optimal_bytes: 0,
                rod_type: ACCESS_ON_REFERENCE,
                rod_types: vec![ACCESS_ON_REFERENCE],
                moment: TokenMoment::OnReference,
                offset_in_source_blocks: true,
                zero_token: true,
                tells_why_dead: false,
                counts_blocks: true,
            }),
            honours_immed: false,
            background_bytes_per_ms: 0,
            delay_advice_ms: u32::MAX,
            lists_by_unit: true,
            keeps_status_s: 60,
            power_on_attention: true,
            lies: false,
        }
    }

    /// Linux's LIO (drivers/target/target_core_xcopy.c, 6.1): LID1 of one segment.
    pub fn lio() -> Personality {
        Personality {
            name: "lio",
            style: Style::Lio,
            vendor: "LIO-ORG",
            product: "RAMDISK-MCP",
            third_party: true,
            third_party_page: false,
            reports_commands: false,
            sense: SenseFormat::Fixed,
            commands: vec![Kind::ExtendedCopyLid1, Kind::OperatingParameters],
            copy: one_segment(1024, 256 << 20),
            tokens: None,
            honours_immed: false,
            background_bytes_per_ms: 0,
            delay_advice_ms: u32::MAX,
            lists_by_unit: true,
            keeps_status_s: 0,
            power_on_attention: true,
            lies: false,
        }
    }

    /// An array: 8 MiB tokens of a point in time, 16 segments of 32 MiB, IMMED,
    /// descriptor sense, list identifiers by nexus.
    pub fn array() -> Personality {
        Personality {
            name: "array",
            style: Style::Array,
            vendor: "EXAMPLE",
            product: "ARRAY",
            third_party: true,
            third_party_page: true,
            reports_commands: true,
            sense: SenseFormat::Descriptor,
            commands: [&LID1[..], &LID4[..], &TOKENS[..]].concat(),
            copy: CopyLimits {
                cscds: 2,
                segments: 16,
                descriptor_bytes: 2048,
                segment_bytes: 32 << 20,
                inline_bytes: 0,
                held_bytes: 1024,
                granularity_log2: 9,
                total_concurrent: 16,
                concurrent: 16,
                snlid: true,
                types: vec![0x02, 0xE4],
            },
            tokens: Some(TokenRules {
                ranges: 8,
                max_timeout_s: 120,
                default_timeout_s: 30,
                max_bytes: 8 * MIB,
                optimal_bytes: 8 * MIB,
                rod_type: POINT_IN_TIME,
                rod_types: vec![POINT_IN_TIME, POINT_IN_TIME_PERSISTENT, POINT_IN_TIME_ANY],
                moment: TokenMoment::OnCreation,
                offset_in_source_blocks: false,
                zero_token: true,
                tells_why_dead: true,
                counts_blocks: true,
            }),
            honours_immed: true,
            background_bytes_per_ms: 4 * MIB,
            delay_advice_ms: 2,
            lists_by_unit: false,
            keeps_status_s: 30,
            power_on_attention: true,
            lies: false,
        }
    }

    /// SCST (scst_copy_mgr.c): LID1, 64 KiB granularity, list identifiers kept
    /// five seconds for a session.
    pub fn scst() -> Personality {
        Personality {
            name: "scst",
            style: Style::Scst,
            vendor: "SCST_FIO",
            product: "DISK",
            commands: LID1.to_vec(),
            copy: CopyLimits {
                cscds: 5,
                segments: 100,
                descriptor_bytes: 65535,
                segment_bytes: 256 << 20,
                granularity_log2: 16,
                total_concurrent: 65535,
                concurrent: 255,
                ..one_segment(0, 0)
            },
            lists_by_unit: false,
            keeps_status_s: 5,
            ..Personality::lio()
        }
    }

    /// COMSTAR (ats_copy_mgr.c): LID1 with list identifier 0 and usage 11b only.
    pub fn comstar() -> Personality {
        Personality {
            name: "comstar",
            style: Style::Comstar,
            vendor: "SUN",
            product: "COMSTAR",
            copy: CopyLimits {
                total_concurrent: 65535,
                concurrent: 0,
                ..one_segment(65535, 0)
            },
            ..Personality::lio()
        }
    }

    /// What Windows asks of an ODX array: tokens only, synchronous, 64 MiB
    /// optimal and 256 MiB at most.
    pub fn windows() -> Personality {
        let array = Personality::array();
        Personality {
            name: "windows",
            product: "ODX ARRAY",
            sense: SenseFormat::Fixed,
            commands: [
                &TOKENS[..],
                &[Kind::CopyOperationAbort, Kind::CopyStatusLid4],
            ]
            .concat(),
            tokens: array.tokens.clone().map(|rules| TokenRules {
                ranges: 64,
                max_bytes: 256 * MIB,
                optimal_bytes: 64 * MIB,
                max_timeout_s: 600,
                ..rules
            }),
            honours_immed: false,
            ..array
        }
    }

    /// The array, but nothing is ever copied: success is all that it says.
    pub fn liar() -> Personality {
        Personality {
            name: "liar",
            product: "LIAR",
            lies: true,
            ..Personality::array()
        }
    }

    /// The ready-made ones, by name.
    pub fn by_name(name: &str) -> Option<Personality> {
        let all = [
            Personality::ctl,
            Personality::lio,
            Personality::array,
            Personality::scst,
            Personality::comstar,
            Personality::windows,
            Personality::liar,
        ];
        all.into_iter()
            .map(|make| make())
            .find(|personality| personality.name == name)
    }
}
