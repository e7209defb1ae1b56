"""Compares contributions of nyx-attrib with captum's, tangermeme's and PyTorch's own gradients, on the same inputs.

Usage: attribution.py --cnn MODEL_DIRECTORY FASTA [--bert MODEL_DIRECTORY]

Needs numpy, torch, captum, tangermeme and pyarrow, and nyx-extract and nyx-attrib on PATH (or in NYX_BIN). The CNN is a
SequentialCnn as `nyx-model convert` writes it, FASTA has windows of its length; the BERT is a directory of a
BertForSequenceClassification over k-mers (without files of a tokenizer). Prints the largest difference of each pair,
and fails where one is beyond 1e-4 of the largest number of its kind, or 1e-4 where that is below one.
"""

import argparse
import gzip
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pyarrow.ipc
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches"))
import cnn  # noqa: E402
import ism  # noqa: E402

# Steps of captum's that stand for the integral.
LIMIT = 2000

failures = []


def nyx(command, *arguments, stdin=b""):
    """Runs a command of nyx."""
    path = pathlib.Path(os.environ["NYX_BIN"]) / f"nyx-{command}" if "NYX_BIN" in os.environ else f"nyx-{command}"
    return subprocess.run([str(path), "-q", *map(str, arguments)], input=stdin, stdout=subprocess.PIPE, check=True).stdout


