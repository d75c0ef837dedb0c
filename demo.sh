#!/usr/bin/env bash
# The whole way on the built-in images: train a thin A, export it, measure it. Small crops and
# scales, and 1 s per latency row, keep it short.
set -euo pipefail
cd "$(dirname "$0")"
SECONDS=0
step() { printf '\n== %s\n' "$*"; "$@"; }

step python -m train --arch A --crop 64 --side 64:192 --epochs 12 --lr-drops 10,11
step vgg-export --onnx
step vgg-bench --scales 128,256,384 --latency-seconds 1

printf '\nDone in %d:%02d. The net: runs/, the ONNX file and its manifest: exported/, tables and report: results/report.html\n' \
    $((SECONDS / 60)) $((SECONDS % 60))
