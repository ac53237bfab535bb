# The verbs of this repository; `just` alone lists them. What must hold before a change lands is `.ci/run`.

_default:
    @just --list

# Does everything compile?
check:
    cargo check --workspace --all-targets

# All tests; no network, GPU or downloaded weights needed.
test:
    cargo test --release --workspace

# Rewrites fixtures/ from the reference libraries. Needs Python with torch, torchvision, timm, pillow and
# safetensors, open_clip_torch, fastai; building and testing need none of it. `formula.py` is a module of the others, not a script.
# With `--all`, or names of networks: compares them with PyTorch one by one and, with `--all`, writes docs/parity.md.
golden *networks:
    #!/usr/bin/env bash
    set -euo pipefail
    if [ -n "{{networks}}" ]; then
      python tools/golden/sweep.py {{networks}}
      exec cargo run --release -p headstart --example parity -- {{networks}}
    fi
    python tools/golden/checkpoints.py
    python tools/golden/models.py
    python tools/golden/preprocess.py
    python tools/golden/training.py
    python tools/golden/tasks.py
    python tools/golden/lora.py
    python tools/golden/clip.py
    python tools/golden/transfer.py "$(python -c "import fastai.callback.schedule as s; print(s.__file__)")"
    python tools/golden/audit.py
    python tools/golden/fine_tune.py

# The kernels' tests under AddressSanitizer, at each instruction set. The flag is not stable yet, hence the variable.
sanitize:
    #!/usr/bin/env bash
    set -euo pipefail
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize
    # It brings its own allocator, of which the C library counts nothing.
    for level in scalar avx2 avx512; do
      HEADSTART_CPU=$level cargo test --release --tests -p headstart-kernels --target x86_64-unknown-linux-gnu -- --skip the_allocator_s_count
    done

# Speed of the kernels; arguments and reading: docs/performance.md.
bench:
    cargo run --release -p headstart-kernels --example layers
    cargo run --release -p headstart-kernels --example time_memory

# The main job on drawn pictures and the built-in backbone; the page is runs/demo/report.html.
demo:
    cargo run --release -p headstart-cli -- demo

# Tests and measures on this machine's NVIDIA card: docs/gpu.md.
gpu:
    benches/gpu.sh

# Formats the sources.
fmt:
    cargo fmt --all

# Formatting and lints, as `.ci/run` checks them.
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# The library's documentation.
doc:
    cargo doc --workspace --no-deps
