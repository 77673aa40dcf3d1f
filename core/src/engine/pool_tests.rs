//! The pool: shares, and its end.

use super::pool::{Owner, Pool, ThreadHook};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);
const A: Owner = Owner::Plugin(1);
const B: Owner = Owner::Plugin(2);

fn pool(limit: u32) -> Pool {
    let hook = ThreadHook {
        hook: None,
        ctx: std::ptr::null_mut(),
    };
    Pool::new(limit, hook)
}

/// Jobs that last until the door opens, and say when they begin.
struct Door {
    _open: Sender<()>,
    closed: Arc<Mutex<Receiver<()>>>,
    begun: Arc<AtomicU32>,
}

impl Door {
    fn new() -> Door {
        let (open, closed) = channel();
        Door {
            _open: open,
            closed: Arc::new(Mutex::new(closed)),
            begun: Arc::default(),
        }
    }

    fn hang(&self, pool: &Pool, owner: Owner) {
        let (closed, begun) = (self.closed.clone(), self.begun.clone());
        assert!(pool.run(
            owner,
            Box::new(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                // An error is the other side's end: open for good.
                let _ = closed.lock().unwrap().recv();
            })
        ));
    }

    fn wait_for(&self, n: u32) {
        while self.begun.load(Ordering::SeqCst) < n {
            std::thread::yield_now();
        }
    }
}

fn ends(pool: &Pool, owner: Owner) -> bool {
    let (send, receive) = channel();
    assert!(pool.run(owner, Box::new(move || send.send(()).unwrap())));
    receive.recv_timeout(LONG).is_ok()
}

#[test]
fn a_plugin_that_hangs_leaves_a_thread_to_the_others() {
    for limit in [2, 3, 8] {
        let (pool, door) = (pool(limit), Door::new());
        for _ in 0..3 * limit {
            door.hang(&pool, A);
        }
        door.wait_for(limit - 1);
        for owner in [Owner::Core, Owner::Probe, B] {
            assert!(ends(&pool, owner), "{limit} {owner:?}");
        }
        assert_eq!(door.begun.load(Ordering::SeqCst), limit - 1);
        // Once it goes on, what it had to wait with runs, too.
        let begun = door.begun.clone();
        drop(door);
        assert!(ends(&pool, A), "{limit}");
        assert_eq!(begun.load(Ordering::SeqCst), 3 * limit);
        assert_eq!(pool.shut_down(), 0);
    }
}

#[test]
fn one_thread_serves_everybody() {
    let pool = pool(1);
    for owner in [A, Owner::Core, Owner::Probe, B, A] {
        assert!(ends(&pool, owner), "{owner:?}");
    }
    assert_eq!(pool.shut_down(), 0);
    assert!(!pool.run(Owner::Core, Box::new(|| ())));
}

#[test]
fn jobs_under_way_are_waited_for_and_others_dropped() {
    let pool = pool(2);
    let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    for owner in [Owner::Core, A, A, A, Owner::Core] {
        let (begun, ended) = (begun.clone(), ended.clone());
        assert!(pool.run(
            owner,
            Box::new(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(100));
                ended.fetch_add(1, Ordering::SeqCst);
            })
        ));
    }
    while begun.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    assert_eq!(pool.shut_down(), 0);
    assert_eq!(ended.load(Ordering::SeqCst), 2);
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    // Nothing of the dropped ones is left, nor of the threads.
    assert_eq!(Arc::strong_count(&ended), 1);
}

#[test]
fn only_what_hangs_is_left_behind() {
    let (pool, door) = (pool(3), Door::new());
    door.hang(&pool, A);
    door.wait_for(1);
    assert!(ends(&pool, B) && ends(&pool, Owner::Core));
    assert_eq!(pool.shut_down_within(Duration::from_millis(50)), 1);
}
