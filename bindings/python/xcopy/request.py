"""One operation, and its packing into the record that the library reads."""

import ctypes
import math
from dataclasses import dataclass, field
from errno import EINVAL
from typing import Any, Iterable, List, Optional, Tuple, Union

from . import _abi
from ._abi import Op
from .device import Device, Token, handle_of
from .errors import SubmitError

_WIDTHS = {
    "op": 16,
    "flags": 32,
    "src": 32,
    "dst": 32,
    "src_offset": 64,
    "dst_offset": 64,
    "length": 64,
    "methods": 32,
    "timeout_ms": 32,
    "token_lifetime": 32,
    "token_type": 32,
}

Ranges = Union[Iterable[Tuple[int, int, int]], Any]


@dataclass
class Request:
    """One operation.

    `ranges` is an iterable of (src_offset, dst_offset, length), or any buffer of
    24-byte records of the same; a writable buffer is not copied and must stay
    unchanged until the completion. `methods` is a mask; `timeout` is in seconds.
    `user_data` may be any object and comes back in the completion.
    """

    op: int = Op.COPY
    src: Union[Device, Token, int] = 0
    dst: Union[Device, Token, int] = 0
    src_offset: int = 0
    dst_offset: int = 0
    length: int = 0
    ranges: Optional[Ranges] = None
    flags: int = 0
    methods: int = 0
    timeout: Optional[float] = None
    report: bool = False
    token_lifetime: int = 0
    token_type: int = 0
    user_data: Any = field(default=None)


def _fits(name: str, value: int, where: str = "request") -> int:
    # ctypes would cut it silently, and another place would be written.
    if not isinstance(value, int):
        value = value.__index__()
    if not 0 <= value < 1 << _WIDTHS[name]:
        raise SubmitError(
            EINVAL, f"{where}: {name}={value} does not fit an unsigned {_WIDTHS[name]}-bit number"
        )
    return value


def milliseconds(timeout: Optional[float]) -> int:
    """A request's timeout as the library counts it: 0 is none, and never rounded to it."""
    if timeout is None or timeout == math.inf:
        return 0
    if not timeout > 0:
        raise SubmitError(
            EINVAL, f"request: timeout={timeout} must be more than 0 seconds, or None"
        )
    return _fits("timeout_ms", math.ceil(timeout * 1000))


def address(buffer: Any, what: str, size: int, writable: bool) -> Tuple[int, int, Any]:
    """Address and number of the records in a buffer, and what keeps them alive."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise SubmitError(EINVAL, f"{what}: the buffer is not contiguous; copy it first")
    if view.nbytes % size:
        raise SubmitError(
            EINVAL, f"{what}: {view.nbytes} bytes are not a multiple of a record's {size}"
        )
    if view.nbytes == 0:
        return 0, 0, view
    first: Any
    if view.readonly:
        if writable:
            raise SubmitError(EINVAL, f"{what}: the buffer is read-only; give a bytearray")
        first = (ctypes.c_char * view.nbytes).from_buffer_copy(view)
    else:
        first = ctypes.c_char.from_buffer(buffer)
    return ctypes.addressof(first), view.nbytes // size, first


def _pack_ranges(ranges: Ranges) -> Tuple[int, int, Any]:
    try:
        memoryview(ranges)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        where, count, keep = address(ranges, "ranges", _abi.RANGE_SIZE, False)
        if count:
            return where, count, keep
        ranges = ()
    items: List[Tuple[int, int, int]] = list(ranges)
    # An empty list still needs an address: NULL means "no ranges were given".
    array = (_abi.xcopy_range * max(len(items), 1))()
    for index, (src_offset, dst_offset, length) in enumerate(items):
        record = array[index]
        label = f"range {index}"
        record.src_offset = _fits("src_offset", src_offset, label)
        record.dst_offset = _fits("dst_offset", dst_offset, label)
        record.length = _fits("length", length, label)
    return ctypes.addressof(array), len(items), array


class Packed:
    """What the library may read or write until the completion of a request."""

    __slots__ = ("ranges", "ext", "report", "request")

    def __init__(self, request: Request, record: _abi.xcopy_request, key: int) -> None:
        self.request = request
        self.ranges: Any = None
        self.ext: Optional[_abi.xcopy_ext] = None
        self.report: Optional[_abi.xcopy_report] = None
        record.user_data = key
        record.op = _fits("op", request.op)
        record.flags = _fits("flags", request.flags)
        record.src = _fits("src", handle_of(request.src))
        record.dst = _fits("dst", handle_of(request.dst))
        record.src_offset = _fits("src_offset", request.src_offset)
        record.dst_offset = _fits("dst_offset", request.dst_offset)
        record.length = _fits("length", request.length)
        record.methods = _fits("methods", request.methods)
        record.timeout_ms = milliseconds(request.timeout)
        lifetime = _fits("token_lifetime", request.token_lifetime)
        token_type = _fits("token_type", request.token_type)
        if request.ranges is None and not (request.report or lifetime or token_type):
            return
        ext = _abi.xcopy_ext(
            size=ctypes.sizeof(_abi.xcopy_ext), token_lifetime_s=lifetime, token_type=token_type
        )
        if request.ranges is not None:
            ext.ranges, ext.nranges, self.ranges = _pack_ranges(request.ranges)
        if request.report:
            self.report = _abi.xcopy_report(size=ctypes.sizeof(_abi.xcopy_report))
            ext.report = ctypes.addressof(self.report)
        self.ext = ext
        record.ext = ctypes.addressof(ext)
