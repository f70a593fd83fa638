#!/usr/bin/env bash
# Checks everything, cheapest first: formatting, lints, then all tests, those on real servers last.
# Needs a Debian 12 machine with Rust; installs what else is missing. Run as root: the lab makes
# network namespaces. Usage: tests/run.sh [filter for the tests]
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }

say "tools"
deploy/install-tools.sh --build
command -v cargo >/dev/null || { echo "no cargo: install Rust with rustup" >&2; exit 1; }

say "format and lints"
rustup component list --installed 2>/dev/null | grep -q rustfmt \
    || rustup component add rustfmt clippy >/dev/null 2>&1 || true
cargo fmt --all --check
cargo clippy --quiet --workspace --all-targets -- -D warnings

say "build"
cargo build --quiet --workspace --all-targets

say "the lab's servers"
"${CARGO_TARGET_DIR:-target}/debug/conclave-lab" install

say "tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace --no-fail-fast ${1:+"$1"}
else
    # One lab at a time: a two-core machine cannot give three servers and three managers more.
    cargo test --quiet --workspace --no-fail-fast -- --test-threads=1 ${1:+"$1"}
fi
say "all checks passed"
