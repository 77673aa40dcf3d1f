//! One POPULATE TOKEN or WRITE USING TOKEN, from the command to its settled end.
//!
//! A command with IMMED is only begun when it answers; without, it should have
//! ended. Either way RECEIVE ROD TOKEN INFORMATION tells what came of it, once:
//! the device may forget the answer as soon as it was sent, so its first reading
//! has room for everything and is repeated only where the device says that it
//! did not carry the command out.

use super::fault::{Fault, Refusal, Why};
use super::port::{Clock, Port};
use crate::wire::Information;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use xcopy_scsi_protocol::transport::{CHECK_CONDITION, RESERVATION_CONFLICT, TASK_ABORTED};
use xcopy_scsi_protocol::wire::cdb::{self, Cdb};
use xcopy_scsi_protocol::wire::status::CopyState;
use xcopy_scsi_protocol::{Data, ListIdLease, ListIdUser, Outcome};
use zeroize::Zeroizing;

/// Of a command that copies. An early end would make the kernel abort it, and
/// perhaps reset the device: that costs everybody their tokens.
const COPY_TIMEOUT: Duration = Duration::from_secs(600);
/// Of a command that only asks or tells.
const SHORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Room for the answer: a token, and the longest sense data.
const INFORMATION_ROOM: usize = 1024;
/// List identifiers tried.
const IDENTIFIERS_MAX: u32 = 10;
/// Commands given again that the device did not carry out.
const RETRIES_MAX: u32 = 6;
/// First wait where the device gives no advice; doubles up to the next.
const WAIT_FIRST: Duration = Duration::from_millis(2);
const WAIT_MOST: Duration = Duration::from_millis(500);
/// Longest wait that a device can ask for.
const ADVICE_MOST: Duration = Duration::from_secs(10);
/// Without any movement for so long an operation is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// To end after it was aborted.
const SETTLE: Duration = Duration::from_secs(30);

/// A device with what its operations need.
pub struct Site<'a> {
    /// The device.
    pub port: &'a dyn Port,
    /// The device was seen to refuse IMMED.
    pub no_immediate: &'a AtomicBool,
}

/// What the caller grants.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The clock.
    pub clock: &'a dyn Clock,
    /// On this clock; None is no limit but the device's standing still.
    pub deadline: Option<Duration>,
    /// Ask for IMMED.
    pub immediate: bool,
}

/// A command that begins an operation.
pub(super) struct Order<'a> {
    pub cdb: fn(u32, u32) -> Cdb,
    /// The parameter list, with IMMED or without.
    pub parameters: &'a dyn Fn(bool) -> Zeroizing<Vec<u8>>,
    /// It writes to the device.
    pub writes: bool,
}

impl Site<'_> {
    /// Carries an operation out: its final state says that it ended well.
    pub(super) fn run(
        &self,
        terms: Terms<'_>,
        order: &Order<'_>,
    ) -> Result<Box<Information>, Fault> {
        let immediate = terms.immediate && !self.no_immediate.load(Ordering::Relaxed);
        for _ in 0..IDENTIFIERS_MAX {
            let list = match ListIdLease::long(ListIdUser::Tokens) {
                Ok(list) => list,
                Err(error) => return Err(Fault::untouched(unsent(&error))),
            };
            let mut running = Running {
                site: self,
                terms,
                list: list.id(),
                immediate,
                writes: order.writes,
            };
            match running.begin(order) {
                Ok(()) => return running.follow(),
                Err(fault) => match fault.refusal() {
                    Some(refusal) if refusal.is_list_busy() => {}
                    Some(refusal) if immediate && refusal.may_mean_immediate() => {
                        let result = running.again_without_immediate(order);
                        if result.is_ok() {
                            self.no_immediate.store(true, Ordering::Relaxed);
                        }
                        return result;
                    }
                    _ => return Err(fault),
                },
            }
        }
        Err(Fault::untouched(Why::IdentifiersBusy))
    }

    /// Sends a command again while the device says that it did not carry it out.
    fn persist(
        &self,
        terms: Terms<'_>,
        through_attention: bool,
        mut send: impl FnMut() -> io::Result<Outcome>,
    ) -> Reply {
        let mut send = || match send() {
            Err(error) => Reply::Unsent(error),
            Ok(outcome) if outcome.is_good() => Reply::Good(outcome.residual as usize),
            Ok(outcome) => Reply::Refused(Refusal(outcome)),
        };
        let mut wait = WAIT_FIRST;
        for _ in 0..RETRIES_MAX {
            match send() {
                Reply::Refused(refusal) if refusal.is_busy() => {
                    if terms.is_over() {
                        return Reply::Refused(refusal);
                    }
                    terms.clock.sleep(wait);
                    wait = (wait * 4).min(WAIT_MOST);
                }
                Reply::Refused(refusal) if through_attention && refusal.is_unit_attention() => {}
                reply => return reply,
            }
        }
        send()
    }
}

