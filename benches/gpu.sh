#!/usr/bin/env bash
# Tests and measures Headstart on the NVIDIA card of this machine, against PyTorch in turns; a Markdown table on stdout.
# Usage: benches/gpu.sh [ROW ...]      ROW: WORK/MODEL/BATCH/PRECISION, as step/resnet50/64/bf16
#
# PYTHON   a Python with torch (CUDA), torchvision and timm     (python3)
# DEVICE   which card: cuda, cuda:1, ...                        (cuda)
# ROUNDS   measured rounds of each row                          (20)
# COMPILE  1 measures torch.compile as well                     (1)
# TESTS    0 leaves the test suite out                          (1)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} device=${DEVICE:-cuda}
fail() {
  echo "benches/gpu.sh: $*" >&2
  exit 2
}
command -v nvidia-smi >/dev/null || fail "there is no nvidia-smi, so no NVIDIA driver: this needs a machine with a GPU"
nvidia-smi -L >&2 || fail "nvidia-smi sees no card"
command -v "$python" >/dev/null || fail "no \`$python\`: name a Python with torch by PYTHON="
"$python" benches/peer/gpu.py --check || fail "PyTorch cannot use the card; \`$python -m pip install torch torchvision timm\`"

# One set of features for all, so that the dependencies are built once.
features="--release --workspace --features headstart-cli/cuda"
cargo build $features
bin=target/release/headstart
if [ "${TESTS:-1}" = 1 ]; then
  # With the variable, tests/device.rs fails where the device cannot be opened.
  HEADSTART_TEST_DEVICE=$device cargo test $features >&2
fi
if [ $# = 0 ]; then
  set --
  for model in resnet18 resnet50 vit_small_patch16_224; do
    for work in forward step; do
      for precision in bf16 f32; do set -- "$@" "$work/$model/64/$precision"; done
    done
  done
fi
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader
exec "$python" benches/peer/gpu.py "$bin" "$device" "$@"
