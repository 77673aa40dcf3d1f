//! A logical unit that is asked who it is when somebody needs it.

use super::{Lun, discover};
use crate::place::Place;
use crate::transport::{Data, Transport};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use xcopy_plugin_sdk::{Events, Failure};

/// A way to a logical unit, and the unit once it was asked.
pub struct Unit {
    transport: Arc<dyn Transport>,
    place: Place,
    events: Option<Events>,
    lun: OnceLock<Lun>,
    asking: Mutex<()>,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unit({})", self.name())
    }
}

impl Unit {
    /// The unit behind `transport`; see [`Lun::discover`].
    pub fn new(transport: Box<dyn Transport>, place: Place, events: Option<Events>) -> Unit {
        Unit {
            transport: transport.into(),
            place,
            events,
            lun: OnceLock::new(),
            asking: Mutex::new(()),
        }
    }

    /// What it is called in texts.
    pub fn name(&self) -> &str {
        self.transport.name()
    }

    /// The unit, asked who it is the first time.
    pub fn lun(&self) -> Result<&Lun, Failure> {
        if let Some(lun) = self.lun.get() {
            return Ok(lun);
        }
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lun) = self.lun.get() {
            return Ok(lun);
        }
        let transport = self.transport.clone();
        let lun = Lun::behind(transport, self.place, self.events.clone())?;
        Ok(self.lun.get_or_init(|| lun))
    }

    /// The unit alone, asked who it is if it was not.
    pub fn into_lun(self) -> Result<Lun, Failure> {
        self.lun()?;
        match self.lun.into_inner() {
            Some(lun) => Ok(lun),
            None => Lun::behind(self.transport, self.place, self.events),
        }
    }

    /// The unit, if it was asked.
    pub fn known(&self) -> Option<&Lun> {
        self.lun.get()
    }

    /// Whether the unit has a copy manager (3PC), and whether it lists VPD page
    /// `number`: two commands where nothing is known of it yet.
    pub fn lists(&self, number: u8) -> Result<(bool, bool), Failure> {
        let inquiry =
            discover::standard(&*self.transport).map_err(|why| why.failure(self.name()))?;
        if !inquiry.third_party_copy {
            return Ok((false, false));
        }
        let execute =
            |cdb: &[u8], data: Data<'_>, timeout| self.transport.execute(cdb, data, timeout);
        let pages = discover::pages(&discover::Asker(&execute), &inquiry)
            .map_err(|why| discover::Refusal::Refused("INQUIRY (VPD page 00h)", why))
            .map_err(|why| why.failure(self.name()))?;
        Ok((true, pages.contains(&number)))
    }
}
