//! The copy manager as its users see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, RealClock};
use crate::fault::{Effect, Refusal, TokenFate, TransportError, When};
use crate::kind::Kind;
use crate::personality::Personality;
use crate::sense::status;
use crate::service::{Service, ServiceTimes};
use crate::state::{Call, Done, State};
use crate::trace::Entry;
use crate::unit::{Designator, DiskOptions, Unit};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// SAM status; 0 also when no status came.
    pub status: u8,
    /// Sense data of a CHECK CONDITION.
    pub sense: Vec<u8>,
    /// Data-In.
    pub data: Vec<u8>,
    /// Bytes of Data-Out that a GOOD command did not take: its residual.
    pub untaken: u64,
    /// No status came.
    pub transport: Option<TransportError>,
}

impl Reply {
    /// GOOD.
    pub fn good(&self) -> bool {
        self.status == status::GOOD && self.transport.is_none()
    }

    /// SENSE KEY, ASC and ASCQ, in either format.
    pub fn codes(&self) -> Option<(u8, u8, u8)> {
        let sense = &self.sense;
        match sense.first()? & 0x7F {
            0x70 | 0x71 => Some((sense.get(2)? & 0x0F, *sense.get(12)?, *sense.get(13)?)),
            0x72 | 0x73 => Some((sense.get(1)? & 0x0F, *sense.get(2)?, *sense.get(3)?)),
            _ => None,
        }
    }
}

/// A target with its logical units. Any thread may use it; commands are carried
/// out one after the other, but their service times pass side by side.
pub struct CopyManager {
    state: Mutex<State>,
    service: Service,
    clock: Arc<dyn Clock>,
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

impl CopyManager {
    /// In real time.
    pub fn new(personality: Personality) -> Arc<CopyManager> {
        CopyManager::with_clock(personality, Arc::new(RealClock::default()))
    }

