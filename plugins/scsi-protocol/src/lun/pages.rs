//! VPD pages that not every copy needs: asked for when somebody does, once.

use super::Lun;
use super::discover::{self, Asker};
use crate::judge::Judgement;
use crate::wire::block::BlockLimits;
use crate::wire::inquiry;
use crate::wire::third_party::ThirdParty;
use std::sync::{MutexGuard, PoisonError};

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Page 00h.
    listed: Option<Vec<u8>>,
    limits: Option<BlockLimits>,
    third_party: Option<Option<ThirdParty>>,
}

impl Lun {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// VPD page `number`, if the unit lists it. An error is one of the moment.
    fn page(&self, pages: &mut Pages, number: u8) -> Result<Option<Vec<u8>>, Judgement> {
        let execute = |cdb: &[u8], data: crate::Data<'_>, timeout| self.execute(cdb, data, timeout);
        let asker = Asker(&execute);
        if pages.listed.is_none() {
            pages.listed = Some(discover::pages(&asker, &self.facts().inquiry)?);
        }
        match pages
            .listed
            .as_ref()
            .is_some_and(|listed| listed.contains(&number))
        {
            true => asker.page(number),
            false => Ok(None),
        }
    }

    /// VPD page 80h.
    pub fn serial(&self) -> Option<String> {
        let page = self.page(&mut self.pages(), 0x80).ok()??;
        inquiry::serial_number(&page)
    }

    /// VPD page B0h; all zero if there is none.
    pub fn limits(&self) -> BlockLimits {
        let mut pages = self.pages();
        if let Some(limits) = pages.limits {
            return limits;
        }
        let Ok(page) = self.page(&mut pages, 0xb0) else {
            return BlockLimits::default();
        };
        let limits = page.and_then(|page| BlockLimits::parse(&page));
        *pages.limits.insert(limits.unwrap_or_default())
    }

    /// VPD page 8Fh. Not asked for without 3PC.
    pub fn third_party(&self) -> Option<ThirdParty> {
        if !self.facts().inquiry.third_party_copy {
            return None;
        }
        let mut pages = self.pages();
        if let Some(known) = &pages.third_party {
            return known.clone();
        }
        let page = self.page(&mut pages, 0x8f).ok()?;
        let page = page.and_then(|page| ThirdParty::parse(&page));
        pages.third_party.insert(page).clone()
    }

    /// Forgets the pages after a unit attention; true if what somebody knows of
    /// page 8Fh is not so any more.
    pub(super) fn renew_pages(&self) -> bool {
        let before = std::mem::take(&mut *self.pages()).third_party;
        before.is_some_and(|before| self.third_party() != before)
    }
}
