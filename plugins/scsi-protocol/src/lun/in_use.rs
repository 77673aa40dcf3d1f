//! Commands on their way to a unit. One that was exchanged while nobody used it
//! says so by a unit attention to a single command: others sent beside it would
//! be carried out by whatever is there now.

use super::{Lun, discover};
use std::sync::{MutexGuard, PoisonError};
use xcopy_plugin_sdk::Failure;

/// Who uses a unit now.
#[derive(Debug, Default)]
pub(super) struct Users {
    count: u32,
    /// Its names were asked for since it was last unused.
    confirmed: bool,
}

/// A use of a unit, from before its command is sent until that has ended.
#[derive(Debug)]
pub struct InUse<'a>(&'a Lun);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut users = self.0.users();
        users.count -= 1;
        users.confirmed &= users.count > 0;
    }
}

impl Lun {
    /// To be called before a command that reads or writes data, and kept until it
    /// has ended. A command alone learns by itself that the unit is another one; the
    /// first that joins it asks for the unit's names. Waits for those who ask.
    pub fn begin(&self) -> Result<InUse<'_>, Failure> {
        let mut users = self.users();
        self.verify()?;
        if users.count > 0 && !users.confirmed {
            self.confirm()?;
            users.confirmed = true;
        }
        users.count += 1;
        Ok(InUse(self))
    }

    /// Asks by INQUIRY alone: any other command would take the unit attention that
    /// one under way has to get.
    fn confirm(&self) -> Result<(), Failure> {
        let known = &self.facts().designators;
        if known.is_empty() {
            return Ok(());
        }
        match discover::designators(&*self.transport) {
            Ok(now) if now == *known => Ok(()),
            Ok(now) if !now.is_empty() => Err(self.is_another()),
            _ => Err(self.is_nameless()),
        }
    }

    /// `begin` for a copy; two handles of one unit, or one for both, are fine.
    pub fn begin_copy<'a>(
        src: &'a Lun,
        dst: &'a Lun,
    ) -> Result<(InUse<'a>, Option<InUse<'a>>), Failure> {
        let first = src.begin()?;
        let second = match std::ptr::eq(src, dst) {
            true => None,
            false => Some(dst.begin()?),
        };
        Ok((first, second))
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
