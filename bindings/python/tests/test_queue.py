"""Queues, tickets, devices and contexts."""

import ctypes
import errno
import gc
import select
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
from conftest import open_descriptors, stamped

import xcopy


@pytest.fixture
def pair(host, files):
    src, dst = files
    with host.open(src) as reader, host.open(dst, xcopy.Open.WRITE) as writer:
        yield host, reader, writer


@pytest.fixture
def slow_pair(host, slow):
    with host.open(slow["src"]) as reader, open(slow["dst"], "w+b") as file:
        with host.open(file, xcopy.Open.WRITE) as writer:
            yield host, reader, writer


def slow_request(reader, writer, **more):
    return xcopy.Request(src=reader, dst=writer, length=512 << 20, methods=1 << 7, **more)


def test_submit_and_poll(pair, files):
    host, reader, writer = pair
    marker = object()
    with host.queue() as queue:
        ticket = queue.submit(
            xcopy.Request(src=reader, dst=writer, length=1 << 20, report=True, user_data=marker)
        )
        assert not ticket.done and queue.in_flight == 1
        (completion,) = queue.poll(min=1, timeout=10)
        assert ticket.done and ticket.completion is completion
        assert completion.user_data is marker
        assert completion.ok and completion.error is None
        assert completion.bytes_done == completion.bytes_copied == 1 << 20
        assert completion.method == xcopy.Method.READ_WRITE
        assert completion.flags & xcopy.Cpl.EMULATED and not completion.offloaded
        report = completion.report
        assert sum(share.bytes for share in report.shares) == 1 << 20
        assert sum(share.commands for share in report.shares) == completion.commands
        assert report.failed is None
        assert queue.in_flight == 0 and queue.poll() == []
        stats = queue.stats
        assert stats.requests == stats.completions == 1
    assert files[1].read_bytes()[: 1 << 20] == stamped(1, 1 << 20)


def test_waiting_for_one_keeps_the_others(pair):
    host, reader, writer = pair
    with host.queue() as queue:
        tickets = queue.submit(
            [
                xcopy.Request(
                    src=reader,
                    dst=writer,
                    src_offset=i * 4096,
                    dst_offset=i * 4096,
                    length=4096,
                    user_data=i,
                )
                for i in range(100)
            ]
        )
        assert tickets[50].wait(10).user_data == 50
        seen = [50]
        while queue.in_flight:
            seen += [completion.user_data for completion in queue.poll(min=1, max=7, timeout=10)]
        assert sorted(seen) == list(range(100))
        assert all(ticket.done for ticket in tickets)
        assert tickets[3].wait(0).user_data == 3


def test_ranges_live_as_long_as_they_must(pair, files):
    host, reader, writer = pair
    with host.queue() as queue:
        tickets = []
        for _ in range(20):
            ranges = [(i * 1024, i * 2048, 512) for i in range(1000)]
            tickets.append(
                queue.submit(xcopy.Request(src=reader, dst=writer, ranges=ranges, report=True))
            )
            del ranges
            gc.collect()
            tickets[-1].wait(10).raise_for_error()
        # Many at once, with memory churned between submit and completion.
        tickets = [
            queue.submit(
                xcopy.Request(
                    src=reader, dst=writer, ranges=((i * 1024, i * 2048, 512) for i in range(1000))
                )
            )
            for _ in range(50)
        ]
        gc.collect()
        churn = [bytearray(b"\xff" * 24000) for _ in range(200)]
        for ticket in tickets:
            done = ticket.wait(10)
            assert done.raise_for_error().bytes_copied == 512 * 1000
        assert ticket._packed is None
        del churn
    want = bytearray(stamped(2, 2 << 20))
    src = stamped(1, 1 << 20)
    for i in range(1000):
        want[i * 2048 : i * 2048 + 512] = src[i * 1024 : i * 1024 + 512]
    assert files[1].read_bytes() == want


