#!/usr/bin/env bash
# The whole way on the built-in images: train a thin A, export it, measure it.
set -euo pipefail
cd "$(dirname "$0")"
SECONDS=0
step() { printf '\n== %s\n' "$*"; "$@"; }

step python -m train --arch A
step vgg-export --onnx
step vgg-bench --scales 256,384,512

printf '\nDone in %d:%02d. The net: runs/, the ONNX file and its manifest: exported/, tables and report: results/report.html\n' \
    $((SECONDS / 60)) $((SECONDS % 60))
