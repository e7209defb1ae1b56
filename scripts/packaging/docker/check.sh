#!/usr/bin/env bash
# Builds the image by its Dockerfile and runs it, without Docker's daemon and without a registry: buildah builds, and the two base
# images are made here of a clean Debian (debootstrap). The one with Rust has a cargo that installs the executables of a directory
# instead of compiling them; everything else is done as written. As root.
#
#     scripts/packaging/docker/check.sh DIRECTORY-OF-EXECUTABLES
set -euo pipefail
built=$(realpath "${1:?a directory of executables, as target/release}")
cd "$(dirname "$0")/../../.."
export PATH=$PATH:/usr/sbin
command -v buildah >/dev/null || { echo "check.sh: please install buildah" >&2; exit 1; }
scripts/workflows/install.sh root
work=$(mktemp -d)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
buildah() { command buildah --root "$work/store" --runroot "$work/run" "$@"; }
cleanup() {
    buildah rm --all >/dev/null 2>&1 || true
    umount -R "$work/store" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# image NAME FROM DIRECTORY: an image with what is in a directory on top of another image.
image() {
    local container
    container=$(buildah from --pull-never "$2")
    buildah add --quiet "$container" "$3" / >/dev/null
    buildah commit --quiet --rm "$container" "$1" >/dev/null
}

debootstrap --variant=minbase bookworm "$work/debian" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" > "$work/log" ||
    { tail -n 20 "$work/log" >&2; exit 1; }
image docker.io/library/debian:bookworm-slim scratch "$work/debian"
mkdir -p "$work/rust/usr/local/bin" "$work/rust/opt/built"
for executable in src/bin/*; do
    install "$built/$(basename "$executable" .rs)" "$work/rust/opt/built"
done
cat > "$work/rust/usr/local/bin/cargo" <<'CARGO'
#!/bin/bash
set -euo pipefail
[ "$1" = install ] && [ -e Cargo.lock ] || { echo "cargo: not $*" >&2; exit 1; }
while [ "$1" != --root ]; do shift; done
mkdir -p "$2/bin"
cp /opt/built/* "$2/bin"
CARGO
chmod +x "$work/rust/usr/local/bin/cargo"
image docker.io/library/rust:1.95-bookworm docker.io/library/debian:bookworm-slim "$work/rust"

mkdir "$work/context"
git archive HEAD | tar -C "$work/context" -xf -
buildah bud --quiet --pull-never --network host -f "$work/context/scripts/packaging/docker/Dockerfile" -t nyx:check "$work/context" \
    > "$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
container=$(buildah from --pull-never nyx:check)
buildah inspect --format '{{.OCIv1.Config.Cmd}} in {{.OCIv1.Config.WorkingDir}}' nyx:check
for command in "nyx doctor" "nyx demo" "ps --version" "test -s /data/nyx-demo/report.html -a -s /usr/local/share/man/man1/nyx.1"; do
    # shellcheck disable=SC2086
    buildah run "$container" -- $command > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    echo "ok: $command"
done
