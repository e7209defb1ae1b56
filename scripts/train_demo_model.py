#!/usr/bin/env python3
"""Train the small network of `nyx demo` and write src/demo/model/{config.json,model.safetensors}.

Needs numpy only. One convolution sees motifs on both strands, its activations are pooled over the window,
and one linear layer gives the logit, so that what a motif instance adds does not depend on where it lies or on
what else is there. Training sequences come from the same recipe as the demo's genome (src/demo/genome.rs), from
other seeds; the demo's genome is never seen here. Same seed, same numpy: same weights.

    pip install numpy && python3 scripts/train_demo_model.py
"""

import json
import struct
from pathlib import Path

import numpy as np

DEMO = Path(__file__).resolve().parent.parent / "src" / "demo"
BACKGROUND = [0.29, 0.21, 0.21, 0.29]
WINDOW, MARGIN, GAP, INSTANCES_MAX = 200, 15, 6, 3
FILTERS, WIDTH = 24, 19
TRAIN, TEST, BATCH, EPOCHS = 16000, 4000, 128, 40
RATE, DECAY, SEED = 6e-3, 2e-3, 7


def read_motifs():
    """Returns the matrices [W, 4] of motifs.meme."""
    motifs = []
    for line in (DEMO / "motifs.meme").read_text().splitlines():
        words = line.split()
        if line.startswith("MOTIF "):
            motifs.append([])
        elif motifs and len(words) == 4 and words[0][0].isdigit():
            motifs[-1].append([float(word) for word in words])
    return [np.array(motif) for motif in motifs]


def plant(random, motifs, bases):
    """Writes one to three instances into a window of base indices, apart from each other, on either strand."""
    spans = []
    wanted = random.integers(1, INSTANCES_MAX + 1)
    while len(spans) < wanted:
        motif = motifs[random.integers(len(motifs))]
        start = MARGIN + random.integers(WINDOW - 2 * MARGIN - len(motif))
        end = start + len(motif)
        if any(start < b + GAP and a < end + GAP for a, b in spans):
            continue
        word = np.array([random.choice(4, p=row / row.sum()) for row in motif])
        bases[start:end] = word if random.random() < 0.5 else 3 - word[::-1]
        spans.append((start, end))


def make(random, motifs, count):
    """Returns base indices [count, WINDOW], the first half with planted motifs, and labels."""
    bases = random.choice(4, size=(count, WINDOW), p=BACKGROUND)
    labels = (np.arange(count) < count // 2).astype(np.float32)
    for row in range(count // 2):
        plant(random, motifs, bases[row])
    order = random.permutation(count)
    return bases[order], labels[order]


def unfold(bases):
    """Returns [B, WINDOW, WIDTH * 4]: one-hot windows around every base, zeros beyond the ends."""
    half = WIDTH // 2
    onehot = np.zeros((len(bases), WINDOW + 2 * half, 4), np.float32)
    onehot[:, half : half + WINDOW] = np.eye(4, dtype=np.float32)[bases]
    view = np.lib.stride_tricks.sliding_window_view(onehot, WIDTH, axis=1)  # [B, WINDOW, 4, WIDTH]
    return view.transpose(0, 1, 3, 2).reshape(len(bases), WINDOW, WIDTH * 4)


def forward(weights, patches):
    """Returns activations [B, WINDOW, FILTERS] after the ReLU and logits [B]."""
    activations = np.maximum(patches @ weights["filters"] + weights["filter_bias"], 0)
    return activations, activations.sum(axis=1) @ weights["linear"] + weights["bias"]


def gradients(weights, patches, labels):
    """Returns the gradients of the mean binary cross-entropy."""
    activations, logits = forward(weights, patches)
    residual = (1 / (1 + np.exp(-logits)) - labels) / len(labels)
    back = (activations > 0) * (residual[:, None, None] * weights["linear"])
    flat = back.reshape(-1, FILTERS)
    return {
        "filters": patches.reshape(-1, WIDTH * 4).T @ flat,
        "filter_bias": flat.sum(axis=0),
        "linear": activations.sum(axis=1).T @ residual,
        "bias": residual.sum(),
    }


def auc(labels, scores):
    """Returns the area under the ROC curve from ranks (scores have no ties here)."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positives = labels.sum()
    return (ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))


def predict(weights, bases):
    """Returns logits, in slices that fit into memory."""
    return np.concatenate([forward(weights, unfold(part))[1] for part in np.array_split(bases, 40)])


def train(random, bases, labels):
    """Trains with AdamW, the rate falling linearly to zero."""
    weights = {
        "filters": random.normal(0, 0.15, (WIDTH * 4, FILTERS)).astype(np.float32),
        "filter_bias": np.full(FILTERS, -0.5, np.float32),
        "linear": random.normal(0.2, 0.1, FILTERS).astype(np.float32),
        "bias": np.float32(-1),
    }
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in weights.items()}
    steps, step = EPOCHS * (len(bases) // BATCH), 0
    for epoch in range(EPOCHS):
        order = random.permutation(len(bases))
        for chosen in np.array_split(order, len(bases) // BATCH):
            step += 1
            rate = RATE * (1 - step / (steps + 1))
            for name, gradient in gradients(weights, unfold(bases[chosen]), labels[chosen]).items():
                first, second = moments[name]
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient**2
                moments[name] = (first, second)
                update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
                # The linear layer's decay is what keeps filters strong enough to be read.
                decay = DECAY if name in ("filters", "linear") else 0
                weights[name] = (weights[name] - rate * (update + decay * weights[name])).astype(np.float32)
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:2}: training AUC {auc(labels[:2000], predict(weights, bases[:2000])):.4f}")
    return weights


def save_safetensors(path, tensors):
    """Writes float32 arrays in the safetensors format."""
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    motifs = read_motifs()
    random = np.random.default_rng(SEED)
    bases, labels = make(random, motifs, TRAIN)
    held_bases, held_labels = make(np.random.default_rng(SEED + 1), motifs, TEST)
    weights = train(random, bases, labels)
    score = float(auc(held_labels, predict(weights, held_bases)))
    print(f"held-out AUC {score:.4f} on {TEST} sequences of {WINDOW} bases")
    config = {
        "architectures": ["SequentialCnn"],
        "window": WINDOW,
        "labels": ["active"],
        "layers": [
            {"op": "conv1d", "in_": 4, "out": FILTERS, "k": WIDTH, "padding": "same"},
            {"op": "relu"},
            {"op": "globalavgpool"},
            {"op": "linear", "in_": FILTERS, "out": 1},
            {"op": "sigmoid"},
        ],
        "trained_by": {
            "script": "scripts/train_demo_model.py",
            "seed": SEED,
            "numpy": np.__version__,
            "train_sequences": TRAIN,
            "held_out_sequences": TEST,
            "held_out_auc": round(score, 4),
        },
    }
    folder = DEMO / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    filters = weights["filters"].reshape(WIDTH, 4, FILTERS).transpose(2, 1, 0)  # PyTorch's [out, in, k]
    save_safetensors(
        folder / "model.safetensors",
        {
            "0.weight": filters,
            "0.bias": weights["filter_bias"],
            # Trained on sums over the window, which learn faster; the layer that is saved has averages.
            "3.weight": weights["linear"][None, :] * WINDOW,
            "3.bias": np.array([weights["bias"]], np.float32),
        },
    )


if __name__ == "__main__":
    main()
