//! The bell: one pollable fd per queue, readable while it is armed and
//! anything is ready.
//!
//! The fd is an epoll instance over an eventfd, the fds of polled plugins, and
//! a timerfd for the deadline of a sleeper. Nothing but creation enters the
//! kernel while the bell is not armed.
//!
//! Why no wake-up is lost: [`Bell::settle`] first takes what the eventfd
//! holds, then looks at the lane by arming it. A push before that look is seen
//! by it and makes the fd readable again; a push after it finds the lane armed
//! and rings. A producer may ring long after its node was drained: rings are
//! counted before they are made, so the owner knows of any that it has still to
//! take, and a late one costs one empty wake-up.

#[cfg(not(loom))]
use std::os::fd::RawFd;

#[cfg(not(loom))]
use super::watch::{Wait, Watch};
use super::{
    lane::Lane,
    sync::{Arc, AtomicU64, Counter, Ordering},
};
use crate::error::Result;

#[derive(Debug)]
struct Signal {
    counter: Counter,
    rung: AtomicU64,
}

impl Signal {
    fn ring(&self) {
        // Counted first: whoever sees the fd readable sees the count too.
        self.rung.fetch_add(1, Ordering::Release);
        self.counter.add();
    }
}

/// Rings a [`Bell`] from any thread, also when the bell is gone.
///
/// To be called by whoever a push on the lane told to. A bare ring wakes, but
/// an owner that is just settling may take it: what it announces must be looked
/// at after the settle, or better be a node of the lane.
#[derive(Debug, Clone)]
pub struct Ringer(Arc<Signal>);

impl Ringer {
    /// Makes the fd readable. One system call, not a cancellation point.
    pub fn ring(&self) {
        self.0.ring();
    }

    /// How often it was rung. While that is [`Bell::taken`], a bell that is not
    /// armed needs no [`settle`](Bell::settle).
    #[inline(always)]
    pub fn rung(&self) -> u64 {
        self.0.rung.load(Ordering::Acquire)
    }
}

/// The owner's side of a queue's wake-ups.
#[derive(Debug)]
pub struct Bell {
    signal: Arc<Signal>,
    armed: bool,
    /// How many rings were taken out of the counter; those between this and
    /// `Signal::rung` are in it or on their way.
    taken: u64,
    /// We rang it ourselves since it was last emptied: certainly readable.
    lit: bool,
    #[cfg(not(loom))]
    watch: Watch,
}

impl Bell {
    /// A bell that is not armed.
    pub fn new() -> Result<Bell> {
        let signal = Signal {
            counter: Counter::new()?,
            rung: AtomicU64::new(0),
        };
        Ok(Bell {
            armed: false,
            taken: 0,
            lit: false,
            #[cfg(not(loom))]
            watch: Watch::new(signal.counter.raw())?,
            signal: Arc::new(signal),
        })
    }

    /// What other threads ring with.
    pub fn ringer(&self) -> Ringer {
        Ringer(Arc::clone(&self.signal))
    }

    /// How many rings were taken out of the fd.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether it is armed.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Arms until [`disarm`](Bell::disarm); idempotent. True: something is
    /// ready (`ready`: known to the owner already), and the fd is readable.
    pub fn arm(&mut self, lane: &Lane, ready: bool) -> bool {
        self.armed = true;
        self.refresh(lane, ready)
    }

    /// Ends the arming and leaves the fd unreadable, but for a plugin's own
    /// fd, and for a ring that is still on its way (the next settle takes it).
    pub fn disarm(&mut self, lane: &Lane) {
        if !self.armed {
            return;
        }
        self.armed = false;
        lane.disarm();
        self.silence();
        // Stopping a timer that exists has no way to fail.
        let _ = self.program();
    }

    /// To be called at the end of every poll: while armed, leaves the fd
    /// readable if `ready` or if the lane holds anything, and otherwise empty
    /// and the lane armed. While not armed, one load, and only a ring that came
    /// late costs a system call: nobody else would ever quieten it.
    pub fn settle(&mut self, lane: &Lane, ready: bool) {
        if self.armed {
            self.refresh(lane, ready);
        } else {
            self.silence();
        }
    }

    fn refresh(&mut self, lane: &Lane, ready: bool) -> bool {
        // Without its timer a sleeper would miss its deadline: rather no sleep.
        let mut ready = self.program().is_err() || ready || !lane.is_empty();
        if !ready {
            // This order, see above: empty the counter, then look.
            self.silence();
            ready = lane.arm();
        }
        if ready && !self.lit {
            self.signal.ring();
            self.lit = true;
        }
        ready
    }

    fn silence(&mut self) {
        if self.signal.rung.load(Ordering::Acquire) != self.taken {
            self.taken = self.taken.wrapping_add(self.signal.counter.take());
        }
        self.lit = false;
    }

