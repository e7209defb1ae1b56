#!/usr/bin/env bash
# From nothing to a first result, as a new user has it: a clean Debian root (debootstrap, nothing but the base system), the
# tarball, two commands. Prints the seconds of each. As root.
#
#     scripts/packaging/coldstart.sh [TARBALL]     default: the one of tarball.sh in target/packages
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "coldstart.sh: debootstrap and chroot need root" >&2; exit 1; }
tarball=$(realpath "${1:-$(ls -t target/packages/nyx-*.tar.gz | head -n 1)}")
scripts/workflows/install.sh root
export PATH=$PATH:/usr/sbin
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >/dev/null
cp "$tarball" "$root/root/nyx.tar.gz"

timed() { # timed COMMAND: in the root, with nothing of this environment
    local began
    began=$(date +%s.%N)
    chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        bash -c "cd /root && $1" >"$root/root/log" 2>&1 || { cat "$root/root/log" >&2; exit 1; }
    printf '%8.1f s   %s\n' "$(awk -v began="$began" -v ended="$(date +%s.%N)" 'BEGIN { print ended - began }')" "$1"
}

echo "a clean Debian $(cat "$root/etc/debian_version"), $(du -sm "$root" | cut -f1) MB; the tarball has $(($(stat -c %s "$tarball") / 1048576)) MB"
timed "tar -C / -xf nyx.tar.gz"
timed "nyx demo"
tail -n 8 "$root/root/log"
test -s "$root/root/nyx-demo/report.html"
