"""Compares traced system calls with the list, or writes the list anew.

syscalls.py SEEN LIST --write|"" BACKENDS ANYWHERE
"""

import sys
import textwrap

HEAD = """\
# The system calls of libxcopy, by backend and phase, for whoever writes a seccomp
# filter. Traced and compared by ctests/portability/syscalls; x86-64, glibc.
#
# Each phase has what was seen of it, on files (ext4), disks (loop devices) and
# devices of the null plugin. Two lists go with them: threads of the library and
# the C library's memory need what stands under "anywhere", in every phase but
# those two of null that are silent; what stands under "copying" is used instead or
# as well on other kernels, file systems and schedules by every phase from prepare
# to flush. Kernels before 6.5 have no cachestat, and some no io_uring: the library
# then does without, so a filter that answers ENOSYS to them does no harm. Plugins of
# others add their own.
#
# context   xcopy_context_create             load      xcopy_plugin_load
# copy      submit, poll: prepared, unarmed  deadline  the same with timeout_ms
# armed     the same after xcopy_queue_arm   wait      xcopy_poll that sleeps
# query     xcopy_pair_query, _invalidate    free      xcopy_context_free
"""
BACKENDS = ("null", "file", "disk")
PHASES = (
    "context load queue open prepare copy deadline armed wait read_write copy_file_range "
    "sendfile zero durable flush query close destroy free"
).split()
# What other kernels, file systems and schedules than the traced ones lead to, as
# the sources have it, while data is copied or waited for.
COPYING = set(
    "cachestat close copy_file_range fadvise64 fallocate fcntl fdatasync "
    "fstatfs fsync ftruncate io_uring_enter io_uring_register ioctl lseek mincore newfstatat openat "
    "ppoll pread64 pwrite64 read sendfile sync_file_range timerfd_create timerfd_settime write".split()
)
COPIES = set("prepare copy deadline armed wait read_write copy_file_range sendfile zero durable flush".split())
# Phases in which not even memory may be asked for.
SILENT = {"null copy", "null deadline"}


# Numbers, on x86-64, of calls that an older strace has no name for.
UNNAMED = {"syscall_0x1c3": "cachestat"}


def key(name):
    backend, phase = name.split()
    return BACKENDS.index(backend), PHASES.index(phase)


def read_seen(path):
    seen = {}
    for line in open(path):
        name, _, call = line.rstrip("\n").partition(":")
        if not name.endswith(" end"):
            seen.setdefault(name, set()).update(UNNAMED.get(c, c) for c in call.split())
    return seen


def read_list(path):
    listed, name = {}, None
    try:
        lines = open(path).read().splitlines()
    except FileNotFoundError:
        return listed
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            name, _, line = line.partition(":")
        listed.setdefault(name, set()).update(w for w in line.split() if w != "none")
    return listed


def total(listed, anywhere):
    calls = {call for name, calls in listed.items() if " " in name for call in calls}
    return calls | anywhere | COPYING


def write_list(path, seen, listed, anywhere):
    fresh = {name: calls for name, calls in listed.items() if " " in name and name not in seen}
    for name, calls in seen.items():
        fresh[name] = calls if name in SILENT else calls - anywhere

    def wrap(name, calls):
        text = f"{name}: " + (" ".join(sorted(calls)) or "none")
        return textwrap.fill(text, 88, subsequent_indent="    ", break_on_hyphens=False) + "\n"

    with open(path, "w") as out:
        out.write(HEAD + "\n" + wrap("anywhere", anywhere) + "\n")
        out.write(wrap("copying", COPYING) + "\n")
        for name in sorted(fresh, key=key):
            out.write(wrap(name, fresh[name]))
        out.write("\n" + wrap("all", total(fresh, anywhere)))


def compare(seen, listed, backends, anywhere):
    same = different = 0

    def differ(text):
        nonlocal different
        different += 1
        print(f"failed: {text}; ctests/portability/syscalls PACKAGE --write, and look at it")

    if listed.get("anywhere") != anywhere or listed.get("copying") != COPYING:
        differ("'anywhere' or 'copying' is another list")
    if listed.get("all") != total(listed, anywhere):
        differ("'all' is not the sum")
    for name in sorted(seen, key=key):
        calls = listed.get(name)
        if calls is None:
            differ(f"{name} is not listed")
            continue
        new = seen[name] - calls
        if name not in SILENT:
            new -= anywhere
            new -= COPYING if name.split()[1] in COPIES else set()
        gone = calls - seen[name]
        if gone:
            # Not wrong: another kernel or C library does with others.
            print(f"note: {name}: listed and not seen here: {' '.join(sorted(gone))}")
        if new:
            differ(f"{name}: not listed: {' '.join(sorted(new))}")
        else:
            same += 1
    for name in listed:
        if " " in name and name.split()[0] in backends and name not in seen:
            differ(f"{name} is no phase")
    print(f"{same} same, {different} different")


def main():
    seen_path, list_path, write, backends, anywhere = sys.argv[1:]
    seen, listed, anywhere = read_seen(seen_path), read_list(list_path), set(anywhere.split())
    if write:
        write_list(list_path, seen, listed, anywhere)
        print(f"{len(seen)} same, 0 different")
    else:
        compare(seen, listed, backends.split(), anywhere)


main()
