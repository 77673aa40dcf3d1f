//! The questions of a discovery. Any answer is taken as far as it makes sense.

use super::{Facts, QUERY_TIMEOUT, QUERY_TRIES};
use crate::judge::{Action, Judgement, Purpose, judge, judge_error};
use crate::place::refused;
use crate::sg::explain;
use crate::transport::{Data, Outcome, Transport};
use crate::wire::block::{CAPACITY_BYTES, Capacity};
use crate::wire::cdb;
use crate::wire::designator::{self, Designator};
use crate::wire::inquiry::{self, Inquiry, STANDARD_BYTES};
use crate::wire::operating::{OPERATING_ALLOCATION, OperatingParameters};
use crate::wire::sense::ILLEGAL_REQUEST;
use std::io;
use std::time::Duration;
use xcopy_plugin_sdk::{Failure, abi::*, errno};

/// Why nothing was discovered.
pub enum Refusal {
    /// The way to the unit failed at this operation code.
    Io(io::Error, u8),
    /// The unit refused a question.
    Refused(&'static str, Judgement),
    /// It answered what no disk answers.
    Garbage(String),
}

impl Refusal {
    /// For the core.
    pub fn failure(self, name: &str) -> Failure {
        match self {
            Refusal::Io(error, opcode) => {
                let number = error.raw_os_error().unwrap_or(errno::EIO);
                Failure::new(number).because(explain(&error, name, opcode))
            }
            Refusal::Refused(what, why) => Failure::new(match why.reason {
                XCOPY_REASON_REMOVED => errno::ENODEV,
                XCOPY_REASON_RESERVED => errno::EBADE,
                _ => errno::ENOTSUP,
            })
            .reason(why.reason)
            .because(format!("{name} refuses {what}: {}", why.words())),
            Refusal::Garbage(text) => refused(&format!("{name} {text}")),
        }
    }
}

pub type Execute<'a> = dyn Fn(&[u8], Data<'_>, Duration) -> io::Result<Outcome> + 'a;

/// Asks a question, again after a unit attention or BUSY; the bytes that came.
pub fn ask(
    execute: &Execute<'_>,
    cdb: &[u8],
    allocation: usize,
    purpose: Purpose,
) -> Result<Vec<u8>, Judgement> {
    let mut tries = 0;
    loop {
        let mut room = vec![0; allocation];
        let outcome = execute(cdb, Data::In(&mut room), QUERY_TIMEOUT)
            .map_err(|error| judge_error(&error, purpose))?;
        let Some(judgement) = judge(&outcome, purpose) else {
            let came = allocation.saturating_sub(outcome.residual as usize);
            room.truncate(came);
            return Ok(room);
        };
        tries += 1;
        match judgement.action {
            Action::Reidentify if tries < QUERY_TRIES => {}
            Action::Retry if tries < QUERY_TRIES => {
                std::thread::sleep(Duration::from_millis(20 << tries));
            }
            _ => return Err(judgement),
        }
    }
}

/// Who asks, by which way.
pub struct Asker<'a>(pub &'a Execute<'a>);

impl Asker<'_> {
    fn ask(&self, cdb: &[u8], allocation: usize) -> Result<Vec<u8>, Judgement> {
        ask(self.0, cdb, allocation, Purpose::Query)
    }

    /// A VPD page, in two steps if it is long; None if there is none. An error
    /// is one of the moment: nothing follows from it for the page.
    pub fn page(&self, page: u8) -> Result<Option<Vec<u8>>, Judgement> {
        let first = match self.ask(&cdb::inquiry_page(page, 252), 252) {
            Ok(first) => first,
            Err(why) if matches!(why.code, Some((ILLEGAL_REQUEST, ..))) => return Ok(None),
            Err(why) => return Err(why),
        };
        if inquiry::page_content(&first, page).is_none() {
            return Ok(None);
        }
        match inquiry::page_bytes(&first) {
            Some(whole) if whole > first.len() => Ok(Some(self.long_page(page, whole, first))),
            Some(_) => Ok(Some(first)),
            None => Ok(None),
        }
    }

    fn long_page(&self, page: u8, whole: usize, first: Vec<u8>) -> Vec<u8> {
        let all = u16::try_from(whole).unwrap_or(u16::MAX);
        let second = self.ask(&cdb::inquiry_page(page, all), all.into()).ok();
        // Some units cannot send it whole: then what came counts.
        match second {
            Some(second) if inquiry::page_content(&second, page).is_some() => second,
            _ => first,
        }
    }
}

