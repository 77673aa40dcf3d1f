//! Plugins of this crate under a host that only notes what it is told.

use crate::*;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use xcopy_abi::*;

/// What ended: cookie, status, bytes, sense data, and whether locally.
type End = (u64, i32, u64, Vec<u8>, bool);

static ENDED: Mutex<Vec<End>> = Mutex::new(Vec::new());
static EVENTS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The host is one for the process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe fn note(results: *const xcopy_result, stride: usize, n: u32, local: bool) {
    assert_eq!(stride, size_of::<xcopy_result>());
    // SAFETY: the crate's word, which is tested here.
    for result in unsafe { std::slice::from_raw_parts(results, n as usize) } {
        let sense = match result.sense.is_null() {
            true => Vec::new(),
            // SAFETY: as above.
            false => unsafe {
                std::slice::from_raw_parts(result.sense, result.sense_len as usize).to_vec()
            },
        };
        let end = (result.cookie, result.status, result.bytes, sense, local);
        locked(&ENDED).push(end);
    }
}

unsafe extern "C" fn complete(
    _: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    // SAFETY: handed on.
    unsafe { note(results, stride, n, false) };
}

unsafe extern "C" fn complete_local(
    _: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    // SAFETY: handed on.
    unsafe { note(results, stride, n, true) };
}

unsafe extern "C" fn log(_: *mut c_void, _: u32, message: *const c_char) {
    // SAFETY: NUL-terminated, by the crate.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    locked(&LOGGED).push(text.into_owned());
}

unsafe extern "C" fn event(_: *mut c_void, events: u32, _: u64) {
    locked(&EVENTS).push(events);
}

static HOST: xcopy_host = xcopy_host {
    struct_size: size_of::<xcopy_host>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    log: Some(log),
    alloc: None,
    free: None,
    complete: Some(complete),
    complete_local: Some(complete_local),
    device_event: Some(event),
};

/// Does what a command's flags say: 1 fails with sense data and too much known,
/// 2 panics, 4 is dropped, 8 is refused by submit; else it succeeds.
struct Odd(Host);

struct Disk(Events);

impl Plugin for Odd {
    const NAME: &'static CStr = c"odd";
    const VERSION: &'static CStr = c"1";
    const DESCRIPTION: &'static CStr = c"for tests";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 = XCOPY_CAN_FLUSH;
    const METHODS: &'static [Method] = &[Method::new(c"odd_a"), Method::new(c"odd_b").offloads()];
    const MAX_RANGES: u32 = 4;
    type Device = Disk;

    fn start(host: Host) -> Result<Odd, Failure> {
        host.log(Level::Info, "started");
        Ok(Odd(host))
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Disk>, Failure> {
        match device.name() {
            Some("panic") => panic!("asked to"),
            Some("refuse") => Err(Failure::new(errno::ENODEV).because("é".repeat(200))),
            _ => Ok(Opened::new(Disk(device.events()), 512, 4096)),
        }
    }

    fn probe(
        &self,
        method: usize,
        src: Option<&Disk>,
        _dst: Option<&Disk>,
    ) -> Result<Verdict, Failure> {
        Ok(match (method, src) {
            (_, None) => Verdict::refused(0, "no source"),
            (0, _) => Verdict::usable(xcopy_limits::default()),
            _ => Verdict::refused(XCOPY_REASON_NOT_SUPPORTED, "never"),
        })
    }

    fn describe(&self, _: &Disk) -> Option<String> {
        Some(described())
    }
}

fn failing() -> Failure {
    Failure::new(errno::EIO).known(1 << 40).sense(&[7; 300])
}

fn described() -> String {
    "size: 4096\nname: é\n".into()
}

impl Blocking for Odd {
    fn execute(&self, command: &mut Command<'_, Disk>) -> Outcome {
        match command.flags() {
            1 => Err(failing()),
            2 => panic!("asked to"),
            _ => Ok(Done::new()),
        }
    }
}

impl Queued for Odd {
    type Queue = Vec<Job<Disk>>;
    const CANCELS: bool = true;

