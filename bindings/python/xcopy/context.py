"""A context: plugins, devices, and what is known about pairs of them."""

import atexit
import ctypes
import os
import sys
import threading
import warnings
import weakref
from dataclasses import dataclass
from errno import EBADF, EINVAL, ENOENT
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Type, Union

from . import _abi
from ._abi import LogLevel, Method, Model, Open, Reason
from ._library import lib
from .completion import named
from .device import Device, Token, handle_of
from .errors import XcopyError, check, fail

if TYPE_CHECKING:
    from .queue import Queue

Methods = Union[None, int, str, Method, Iterable[Union[str, int]]]
Target = Union[str, bytes, int, "os.PathLike[str]", Any]
Log = Callable[[Union[LogLevel, int], str], Any]

_live: "weakref.WeakSet[Context]" = weakref.WeakSet()


@dataclass(frozen=True)
class Limits:
    """What a method can do for a pair, in bytes; None is "not stated"."""

    preferred_bytes: Optional[int]
    max_bytes: Optional[int]
    max_range_bytes: Optional[int]
    src_granularity: int
    dst_granularity: int
    length_granularity: int
    max_ranges: int
    max_concurrent: Optional[int]
    contiguous_dst: bool


@dataclass(frozen=True)
class MethodInfo:
    """One method's verdict on a pair."""

    name: str
    plugin: str
    method: int
    usable: bool
    offloaded: bool
    reason: Union[Reason, int]
    text: str
    generation: int
    limits: Limits


@dataclass(frozen=True)
class PluginInfo:
    """A plugin of a context."""

    name: str
    version: str
    description: str
    path: Optional[str]
    methods: int
    model: Union[Model, int]
    abi_version: str
    cmd_private: int


def _mask(pointer: Optional[int], methods: Methods) -> int:
    if methods is None:
        return 0
    if isinstance(methods, Method):
        return 1 << methods
    if isinstance(methods, int):
        if not 0 <= methods < 1 << 32:
            raise XcopyError(EINVAL, f"methods={methods} is not a mask of 32 bits")
        return methods
    names: List[Union[str, int]] = [methods] if isinstance(methods, str) else list(methods)
    mask = 0
    for name in names:
        if isinstance(name, int):
            if not 0 <= name < _abi.METHOD_MAX:
                raise XcopyError(EINVAL, f"there is no method number {name}")
            mask |= 1 << name
        else:
            value = ctypes.c_uint32()
            check(lib.xcopy_method_mask(pointer, name.encode(), ctypes.byref(value)))
            mask |= value.value
    if not mask:
        # To the library 0 is "any", the opposite of what an empty list says.
        raise XcopyError(EINVAL, "no method is named; leave methods out to allow any")
    return mask


def _log_trampoline(log: Log) -> Any:
    def trampoline(_context: Any, level: int, message: Optional[bytes]) -> None:
        try:
            log(named(LogLevel, level), (message or b"").decode(errors="replace"))
        except BaseException as error:  # nothing may be raised through C
            report = sys.unraisablehook
            try:
                report(_Unraisable(error, log))  # type: ignore[arg-type]
            except BaseException:
                pass

    return _abi.LOG_FN(trampoline)


class _Unraisable:
    def __init__(self, error: BaseException, log: Log) -> None:
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = error.__traceback__
        self.err_msg = "Exception ignored in the log of an xcopy context"
        self.object = log