/// The VPD pages that a unit lists, so that no other is asked for: some units hang
/// on those. Units from before SPC-3 may hang on any; they cannot copy either.
pub fn pages(asker: &Asker<'_>, inquiry: &Inquiry) -> Result<Vec<u8>, Judgement> {
    if inquiry.version < 5 && !inquiry.third_party_copy {
        return Ok(Vec::new());
    }
    let page = asker.page(0x00)?.unwrap_or_default();
    Ok(inquiry::supported_pages(&page).unwrap_or_default().to_vec())
}

/// What a copy has to know of the unit.
pub fn facts(transport: &dyn Transport) -> Result<Facts, Refusal> {
    let execute = |cdb: &[u8], data: Data<'_>, timeout| transport.execute(cdb, data, timeout);
    let asker = Asker(&execute);
    let inquiry = standard(transport)?;
    if inquiry.qualifier != 0 || !inquiry.is_disk() {
        return Err(Refusal::Garbage(format!(
            "is no disk (INQUIRY: qualifier {}, device type {:02X}h)",
            inquiry.qualifier, inquiry.device_type
        )));
    }
    let capacity = asker
        .ask(
            &cdb::read_capacity_16(CAPACITY_BYTES as u32),
            CAPACITY_BYTES,
        )
        .map_err(|why| Refusal::Refused("READ CAPACITY(16)", why))?;
    let Some(capacity) = Capacity::parse(&capacity) else {
        return Err(Refusal::Garbage(
            "answers READ CAPACITY(16) with what no disk has".into(),
        ));
    };
    // A copy manager has its unit's names on page 83h, or has none: no list is needed.
    let has_names = inquiry.third_party_copy
        || pages(&asker, &inquiry)
            .map_err(|why| Refusal::Refused("INQUIRY (VPD page 00h)", why))?
            .contains(&0x83);
    let designators = match has_names {
        true => designators(transport)?,
        false => Vec::new(),
    };
    Ok(Facts {
        names: designator::by_preference(&designators),
        designators,
        capacity,
        operating: operating(&asker, &inquiry),
        inquiry,
    })
}

/// The names in VPD page 83h. A page that did not come is no page without names:
/// who the unit is would seem to have changed.
pub fn designators(transport: &dyn Transport) -> Result<Vec<Designator>, Refusal> {
    let execute = |cdb: &[u8], data: Data<'_>, timeout| transport.execute(cdb, data, timeout);
    let page = Asker(&execute)
        .page(0x83)
        .map_err(|why| Refusal::Refused("INQUIRY (VPD page 83h)", why))?;
    Ok(page
        .filter(|page| designator::is_whole(page))
        .and_then(|page| designator::designators(&page))
        .unwrap_or_default())
}

pub fn standard(transport: &dyn Transport) -> Result<Inquiry, Refusal> {
    let cdb = cdb::inquiry(STANDARD_BYTES);
    let mut room = [0; STANDARD_BYTES as usize];
    let outcome = transport
        .execute(&cdb, Data::In(&mut room), QUERY_TIMEOUT)
        .map_err(|error| Refusal::Io(error, cdb.opcode()))?;
    if let Some(why) = judge(&outcome, Purpose::Query) {
        return Err(Refusal::Refused("INQUIRY", why));
    }
    let came = room.len().saturating_sub(outcome.residual as usize);
    Inquiry::parse(&room[..came])
        .ok_or_else(|| Refusal::Garbage("answers INQUIRY with too few bytes".into()))
}

fn operating(asker: &Asker<'_>, inquiry: &Inquiry) -> Result<OperatingParameters, Judgement> {
    if !inquiry.third_party_copy {
        return Err(Judgement::own(
            XCOPY_REASON_NOT_SUPPORTED,
            "it has no copy manager (INQUIRY: 3PC is 0)",
        ));
    }
    let cdb = cdb::receive_copy_operating_parameters(OPERATING_ALLOCATION as u32);
    let bytes = asker.ask(&cdb, OPERATING_ALLOCATION)?;
    OperatingParameters::parse(&bytes).ok_or_else(|| {
        Judgement::own(
            XCOPY_REASON_NOT_SUPPORTED,
            "its copy manager states no limits (too few bytes of operating parameters)",
        )
    })
}
