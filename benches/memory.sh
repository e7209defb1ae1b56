#!/usr/bin/env bash
# Peak memory of a genome scan and of the stages after it, at two lengths of input: it must not grow.
# Usage: benches/memory.sh GENOME MODEL_DIR   (a release build is needed)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nyx=$here/../target/release
genome=$1 model=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
peak() { # peak COMMAND...: the largest resident set of the command alone, in MB
    python3 -c '
import os, sys
pid = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
sys.stderr.write(f"{usage.ru_maxrss / 1024:.0f}\n")
sys.exit(status != 0)' "$@"
}
window=$("$nyx/nyx-model" info --json "$model" | python3 -c 'import json, sys; print(json.load(sys.stdin)["window"] or 200)')
echo "| stage | input | rows | peak MB |"
echo "|---|---|---|---|"
for stride in 100 10; do
    rows=$("$nyx/nyx-extract" tiles --fasta "$genome" --width "$window" --stride $stride 2>&1 >/dev/null | grep -oE '[0-9]+ rows')
    size=$(peak "$nyx/nyx-extract" tiles -q --fasta "$genome" --width "$window" --stride $stride 2>&1 >/dev/null)
    echo "| nyx-extract tiles | stride $stride | $rows | $size |"
    size=$( ("$nyx/nyx-extract" tiles -q --fasta "$genome" --width "$window" --stride $stride | peak "$nyx/nyx-merge" -q - >/dev/null) 2>&1)
    echo "| nyx-merge (pass-through) | stride $stride | $rows | $size |"
done
contig=$( ("$nyx/nyx-extract" tiles -q --fasta "$genome" --width "$window" --stride 1000000 || true) |
    "$nyx/nyx-view" -q -O bed --no-pg | cut -f1 | sed -n 1p)
for count in 1000 10000; do
    last=$(((count - 1) * 20 + window))
    size=$( ("$nyx/nyx-extract" tiles -q --fasta "$genome" --width "$window" --stride 20 --tail drop -r "$contig:1-$last" |
        tee >("$nyx/nyx-view" -q -O tsv --no-pg --no-header --columns region | wc -l > "$work/rows") |
        peak "$nyx/nyx-score" -q --model "$model" - >/dev/null) 2>&1)
    echo "| nyx-score | one contig, stride 20 | $(cat "$work/rows") rows | $size |"
done
