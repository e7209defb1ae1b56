#!/usr/bin/env bash
# nyx-extract regions against bedtools getfasta and a pyfaidx loop on the same BED: same sequences, then times.
# Usage: benches/extract.sh GENOME.fa[.gz] [INTERVALS=100000] [WIDTH=1000]
# Needs: a release build, bedtools, samtools, and Python with pyfaidx (PYTHON=..., default python3).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nyx=$here/../target/release
python=${PYTHON:-python3}
genome=$1 count=${2:-100000} width=${3:-1000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $genome in
*.gz) zcat "$genome" > "$work/g.fa" ;;
*) cp "$genome" "$work/g.fa" ;;
esac
bgzip -c "$work/g.fa" > "$work/g.fa.gz"
samtools faidx "$work/g.fa"
samtools faidx "$work/g.fa.gz"
awk '$2 > '"$width"'' "$work/g.fa.fai" | cut -f1,2 > "$work/sizes"
bedtools random -l "$width" -n "$count" -seed 1 -g "$work/sizes" | cut -f1-3 > "$work/random.bed"
sort -k1,1 -k2,2n "$work/random.bed" > "$work/sorted.bed"
cat > "$work/loop.py" <<'PY'
import sys
import pyfaidx
genome = pyfaidx.Fasta(sys.argv[1], as_raw=True, sequence_always_upper=True)
for line in open(sys.argv[2]):
    chrom, start, end = line.split()
    print(genome[chrom][int(start):int(end)])
PY

echo "identical sequences:"
for bed in random sorted; do
    for fasta in g.fa g.fa.gz; do
        ours=$("$nyx/nyx-extract" regions -q --fasta "$work/$fasta" --peaks "$work/$bed.bed" --width 0 |
            "$nyx/nyx-view" -q -O tsv --columns sequence --no-header --no-pg | md5sum)
        theirs=$(bedtools getfasta -fi "$work/g.fa" -bed "$work/$bed.bed" -tab | cut -f2 | tr acgtn ACGTN | md5sum)
        [ "$ours" = "$theirs" ] && echo "  $bed $fasta: yes" || { echo "  $bed $fasta: NO"; exit 1; }
    done
done
for bed in random sorted; do
    echo; echo "### $count intervals of $width bp, $bed order, plain FASTA"; echo
    "$here/compare.py" --unit "intervals=$count" \
        "nyx-extract=$nyx/nyx-extract regions -q --fasta $work/g.fa --peaks $work/$bed.bed --width 0 > /dev/null" \
        "bedtools getfasta=bedtools getfasta -fi $work/g.fa -bed $work/$bed.bed > /dev/null" \
        "pyfaidx loop=$python $work/loop.py $work/g.fa $work/$bed.bed > /dev/null"
    echo; echo "### $count intervals of $width bp, $bed order, BGZF FASTA"; echo
    # bedtools 2.30 of Debian 12 crashes on BGZF, so samtools is the peer there.
    awk '{ print $1 ":" $2 + 1 "-" $3 }' "$work/$bed.bed" > "$work/$bed.regions"
    "$here/compare.py" --unit "intervals=$count" \
        "nyx-extract=$nyx/nyx-extract regions -q --fasta $work/g.fa.gz --peaks $work/$bed.bed --width 0 > /dev/null" \
        "samtools faidx=samtools faidx -r $work/$bed.regions $work/g.fa.gz > /dev/null"
done
