#!/usr/bin/env python3
"""Peak memory and time of nyx-hits over the number of regions and over the length of one region.

Usage: hits_memory.py MODISCO_H5

Needs a release build, GNU time, numpy, h5py and pyarrow. Regions are seeded, of 1000 bp with planted motifs (as in hits.py),
and go through a pipe as they are made; a long region is many of them in a row, with noise of its own.
"""

import pathlib
import sys
import tempfile

import numpy as np
import pyarrow as pa

import hits

BATCH = 250
LETTERS = np.frombuffer(b"ACGT", np.uint8)
SCHEMA = pa.schema([("region", pa.uint64()), ("chrom", pa.string()), ("start", pa.int64()), ("end", pa.int64()),
                    ("strand", pa.string()), ("name", pa.string()), ("sequence", pa.string()),
                    ("contributions", pa.list_(pa.float32()))])


def batch(first, sequences, contributions):
    """Returns rows on one contig, one after the other."""
    count, length = contributions.shape
    starts = np.arange(first, first + count) * length
    offsets = np.arange(0, (count + 1) * length, length)
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(contributions.reshape(-1), pa.float32()))
    texts = [row.tobytes().decode() for row in sequences]
    columns = [range(first, first + count), ["chr1"] * count, starts, starts + length, ["."] * count, ["peak"] * count,
               texts]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA)]
    return pa.record_batch([*arrays, lists], schema=SCHEMA)


def measure(command, batches):
    """Feeds batches to a command; returns its peak memory in MB and its processor seconds."""
    def feed(stdin):
        with pa.ipc.new_stream(stdin, SCHEMA) as stream:
            for rows in batches:
                stream.write_batch(rows)
    _, seconds, peak = hits.timed(command, feed)
    return peak, seconds


def main():
    modisco = sys.argv[1]
    folder = pathlib.Path(tempfile.mkdtemp())
    onehot, scores, _ = hits.synthesize(hits.patterns(modisco), 2000)
    sequences = LETTERS[onehot.argmax(1)]
    projected = (scores.astype(np.float32) * onehot).sum(1)
    random = np.random.default_rng(7)
    noisy = lambda values: values + random.normal(0, 0.002, values.shape).astype(np.float32)
    nyx = [hits.BIN / "nyx-hits", "-q", "-@", "1", "-m", modisco, "-o", "/dev/null"]

    def regions(count):
        for first in range(0, count, BATCH):
            rows = np.arange(first, first + BATCH) % len(sequences)
            yield batch(first, sequences[rows], noisy(projected[rows]))

    def region(length):
        rows = np.arange(length // 1000) % len(sequences)
        yield batch(0, sequences[rows].reshape(1, -1), noisy(projected[rows].reshape(1, -1)))

    print("| run | input | peak MB | CPU s |\n|---|---|---|---|")
    cases = [("nyx-hits", [], [1000, 10_000, 100_000]), ("nyx-hits --outdir", ["--outdir", folder], [1000, 10_000, 100_000]),
             ("nyx-hits --compat", ["--compat"], [1000, 10_000])]
    for name, flags, counts in cases:
        for count in counts:
            peak, seconds = measure([*nyx, *flags], regions(count))
            print(f"| {name} | {count:,} regions of 1000 bp | {peak:.0f} | {seconds:.2f} |", flush=True)
    for name, flags, lengths in [("nyx-hits", [], [10**5, 10**6, 10**7]), ("nyx-hits --compat", ["--compat"], [10**5, 10**6])]:
        for length in lengths:
            peak, seconds = measure([*nyx, *flags], region(length))
            print(f"| {name} | one region of {length:,} bp | {peak:.0f} | {seconds:.2f} |", flush=True)


main()
