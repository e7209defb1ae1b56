#!/usr/bin/env python3
"""Runs nyx-motifs denovo beside tfmodisco-lite on the same contributions: patterns, best correlations, time.

Usage: motifs.py SEQUENCES CONTRIBUTIONS [--modisco EXECUTABLE] [--runs 1] [--threads 2] [--flags "-n 2000 -w 400 ..."]

SEQUENCES and CONTRIBUTIONS are .npy or .npz arrays (N, 4, L), one-hot and hypothetical, as `modisco motifs` reads them; of
Fi-NeMo's regions file give the same file twice. Needs a release build, numpy and h5py. MODISCO (or --modisco) names
tfmodisco-lite's executable; without it only nyx is run. Both start from files and end with an HDF5 file; nyx's time holds
the reading of rows, which `nyx-extract contribs` has made before.
"""

import argparse
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "release"


def read(path, names):
    """Returns the array of a file, the first of `names` that a .npz has."""
    data = np.load(path)
    if not hasattr(data, "files"):
        return data
    return data[next((name for name in names if name in data.files), data.files[0])]


def patterns(path):
    """Returns name, number of seqlets and CWM (W, 4) of every pattern."""
    found = []
    with h5py.File(path) as file:
        for group in ("pos_patterns", "neg_patterns"):
            names = sorted(file.get(group, {}), key=lambda name: int(name.split("_")[-1]))
            for name in names:
                pattern = file[group][name]
                found.append((f"{group}.{name}", int(pattern["seqlets/n_seqlets"][0]), pattern["contrib_scores"][:]))
    return found


def correlation(a, b):
    """Returns the best cosine of two CWMs over offsets and strands, half of the narrower one overlapping."""
    best = -1.0
    least = min(len(a), len(b)) // 2
    for other in (b, b[::-1, ::-1]):
        for offset in range(least - len(other), len(a) - least + 1):
            left, right = max(offset, 0), min(len(a), offset + len(other))
            product = (a[left:right] * other[left - offset:right - offset]).sum()
            best = max(best, product / np.linalg.norm(a) / np.linalg.norm(other))
    return best


def timed(command, environment):
    """Runs a command and returns its wall and processor seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences")
    parser.add_argument("contributions")
    parser.add_argument("--modisco", default=os.environ.get("MODISCO"))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flags", default="-n 2000 -w 400")
    args = parser.parse_args()
    flags = shlex.split(args.flags)
    threads = str(args.threads)
    environment = os.environ | {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        np.save(work / "s.npy", read(args.sequences, ["sequences", "arr_0"]).astype(np.int8))
        np.save(work / "c.npy", read(args.contributions, ["contributions", "arr_0"]).astype(np.float32))
        rows = [BIN / "nyx-extract", "contribs", "-q", "--sequences", work / "s.npy", "--attributions", work / "c.npy",
                "--width", str(np.load(work / "s.npy", mmap_mode="r").shape[2]), "-o", work / "rows.arrows"]
        subprocess.run(rows, check=True)
        commands = {"nyx": [BIN / "nyx-motifs", "denovo", "-q", "-@", threads, *flags, "--h5", work / "nyx.h5",
                            "-o", work / "nyx.arrows", work / "rows.arrows"]}
        if args.modisco:
            commands["modisco"] = [args.modisco, "motifs", "-s", work / "s.npy", "-a", work / "c.npy", *flags,
                                   "-o", work / "modisco.h5"]
        times = {name: [] for name in commands}
        for _ in range(args.runs):
            for name, command in commands.items():
                times[name].append(timed(command, environment))
        print(f"## {pathlib.Path(args.sequences).name}, {args.flags}, {threads} threads\n")
        print("| command | wall s (min) | CPU s (min) | patterns | seqlets |\n|---|---|---|---|---|")
        found = {name: patterns(work / f"{name}.h5") for name in commands}
        for name in commands:
            wall, cpu = (min(column) for column in zip(*times[name]))
            seqlets = sum(count for _, count, _ in found[name])
            print(f"| {name} | {wall:.1f} | {cpu:.1f} | {len(found[name])} | {seqlets} |")
        if not args.modisco:
            return
        print("\n| tfmodisco-lite's pattern | seqlets | nearest of nyx | seqlets | correlation |\n|---|---|---|---|---|")
        for tag, count, cwm in found["modisco"]:
            best = max(((correlation(cwm, other), name, size) for name, size, other in found["nyx"]), default=None)
            if best:
                print(f"| {tag} | {count} | {best[1]} | {best[2]} | {best[0]:.4f} |")


if __name__ == "__main__":
    sys.exit(main())
