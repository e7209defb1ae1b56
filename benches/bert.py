#!/usr/bin/env python3
"""Times a BERT-base classifier of 6-mers (DNABERT's size, seeded weights): nyx-score against PyTorch and ONNX Runtime.

Usage: bert.py [--rows N] [--runs N] [--threads 1,2] [--bases 131 | --mixed] [--batch 64] [--peers NAME,...] NYX_BIN_DIR

NYX_BIN_DIR holds nyx-extract and nyx-score (target/release). TORCH_PYTHON and ONNX_PYTHON name interpreters with
torch, and with onnx and onnxruntime (and torch, to export); peers without one are left out. `--mixed` draws lengths
from 60 to 510 bases instead of one length. The peers tokenize beforehand and pad each batch to its longest row, once
in the order of the rows and once sorted by length; nyx-score reads an Arrow stream and tokenizes itself, its start-up
(measured on one row) taken off. Outputs are compared before anything is timed. Times are medians of
interleaved runs; processor seconds are those of the process.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

HIDDEN, LAYERS, HEADS, INNER, K = 768, 12, 12, 3072, 6
VOCABULARY = 5 + 4**K


# The model directory: the same weights for everyone.


def weights(seed=7):
    """Returns the state dict of a BertForSequenceClassification with two labels."""
    random = np.random.default_rng(seed)
    arrays = {}

    def normal(name, *shape, scale=0.02):
        arrays[name] = (random.standard_normal(shape) * scale).astype(np.float32)

    def linear(name, outputs, inputs, scale=0.04):
        normal(f"{name}.weight", outputs, inputs, scale=scale)
        normal(f"{name}.bias", outputs)

    def norm(name):
        arrays[f"{name}.weight"] = (1 + 0.1 * random.standard_normal(HIDDEN)).astype(np.float32)
        normal(f"{name}.bias", HIDDEN)

    normal("bert.embeddings.word_embeddings.weight", VOCABULARY, HIDDEN, scale=0.1)
    normal("bert.embeddings.position_embeddings.weight", 512, HIDDEN, scale=0.1)
    normal("bert.embeddings.token_type_embeddings.weight", 2, HIDDEN)
    norm("bert.embeddings.LayerNorm")
    for index in range(LAYERS):
        layer = f"bert.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", INNER, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, INNER)
        norm(f"{layer}.output.LayerNorm")
    linear("bert.pooler.dense", HIDDEN, HIDDEN)
    linear("classifier", 2, HIDDEN)
    return arrays


def write_safetensors(path, arrays):
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())


def kmers():
    return ["".join("ATCG"[number >> 2 * place & 3] for place in reversed(range(K))) for number in range(4**K)]


def write_model(folder, arrays):
    folder.mkdir()
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "num_labels": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *kmers()]))
    write_safetensors(folder / "model.safetensors", arrays)


# The sequences.


def draw(rows, bases, mixed, seed=11):
    random = np.random.default_rng(seed)
    lengths = random.integers(60, 511, rows) if mixed else np.full(rows, bases)
    return ["".join("ACGT"[base] for base in random.integers(0, 4, length)) for length in lengths]


def tokens(sequence):
    digits = np.frombuffer(sequence.encode(), np.uint8)
    digits = np.select([digits == ord("A"), digits == ord("T"), digits == ord("C")], [0, 1, 2], 3)
    numbers = sum(digits[i : len(digits) - K + 1 + i] * 4 ** (K - 1 - i) for i in range(K))
    return np.concatenate([[2], numbers + 5, [3]]).astype(np.int64)


def batches(rows, size, ordered):
    """Yields indices, ids and mask of batches padded to their longest row."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row])) if ordered else list(range(len(rows)))
    for first in range(0, len(order), size):
        index = order[first : first + size]
        longest = max(len(rows[row]) for row in index)
        ids = np.zeros((len(index), longest), np.int64)
        for place, row in enumerate(index):
            ids[place, : len(rows[row])] = rows[row]
        yield index, ids, (ids != 0)


# The peers, each in a process of its own.


