//! Commands under way on one queue: by a ring where the system has one, else by
//! the context's threads.

use crate::carry::{Ended, attend, carry_out, ended, with_timeout};
use crate::namespace::Namespace;
use crate::pair::{self, Hindrance, Sent};
use crate::system::{Answer, Ring, System};
use crate::wire::Command;
use crate::workers::Workers;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use xcopy_plugin_sdk::{Failure, Job, Operation, QueueOptions};

/// Commands that the ring holds at once at most.
const ENTRIES_MAX: u32 = 1024;

type JobOf<S> = Job<Namespace<<S as System>::Port>>;

/// One command on the ring: the job, and the descriptors that the controller
/// reads while it is under way.
struct Flight<S: System> {
    job: Option<JobOf<S>>,
    buffer: Vec<u8>,
    sent: Sent,
}

/// One queue's state.
pub struct Queue<S: System> {
    ring: Option<S::Ring>,
    flights: Vec<Flight<S>>,
    free: Vec<u32>,
    /// Commands that the ring may hold.
    room: usize,
    /// Without a ring nothing ends in poll: never readable.
    silent: EventFd,
    workers: Arc<Workers>,
}

/// What becomes of a job that was offered.
enum Way {
    /// The ring takes it, with the descriptors in the flight's buffer.
    Ring(Command, Sent),
    /// A thread carries it out.
    Thread,
    /// It ends at once.
    Ends(Failure),
}

impl<S: System> Queue<S> {
    /// A queue; `ring` is None where there is none.
    pub fn new(
        options: QueueOptions,
        ring: Option<S::Ring>,
        workers: Arc<Workers>,
    ) -> Result<Queue<S>, Failure> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let silent = EventFd::from_value_and_flags(0, flags)
            .map_err(|errno| Failure::from(std::io::Error::from(errno)))?;
        Ok(Queue {
            ring,
            flights: Vec::new(),
            free: Vec::new(),
            room: entries(options.window) as usize,
            silent,
            workers,
        })
    }

    /// Takes a job, or gives it back if there is no room.
    pub fn submit(&mut self, mut job: JobOf<S>) -> Result<(), JobOf<S>> {
        if self.ring.is_none() {
            self.workers.run(move || carry_out(job));
            return Ok(());
        }
        let Some(at) = self.place() else {
            return Err(job);
        };
        let way = way_of::<S>(&mut job, &mut self.flights[at as usize].buffer);
        match way {
            Way::Ring(command, sent) => {
                self.flights[at as usize].sent = sent;
                return self.push(at, command, job);
            }
            Way::Thread => self.workers.run(move || carry_out(job)),
            Way::Ends(failure) => job.end(Err(failure)),
        }
        self.free.push(at);
        Ok(())
    }

    /// The index of a free flight.
    fn place(&mut self) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        if self.flights.len() >= self.room {
            return None;
        }
        self.flights.push(Flight {
            job: None,
            buffer: Vec::new(),
            sent: Sent::default(),
        });
        Some(self.flights.len() as u32 - 1)
    }

    fn push(&mut self, at: u32, mut command: Command, mut job: JobOf<S>) -> Result<(), JobOf<S>> {
        let flight = &mut self.flights[at as usize];
        if command.data_len > 0 {
            command.addr = flight.buffer.as_ptr() as u64;
        }
        let pushed = match (self.ring.as_mut(), job.command().operation()) {
            (Some(ring), Operation::Copy { dst, .. } | Operation::Flush { dst }) => {
                ring.push(&dst.port, with_timeout(command), u64::from(at))
            }
            _ => false,
        };
        if !pushed {
            self.free.push(at);
            return Err(job);
        }
        flight.job = Some(job);
        Ok(())
    }

    /// Hands the kernel what was queued.
    pub fn enter(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.enter();
        }
    }

    /// Ends at most `max` jobs.
    pub fn poll(&mut self, max: usize) {
        if self.ring.as_mut().is_some_and(|ring| ring.is_ready()) {
            self.enter();
        }
        for _ in 0..max.max(1) {
            let Some((token, answer)) = self.ring.as_mut().and_then(|ring| ring.next()) else {
                return;
            };
            self.end(token, answer);
        }
    }

    fn end(&mut self, token: u64, answer: Answer) {
        let flight = usize::try_from(token)
            .ok()
            .and_then(|at| self.flights.get_mut(at));
        let Some((mut job, sent)) = flight.and_then(|f| Some((f.job.take()?, f.sent))) else {
            return;
        };
        self.free.push(token as u32);
        let end = match job.command().operation() {
            Operation::Copy { ranges, .. } => ended(answer, ranges),
            _ => ended(answer, &[]),
        };
        match end {
            Ended::Known(outcome) => job.end(outcome),
            Ended::Unsure(judged) => self.workers.run(move || attend(job, judged, sent)),
            // A multipath head without a path answers rings so, and the ioctl that it
            // is to be tried again.
            Ended::Refused(_) => self.workers.run(move || carry_out(job)),
            Ended::UnknownWay => {
                if let Operation::Copy { dst, .. } | Operation::Flush { dst } =
                    job.command().operation()
                {
                    dst.forget_ring();
                }
                self.workers.run(move || carry_out(job));
            }
        }
    }

    /// The descriptor that becomes readable when `poll` has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.ring {
            Some(ring) => ring.fd(),
            None => self.silent.as_fd(),
        }
    }

    /// Whether `poll` has something to do.
    pub fn is_ready(&mut self) -> bool {
        self.ring.as_mut().is_some_and(|ring| ring.is_ready())
    }
}

/// Entries of a ring for a queue of so many commands.
pub fn entries(window: u32) -> u32 {
    window.clamp(1, ENTRIES_MAX)
}

fn way_of<S: System>(job: &mut JobOf<S>, buffer: &mut Vec<u8>) -> Way {
    let mut command = job.command();
    let flags = command.flags();
    match command.operation() {
        Operation::Copy { dst, .. } | Operation::Flush { dst } if !dst.has_ring() => Way::Thread,
        Operation::Copy { src, dst, ranges } => {
            match pair::build(src, dst, ranges, flags, buffer) {
                Ok(built) => Way::Ring(built.command, built.sent),
                // Admin commands block.
                Err(Hindrance::Feature(_)) => Way::Thread,
                Err(Hindrance::Failure(failure)) => Way::Ends(failure),
            }
        }
        Operation::Flush { dst } => Way::Ring(Command::flush(dst.nsid), Sent::default()),
        _ => Way::Ends(command.unknown()),
    }
}

impl<S: System> Drop for Queue<S> {
    fn drop(&mut self) {
        if self.flights.iter().all(|flight| flight.job.is_none()) {
            return;
        }
        // A panic: the kernel still has commands, and the controller may still
        // read their descriptors.
        if let Some(ring) = self.ring.take() {
            ring.abandon();
        }
        for flight in &mut self.flights {
            if flight.job.is_some() {
                std::mem::forget(std::mem::take(&mut flight.buffer));
            }
        }
    }
}
