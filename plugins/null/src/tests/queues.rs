//! The queues of the POLLED, THREADED and AFFINE forms.

use super::*;

#[test]
fn polled_answers_each_command_once_and_in_order() {
    for init in [init as Init, init_affine] {
        let plugin = Started::new(init);
        let sink = Sink::default();
        let queue = plugin.queue(&sink, 5);
        let mut commands = copies(37);
        let (mut given, mut got) = (0, Vec::new());
        // Batches that do not divide the ring make it wrap.
        while got.len() < 37 {
            let end = (given + 7).min(37);
            given += plugin.submit(queue, &mut commands[given..end]) as usize;
            plugin.poll(queue, 3);
            got.extend(sink.take());
        }
        let expected: Vec<_> = (0..37).map(|i| (i, 0, 4096 + i, 0)).collect();
        assert_eq!(got, expected);
        plugin.destroy(queue);
    }
}

#[test]
fn polled_takes_no_more_than_it_has_room_for() {
    let plugin = Started::new(init);
    let sink = Sink::default();
    let queue = plugin.queue(&sink, 4);
    assert_eq!(plugin.submit(queue, &mut copies(9)), 8);
    assert_eq!(plugin.submit(queue, &mut copies(1)), 0);
    plugin.poll(queue, u32::MAX);
    assert_eq!(sink.take().len(), 8);
    plugin.destroy(queue);
}

fn readable(fd: c_int) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

#[test]
fn polled_fd_is_readable_while_armed_and_pending() {
    let plugin = Started::new(init);
    let sink = Sink::default();
    let queue = plugin.queue(&sink, 8);
    // SAFETY: a live queue, in all the calls below.
    let arm = |on| unsafe { plugin.table.arm.unwrap()(queue, on) };
    // SAFETY: as above.
    let fd = unsafe { plugin.table.queue_fd.unwrap()(queue) };
    assert!(fd >= 0);
    let mut commands = copies(4);
    plugin.submit(queue, &mut commands[..2]);
    assert!(!readable(fd));
    assert_eq!((arm(1), readable(fd)), (1, true));
    plugin.poll(queue, 1);
    assert!(readable(fd));
    plugin.poll(queue, 1);
    assert!(!readable(fd));
    assert_eq!(arm(1), 0);
    plugin.submit(queue, &mut commands[2..]);
    assert!(readable(fd));
    assert_eq!((arm(0), readable(fd)), (0, false));
    plugin.poll(queue, 9);
    assert_eq!(sink.take().len(), 4);
    // SAFETY: as above.
    assert_eq!(unsafe { plugin.table.queue_fd.unwrap()(queue) }, fd);
    plugin.destroy(queue);
}

#[test]
fn threaded_ends_waits_and_cancels() {
    let plugin = Started::new(init_threaded);
    let sink = Sink::default();
    let queue = plugin.queue(&sink, 256);
    let mut commands = copies(200);
    assert_eq!(plugin.submit(queue, &mut commands), 200);
    let expected: Vec<_> = (0..200).map(|i| (i, 0, 4096 + i, 0)).collect();
    assert_eq!(sink.wait(200), expected);

    let slow = plugin.open(c"1M,delay_us=20000").unwrap();
    let begun = Instant::now();
    commands[0].src = slow;
    plugin.submit(queue, &mut commands[..1]);
    assert_eq!(sink.wait(1).len(), 1);
    assert!(begun.elapsed() >= Duration::from_millis(20));

    let hung = plugin.open(c"1M,delay_us=3600000000").unwrap();
    (commands[0].dst, commands[1].dst) = (hung, hung);
    plugin.submit(queue, &mut commands[..2]);
    // SAFETY: a live queue; the pointer is only compared.
    let cancel = |command| unsafe { plugin.table.cancel.unwrap()(queue, command) };
    assert_eq!(cancel(&mut commands[1]), 0);
    assert_eq!(cancel(&mut commands[0]), 0);
    let canceled = (-libc::ECANCELED, 0, XCOPY_REASON_CANCELED);
    let expected = [0, 1].map(|i| (i, canceled.0, canceled.1, canceled.2));
    assert_eq!(sink.wait(2), expected);
    assert_eq!(cancel(&mut commands[0]), -libc::ENOENT);

    // A forced destroy does not wait for what hangs.
    plugin.submit(queue, &mut commands[..2]);
    plugin.destroy(queue);
    assert!(sink.take().is_empty());
    plugin.close(slow);
    plugin.close(hung);
}

#[test]
fn affine_opens_probes_and_closes_on_its_thread() {
    let plugin = Started::new(init_affine);
    assert!(plugin.table.open.is_none() && plugin.table.probe.is_none());
    let sink = Sink::default();
    let queue = plugin.queue(&sink, 8);
    let run = |command: xcopy_cmd| {
        let mut command = [command];
        assert_eq!(plugin.submit(queue, &mut command), 1);
        plugin.poll(queue, 1);
        let answers = sink.take();
        assert_eq!(answers.len(), 1);
        answers[0].1
    };
    let described = desc(c"1M,max=64K");
    let mut args = xcopy_open_args {
        desc: &described,
        device: ptr::null_mut(),
        props: xcopy_device_props::default(),
    };
    let mut open = command(1, XCOPY_CMD_OPEN, 0);
    assert_eq!(run(command(1, XCOPY_CMD_OPEN, 0)), -libc::EINVAL);
    open.arg = ptr::from_mut(&mut args).cast();
    assert_eq!(run(open), 0);
    assert_eq!(
        (args.props.size_bytes, args.props.max_io_bytes),
        (1 << 20, 64 << 10)
    );

    let mut verdict = xcopy_verdict::default();
    let mut probe_args = xcopy_probe_args {
        verdicts: &mut verdict,
        stride: size_of::<xcopy_verdict>(),
        n: 1,
        reserved: 0,
    };
    let mut probe = command(2, XCOPY_CMD_PROBE, 0);
    (probe.src, probe.dst) = (args.device, args.device);
    probe.arg = ptr::from_mut(&mut probe_args).cast();
    assert_eq!(run(probe), 0);
    assert_eq!((verdict.usable, verdict.limits.max_bytes), (1, 64 << 10));

    let mut close = command(3, XCOPY_CMD_CLOSE, 0);
    close.src = args.device;
    assert_eq!(run(close), 0);
    plugin.destroy(queue);
}

#[test]
fn affine_fails_commands_of_another_thread() {
    struct Moved<'a>(&'a Started, *mut c_void, &'a mut [xcopy_cmd]);
    // SAFETY: the threads below use it one after the other.
    unsafe impl Send for Moved<'_> {}

    let plugin = Started::new(init_affine);
    let sink = Sink::default();
    let queue = plugin.queue(&sink, 8);
    let mut commands = copies(2);
    let moved = Moved(&plugin, queue, &mut commands[..1]);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let moved = moved;
            moved.0.submit(moved.1, moved.2)
        });
    });
    plugin.poll(queue, 8);
    assert_eq!(sink.take(), [(0, -libc::EPERM, 0, XCOPY_REASON_FAILED)]);

    plugin.submit(queue, &mut commands[1..]);
    let moved = Moved(&plugin, queue, &mut []);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let moved = moved;
            moved.0.poll(moved.1, 8)
        });
    });
    assert_eq!(sink.take()[0].1, -libc::EPERM);
    plugin.destroy(queue);
}
