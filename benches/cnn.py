#!/usr/bin/env python3
"""Times convolutions and whole CNNs: nyx against PyTorch (both f32, bf16) and ONNX Runtime (f32), interleaved, same threads.

Usage: cnn.py [--rows N] [--runs N] [--threads 1,2] [--no-layers] [MODEL_DIRECTORY FASTA]...

Needs `cargo bench --bench conv --no-run` before, and numpy. A model directory is what `nyx-model convert` writes
(architectures BPNet and SequentialCnn); FASTA (perhaps gzipped) gives its sequences, cut to its window. Each peer
is a process of its own: TORCH_PYTHON and ONNX_PYTHON name interpreters that have them (a peer whose variable is
not set is left out), CONV_BENCH a build of the bench other than the newest one. Networks are rebuilt from the same
weights with batch norms folded (as nyx does), and outputs are compared before anything is timed. Peers get their
best of three batch sizes. Times are medians of interleaved runs; processor seconds are those of the process.
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCHES = (1, 8, 64)
LAYERS = [  # inputs, outputs, length, width, dilation
    (4, 256, 1000, 21, 1),
    (4, 256, 1000, 8, 1),
    (256, 64, 1000, 11, 1),
    (64, 64, 2114, 3, 1),
    (64, 64, 2114, 3, 64),
    (64, 64, 2114, 21, 1),
    (50, 50, 1000, 15, 1),
]
LAYER_BATCH = 16


# The networks, as lists of steps that every peer builds.


def tensors(path):
    """Reads a safetensors file of f32."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + size :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
        for name, entry in header.items()
    }


def fold(weight, bias, norm, epsilon):
    """Folds a batch norm into the layer before it."""
    scale = norm["weight"].astype(np.float64) / np.sqrt(norm["running_var"].astype(np.float64) + epsilon)
    shift = norm["bias"] - norm["running_mean"] * scale
    shape = (-1,) + (1,) * (weight.ndim - 1)
    return (weight * scale.reshape(shape)).astype(np.float32), (bias * scale + shift).astype(np.float32)


