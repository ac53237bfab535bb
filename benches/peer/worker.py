"""PyTorch's side of a comparison: one piece of work, once for each line on stdin, answered by its seconds.

Usage: worker.py WORK MODEL[@SIDE] BATCH PRECISION        WORK: forward, step or decode (then MODEL is a folder of photos)
"""

import sys
import time
from pathlib import Path

import timm
import torch
from PIL import Image
from torchvision import transforms

CLASSES = 1000


def create(model):
    """The network, and the side of its pictures."""
    model, _, side = model.partition("@")
    # Networks with TensorFlow padding are timm's with an option.
    tensorflow = {"pad_type": "same", "bn_eps": 1e-3} if model == "tf_mobilenetv2_100" else {}
    net = timm.create_model(model.removeprefix("tf_") if tensorflow else model, num_classes=CLASSES, **tensorflow)
    return net, int(side or 224)


def forward(model, batch, dtype):
    net, side = create(model)
    net = net.eval().to(memory_format=torch.channels_last)
    if dtype == torch.bfloat16:
        net = net.to(dtype)
    x = torch.rand(batch, 3, side, side, dtype=dtype).to(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            net(x)

    return run


def step(model, batch, dtype):
    net, side = create(model)
    net = net.train().to(memory_format=torch.channels_last)
    x = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
    y = torch.arange(batch) * 37 % CLASSES
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, foreach=True)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


class Photos(torch.utils.data.Dataset):
    """Every photo of a folder, as ImageNet evaluation prepares it."""

    def __init__(self, folder):
        kinds = {".jpg", ".jpeg", ".png"}
        self.files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in kinds)
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def decode(folder, batch, _):
    loader = torch.utils.data.DataLoader(Photos(folder), batch, num_workers=2, persistent_workers=True)

    def run():
        for _ in loader:
            pass

    return run


def main():
    work, model, batch, precision = sys.argv[1:5]
    torch.set_num_threads(2)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    run = {"forward": forward, "step": step, "decode": decode}[work](model, int(batch), dtype)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
