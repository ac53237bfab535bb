"""Values by formula, and headstart_nano in PyTorch: what models.py and training.py share.

The Rust twin is crates/headstart/tests/support/formula.rs. Value i of the tensor called NAME is
SplitMix64's i-th number from the state FNV-1a(NAME), its upper 24 bits as a fraction of a range that
depends on the kind of tensor.
"""
import math

import numpy as np
import torch
from torch import nn

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_str(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(h)


def uniform(name, shape, low, high):
    with np.errstate(over="ignore"):
        z = hash_str(name) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) / (1 << 24)
    return torch.from_numpy((low + (high - low) * unit).astype(np.float32)).reshape(shape)


def tensor(name, shape, gain):
    """Weights within ±sqrt(gain / fan-in); scales and variances in 0.5..1.5; shifts and means within ±0.1."""
    if len(shape) > 1:
        bound = math.sqrt(gain / math.prod(shape[1:]))
        return uniform(name, shape, -bound, bound)
    if name.endswith((".weight", ".running_var")):
        return uniform(name, shape, 0.5, 1.5)
    return uniform(name, shape, -0.1, 0.1)


def fill(net, gain):
    state = {k: tensor(k, tuple(v.shape), gain) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    return net


def keys(net):
    return sorted(k for k in net.state_dict() if not k.endswith("num_batches_tracked"))


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Nano(nn.Module):
    """headstart_nano: one basic block a stage, 32 to 256 channels."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i in range(4):
            stage = nn.Sequential(Block(max(32, 16 << i), 32 << i, 1 if i == 0 else 2))
            setattr(self, f"layer{i + 1}", stage)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))
