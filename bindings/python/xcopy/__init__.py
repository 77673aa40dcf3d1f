"""libxcopy: copy offload on Linux, and the truth about which method did it.

`copy`, `copying` and `copy_async` copy files and disks in one call. `Context`,
`Device` and `Queue` are the library's own objects; `Queue.submit_batch` and
`Queue.poll_into` work on arrays of records without an object per operation.
The library is the one that XCOPY_LIBRARY names, else the wheel's own, else what
the dynamic linker finds; `library` says which.
"""

from ._abi import (
    Cpl,
    Domain,
    Event,
    Fault,
    Kind,
    LogLevel,
    Method,
    Model,
    Op,
    Open,
    Reason,
    Req,
    Shows,
)
from ._abi import xcopy_completion as CompletionRecord
from ._abi import xcopy_ext as ExtRecord
from ._abi import xcopy_range as RangeRecord
from ._abi import xcopy_report as ReportRecord
from ._abi import xcopy_request as RequestRecord
from ._library import detail_text, library, reason_text, version
from .completion import Completion, Fallback, MethodShare, Report
from .context import Context, Limits, MethodInfo, PluginInfo, default_context
from .copying import Copy, Result, copy, copy_async, copying
from .device import Device, DeviceInfo, Token, TokenInfo
from .errors import SubmitError, XcopyError
from .handle import QueueStats
from .queue import Queue
from .request import Request
from .ticket import Progress, Ticket

__version__ = "0.1.0"

__all__ = [
    "Completion",
    "CompletionRecord",
    "Context",
    "Copy",
    "Cpl",
    "Device",
    "DeviceInfo",
    "Domain",
    "Event",
    "ExtRecord",
    "Fallback",
    "Fault",
    "Kind",
    "Limits",
    "LogLevel",
    "Method",
    "MethodInfo",
    "MethodShare",
    "Model",
    "Op",
    "Open",
    "PluginInfo",
    "Progress",
    "Queue",
    "QueueStats",
    "RangeRecord",
    "Reason",
    "Report",
    "ReportRecord",
    "Req",
    "Request",
    "RequestRecord",
    "Result",
    "Shows",
    "SubmitError",
    "Ticket",
    "Token",
    "TokenInfo",
    "XcopyError",
    "copy",
    "copy_async",
    "copying",
    "default_context",
    "detail_text",
    "library",
    "reason_text",
    "version",
]
