"""DNABERT-6 at 201 bp with transformers and PyTorch (SDPA, bfloat16) on the first GPU; the peer of benches/gpu.rs."""

import time

import torch
from transformers import BertConfig, BertModel

TOKENS, WINDOWS, SECONDS = 198, 256, 5.0


def main():
    config = BertConfig(vocab_size=4101, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                        intermediate_size=3072, attn_implementation="sdpa")
    model = BertModel(config).to("cuda", torch.bfloat16).eval()
    ids = torch.randint(5, 4101, (WINDOWS, TOKENS), device="cuda")
    best = 0.0
    with torch.inference_mode():
        for windows in (WINDOWS // 4, WINDOWS // 2, WINDOWS):
            batch = ids[:windows]
            for _ in range(5):
                model(batch)
            torch.cuda.synchronize()
            start, rounds = time.perf_counter(), 0
            while time.perf_counter() - start < SECONDS:
                model(batch).last_hidden_state[:, 0].float().cpu()
                rounds += 1
            torch.cuda.synchronize()
            rate = rounds * windows / (time.perf_counter() - start)
            print(f"batch {windows}: {rate:.0f} windows a second")
            best = max(best, rate)
    print(f"torch {torch.__version__}, best: {best:.0f} windows a second")


main()