    #[cfg(loom)]
    fn program(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether the fd would be readable.
    #[cfg(loom)]
    pub fn is_readable(&self) -> bool {
        self.signal.counter.is_readable()
    }

    /// Sleeps until the fd is readable.
    #[cfg(loom)]
    pub fn sleep(&self) {
        self.signal.counter.sleep();
    }
}

#[cfg(not(loom))]
impl Bell {
    /// The fd, the same for the bell's life. To be polled for input, never read.
    pub fn fd(&self) -> RawFd {
        self.watch.epoll.raw()
    }

    /// Lets a plugin's fd make ours readable. It must stay open until it is
    /// removed.
    pub fn add(&self, fd: RawFd) -> Result<()> {
        self.watch.add(fd)
    }

    /// Undoes [`add`](Bell::add); an fd that was not added is ignored.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: EPOLL_CTL_DEL reads no event (since Linux 2.6.9 it may be
        // null); a number that is not ours to remove is refused by the kernel.
        unsafe {
            libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
        }
    }

    /// While armed, makes the fd readable from this time on (CLOCK_MONOTONIC),
    /// until another is set; `None`: never. Remembered while not armed. The same
    /// time again changes nothing, so a caller whose coarse clock is still short
    /// of a deadline that has fired is woken again and not left asleep.
    ///
    /// After an error the fd is kept readable while armed, in place of the timer.
    pub fn set_deadline(&mut self, at_ns: Option<u64>) -> Result<()> {
        self.watch.deadline = at_ns;
        self.program()
    }

    fn program(&mut self) -> Result<()> {
        self.watch.program(self.armed)
    }

    /// Waits for the fd; below 0 for ever. Not a cancellation point. Only a signal
    /// whose handler ran interrupts it.
    pub fn wait(&self, timeout_ns: i64) -> Result<Wait> {
        self.watch.wait(timeout_ns)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::{Duration, Instant},
    };

    use super::*;

    const MS: i64 = 1_000_000;

    fn now_ns() -> u64 {
        let mut ts = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `ts` is ours for the call.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
        ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
    }

    fn readable(bell: &Bell) -> bool {
        bell.wait(0).unwrap() == Wait::Ready
    }

    fn is_send<T: Send>(_: &T) {}

    #[test]
    fn silent_until_armed_and_sticky_until_disarmed() {
        let lane = Lane::new(4);
        let mut bell = Bell::new().unwrap();
        is_send(&bell);
        assert!(!bell.is_armed() && !lane.push(0) && !readable(&bell));

        assert!(bell.arm(&lane, false), "the lane holds one");
        assert!(readable(&bell) && readable(&bell) && bell.arm(&lane, false));
        lane.drain(|_| ());
        assert!(readable(&bell), "nothing reads it but a settle");
        bell.settle(&lane, false);
        assert!(!readable(&bell) && bell.is_armed());

        let ringer = bell.ringer();
        for round in 0..3 {
            assert!(lane.push(round));
            ringer.ring();
            assert!(!lane.push(3), "one ring per arming");
            assert!(readable(&bell));
            lane.drain(|_| ());
            bell.settle(&lane, true);
            assert!(readable(&bell), "one of them was not taken yet");
            bell.settle(&lane, false);
            assert!(!readable(&bell), "settled");
        }

        assert!(bell.arm(&lane, true) && readable(&bell));
        bell.disarm(&lane);
        assert!(!readable(&bell) && !bell.is_armed());
        bell.settle(&lane, true);
        assert!(!readable(&bell) && !lane.push(1));
    }

    #[test]
    fn late_and_bare_rings_are_taken() {
        let lane = Lane::new(2);
        let mut bell = Bell::new().unwrap();
        let ringer = bell.ringer();
        assert!(!bell.arm(&lane, false));

        assert!(lane.push(0));
        assert_eq!(lane.drain(|_| ()), 1);
        bell.settle(&lane, false);
        assert!(!readable(&bell));
        ringer.ring();
        assert!(readable(&bell), "the ring of the first arm, late");
        bell.settle(&lane, false);
        assert!(
            !readable(&bell) && lane.push(0),
            "and the second arm stands"
        );

        lane.drain(|_| ());
        bell.disarm(&lane);
        ringer.ring();
        assert!(readable(&bell));
        bell.settle(&lane, false);
        assert!(!readable(&bell), "also while not armed");
        drop(bell);
        ringer.ring();
    }

