"""nyx-tomtom beside memesuite-lite's tomtom, on the same motifs with the same number of threads.

    python3 -m venv /tmp/memelite && /tmp/memelite/bin/pip install memelite
    cargo build --release --bin nyx-tomtom
    /tmp/memelite/bin/python benches/tomtom.py MOTIFS.meme [KNOWN.meme] [--threads 2] [--rounds 3] [--queries N]

nyx-tomtom is a whole process that reads both files and writes the table. So is `ttl`, memesuite-lite's own command; the
other two are memesuite-lite inside Python, compiled and warm, without files. `exact` is without its merging of similar
columns (n_target_bins=None), which nyx never does; `default` and `ttl` merge them.
"""

import argparse
import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("motifs")
parser.add_argument("known", nargs="?")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--queries", type=int, help="only so many of the motifs")
parser.add_argument("--nyx", default="target/release/nyx-tomtom")
options = parser.parse_args()
known = options.known or options.motifs
os.environ["NUMBA_NUM_THREADS"] = str(options.threads)

from memelite import tomtom  # noqa: E402
from memelite.io import read_meme  # noqa: E402


def plain(path, directory):
    """memesuite-lite reads plain text only; nyx gets the same file."""
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)
    name = os.path.join(directory, os.path.basename(path).removesuffix(".gz"))
    with opened as source, open(name, "w") as target:
        count = 0
        for line in source:
            count += line.startswith("MOTIF")
            if options.queries and path == options.motifs and known != path and count > options.queries:
                break
            target.write(line)
    return name


def timed(work):
    wall, cpu = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    kids = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    work()
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu
    used += sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - kids
    return time.perf_counter() - wall, used


with tempfile.TemporaryDirectory() as directory:

    def with_output(name, command):
        with open(os.path.join(directory, name), "w") as output:
            subprocess.run(command, stdout=output, check=True)

    queries, targets = plain(options.motifs, directory), plain(known, directory)
    asked, answers = list(read_meme(queries).values()), list(read_meme(targets).values())
    # Lines up to a p-value of 0.01 are about as many as nyx writes, up to a q-value of 0.5.
    command = [os.path.join(os.path.dirname(sys.executable), "ttl"), "-q", queries, "-t", targets, "-p", "0.01"]
    command += ["-j", str(options.threads)]
    peers = {
        "memesuite-lite, ttl": lambda: with_output("ttl.tsv", command),
        "memesuite-lite, default": lambda: tomtom(asked, answers, n_jobs=options.threads),
        "memesuite-lite, exact": lambda: tomtom(asked, answers, n_jobs=options.threads, n_target_bins=None),
        "nyx-tomtom": lambda: subprocess.run(
            [options.nyx, queries, targets, "-q", "-@", str(options.threads), "-o", os.path.join(directory, "out.tsv")],
            check=True,
        ),
    }
    print(f"{len(asked)} motifs with {len(answers)}, {options.threads} threads; best of {options.rounds}")
    best = {}
    for _ in range(options.rounds + 1):
        for name, work in peers.items():
            wall, cpu = timed(work)
            # The first round compiles.
            if name in best:
                best[name] = (min(best[name][0], wall), min(best[name][1], cpu))
            else:
                best[name] = (float("inf"), float("inf"))
    for name, (wall, cpu) in best.items():
        ratio = wall / best["nyx-tomtom"][0]
        print(f"{name:26} {wall:8.3f} s  {cpu:8.3f} s of processor  {ratio:5.2f} of nyx-tomtom")
    sys.stdout.flush()
