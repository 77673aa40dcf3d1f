"""A request on its way."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generator, List, Optional, Union

from ._abi import Method
from .completion import Completion
from .request import Packed, Request

if TYPE_CHECKING:
    from .queue import Queue


@dataclass(frozen=True)
class Progress:
    """How far a request is."""

    bytes_total: int
    bytes_copied: int
    bytes_offloaded: int
    commands_in_flight: int
    method: Union[Method, int]


class Ticket:
    """An accepted request: wait for it, await it, cancel it, ask how far it is.

    The owner thread of the queue waits; any thread may cancel or ask.
    """

    __slots__ = ("queue", "completion", "_key", "_packed", "_waiters", "_request", "__weakref__")

    def __init__(self, queue: "Queue", key: int, packed: Packed) -> None:
        self.queue = queue
        self.completion: Optional[Completion] = None
        self._key = key
        self._request = packed.request
        self._packed: Optional[Packed] = packed
        self._waiters: List["asyncio.Future[None]"] = []

    @property
    def request(self) -> Request:
        """The request as it was submitted."""
        return self._request

    @property
    def done(self) -> bool:
        """The completion was taken from the queue."""
        return self.completion is not None

    def wait(self, timeout: Optional[float] = None) -> Optional[Completion]:
        """The completion; None if it did not come within `timeout` seconds.

        Completions of others that arrive meanwhile are kept for Queue.poll.
        """
        return self.queue._wait_for(self, timeout)

    def cancel(self) -> bool:
        """Asks the request to end early; False if it has ended. The completion tells."""
        return self.queue._cancel(self._key) > 0

    def progress(self) -> Optional[Progress]:
        """How far the request is; None once it has ended."""
        return self.queue._progress(self._key)

    def __await__(self) -> Generator[Any, None, Completion]:
        return self.queue.wait(self).__await__()

    def _finish(self, completion: Completion) -> None:
        self.completion = completion
        self._packed = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<xcopy.Ticket {'done' if self.done else 'in flight'}>"