def attributed(model, sequences, *flags):
    """Returns the columns of nyx-attrib for these sequences."""
    with tempfile.NamedTemporaryFile("w", suffix=".fa") as fasta:
        fasta.write("".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
        fasta.flush()
        rows = nyx("extract", "sequences", fasta.name)
    stream = nyx("attrib", "--model", model, *flags, stdin=rows)
    return pyarrow.ipc.open_stream(stream).read_all()


def column(table, name):
    """Returns a list column as an array."""
    return np.array([row.as_py() for row in table[name]])


def compare(what, found, expected):
    """Prints how far two arrays are apart."""
    error = float(np.abs(found - expected).max())
    limit = 1e-4 * max(1.0, float(np.abs(expected).max()))
    print(f"{what}: largest difference {error:.1e} of {np.abs(expected).max():.3g}")
    if not error <= limit:
        failures.append(what)


def read(path, count, window):
    data = pathlib.Path(path).read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode().upper()
    records = ("".join(record.split("\n")[1:])[:window] for record in text.split(">")[1:])
    return [record for record in records if len(record) == window and set(record) <= set("ACGT")][:count]


def check_cnn(directory, fasta):
    from captum.attr import DeepLift, IntegratedGradients
    from tangermeme.deep_lift_shap import deep_lift_shap

    config = json.loads((directory / "config.json").read_text())
    window = config.get("window") or 1000
    sequences = read(fasta, 3, window)
    network = ism.module(cnn.steps_of(directory))
    inputs = torch.from_numpy(cnn.encode([sequence.encode() for sequence in sequences]))
    zeros = torch.zeros_like(inputs)
    shape = (len(sequences), 4, window)

    table = attributed(directory, sequences, "--method", "deeplift", "--background", "zero")
    ours = column(table, "hypothetical").reshape(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = deep_lift_shap(network, inputs, references=zeros[:, None], hypothetical=True, device="cpu")
        compare("DeepLIFT, hypothetical, and tangermeme", ours, theirs.numpy())
        theirs = DeepLift(network).attribute(inputs, zeros, target=0).detach().numpy().sum(1)
    with torch.no_grad():
        difference = (network(inputs) - network(zeros))[:, 0].numpy()
    missed = np.abs(theirs.sum(1) - difference).max()
    if missed > 1e-3 * np.abs(difference).max():
        print(f"DeepLIFT, projected: captum's miss the difference that they share out by {missed:.1e}, as they do where a "
              "maximum is taken; not compared")
    else:
        compare("DeepLIFT, projected, and captum", column(table, "contributions"), theirs)

    table = attributed(directory, sequences, "--method", "ig", "--background", "zero")
    ours = column(table, "contributions")
    theirs = {count: IntegratedGradients(network).attribute(inputs, zeros, target=0, n_steps=count, method="riemann_middle",
                                                            internal_batch_size=64).detach().numpy().sum(1)
              for count in (50, LIMIT)}
    apart = {name: float(np.abs(found - theirs[LIMIT]).sum() / np.abs(theirs[LIMIT]).sum())
             for name, found in (("nyx-attrib", ours), ("captum with 50", theirs[50]))}
    print(f"integrated gradients, apart from captum's with {LIMIT} steps: "
          + ", ".join(f"{name} {value:.1e}" for name, value in apart.items()))
    if not apart["nyx-attrib"] <= min(0.01, apart["captum with 50"]):
        failures.append("integrated gradients and captum's limit")

    inputs.requires_grad_(True)
    gradient = torch.autograd.grad(network(inputs).sum(), inputs)[0].numpy()
    table = attributed(directory, sequences, "--method", "gradxinput")
    compare("gradient and PyTorch", column(table, "hypothetical").reshape(shape), gradient)


def bert(config, weights):
    """Returns a BERT as a function of embeddings, and what embeds tokens (words, and all else), in PyTorch."""
    heads, hidden = config["num_attention_heads"], config["hidden_size"]

    def linear(name, x):
        return torch.nn.functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x):
        parts = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, (hidden,), *parts, config.get("layer_norm_eps", 1e-12))

    def split(x):
        return x.view(len(x), heads, -1).transpose(0, 1)

    def logits(embedded):
        x = norm("bert.embeddings.LayerNorm", embedded)
        for layer in range(config["num_hidden_layers"]):
            name = f"bert.encoder.layer.{layer}"
            q, k, v = (split(linear(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
            weighed = torch.softmax(q @ k.transpose(1, 2) / (hidden / heads) ** 0.5, -1) @ v
            read = weighed.transpose(0, 1).reshape(len(x), hidden)
            x = norm(f"{name}.attention.output.LayerNorm", linear(f"{name}.attention.output.dense", read) + x)
            wide = torch.nn.functional.gelu(linear(f"{name}.intermediate.dense", x))
            x = norm(f"{name}.output.LayerNorm", linear(f"{name}.output.dense", wide) + x)
        return linear("classifier", torch.tanh(linear("bert.pooler.dense", x[:1])))[0]

    def embed(tokens):
        words = weights["bert.embeddings.word_embeddings.weight"][tokens]
        others = weights["bert.embeddings.position_embeddings.weight"][: len(tokens)]
        return words, others + weights["bert.embeddings.token_type_embeddings.weight"][0]

    return logits, embed


def rescaled(config, weights, whole, masked, others, target):
    """Returns the multipliers of DeepLIFT's rescale rule for word embeddings: every quantity is three numbers, its value for
    the sequence, for the background, and their difference as a function of the difference of the inputs, which autograd
    differentiates. The last value of that function must be the difference of the logits: completeness."""
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    epsilon = config.get("layer_norm_eps", 1e-12)

    def each(f, x):
        return tuple(f(part) for part in x)

    def linear(name, x):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return x[0] @ weight.T + bias, x[1] @ weight.T + bias, x[2] @ weight.T

    def add(a, b):
        return tuple(one + other for one, other in zip(a, b))

    def secant(f, x):
        value, other = f(x[0]), f(x[1])
        same = (x[0] - x[1]).abs() < 1e-12
        slope = torch.where(same, torch.func.vmap(torch.func.grad(f))(x[0].flatten()).view_as(value),
                            (value - other) / torch.where(same, torch.ones_like(value), x[0] - x[1]))
        return value, other, slope * x[2]

    def product(a, b, times):
        return times(a[0], b[0]), times(a[1], b[1]), times((a[0] + a[1]) / 2, b[2]) + times(a[2], (b[0] + b[1]) / 2)

    def norm(name, x):
        centred = each(lambda part: part - part.mean(-1, keepdim=True), x)
        squares = product(centred, centred, torch.mul)
        root = secant(lambda v: (v + epsilon) ** -0.5, each(lambda part: part.mean(-1, keepdim=True), squares))
        value, other, difference = product(centred, root, torch.mul)
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return value * weight + bias, other * weight + bias, difference * weight

    def softmax(x):
        # Probabilities of either row add up to 1, so the secants of their logarithms weigh what the normalizer differs.
        first, second = (part - torch.logsumexp(part, -1, keepdim=True) for part in x[:2])
        value, other, weighed = secant(torch.exp, (first, second, x[2]))
        slopes = secant(torch.exp, (first, second, torch.ones_like(first)))[2]
        return value, other, weighed - slopes * weighed.sum(-1, keepdim=True) / slopes.sum(-1, keepdim=True)

    def split(x):
        return each(lambda part: part.view(len(part), heads, -1).transpose(0, 1), x)

    change = (whole - masked).requires_grad_(True)
    x = norm("bert.embeddings.LayerNorm", (whole + others, masked + others, change))
    for layer in range(config["num_hidden_layers"]):
        name = f"bert.encoder.layer.{layer}"
        q, k, v = (split(linear(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        scores = each(lambda part: part / (hidden / heads) ** 0.5, product(q, each(lambda part: part.transpose(1, 2), k), torch.matmul))
        read = each(lambda part: part.transpose(0, 1).reshape(len(whole), hidden), product(softmax(scores), v, torch.matmul))
        x = norm(f"{name}.attention.output.LayerNorm", add(linear(f"{name}.attention.output.dense", read), x))
        wide = secant(torch.nn.functional.gelu, linear(f"{name}.intermediate.dense", x))
        x = norm(f"{name}.output.LayerNorm", add(linear(f"{name}.output.dense", wide), x))
    pooled = secant(torch.tanh, linear("bert.pooler.dense", each(lambda part: part[:1], x)))
    value, other, difference = each(lambda part: part[0, target], linear("classifier", pooled))
    assert abs(float(difference.detach() - (value - other).detach())) < 1e-9, "not complete"
    return torch.autograd.grad(difference, change)[0]


def token_scores(config, weights, sequence, width, target, steps):
    """Returns the contributions of the bases of a sequence of k-mers by each method."""
    logits, embed = bert(config, weights)
    order = "ATCG"
    code = [5 + sum(order.index(base) * 4 ** (width - 1 - place) for place, base in enumerate(sequence[at : at + width]))
            for at in range(len(sequence) - width + 1)]
    words, others = embed([2, *code, 3])
    # Special tokens are no part of what is explained.
    inside = torch.ones(len(words), 1)
    inside[[0, -1]] = 0
    masked = torch.where(inside > 0, embed([4] * len(words))[0], words)

    def gradient(part):
        x = (masked + part * (words - masked) + others).requires_grad_(True)
        return torch.autograd.grad(logits(x)[target], x)[0]

    def of_bases(scores):
        found = np.zeros(len(sequence))
        for at, score in enumerate(scores[1:-1]):
            found[at : at + width] += float(score) / width
        return found

    whole = gradient(1.0)
    shared = rescaled(config, weights, words, masked, others, target)
    mean = sum(gradient((step + 0.5) / steps) for step in range(steps)) / steps
    return {
        "saliency": of_bases(whole.norm(dim=1)), "gradxinput": of_bases((whole * words).sum(1)),
        "ig limit": of_bases((mean * (words - masked)).sum(1)), "deeplift": of_bases((shared * (words - masked)).sum(1)),
    }


def check_bert(directory):
    config = json.loads((directory / "config.json").read_text())
    weights = {name: torch.from_numpy(np.array(values)) for name, values in cnn.tensors(directory / "model.safetensors").items()}
    rng = np.random.default_rng(1)
    sequence = "".join(rng.choice(list("ACGT"), 60))
    width = round(math.log(config["vocab_size"] - 5, 4))
    weights = {name: tensor.double() for name, tensor in weights.items()}
    expected = token_scores(config, weights, sequence, width, 1, LIMIT)
    for name, scores in expected.items():
        method = name.split()[0]
        flags = ["--steps", 450] if method == "ig" else []
        found = column(attributed(directory, [sequence], "--target", 1, "--method", method, *flags), "contributions")[0]
        compare(f"{method} of tokens and PyTorch", found, scores)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cnn", nargs=2, type=pathlib.Path)
    parser.add_argument("--bert", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.cnn:
        check_cnn(*arguments.cnn)
    if arguments.bert:
        check_bert(arguments.bert)
    if failures:
        sys.exit("beyond the tolerance: " + ", ".join(failures))