    #[test]
    fn a_plugins_fd_wakes() {
        let lane = Lane::new(1);
        let mut bell = Bell::new().unwrap();
        assert!(!bell.arm(&lane, false));
        let (mut rx, mut tx) = std::io::pipe().unwrap();
        let raw = std::os::fd::AsRawFd::as_raw_fd(&rx);
        bell.add(raw).unwrap();
        assert_eq!(bell.add(raw).unwrap_err().errno, libc::EEXIST);
        assert_eq!(bell.add(-1).unwrap_err().errno, libc::EBADF);
        assert!(!readable(&bell));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                std::io::Write::write_all(&mut tx, b"x").unwrap();
            });
            assert_eq!(bell.wait(-1).unwrap(), Wait::Ready);
        });
        bell.settle(&lane, false);
        assert!(readable(&bell), "level-triggered, the plugin clears it");
        std::io::Read::read_exact(&mut rx, &mut [0]).unwrap();
        assert!(!readable(&bell));
        std::io::Write::write_all(&mut tx, b"x").unwrap();
        bell.remove(raw);
        bell.remove(raw);
        bell.remove(-1);
        assert!(!readable(&bell));
    }

    #[test]
    fn a_deadline_wakes_a_sleeper() {
        let lane = Lane::new(1);
        let mut bell = Bell::new().unwrap();
        bell.set_deadline(Some(1)).unwrap();
        assert!(!readable(&bell), "not armed");
        assert!(!bell.arm(&lane, false), "a timer is not in the lane");
        assert!(readable(&bell), "but long past");

        let at = now_ns() + 30 * MS as u64;
        bell.set_deadline(Some(at)).unwrap();
        assert!(!readable(&bell), "set again, so cleared");
        assert_eq!(bell.wait(-1).unwrap(), Wait::Ready);
        assert!(now_ns() >= at);
        bell.set_deadline(Some(at)).unwrap();
        bell.settle(&lane, false);
        assert!(readable(&bell), "the same again stays fired");
        bell.set_deadline(None).unwrap();
        assert!(!readable(&bell));

        for at in [0, now_ns()] {
            bell.set_deadline(Some(at)).unwrap();
            assert!(readable(&bell));
        }
        bell.set_deadline(Some(u64::MAX)).unwrap();
        assert!(!readable(&bell));
        bell.set_deadline(Some(2)).unwrap();
        bell.disarm(&lane);
        assert!(!readable(&bell), "readable only while armed");
        assert!(!bell.arm(&lane, false) && readable(&bell), "and remembered");
    }

    #[test]
    fn waits_end_in_time_and_by_signals() {
        extern "C" fn nothing(_: libc::c_int) {}
        let bell = Bell::new().unwrap();
        let begin = Instant::now();
        assert_eq!(bell.wait(5 * MS + 1).unwrap(), Wait::TimedOut);
        assert!(begin.elapsed() >= Duration::from_nanos(5_000_001));

        // SAFETY: a handler that does nothing, without SA_RESTART; an all-zero
        // sigaction is valid.
        let me = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
            libc::pthread_self()
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Again and again, because the first may come before the sleep.
                while !done.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(5));
                    // SAFETY: the thread outlives this scope.
                    unsafe { libc::pthread_kill(me, libc::SIGUSR2) };
                }
            });
            let waited = bell.wait(-1);
            done.store(true, Ordering::Release);
            assert_eq!(waited.unwrap(), Wait::Interrupted);
        });
    }

    /// Three producers against an owner that sleeps whenever nothing is there
    /// and takes at most two at a time. A lost wake-up is a time-out.
    #[test]
    fn sleepers_are_always_woken() {
        const PRODUCERS: u32 = 3;
        const EACH: u32 = 4;
        const ROUNDS: u32 = 5_000;
        let lane = Lane::new(PRODUCERS * EACH);
        let mut bell = Bell::new().unwrap();
        let free: Vec<AtomicBool> = (0..PRODUCERS * EACH)
            .map(|_| AtomicBool::new(true))
            .collect();
        bell.arm(&lane, false);
        std::thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (lane, free, ringer) = (&lane, &free, bell.ringer());
                scope.spawn(move || {
                    for i in 0..ROUNDS * EACH {
                        let node = producer * EACH + i % EACH;
                        while !free[node as usize].swap(false, Ordering::Acquire) {
                            std::thread::yield_now();
                        }
                        if lane.push(node) {
                            if i % 7 == 0 {
                                std::thread::yield_now();
                            }
                            ringer.ring();
                        }
                    }
                });
            }
            let mut count = vec![0u32; (PRODUCERS * EACH) as usize];
            let mut backlog = Vec::new();
            let mut left = ROUNDS * PRODUCERS * EACH;
            while left > 0 {
                assert_eq!(
                    bell.wait(10_000 * MS).unwrap(),
                    Wait::Ready,
                    "a lost wake-up"
                );
                lane.drain(|node| backlog.push(node as usize));
                for _ in 0..2 {
                    if let Some(node) = backlog.pop() {
                        count[node] += 1;
                        left -= 1;
                        free[node].store(true, Ordering::Release);
                    }
                }
                bell.settle(&lane, !backlog.is_empty());
            }
            assert!(count.iter().all(|&n| n == ROUNDS));
        });
        bell.settle(&lane, false);
        assert!(!readable(&bell), "all rings have landed and are taken");
    }
}
