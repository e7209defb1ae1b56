#!/usr/bin/env bash
# Installs what the workflows need besides nyx: Snakemake with its Slurm plugin, Dask and MultiQC in a Python
# environment of their own (target/workflows), and with `slurm` Debian's Slurm (slurm-wlm, munge), with `root` debootstrap.
# Does nothing that is done already.
#
#     scripts/workflows/install.sh [slurm] [root]
set -euo pipefail
cd "$(dirname "$0")/../.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "install.sh: needs root to install: $*" >&2
        return 1
    fi
}

need() { # need COMMAND PACKAGE...
    if command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; then return; fi
    shift
    if ! command -v apt-get >/dev/null; then
        echo "install.sh: please install: $*" >&2
        return 1
    fi
    as_root apt-get -o DPkg::Lock::Timeout=300 -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y install --no-install-recommends "$@" >/dev/null
}

for wanted in "$@"; do
    case $wanted in
        # Debian starts no daemon where policy-rc.d forbids it or no init runs: slurm.sh starts its own.
        slurm)
            # What needs a cluster says that there is none; everything else goes on.
            { need slurmctld slurm-wlm munge && need munged munge; } || echo "install.sh: without Slurm" >&2
            ;;
        root) need debootstrap debootstrap ;;
        *) echo "install.sh: slurm or root, not $wanted" >&2; exit 2 ;;
    esac
done

need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || need no-such-command python3-venv
venv=target/workflows
if ! cmp -s scripts/workflows/requirements.txt "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/workflows/requirements.txt
    cp scripts/workflows/requirements.txt "$venv/installed.txt"
fi
