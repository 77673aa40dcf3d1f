//! What is open: a logical unit, with what was learnt of its tokens.

use crate::machine::Site;
use crate::wire::management_tokens;
use std::sync::atomic::AtomicBool;
use xcopy_plugin_sdk::abi::{XCOPY_KIND_NATIVE, XCOPY_REASON_NOT_SUPPORTED};
use xcopy_plugin_sdk::{Description, Failure, Opened, Verdict, errno};
use xcopy_scsi_protocol::wire::cdb::{
    POPULATE_TOKEN, RECEIVE_ROD_TOKEN_INFORMATION, THIRD_PARTY_COPY_IN, THIRD_PARTY_COPY_OUT,
    WRITE_USING_TOKEN, report_all_rod_tokens,
};
use xcopy_scsi_protocol::wire::third_party::RodLimits;
use xcopy_scsi_protocol::{Lun, Purpose, Unit};

/// An open logical unit.
#[derive(Debug)]
pub struct Device {
    unit: Unit,
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
    let opened = xcopy_scsi_protocol::open_unasked(desc)?;
    Ok(opened.map(|unit| Device {
        is_native,
        unit,
        no_immediate: AtomicBool::new(false),
        no_zero_token: AtomicBool::new(false),
    }))
}

/// Why a unit has no tokens.
#[derive(Debug)]
pub struct Refusal(Failure);

impl Refusal {
    /// For the core's probe.
    pub fn verdict(&self) -> Verdict {
        Verdict::failed(&self.0)
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        let failure = Failure::new(errno::ENOTSUP).reason(XCOPY_REASON_NOT_SUPPORTED);
        Refusal(failure.because(text))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal(failure)
    }
}

impl Device {
    /// The unit.
    pub fn lun(&self) -> Result<&Lun, Failure> {
        self.unit.lun()
    }

    /// What it is called in texts.
    pub fn name(&self) -> &str {
        self.unit.name()
    }

    /// The unit for operations.
    pub fn site(&self) -> Result<Site<'_>, Failure> {
        Ok(Site {
            port: self.lun()?,
            no_immediate: &self.no_immediate,
        })
    }

    /// Its limits for tokens, or why it has none: `makes` for POPULATE TOKEN,
    /// else WRITE USING TOKEN. Most units have none, and say so at once: of those
    /// nothing else is asked.
    pub fn tokens(&self, makes: bool) -> Result<RodLimits, Refusal> {
        let name = self.name();
        let (copies, stated) = match self.unit.known() {
            Some(lun) => (lun.facts().inquiry.third_party_copy, true),
            None => self.unit.lists(0x8f)?,
        };
        if !copies {
            return Err(format!("{name} has no copy manager (INQUIRY: 3PC is 0)").into());
        }
        let page = match stated {
            true => self.lun()?.third_party(),
            false => None,
        };
        let Some(page) = page else {
            return Err(format!(
                "{name} states nothing of tokens (no VPD page 8Fh; Linux's target has none): \
                 scsi_xcopy may do"
            )
            .into());
        };
        let Some(limits) = page.rod_limits else {
            return Err(format!(
                "{name} has no tokens (VPD page 8Fh without ROD limits): scsi_xcopy may do"
            )
            .into());
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
                return Err(format!("{name} does not offer {called} (VPD page 8Fh)").into());
            }
        }
        Ok(limits)
    }

    /// What was found out, one `key: value` a line: of a unit that plugin scsi
    /// sees too only what is about tokens.
    pub fn describe(&self) -> String {
        let mut text = match self.is_native {
            true => self.lun().map(Lun::describe).unwrap_or_default(),
            false => String::new(),
        };
        let mut line = |key: &str, value: &str| text.push_str(&format!("{key}: {value}\n"));
        for (key, makes) in [("makes tokens", true), ("writes tokens", false)] {
            match self.tokens(makes) {
                Ok(_) => line(key, "yes"),
                Err(Refusal(why)) => line(key, &format!("no: {}", why.words())),
            }
        }
        // Only the head of the list: the tokens themselves are not asked for.
        let cdb = report_all_rod_tokens(8);
        let answer = self.tokens(true).ok().and_then(|_| {
            let bytes = self.lun().ok()?.ask(&cdb, 8, Purpose::Query).ok()?;
            management_tokens(&bytes)
        });
        if let Some(live) = answer {
            line("live tokens", &live.to_string());
        }
        text
    }

    /// The page says that the unit does not take the token for zeroes.
    pub fn lacks_zero_token(&self) -> bool {
        let Some(page) = self.lun().ok().and_then(Lun::third_party) else {
            return true;
        };
        let zeroes = |code| code == crate::wire::ROD_TYPE_BLOCK_ZERO;
        page.rod_limits.is_none()
            || (!page.rod_types.is_empty()
                && !page.rod_types.iter().any(|t| zeroes(t.code) && t.token_in))
    }
}
