//! A timer that interrupts every system call that can be.

use super::{Stop, contents, copy_job, dir, hold, open, run_one, stamped, usable};
use crate::api::{Library, QUEUES, method_name};
use crate::object::first_difference;
use crate::places::Places;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

const LENGTH: u64 = 16 << 20;
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_signal: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// SIGALRM without SA_RESTART every so often, while it lives.
struct Timer;

impl Timer {
    fn start(every_us: i64) -> Timer {
        // SAFETY: zeroes are a valid action; the handler only adds to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_alarm as *const () as usize;
            libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        }
        set(every_us);
        Timer
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        set(0);
    }
}

fn set(every_us: libc::suseconds_t) {
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: every_us,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: reads the struct, which lives for the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

/// Every method of every file system, on every queue.
pub fn storm(places: &Places, _seed: u64) -> Result<(), Stop> {
    SIGNALS.store(0, Ordering::Relaxed);
    for name in ["tmpfs", "ext4", "xfs", "btrfs"] {
        let Ok(dir) = dir(places, name) else { continue };
        let (from, to) = (dir.join("signal-src"), dir.join("signal-dst"));
        let (file, source) = stamped(&from, 51, LENGTH)?;
        file.sync_all()?;
        let (out, before) = stamped(&to, 52, LENGTH)?;
        let library = Library::new()?;
        let pair = open(&library, &from, &to)?;
        let mask = usable(&library, pair)?;
        for method in (0..16).filter(|method| mask >> method & 1 == 1) {
            for queue in 0..QUEUES.len() {
                std::os::unix::fs::FileExt::write_all_at(&out, &before, 0)?;
                let timer = Timer::start(150);
                let ended = run_one(&library, queue, copy_job(pair, method, 0, 0, LENGTH));
                drop(timer);
                let completion = ended?.completion;
                let what = || format!("{name}, {}: {completion:?}", method_name(method));
                hold(completion.res == 0 && completion.bytes_done == LENGTH, what)?;
                if let Some((first, _)) = first_difference(&contents(&out)?, &source) {
                    return Err(Stop::Fail(format!("byte {first} is wrong, {}", what())));
                }
            }
        }
        drop((library, file, out));
        fs::remove_file(&from)?;
        fs::remove_file(&to)?;
    }
    let signals = SIGNALS.load(Ordering::Relaxed);
    hold(signals > 100, || format!("only {signals} signals came"))
}
