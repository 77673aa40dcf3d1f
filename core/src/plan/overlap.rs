//! Whether ranges can be copied at all: none empty, no sum overflows, no
//! destination is written twice or read as a source.
//!
//! Two ranges that share a byte are found whatever the order; lists of more
//! than 4,096 must ascend in the destination, since sorting them would cost
//! memory in proportion.

use xcopy_abi::xcopy_range;

use super::command::Source;

/// Longest list that is sorted when its destinations do not ascend.
const SORT_MAX: u64 = 4096;
/// Doublings of a search near the last place found, before all is searched.
const GALLOPS: u32 = 4;
/// Cost of one step of the sort, in ranges of the streaming pass.
const SIFT_COST: u64 = 16;

/// What a check found. The first four refuse the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The ranges can be copied.
    Clean,
    /// A range has length 0.
    Empty {
        /// Its index.
        index: u64,
    },
    /// Base, offset and length, or the sum of the lengths, leave 64 bits.
    Overflow {
        /// Index of the first such range.
        index: u64,
    },
    /// A destination range shares bytes with another range.
    Overlap {
        /// Index of one of the two.
        index: u64,
    },
    /// The list is too long to be sorted and its destinations do not ascend.
    NotAscending {
        /// Index of the first range that lies before its predecessor.
        index: u64,
    },
}

/// Absolute bounds of one range.
#[derive(Clone, Copy, Default)]
struct Bounds {
    src: u64,
    src_end: u64,
    dst: u64,
    dst_end: u64,
}

#[inline]
fn bounds(source: &Source, range: &xcopy_range) -> Option<Bounds> {
    let src = source.src_base.checked_add(range.src_offset)?;
    let dst = source.dst_base.checked_add(range.dst_offset)?;
    let src_end = src.checked_add(range.length)?;
    let dst_end = dst.checked_add(range.length)?;
    Some(Bounds {
        src,
        src_end,
        dst,
        dst_end,
    })
}

/// Bounds by index. The list was validated before; one that changed since
/// answers nothing instead of a panic.
#[inline]
fn bounds_at(source: &Source, index: u64) -> Bounds {
    let range = usize::try_from(index)
        .ok()
        .and_then(|index| source.ranges.get(index));
    range
        .and_then(|range| bounds(source, range))
        .unwrap_or_default()
}

/// Whether source bytes of `a` are destination bytes of `b` on one storage.
#[inline]
fn feeds(a: &Bounds, b: &Bounds, delta: i128) -> bool {
    let (from, to) = moved(a.src, a.src_end, delta);
    from < i128::from(b.dst_end) && i128::from(b.dst) < to
}

/// A source interval in the destination's offsets. Saturating: an absurd delta
/// stays apart from everything.
#[inline]
fn moved(start: u64, end: u64, delta: i128) -> (i128, i128) {
    (
        i128::from(start).saturating_add(delta),
        i128::from(end).saturating_add(delta),
    )
}

/// Checks every pair; for lists of at most 16 ranges, since the time grows with
/// the square.
///
/// `same_storage` is Some(delta) if source byte `s` is the same byte of storage
/// as destination byte `s + delta`.
pub fn check_small(source: &Source, same_storage: Option<i128>) -> Finding {
    let mut total = 0u64;
    for (index, range) in (0u64..).zip(source.ranges) {
        if range.length == 0 {
            return Finding::Empty { index };
        }
        match (bounds(source, range), total.checked_add(range.length)) {
            (Some(_), Some(sum)) => total = sum,
            _ => return Finding::Overflow { index },
        }
    }
    for index in 0..source.ranges.len() as u64 {
        let this = bounds_at(source, index);
        if same_storage.is_some_and(|delta| feeds(&this, &this, delta)) {
            return Finding::Overlap { index };
        }
        for other in 0..index {
            let other = bounds_at(source, other);
            let twice = this.dst < other.dst_end && other.dst < this.dst_end;
            let fed = same_storage
                .is_some_and(|delta| feeds(&this, &other, delta) || feeds(&other, &this, delta));
            if twice || fed {
                return Finding::Overlap { index };
            }
        }
    }
    Finding::Clean
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Each range by itself and against its predecessor.
    Stream {
        next: u64,
    },
    /// Building the heap of the sort: positions under `left` are to be sifted.
    Heap {
        left: usize,
    },
    /// Taking the largest off the heap, `left` remain.
    Sort {
        left: usize,
    },
    /// Sorted neighbours against each other.
    Neighbours {
        next: usize,
    },
    /// Each source range against the destinations; `hint` is where the last
    /// search ended, so that ascending sources cost no search.
    Sources {
        next: u64,
        hint: u64,
    },
    Done(Finding),
}

/// The smallest spans that hold all ranges, absolute bytes from and to, and the
/// union of the bits of all offsets and lengths, which shows what they are
/// multiples of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hull {
    /// Of the sources.
    pub src: (u64, u64),
    /// Of the destinations.
    pub dst: (u64, u64),
    /// Of source offsets and lengths.
    pub src_bits: u64,
    /// Of destination offsets and lengths.
    pub dst_bits: u64,
}

