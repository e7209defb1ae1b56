#!/usr/bin/env python3
"""One layer of BERT-base, 4 sequences of 128 tokens: nyx and PyTorch in turns, on one thread.

    benches/layer.py [ROUNDS]

Needs PyTorch. Both count 10^9 operations (two for a product and its sum) per second of processor time, so that a busy
machine disturbs them little; the best round of each stands. nyx's is `cargo bench --bench kernels layer of`.
"""

import re
import subprocess
import sys
import time

import torch
from torch import nn

HIDDEN, INNER, HEADS, BATCH, LENGTH = 768, 3072, 12, 4, 128
TOKENS = BATCH * LENGTH
OPERATIONS = 2 * TOKENS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER) + 4 * TOKENS * LENGTH * HIDDEN


class Layer(nn.Module):
    """As transformers' BertLayer with its fastest attention."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = nn.Linear(HIDDEN, INNER), nn.Linear(INNER, HIDDEN)
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN) for _ in range(2))

    def forward(self, x):
        def heads(linear):
            return linear(x).view(BATCH, LENGTH, HEADS, -1).transpose(1, 2)

        context = nn.functional.scaled_dot_product_attention(
            heads(self.query), heads(self.key), heads(self.value)
        )
        x = self.norms[0](self.dense(context.transpose(1, 2).reshape(x.shape)) + x)
        return self.norms[1](self.down(nn.functional.gelu(self.up(x))) + x)


def torch_rate(layer, x, autocast):
    """Returns 10^9 operations per second of processor time over a few calls."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        for _ in range(3):
            layer(x)
        start = time.process_time()
        for _ in range(8):
            layer(x)
        return 8 * OPERATIONS / (time.process_time() - start) / 1e9


def nyx_rates():
    """Returns the same of each precision."""
    command = ["cargo", "bench", "--quiet", "--bench", "kernels", "--", "layer of"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {f"nyx {name}": float(rate) for name, rate in re.findall(r"base (\w+),.*?([\d.]+) GOP", text)}


def main():
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    layer, x = Layer().eval(), torch.randn(BATCH, LENGTH, HIDDEN)
    pure = Layer().eval().bfloat16()
    best = {}
    for _ in range(rounds):
        rates = nyx_rates() | {
            "PyTorch f32": torch_rate(layer, x, False),
            "PyTorch bf16 autocast": torch_rate(layer, x, True),
            "PyTorch bf16 weights": torch_rate(pure, x.bfloat16(), False),
        }
        best = {name: max(rate, best.get(name, 0)) for name, rate in rates.items()}
    print(f"| layer of BERT-base, {BATCH} x {LENGTH} tokens | GOP per cpu-s |\n|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.0f} |")


main()