def test_ranges_from_a_buffer(pair, files):
    host, reader, writer = pair
    array = (xcopy.RangeRecord * 3)((0, 4096, 512), (512, 8192, 1024), (8192, 65536, 4096))
    with host.queue() as queue:
        queue.submit(xcopy.Request(src=reader, dst=writer, ranges=array)).wait(10).raise_for_error()
        plain = bytes(array)  # read-only: copied
        queue.submit(xcopy.Request(src=reader, dst=writer, ranges=plain)).wait(10).raise_for_error()
    want = bytearray(stamped(2, 2 << 20))
    src = stamped(1, 1 << 20)
    for item in array:
        want[item.dst_offset : item.dst_offset + item.length] = src[
            item.src_offset : item.src_offset + item.length
        ]
    assert files[1].read_bytes() == want


def test_cancel_and_progress(slow_pair):
    host, reader, writer = slow_pair
    with host.queue(depth=1, chunk=4096) as queue:
        ticket = queue.submit(slow_request(reader, writer))
        assert ticket.wait(0.2) is None
        now = ticket.progress()
        assert now.bytes_total == 512 << 20 and 0 < now.bytes_copied < now.bytes_total
        assert queue.cancel(ticket) == 1
        completion = ticket.wait(10)
        assert completion.res == -errno.ECANCELED
        with pytest.raises(xcopy.XcopyError) as caught:
            completion.raise_for_error()
        assert caught.value.completion is completion
        assert caught.value.bytes_done == completion.bytes_done
        assert ticket.progress() is None and not ticket.cancel()


def test_cancel_by_device(slow_pair):
    host, reader, writer = slow_pair
    with host.queue(depth=1, chunk=4096) as queue:
        ticket = queue.submit(slow_request(reader, writer))
        assert queue.cancel(writer) == 1
        assert ticket.wait(10).res == -errno.ECANCELED


def test_a_deadline(slow_pair):
    host, reader, writer = slow_pair
    with host.queue(depth=1, chunk=4096) as queue:
        ticket = queue.submit(slow_request(reader, writer, timeout=0.1, report=True))
        completion = ticket.wait(10)
        assert completion.res == -errno.ETIMEDOUT
        assert completion.bytes_done <= completion.report.untouched_from
        assert completion.bytes_copied == sum(share.bytes for share in completion.report.shares)


def test_an_exception_in_the_block_cancels(slow_pair):
    host, reader, writer = slow_pair
    start = time.monotonic()
    with pytest.raises(LookupError):
        with host.queue(depth=1, chunk=4096) as queue:
            ticket = queue.submit(slow_request(reader, writer))
            raise LookupError
    assert queue.closed and ticket.done
    assert ticket.completion.res == -errno.ECANCELED
    assert time.monotonic() - start < 5


def test_an_interrupted_wait_loses_nothing(slow_pair):
    host, reader, writer = slow_pair
    with host.queue(depth=1, chunk=4096) as queue:
        ticket = queue.submit(slow_request(reader, writer))
        threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT)).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ticket.wait()
        assert time.monotonic() - start < 2
        assert queue.in_flight == 1
        ticket.cancel()
        assert ticket.wait(10) is not None
        assert queue.in_flight == 0


