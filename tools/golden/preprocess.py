"""Writes fixtures/preprocess/: small pictures and what PIL, torchvision and timm make of them.

Run    python tools/golden/preprocess.py     (needs pillow, numpy, torchvision, timm)
Used by crates/headstart/tests/preprocess.rs. All pictures are drawn by formula; no third-party data.
"""
import json
from pathlib import Path

import numpy as np
import PIL
import timm
import torchvision
from PIL import Image, ImageDraw, ImageOps
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision.transforms import InterpolationMode as I
from torchvision.transforms import functional as F

OUT = Path(__file__).resolve().parents[2] / "fixtures" / "preprocess"
FILTERS = {"nearest": I.NEAREST, "box": I.BOX, "bilinear": I.BILINEAR, "bicubic": I.BICUBIC, "lanczos": I.LANCZOS}


def scene(w, h, seed):
    """Smooth shades, hard edges at full contrast (overshoot!), and a noisy patch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([x * 255 / w, y * 255 / h, 127 + 120 * np.sin((x + 2 * y) / 5)], -1)
    a[h // 2:, : w // 3] = np.where(((x + y) % 6 < 3)[h // 2:, : w // 3, None], 255, 0)
    a[: h // 3, w // 2: w // 2 + 5] = rng.integers(0, 256, a[: h // 3, w // 2: w // 2 + 5].shape)
    im = Image.fromarray(a.clip(0, 255).astype(np.uint8))
    d = ImageDraw.Draw(im)
    d.ellipse([w * .55, h * .4, w * .95, h * .9], fill=(250, 240, 10), outline=(0, 0, 0))
    d.line([0, h - 1, w - 1, 0], fill=(255, 255, 255))
    return im


SAVED = {}


def save(im, name):
    """Saves a picture unless the same pixels are there already; returns the name to refer to."""
    key = (im.size, im.tobytes())
    if key not in SAVED:
        im.save(OUT / name, optimize=True)
        SAVED[key] = name
    return SAVED[key]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    scenes = {f"in_{w}x{h}.png": scene(w, h, w) for w, h in [(97, 61), (45, 80), (31, 29), (20, 70), (64, 64), (21, 19)]}
    for name, im in scenes.items():
        save(im, name)

    pipelines = []

    def pipeline(source, text, im):
        pipelines.append({"input": source, "pipeline": text, "expected": save(im, f"out_{len(pipelines):02}.png")})

    # torchvision: shorter edge, centre crop; down, up, odd remainders, padding.
    for source, resize, crop, names in [
        ("in_97x61.png", 37, 32, FILTERS),
        ("in_45x80.png", 24, 21, ["bilinear", "bicubic"]),
        ("in_31x29.png", 40, 33, ["bilinear", "bicubic", "nearest"]),
        ("in_20x70.png", 20, 33, ["bilinear"]),
        ("in_64x64.png", 25, 30, ["bicubic"]),
        ("in_97x61.png", 61, 32, ["bicubic"]),
    ]:
        for name in names:
            im = F.center_crop(F.resize(scenes[source], resize, FILTERS[name]), crop)
            pipeline(source, f"resize_short({resize}, {name}) | center_crop({crop})", im)
    # timm's three crop modes.
    mean = (0.485, 0.456, 0.406)
    for mode, first in [("center", "resize_short(40"), ("squash", "resize(40, 40"), ("border", "resize_long(40")]:
        t = transforms_imagenet_eval(36, crop_pct=0.9, crop_mode=mode, interpolation="bicubic", mean=mean,
                                     std=(1, 1, 1))
        im = scenes["in_97x61.png"]
        for step in t.transforms[:2]:
            im = step(im)
        assert im.size == (36, 36), im.size
        fill = ", fill=#7c7468" if mode == "border" else ""
        pipeline("in_97x61.png", f"{first}, bicubic) | center_crop(36{fill})", im)
    pipeline("in_31x29.png", "pad(3) | resize(20, 50, bilinear)",
             F.resize(F.pad(scenes["in_31x29.png"], 3), [20, 50], I.BILINEAR))

    # One operation each, on one picture.
    im = scenes["in_21x19.png"]
    d = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    deg = lambda level: float(np.degrees(np.arctan(level)))
    results = {
        "brightness 0.6": F.adjust_brightness(im, 0.6),
        "brightness 1.7": F.adjust_brightness(im, 1.7),
        "contrast 0.4": F.adjust_contrast(im, 0.4),
        "contrast 1.8": F.adjust_contrast(im, 1.8),
        "saturation 0.3": F.adjust_saturation(im, 0.3),
        "saturation 1.9": F.adjust_saturation(im, 1.9),
        "hue 0.3": F.adjust_hue(im, 0.3),
        "hue -0.15": F.adjust_hue(im, -0.15),
        "sharpness 0.1": F.adjust_sharpness(im, 0.1),
        "sharpness 1.9": F.adjust_sharpness(im, 1.9),
        "posterize 3": F.posterize(im, 3),
        "solarize 100": F.solarize(im, 100),
        "autocontrast 0": F.autocontrast(F.adjust_contrast(im, 0.4)),
        "equalize 0": F.equalize(im),
        "shear_x 0.25": F.affine(im, **{**d, "shear": [deg(0.25), 0.0]}, center=[0, 0]),
        "shear_y -0.25": F.affine(im, **{**d, "shear": [0.0, deg(-0.25)]}, center=[0, 0]),
        "translate_x 5": F.affine(im, **{**d, "translate": [5, 0]}),
        "translate_y -4": F.affine(im, **{**d, "translate": [0, -4]}),
        "rotate 33": F.rotate(im, 33, I.NEAREST),
        "rotate_bilinear -20": F.rotate(im, -20, I.BILINEAR),
    }
    operations = [{"op": k.split()[0], "value": float(k.split()[1]), "expected": save(v, f"op_{n:02}.png")}
                  for n, (k, v) in enumerate(results.items())]

    # Files as cameras and programs write them; `tolerance` in grey levels (lossy decoders differ).
    small = scene(28, 22, 5)
    grey = small.convert("L")
    palette = small.quantize(16)
    alpha = small.copy()
    alpha.putalpha(grey)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.asarray(small).astype(np.uint16) * 256 + 200
    files = []

    def file(name, im, tolerance=0, expected=None, **kw):
        im.save(OUT / name, **kw)
        want = expected or ImageOps.exif_transpose(Image.open(OUT / name)).convert("RGB")
        files.append({"file": name, "expected": save(want, f"file_{len(files):02}.png"), "tolerance": tolerance})

    # JPEG files that Headstart's own decoder reads are PIL's to the bit; the kinds left to another (four inks, 4:1:1) are not.
    def upright(name, im):
        """A 4:2:2 file told to be 4:4:0, with the size turned so that as many blocks fit."""
        im.save(OUT / name, quality=85, subsampling=1)
        data = bytearray((OUT / name).read_bytes())
        frame = data.index(b"\xff\xc0") + 5  # height, width, components of (name, factors, table)
        data[frame:frame + 4] = data[frame + 2:frame + 4] + data[frame:frame + 2]
        assert data[frame + 6] == 0x21
        data[frame + 6] = 0x12
        (OUT / name).write_bytes(data)
        im = Image.open(OUT / name).convert("RGB")
        assert im.size == (13, 28)
        files.append({"file": name, "expected": save(im, f"file_{len(files):02}.png"), "tolerance": 0})

    whole_blocks = scene(32, 32, 5)
    file("420.jpg", whole_blocks, quality=85)
    file("422.jpg", whole_blocks, quality=85, subsampling=1)
    file("progressive.jpg", whole_blocks, quality=85, progressive=True)
    # Where the width is no multiple of 16, the last columns' colour has other neighbours.
    file("420_odd.jpg", scene(27, 21, 5), quality=85)
    file("422_odd.jpg", scene(27, 21, 5), quality=60, subsampling=1, progressive=True)
    upright("440.jpg", scene(28, 13, 5))
    # Colour planes of one and two samples: nothing to interpolate.
    file("420_narrow.jpg", scene(3, 5, 5), quality=85)
    file("422_narrow.jpg", scene(2, 5, 5), quality=85, subsampling=1)
    file("420_thin.jpg", scene(40, 1, 5), quality=85)
    file("restarts.jpg", scene(37, 35, 5), quality=30, restart_marker_blocks=2)
    file("coarse.jpg", scene(37, 35, 5), quality=1)
    file("fine.jpg", scene(37, 35, 5), quality=100)
    file("444.jpg", small, quality=85, subsampling=0)
    file("grey.jpg", grey, quality=85)
    file("grey_progressive.jpg", grey, quality=85, progressive=True)
    file("cmyk.jpg", small.convert("CMYK"), 3, quality=90)
    file("turned.jpg", small, quality=85, subsampling=0, exif=exif)
    file("rgb.png", small)
    file("rgba.png", alpha)
    file("grey.png", grey)
    file("grey_alpha.png", alpha.convert("LA"))
    file("palette.png", palette)
    file("palette_clear.png", palette, transparency=3)
    file("one_bit.png", grey.convert("1"))
    grey16 = Image.fromarray(deep[..., 1])
    file("grey16.png", grey16, expected=Image.fromarray((deep[..., 1] >> 8).astype(np.uint8)).convert("RGB"))
    file("palette.gif", palette)
    file("palette_clear.gif", palette, transparency=3)
    file("lossless.webp", small, lossless=True)
    file("lossy.webp", small, 3, quality=80)
    file("alpha.webp", alpha, lossless=True, exact=True)
    file("rgb.bmp", small)
    file("palette.bmp", palette)
    file("rgb.tiff", small, compression="tiff_lzw")
    file("rgb.ppm", small)
    file("grey.pgm", grey)

    cases = {
        "made_by": f"Pillow {PIL.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}",
        "pipelines": pipelines, "operations": operations, "operations_input": "in_21x19.png", "files": files,
    }
    text = json.dumps(cases, indent=1)
    (OUT / "cases.json").write_text(text + "\n")
    print(len(list(OUT.iterdir())), "files,", sum(p.stat().st_size for p in OUT.iterdir()), "bytes")


if __name__ == "__main__":
    main()