impl Terms<'_> {
    fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| self.clock.now() >= deadline)
    }
}

/// The answer to a command.
enum Reply {
    /// GOOD, and so many bytes of the data were not transferred.
    Good(usize),
    /// Anything else that came, or did not come, after it was sent.
    Refused(Refusal),
    /// It was not sent.
    Unsent(io::Error),
}

fn unsent(error: &io::Error) -> Why {
    // EIO
    Why::Unsent(error.raw_os_error().unwrap_or(5))
}

/// An operation under way.
struct Running<'a, 'b> {
    site: &'a Site<'b>,
    terms: Terms<'a>,
    list: u32,
    immediate: bool,
    writes: bool,
}

/// What a reading of the state gave.
enum Read {
    State(Box<Information>),
    /// The device does not know the list: nothing of it is under way, or held.
    Unknown,
    Fault(Fault),
}

impl Running<'_, '_> {
    fn begin(&self, order: &Order<'_>) -> Result<(), Fault> {
        let list = (order.parameters)(self.immediate);
        let cdb = (order.cdb)(self.list, list.len() as u32);
        let port = self.site.port;
        // A unit attention may mean that tokens are gone: the caller has to know.
        let reply = self.site.persist(self.terms, false, || {
            port.execute(&cdb, Data::Out(&list), COPY_TIMEOUT)
        });
        match reply {
            Reply::Good(_) => Ok(()),
            Reply::Refused(refusal) => {
                let unstarted = refusal.is_unstarted();
                // What the device holds of a failed operation is read away; what
                // was aborted on the way may not be over.
                let lost = refusal.is_lost();
                let ended = unstarted || (!lost && self.is_over_now());
                let settled = ended || self.settle().is_ok();
                Err(Fault {
                    untouched: unstarted || !self.writes,
                    settled,
                    ..Fault::new(Why::Refused(refusal))
                })
            }
            Reply::Unsent(error) => Err(Fault::untouched(unsent(&error))),
        }
    }

    fn again_without_immediate(&mut self, order: &Order<'_>) -> Result<Box<Information>, Fault> {
        self.immediate = false;
        self.begin(order)?;
        self.follow()
    }

    /// One reading of the state.
    fn read(&self) -> Read {
        let mut room = Zeroizing::new([0; INFORMATION_ROOM]);
        let cdb = cdb::receive_rod_token_information(self.list, INFORMATION_ROOM as u32);
        let port = self.site.port;
        let reply = self.site.persist(self.terms, true, || {
            port.execute(&cdb, Data::In(&mut room[..]), SHORT_TIMEOUT)
        });
        match reply {
            Reply::Good(residual) => {
                let sent = &room[..INFORMATION_ROOM.saturating_sub(residual)];
                match Information::decode(sent) {
                    Some(information) => Read::State(Box::new(information)),
                    None => {
                        let what = "the copy operation's state is cut off";
                        Read::Fault(Fault::new(Why::Malformed(what)))
                    }
                }
            }
            Reply::Refused(refusal) if refusal.is_unknown_list() => Read::Unknown,
            Reply::Refused(refusal) => Read::Fault(Fault::new(Why::Refused(refusal))),
            Reply::Unsent(error) => Read::Fault(Fault::new(unsent(&error))),
        }
    }

    /// Whether the device says at once that nothing is under way.
    fn is_over_now(&self) -> bool {
        match self.read() {
            Read::State(information) => information.state.state != CopyState::InProgress,
            Read::Unknown => true,
            Read::Fault(_) => false,
        }
    }

