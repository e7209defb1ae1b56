#!/usr/bin/env python3
"""Times nyx-hits against Fi-NeMo side by side on seeded data: 1000-bp regions with planted motifs, 100 filters of 30 bp.

Usage: hits.py MODISCO_H5 [--regions 2000] [--subset 60] [--runs 3] [--work DIR]

Needs a release build, GNU time, numpy and h5py. FINEMO names Fi-NeMo's executable; without it only nyx is timed. One
thread on one processor each, interleaved. Fi-NeMo runs on --subset regions at its best batch size on a
CPU (16); its start-up is taken off by a run on two regions, nyx's is not.
"""

import argparse
import csv
import os
import pathlib
import statistics
import subprocess
import tempfile

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "release"
LENGTH = 1000


def patterns(path):
    """Returns tag, probabilities, hypothetical and projected contributions of every pattern."""
    found = []
    with h5py.File(path) as file:
        for group in ("pos_patterns", "neg_patterns"):
            if group in file:
                names = sorted(file[group], key=lambda name: int(name.split("_")[-1]))
                for name in names:
                    arrays = [file[group][name][key][:] for key in
                              ("sequence", "hypothetical_contribs", "contrib_scores")]
                    found.append((f"{group}.{name}", *arrays))
    return found


def synthesize(motifs, count, seed=1):
    """Returns one-hot sequences, hypothetical contributions and the planted (region, tag, strand, start)."""
    random = np.random.default_rng(seed)
    onehot = np.zeros((count, 4, LENGTH), np.int8)
    scores = random.normal(0, 0.01, (count, 4, LENGTH)).astype(np.float32)
    truth = []
    for region in range(count):
        bases = random.integers(0, 4, LENGTH)
        taken = np.zeros(LENGTH, bool)
        for _ in range(random.integers(2, 9)):
            tag, ppm, hypothetical, cwm = motifs[random.integers(len(motifs))]
            width = len(ppm)
            start = random.integers(0, LENGTH - width)
            if taken[start : start + width].any():
                continue
            taken[start : start + width] = True
            reverse = bool(random.integers(2))
            drawn = np.array([random.choice(4, p=row / row.sum()) for row in np.clip(ppm, 1e-9, None)])
            amplitude = random.uniform(0.5, 2.0) * 0.3 / np.linalg.norm(cwm)
            blob = amplitude * hypothetical * random.uniform(0.7, 1.3, (width, 1))
            if reverse:
                drawn, blob = 3 - drawn[::-1], blob[::-1, ::-1]
            bases[start : start + width] = drawn
            scores[region, :, start : start + width] += blob.T
            truth.append((region, tag, "-" if reverse else "+", start))
        onehot[region, bases, np.arange(LENGTH)] = 1
    return onehot, scores.astype(np.float16), truth


def timed(command, feed=lambda stdin: None):
    """Runs a command on one processor; returns wall seconds, processor seconds and peak memory in MB.

    GNU time starts the command, because a child of this process would begin with the peak of this process.
    """
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    with tempfile.NamedTemporaryFile("r") as figures, tempfile.TemporaryFile("w+") as said:
        wrapped = ["taskset", "-c", "0", "time", "-f", "%e %U %S %M", "-o", figures.name, *map(str, command)]
        process = subprocess.Popen(wrapped, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   stderr=said)
        feed(process.stdin)
        process.stdin.close()
        if process.wait():
            said.seek(0)
            raise SystemExit(f"{command} failed: {said.read()}")
        wall, user, system, peak = map(float, figures.read().split())
    return wall, user + system, peak / 1024


def extract(folder, name, onehot, scores):
    regions = folder / f"{name}.npz"
    np.savez(regions, sequences=onehot, contributions=scores)
    target = folder / f"{name}.arrows"
    subprocess.run([BIN / "nyx-extract", "contribs", "--regions", regions, "-o", target, "-q"], check=True)
    return target


def hits(path):
    """Returns the coefficient of every (region, motif, strand, untrimmed start)."""
    with open(path) as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {(int(row["peak_id"]), row["motif_name"], row["strand"], int(row["start_untrimmed"])):
                float(row["hit_coefficient"]) for row in rows}


def compare(name, theirs, exact, truth):
    common = theirs.keys() & exact.keys()
    differences = [abs(theirs[key] - exact[key]) / exact[key] for key in common] or [0.0]
    planted = set(truth)
    precision, recall = (len(planted & theirs.keys()) / max(1, len(of)) for of in (theirs, planted))
    print(f"| {name} | {len(theirs)} | {len(theirs) - len(common)} | {len(exact) - len(common)} | "
          f"{statistics.median(differences):.1e} | {np.mean(np.array(differences) > 0.1):.1%} | "
          f"{max(differences):.2g} | {recall:.3f} | {precision:.3f} |", flush=True)


