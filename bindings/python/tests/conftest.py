"""What the tests share: data that shows a lost or misplaced write, and contexts."""

import os
import struct

import pytest

import xcopy

STAMP = struct.Struct("<8sQQQ")


def stamped(disk, size, generation=1, start=0):
    """`size` bytes in which every 512 say which disk, which block and which generation."""
    out = bytearray()
    for block in range(start // 512, (start + size + 511) // 512):
        head = STAMP.pack(b"xcopytst", disk, block, generation)
        out += head * (512 // STAMP.size)
    return bytes(out[:size])


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def context():
    with xcopy.Context() as made:
        yield made


@pytest.fixture
def host():
    """No plugins: only the library's own methods."""
    with xcopy.Context(plugins=False) as made:
        yield made


@pytest.fixture
def null():
    """A context with the null plugin, which XCOPY_PLUGIN_DIR has to lead to."""
    with xcopy.Context() as made:
        if not any(plugin.name == "null" for plugin in made.plugins):
            pytest.skip("no null plugin: set XCOPY_PLUGIN_DIR to where libxcopy_null.so is")
        yield made


@pytest.fixture
def null_pair(null):
    src = null.open("null:1G,id=1", xcopy.Open.READ)
    dst = null.open("null:1G,id=2", xcopy.Open.WRITE)
    with src, dst:
        yield null, src, dst


@pytest.fixture
def files(tmp_path):
    """A stamped source, and a larger destination prefilled with another stamp."""
    src = tmp_path / "src"
    dst = tmp_path / "dst"
    src.write_bytes(stamped(1, 1 << 20))
    dst.write_bytes(stamped(2, 2 << 20))
    return src, dst


@pytest.fixture
def slow(tmp_path):
    """Arguments of a copy that takes seconds: many small commands, one at a time."""
    src = tmp_path / "slow-src"
    with open(src, "wb") as file:
        file.truncate(512 << 20)
    return {
        "src": src,
        "dst": tmp_path / "slow-dst",
        "methods": "read_write",
        "keep_holes": False,
        "depth": 1,
        "chunk": 4096,
    }
