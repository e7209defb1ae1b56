"""Compares `nyx-motifs seqlets --recursive` with tangermeme's recursive_seqlets on the same contributions.

Usage: seqlets.py REGIONS.npz [--golden]

Needs numpy, torch, tangermeme and pyarrow, and nyx-extract and nyx-motifs on PATH (or in NYX_BIN). REGIONS.npz is a
regions file of Fi-NeMo. Fails unless all places are the same and their p-values and sums agree to 1e-6. With --golden it
prints the seqlets of the contributions that the tests of src/discover/recursive.rs make, as that file has them.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow.ipc
import torch
from tangermeme.seqlet import recursive_seqlets


def contributions(examples, length):
    """The contributions with blobs of the tests in Rust."""
    state = 11

    def uniform():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return np.float32(state >> 40) / np.float32(2**24)

    rows = np.zeros((examples, length), np.float32)
    for number, row in enumerate(rows):
        for position in range(length):
            row[position] = uniform() - np.float32(0.5)
        for blob in range(3):
            start, size = int(uniform() * np.float32(length - 20)), 5 + 4 * blob
            sign = np.float32(-1 if (number + blob) % 4 == 3 else 1)
            for position in range(start, start + size):
                row[position] += sign * (np.float32(1) + uniform())
    return rows


def nyx(command, *arguments, stdin=b""):
    path = pathlib.Path(os.environ["NYX_BIN"]) / f"nyx-{command}" if "NYX_BIN" in os.environ else f"nyx-{command}"
    return subprocess.run([str(path), "-q", *map(str, arguments)], input=stdin, stdout=subprocess.PIPE, check=True).stdout


def main():
    if "--golden" in sys.argv:
        found = recursive_seqlets(torch.from_numpy(contributions(6, 120)))
        for row in found.sort_values(["example_idx", "start"]).itertuples(index=False):
            print(f"({row[0]}, {row[1]}, {row[2]}, {row[3]:.9}, {row[4]:.9e}),")
        return
    data = np.load(sys.argv[1])
    sequences, scores = data["sequences"].astype(np.float32), data["contributions"].astype(np.float32)
    projected = (sequences * scores).sum(1) if scores.ndim == 3 else scores
    theirs = recursive_seqlets(torch.from_numpy(projected))
    rows = nyx("extract", "contribs", "--regions", sys.argv[1])
    with tempfile.NamedTemporaryFile(suffix=".arrows") as stream:
        nyx("motifs", "seqlets", "--recursive", "-o", stream.name, stdin=rows)
        ours = pyarrow.ipc.open_stream(pathlib.Path(stream.name).read_bytes()).read_all().to_pydict()
    offsets = {region: start for region, start in zip(*starts(rows))}
    found = {}
    for region, start, end, total, p in zip(*(ours[name] for name in ("region", "start", "end", "contribution", "p_value"))):
        # tangermeme has no seqlets against, and sums of theirs are below zero.
        if total > 0:
            found[region, start - offsets[region], end - offsets[region]] = total, p
    expected = {(int(row[0]), int(row[1]), int(row[2])): (row[3], row[4]) for row in theirs.itertuples(index=False)}
    shared = found.keys() & expected.keys()
    print(f"{len(found)} positive seqlets, tangermeme {len(expected)}, the same {len(shared)}")
    apart = [abs(a - b) / max(1e-6, abs(b)) for key in shared for a, b in zip(found[key], expected[key])]
    print(f"largest relative difference of a sum or p-value {max(apart):.1e}")
    sys.exit(not (len(shared) == len(found) == len(expected) and max(apart) < 1e-6))


def starts(rows):
    """The first base of each row where it has coordinates, else 0."""
    table = pyarrow.ipc.open_stream(rows).read_all().to_pydict()
    return table["region"], [start if chrom else 0 for start, chrom in zip(table["start"], table["chrom"])]


if __name__ == "__main__":
    main()
