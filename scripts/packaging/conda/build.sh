#!/usr/bin/env bash
# What conda-build runs in the source directory, with PREFIX where the package grows.
set -euxo pipefail
export CARGO_HOME="${CARGO_HOME:-$SRC_DIR/.cargo}" CARGO_PROFILE_RELEASE_STRIP=symbols
cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --no-track --locked --verbose --root "$PREFIX" --path .
"$PREFIX/bin/nyx" man "$PREFIX/share/man/man1"
mkdir -p "$PREFIX/share/bash-completion/completions" "$PREFIX/share/zsh/site-functions" "$PREFIX/share/fish/vendor_completions.d"
"$PREFIX/bin/nyx" completions bash > "$PREFIX/share/bash-completion/completions/nyx"
"$PREFIX/bin/nyx" completions zsh > "$PREFIX/share/zsh/site-functions/_nyx"
"$PREFIX/bin/nyx" completions fish > "$PREFIX/share/fish/vendor_completions.d/nyx.fish"
