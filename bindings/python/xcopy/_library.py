"""Finds libxcopy, checks that it is the one this package was written for, and
declares its functions."""

import ctypes
import ctypes.util
import os
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Dict, Sequence, Tuple

from . import _abi

SONAME = "libxcopy.so.0"

_u32p = POINTER(c_uint32)

# name: (result, arguments). Handles and struct pointers are c_void_p: a call
# then takes ctypes.byref() and a bare address alike.
_FUNCTIONS: Dict[str, Tuple[Any, Sequence[Any]]] = {
    "xcopy_version": (c_uint32, []),
    "xcopy_last_error": (c_char_p, []),
    "xcopy_reason_string": (c_char_p, [c_uint16]),
    "xcopy_method_name": (c_char_p, [c_void_p, c_uint16]),
    "xcopy_method_mask": (c_int, [c_void_p, c_char_p, _u32p]),
    "xcopy_detail_string": (c_int, [c_uint64, c_char_p, c_size_t]),
    "xcopy_struct_size": (c_size_t, [c_char_p]),
    "xcopy_context_options_init": (c_int, [c_void_p, c_size_t]),
    "xcopy_context_create": (c_int, [c_void_p, POINTER(c_void_p)]),
    "xcopy_context_free": (c_int, [c_void_p]),
    "xcopy_plugin_load": (c_int, [c_void_p, c_char_p]),
    "xcopy_plugin_load_all": (c_int, [c_void_p, c_char_p]),
    "xcopy_plugin_register": (c_int, [c_void_p, c_void_p]),
    "xcopy_plugin_count": (c_int, [c_void_p]),
    "xcopy_plugin_info": (c_int, [c_void_p, c_uint32, c_void_p, c_size_t]),
    "xcopy_device_open": (c_int, [c_void_p, c_char_p, c_uint32, _u32p]),
    "xcopy_device_open_fd": (c_int, [c_void_p, c_int, c_uint32, _u32p]),
    "xcopy_device_open_native": (c_int, [c_void_p, c_char_p, c_void_p, c_uint32, _u32p]),
    "xcopy_device_close": (c_int, [c_void_p, c_uint32]),
    "xcopy_device_is_closed": (c_int, [c_void_p, c_uint32]),
    "xcopy_device_info": (c_int, [c_void_p, c_uint32, c_void_p, c_size_t]),
    "xcopy_device_describe": (c_int, [c_void_p, c_uint32, c_char_p, c_size_t]),
    "xcopy_device_events": (c_int, [c_void_p, c_uint32, _u32p]),
    "xcopy_device_invalidate": (c_int, [c_void_p, c_uint32]),
    "xcopy_pair_query": (c_int, [c_void_p, c_uint32, c_uint32, c_void_p, c_size_t, c_uint32]),
    "xcopy_token_create": (c_int, [c_void_p, _u32p]),
    "xcopy_token_free": (c_int, [c_void_p, c_uint32]),
    "xcopy_token_info": (c_int, [c_void_p, c_uint32, c_void_p, c_size_t]),
    "xcopy_token_export": (c_int, [c_void_p, c_uint32, c_void_p, c_size_t, POINTER(c_size_t)]),
    "xcopy_token_import": (c_int, [c_void_p, c_void_p, c_size_t, _u32p]),
    "xcopy_queue_options_init": (c_int, [c_void_p, c_size_t]),
    "xcopy_queue_create": (c_int, [c_void_p, c_void_p, POINTER(c_void_p)]),
    "xcopy_queue_destroy": (c_int, [c_void_p, c_uint32]),
    "xcopy_submit": (c_int, [c_void_p, c_void_p, c_size_t, c_uint32]),
    "xcopy_poll": (c_int, [c_void_p, c_void_p, c_size_t, c_uint32, c_uint32, c_int64]),
    "xcopy_queue_fd": (c_int, [c_void_p]),
    "xcopy_queue_arm": (c_int, [c_void_p]),
    "xcopy_queue_disarm": (c_int, [c_void_p]),
    "xcopy_queue_ready": (c_int, [c_void_p]),
    "xcopy_queue_in_flight": (c_int, [c_void_p]),
    "xcopy_queue_drain": (c_int, [c_void_p]),
    "xcopy_queue_resume": (c_int, [c_void_p]),
    "xcopy_queue_stats": (c_int, [c_void_p, c_void_p, c_size_t]),
    "xcopy_cancel": (c_int, [c_void_p, c_uint64]),
    "xcopy_cancel_device": (c_int, [c_void_p, c_uint32]),
    "xcopy_progress": (c_int, [c_void_p, c_uint64, c_void_p, c_size_t]),
}


