"""Writes tests/golden/torch_gradients.json: losses, gradients and one AdamW step of PyTorch for the networks that
nyx-train trains, for src/train/golden.rs. Networks are written here from their published descriptions; weights and
sequences come from a hash of their names, so that nothing but numbers of PyTorch is in the file.

    python scripts/torch_gradients.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SHOWN = 6
MASK = (1 << 64) - 1


def hashed(name, count):
    """Numbers in [-1, 1) that depend on the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) * (2 / 2**24) - 1).astype(np.float32)


def fill(model, amplitude):
    """Gives every tensor the numbers of its name: norms around 1, others around 0."""
    for name, tensor in model.state_dict().items():
        if not tensor.dtype.is_floating_point:
            continue
        centre, spread = 0.0, amplitude
        if tensor.dim() == 1:
            centre, spread = (1.0, 0.2) if name.endswith(("weight", "running_var")) else (0.0, 0.1)
        values = centre + spread * hashed(name, tensor.numel())
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape))


def one_hot(name, rows, length):
    bases = np.minimum(((hashed(name, rows * length) + 1) * 2).astype(int), 3).reshape(rows, length)
    return torch.from_numpy(np.eye(4, dtype=np.float32)[bases]).transpose(1, 2).contiguous()


class DeepBind(nn.Module):
    def __init__(self):
        super().__init__()
        self.Convolutions = nn.Sequential(
            nn.ZeroPad2d((11, 12, 0, 0)), nn.Conv2d(1, 16, (4, 24)), nn.ReLU(), nn.BatchNorm2d(16)
        )
        self.Dense = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.0), nn.Linear(32, 1))

    def forward(self, x):
        return self.Dense(self.Convolutions(x.unsqueeze(1)).amax((2, 3)))


class DanQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv = nn.Sequential(nn.Conv1d(4, 16, 24), nn.ReLU(), nn.BatchNorm1d(16))
        self.Dropout = nn.Dropout(0.0)
        self.BiLSTM = nn.LSTM(16, 32, 2, batch_first=True, bidirectional=True)
        self.FullyConnection = nn.Sequential(nn.Linear(576, 925), nn.ReLU(), nn.Linear(925, 1))

    def forward(self, x):
        x = self.Dropout(F.max_pool1d(self.Conv(x), 8, 8))
        x, _ = self.BiLSTM(x.transpose(1, 2))
        return self.FullyConnection(x.flatten(1))


class DeepSNR(nn.Module):
    def __init__(self):
        super().__init__()
        self.ConvolutionalNetwork = nn.ModuleDict(
            {
                "Convolution": nn.Sequential(nn.Conv2d(1, 16, (4, 15)), nn.BatchNorm2d(16), nn.ReLU()),
                "FullyConnection": nn.Sequential(nn.Linear(16, 1), nn.ReLU(), nn.Linear(1, 16)),
            }
        )
        self.DeconvolutionalNetwork = nn.ModuleDict(
            {"Deconvolution": nn.Sequential(nn.ConvTranspose2d(16, 1, (4, 15)), nn.BatchNorm2d(1), nn.ReLU())}
        )

    def forward(self, x):
        maps = self.ConvolutionalNetwork["Convolution"](x.unsqueeze(1))
        best, place = F.max_pool2d(maps, (1, 86), return_indices=True)
        u = self.ConvolutionalNetwork["FullyConnection"](best.flatten(1))
        placed = F.max_unpool2d(u.reshape(best.shape), place, (1, 86))
        return self.DeconvolutionalNetwork["Deconvolution"](placed).squeeze(1).max(1).values


