//! Copies between files through a queue, by its ring and by the pool.

use super::context::{self, Context};
use super::queue::{self, Queue};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use xcopy_abi::*;

const LENGTH: usize = (24 << 20) + 4321;

struct Setup {
    context: Arc<Context>,
    queue: Queue,
    _dir: tempfile::TempDir,
    dst: std::fs::File,
    data: Vec<u8>,
    request: xcopy_request,
}

fn setup(queue_flags: u32, request_flags: u32) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..LENGTH as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1)
        .collect();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, &data).unwrap();
    let dst = std::fs::File::create_new(&to).unwrap();
    dst.set_len(LENGTH as u64).unwrap();
    let context = Context::new(context::default_options()).unwrap();
    let open = |path: &std::path::Path, flags| {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        context.open(&path, flags).unwrap().handle
    };
    let request = xcopy_request {
        user_data: 42,
        op: XCOPY_OP_COPY,
        flags: request_flags,
        src: open(&from, XCOPY_OPEN_READ),
        dst: open(&to, XCOPY_OPEN_WRITE),
        length: LENGTH as u64,
        reserved: 0,
        src_offset: 0,
        dst_offset: 0,
        methods: 0,
        timeout_ms: 0,
        ext: std::ptr::null(),
    };
    let mut options = queue::default_options();
    options.flags = queue_flags;
    let queue = Queue::new(context.clone(), options).unwrap();
    let dst = std::fs::File::open(&to).unwrap();
    Setup {
        context,
        queue,
        _dir: dir,
        dst,
        data,
        request,
    }
}

impl Setup {
    fn submit(&mut self) {
        let mut error = None;
        let request = std::ptr::from_ref(&self.request).cast();
        // SAFETY: one request of 64 bytes.
        let n = unsafe { self.queue.submit(request, 64, 1, 0, &mut error) };
        assert_eq!(n, 1, "{error:?}");
    }

    /// Waits without an end: a lost wake-up hangs, a wrong one is an error.
    fn wait(&mut self) -> xcopy_completion {
        let mut completion = xcopy_completion::default();
        let mut error = None;
        let out = std::ptr::from_mut(&mut completion).cast();
        // SAFETY: room for one completion.
        let n = unsafe { self.queue.poll(out, 64, 1, 1, -1, &mut error) };
        assert_eq!(n, 1, "{error:?}");
        completion
    }

    fn end(self) {
        assert!(self.queue.busy().is_none());
        self.queue.destroy();
        assert_eq!(self.context.buffers.in_use(), 0);
        self.context.shut_down().unwrap();
    }

    fn used_the_ring(&self) -> bool {
        self.queue.ring.as_ref().is_some_and(|ring| ring.used())
    }
}

#[test]
fn a_sleeper_is_woken_once_all_is_there() {
    for (queue_flags, request_flags, by_ring) in [
        (0, 0, false),
        (0, XCOPY_REQ_DURABLE, true),
        (XCOPY_QUEUE_PINNED, 0, true),
        (XCOPY_QUEUE_PINNED, XCOPY_REQ_KEEP_HOLES, true),
        (XCOPY_QUEUE_PINNED, XCOPY_REQ_DURABLE, true),
    ] {
        let mut setup = setup(queue_flags, request_flags);
        for _ in 0..2 {
            setup.submit();
            let done = setup.wait();
            assert_eq!((done.res, done.bytes_done), (0, LENGTH as u64));
            let mut seen = vec![0; LENGTH];
            setup.dst.read_exact_at(&mut seen, 0).unwrap();
            assert!(seen == setup.data);
        }
        // A temporary directory in memory takes no direct writes.
        if by_ring && queue_flags == XCOPY_QUEUE_PINNED {
            assert!(setup.used_the_ring());
        }
        assert!(by_ring || !setup.used_the_ring());
        setup.end();
    }
}

#[test]
fn a_watcher_of_the_fd_sees_the_end() {
    let mut setup = setup(XCOPY_QUEUE_PINNED, 0);
    setup.submit();
    for _ in 0..100_000 {
        if !setup.queue.arm() {
            let mut place = libc::pollfd {
                fd: setup.queue.fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd that lives through the call.
            let ready = unsafe { libc::poll(&mut place, 1, 20_000) };
            assert_ne!(ready, 0, "nothing woke it");
        }
        if setup.queue.count_ready() > 0 {
            break;
        }
    }
    setup.queue.disarm();
    assert_eq!(setup.wait().res, 0);
    setup.end();
}

#[test]
fn a_cancelled_copy_settles_with_a_true_prefix() {
    for flags in [0, XCOPY_REQ_DURABLE] {
        let mut setup = setup(XCOPY_QUEUE_PINNED, flags);
        setup.submit();
        assert_eq!(setup.queue.shared().ask_cancel(|_| true), 1);
        let done = setup.wait();
        assert!(done.res == -libc::ECANCELED || done.bytes_done == LENGTH as u64);
        let prefix = done.bytes_done as usize;
        let mut seen = vec![0; prefix];
        setup.dst.read_exact_at(&mut seen, 0).unwrap();
        assert!(seen == setup.data[..prefix]);
        setup.end();
    }
}

#[test]
fn a_destroyed_queue_leaves_its_memory_to_the_kernel() {
    let mut setup = setup(XCOPY_QUEUE_PINNED, 0);
    setup.submit();
    while setup
        .queue
        .ring
        .as_ref()
        .is_none_or(|ring| ring.active() == 0)
    {
        setup.queue.count_ready();
    }
    setup.queue.destroy();
    // What was written is the source's; nobody else got the buffers.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let mut seen = vec![0; LENGTH];
    setup.dst.read_exact_at(&mut seen, 0).unwrap();
    let right = |(seen, data): (&u8, &u8)| seen == data || *seen == 0;
    assert!(seen.iter().zip(&setup.data).all(right));
}

#[test]
fn signals_end_a_wait_and_ends_of_operations_do_not() {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut setup = setup(XCOPY_QUEUE_PINNED, 0);
    // SAFETY: a handler that does nothing, without SA_RESTART; an all-zero
    // sigaction is valid.
    let me = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
        libc::pthread_self()
    };
    setup.submit();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                // SAFETY: the thread outlives this scope.
                unsafe { libc::pthread_kill(me, libc::SIGUSR2) };
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        let mut completion = xcopy_completion::default();
        loop {
            let mut error = None;
            let out = std::ptr::from_mut(&mut completion).cast();
            // SAFETY: room for one completion.
            if unsafe { setup.queue.poll(out, 64, 1, 1, -1, &mut error) } == 1 {
                break;
            }
            assert_eq!(error.map(|e| e.errno), Some(libc::EINTR));
        }
        assert_eq!(completion.res, 0);
    });
    setup.end();
}