    fn queue(&self, _: QueueOptions) -> Result<Self::Queue, Failure> {
        Ok(Vec::new())
    }

    fn submit(&self, queue: &mut Self::Queue, mut job: Job<Disk>) -> Result<(), Job<Disk>> {
        match job.command().flags() {
            8 => return Err(job),
            16 => panic!("asked to"),
            _ => queue.push(job),
        }
        Ok(())
    }

    fn poll(&self, queue: &mut Self::Queue, max: usize) {
        for mut job in queue.drain(..max.min(queue.len())) {
            match job.command().flags() {
                1 => job.end(Err(failing())),
                2 => panic!("asked to"),
                4 => drop(job),
                _ => job.end(Ok(Done::new())),
            }
        }
    }

    fn cancel(&self, queue: &mut Self::Queue, id: JobId) {
        if let Some(at) = queue.iter().position(|job| job.id() == id) {
            let job = queue.remove(at);
            std::thread::spawn(move || job.end(Err(Failure::new(errno::ECANCELED))))
                .join()
                .expect("the thread ends");
        }
    }
}

fn command(cookie: u64, flags: u32) -> xcopy_cmd {
    xcopy_cmd {
        cookie,
        op: XCOPY_CMD_FLUSH,
        method: 16,
        flags,
        src: ptr::null_mut(),
        dst: ptr::null_mut(),
        ranges: ptr::null(),
        nranges: 0,
        timeout_ms: 0,
        bytes: 100,
        buffer: ptr::null_mut(),
        token: ptr::null_mut(),
        token_size: 0,
        token_type: 0,
        token_lifetime_s: 0,
        method_index: 0,
        arg: ptr::null_mut(),
        private_data: ptr::null_mut(),
    }
}

type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

fn table(init: Init) -> &'static xcopy_plugin {
    // SAFETY: a host for the life of the process; the table is static.
    unsafe { init(&HOST).as_ref() }.expect("a table")
}

fn started(table: &xcopy_plugin) -> *mut c_void {
    let mut state = ptr::null_mut();
    let start = table.start.expect("start");
    // SAFETY: the contract's arguments.
    assert_eq!(unsafe { start(ptr::null_mut(), &mut state) }, 0);
    state
}

fn queue(table: &xcopy_plugin, state: *mut c_void) -> *mut c_void {
    let options = xcopy_plugin_queue_options {
        size: size_of::<xcopy_plugin_queue_options>() as u32,
        flags: 0,
        window: 8,
        reserved: 0,
    };
    let mut queue = ptr::null_mut();
    let create = table.queue_create.expect("queue_create");
    // SAFETY: the contract's arguments.
    let answer = unsafe { create(state, ptr::null_mut(), &options, &mut queue) };
    assert_eq!(answer, 0);
    queue
}

fn submit(table: &xcopy_plugin, queue: *mut c_void, commands: &mut [xcopy_cmd]) -> c_int {
    let pointers: Vec<*mut xcopy_cmd> = commands.iter_mut().map(|c| c as *mut _).collect();
    // SAFETY: the contract's arguments; the commands live until they end.
    unsafe { table.submit.expect("submit")(queue, pointers.as_ptr(), pointers.len() as u32) }
}

fn poll(table: &xcopy_plugin, queue: *mut c_void) -> c_int {
    // SAFETY: the contract's arguments.
    unsafe { table.poll.expect("poll")(queue, 100) }
}

fn taken() -> Vec<End> {
    std::mem::take(&mut *locked(&ENDED))
}

fn end(table: &xcopy_plugin, state: *mut c_void, queue: Option<*mut c_void>) {
    // SAFETY: the last calls with them.
    unsafe {
        if let Some(queue) = queue {
            table.queue_destroy.expect("queue_destroy")(queue);
        }
        table.stop.expect("stop")(state);
    }
}

