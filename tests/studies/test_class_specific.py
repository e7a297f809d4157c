"""The comparison measures what its page says: a walk is ExpectedVisits but for one choice; verdicts follow from figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import BenchmarkResult, ClutteredDigits
from attnchain_evals.bench.fingerprint import metric_identity
from studies import class_specific
from studies.backbones import BACKBONES, TRAINED
from studies.class_specific import OURS, Comparison, IntegratedPatches, methods, metrics
from studies.class_specific_page import RIVALS, answer, difference, page, table, verdict
from studies.expected_visits_variants import Walk, variants


def images(count: int = 2) -> Tensor:
    return next(ClutteredDigits("validation", count).batches(count)).image


def test_backbones_read_their_answer_off_in_different_ways() -> None:
    for backbone in TRAINED.values():
        store = ac.capture(backbone.build().eval(), images(1))
        assert store.tokens.grid == (8, 8)
        classes = int((store.tokens.roles == ac.Role.CLASS).sum())
        assert classes == (0 if backbone.architecture.get("global_pool") == "avg" else 1)


def test_a_walk_is_expected_visits_but_for_one_choice() -> None:
    model = TRAINED["small"].build().eval()
    found = ac.capture_gradients(model, images(), target=3)
    default = Walk().score(found)
    assert torch.allclose(default, ac.ExpectedVisits().score(found), atol=1e-6)
    tried = variants(model)
    for name, other in tried.items():
        if isinstance(other, Walk) and other.steps == 1:
            share, plain = (each / each.sum(1, keepdim=True) for each in (other.score(found), default))
            assert not torch.allclose(share, plain, atol=1e-5), name


def test_walks_by_their_formula() -> None:
    found = ac.capture_gradients(TRAINED["pooled"].build().eval(), images(1), target=3)
    W = torch.stack([(A * G).mean(1)[0] for A, G in found]).sum(0).clamp(min=0)
    start = torch.full((64,), 1 / 64)
    assert torch.allclose(Walk(bounces=False).score(found)[0], start @ W, atol=1e-7)
    P = W / W.sum(1, keepdim=True)
    expected = start @ torch.linalg.inv(torch.eye(64) - 0.5 * P)
    assert torch.allclose(Walk(divisor="rows", damping=0.5).score(found)[0], expected, atol=1e-5)


def test_an_integrated_walk_averages_gradients_from_the_mean_colour() -> None:
    model, batch = TRAINED["small"].build().eval(), images()
    mean = batch.mean((2, 3), keepdim=True).expand_as(batch)
    parts = [ac.capture_gradients(model, (1 - k / 3) * mean + k / 3 * batch, target=1).gradients for k in (1, 2, 3)]
    clean = ac.capture_gradients(model, batch, target=1)
    averaged = ac.gradients.AttentionGradients(clean.store, [sum(each) / 3 for each in zip(*parts, strict=True)])  # type: ignore[misc]
    expected = clean.tokens.to_grid(Walk().score(averaged))
    assert torch.allclose(Walk(model, steps=3).attribute(batch, 1, output="grid"), expected, atol=1e-4)


def test_patches_hold_the_mean_of_integrated_gradients() -> None:
    model, batch = TRAINED["small"].build().eval(), images()
    mean = batch.mean((2, 3), keepdim=True).expand_as(batch)
    pixels = IntegratedGradients(model).attribute(batch, mean, 1, n_steps=20).float()
    for absolute in (False, True):
        grid = IntegratedPatches(model, (8, 8), absolute).attribute(batch, 1)
        signed = pixels.abs() if absolute else pixels
        assert torch.allclose(grid[1, 2, 5] * 49, signed[1, :, 14:21, 35:42].sum(), atol=1e-4)


def measured(names: list[str], gain: float, level: str = "") -> Comparison:
    """SRG of the first method above that of the others by `gain`, over 20 examples; not above that of `level`."""
    metric = next(each for each in metrics() if each.name == "srg/mean")
    noise = np.random.default_rng(0).normal(0, 0.01, 20)
    values = dict.fromkeys(names, 0.5 - gain + noise) | {names[0]: np.full(20, 0.5)}
    values |= {name: np.full(20, 0.5) for name in names if name == level}
    rows = [("k", k, name, metric.name, 1, c, values[name][k]) for name in names for k in range(20) for c in metric.columns]
    frame = pd.DataFrame(rows, columns=["run", "example", "method", "metric", "version", "column", "value"])
    stated = {
        "methods": {name: {"class": name} for name in names},
        "metrics": {metric.name: metric_identity(metric)},
    }
    manifest = {"key": "k", "examples": 20, "configuration": {**stated, "limit": None, "seed": 0}}
    return Comparison(BenchmarkResult(manifest, frame, [metric], names[0]), 0.9)


def test_verdicts_follow_from_intervals() -> None:
    names = [OURS, "other"]
    for gain, expected in ((0.1, "better"), (-0.1, "worse"), (0.0, "open")):
        one = measured(names, gain)
        assert verdict(difference(one.found, OURS, "other")) == expected
        shown = table({"small": one}, {"other": (OURS, "other")}, "against")
        assert ("**" in shown) == (expected != "open")


def test_a_comparison_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {OURS: ac.ExpectedVisits(), "Rollout": ac.Rollout()}
    monkeypatch.setattr(class_specific, "load", lambda *_: TRAINED["small"].build().eval())
    monkeypatch.setattr(class_specific, "methods", lambda _: few)
    made = class_specific.compare("small", "test", 3, 5, tmp_path)
    again = Comparison.read(class_specific.run_of(tmp_path, "small", "test"))
    assert (again.accuracy, again.images, again.seed, again.found.baseline) == (made.accuracy, 3, 5, OURS)
    assert again.found.table().equals(made.found.table())


def test_the_page_says_what_was_found() -> None:
    model = TRAINED["small"].build().eval()
    tried, all_methods = list(variants(model)), list(methods(model))
    assert set(RIVALS) <= set(all_methods)
    validation = {name: measured(tried, 0.1) for name in BACKBONES}
    test = {name: measured(all_methods, 0.1 if name == "small" else -0.1) for name in BACKBONES}
    text = page(validation, test)
    assert "- against LeGrad: better on small; worse on bundled, pooled." in text
    assert "better on every backbone than: none of them." in text
    assert "less than 85 % of these test images: none." in text
    assert "- one step: worse on bundled, small, pooled." in text


def test_better_means_on_every_backbone() -> None:
    names = [OURS, "LeGrad", "Rollout"]
    one, two = measured(names, 0.1), measured(names, 0.1, level="Rollout")
    said = answer({"small": one, "pooled": two}, names[1:])
    assert said == "So it is better on every backbone than: LeGrad. Not so than: Rollout."
