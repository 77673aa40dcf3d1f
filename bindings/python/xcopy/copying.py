"""copy(): a whole file or a piece of one, in one call."""

import asyncio
import errno
import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, List, Optional, Type

from ._abi import Kind, Op, Open, Req
from .completion import Completion, Fallback, MethodShare
from .context import Context, Methods, default_context
from .destination import Destination, flush, same_file
from .device import Device
from .errors import SubmitError
from .queue import Queue
from .request import Request
from .ticket import Progress, Ticket

ProgressCallback = Callable[[int, int], Any]

_LOOK_S = 0.1


@dataclass(frozen=True)
class Result:
    """What a copy did: bytes by method, and why better methods were not used."""

    bytes: int
    bytes_offloaded: int
    seconds: float
    methods: List[MethodShare]
    fallbacks: List[Fallback]
    completion: Optional[Completion]

    @property
    def offloaded(self) -> bool:
        """All bytes were moved without passing through the host."""
        return self.bytes_offloaded == self.bytes


class Copy:
    """One copy: a context manager, also an asynchronous one. Made by copying().

    It starts where the block is entered. Leaving the block waits and raises what
    went wrong; an exception inside cancels, settles, and goes on.
    """

    def __init__(
        self,
        src: Any,
        dst: Any,
        *,
        src_offset: int = 0,
        dst_offset: int = 0,
        length: Optional[int] = None,
        methods: Methods = None,
        no_fallback: bool = False,
        durable: bool = False,
        set_host_behavior: bool = False,
        fast_only: bool = False,
        keep_holes: bool = True,
        progress: Optional[ProgressCallback] = None,
        timeout: Optional[float] = None,
        depth: Optional[int] = None,
        chunk: Optional[int] = None,
        context: Optional[Context] = None,
    ) -> None:
        self._src = src
        self._dst = dst
        self._where = (src_offset, dst_offset)
        self._length = length
        self._methods = methods
        wanted = (
            (no_fallback, Req.NO_FALLBACK),
            (durable, Req.DURABLE),
            (set_host_behavior, Req.SET_HOST_BEHAVIOR),
            (fast_only, Req.FAST_ONLY),
        )
        self._flags = sum(int(flag) for given, flag in wanted if given)
        self._durable = durable
        self._keep_holes = keep_holes
        self._callback = progress
        self._timeout = timeout
        self._tuning = (depth, chunk)
        self._context = context
        self._stack = ExitStack()
        self._queue: Optional[Queue] = None
        self._ticket: Optional[Ticket] = None
        self._destination: Optional[Destination] = None
        self._final_size: Optional[int] = None
        self._total = 0
        self._started = 0.0
        self._result: Optional[Result] = None
        self._error: Optional[BaseException] = None

    def _start(self) -> None:
        if self._started:
            raise RuntimeError("a copy runs once; call copying() again")
        self._started = time.monotonic()
        try:
            self._open_and_submit()
        except BaseException:
            self._stack.close()
            raise

    def _open_and_submit(self) -> None:
        context = self._context
        if context is None:
            given = [d.context for d in (self._src, self._dst) if isinstance(d, Device)]
            context = given[0] if given else default_context()
        src_offset, dst_offset = self._where
        mask = context.method_mask(self._methods)
        if isinstance(self._src, Device):
            source = self._src
        else:
            flush(self._src)
            source = self._stack.enter_context(context.open(self._src, Open.READ))
        info = source.info
        length = self._length
        if length is None:
            if info.size is None:
                raise SubmitError(errno.EINVAL, "the size of the source is not known; give length")
            length = info.size - src_offset
            if length < 0:
                raise SubmitError(
                    errno.EINVAL,
                    f"src_offset {src_offset} lies beyond the source's {info.size} bytes",
                )
        replaces = self._length is None and dst_offset == 0 and not isinstance(self._dst, Device)
        if replaces and same_file(self._src, self._dst):
            raise SubmitError(errno.EINVAL, "source and destination are the same file")
        destination = Destination(context, self._src, self._dst, self._stack)
        self._destination = destination
        try:
            self._total = length
            if replaces and destination.fd is not None:
                self._final_size = length
            if length == 0 and self._length is None:
                # An empty source: there is nothing to ask the library for.
                self._finish(None)
                return
            flags = self._flags
            if self._keep_holes and info.kind == Kind.FILE:
                if destination.device.info.kind == Kind.FILE:
                    flags |= Req.KEEP_HOLES
            self._queue = self._stack.enter_context(
                context.queue(depth=self._tuning[0], chunk=self._tuning[1])
            )
            self._ticket = self._queue.submit(
                Request(
                    op=Op.COPY,
                    src=source,
                    dst=destination.device,
                    src_offset=src_offset,
                    dst_offset=dst_offset,
                    length=length,
                    flags=flags,
                    methods=mask,
                    timeout=self._timeout,
                    report=True,
                )
            )
        except BaseException:
            if self._ticket is None and self._result is None:
                destination.undo()
            raise

    def _finish(self, completion: Optional[Completion]) -> Result:
        seconds = time.monotonic() - self._started
        if completion is not None:
            error = completion.error
            if error is not None:
                self._error = error
                raise error
        assert self._destination is not None
        self._destination.finish(self._final_size, self._durable)
        report = completion.report if completion is not None else None
        self._result = Result(
            completion.bytes_copied if completion is not None else 0,
            completion.bytes_offloaded if completion is not None else 0,
            seconds,
            report.shares if report is not None else [],
            report.fallbacks if report is not None else [],
            completion,
        )
        return self._result

    def _ended(self) -> Optional[Result]:
        if self._error is not None:
            raise self._error
        if self._result is None and self._queue is None:
            raise RuntimeError("the copy has not started; use it in a with block")
        return self._result

    def _tell(self) -> None:
        if self._callback is not None:
            now = self.progress()
            self._callback(now.bytes_copied, now.bytes_total)

    def progress(self) -> Progress:
        """How far the copy is. Any thread."""
        ticket = self._ticket
        if ticket is not None and ticket.completion is None:
            now = ticket.progress()
            if now is not None:
                return now
        last = ticket.completion if ticket is not None else None
        if last is None:
            return Progress(self._total, 0, 0, 0, 0)
        return Progress(self._total, last.bytes_copied, last.bytes_offloaded, 0, last.method)

    def cancel(self) -> bool:
        """Asks the copy to end early; False if it has ended. Any thread."""
        if self._ticket is None or self._queue is None or self._queue.closed:
            return False
        return self._ticket.cancel()

    def wait(self, timeout: Optional[float] = None) -> Optional[Result]:
        """The result; None if the copy did not end within `timeout` seconds."""
        ended = self._ended()
        if ended is not None or self._ticket is None:
            return ended
        deadline = None if timeout is None else time.monotonic() + timeout
        completion: Optional[Completion] = None
        while completion is None:
            slice_s = _LOOK_S if self._callback is not None else None
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                slice_s = left if slice_s is None else min(slice_s, left)
            completion = self._ticket.wait(slice_s)
            if completion is None and deadline is not None and time.monotonic() >= deadline:
                return None
            self._tell()
        return self._finish(completion)

    async def wait_async(self) -> Result:
        """The result. Cancelling the await leaves the copy running; leaving the block
        then cancels it."""
        ended = self._ended()
        if ended is not None:
            return ended
        assert self._queue is not None and self._ticket is not None
        waiting = asyncio.ensure_future(self._queue.wait(self._ticket))
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=_LOOK_S if self._callback else None)
                self._tell()
        except BaseException:
            waiting.cancel()
            await asyncio.wait({waiting})
            raise
        return self._finish(waiting.result())

    def __enter__(self) -> "Copy":
        self._start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        with self._stack:
            if error is not None:
                if self._queue is not None:
                    self._queue._abort()
            elif self._error is None:
                self.wait()

    async def __aenter__(self) -> "Copy":
        self._start()
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        with self._stack:
            try:
                if error is None and self._error is None:
                    await self.wait_async()
            except BaseException:
                await self._settle()
                raise
            await self._settle()

    async def _settle(self) -> None:
        ticket, queue = self._ticket, self._queue
        if ticket is None or queue is None:
            return
        try:
            if not ticket.done:
                ticket.cancel()
                await queue.wait(ticket)
        except BaseException:
            # Cancelled a second time: nobody waits for the truth any more.
            queue.close(force=True)
            raise


