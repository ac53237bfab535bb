"""The networks of the zoo that timm builds: which to run, at what size, where to look.

Used by models.py: `committed()` goes into fixtures/models, `on_demand()` only into a folder of sweep.py, since
its networks differ from a committed one in widths and depths alone, or take too long for every test run.
"""
import timm

CLASSES = 10


def cells(grid):
    """Tokens [N, T, C] as a map, without those before the cells."""
    h, w = grid
    return lambda out: out[:, -h * w:].transpose(1, 2).reshape(out.shape[0], out.shape[2], h, w)


def vit(name, size):
    net = timm.create_model(name, num_classes=CLASSES, dynamic_img_size=True)
    patch = net.patch_embed.patch_size[0]
    grid = (size[0] // patch, size[1] // patch)
    return name, net, 3.0, (1, 3, *size), "blocks.2", "blocks.2", cells(grid)


def resnet(name):
    # The more units, the harder it is to keep all of them off the kinks of their activations.
    size = (33, 49) if "101" in name or "152" in name else (65, 97)
    return name, timm.create_model(name, num_classes=CLASSES), 3.0, (1, 3, *size), "layer2", "layer2"


def clip_resnet(name):
    """Positions of the attention pooling are resampled to a grid that is not square."""
    return name, timm.create_model(name, num_classes=CLASSES), 3.0, (1, 3, 64, 96), "stages.1", "stages.1"


def regnet(name):
    return name, timm.create_model(name, num_classes=CLASSES), 3.0, (1, 3, 65, 97), "s2", "s2"


def densenet(name):
    net = timm.create_model(name, num_classes=CLASSES)
    return name, net, 3.0, (1, 3, 65, 97), "denseblock2", "features.denseblock2"


def coatnet(name, size=(224, 224)):
    net = timm.create_model(name, num_classes=CLASSES, img_size=size)
    return name, net, 3.0, (1, 3, *size), "stages.1", "stages.1"


def convnext(name):
    return name, timm.create_model(name, num_classes=CLASSES), 3.0, (1, 3, 65, 97), "stages.1", "stages.1"


def mobile(name, size=(65, 97), **args):
    """Networks of mobile blocks; at even sizes SAME padding is lopsided."""
    net = timm.create_model(args.pop("architecture", name), num_classes=CLASSES, **args)
    return name, net, 3.0, (1, 3, *size), "blocks.2", "blocks.2"


TV = {"bn_eps": 1e-3}
MOBILE = {
    **{f"efficientnet_b{i}": {} for i in range(1, 5)},
    **{f"tf_efficientnetv2_{size}": {"size": (64, 90)} for size in ("b1", "b2", "b3", "s", "m", "l")},
    **{f"efficientnetv2_rw_{size}": {} for size in ("t", "s", "m")},
    **{f"efficientnet_v2_{size}": {"architecture": f"efficientnetv2_{size}", **TV} for size in ("s", "m", "l")},
    "mobilenetv3_large_100": {},
    "mobilenet_v3_large": {"architecture": "mobilenetv3_large_100", **TV},
}


def swin(name, size):
    net = timm.create_model(name, num_classes=CLASSES, img_size=size)
    return name, net, 3.0, (1, 3, *size), "layers.1", "layers.1", lambda out: out.permute(0, 3, 1, 2)


def committed():
    for name in ("seresnet18", "resnext50_32x4d"):
        yield resnet(name)
    for name in ("convnext_atto", "convnextv2_atto", "convnext_tiny"):
        yield convnext(name)
    yield mobile("efficientnet_b0")
    yield mobile("tf_efficientnetv2_b0", (64, 90))
    yield mobile("mobilenetv3_small_100")
    yield mobile("mobilenet_v3_small", architecture="mobilenetv3_small_100", **TV)
    # One grid that shrinks and is not square, one without a position for the class token.
    yield vit("vit_tiny_patch16_224", (48, 80))
    yield vit("deit3_small_patch16_224", (240, 64))
    # Shifted windows, maps that need padding, and maps smaller than a window.
    yield swin("swinv2_tiny_window8_256", (72, 104))
    yield clip_resnet("resnet50_clip")
    yield regnet("regnety_004")
    # The table of distances as it is, and a network of them on another map.
    yield coatnet("coatnet_nano_rw_224")
    yield coatnet("coatnet_rmlp_nano_rw_224", (96, 96))
    yield densenet("densenet121")


def on_demand():
    """Name of each network, and a function that makes its case."""
    se = [f"seresnet{depth}" for depth in (34, 50, 101, 152)]
    for name in se + ["seresnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"]:
        yield name, lambda name=name: resnet(name)
    small = ["femto", "pico", "nano"]
    for name in [f"convnext_{size}" for size in small + ["small", "base", "large"]]:
        yield name, lambda name=name: convnext(name)
    for name in [f"convnextv2_{size}" for size in small + ["tiny", "base", "large"]]:
        yield name, lambda name=name: convnext(name)
    for name, args in MOBILE.items():
        yield name, lambda name=name, args=args: mobile(name, **args)
    swins = {f"swinv2_{size}_window{w}_256": (w * 20, w * 12) for size in ("tiny", "small", "base") for w in (8, 16)}
    swins.pop("swinv2_tiny_window8_256")
    for name, size in swins.items():
        yield name, lambda name=name, size=size: swin(name, size)
    vits = {f"vit_{size}_patch{patch}_224": (224, 224) for size in ("small", "base", "large") for patch in (16, 32)}
    vits |= {f"deit_{size}_patch16_224": (224, 224) for size in ("tiny", "small", "base")}
    vits |= {"vit_base_patch16_gap_224": (96, 224), "deit3_base_patch16_224": (224, 224)}
    vits |= {f"vit_{size}_patch14_dinov2": (70, 98) for size in ("small", "base")}
    vits |= {f"vit_{name}_clip_224": (224, 224) for name in ("base_patch16", "base_patch32", "large_patch14")}
    vits |= {f"vit_base_patch{patch}_clip_quickgelu_224": (224, 224) for patch in (16, 32)}
    vits |= {"vit_large_patch14_clip_quickgelu_224": (224, 224)}
    for size in ("002", "006", "008", "008_tv", "016", "032", "040", "064", "080", "080_tv"):
        yield f"regnety_{size}", lambda size=size: regnet(f"regnety_{size}")
    for name in ("0_rw", "1_rw", "2_rw", "rmlp_1_rw2", "rmlp_2_rw"):
        yield f"coatnet_{name}_224", lambda name=name: coatnet(f"coatnet_{name}_224")
    # Where it pools, it takes odd maps.
    yield "coatnet_rmlp_1_rw_224", lambda: coatnet("coatnet_rmlp_1_rw_224", (72, 104))
    for depth in (161, 169, 201):
        yield f"densenet{depth}", lambda depth=depth: densenet(f"densenet{depth}")
    yield "resnet101_clip", lambda: clip_resnet("resnet101_clip")
    for name, size in vits.items():
        yield name, lambda name=name, size=size: vit(name, size)


def names():
    return [name for name, _ in on_demand()]
