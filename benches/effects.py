#!/usr/bin/env python3
"""Effects of variants: nyx against a straightforward PyTorch script, number by number and in variants per second.

Usage: effects.py check [--every N] [--nyx DIRECTORY] SHARED          compare all measures on real data and models
       effects.py bench [--every N] [--runs N] [--threads N] [--nyx DIRECTORY] SHARED     time whole processes
       effects.py peer MODEL FASTA VCF [--every N] [--threads N]      the PyTorch script: a table on standard output

SHARED is the folder of reference data (data/variants, data/genome, data/models). It needs numpy, scipy and torch
and takes nothing from nyx but the weights that `nyx-model convert` wrote: VCF, FASTA, windows, networks and formulas
are those of this script. `--nyx` is a directory of executables, target/release by default; `--every N` takes every
N-th record.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import cnn

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4
BATCH = 64
COLUMNS = ["ref_prob", "alt_prob", "diff", "log_odds_ratio", "log2_fold_change", "delta_logit", "jsd", "base_delta"]


# The script anybody would write.


def contigs(path):
    """Reads a FASTA, perhaps gzipped."""
    opened = gzip.open(path, "rt") if str(path).endswith(".gz") else open(path)
    found, name, lines = {}, None, []
    with opened as text:
        for line in text:
            if line.startswith(">"):
                if name is not None:
                    found[name] = "".join(lines).upper()
                name, lines = line[1:].split()[0], []
            else:
                lines.append(line.rstrip("\n"))
    found[name] = "".join(lines).upper()
    return found


def records(path, every):
    """Yields contig, position, REF and ALTs of every so many records of a VCF."""
    opened = gzip.open(path, "rt") if str(path).endswith(".gz") else open(path)
    with opened as text:
        body = (line for line in text if not line.startswith("#"))
        for number, line in enumerate(body):
            if number % every == 0:
                chrom, position, _, reference, alternates = line.split("\t", 5)[:5]
                yield chrom, int(position), reference, alternates.split(",")


def window(genome, chrom, position, reference, allele, width):
    """Puts an allele in the place of REF, the first base of which is at width // 2."""
    first, left = position - 1, width // 2
    if left + len(allele) > width:
        return None
    contig = genome[chrom]
    before = contig[max(first - left, 0) : first].rjust(left, "N")
    after = contig[first + len(reference) : first + len(reference) + width]
    return (before + allele.upper() + after)[:width].ljust(width, "N").encode()


def pairs(genome, vcf, width, every):
    """Yields the variant and both windows of every ALT that is made of bases."""
    for chrom, position, reference, alternates in records(vcf, every):
        for k, alternate in enumerate(alternates, 1):
            if set(alternate.upper()) <= set("ACGT"):
                windows = [window(genome, chrom, position, reference, a, width) for a in (reference, alternate)]
                if None not in windows:
                    yield (chrom, position, reference, alternate, k), *windows


