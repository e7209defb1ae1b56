#!/usr/bin/env bash
# Opens what people look at in headless Chromium, without a network, and leaves pictures: the demo's report, the heat maps of a
# saturation, the picture of a stream for notebooks, track hubs in igv.js (where npm can install it) and, where MultiQC is
# installed (scripts/workflows/install.sh), its report of the commands. Fails when a page lacks what must be on it.
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
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

picture() { # picture ADDRESS NAME TEXT-THAT-MUST-BE-THERE HEIGHT
    local flags=(--headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile"
        --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' --virtual-time-budget=12000 --window-size="1600,$4")
    "$browser" "${flags[@]}" --dump-dom "$1" > "$work/dom.html" 2>/dev/null
    grep -q "$3" "$work/dom.html" || { echo "screenshots.sh: $2: no \`$3\` on the page" >&2; exit 1; }
    "$browser" "${flags[@]}" --screenshot="$out/$2.png" "$1" 2>/dev/null
    echo "$out/$2.png"
}

# igv.js of the npm registry; says nothing where it cannot be had.
igv() {
    local folder=$here/../target/workflows/igv
    [ -s "$folder/node_modules/igv/dist/igv.min.js" ] ||
        npm install --silent --no-audit --no-fund --prefix "$folder" igv@3 >/dev/null 2>&1 || return 1
    realpath "$folder/node_modules/igv/dist/igv.min.js"
}

nyx demo --outdir "$work/demo" >/dev/null 2>&1
cd "$work/demo"
picture "file://$work/demo/report.html" report GATA 2200
nyx-extract regions -q --fasta genome.fa --peaks peaks.narrowPeak --width 200 -r demo1:1-5000 |
    nyx-extract mutate -q --span 40 --deletions | nyx-score -q --model model | nyx-view -q -O heatmap -o saturation.html
picture "file://$work/demo/saturation.html" saturation '<svg' 1000
nyx-extract regions -q --fasta genome.fa --peaks peaks.narrowPeak --width 200 |
    nyx-attrib -q --model model --method gradxinput -o contributions.arrows
{
    echo '<!DOCTYPE html><meta charset="utf-8"><body style="font-family: sans-serif">'
    nyx-view -q -O html --rows 5 contributions.arrows
} > notebook.html
picture "file://$work/demo/notebook.html" notebook 'first 5 rows' 700

if script=$(igv); then
    nyx-extract tiles -q --fasta genome.fa --width 200 --stride 10 | nyx-score -q --model model |
        nyx-view -q -O hub --value probs --genome demo -o scan
    nyx-view -q -O hub --value contributions --genome demo -o contributions contributions.arrows
    nyx-hits -q --motifs motifs.meme contributions.arrows | nyx-view -q -O hub --genome demo -o hits
    coproc serve { exec python3 "$here/serve_hubs.py" "$work/demo" "$script" demo demo1:5001-10000 scan contributions hits; }
    server=$serve_PID
    read -r address <&"${serve[0]}"
    picture "$address" hubs '<title>3 tracks</title>' 700
else
    echo "screenshots.sh: no igv.js: the hubs are left out" >&2
fi

if [ -x "$here/../target/workflows/bin/multiqc" ]; then
    "$here/workflows/multiqc.sh" "$work/multiqc" >/dev/null
    picture "file://$work/multiqc/multiqc_report.html" multiqc nyx-extract 1200
fi
