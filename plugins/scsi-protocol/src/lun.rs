//! A logical unit: how it is reached, what it says of itself, and whether it is
//! still the same.

mod describe;
mod discover;
mod in_use;
mod pages;
mod unit;

pub use in_use::InUse;
pub use unit::Unit;

use crate::judge::{Judgement, Purpose, judge, judge_error};
use crate::place::{Place, refused};
use crate::transport::{Data, Outcome, Transport};
use crate::wire::block::Capacity;
use crate::wire::designator::Designator;
use crate::wire::inquiry::Inquiry;
use crate::wire::operating::OperatingParameters;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Events, Failure, errno};

/// What a question may take.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Times that a question is asked again after a unit attention or BUSY.
const QUERY_TRIES: u32 = 5;

/// What a logical unit says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Standard INQUIRY data.
    pub inquiry: Inquiry,
    /// All designators of the unit in VPD page 83h.
    pub designators: Vec<Designator>,
    /// Those that can name it in a CSCD descriptor, best first.
    pub names: Vec<Designator>,
    /// READ CAPACITY(16).
    pub capacity: Capacity,
    /// RECEIVE COPY OPERATING PARAMETERS, or why not. Not asked without 3PC.
    pub operating: Result<OperatingParameters, Judgement>,
}

/// A logical unit, open.
pub struct Lun {
    transport: Arc<dyn Transport>,
    place: Place,
    facts: RwLock<Arc<Facts>>,
    /// Unit attentions seen, and how many of them a verification answered.
    attentions: AtomicU64,
    verified: Mutex<u64>,
    users: Mutex<in_use::Users>,
    pages: Mutex<pages::Pages>,
    events: Option<Events>,
}

impl std::fmt::Debug for Lun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lun({})", self.transport.name())
    }
}

impl Lun {
    /// Asks the unit behind `transport` who it is. `place` is the part of it that
    /// the device is; `events` are told of what becomes of it later.
    pub fn discover(
        transport: Box<dyn Transport>,
        place: Place,
        events: Option<Events>,
    ) -> Result<Lun, Failure> {
        Lun::behind(transport.into(), place, events)
    }

    fn behind(
        transport: Arc<dyn Transport>,
        place: Place,
        events: Option<Events>,
    ) -> Result<Lun, Failure> {
        let facts = discover::facts(&*transport).map_err(|why| why.failure(transport.name()))?;
        check(transport.name(), &facts, place)?;
        Ok(Lun {
            transport,
            place,
            facts: RwLock::new(Arc::new(facts)),
            attentions: AtomicU64::new(0),
            verified: Mutex::new(0),
            users: Mutex::default(),
            pages: Mutex::default(),
            events,
        })
    }

    /// What it is called in texts.
    pub fn name(&self) -> &str {
        self.transport.name()
    }

    /// What it says of itself.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Bytes of a logical block.
    pub fn block_size(&self) -> u32 {
        self.facts().capacity.block_size
    }

    /// Bytes of the device.
    pub fn bytes(&self) -> u64 {
        let whole = self.facts().capacity.bytes();
        let rest = whole.saturating_sub(self.place.offset);
        self.place.bytes.map_or(rest, |bytes| bytes.min(rest))
    }

    /// First byte of the device on the unit.
    pub fn offset(&self) -> u64 {
        self.place.offset
    }

    /// Bytes of data of one command at most.
    pub fn max_transfer(&self) -> usize {
        self.transport.max_transfer()
    }

    /// A number for the storage, the same for all ways to it; 0 if it has no name.
    pub fn identity(&self) -> u64 {
        let facts = self.facts();
        let Some(name) = facts.names.first() else {
            return 0;
        };
        // FNV-1a, so that it is the same in every process.
        let kind = [name.kind.code(), name.code_set];
        let bytes = kind.iter().chain(&name.bytes);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.max(1)
    }

    /// Both are the same logical unit, by a name that both have.
    pub fn is_same_unit(&self, other: &Lun) -> bool {
        let (own, others) = (self.facts(), other.facts());
        own.names.iter().any(|name| others.names.contains(name))
    }

    /// The blocks of a byte range of the device: first block on the unit, and
    /// how many. None if it is not whole blocks within the device.
    pub fn blocks(&self, offset: u64, length: u64) -> Option<(u64, u64)> {
        let block = u64::from(self.block_size());
        let end = offset.checked_add(length)?;
        let first = offset.checked_add(self.place.offset)?;
        (end <= self.bytes() && first.is_multiple_of(block) && length.is_multiple_of(block))
            .then_some((first / block, length / block))
    }

