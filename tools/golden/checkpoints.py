"""Write the small checkpoints that `crates/headstart/tests/checkpoints.rs` reads.

Run   python tools/golden/checkpoints.py        (torch, timm and safetensors installed)
Makes fixtures/checkpoints/: each file in one of the ways people save weights, and beside it
`expected.safetensors` with the very tensors, so that the test compares bits.
"""

import argparse
import collections
import json
import os
import pathlib
import pickle

import numpy as np
import safetensors.torch
import torch

OUT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "checkpoints"
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(7)


class Tiny(torch.nn.Module):
    """A stem, a BatchNorm with its counters, a head."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.bn1(self.conv1(x)).mean((2, 3)))


net = Tiny()
net(torch.randn(2, 3, 8, 8))  # moves the running statistics off 0 and 1
state = net.state_dict()
plain = {k: v.detach().clone().contiguous() for k, v in state.items()}
expected = {f"tiny.{k}": v for k, v in plain.items()}

torch.save(state, OUT / "zip.pth")
torch.save(state, OUT / "legacy.pth", _use_new_zipfile_serialization=False)
torch.save(state, OUT / "protocol4.pth", pickle_protocol=4)
torch.save(torch.nn.DataParallel(net).state_dict(), OUT / "parallel.pth")
torch.save(net, OUT / "module.pt")  # the whole object, as beginners save it
torch.save(torch.optim.swa_utils.AveragedModel(net).state_dict(), OUT / "averaged.pth")
torch.jit.script(net).save(OUT / "script.pt")  # programs with their weights: OpenAI's CLIP came so
torch.jit.trace(net.eval(), torch.zeros(1, 3, 8, 8)).save(OUT / "traced.pt")
net.train()

# A training checkpoint of timm's shape: args, optimizer state, averaged weights beside the raw ones.
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
net(torch.randn(2, 3, 8, 8)).sum().backward()
optimizer.step()
args = argparse.Namespace(model="tiny", lr=0.1, path=pathlib.PurePosixPath("data"), when=collections.Counter("ab"))
raw = {k: v.detach().clone() for k, v in net.state_dict().items()}
expected.update({f"raw.{k}": v for k, v in raw.items()})
checkpoint = {
    "epoch": 3, "arch": "tiny", "args": args, "version": 2, "metric": np.float64(76.1),
    "optimizer": optimizer.state_dict(), "state_dict": raw,
}
torch.save(checkpoint, OUT / "timm.pth.tar")
torch.save({**checkpoint, "state_dict_ema": {f"module.{k}": v for k, v in plain.items()}}, OUT / "timm_ema.pth.tar")
# torchvision's shape, in the old stream, through `torch.compile`.
torch.save(
    {"model": {f"_orig_mod.{k}": v for k, v in plain.items()}, "optimizer": optimizer.state_dict(), "args": args},
    OUT / "torchvision_legacy.pth", _use_new_zipfile_serialization=False,
)
torch.save({"net": {f"module.{k}": v for k, v in plain.items()}, "acc": 91.2}, OUT / "net.pth")

# Types and strides.
base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
odd = {
    "bf16": torch.randn(3, 2).bfloat16(),
    "f16": torch.randn(3, 2).half(),
    "f64": torch.randn(2, dtype=torch.float64),
    "i32": torch.tensor([[1, -2]], dtype=torch.int32),
    "u8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "transposed": base.t(),
    "columns": base[:, 1:5:2],
    "row_of_transposed": base.t()[2:3],
    "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3),
    "nhwc": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(base[1:]),
    "u16": torch.tensor([1, 65535], dtype=torch.uint16),
    "tied": base,
}
torch.save(odd, OUT / "odd_zip.pth")
del odd["u16"]  # has no storage class, so the old stream cannot hold it
torch.save({**odd, "complex": torch.zeros(2, dtype=torch.complex64)}, OUT / "odd_legacy.pth",
           _use_new_zipfile_serialization=False)
odd["u16"] = torch.tensor([1, 65535], dtype=torch.uint16)
expected.update({f"odd.{k}": v.detach().clone().contiguous() for k, v in odd.items()})


class Evil:
    """Runs a command when a careless program unpickles it."""

    def __reduce__(self):
        return os.system, ("echo run > /tmp/headstart-evil-was-run",)


torch.save({"state_dict": plain, "extra": Evil()}, OUT / "evil.pth")
torch.save({**plain, "conv1.weight": Evil()}, OUT / "evil_weight.pth", _use_new_zipfile_serialization=False)
(OUT / "evil_plain.pkl").write_bytes(pickle.dumps(Evil(), protocol=2))

# Small files that claim to be huge: a terabyte in one number, a tree of 2^30 leaves in 30 dicts.
torch.save({"w": torch.zeros(1).expand(1 << 40)}, OUT / "bomb_expanded.pth")
tree = {"w": torch.zeros(1)}
for _ in range(30):
    tree = {"a": tree, "b": tree}
torch.save(tree, OUT / "bomb_shared.pth")

safetensors.torch.save_file(expected, OUT / "expected.safetensors")
os.chmod(OUT / "expected.safetensors", 0o644)  # safetensors makes its files private
(OUT / "NOTE").write_text(
    f"Written by tools/golden/checkpoints.py with torch {torch.__version__}. Random numbers, no third-party data.\n"
)
size = sum(f.stat().st_size for f in OUT.iterdir())
print(json.dumps({"files": len(list(OUT.iterdir())), "bytes": size}))
assert size < 200_000
