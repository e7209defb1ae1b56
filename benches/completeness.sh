#!/usr/bin/env bash
# How completely contributions share out what a logit differs from that of a background, and how many steps integrated
# gradients need for a ten-thousandth: DeepLIFT, then integrated gradients of ever more steps.
# Usage: benches/completeness.sh DATA [ROWS]   DATA is the folder of reference data; a release build is needed (or NYX_BIN)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=${NYX_BIN:-$here/../target/release}:$PATH
data=$(cd "$1" && pwd) rows=${2:-4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

attrib() { # attrib MODEL FLAG...: what the command says of its rows
    nyx-attrib --model "$@" --tolerance 1e-4 -o /dev/null rows.arrows 2>&1 | sed -n 's/.*\(largest completeness error.*\)/\1/p'
}
family() { # family NAME WIDTH SOURCE [FLAG...]: the models of one family
    local name=$1 width=$2 said
    nyx-model convert -q "${@:3}" -o "$name" 2>/dev/null
    if [ "$width" = 100 ]; then # the base callers say nothing of sequences that hold no site
        head -n "$rows" "$data/../golden/finemo/real_CTCFL/input/seqs.txt" | awk '{ print ">" NR "\n" $0 }' |
            nyx-extract sequences -q - -o rows.arrows
    else
        nyx-extract tiles -q --fasta "$data/genome/hg19_chr20_1Mb/chr20.fa.gz" --width "$width" --stride 25000 \
            -r "chr20:1100001-$((1100000 + rows * 25000))" -o rows.arrows
    fi
    echo "$name: DeepLIFT, $(attrib "$name" --method deeplift --background shuffle:2)"
    for steps in 50 150 450 1350 4050 12150; do
        said=$(attrib "$name" --method ig --background zero --steps $steps --max-steps $steps)
        case $said in *"all within"*) break ;; esac
    done
    echo "$name: $steps steps, $said"
}

cnn=$data/models/kundaje_cnn/SPI1_GM12878
family DeepSNR 100 "$data/models/nyxbind/CTCFL/DeepSNR.pth"
family DAEDNet 100 "$data/models/nyxbind/CTCFL/D_AEDNet.pth"
family DeepBind 101 "$data/models/deepbind/CTCFL.D00753.001.h5"
family SequentialCnn 1000 "$cnn/weights.h5" --keras-json "$cnn/model.json"
family BPNet 2114 "$data/models/bpnet_ctcf_k562/model.safetensors"
