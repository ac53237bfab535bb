"""Writes fixtures/clip/: what open_clip computes, with weights by formula, and how its tokenizer reads texts.

Run    python tools/golden/clip.py           (needs torch, open_clip_torch, ftfy, transformers' names are spelled here)
       python tools/golden/clip.py assets    writes the tables under crates/headstart/assets/clip instead
Used by crates/headstart/tests/clip.rs. Weights come from the formula in formula.py, so none are stored.
"""
import gzip
import html.entities
import json
import os
import random
import sys
import unicodedata
from pathlib import Path

import ftfy
import open_clip
import torch
from open_clip import zero_shot_metadata
from open_clip.tokenizer import SimpleTokenizer, default_bpe

from formula import fill, uniform

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "fixtures" / "clip"
ASSETS = ROOT / "crates" / "headstart" / "assets" / "clip"
GAIN = 3.0
STORED = 160
TEXTS = ["a photo of a daisy.", "Rosé & tulip 🌷", "x", "a very " + "long " * 90 + "sentence"]
CLASSES = ["daisy", "sun flower", "Tulip"]
TEMPLATES = ["a photo of a {}.", "a drawing of the {}.", "{}"]


def numbers(x):
    return [float(f"{v:.8g}") for v in x.flatten().tolist()]


def towers(name):
    """Features of both towers, logits, and the zero-shot classifier, of one architecture."""
    net = fill(open_clip.create_model(name), GAIN).eval()
    tokenizer = SimpleTokenizer()
    pictures = uniform("input", (2, 3, 224, 224), -2.0, 2.0)
    with torch.no_grad():
        image, text = net.encode_image(pictures), net.encode_text(tokenizer(TEXTS))
        logits, _ = net.get_logits(pictures, tokenizer(TEXTS))
        weights = open_clip.build_zero_shot_classifier(net, tokenizer, CLASSES, TEMPLATES)
        zero_shot = net.logit_scale.exp() * net.encode_image(pictures, normalize=True) @ weights
    print(name, image[0, :3], text[0, :3], logits)
    shapes = {k: list(v.shape) for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    return {
        "shapes": shapes,
        "image": numbers(image[:, :STORED]),
        "text": numbers(text[:, :STORED]),
        "logits": numbers(logits),
        "zero_shot": numbers(zero_shot),
    }


PARTS = """dog|Siamese cat|red-backed sandpiper|ladybug, ladybird beetle|a photo of a|it's|they're|WE'LL|I'd|Don't've|
rock 'n' roll|3.14159|1,000,000|v2.0-beta|#hashtag|@someone|https://example.org/a?b=c&d=e|C:\\dir|snake_case|camelCase|
naïve café|Ångström|ﬁne ﬂour|eﬃcient|ĳsberg|ǆ|Straße|İstanbul|ΣΊΣΥΦΟΣ|όλος|Владимир Ёлкин|Київ|საქართველო|հայերեն|
日本語のテキスト|写真 猫|한국어 문장|ｆｕｌｌｗｉｄｔｈ　ＬＡＴＩＮ|ﾊﾝｶｸ ｶﾀｶﾅ|ภาษาไทย|हिन्दी में|தமிழ்|বাংলা|ગુજરાતી|
العربية مثال|שלום עולם|فارسی نیم‌فاصله|\u202bRTL\u202c|e\u0301te\u0301|a\u0308o\u0308|n\u0303o|q\u0307\u0323|
👍|👍🏽|👨‍👩‍👧‍👦|🇩🇪🇫🇷|❤️|☕️ time|1️⃣|🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f|😀😃😄|
&amp;|&lt;b&gt;|&eacute;t&Eacute;|&EACUTE;|&NTILDE;|&#233;|&#xE9;|&#x1F600;|&hellip;|&copy2024|&notit;|&amp;amp;|&amp;lt;|
&#128;|&#0;|&#x110000;|&nbsp;|&ensp;x|&NewLine;|&unknown;|&|&;|AT&T|R&D|a&b;c|&frac12;|&acE;|&COPY;|&SZLIG;|
“quoted”|‘single’|‚low’|«guillemets»|„unten“|it’s|rock ‘n’ roll|—dash–|…|•|™|®|½ ¾|x² + y³|№ 5|ªº|ⅷ Ⅷ|①②|௧௨|٣٤|५|
\u0000nul|\u0007bell|\u001besc|\u001b[31mred\u001b[0m|\u007fdel|\ufeffbom|\u200bzero|\u00adsoft|\ufffcobject|
tab\there|line\nbreak|cr\rlf\r\n|\u2028sep\u2029|\u0085next|\u00a0nbsp\u00a0|\u3000ideographic|\u1680ogham|\u000cfeed|\u000bvt|
<start_of_text>|<end_of_text>|<|>|<a href="x">|$100|€5|£7|¥9|50%|50 °C|!?!?|...|----|~~~|:-)|(c)|[x]|{}|\\|/|^_^|¯\\_(ツ)_/¯|
ſ's|'ſ|K|Ω|Å|ß|ẞ|ŉ|ı|ͅ|Ⓐ|ꟗ|𝔘𝔫𝔦𝔠𝔬𝔡𝔢|𝟙𝟚|𐐀𐐨|\U0001f9ff|\u0378""".replace("|\n", "|").split("|")


def strings():
    rng = random.Random(7)
    blocks = [(0x20, 0x7F), (0xA1, 0x250), (0x250, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80),
              (0x1E00, 0x2000), (0x2010, 0x2028), (0x2030, 0x2060), (0x20A0, 0x2190), (0x2190, 0x2C00), (0x3040, 0x3100),
              (0x4E00, 0x9FA0), (0xAC00, 0xD7A0), (0xF900, 0xFB50), (0xFE20, 0xFFF0), (0x1F300, 0x1F650)]
    found, mojibake, parts = [], 0, list(PARTS)
    while len(found) < 1000:
        if parts:
            text = parts.pop()
        elif rng.random() < 0.6:
            text = rng.choice(["", " ", "  "]).join(rng.choice(PARTS) for _ in range(rng.randint(2, 4)))
        else:
            low, high = rng.choice(blocks)
            chars = [chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 10))]
            text = "".join(c for c in chars if unicodedata.category(c) not in ("Cn", "Cs", "Co"))
        # Guessing which encoding a garbled text was read in is the one step that is left out.
        if ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False):
            mojibake += 1
            continue
        if text and text not in found:
            found.append(text)
    print(len(found), "strings,", mojibake, "left out as mojibake")
    return found


