//! What is open: a logical unit, with what was learnt of its tokens.

use crate::machine::Site;
use std::sync::atomic::AtomicBool;
use xcopy_plugin_sdk::{Description, Failure, Opened};
use xcopy_scsi_protocol::Lun;
use xcopy_scsi_protocol::wire::cdb::{
    POPULATE_TOKEN, RECEIVE_ROD_TOKEN_INFORMATION, THIRD_PARTY_COPY_IN, THIRD_PARTY_COPY_OUT,
    WRITE_USING_TOKEN,
};
use xcopy_scsi_protocol::wire::third_party::RodLimits;

/// An open logical unit.
#[derive(Debug)]
pub struct Device {
    /// The unit.
    pub lun: Lun,
    /// It was seen to refuse IMMED.
    pub no_immediate: AtomicBool,
    /// It was seen to refuse the token that stands for zeroes.
    pub no_zero_token: AtomicBool,
}

/// Opens a device.
pub fn open(desc: &Description<'_>) -> Result<Opened<Device>, Failure> {
    let opened = xcopy_scsi_protocol::open(desc)?;
    Ok(opened.map(|lun| Device {
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
