//! How many large commands of a pair run on the pool at once: one or two.
//!
//! Two overlap reading with writing, but both want the destination's lock, and
//! where processors are scarce or the lock is held long, the second only costs.
//! Which it is, is measured.

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
    bytes: u64,
}

impl Lanes {
    /// Commands at once at most.
    pub fn limit(&self) -> u32 {
        if self.one { 1 } else { 2 }
    }

    /// A command was sent when none was in flight: time without work does not
    /// count.
    pub fn begin(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
        self.bytes = 0;
    }

    /// A command of so many bytes ended.
    pub fn ended(&mut self, bytes: u64, now_ns: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes < WINDOW {
            return;
        }
        let micros = (now_ns.saturating_sub(self.since_ns) / 1000).max(1);
        self.rates[usize::from(!self.one)] = (self.bytes / micros).max(1);
        self.windows = self.windows.wrapping_add(1);
        self.begin(now_ns);
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
            let rate = if lanes.limit() == 1 { one } else { two };
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

    #[test]
    fn a_change_is_noticed() {
        let (mut lanes, mut now) = (Lanes::default(), 0);
        lanes.begin(now);
        let mut last = 0;
        for turn in 0..200 {
            let rate = match (lanes.limit(), turn < 50) {
                (1, true) | (2, false) => 3000,
                _ => 1000,
            };
            now += WINDOW * 1000 / rate;
            lanes.ended(WINDOW, now);
            last = lanes.limit();
        }
        assert_eq!(last, 2);
        lanes.begin(u64::MAX);
        lanes.ended(u64::MAX, 0);
        assert!(lanes.limit() >= 1);
    }
}
