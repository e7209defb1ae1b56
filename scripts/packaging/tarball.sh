#!/usr/bin/env bash
# Makes nyx-VERSION-ARCH-linux.tar.gz: the executables, man pages, completions and documents under usr/, as a Debian
# package would have them; `tar -C / -xf` installs it, `tar -C DIR -xf` gives a directory to put on the path. The same
# commit gives the same bytes.
#
#     scripts/packaging/tarball.sh [DIRECTORY-OF-EXECUTABLES]     default: a build with --profile dist
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# = 1 ]; then
    built=$(realpath "$1")
else
    cargo build --locked --profile dist --bins
    built=$PWD/target/dist
fi
version=$("$built/nyx" --version | cut -d' ' -f2)
name=nyx-$version-$(uname -m)-linux
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/bin" "$root/usr/share/doc/nyx" "$root/usr/share/bash-completion/completions" \
    "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
for executable in src/bin/*; do
    install -m 755 "$built/$(basename "$executable" .rs)" "$root/usr/bin"
done
PATH=$root/usr/bin:$PATH
nyx man "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*.1
nyx completions bash > "$root/usr/share/bash-completion/completions/nyx"
for executable in "$root"/usr/bin/nyx-*; do # bash-completion loads a file by the command's name
    ln -s nyx "$root/usr/share/bash-completion/completions/$(basename "$executable")"
done
nyx completions zsh > "$root/usr/share/zsh/vendor-completions/_nyx"
nyx completions fish > "$root/usr/share/fish/vendor_completions.d/nyx.fish"
cp README.md CHANGELOG.md "$root/usr/share/doc/nyx"
mkdir -p target/packages
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
    -C "$root" -cf - usr | gzip -n > "target/packages/$name.tar.gz"
(cd target/packages && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
