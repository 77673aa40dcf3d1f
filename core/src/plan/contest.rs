//! Which of two methods moves a pair's bytes faster, found out while they move:
//! slices of the request go by one and by the other, small ones first, and what
//! the slower one costs stays within a share of the whole time.

/// A request below so many bytes is too short to find out anything.
pub const CONTEST_MIN: u64 = 64 << 20;

/// Bytes of the trials, one after the other.
const TRIALS: [u64; 4] = [1 << 20, 4 << 20, 16 << 20, 64 << 20];
/// Methods further apart than this in the first trial are not compared at once
/// by a larger one: its price would be out of proportion.
const CLEAR: u64 = 4;
/// Later trials may cost one part in so many of the time spent so far.
const BUDGET: u64 = 25;

/// A throughput: bytes moved in some nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds; never 0.
    pub ns: u64,
}

impl Rate {
    /// A rate in bytes per second; None for 0, which is unknown.
    pub fn per_second(bytes: u64) -> Option<Rate> {
        (bytes > 0).then_some(Rate {
            bytes,
            ns: 1_000_000_000,
        })
    }

    /// The same in bytes per second, at least 1.
    pub fn bytes_per_second(self) -> u64 {
        let rate = u128::from(self.bytes) * 1_000_000_000 / u128::from(self.ns.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX).max(1)
    }

    fn is_faster_than(self, other: Rate) -> bool {
        u128::from(self.bytes) * u128::from(other.ns)
            > u128::from(other.bytes) * u128::from(self.ns)
    }

    /// Nanoseconds that so many bytes take.
    fn time(self, bytes: u64) -> u64 {
        let ns = u128::from(bytes) * u128::from(self.ns) / u128::from(self.bytes.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At most about so many bytes go by this side.
    Send(usize, u64),
    /// The slice has to end first.
    Drain,
}

/// The contest of one request: side 0 is the method of higher worth, side 1 the
/// other one.
#[derive(Clone, Debug)]
pub struct Contest {
    rates: [Option<Rate>; 2],
    /// Place in TRIALS of the next trial.
    next: usize,
    side: usize,
    /// Bytes that the slice may still send; 0 ends it.
    left: u64,
    /// Time and bytes copied when the slice began.
    begun: Option<(u64, u64)>,
    /// The slice is not a trial but the faster side's own time.
    leading: bool,
    /// Nanoseconds of all slices.
    spent: u64,
    /// Nanoseconds that trials of the slower side cost.
    lost: u64,
    /// Which sides sent something.
    tried: [bool; 2],
}

impl Contest {
    /// A contest for a request of CONTEST_MIN bytes or more. `known` are rates
    /// found out before: with both the small trials are left out.
    pub fn new(known: [Option<Rate>; 2]) -> Contest {
        let mut contest = Contest {
            rates: known,
            next: 0,
            side: 0,
            left: TRIALS[0],
            begun: None,
            leading: false,
            spent: 0,
            lost: 0,
            tried: [false; 2],
        };
        if known[0].is_some() && known[1].is_some() {
            contest.next = 2;
            contest.lead();
        }
        contest
    }

    /// Whose turn it is. `copied` are the request's bytes known to be copied,
    /// `idle` is whether nothing of it is in flight; `clock` is read when a slice
    /// ends.
    pub fn turn(&mut self, copied: u64, idle: bool, clock: impl FnOnce() -> u64) -> Turn {
        if self.left == 0 {
            if !idle {
                return Turn::Drain;
            }
            self.end_slice(copied, clock());
        }
        Turn::Send(self.side, self.left)
    }

    /// A command of so many bytes goes out on the side whose turn it is.
    pub fn sent(&mut self, bytes: u64, copied: u64, clock: impl FnOnce() -> u64) {
        if self.begun.is_none() {
            self.begun = Some((clock(), copied));
        }
        self.left = self.left.saturating_sub(bytes);
        self.tried[self.side] = true;
    }

    /// Whether the request's bytes went both ways.
    pub fn is_mixed(&self) -> bool {
        self.tried == [true; 2]
    }

    /// Bytes that the slice may still send.
    pub fn room(&self) -> u64 {
        self.left
    }

    /// What was found out, to be remembered.
    pub fn rates(&self) -> [Option<Rate>; 2] {
        self.rates
    }

    /// The faster side as far as is known; the worthier one before.
    pub fn leader(&self) -> usize {
        leader(self.rates)
    }

    fn end_slice(&mut self, copied: u64, now: u64) {
        let (began, before) = self.begun.take().unwrap_or((now, copied));
        let rate = Rate {
            bytes: copied.saturating_sub(before),
            ns: now.saturating_sub(began).max(1),
        };
        self.spent = self.spent.saturating_add(rate.ns);
        let other = self.rates[1 - self.side];
        if !self.leading
            && let Some(other) = other.filter(|other| other.is_faster_than(rate))
        {
            let fair = other.time(rate.bytes);
            self.lost = self.lost.saturating_add(rate.ns.saturating_sub(fair));
        }
        self.rates[self.side] = Some(rate);
        if self.leading {
            (self.side, self.left) = (1 - self.leader(), TRIALS[self.next.min(TRIALS.len() - 1)]);
            self.leading = false;
            return;
        }
        match (self.next, self.side) {
            // The first rounds take both sides, one after the other.
            (0 | 1, 0) => (self.side, self.left) = (1, TRIALS[self.next]),
            (0, _) if !self.is_clear() => {
                self.next = 1;
                (self.side, self.left) = (0, TRIALS[1]);
            }
            (at, _) => {
                self.next = at + 1;
                self.lead();
            }
        }
    }

    fn is_clear(&self) -> bool {
        let [Some(one), Some(other)] = self.rates else {
            return false;
        };
        let times = [one.time(TRIALS[0]), other.time(TRIALS[0])];
        let (least, most) = (times[0].min(times[1]), times[0].max(times[1]));
        most >= least.max(1).saturating_mul(CLEAR)
    }

    /// The faster side goes on until the next trial of the other can be paid.
    fn lead(&mut self) {
        self.leading = true;
        self.side = self.leader();
        self.left = u64::MAX;
        let (Some(best), Some(worst)) = (self.rates[self.side], self.rates[1 - self.side]) else {
            return;
        };
        let Some(size) = TRIALS.get(self.next) else {
            return;
        };
        if worst.bytes == 0 {
            return;
        }
        let price = worst.time(*size).saturating_sub(best.time(*size));
        let needed = (self.lost.saturating_add(price))
            .saturating_mul(BUDGET)
            .saturating_sub(self.spent);
        let bytes = u128::from(needed) * u128::from(best.bytes) / u128::from(best.ns.max(1));
        // A rate of the leader that is worth comparing needs a slice as large.
        self.left = u64::try_from(bytes).unwrap_or(u64::MAX).max(*size);
    }
}

/// The faster of two sides; the worthier one when it cannot be told.
pub fn leader(rates: [Option<Rate>; 2]) -> usize {
    match rates {
        [Some(one), Some(other)] => usize::from(other.is_faster_than(one)),
        _ => 0,
    }
}
