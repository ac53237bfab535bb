"""Writes fixtures/tasks/: reference values for the metrics and losses of multi-label classification and regression.

Run    python tools/golden/tasks.py     (needs numpy, scikit-learn, torch)

Metrics are scikit-learn's, losses PyTorch's; the asymmetric loss is written down here from its paper (Ridnik et al.,
ICCV 2021, equations 4 to 7), with its gradient by autograd.
"""

import json
import pathlib

import numpy as np
import torch
from sklearn import metrics
from torch.nn import functional as F

OUT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "tasks"


def labels(rng):
    cases = []
    for n, count, ties in [(12, 3, False), (40, 5, True), (1, 2, False)]:
        scores = rng.normal(size=(n, count)).astype(np.float32)
        if ties:
            scores = np.round(scores * 2) / 2
        truth = rng.random((n, count)) < rng.uniform(0.1, 0.6, size=count)
        truth[:, -1] = False  # a label that never occurs
        thresholds = rng.normal(size=count) * 0.3
        named = scores >= thresholds
        occurs = truth.any(0) | named.any(0)
        ap = [metrics.average_precision_score(truth[:, j], scores[:, j]) if truth[:, j].any() else None for j in range(count)]
        best = [max(metrics.f1_score(truth[:, j], scores[:, j] >= s) for s in scores[:, j]) if truth[:, j].any() else 0.0
                for j in range(count)]
        cases.append({
            "scores": scores.ravel().tolist(), "truth": truth.ravel().tolist(), "labels": count, "ap": ap,
            "thresholds": thresholds.tolist(),
            "f1": [metrics.f1_score(truth[:, j], named[:, j], zero_division=0.0) for j in range(count)],
            "micro_f1": metrics.f1_score(truth, named, average="micro"),
            "macro_f1": metrics.f1_score(truth[:, occurs], named[:, occurs], average="macro"),
            "bce": F.binary_cross_entropy_with_logits(torch.tensor(scores), torch.tensor(truth).float()).item(),
            "best_f1": best,
        })
    return cases


def numbers(rng):
    cases = []
    for n, noise in [(25, 0.3), (60, 2.0)]:
        truth = rng.normal(size=n) * 40 + 100
        predicted = truth + rng.normal(size=n) * 40 * noise
        cases.append({
            "predicted": predicted.tolist(), "truth": truth.tolist(), "mae": metrics.mean_absolute_error(truth, predicted),
            "rmse": metrics.root_mean_squared_error(truth, predicted), "r2": metrics.r2_score(truth, predicted),
        })
    return cases


def asymmetric(x, t, negative, positive, clip):
    p = torch.sigmoid(x)
    shifted = (p - clip).clamp(min=0)
    each = t * (1 - p) ** positive * torch.log(p) + (1 - t) * shifted**negative * torch.log(1 - shifted)
    return -each.mean()


def losses():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64) * 2
    hard = (torch.rand(6, 4, generator=generator) < 0.4).double()
    soft = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, 3.0, 0.5, 9.0], dtype=torch.float64)
    values = torch.randn(6, 4, generator=generator, dtype=torch.float64) * 2
    bce = F.binary_cross_entropy_with_logits
    sevens = torch.full((4,), 7.0, dtype=torch.float64)
    runs = [
        ("bce", hard, None, lambda x: bce(x, hard)),
        ("bce", soft, None, lambda x: bce(x, soft)),
        ("bce", hard, weights, lambda x: bce(x, hard, pos_weight=weights)),
        ("bce(pos_weight=7)", hard, None, lambda x: bce(x, hard, pos_weight=sevens)),
        ("asymmetric", hard, None, lambda x: asymmetric(x, hard, 4, 1, 0.05)),
        ("asymmetric(gamma_neg=2, gamma_pos=2, clip=0)", soft, None, lambda x: asymmetric(x, soft, 2, 2, 0.0)),
        ("mse", values, None, lambda x: F.mse_loss(x, values)),
        ("huber", values, None, lambda x: F.smooth_l1_loss(x, values)),
        ("huber(delta=0.5)", values, None, lambda x: F.huber_loss(x, values, delta=0.5)),
    ]
    cases = []
    for text, goal, weight, loss in runs:
        leaf = x.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        cases.append({
            "loss": text, "outputs": x.flatten().tolist(), "width": 4, "goal": goal.flatten().tolist(),
            "pos_weight": None if weight is None else weight.tolist(), "value": value.item(),
            "gradient": leaf.grad.flatten().tolist(),
        })
    return cases


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(5)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, cases in [("labels", labels(rng)), ("numbers", numbers(rng)), ("losses", losses())]:
        (OUT / f"{name}.json").write_text(json.dumps(cases) + "\n")


main()