def copying(
    src: Any,
    dst: Any,
    *,
    src_offset: int = 0,
    dst_offset: int = 0,
    length: Optional[int] = None,
    methods: Methods = None,
    no_fallback: bool = False,
    durable: bool = False,
    set_host_behavior: bool = False,
    fast_only: bool = False,
    keep_holes: bool = True,
    progress: Optional[ProgressCallback] = None,
    timeout: Optional[float] = None,
    depth: Optional[int] = None,
    chunk: Optional[int] = None,
    context: Optional[Context] = None,
) -> Copy:
    """Like copy(), as a context manager that can be watched and cancelled::

    with xcopy.copying(src, dst) as c:
        while c.wait(0.5) is None:
            print(c.progress())
    """
    return Copy(
        src,
        dst,
        src_offset=src_offset,
        dst_offset=dst_offset,
        length=length,
        methods=methods,
        no_fallback=no_fallback,
        durable=durable,
        set_host_behavior=set_host_behavior,
        fast_only=fast_only,
        keep_holes=keep_holes,
        progress=progress,
        timeout=timeout,
        depth=depth,
        chunk=chunk,
        context=context,
    )


def copy(
    src: Any,
    dst: Any,
    *,
    src_offset: int = 0,
    dst_offset: int = 0,
    length: Optional[int] = None,
    methods: Methods = None,
    no_fallback: bool = False,
    durable: bool = False,
    set_host_behavior: bool = False,
    fast_only: bool = False,
    keep_holes: bool = True,
    progress: Optional[ProgressCallback] = None,
    timeout: Optional[float] = None,
    depth: Optional[int] = None,
    chunk: Optional[int] = None,
    context: Optional[Context] = None,
) -> Result:
    """Copies `src` to `dst` and answers what was done, or raises XcopyError.

    Both are paths, a plugin's "name:spec", descriptors, file objects or Devices.
    Without `length` the copy goes to the source's end. A destination path that
    does not exist is created; a directory stands for the source's name in it; a
    regular file that is replaced as a whole (no `length`, `dst_offset` 0) ends up
    with the copy's size. `methods` limits the choice (names, numbers or a mask),
    `no_fallback` refuses any byte through the host, `durable` survives power
    loss, `set_host_behavior` may switch a device's copies between namespaces on
    (it stays so), `fast_only` takes no copy that the device does not call fast,
    `progress` is called with (bytes_copied, total), `timeout` is in seconds,
    `depth` and `chunk` replace the adaptive window and command size. A signal
    handler that raises, Ctrl-C too, cancels and settles first.
    """
    with copying(
        src,
        dst,
        src_offset=src_offset,
        dst_offset=dst_offset,
        length=length,
        methods=methods,
        no_fallback=no_fallback,
        durable=durable,
        set_host_behavior=set_host_behavior,
        fast_only=fast_only,
        keep_holes=keep_holes,
        progress=progress,
        timeout=timeout,
        depth=depth,
        chunk=chunk,
        context=context,
    ) as running:
        result = running.wait()
    assert result is not None
    return result


async def copy_async(
    src: Any,
    dst: Any,
    *,
    src_offset: int = 0,
    dst_offset: int = 0,
    length: Optional[int] = None,
    methods: Methods = None,
    no_fallback: bool = False,
    durable: bool = False,
    set_host_behavior: bool = False,
    fast_only: bool = False,
    keep_holes: bool = True,
    progress: Optional[ProgressCallback] = None,
    timeout: Optional[float] = None,
    depth: Optional[int] = None,
    chunk: Optional[int] = None,
    context: Optional[Context] = None,
) -> Result:
    """copy() without blocking the event loop. Cancelling it cancels the copy and
    settles first."""
    async with copying(
        src,
        dst,
        src_offset=src_offset,
        dst_offset=dst_offset,
        length=length,
        methods=methods,
        no_fallback=no_fallback,
        durable=durable,
        set_host_behavior=set_host_behavior,
        fast_only=fast_only,
        keep_holes=keep_holes,
        progress=progress,
        timeout=timeout,
        depth=depth,
        chunk=chunk,
        context=context,
    ) as running:
        return await running.wait_async()
