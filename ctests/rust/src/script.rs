//! What a faulty plugin is told to do, and what it saw.

use crate::disk::Disk;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xcopy::abi::*;

/// How one command goes.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// Answers after so many milliseconds.
    Late(u64),
    /// Keeps the command until `Script::release`.
    Lost,
    /// Does all, claims so many bytes with status 0.
    Claim(u64),
    /// Answers twice.
    Twice,
    /// Says success and writes nothing.
    Lie,
    /// Answers this status, whatever it means, with all bytes claimed.
    Status(i32),
    /// Panics, behind the guard.
    Panic,
    /// Answers cookies that nobody gave, then the right one.
    Cookies,
    /// Answers with a cookie that nobody gave, and no other.
    Foreign,
    /// Ends by `complete` on a thread of no queue.
    Elsewhere,
    /// Fails.
    Fail(Failing),
}

/// A failure in all its parts.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    /// Positive.
    pub errno: i32,
    /// XCOPY_ACTION_.
    pub action: u16,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// Bytes from the first range on that are copied and said to be.
    pub known: u64,
    /// Bytes beyond those that are spoilt at the destination.
    pub spoilt: u64,
    /// XCOPY_RESULT_ flags.
    pub flags: u32,
    /// Detail word.
    pub detail: u64,
    /// Sense data.
    pub sense: Vec<u8>,
}

impl Fault {
    /// A failure by errno and action alone.
    pub fn fail(errno: i32, action: u16) -> Fault {
        Fault::Fail(Failing {
            errno,
            action,
            ..Failing::default()
        })
    }
}

/// What one call of submit answers.
#[derive(Clone, Copy, Debug, Default)]
pub enum Submit {
    /// Takes all.
    #[default]
    All,
    /// Takes none, answers -errno.
    Errno(i32),
    /// Takes so many, or all if there are fewer.
    Some(u32),
    /// Takes all and says so many more.
    More(u32),
    /// Answers -errno, and later ends the commands all the same.
    Ghost(i32),
}

/// What a command looked like.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// XCOPY_CMD_.
    pub op: u16,
    /// The method's number.
    pub method: u16,
    /// How many of this operation came before it.
    pub nth: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its ranges.
    pub ranges: u32,
    /// Destination byte of its first range.
    pub first: u64,
    /// The method's place in the plugin's table.
    pub index: u32,
}

type Chooser = Box<dyn FnMut(Seen) -> Fault + Send>;
type Gate = Box<dyn FnMut(u64) -> Submit + Send>;

/// A host's device pointer, for events.
#[derive(Clone, Copy)]
pub struct HostDevice(pub *mut c_void);
// SAFETY: only handed back to device_event, which any thread may call.
unsafe impl Send for HostDevice {}

/// Answers of the functions before the first command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// What `start` answers.
    pub start: i32,
    /// What `open` answers.
    pub open: i32,
    /// What `probe` answers.
    pub probe: i32,
    /// What `queue_create` answers.
    pub queue_create: i32,
    /// XCOPY_REASON_ of both methods' refusal; 0 is usable.
    pub refuse: [u16; 2],
    /// XCOPY_VERDICT_ flags of both methods.
    pub flags: [u32; 2],
    /// Seconds that a refusal holds.
    pub ttl_s: u16,
    /// Limits of both methods.
    pub limits: xcopy_limits,
    /// Largest READ and WRITE, 0 for no limit.
    pub max_io: u64,
    /// Commands are ended inside submit.
    pub inside_submit: bool,
    /// `cancel` ends held commands.
    pub cancels: bool,
}

