"""nyx-scan beside memesuite-lite's fimo: the same motifs on the same sequences, the same places, how long each takes.

    python3 -m venv /tmp/memelite && /tmp/memelite/bin/pip install memelite
    cargo build --release --bin nyx-extract --bin nyx-scan
    /tmp/memelite/bin/python benches/fimo.py MOTIFS.meme SEQUENCES.fa [--threads 2] [--rounds 3] [--motifs 100]

Both get the same probabilities (memesuite-lite adds 0.0001 to each before it takes logarithms; that is done here, for
both) and a uniform background. memesuite-lite rounds weights to tenths of a bit for its p-values, nyx to thousandths of
the range, so that p-values differ a little and places near the threshold are in one list only: the script says how many
and how far. memesuite-lite has no q-values; those of nyx (Benjamini and Hochberg's) are computed again here.
memesuite-lite is timed inside Python, compiled and warm; nyx as whole processes, from FASTA to the table.
"""

import argparse
import collections
import csv
import gzip
import math
import os
import subprocess
import sys
import tempfile
import time

import numpy

parser = argparse.ArgumentParser()
parser.add_argument("motifs")
parser.add_argument("sequences")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--motifs", dest="most", type=int, help="only so many of the motifs")
parser.add_argument("--nyx", default="target/release")
options = parser.parse_args()
os.environ["NUMBA_NUM_THREADS"] = str(options.threads)

from memelite import fimo  # noqa: E402
from memelite.io import read_meme  # noqa: E402

THRESHOLD = 1e-4


def plain(path, directory):
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)
    name = os.path.join(directory, os.path.basename(path).removesuffix(".gz"))
    with opened as source, open(name, "w") as target:
        target.write(source.read())
    return name


def timed(work):
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


with tempfile.TemporaryDirectory() as directory:
    fasta = plain(options.sequences, directory)
    known = read_meme(plain(options.motifs, directory), n_motifs=options.most)
    motifs = {name.split()[0]: (pwm + 1e-4) / (pwm + 1e-4).sum(0) for name, pwm in known.items()}
    meme, table = os.path.join(directory, "both.meme"), os.path.join(directory, "fimo.tsv")
    with open(meme, "w") as file:
        file.write("MEME version 4\n\nALPHABET= ACGT\n")
        for name, pwm in motifs.items():
            file.write(f"\nMOTIF {name}\nletter-probability matrix: alength= 4 w= {pwm.shape[1]} nsites= 1000000\n")
            file.writelines(" ".join(f"{p:.12f}" for p in column) + "\n" for column in pwm.T)

    def ours():
        extract = [f"{options.nyx}/nyx-extract", "sequences", fasta, "-q"]
        scan = [f"{options.nyx}/nyx-scan", "-m", meme, "--background", "uniform", "--motif-pseudo", "1e-9", "--thresh",
                str(THRESHOLD), "--tsv", table, "--q-values", "bh", "-q", "-@", str(options.threads), "-o", "/dev/null"]
        first = subprocess.Popen(extract, stdout=subprocess.PIPE)
        subprocess.run(scan, stdin=first.stdout, check=True)
        if first.wait():
            sys.exit("nyx-extract failed")

    def theirs():
        return fimo(motifs, fasta, eps=0.0, threshold=THRESHOLD)

    theirs()  # compiles
    times = collections.defaultdict(list)
    for _ in range(options.rounds):
        times["nyx"].append(timed(ours)[0])
        seconds, frames = timed(theirs)
        times["memesuite-lite"].append(seconds)

    found, q_values = {}, collections.defaultdict(list)
    with open(table) as file:
        for row in csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"):
            if row["start"]:
                key = (row["motif_id"], row["sequence_name"], int(row["start"]) - 1, row["strand"])
                found[key] = float(row["p-value"])
                q_values[row["motif_id"]].append((float(row["p-value"]), float(row["q-value"])))
    expected = {}
    for frame in frames:
        columns = (frame[name] for name in ("motif_name", "sequence_name", "start", "strand", "p-value"))
        expected.update({(str(m).removesuffix("-rc"), str(s), int(a), str(d)): float(p) for m, s, a, d, p in zip(*columns)})
    both = found.keys() & expected.keys()
    # memesuite-lite's rounding can leave nothing for the highest scores.
    nothing = sum(expected[key] == 0 for key in both)
    apart = [abs(math.log10(found[key] / expected[key])) for key in both if expected[key] > 0]
    print(f"{len(motifs)} motifs; nyx {len(found)} places, memesuite-lite {len(expected)}, in both {len(both)}")
    print(f"p-values in both: median factor {10 ** numpy.median(apart):.3f}, largest {10 ** max(apart):.2f}; memesuite-lite's is 0 in {nothing}")
    alone = [value for key, value in found.items() if key not in both]
    other = [value for key, value in expected.items() if key not in both]
    for name, values in (("nyx", alone), ("memesuite-lite", other)):
        if values:
            print(f"in {name}'s only: {len(values)}, p-values from {min(values):.2e} to {max(values):.2e}")

    with open(fasta) as file:
        lengths = [len("".join(record.split("\n")[1:])) for record in file.read().split(">")[1:]]
        file.seek(0)
        unknown = any("N" in line.upper() for line in file if not line.startswith(">"))
    worst = 0.0
    for name, pairs in () if unknown else q_values.items():
        pairs.sort()
        p, q = numpy.array(pairs).T
        places = 2 * sum(max(0, length - motifs[name].shape[1] + 1) for length in lengths)
        again = numpy.minimum.accumulate((p * places / numpy.arange(1, len(p) + 1))[::-1])[::-1].clip(max=1)
        # The table has three digits.
        worst = max(worst, float(numpy.abs(q / again - 1).max()))
    print("q-values: not computed again, as there are N" if unknown else f"q-values: largest relative difference {worst:.1e}")
    best = {name: min(seconds) for name, seconds in times.items()}
    for name, seconds in best.items():
        print(f"{name:15} {seconds:8.3f} s   {seconds / best['nyx']:5.2f} of nyx")
    sys.exit(bool(len(both) < 0.95 * max(len(found), len(expected)) or worst > 0.02))
