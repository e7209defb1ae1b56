#!/usr/bin/env bash
# Opens the pages that people look at in headless Chromium, without a network, and leaves pictures of them: the demo's report
# and, where MultiQC is installed (scripts/workflows/install.sh), its report of the commands. Fails when a page has no text.
#
#     scripts/screenshots.sh DIRECTORY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?a directory for the pictures}"
out=$(realpath "$1")
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "screenshots.sh: no Chromium" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

picture() { # picture PAGE NAME TEXT-THAT-MUST-BE-THERE
    local flags=(--headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile"
        --host-resolver-rules='MAP * ~NOTFOUND' --virtual-time-budget=8000 --window-size=1300,2200)
    "$browser" "${flags[@]}" --dump-dom "file://$1" > "$work/dom.html" 2>/dev/null
    grep -q "$3" "$work/dom.html" || { echo "screenshots.sh: $2: no \`$3\` on the page" >&2; exit 1; }
    "$browser" "${flags[@]}" --screenshot="$out/$2.png" "file://$1" 2>/dev/null
    echo "$out/$2.png"
}

nyx demo --outdir "$work/demo" >/dev/null 2>&1
picture "$work/demo/report.html" report GATA
if [ -x "$here/../target/workflows/bin/multiqc" ]; then
    "$here/workflows/multiqc.sh" "$work/multiqc" >/dev/null
    picture "$work/multiqc/multiqc_report.html" multiqc nyx-extract
fi
