#!/usr/bin/env bash
# From a genome to the name of a factor: for networks of SPI1 and CTCF the sequences under their peaks, what drives the
# network there, the motifs that this adds up to, where they are, and the known motif that the largest one looks like.
# Fails unless that is the factor's own.
# Usage: benches/chain.sh DATA   DATA is the folder of reference data; a release build is needed
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here/../target/release:$PATH
data=$(cd "$1" && pwd)
known=$data/motifs/human.meme.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

chain() { # chain FACTOR NETWORK PEAKS
    local network=$data/models/kundaje_cnn/$2 name
    echo "## $1"
    nyx-model convert -q "$network/weights.h5" --keras-json "$network/model.json" -o "$1"
    nyx-extract regions --fasta "$data/genome/hg19_chr20_1Mb/chr20.fa.gz" --peaks "$3" |
        nyx-attrib --model "$1" --method deeplift -o "$1.contributions"
    nyx-motifs denovo --window 1000 --h5 "$1.h5" -o "$1.motifs" "$1.contributions"
    nyx-hits --motifs "$1.h5" -o "$1.hits" "$1.contributions"
    nyx-tomtom "$1.h5" "$known" -o "$1.tsv"
    nyx-view --no-pg --columns motif,sites,consensus "$1.motifs"
    nyx-view -q --no-pg --no-header --columns motif_name "$1.hits" | sort | uniq -c | sort -rn
    # Patterns stand by their number of seqlets, matches by their p-value.
    match=$(awk -F'\t' '$1 == "pos_patterns.pattern_0" { print $2; exit }' "$1.tsv")
    name=$(zcat "$known" | awk -v motif="$match" '$1 == "MOTIF" && $2 == motif { print $3 }')
    echo "the largest pattern looks most like ${match:-nothing} ($name)"
    [[ $name == *.$1 ]] || { echo "$1 was expected" >&2; exit 1; }
}

chain SPI1 SPI1_GM12878 "$data/contribs/spi1_gm12878/peaks.narrowPeak"
zcat "$data/peaks/hg19/K562.CTCF.narrowPeak.gz" | awk '$1 == "chr20" && $2 >= 1000500 && $3 < 1999500' >ctcf.narrowPeak
chain CTCF CTCF_GM12878 ctcf.narrowPeak
