"""Writes fixtures/audit/: what cleanlab suspects among noisy labels.

Run   python tools/golden/audit.py
Needs numpy, cleanlab (2.9.0)

Probabilities are rounded first, so that the numbers in the file are exactly those cleanlab sees.
"""

import json
import pathlib

import numpy as np
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from cleanlab.filter import find_label_issues

OUT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "audit"


def case(seed, n, classes, noise, sharp, missing=None):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + sharp * np.eye(classes)[truth]
    p = np.exp(logits)
    p = np.round(p / p.sum(1, keepdims=True), 9)
    labels = np.where(rng.random(n) < noise, rng.integers(0, classes, n), truth)
    if missing is not None:
        labels[labels == missing] = (missing + 1) % classes
    # cleanlab wants every class in its count; one without examples is given by the shape of `p`.
    joint = compute_confident_joint(labels, p)
    issues = find_label_issues(labels, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    return {
        "probabilities": p.ravel().tolist(), "classes": classes, "labels": labels.tolist(),
        "thresholds": [float(t) for t in get_confident_thresholds(labels, p)],
        "joint": joint.ravel().tolist(), "issues": [int(i) for i in issues],
    }


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    cases = [case(0, 80, 2, 0.15, 3.0), case(1, 120, 3, 0.3, 2.0), case(2, 150, 5, 0.1, 2.5), case(3, 40, 6, 0.5, 1.0),
             case(4, 90, 4, 0.2, 4.0, missing=2), case(5, 30, 10, 0.4, 1.5)]
    (OUT / "confident.json").write_text(json.dumps(cases))
