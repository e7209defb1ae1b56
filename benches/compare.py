#!/usr/bin/env python3
"""Times commands against each other: interleaved runs of whole processes, wall and processor time, peak memory.

Usage: compare.py [--runs N] [--unit NAME=COUNT] NAME=COMMAND NAME=COMMAND ...

Commands go to `bash -c`. The first is the one of ours; the last column is how many times faster it is than
each of the others, by median wall time. Peak memory is that of the largest process of the command.
"""

import argparse
import os
import resource
import statistics
import time


def run(command):
    """Runs one command; returns wall seconds, processor seconds and peak memory in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    pid = os.spawnvp(os.P_NOWAIT, "bash", ["bash", "-c", "set -euo pipefail; " + command])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"failed with status {status}: {command}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--unit", default="runs=1", help="what a run processes, for a rate: windows=100000")
    parser.add_argument("commands", nargs="+", metavar="NAME=COMMAND")
    arguments = parser.parse_args()
    unit, count = arguments.unit.split("=")
    commands = dict(command.split("=", 1) for command in arguments.commands)
    results = {name: [] for name in commands}
    for command in commands.values():
        run(command)  # warm the page cache and the indexes
    for _ in range(arguments.runs):
        for name, command in commands.items():
            results[name].append(run(command))
    ours = statistics.median(wall for wall, _, _ in next(iter(results.values())))
    print(f"| command | wall s (min, median) | CPU s | peak MB | {unit}/s | ours is faster by |")
    print("|---|---|---|---|---|---|")
    for name, rows in results.items():
        walls = [wall for wall, _, _ in rows]
        median = statistics.median(walls)
        cpu = statistics.median(cpu for _, cpu, _ in rows)
        peak = max(peak for _, _, peak in rows)
        rate = float(count) / median
        print(f"| {name} | {min(walls):.3f}, {median:.3f} | {cpu:.2f} | {peak:.0f} | {rate:,.0f} | {median / ours:.2f}x |")


main()