    /// In the time of `clock`.
    pub fn with_clock(personality: Personality, clock: Arc<dyn Clock>) -> Arc<CopyManager> {
        // No two managers of a machine: tokens of one are foreign to another.
        let instance =
            u64::from(std::process::id()) << 32 | INSTANCES.fetch_add(1, Ordering::Relaxed);
        let mut state = State::new(personality, instance);
        state.now = clock.now();
        Arc::new(CopyManager {
            state: Mutex::new(state),
            service: Service::default(),
            clock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now().max(state.now);
        state.advance(now);
        state
    }

    /// Adds a disk; its LUN.
    pub fn add_disk(&self, options: DiskOptions) -> usize {
        let mut state = self.lock();
        let number = state.units.len();
        let unit = Unit::new(number, state.personality.vendor, options);
        state.units.push(unit);
        number
    }

    /// An initiator's way to the target: list identifiers, unit attentions and
    /// reservations are its own. The same name is the same nexus.
    pub fn nexus(&self, initiator: &str) -> usize {
        let mut state = self.lock();
        if let Some(known) = state.nexuses.iter().position(|name| name == initiator) {
            return known;
        }
        state.nexuses.push(initiator.to_owned());
        let nexus = state.nexuses.len() - 1;
        if state.personality.power_on_attention {
            (0..state.units.len()).for_each(|unit| state.attention(nexus, unit, 0x29, 0x01));
        }
        nexus
    }

    /// Carries out a command with the data that goes to the target.
    pub fn execute(&self, nexus: usize, unit: usize, cdb: &[u8], out: &[u8]) -> Reply {
        let kind = Kind::of(cdb);
        let mut padded = [0; 16];
        let n = cdb.len().min(16);
        padded[..n].copy_from_slice(&cdb[..n]);
        let mut call = Call {
            nexus,
            unit,
            kind,
            cdb: padded,
            out,
            effect: None,
        };
        let entry = Entry {
            nexus,
            unit,
            kind,
            cdb: cdb.to_vec(),
            parameters: match kind {
                Kind::Write | Kind::WriteSame => Vec::new(),
                _ => out.to_vec(),
            },
            effect: None,
            status: None,
            sense: Vec::new(),
            answered: 0,
        };
        let number = self.lock().trace.begin(entry);
        let lane = self.service.enter(kind);
        // A copy is seen to run while it is in service; other commands take
        // place at the end of it.
        let copies = kind.starts_an_operation();
        if !copies && !lane.time.is_zero() {
            self.clock.sleep(lane.time);
        }
        let mut state = self.lock();
        let mut untaken = 0;
        let outcome = match state.begin(&mut call) {
            Err(refusal) => Err(refusal),
            Ok(Done::Data(data)) => Ok(data),
            Ok(Done::Untaken(bytes)) => {
                untaken = bytes;
                Ok(Vec::new())
            }
            Ok(Done::Started(key)) => {
                if !lane.time.is_zero() {
                    drop(state);
                    self.clock.sleep(lane.time);
                    state = self.lock();
                }
                state.finish(&call, key)
            }
        };
        let reply = Reply {
            untaken,
            ..self.reply(&state, outcome)
        };
        let status = reply.transport.is_none().then_some(reply.status);
        state
            .trace
            .end(number, status, &reply.sense, reply.data.len(), call.effect);
        reply
    }

    fn reply(&self, state: &State, outcome: Result<Vec<u8>, Refusal>) -> Reply {
        let mut reply = Reply {
            untaken: 0,
            status: 0,
            sense: Vec::new(),
            data: Vec::new(),
            transport: None,
        };
        match outcome {
            Ok(data) => reply.data = data,
            Err(Refusal::Check(sense)) => {
                reply.status = status::CHECK_CONDITION;
                reply.sense = sense.encode(state.personality.sense);
            }
            Err(Refusal::Status(status)) => reply.status = status,
            Err(Refusal::Transport(error)) => reply.transport = Some(error),
        }
        reply
    }

    /// Changes limits and ways while it serves.
    pub fn change(&self, change: impl FnOnce(&mut Personality)) {
        change(&mut self.lock().personality);
    }

    /// A copy of what it is now.
    pub fn personality(&self) -> Personality {
        self.lock().personality.clone()
    }

    /// Service times from now on.
    pub fn set_service(&self, times: ServiceTimes) {
        self.service.set(times);
    }

    /// The most commands that were in service at once.
    pub fn most_in_service(&self) -> usize {
        self.service.most()
    }

    /// Sets a fault; of several that strike one command the first set counts.
    pub fn set_fault(&self, kind: Kind, when: When, effect: Effect) {
        self.lock().faults.set(kind, when, effect);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// How many commands a fault struck.
    pub fn fault_hits(&self) -> u64 {
        self.lock().faults.hits
    }

    /// What was asked, in the order of arrival.
    pub fn trace(&self) -> Vec<Entry> {
        self.lock().trace.entries()
    }

    /// Forgets what was asked.
    pub fn clear_trace(&self) {
        self.lock().trace.clear();
    }

    /// Reads the medium, past every command and fault. What is not there is zero.
    pub fn peek(&self, unit: usize, at: u64, into: &mut [u8]) {
        match self.lock().units.get(unit) {
            Some(unit) => unit.chunks.read(at, into),
            None => into.fill(0),
        }
    }

    /// Writes the medium, past every command and fault.
    pub fn poke(&self, unit: usize, at: u64, from: &[u8]) {
        if let Some(unit) = self.lock().units.get_mut(unit) {
            unit.chunks.write(at, from);
        }
    }

    /// Tokens that can be written now.
    pub fn live_tokens(&self) -> usize {
        self.lock().tokens.count()
    }

    /// Operations that have not ended.
    pub fn running(&self) -> usize {
        self.lock().operations.running()
    }

    /// Every token is no more.
    pub fn end_tokens(&self, fate: TokenFate) {
        self.lock().tokens.kill_all(fate, |_| true);
    }

    /// The nexus is lost: its operations, list identifiers and tokens are gone.
    pub fn lose_nexus(&self, nexus: usize) {
        self.lock().lose_nexus(nexus);
    }

    /// LOGICAL UNIT RESET.
    pub fn reset_unit(&self, unit: usize) {
        self.lock().reset_unit(unit);
    }

    /// A nexus sees the unit, or no longer.
    pub fn show(&self, nexus: usize, unit: usize, visible: bool) {
        let mut state = self.lock();
        if visible {
            state.hidden.remove(&(nexus, unit));
        } else {
            state.hidden.insert((nexus, unit));
        }
    }

    /// The unit is gone, for everyone.
    pub fn remove_disk(&self, unit: usize) {
        if let Some(unit) = self.lock().units.get_mut(unit) {
            unit.removed = true;
        }
    }

    /// Write protection on or off.
    pub fn protect(&self, unit: usize, on: bool) {
        if let Some(unit) = self.lock().units.get_mut(unit) {
            unit.write_protected = on;
        }
    }

    /// A block that cannot be read until it is written.
    pub fn spoil(&self, unit: usize, lba: u64) {
        if let Some(unit) = self.lock().units.get_mut(unit) {
            unit.bad_blocks.insert(lba);
        }
    }

    /// Another size, and CAPACITY DATA HAS CHANGED for every nexus.
    pub fn resize(&self, unit: usize, blocks: u64) {
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(unit) {
            unit.blocks = blocks;
        }
        state.attention_all(unit, 0x2A, 0x09);
    }

    /// Other names, as if another unit stood at this LUN: REPORTED LUNS DATA HAS
    /// CHANGED for every nexus.
    pub fn rename(&self, unit: usize, designators: Vec<Designator>) {
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(unit) {
            unit.designators = designators;
        }
        state.attention_all(unit, 0x3F, 0x0E);
    }

    /// A unit attention for one nexus.
    pub fn raise_attention(&self, nexus: usize, unit: usize, asc: u8, ascq: u8) {
        self.lock().attention(nexus, unit, asc, ascq);
    }

    /// Size of a unit in bytes.
    pub fn bytes(&self, unit: usize) -> u64 {
        self.lock().units.get(unit).map_or(0, Unit::bytes)
    }
}
