#!/usr/bin/env bash
# A slice of a genome scanned whole and in shards, by `nyx run`, by Snakemake and by Snakemake on Slurm, killed on the way
# (kill -9 of everything, scancel) and started again: prints a table and fails unless every file has one digest.
#
#     scripts/workflows/check.sh [WAY:SHARDS[:kill]]...     default: each way with 1, 7 and 64 shards, killed on the way
#     scripts/workflows/check.sh short                      what the tests run
#
# The nyx commands are those on the path. Slurm (slurm-wlm) is installed and started by slurm.sh, as root; without it its
# rows are left out with a line that says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export PATH=$PATH:/usr/sbin
command -v nyx-extract >/dev/null || { echo "check.sh: no nyx-extract on the path" >&2; exit 1; }

runs=("$@")
if [ $# = 0 ]; then
    for way in run snakemake slurm; do for shards in 1 7 64; do runs+=("$way:$shards:kill"); done; done
elif [ "$1" = short ]; then
    runs=(run:3:kill snakemake:3:kill slurm:3)
fi
snakemake=$root/target/workflows/bin/snakemake
if [[ "${runs[*]}" = *s[nl]* ]]; then "$here/install.sh"; fi

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

slurm_starts() {
    [ -z "$cluster" ] || return 0
    if [ "$(id -u)" != 0 ] || ! { command -v slurmctld || command -v apt-get; } >/dev/null; then return 1; fi
    "$here/slurm.sh" start "$work/slurm" >/dev/null || return 1
    cluster=$work/slurm
    # shellcheck disable=SC1091
    source "$cluster/environment"
}

# Runs a command in a session of its own; with `kill`, everything in it is killed once some shards are done and others not.
killed() { # killed KILL DONE-FILES SHARDS COMMAND...
    local kill=$1 files=$2 shards=$3 leader done=0
    shift 3
    if [ "$kill" != kill ]; then "$@"; return; fi
    setsid "$@" & leader=$!
    while kill -0 "$leader" 2>/dev/null; do
        done=$(compgen -G "$files" | wc -l)
        if [ "$shards" = 1 ]; then sleep 0.4; break; fi
        if [ "$done" -ge $(((shards + 2) / 3)) ]; then break; fi
        sleep 0.05
    done
    [ -z "$cluster" ] || scancel --user "$(id -un)" 2>/dev/null || true
    # The session may be over already: then nothing was cut off, and the row says so.
    if kill -9 -- "-$leader" 2>/dev/null; then cut="killed at $done/$shards"; else cut="over before the kill"; fi
    wait "$leader" 2>/dev/null || true
    "$@"
}

with_run() { # KILL SHARDS
    killed "$1" 'scan.arrows.shards/*.arrows' "$2" \
        nyx run --quiet --no-pg --shards "$2" --jobs 2 -o scan.arrows "$extract | $score" >>log 2>&1
}

with_snakemake() { # KILL SHARDS [ARGUMENTS...]
    local kill=$1 shards=$2
    shift 2
    cat > config.yaml <<CONFIG
genome: ../data/genome.fa
model: ../data/model
shards: $shards
scan: { width: $WIDTH, stride: $STRIDE, region: "" }
variants: ""
hits: { peaks: "", width: 200, motifs: "", method: gradxinput }
score: { threads: 1, device: cpu, minutes: 10, memory_mb: 500 }
CONFIG
    cat > again.sh <<SCRIPT
[ ! -e .snakemake/locks ] || "$snakemake" scan.arrows -s "$here/snakemake/Snakefile" --configfile config.yaml --unlock --cores 1
exec "$snakemake" scan.arrows -s "$here/snakemake/Snakefile" --configfile config.yaml --rerun-incomplete --quiet all $*
SCRIPT
    killed "$kill" 'shards/*.arrows' "$shards" bash again.sh >>log 2>&1
}

with_snakemake_alone() { # KILL SHARDS
    with_snakemake "$1" "$2" --cores 2
}

with_slurm() { # KILL SHARDS
    with_snakemake "$1" "$2" --executor slurm --jobs 4 --slurm-no-account --slurm-status-command squeue \
        --slurm-init-seconds-before-status-checks 3 --seconds-between-status-checks 3 --latency-wait 30 \
        --default-resources slurm_partition=main mem_mb=500 runtime=10 \
        --groups shard=shards --group-components "shards=$((($2 + 3) / 4))"
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
    if [ "$way" = slurm ] && ! slurm_starts; then
        echo "skipped: slurm $shards: needs root, and slurm-wlm installed or apt-get"
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
