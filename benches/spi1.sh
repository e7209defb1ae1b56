#!/usr/bin/env bash
# The README's walk-through: SPI1 in GM12878 on a slice of hg19, from peaks to motif hits, and how the hits agree
# with Fi-NeMo's on the same contributions.
# Usage: benches/spi1.sh DATA [FINEMO]   DATA is the folder of reference data, FINEMO the `finemo` executable.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here/../target/release:$PATH
data=$(cd "$1" && pwd) finemo=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

network=$data/models/kundaje_cnn/SPI1_GM12878
nyx-model convert "$network/weights.h5" --keras-json "$network/model.json" -o spi1
echo "## peaks to hits"
time nyx-extract regions --fasta "$data/genome/hg19_chr20_1Mb/chr20.fa.gz" --peaks "$data/contribs/spi1_gm12878/peaks.narrowPeak" |
    nyx-score --model spi1 --attrib ism -o contributions.arrows
nyx-hits --motifs "$data/contribs/spi1_gm12878/modisco_results.h5" --outdir exact -o hits.arrows contributions.arrows
nyx-view -O tsv --no-pg --columns motif_name --no-header hits.arrows | sort | uniq -c | sort -rn

[ -n "$finemo" ] || exit 0
echo "## Fi-NeMo on the same contributions"
nyx-view -q -O npz -o regions.npz contributions.arrows
nyx-hits -q --compat --motifs "$data/contribs/spi1_gm12878/modisco_results.h5" --outdir compat -o compat.arrows contributions.arrows
"$finemo" call-hits -r regions.npz -m "$data/contribs/spi1_gm12878/modisco_results.h5" -o finemo -b 16 2>/dev/null
python3 - <<'PY'
import csv

def hits(path):
    key = ("chr", "start_untrimmed", "motif_name", "strand", "peak_id")
    rows = csv.DictReader(open(path), delimiter="\t")
    return {tuple(row[k] for k in key): float(row["hit_coefficient"]) for row in rows}

theirs = hits("finemo/hits.tsv")
for name in ("compat", "exact"):
    ours = hits(f"{name}/hits.tsv")
    both = ours.keys() & theirs.keys()
    worst = max((abs(ours[k] - theirs[k]) / max(1, abs(theirs[k])) for k in both), default=0)
    print(f"{name}: {len(ours)} hits, Fi-NeMo {len(theirs)}, shared {len(both)}, largest coefficient difference {worst:.1e}")
PY
