"""The part of a queue that any thread may use."""

import ctypes
import threading
from dataclasses import dataclass, fields
from errno import EBADF, EINVAL, ENOENT
from typing import TYPE_CHECKING, Optional

from . import _abi
from ._abi import Method
from ._library import lib
from .completion import named
from .errors import XcopyError, check
from .ticket import Progress

if TYPE_CHECKING:
    from .context import Context


@dataclass(frozen=True)
class QueueStats:
    """Counters of a queue since its creation."""

    requests: int
    completions: int
    commands: int
    command_errors: int
    retries: int
    fallbacks: int
    bytes_copied: int
    bytes_offloaded: int
    late_answers: int
    plugin_faults: int
    abandoned: int
    memory_bytes: int


class QueueHandle:
    """A queue of the library. Its pointer is used under a lock, so that no thread
    meets a queue that another one has just destroyed."""

    def __init__(
        self,
        context: "Context",
        capacity: Optional[int],
        window: Optional[int],
        depth: Optional[int],
        chunk: Optional[int],
        pinned: bool,
    ) -> None:
        self.context = context
        self._pointer: Optional[int] = None
        self._life = threading.Lock()
        options = _abi.xcopy_queue_options()
        size = ctypes.sizeof(options)
        check(lib.xcopy_queue_options_init(ctypes.byref(options), size))
        for name, value, bits in (
            ("capacity", capacity, 32),
            ("window", window, 32),
            ("depth", depth, 32),
            ("chunk", chunk, 64),
        ):
            if value is not None:
                if not 0 <= value < 1 << bits:
                    raise XcopyError(EINVAL, f"{name}={value} does not fit {bits} bits")
                setattr(options, name, value)
        if pinned:
            options.flags |= _abi.QUEUE_PINNED
        pointer = ctypes.c_void_p()
        check(lib.xcopy_queue_create(context.pointer, ctypes.byref(options), ctypes.byref(pointer)))
        self._pointer = pointer.value

    def _alive(self) -> int:
        if self._pointer is None:
            raise XcopyError(EBADF, "the queue is closed; create another one")
        return self._pointer

    def _core_in_flight(self) -> int:
        with self._life:
            return check(lib.xcopy_queue_in_flight(self._alive()))

    @property
    def closed(self) -> bool:
        """close was called and has ended."""
        return self._pointer is None

    def drain(self) -> int:
        """Refuses further requests (ESHUTDOWN), answers how many are in flight."""
        with self._life:
            return check(lib.xcopy_queue_drain(self._alive()))

    def resume(self) -> None:
        """Takes requests again."""
        with self._life:
            check(lib.xcopy_queue_resume(self._alive()))

    @property
    def stats(self) -> QueueStats:
        """Counters since the queue's creation."""
        record = _abi.xcopy_queue_stats()
        size = ctypes.sizeof(record)
        with self._life:
            check(lib.xcopy_queue_stats(self._alive(), ctypes.byref(record), size))
        return QueueStats(*(getattr(record, field.name) for field in fields(QueueStats)))

    def _cancel(self, key: int) -> int:
        with self._life:
            code: int = lib.xcopy_cancel(self._alive(), key)
        return 0 if code == -ENOENT else check(code)

    def _progress(self, key: int) -> Optional[Progress]:
        record = _abi.xcopy_progress()
        size = ctypes.sizeof(record)
        with self._life:
            if self._pointer is None:
                return None
            code = lib.xcopy_progress(self._pointer, key, ctypes.byref(record), size)
        if code == -ENOENT:
            return None
        check(code)
        return Progress(
            record.bytes_total,
            record.bytes_copied,
            record.bytes_offloaded,
            record.commands_in_flight,
            named(Method, record.method),
        )