def tokens():
    tokenizer = SimpleTokenizer()
    cases = [[text, tokenizer.encode(text)] for text in strings()]
    lines = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases)
    (OUT / "tokens.json").write_text(f"[\n{lines}\n]\n")


def assets():
    ASSETS.mkdir(parents=True, exist_ok=True)
    merges = gzip.open(default_bpe()).read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (ASSETS / "bpe_merges.txt").write_text("\n".join(merges) + "\n")
    points = lambda text: ",".join(f"{ord(c):x}" for c in text)
    lines = [f"{name} {points(text)}" for name, text in sorted(html.entities.html5.items())]
    (ASSETS / "html_entities.txt").write_text("\n".join(lines) + "\n")
    for name, templates in (
        ("openai80", zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES),
        ("openai7", zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES),
    ):
        (ASSETS / f"{name}.txt").write_text("\n".join(t("{}") for t in templates) + "\n")


def main():
    torch.set_num_threads(1)
    if sys.argv[1:] == ["assets"]:
        return assets()
    OUT.mkdir(parents=True, exist_ok=True)
    tokens()
    if sys.argv[1:] == ["tokens"]:
        return
    cases = {name: towers(name) for name in ("ViT-B-32-quickgelu", "ViT-B-32", "RN50-quickgelu")}
    del cases["ViT-B-32"]["shapes"]  # those of ViT-B-32-quickgelu
    data = {"gain": GAIN, "stored": STORED, "texts": TEXTS, "classes": CLASSES, "templates": TEMPLATES, **cases}
    (OUT / "towers.json").write_text(json.dumps(data) + "\n")
    size = sum(f.stat().st_size for f in OUT.iterdir())
    print(size, "bytes")
    assert size < 400_000


if __name__ == "__main__":
    main()
