//! Granularities of a method: which offsets and lengths it takes, and where a
//! range may be cut. Powers of two, which nearly all are, cost masks; the rest
//! (blocks of 520 or 4,160 bytes) cost divisions.

use xcopy_abi::xcopy_limits;

/// What the planner asks of granularities. The unit is the smallest length
/// that keeps source offset, destination offset and length aligned at once.
pub(super) trait Grain: Copy {
    /// Whether both offsets may start a range.
    fn aligned(self, src: u64, dst: u64) -> bool;
    /// The part of `bytes` that is a legal length, where no range follows on.
    fn whole(self, bytes: u64) -> u64;
    /// The part of `bytes` after which the offsets are still aligned.
    fn cut(self, bytes: u64) -> u64;
    /// Whether a unit fits into `bytes`.
    fn unit_fits(self, bytes: u64) -> bool;
    /// Bytes to the first place where both offsets are aligned, if there is one.
    fn head(self, src: u64, dst: u64) -> Option<u64>;
}

/// Granularities that are all powers of two.
#[derive(Clone, Copy)]
pub(super) struct Masks {
    src: u64,
    dst: u64,
    length: u64,
}

impl Masks {
    /// None if one of them is no power of two.
    #[inline]
    pub(super) fn new(limits: &xcopy_limits) -> Option<Self> {
        let src = limits.src_granularity.saturating_sub(1);
        let dst = limits.dst_granularity.saturating_sub(1);
        let length = limits.length_granularity.saturating_sub(1);
        let odd = (limits.src_granularity & src)
            | (limits.dst_granularity & dst)
            | (limits.length_granularity & length);
        (odd == 0).then_some(Masks {
            src: src.into(),
            dst: dst.into(),
            length: length.into(),
        })
    }
}

impl Grain for Masks {
    #[inline]
    fn aligned(self, src: u64, dst: u64) -> bool {
        (src & self.src) | (dst & self.dst) == 0
    }

    #[inline]
    fn whole(self, bytes: u64) -> u64 {
        bytes & !self.length
    }

    #[inline]
    fn cut(self, bytes: u64) -> u64 {
        bytes & !(self.src | self.dst | self.length)
    }

    #[inline]
    fn unit_fits(self, bytes: u64) -> bool {
        bytes > (self.src | self.dst | self.length)
    }

    fn head(self, src: u64, dst: u64) -> Option<u64> {
        // The coarser offset leaves one candidate per period; the finer one
        // either agrees with it or never does.
        let bytes = if self.src >= self.dst {
            src.wrapping_neg() & self.src
        } else {
            dst.wrapping_neg() & self.dst
        };
        self.aligned(src.wrapping_add(bytes), dst.wrapping_add(bytes))
            .then_some(bytes)
    }
}

/// Any granularities.
#[derive(Clone, Copy)]
pub(super) struct Moduli {
    src: u64,
    dst: u64,
    length: u64,
    /// 0 if it does not fit into 64 bits.
    unit: u64,
}

impl Moduli {
    pub(super) fn new(limits: &xcopy_limits) -> Self {
        let src = u64::from(limits.src_granularity.max(1));
        let dst = u64::from(limits.dst_granularity.max(1));
        let length = u64::from(limits.length_granularity.max(1));
        let unit = lcm(src, dst)
            .and_then(|both| lcm(both, length))
            .unwrap_or(0);
        Moduli {
            src,
            dst,
            length,
            unit,
        }
    }
}

impl Grain for Moduli {
    fn aligned(self, src: u64, dst: u64) -> bool {
        src.is_multiple_of(self.src) && dst.is_multiple_of(self.dst)
    }

    fn whole(self, bytes: u64) -> u64 {
        bytes - bytes % self.length
    }

    fn cut(self, bytes: u64) -> u64 {
        bytes - bytes.checked_rem(self.unit).unwrap_or(bytes)
    }

    fn unit_fits(self, bytes: u64) -> bool {
        self.unit != 0 && self.unit <= bytes
    }

    /// The Chinese remainder theorem for two moduli that may share factors.
    fn head(self, src: u64, dst: u64) -> Option<u64> {
        let by_src = (self.src - src % self.src) % self.src;
        let by_dst = (self.dst - dst % self.dst) % self.dst;
        let shared = gcd(self.src, self.dst);
        if by_src % shared != by_dst % shared {
            return None;
        }
        let period = self.dst / shared;
        // All operands are below 2^32: no step leaves 64 bits.
        let gap = (by_dst as i64 - by_src as i64) / shared as i64;
        let gap = gap.rem_euclid(period as i64) as u64;
        let steps = gap * inverse(self.src / shared, period) % period;
        Some(by_src + self.src * steps)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: u64, b: u64) -> Option<u64> {
    (a / gcd(a, b)).checked_mul(b)
}

/// The inverse of `a` modulo `m`, for coprime numbers below 2^32.
fn inverse(a: u64, m: u64) -> u64 {
    let (mut r, mut next_r) = (m as i64, (a % m) as i64);
    let (mut t, mut next_t) = (0i64, 1i64);
    while next_r != 0 {
        let quotient = r / next_r;
        (r, next_r) = (next_r, r - quotient * next_r);
        (t, next_t) = (next_t, t - quotient * next_t);
    }
    t.rem_euclid(m as i64) as u64
}
