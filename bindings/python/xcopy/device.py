"""Devices and tokens: what requests name."""

import ctypes
import warnings
from dataclasses import dataclass
from errno import EBADF, ENOBUFS
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Type, Union

from . import _abi
from ._abi import Event, Kind, Open, Shows
from ._library import lib
from .completion import method_name, named
from .errors import XcopyError, check, fail

if TYPE_CHECKING:
    from .context import Context


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is; sizes and offsets in bytes."""

    kind: Union[Kind, int]
    open_flags: Open
    size: Optional[int]
    block_size: int
    physical_block_size: int
    dev: Tuple[int, int]
    disk: Optional[Tuple[int, int]]
    disk_offset: int
    in_flight: int
    events: Event
    name: str


@dataclass(frozen=True)
class TokenInfo:
    """What a token is. `lifetime` counts seconds without use, `created` seconds
    since 1970 by the clock of `origin`'s host; 0 is unknown."""

    bytes: int
    export_bytes: int
    lifetime: int
    token_type: int
    method: str
    plugin: str
    filled: bool
    created: int
    origin: str
    origin_offset: int
    shows: Union[Shows, int]


def handle_of(thing: Any) -> int:
    """The number that a request carries: of a Device, of a Token, or as it is."""
    if isinstance(thing, (Device, Token)):
        return thing.handle
    return int(thing)


class Device:
    """An open file, disk or plugin device. Made by Context.open."""

    def __init__(self, context: "Context", handle: int) -> None:
        self.context = context
        self._handle = handle
        self._closed = False

    @property
    def handle(self) -> int:
        """The library's handle; raises once the device is closed."""
        if self._closed:
            raise XcopyError(EBADF, "the device is closed; open it again")
        return self._handle

    @property
    def closed(self) -> bool:
        """It was closed, or its context was."""
        return self._closed or not self.context.alive

    @property
    def released(self) -> bool:
        """It is closed, and the last request that used it has ended."""
        if not self.context.alive:
            return True
        if not self._closed:
            return False
        return check(lib.xcopy_device_is_closed(self.context.pointer, self._handle)) == 1

    @property
    def info(self) -> DeviceInfo:
        """What the device is."""
        record = _abi.xcopy_device_info()
        size = ctypes.sizeof(record)
        check(lib.xcopy_device_info(self.context.pointer, self.handle, ctypes.byref(record), size))
        disk = (record.disk_major, record.disk_minor)
        return DeviceInfo(
            named(Kind, record.kind),
            Open(record.open_flags),
            record.size_bytes if record.size_known else None,
            record.block_size,
            record.physical_block_size,
            (record.dev_major, record.dev_minor),
            disk if disk != (0, 0) else None,
            record.disk_offset,
            record.in_flight,
            Event(record.events),
            record.name.decode(errors="replace"),
        )

    def describe(self) -> Dict[str, Dict[str, List[str]]]:
        """What plugins found out of the device: plugin, key, values. May block."""
        size = 4096
        while True:
            text = ctypes.create_string_buffer(size)
            whole = check(
                lib.xcopy_device_describe(self.context.pointer, self.handle, text, size)
            )
            if whole < size:
                break
            size = whole + 1
        found: Dict[str, Dict[str, List[str]]] = {}
        for line in text.value.decode(errors="replace").splitlines():
            plugin, _, rest = line.partition(": ")
            key, _, value = rest.partition(": ")
            found.setdefault(plugin, {}).setdefault(key, []).append(value)
        return found

    def events(self) -> Event:
        """What happened to the device since this was last asked."""
        value = ctypes.c_uint32()
        check(lib.xcopy_device_events(self.context.pointer, self.handle, ctypes.byref(value)))
        return Event(value.value)

    def invalidate(self) -> None:
        """Forget verdicts and limits, and look at the size again."""
        check(lib.xcopy_device_invalidate(self.context.pointer, self.handle))

    def close(self) -> bool:
        """Closes; True if released at once, False if requests still hold it."""
        if self._closed:
            return self.released
        self._closed = True
        if not self.context.alive:
            return True
        return check(lib.xcopy_device_close(self.context.pointer, self._handle)) == 0

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self.context.alive:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._closed = True
            lib.xcopy_device_close(self.context.pointer, self._handle)

    def __repr__(self) -> str:
        return f"<xcopy.Device {self._handle:#x}{' closed' if self.closed else ''}>"


class Token:
    """A representation of data, filled by TOKEN_CREATE. Made by Context.token."""

    def __init__(self, context: "Context", handle: int) -> None:
        self.context = context
        self._handle = handle
        self._freed = False

    @property
    def handle(self) -> int:
        """The library's handle; raises once the token is freed."""
        if self._freed:
            raise XcopyError(EBADF, "the token is freed; make another one")
        return self._handle

    @property
    def info(self) -> TokenInfo:
        """What the token is."""
        record = _abi.xcopy_token_info()
        size = ctypes.sizeof(record)
        pointer = self.context.pointer
        check(lib.xcopy_token_info(pointer, self.handle, ctypes.byref(record), size))
        return TokenInfo(
            record.bytes,
            record.export_bytes,
            record.lifetime_s,
            record.token_type,
            method_name(pointer, record.method),
            record.plugin.decode(errors="replace"),
            bool(record.filled),
            record.created_s,
            record.origin.decode(errors="replace"),
            record.origin_offset,
            named(Shows, record.shows),
        )

    def export(self) -> bytearray:
        """The token's bytes: a bearer secret, in memory that its owner can wipe."""
        size = self.info.export_bytes
        while True:
            buffer = bytearray(max(size, 1))
            memory = (ctypes.c_char * len(buffer)).from_buffer(buffer)
            used = ctypes.c_size_t()
            code = lib.xcopy_token_export(
                self.context.pointer, self.handle, memory, len(buffer), ctypes.byref(used)
            )
            del memory
            if code == -ENOBUFS and used.value > len(buffer):
                size = used.value
                continue
            check(code)
            del buffer[used.value :]
            return buffer

    def free(self) -> None:
        """Wipes the token; refused with EBUSY while a request uses it."""
        if self._freed:
            return
        if self.context.alive:
            code = lib.xcopy_token_free(self.context.pointer, self._handle)
            if code < 0:
                raise fail(code)
        self._freed = True

    def __enter__(self) -> "Token":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.free()

    def __repr__(self) -> str:
        return f"<xcopy.Token{' freed' if self._freed else ''}>"
