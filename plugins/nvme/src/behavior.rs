//! The host behaviour of one controller, shared by its namespaces: which
//! descriptor formats are on, and switching them on.

use crate::system::{Completion, Port};
use crate::wire::{Behavior, Command, Format};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What is known of a controller's host behaviour.
#[derive(Default)]
pub struct Switches {
    /// Formats that were on when last read.
    formats: AtomicU16,
    /// The errno with which the kernel refused to switch formats on, or 0.
    refused: AtomicI32,
    /// Counts how often formats were switched on here.
    epoch: AtomicU32,
    /// One at a time reads, changes and writes.
    turn: Mutex<()>,
    /// The refusal was told to the log.
    told: AtomicBool,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// The format is on.
    On,
    /// The format was on already: what failed did not fail for that.
    WasOn,
    /// It is off, and the caller did not allow it.
    NotAllowed,
    /// The controller does not keep it.
    NotKept,
}

impl Switches {
    /// Whether a format was on when last read.
    pub fn is_on(&self, format: Format) -> bool {
        self.formats.load(Ordering::Relaxed) & format.bit() != 0
    }

    /// The formats that were on when last read, as bits.
    pub fn formats(&self) -> u16 {
        self.formats.load(Ordering::Relaxed)
    }

    /// The errno with which the kernel refused to switch formats on.
    pub fn refusal(&self) -> Option<i32> {
        match self.refused.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(errno),
        }
    }

    /// True once: the refusal is to be told to the log.
    pub fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// A number to compare later: it moves when formats are switched on.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Reads what is on. Blocks.
    pub fn read(&self, port: &impl Port) -> Result<(), i32> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.fetch(port).map(drop)
    }

    /// Finds out whether a format that was seen on at `epoch` is on, and switches
    /// it on, leaving the rest of the host behaviour as it is, if that is allowed.
    /// Blocks.
    pub fn switch_on(
        &self,
        port: &impl Port,
        format: Format,
        epoch: u32,
        allowed: bool,
    ) -> Result<Switched, i32> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut behavior = self.fetch(port)?;
        if self.is_on(format) {
            return Ok(match epoch == self.epoch() {
                true => Switched::WasOn,
                false => Switched::On,
            });
        }
        if !allowed {
            return Ok(Switched::NotAllowed);
        }
        behavior.allow(format.bit());
        if let Err(errno) = port.admin(Command::set_behavior(), behavior.bytes()) {
            self.refused.store(errno, Ordering::Relaxed);
            return Err(errno);
        }
        self.fetch(port)?;
        if !self.is_on(format) {
            return Ok(Switched::NotKept);
        }
        self.refused.store(0, Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        Ok(Switched::On)
    }

    fn fetch(&self, port: &impl Port) -> Result<Behavior, i32> {
        let mut behavior = Behavior::default();
        let Completion { status, .. } = port.admin(Command::get_behavior(), behavior.bytes())?;
        if status != 0 {
            // A controller without the feature has nothing on.
            behavior = Behavior::default();
        }
        self.formats.store(behavior.formats(), Ordering::Relaxed);
        Ok(behavior)
    }
}

/// The controllers of one context, by name.
#[derive(Default)]
pub struct Controllers(Mutex<HashMap<String, Weak<Switches>>>);

impl Controllers {
    /// What is known of a controller, as long as somebody uses it.
    pub fn of(&self, name: &str) -> Arc<Switches> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, switches| switches.strong_count() > 0);
        if let Some(known) = all.get(name).and_then(Weak::upgrade) {
            return known;
        }
        let made = Arc::new(Switches::default());
        all.insert(name.to_owned(), Arc::downgrade(&made));
        made
    }
}
