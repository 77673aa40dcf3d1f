"""copy() and copying() on files."""

import asyncio
import errno
import gc
import os
import signal
import threading
import time

import pytest
from conftest import open_descriptors, stamped

import xcopy


def test_new_file(files, tmp_path):
    src, _ = files
    result = xcopy.copy(src, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == stamped(1, 1 << 20)
    assert result.bytes == 1 << 20
    assert sum(share.bytes for share in result.methods) == 1 << 20
    assert result.seconds > 0
    assert result.offloaded == (result.bytes_offloaded == result.bytes)


def test_a_replaced_file_gets_the_source_s_size(files):
    src, dst = files
    xcopy.copy(src, dst)
    assert dst.read_bytes() == stamped(1, 1 << 20)


def test_a_replaced_file_grows(files):
    src, dst = files
    xcopy.copy(dst, src)
    assert src.read_bytes() == stamped(2, 2 << 20)


def test_a_piece_touches_nothing_else(files):
    src, dst = files
    xcopy.copy(src, dst, src_offset=8192, dst_offset=65536, length=12288)
    want = bytearray(stamped(2, 2 << 20))
    want[65536 : 65536 + 12288] = stamped(1, 1 << 20)[8192 : 8192 + 12288]
    assert dst.read_bytes() == want


def test_an_odd_piece_touches_nothing_else(files):
    src, dst = files
    xcopy.copy(src, dst, src_offset=777, dst_offset=70001, length=100003)
    want = bytearray(stamped(2, 2 << 20))
    want[70001 : 70001 + 100003] = stamped(1, 1 << 20)[777 : 777 + 100003]
    assert dst.read_bytes() == want


def test_rest_of_the_source(files, tmp_path):
    src, _ = files
    xcopy.copy(src, tmp_path / "rest", src_offset=1 << 19)
    assert (tmp_path / "rest").read_bytes() == stamped(1, 1 << 20)[1 << 19 :]


def test_into_a_directory(files, tmp_path):
    src, _ = files
    (tmp_path / "dir").mkdir()
    xcopy.copy(str(src), tmp_path / "dir")
    assert (tmp_path / "dir" / "src").read_bytes() == stamped(1, 1 << 20)


def test_an_empty_source(tmp_path, files):
    (tmp_path / "empty").touch()
    result = xcopy.copy(tmp_path / "empty", files[1])
    assert result.bytes == 0 and result.methods == []
    assert files[1].read_bytes() == b""


def test_holes_stay(tmp_path):
    src = tmp_path / "holes"
    with open(src, "wb") as file:
        file.write(stamped(1, 65536))
        file.seek(8 << 20)
        file.write(stamped(3, 65536))
        file.truncate(16 << 20)
    xcopy.copy(src, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == src.read_bytes()


def test_file_objects_and_descriptors(files):
    src, dst = files
    with open(src, "r+b") as reader, open(dst, "r+b") as writer:
        reader.seek(0)
        reader.write(b"fresh")  # still in the object's buffer
        xcopy.copy(reader, writer, length=4096)
        fd = os.open(src, os.O_RDONLY)
        try:
            xcopy.copy(fd, writer.fileno(), src_offset=4096, dst_offset=4096, length=4096)
        finally:
            os.close(fd)
    want = bytearray(stamped(2, 2 << 20))
    want[:8192] = stamped(1, 8192)
    want[:5] = b"fresh"
    assert dst.read_bytes() == want


def test_devices(host, files):
    src, dst = files
    with host.open(src) as reader, host.open(dst, xcopy.Open.WRITE) as writer:
        result = xcopy.copy(reader, writer, length=1 << 20)
    assert [share.name for share in result.methods] == ["read_write"]
    assert dst.read_bytes()[: 1 << 20] == stamped(1, 1 << 20)
    assert dst.stat().st_size == 2 << 20


@pytest.mark.parametrize("methods", ["read_write", ["read_write"], xcopy.Method.READ_WRITE, 1 << 7])
def test_one_method(files, methods):
    src, dst = files
    result = xcopy.copy(src, dst, methods=methods)
    assert {share.method for share in result.methods} <= {7, 8}
    assert result.bytes_offloaded == sum(s.bytes for s in result.methods if s.offloaded)
    assert dst.read_bytes() == stamped(1, 1 << 20)


def test_unknown_method_creates_nothing(files, tmp_path):
    with pytest.raises(xcopy.XcopyError) as caught:
        xcopy.copy(files[0], tmp_path / "new", methods="no_such_method")
    assert caught.value.errno == errno.EINVAL
    assert "no_such_method" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_durable(files, tmp_path):
    xcopy.copy(files[0], tmp_path / "new", durable=True)
    assert (tmp_path / "new").read_bytes() == stamped(1, 1 << 20)


def test_no_fallback_is_refused_or_offloaded(host, files):
    src, dst = files
    before = dst.read_bytes()
    with pytest.raises(xcopy.XcopyError) as caught:
        xcopy.copy(src, dst, no_fallback=True, context=host)
    assert caught.value.errno == errno.ENOTSUP
    assert caught.value.bytes_done == 0
    assert dst.read_bytes() == before


def test_missing_source_creates_nothing(tmp_path):
    with pytest.raises(xcopy.XcopyError) as caught:
        xcopy.copy(tmp_path / "none", tmp_path / "new")
    assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "new").exists()


def test_beyond_the_source_creates_nothing(files, tmp_path):
    for more in ({"src_offset": (1 << 20) + 1}, {"src_offset": 0, "length": 0}):
        with pytest.raises(xcopy.SubmitError) as caught:
            xcopy.copy(files[0], tmp_path / "new", **more)
        assert caught.value.errno == errno.EINVAL
        assert not (tmp_path / "new").exists()


def test_same_file(files):
    with pytest.raises(xcopy.SubmitError) as caught:
        xcopy.copy(files[0], files[0])
    assert caught.value.errno == errno.EINVAL
    assert files[0].read_bytes() == stamped(1, 1 << 20)


def test_progress_ends_at_the_total(files, tmp_path):
    seen = []
    xcopy.copy(files[0], tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1 << 20, 1 << 20)
    assert seen == sorted(seen)


def test_progress_on_the_way(slow):
    seen = []

    def look(done, total):
        seen.append((done, total))
        if len(seen) == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError):
        xcopy.copy(**slow, progress=look)
    assert [total for _, total in seen] == [512 << 20] * 3
    assert 0 < seen[-1][0] < 512 << 20