def test_completions_that_an_exception_cut_off_are_found(pair, monkeypatch):
    """A signal handler may raise right after the library's call has returned."""
    from xcopy import pump

    class Interrupting:
        armed = True

        def __getattr__(self, name):
            function = getattr(pump_lib, name)
            if name != "xcopy_poll" or not Interrupting.armed:
                return function

            def call(*arguments):
                if function(*arguments) > 0:
                    Interrupting.armed = False
                    raise KeyboardInterrupt
                return 0

            return call

    pump_lib = pump.lib
    host, reader, writer = pair
    with host.queue() as queue:
        tickets = queue.submit(
            [xcopy.Request(src=reader, dst=writer, length=4096, user_data=i) for i in range(8)]
        )
        monkeypatch.setattr(pump, "lib", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            while True:
                queue.poll(min=8, timeout=10)
        seen = [completion.user_data for completion in queue.poll(min=8, timeout=10)]
        assert sorted(seen) == list(range(8))
        assert all(ticket.done for ticket in tickets)


def test_drain_and_resume(pair):
    host, reader, writer = pair
    with host.queue() as queue:
        request = xcopy.Request(src=reader, dst=writer, length=4096)
        ticket = queue.submit(request)
        assert queue.drain() == 1
        with pytest.raises(xcopy.SubmitError) as caught:
            queue.submit(request)
        assert caught.value.errno == errno.ESHUTDOWN
        ticket.wait(10).raise_for_error()
        assert queue.drain() == 0
        queue.resume()
        queue.submit(request).wait(10).raise_for_error()


def test_descriptor(pair):
    host, reader, writer = pair
    with host.queue() as queue:
        waiter = select.poll()
        waiter.register(queue.fileno(), select.POLLIN)
        assert not queue.arm()
        assert waiter.poll(0) == []
        queue.submit(xcopy.Request(src=reader, dst=writer, length=4096))
        deadline = time.monotonic() + 10
        taken = []
        while not taken and time.monotonic() < deadline:
            assert waiter.poll(10000)
            taken = queue.poll()
        assert taken[0].ok
        queue.disarm()
        assert queue.fileno() == queue.fileno()


def test_a_full_queue_says_so(slow_pair):
    host, reader, writer = slow_pair
    with pytest.raises(LookupError), host.queue(capacity=1, depth=1, chunk=4096) as queue:
        queue.submit(slow_request(reader, writer))
        with pytest.raises(xcopy.SubmitError) as caught:
            queue.submit(slow_request(reader, writer))
        assert caught.value.errno == errno.EAGAIN
        raise LookupError


def test_another_thread_may_not_take_over_in_flight(slow_pair):
    host, reader, writer = slow_pair
    seen = []

    def use(queue):
        try:
            seen.append(queue.poll())
        except xcopy.XcopyError as error:
            seen.append(error.errno)

    with host.queue(depth=1, chunk=4096) as queue:
        ticket = queue.submit(slow_request(reader, writer))
        thread = threading.Thread(target=use, args=(queue,))
        thread.start()
        thread.join()
        ticket.cancel()
        ticket.wait(10)
        thread = threading.Thread(target=use, args=(queue,))
        thread.start()
        thread.join()
    assert seen == [errno.EBUSY, []]


def test_forced_close(slow_pair):
    host, reader, writer = slow_pair
    queue = host.queue(depth=1, chunk=4096)
    ticket = queue.submit(slow_request(reader, writer))
    queue.close(force=True)
    assert ticket.done
    assert ticket.completion.flags & xcopy.Cpl.UNSETTLED
    assert ticket.completion.reason == xcopy.Reason.DESTROYED


def test_a_forgotten_queue_warns(host):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        host.queue()
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]


COLLECTED_TOGETHER = """
import gc, sys, warnings, xcopy
warnings.simplefilter("always")
gc.disable()

class Copier:
    def __init__(self, path):
        self.context = xcopy.Context(plugins=False)
        self.device = self.context.open(path)
        self.queue = self.context.queue()
        self.token = self.context.token()
        self.again = self.finish

    def finish(self):
        pass

Copier(sys.argv[1])
for late in (False, True):
    for kind in (xcopy.Context, xcopy.Device, xcopy.Queue):
        # The finalizer of one runs first, the others' find what it left.
        one = Copier(sys.argv[1])
        part = next(v for v in vars(one).values() if isinstance(v, kind))
        part.__del__()
        if late:
            del one.again
        del part, one
        gc.collect()
for _ in range(50):
    Copier(sys.argv[1])
    gc.collect()
assert not [o for o in gc.get_objects() if isinstance(o, (xcopy.Context, xcopy.Queue))]
print("survived")
"""


