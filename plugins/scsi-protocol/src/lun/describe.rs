//! The discovery for a person: lines of "key: value".

use super::Lun;
use crate::wire::cdb;
use crate::wire::third_party::ThirdParty;
use std::fmt::Write;

impl Lun {
    /// What was found out, one `key: value` a line.
    pub fn describe(&self) -> String {
        let facts = self.facts();
        let mut text = String::new();
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                // Writing to a String does not fail.
                let _ = writeln!(text, "{key}: {}", value.replace('\n', " "));
            }
        };
        let inquiry = &facts.inquiry;
        line("vendor", inquiry.vendor.clone());
        line("product", inquiry.product.clone());
        line("revision", inquiry.revision.clone());
        line("serial", self.serial().unwrap_or_default());
        for designator in &facts.designators {
            line("designator", designator.to_string());
        }
        if let Some(name) = facts.names.first() {
            line("copied as", name.to_string());
        }
        let capacity = &facts.capacity;
        line("blocks", capacity.blocks.to_string());
        line("block size", capacity.block_size.to_string());
        line(
            "physical block size",
            capacity.physical_block_size.to_string(),
        );
        if capacity.protected {
            line("protection information", "yes".into());
        }
        let limits = self.limits();
        for (key, value) in [
            ("largest transfer (blocks)", u64::from(limits.max_transfer)),
            ("best transfer (blocks)", limits.optimal_transfer.into()),
            ("largest write same (blocks)", limits.max_write_same),
        ] {
            if value != 0 {
                line(key, value.to_string());
            }
        }
        let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
        line("copy manager (3PC)", yes(inquiry.third_party_copy));
        match &facts.operating {
            Ok(operating) => {
                line("copy descriptors", hex(&operating.types));
                line("copy cscds", operating.max_cscds.to_string());
                line("copy segments", operating.max_segments.to_string());
                line(
                    "copy descriptor bytes",
                    operating.max_descriptors_bytes.to_string(),
                );
                line(
                    "copy segment bytes",
                    match operating.max_segment_bytes {
                        0 => "no limit".into(),
                        bytes => bytes.to_string(),
                    },
                );
                line(
                    "copy granularity (bytes)",
                    match operating.segment_granularity_log2 {
                        log2 @ 0..=63 => (1_u64 << log2).to_string(),
                        log2 => format!("2^{log2}"),
                    },
                );
                line(
                    "copies at once",
                    match operating
                        .total_concurrent
                        .max(operating.max_concurrent.into())
                    {
                        0 => "not stated".into(),
                        copies => copies.to_string(),
                    },
                );
                line(
                    "copy without list identifier",
                    yes(operating.without_list_id),
                );
            }
            Err(why) if inquiry.third_party_copy => {
                line("copy operating parameters", why.words());
            }
            Err(_) => {}
        }
        match self.third_party() {
            Some(page) => third_party(&page, &mut line),
            None if inquiry.third_party_copy => {
                line("third-party copy page (VPD 8Fh)", "none".into());
            }
            None => {}
        }
        text
    }
}

fn third_party(page: &ThirdParty, line: &mut impl FnMut(&str, String)) {
    let commands: Vec<String> = page
        .commands
        .iter()
        .flat_map(|(opcode, actions)| actions.iter().map(move |action| (*opcode, *action)))
        .map(|(opcode, action)| match command_name(opcode, action) {
            Some(name) => name.to_owned(),
            None => format!("{opcode:02X}h/{action:02X}h"),
        })
        .collect();
    line("third-party copy commands", commands.join(", "));
    if let Some(limits) = page.rod_limits {
        for (key, value) in [
            ("token ranges", u64::from(limits.max_ranges)),
            ("token blocks", limits.max_blocks),
            ("best token blocks", limits.optimal_blocks),
            (
                "token seconds by default",
                limits.default_inactivity_s.into(),
            ),
            ("token seconds", limits.max_inactivity_s.into()),
        ] {
            if value != 0 {
                line(key, value.to_string());
            }
        }
    }
    let types: Vec<String> = page
        .rod_types
        .iter()
        .map(|t| format!("{:08X}h", t.code))
        .collect();
    line("token types", types.join(" "));
}

fn hex(codes: &[u8]) -> String {
    let codes: Vec<String> = codes.iter().map(|code| format!("{code:02X}h")).collect();
    codes.join(" ")
}

fn command_name(opcode: u8, action: u8) -> Option<&'static str> {
    Some(match (opcode, action) {
        (cdb::THIRD_PARTY_COPY_OUT, cdb::EXTENDED_COPY_LID1) => "EXTENDED COPY(LID1)",
        (cdb::THIRD_PARTY_COPY_OUT, cdb::EXTENDED_COPY_LID4) => "EXTENDED COPY(LID4)",
        (cdb::THIRD_PARTY_COPY_OUT, cdb::POPULATE_TOKEN) => "POPULATE TOKEN",
        (cdb::THIRD_PARTY_COPY_OUT, cdb::WRITE_USING_TOKEN) => "WRITE USING TOKEN",
        (cdb::THIRD_PARTY_COPY_OUT, cdb::COPY_OPERATION_ABORT) => "COPY OPERATION ABORT",
        (cdb::THIRD_PARTY_COPY_IN, cdb::RECEIVE_COPY_STATUS_LID1) => "RECEIVE COPY STATUS(LID1)",
        (cdb::THIRD_PARTY_COPY_IN, cdb::RECEIVE_COPY_OPERATING_PARAMETERS) => {
            "RECEIVE COPY OPERATING PARAMETERS"
        }
        (cdb::THIRD_PARTY_COPY_IN, cdb::RECEIVE_COPY_FAILURE_DETAILS_LID1) => {
            "RECEIVE COPY FAILURE DETAILS(LID1)"
        }
        (cdb::THIRD_PARTY_COPY_IN, cdb::RECEIVE_COPY_STATUS_LID4) => "RECEIVE COPY STATUS(LID4)",
        (cdb::THIRD_PARTY_COPY_IN, cdb::RECEIVE_ROD_TOKEN_INFORMATION) => {
            "RECEIVE ROD TOKEN INFORMATION"
        }
        (cdb::THIRD_PARTY_COPY_IN, cdb::REPORT_ALL_ROD_TOKENS) => "REPORT ALL ROD TOKENS",
        _ => return None,
    })
}
