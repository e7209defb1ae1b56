#!/usr/bin/env bash
# A plan and the scan it is of, one after the other: prints what was predicted, what was real and the difference.
#
#     scripts/workflows/plan.sh [PIPELINE]     default: a scan of the demo's genome at every second base
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nyx demo --data-only --outdir "$work"
pipeline=${1:-"nyx-extract tiles --fasta $work/genome.fa --width 200 --stride 2 | nyx-score --model $work/model --drop sequence -@ 1"}
nyx plan --json "$pipeline" > "$work/plan.json"
mkdir "$work/stats"
began=$(date +%s.%N)
size=$(NYX_STATS=$work/stats bash -o pipefail -c "$pipeline" 2>/dev/null | wc -c)
ended=$(date +%s.%N)
python3 - "$work" "$began" "$ended" "$size" <<'PYTHON'
import glob, json, sys

work, began, ended, size = sys.argv[1], *map(float, sys.argv[2:])
plan = json.load(open(f"{work}/plan.json"))
rows = [row for path in glob.glob(f"{work}/stats/*.json") for row in json.load(open(path))["data"].values()]
real = {
    "seconds": ended - began,
    "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
    "peak_mib": sum(row["peak_mib"] for row in rows),
    "bytes": size,
}
calibration = plan["calibration"]
print(f"{plan['windows']} windows, planned from {calibration['windows']:.0f} of them in {calibration['seconds']:.1f} s")
print(f"{'':12} {'planned':>14} {'real':>14} {'difference':>10}")
for name, value in real.items():
    print(f"{name:12} {plan[name]:14.1f} {value:14.1f} {100 * (plan[name] / value - 1):+9.1f}%")
PYTHON
