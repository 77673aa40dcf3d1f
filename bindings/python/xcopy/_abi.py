"""The structs and constants of xcopy_types.h, under their C names."""

import enum
from ctypes import (
    CFUNCTYPE,
    Structure,
    c_char,
    c_char_p,
    c_int32,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Dict, Type

VERSION_MAJOR = 0
VERSION_MINOR = 1

HANDLE_NONE = 0
METHOD_MAX = 32
METHOD_DYNAMIC = 16
REPORT_FALLBACKS = 16
SENSE_MAX = 252
DETAIL_DOMAIN_SHIFT = 60
DETAIL_METHOD_SHIFT = 52
QUEUE_PINNED = 1
DESTROY_FORCE = 1


class Op(enum.IntEnum):
    """What a request does."""

    COPY = 1
    ZERO = 2
    FLUSH = 3
    PREPARE = 4
    TOKEN_CREATE = 5
    TOKEN_WRITE = 6
    TOKEN_RELEASE = 7


class Req(enum.IntFlag):
    """Flags of a request."""

    NO_FALLBACK = 1 << 0
    DURABLE = 1 << 1
    NO_COHERENCE = 1 << 2
    DISJOINT = 1 << 3
    FAST_ONLY = 1 << 4
    SET_HOST_BEHAVIOR = 1 << 5
    KEEP_HOLES = 1 << 6
    ABANDON_ON_TIMEOUT = 1 << 7
    EXCLUSIVE = 1 << 8


class Method(enum.IntEnum):
    """The fixed methods; numbers from 16 on belong to plugins."""

    NONE = 0
    REFLINK = 1
    NVME_COPY = 2
    SCSI_XCOPY = 3
    ODX = 4
    COPY_FILE_RANGE = 5
    SENDFILE = 6
    READ_WRITE = 7
    ZERO = 8
    NULL = 9


class Shows(enum.IntEnum):
    """What a token shows of a source that is written to after the token was made.

    SOURCE: the source as it is when the token is written from. PAST: as it was
    when the token was made. PAST_UNCHANGED: the same, until it is written to;
    then the token is refused.
    """

    UNKNOWN = 0
    SOURCE = 1
    PAST = 2
    PAST_UNCHANGED = 3
    ZEROES = 4


class Reason(enum.IntEnum):
    """Why a better method was not used."""

    NONE = 0
    NOT_ALLOWED = 1
    NO_PLUGIN = 2
    WRONG_DEVICE = 3
    CROSS_DEVICE = 4
    NOT_SUPPORTED = 5
    MISALIGNED = 6
    BLOCK_SIZE = 7
    PERMISSION = 8
    LIMITS = 9
    FAILED = 10
    FAILED_BEFORE = 11
    SLOWER = 12
    STACKED = 13
    NO_POOL = 14
    PLUGIN_FAULT = 15
    TIMED_OUT = 16
    CANCELED = 17
    REMOVED = 18
    OVERLAP = 19
    BOUNDS = 20
    RESERVED = 21
    RESOURCES = 22
    TOKEN = 23
    FEATURE_OFF = 24
    KERNEL = 25
    BY_NAME_ONLY = 26
    DESTROYED = 27


class Cpl(enum.IntFlag):
    """Flags of a completion."""

    OFFLOADED = 1 << 0
    EMULATED = 1 << 1
    FELL_BACK = 1 << 2
    INDETERMINATE = 1 << 3
    UNSETTLED = 1 << 4
    CACHE_UNVERIFIED = 1 << 5
    ERR_ON_READ = 1 << 6
    ERR_ON_WRITE = 1 << 7


class Domain(enum.IntEnum):
    """Who speaks in a detail word: its bits 60 to 63."""

    NONE = 0
    ERRNO = 1
    SCSI = 2
    NVME = 3
    FAULT = 4
    VENDOR = 5


class Fault(enum.IntEnum):
    """How a plugin broke its contract: bits 0 to 31 of a detail word of Domain.FAULT."""

    SHORT = 1
    OVER_REPORT = 2
    COOKIE = 3
    STATUS = 4
    COUNT = 5
    PANIC = 6


class Open(enum.IntFlag):
    """How a device is opened."""

    READ = 1 << 0
    WRITE = 1 << 1
    OWNED = 1 << 2
    FORCE = 1 << 3


class Kind(enum.IntEnum):
    """What a device is."""

    FILE = 1
    DISK = 2
    PARTITION = 3
    STACKED = 4
    CHAR = 5
    NATIVE = 6


class Event(enum.IntFlag):
    """What happened to a device."""

    REMOVED = 1 << 0
    RESIZED = 1 << 1
    LIMITS_CHANGED = 1 << 2


class LogLevel(enum.IntEnum):
    """Weight of a log message; a context's level lets equal and lower numbers through."""

    SILENT = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    DEBUG = 4


class Model(enum.IntEnum):
    """How a plugin executes commands."""

    POLLED = 1
    THREADED = 2
    BLOCKING = 3
    AFFINE = 4


LOG_FN = CFUNCTYPE(None, c_void_p, c_uint32, c_char_p)


class xcopy_context_options(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("pool_threads", c_uint32),
        ("log_level", c_uint32),
        ("log", LOG_FN),
        ("log_ctx", c_void_p),
        ("alloc", c_void_p),
        ("free", c_void_p),
        ("alloc_ctx", c_void_p),
        ("thread_start", c_void_p),
        ("thread_ctx", c_void_p),
        ("memory_budget", c_uint64),
        ("methods", c_uint32),
        ("retry_after_s", c_uint32),
    ]


class xcopy_queue_options(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("capacity", c_uint32),
        ("window", c_uint32),
        ("depth", c_uint32),
        ("reserved", c_uint32),
        ("chunk", c_uint64),
    ]


class xcopy_range(Structure):
    _fields_ = [
        ("src_offset", c_uint64),
        ("dst_offset", c_uint64),
        ("length", c_uint64),
    ]


# Pointers are plain addresses, so that numpy.dtype() accepts the records.
class xcopy_ext(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("ranges", c_void_p),
        ("nranges", c_uint64),
        ("report", c_void_p),
        ("token_lifetime_s", c_uint32),
        ("token_type", c_uint32),
    ]


class xcopy_request(Structure):
    _fields_ = [
        ("user_data", c_uint64),
        ("op", c_uint16),
        ("reserved", c_uint16),
        ("flags", c_uint32),
        ("src", c_uint32),
        ("dst", c_uint32),
        ("src_offset", c_uint64),
        ("dst_offset", c_uint64),
        ("length", c_uint64),
        ("methods", c_uint32),
        ("timeout_ms", c_uint32),
        ("ext", c_void_p),
    ]


class xcopy_completion(Structure):
    _fields_ = [
        ("user_data", c_uint64),
        ("res", c_int32),
        ("flags", c_uint32),
        ("bytes_done", c_uint64),
        ("bytes_copied", c_uint64),
        ("bytes_offloaded", c_uint64),
        ("detail", c_uint64),
        ("commands", c_uint32),
        ("method", c_uint16),
        ("reason", c_uint16),
        ("reserved", c_uint64),
    ]


class xcopy_method_share(Structure):
    _fields_ = [
        ("method", c_uint16),
        ("offloaded", c_uint16),
        ("commands", c_uint32),
        ("bytes", c_uint64),
    ]


class xcopy_fallback(Structure):
    _fields_ = [
        ("method", c_uint16),
        ("reason", c_uint16),
        ("error", c_int32),
        ("detail", c_uint64),
    ]


class xcopy_report(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("nshares", c_uint32),
        ("nfallbacks", c_uint32),
        ("sense_len", c_uint32),
        ("failed_index", c_uint64),
        ("failed", xcopy_range),
        ("untouched_from", c_uint64),
        ("shares", xcopy_method_share * METHOD_MAX),
        ("fallbacks", xcopy_fallback * REPORT_FALLBACKS),
        ("sense", c_uint8 * SENSE_MAX),
        ("reserved", c_uint32),
    ]


class xcopy_limits(Structure):
    _fields_ = [
        ("preferred_bytes", c_uint64),
        ("max_bytes", c_uint64),
        ("max_range_bytes", c_uint64),
        ("src_granularity", c_uint32),
        ("dst_granularity", c_uint32),
        ("length_granularity", c_uint32),
        ("max_ranges", c_uint32),
        ("max_concurrent", c_uint32),
        ("contiguous_dst", c_uint32),
    ]


class xcopy_method_info(Structure):
    _fields_ = [
        ("method", c_uint16),
        ("reason", c_uint16),
        ("usable", c_uint32),
        ("offloaded", c_uint32),
        ("generation", c_uint32),
        ("limits", xcopy_limits),
        ("name", c_char * 32),
        ("plugin", c_char * 32),
        ("text", c_char * 160),
    ]


class xcopy_device_info(Structure):
    _fields_ = [
        ("kind", c_uint32),
        ("open_flags", c_uint32),
        ("size_bytes", c_uint64),
        ("block_size", c_uint32),
        ("physical_block_size", c_uint32),
        ("dev_major", c_uint32),
        ("dev_minor", c_uint32),
        ("disk_major", c_uint32),
        ("disk_minor", c_uint32),
        ("disk_offset", c_uint64),
        ("in_flight", c_uint32),
        ("events", c_uint32),
        ("size_known", c_uint32),
        ("reserved", c_uint32),
        ("name", c_char * 256),
    ]


class xcopy_plugin_info(Structure):
    _fields_ = [
        ("name", c_char * 32),
        ("version", c_char * 32),
        ("description", c_char * 128),
        ("path", c_char * 256),
        ("methods", c_uint32),
        ("model", c_uint32),
        ("abi_version", c_uint32),
        ("cmd_private", c_uint32),
    ]


class xcopy_progress(Structure):
    _fields_ = [
        ("bytes_total", c_uint64),
        ("bytes_copied", c_uint64),
        ("bytes_offloaded", c_uint64),
        ("commands_in_flight", c_uint32),
        ("method", c_uint32),
    ]


class xcopy_queue_stats(Structure):
    _fields_ = [
        ("requests", c_uint64),
        ("completions", c_uint64),
        ("commands", c_uint64),
        ("command_errors", c_uint64),
        ("retries", c_uint64),
        ("fallbacks", c_uint64),
        ("bytes_copied", c_uint64),
        ("bytes_offloaded", c_uint64),
        ("late_answers", c_uint64),
        ("plugin_faults", c_uint64),
        ("abandoned", c_uint64),
        ("memory_bytes", c_uint64),
    ]


class xcopy_token_info(Structure):
    _fields_ = [
        ("bytes", c_uint64),
        ("export_bytes", c_uint64),
        ("lifetime_s", c_uint32),
        ("token_type", c_uint32),
        ("method", c_uint16),
        ("reserved", c_uint16),
        ("filled", c_uint32),
        ("plugin", c_char * 32),
        ("created_s", c_uint64),
        ("origin_offset", c_uint64),
        ("shows", c_uint32),
        ("reserved2", c_uint32),
        ("origin", c_char * 128),
    ]


STRUCTS: Dict[str, Type[Structure]] = {
    struct.__name__: struct
    for struct in (
        xcopy_context_options,
        xcopy_queue_options,
        xcopy_range,
        xcopy_ext,
        xcopy_request,
        xcopy_completion,
        xcopy_method_share,
        xcopy_fallback,
        xcopy_report,
        xcopy_limits,
        xcopy_method_info,
        xcopy_device_info,
        xcopy_plugin_info,
        xcopy_progress,
        xcopy_queue_stats,
        xcopy_token_info,
    )
}

REQUEST_SIZE = 64
COMPLETION_SIZE = 64
RANGE_SIZE = 24
