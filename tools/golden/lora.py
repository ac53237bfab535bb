"""Writes fixtures/models/lora.json: a loss of vit_tiny_patch16_224 with low-rank adapters, and the adapters' gradients.

Run    python tools/golden/lora.py     (needs timm, torch)
Used by crates/headstart/tests/light.rs. Pictures and weights, those of the adapters too, come from formula.py. The
adapters are written down here from the paper: the matrix is replaced by W + scale B A, so that PyTorch's own linear
layers and autograd do the rest.
"""
import json
from pathlib import Path

import timm
import torch
from torch.nn import functional as F
from torch.nn.utils import parametrize

from formula import fill, tensor, uniform

OUT = Path(__file__).resolve().parents[2] / "fixtures" / "models" / "lora.json"
PICTURES, CLASSES, GAIN, RANK, ALPHA, SIZE = 3, 5, 3.0, 4, 8.0, (48, 80)


class Adapter(torch.nn.Module):
    def __init__(self, name, weight):
        super().__init__()
        out, inputs = weight.shape
        self.a = torch.nn.Parameter(tensor(f"{name}.lora_a", (RANK, inputs), GAIN).to(weight.dtype))
        self.b = torch.nn.Parameter(tensor(f"{name}.lora_b", (out, RANK), GAIN).to(weight.dtype))

    def forward(self, weight):
        return weight + ALPHA / RANK * self.b @ self.a


def run(dtype):
    net = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, dynamic_img_size=True)
    net = fill(net, GAIN).to(dtype).eval()
    net.requires_grad_(False)
    adapters = {}
    for name, layer in list(net.named_modules()):
        if name.endswith(("attn.qkv", "mlp.fc1", "mlp.fc2")):
            adapters[name] = Adapter(name, layer.weight)
            parametrize.register_parametrization(layer, "weight", adapters[name])
    x = uniform("input", (PICTURES, 3, *SIZE), -2.0, 2.0).to(dtype)
    logits = net(x)
    loss = F.cross_entropy(logits, torch.arange(PICTURES) % CLASSES)
    loss.backward()
    return logits, loss, adapters


def main():
    torch.set_num_threads(1)
    logits, loss, adapters = run(torch.float64)
    single = run(torch.float32)[0]
    print("f32 against f64:", ((single - logits).abs().max() / logits.abs().max()).detach().item(), "loss", loss.item())
    grads = {}
    for name in ["blocks.0.attn.qkv", "blocks.0.mlp.fc1", "blocks.5.mlp.fc2", "blocks.11.attn.qkv"]:
        for part in "ab":
            grad = getattr(adapters[name], part).grad
            first = [float(f"{v:.8g}") for v in grad.flatten()[:12].tolist()]
            grads[f"{name}.lora_{part}"] = {"norm": grad.norm().item(), "largest": grad.abs().max().item(), "first": first}
    case = {
        "pictures": PICTURES, "classes": CLASSES, "gain": GAIN, "rank": RANK, "alpha": ALPHA, "size": SIZE,
        "layers": "attn.qkv|mlp.fc*", "logits": logits.flatten().tolist(), "loss": loss.item(), "gradients": grads,
    }
    OUT.write_text(json.dumps(case) + "\n")


main()
