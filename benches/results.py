"""What nyx-train reaches on real data: each experiment trains with one thread under a time limit and prints rows of a table
for benches/README.md, beside published weights, PyTorch with the same recipe, or a baseline of k-mers.

    python benches/results.py NYX_TRAIN DATA networks [--sets nyxbind_33tf/CTCFL ...] [--architectures deepbind,danq]
    python benches/results.py NYX_TRAIN DATA base-callers [--factors MEF2A,...] [--architectures deepsnr,d-aednet]
    python benches/results.py NYX_TRAIN DATA gue [--set GUE/prom/prom_core_tata]
    python benches/results.py NYX_TRAIN DATA enhancer
    python benches/results.py NYX_TRAIN DATA contrastive

DATA is the folder of benchmarks (`nyxbind_33tf`, `per_base`, `GUE`, `dnabert_enhancer`, ...). The rest needs numpy and PyTorch.
"""

import argparse
import csv
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "scripts")]
import torch_gradients  # noqa: E402
import train as steps  # noqa: E402

BASE_CALLERS = {"deepsnr": torch_gradients.DeepSNR, "d-aednet": torch_gradients.DAEDNet}


def nyx(arguments, command, output, limit):
    """Trains; returns what the test set says, seconds and steps, or None where the limit was too short."""
    line = [arguments.binary, *command, "-o", output, "-@", 1, "-q"]
    began = time.perf_counter()
    try:
        subprocess.run([*map(str, line)], check=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    except subprocess.CalledProcessError:
        return {}, time.perf_counter() - began, 0
    seconds = time.perf_counter() - began
    record = Path(output) / "training"
    summary = json.loads((record / "wandb-summary.json").read_text())
    results = record / "eval_results.json"
    found = json.loads(results.read_text()) if results.exists() else {}
    return {name.removeprefix("eval_"): value for name, value in found.items()}, seconds, summary["_step"]


def show(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def number(value):
    return "" if value is None else f"{value:.4f}"


def networks(arguments):
    """DeepBind and DanQ: NyxBind's recipe in nyx and in PyTorch, the same seed number, other random numbers."""
    show("set", "network", "seed", "nyx-train", "PyTorch, same recipe", "s (nyx, PyTorch)", "steps (nyx, PyTorch)")
    for name in arguments.sets:
        data = arguments.data / name
        for architecture in arguments.architectures.split(","):
            length = len(next(csv.reader(gzip.open(data / "train.csv.gz", "rt").readlines()[1:]))[0])
            if architecture == "danq" and length != 101:
                continue
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    command = ["cnn", "--architecture", architecture, "--data", data, "--seed", seed]
                    ours = nyx(arguments, command, Path(folder) / "model", arguments.limit)
                if ours is None:
                    show(name, architecture, seed, f"not done in {arguments.limit} s", "", "", "")
                    continue
                began = time.perf_counter()
                theirs, theirs_steps = steps.torch_area(architecture, data, seed) if arguments.peer else (None, "")
                seconds = time.perf_counter() - began
                show(name, architecture, seed, number(ours[0].get("roc_auc")), number(theirs),
                     f"{ours[1]:.0f}, {seconds:.0f}", f"{ours[2]}, {theirs_steps}")


def trapezoid(scores, labels):
    """Area under the precision-recall curve by trapezoids, from precision 1 at recall 0 (BertSNR's)."""
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last = np.append(scores[1:] != scores[:-1], True)
    hits = np.cumsum(labels)[last]
    precision, recall = hits / (np.flatnonzero(last) + 1), hits / labels.sum()
    return np.trapezoid(np.append(1, precision), np.append(0, recall))


def torch_bases(name, sequences, labels, seed):
    """BertSNR's recipe for base callers: AdamW 5e-4, decay 1e-5, batches of 32, 10 epochs, stop at the first epoch whose
    area is not better; the first fifth is the test set and chooses the weights."""
    torch.manual_seed(seed)
    random.seed(seed)
    model = BASE_CALLERS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-5)
    fifth = len(sequences) // 5
    order = list(range(fifth, len(sequences)))
    truth = labels[:fifth].numpy().ravel()
    best, kept = -1.0, None
    for _ in range(10):
        random.shuffle(order)
        model.train()
        for first in range(0, len(order), 32):
            rows = order[first : first + 32]
            outputs = model(steps.encode([sequences[i] for i in rows]))
            loss = F.binary_cross_entropy_with_logits(outputs.reshape(len(rows), -1), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            parts = [model(steps.encode(sequences[i : min(i + 256, fifth)])) for i in range(0, fifth, 256)]
            scores = torch.cat([part.reshape(part.shape[0], -1) for part in parts]).numpy().ravel()
        area = trapezoid(scores.astype(float), truth)
        if area <= best:
            break
        best, kept = area, scores
    return steps.area(kept.astype(float), truth)


def base_callers(arguments):
    """DeepSNR and D-AEDNet: area under the ROC curve of bases of the first fifth, over seeds, in nyx and in PyTorch, beside
    that of the published weights (measured by PyTorch, in the folder of reference numbers)."""
    metrics = arguments.data.parent.parent / "golden" / "models" / "deepsnr_daednet" / "metrics.json"
    published = json.loads(metrics.read_text())
    show("factor", "network", "seeds", "nyx-train, by seed", "PyTorch, by seed", "published weights", "s a seed (nyx, PyTorch)")
    for factor in arguments.factors.split(","):
        files = [arguments.data / "per_base" / f"{factor}.{name}.txt.gz" for name in ("sequence", "label")]
        sequences, labels = (gzip.open(file, "rt").read().split() for file in files)
        labels = torch.tensor([[float(digit) for digit in line] for line in labels])
        for architecture in arguments.architectures.split(","):
            ours, theirs, seconds = [], [], [0.0, 0.0]
            for seed in arguments.seeds:
                command = ["base-caller", "--architecture", architecture, "--sequences", files[0], "--base-labels", files[1],
                           "--seed", seed, "--tries", 1, *arguments.more.split()]
                with tempfile.TemporaryDirectory() as folder:
                    # A seed that has learned nothing ends with an error, as it should; its numbers count all the same.
                    found = nyx(arguments, command, Path(folder) / "model", arguments.limit)
                    results = Path(folder) / "model" / "training" / "eval_results.json"
                    area = json.loads(results.read_text())["eval_roc_auc"] if results.exists() else None
                ours.append("limit" if found is None else number(area))
                seconds[0] += found[1] if found else arguments.limit
                if arguments.peer:
                    began = time.perf_counter()
                    theirs.append(number(torch_bases(architecture, sequences, labels, seed)))
                    seconds[1] += time.perf_counter() - began
            name = {"deepsnr": "DeepSNR", "d-aednet": "D_AEDNet"}[architecture]
            known = published.get(f"{factor}/{name}", {}).get("roc_auc")
            count = len(arguments.seeds)
            show(factor, architecture, " ".join(map(str, arguments.seeds)), ", ".join(ours), ", ".join(theirs), number(known),
                 f"{seconds[0] / count:.0f}, {seconds[1] / count:.0f}")


def rows_of(path):
    """Sequences and labels of a CSV or TSV; k-mers are joined."""
    with gzip.open(path, "rt") as file:
        text = file.read().splitlines()
    rows = [line.rsplit("\t" if "\t" in line else ",", 1) for line in text[1:] if line.strip()]
    join = lambda words: words[0] + "".join(word[-1] for word in words[1:])  # noqa: E731
    return [join(s.split()) if " " in s else s for s, _ in rows], np.array([int(float(y)) for _, y in rows])


def counted(sequences, size):
    counts = np.zeros((len(sequences), 4**size), dtype=np.float32)
    for row, sequence in enumerate(sequences):
        codes = steps.CODES[np.frombuffer(sequence.encode(), dtype=np.uint8)]
        words = sum(codes[i : len(codes) - size + 1 + i] * 4 ** (size - 1 - i) for i in range(size))
        np.add.at(counts[row], words, 1)
    return counts


def logistic(x, y, decay):
    """Logistic regression with a square penalty on the mean loss, by L-BFGS."""
    x, y = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    weight, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weight + bias, y) + decay * (weight**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach().numpy(), bias.item()


def baseline(sets):
    """k-mer counts and logistic regression; k of 3 to 6 and the penalty by the area on dev. Returns the area on test."""
    best = (-1.0, None, None)
    for size in (3, 4, 5, 6):
        x = {name: counted(rows, size) for name, (rows, _) in sets.items()}
        mean, deviation = x["train"].mean(0), x["train"].std(0) + 1e-6
        x = {name: (values - mean) / deviation for name, values in x.items()}
        for decay in (1e-3, 1e-2, 1e-1, 1.0):
            weight, bias = logistic(x["train"], sets["train"][1], decay)
            dev, test = (steps.area(x[name] @ weight + bias, sets[name][1]) for name in ("dev", "test"))
            accuracy = float(((x["test"] @ weight + bias > 0) == (sets["test"][1] == 1)).mean())
            if dev > best[0]:
                best = (dev, test, (size, decay, accuracy))
    return best


def small_transformer(folder, vocabulary, hidden, layers, heads, positions):
    """A model directory of nothing but a configuration: BERT with positions, words of k bases by its vocabulary."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "max_position_embeddings": positions, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_sets(folder, sets):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (sequences, labels) in sets.items():
        lines = [f"{s},{y}" for s, y in zip(sequences, labels)]
        (folder / f"{name}.csv").write_text("sequence,label\n" + "\n".join(lines) + "\n")
    return folder


COMPLEMENT = str.maketrans("ACGT", "TGCA")
VOCABULARY = {3: 69, 4: 261, 5: 1029, 6: 4101}


def against_kmers(arguments, sets, folder, base, flags):
    words = baseline(sets)
    print(f"k-mers: area {words[0]:.4f} on dev, {words[1]:.4f} on test", file=sys.stderr, flush=True)
    found = nyx(arguments, ["full", *base, "--data", write_sets(folder / "data", sets), *flags], folder / "model", arguments.limit)
    return found, words


def gue(arguments):
    """A small transformer from random weights on a task of GUE, against k-mers."""
    data = arguments.data / arguments.set
    sets = {part: rows_of(data / f"{part}.csv.gz") for part in ("train", "dev", "test")}
    length = max(len(s) for s in sets["train"][0])
    show("task", "rows", "transformer", "seed", "nyx-train: area, accuracy", "k-mers: area, accuracy (k)", "s", "steps")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            model = small_transformer(folder / "base", VOCABULARY[arguments.word], arguments.hidden, arguments.layers, 4, length + 2)
            flags = ["--learning-rate", arguments.rate, "--epochs", arguments.epochs, "--eval-every", 0, "--warmup", "10%",
                     "--best-by", "roc_auc", "--patience", 0, "--seed", seed]
            found, (_, area, (size, _, accuracy)) = against_kmers(
                arguments, sets, folder, ["--model", model, "--from-scratch"], flags)
        what = f"{arguments.layers} layers of {arguments.hidden}, {arguments.word}-mers, {arguments.epochs} epochs"
        ours = f"not done in {arguments.limit} s" if found is None else (
            f"{found[0]['roc_auc']:.4f}, {found[0]['accuracy']:.4f}")
        show(arguments.set, len(sets["train"][0]), what, seed, ours, f"{area:.4f}, {accuracy:.4f} ({size})",
             "" if found is None else f"{found[1]:.0f}", "" if found is None else found[2])


def enhancer(arguments):
    """DNABERT-Enhancer's sample: five folds, a transformer that first reads the sequences without their labels (masked tokens;
    those of the test fold are left out), against k-mers."""
    sequences, labels = rows_of(arguments.data / "dnabert_enhancer" / "Train.tsv.gz")
    order = np.random.default_rng(42).permutation(len(sequences))
    show("fold", "train rows", "nyx-train: area, accuracy", "k-mers: area, accuracy (k)", "s")
    areas = []
    for fold in range(5):
        rows = {"test": order[fold::5], "dev": order[(fold + 1) % 5 :: 5][::2]}
        left_out = set(rows["test"]) | set(rows["dev"])
        rows["train"] = np.array([row for row in order if row not in left_out])
        sets = {name: ([sequences[i] for i in rows[name]], labels[rows[name]]) for name in ("train", "dev", "test")}
        if arguments.strands:
            forward, y = sets["train"]
            sets["train"] = (forward + [s.translate(COMPLEMENT)[::-1] for s in forward], np.concatenate([y, y]))
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            length = max(len(s) for s in sequences)
            model = small_transformer(folder / "base", VOCABULARY[arguments.word], arguments.hidden, arguments.layers, 4, length + 2)
            base, before = ["--model", model, "--from-scratch"], 0.0
            if arguments.read:
                unlabelled = read_fasta(arguments.data / "ienhancer", set(sets["test"][0]))
                texts = {"train": (sets["train"][0] + unlabelled, np.zeros(len(sets["train"][0]) + len(unlabelled), int)),
                         "dev": sets["dev"]}
                command = ["mlm", *base, "--data", write_sets(folder / "texts", texts), "--epochs", arguments.read,
                           "--learning-rate", 1e-3, "--train-batch", 32, "--eval-every", 0, "--mask-chance", 0.05]
                found = nyx(arguments, command, folder / "read", arguments.limit)
                if found is None:
                    show(fold, "", f"not read in {arguments.limit} s", "", "")
                    continue
                base, before = ["--model", folder / "read"], found[1]
            flags = ["--learning-rate", arguments.rate, "--epochs", arguments.epochs, "--eval-every", 0, "--warmup", "10%",
                     "--best-by", "roc_auc", "--patience", 0, "--seed", 42]
            found, (_, area, (size, _, accuracy)) = against_kmers(arguments, sets, folder, base, flags)
            if found and arguments.strands:
                found[0].update(both_strands(arguments, folder))
        if found is None:
            show(fold, len(sets["train"][0]), f"not done in {arguments.limit} s", f"{area:.4f}", "")
            continue
        areas.append((found[0]["roc_auc"], area))
        show(fold, len(sets["train"][0]), f"{found[0]['roc_auc']:.4f}, {found[0]['accuracy']:.4f}",
             f"{area:.4f}, {accuracy:.4f} ({size})", f"{before + found[1]:.0f}")
    if areas:
        ours, theirs = np.mean(areas, axis=0)
        show("mean", "", f"{ours:.4f}", f"{theirs:.4f}", "")


def both_strands(arguments, folder):
    """Area and accuracy on the test set of the mean over a sequence and its reverse complement, by nyx-score and nyx-eval."""
    tool = lambda name: arguments.binary.resolve().with_name(name)  # noqa: E731
    rows = subprocess.run([tool("nyx-extract"), "sequences", folder / "data" / "test.csv", "-q"], check=True, capture_output=True)
    score = [tool("nyx-score"), "--model", folder / "model", "--rc-average", "-@", "1", "-q"]
    scored = subprocess.run(score, input=rows.stdout, check=True, capture_output=True)
    table = subprocess.run([tool("nyx-eval"), "-", "-q"], input=scored.stdout, check=True, capture_output=True, text=True).stdout
    names, numbers = (line.split("\t") for line in table.splitlines()[-2:])
    return {name: float(number) for name, number in zip(names, numbers) if name in ("roc_auc", "accuracy")}


def read_fasta(folder, left_out):
    """Sequences of iEnhancer's benchmark, the same length and kind, that are not in the test fold."""
    found = []
    for file in sorted(folder.glob("*.fa.gz")):
        text = gzip.open(file, "rt").read().split(">")[1:]
        found += ["".join(record.split("\n")[1:]).upper() for record in text]
    return [s for s in found if s not in left_out and set(s) <= set("ACGT")]


def contrastive(arguments):
    """Sets of ChIP-seq: average precision of cosines (same set or not) before training and after, on dev pairs."""
    folders = sorted((arguments.data / "nyxbind_33tf").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = small_transformer(folder / "base", VOCABULARY[arguments.word], arguments.hidden, arguments.layers, 4, 128)
        line = [arguments.binary, "contrastive", "--model", model, "--from-scratch", "--data", arguments.data / "nyxbind_33tf",
                "--train-numbers", arguments.pairs, "--test-numbers", 100, "--epochs", arguments.epochs, "--learning-rate",
                arguments.rate, "--eval-every", 0, "--seed", arguments.seeds[0], "-o", folder / "model", "-@", 1]
        began = time.perf_counter()
        run = subprocess.run([*map(str, line)], check=True, timeout=arguments.limit, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        first = next(text for text in run.stderr.splitlines() if "before: dev" in text)
        before = float(first.split("cosine_ap ")[1].split(",")[0])
        lines = (folder / "model" / "training" / "metrics.jsonl").read_text().splitlines()
        after = [json.loads(text)["eval/cosine_ap"] for text in lines if "eval/cosine_ap" in text]
        test = json.loads((folder / "model" / "training" / "eval_results.json").read_text())["eval_cosine_ap"]
    show("sets", "pairs", "dev before", "dev after each epoch", "test", "s")
    show(len(folders), len(folders) * arguments.pairs, f"{before:.4f}", ", ".join(f"{x:.4f}" for x in after), f"{test:.4f}",
         f"{seconds:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("experiment", choices=["networks", "base-callers", "gue", "enhancer", "contrastive"])
    parser.add_argument("--limit", type=float, default=900, help="seconds of one training")
    parser.add_argument("--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[42])
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave PyTorch out")
    parser.add_argument("--sets", nargs="+", default=["nyxbind_33tf/CTCFL"])
    parser.add_argument("--architectures", default=None)
    parser.add_argument("--factors", default="MEF2A,CTCFL,GATA2,TFAP2A")
    parser.add_argument("--more", default="", help="more flags for base callers")
    parser.add_argument("--set", default="GUE/prom/prom_core_tata")
    parser.add_argument("--word", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--read", type=int, default=0, help="epochs of masked tokens before (enhancer)")
    parser.add_argument("--strands", action="store_true", help="learn reverse complements, too (enhancer; the k-mers as well)")
    parser.add_argument("--pairs", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    defaults = {"networks": "deepbind,danq", "base-callers": "deepsnr,d-aednet"}
    arguments.architectures = arguments.architectures or defaults.get(arguments.experiment)
    {"networks": networks, "base-callers": base_callers, "gue": gue, "enhancer": enhancer,
     "contrastive": contrastive}[arguments.experiment](arguments)


if __name__ == "__main__":
    main()