def test_a_context_and_what_it_made_may_be_collected_together(files):
    command = [sys.executable, "-c", COLLECTED_TOGETHER, str(files[0])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "survived\n"), ended.stderr
    for kind in ("Context", "Device", "Queue"):
        assert f"ResourceWarning: unclosed <xcopy.{kind}" in ended.stderr


def test_a_context_dropped_before_its_queue_is_freed_with_it(files):
    before = open_descriptors()
    context = xcopy.Context(plugins=False)
    queue = context.queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        context.open(files[0])
        context.__del__()
        assert context.alive, "a queue still uses it"
        queue.__del__()
    assert not context.alive and queue.closed
    assert open_descriptors() == before


def test_device(pair, files):
    host, reader, writer = pair
    assert reader.describe() == {}, "no plugin has more to say of a file"
    info = reader.info
    assert info.kind == xcopy.Kind.FILE and info.size == 1 << 20
    assert info.open_flags & xcopy.Open.READ
    assert reader.events() == xcopy.Event(0)
    with open(files[0], "ab") as file:
        file.write(bytes(512))
    reader.invalidate()
    assert reader.info.size == (1 << 20) + 512
    with open(files[0], "r+b") as file:
        file.truncate(1 << 20)


def test_close_in_flight_is_pending(slow_pair, slow):
    host, reader, writer = slow_pair
    with host.queue(depth=1, chunk=4096) as queue:
        with open(slow["dst"], "r+b") as file:
            device = host.open(file, xcopy.Open.WRITE)
        ticket = queue.submit(slow_request(reader, device))
        assert device.close() is False
        assert not device.released
        ticket.cancel()
        ticket.wait(10)
        deadline = time.monotonic() + 10
        while not device.released and time.monotonic() < deadline:
            time.sleep(0.01)
        assert device.released


def test_methods_of_a_pair(context, files):
    with context.open(files[0]) as reader, context.open(files[1], xcopy.Open.WRITE) as writer:
        methods = context.methods(reader, writer)
    by_name = {method.name: method for method in methods}
    assert by_name["read_write"].usable and not by_name["read_write"].offloaded
    assert by_name["read_write"].plugin == "core"
    for method in methods:
        assert method.usable or method.text


def test_log_is_called_and_may_fail(files, monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    lines = []

    def log(level, message):
        lines.append((level, message))
        raise LookupError

    with xcopy.Context(plugins=False, log=log, log_level=xcopy.LogLevel.DEBUG) as made:
        gc.collect()
        xcopy.copy(*files, context=made)
    for level, message in lines:
        assert level in set(xcopy.LogLevel) and message
    assert len(ignored) == len(lines)
    assert all(item.exc_type is LookupError for item in ignored)


def test_context_methods(files):
    with xcopy.Context(methods="read_write") as made:
        result = xcopy.copy(*files, context=made)
    assert {share.name for share in result.methods} <= {"read_write", "zero"}


def test_context_close_settles(slow):
    start = time.monotonic()
    with pytest.raises(LookupError), xcopy.Context(plugins=False) as made:
        queue = made.queue(depth=1, chunk=4096)
        reader = made.open(slow["src"])
        writer = made.open(open(slow["dst"], "w+b"), xcopy.Open.WRITE)
        ticket = queue.submit(slow_request(reader, writer))
        raise LookupError
    assert not made.alive and queue.closed and ticket.done
    assert reader.close() and writer.released is True
    assert time.monotonic() - start < 5


def test_token_objects(host):
    with host.token() as token:
        assert not token.info.filled
    with pytest.raises(xcopy.XcopyError):
        token.info


def test_request_sizes_are_what_c_reads():
    assert ctypes.sizeof(xcopy.RequestRecord) == ctypes.sizeof(xcopy.CompletionRecord) == 64
