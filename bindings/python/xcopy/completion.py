"""How a request ended."""

import ctypes
import os
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Type, TypeVar, Union

from . import _library
from ._abi import Cpl, Method, Reason, xcopy_completion, xcopy_report
from .errors import XcopyError

_E = TypeVar("_E", bound=int)


def named(enumeration: Type[_E], value: int) -> Union[_E, int]:
    """The member of an enumeration, or the number that a newer library uses."""
    try:
        return enumeration(value)
    except ValueError:
        return value


def method_name(context: Optional[int], method: int) -> str:
    """Name of a method; `context` knows those of its plugins."""
    name = _library.lib.xcopy_method_name(context, method)
    if name:
        return str(name.decode(errors="replace"))
    return "none" if method == Method.NONE else f"method {method}"


@dataclass(frozen=True)
class MethodShare:
    """What one method did for a request."""

    name: str
    method: int
    offloaded: bool
    bytes: int
    commands: int


@dataclass(frozen=True)
class Fallback:
    """Why a request left, or never took, a method."""

    name: str
    method: int
    reason: Union[Reason, int]
    reason_text: str
    errno: int
    detail: str


@dataclass(frozen=True)
class Report:
    """What does not fit into a completion."""

    shares: List[MethodShare]
    fallbacks: List[Fallback]
    failed_index: int
    failed: Optional[Tuple[int, int, int]]
    untouched_from: int
    sense: bytes

    @classmethod
    def from_record(cls, record: xcopy_report, context: Optional[int]) -> "Report":
        """Copies the library's report, so that its memory can go."""
        shares = [
            MethodShare(
                method_name(context, share.method),
                share.method,
                bool(share.offloaded),
                share.bytes,
                share.commands,
            )
            for share in record.shares[: record.nshares]
        ]
        fallbacks = [
            Fallback(
                method_name(context, fallback.method),
                fallback.method,
                named(Reason, fallback.reason),
                _library.reason_text(fallback.reason),
                -fallback.error,
                _library.detail_text(fallback.detail),
            )
            for fallback in record.fallbacks[: record.nfallbacks]
        ]
        failed = record.failed
        return cls(
            shares,
            fallbacks,
            record.failed_index,
            (failed.src_offset, failed.dst_offset, failed.length) if failed.length else None,
            record.untouched_from,
            bytes(record.sense[: record.sense_len]),
        )


class Completion:
    """The end of one request.

    `res` is 0 or -errno. `bytes_done` is the longest prefix known to be copied,
    `bytes_copied` all that is, `bytes_offloaded` what of it never passed
    through the host. `report` is there if the request asked for one.
    """

    __slots__ = (
        "user_data",
        "res",
        "flags",
        "bytes_done",
        "bytes_copied",
        "bytes_offloaded",
        "detail",
        "commands",
        "method",
        "method_name",
        "reason",
        "report",
        "_record",
    )

    def __init__(
        self,
        record: xcopy_completion,
        user_data: Any,
        context: Optional[int],
        report: Optional[Report] = None,
    ) -> None:
        self.user_data = user_data
        self.res: int = record.res
        self.flags = Cpl(record.flags)
        self.bytes_done: int = record.bytes_done
        self.bytes_copied: int = record.bytes_copied
        self.bytes_offloaded: int = record.bytes_offloaded
        self.detail: int = record.detail
        self.commands: int = record.commands
        self.method = named(Method, record.method)
        self.method_name = method_name(context, record.method)
        self.reason = named(Reason, record.reason)
        self.report = report
        # poll_into hands out what another call has reaped.
        self._record = ctypes.string_at(ctypes.addressof(record), ctypes.sizeof(record))

    @property
    def ok(self) -> bool:
        """All of the request was done."""
        return self.res == 0

    @property
    def offloaded(self) -> bool:
        """All copied bytes were moved without passing through the host."""
        return bool(self.flags & Cpl.OFFLOADED)

    @property
    def detail_text(self) -> str:
        """The last error as the device gave it, in words."""
        return _library.detail_text(self.detail)

    @property
    def reason_text(self) -> str:
        """Why a better method was not used, in words."""
        return _library.reason_text(self.reason)

    @property
    def error(self) -> Optional[XcopyError]:
        """The exception that this completion stands for; None if it is a success."""
        if self.res >= 0:
            return None
        text = [os.strerror(-self.res)]
        if self.detail_text:
            text.append(self.detail_text)
        if self.reason:
            text.append(self.reason_text)
        if self.flags & Cpl.INDETERMINATE:
            text.append("what the destination holds after the bytes done is not known")
        text.append(f"{self.bytes_done} bytes done")
        return XcopyError(
            -self.res,
            "; ".join(text),
            reason=self.reason,
            detail=self.detail_text,
            bytes_done=self.bytes_done,
            completion=self,
        )

    def raise_for_error(self) -> "Completion":
        """This completion, or its exception."""
        error = self.error
        if error is not None:
            raise error
        return self

    def __repr__(self) -> str:
        return (
            f"Completion(user_data={self.user_data!r}, res={self.res}, flags={self.flags!r}, "
            f"bytes_done={self.bytes_done}, method={self.method_name!r})"
        )
