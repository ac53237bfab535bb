"""Writes fixtures/transfer/: reference values for the transfer scores and the learning-rate suggestions.

Run   python tools/golden/transfer.py PATH/TO/fastai/callback/schedule.py
Needs numpy, scikit-learn, torch (fastai's file is read, not imported: `pip download fastai --no-deps`, 2.8.12)

The scores are written down here from the papers with numpy's and scikit-learn's linear algebra, independently of the
Rust code: LogME (You et al. 2021) by the full covariance, H-score (Ibrahim et al. 2021) by `LedoitWolf` and `pinv`,
LEEP (Nguyen et al. 2020) by its double sum, nearest neighbours and the ridge probe by leaving samples out one by one.
"""

import ast
import json
import pathlib
import sys

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

OUT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "transfer"


def logme(f, y, classes):
    """Mean over classes of the maximal log evidence per sample, the official code's fixed point (at most 11 rounds)."""
    n, d = f.shape
    total = 0.0
    gram = f.T @ f
    sigma, v = np.linalg.eigh(gram)
    sigma = np.clip(sigma, 0, None)
    for k in range(classes):
        t_ = (y == k).astype(float)
        z = v.T @ (f.T @ t_)
        alpha = beta = 1.0
        for _ in range(11):
            t = alpha / beta
            gamma = (sigma / (sigma + t)).sum()
            m = v @ (z / (sigma + t))
            m2, res2 = m @ m, ((t_ - f @ m) ** 2).sum()
            alpha, beta = gamma / (m2 + 1e-5), (n - gamma) / (res2 + 1e-5)
            if abs(alpha / beta - t) / t <= 1e-3:
                break
        a = alpha * np.eye(d) + beta * gram
        evidence = (d / 2 * np.log(alpha) + n / 2 * np.log(beta) - 0.5 * np.linalg.slogdet(a)[1]
                    - beta / 2 * res2 - alpha / 2 * m2 - n / 2 * np.log(2 * np.pi))
        total += evidence / n
    return total / classes


def h_score(f, y, classes):
    f = f - f.mean(0, keepdims=True)
    lw = LedoitWolf().fit(f)
    g = np.zeros_like(f)
    for k in range(classes):
        g[y == k] = f[y == k].mean(0)
    covg = np.cov(g, rowvar=False)
    return float(np.trace(np.linalg.pinv(lw.covariance_, rcond=1e-15) @ ((1 - lw.shrinkage_) * covg))), float(lw.shrinkage_)


def leep(p, y, classes):
    n, z = p.shape
    joint = np.zeros((classes, z))
    for i in range(n):
        joint[y[i]] += p[i] / n
    conditional = joint / joint.sum(0, keepdims=True)
    return float(np.mean([np.log((conditional[y[i]] * p[i]).sum()) for i in range(n)]))


def knn(f, y, k):
    u = f / np.linalg.norm(f, axis=1, keepdims=True)
    right = 0
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(u[rest], y[rest])
        right += model.predict(u[i : i + 1])[0] == y[i]
    return right / len(y)


def probe(f, y, classes, penalty):
    """Scores of each sample by a ridge classifier that never saw it."""
    targets = np.eye(classes)[y]
    scores = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        # The intercept is a constant feature with the same penalty, so that leaving one out has a closed form.
        one = np.ones((len(y), 1))
        x = np.hstack([f, one])
        scores.append(Ridge(alpha=penalty, fit_intercept=False).fit(x[rest], targets[rest]).predict(x[i : i + 1])[0])
    return np.array(scores)


def sample(n, d, classes, seed, spread):
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, classes, n))
    f = rng.normal(size=(classes, d))[y] * spread + rng.normal(size=(n, d)) * rng.uniform(0.3, 1.5, d)
    return np.round(np.maximum(f + 0.3, 0), 4), y


def scores():
    cases = []
    for n, d, classes, seed, spread in [(60, 8, 3, 0, 0.8), (24, 40, 4, 1, 0.6), (50, 12, 2, 2, 0.3)]:
        f, y = sample(n, d, classes, seed, spread)
        rng = np.random.default_rng(seed + 10)
        p = np.exp(rng.normal(size=(n, 7)) + 1.5 * np.eye(7)[y])
        p = np.round(p / p.sum(1, keepdims=True), 6)
        h, shrinkage = h_score(f, y, classes)
        cases.append({
            "features": f.ravel().tolist(), "width": d, "labels": y.tolist(), "classes": classes,
            "source": p.ravel().tolist(), "source_classes": 7,
            "logme": logme(f, y, classes), "h_score": h, "shrinkage": shrinkage, "leep": leep(p, y, classes),
            "knn5": knn(f, y, 5), "penalty": 3.0, "probe": probe(f, y, classes, 3.0).ravel().tolist(),
        })
    return cases


def suggestions(path):
    wanted = {"valley", "slide", "minimum", "steep"}
    tree = ast.parse(pathlib.Path(path).read_text())
    found = [x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name in wanted and not x.decorator_list]
    space = {"np": np, "to_np": lambda t: t.numpy()}
    exec(compile(ast.Module(found, []), path, "exec"), space)
    cases = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        steps = [100, 100, 60, 100, 200, 100][seed]
        stop = int(steps * rng.uniform(0.75, 1.0))
        x = np.arange(stop) / steps
        rates = 1e-7 * (1e8) ** x
        fall, turn = rng.uniform(0.4, 0.55), rng.uniform(0.7, 0.85)
        loss = 2.0 - 1.4 / (1 + np.exp(-(x - fall) * 25)) + np.exp((x - turn) * 30) * 0.05 + rng.normal(size=stop) * 0.01
        keep = slice(steps // 10, -5)
        # Doubles, as Headstart works with them; fastai's own are single.
        lrs, losses = torch.tensor(rates[keep], dtype=torch.float64), torch.tensor(loss[keep], dtype=torch.float64)
        cases.append({"steps": steps, "rates": rates.tolist(), "losses": loss.tolist()}
                     | {name: float(space[name](lrs, losses, steps)[0]) for name in sorted(wanted)})
    return cases


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "scores.json").write_text(json.dumps(scores()))
    (OUT / "lr_suggest.json").write_text(json.dumps(suggestions(sys.argv[1])))
