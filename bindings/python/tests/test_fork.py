"""A forked child meets ECHILD, and copies with a context of its own."""

import errno
import os
import traceback
import warnings

from conftest import stamped

import xcopy


def in_child(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_every_call_says_so(host, files):
    src, dst = files
    reader = host.open(src)
    writer = host.open(dst, xcopy.Open.WRITE)
    with reader, writer, host.queue() as queue:
        request = xcopy.Request(src=reader, dst=writer, length=4096)
        queue.submit(request).wait(10).raise_for_error()

        def check():
            for use in (
                lambda: host.open(src),
                lambda: host.plugins,
                lambda: host.load_plugins(),
                lambda: host.queue(),
                lambda: host.token(),
                lambda: host.methods(reader, writer),
                lambda: reader.info,
                lambda: reader.events(),
                lambda: reader.invalidate(),
                lambda: queue.submit(request),
                lambda: queue.submit_batch(bytes(64)),
                lambda: queue.poll(),
                lambda: queue.poll_into(bytearray(64)),
                lambda: queue.arm(),
                lambda: queue.ready(),
                lambda: queue.in_flight,
                lambda: queue.drain(),
                lambda: queue.resume(),
                lambda: queue.stats,
                lambda: queue.cancel(1),
                lambda: queue.progress(1),
                lambda: queue.fileno(),
            ):
                try:
                    use()
                except xcopy.XcopyError as error:
                    assert error.errno == errno.ECHILD, (error, use)
                else:
                    raise AssertionError("a call in the child went through")

        in_child(check)
        # The parent's objects are as they were.
        queue.submit(request).wait(10).raise_for_error()


def test_a_child_copies_with_its_own_context(files, tmp_path):
    xcopy.copy(files[0], tmp_path / "parent")

    def check():
        assert xcopy.copy(files[0], tmp_path / "child").bytes == 1 << 20

    in_child(check)
    assert (tmp_path / "child").read_bytes() == stamped(1, 1 << 20)
    xcopy.copy(files[0], tmp_path / "after")
