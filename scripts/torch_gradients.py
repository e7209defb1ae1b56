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


def case(model, length, targets, amplitude):
    torch.manual_seed(0)
    name = type(model).__name__
    fill(model, amplitude)
    model.train()
    x = one_hot(f"{name}.input", 6, length)
    y = torch.from_numpy((hashed(f"{name}.labels", 6 * targets) > 0).astype(np.float32)).reshape(6, targets)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.01)
    loss = F.binary_cross_entropy(torch.sigmoid(model(x)).reshape(6, targets), y)
    loss.backward()
    gradients = {name: shown(p.grad) for name, p in model.named_parameters()}
    optimizer.step()
    tensors = {name: shown(t) for name, t in model.state_dict().items() if t.dtype.is_floating_point}
    return {"length": length, "targets": targets, "amplitude": amplitude, "loss": loss.item(),
            "gradients": gradients, "after": tensors}


def main():
    cases = {
        "DeepBind": case(DeepBind(), 90, 1, 0.3),
        "DanQ": case(DanQ(), 101, 1, 0.2),
        "DeepSNR": case(DeepSNR(), 100, 100, 0.3),
        "DAEDNet": case(DAEDNet(), 100, 100, 0.2),
    }
    path = Path(__file__).parent.parent / "tests" / "golden" / "torch_gradients.json"
    cases["made by"] = f"scripts/torch_gradients.py with PyTorch {torch.__version__.split('+')[0]}"
    path.write_text(json.dumps(cases, indent=0).replace(",\n", ", ") + "\n")
    for name, found in cases.items():
        print(name, found["loss"] if isinstance(found, dict) else found)


if __name__ == "__main__":
    main()
