//! How a pair is copied: which unit's copy manager, in which form, by which names.

use crate::limits::Limits;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xcopy_scsi_protocol::Lun;
use xcopy_scsi_protocol::wire::designator::Designator;

/// The unit whose copy manager gets the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The destination's: it pulls.
    Destination,
    /// The source's: it pushes.
    Source,
}

/// The form of the parameter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// EXTENDED COPY(LID1).
    Lid1,
    /// EXTENDED COPY(LID4).
    Lid4,
}

/// Names tried one after the other at most.
const NAMES_TRIED: usize = 9;

/// How a pair is copied. What is learnt on the way stays.
#[derive(Debug)]
pub struct Pair {
    /// Who gets the command.
    pub manager: Manager,
    /// In which form.
    pub form: Form,
    /// What one command may hold.
    pub limits: Limits,
    /// Names of source and destination, best first.
    names: Vec<(Designator, Designator)>,
    name: AtomicUsize,
    /// Commands carry a list identifier (usage 10b).
    identified: AtomicU8,
    /// A command was carried out by these names.
    proven: AtomicBool,
}

impl Pair {
    /// A pair of which nothing is known but its limits.
    pub fn new(
        manager: Manager,
        form: Form,
        limits: Limits,
        without_list_id: bool,
        src: &[Designator],
        dst: &[Designator],
    ) -> Pair {
        Pair {
            manager,
            form,
            limits,
            names: names(src, dst),
            name: AtomicUsize::new(0),
            // LID4 commands are found again by their identifier if they get lost.
            identified: AtomicU8::new(u8::from(!without_list_id || form == Form::Lid4)),
            proven: AtomicBool::new(false),
        }
    }

    /// The unit that gets the command.
    pub fn unit<'a>(&self, src: &'a Lun, dst: &'a Lun) -> &'a Lun {
        match self.manager {
            Manager::Destination => dst,
            Manager::Source => src,
        }
    }

    /// The names that are used, and their number in the order.
    pub fn names(&self) -> Option<(usize, &(Designator, Designator))> {
        let at = self.name.load(Ordering::Relaxed);
        Some((at, self.names.get(at)?))
    }

    /// Names after those of `number` are used from now on; false if there are
    /// none, or if these were good before, so that they are not what is wrong.
    pub fn take_next_names(&self, number: usize) -> bool {
        if self.proven.load(Ordering::Relaxed) || number + 1 >= self.names.len() {
            return false;
        }
        // Somebody else may have gone on already.
        let _ =
            self.name
                .compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
        true
    }

    /// A command was carried out.
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether one was.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Whether commands carry a list identifier.
    pub fn is_identified(&self) -> bool {
        self.identified.load(Ordering::Relaxed) != 0
    }

    /// Commands carry a list identifier from now on; false if they did already.
    pub fn identify(&self) -> bool {
        self.identified.swap(1, Ordering::Relaxed) == 0
    }
}

/// All pairs of names, the best of both first; of one kind before mixed ones of
/// the same rank.
fn names(src: &[Designator], dst: &[Designator]) -> Vec<(Designator, Designator)> {
    let mut all: Vec<_> = src
        .iter()
        .enumerate()
        .flat_map(|(i, s)| dst.iter().enumerate().map(move |(j, d)| (i, s, j, d)))
        .collect();
    all.sort_by_key(|(i, s, j, d)| (s.kind != d.kind, i + j, *i));
    all.into_iter()
        .take(NAMES_TRIED)
        .map(|(_, s, _, d)| (s.clone(), d.clone()))
        .collect()
}

/// Ids of source and destination.
type Key = (u64, u64);

/// The pairs of a context.
#[derive(Default)]
pub struct Pairs {
    known: Mutex<HashMap<Key, Arc<Pair>>>,
    last_id: AtomicU64,
}

impl Pairs {
    /// An id for a new device.
    pub fn new_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pair>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pair, if it was judged.
    pub fn find(&self, key: Key) -> Option<Arc<Pair>> {
        self.known().get(&key).cloned()
    }

    /// Keeps how a pair is copied.
    pub fn keep(&self, key: Key, pair: Arc<Pair>) {
        self.known().insert(key, pair);
    }

    /// Forgets what a device is part of.
    pub fn forget(&self, id: u64) {
        self.known()
            .retain(|(src, dst), _| *src != id && *dst != id);
    }
}
