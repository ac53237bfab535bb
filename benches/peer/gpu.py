"""Times Headstart and PyTorch on one NVIDIA card in alternation: a round runs each side once.

Usage: gpu.py HEADSTART DEVICE ROW...     ROW: WORK/MODEL/BATCH/PRECISION     WORK: forward or step
       gpu.py --check                     says whether PyTorch can use a card
       gpu.py --worker DEVICE ROW MODE    PyTorch's side: a run for each line on stdin; MODE: eager or compiled

PyTorch runs channels last with cuDNN's own search for the fastest algorithm, bf16 by autocast, f32 with its default
settings (TF32 in convolutions, not in matrix products). Inputs are on the card; a run ends when the card is done. The
table has medians in ms, pictures/s, and how many times faster Headstart is. COMPILE=0 leaves torch.compile out, ROUNDS
sets how many rounds count, WARM how many before them do not.
"""

import os
import statistics
import subprocess
import sys
import time

ROUNDS = int(os.environ.get("ROUNDS", "20"))
# Autotuning and compilation happen in the first runs.
WARM = int(os.environ.get("WARM", "10"))
COMPILE = os.environ.get("COMPILE", "1") == "1"
CLASSES = 1000


def check():
    import timm  # noqa: F401
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch.cuda.is_available() is false")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}", file=sys.stderr)


def worker(device, row, mode):
    import timm
    import torch

    work, model, batch, precision = row.split("/")
    batch, device = int(batch), torch.device(device)
    torch.backends.cudnn.benchmark = True
    net = timm.create_model(model, num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    x = torch.rand(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(batch, device=device) * 37 % CLASSES
    amp = torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16")
    net = net.train() if work == "step" else net.eval()
    run_net = torch.compile(net) if mode == "compiled" else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def forward():
        with torch.inference_mode(), amp:
            run_net(x).float().cpu()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with amp:
            loss = torch.nn.functional.cross_entropy(run_net(x), y)
        loss.backward()
        optimizer.step()
        loss.item()

    run = {"forward": forward, "step": step}[work]
    for _ in sys.stdin:
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        print(time.perf_counter() - started, flush=True)


class Side:
    """A process that answers each line with the seconds a run took."""

    def __init__(self, name, command):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def once(self, counts):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with exit code {self.process.wait()}")
        if counts:
            self.times.append(float(line))

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        return statistics.median(self.times)


def compare(headstart, device, row):
    work, model, batch, precision = row.split("/")
    ours = [headstart, "bench", work, "--model", model, "--batch", batch, "--precision", precision]
    theirs = [sys.executable, __file__, "--worker", device, row]
    sides = [Side("headstart", [*ours, "--device", device, "--paced"]), Side("torch", [*theirs, "eager"])]
    if COMPILE:
        sides.append(Side("torch.compile", [*theirs, "compiled"]))
    for round in range(WARM + ROUNDS):
        for side in sides:
            side.once(round >= WARM)
    ours, *theirs = [side.close() for side in sides]
    cells = [f"{ours * 1e3:.2f}", f"{int(batch) / ours:.0f}"]
    for peer in theirs:
        cells += [f"{peer * 1e3:.2f}", f"{int(batch) / peer:.0f}", f"{peer / ours:.2f}"]
    print(f"| {row} | {' | '.join(cells)} |", flush=True)


def main():
    if sys.argv[1:2] == ["--check"]:
        return check()
    if sys.argv[1:2] == ["--worker"]:
        return worker(*sys.argv[2:])
    headstart, device, *rows = sys.argv[1:]
    sides = ["torch AMP", "torch.compile"][: 2 if COMPILE else 1]
    head = ["work", "headstart ms", "img/s"] + [c for s in sides for c in (f"{s} ms", "img/s", "ratio")]
    print(f"| {' | '.join(head)} |")
    print("|---" + "|---:" * (len(head) - 1) + "|")
    for row in rows:
        compare(headstart, device, row)


if __name__ == "__main__":
    main()
