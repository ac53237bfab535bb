#!/usr/bin/env bash
# The whole job against PyTorch, seed by seed in turn: top-1 and seconds of a fit, then of the peer's script.
# Usage: benches/peer/job.sh DATA WEIGHTS RECIPE [FIT OPTION ...]    DATA/{train,val}/CLASS/*, WEIGHTS of a resnet18
set -euo pipefail
data=$1 weights=$2 recipe=$3
shift 3
bin=${HEADSTART:-target/release/headstart}
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
for seed in ${SEEDS:-0 1 2}; do
  out=$(mktemp -d)
  json=$(env -u MALLOC_MMAP_THRESHOLD_ -u MALLOC_TRIM_THRESHOLD_ -u MALLOC_TOP_PAD_ "$bin" fit "$data" \
    --model resnet18 --weights "$weights" --recipe "$recipe" --seed "$seed" --out "$out" --json --quiet "$@")
  rm -rf "$out"
  ours="$(grep -o '"top1":[0-9.e-]*' <<<"$json" | head -n 1 | cut -d: -f2) $(grep -o '"seconds":[0-9.e-]*' <<<"$json" | tail -n 1 | cut -d: -f2)"
  echo "seed $seed: headstart $ours; torch $("${PYTHON:-python3}" "$(dirname "$0")/job.py" "$data" "$weights" "$recipe" "$seed")"
done