def stack(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers)


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.ParallelConvolutionOfGS = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.BatchNorm2d(16))
        self.ParallelConvolutionOfSC = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.BatchNorm2d(16))
        self.ComputeWeightMap = nn.Sequential(nn.Conv2d(16, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, g, s):
        return s * self.ComputeWeightMap(F.relu(self.ParallelConvolutionOfGS(g) + self.ParallelConvolutionOfSC(s)))


class DAEDNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.StackConvolutionOfEB1, self.StackConvolutionOfEB2 = stack(1, 16), stack(16, 32)
        self.DownSampleOfEB1 = nn.Conv2d(16, 16, 3, 2, 1)
        self.DownSampleOfEB2 = nn.Conv2d(32, 32, 3, 2, 1)
        self.BridgeNetwork = nn.Sequential(nn.Conv2d(32, 64, (1, 3), padding=(0, 1)), nn.ReLU(), nn.BatchNorm2d(64))
        self.UpSampleOfDB2 = nn.Sequential(nn.Conv2d(64, 32, 1))
        self.UpSampleOfDB1 = nn.Sequential(nn.Conv2d(32, 16, 1))
        self.AttentionGate2, self.AttentionGate1 = Gate(32), Gate(16)
        self.StackConvolutionOfDB2, self.StackConvolutionOfDB1 = stack(64, 32), stack(32, 16)
        self.OutputNetwork = nn.Sequential(
            nn.Conv2d(16, 1, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(1), nn.Conv2d(1, 1, (4, 1))
        )

    def forward(self, x):
        def up(narrow, x, skip, gate, blocks):
            x = F.interpolate(narrow(x), size=skip.shape[2:], mode="bilinear", align_corners=True)
            return blocks(torch.cat([gate(x, skip), x], 1))

        first = self.StackConvolutionOfEB1(x.unsqueeze(1))
        second = self.StackConvolutionOfEB2(self.DownSampleOfEB1(first))
        x = self.BridgeNetwork(self.DownSampleOfEB2(second))
        x = up(self.UpSampleOfDB2, x, second, self.AttentionGate2, self.StackConvolutionOfDB2)
        x = up(self.UpSampleOfDB1, x, first, self.AttentionGate1, self.StackConvolutionOfDB1)
        return self.OutputNetwork(x).flatten(1)


def shown(tensor):
    """The norm of a tensor and some of its numbers, evenly taken."""
    flat = tensor.detach().double().flatten()
    step = max(1, len(flat) // SHOWN)
    return [float(f"{x:.7g}") for x in [flat.norm().item(), *flat[::step][:SHOWN].tolist()]]


class CellTypes(nn.Module):
    """Stage 1 of SigTFB."""

    def __init__(self, filters=10, cells=3):
        super().__init__()
        self.conv1 = nn.Conv2d(4, filters, (1, 24))
        self.fc1, self.fc2 = nn.Linear(filters, 32), nn.Linear(32, cells)

    def matches(self, x):
        return F.relu(self.conv1(x.unsqueeze(2))).amax((2, 3))

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(self.matches(x))))


class ToldCell(nn.Module):
    """Stage 2 of SigTFB."""

    def __init__(self, filters=10, cells=3, units=5, neurons=7):
        super().__init__()
        self.model_stage1 = CellTypes(filters, cells)
        self.fc1, self.bn1, self.fc2 = nn.Linear(cells, units), nn.BatchNorm1d(units), nn.Linear(units, 1)
        self.fc3, self.bn3 = nn.Linear(filters + 1, neurons), nn.BatchNorm1d(neurons)
        self.fc4 = nn.Linear(neurons, 2)

    def forward(self, x, told):
        unit = self.fc2(F.relu(self.bn1(self.fc1(told))))
        joined = torch.cat([self.model_stage1.matches(x), unit], 1)
        return self.fc4(F.relu(self.bn3(self.fc3(joined))))


class ResidualLayers(nn.Module):
    """The network on pairs of embeddings."""

    def __init__(self, inputs=24, widths=(16, 12, 8), classes=2):
        super().__init__()
        first, second, third = widths
        self.fc1, self.bn1 = nn.Linear(inputs, first), nn.BatchNorm1d(first)
        self.fc2, self.bn2 = nn.Linear(first, second), nn.BatchNorm1d(second)
        self.fc3, self.bn3 = nn.Linear(second, third), nn.BatchNorm1d(third)
        self.residual1, self.residual2 = nn.Linear(inputs, second), nn.Linear(second, third)
        self.fc_out = nn.Linear(third, classes)

    def forward(self, x):
        first = F.relu(self.bn1(self.fc1(x)))
        second = F.relu(self.bn2(self.fc2(first))) + self.residual1(x)
        third = F.relu(self.bn3(self.fc3(second))) + self.residual2(second)
        return self.fc_out(third)


def normed(inputs, outputs, *, dilation=1, norm_last=False):
    conv = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    norm = nn.BatchNorm1d(outputs)
    return [conv, nn.GELU(), norm] if norm_last else [conv, norm, nn.GELU()]


class Spatial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm1d(1, momentum=0.01)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Convolutions(nn.Module):
    """The head of BERT-TFBS: tokens are channels."""

    def __init__(self, tokens, states):
        super().__init__()
        self.conv1 = nn.Sequential(*normed(tokens, 60))
        for branch, dilation in enumerate((1, 2, 4), 1):
            layers = [*normed(60, 30), nn.Dropout(0.0), *normed(30, 60, dilation=dilation)]
            setattr(self, f"conv2_{branch}", nn.Sequential(*layers))
        self.conv3 = nn.Sequential(*normed(180, 180, norm_last=True))
        squeeze, widen = nn.Conv1d(180, 15, 1, bias=False), nn.Conv1d(15, 180, 1, bias=False)
        self.ChannelGate = nn.ModuleDict({"mlp": nn.Sequential(squeeze, nn.ReLU(), widen)})
        self.SpatialGate = nn.ModuleDict({"spatial": Spatial()})
        self.residual_BN = nn.Sequential(*normed(180, 180, norm_last=True))
        self.conv4 = nn.Sequential(*normed(180, 180))
        self.linear1, self.linear2 = nn.Linear(180 * states, 180), nn.Linear(180, 2)

    def forward(self, x):
        first = self.conv1(x)
        joined = self.conv3(torch.cat([self.conv2_1(first), self.conv2_2(first), self.conv2_3(first)], 1))
        mlp = self.ChannelGate["mlp"]
        x = joined * torch.sigmoid(mlp(joined.mean(2, keepdim=True)) + mlp(joined.amax(2, keepdim=True)))
        pooled = torch.stack([x.amax(1), x.mean(1)], 1)
        x = x * torch.sigmoid(self.SpatialGate["spatial"](pooled)) + self.residual_BN(joined)
        return torch.softmax(self.linear2(self.linear1(self.conv4(x).flatten(1))), 1)


SIZES = {"vocabulary": 69, "hidden": 16, "heads": 2, "wide": 24, "layers": 2, "positions": 32}


class Embeddings(nn.Module):
    def __init__(self, has_positions):
        super().__init__()
        hidden = SIZES["hidden"]
        self.word_embeddings = nn.Embedding(SIZES["vocabulary"], hidden)
        if has_positions:
            self.position_embeddings = nn.Embedding(SIZES["positions"], hidden)
        self.token_type_embeddings = nn.Embedding(2, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, ids):
        x = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        if hasattr(self, "position_embeddings"):
            x = x + self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(x)


def attend(q, k, v, slopes):
    """Softmax attention of heads, with ALiBi's distances where there are slopes."""
    rows, length, hidden = q.shape
    heads = SIZES["heads"]
    q, k, v = (x.reshape(rows, length, heads, hidden // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(2, 3) / (hidden // heads) ** 0.5
    if slopes is not None:
        places = torch.arange(length)
        scores = scores - slopes[:, None, None] * (places[:, None] - places).abs()
    return (torch.softmax(scores, 3) @ v).transpose(1, 2).reshape(rows, length, hidden)


class Dense(nn.Module):
    """A layer with the norm that follows the sum with what it is added to."""

    def __init__(self, inputs):
        super().__init__()
        self.dense = nn.Linear(inputs, SIZES["hidden"])
        self.LayerNorm = nn.LayerNorm(SIZES["hidden"], eps=1e-12)

    def forward(self, x, residual):
        return self.LayerNorm(self.dense(x) + residual)


class BertLayer(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, wide = SIZES["hidden"], SIZES["wide"]
        parts = nn.ModuleDict({part: nn.Linear(hidden, hidden) for part in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": parts, "output": Dense(hidden)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, wide)})
        self.output = Dense(wide)

    def forward(self, x):
        own = self.attention["self"]
        x = self.attention["output"](attend(own["query"](x), own["key"](x), own["value"](x), None), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class MosaicLayer(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, wide = SIZES["hidden"], SIZES["wide"]
        parts = nn.ModuleDict({"Wqkv": nn.Linear(hidden, 3 * hidden)})
        self.attention = nn.ModuleDict({"self": parts, "output": Dense(hidden)})
        gated, wo = nn.Linear(hidden, 2 * wide, bias=False), nn.Linear(wide, hidden)
        self.mlp = nn.ModuleDict({"gated_layers": gated, "wo": wo, "layernorm": nn.LayerNorm(hidden, eps=1e-12)})

    def forward(self, x):
        # Two heads: 2 to the minus 4 and minus 8.
        slopes = torch.tensor([2.0**-4, 2.0**-8])
        q, k, v = self.attention["self"]["Wqkv"](x).chunk(3, 2)
        x = self.attention["output"](attend(q, k, v, slopes), x)
        first, second = self.mlp["gated_layers"](x).chunk(2, 2)
        return self.mlp["layernorm"](self.mlp["wo"](F.gelu(first) * second) + x)


class Body(nn.Module):
    def __init__(self, layer, has_positions):
        super().__init__()
        self.embeddings = Embeddings(has_positions)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layer() for _ in range(SIZES["layers"]))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(SIZES["hidden"], SIZES["hidden"])})

    def forward(self, ids):
        x = self.embeddings(ids)
        for layer in self.encoder["layer"]:
            x = layer(x)
        return x

    def pooled(self, states):
        return torch.tanh(self.pooler["dense"](states[:, 0]))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = Body(BertLayer, True)
        self.classifier = nn.Linear(SIZES["hidden"], 2)

    def forward(self, ids):
        return self.classifier(self.bert.pooled(self.bert(ids)))


class MosaicBert(Bert):
    def __init__(self):
        super().__init__()
        self.bert = Body(MosaicLayer, False)


class BertSNR(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = Body(BertLayer, True)
        self.classifier_sequence = nn.Sequential(nn.Linear(SIZES["hidden"], 1))
        self.classifier_token = nn.Sequential(nn.Linear(SIZES["hidden"], 1))

    def forward(self, ids):
        states = self.bert(ids)
        return self.classifier_sequence(self.bert.pooled(states)), self.classifier_token(states[:, 1:-1])


class BertTfbs(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.bert = Body(MosaicLayer, False)
        self.bert.pooler = nn.ModuleDict()
        self.model = Convolutions(tokens, SIZES["hidden"])
        self.tokens = tokens

    def forward(self, ids):
        states = self.bert(ids)
        return self.model(F.pad(states, (0, 0, 0, self.tokens - states.shape[1])))


def labels(name, *shape):
    return torch.from_numpy((hashed(name, int(np.prod(shape))) > 0).astype(np.float32)).reshape(shape)


def ids(name, rows, length):
    numbers = ((hashed(name, rows * length) + 1) / 2 * 64).astype(np.int64).clip(0, 63) + 5
    return torch.from_numpy(numbers).reshape(rows, length)


def binary(model, length, targets):
    """A loss of as many logits as a sequence has targets."""
    name = type(model).__name__
    x, y = one_hot(f"{name}.input", 6, length), labels(f"{name}.labels", 6, targets)
    return F.binary_cross_entropy(torch.sigmoid(model(x)).reshape(6, targets), y)


def of_drawn_cells(model):
    """Each sequence has a loss in the cell type that was drawn for it, row modulo cell types."""
    y, rows = labels("CellTypes.labels", 6, 3), torch.arange(6)
    logits = model(one_hot("CellTypes.input", 6, 60))
    return F.binary_cross_entropy_with_logits(logits[rows, rows % 3], y[rows, rows % 3])


def of_told_cells(model):
    """The first half is told the cell type."""
    y, rows = labels("ToldCell.labels", 6, 3), torch.arange(6)
    told = F.one_hot(rows % 3, 3).float() * (rows < 3)[:, None]
    logits = model(one_hot("ToldCell.input", 6, 60), told)
    return F.nll_loss(torch.log_softmax(logits, 1), y[rows, rows % 3].long())


def of_features(model):
    x = torch.from_numpy(hashed("ResidualLayers.input", 6 * 24)).reshape(6, 24)
    return F.cross_entropy(model(x), labels("ResidualLayers.labels", 6).long())


def of_classes(model, length=10):
    name = type(model).__name__
    return F.cross_entropy(model(ids(f"{name}.input", 4, length)), labels(f"{name}.labels", 4).long())


def of_calls(model):
    sequence, token = model(ids("BertSNR.input", 4, 10))
    y = labels("BertSNR.labels", 4, 10)
    kmers = torch.stack([y[:, i : i + 8] for i in range(3)]).amin(0)
    bce = F.binary_cross_entropy_with_logits
    return 0.15 * bce(sequence, y.amax(1, keepdim=True)) + 0.85 * bce(token.squeeze(2), kmers)


def case(model, amplitude, loss_of, **sizes):
    fill(model, amplitude)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.01)
    loss = loss_of(model)
    loss.backward()
    gradients = {name: shown(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    tensors = {name: shown(t) for name, t in model.state_dict().items() if t.dtype.is_floating_point}
    return {**sizes, "amplitude": amplitude, "loss": loss.item(), "gradients": gradients, "after": tensors}


def bases(model, amplitude, length, targets):
    return case(model, amplitude, lambda model: binary(model, length, targets), length=length, targets=targets)


def main():
    cases = {
        "DeepBind": bases(DeepBind(), 0.3, 90, 1),
        "DanQ": bases(DanQ(), 0.2, 101, 1),
        "DeepSNR": bases(DeepSNR(), 0.3, 100, 100),
        "DAEDNet": bases(DAEDNet(), 0.2, 100, 100),
        "CellTypes": case(CellTypes(), 0.3, of_drawn_cells),
        "ToldCell": case(ToldCell(), 0.3, of_told_cells),
        "ResidualLayers": case(ResidualLayers(), 0.3, of_features),
        "Bert": case(Bert(), 0.2, of_classes),
        "MosaicBert": case(MosaicBert(), 0.2, of_classes),
        "BertSNR": case(BertSNR(), 0.2, of_calls),
        "BertTfbs": case(BertTfbs(12), 0.1, of_classes),
    }
    path = Path(__file__).parent.parent / "tests" / "golden" / "torch_gradients.json"
    cases["made by"] = f"scripts/torch_gradients.py with PyTorch {torch.__version__.split('+')[0]}"
    path.write_text(json.dumps(cases, indent=0).replace(",\n", ", ") + "\n")
    for name, found in cases.items():
        print(name, found["loss"] if isinstance(found, dict) else found)


if __name__ == "__main__":
    main()
