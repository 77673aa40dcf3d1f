//! What was asked, for tests to read.

use crate::fault::Effect;
use crate::kind::Kind;

/// One command.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who sent it.
    pub nexus: usize,
    /// To which logical unit.
    pub unit: usize,
    /// Which command.
    pub kind: Kind,
    /// Its command descriptor block.
    pub cdb: Vec<u8>,
    /// Its parameter list; empty for WRITE and WRITE SAME, whose data is not kept.
    pub parameters: Vec<u8>,
    /// What befell it.
    pub effect: Option<Effect>,
    /// Its status, once it ended; None if no status came.
    pub status: Option<u8>,
    /// Its sense data.
    pub sense: Vec<u8>,
    /// Number of bytes answered.
    pub answered: usize,
}

#[derive(Default)]
pub(crate) struct Trace {
    entries: Vec<Entry>,
    /// Entries dropped by `clear`: the number of a later one stays what it was.
    dropped: usize,
}

impl Trace {
    pub(crate) fn begin(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.dropped + self.entries.len() - 1
    }

    pub(crate) fn end(
        &mut self,
        number: usize,
        status: Option<u8>,
        sense: &[u8],
        answered: usize,
        effect: Option<Effect>,
    ) {
        let at = number.checked_sub(self.dropped);
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) {
            entry.status = status;
            entry.sense = sense.to_vec();
            entry.answered = answered;
            entry.effect = effect;
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    pub(crate) fn clear(&mut self) {
        self.dropped += self.entries.len();
        self.entries.clear();
    }
}