#[test]
fn a_host_that_does_not_fit_gets_no_table() {
    let _turn = locked(&TURN);
    let short = xcopy_host {
        struct_size: 24,
        ..HOST
    };
    let other = xcopy_host {
        abi_version: 7 << 16,
        ..HOST
    };
    // SAFETY: live tables; both are refused before they are kept.
    unsafe {
        assert!(init_polled::<Odd>(&short).is_null());
        assert!(init_polled::<Odd>(&other).is_null());
        assert!(init_blocking::<Odd>(ptr::null()).is_null());
    }
    assert_eq!(table(init_polled::<Odd>).model, XCOPY_MODEL_POLLED);
    assert!(table(init_threaded::<Odd>).poll.is_none());
    assert!(table(init_polled::<Odd>).queue_fd.is_none());
}

#[test]
fn blocking_answers_failures_panics_and_sense() {
    let _turn = locked(&TURN);
    let table = table(init_blocking::<Odd>);
    let state = started(table);
    let execute = |flags: u32| {
        let (mut command, mut result) = (command(5, flags), xcopy_result::default());
        // SAFETY: the contract's arguments.
        let answer = unsafe { table.execute.expect("execute")(state, &mut command, &mut result) };
        (answer, result)
    };
    let (answer, result) = execute(0);
    assert_eq!((answer, result.status, result.bytes), (0, 0, 100));
    let (answer, result) = execute(1);
    assert_eq!((answer, result.status, result.bytes), (0, -errno::EIO, 100));
    // SAFETY: this thread's last command's.
    let sense = unsafe { std::slice::from_raw_parts(result.sense, result.sense_len as usize) };
    assert_eq!(sense, [7; 252]);
    assert_eq!(execute(2).0, -errno::EFAULT);
    end(table, state, None);
}

#[test]
fn jobs_end_once_whatever_becomes_of_them() {
    let _turn = locked(&TURN);
    let table = table(init_polled::<Odd>);
    let state = started(table);
    let queue = queue(table, state);
    taken();
    let mut commands = [command(1, 0), command(2, 4), command(3, 1), command(4, 8)];
    assert_eq!(
        submit(table, queue, &mut commands),
        3,
        "the last was given back"
    );
    assert!(taken().is_empty());
    assert_eq!(poll(table, queue), 0);
    let ended: Vec<_> = taken()
        .into_iter()
        .map(|e| (e.0, e.1, e.2, e.3.len(), e.4))
        .collect();
    let eio = -errno::EIO;
    let expected = [
        (1, 0, 100, 0, true),
        (2, eio, 0, 0, true),
        (3, eio, 100, 252, true),
    ];
    assert_eq!(ended, expected);

    let mut commands = [command(6, 0), command(7, 0)];
    assert_eq!(submit(table, queue, &mut commands), 2);
    let cancel = table.cancel.expect("cancel");
    for _ in 0..2 {
        // SAFETY: the contract's arguments.
        assert_eq!(unsafe { cancel(queue, &mut commands[0]) }, 0);
    }
    assert_eq!(taken(), [(6, -errno::ECANCELED, 0, vec![], false)]);
    poll(table, queue);
    assert_eq!(taken(), [(7, 0, 100, vec![], true)]);
    end(table, state, Some(queue));
}

#[test]
fn a_panic_fails_what_the_queue_holds() {
    let _turn = locked(&TURN);
    let table = table(init_polled::<Odd>);
    let state = started(table);
    let efault = -errno::EFAULT;
    // In poll: all that was taken ends, and nothing more is taken.
    let first = queue(table, state);
    taken();
    let mut commands = [command(1, 0), command(2, 2), command(3, 0)];
    assert_eq!(submit(table, first, &mut commands), 3);
    assert_eq!(poll(table, first), efault);
    let mut ended: Vec<_> = taken().into_iter().map(|e| (e.0, e.1)).collect();
    ended.sort_unstable();
    assert_eq!(ended, [(1, 0), (2, efault), (3, efault)]);
    assert_eq!(submit(table, first, &mut [command(4, 0)]), efault);
    // In submit: what was taken before, and the one it panicked with, ended.
    let second = queue(table, state);
    let mut commands = [command(5, 0), command(6, 16), command(7, 0)];
    assert_eq!(submit(table, second, &mut commands), 2);
    let mut ended: Vec<_> = taken().into_iter().map(|e| (e.0, e.1)).collect();
    ended.sort_unstable();
    assert_eq!(ended, [(5, efault), (6, efault)]);
    // SAFETY: the last call with it.
    unsafe { table.queue_destroy.expect("queue_destroy")(first) };
    end(table, state, Some(second));
    assert!(taken().is_empty());
}