def sequential(config, arrays):
    """Returns the steps of a SequentialCnn."""
    layers, steps, at = config["layers"], [], 0
    while at < len(layers):
        layer = layers[at]
        name, op = str(layer.get("i", at)), layer["op"]
        at += 1
        if op in ("conv1d", "linear"):
            weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
            if at < len(layers) and layers[at]["op"] == "batchnorm1d":
                prefix = str(layers[at].get("i", at)) + "."
                norm = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
                weight, bias = fold(weight, bias, norm, layers[at].get("eps", 1e-5))
                at += 1
            relu = at < len(layers) and layers[at]["op"] == "relu"
            at += relu
            step = {"op": op, "weight": weight, "bias": bias, "relu": relu}
            if op == "conv1d":
                reach = layer.get("dilation", 1) * (layer["k"] - 1)
                around = layer.get("padding", "valid")
                left = {"same": reach // 2, "valid": 0}.get(around, around)
                step["pads"] = (left, reach - left if around == "same" else left)
                step["dilation"] = layer.get("dilation", 1)
            steps.append(step)
        elif op in ("maxpool1d", "flatten_keras", "flatten"):
            steps.append({"op": op, "k": layer.get("k"), "stride": layer.get("stride") or layer.get("k")})
        elif op not in ("dropout", "sigmoid"):
            sys.exit(f"cnn.py knows no layer {op}")
    return steps


def bpnet(config, arrays):
    """Returns the steps of a BPNet, its heads last."""

    def conv(name, dilation, **more):
        weight = arrays[f"{name}.weight"]
        pad = dilation * (weight.shape[2] // 2)
        return {"op": "conv1d", "weight": weight, "bias": arrays[f"{name}.bias"], "pads": (pad, pad),
                "dilation": dilation, "relu": True, **more}

    count = sum(name.startswith("rconvs.") and name.endswith(".weight") for name in arrays)
    steps = [conv("iconv", 1)] + [conv(f"rconvs.{layer}", 2 << layer, residual=True) for layer in range(count)]
    trimming = config.get("trimming") or 1 << count
    flank = arrays["fconv.weight"].shape[2] // 2
    return steps + [{"op": "heads", "profile": (arrays["fconv.weight"], arrays["fconv.bias"]),
                     "counts": (arrays["linear.weight"], arrays["linear.bias"]), "cut": trimming - flank}]


def steps_of(directory):
    """Returns the steps of the model in a directory."""
    config = json.loads((directory / "config.json").read_text())
    family = {"BPNet": bpnet, "SequentialCnn": sequential}[config["architectures"][0]]
    return family(config, tensors(directory / "model.safetensors"))


CODES = np.zeros((256, 4), np.float32)
CODES[list(b"ACGT"), range(4)] = 1


def encode(sequences):
    """Encodes sequences of one length, [B, 4, L]."""
    bases = np.frombuffer(b"".join(sequences), np.uint8).reshape(len(sequences), -1)
    return np.ascontiguousarray(CODES[bases].transpose(0, 2, 1))


# The peers: each turns steps into a function from [B, 4, L] to a list of [B, ...].


def torch_peer(dtype, threads):
    """Returns what builds PyTorch networks."""
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]

    def tensor(values):
        return torch.from_numpy(np.array(values)).to(kind)

    def conv(x, step):
        left, right = step["pads"]
        if left != right:
            x, left = f.pad(x, (left, right)), 0
        y = f.conv1d(x, step["weight"], step["bias"], padding=left, dilation=step["dilation"])
        y = f.relu(y) if step["relu"] else y
        return y + x if step.get("residual") else y

    def heads(x, step):
        seen = x[:, :, step["cut"] : x.shape[2] - step["cut"]]
        return [f.linear(seen.mean(2), *step["counts"]), f.conv1d(seen, *step["profile"])]

    def build(steps):
        steps = [dict(step) for step in steps]
        for step in steps:
            for key in ("weight", "bias"):
                if key in step:
                    step[key] = tensor(step[key])
            for key in ("profile", "counts"):
                if key in step:
                    step[key] = [tensor(values) for values in step[key]]

        def linear(x, step):
            y = f.linear(x, step["weight"], step["bias"])
            return f.relu(y) if step["relu"] else y

        ops = {"conv1d": conv, "linear": linear, "heads": heads,
               "maxpool1d": lambda x, step: f.max_pool1d(x, step["k"], step["stride"]),
               "flatten_keras": lambda x, step: x.transpose(1, 2).flatten(1),
               "flatten": lambda x, step: x.flatten(1)}

        def run(x):
            x = torch.from_numpy(x).to(kind)
            for step in steps:
                x = ops[step["op"]](x, step)
            return [y.float().numpy() for y in (x if isinstance(x, list) else [x])]

        return run

    return build


def onnx_peer(dtype, threads):
    """Returns what builds ONNX Runtime sessions."""
    import onnx
    import onnxruntime

    def build(steps):
        nodes, constants, outputs = [], [], []

        def constant(values, kind=np.float32):
            constants.append(onnx.numpy_helper.from_array(np.array(values, kind), f"c{len(constants)}"))
            return constants[-1].name

        def node(op, *inputs, **attributes):
            name = f"n{len(nodes)}"
            nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attributes))
            return name

        x = "input"
        for step in steps:
            if step["op"] == "conv1d":
                y = node("Conv", x, constant(step["weight"]), constant(step["bias"]), pads=list(step["pads"]),
                         dilations=[step["dilation"]])
                y = node("Relu", y) if step["relu"] else y
                x = node("Add", y, x) if step.get("residual") else y
            elif step["op"] == "linear":
                x = node("Gemm", x, constant(step["weight"]), constant(step["bias"]), transB=1)
                x = node("Relu", x) if step["relu"] else x
            elif step["op"] == "maxpool1d":
                x = node("MaxPool", x, kernel_shape=[step["k"]], strides=[step["stride"]])
            elif step["op"].startswith("flatten"):
                x = node("Transpose", x, perm=[0, 2, 1]) if step["op"] == "flatten_keras" else x
                x = node("Flatten", x)
            else:
                cut = step["cut"]
                bounds = [constant(values, np.int64) for values in ([cut], [-cut], [2])]
                seen = node("Slice", x, *bounds)
                mean = node("ReduceMean", seen, constant([2], np.int64), keepdims=0)
                counts, profile = ([constant(values) for values in step[head]] for head in ("counts", "profile"))
                outputs = [node("Gemm", mean, *counts, transB=1), node("Conv", seen, *profile)]
        outputs = outputs or [x]
        info = onnx.helper.make_tensor_value_info
        channels = steps[0]["weight"].shape[1]
        graph = onnx.helper.make_graph(
            nodes, "network", [info("input", 1, ["batch", channels, "length"])],
            [info(name, 1, None) for name in outputs], constants)
        opset = [onnx.helper.make_opsetid("", 18)]
        network = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(network.SerializeToString(), options, ["CPUExecutionProvider"])
        return lambda x: session.run(None, {"input": x})

    return build


