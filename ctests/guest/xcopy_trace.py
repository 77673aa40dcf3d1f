#!/usr/bin/env python3
"""Reads what EXTENDED COPY commands asked for out of three traces, and compares.

    xcopy_trace.py strace FILE           one JSON line a command: the parameter list decoded
    xcopy_trace.py events FILE HOST...   one JSON line a command: the CDB in the kernel's
                                         scsi_dispatch_cmd_start, and the disk it went to
    xcopy_trace.py target FILE           one JSON line a command: what LIO's own parser printed

Tables: SPC-4 6.4 (EXTENDED COPY), 6.3.2 (parameter list), 6.4.6.2 (segment descriptor 02h),
7.8.6 (identification descriptor CSCD descriptor E4h).
"""

import json
import re
import sys


def unescape(text):
    return bytes(int(pair, 16) for pair in re.findall(r"\\x([0-9a-f]{2})", text))


def number(data, start, length):
    return int.from_bytes(data[start:start + length], "big")


def cscd(data):
    assert data[0] == 0xE4, f"descriptor type {data[0]:02x}"
    return {
        "device_type": data[0 + 1] & 0x1F,
        "code_set": data[4] & 0x0F,
        "association": data[5] >> 4 & 3,
        "designator_type": data[5] & 0x0F,
        "designator": data[8:8 + data[7]].hex(),
        "pad": data[28] >> 2 & 1,
        "block_length": number(data, 29, 3),
        "port": number(data, 2, 2),
    }


def parameter_list(data):
    """LID1: 16 bytes of header, CSCD descriptors, segment descriptors, inline data."""
    cscds, segments = number(data, 2, 2), number(data, 8, 4)
    assert len(data) == 16 + cscds + segments + number(data, 12, 4), "lengths do not add up"
    units = [cscd(data[at:at + 32]) for at in range(16, 16 + cscds, 32)]
    moves, at = [], 16 + cscds
    while at < 16 + cscds + segments:
        piece = data[at:at + 4 + number(data, at + 2, 2)]
        assert piece[0] == 0x02 and len(piece) == 28, f"segment type {piece[0]:02x}"
        moves.append({
            "dc": piece[1] >> 1 & 1,
            "cat": piece[1] & 1,
            "source": units[number(piece, 4, 2)],
            "destination": units[number(piece, 6, 2)],
            "blocks": number(piece, 10, 2),
            "source_lba": number(piece, 12, 8),
            "destination_lba": number(piece, 20, 8),
        })
        at += len(piece)
    return {
        "list_id": data[0],
        "list_id_usage": data[1] >> 3 & 3,
        "str": data[1] >> 5 & 1,
        "priority": data[1] & 7,
        "inline": number(data, 12, 4),
        "segments": moves,
    }


def strace(path):
    # ioctl(3, SG_IO, {interface_id='S', ..., cmdp="\x83...", ..., dxferp="\x00..."} => ...
    for line in open(path, encoding="utf-8", errors="replace"):
        command = re.search(r'cmdp="((?:\\x[0-9a-f]{2})+)"', line)
        data = re.search(r'dxferp="((?:\\x[0-9a-f]{2})+)"(\.\.\.)?', line)
        if not command or not data:
            continue
        cdb = unescape(command.group(1))
        if cdb[0] != 0x83 or data.group(2):
            continue
        asked = unescape(data.group(1))
        assert number(cdb, 10, 4) == len(asked), "PARAMETER LIST LENGTH"
        timeout = re.search(r"timeout=(\d+)", line)
        yield {"cdb": cdb.hex(), "length": len(asked),
               "timeout": int(timeout.group(1)) if timeout else None, **parameter_list(asked)}


def events(path):
    for line in open(path, encoding="utf-8", errors="replace"):
        found = re.search(r"host_no=(\d+) channel=(\d+) id=(\d+) lun=(\d+).*raw=((?:[0-9a-f]{2} ?)+)\)",
                          line)
        if found and found.group(5).startswith("83"):
            cdb = bytes.fromhex(found.group(5))
            yield {"disk": ":".join(found.group(n) for n in range(1, 5)), "opcode": cdb[0],
                   "action": cdb[1] & 0x1F, "length": number(cdb, 10, 4), "control": cdb[15]}


def target(path):
    seen = {}
    for line in open(path, encoding="utf-8", errors="replace"):
        start = re.search(r"list_id: 0x([0-9a-f]+) list_id_usage: 0x([0-9a-f]+) tdll: (\d+) sdll: (\d+)", line)
        if start:
            if seen:
                yield seen
            seen = {"list_id": int(start.group(1), 16), "list_id_usage": int(start.group(2), 16),
                    "cscd_length": int(start.group(3)), "segment_length": int(start.group(4))}
        units = re.search(r"stdi: (\d+) dtdi: (\d+),? DC: (\d+)", line)
        if units:
            seen["source"], seen["destination"], seen["dc"] = map(int, units.groups())
        segment = re.search(r"nolb: (\d+) src_lba: (\d+) dst_lba: (\d+)", line)
        if segment:
            seen["blocks"], seen["source_lba"], seen["destination_lba"] = map(int, segment.groups())
    if seen:
        yield seen


def main():
    reader = {"strace": strace, "events": events, "target": target}[sys.argv[1]]
    for entry in reader(sys.argv[2]):
        print(json.dumps(entry, sort_keys=True))


if __name__ == "__main__":
    main()
