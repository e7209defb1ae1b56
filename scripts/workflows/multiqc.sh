#!/usr/bin/env bash
# Runs a pipeline with --stats, lets MultiQC make its report of it, and checks that the commands are in it.
#
#     scripts/workflows/multiqc.sh [DIRECTORY]     where the report goes; default: nowhere, it is only checked
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
multiqc=$here/../../target/workflows/bin/multiqc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nyx demo --data-only --outdir "$work"
mkdir "$work/stats"
stats=$work/stats/demo
nyx-extract regions -q --fasta "$work/genome.fa" --peaks "$work/peaks.narrowPeak" --width 200 --stats "$stats.nyx-extract_mqc.json" |
    nyx-attrib -q --model "$work/model" --method gradxinput --stats "$stats.nyx-attrib_mqc.json" |
    nyx-hits -q --motifs "$work/motifs.meme" --stats "$stats.nyx-hits_mqc.json" -o "$work/hits.arrows"
output=${1:-$work/report}
"$multiqc" --quiet --force --outdir "$output" "$work/stats"
for command in nyx-extract nyx-attrib nyx-hits; do
    grep -q "demo.$command" "$output"/multiqc_data/multiqc_nyx_commands.txt || { echo "multiqc.sh: $command is not in the report" >&2; exit 1; }
done
cat "$output"/multiqc_data/multiqc_nyx_commands.txt