#[test]
fn devices_verdicts_and_events() {
    let _turn = locked(&TURN);
    let table = table(init_polled::<Odd>);
    let state = started(table);
    let open = |name: &CStr| {
        let desc = xcopy_device_desc {
            size: size_of::<xcopy_device_desc>() as u32,
            kind: XCOPY_KIND_NATIVE,
            open_flags: 0,
            fd: -1,
            name: name.as_ptr(),
            native: ptr::null_mut(),
            host_device: ptr::null_mut(),
            dev_major: 0,
            dev_minor: 0,
            disk_major: 0,
            disk_minor: 0,
            disk_offset: 0,
            inode: 0,
            size_bytes: 0,
            block_size: 1,
            physical_block_size: 1,
        };
        let (mut device, mut props) = (ptr::null_mut(), xcopy_device_props::default());
        // SAFETY: the contract's arguments.
        let answer = unsafe { table.open.expect("open")(state, &desc, &mut device, &mut props) };
        (answer, device, props)
    };
    assert_eq!(open(c"panic").0, -errno::EFAULT);
    let (answer, _, props) = open(c"refuse");
    assert_eq!(answer, -errno::ENODEV);
    // Cut between characters, with its end.
    assert_eq!(props.text.iter().position(|c| *c == 0), Some(126));
    let (answer, device, props) = open(c"");
    assert_eq!((answer, props.block_size, props.size_bytes), (0, 512, 4096));

    // Verdicts of a later core are longer.
    let stride = size_of::<xcopy_verdict>() + 64;
    let mut room = vec![0u64; 2 * stride / 8];
    // SAFETY: the contract's arguments: two verdicts, stride bytes apart.
    let verdicts: Vec<_> = unsafe {
        let probe = table.probe.expect("probe");
        let at = room.as_mut_ptr().cast::<u8>();
        assert_eq!(probe(state, device, device, at.cast(), stride, 2), 0);
        [0, 1]
            .map(|i| (*at.add(i * stride).cast::<xcopy_verdict>()).usable)
            .to_vec()
    };
    assert_eq!(verdicts, [1, 0]);

    // A description is cut between characters, with its end; its length is told.
    for room in [0, 1, 18, 19, 64] {
        let mut text: Vec<std::ffi::c_char> = vec![7; room];
        // SAFETY: the contract's arguments: `room` bytes.
        let whole =
            unsafe { table.describe.expect("describe")(state, device, text.as_mut_ptr(), room) };
        assert_eq!(whole as usize, described().len());
        let said: Vec<u8> = text
            .iter()
            .take_while(|c| **c != 0)
            .map(|c| *c as u8)
            .collect();
        assert!(said.len() < room.max(1), "no end in {room} bytes");
        assert!(described().starts_with(std::str::from_utf8(&said).expect("UTF-8")));
    }

    // SAFETY: the device is open.
    let events = unsafe { &(*device.cast::<crate::device::Held<Disk>>()).device.0 }.clone();
    locked(&EVENTS).clear();
    events.resized(8192);
    // SAFETY: the last call with the device.
    unsafe { table.close.expect("close")(state, device) };
    events.removed();
    assert_eq!(*locked(&EVENTS), [XCOPY_EVENT_RESIZED]);

    // SAFETY: `start` made it.
    let host = unsafe { crate::table::state_of::<Odd>(state) }.map(|s| s.plugin.0.clone());
    end(table, state, None);
    locked(&LOGGED).clear();
    host.expect("a host").log(Level::Error, "after stop");
    assert!(locked(&LOGGED).is_empty());
}
