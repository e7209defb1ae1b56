#!/usr/bin/env bash
# The Dask recipe on a scan cut into 1 and into 9 Parquet files: fails unless both print one digest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
python=$here/../../target/workflows/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
nyx demo --data-only --outdir .
for files in 1 9; do
    mkdir "in-$files"
    for part in $(seq "$files"); do
        nyx-extract tiles -q --fasta genome.fa --width 200 --stride 50 --shard "$part/$files" |
            nyx-view -q -O parquet -o "in-$files/$part.parquet"
    done
    "$python" "$here/dask_scan.py" --model model --out "out-$files" "in-$files"/*.parquet | tee "$files.txt"
done
[ "$(cut -d, -f2 1.txt)" = "$(cut -d, -f2 9.txt)" ] || { echo "dask.sh: not one digest" >&2; exit 1; }