def agreement(arguments, folder, subset, truth, finemo):
    """Prints how far hits are from the exact optimum and from what was planted."""
    small, regions = folder / "small.arrows", folder / "small.npz"
    truth = [row for row in truth if row[0] < subset]
    print(f"\n| run on {subset} regions | hits | not in the optimum | of the optimum, lost | coefficients off by, "
          "median | off by > 10 % | largest | recall | precision |\n|---|---|---|---|---|---|---|---|---|")
    for penalty in (0.6, 0.7, 0.8):
        runs = {"nyx exact": ["--tol", "1e-12"], "nyx": [], "nyx proxgrad": ["--solver", "proxgrad"],
                "nyx --compat": ["--compat"]}
        found = {}
        for name, flags in runs.items():
            out = folder / f"out.{name}.{penalty}"
            timed([BIN / "nyx-hits", "-q", "-m", arguments.modisco, "-l", penalty, small, "--outdir", out, "-o",
                   "/dev/null", *flags])
            found[name] = hits(out / "hits.tsv")
        if finemo:
            out = folder / f"out.finemo.{penalty}"
            timed([finemo, "call-hits", "-r", regions, "-m", arguments.modisco, "-o", out, "-b", "16", "-l", penalty])
            found["Fi-NeMo"] = hits(out / "hits.tsv")
        for name, rows in found.items():
            compare(f"{name}, lambda {penalty}", rows, found["nyx exact"], truth)


def operating_points(arguments, folder, regions, truth):
    """Prints recall and precision against what was planted, over lambda, for every solver."""
    truth = {row for row in truth if row[0] < regions}
    solvers = {"active set": [], "active set, gap 5e-4": ["--tol", "5e-4"], "proxgrad": ["--solver", "proxgrad"],
               "--compat": ["--compat"]}
    print(f"\n{regions} regions; recall, precision and F1\n\n| lambda | " + " | ".join(solvers) + " |")
    print("|---" * (len(solvers) + 1) + "|")
    for penalty in (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        cells = []
        for flags in solvers.values():
            out = folder / "out.points"
            timed([BIN / "nyx-hits", "-q", "-m", arguments.modisco, "-l", penalty, folder / "few.arrows", "--outdir",
                   out, "-o", "/dev/null", *flags])
            found = hits(out / "hits.tsv").keys()
            precision, recall = len(truth & found) / max(1, len(found)), len(truth & found) / len(truth)
            cells.append(f"{recall:.3f}, {precision:.3f}, {2 * recall * precision / (recall + precision):.3f}")
        print(f"| {penalty} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modisco", type=pathlib.Path)
    parser.add_argument("--regions", type=int, default=2000)
    parser.add_argument("--subset", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--no-agreement", action="store_true")
    arguments = parser.parse_args()
    finemo = os.environ.get("FINEMO")
    folder = arguments.work or pathlib.Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    motifs = patterns(arguments.modisco)
    onehot, scores, truth = synthesize(motifs, arguments.regions)
    many = extract(folder, "many", onehot, scores)
    few = extract(folder, "few", onehot[: arguments.regions // 4], scores[: arguments.regions // 4])
    extract(folder, "small", onehot[: arguments.subset], scores[: arguments.subset])
    extract(folder, "start", onehot[:2], scores[:2])
    nyx = lambda data, *flags: [BIN / "nyx-hits", "-q", "-@", "1", "-m", arguments.modisco, data, "-o", "/dev/null", "--strict", *flags]
    count, quarter, subset = arguments.regions, arguments.regions // 4, arguments.subset
    cases = {
        "nyx": (nyx(many), count),
        "nyx --tol 5e-4": (nyx(many, "--tol", "5e-4"), count),
        "nyx --tol 1e-12": (nyx(many, "--tol", "1e-12"), count),
        "nyx, a quarter of the regions": (nyx(few), quarter),
        "nyx -M hh": (nyx(many, "-M", "hh"), count),
        "nyx -l 0.3": (nyx(many, "-l", "0.3"), count),
        "nyx -l 0.1": (nyx(few, "-l", "0.1"), quarter),
        "nyx --compat": (nyx(few, "--compat"), quarter),
    }
    if finemo:
        call = lambda data: [finemo, "call-hits", "-m", arguments.modisco, "-b", "16", "-o", folder / "timed", "-r", data]
        cases["Fi-NeMo -b 16"] = (call(folder / "small.npz"), subset)
        cases["Fi-NeMo start-up"] = (call(folder / "start.npz"), 2)
    results = {name: [] for name in cases}
    for _ in range(arguments.runs):
        for name, (command, _) in cases.items():
            results[name].append(timed(command))
    middle = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    rates = {name: cases[name][1] / middle[name][1] for name in cases}
    if finemo:
        theirs = middle["Fi-NeMo -b 16"][1] - middle["Fi-NeMo start-up"][1]
        rates["Fi-NeMo -b 16"] = (subset - 2) / theirs
    base = rates.get("Fi-NeMo -b 16")
    print(f"load average {os.getloadavg()[0]:.1f}; medians of {arguments.runs} interleaved runs\n")
    print("| run | regions | wall s | CPU s | regions per CPU s | times Fi-NeMo | peak MB |\n|---|---|---|---|---|---|---|")
    for name, (wall, cpu, peak) in middle.items():
        ratio = f"{rates[name] / base:.0f}" if base else ""
        print(f"| {name} | {cases[name][1]} | {wall:.2f} | {cpu:.2f} | {rates[name]:.1f} | {ratio} | {peak:.0f} |")
    if not arguments.no_agreement:
        agreement(arguments, folder, subset, truth, finemo)
        operating_points(arguments, folder, quarter, truth)


if __name__ == "__main__":
    main()
