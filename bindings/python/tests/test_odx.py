"""Tokens of a copy manager in memory: named by one context, written by another."""

import ctypes
import os
from errno import EINVAL, ESTALE

import pytest

import xcopy
from conftest import stamped
from xcopy import Cpl, Op, Open, Request, Shows

SIZE = 20 << 20


class Array:
    """Two disks of a copy manager; the library is test equipment."""

    def __init__(self, library, personality):
        library.copy_manager_new.restype = ctypes.c_void_p
        library.copy_manager_connect.restype = ctypes.c_void_p
        library.copy_manager_add_disk.restype = ctypes.c_size_t
        library.copy_manager_live_tokens.restype = ctypes.c_size_t
        self._library = library
        self._target = ctypes.c_void_p(library.copy_manager_new(personality.encode()))
        assert self._target
        self.units = [self._disk(1), self._disk(2)]

    def _disk(self, disk):
        unit = self._library.copy_manager_add_disk(self._target, 512, ctypes.c_uint64(SIZE))
        self._library.copy_manager_poke(
            self._target, unit, ctypes.c_uint64(0), stamped(disk, SIZE), ctypes.c_size_t(SIZE)
        )
        return unit

    def open(self, context, name, which, flags):
        unit = ctypes.c_size_t(self.units[which])
        native = self._library.copy_manager_connect(self._target, name.encode(), unit)
        return context.open_native("odx", native, flags)

    def content(self, which):
        buffer = ctypes.create_string_buffer(SIZE)
        unit = ctypes.c_size_t(self.units[which])
        self._library.copy_manager_peek(
            self._target, unit, ctypes.c_uint64(0), buffer, ctypes.c_size_t(SIZE)
        )
        return buffer.raw

    @property
    def live_tokens(self):
        return self._library.copy_manager_live_tokens(self._target)

    def expire(self):
        assert self._library.copy_manager_end_tokens(self._target, 7) == 0

    def free(self):
        self._library.copy_manager_free(self._target)


@pytest.fixture(params=["ctl", "array"])
def array(request):
    path = os.environ.get("COPY_MANAGER_LIBRARY")
    if not path:
        pytest.skip("no copy manager: COPY_MANAGER_LIBRARY names libcopy_manager_library.so")
    made = Array(ctypes.CDLL(path), request.param)
    made.name = request.param
    yield made
    made.free()


def test_one_names_the_data_and_another_writes_it(array):
    with xcopy.Context() as one, xcopy.Context() as two:
        src = array.open(one, "one", 0, Open.READ | Open.WRITE)
        dst = array.open(two, "two", 1, Open.READ | Open.WRITE)
        with src, dst, one.queue() as source, two.queue() as sink, one.token() as token:
            create = Request(op=Op.TOKEN_CREATE, src=src, dst=token, length=SIZE)
            source.submit(create).wait(30).raise_for_error()
            info = token.info
            assert info.method == "odx" and info.bytes == SIZE and info.lifetime > 0
            assert info.shows == (Shows.SOURCE if array.name == "ctl" else Shows.PAST)
            exported = token.export()
            with two.token(exported) as again:
                part = Request(
                    op=Op.TOKEN_WRITE, src=again, dst=dst,
                    src_offset=(8 << 20) - 512, dst_offset=4096, length=1024,
                )
                done = sink.submit(part).wait(30).raise_for_error()
                assert done.flags & Cpl.OFFLOADED and done.bytes_done == 1024
                wanted = bytearray(stamped(2, SIZE))
                wanted[4096:5120] = stamped(1, SIZE)[(8 << 20) - 512 : (8 << 20) + 512]
                assert array.content(1) == wanted
                whole = Request(op=Op.TOKEN_WRITE, src=again, dst=dst, length=SIZE)
                assert sink.submit(whole).wait(30).raise_for_error().bytes_offloaded == SIZE
                assert array.content(1) == stamped(1, SIZE)
                assert array.live_tokens > 0
                release = Request(op=Op.TOKEN_RELEASE, src=token, dst=src)
                source.submit(release).wait(30).raise_for_error()
                assert array.live_tokens == 0
                dead = sink.submit(part).wait(30)
                assert dead.res == -ESTALE
            exported[200] ^= 1
            with pytest.raises(xcopy.XcopyError) as caught:
                two.token(exported)
            assert caught.value.errno == EINVAL and "damaged" in str(caught.value)


def test_an_expired_token_is_named(array):
    with xcopy.Context() as context:
        src = array.open(context, "one", 0, Open.READ | Open.WRITE)
        with src, context.queue() as queue, context.token() as token:
            create = Request(op=Op.TOKEN_CREATE, src=src, dst=token, length=1 << 20)
            queue.submit(create).wait(30).raise_for_error()
            array.expire()
            write = Request(op=Op.TOKEN_WRITE, src=token, dst=src, dst_offset=2 << 20, length=512)
            done = queue.submit(write).wait(30)
            assert done.res == -ESTALE
            # CTL has one word for all that it does not know.
            assert ("unknown" if array.name == "ctl" else "expired") in xcopy.detail_text(done.detail)
            assert array.content(0) == stamped(1, SIZE)
