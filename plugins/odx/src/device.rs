//! What is open: a logical unit, with what was learnt of its tokens.

use crate::machine::Site;
use crate::wire::management_tokens;
use std::sync::atomic::AtomicBool;
use xcopy_plugin_sdk::abi::XCOPY_KIND_NATIVE;
use xcopy_plugin_sdk::{Description, Failure, Opened};
use xcopy_scsi_protocol::wire::cdb::{
    POPULATE_TOKEN, RECEIVE_ROD_TOKEN_INFORMATION, THIRD_PARTY_COPY_IN, THIRD_PARTY_COPY_OUT,
    WRITE_USING_TOKEN, report_all_rod_tokens,
};
use xcopy_scsi_protocol::wire::third_party::RodLimits;
use xcopy_scsi_protocol::{Lun, Purpose};

/// An open logical unit.
#[derive(Debug)]
pub struct Device {
    /// The unit.
    pub lun: Lun,
    /// The kernel does not know it.
    is_native: bool,
    /// It was seen to refuse IMMED.
    pub no_immediate: AtomicBool,
    /// It was seen to refuse the token that stands for zeroes.
    pub no_zero_token: AtomicBool,
}

/// Opens a device.
pub fn open(desc: &Description<'_>) -> Result<Opened<Device>, Failure> {
    let is_native = desc.kind() == XCOPY_KIND_NATIVE;
    let opened = xcopy_scsi_protocol::open(desc)?;
    Ok(opened.map(|lun| Device {
        is_native,
        lun,
        no_immediate: AtomicBool::new(false),
        no_zero_token: AtomicBool::new(false),
    }))
}

impl Device {
    /// The unit for operations.
    pub fn site(&self) -> Site<'_> {
        Site {
            port: &self.lun,
            no_immediate: &self.no_immediate,
        }
    }

    /// Its limits for tokens, or why it has none: `makes` for POPULATE TOKEN,
    /// else WRITE USING TOKEN.
    pub fn tokens(&self, makes: bool) -> Result<RodLimits, String> {
        let facts = self.lun.facts();
        let name = self.lun.name();
        if !facts.inquiry.third_party_copy {
            return Err(format!("{name} has no copy manager (INQUIRY: 3PC is 0)"));
        }
        let Some(page) = &facts.third_party else {
            return Err(format!(
                "{name} states nothing of tokens (no VPD page 8Fh; Linux's target has none): \
                 scsi_xcopy may do"
            ));
        };
        let Some(limits) = page.rod_limits else {
            return Err(format!(
                "{name} has no tokens (VPD page 8Fh without ROD limits): scsi_xcopy may do"
            ));
        };
        let (action, called) = match makes {
            true => (POPULATE_TOKEN, "POPULATE TOKEN"),
            false => (WRITE_USING_TOKEN, "WRITE USING TOKEN"),
        };
        let needed = [
            (THIRD_PARTY_COPY_OUT, action, called),
            (
                THIRD_PARTY_COPY_IN,
                RECEIVE_ROD_TOKEN_INFORMATION,
                "RECEIVE ROD TOKEN INFORMATION",
            ),
        ];
        for (opcode, action, called) in needed {
            if page.lists_commands() && !page.has_command(opcode, action) {
                return Err(format!("{name} does not offer {called} (VPD page 8Fh)"));
            }
        }
        Ok(limits)
    }

    /// What was found out, one `key: value` a line: of a unit that plugin scsi
    /// sees too only what is about tokens.
    pub fn describe(&self) -> String {
        let mut text = match self.is_native {
            true => self.lun.describe(),
            false => String::new(),
        };
        let mut line = |key: &str, value: &str| text.push_str(&format!("{key}: {value}\n"));
        for (key, makes) in [("makes tokens", true), ("writes tokens", false)] {
            match self.tokens(makes) {
                Ok(_) => line(key, "yes"),
                Err(why) => line(key, &format!("no: {why}")),
            }
        }
        // Only the head of the list: the tokens themselves are not asked for.
        let cdb = report_all_rod_tokens(8);
        let answer = self.tokens(true).ok().and_then(|_| {
            let bytes = self.lun.ask(&cdb, 8, Purpose::Query).ok()?;
            management_tokens(&bytes)
        });
        if let Some(live) = answer {
            line("live tokens", &live.to_string());
        }
        text
    }

    /// The page says that the unit does not take the token for zeroes.
    pub fn lacks_zero_token(&self) -> bool {
        let facts = self.lun.facts();
        let Some(page) = &facts.third_party else {
            return true;
        };
        let zeroes = |code| code == crate::wire::ROD_TYPE_BLOCK_ZERO;
        page.rod_limits.is_none()
            || (!page.rod_types.is_empty()
                && !page.rod_types.iter().any(|t| zeroes(t.code) && t.token_in))
    }
}
