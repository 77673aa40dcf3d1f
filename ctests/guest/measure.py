#!/usr/bin/env python3
"""Runs cases of a benchmark interleaved and prints medians with quartiles.

    measure.py PLAN RUNS JSON
    measure.py --join JSON JSON...      the documents of several plans in one, the first

PLAN is a JSON document: {"rows": [{"name", "bytes", "disks": [...], "before": argv,
"cases": [{"name", "commands": [argv, ...], "prepare": argv, "check": argv, "runs": number}],
"trace": {"on": argv, "off": argv, "file": path, "pattern": expression}}]}. A row may
have "ratios": {case: [case, ...]}, whose walls are printed as ratios to the first's, and
"own": [case, ...], to the best of which the first case of the row is held (regret).
The commands of a case run at the same time. Each case runs once unmeasured, between its
`prepare` and its `check`, so that a copy that does nothing is seen; then all cases of a
row run RUNS times, in an order drawn anew each time, each after the row's `before`.

Of each run: wall seconds of the processes, and those of the copying alone where they say
so (`seconds` of what they print); CPU seconds of the whole guest (/proc/stat), which counts the
target's own work too, and of the commands alone; voluntary and involuntary context
switches; commands that reached the disks (iorequest_cnt, or /sys/block/*/stat for NVMe,
which does not count pass-through commands); and what `xcopy --json` said. With `trace`
the unmeasured run is traced, and what the target itself saw there is counted by kind,
the first group of the pattern.
Status 1 if a command or a check failed.
"""

import json
import os
import random
import re
import statistics
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")


def busy():
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def requests(disks):
    total = 0
    for disk in disks:
        name = os.path.basename(disk)
        try:
            with open(f"/sys/block/{name}/device/iorequest_cnt", encoding="ascii") as count:
                total += int(count.read(), 0)
        except OSError:
            with open(f"/sys/block/{name}/stat", encoding="ascii") as stat:
                fields = stat.read().split()
            total += int(fields[0]) + int(fields[4])
    return total


def once(case, disks):
    """One run; the figures, or an error's text."""
    started = []
    requests_before, busy_before, begin = requests(disks), busy(), time.monotonic()
    for command in case["commands"]:
        started.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT))
    figures = {"user": 0.0, "system": 0.0, "voluntary": 0, "involuntary": 0, "rss": 0}
    wrong = None
    ends = []
    for process in started:
        # What they print is short: it fits the pipe.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ends.append(process.stdout.read().decode(errors="replace"))
        process.stdout.close()
        figures["user"] += usage.ru_utime
        figures["system"] += usage.ru_stime
        figures["voluntary"] += usage.ru_nvcsw
        figures["involuntary"] += usage.ru_nivcsw
        figures["rss"] = max(figures["rss"], usage.ru_maxrss)
        if process.returncode != 0:
            wrong = f"status {process.returncode} of {' '.join(process.args)}\n{ends[-1]}"
    figures["wall"] = time.monotonic() - begin
    figures["cpu"] = busy() - busy_before
    figures["requests"] = requests(disks) - requests_before
    said, figures["inner"] = {}, figures["wall"]
    for end in ends:
        if end.startswith("{") and wrong is None:
            document = json.loads(end)
            figures["inner"] = document.get("seconds", figures["wall"])
            for method in document["methods"]:
                entry = said.setdefault(method["name"], {"bytes": 0, "commands": 0})
                entry["bytes"] += method["bytes"]
                entry["commands"] += method["commands"]
    figures["methods"] = said
    return figures, wrong


def traced(case, row):
    """One run while the target is traced; what it saw by kind, or an error's text."""
    trace = row.get("trace")
    if not trace:
        return {}, once(case, row["disks"])[1]
    wrong = call(trace["on"], "trace")
    if wrong is not None:
        return {}, wrong
    before = os.stat(trace["file"]).st_size
    _, wrong = once(case, row["disks"])
    wrong = wrong or call(trace["off"], "trace")
    seen = {}
    with open(trace["file"], encoding="utf-8", errors="replace") as log:
        log.seek(before)
        for line in log:
            found = re.search(trace["pattern"], line)
            if found:
                seen[found.group(1)] = seen.get(found.group(1), 0) + 1
    return seen, wrong


def call(argv, what):
    """An error's text, or None."""
    if not argv:
        return None
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    return f"{what}: status {done.returncode} of {' '.join(argv)}\n" + \
        done.stdout.decode(errors="replace")[-1500:]


