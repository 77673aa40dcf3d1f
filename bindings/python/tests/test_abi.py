"""The binding's structs and constants against the library and its header."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xcopy
from xcopy import _abi, _library

TREE = Path(__file__).resolve().parents[3]
HEADER = Path(os.environ.get("XCOPY_INCLUDE", TREE / "include")) / "xcopy_types.h"
PACKAGE = str(Path(xcopy.__file__).parents[1])


@pytest.mark.parametrize("name", sorted(_abi.STRUCTS))
def test_size(name):
    assert _library.lib.xcopy_struct_size(name.encode()) == ctypes.sizeof(_abi.STRUCTS[name])


def test_fixed_offsets():
    offsets = {
        name: getattr(_abi.xcopy_request, name).offset for name, _ in _abi.xcopy_request._fields_
    }
    assert offsets == {
        "user_data": 0,
        "op": 8,
        "reserved": 10,
        "flags": 12,
        "src": 16,
        "dst": 20,
        "src_offset": 24,
        "dst_offset": 32,
        "length": 40,
        "methods": 48,
        "timeout_ms": 52,
        "ext": 56,
    }
    assert ctypes.sizeof(_abi.xcopy_request) == ctypes.sizeof(_abi.xcopy_completion) == 64
    assert _abi.xcopy_completion.reserved.offset == 56


def test_unknown_struct_has_no_size():
    assert _library.lib.xcopy_struct_size(b"xcopy_nothing") == 0


def header():
    text = HEADER.read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return text


def constants():
    found = {}
    for name, value in re.findall(r"^#define XCOPY_(\w+) (\S.*)$", header(), flags=re.M):
        value = re.sub(r"UINT64_C\((\d+)\)", r"\1", value)
        value = re.sub(r"(\d)u\b", r"\1", value)
        if re.fullmatch(r"[\d() <]+", value):
            found[name] = eval(value)
    return found


ENUMS = {
    "OP": xcopy.Op,
    "REQ": xcopy.Req,
    "METHOD": xcopy.Method,
    "REASON": xcopy.Reason,
    "CPL": xcopy.Cpl,
    "FAULT": xcopy.Fault,
    "OPEN": xcopy.Open,
    "KIND": xcopy.Kind,
    "EVENT": xcopy.Event,
    "LOG": xcopy.LogLevel,
    "DETAIL": xcopy.Domain,
}
NOT_MEMBERS = {
    "REQ_ALL",
    "OPEN_ALL",
    "METHOD_MAX",
    "METHOD_DYNAMIC",
    "REASON_COUNT",
    "DETAIL_DOMAIN_SHIFT",
    "DETAIL_METHOD_SHIFT",
}


def test_constants_are_the_header_s():
    known = constants()
    members = 0
    for name, value in known.items():
        prefix, _, member = name.partition("_")
        if prefix in ENUMS and name not in NOT_MEMBERS:
            assert ENUMS[prefix][member] == value, name
            members += 1
    silent = 1  # LogLevel.SILENT is the absence of a level
    assert members == sum(len(enumeration) for enumeration in ENUMS.values()) - silent
    assert known["REQ_ALL"] == sum(xcopy.Req)
    assert known["OPEN_ALL"] == sum(xcopy.Open)
    assert known["REASON_COUNT"] == len(xcopy.Reason)
    for name in (
        "METHOD_MAX",
        "METHOD_DYNAMIC",
        "REPORT_FALLBACKS",
        "SENSE_MAX",
        "DETAIL_DOMAIN_SHIFT",
        "DETAIL_METHOD_SHIFT",
        "QUEUE_PINNED",
        "DESTROY_FORCE",
        "VERSION_MAJOR",
        "VERSION_MINOR",
        "HANDLE_NONE",
    ):
        assert getattr(_abi, name) == known[name], name


@pytest.mark.parametrize("name", sorted(_abi.STRUCTS))
def test_fields_are_the_header_s(name):
    body = re.search(rf"^struct {name} \{{(.*?)^\}}", header(), flags=re.M | re.S).group(1)
    fields = re.findall(r"(\w+)(?:\[\w+\])?;", body)
    assert fields == [field[0] for field in _abi.STRUCTS[name]._fields_]


def test_strings():
    assert xcopy.version()[0] == 0
    for reason in xcopy.Reason:
        if reason:
            assert xcopy.reason_text(reason)
    assert xcopy.detail_text(0) == ""
    assert xcopy.detail_text(xcopy.Domain.ERRNO << 60 | 28)


def run(code, **env):
    environment = {**os.environ, "PYTHONPATH": PACKAGE, **env}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_library_that_is_not_there():
    done = run("import xcopy", XCOPY_LIBRARY="/nowhere/libxcopy.so.0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: XCOPY_LIBRARY=/nowhere/libxcopy.so.0")


def test_a_library_that_is_another():
    libc = next(
        line.split()[-1] for line in open("/proc/self/maps") if re.search(r"/libc[.-].*so", line)
    )
    done = run("import xcopy", XCOPY_LIBRARY=libc)
    assert done.returncode == 1
    assert "has no xcopy_version: it is not a libxcopy" in done.stderr


PLANT = """
import ctypes, sys, types, importlib.util
path = {package!r} + "/xcopy"
package = types.ModuleType("xcopy"); package.__path__ = [path]; sys.modules["xcopy"] = package
from xcopy import _abi
{change}
import xcopy._library
"""


def test_a_struct_of_another_size():
    change = (
        "more = _abi.xcopy_progress._fields_ + [('more', ctypes.c_uint64)]\n"
        "class other(ctypes.Structure): _fields_ = more\n"
        "_abi.STRUCTS['xcopy_progress'] = other"
    )
    done = run(PLANT.format(package=PACKAGE, change=change))
    assert done.returncode == 1
    assert "struct xcopy_progress has 32 bytes in" in done.stderr
    assert "and 40 in this package" in done.stderr


def test_another_major_version():
    done = run(PLANT.format(package=PACKAGE, change="_abi.VERSION_MAJOR = 9"))
    assert done.returncode == 1
    assert "ImportError" in done.stderr and "needs 9" in done.stderr
