"""Batches through buffers, on the null plugin."""

import array
import ctypes
import errno
import random
import sys
from collections import Counter

import pytest

import xcopy


def records(count, pairs, first=0):
    made = (xcopy.RequestRecord * count)()
    for index in range(count):
        src, dst = pairs[index % len(pairs)]
        record = made[index]
        record.user_data = first + index
        record.op = xcopy.Op.COPY
        record.src = src.handle
        record.dst = dst.handle
        record.length = 4096
    return made


@pytest.fixture
def pairs(null):
    made = [
        (
            null.open(f"null:1G,id={100 + i}", xcopy.Open.READ),
            null.open(f"null:1G,id={200 + i}", xcopy.Open.WRITE),
        )
        for i in range(16)
    ]
    with null.queue() as queue:
        for src, dst in made:
            queue.prepare(src, dst).wait(10).raise_for_error()
    yield made
    for src, dst in made:
        src.close()
        dst.close()


def test_exactly_once(null, pairs):
    total, batch = 100_000, 64
    seen = Counter()
    completions = (xcopy.CompletionRecord * batch)()
    random.seed(7)
    with null.queue(capacity=256) as queue:
        sent = 0
        while sent < total or queue.in_flight:
            if sent < total:
                random.shuffle(pairs)
                count = min(batch, total - sent)
                buffer = records(count, pairs, sent)
                accepted = queue.submit_batch(buffer)
                sent += accepted
            for index in range(queue.poll_into(completions)):
                record = completions[index]
                assert record.res == 0 and record.bytes_done == record.bytes_copied == 4096
                assert record.method == xcopy.Method.NULL
                seen[record.user_data] += 1
        stats = queue.stats
    assert len(seen) == total and set(seen.values()) == {1}
    assert stats.requests == stats.completions == total


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
def test_buffers_of_every_kind(null, pairs, kind):
    buffer = kind(bytes(records(8, pairs)))
    room = bytearray(8 * 64)
    with null.queue() as queue:
        assert queue.submit_batch(buffer) == 8
        assert queue.poll_into(room, min=8, timeout=10) == 8
    found = (xcopy.CompletionRecord * 8).from_buffer(room)
    assert sorted(record.user_data for record in found) == list(range(8))


def test_slices_and_strides(null, pairs):
    wide = bytearray()
    for record in records(6, pairs):
        wide += bytes(record) + bytes(16)
    room = bytearray(b"\xff" * (6 * 96))
    with null.queue() as queue:
        assert queue.submit_batch(wide, 1, 4, stride=80) == 4
        assert queue.poll_into(room, min=4, max=5, timeout=10, stride=96) == 4
    seen = []
    for index in range(4):
        piece = room[index * 96 : index * 96 + 96]
        seen.append(int.from_bytes(piece[:8], sys.byteorder))
        assert piece[64:] == bytes(32)
    assert sorted(seen) == [1, 2, 3, 4]
    assert room[4 * 96 :] == b"\xff" * (2 * 96)


def test_a_full_queue_accepts_a_part_and_then_none(null, pairs):
    buffer = records(16, pairs)
    room = bytearray(16 * 64)
    with null.queue(capacity=8) as queue:
        accepted = queue.submit_batch(buffer)
        assert 0 < accepted <= 8
        while accepted < 8:
            accepted += queue.submit_batch(buffer, accepted, 8 - accepted)
        assert queue.submit_batch(buffer, 8) == 0
        assert queue.poll_into(room, min=8, timeout=10) == 8
        assert queue.submit_batch(buffer, 8) == 8
        assert queue.poll_into(room, min=8, timeout=10) == 8


def test_the_first_bad_record_ends_a_batch(null, pairs):
    buffer = records(4, pairs)
    buffer[2].flags = 1 << 30
    room = bytearray(4 * 64)
    with null.queue() as queue:
        assert queue.submit_batch(buffer) == 2
        with pytest.raises(xcopy.SubmitError) as caught:
            queue.submit_batch(buffer, 2)
        assert caught.value.errno == errno.EINVAL and caught.value.strerror
        assert queue.poll_into(room, min=4, timeout=10) == 2


def test_tickets_and_batches_mix(null, pairs):
    src, dst = pairs[0]
    room = (xcopy.CompletionRecord * 8)()
    with null.queue() as queue:
        ticket = queue.submit(
            xcopy.Request(src=src, dst=dst, ranges=[(0, 0, 4096), (8192, 4096, 4096)])
        )
        queue.submit_batch(records(3, pairs, 10))
        taken = 0
        while taken < 4:
            taken += queue.poll_into(room, min=1, timeout=10)
        assert ticket.done and ticket._packed is None and queue.in_flight == 0

        queue.submit_batch(records(3, pairs, 20))
        ticket = queue.submit(xcopy.Request(src=src, dst=dst, length=4096))
        assert ticket.wait(10).ok
        while queue.ready() < 3:
            pass
        assert queue.poll_into(room, min=3, timeout=10) == 3
        assert sorted(record.user_data for record in room[:3]) == [20, 21, 22]

        queue.submit_batch(records(3, pairs, 30))
        assert sorted(c.user_data for c in queue.poll(min=3, timeout=10)) == [30, 31, 32]


def test_waiting_for_nothing_returns(null, pairs):
    with null.queue() as queue:
        assert queue.poll_into(bytearray(64), min=1, timeout=None) == 0
        assert queue.poll(min=1, timeout=None) == []
        assert queue.submit_batch(b"") == 0


def calls_of(function):
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_no_python_work_per_operation(null, pairs):
    """The calls that a batch makes do not depend on its size."""
    counts = set()
    with null.queue(capacity=512) as queue:
        for size in (8, 256):
            buffer = records(size, pairs)
            room = (xcopy.CompletionRecord * size)()

            def once(buffer=buffer, room=room, size=size):
                assert queue.submit_batch(buffer) == size
                assert queue.poll_into(room, size, timeout=10) == size

            once()
            counts.add(calls_of(once))
    assert len(counts) == 1


def test_addresses_in_records_are_plain_numbers():
    record = xcopy.RequestRecord()
    ext = xcopy.ExtRecord(size=ctypes.sizeof(xcopy.ExtRecord))
    record.ext = ctypes.addressof(ext)
    assert record.ext == ctypes.addressof(ext)
