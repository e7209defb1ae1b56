#!/usr/bin/env bash
# From nothing to a first result, as a new user has it: a clean Debian root (debootstrap, nothing but the base system) and two
# commands. Prints the seconds of each. As root.
#
#     scripts/packaging/coldstart.sh [TARBALL]        tar, nyx demo; default: the tarball of tarball.sh in target/packages
#     scripts/packaging/coldstart.sh --source [test]  a checkout and Rust: scripts/demo.sh, and scripts/test.sh with `test`
#
# With --source, this machine's Rust is copied into the root instead of downloaded; all else (a C compiler, crates, Python
# packages) comes from where it comes for everyone. Nothing of the environment goes in but certificates and name servers.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "coldstart.sh: debootstrap and chroot need root" >&2; exit 1; }
mode=tarball
if [ "${1:-}" = --source ]; then
    mode=source
else
    tarball=$(realpath "${1:-$(ls -t target/packages/nyx-*.tar.gz | head -n 1)}")
fi
scripts/workflows/install.sh root
export PATH=$PATH:/usr/sbin
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# Runs a command in the root and prints its seconds. /proc and /dev are there in a mount namespace that ends with it, so that
# nothing of this machine is under the directory that is removed at the end.
timed() { # timed COMMAND
    local began
    began=$(date +%s.%N)
    unshare --mount --propagation private bash -c '
        mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" /usr/bin/env -i \
            PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt \
            PIP_CERT=/etc/ssl/certs/ca-certificates.crt bash -c "cd /root && $2"
    ' - "$root" "$1" >"$root/root/log" 2>&1 || { tail -n 40 "$root/root/log" >&2; exit 1; }
    printf '%8.1f s   %s\n' "$(awk -v began="$began" -v ended="$(date +%s.%N)" 'BEGIN { print ended - began }')" "$1"
}

began=$(date +%s)
debootstrap --variant=minbase bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$root.log" ||
    { tail -n 20 "$root.log" >&2; exit 1; }
rm -f "$root.log"
echo "a clean Debian $(cat "$root/etc/debian_version"), $(du -sm "$root" | cut -f1) MB, made in $(($(date +%s) - began)) s; load average $(cut -d' ' -f1 /proc/loadavg)"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
if [ $mode = tarball ]; then
    cp "$tarball" "$root/root/nyx.tar.gz"
    echo "the tarball has $(($(stat -c %s "$tarball") / 1048576)) MB"
    timed "tar -C / -xf nyx.tar.gz"
    timed "nyx demo"
    tail -n 8 "$root/root/log"
    test -s "$root/root/nyx-demo/report.html"
    exit
fi

rust=$(rustc --print sysroot)
mkdir -p "$root/opt/rust" "$root/root/nyx" "$root/etc/ssl/certs"
cp -a "$rust/bin" "$rust/lib" "$rust/libexec" "$root/opt/rust"
# cargo fetches over TLS before anything has installed certificates; rustup's would be there.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs"
git archive HEAD | tar -C "$root/root/nyx" -xf -
timed "cd nyx && scripts/demo.sh"
grep -v -E '^ *(Compiling|Downloaded|Downloading) ' "$root/root/log" | tail -n 8
test -s "$root/root/nyx/nyx-demo/report.html"
if [ "${2:-}" = test ]; then
    timed "cd nyx && scripts/test.sh"
    grep '^test result' "$root/root/log"
fi
