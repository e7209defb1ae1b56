#!/usr/bin/env bash
# What a genome scan spends where: processor seconds and peak memory of every stage of one pipe.
# Usage: benches/scan.sh GENOME MODEL_DIR WINDOWS [WIDTH [TOKENIZER]]   (a release build is needed)
# Windows overlap as closely as the genome's first contigs require. With TOKENIZER (kmer:6, nt, ...) a stage of its own makes
# the tokens, which nyx-score would make itself, so that their cost can be seen.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nyx=$here/../target/release
genome=$1 model=$2 windows=$3 width=${4:-0} tokenizer=${5:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ "$width" -gt 0 ] || width=$("$nyx/nyx-model" info --json "$model" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["window"] or 201)')

cost() { # cost NAME COMMAND...: processor seconds and the largest resident set of the command alone
    python3 -c '
import os, sys
pid = os.spawnvp(os.P_NOWAIT, sys.argv[3], sys.argv[3:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "a") as table:
    seconds = usage.ru_utime + usage.ru_stime
    table.write(f"{sys.argv[2]}\t{seconds:.2f}\t{usage.ru_maxrss / 1024:.0f}\n")
sys.exit(status != 0)' "$work/cost" "$@"
}
tokenize() {
    if [ -n "$tokenizer" ]; then
        cost nyx-tokenize "$nyx/nyx-tokenize" -q --tokenizer "$tokenizer"
    else
        cat
    fi
}

"$nyx/nyx-extract" tiles -q --fasta "$genome" --width "$width" --stride 1000000 --tail drop >/dev/null # the index
bases=$(awk '{ sum += $2 } END { print sum }' "$genome.fai")
stride=$(((bases - width) / windows)) limit=()
if [ "$stride" -lt 1 ] || [ "$windows" -lt 10000 ]; then # a short run: one piece of the first contig
    stride=50
    limit=(-r "$(cut -f1 "$genome.fai" | head -1):1-$(((windows - 1) * stride + width))" --tail drop)
fi
cost nyx-extract "$nyx/nyx-extract" tiles -q --fasta "$genome" --width "$width" --stride "$stride" "${limit[@]}" |
    tokenize |
    cost nyx-score "$nyx/nyx-score" -q --model "$model" --drop sequence |
    "$nyx/nyx-view" -q -O tsv --no-pg --no-header --columns region | wc -l > "$work/rows"
echo "$(cat "$work/rows") windows of $width bases, stride $stride"
echo
echo "| stage | CPU s | of all | peak MB |"
echo "|---|---|---|---|"
awk -F'\t' '{ name[NR] = $1; cpu[NR] = $2; size[NR] = $3; sum += $2 }
    END { for (i = 1; i <= NR; i++) printf "| %s | %.2f | %.1f %% | %d |\n", name[i], cpu[i], 100 * cpu[i] / sum, size[i] }' "$work/cost"