def torch_module(arrays):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.dense = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
            self.inner, self.outer = nn.Linear(HIDDEN, INNER), nn.Linear(INNER, HIDDEN)
            self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN, eps=1e-12) for _ in range(2))

        def forward(self, x, mask):
            rows, length, _ = x.shape
            heads = self.qkv(x).view(rows, length, 3, HEADS, HIDDEN // HEADS).permute(2, 0, 3, 1, 4)
            context = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
            x = self.norms[0](x + self.dense(context.transpose(1, 2).reshape(rows, length, HIDDEN)))
            return self.norms[1](x + self.outer(F.gelu(self.inner(x))))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.position = nn.Embedding(VOCABULARY, HIDDEN), nn.Embedding(512, HIDDEN)
            self.kind, self.norm = nn.Embedding(2, HIDDEN), nn.LayerNorm(HIDDEN, eps=1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
            self.pooler, self.classifier = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2)

        def forward(self, ids, mask):
            x = self.word(ids) + self.position.weight[: ids.shape[1]] + self.kind.weight[0]
            x = self.norm(x)
            mask = mask[:, None, None, :]
            for layer in self.layers:
                x = layer(x, mask)
            return self.classifier(torch.tanh(self.pooler(x[:, 0])))

    def fill(module, *names):
        for part in ("weight", "bias"):
            value = np.concatenate([arrays[f"{name}.{part}"] for name in names])
            getattr(module, part).data = torch.from_numpy(value)

    model = Model()
    for module, name in ((model.word, "word"), (model.position, "position"), (model.kind, "token_type")):
        module.weight.data = torch.from_numpy(arrays[f"bert.embeddings.{name}_embeddings.weight"])
    fill(model.norm, "bert.embeddings.LayerNorm")
    for index, layer in enumerate(model.layers):
        name = f"bert.encoder.layer.{index}"
        fill(layer.qkv, *(f"{name}.attention.self.{part}" for part in ("query", "key", "value")))
        fill(layer.dense, f"{name}.attention.output.dense")
        fill(layer.norms[0], f"{name}.attention.output.LayerNorm")
        fill(layer.inner, f"{name}.intermediate.dense")
        fill(layer.outer, f"{name}.output.dense")
        fill(layer.norms[1], f"{name}.output.LayerNorm")
    fill(model.pooler, "bert.pooler.dense")
    fill(model.classifier, "classifier")
    return model.eval()


def torch_runner(arrays, kind):
    import torch

    model = torch_module(arrays)
    if kind == "bf16":
        model = model.bfloat16()

    def run(ids, mask):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            return model(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()

    return run


def onnx_runner(arrays, threads):
    import onnxruntime
    import torch

    path = tempfile.mkdtemp() + "/model.onnx"
    example = torch.ones(2, 9, dtype=torch.int64)
    axes = {"ids": {0: "rows", 1: "tokens"}, "mask": {0: "rows", 1: "tokens"}}
    torch.onnx.export(
        torch_module(arrays),
        (example, example > 0),
        path,
        input_names=["ids", "mask"],
        output_names=["logits"],
        dynamic_axes=axes,
        dynamo=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def peer(name, threads, batch, ordered):
    """Runs as a process: answers each line `go` with seconds, processor seconds and the logits' file."""
    arrays = weights()
    rows = [tokens(line.strip()) for line in open(os.environ["BENCH_ROWS"])]
    if name == "onnx":
        run = onnx_runner(arrays, threads)
    else:
        import torch

        torch.set_num_threads(threads)
        run = torch_runner(arrays, name.split("-")[1])
    run(*next(batches(rows, batch, ordered))[1:])
    logits = np.zeros((len(rows), 2), np.float32)
    print("ready", flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        for index, ids, mask in batches(rows, batch, ordered):
            logits[index] = run(ids, mask)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        np.save(os.environ["BENCH_LOGITS"], logits)
        print(wall, cpu, flush=True)


# nyx.


def nyx(binaries, model, rows, threads, flags):
    """Returns logits, wall and processor seconds of one process."""
    stream = subprocess.run(
        [binaries / "nyx-extract", "sequences", "-"],
        input="".join(f">{i}\n{row}\n" for i, row in enumerate(rows)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    command = [binaries / "nyx-score", "--model", model, "--drop", "sequence", "-@", str(threads), *flags]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    answer = subprocess.run(command, input=stream, stdout=subprocess.PIPE, check=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = subprocess.run(
        [binaries / "nyx-view", "-O", "json"], input=answer, stdout=subprocess.PIPE, check=True
    ).stdout
    logits = [json.loads(line)["logits"] for line in text.splitlines()]
    return np.array(logits, np.float32), wall, cpu


def spawn(python, name, threads, batch, ordered, rows_file):
    logits = tempfile.mkstemp(suffix=".npy")[1]
    threads = str(threads)
    environment = {
        **os.environ,
        "BENCH_ROWS": str(rows_file),
        "BENCH_LOGITS": logits,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
    command = [python, __file__, "--peer", name, "--threads", threads, "--batch", str(batch)]
    command += ["--sorted"] if ordered else []
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    while line := process.stdout.readline():
        if line == "ready\n":
            return process, logits
    raise SystemExit(f"{name} did not start: run its interpreter by hand with the same arguments")


def ask(process):
    process.stdin.write("go\n")
    process.stdin.flush()
    return tuple(float(value) for value in process.stdout.readline().split())


def compare(arguments, threads):
    rows = draw(arguments.rows, arguments.bases, arguments.mixed)
    folder = pathlib.Path(tempfile.mkdtemp())
    model, rows_file = folder / "model", folder / "rows.txt"
    write_model(model, weights())
    rows_file.write_text("\n".join(rows))
    binaries = pathlib.Path(arguments.binaries).resolve()
    ours = {f"nyx {dtype}": ["--dtype", dtype] for dtype in arguments.dtypes.split(",")}
    peers = {}
    for name in arguments.peers.split(","):
        python = os.environ.get("ONNX_PYTHON" if name == "onnx" else "TORCH_PYTHON")
        if python:
            for ordered in [False, True] if arguments.mixed else [False]:
                text = name + (" sorted" if ordered else "")
                peers[text] = spawn(python, name, threads, arguments.batch, ordered, rows_file)
    times = {name: [] for name in [*ours, *peers]}
    logits, start_up = {}, {}
    for name, flags in ours.items():
        start_up[name] = nyx(binaries, model, rows[:1], threads, flags)[1:]
    for _ in range(arguments.runs):
        for name, flags in ours.items():
            logits[name], wall, cpu = nyx(binaries, model, rows, threads, flags)
            times[name].append((wall - start_up[name][0], cpu - start_up[name][1]))
        for name, (process, file) in peers.items():
            times[name].append(ask(process))
            logits[name] = np.load(file)
    reference = logits.get("torch-f32", next(iter(logits.values())))
    count = sum(len(row) - K + 3 for row in rows)
    # Multiply-adds of the matrix products of real tokens, twice.
    per_token = 2 * LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
    print(f"\n{len(rows)} rows, {count} tokens, {threads} thread(s), batch {arguments.batch}, load {os.getloadavg()[0]:.1f}\n")
    print("| | wall s | CPU s | rows per CPU s | GFLOP per CPU s | largest difference of a logit |")
    print("|---|---|---|---|---|---|")
    for name, runs in times.items():
        wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
        rate = count * per_token / cpu / 1e9
        error = np.abs(logits[name] - reference).max()
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {len(rows) / cpu:.2f} | {rate:.1f} | {error:.1e} |")
    for process, _ in peers.values():
        process.stdin.close()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--bases", type=int, default=131, help="131 bases are 128 tokens")
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--peers", default="torch-f32,torch-bf16,torch-autocast,onnx")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--sorted", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("binaries", nargs="?", help="folder of nyx-extract and nyx-score")
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments.peer, int(arguments.threads), arguments.batch, arguments.sorted)
    for threads in arguments.threads.split(","):
        compare(arguments, int(threads))


main()
