"""Writes tests/golden/torch_attribution.json: contributions of small networks by PyTorch's gradients, tangermeme's
deep_lift_shap and captum's DeepLift and IntegratedGradients, and of the tokens of a BERT, for src/attrib/golden.rs. Weights come from a hash of their
names, so that nothing but numbers of these programs is in the file.

    python scripts/torch_attribution.py        needs numpy, torch, captum and tangermeme
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from torch_gradients import hashed  # noqa: E402

SEQUENCES = ["ACGTTGCAAGGCTTACCGATATCGGACTTAGCATGCCATGAACCGTAGCTTGACCA", "TTGACCATGGCATCCGATTACGGCTAATGCAGTACCGGTTAACGCTAGGCATATCG"]
WINDOW = len(SEQUENCES[0])
AMPLITUDE = 0.35
STEPS = 50
# Steps that stand for the integral: of a network with bends, and of a smooth one.
LIMIT, SMOOTH = 6000, 300

LAYERS = [
    {"op": "conv1d", "in_": 4, "out": 8, "k": 7, "padding": "same"},
    {"op": "relu"},
    {"op": "conv1d", "in_": 8, "out": 8, "k": 5, "padding": "same"},
    {"op": "relu"},
    {"op": "maxpool1d", "k": 4},
    {"op": "flatten"},
    {"op": "linear", "in_": 8 * (WINDOW // 4), "out": 16},
    {"op": "relu"},
    {"op": "linear", "in_": 16, "out": 2},
]

# Where a maximum is taken, captum's contributions do not add up to the difference that they share out, so it is asked about a
# network without.
FLAT = [
    {**step, "in_": 8 * WINDOW} if step.get("in_") == 8 * (WINDOW // 4) else step for step in LAYERS if step["op"] != "maxpool1d"
]

BERT = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 16,
    "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 64,
    "type_vocab_size": 2, "vocab_size": 69, "layer_norm_eps": 1e-12, "num_labels": 2,
}


def values(name, shape):
    """The numbers of a tensor, as `hashed` of src/model/testing.rs has them."""
    centre, spread = 0.0, AMPLITUDE
    if len(shape) == 1:
        centre, spread = (1.0, 0.2) if name.endswith("weight") else (0.0, 0.1)
    return torch.from_numpy((centre + spread * hashed(name, int(np.prod(shape)))).astype(np.float32)).reshape(shape)


def cnn(layers):
    makers = {
        "conv1d": lambda step: nn.Conv1d(step["in_"], step["out"], step["k"], padding=step["k"] // 2),
        "relu": lambda step: nn.ReLU(), "maxpool1d": lambda step: nn.MaxPool1d(step["k"]),
        "flatten": lambda step: nn.Flatten(), "linear": lambda step: nn.Linear(step["in_"], step["out"]),
    }
    network = nn.Sequential(*(makers[step["op"]](step) for step in layers)).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(values(name, tuple(tensor.shape)))
    return network


def listed(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().double().flatten().tolist()]


def one_hot():
    inputs = torch.zeros(len(SEQUENCES), 4, WINDOW)
    for row, sequence in enumerate(SEQUENCES):
        for place, base in enumerate(sequence):
            inputs[row, "ACGT".index(base), place] = 1
    return inputs


def flat_case():
    from captum.attr import DeepLift

    network, inputs = cnn(FLAT), one_hot()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        projected = DeepLift(network).attribute(inputs, torch.zeros_like(inputs), target=1).sum(1)
    return {"config": config(FLAT), "tensors": shapes(network), "deeplift captum": listed(projected)}


def config(layers):
    return {"architectures": ["SequentialCnn"], "layers": layers, "window": WINDOW}


def shapes(network):
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def cnn_case():
    from captum.attr import IntegratedGradients
    from tangermeme.deep_lift_shap import deep_lift_shap

    network, target, inputs = cnn(LAYERS), 1, one_hot()
    zeros = torch.zeros_like(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hypothetical = deep_lift_shap(network, inputs, references=zeros[:, None], target=target, hypothetical=True, device="cpu")
    path = {steps: IntegratedGradients(network.double()).attribute(
        inputs.double(), zeros.double(), target=target, n_steps=steps, method="riemann_middle", internal_batch_size=256).sum(1)
        for steps in (STEPS, LIMIT)}
    network.float()
    leaf = inputs.clone().requires_grad_(True)
    gradient = torch.autograd.grad(network(leaf)[:, target].sum(), leaf)[0]
    return {
        "config": config(LAYERS), "tensors": shapes(network), "gradient": listed(gradient),
        "deeplift tangermeme": listed(hypothetical), "ig": listed(path[STEPS]), "ig limit": listed(path[LIMIT]),
    }


def shapes_of_bert():
    hidden, wide = BERT["hidden_size"], BERT["intermediate_size"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": [BERT["vocab_size"], hidden],
        "bert.embeddings.position_embeddings.weight": [BERT["max_position_embeddings"], hidden],
        "bert.embeddings.token_type_embeddings.weight": [2, hidden],
        "bert.pooler.dense.weight": [hidden, hidden], "bert.pooler.dense.bias": [hidden],
        "classifier.weight": [2, hidden], "classifier.bias": [2],
    }
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(BERT["num_hidden_layers"]):
        name = f"bert.encoder.layer.{layer}"
        sides = {"attention.self.query": (hidden, hidden), "attention.self.key": (hidden, hidden),
                 "attention.self.value": (hidden, hidden), "attention.output.dense": (hidden, hidden),
                 "intermediate.dense": (wide, hidden), "output.dense": (hidden, wide)}
        for part, (rows, columns) in sides.items():
            shapes[f"{name}.{part}.weight"], shapes[f"{name}.{part}.bias"] = [rows, columns], [rows]
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for norm in norms:
        shapes[f"{norm}.weight"], shapes[f"{norm}.bias"] = [hidden], [hidden]
    return shapes


def bert_case():
    sys.path.insert(0, str(ROOT / "tests" / "python"))
    import attribution

    tensors = shapes_of_bert()
    weights = {name: values(name, tuple(shape)).double() for name, shape in tensors.items()}
    rows = [attribution.token_scores(BERT, weights, sequence, 3, 1, SMOOTH) for sequence in SEQUENCES]
    return {"config": BERT, "tensors": tensors, **{name: listed(torch.tensor(np.array([row[name] for row in rows]))) for name in rows[0]}}


def main():
    torch.manual_seed(0)
    made_by = f"scripts/torch_attribution.py with PyTorch {torch.__version__.split('+')[0]}, captum 0.9.0, tangermeme 1.6.0"
    cases = {"made by": made_by, "amplitude": AMPLITUDE, "steps": STEPS, "sequences": SEQUENCES, "cnn": cnn_case(), "flat": flat_case(), "bert": bert_case()}
    text = json.dumps(cases, indent=1)
    (ROOT / "tests" / "golden" / "torch_attribution.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
