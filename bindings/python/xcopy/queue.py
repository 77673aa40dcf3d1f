"""Queues: submit, poll, wait."""

import asyncio
import ctypes
import time
import warnings
from errno import EAGAIN, EBUSY, ECANCELED, EINTR, EINVAL, ENOENT
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Iterable,
    List,
    Optional,
    Type,
    Union,
    overload,
)

from . import _abi
from ._abi import Cpl, Op, Reason, Req
from ._library import lib
from .completion import Completion
from .device import Device, handle_of
from .errors import SubmitError, XcopyError, check, fail
from .pump import RECORD, ROOM, SLICE_NS, UNTAKEN, QueuePump
from .request import Packed, Request, address
from .ticket import Progress, Ticket

if TYPE_CHECKING:
    pass

# What the library may still use although the queue's object is gone.
_kept: List[Any] = []


class Queue(QueuePump):
    """Takes requests and gives completions; made by Context.queue.

    One thread at a time owns it: submit, poll, wait and arm are that thread's,
    and another may take over while nothing is in flight (EBUSY otherwise).
    cancel, drain, resume, in_flight, progress and stats are for any thread.
    """

    @overload
    def submit(self, requests: Request) -> Ticket: ...

    @overload
    def submit(self, requests: Iterable[Request]) -> List[Ticket]: ...

    def submit(self, requests: Union[Request, Iterable[Request]]) -> Union[Ticket, List[Ticket]]:
        """Submits one request or several, and answers their tickets.

        SubmitError says which was refused and why; those before it run on.
        Ranges, extension and report live until the completion was taken.
        """
        items = [requests] if isinstance(requests, Request) else list(requests)
        count = len(items)
        records = (_abi.xcopy_request * max(count, 1))()
        tickets = []
        for index, request in enumerate(items):
            key = next(self._keys)
            tickets.append(Ticket(self, key, Packed(request, records[index], key)))
        pointer = self._enter()
        try:
            # Before the call, so that an interruption cannot lose what must live.
            for ticket in tickets:
                self._pending[ticket._key] = ticket
            accepted = 0
            code = 0
            start = ctypes.addressof(records)
            while accepted < count:
                code = lib.xcopy_submit(
                    pointer,
                    start + accepted * _abi.REQUEST_SIZE,
                    _abi.REQUEST_SIZE,
                    count - accepted,
                )
                if code <= 0:
                    break
                accepted += code
            for ticket in tickets[accepted:]:
                del self._pending[ticket._key]
            if accepted < count:
                error = fail(code or -EAGAIN, SubmitError)
                assert isinstance(error, SubmitError)
                error.accepted = accepted
                error.tickets = tickets[:accepted]
                raise error
        finally:
            self._lock.release()
        return tickets[0] if isinstance(requests, Request) else tickets

    def submit_batch(
        self,
        buffer: Any,
        start: int = 0,
        count: Optional[int] = None,
        *,
        stride: int = _abi.REQUEST_SIZE,
    ) -> int:
        """Submits records of a buffer (struct xcopy_request) without an object each.

        Answers how many were accepted: fewer when the queue is full, 0 if it was
        full before. user_data must be below 2**63, and what `ext` points to is
        the caller's to keep. A refusal of the first raises SubmitError.
        """
        if stride < _abi.REQUEST_SIZE:
            raise SubmitError(EINVAL, f"stride {stride} is less than {_abi.REQUEST_SIZE}")
        where, total, keep = address(buffer, "submit_batch", stride, False)
        if (where | stride) & 7:
            raise SubmitError(EINVAL, "records must lie at multiples of 8 bytes")
        if count is None:
            count = total - start
        if start < 0 or count < 0 or start + count > total:
            raise SubmitError(EINVAL, f"records {start}+{count} lie outside of the {total} given")
        if count == 0:
            return 0
        pointer = self._enter()
        try:
            code: int = lib.xcopy_submit(pointer, where + start * stride, stride, count)
            if code >= 0:
                return code
            if code == -EAGAIN:
                return 0
            raise fail(code, SubmitError)
        finally:
            self._lock.release()
            del keep

    def prepare(self, src: Any, dst: Any, *, exclusive: bool = False) -> Ticket:
        """Probes a pair ahead of its first copy."""
        flags = Req.EXCLUSIVE if exclusive else 0
        return self.submit(Request(op=Op.PREPARE, src=src, dst=dst, flags=flags))

    def poll(
        self, min: int = 0, max: Optional[int] = None, timeout: Optional[float] = 0.0
    ) -> List[Completion]:
        """Takes completions, at most `max`; waits up to `timeout` seconds (None: for
        as long as something is in flight) until there are `min`."""
        most = UNTAKEN if max is None else max
        while len(self._ready) < most and self._reap(0, 0) == ROOM:
            pass
        if min:
            self._wait_until(lambda: len(self._ready) >= min, timeout)
        taken: List[Completion] = []
        while self._ready and len(taken) < most:
            key = next(iter(self._ready))
            taken.append(self._ready[key])
            del self._ready[key]
        return taken

    def poll_into(
        self,
        buffer: Any,
        min: int = 0,
        max: Optional[int] = None,
        timeout: Optional[float] = 0.0,
        *,
        stride: int = _abi.COMPLETION_SIZE,
    ) -> int:
        """Takes completions into a writable buffer (struct xcopy_completion) without an
        object each, and answers how many. Completions of tickets finish their tickets.

        If a signal handler raises out of the call, what was taken is in the buffer.
        """
        if stride < RECORD:
            raise XcopyError(EINVAL, f"stride {stride} is less than {RECORD}")
        where, room, keep = address(buffer, "poll_into", stride, True)
        if max is not None and max < room:
            room = max
        taken = self._hand_over(where, room, stride) if self._ready else 0
        deadline = None
        wait_ns = 0
        while taken < room:
            least = min - taken if min > taken else 0
            if least and timeout != 0.0:
                # The time left, in slices, but the first look costs no clock.
                wait_ns = SLICE_NS
                if timeout is not None:
                    if deadline is None:
                        deadline = time.monotonic() + timeout
                    left = deadline - time.monotonic()
                    wait_ns = 0 if left <= 0 else int(left * 1e9) if left < 0.1 else SLICE_NS
                if self._core_in_flight() == 0:
                    least = wait_ns = 0
            at = where + taken * stride
            pointer = self._enter()
            try:
                code: int = lib.xcopy_poll(pointer, at, stride, least, room - taken, wait_ns)
                if code > 0 and self._pending:
                    for index in range(code):
                        record = _abi.xcopy_completion.from_address(at + index * stride)
                        self._deliver(record, False)
            finally:
                self._lock.release()
            if code < 0 and code != -EINTR:
                if taken:
                    break
                raise fail(code)
            if code > 0:
                taken += code
            if wait_ns == 0 or taken >= min:
                break
        del keep
        return taken

    def _wait_for(self, ticket: Ticket, timeout: Optional[float]) -> Optional[Completion]:
        if not ticket.done:
            self._wait_until(lambda: ticket.done, timeout)
        if ticket.done:
            self._ready.pop(ticket._key, None)
        return ticket.completion

    def fileno(self) -> int:
        """A pollable descriptor, the same for the queue's life: readable while armed and
        something is ready. Never read from it."""
        return self._owned(lib.xcopy_queue_fd)

    def _owned(self, function: Any) -> int:
        pointer = self._enter()
        try:
            return check(function(pointer))
        finally:
            self._lock.release()

    def arm(self) -> bool:
        """Lets fileno() become readable, until disarm; True if something is ready already."""
        return self._owned(lib.xcopy_queue_arm) == 1 or bool(self._ready)

    def disarm(self) -> None:
        """fileno() stays silent from now on."""
        self._owned(lib.xcopy_queue_disarm)

    def ready(self) -> int:
        """Completions that poll would take without waiting."""
        return self._owned(lib.xcopy_queue_ready) + len(self._ready)

    def _watch(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._watchers and self._loop is not loop:
            raise XcopyError(EBUSY, "the queue is awaited in another event loop")
        if not self._watchers:
            self._loop = loop
            loop.add_reader(self.fileno(), self._on_readable)
            self.arm()
        self._watchers += 1
        return loop

    def _unwatch(self) -> None:
        self._watchers -= 1
        if self._watchers == 0 and self._loop is not None:
            loop, self._loop = self._loop, None
            if self._pointer is not None:
                loop.remove_reader(self.fileno())
                self.disarm()

    def _on_readable(self) -> None:
        try:
            while self._reap(0, 0) == ROOM:
                pass
        except XcopyError as error:
            waiters = list(self._any)
            for ticket in self._pending.values():
                waiters += ticket._waiters
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)

    @overload
    async def wait(self, ticket: Ticket) -> Completion: ...

    @overload
    async def wait(self) -> List[Completion]: ...

    async def wait(self, ticket: Optional[Ticket] = None) -> Union[Completion, List[Completion]]:
        """Awaits a ticket's completion, or whatever completes next.

        Cancelling the await leaves the request running; see Ticket.cancel.
        """
        waiters = self._any if ticket is None else ticket._waiters
        while not (self._ready if ticket is None else ticket.done):
            if ticket is None and self._core_in_flight() == 0:
                break
            waiter = self._watch().create_future()
            waiters.append(waiter)
            try:
                await waiter
            finally:
                waiters.remove(waiter)
                self._unwatch()
        if ticket is None:
            taken = list(self._ready.values())
            self._ready.clear()
            return taken
        self._ready.pop(ticket._key, None)
        assert ticket.completion is not None
        return ticket.completion

    @property
    def in_flight(self) -> int:
        """Requests that were accepted and whose completion was not handed out yet."""
        return self._core_in_flight() + len(self._ready)

    def cancel(self, what: Union[Ticket, Device, int]) -> int:
        """Asks a ticket, all that touches a device, or a batch's user_data to end early;
        answers how many were asked. The completions tell."""
        if isinstance(what, Ticket):
            return self._cancel(what._key)
        if isinstance(what, Device):
            with self._life:
                code: int = lib.xcopy_cancel_device(self._alive(), handle_of(what))
            return 0 if code == -ENOENT else check(code)
        if not 0 <= what < 1 << 64:
            raise XcopyError(EINVAL, f"user_data {what} does not fit 64 bits")
        return self._cancel(what)

    def cancel_all(self) -> None:
        """Asks everything in flight to end early."""
        if self._pointer is None:
            return
        for key in list(self._pending):
            self._cancel(key)
        for device in list(self.context._devices):
            if not device.closed and self._core_in_flight():
                self.cancel(device)

    def progress(self, what: Union[Ticket, int]) -> Optional[Progress]:
        """How far a ticket or a batch's user_data is; None once it has ended."""
        return self._progress(what._key if isinstance(what, Ticket) else what)

    def _destroy(self, force: bool) -> bool:
        if not self._lock.acquire(False):
            raise XcopyError(EBUSY, "another thread is inside this queue; stop it first")
        try:
            with self._life:
                code = lib.xcopy_queue_destroy(self._alive(), _abi.DESTROY_FORCE if force else 0)
                if code == -EBUSY and not force:
                    return False
                check(code)
                self._pointer = None
                return True
        finally:
            self._lock.release()

    def close(self, *, force: bool = False) -> None:
        """Waits until what is in flight has ended, drops completions that nobody took,
        and destroys the queue. `force` abandons what is in flight instead."""
        if self._pointer is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.fileno())
        while not self._destroy(force):
            # Busy: in flight, not taken yet, or abandoned and not answered yet.
            self._reap(1, SLICE_NS)
        self.context._queues.discard(self)
        for key, ticket in list(self._pending.items()):
            record = _abi.xcopy_completion(
                user_data=key,
                res=-ECANCELED,
                flags=Cpl.INDETERMINATE | Cpl.UNSETTLED,
                reason=Reason.DESTROYED,
            )
            ticket._finish(Completion(record, ticket.request.user_data, None))
        self._pending.clear()
        for waiter in self._any:
            if not waiter.done():
                waiter.set_result(None)

    def _abort(self) -> None:
        """Ends all at once: cancels and settles; a second interruption abandons."""
        try:
            self.cancel_all()
            self.close()
        except XcopyError:
            raise
        except BaseException:
            self.close(force=True)
            raise

    def __enter__(self) -> "Queue":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is not None:
            self._abort()
            return
        try:
            self.close()
        except XcopyError:
            raise
        except BaseException:
            self._abort()
            raise

    async def __aenter__(self) -> "Queue":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is not None:
            self.cancel_all()
        try:
            while self._pointer is not None and self._core_in_flight():
                await self.wait()
        finally:
            self._abort()

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) is None:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        if lib.xcopy_queue_destroy(self._pointer, 0) < 0:
            _kept.append((self._pending, self.context))
            return
        self._pointer = None
        self.context._queue_gone()

    def __repr__(self) -> str:
        state = "closed" if self._pointer is None else f"{len(self._pending)} tickets"
        return f"<xcopy.Queue {state}>"