#[derive(Default)]
struct Inner {
    disks: HashMap<String, Arc<Disk>>,
    host_devices: HashMap<String, HostDevice>,
    choose: Option<Chooser>,
    gate: Option<Gate>,
    setup: Setup,
    counts: HashMap<u16, u64>,
    submits: u64,
    violations: Vec<String>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// One plugin's orders in one context.
#[derive(Default)]
pub struct Script {
    inner: Mutex<Inner>,
    released: AtomicBool,
    /// Devices open now.
    pub open: AtomicU32,
    /// Queues that exist now.
    pub queues: AtomicU32,
    /// Commands that are kept now.
    pub held: AtomicU32,
    /// Calls of `cancel`.
    pub cancels: AtomicU32,
    /// Calls of `probe`.
    pub probes: AtomicU32,
}

impl Script {
    /// A plugin without faults.
    pub fn new() -> Arc<Script> {
        Arc::new(Script::default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a disk that `open` finds by name.
    pub fn add_disk(&self, name: &str, disk: Disk) -> Arc<Disk> {
        let disk = Arc::new(disk);
        self.lock().disks.insert(name.into(), disk.clone());
        disk
    }

    /// Chooses how each command goes.
    pub fn choose(&self, choose: impl FnMut(Seen) -> Fault + Send + 'static) {
        self.lock().choose = Some(Box::new(choose));
    }

    /// Every command of `op` from number `from`, `times` times, goes so.
    pub fn fault(&self, op: u16, from: u64, times: u64, fault: Fault) {
        let end = from.saturating_add(times);
        self.choose(move |seen| {
            if seen.op == op && (from..end).contains(&seen.nth) {
                fault.clone()
            } else {
                Fault::None
            }
        });
    }

    /// Chooses what each call of submit answers, by its number.
    pub fn gate(&self, gate: impl FnMut(u64) -> Submit + Send + 'static) {
        self.lock().gate = Some(Box::new(gate));
    }

    /// Changes what the other functions answer.
    pub fn set_up(&self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.lock().setup);
    }

    /// What the other functions answer.
    pub fn setup(&self) -> Setup {
        self.lock().setup
    }

    /// From now on nothing is kept, and what was kept ends.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    /// Keeps commands again.
    pub fn keep_again(&self) {
        self.released.store(false, Ordering::Release);
    }

    /// Whether kept commands may end.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Commands of `op` seen.
    pub fn count(&self, op: u16) -> u64 {
        self.lock().counts.get(&op).copied().unwrap_or(0)
    }

    /// What the core did against the contract.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Notes that the core broke the contract.
    pub fn violation(&self, text: String) {
        self.lock().violations.push(text);
    }

    /// The pointer that names a disk's device to device_event.
    pub fn host_device(&self, name: &str) -> Option<HostDevice> {
        self.lock().host_devices.get(name).copied()
    }

    /// Waits for threads that ended commands elsewhere.
    pub fn join(&self) {
        let threads = std::mem::take(&mut self.lock().threads);
        for thread in threads {
            // It is this plugin's own and does not panic.
            let _ = thread.join();
        }
    }

    pub(crate) fn disk(&self, name: &str, device: HostDevice) -> Option<Arc<Disk>> {
        let mut inner = self.lock();
        let disk = inner.disks.get(name).cloned()?;
        inner.host_devices.insert(name.into(), device);
        Some(disk)
    }

    pub(crate) fn add_thread(&self, thread: std::thread::JoinHandle<()>) {
        self.lock().threads.push(thread);
    }

    pub(crate) fn fault_of(&self, command: &xcopy_cmd) -> Fault {
        let mut inner = self.lock();
        let count = inner.counts.entry(command.op).or_default();
        let seen = Seen {
            op: command.op,
            method: command.method,
            nth: *count,
            bytes: command.bytes,
            ranges: command.nranges,
            first: match command.nranges {
                0 => 0,
                // SAFETY: as many ranges as it says, until it is completed.
                _ => unsafe { (*command.ranges).dst_offset },
            },
            index: command.method_index,
        };
        *count += 1;
        inner
            .choose
            .as_mut()
            .map_or(Fault::None, |choose| choose(seen))
    }

    pub(crate) fn gate_of(&self) -> Submit {
        let mut inner = self.lock();
        let nth = inner.submits;
        inner.submits += 1;
        inner.gate.as_mut().map_or(Submit::All, |gate| gate(nth))
    }
}