impl Hull {
    const EMPTY: Hull = Hull {
        src: (u64::MAX, 0),
        dst: (u64::MAX, 0),
        src_bits: 0,
        dst_bits: 0,
    };

    #[inline]
    fn add(&mut self, range: &Bounds, length: u64) {
        self.src = (self.src.0.min(range.src), self.src.1.max(range.src_end));
        self.dst = (self.dst.0.min(range.dst), self.dst.1.max(range.dst_end));
        self.src_bits |= range.src | length;
        self.dst_bits |= range.dst | length;
    }

    /// Of a short list.
    pub fn of(source: &Source) -> Hull {
        let mut hull = Hull::EMPTY;
        for range in source.ranges {
            if let Some(bounds) = bounds(source, range) {
                hull.add(&bounds, range.length);
            }
        }
        hull
    }
}

/// A check of a list of any length, in slices. Memory is used only to sort a
/// list of at most 4,096 ranges that does not ascend.
#[derive(Debug)]
pub struct Scan {
    n: u64,
    same_storage: Option<i128>,
    disjoint: bool,
    phase: Phase,
    total: u64,
    ascending: bool,
    /// Where destinations first did not ascend.
    descent: u64,
    /// Bounds of the previous destination.
    previous: (u64, u64),
    hull: Hull,
    /// Indices in the order of the destinations, for lists that were sorted.
    order: Vec<u32>,
}

impl Scan {
    /// A check of `n` ranges. `same_storage` as for [`check_small`]; with
    /// `disjoint` the caller vouches that nothing overlaps, and each range is
    /// checked by itself only.
    pub fn new(n: u64, same_storage: Option<i128>, disjoint: bool) -> Scan {
        Scan {
            n,
            same_storage,
            disjoint,
            phase: Phase::Stream { next: 0 },
            total: 0,
            ascending: true,
            descent: 0,
            previous: (0, 0),
            hull: Hull::EMPTY,
            order: Vec::new(),
        }
    }

    /// Checks on, for about the time that `budget_ranges` ranges of a plain
    /// list take; None if there is more to do. Always the same `source`.
    pub fn step(&mut self, source: &Source, budget_ranges: u64) -> Option<Finding> {
        let mut budget = budget_ranges.max(1);
        while budget > 0 {
            self.phase = match self.phase {
                Phase::Stream { next } => self.stream(source, next, &mut budget),
                Phase::Heap { left } => self.build_heap(source, left, &mut budget),
                Phase::Sort { left } => self.sort(source, left, &mut budget),
                Phase::Neighbours { next } => self.neighbours(source, next, &mut budget),
                Phase::Sources { next, hint } => self.sources(source, next, hint, &mut budget),
                Phase::Done(finding) => return Some(finding),
            };
        }
        match self.phase {
            Phase::Done(finding) => Some(finding),
            _ => None,
        }
    }

    /// Sum of the lengths, once [`Scan::step`] found the list clean.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// The spans of the list, once [`Scan::step`] found it clean.
    pub fn hull(&self) -> Hull {
        self.hull
    }

    fn stream(&mut self, source: &Source, next: u64, budget: &mut u64) -> Phase {
        let n = self.n.min(source.ranges.len() as u64);
        let end = n.min(next.saturating_add(*budget));
        let slice = source
            .ranges
            .get(next as usize..end as usize)
            .unwrap_or_default();
        // In registers: written through `self` they cost twice the time.
        let (mut total, mut previous) = (self.total, self.previous);
        let mut hull = self.hull;
        for (index, range) in (next..).zip(slice) {
            if range.length == 0 {
                return Phase::Done(Finding::Empty { index });
            }
            let (Some(this), Some(sum)) = (bounds(source, range), total.checked_add(range.length))
            else {
                return Phase::Done(Finding::Overflow { index });
            };
            total = sum;
            hull.add(&this, range.length);
            if self.disjoint {
                continue;
            }
            if this.dst < previous.1 {
                if previous.0 < this.dst_end {
                    return Phase::Done(Finding::Overlap { index });
                }
                if self.n > SORT_MAX {
                    return Phase::Done(Finding::NotAscending { index });
                }
                if self.ascending {
                    self.ascending = false;
                    self.descent = index;
                }
            }
            previous = (this.dst, this.dst_end);
        }
        (self.total, self.previous) = (total, previous);
        self.hull = hull;
        *budget -= end.saturating_sub(next).min(*budget);
        if end < n {
            Phase::Stream { next: end }
        } else if self.disjoint {
            Phase::Done(Finding::Clean)
        } else if self.ascending {
            self.first_source()
        } else {
            self.first_heap(n)
        }
    }

    fn first_source(&self) -> Phase {
        match self.same_storage {
            Some(delta) if self.meets_hull(self.hull.src.0, self.hull.src.1, delta) => {
                Phase::Sources { next: 0, hint: 0 }
            }
            _ => Phase::Done(Finding::Clean),
        }
    }