def snr_network(directory):
    """DeepSNR as its authors describe it (NyxBind's networks, one-hot with T for what is no base)."""
    import torch
    from torch.nn import functional as f

    arrays = {name: torch.from_numpy(np.array(v)) for name, v in cnn.tensors(directory / "model.safetensors").items()}
    convolution, connection = "ConvolutionalNetwork.Convolution", "ConvolutionalNetwork.FullyConnection"
    deconvolution = "DeconvolutionalNetwork.Deconvolution"

    def norm(x, name):
        parts = [arrays[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return f.batch_norm(x, *parts)

    def run(x):
        x = torch.from_numpy(x).unsqueeze(1)
        maps = f.conv2d(x, arrays[f"{convolution}.0.weight"], arrays[f"{convolution}.0.bias"])
        maps = f.relu(norm(maps, f"{convolution}.1"))
        best, place = f.max_pool2d(maps, (1, maps.shape[3]), return_indices=True)
        u = f.relu(f.linear(best.flatten(1), arrays[f"{connection}.0.weight"], arrays[f"{connection}.0.bias"]))
        u = f.linear(u, arrays[f"{connection}.2.weight"], arrays[f"{connection}.2.bias"])
        placed = f.max_unpool2d(u[:, :, None, None], place, (1, maps.shape[3]))
        marks = f.conv_transpose2d(placed, arrays[f"{deconvolution}.0.weight"], arrays[f"{deconvolution}.0.bias"])
        marks = f.relu(norm(marks, f"{deconvolution}.1"))
        return [torch.sigmoid(marks.amax(2)).flatten(1).numpy()]

    return run


def network(directory, threads):
    """Returns the network of a model directory, its family and its window."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    config = json.loads((directory / "config.json").read_text())
    family = config["architectures"][0]
    if family == "DeepSNR":
        return snr_network(directory), family, 100
    window = config.get("window") or {"BPNet": 2114}.get(family, 1000)
    return cnn.torch_peer("f32", threads)(cnn.steps_of(directory)), family, window


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def effects(family, reference, alternate, alleles):
    """The measures of a batch, from the formulas, in f64; `alleles` are those of each row."""
    from scipy.spatial.distance import jensenshannon
    from scipy.special import softmax

    found = {}
    if family == "DeepSNR":
        left = 50
        site = lambda scores, letters: [row[left : left + len(a)].mean() for row, a in zip(scores, letters)]
        r, a = (scores.astype(np.float64) for scores in (reference[0], alternate[0]))
        found["base_delta"] = np.subtract(site(a, [x[1] for x in alleles]), site(r, [x[0] for x in alleles]))
        return found
    r, a = (scores[0][:, 0].astype(np.float64) for scores in (reference, alternate))
    found["delta_logit"] = a - r
    if family == "BPNet":
        found["log2_fold_change"] = np.log2(np.exp(a) / np.exp(r))
        r, a = (softmax(scores[1].reshape(len(scores[1]), -1).astype(np.float64), 1) for scores in (reference, alternate))
        found["jsd"] = jensenshannon(r, a, axis=1)
        return found
    p, q = sigmoid(r), sigmoid(a)
    found.update(ref_prob=p, alt_prob=q, diff=(q - p) * np.maximum(p, q), log2_fold_change=np.log2(q / p))
    found["log_odds_ratio"] = np.log2(p / (1 - p)) - np.log2(q / (1 - q))
    return found


def peer(model, fasta, vcf, every, threads, out):
    """Scores both windows of every variant and writes a table."""
    run, family, width = network(model, threads)
    waiting = []

    def flush():
        names, reference, alternate = zip(*waiting)
        scores = [run(snr_encode(x) if family == "DeepSNR" else cnn.encode(x)) for x in (reference, alternate)]
        found = effects(family, *scores, [(name[2], name[3]) for name in names])
        for row, name in enumerate(names):
            numbers = [repr(float(found[column][row])) if column in found else "." for column in COLUMNS]
            out.write("\t".join([*map(str, name), *numbers]) + "\n")
        waiting.clear()

    out.write("\t".join(["chrom", "pos", "ref", "alt", "allele", *COLUMNS]) + "\n")
    for pair in pairs(contigs(fasta), vcf, width, every):
        waiting.append(pair)
        if len(waiting) == BATCH:
            flush()
    if waiting:
        flush()


def snr_encode(sequences):
    """Encodes sequences with T for everything that is no base."""
    return cnn.encode([bytes(b if b in b"ACG" else ord("T") for b in sequence) for sequence in sequences])


# What it is compared with.


class Data:
    """Real variants on their stretch of the genome, and real models."""

    def __init__(self, shared, nyx, scratch):
        data = pathlib.Path(shared) / "data"
        self.nyx, self.scratch = nyx, scratch
        self.fasta = data / "genome/hg19_chr20_1Mb/chr20.fa.gz"
        self.vcf = data / "variants/1000G_chr20_1Mb/chr20.1kg.hg19.vcf.gz"
        keras = data / "models/kundaje_cnn/SPI1_GM12878"
        self.models = {
            "spi1": self.convert("spi1", keras / "weights.h5", "--keras-json", keras / "model.json"),
            "bpnet": self.convert("bpnet", data / "models/bpnet_ctcf_k562/model.safetensors"),
            "deepsnr": self.convert("deepsnr", data / "models/nyxbind/CTCFL/DeepSNR.pth"),
        }

    def convert(self, name, *source):
        target = self.scratch / name
        subprocess.run([self.nyx / "nyx-model", "convert", *source, "-o", target, "-q"], check=True)
        return target

    def thinned(self, every):
        """Writes every N-th record into a file of its own."""
        path = self.scratch / f"every{every}.vcf"
        with gzip.open(self.vcf, "rt") as text, open(path, "w") as out:
            count = 0
            for line in text:
                if line.startswith("#") or count % every == 0:
                    out.write(line)
                count += not line.startswith("#")
        return path

    def command(self, model, vcf, output, threads):
        """The pipeline of nyx, for a shell."""
        width = {"spi1": 1000, "bpnet": 2114, "deepsnr": 100}[model]
        return (
            f"{self.nyx}/nyx-extract variants -q --fasta {self.fasta} --vcf {vcf} --width {width} | "
            f"{self.nyx}/nyx-score -q -@ {threads} --model {self.models[model]} --drop sequence | "
            f"{self.nyx}/nyx-effects -q -@ {threads} --no-pg -O tsv -o {output}"
        )


def table(path):
    """Reads a table; returns rows by variant."""
    with open(path) as text:
        lines = (line.rstrip("\n").split("\t") for line in text if not line.startswith("##"))
        names = next(lines)
        rows = [dict(zip(names, line)) for line in lines]
    # Records may come twice; they are the same then.
    return {(row["chrom"], row["pos"], row["ref"], row["alt"]): row for row in rows}


def spacing(row):
    """What two neighbouring 32-bit probabilities differ by in log2 odds: the odds of 0.9999 have four digits."""
    probabilities = (float(row["ref_prob"]), float(row["alt_prob"]))
    return sum(2 * np.spacing(np.float32(p)) / (p * (1 - p)) / np.log(2) for p in probabilities)


def check(data, every):
    """Compares every number of every model; returns whether all are within the tolerance."""
    vcf, passed = data.thinned(every), True
    for model, directory in data.models.items():
        ours, theirs = data.scratch / f"{model}.nyx.tsv", data.scratch / f"{model}.torch.tsv"
        subprocess.run(["bash", "-euo", "pipefail", "-c", data.command(model, vcf, ours, 2)], check=True)
        with open(theirs, "w") as out:
            peer(directory, data.fasta, vcf, 1, 2, out)
        ours, theirs = table(ours), table(theirs)
        scored = {key for key, row in ours.items() if row["status"] == "ok"}
        if scored != set(theirs):
            passed = False
            print(f"{model}: {len(scored)} variants here, {len(theirs)} there")
        for column in COLUMNS:
            both = [(ours[key].get(column, "."), row[column]) for key, row in theirs.items() if key in ours]
            numbers = [(float(a), float(b)) for a, b in both if "." not in (a, b)]
            if not numbers:
                continue
            worst = max(abs(a - b) for a, b in numbers)
            largest = max(abs(b) for _, b in numbers)
            slack = [spacing(row) if column == "log_odds_ratio" else 0 for row in theirs.values()]
            over = sum(abs(a - b) > TOLERANCE + more for (a, b), more in zip(numbers, slack))
            passed &= not over and len(numbers) == len(theirs)
            print(f"{model:8} {column:18} {len(numbers):6} variants  largest {largest:9.4f}  "
                  f"max difference {worst:.2e}  {over} over")
    print("all within" if passed else "NOT all within", TOLERANCE)
    return passed


def bench(data, every, runs, threads):
    vcf = data.thinned(every)
    genome = contigs(data.fasta)
    for model, directory in data.models.items():
        ours = data.command(model, vcf, "/dev/null", threads).replace("-O tsv -o /dev/null", "-O tsv > /dev/null")
        theirs = f"{sys.executable} {__file__} peer {directory} {data.fasta} {vcf} --threads {threads} > /dev/null"
        count = sum(1 for _ in pairs(genome, vcf, {"spi1": 1000, "bpnet": 2114, "deepsnr": 100}[model], 1))
        print(f"\n{model}: {count} variants, {threads} threads")
        compare = [sys.executable, ROOT / "benches/compare.py", "--runs", str(runs), "--unit", f"variants={count}"]
        subprocess.run([*compare, f"nyx={ours}", f"PyTorch={theirs}"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=["check", "bench", "peer"])
    parser.add_argument("paths", nargs="+", type=pathlib.Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nyx", type=pathlib.Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    if arguments.mode == "peer":
        model, fasta, vcf = arguments.paths
        return peer(model, fasta, vcf, arguments.every, arguments.threads, sys.stdout)
    with tempfile.TemporaryDirectory() as scratch:
        data = Data(arguments.paths[0], arguments.nyx.resolve(), pathlib.Path(scratch))
        if arguments.mode == "check":
            sys.exit(not check(data, arguments.every))
        bench(data, arguments.every, arguments.runs, arguments.threads)


if __name__ == "__main__":
    main()
