"""What can go wrong, as exceptions."""

import os
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Type, Union

from . import _library
from ._abi import Reason

if TYPE_CHECKING:
    from .completion import Completion
    from .ticket import Ticket


_mixes: Dict[Tuple[type, type], Type["XcopyError"]] = {}


def _mixed(kind: Type["XcopyError"], errno: int) -> Type["XcopyError"]:
    """`kind`, also derived from the class that Python has for this errno."""
    builtin = type(OSError(errno, ""))
    if issubclass(kind, builtin):
        return kind
    if (kind, builtin) not in _mixes:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        _mixes[kind, builtin] = type(kind.__name__, (kind, builtin), names)
    return _mixes[kind, builtin]


class XcopyError(OSError):
    """A call was refused, or a request failed.

    `errno` and `strerror` are as in every OSError, and so is the class: what has
    ENOENT is a FileNotFoundError too, what has ETIMEDOUT a TimeoutError. `reason`
    is why no better method was used, `detail` the error as the device gave it, in
    words, and `bytes_done` the prefix of the request known to be copied.
    """

    def __new__(cls, errno: int, text: str, **more: Any) -> "XcopyError":
        return super().__new__(_mixed(cls, errno), errno, text)

    def __init__(
        self,
        errno: int,
        text: str,
        *,
        reason: Union[Reason, int] = Reason.NONE,
        detail: str = "",
        bytes_done: int = 0,
        completion: Optional["Completion"] = None,
    ) -> None:
        super().__init__(errno, text)
        self.reason = reason
        self.detail = detail
        self.bytes_done = bytes_done
        self.completion = completion

    def __reduce__(self) -> Tuple[Any, ...]:
        # What belongs to a queue of this process stays here.
        state = {**self.__dict__, "completion": None}
        if "tickets" in state:
            state["tickets"] = []
        kind = SubmitError if isinstance(self, SubmitError) else XcopyError
        return kind, (self.errno, self.strerror), state


class SubmitError(XcopyError):
    """A request was refused and not started.

    Of a batch the first `accepted` were taken and run on; `tickets` are theirs.
    """

    def __init__(
        self,
        errno: int,
        text: str,
        *,
        accepted: int = 0,
        tickets: Optional[List["Ticket"]] = None,
        **more: Any,
    ) -> None:
        super().__init__(errno, text, **more)
        self.accepted = accepted
        self.tickets: List["Ticket"] = tickets or []


def fail(code: int, kind: Type[XcopyError] = XcopyError) -> XcopyError:
    """The exception for a negative answer of the library's last call."""
    return kind(-code, _library.last_error() or os.strerror(-code))


def check(code: int) -> int:
    """`code`, or the exception that it stands for."""
    if code < 0:
        raise fail(code)
    return code