    fn meets_hull(&self, src: u64, src_end: u64, delta: i128) -> bool {
        let (from, to) = moved(src, src_end, delta);
        from < i128::from(self.hull.dst.1) && i128::from(self.hull.dst.0) < to
    }

    fn first_heap(&mut self, n: u64) -> Phase {
        if self.order.try_reserve_exact(n as usize).is_err() {
            // Without memory for the sort only an ascending list can be checked.
            return Phase::Done(Finding::NotAscending {
                index: self.descent,
            });
        }
        self.order.extend((0u32..).take(n as usize));
        Phase::Heap {
            left: self.order.len() / 2,
        }
    }

    // A heap sort, because it can stop after any step and needs no second array.

    fn build_heap(&mut self, source: &Source, mut left: usize, budget: &mut u64) -> Phase {
        while left > 0 {
            if *budget == 0 {
                return Phase::Heap { left };
            }
            *budget = budget.saturating_sub(SIFT_COST);
            left -= 1;
            sift_down(source, &mut self.order, left);
        }
        Phase::Sort {
            left: self.order.len(),
        }
    }

    fn sort(&mut self, source: &Source, mut left: usize, budget: &mut u64) -> Phase {
        while left > 1 {
            if *budget == 0 {
                return Phase::Sort { left };
            }
            *budget = budget.saturating_sub(SIFT_COST);
            left -= 1;
            if let Some(heap) = self.order.get_mut(..=left) {
                heap.swap(0, left);
                sift_down(source, &mut heap[..left], 0);
            }
        }
        Phase::Neighbours { next: 1 }
    }

    fn neighbours(&self, source: &Source, mut next: usize, budget: &mut u64) -> Phase {
        while let Some(&[before, after]) = self.order.get(next.saturating_sub(1)..=next) {
            if *budget == 0 {
                return Phase::Neighbours { next };
            }
            *budget -= 1;
            if bounds_at(source, after.into()).dst < bounds_at(source, before.into()).dst_end {
                return Phase::Done(Finding::Overlap {
                    index: after.into(),
                });
            }
            next += 1;
        }
        self.first_source()
    }

    fn sources(&self, source: &Source, mut next: u64, mut hint: u64, budget: &mut u64) -> Phase {
        let Some(delta) = self.same_storage else {
            return Phase::Done(Finding::Clean);
        };
        let n = self.n.min(source.ranges.len() as u64);
        while next < n {
            if *budget == 0 {
                return Phase::Sources { next, hint };
            }
            *budget -= 1;
            let this = bounds_at(source, next);
            if self.meets_hull(this.src, this.src_end, delta) {
                let (from, to) = moved(this.src, this.src_end, delta);
                let (found, probes) = self.first_ending_after(source, from, hint, n);
                *budget = budget.saturating_sub(probes);
                if found < n && i128::from(self.sorted(source, found).dst) < to {
                    return Phase::Done(Finding::Overlap { index: next });
                }
                hint = found;
            }
            next += 1;
        }
        Phase::Done(Finding::Clean)
    }

    /// The range whose destination is the `place`th from below.
    fn sorted(&self, source: &Source, place: u64) -> Bounds {
        match self.order.get(place as usize) {
            Some(&index) => bounds_at(source, index.into()),
            None => bounds_at(source, place),
        }
    }

    /// First place whose destination ends after `from` (`n` if none does), and
    /// the places looked at. Gallops from `hint`, then halves.
    fn first_ending_after(&self, source: &Source, from: i128, hint: u64, n: u64) -> (u64, u64) {
        let mut probes = 0;
        let mut after = |place: u64| {
            probes += 1;
            from < i128::from(self.sorted(source, place).dst_end)
        };
        let hint = hint.min(n - 1);
        // All places before `low` end too early; `high` is n or ends after.
        let (mut low, mut high) = (0, n);
        if after(hint) {
            high = hint;
            for doubling in 0..GALLOPS {
                let Some(place) = high.checked_sub(1 << doubling) else {
                    break;
                };
                if !after(place) {
                    low = place + 1;
                    break;
                }
                high = place;
            }
        } else {
            low = hint + 1;
            for doubling in 0..GALLOPS {
                let place = low + ((1 << doubling) - 1);
                if place >= n {
                    break;
                }
                if after(place) {
                    high = place;
                    break;
                }
                low = place + 1;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if after(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        (low, probes)
    }
}

/// Restores the heap of largest destinations under `place`.
fn sift_down(source: &Source, heap: &mut [u32], mut place: usize) {
    let key = |index: u32| bounds_at(source, index.into()).dst;
    loop {
        let left = 2 * place + 1;
        let Some(&left_index) = heap.get(left) else {
            return;
        };
        let mut child = left;
        let mut child_key = key(left_index);
        if let Some(&right_index) = heap.get(left + 1) {
            let right_key = key(right_index);
            if right_key > child_key {
                (child, child_key) = (left + 1, right_key);
            }
        }
        if key(heap[place]) >= child_key {
            return;
        }
        heap.swap(place, child);
        place = child;
    }
}
