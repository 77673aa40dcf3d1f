//! The Third-party Copy VPD page, 8Fh (SPC-4 7.8.17, SBC-4 6.6.9).

use crate::bytes::put;
use crate::kind::{Kind, THIRD_PARTY_COPY_IN, THIRD_PARTY_COPY_OUT};
use crate::personality::Personality;
use crate::token::BLOCK_ZERO;

const OUT_ACTIONS: [(u8, Kind); 5] = [
    (0x00, Kind::ExtendedCopyLid1),
    (0x01, Kind::ExtendedCopyLid4),
    (0x10, Kind::PopulateToken),
    (0x11, Kind::WriteUsingToken),
    (0x1C, Kind::CopyOperationAbort),
];
const IN_ACTIONS: [(u8, Kind); 8] = [
    (0x00, Kind::CopyStatusLid1),
    (0x01, Kind::CopyDataLid1),
    (0x03, Kind::OperatingParameters),
    (0x04, Kind::FailureDetails),
    (0x05, Kind::CopyStatusLid4),
    (0x06, Kind::CopyDataLid4),
    (0x07, Kind::RodTokenInformation),
    (0x08, Kind::ReportAllRodTokens),
];

/// A descriptor: type, length, body padded to a multiple of four.
fn descriptor(out: &mut Vec<u8>, code: u16, body: &[u8]) {
    let padded = body.len().next_multiple_of(4);
    out.extend(code.to_be_bytes());
    out.extend((padded as u16).to_be_bytes());
    out.extend(body);
    out.resize(out.len() + padded - body.len(), 0);
}

impl Personality {
    /// All descriptors of the page.
    pub(super) fn third_party_descriptors(&self, block_size: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let block = u64::from(block_size);
        if let Some(rules) = &self.tokens {
            // Block Device ROD Token Limits.
            let mut body = [0; 32];
            put(&mut body, 6, &rules.ranges.to_be_bytes());
            put(&mut body, 8, &rules.max_timeout_s.to_be_bytes());
            put(&mut body, 12, &rules.default_timeout_s.to_be_bytes());
            put(&mut body, 16, &(rules.max_bytes / block).to_be_bytes());
            put(&mut body, 24, &(rules.optimal_bytes / block).to_be_bytes());
            descriptor(&mut out, 0x0000, &body);
        }
        self.supported_commands(&mut out);
        // Parameter Data.
        let mut body = [0; 28];
        put(&mut body, 4, &self.copy.cscds.to_be_bytes());
        put(&mut body, 6, &self.copy.segments.to_be_bytes());
        put(&mut body, 8, &self.copy.descriptor_bytes.to_be_bytes());
        put(&mut body, 12, &self.copy.inline_bytes.to_be_bytes());
        descriptor(&mut out, 0x0004, &body);
        // Supported Descriptors.
        let mut body = vec![self.copy.types.len() as u8];
        body.extend(&self.copy.types);
        descriptor(&mut out, 0x0008, &body);
        // Supported CSCD Descriptor IDs: FFFFh, the addressed unit.
        descriptor(&mut out, 0x000C, &[0x00, 0x02, 0xFF, 0xFF]);
        if let Some(rules) = &self.tokens {
            // ROD Token Features, with the features of block devices.
            let mut body = [0; 44 + 48];
            put(&mut body, 12, &1u32.to_be_bytes());
            put(&mut body, 16, &u32::MAX.to_be_bytes());
            put(&mut body, 20, &rules.max_timeout_s.to_be_bytes());
            put(&mut body, 42, &48u16.to_be_bytes());
            put(&mut body, 46, &44u16.to_be_bytes());
            put(&mut body, 52, &rules.max_bytes.to_be_bytes());
            put(&mut body, 60, &rules.optimal_bytes.to_be_bytes());
            descriptor(&mut out, 0x0106, &body);
            // Supported ROD Token and ROD Types: TOUT b0, TIN b1.
            let mut types: Vec<(u32, u8)> = rules.rod_types.iter().map(|kind| (*kind, 3)).collect();
            if rules.zero_token {
                types.push((BLOCK_ZERO, 2));
            }
            let mut body = vec![0, 0];
            body.extend((types.len() as u16 * 64).to_be_bytes());
            for (kind, flags) in types {
                let mut entry = [0; 64];
                put(&mut entry, 0, &kind.to_be_bytes());
                entry[4] = flags;
                body.extend(entry);
            }
            descriptor(&mut out, 0x0108, &body);
        }
        // General Copy Operations.
        let mut body = [0; 32];
        put(
            &mut body,
            0,
            &u32::from(self.copy.total_concurrent).to_be_bytes(),
        );
        put(&mut body, 4, &u32::from(self.copy.concurrent).to_be_bytes());
        put(&mut body, 8, &self.copy.segment_bytes.to_be_bytes());
        body[12] = self.copy.granularity_log2;
        descriptor(&mut out, 0x8001, &body);
        out
    }

    fn supported_commands(&self, out: &mut Vec<u8>) {
        let mut list = Vec::new();
        let tables = [
            (THIRD_PARTY_COPY_OUT, &OUT_ACTIONS[..]),
            (THIRD_PARTY_COPY_IN, &IN_ACTIONS[..]),
        ];
        for (opcode, actions) in tables {
            let codes: Vec<u8> = actions
                .iter()
                .filter(|(_, kind)| self.implements(*kind))
                .map(|(code, _)| *code)
                .collect();
            if !codes.is_empty() {
                list.extend([opcode, codes.len() as u8]);
                list.extend(codes);
            }
        }
        let mut body = vec![list.len() as u8];
        body.extend(list);
        descriptor(out, 0x0001, &body);
    }
}
