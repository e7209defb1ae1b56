#!/usr/bin/env bash
# How completely contributions share out what a logit differs from that of a background, and how near integrated gradients of
# few steps are to those of many: of each family DeepLIFT's error, then for a few numbers of steps the error and the distance
# Σ|c − c∞| / Σ|c∞| to the contributions c∞ of the finest, and last what the default settings come to.
# Usage: benches/completeness.sh DATA [ROWS [FINEST]]   DATA is the folder of reference data; a release build is needed (or NYX_BIN)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=${NYX_BIN:-$here/../target/release}:$PATH
data=$(cd "$1" && pwd) rows=${2:-4} finest=${3:-1350}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

attrib() { # attrib OUTPUT MODEL FLAG...: writes contributions and repeats what the command says of its rows
    nyx-attrib --model "${@:2}" -o "$1" rows.arrows 2>&1 | sed -n 's/.*\(largest completeness error.*\)/\1/p'
}
numbers() { # numbers FILE: the contributions, a line each
    nyx-view -q --no-pg --no-header --columns contributions "$1" | tr -d '[] ' | tr ',' '\n'
}
apart() { # apart FILE FINEST
    paste <(numbers "$1") <(numbers "$2") |
        awk '{ d = $1 - $2; apart += d < 0 ? -d : d; all += $2 < 0 ? -$2 : $2 } END { printf "%.1e", apart / all }'
}
path() { # path OUTPUT STEPS
    attrib "$1" "$name" --method ig --background zero --steps "$2" --max-steps "$2"
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
    echo "$name: DeepLIFT, $(attrib c.arrows "$name" --method deeplift --background shuffle:2)"
    echo "$name: ig, $finest steps, $(path finest.arrows "$finest")"
    for steps in 5 15 50 150; do
        said=$(path c.arrows $steps)
        echo "$name: ig, $steps steps, $(apart c.arrows finest.arrows) from the finest, $said"
    done
    said=$(attrib c.arrows "$name" --method ig --background zero)
    echo "$name: ig, default, $(apart c.arrows finest.arrows) from the finest, $said"
}

cnn=$data/models/kundaje_cnn/SPI1_GM12878
family DeepSNR 100 "$data/models/nyxbind/CTCFL/DeepSNR.pth"
family DAEDNet 100 "$data/models/nyxbind/CTCFL/D_AEDNet.pth"
family DeepBind 101 "$data/models/deepbind/CTCFL.D00753.001.h5"
family SequentialCnn 1000 "$cnn/weights.h5" --keras-json "$cnn/model.json"
family BPNet 2114 "$data/models/bpnet_ctcf_k562/model.safetensors"
