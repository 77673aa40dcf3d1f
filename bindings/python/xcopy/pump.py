"""The owner's side of a queue: taking completions without losing one."""

import asyncio
import ctypes
import itertools
import threading
import time
from errno import EBADF, EBUSY, EINTR
from typing import TYPE_CHECKING, Callable, Dict, List, Optional

from . import _abi
from ._library import lib
from .completion import Completion, Report
from .errors import XcopyError, check, fail
from .handle import QueueHandle
from .ticket import Ticket

if TYPE_CHECKING:
    from .context import Context

# User data of requests submitted as objects; a batch's own stays below it.
KEYS = 1 << 63
# A blocked call notices a signal that another thread received within this time.
SLICE_NS = 100_000_000
ROOM = 64
RECORD = _abi.COMPLETION_SIZE
UNTAKEN = (1 << 64) - 1


class QueuePump(QueueHandle):
    """Owns what requests in flight need, and hands completions to their tickets."""

    def __init__(
        self,
        context: "Context",
        *,
        capacity: Optional[int] = None,
        window: Optional[int] = None,
        depth: Optional[int] = None,
        chunk: Optional[int] = None,
        pinned: bool = False,
    ) -> None:
        self._lock = threading.Lock()
        self._owner = threading.get_ident()
        self._keys = itertools.count(KEYS)
        self._strays = itertools.count(-1, -1)
        self._pending: Dict[int, Ticket] = {}
        self._ready: Dict[int, Completion] = {}
        self._room = (_abi.xcopy_completion * ROOM)()
        self._room_address = ctypes.addressof(self._room)
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._watchers = 0
        self._any: List["asyncio.Future[None]"] = []
        ctypes.memset(self._room_address, 0xFF, ROOM * RECORD)
        super().__init__(context, capacity, window, depth, chunk, pinned)

    def _enter(self) -> int:
        if not self._lock.acquire(False):
            raise XcopyError(
                EBUSY, "another thread is inside this queue; give each thread a queue of its own"
            )
        try:
            pointer = self._pointer
            if pointer is None:
                raise XcopyError(EBADF, "the queue is closed; create another one")
            me = threading.get_ident()
            if me != self._owner:
                if check(lib.xcopy_queue_in_flight(pointer)):
                    raise XcopyError(
                        EBUSY,
                        "the queue belongs to another thread while requests are in flight; "
                        "let that thread take the completions first",
                    )
                self._owner = me
            return pointer
        except BaseException:
            self._lock.release()
            raise

    def _deliver(self, record: _abi.xcopy_completion, keep: bool) -> None:
        key = record.user_data
        context = self.context.pointer
        if key < KEYS:
            if keep:
                self._ready[next(self._strays)] = Completion(record, key, context)
            return
        ticket = self._pending.get(key)
        if ticket is None:
            return
        packed = ticket._packed
        report = None
        if packed is not None and packed.report is not None:
            report = Report.from_record(packed.report, context)
        completion = Completion(record, ticket.request.user_data, context, report)
        if keep and not ticket._waiters:
            self._ready[key] = completion
        ticket._finish(completion)
        del self._pending[key]

    def _collect(self) -> int:
        """Delivers what a call left in the room. An entry that the library wrote has
        a zero in `reserved`; so an exception between the call and here loses none."""
        taken = 0
        for record in self._room:
            if record.reserved:
                break
            self._deliver(record, True)
            taken += 1
        if taken:
            ctypes.memset(self._room_address, 0xFF, taken * RECORD)
            for waiter in self._any:
                if not waiter.done():
                    waiter.set_result(None)
        return taken

    def _reap(self, least: int, timeout_ns: int) -> int:
        pointer = self._enter()
        try:
            self._collect()
            try:
                code = lib.xcopy_poll(pointer, self._room_address, RECORD, least, ROOM, timeout_ns)
            except BaseException:
                self._collect()
                raise
            if code < 0 and code != -EINTR:
                raise fail(code)
            return self._collect()
        finally:
            self._lock.release()

    def _wait_until(self, satisfied: Callable[[], bool], timeout: Optional[float]) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        if satisfied():
            return True
        wait_ns = 0
        while True:
            self._reap(1 if wait_ns else 0, wait_ns)
            if satisfied():
                return True
            wait_ns = SLICE_NS
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                wait_ns = max(1, min(wait_ns, int(left * 1e9)))
            if self._core_in_flight() == 0:
                return satisfied()

    def _hand_over(self, where: int, room: int, stride: int) -> int:
        taken = 0
        for key in list(self._ready)[:room]:
            at = where + taken * stride
            ctypes.memset(at, 0, stride)
            ctypes.memmove(at, self._ready.pop(key)._record, RECORD)
            taken += 1
        return taken
