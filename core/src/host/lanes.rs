//! How many large commands of a pair run on the pool at once: one or two.
//!
//! Into a file one: a file system holds the file's lock for as long as a write
//! takes, so that a second command waits for it, on the processor, while the
//! kernel reads ahead for the first anyhow. Into a disk two overlap reading with
//! writing, but where processors are scarce the second only costs: measured.

/// Bytes over which a number is tried: a tenth of the smallest copy for which
/// the choice matters, so that a wrong try costs little.
const WINDOW: u64 = 24 << 20;
/// Windows after which the other number is tried again.
const AGAIN: u32 = 32;

/// What was measured, and what follows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lanes {
    one: bool,
    /// Bytes per microsecond with one and with two; 0 while not known.
    rates: [u64; 2],
    windows: u32,
    since_ns: u64,
    /// When the last command ended.
    last_ns: u64,
    bytes: u64,
}

impl Lanes {
    /// Commands at once at most, into a file or a disk.
    pub fn limit(&self, into_file: bool) -> u32 {
        if self.one || into_file { 1 } else { 2 }
    }

    /// A command was sent when none was in flight: time without work does not
    /// count.
    pub fn begin(&mut self, now_ns: u64) {
        let idle = now_ns.saturating_sub(self.last_ns);
        self.since_ns = match self.bytes {
            0 => now_ns,
            _ => self.since_ns.saturating_add(idle),
        };
    }

    /// A command of so many bytes ended.
    pub fn ended(&mut self, bytes: u64, now_ns: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.last_ns = now_ns;
        if self.bytes < WINDOW {
            return;
        }
        let micros = (now_ns.saturating_sub(self.since_ns) / 1000).max(1);
        self.rates[usize::from(!self.one)] = (self.bytes / micros).max(1);
        self.windows = self.windows.wrapping_add(1);
        (self.since_ns, self.bytes) = (now_ns, 0);
        let [one, two] = self.rates;
        // One costs less of the processors, so two must be clearly quicker.
        let one_is_best = one.saturating_add(one / 8) >= two;
        self.one = if one == 0 {
            true
        } else if two == 0 {
            false
        } else {
            one_is_best ^ self.windows.is_multiple_of(AGAIN)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microseconds that `windows` windows take where one lane moves `one` bytes
    /// per microsecond and two move `two`.
    fn simulate(one: u64, two: u64, windows: u32) -> u64 {
        let (mut lanes, mut now) = (Lanes::default(), 0);
        lanes.begin(now);
        for _ in 0..windows * 2 {
            let rate = if lanes.limit(false) == 1 { one } else { two };
            now += (WINDOW / 2) * 1000 / rate;
            lanes.ended(WINDOW / 2, now);
        }
        now / 1000
    }

    #[test]
    fn the_better_one_is_found_at_little_cost() {
        for (one, two) in [(3000, 5000), (2000, 1000), (2000, 2100), (900, 900), (1, 1)] {
            for windows in [11, 43, 430] {
                let best = u64::from(windows) * WINDOW / one.max(two);
                let took = simulate(one, two, windows);
                let regret = took as f64 / best as f64;
                assert!(regret <= 1.10, "{one} {two} {windows}: {regret}");
            }
        }
    }

    /// A lone command at a time is measured too: the time between two does not count.
    #[test]
    fn idle_time_is_left_out() {
        let (mut lanes, mut now) = (Lanes::default(), 1_000_000_000);
        for _ in 0..40 {
            lanes.begin(now);
            let rate = if lanes.limit(false) == 1 { 2000 } else { 1000 };
            now += (WINDOW / 3) * 1000 / rate;
            lanes.ended(WINDOW / 3, now);
            now += 5_000_000_000;
        }
        assert!(lanes.rates[0].abs_diff(2000) < 20, "{lanes:?}");
        assert!(lanes.rates[1].abs_diff(1000) < 20, "{lanes:?}");
        assert_eq!((lanes.limit(false), lanes.limit(true)), (1, 1));
        assert_eq!(Lanes::default().limit(true), 1);
    }

    #[test]
    fn a_change_is_noticed() {
        let (mut lanes, mut now) = (Lanes::default(), 0);
        lanes.begin(now);
        let mut last = 0;
        for turn in 0..200 {
            let rate = match (lanes.limit(false), turn < 50) {
                (1, true) | (2, false) => 3000,
                _ => 1000,
            };
            now += WINDOW * 1000 / rate;
            lanes.ended(WINDOW, now);
            last = lanes.limit(false);
        }
        assert_eq!(last, 2);
        lanes.begin(u64::MAX);
        lanes.ended(u64::MAX, 0);
        assert!(lanes.limit(false) >= 1);
    }
}
