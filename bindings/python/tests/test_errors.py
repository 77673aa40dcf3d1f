"""Exceptions: their classes, what they carry, and their way to another process."""

import errno
import pickle

import pytest

import xcopy


@pytest.mark.parametrize(
    "number, builtin",
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EACCES, PermissionError),
        (errno.EAGAIN, BlockingIOError),
        (errno.ETIMEDOUT, TimeoutError),
        (errno.ECHILD, ChildProcessError),
        (errno.EIO, OSError),
    ],
)
@pytest.mark.parametrize("kind", [xcopy.XcopyError, xcopy.SubmitError])
def test_class_by_number(kind, number, builtin):
    error = kind(number, "what to do next", bytes_done=7)
    assert isinstance(error, kind) and isinstance(error, builtin)
    assert type(error).__name__ == kind.__name__
    assert (error.errno, error.strerror, error.bytes_done) == (number, "what to do next", 7)
    assert type(error) is type(kind(number, "again"))


def test_pickled(host, files):
    src, dst = files
    with pytest.raises(xcopy.XcopyError) as caught:
        xcopy.copy(src, dst, methods="nvme_copy", no_fallback=True, context=host)
    assert caught.value.completion is not None
    there = pickle.loads(pickle.dumps(caught.value))
    assert type(there) is type(caught.value)
    assert str(there) == str(caught.value)
    assert there.reason == caught.value.reason != xcopy.Reason.NONE
    assert there.completion is None
    refused = xcopy.SubmitError(errno.EAGAIN, "full", accepted=3)
    there = pickle.loads(pickle.dumps(refused))
    assert isinstance(there, BlockingIOError) and there.accepted == 3 and there.tickets == []


def test_a_missing_file(host, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        host.open(tmp_path / "missing")
    assert isinstance(caught.value, xcopy.XcopyError)


def test_detail_and_reason(host):
    record = xcopy.CompletionRecord(
        user_data=1,
        res=-errno.EREMOTEIO,
        flags=xcopy.Cpl.INDETERMINATE | xcopy.Cpl.ERR_ON_WRITE,
        bytes_done=4096,
        detail=xcopy.Domain.ERRNO << 60 | errno.ENOSPC,
        reason=xcopy.Reason.FAILED,
    )
    error = xcopy.Completion(record, None, host.pointer).error
    assert error.errno == errno.EREMOTEIO and error.bytes_done == 4096
    assert error.reason == xcopy.Reason.FAILED
    assert "No space left" in error.detail and error.detail in error.strerror
    assert "not known" in error.strerror
    assert error.completion.flags & xcopy.Cpl.ERR_ON_WRITE
