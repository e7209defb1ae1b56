"""Step time of nyx-train beside PyTorch on the same networks, batches and threads; with --data, the area under the
ROC curve that both reach with the same recipe.

    cargo build --release --bin nyx-train
    python benches/train.py target/release/nyx-train [--threads N] [--data DIR --architecture deepbind|danq]

A step is encoding, forward, backward, clipping and AdamW; evaluations are left out on both sides.
"""

import argparse
import csv
import gzip
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from torch_gradients import DAEDNet, DanQ, DeepBind, DeepSNR  # noqa: E402

NETWORKS = {
    "deepbind": (DeepBind, 101, 64),
    "danq": (DanQ, 101, 64),
    "deepsnr": (DeepSNR, 100, 32),
    "d-aednet": (DAEDNet, 100, 32),
}


def with_dropout(name, model):
    """The script of gradients leaves dropout out."""
    if name == "deepbind":
        model.Dense[2] = nn.Dropout(0.5)
    if name == "danq":
        model.Dropout.p = 0.2
        model.BiLSTM.dropout = 0.5
    return model


CODES = np.zeros(256, dtype=np.int64)
for index, base in enumerate(b"ACGT"):
    CODES[base] = index


def encode(sequences):
    codes = CODES[np.frombuffer("".join(sequences).encode(), dtype=np.uint8)].reshape(len(sequences), -1)
    return torch.from_numpy(np.eye(4, dtype=np.float32)[codes]).transpose(1, 2).contiguous()


def torch_steps(name, sequences, labels, batch, steps):
    model = with_dropout(name, NETWORKS[name][0]()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

    def step(first):
        rows = slice(first, first + batch)
        y = labels[rows]
        loss = F.binary_cross_entropy_with_logits(model(encode(sequences[rows])).reshape(y.shape), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for warm in range(5):
        step(warm * batch)
    began = time.perf_counter()
    for index in range(steps):
        step(index * batch % (len(sequences) - batch))
    return (time.perf_counter() - began) / steps


def nyx_steps(binary, name, folder, batch, steps, threads):
    if name in ("deepbind", "danq"):
        data = ["cnn", "--train", folder / "train.csv", "--dev", folder / "dev.csv", "--no-reverse-complement"]
    else:
        data = ["base-caller", "--sequences", folder / "sequence.txt", "--base-labels", folder / "label.txt", "--tries", 1]
    command = [binary, *data, "--architecture", name, "-o", folder / name, "--train-batch", batch, "--epochs", 100,
               "--eval-every", 10**9, "--stop-after", steps, "--max-grad-norm", 1, "-@", threads]
    subprocess.run([*map(str, command), "-q"], check=True)
    lines = [line for line in (folder / name / "training" / "metrics.jsonl").read_text().splitlines()]
    runtimes = [(int(re.search(r'"_step":(\d+)', x)[1]), float(re.search(r'"_runtime":([\d.e-]+)', x)[1])) for x in lines]
    (first, began), (last, ended) = runtimes[0], runtimes[-1]
    return (ended - began) / (last - first)


def write_data(folder, length, count):
    random.seed(1)
    sequences = ["".join(random.choices("ACGT", k=length)) for _ in range(count)]
    labels = [random.randint(0, 1) for _ in sequences]
    for name, rows in (("train", count), ("dev", 64)):
        lines = [f"{s},{y}" for s, y in zip(sequences[:rows], labels)]
        (folder / f"{name}.csv").write_text("sequence,label\n" + "\n".join(lines) + "\n")
    (folder / "sequence.txt").write_text("\n".join(sequences) + "\n")
    (folder / "label.txt").write_text("\n".join(str(y) * length for y in labels) + "\n")
    return sequences, torch.tensor(labels, dtype=torch.float32)


def compare_steps(binary, threads, steps):
    print(f"{'network':10} {'batch':>5} {'PyTorch':>10} {'nyx':>10} {'ratio':>7}")
    for name, (_, length, batch) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            sequences, labels = write_data(Path(folder), length, 4000)
            if name in ("deepsnr", "d-aednet"):
                labels = labels[:, None].repeat(1, length)
            theirs = torch_steps(name, sequences, labels, batch, steps)
            ours = nyx_steps(binary, name, Path(folder), batch, steps, threads)
            print(f"{name:10} {batch:5} {theirs * 1e3:7.2f} ms {ours * 1e3:7.2f} ms {theirs / ours:6.2f}x", flush=True)


def read(path):
    with gzip.open(path, "rt") as file:
        rows = list(csv.reader(file))[1:]
    turn = str.maketrans("ACGTN", "TGCAN")
    both = [(s, float(y)) for sequence, y in rows for s in (sequence, sequence.translate(turn)[::-1])]
    return [s for s, _ in both], torch.tensor([y for _, y in both])


def area(scores, labels):
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[order] = ((ends - counts + 1 + ends) / 2)[inverse]
    positives = labels == 1
    p, n = positives.sum(), (~positives).sum()
    return (ranks[positives].sum() - p * (p + 1) / 2) / (p * n)


def torch_area(name, data, seed):
    """NyxBind's recipe: AdamW 1e-3, 30 steps up and a linear fall, 15 epochs of 64, best dev loss, patience 10."""
    torch.manual_seed(seed)
    random.seed(seed)
    sets = {part: read(Path(data) / f"{part}.csv.gz") for part in ("train", "dev", "test")}
    model = with_dropout(name, NETWORKS[name][0]())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    sequences, labels = sets["train"]
    total = -(-len(sequences) // 64) * 15
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / 30 if step < 30 else max(0, (total - step) / (total - 30)))

    def scores(part):
        model.eval()
        rows, y = sets[part]
        with torch.no_grad():
            x = torch.cat([model(encode(rows[i : i + 512])).flatten() for i in range(0, len(rows), 512)])
        model.train()
        return x, y

    best, waited, kept, step = float("inf"), 0, None, 0
    for _ in range(15):
        order = list(range(len(sequences)))
        random.shuffle(order)
        for first in range(0, len(order), 64):
            rows = order[first : first + 64]
            loss = F.binary_cross_entropy_with_logits(model(encode([sequences[i] for i in rows])).flatten(), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 0:
                x, y = scores("dev")
                dev = F.binary_cross_entropy_with_logits(x, y).item()
                if dev < best:
                    best, waited, kept = dev, 0, {k: v.clone() for k, v in model.state_dict().items()}
                else:
                    waited += 1
            if waited >= 10:
                break
        if waited >= 10:
            break
    model.load_state_dict(kept)
    x, y = scores("test")
    return area(x.numpy(), y.numpy()), step


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--architecture", default="deepbind", choices=["deepbind", "danq"])
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.data:
        return compare_steps(arguments.binary, arguments.threads, arguments.steps)
    found, steps = torch_area(arguments.architecture, arguments.data, arguments.seed)
    print(f"PyTorch {arguments.architecture}: test ROC AUC {found:.4f} after {steps} steps")


if __name__ == "__main__":
    main()
