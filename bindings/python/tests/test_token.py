"""Tokens, on the null plugin."""

import pytest

import xcopy
from xcopy import Op, Request

SIZE = 1 << 20


def test_a_token_s_life(null_pair):
    null, src, dst = null_pair
    with null.queue() as queue, null.token() as token:
        create = Request(op=Op.TOKEN_CREATE, src=src, dst=token, length=SIZE, token_lifetime=60)
        queue.submit(create).wait(10).raise_for_error()
        info = token.info
        assert info.filled and info.bytes == SIZE and info.plugin == "null"
        assert info.created > 1_600_000_000 and info.origin.endswith(":1G,id=1")
        assert info.shows == xcopy.Shows.UNKNOWN
        exported = token.export()
        assert isinstance(exported, bytearray) and len(exported) == info.export_bytes
        with null.token(exported) as again:
            assert again.info.bytes == SIZE
            write = Request(op=Op.TOKEN_WRITE, src=again, dst=dst, length=SIZE)
            assert queue.submit(write).wait(10).raise_for_error().bytes_done == SIZE
            beyond = Request(op=Op.TOKEN_WRITE, src=again, dst=dst, length=SIZE + 4096)
            with pytest.raises(xcopy.SubmitError):
                queue.submit(beyond)
        release = Request(op=Op.TOKEN_RELEASE, src=token, dst=src)
        queue.submit(release).wait(10).raise_for_error()


def test_an_empty_token_cannot_be_written(null_pair):
    null, _, dst = null_pair
    with null.queue() as queue, null.token() as token:
        with pytest.raises(xcopy.SubmitError) as caught:
            queue.submit(Request(op=Op.TOKEN_WRITE, src=token, dst=dst, length=SIZE))
        assert caught.value.strerror
        assert queue.in_flight == 0
