//! Tables of handles.

use crate::error::{Error, Result};
use std::sync::{Arc, Mutex};

const KIND_DEVICE: u32 = 1;
const INDEX_BITS: u32 = 16;
const GENERATION_BITS: u32 = 14;
const GENERATION_MAX: u32 = (1 << GENERATION_BITS) - 1;

/// Handles of one kind: kind in bits 30-31, generation in 16-29, index below.
pub struct Table<T> {
    kind: u32,
    first_generation: u32,
    slots: Mutex<Slots<T>>,
}

struct Slots<T> {
    entries: Vec<(u32, Option<Arc<T>>)>,
    free: Vec<u16>,
}

impl<T> Table<T> {
    /// A table whose generations start at `seed`, so that a handle of another
    /// context is most likely not one of this.
    pub fn new(kind: u32, seed: u32) -> Table<T> {
        Table {
            kind,
            first_generation: 1 + seed % (GENERATION_MAX / 2),
            slots: Mutex::new(Slots {
                entries: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    /// A table of devices.
    pub fn devices(seed: u32) -> Table<T> {
        Self::new(KIND_DEVICE, seed)
    }

    /// Puts what `make` gives under a new handle.
    pub fn insert(&self, make: impl FnOnce(u32) -> Result<T>) -> Result<Arc<T>> {
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                let index = u16::try_from(slots.entries.len()).map_err(|_| {
                    Error::new(libc::EMFILE, "65,536 handles are open: close some first")
                })?;
                slots.entries.push((self.first_generation, None));
                index
            }
        };
        let generation = slots.entries[usize::from(index)].0;
        let handle = self.kind << 30 | generation << INDEX_BITS | u32::from(index);
        match make(handle) {
            Ok(value) => {
                let value = Arc::new(value);
                slots.entries[usize::from(index)].1 = Some(value.clone());
                Ok(value)
            }
            Err(error) => {
                slots.free.push(index);
                Err(error)
            }
        }
    }

    /// What `handle` names, alive or not yet removed.
    pub fn get(&self, handle: u32) -> Option<Arc<T>> {
        let slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let (generation, value) = slots.entries.get(self.index(handle)?)?;
        (*generation == generation_of(handle))
            .then(|| value.clone())
            .flatten()
    }

    /// Whether `handle` was once given out by this table.
    pub fn was_known(&self, handle: u32) -> bool {
        let slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let Some(index) = self.index(handle) else {
            return false;
        };
        let Some((generation, value)) = slots.entries.get(index) else {
            return false;
        };
        let asked = generation_of(handle);
        asked >= self.first_generation
            && (asked < *generation || (asked == *generation && value.is_some()))
    }

    /// Removes `handle`; its index is used again unless its generations are used up.
    pub fn remove(&self, handle: u32) -> Option<Arc<T>> {
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let index = self.index(handle)?;
        let entry = slots.entries.get_mut(index)?;
        if entry.0 != generation_of(handle) {
            return None;
        }
        let value = entry.1.take()?;
        entry.0 += 1;
        if entry.0 <= GENERATION_MAX {
            slots.free.push(index as u16);
        }
        Some(value)
    }

    /// All that is in the table.
    pub fn all(&self) -> Vec<Arc<T>> {
        let slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        slots
            .entries
            .iter()
            .filter_map(|(_, value)| value.clone())
            .collect()
    }

    fn index(&self, handle: u32) -> Option<usize> {
        (handle >> 30 == self.kind).then_some((handle & 0xffff) as usize)
    }
}

fn generation_of(handle: u32) -> u32 {
    handle >> INDEX_BITS & GENERATION_MAX
}