def _open() -> ctypes.CDLL:
    named = os.environ.get("XCOPY_LIBRARY")
    if named:
        try:
            return ctypes.CDLL(named)
        except OSError as error:
            raise ImportError(
                f"XCOPY_LIBRARY={named} cannot be loaded: {error}; "
                f"point it at {SONAME}, or unset it to use the wheel's or an installed one"
            ) from None
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_lib", SONAME)
    if os.path.exists(own):
        try:
            return ctypes.CDLL(own)
        except OSError as error:
            raise ImportError(
                f"the wheel's {own} cannot be loaded: {error}; install the wheel for this "
                f"machine, or set XCOPY_LIBRARY to the path of another {SONAME}"
            ) from None
    failures = []
    try:
        return ctypes.CDLL(SONAME)
    except OSError as error:
        failures.append(str(error))
    # Last, because it may start ldconfig and a compiler.
    found = ctypes.util.find_library("xcopy")
    if found and found != SONAME:
        try:
            return ctypes.CDLL(found)
        except OSError as error:
            failures.append(str(error))
    raise ImportError(
        f"{SONAME} was not found ({'; '.join(failures)}): install the wheel that carries it, "
        "or libxcopy, or set XCOPY_LIBRARY to the path of the library"
    )


def _load() -> ctypes.CDLL:
    library = _open()
    where = getattr(library, "_name", SONAME)
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(
                f"{where} has no {name}: it is not a libxcopy, or older than this package "
                f"({_abi.VERSION_MAJOR}.{_abi.VERSION_MINOR}); install a newer one"
            ) from None
        function.restype = result
        function.argtypes = arguments
    major = library.xcopy_version() >> 16
    if major != _abi.VERSION_MAJOR:
        raise ImportError(
            f"{where} has the interface version {major}, this package needs "
            f"{_abi.VERSION_MAJOR}; install matching versions"
        )
    for name, struct in _abi.STRUCTS.items():
        theirs = library.xcopy_struct_size(name.encode())
        ours = ctypes.sizeof(struct)
        if theirs != ours:
            raise ImportError(
                f"struct {name} has {theirs} bytes in {where} and {ours} in this package; "
                "install matching versions"
            )
    return library


lib = _load()


def last_error() -> str:
    """The text of this thread's last failure in the library."""
    text = lib.xcopy_last_error()
    return text.decode(errors="replace") if text else ""


def reason_text(reason: int) -> str:
    """A reason in words."""
    text = lib.xcopy_reason_string(reason)
    return text.decode(errors="replace") if text else ""


def detail_text(detail: int) -> str:
    """A detail word in words; empty if there is none."""
    if not detail >> _abi.DETAIL_DOMAIN_SHIFT:
        return ""
    need = lib.xcopy_detail_string(detail, None, 0)
    if need <= 0:
        return ""
    buffer = ctypes.create_string_buffer(need + 1)
    lib.xcopy_detail_string(detail, buffer, len(buffer))
    return buffer.value.decode(errors="replace")


def library() -> str:
    """The library that is in use: a path, or the name that the dynamic linker was given."""
    return str(lib._name)


def version() -> Tuple[int, int, int]:
    """The library's version: major, minor, patch."""
    packed: int = lib.xcopy_version()
    return packed >> 16, packed >> 8 & 0xFF, packed & 0xFF