def test_an_exception_in_progress_settles(slow):
    before = open_descriptors()

    def fail(done, total):
        raise LookupError

    with pytest.raises(LookupError):
        xcopy.copy(**slow, progress=fail)
    size = slow["dst"].stat().st_blocks
    time.sleep(0.2)
    assert slow["dst"].stat().st_blocks == size
    # The default context may have been made here; it holds no more than a few.
    assert open_descriptors() <= before + 4


def test_timeout(slow):
    start = time.monotonic()
    with pytest.raises(xcopy.XcopyError) as caught:
        xcopy.copy(**slow, timeout=0.1)
    assert caught.value.errno == errno.ETIMEDOUT
    assert caught.value.reason in (xcopy.Reason.TIMED_OUT, xcopy.Reason.NONE)
    assert 0 <= caught.value.bytes_done < 512 << 20
    # The library's clock for deadlines is the coarse one: it may be a tick ahead.
    assert 0.09 <= time.monotonic() - start < 5


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), 1e12])
def test_a_timeout_that_is_none(files, timeout):
    with pytest.raises((xcopy.SubmitError)) as caught:
        xcopy.copy(*files, timeout=timeout)
    assert caught.value.errno == errno.EINVAL
    assert files[1].read_bytes() == stamped(2, 2 << 20)


def test_watch_and_cancel(slow):
    with pytest.raises(xcopy.XcopyError) as caught:
        with xcopy.copying(**slow) as c:
            assert c.wait(0.2) is None
            now = c.progress()
            assert now.bytes_total == 512 << 20
            assert 0 < now.bytes_copied < now.bytes_total
            assert c.cancel()
    error = caught.value
    assert error.errno == errno.ECANCELED
    # The prefix that the completion claims is really there.
    assert error.bytes_done <= slow["dst"].stat().st_size
    assert not c.cancel()


def test_cancel_from_another_thread(slow):
    with pytest.raises(xcopy.XcopyError) as caught:
        with xcopy.copying(**slow) as c:
            threading.Timer(0.1, c.cancel).start()
            c.wait()
    assert caught.value.errno == errno.ECANCELED
    assert c.progress().bytes_copied == caught.value.completion.bytes_copied


def test_leaving_the_block_waits(files):
    src, dst = files
    with xcopy.copying(src, dst) as c:
        pass
    assert dst.read_bytes() == stamped(1, 1 << 20)
    assert c.wait().bytes == 1 << 20


def test_a_caught_error_is_raised_once(slow):
    with xcopy.copying(**slow) as c:
        c.cancel()
        with pytest.raises(xcopy.XcopyError):
            c.wait()


def test_keyboard_interrupt_settles(slow):
    threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        xcopy.copy(**slow)
    assert time.monotonic() - start < 5
    blocks = slow["dst"].stat().st_blocks
    time.sleep(0.2)
    assert slow["dst"].stat().st_blocks == blocks


def test_no_descriptor_is_lost(files, host):
    src, dst = files
    xcopy.copy(src, dst, context=host)
    gc.collect()
    before = open_descriptors()
    for _ in range(20):
        xcopy.copy(src, dst, context=host)
        with pytest.raises(xcopy.XcopyError):
            xcopy.copy(src, dst, context=host, methods=1 << 31, no_fallback=True)
    # A thread of the pool may be about to let go of the last ones.
    deadline = time.monotonic() + 5
    while open_descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_descriptors() <= before


@pytest.mark.parametrize(
    "given, wanted",
    [
        ({}, xcopy.Req(0)),
        ({"set_host_behavior": True}, xcopy.Req.SET_HOST_BEHAVIOR),
        ({"fast_only": True}, xcopy.Req.FAST_ONLY),
        (
            {"fast_only": True, "durable": True, "no_fallback": True},
            xcopy.Req.FAST_ONLY | xcopy.Req.DURABLE | xcopy.Req.NO_FALLBACK,
        ),
    ],
)
def test_what_is_allowed_and_wanted_reaches_the_library(null_pair, monkeypatch, given, wanted):
    context, src, dst = null_pair
    seen = []
    submit = xcopy.Queue.submit

    def noted(queue, request):
        seen.append(request.flags)
        return submit(queue, request)

    monkeypatch.setattr(xcopy.Queue, "submit", noted)
    call = {"length": 4096, "context": context, **given}

    def settled(run):
        try:
            run()
        except xcopy.XcopyError as error:
            # The null plugin does not call its copies fast.
            assert error.errno == errno.ENOTSUP and "fast_only" in given

    async def awaited():
        await xcopy.copy_async(src, dst, **call)

    def watched():
        with xcopy.copying(src, dst, **call) as running:
            running.wait()

    settled(lambda: xcopy.copy(src, dst, **call))
    settled(watched)
    settled(lambda: asyncio.run(awaited()))
    assert seen == [wanted] * 3
