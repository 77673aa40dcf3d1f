//! How long commands take, and how many are in service at once.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kind::Kind;

/// Service times.
#[derive(Clone, Debug, Default)]
pub struct ServiceTimes {
    /// Of a command that is not named below.
    pub other: Duration,
    /// By command.
    pub by_kind: HashMap<Kind, Duration>,
    /// Commands in service at once; the others wait. 0 is no limit.
    pub lanes: usize,
}

#[derive(Default)]
pub(crate) struct Service {
    inner: Mutex<Inner>,
    freed: Condvar,
}

#[derive(Default)]
struct Inner {
    times: ServiceTimes,
    busy: usize,
    most: usize,
}

/// A command in service; leaves when dropped.
pub(crate) struct Lane<'a> {
    service: &'a Service,
    pub(crate) time: Duration,
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, times: ServiceTimes) {
        self.lock().times = times;
        self.freed.notify_all();
    }

    pub(crate) fn enter(&self, kind: Kind) -> Lane<'_> {
        let mut inner = self.lock();
        while inner.times.lanes != 0 && inner.busy >= inner.times.lanes {
            inner = self
                .freed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
        inner.busy += 1;
        inner.most = inner.most.max(inner.busy);
        let time = inner
            .times
            .by_kind
            .get(&kind)
            .copied()
            .unwrap_or(inner.times.other);
        Lane {
            service: self,
            time,
        }
    }

    /// The most commands that were in service at once.
    pub(crate) fn most(&self) -> usize {
        self.lock().most
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.service.lock().busy -= 1;
        self.service.freed.notify_one();
    }
}
