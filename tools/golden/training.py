"""Writes fixtures/models/training.json: twenty steps of headstart_nano in PyTorch.

Run    python tools/golden/training.py     (needs torch)
Used by crates/headstart/tests/train_parity.rs. Pictures and first weights come from formula.py. Decay acts
on tensors of more than one axis, as Headstart does.
"""
import json
from pathlib import Path

import torch
from torch import nn

from formula import Nano, fill, uniform

OUT = Path(__file__).resolve().parents[2] / "fixtures" / "models" / "training.json"
PICTURES, CLASSES, STEPS, GAIN = 8, 5, 20, 3.0
RUNNING = ["bn1.running_mean", "bn1.running_var", "layer2.0.bn2.running_mean", "layer2.0.bn2.running_var"]
SPECS = {
    "sgd": ("sgd(momentum=0.9, weight_decay=0.0001)", 0.005),
    "adamw": ("adamw(weight_decay=0.01)", 0.001),
}


def run(kind, lr, live, dtype=torch.float32):
    net = fill(Nano(CLASSES), GAIN).to(dtype).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and not live:
            module.eval()
    params = list(net.parameters())
    groups = [{"params": [p for p in params if p.ndim > 1]}, {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0}]
    if kind == "sgd":
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=1e-4)
    else:
        optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.01)
    x = uniform("input", (PICTURES, 3, 32, 32), -2.0, 2.0).to(dtype)
    labels = torch.arange(PICTURES) % CLASSES
    losses = []
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state = net.state_dict()
    return losses, {name: [float(f"{v:.8g}") for v in state[name][:16].tolist()] for name in RUNNING}


def main():
    torch.set_num_threads(1)
    runs = []
    for kind, (spec, lr) in SPECS.items():
        for live in (True, False):
            losses, running = run(kind, lr, live)
            exact, _ = run(kind, lr, live, torch.float64)
            noise = max(abs(a - b) / b for a, b in zip(losses, exact))
            print(kind, "live" if live else "frozen", [round(v, 4) for v in losses], f"f32 against f64: {noise:.1e}")
            runs.append({"optimizer": spec, "lr": lr, "live": live, "losses": losses, "running": running})
    case = {"pictures": PICTURES, "classes": CLASSES, "gain": GAIN, "size": 32, "runs": runs}
    OUT.write_text(json.dumps(case) + "\n")


main()
