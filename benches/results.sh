#!/usr/bin/env bash
# Makes the results table of README.md: three seeds of each recipe on real photos.
# Usage: benches/results.sh ASSETS [SET/MODEL/RECIPE ...]     rows go to stdout as Markdown
set -euo pipefail
assets=$1
shift
bin=${HEADSTART:-target/release/headstart}
rows=${*:-"hymenoptera/resnet18/head hymenoptera/resnet18/finetune hymenoptera/resnet18/scratch
  hymenoptera/tf_mobilenetv2_100/head hymenoptera/tf_mobilenetv2_100/finetune hymenoptera/tf_mobilenetv2_100/scratch
  flowers5_224/resnet18/head flowers5_224/resnet18/finetune flowers5_224/resnet18/scratch"}
declare -A files=(
  [resnet18]=resnet18_in1k_killthebits_f16w.safetensors
  [tf_mobilenetv2_100]=mobilenetv2_100_in1k_tf2ptq.safetensors
)
number() { grep -o "\"$1\":[0-9.e-]*" | tail -n 1 | cut -d: -f2; }
for row in $rows; do
  IFS=/ read -r set model recipe <<<"$row"
  scores=() times=()
  for seed in ${SEEDS:-0 1 2}; do
    out=$(mktemp -d)
    # Training from scratch takes no weights, and says so when given some.
    weights=(--weights "$assets/weights/${files[$model]}")
    if [ "$recipe" = scratch ]; then weights=(); fi
    json=$("$bin" fit "$assets/data/$set" --model "$model" "${weights[@]}" \
      --recipe "$recipe" --seed "$seed" --out "$out" --json --quiet ${EXTRA:-})
    scores+=("$(grep -o '"top1":[0-9.e-]*' <<<"$json" | head -n 1 | cut -d: -f2)")
    times+=("$(number seconds <<<"$json")")
    rm -rf "$out"
  done
  printf '%s\n' "${scores[@]}" "${times[@]}" | awk -v set="$set" -v model="$model" -v recipe="$recipe" -v n="${#scores[@]}" '
    NR <= n { s += $1; if (NR == 1 || $1 < lo) lo = $1; if (NR == 1 || $1 > hi) hi = $1; next }
    { t += $1 }
    END { printf "| %s | %s | %s | %.3f (%.3f–%.3f) | %.0f s |\n", set, model, recipe, s / n, lo, hi, t / n }'
done
