"""What copy() writes to: created, opened, and given its final size."""

import os
import stat
from contextlib import ExitStack
from typing import Any, Optional

from ._abi import Open
from .context import Context
from .device import Device


def is_native(context: Context, target: Any) -> bool:
    """Whether a plugin of the context opens this "name:spec"."""
    if not isinstance(target, str):
        return False
    name, colon, _ = target.partition(":")
    return bool(colon) and any(plugin.name == name for plugin in context.plugins)


def flush(target: Any) -> None:
    """Writes out what a file object holds back."""
    method = getattr(target, "flush", None)
    if method is not None:
        method()


class Destination:
    """Opens what is copied to; a path that does not exist is created."""

    def __init__(self, context: Context, src: Any, dst: Any, stack: ExitStack) -> None:
        self.fd: Optional[int] = None
        self.created: Optional[str] = None
        if isinstance(dst, Device):
            self.device = dst
            return
        if isinstance(dst, (str, bytes, os.PathLike)) and not is_native(context, dst):
            path = os.fsdecode(dst)
            if isinstance(src, (str, bytes, os.PathLike)) and os.path.isdir(path):
                path = os.path.join(path, os.path.basename(os.fsdecode(src)))
            self._open_file(src, path, stack)
            dst = path
        else:
            flush(dst)
        try:
            target = dst if self.fd is None else self.fd
            self.device = stack.enter_context(context.open(target, Open.WRITE))
        except BaseException:
            self.undo()
            raise

    def _open_file(self, src: Any, path: str, stack: ExitStack) -> None:
        flags = os.O_CLOEXEC | os.O_NOCTTY
        try:
            found = os.stat(path)
        except FileNotFoundError:
            self.fd = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            self.created = path
        else:
            if not stat.S_ISREG(found.st_mode):
                return
            try:
                # Readable too if it may be: the library then sees its page cache.
                self.fd = os.open(path, flags | os.O_RDWR)
            except PermissionError:
                self.fd = os.open(path, flags | os.O_WRONLY)
        stack.callback(os.close, self.fd)

    def undo(self) -> None:
        """Nothing was started: a file that was created goes again."""
        if self.created is not None:
            os.unlink(self.created)
            self.created = None

    def finish(self, size: Optional[int], durable: bool) -> None:
        """After success: the size that a replaced file must have, and its name made to last."""
        if self.fd is None:
            return
        if size is not None and os.fstat(self.fd).st_size != size:
            os.ftruncate(self.fd, size)
            if durable:
                os.fsync(self.fd)
        if durable and self.created is not None:
            directory = os.open(os.path.dirname(self.created) or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def same_file(first: Any, second: Any) -> bool:
    """Whether two paths lead to one file."""
    paths = (str, bytes, os.PathLike)
    if not isinstance(first, paths) or not isinstance(second, paths):
        return False
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False
