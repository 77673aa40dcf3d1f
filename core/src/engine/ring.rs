//! A ring of indices with a place for each of them, and item access for indices
//! that are known to be in range.

use std::cell::Cell;

/// Indices in the order in which they came. It never allocates after `new`.
pub struct IndexRing {
    places: Box<[Cell<u32>]>,
    head: Cell<u32>,
    tail: Cell<u32>,
}

impl IndexRing {
    /// Room for `n` indices, and so for every index below `n` once.
    pub fn new(n: u32) -> IndexRing {
        IndexRing {
            places: (0..n.max(1).next_power_of_two())
                .map(|_| Cell::new(0))
                .collect(),
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    #[inline(always)]
    fn place(&self, position: u32) -> &Cell<u32> {
        let index = position as usize & (self.places.len() - 1);
        // SAFETY: the length is a power of two, so the mask keeps it inside.
        unsafe { self.places.get_unchecked(index) }
    }

    /// Adds an index. No more may be in the ring than it has room for.
    #[inline(always)]
    pub fn push(&self, index: u32) {
        let tail = self.tail.get();
        self.place(tail).set(index);
        self.tail.set(tail.wrapping_add(1));
    }

    /// Takes the oldest.
    #[inline(always)]
    pub fn pop(&self) -> Option<u32> {
        let head = self.head.get();
        if head == self.tail.get() {
            return None;
        }
        self.head.set(head.wrapping_add(1));
        Some(self.place(head).get())
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.tail.get().wrapping_sub(self.head.get())
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head.get() == self.tail.get()
    }
}

/// An item whose index was range-checked when it was made.
///
/// # Safety
/// `index` is below the length of `items`.
#[inline(always)]
pub unsafe fn known<T>(items: &[T], index: u32) -> &T {
    debug_assert!((index as usize) < items.len());
    // SAFETY: the caller's word.
    unsafe { items.get_unchecked(index as usize) }
}

/// As `known`.
///
/// # Safety
/// As `known`.
#[inline(always)]
pub unsafe fn known_mut<T>(items: &mut [T], index: u32) -> &mut T {
    debug_assert!((index as usize) < items.len());
    // SAFETY: the caller's word.
    unsafe { items.get_unchecked_mut(index as usize) }
}

#[cfg(test)]
mod tests {
    use super::IndexRing;

    #[test]
    fn keeps_order_across_the_seam() {
        let ring = IndexRing::new(5);
        let mut expected = 0;
        for round in 0..100u32 {
            for index in 0..5 {
                ring.push(round * 5 + index);
            }
            assert_eq!(ring.len(), 5);
            while let Some(index) = ring.pop() {
                assert_eq!(index, expected);
                expected += 1;
            }
            assert!(ring.is_empty());
        }
        assert_eq!(expected, 500);
    }
}
