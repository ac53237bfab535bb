#!/usr/bin/env bash
# Makes the tables of docs/performance.md: Headstart against PyTorch in alternation. Needs Python 3.10 or newer.
# Usage: benches/peer/run.sh [PHOTOS]      PHOTOS: a folder for the decoding row; ROUNDS=15 by default
set -euo pipefail
here=$(dirname "$0")
bin=${HEADSTART:-target/release/headstart}
env=${PEER_ENV:-${TMPDIR:-/tmp}/headstart-peer}
if [ ! -x "$env/bin/python" ]; then
  python3 -m venv "$env"
  "$env/bin/pip" install --quiet torch torchvision timm safetensors
fi
decode=${1:+decode=$1}
"$env/bin/python" "$here/compare.py" "$bin" \
  forward/resnet18/16 forward/resnet18/32 forward/resnet34/16 forward/vgg16/16 \
  forward/resnet50/16 forward/resnet50/32 forward/tf_mobilenetv2_100/16 \
  forward/vit_small_patch16_224/16 forward/convnext_tiny/16 forward/efficientnet_b0/16 \
  forward/resnet18/16/bf16 forward/resnet50/16/bf16 prefix/resnet18/16/int8/bf16 prefix/resnet50/16/int8/bf16 \
  step/resnet18/16 step/resnet18/32 step/resnet50/16 step/vit_small_patch16_224/16 \
  step/resnet18/16/bf16 step/resnet50/16/bf16 $decode
