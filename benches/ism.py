#!/usr/bin/env python3
"""Times saturation mutagenesis of CNNs: nyx against itself without the shortcut, and against tangermeme.

Usage: ism.py [--rows N] [--runs N] [--threads N] [--skip-slow] MODEL_DIRECTORY FASTA

Needs `cargo bench --bench ism --no-run` before, and numpy, torch and tangermeme in this Python. A model directory is
what `nyx-model convert` writes (BPNet, SequentialCnn); FASTA (perhaps gzipped) gives its sequences, cut to its window.

Subjects, interleaved, all with the same number of threads on the processor:
  followed   nyx: what a substitution reaches is computed again
  whole      nyx: every mutant goes through the whole network
  fast       tangermeme's saturation_mutagenesis as it comes, which follows substitutions where it can
  slow       the same with fast=False; every mutant goes through the whole network
Logits are compared before times are printed: followed with whole to the bit (the last bits differ in dilated networks,
which are computed in another order), tangermeme with nyx to 1e-3. Times are medians, in seconds for all rows.
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import cnn  # noqa: E402


def sequences_of(path, window, count):
    """Returns the first sequences of a FASTA file without N, cut to the window."""
    data = pathlib.Path(path).read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode().upper()
    records = ("".join(record.split("\n")[1:])[:window] for record in text.split(">")[1:])
    return [record for record in records if len(record) == window and set(record) <= set("ACGT")][:count]


def module(steps):
    """Builds the network of PyTorch modules, which tangermeme can take apart."""
    import torch
    from torch import nn

    class Keras(nn.Module):
        def forward(self, x):
            return x.transpose(1, 2).flatten(1)

    class Sum(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x) + x

    class Counts(nn.Module):
        def __init__(self, step):
            super().__init__()
            weight, bias = step["counts"]
            self.cut, self.linear = step["cut"], linear({"weight": weight, "bias": bias, "relu": False})

        def forward(self, x):
            return self.linear(x[:, :, self.cut : x.shape[2] - self.cut].mean(2))

    def filled(layer, step):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(step["weight"])))
            layer.bias.copy_(torch.from_numpy(np.array(step["bias"])))
        return nn.Sequential(layer, nn.ReLU()) if step["relu"] else layer

    def linear(step):
        return filled(nn.Linear(*reversed(step["weight"].shape)), step)

    def conv(step):
        outputs, inputs, width = step["weight"].shape
        left, right = step["pads"]
        if left != right:
            sys.exit("ism.py knows no padding of two widths")
        layer = filled(nn.Conv1d(inputs, outputs, width, padding=left, dilation=step["dilation"]), step)
        return Sum(layer) if step.get("residual") else layer

    makers = {"conv1d": conv, "linear": linear, "heads": Counts, "flatten_keras": lambda step: Keras(),
              "flatten": lambda step: nn.Flatten(), "maxpool1d": lambda step: nn.MaxPool1d(step["k"], step["stride"])}
    return nn.Sequential(*(makers[step["op"]](step) for step in steps)).eval()


def peers(steps, rows, skip_slow):
    """Returns what runs tangermeme, [rows, L, 4]."""
    import torch
    from tangermeme.saturation_mutagenesis import saturation_mutagenesis

    network = module(steps)
    inputs = torch.from_numpy(cnn.encode([row.encode() for row in rows]))

    def run(fast, batch):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            raw = saturation_mutagenesis(network, inputs, batch_size=batch, device="cpu", raw_outputs=True, fast=fast)
        # [rows, 4, L, 1]
        return raw.y_hat.numpy()[..., 0].transpose(0, 2, 1)

    best = {}
    for fast in (True,) if skip_slow else (True, False):
        batches = (32, 128) if fast else (32,)
        timed = [(clock(lambda: run(fast, batch))[0], batch) for batch in batches]
        best[fast] = min(timed)[1]
    return {("fast" if fast else "slow"): (lambda fast=fast, batch=batch: run(fast, batch))
            for fast, batch in best.items()}


def clock(work):
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def build():
    """Returns the newest build of benches/ism.rs."""
    builds = [path for path in (cnn.ROOT / "target" / "release" / "deps").glob("ism-*") if not path.suffix]
    return os.environ.get("ISM_BENCH") or str(max(builds, key=lambda path: path.stat().st_mtime))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("fasta")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-slow", action="store_true", help="leave tangermeme without its shortcut out")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    config = json.loads((arguments.model / "config.json").read_text())
    window = config.get("window") or {"BPNet": 2114}.get(config["architectures"][0], 1000)
    rows = sequences_of(arguments.fasta, window, arguments.rows)
    environment = {**os.environ, "RAYON_NUM_THREADS": str(arguments.threads)}
    with tempfile.TemporaryDirectory() as folder:
        listed = pathlib.Path(folder) / "sequences"
        listed.write_text("\n".join(rows) + "\n")

        def ours(how):
            table = f"{folder}/{how}"
            command = [build(), str(arguments.model), str(listed), str(len(rows)), how, table]
            seconds = float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
            return seconds, np.fromfile(table, np.float32).reshape(len(rows), window, 4)

        subjects = {"followed": lambda: ours("followed"), "whole": lambda: ours("whole")}
        for name, work in peers(cnn.steps_of(arguments.model), rows, arguments.skip_slow).items():
            subjects[name] = lambda work=work: clock(work)
        times, tables = {name: [] for name in subjects}, {}
        for _ in range(arguments.runs):
            for name, work in subjects.items():
                seconds, tables[name] = work()
                times[name].append(seconds)
    for name, table in tables.items():
        error = float(np.abs(table - tables["whole"]).max())
        same = "the same bits" if np.array_equal(table, tables["whole"]) else f"largest difference {error:.1e}"
        print(f"{name}: {same} as whole")
        if not error < 1e-3:
            sys.exit(f"{name} and whole do not agree: no times")
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"{len(rows)} rows of {window} bases, {arguments.threads} threads, {arguments.runs} runs")
    for name, seconds in median.items():
        print(f"{name:10} {seconds:8.3f} s   {seconds / median['followed']:6.1f} times followed")


if __name__ == "__main__":
    main()
