//! The gate before the caller's functions (log, allocator), which are the caller's
//! again once its context was freed, whatever a plugin that hangs does later.

use std::sync::{PoisonError, RwLock};

/// Open until it is shut, for good.
#[derive(Default)]
pub struct Gate {
    shut: RwLock<bool>,
}

impl Gate {
    /// Calls `body`, unless the gate is shut.
    pub fn pass<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        let shut = self.shut.read().unwrap_or_else(PoisonError::into_inner);
        (!*shut).then(body)
    }

    /// Waits for those inside and lets nobody in afterwards.
    pub fn shut(&self) {
        *self.shut.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
