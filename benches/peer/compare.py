"""Times Headstart and PyTorch on the same work in alternation: a round runs each side once.

Usage: compare.py HEADSTART ROW...        ROW: WORK/MODEL[@SIDE]/BATCH[/PRECISION[/PEER_PRECISION]]
       compare.py HEADSTART decode=FOLDER

Each side is a process of its own that works only when asked and never while another does. PyTorch runs channels
last, once with the allocator settings that keep large buffers and once with the defaults. The table has medians in
ms, pictures/s, and how many times faster Headstart is than either.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "15"))
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


class Side:
    """A process that answers each line with the seconds a run took."""

    def __init__(self, command, extra=None):
        env = {**os.environ, **(extra or {})}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def once(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(headstart, row):
    worker = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    if row.startswith("decode="):
        folder = row.removeprefix("decode=")
        ours = [headstart, "bench", "decode", "--data", folder, "--paced"]
        theirs = [*worker, "decode", folder, "32", "f32"]
        batch = 0
    else:
        work, model, batch, *precision = row.split("/")
        own, peer = (precision + ["f32", "f32"])[:2] if len(precision) != 1 else precision * 2
        name, _, side = model.partition("@")
        ours = [headstart, "bench", work, "--model", name, "--size", side or "224", "--batch", batch, "--paced"]
        if own != "f32":
            ours += ["--precision", own]
        theirs = [*worker, "forward" if work == "prefix" else work, model, batch, peer]
    sides = [Side(ours), Side(theirs, TUNED), Side(theirs)]
    times = [[], [], []]
    for round in range(ROUNDS + 2):
        for side, kept in zip(sides, times):
            seconds = side.once()
            if round >= 2:
                kept.append(seconds)
            # Spinning threads of one side must not share the cores with the next.
            time.sleep(0.1)
    for side in sides:
        side.close()
    ours, tuned, default = (statistics.median(t) for t in times)
    rate = f"{int(batch) / ours:.1f} | {int(batch) / tuned:.1f}" if int(batch) else "- | -"
    print(
        f"| {row} | {ours * 1e3:.1f} | {tuned * 1e3:.1f} | {default * 1e3:.1f} | {rate} "
        f"| {tuned / ours:.2f} | {default / ours:.2f} |",
        flush=True,
    )


def main():
    headstart, *rows = sys.argv[1:]
    print("| work | headstart ms | torch ms | torch, default malloc ms | img/s | torch img/s | ratio | to default |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        compare(headstart, row)


if __name__ == "__main__":
    main()
