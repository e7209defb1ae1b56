"""Step time of nyx-train beside PyTorch on the same networks, batches and threads; with --data, the area under the
ROC curve that both reach with the same recipe.

    cargo build --release --bin nyx-train
    python benches/train.py target/release/nyx-train [--threads N] [--networks sigtfb-1 …] [--data DIR --architecture deepbind|danq]

A step is encoding, forward, backward, clipping and AdamW; evaluations are left out on both sides. Of SigTFB both stages
are timed, of the pairs the network behind the encoder; BertSNR, BERT-TFBS and classes (`full`: BERT, DNABERT-2's
MosaicBERT) on transformers of four layers of 256, with PyTorch's fused attention where it can be had.
"""

import argparse
import csv
import gzip
import json
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
import torch_gradients as networks  # noqa: E402

COUNT = 4000  # sequences
CELLS = 5
NETWORKS = {"deepbind": networks.DeepBind, "danq": networks.DanQ}


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


def codes(sequences):
    return CODES[np.frombuffer("".join(sequences).encode(), dtype=np.uint8)].reshape(len(sequences), -1)


def encode(sequences):
    return torch.from_numpy(np.eye(4, dtype=np.float32)[codes(sequences)]).transpose(1, 2).contiguous()


def kmers(sequences):
    """Token ids of overlapping 3-mers between [CLS] and [SEP]; which k-mer has which number costs no time."""
    c = codes(sequences)
    ids = 5 + 16 * c[:, :-2] + 4 * c[:, 1:-1] + c[:, 2:]
    return torch.from_numpy(np.pad(ids, ((0, 0), (1, 1)), constant_values=2))


class Data:
    """Random sequences and labels, as Python has them and as files for nyx."""

    def __init__(self, folder, length, cells=1):
        random.seed(1)
        self.folder, self.length = folder, length
        self.sequences = ["".join(random.choices("ACGT", k=length)) for _ in range(COUNT)]
        self.labels = torch.tensor([[float(random.randint(0, 1)) for _ in range(cells)] for _ in range(COUNT)])
        lists = [",".join(str(int(y)) for y in row) for row in self.labels]
        for name, rows in (("train", COUNT), ("dev", 64)):
            lines = [f"{s}\t{y}" for s, y in zip(self.sequences[:rows], lists)]
            (folder / f"{name}.tsv").write_text("sequence\tlabel\n" + "\n".join(lines) + "\n")
        pairs = zip(self.sequences, self.sequences[1:], lists)
        (folder / "pairs.csv").write_text("sequence1,sequence2,label\n" + "\n".join(map(",".join, pairs)) + "\n")
        (folder / "sequence.txt").write_text("\n".join(self.sequences) + "\n")
        (folder / "label.txt").write_text("\n".join(y[0] * length for y in lists) + "\n")
        self.sets = ["--train", folder / "train.tsv", "--dev", folder / "dev.tsv"]
        self.lines = ["--sequences", folder / "sequence.txt", "--base-labels", folder / "label.txt"]

    def transformer(self, **config):
        """A directory of a transformer to begin with."""
        shape = {"model_type": "bert", "architectures": ["BertModel"], "layer_norm_eps": 1e-12, "vocab_size": 69,
                 "max_position_embeddings": 128, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
        directory = self.folder / "transformer"
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(shape | config))
        return ["--model", directory, "--from-scratch"]


def bce(logits, y):
    return F.binary_cross_entropy_with_logits(logits.reshape(y.shape), y)


def sequences_case(name, data):
    model = with_dropout(name, NETWORKS[name]())
    loss = lambda rows: bce(model(encode(data.sequences[rows])), data.labels[rows])  # noqa: E731
    return model, loss, 64, ["cnn", "--architecture", name, "--no-reverse-complement", *data.sets]


def bases_case(name, data):
    model = {"deepsnr": networks.DeepSNR, "d-aednet": networks.DAEDNet}[name]()
    loss = lambda rows: bce(model(encode(data.sequences[rows])), data.labels[rows].repeat(1, data.length))  # noqa: E731
    return model, loss, 32, ["base-caller", "--architecture", name, "--tries", 1, *data.lines]


def stage_1_case(_, data):
    model = networks.CellTypes(64, CELLS)

    def loss(rows):
        cells = torch.arange(len(data.labels[rows])) % CELLS
        of = torch.arange(len(cells))
        return bce(model(encode(data.sequences[rows]))[of, cells], data.labels[rows][of, cells])

    return model, loss, 128, ["sigtfb", "--filters", 64, *data.sets]


