"""Writes fixtures/models/goldens.json and keys.json: what torchvision and timm compute, and their names.

Run    python tools/golden/models.py             (needs torch, torchvision, timm; about two minutes)
       python tools/golden/models.py NAME FILE   writes the results of one network, whether in git or not;
                                                 sweep.py does so for all
Used by crates/headstart/tests/goldens.rs and tests/models.rs. Weights and pictures come from the formula
in formula.py, so none are stored.
"""
import datetime
import json
import re
import sys
from pathlib import Path

import timm
import torch
import torchvision
import torchvision.models as tv

import zoo
from formula import Nano, fill, keys, uniform

OUT = Path(__file__).resolve().parents[2] / "fixtures" / "models"
CLASSES = 10
RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
VGGS = [f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")]
TF = {"pad_type": "same", "bn_eps": 1e-3}
TORCHVISION = {
    "convnext_tiny": tv.convnext_tiny,
    "efficientnet_b0": tv.efficientnet_b0,
    "mobilenetv3_small_100": tv.mobilenet_v3_small,
    "mobilenet_v3_small": tv.mobilenet_v3_small,
    "regnety_004": tv.regnet_y_400mf,
}


def plain(build):
    return build(weights=None, num_classes=CLASSES)


def pre_pool(net, block):
    """The ReLU before the given max pooling of a torchvision `features`."""
    pools = [i for i, m in enumerate(net.features) if isinstance(m, torch.nn.MaxPool2d)]
    return net.features[pools[block - 1] - 1]


def rows():
    """Name, network, gain of the weights, input shape, tap, the module whose output it shows or its
    name, how that becomes a map if it is none."""
    for name in RESNETS:
        net = plain(getattr(tv, name))
        # The more units, the harder it is to keep all of them off the kinks.
        shape = (1, 3, 33, 49) if name in ("resnet101", "resnet152") else (2, 3, 65, 97)
        yield name, net, 3.0, shape, "layer2", net.layer2
    net = Nano(CLASSES)
    yield "headstart_nano", net, 3.0, (2, 3, 65, 97), "layer2", net.layer2
    net = plain(tv.alexnet)
    yield "alexnet", net, 6.0, (2, 3, 65, 97), "conv5", pre_pool(net, 3)
    for name in VGGS:
        net = plain(getattr(tv, name))
        yield name, net, 6.0, (1, 3, 33, 49), "block2", pre_pool(net, 2)
    # At even sizes SAME padding is lopsided.
    for name, args, size in [("mobilenetv2_100", {}, (65, 97)), ("tf_mobilenetv2_100", TF, (64, 90))]:
        net = timm.create_model("mobilenetv2_100", num_classes=CLASSES, **args)
        yield name, net, 3.0, (2, 3, *size), "blocks.2", net.blocks[2]
    yield from zoo.committed()


def sample(values, count):
    """Every so manieth value, and the largest of all."""
    flat = values.detach().flatten()
    step = max(1, len(flat) // count)
    return {
        "shape": list(values.shape),
        "step": step,
        "max": flat.abs().max().item(),
        "values": [float(f"{v:.8g}") for v in flat[::step][:count].tolist()],
    }


def late(net, tap, as_map):
    """A second place to look at, near the end (of AlexNet, nearer the start)."""
    if tap in ("conv5", "block2"):
        return ("conv2", pre_pool(net, 2)) if tap == "conv5" else ("block5", pre_pool(net, 5))
    if tap == "denseblock2":
        return "denseblock4", net.features.norm5
    if tap == "blocks.2":
        tap = f"blocks.{len(net.blocks) - 1}"
    else:
        tap = {"layer2": "layer4", "stages.1": "stages.3", "layers.1": "layers.3", "s2": "s4"}[tap]
    return tap, net.get_submodule(tap)


KINKS = {"relu": [0.0], "relu6": [0.0, 6.0], "hardswish": [-3.0, 3.0], "hardsigmoid": [-3.0, 3.0]}


def smoothness(net, x):
    """How far the units are from the kinks of their activations at least, and in max pools the second from the
    first, as a share of the layer's range. Where that is a rounding error, both one-sided gradients are right."""
    least, hooks = [1.0], []

    def near(module, inputs, _out):
        z = inputs[0].detach()
        kinks = KINKS.get(type(module).__name__.lower().removesuffix("me"))
        if kinks:
            gaps = [(z - kink).abs().min().item() for kink in kinks]
        else:
            size, stride, pad = module.kernel_size, module.stride, module.padding
            first, at = torch.nn.functional.max_pool2d(z, size, stride, pad, return_indices=True)
            rest = z.flatten(2).scatter(2, at.flatten(2), -torch.inf).view_as(z)
            gap = first - torch.nn.functional.max_pool2d(rest, size, stride, pad)
            # Zeros are equal and have no gradient; a maximum shared by windows hides their second.
            gaps = [gap[(first > 0) & (gap > 0)].min().item()]
        least.append(min(gaps) / z.abs().max().item())

    for module in net.modules():
        if type(module).__name__.lower().removesuffix("me") in KINKS or isinstance(module, torch.nn.MaxPool2d):
            module.inplace = False
            hooks.append(module.register_forward_hook(near))
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return min(least)


def smooth_picture(net, shape, wanted=3e-6, tries=48):
    """The name of a picture without a unit at a kink, or of the best one."""
    best = (-1.0, None)
    for i in range(tries):
        name = f"input{i or ''}"
        found = smoothness(net, uniform(name, shape, -2.0, 2.0))
        best = max(best, (found, name))
        if found >= wanted:
            break
    return best[1]


def golden(net, gain, shape, tap, module, as_map=lambda out: out, count=64):
    """Logits, two taps, and the gradients of half the mean square of the logits: first convolution, a
    weight in the middle, classifier. Statistics are the running ones and nothing is dropped."""
    fill(net, gain).eval()
    picture = smooth_picture(net, shape)
    seen = {}
    module = net.get_submodule(module) if isinstance(module, str) else module
    for name, place in [(tap, module), late(net, tap, as_map)]:
        keep = lambda _m, _i, out, name=name: seen.update({name: sample(as_map(out.detach().clone()), count)})
        place.register_forward_hook(keep)
    weights = [(k, p) for k, p in net.named_parameters() if k.endswith(".weight") and p.dim() > 1]
    first = next(i for i, (_, p) in enumerate(weights) if p.dim() == 4)
    chosen = [weights[i] for i in (first, len(weights) // 2, -1)]
    net.requires_grad_(False)
    for _, p in chosen:
        p.requires_grad_(True)
    logits = net(uniform(picture, shape, -2.0, 2.0))
    (logits.square().mean() / 2).backward()
    return {
        "gain": gain,
        "input": shape,
        "picture": picture,
        "logits": [float(f"{v:.8g}") for v in logits.flatten().tolist()],
        "taps": seen,
        "grads": {k: sample(p.grad, count) for k, p in chosen},
    }


def foreign():
    """The key lists of the dialects a family does not call its own."""
    for name in RESNETS:
        yield name, "timm", keys(timm.create_model(name))
    for name in VGGS:
        yield name, "timm", keys(timm.create_model(name))
    for name in ["mobilenetv2_100", "tf_mobilenetv2_100"]:
        yield name, "torchvision", keys(tv.mobilenet_v2())
    for name, build in TORCHVISION.items():
        yield name, "torchvision", keys(build())
    vit = keys(tv.VisionTransformer(224, 16, 12, 3, 192, 768))
    yield "vit_tiny_patch16_224", "torchvision", vit
    old = [k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.") for k in vit]
    yield "vit_tiny_patch16_224", "torchvision_old", old
    # As torchvision's published files have it; its `_load_state_dict` renames them on the way in.
    dense = keys(tv.densenet121())
    yield "densenet121", "torchvision_old", [re.sub(r"(denselayer\d+\.)(norm|conv)([12])\.", r"\1\2.\3.", k) for k in dense]


def run(cases):
    goldens, names = {}, {}
    for name, net, *case in cases:
        names[name] = {"own": keys(net)}
        goldens[name] = golden(net, *case)
        print(name, goldens[name]["logits"][:3], list(goldens[name]["taps"]), flush=True)
    return goldens, names


def write(path, data):
    path.write_text(json.dumps(data, indent=None) + "\n")


def case(name):
    """The case of any network, in git or not."""
    for other, build in zoo.on_demand():
        if other == name:
            return build()
    for found in rows():
        if found[0] == name:
            return found
    sys.exit(f"no network is called {name}")


def one(name, path):
    """Writes the results of one network, with many values, to `path`."""
    _, net, *rest = case(name)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    result = {"versions": versions, "date": str(datetime.date.today()), **golden(net, *rest, count=4096)}
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    write(half, result)
    half.replace(path)


def main():
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        return one(sys.argv[1], Path(sys.argv[2]))
    OUT.mkdir(parents=True, exist_ok=True)
    goldens, names = run(rows())
    for name, dialect, theirs in foreign():
        if theirs != names[name]["own"]:
            names[name][dialect] = theirs
    write(OUT / "goldens.json", goldens)
    write(OUT / "keys.json", names)
    write(OUT / "on_demand.json", zoo.names())


main()