    /// Sends a command, and remembers a unit attention.
    pub fn execute(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> io::Result<Outcome> {
        let outcome = self.transport.execute(cdb, data, timeout)?;
        if outcome.is_unit_attention() {
            self.raise_attention();
        }
        Ok(outcome)
    }

    /// Sends a command; what failed is judged.
    pub fn carry_out(
        &self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
        purpose: Purpose,
    ) -> Result<Outcome, Judgement> {
        let outcome = self
            .execute(cdb, data, timeout)
            .map_err(|error| judge_error(&error, purpose))?;
        match judge(&outcome, purpose) {
            Some(judgement) => Err(judgement),
            None => Ok(outcome),
        }
    }

    /// Asks a question, again after a unit attention; the bytes that came.
    pub fn ask(
        &self,
        cdb: &[u8],
        allocation: usize,
        purpose: Purpose,
    ) -> Result<Vec<u8>, Judgement> {
        discover::ask(
            &|cdb, data, timeout| self.execute(cdb, data, timeout),
            cdb,
            allocation,
            purpose,
        )
    }

    /// Somebody saw a unit attention of this unit (a copy manager that sent it on).
    pub fn raise_attention(&self) {
        self.attentions.fetch_add(1, Ordering::SeqCst);
    }

    /// A unit attention was seen, and who the unit is was not verified since.
    pub fn needs_verification(&self) -> bool {
        *self.lock_verified() != self.attentions.load(Ordering::SeqCst)
    }

    fn lock_verified(&self) -> MutexGuard<'_, u64> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the unit again who it is, if a unit attention was seen. A unit that
    /// is another one, or has other blocks, is refused for good; one with new
    /// limits or another size is told to the core.
    pub fn verify(&self) -> Result<(), Failure> {
        let mut verified = self.lock_verified();
        let seen = self.attentions.load(Ordering::SeqCst);
        if *verified == seen {
            return Ok(());
        }
        let now = discover::facts(&*self.transport).map_err(|why| why.failure(self.name()))?;
        let before = self.facts();
        if now.designators.is_empty() && !before.designators.is_empty() {
            return Err(self.is_nameless());
        }
        if before.designators != now.designators
            || before.capacity.block_size != now.capacity.block_size
            || before.inquiry.device_type != now.inquiry.device_type
        {
            return Err(self.is_another());
        }
        check(self.name(), &now, self.place)?;
        let resized = before.capacity != now.capacity;
        let changed = before.operating != now.operating;
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        let changed = self.renew_pages() || changed;
        *verified = seen;
        drop(verified);
        if let Some(events) = &self.events {
            if resized && self.place.bytes.is_none() {
                events.resized(self.bytes());
            }
            if changed {
                events.limits_changed();
            }
        }
        Ok(())
    }

    /// No answer is no other unit; the next command asks again.
    fn is_nameless(&self) -> Failure {
        Failure::new(errno::EIO)
            .next_method()
            .untouched()
            .because(format!("{} does not say its names now", self.name()))
    }

    /// It is refused for good.
    fn is_another(&self) -> Failure {
        if let Some(events) = &self.events {
            events.removed();
        }
        Failure::new(errno::ENODEV)
            .reason(XCOPY_REASON_REMOVED)
            .fatal()
            .untouched()
            .because(format!(
                "{} is another logical unit than the one that was opened: open it again",
                self.name()
            ))
    }

    /// Fails once for what was learnt of the unit's size: asks for it again
    /// before the next command.
    pub fn distrust(&self) {
        self.raise_attention();
    }
}

/// Whether the device lies on the unit as the kernel says.
fn check(name: &str, facts: &Facts, place: Place) -> Result<(), Failure> {
    let block = facts.capacity.block_size;
    if let Some(kernels) = place.block_size
        && kernels != block
    {
        return Err(refused(&format!(
            "{name} has blocks of {block} bytes, and the kernel says {kernels}: have it look \
             again (echo 1 > /sys/block/.../device/rescan)"
        )));
    }
    if !place.offset.is_multiple_of(block.into()) {
        return Err(refused(&format!(
            "{name} begins at byte {}, which is no block of its disk",
            place.offset
        )));
    }
    let end = place.offset.checked_add(place.bytes.unwrap_or(0));
    if end.is_none_or(|end| end > facts.capacity.bytes()) {
        return Err(refused(&format!(
            "{name} ends beyond its disk of {} bytes: have the kernel look again (echo 1 > \
             /sys/block/.../device/rescan)",
            facts.capacity.bytes()
        )));
    }
    Ok(())
}
