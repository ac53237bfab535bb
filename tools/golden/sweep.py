"""Writes what PyTorch computes for the networks of the zoo, a file each, to target/parity (or $HEADSTART_PARITY).

Run    python tools/golden/sweep.py --all          every network without a file there yet
       python tools/golden/sweep.py NAME [NAME]    those named, anew

Each network has a process of its own, so that memory does not add up. `just golden --all` then compares.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = Path(os.environ.get("HEADSTART_PARITY", ROOT / "target" / "parity"))


def names():
    models = ROOT / "fixtures" / "models"
    return [*json.loads((models / "goldens.json").read_text()), *json.loads((models / "on_demand.json").read_text())]


def main():
    asked = sys.argv[1:]
    if not asked:
        sys.exit(__doc__)
    wanted = [n for n in names() if not (OUT / f"{n}.json").exists()] if asked == ["--all"] else asked
    failed = []
    for i, name in enumerate(wanted):
        started = time.monotonic()
        done = subprocess.run([sys.executable, HERE / "models.py", name, OUT / f"{name}.json"])
        print(f"{i + 1}/{len(wanted)} {name} {time.monotonic() - started:.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
