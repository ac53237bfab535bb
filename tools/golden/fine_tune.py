"""Writes fixtures/models/fine_tune.json: what fastai's `fine_tune` sets at each step, and what it leaves frozen.

Run    python tools/golden/fine_tune.py      (needs fastai; half a minute)
Used by crates/headstart/src/train/recipe_tests.rs for recipes/fastai_fine_tune.toml.
"""
import json
from pathlib import Path

import fastai
import torch
from fastai.vision.all import Callback, DataLoader, DataLoaders, Learner, CrossEntropyLossFlat, resnet18, vision_learner

OUT = Path(__file__).resolve().parents[2] / "fixtures" / "models" / "fine_tune.json"
BATCHES, EPOCHS = 7, 5


class Record(Callback):
    order = 100  # after the schedule

    def __init__(self):
        self.steps, self.frozen = [], None

    def before_batch(self):
        if not self.training:
            return
        hypers = self.opt.hypers
        self.steps.append({"lr": [h["lr"] for h in hypers], "momentum": hypers[-1]["mom"]})
        if self.frozen is None:
            # The body is a sequence: its names are those of the network's children by number.
            children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
            body = self.model[0].named_parameters()
            names = {f"{children[int(n.split('.')[0])]}.{n.split('.', 1)[1]}": p.requires_grad for n, p in body}
            self.frozen = [n for n, trains in names.items() if not trains]


def main():
    torch.manual_seed(0)
    items = [(torch.rand(3, 32, 32), i % 3) for i in range(BATCHES * 2)]
    dls = DataLoaders(DataLoader(items, bs=2), DataLoader(items[:2], bs=2))
    dls.vocab, record = ["a", "b", "c"], Record()
    learn = vision_learner(
        dls, resnet18, pretrained=False, normalize=False, n_out=3, loss_func=CrossEntropyLossFlat(), cbs=[record]
    )
    learn.freeze()
    hypers = dict(learn.create_opt() or learn.opt.hypers[0])
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(EPOCHS, base_lr=2e-3, freeze_epochs=1, lr_mult=100, pct_start=0.3, div=5.0)
    assert len(record.steps) == BATCHES * (EPOCHS + 1), len(record.steps)
    data = {
        "fastai": fastai.__version__,
        "batches": BATCHES,
        "epochs": EPOCHS,
        "frozen": record.frozen,
        "adam": {k: hypers[k] for k in ("sqr_mom", "eps", "wd")},
        "steps": record.steps,
    }
    OUT.write_text(json.dumps(data) + "\n")
    print(len(record.steps), record.steps[0], record.steps[-1], len(record.frozen), data["adam"])


main()