class Context:
    """Owns plugins, devices and queues; usable from any thread.

    `log` is called with (level, message) from any thread, also inside calls of
    the library, and must not call the library. `plugins=False` loads none;
    `plugin_dir` replaces the places that are searched. Options that are None
    keep the library's defaults.
    """

    def __init__(
        self,
        *,
        pool_threads: Optional[int] = None,
        log: Optional[Log] = None,
        log_level: int = LogLevel.INFO,
        methods: Methods = None,
        memory_budget: Optional[int] = None,
        retry_after: Optional[int] = None,
        plugins: bool = True,
        plugin_dir: Optional[Union[str, "os.PathLike[str]"]] = None,
    ) -> None:
        self._pointer: Optional[int] = None
        self._dropped = False
        self._queues: "weakref.WeakSet[Queue]" = weakref.WeakSet()
        self._devices: "weakref.WeakSet[Device]" = weakref.WeakSet()
        self._log: Any = None
        options = _abi.xcopy_context_options()
        size = ctypes.sizeof(options)
        check(lib.xcopy_context_options_init(ctypes.byref(options), size))
        for name, value, bits in (
            ("pool_threads", pool_threads, 32),
            ("memory_budget", memory_budget, 64),
            ("retry_after_s", retry_after, 32),
        ):
            if value is not None:
                if not 0 <= value < 1 << bits:
                    raise XcopyError(EINVAL, f"{name}={value} does not fit {bits} bits")
                setattr(options, name, value)
        options.methods = _mask(None, methods)
        if log is not None:
            self._log = _log_trampoline(log)
            options.log = self._log
            options.log_level = int(log_level)
        pointer = ctypes.c_void_p()
        check(lib.xcopy_context_create(ctypes.byref(options), ctypes.byref(pointer)))
        self._pointer = pointer.value
        _live.add(self)
        if plugins:
            try:
                self._load_default(plugin_dir)
            except BaseException:
                self.close()
                raise

    def _load_default(self, plugin_dir: Optional[Union[str, "os.PathLike[str]"]]) -> None:
        if plugin_dir is not None:
            self.load_plugins(plugin_dir)
            return
        code = lib.xcopy_plugin_load_all(self.pointer, None)
        if code < 0 and code != -ENOENT:
            # The host method works without them.
            warnings.warn(f"plugins were not loaded: {fail(code)}", RuntimeWarning, stacklevel=4)

    @property
    def alive(self) -> bool:
        """Not closed yet."""
        return self._pointer is not None

    @property
    def pointer(self) -> int:
        """The library's handle; raises once the context is closed."""
        if self._pointer is None:
            raise XcopyError(EBADF, "the context is closed; create another one")
        return self._pointer

    def load_plugin(self, name_or_path: Union[str, "os.PathLike[str]"]) -> None:
        """Loads one plugin, by name or by a path that contains a slash."""
        check(lib.xcopy_plugin_load(self.pointer, os.fsencode(name_or_path)))

    def load_plugins(self, directory: Optional[Union[str, "os.PathLike[str]"]] = None) -> int:
        """Loads all plugins of a directory, or of the default ones; answers how many."""
        name = None if directory is None else os.fsencode(directory)
        return check(lib.xcopy_plugin_load_all(self.pointer, name))

    @property
    def plugins(self) -> List[PluginInfo]:
        """The plugins that were loaded or registered."""
        found = []
        record = _abi.xcopy_plugin_info()
        size = ctypes.sizeof(record)
        for index in range(check(lib.xcopy_plugin_count(self.pointer))):
            check(lib.xcopy_plugin_info(self.pointer, index, ctypes.byref(record), size))
            found.append(
                PluginInfo(
                    record.name.decode(errors="replace"),
                    record.version.decode(errors="replace"),
                    record.description.decode(errors="replace"),
                    os.fsdecode(record.path) or None,
                    record.methods,
                    named(Model, record.model),
                    f"{record.abi_version >> 16}.{record.abi_version & 0xFFFF}",
                    record.cmd_private,
                )
            )
        return found

    def method_mask(self, methods: Methods) -> int:
        """A mask for Request.methods from names, numbers or a mask; None is any."""
        return _mask(self.pointer, methods)

    def open(self, target: Target, flags: int = Open.READ) -> Device:
        """Opens a path, a plugin's "name:spec", a file descriptor or a file object.

        A descriptor is duplicated and stays the caller's.
        """
        handle = ctypes.c_uint32()
        if not 0 <= flags < 1 << 32:
            raise XcopyError(EINVAL, f"open flags {flags} do not fit 32 bits")
        if isinstance(target, (str, bytes, os.PathLike)):
            name = os.fsencode(target)
            if b"\0" in name:
                raise XcopyError(EINVAL, "the path contains a NUL byte")
            code = lib.xcopy_device_open(self.pointer, name, flags, ctypes.byref(handle))
        else:
            fd = target if isinstance(target, int) else target.fileno()
            if not -(1 << 31) <= fd < 1 << 31:
                raise XcopyError(EBADF, f"{fd} is not a file descriptor")
            code = lib.xcopy_device_open_fd(self.pointer, fd, flags, ctypes.byref(handle))
        check(code)
        return self._adopt(handle.value)

    def open_native(self, plugin: str, native: int, flags: int = Open.READ) -> Device:
        """Opens what a plugin knows by an address in this process."""
        handle = ctypes.c_uint32()
        check(
            lib.xcopy_device_open_native(
                self.pointer, plugin.encode(), native, flags, ctypes.byref(handle)
            )
        )
        return self._adopt(handle.value)

    def _adopt(self, handle: int) -> Device:
        device = Device(self, handle)
        self._devices.add(device)
        return device

    def token(self, exported: Optional[Union[bytes, bytearray, memoryview]] = None) -> Token:
        """An empty token for TOKEN_CREATE, or one from what Token.export gave."""
        handle = ctypes.c_uint32()
        if exported is None:
            check(lib.xcopy_token_create(self.pointer, ctypes.byref(handle)))
        else:
            size = memoryview(exported).nbytes
            memory = (ctypes.c_char * size).from_buffer_copy(exported)
            try:
                code = lib.xcopy_token_import(self.pointer, memory, size, ctypes.byref(handle))
            finally:
                ctypes.memset(memory, 0, size)
            check(code)
        return Token(self, handle.value)

    def methods(self, src: Union[Device, int], dst: Union[Device, int]) -> List[MethodInfo]:
        """The methods for a pair, best first; may probe, and so block, the first time."""
        count = 16
        while True:
            records = (_abi.xcopy_method_info * count)()
            known = check(
                lib.xcopy_pair_query(
                    self.pointer,
                    handle_of(src),
                    handle_of(dst),
                    records,
                    ctypes.sizeof(_abi.xcopy_method_info),
                    count,
                )
            )
            if known <= count:
                return [_method_info(record) for record in records[:known]]
            count = known

    def queue(
        self,
        *,
        capacity: Optional[int] = None,
        window: Optional[int] = None,
        depth: Optional[int] = None,
        chunk: Optional[int] = None,
        pinned: bool = False,
    ) -> "Queue":
        """A queue; None keeps the library's default."""
        from .queue import Queue

        queue = Queue(
            self, capacity=capacity, window=window, depth=depth, chunk=chunk, pinned=pinned
        )
        self._queues.add(queue)
        return queue

    def close(self, *, force: bool = False) -> None:
        """Closes queues, once what they run has ended, then devices and the context.

        `force` does not wait: what is in flight is abandoned.
        """
        if self._pointer is None:
            return
        for queue in list(self._queues):
            queue.close(force=force)
        check(self._free())
        _live.discard(self)

    def _free(self) -> int:
        # Gone before it is freed: a device that another thread drops meanwhile
        # must not meet it.
        pointer, self._pointer = self._pointer, None
        code: int = lib.xcopy_context_free(pointer)
        if code < 0:
            self._pointer = pointer
        return code

    def _queue_gone(self) -> None:
        # Collected together with its queues, in whatever order: the last of them
        # lets it be freed.
        if self._dropped and self._pointer is not None:
            self._free()

    def __enter__(self) -> "Context":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is not None:
            for queue in list(self._queues):
                queue.cancel_all()
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            # Its devices may be collected after it: they ask whether it is alive.
            self._dropped = True
            if self._free() < 0 and self._log is not None:
                _kept.append(self._log)

    def __repr__(self) -> str:
        return f"<xcopy.Context{'' if self.alive else ' closed'}>"