    /// Waits for the end, as the device advises.
    fn follow(&self) -> Result<Box<Information>, Fault> {
        let clock = self.terms.clock;
        let mut wait = WAIT_FIRST;
        let mut moved = (clock.now(), None);
        loop {
            let information = match self.read() {
                Read::State(information) => information,
                Read::Unknown => return Err(self.uncertain(Why::StatusLost)),
                Read::Fault(fault) => {
                    let why = match fault.why {
                        // Of the reading, not of the operation.
                        Why::Refused(refusal) if refusal.0.status != RESERVATION_CONFLICT => {
                            Why::StatusLost
                        }
                        Why::Unsent(_) => Why::StatusLost,
                        why => why,
                    };
                    return Err(self.uncertain(why));
                }
            };
            match information.state.state {
                CopyState::Done | CopyState::DonePartialRod => return Ok(information),
                CopyState::InProgress => {}
                _ => return Err(Fault::new(Why::Refused(refusal_of(&information)))),
            }
            let state = information.state;
            let now = clock.now();
            let mark = Some((state.counter, state.units, state.count));
            if moved.1 != mark {
                moved = (now, mark);
                wait = WAIT_FIRST;
            }
            if self.terms.is_over() {
                return self.stop(Why::TimedOut);
            }
            if now.saturating_sub(moved.0) >= PATIENCE {
                return self.stop(Why::Stuck);
            }
            let mut pause = match state.delay_ms {
                Some(advice) => Duration::from_millis(advice.into()).min(ADVICE_MOST),
                None => wait,
            };
            wait = (wait * 2).min(WAIT_MOST);
            if let Some(deadline) = self.terms.deadline {
                pause = pause.min(deadline.saturating_sub(now));
            }
            clock.sleep(pause.max(Duration::from_millis(1)));
        }
    }

    /// The state was lost. A command without IMMED ended before it answered.
    fn uncertain(&self, why: Why) -> Fault {
        Fault {
            settled: !self.immediate || !self.writes || self.settle().is_ok(),
            ..Fault::new(why)
        }
    }

    /// Ends the operation; it may turn out to have ended well by itself.
    fn stop(&self, why: Why) -> Result<Box<Information>, Fault> {
        match self.settle() {
            Ok(Some(information)) if information.state.state == CopyState::Done => Ok(information),
            settled => Err(Fault {
                settled: settled.is_ok(),
                ..Fault::new(why)
            }),
        }
    }

    /// Aborts what may be under way and waits until nothing is: the last state,
    /// if the device still had one. Err if the end could not be seen.
    fn settle(&self) -> Result<Option<Box<Information>>, ()> {
        let clock = self.terms.clock;
        let (port, cdb) = (self.site.port, cdb::copy_operation_abort(self.list));
        let patient = Terms {
            deadline: None,
            ..self.terms
        };
        let reply = self.site.persist(patient, true, || {
            port.execute(&cdb, Data::None, SHORT_TIMEOUT)
        });
        let aborted = matches!(reply, Reply::Good(_));
        let end = clock.now() + SETTLE;
        let mut wait = WAIT_FIRST;
        loop {
            match self.read() {
                Read::State(information) if information.state.state != CopyState::InProgress => {
                    return Ok(Some(information));
                }
                Read::Unknown => return Ok(None),
                Read::State(_) => {}
                Read::Fault(_) if aborted => {}
                Read::Fault(_) => return Err(()),
            }
            if clock.now() >= end {
                return Err(());
            }
            clock.sleep(wait);
            wait = (wait * 2).min(WAIT_MOST);
        }
    }
}

/// The status and sense data that an operation ended with.
fn refusal_of(information: &Information) -> Refusal {
    let state = &information.state;
    let status = match (state.state, state.status) {
        // Terminated, and nobody says how (SAM-5 5.3.1: TASK ABORTED).
        (CopyState::Terminated, 0) => TASK_ABORTED,
        // An error without a status of its own.
        (_, 0) => CHECK_CONDITION,
        (_, status) => status,
    };
    Refusal(Outcome {
        status,
        sense: state.sense.clone(),
        ..Outcome::default()
    })
}