def summary(runs):
    result = {"runs": len(runs), "methods": runs[-1]["methods"]}
    for figure in ("wall", "inner", "cpu", "user", "system", "voluntary", "involuntary", "requests", "rss"):
        values = sorted(run[figure] for run in runs)
        if len(values) > 1:
            low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        else:
            low = middle = high = values[0]
        result[figure] = {"median": middle, "quartiles": [low, high],
                          "least": values[0], "most": values[-1]}
    return result


def compare(row, cases):
    """Ratios of median walls: {text: ratio}."""
    wall = {name: got["wall"]["median"] for name, got in cases.items()}
    found = {}
    for base, others in row.get("ratios", {}).items():
        for other in others:
            if base in wall and other in wall:
                found[f"{other} / {base}"] = wall[other] / wall[base]
    own = [wall[name] for name in row.get("own", []) if name in wall]
    first = row["cases"][0]["name"]
    if own and first in wall:
        found[f"regret of {first}"] = wall[first] / min(own)
    return found


def join(out, parts):
    rows = []
    for part in parts:
        with open(part, encoding="utf-8") as document:
            rows += json.load(document)["rows"]
    keep(out, rows)
    return 0


def keep(path, rows):
    with open(path, "w", encoding="utf-8") as out:
        about = {"kernel": os.uname().release, "qemu": os.environ.get("guest_qemu", "")}
        json.dump(about | {"rows": rows}, out, indent=1)
        out.write("\n")


def main():
    if sys.argv[1] == "--join":
        return join(sys.argv[2], sys.argv[3:])
    with open(sys.argv[1], encoding="utf-8") as plan:
        rows = json.load(plan)["rows"]
    count, failed, results = int(sys.argv[2]), 0, []
    for row in rows:
        cases, runs, seen = [], {}, {}
        for case in row["cases"]:
            wrong = call(case.get("prepare"), "prepare")
            if wrong is None:
                seen[case["name"]], wrong = traced(case, row)
            wrong = wrong or call(case.get("check"), "check")
            if wrong is None:
                cases.append(case)
                runs[case["name"]] = []
            else:
                failed += 1
                print(f"FAILED {row['name']}, {case['name']}: {wrong}", flush=True)
        for turn in range(count):
            random.shuffle(cases)
            for case in list(cases):
                if turn >= case.get("runs", count):
                    continue
                call(row.get("before"), "before")
                figures, wrong = once(case, row["disks"])
                if wrong is None:
                    runs[case["name"]].append(figures)
                else:
                    failed += 1
                    cases.remove(case)
                    print(f"FAILED {row['name']}, {case['name']}: {wrong}", flush=True)
        print(f"{row['name']} ({count} runs)", flush=True)
        print(f"  {'case':30} {'wall s (quartiles)':>24} {'ratio':>6} {'copying':>8} "
              f"{'guest CPU':>9} {'own CPU':>8} {'commands':>9} {'switches':>9}  moved by")
        # Of each case's wall time to the first one's, the medians.
        first = summary(runs[row["cases"][0]["name"]])["wall"]["median"] \
            if runs.get(row["cases"][0]["name"]) else float("nan")
        entry = {"row": row["name"], "bytes": row["bytes"], "cases": {}}
        for case in row["cases"]:
            if not runs.get(case["name"]):
                continue
            got = entry["cases"][case["name"]] = summary(runs[case["name"]])
            wall, (low, high) = got["wall"]["median"], got["wall"]["quartiles"]
            got["seen"] = seen[case["name"]]
            sent = got["requests"]["median"] if not row.get("trace") else sum(got["seen"].values())
            methods = ", ".join(f"{name} {said['bytes'] >> 20} MiB in {said['commands']}"
                                for name, said in got["methods"].items())
            print(f"  {case['name']:30} {wall:9.3f} ({low:.3f}-{high:.3f}) "
                  f"{wall / first:6.2f} {got['inner']['median']:8.3f} {got['cpu']['median']:9.2f} "
                  f"{got['user']['median'] + got['system']['median']:8.2f} "
                  f"{sent:9.0f} "
                  f"{got['voluntary']['median'] + got['involuntary']['median']:9.0f}  {methods}",
                  flush=True)
        entry["ratios"] = compare(row, entry["cases"])
        if entry["ratios"]:
            print("  wall: " + "; ".join(f"{text} {ratio:.2f}"
                                         for text, ratio in entry["ratios"].items()), flush=True)
        results.append(entry)
        # After each row: what was measured is kept if the guest is stopped.
        keep(sys.argv[3], results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