# Callbacks that a context may still call although its object is gone.
_kept: List[Any] = []


def _method_info(record: _abi.xcopy_method_info) -> MethodInfo:
    limits = record.limits
    return MethodInfo(
        record.name.decode(errors="replace"),
        record.plugin.decode(errors="replace"),
        record.method,
        bool(record.usable),
        bool(record.offloaded),
        named(Reason, record.reason),
        record.text.decode(errors="replace"),
        record.generation,
        Limits(
            limits.preferred_bytes or None,
            limits.max_bytes or None,
            limits.max_range_bytes or None,
            max(limits.src_granularity, 1),
            max(limits.dst_granularity, 1),
            max(limits.length_granularity, 1),
            max(limits.max_ranges, 1),
            limits.max_concurrent or None,
            bool(limits.contiguous_dst),
        ),
    )


_default: Optional[Context] = None
_default_lock = threading.Lock()


def default_context() -> Context:
    """The context that copy() uses when it is given none."""
    global _default
    with _default_lock:
        if _default is None or not _default.alive:
            _default = Context()
        return _default


def _after_fork() -> None:
    # The library's threads did not come along and every call on an old context
    # answers ECHILD; a child that copies gets a context of its own.
    global _default, _default_lock
    _default_lock = threading.Lock()
    if _default is not None:
        _kept.append(_default)
        _default = None
    _live.clear()


def _at_exit() -> None:
    # A thread of the library that logs must not meet a finalised interpreter.
    for context in list(_live):
        try:
            context.close(force=True)
        except BaseException:
            pass


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