def stage_2_case(_, data):
    model = networks.ToldCell(64, CELLS, 16, 64)

    def loss(rows):
        cells = torch.arange(len(data.labels[rows])) % CELLS
        of = torch.arange(len(cells))
        told = F.one_hot(cells, CELLS).float() * (of < len(of) // 2)[:, None]
        logits = model(encode(data.sequences[rows]), told)
        return F.cross_entropy(logits, data.labels[rows][of, cells].long())

    prepare = ["sigtfb", "--filters", 64, "--epochs", 1, "-o", data.folder / "stage1", *data.sets]
    return model, loss, 128, ["sigtfb", "--stage1", data.folder / "stage1", *data.sets], prepare


def pairs_case(_, data):
    model = networks.ResidualLayers(3072, (1024, 512, 256))
    vectors = torch.randn(COUNT, 768)

    def loss(rows):
        first, second = vectors[rows], vectors[rows.start + 1 : rows.stop + 1]
        x = torch.cat([first, second, first - second, first * second], 1)
        return F.cross_entropy(model(x), data.labels[rows, 0].long())

    base = data.transformer(hidden_size=768, intermediate_size=768, num_hidden_layers=1, num_attention_heads=12)
    few = ["--train", data.folder / "dev.tsv", "--dev", data.folder / "dev.tsv", "--epochs", 1]
    prepare = ["mlm", *base, *few, "-o", data.folder / "encoder"]
    return model, loss, 64, ["fcnn", "--encoder", data.folder / "encoder", "--train", data.folder / "pairs.csv"], prepare


def quick_attention(eager):
    """PyTorch's fused attention where it can be had: without ALiBi."""

    def attend(q, k, v, slopes):
        if slopes is not None:
            return eager(q, k, v, slopes)
        heads = networks.SIZES["heads"]
        q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    return attend


def transformer_case(name, data):
    heads = 2 if name == "full-mosaic" else 4
    networks.SIZES |= {"hidden": 256, "heads": heads, "wide": 1024, "layers": 4, "positions": 128}
    networks.attend = quick_attention(networks.attend)
    base = data.transformer(hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=heads)
    if name == "bertsnr":
        model = networks.BertSNR()

        def loss(rows):
            sequence, token = model(kmers(data.sequences[rows]))
            y = data.labels[rows]
            return 0.15 * bce(sequence, y) + 0.85 * bce(token, y.repeat(1, data.length - 2))

        return model, loss, 32, ["base-caller", "--architecture", name, *base, *data.lines]
    flags = ["full", *base, *data.sets]
    if name == "bert-tfbs":
        model = networks.BertTfbs(data.length)
        model.bert = networks.Body(networks.BertLayer, True)
        del model.bert.pooler
        flags = ["bert-tfbs", "--tokens", data.length, *base, *data.sets]
    else:
        model = networks.Bert() if name == "full" else networks.MosaicBert()
    if name == "full-mosaic":
        torch.save(model.state_dict(), data.folder / "transformer" / "pytorch_model.bin")
        flags.remove("--from-scratch")
    loss = lambda rows: F.cross_entropy(model(kmers(data.sequences[rows])), data.labels[rows, 0].long())  # noqa: E731
    return model, loss, 32, flags


CASES = {
    "deepbind": (sequences_case, 101, 1),
    "danq": (sequences_case, 101, 1),
    "deepsnr": (bases_case, 100, 1),
    "d-aednet": (bases_case, 100, 1),
    "sigtfb-1": (stage_1_case, 101, CELLS),
    "sigtfb-2": (stage_2_case, 101, CELLS),
    "fcnn": (pairs_case, 100, 1),
    "bertsnr": (transformer_case, 100, 1),
    "bert-tfbs": (transformer_case, 101, 1),
    "full": (transformer_case, 101, 1),
    "full-mosaic": (transformer_case, 101, 1),
}


def torch_steps(model, loss_of, batch, steps):
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, weight_decay=0.01)

    def step(first):
        loss = loss_of(slice(first, first + batch))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for warm in range(3):
        step(warm * batch)
    began = time.perf_counter()
    for index in range(steps):
        step(index * batch % (COUNT - batch - 1))
    return (time.perf_counter() - began) / steps


def nyx_steps(binary, command, prepare, folder, batch, steps, threads):
    if prepare:
        subprocess.run([*map(str, [binary, *prepare, "-@", threads]), "-q"], check=True)
    if command[0] == "sigtfb":
        batch //= 2  # it counts draws of two
    command = [binary, *command, "-o", folder / "model", "--train-batch", batch, "--epochs", 1000, "--eval-every", 10**9,
               "--stop-after", steps, "--max-grad-norm", 1, "--optimizer", "adamw", "-@", threads]
    subprocess.run([*map(str, command), "-q"], check=True)
    lines = (folder / "model" / "training" / "metrics.jsonl").read_text().splitlines()
    runtimes = [(int(re.search(r'"_step":(\d+)', x)[1]), float(re.search(r'"_runtime":([\d.e-]+)', x)[1])) for x in lines]
    (first, began), (last, ended) = runtimes[0], runtimes[-1]
    return (ended - began) / (last - first)


def compare_steps(binary, threads, steps, names):
    print(f"{'network':10} {'batch':>5} {'PyTorch':>11} {'nyx':>11} {'ratio':>7}")
    for name in names:
        case, length, cells = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            model, loss, batch, command, *prepare = case(name, Data(Path(folder), length, cells))
            theirs = torch_steps(model, loss, batch, steps)
            ours = nyx_steps(binary, command, *(prepare or [None]), Path(folder), batch, steps, threads)
            print(f"{name:10} {batch:5} {theirs * 1e3:8.2f} ms {ours * 1e3:8.2f} ms {theirs / ours:6.2f}x", flush=True)


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
    model = with_dropout(name, NETWORKS[name]())
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
    parser.add_argument("--networks", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--architecture", default="deepbind", choices=["deepbind", "danq"])
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.data:
        return compare_steps(arguments.binary.resolve(), arguments.threads, arguments.steps, arguments.networks)
    found, steps = torch_area(arguments.architecture, arguments.data, arguments.seed)
    print(f"PyTorch {arguments.architecture}: test ROC AUC {found:.4f} after {steps} steps")


if __name__ == "__main__":
    main()
