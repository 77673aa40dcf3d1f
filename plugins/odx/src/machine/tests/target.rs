//! A device that answers what it is told to, and a clock.

use crate::machine::port::{Clock, Port};
use crate::machine::{Site, Terms};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use xcopy_scsi_protocol::{Data, Outcome};

/// One answer.
pub enum Answer {
    /// GOOD, with this data.
    Good(Vec<u8>),
    /// A status with sense key, ASC, ASCQ.
    Sense(u8, u8, u8),
    /// A status alone.
    Status(u8),
    /// A host byte: no status came.
    Host(u32),
    /// Not sent.
    Error(i32),
}

/// A command as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub action: u8,
    pub list: u32,
    pub parameters: Vec<u8>,
    pub at: Duration,
}

type Rest<'a> = Box<dyn Fn(u8, &Seen) -> Answer + 'a>;

/// A device of 512-byte blocks.
pub struct Target<'a> {
    answers: RefCell<VecDeque<Answer>>,
    /// What is answered when the script is over, by service action.
    pub rest: Rest<'a>,
    pub seen: RefCell<Vec<Seen>>,
    pub block: u32,
    clock: &'a Ticks,
    pub no_immediate: AtomicBool,
}

pub const PT: u8 = 0x10;
pub const WUT: u8 = 0x11;
pub const ABORT: u8 = 0x1c;
pub const RRTI: u8 = 0x07;

impl<'a> Target<'a> {
    pub fn new(clock: &'a Ticks, answers: impl IntoIterator<Item = Answer>) -> Target<'a> {
        Target {
            answers: RefCell::new(answers.into_iter().collect()),
            rest: Box::new(|action, _| panic!("an unexpected command {action:02x}h")),
            seen: RefCell::default(),
            block: 512,
            clock,
            no_immediate: AtomicBool::new(false),
        }
    }

    pub fn site(&self) -> Site<'_> {
        Site {
            port: self,
            no_immediate: &self.no_immediate,
        }
    }

    /// Service actions in their order.
    pub fn actions(&self) -> Vec<u8> {
        self.seen.borrow().iter().map(|seen| seen.action).collect()
    }
}

impl Port for Target<'_> {
    fn execute(&self, cdb: &[u8], data: Data<'_>, _: Duration) -> io::Result<Outcome> {
        let action = cdb[1] & 0x1f;
        // PT and WUT have the list identifier at byte 6, the others at byte 2.
        let at = if matches!(action, PT | WUT) { 6 } else { 2 };
        let list = cdb[at..].first_chunk::<4>().expect("four bytes");
        let seen = Seen {
            action,
            list: u32::from_be_bytes(*list),
            parameters: match &data {
                Data::Out(out) => out.to_vec(),
                _ => Vec::new(),
            },
            at: self.clock.now(),
        };
        if let Data::In(room) = &data {
            assert!(room.len() >= 1024, "the first reading has room for all");
        }
        let answer = self.answers.borrow_mut().pop_front();
        let answer = answer.unwrap_or_else(|| (self.rest)(action, &seen));
        self.seen.borrow_mut().push(seen);
        let mut outcome = Outcome::default();
        match answer {
            Answer::Good(bytes) => {
                if let Data::In(room) = data {
                    room[..bytes.len()].copy_from_slice(&bytes);
                    outcome.residual = (room.len() - bytes.len()) as u32;
                }
            }
            Answer::Sense(key, asc, ascq) => {
                outcome.status = 2;
                outcome.sense = vec![0x72, key, asc, ascq, 0, 0, 0, 0];
            }
            Answer::Status(status) => outcome.status = status,
            Answer::Host(host) => outcome.host_status = host,
            Answer::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
        Ok(outcome)
    }

    fn block_bytes(&self) -> u32 {
        self.block
    }
}

/// Time that passes by sleeping.
#[derive(Default)]
pub struct Ticks(Cell<Duration>);

impl Clock for Ticks {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn sleep(&self, time: Duration) {
        assert!(!time.is_zero(), "a busy wait");
        self.0.set(self.0.get() + time);
    }
}

pub fn terms(clock: &Ticks) -> Terms<'_> {
    Terms {
        clock,
        deadline: None,
        immediate: false,
    }
}

/// GOOD without data.
pub fn ok() -> Answer {
    Answer::Good(Vec::new())
}

/// An answer of RECEIVE ROD TOKEN INFORMATION: status, count in blocks, delay.
pub fn state(status: u8, blocks: u64, delay_ms: u32) -> Answer {
    Answer::Good(state_bytes(status, blocks, delay_ms, None))
}

/// The same with a token of `bytes`.
pub fn made(blocks: u64, name: u8) -> Answer {
    Answer::Good(state_bytes(1, blocks, 0, Some(name)))
}

fn state_bytes(status: u8, blocks: u64, delay_ms: u32, token: Option<u8>) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[5] = status;
    bytes[8..12].copy_from_slice(&delay_ms.to_be_bytes());
    bytes[15] = 0xf1;
    bytes[16..24].copy_from_slice(&blocks.to_be_bytes());
    if let Some(name) = token {
        bytes[32..36].copy_from_slice(&514u32.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(token_bytes(name, blocks * 512));
    }
    let available = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&available.to_be_bytes());
    bytes
}

/// A token with a name, made of 512-byte blocks.
pub fn token_bytes(name: u8, represents: u64) -> Vec<u8> {
    let mut token = vec![0; 512];
    token[..8].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0x01, 0xf8]);
    token[56..64].copy_from_slice(&represents.to_be_bytes());
    token[96..100].copy_from_slice(&512u32.to_be_bytes());
    token[200] = name;
    token
}
