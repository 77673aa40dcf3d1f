"""Bad input is a clear error and changes nothing."""

import ctypes
import errno

import pytest
from conftest import stamped

import xcopy
from xcopy import _abi
from xcopy._library import last_error, lib

SIZE = 2 << 20


@pytest.fixture
def world(host, files):
    src, dst = files
    with host.open(src) as reader, host.open(dst, xcopy.Open.WRITE) as writer:
        with host.queue(capacity=8) as queue:
            yield host, queue, reader, writer
            assert queue.in_flight == 0
            assert queue.stats.requests == 0
    assert dst.read_bytes() == stamped(2, SIZE)
    assert src.read_bytes() == stamped(1, 1 << 20)


def stale(world):
    host, _, _, _ = world
    device = host.open(__file__)
    number = device.handle
    device.close()
    return number


REQUESTS = {
    "no source": (lambda w: {"src": 0}, {errno.EBADF, errno.EINVAL}),
    "no destination": (lambda w: {"dst": 0}, {errno.EBADF, errno.EINVAL}),
    "stale source": (lambda w: {"src": stale(w)}, {errno.EBADF}),
    "stale destination": (lambda w: {"dst": stale(w)}, {errno.EBADF}),
    "foreign handle": (lambda w: {"src": 0xDEADBEEF}, {errno.EBADF}),
    "token as a device": (lambda w: {"src": w[0].token()}, {errno.EBADF, errno.EINVAL}),
    "zero length": (lambda w: {"length": 0}, {errno.EINVAL}),
    "source overflow": (lambda w: {"src_offset": (1 << 64) - 1}, {errno.EINVAL}),
    "destination overflow": (lambda w: {"dst_offset": (1 << 64) - 1}, {errno.EINVAL}),
    "length overflow": (lambda w: {"length": (1 << 64) - 1, "src_offset": 2}, {errno.EINVAL}),
    "beyond the source": (lambda w: {"src_offset": 1 << 20}, {errno.EINVAL}),
    "unknown flag": (lambda w: {"flags": 1 << 20}, {errno.EINVAL}),
    "highest flag": (lambda w: {"flags": 1 << 31}, {errno.EINVAL}),
    "no operation": (lambda w: {"op": 0}, {errno.EINVAL}),
    "unknown operation": (lambda w: {"op": 99}, {errno.EINVAL}),
    "destination is read-only": (lambda w: {"dst": w[2]}, {errno.EROFS, errno.EBADF, errno.EACCES}),
    "source is write-only": (lambda w: {"src": w[3]}, {errno.EBADF, errno.EACCES}),
    "no ranges": (lambda w: {"ranges": [], "length": 0}, {errno.EINVAL}),
    "length and ranges": (lambda w: {"ranges": [(0, 0, 512)]}, {errno.EINVAL}),
    "empty range": (
        lambda w: {"ranges": [(0, 0, 512), (512, 512, 0)], "length": 0},
        {errno.EINVAL},
    ),
    "range overflow": (
        lambda w: {"ranges": [((1 << 64) - 512, 0, 1024)], "length": 0},
        {errno.EINVAL},
    ),
    "overlapping destination ranges": (
        lambda w: {"ranges": [(0, 0, 1024), (4096, 512, 1024)], "length": 0},
        {errno.EINVAL},
    ),
    "flush with a length": (lambda w: {"op": xcopy.Op.FLUSH, "src": 0}, {errno.EINVAL}),
    # ctypes would cut these silently.
    "negative length": (lambda w: {"length": -1}, {errno.EINVAL}),
    "negative offset": (lambda w: {"dst_offset": -512}, {errno.EINVAL}),
    "offset of 65 bits": (lambda w: {"dst_offset": 1 << 64}, {errno.EINVAL}),
    "negative range": (lambda w: {"ranges": [(0, -1, 512)], "length": 0}, {errno.EINVAL}),
    "flags of 33 bits": (lambda w: {"flags": 1 << 32}, {errno.EINVAL}),
    "operation of 17 bits": (lambda w: {"op": 1 << 16 | 1}, {errno.EINVAL}),
    "mask of 33 bits": (lambda w: {"methods": 1 << 32}, {errno.EINVAL}),
    "handle of 33 bits": (lambda w: {"dst": 1 << 32}, {errno.EINVAL, errno.EBADF}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_request(world, name):
    _, queue, reader, writer = world
    make, allowed = REQUESTS[name]
    fields = {"src": reader, "dst": writer, "length": 4096, **make(world)}
    with pytest.raises(xcopy.SubmitError) as caught:
        queue.submit(xcopy.Request(**fields))
    assert caught.value.errno in allowed
    assert caught.value.strerror
    assert caught.value.accepted == 0 and caught.value.tickets == []
    assert queue.in_flight == 0


def record(world, **fields):
    _, _, reader, writer = world
    values = {"op": 1, "src": reader.handle, "dst": writer.handle, "length": 4096, **fields}
    return _abi.xcopy_request(**values)


RECORDS = {
    "reserved": lambda: {"reserved": 1},
    "short extension": lambda: {"ext": _abi.xcopy_ext(size=8)},
    "reserved of the extension": lambda: {"ext": _abi.xcopy_ext(size=40, reserved=1)},
}


@pytest.mark.parametrize("name", RECORDS)
def test_record(world, name):
    fields = RECORDS[name]()
    keep = fields.get("ext")
    if keep is not None:
        fields["ext"] = ctypes.addressof(keep)
    with pytest.raises(xcopy.SubmitError) as caught:
        world[1].submit_batch(record(world, **fields))
    assert caught.value.errno == errno.EINVAL
    assert caught.value.strerror


def test_too_many_ranges(world):
    one = _abi.xcopy_range(0, 0, 512)
    ext = _abi.xcopy_ext(size=40, ranges=ctypes.addressof(one), nranges=1 << 60)
    with pytest.raises(xcopy.SubmitError) as caught:
        world[1].submit_batch(record(world, length=0, ext=ctypes.addressof(ext)))
    assert caught.value.errno in (errno.EINVAL, errno.E2BIG)


def test_a_longer_record_with_something_in_its_tail(world):
    longer = bytearray(bytes(record(world)) + b"\0" * 7 + b"\1")
    with pytest.raises(xcopy.SubmitError) as caught:
        world[1].submit_batch(longer, stride=72)
    assert caught.value.errno == errno.E2BIG


@pytest.mark.parametrize(
    "buffer, more",
    [
        (bytearray(63), {}),
        (bytearray(65), {}),
        (bytearray(64), {"stride": 32}),
        (bytearray(64), {"start": 1, "count": 1}),
        (bytearray(64), {"start": -1}),
        (bytearray(64), {"count": 2}),
        (memoryview(bytearray(256))[::2], {}),
        (memoryview(bytearray(72))[1:65], {}),
        (bytearray(66), {"stride": 66}),
    ],
)
def test_buffer(world, buffer, more):
    with pytest.raises(xcopy.SubmitError) as caught:
        world[1].submit_batch(buffer, **more)
    assert caught.value.errno == errno.EINVAL


def test_completion_buffer(world):
    for buffer in (bytes(64), bytearray(63)):
        with pytest.raises(xcopy.XcopyError) as caught:
            world[1].poll_into(buffer)
        assert caught.value.errno == errno.EINVAL


def test_null_pointers(world):
    host, queue, _, _ = world
    one = record(world)
    room = _abi.xcopy_completion()
    refused = [
        lib.xcopy_submit(None, ctypes.byref(one), 64, 1),
        lib.xcopy_submit(queue._pointer, None, 64, 1),
        lib.xcopy_submit(queue._pointer, ctypes.byref(one), 8, 1),
        lib.xcopy_poll(None, ctypes.byref(room), 64, 0, 1, 0),
        lib.xcopy_poll(queue._pointer, None, 64, 0, 1, 0),
        lib.xcopy_queue_fd(None),
        lib.xcopy_cancel(None, 0),
        lib.xcopy_device_open(None, b"/dev/null", 1, None),
        lib.xcopy_device_open(host.pointer, None, 1, ctypes.byref(ctypes.c_uint32())),
        lib.xcopy_device_open(host.pointer, __file__.encode(), 1, None),
        lib.xcopy_device_info(host.pointer, 0, None, 0),
        lib.xcopy_device_describe(host.pointer, 0, None, 0),
        lib.xcopy_plugin_load(host.pointer, None),
        lib.xcopy_context_create(None, None),
        lib.xcopy_queue_create(host.pointer, None, None),
    ]
    assert all(code < 0 for code in refused), refused
    assert last_error()
    # Like free(NULL).
    assert lib.xcopy_queue_destroy(None, 0) == lib.xcopy_context_free(None) == 0


def test_no_such_user_data(world):
    _, queue, reader, _ = world
    assert queue.cancel(12345) == 0
    assert queue.cancel(reader) == 0
    assert queue.progress(12345) is None


def test_a_list_stops_at_the_first_refusal(host, files):
    src, dst = files
    with host.open(src) as reader, host.open(dst, xcopy.Open.WRITE) as writer:
        with host.queue() as queue:
            good = xcopy.Request(src=reader, dst=writer, length=4096, user_data="good")
            bad = xcopy.Request(src=reader, dst=writer, length=0)
            with pytest.raises(xcopy.SubmitError) as caught:
                queue.submit([good, bad, good])
            assert caught.value.errno == errno.EINVAL
            assert caught.value.accepted == 1
            assert caught.value.tickets[0].wait(10).raise_for_error().user_data == "good"
            assert queue.in_flight == 0


@pytest.mark.parametrize("flags", [0, 1 << 9, 1 << 31, 1 << 32, -1])
def test_open_flags(host, flags):
    with pytest.raises(xcopy.XcopyError) as caught:
        host.open(__file__, flags)
    assert caught.value.errno == errno.EINVAL


def test_open(host, tmp_path):
    for target, expected in (
        (tmp_path / "none", errno.ENOENT),
        (9999, errno.EBADF),
        (-1, errno.EBADF),
        ("a\0b", errno.EINVAL),
    ):
        with pytest.raises(xcopy.XcopyError) as caught:
            host.open(target)
        assert caught.value.errno == expected
        assert caught.value.strerror


def test_open_native_without_the_plugin(host):
    with pytest.raises(xcopy.XcopyError) as caught:
        host.open_native("no_such_plugin", 0)
    assert caught.value.errno in (errno.ENOENT, errno.EINVAL, errno.ENODEV)


def test_plugin_that_is_not_there(host):
    with pytest.raises(xcopy.XcopyError) as caught:
        host.load_plugin("no_such_plugin")
    assert "no_such_plugin" in caught.value.strerror


def test_closed_objects(host, files):
    device = host.open(files[0])
    device.close()
    device.close()
    token = host.token()
    token.free()
    token.free()
    queue = host.queue()
    queue.close()
    queue.close()
    closed = xcopy.Context(plugins=False)
    closed.close()
    closed.close()
    for use in (
        lambda: device.info,
        lambda: device.events(),
        lambda: token.info,
        lambda: queue.poll(),
        lambda: queue.submit(xcopy.Request(op=xcopy.Op.FLUSH, dst=1)),
        lambda: queue.submit_batch(bytearray(64)),
        lambda: queue.fileno(),
        lambda: queue.stats,
        lambda: queue.in_flight,
        lambda: closed.queue(),
        lambda: closed.open(__file__),
        lambda: closed.plugins,
    ):
        with pytest.raises(xcopy.XcopyError) as caught:
            use()
        assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("capacity", [0, 65537, 1 << 32, -1])
def test_queue_capacity(host, capacity):
    with pytest.raises(xcopy.XcopyError) as caught:
        host.queue(capacity=capacity)
    assert caught.value.errno == errno.EINVAL


def test_context_options():
    for more in ({"pool_threads": -1}, {"memory_budget": 1 << 64}, {"methods": "nothing"}):
        with pytest.raises(xcopy.XcopyError) as caught:
            xcopy.Context(plugins=False, **more)
        assert caught.value.errno == errno.EINVAL


def test_no_method_is_not_any(host):
    with pytest.raises(xcopy.XcopyError) as caught:
        host.method_mask([])
    assert caught.value.errno == errno.EINVAL
    assert host.method_mask(None) == 0
    assert host.method_mask("reflink,read_write") == 1 << 1 | 1 << 7


def test_damaged_token(host):
    with pytest.raises(xcopy.XcopyError) as caught:
        host.token(b"no token at all")
    assert caught.value.errno in (errno.EINVAL, errno.ESTALE)
