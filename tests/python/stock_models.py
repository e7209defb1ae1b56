#!/usr/bin/env python3
"""Writes tests/golden/stock_models.json: what transformers computes with small models of stock architectures.

Usage: stock_models.py [--check]

Needs torch and transformers (made with 2.15 and 5.23). Weights are not stored: each is filled from its name by
`fill`, which the tests repeat (`hash_uniform` in src/model/testing.rs). With --check nothing is written; the exit
status says whether the file's numbers are those that this machine's transformers gives, to 1e-5.
"""

import json
import pathlib
import sys

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import models, processors

FILE = pathlib.Path(__file__).resolve().parent.parent / "golden" / "stock_models.json"
AMPLITUDE = 0.35
SEQUENCES = ["ACGTA", "GGTTACGTNACGTACCATTG", "TTGACACGTTAGCCA" * 4]
MASK = (1 << 64) - 1


def hash_uniform(name, count):
    """Returns numbers in [-1, 1) that depend on a name only."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    z = np.array([(seed + (i + 1) * 0x9E3779B97F4A7C15) & MASK for i in range(count)], np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) * (2 / 2**24) - 1).astype(np.float32)


def fill(name, shape):
    """Returns the weights called `name`: norms are about 1, biases small."""
    center, amplitude = (0, AMPLITUDE) if len(shape) > 1 else (1, 0.2) if name.endswith("weight") else (0, 0.1)
    values = hash_uniform(name, int(np.prod(shape))) * np.float32(amplitude) + np.float32(center)
    return torch.from_numpy(values.reshape(shape))


def tokenizer(specials, template):
    """Returns a byte-pair encoding of bases, with a few longer tokens."""
    tokens = [*specials, *"ACGTN", "AC", "GT", "ACGT", "TT"]
    merges = [("A", "C"), ("G", "T"), ("AC", "GT"), ("T", "T")]
    made = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token="[UNK]"))
    made.add_special_tokens(specials)
    if template:
        ids = [(token, made.token_to_id(token)) for token in template.split() if token != "$A"]
        pair = f"{template} {template.replace('$A', '$B:1').split(' ', 1)[1]}"
        made.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=ids)
    return made


TOKENIZERS = {
    "begin": tokenizer(["[UNK]", "<s>"], "<s> $A"),
    "plain": tokenizer(["[UNK]"], None),
    "class": tokenizer(["[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[CLS] $A [SEP]"),
}

DECODER = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4,
           "num_key_value_heads": 2, "max_position_embeddings": 128, "attn_implementation": "eager",
           "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
MODERN = {"hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 4, "num_attention_heads": 2,
          "local_attention": 8, "max_position_embeddings": 128, "attn_implementation": "eager",
          "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None, "cls_token_id": 1, "sep_token_id": 2}
# Architecture, tokenizer, and what its config has that is not the default.
MODELS = [
    ("LlamaForCausalLM", "begin", {**DECODER, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    ("LlamaForSequenceClassification", "begin", {**DECODER, "num_labels": 3}),
    ("MistralForCausalLM", "begin", {**DECODER, "sliding_window": 5}),
    ("Qwen2ForCausalLM", "plain", {**DECODER, "tie_word_embeddings": True, "use_sliding_window": True,
                                  "sliding_window": 7, "max_window_layers": 1}),
    ("Qwen3ForCausalLM", "plain", {**DECODER, "head_dim": 6}),
    ("ModernBertForMaskedLM", "class", MODERN),
    ("ModernBertForSequenceClassification", "class", {**MODERN, "num_labels": 2}),
    ("ModernBertForSequenceClassification", "class", {**MODERN, "num_labels": 2, "classifier_pooling": "mean"}),
]


def build(architecture, vocabulary, settings):
    """Returns a model with weights of its names."""
    made = getattr(transformers, architecture)
    config = made.config_class(vocab_size=vocabulary, **settings)
    model = made._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(fill(name, parameter.shape))
    config.architectures = [architecture]
    return model


def likelihoods(logits, ids, places):
    """Returns the log-probability of the token at each of the second `places` by the logits at the first."""
    logs = logits.log_softmax(-1)
    return [float(logs[source, ids[target]]) for source, target in places]


def answers(model, architecture, ids, specials):
    """Returns what a model says to one sequence of tokens."""
    with torch.no_grad():
        tokens = torch.tensor([ids])
        states = model.model(tokens).last_hidden_state[0]
        result = {"mean": states.mean(0).tolist(), "last": states[-1].tolist()}
        if architecture.endswith("ForSequenceClassification"):
            return {**result, "logits": model(tokens).logits[0].tolist()}
        logits = model(tokens).logits[0]
        bases = [place for place, token in enumerate(ids) if token not in specials]
        if architecture.endswith("ForCausalLM"):
            return {**result, "causal": likelihoods(logits, ids, [(p - 1, p) for p in bases if p > 0])}
        masked = []
        for place in bases:
            hidden = tokens.clone()
            hidden[0, place] = TOKENIZERS["class"].token_to_id("[MASK]")
            masked += likelihoods(model(hidden).logits[0], ids, [(place, place)])
        return {**result, "unmasked": likelihoods(logits, ids, [(p, p) for p in bases]), "masked": masked}


def case(architecture, kind, settings):
    """Returns a model's config, the shapes of its tensors, and its answers."""
    encode = TOKENIZERS[kind]
    model = build(architecture, encode.get_vocab_size(), settings)
    specials = encode.encode("").ids
    rows = [{"ids": ids, **answers(model, architecture, ids, specials)}
            for ids in (encode.encode(sequence).ids for sequence in SEQUENCES)]
    tensors = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    return {"tokenizer": kind, "config": model.config.to_diff_dict(), "tensors": tensors, "rows": rows}


def rounded(value):
    """Cuts floats to eight digits."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def differs(a, b):
    """Returns whether two values differ by more than 1e-5 somewhere."""
    if isinstance(a, dict):
        return a.keys() != b.keys() or any(differs(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) != len(b) or any(differs(x, y) for x, y in zip(a, b))
    return abs(a - b) > 1e-5 if isinstance(a, float) else a != b


def main():
    found = rounded({
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
        "amp": AMPLITUDE,
        "sequences": SEQUENCES,
        "tokenizers": {kind: json.loads(made.to_str()) for kind, made in TOKENIZERS.items()},
        "models": [case(*model) for model in MODELS],
    })
    if sys.argv[1:] == ["--check"]:
        stored = json.loads(FILE.read_text())
        sys.exit(f"{FILE.name} differs" if any(differs(found[key], stored[key]) for key in ("tokenizers", "models"))
                 else 0)
    lines = [f'"{key}": {json.dumps(found[key])}' for key in ("made_by", "amp", "sequences", "tokenizers")]
    cases = ",\n".join(json.dumps(one) for one in found["models"])
    FILE.write_text("{\n" + ",\n".join([*lines, f'"models": [\n{cases}\n]']) + "\n}\n")


if __name__ == "__main__":
    main()
