#!/usr/bin/env bash
# A plan and the scan it is of, one after the other: prints what was predicted, what was real and the difference.
#
#     scripts/workflows/plan.sh [PIPELINE]      default: a scan of the demo's genome at every second base
#     scripts/workflows/plan.sh --real DATA     DATA is the folder of reference data: four networks over real genomes, as the
#                                               rows of a Markdown table; every NYX_PLAN_THIN-th window, default 1
#
# The nyx commands are those on the path: a release build. What else runs on the machine is part of both; the load average
# before each plan is in the table.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nyx demo --data-only --outdir "$work/demo"

# Plans a pipeline, runs it and leaves both in $work/plan.json and $work/real.json.
compare() { # compare PIPELINE
    local began ended size
    rm -rf "$work/stats" && mkdir "$work/stats"
    cut -d' ' -f1 /proc/loadavg > "$work/load"
    nyx plan --json "$1" > "$work/plan.json"
    began=$(date +%s.%N)
    size=$(NYX_STATS=$work/stats bash -o pipefail -c "$1" 2>"$work/log" | wc -c) || { cat "$work/log" >&2; exit 1; }
    ended=$(date +%s.%N)
    python3 - "$work" "$began" "$ended" "$size" <<'PYTHON'
import glob, json, sys

work, began, ended, size = sys.argv[1], *map(float, sys.argv[2:])
rows = [row for path in glob.glob(f"{work}/stats/*.json") for row in json.load(open(path))["data"].values()]
real = {
    "seconds": ended - began,
    "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
    "peak_mib": sum(row["peak_mib"] for row in rows),
    "bytes": size,
}
json.dump(real, open(f"{work}/real.json", "w"))
PYTHON
}

# Prints a comparison: lines of text, or a row of a table that begins with a name.
show() { # show [NAME]
    python3 - "$work" "$@" <<'PYTHON'
import json, sys

work, name = sys.argv[1], " ".join(sys.argv[2:])
plan, real = json.load(open(f"{work}/plan.json")), json.load(open(f"{work}/real.json"))
calibration, load = plan["calibration"], open(f"{work}/load").read().strip()
if name:
    mebi = 1048576
    cell = lambda key, unit=1: f"{plan[key] / unit:.1f}, {real[key] / unit:.1f} ({100 * (plan[key] / real[key] - 1):+.1f} %)"
    cells = [cell("seconds"), cell("cpu_seconds"), cell("peak_mib"), cell("bytes", mebi), f"{100 * plan['spread']:.0f} %", load]
    print(f"| {name} | {plan['windows']:,} | {' | '.join(cells)} |")
else:
    print(f"{plan['windows']} windows, planned from {calibration['windows']:.0f} of them in {calibration['seconds']:.1f} s")
    print(f"{'':12} {'planned':>14} {'real':>14} {'difference':>10}")
    for key, value in real.items():
        print(f"{key:12} {plan[key]:14.1f} {value:14.1f} {100 * (plan[key] / value - 1):+9.1f}%")
PYTHON
}

if [ "${1:-}" != --real ]; then
    compare "${1:-"nyx-extract tiles --fasta $work/demo/genome.fa --width 200 --stride 2 | nyx-score --model $work/demo/model --drop sequence -@ 1"}"
    show
    exit
fi

data=$(realpath "${2:?the folder of reference data}")
yeast=$data/genome/sacCer3/sacCer3.fa.gz human=$data/genome/hg19_chr20_1Mb/z.fa.gz
keras=$data/models/kundaje_cnn/SPI1_GM12878 tiny=$data/../golden/models/dnabert1_tiny
nyx-model convert -q "$keras/weights.h5" --keras-json "$keras/model.json" -o "$work/spi1"
nyx-model convert -q "$data/models/bpnet_ctcf_k562/model.safetensors" -o "$work/bpnet"
mkdir "$work/dnabert"
cp "$tiny/config.json" "$tiny/model.safetensors" "$data/tokenizers/dnabert/k6/vocab.txt" "$work/dnabert"
row() { # row NAME GENOME WIDTH STRIDE MODEL
    compare "nyx-extract tiles --fasta $2 --width $3 --stride $(($4 * ${NYX_PLAN_THIN:-1})) | nyx-score --model $5 --drop sequence"
    show "$1"
}
echo "| scan (planned, real, difference) | windows | seconds | processor seconds | memory, MiB | size, MiB | spread | load before |"
echo "|---|---|---|---|---|---|---|---|"
row "the demo's network, yeast" "$yeast" 200 4 "$work/demo/model"
row "SPI1 in GM12878, 1 Mb of hg19" "$human" 1000 20 "$work/spi1"
row "BPNet, CTCF in K562, 1 Mb of hg19" "$human" 2114 50 "$work/bpnet"
row "a DNABERT-6 of 3 layers of 64, yeast" "$yeast" 200 100 "$work/dnabert"
