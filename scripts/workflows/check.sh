#!/usr/bin/env bash
# A slice of a genome scanned whole and in shards, by `nyx run`, by Snakemake and by Snakemake on Slurm, killed on the way
# (kill -9 of everything, scancel) and started again: prints a table and fails unless every file has one digest.
#
# `rules` is the whole workflow (scan, variants, hits and all their files), `wrappers` a workflow of nothing but the wrappers:
# their files must be those of plain pipes, too.
#
#     scripts/workflows/check.sh [WAY:SHARDS[:kill]]...     default: each way with 1, 7 and 64 shards, killed on the way
#     scripts/workflows/check.sh short                      what the tests run
#
# The nyx commands are those on the path. Slurm (slurm-wlm) is installed and started by slurm.sh, as root; where it or
# Snakemake cannot be had, their rows are left out with a line that says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export PATH=$PATH:/usr/sbin
command -v nyx-extract >/dev/null || { echo "check.sh: no nyx-extract on the path" >&2; exit 1; }

runs=("$@")
if [ $# = 0 ]; then
    for way in run snakemake slurm; do for shards in 1 7 64; do runs+=("$way:$shards:kill"); done; done
    runs+=(rules:3 wrappers:2)
elif [ "$1" = short ]; then
    runs=(run:3:kill snakemake:3:kill rules:2 wrappers:2 slurm:3)
fi
snakemake=$root/target/workflows/bin/snakemake
# Nothing that hangs may hang whoever waits for this script; what is slow may be: seconds in which nothing at all changes.
seconds=${NYX_CHECK_SECONDS:-600}
if [[ "${runs[*]}" = *[ems]:* ]]; then "$here/install.sh" || true; fi

work=$(mktemp -d)
cluster=
cleanup() {
    [ -z "$cluster" ] || "$here/slurm.sh" stop "$cluster" || true
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
nyx demo --data-only --outdir data
WIDTH=${NYX_CHECK_WIDTH:-200} STRIDE=${NYX_CHECK_STRIDE:-10}
extract="nyx-extract tiles --fasta ../data/genome.fa --width $WIDTH --stride $STRIDE --no-pg"
score="nyx-score --model ../data/model --drop sequence --no-pg -@ 1"

# Starts Slurm; says why where it cannot.
slurm_starts() {
    [ -z "$cluster" ] || return 0
    [ ! -s "$work/no-slurm" ] || return 1
    if [ "$(id -u)" != 0 ]; then
        echo "needs root" > "$work/no-slurm"
    elif ! "$here/slurm.sh" start "$work/slurm" >"$work/slurm.log" 2>&1; then
        "$here/slurm.sh" stop "$work/slurm" || true
        grep '^slurm.sh: ' "$work/slurm.log" | tail -n 1 > "$work/no-slurm"
        [ -s "$work/no-slurm" ] || tail -n 1 "$work/slurm.log" > "$work/no-slurm"
    else
        cluster=$work/slurm
        # shellcheck disable=SC1091
        source "$cluster/environment"
        return 0
    fi
    return 1
}

# Says whether nothing in this directory has changed for a long time.
stalled() {
    [ -z "$(find . -newermt "$seconds seconds ago" -print -quit)" ]
}

# Runs a command in a session of its own; it is killed when it has stalled.
session() { # session COMMAND...
    setsid "$@" & leader=$!
    while kill -0 "$leader" 2>/dev/null; do
        sleep 0.3
        if stalled; then
            kill -9 -- "-$leader" 2>/dev/null || true
            echo "check.sh: nothing has happened for $seconds s: killed" >>log
            [ -z "$cluster" ] || { squeue; tail -n 20 "$cluster"/log/*.log; } >>log 2>&1
        fi
    done
    wait "$leader"
}

# Runs a command; with `kill` it and all it has started is killed once some shards are done and others not, and it runs again.
killed() { # killed KILL DONE-FILES SHARDS COMMAND...
    local kill=$1 files=$2 shards=$3 done=0
    shift 3
    if [ "$kill" != kill ]; then session "$@"; return; fi
    setsid "$@" & leader=$!
    while kill -0 "$leader" 2>/dev/null; do
        done=$(compgen -G "$files" | wc -l)
        # A shard alone is killed in the middle: when it has begun to write.
        if [ "$shards" = 1 ] && compgen -G "${files%/*}/.*.tmp" >/dev/null; then break; fi
        if [ "$shards" -gt 1 ] && [ "$done" -ge $(((shards + 2) / 3)) ]; then break; fi
        if stalled; then break; fi
        sleep 0.05
    done
    # The session may be over already: then nothing was cut off, and the row says so.
    if kill -9 -- "-$leader" 2>/dev/null; then cut="killed at $done/$shards"; else cut="over before the kill"; fi
    wait "$leader" 2>/dev/null || true
    # Jobs of a cluster are in sessions of their own, and nobody submits any more of them now.
    if [ -n "$cluster" ]; then
        scancel --user "$(id -un)" 2>/dev/null || true
        while [ -n "$(squeue --noheader 2>/dev/null)" ]; do sleep 0.2; done
    fi
    session "$@"
}

with_run() { # KILL SHARDS
    killed "$1" 'scan.arrows.shards/*.arrows' "$2" \
        nyx run --quiet --no-pg --shards "$2" --jobs 2 -o scan.arrows "$extract | $score" >>log 2>&1
}

target=scan.arrows variants='' peaks=''
with_snakemake() { # KILL SHARDS [ARGUMENTS...]
    local kill=$1 shards=$2
    shift 2
    cat > config.yaml <<CONFIG
genome: ../data/genome.fa
model: ../data/model
shards: $shards
scan: { width: $WIDTH, stride: $STRIDE, region: "" }
variants: "$variants"
hits: { peaks: "$peaks", width: 200, motifs: ../data/motifs.meme, method: gradxinput }
score: { threads: 1, device: cpu, minutes: 10, memory_mb: 500 }
CONFIG
    cat > again.sh <<SCRIPT
[ ! -e .snakemake/locks ] || "$snakemake" $target -s "$here/snakemake/Snakefile" --configfile config.yaml --unlock --cores 1
exec "$snakemake" $target -s "$here/snakemake/Snakefile" --configfile config.yaml --rerun-incomplete --quiet all $*
SCRIPT
    killed "$kill" 'shards/*.arrows' "$shards" bash again.sh >>log 2>&1
}

with_snakemake_alone() { # KILL SHARDS
    with_snakemake "$1" "$2" --cores 2
}

# Without --cores a group asks for as many cores as it has shards, to run them side by side: more than a node may have.
with_slurm() { # KILL SHARDS
    with_snakemake "$1" "$2" --executor slurm --jobs 4 --cores "$(nproc)" --slurm-no-account --slurm-status-command squeue \
        --slurm-init-seconds-before-status-checks 3 --seconds-between-status-checks 3 --latency-wait 30 \
        --default-resources slurm_partition=main mem_mb=500 runtime=10 \
        --groups shard=shards --group-components "shards=$((($2 + 3) / 4))"
}

# Makes a VCF of the demo's genome: another base in every thousandth place.
make_variants() {
    [ ! -e ../data/variants.vcf ] || return 0
    {
        printf '##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
        nyx-extract tiles -q --fasta ../data/genome.fa --width 1 --stride 1000 |
            nyx-view -q --no-pg --no-header --columns chrom,start,sequence |
            awk -v OFS='\t' '{ print $1, $2 + 1, "v" NR, $3, $3 == "A" ? "G" : "A", ".", ".", "." }'
    } > ../data/variants.vcf
}

# Makes the files of plain pipes that the whole workflow must make, too.
make_expected() {
    local data=../data
    [ ! -d "$data/expected" ] || return 0
    mkdir "$data/expected"
    nyx-extract variants --fasta $data/genome.fa --vcf $data/variants.vcf --width "$WIDTH" --no-pg -q |
        nyx-score --model $data/model --drop sequence --no-pg -q |
        nyx-view -O tsv --no-pg -q -o $data/expected/variants.tsv
    nyx-extract regions --fasta $data/genome.fa --peaks $data/peaks.narrowPeak --width 200 --no-pg -q |
        nyx-attrib --model $data/model --method gradxinput --no-pg -q |
        nyx-hits --motifs $data/motifs.meme --no-pg -q |
        nyx-view -O bed --no-pg -q -o $data/expected/hits.bed
}

with_rules() { # KILL SHARDS
    make_variants && make_expected || return 1
    local target=all variants=../data/variants.vcf peaks=../data/peaks.narrowPeak
    with_snakemake "$1" "$2" --cores 2 || return 1
    cmp variants.tsv ../data/expected/variants.tsv >> log 2>&1 || return 1
    grep -v '^#' hits.bed | cmp - ../data/expected/hits.bed >> log 2>&1 || return 1
    nyx verify --quiet scan.arrows scan.bw scan.parquet variants.arrows hits.arrows hits.bed >> log 2>&1
}

with_wrappers() { # KILL SHARDS
    make_variants && make_expected || return 1
    session "$snakemake" -s "$here/snakemake/wrappers/Snakefile" --cores 2 --quiet all \
        --config data=../data shards="$2" width="$WIDTH" stride="$STRIDE" >> log 2>&1 || return 1
    cmp hits.bed ../data/expected/hits.bed >> log 2>&1
}

mkdir whole && cd whole
$extract | $score | nyx-merge -q --no-pg - -o scan.arrows 2>/dev/null
expected=$(sha256sum < scan.arrows | cut -c 1-16)
rows=$(nyx-view -q --columns region --no-header scan.arrows | grep -vc '^#')
cd ..
printf '%-10s %6s  %-22s %8s  %s\n' way shards interrupted seconds digest
printf '%-10s %6s  %-22s %8s  %s\n' pipe - - - "$expected ($rows windows)"
status=0
for run in "${runs[@]}"; do
    IFS=: read -r way shards kill <<<"$run"
    if [ "$way" != run ] && [ ! -x "$snakemake" ]; then
        echo "skipped: $way $shards: no Snakemake (scripts/workflows/install.sh installs it)"
        continue
    fi
    if [ "$way" = slurm ] && ! slurm_starts; then
        echo "skipped: slurm $shards: $(cat "$work/no-slurm")"
        continue
    fi
    mkdir "$way-$shards" && cd "$way-$shards"
    cut=- began=$(date +%s.%N)
    how=with_$way
    [ "$way" != snakemake ] || how=with_snakemake_alone
    if "$how" "${kill:-}" "$shards"; then
        digest=$(sha256sum < scan.arrows | cut -c 1-16)
    else
        digest=failed
        tail -n 20 log >&2
    fi
    [ "$digest" = "$expected" ] || status=1
    printf '%-10s %6s  %-22s %8.1f  %s\n' "$way" "$shards" "$cut" "$(echo "$(date +%s.%N) - $began" | awk '{ print $1 - $3 }')" "$digest"
    cd ..
done
[ $status = 0 ] || echo "check.sh: not one digest" >&2
exit $status