def serve(peer, dtype, threads):
    """Answers the lines that benches/conv.rs answers, with a peer; `batch N` sets the rows of a pass."""
    build = {"torch": torch_peer, "onnx": onnx_peer}[peer](dtype, threads)
    subject, batch = None, 64
    for line in sys.stdin:
        command, *words = line.split()
        if command == "layer":
            directory, (inputs, outputs, length, width, dilation, rows) = words[0], map(int, words[1:])

            def read(name):
                return np.fromfile(f"{directory}/{name}", np.float32)

            reach = dilation * (width - 1)
            network = build([{"op": "conv1d", "weight": read("weight").reshape(outputs, inputs, width),
                              "bias": read("bias"), "relu": False, "dilation": dilation,
                              "pads": (reach // 2, reach - reach // 2)}])
            x = np.ascontiguousarray(read("input").reshape(rows, length, inputs).transpose(0, 2, 1))
            subject = lambda network=network, x=x: network(x)[0].transpose(0, 2, 1)  # noqa: E731
        elif command == "network":
            network = build(steps_of(pathlib.Path(words[0])))
            sequences = pathlib.Path(words[1]).read_bytes().split()

            def subject(network=network, sequences=sequences):
                passes = (sequences[start : start + batch] for start in range(0, len(sequences), batch))
                answers = [network(encode(rows)) for rows in passes]
                return np.concatenate([np.concatenate([part.reshape(len(part), -1) for part in answer], 1)
                                       for answer in answers])
        elif command == "batch":
            batch = int(words[0])
        elif command == "run":
            for _ in range(int(words[0])):
                subject()
        elif command == "write":
            np.ascontiguousarray(subject()).tofile(words[0])
        print("done", flush=True)


# The driver.


class Worker:
    """A process that computes what it is told to."""

    def __init__(self, name, command, threads):
        self.name = name
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)

    def tell(self, line):
        """Has a line answered; returns wall and processor seconds."""
        # A process's clock by its number: clock_getcpuclockid(3).
        clock = (~self.process.pid << 3) | 2
        start, before = time.perf_counter(), time.clock_gettime(clock)
        print(line, file=self.process.stdin, flush=True)
        if self.process.stdout.readline().strip() != "done":
            sys.exit(f"{self.name} failed at: {line}")
        return time.perf_counter() - start, time.clock_gettime(clock) - before


def bench_build():
    """Returns the newest build of benches/conv.rs."""
    builds = [path for path in (ROOT / "target" / "release" / "deps").glob("conv-*") if not path.suffix]
    return os.environ.get("CONV_BENCH") or str(max(builds, key=lambda path: path.stat().st_mtime))


def workers(threads):
    """Starts nyx and its peers."""
    found = [Worker(f"nyx {dtype}", [bench_build()], threads) for dtype in ("f32", "bf16")]
    found[1].tell("precision bf16")
    for peer, dtype, variable in (("torch", "f32", "TORCH_PYTHON"), ("torch", "bf16", "TORCH_PYTHON"),
                                  ("onnx", "f32", "ONNX_PYTHON")):
        if variable in os.environ:
            command = [os.environ[variable], __file__, "--serve", peer, dtype, str(threads)]
            found.append(Worker(f"{peer} {dtype}", command, threads))
    return found


def timed(subjects, runs, seconds):
    """Times each subject `runs` times, in turns, each time for about `seconds`; returns medians per computation."""
    counts, times = {}, {worker: [] for worker in subjects}
    for worker in subjects:
        worker.tell("run 1")
        counts[worker] = max(1, round(seconds / worker.tell("run 1")[0]))
    for _ in range(runs):
        for worker in subjects:
            wall, busy = worker.tell(f"run {counts[worker]}")
            times[worker].append((wall / counts[worker], busy / counts[worker]))
    return {worker: [statistics.median(column) for column in zip(*pairs)] for worker, pairs in times.items()}


def compare(subjects, scratch):
    """Returns the largest difference of each subject's output from PyTorch's in f32, or from the last one's."""
    values = {}
    for worker in subjects:
        worker.tell(f"write {scratch}/out")
        values[worker.name] = np.fromfile(f"{scratch}/out", np.float32)
    reference = values.get("torch f32", values[subjects[-1].name])
    return {name: float(np.abs(value - reference).max()) for name, value in values.items()}


def table(title, unit, amount, times, errors):
    """Prints one comparison; `amount` of `unit` are computed each time."""
    print(f"\n{title}\n\n| | wall ms | CPU ms | {unit} per CPU s | largest difference | nyx is faster by (wall, CPU) |")
    print("|---|---|---|---|---|---|")
    ours = next(value for worker, value in times.items() if worker.name.startswith("nyx"))
    for worker, (wall, busy) in times.items():
        print(f"| {worker.name} | {wall * 1e3:.1f} | {busy * 1e3:.1f} | {amount / busy:,.1f} | {errors[worker.name]:.1e} | "
              f"{wall / ours[0]:.2f}x, {busy / ours[1]:.2f}x |", flush=True)


def layers(subjects, arguments, scratch):
    """Times single layers."""
    random = np.random.default_rng(1)
    for shape in LAYERS:
        inputs, outputs, length, width, dilation = shape
        if inputs == 4:
            x = np.eye(4, dtype=np.float32)[random.integers(0, 4, (LAYER_BATCH, length))]
        else:
            x = np.maximum(random.normal(size=(LAYER_BATCH, length, inputs)), 0).astype(np.float32)
        weight = random.normal(size=(outputs, inputs, width)) / np.sqrt(inputs * width)
        for name, values in (("input", x), ("weight", weight), ("bias", random.normal(size=outputs))):
            values.astype(np.float32).tofile(f"{scratch}/{name}")
        for worker in subjects:
            worker.tell(f"layer {scratch} {' '.join(map(str, shape))} {LAYER_BATCH}")
        errors = compare(subjects, scratch)
        work = 2e-9 * LAYER_BATCH * length * width * inputs * outputs
        title = f"{inputs} to {outputs}, length {length}, width {width}, dilation {dilation}, batch {LAYER_BATCH}"
        table(title, "direct GFLOP", work, timed(subjects, arguments.runs, 0.2), errors)


def sequences_of(fasta, window, count):
    """Returns windows of a FASTA file, cut one after another."""
    with (gzip.open if fasta.endswith(".gz") else open)(fasta, "rt") as file:
        records = file.read().split(">")[1:]
    bases = ["".join(record.split("\n")[1:]).upper() for record in records]
    windows = [text[start : start + window] for text in bases for start in range(0, len(text) - window + 1, window)]
    return windows[:count]


def network(subjects, directory, fasta, arguments, scratch):
    """Times one network from sequences to predictions."""
    window = json.loads((pathlib.Path(directory) / "config.json").read_text()).get("window", 2114)
    windows = sequences_of(fasta, window, arguments.rows)
    pathlib.Path(f"{scratch}/sequences").write_text("\n".join(windows))
    title = f"{pathlib.Path(directory).name}: {len(windows)} sequences of {window} bases"
    for worker in subjects:
        worker.tell(f"network {directory} {scratch}/sequences")
        if not worker.name.startswith("nyx"):
            walls = {}
            for batch in BATCHES:
                worker.tell(f"batch {batch}")
                worker.tell("run 1")
                walls[batch] = worker.tell("run 1")[0]
            best = min(walls, key=walls.get)
            worker.tell(f"batch {best}")
            title += f"; {worker.name} in batches of {best}"
    errors = compare(subjects, scratch)
    for name, error in errors.items():
        if name.endswith("f32") and not error < 1e-4:
            sys.exit(f"{title}: {name} is off by {error}")
    table(title, "sequences", len(windows), timed(subjects, arguments.runs, 0.5), errors)


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--no-layers", action="store_true")
    parser.add_argument("networks", nargs="*", metavar="MODEL_DIRECTORY FASTA")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for threads in map(int, arguments.threads.split(",")):
            print(f"\n## Threads: {threads} (load average at the start: {os.getloadavg()[0]:.2f})")
            subjects = workers(threads)
            if not arguments.no_layers:
                layers(subjects, arguments, scratch)
            for directory, fasta in zip(arguments.networks[::2], arguments.networks[1::2]):
                network(subjects, directory, fasta, arguments, scratch)
            for worker in subjects:
                worker.process.stdin.close()
                worker.process.wait()
            print(f"\nLoad average at the end: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
