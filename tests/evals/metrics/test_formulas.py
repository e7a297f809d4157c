"""Every metric beside a replica written from its paper, one example at a time, with numpy."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from sklearn.metrics import auc
from torch import Tensor

from attnchain_evals import perturbation_curve
from attnchain_evals.metrics import (
    AOPC,
    NAOPC,
    SRG,
    Comprehensiveness,
    Deletion,
    Infidelity,
    Insertion,
    Protocol,
    ReverseDeletion,
    SaCo,
    SensitivityN,
    Sufficiency,
    Trial,
    preset,
)
from attnchain_evals.metrics.naopc import best_order
from attnchain_evals.metrics.subsets import random_subsets
from attnchain_evals.perturbation.occlusion import KernelBlur
from attnchain_interp import AttentionError

from .planted import WEIGHTS, Planted, lit, trial, upscaled


@pytest.fixture
def grid() -> Tensor:
    return torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(3))


def probability(logit: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logit)))


def logit_without(removed: np.ndarray, left: float = 0.5) -> float:
    """Of the planted images, all evidence 1 and the rest 0; a removed patch keeps the share `left` (mean colour: 1/2)."""
    weights = WEIGHTS.double().numpy().ravel()
    return 8 * float((weights * np.where(removed, left, 1)).sum()) - 3.2


def order_of(row: Tensor) -> list[int]:
    return np.argsort(-row.double().numpy().ravel(), kind="stable").tolist()


def removals(order: list[int], counts: list[int]) -> np.ndarray:
    return np.array([[place in order[:count] for place in range(16)] for count in counts])


def curve_by_hand(row: Tensor, counts: list[int]) -> np.ndarray:
    return probability(np.array([logit_without(removed) for removed in removals(order_of(row), counts)]))


def test_areas_and_mean_drops(grid: Tensor) -> None:
    on, counts = trial(), [0, 4, 8, 12, 16]
    fractions = [count / 16 for count in counts]
    protocol = Protocol(fractions=(0.25, 0.5, 0.75))
    for row, example in enumerate(grid):
        morf, lerf = curve_by_hand(example, counts), curve_by_hand(-example, counts)
        assert Deletion(protocol).measure(on, grid)[row, 0] == pytest.approx(auc(fractions, morf), abs=1e-6)
        assert Insertion(protocol).measure(on, grid)[row, 0] == pytest.approx(auc(fractions, lerf), abs=1e-6)
        gains = [auc(fractions, lerf) - auc(fractions, morf), auc(fractions, lerf), auc(fractions, morf)]
        assert SRG(protocol).measure(on, grid)[row].tolist() == pytest.approx(gains, abs=1e-6)
        assert AOPC(protocol).measure(on, grid)[row, 0] == pytest.approx((morf[0] - morf).mean(), abs=1e-6)
        assert Comprehensiveness(protocol).measure(on, grid)[row, 0] == pytest.approx((morf[0] - morf[1:4]).mean(), abs=1e-6)
        kept = lerf[::-1][1:4]  # what is left when all but the first k are removed
        assert Sufficiency(protocol).measure(on, grid)[row, 0] == pytest.approx((morf[0] - kept).mean(), abs=1e-6)


def test_rise_as_its_code_has_it(grid: Tensor) -> None:
    """Pixels by saliency, 16 (a row's number) at a time; (Σs − s₀/2 − s_n/2) / n; blurred start for insertion."""
    on, saliency = trial(), torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(1))
    for name, start, finish in (
        ("rise/deletion", on.inputs, torch.zeros_like(on.inputs)),
        ("rise/insertion", KernelBlur()(on.inputs), on.inputs),
    ):
        found = preset(name).measure(on, saliency)[:, 0]
        for row in range(2):
            image, order = start[row].clone().flatten(1), np.argsort(-saliency[row].numpy().ravel(), kind="stable")
            scores = []
            for step in range(17):
                taken = order[: 16 * step]
                image[:, taken] = finish[row].flatten(1)[:, taken]
                scores.append(float(Planted()(image.view(1, 3, 16, 16)).softmax(1)[0, 1].detach()))
            area = (np.sum(scores) - scores[0] / 2 - scores[-1] / 2) / 16
            assert found[row] == pytest.approx(area, abs=1e-6)


def test_chefer_takes_floors_of_tenths_black_before_normalisation() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    raw, saliency = torch.rand(1, 3, 16, 16), torch.rand(1, 16, 16)
    shift, scale = (torch.tensor(values)[None, :, None, None] for values in (mean, std))
    seen: list[Tensor] = []

    def model(images: Tensor) -> Tensor:
        seen.append(images * scale + shift)  # before normalisation
        return torch.tensor([[0.0, float(len(seen) < 6)]]).expand(len(images), -1)

    on = Trial(model, (raw - shift) / scale, torch.tensor([1]))
    metric = preset("chefer/positive", mean=mean, std=std)
    assert isinstance(metric, Deletion)
    metric.protocol = replace(metric.protocol, batch_size=1)
    figure = float(metric.measure(on, saliency))
    removed = [int(256 * tenth / 10) for tenth in range(1, 10)]
    black = [int((image.abs() < 1e-5).all(1).sum()) for image in seen[1:]]
    assert black == removed
    right = [1.0] * 4 + [0.0] * 5
    assert figure == pytest.approx(auc(removed, right) / (removed[-1] - removed[0]))


def test_sensitivity_n_is_one_for_the_truth_and_numpys_correlation_else(grid: Tensor) -> None:
    on, metric = trial(), SensitivityN(samples=30)
    assert metric.measure(on, WEIGHTS.expand(2, -1, -1)).flatten().tolist() == pytest.approx([1] * 14, abs=1e-5)
    assert metric.measure(on, -WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([-1] * 2, abs=1e-5)
    sizes = [size for size in (1, 1, 2, 3, 6, 13) for _ in range(30)]
    subsets = random_subsets(sizes, 16, 2, first=0, seed=0)
    assert torch.equal(subsets.sum(2), torch.tensor([sizes, sizes]))
    found = metric.measure(on, grid)
    for row in range(2):
        for size in range(6):
            chosen = subsets[row, 30 * size : 30 * (size + 1)].numpy()
            sums = chosen @ grid[row].double().numpy().ravel()
            costs = [logit_without(np.zeros(16, bool)) - logit_without(removed) for removed in chosen]
            assert found[row, 1 + size] == pytest.approx(np.corrcoef(sums, costs)[0, 1], abs=1e-4)
        assert found[row, 0] == pytest.approx(float(found[row, 1:].mean()))


def test_infidelity_by_its_formula(grid: Tensor) -> None:
    on, metric = trial(), Infidelity(samples=25)
    found = metric.measure(on, grid)[:, 0]
    sizes = torch.randint(1, 17, (25,), generator=torch.Generator().manual_seed(0)).tolist()
    subsets = random_subsets(sizes, 16, 2, first=0, seed=0)
    for row in range(2):
        chosen = subsets[row].numpy()
        sums = chosen @ grid[row].double().numpy().ravel()
        costs = probability(logit_without(np.zeros(16, bool))) - np.array(
            [probability(logit_without(removed)) for removed in chosen]
        )
        beta = (sums * costs).mean() / (sums**2).mean()
        assert found[row] == pytest.approx(((beta * sums - costs) ** 2).mean(), abs=1e-6)
    linear = Infidelity(samples=25, score="logit")
    assert linear.measure(trial(), WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_saco_by_its_formula() -> None:
    grid = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))  # no two groups cost the same
    found = SaCo(groups=4, features="patch").measure(trial(), grid)[:, 0]
    for row, example in enumerate(grid):
        order = order_of(example)
        groups = [order[4 * k : 4 * k + 4] for k in range(4)]
        salience = [sum(float(example.flatten()[place]) for place in group) for group in groups]
        clean = probability(logit_without(np.zeros(16, bool)))
        costs = [clean - probability(logit_without(np.isin(np.arange(16), group))) for group in groups]
        score = total = 0.0
        for i in range(4):
            for j in range(i + 1, 4):
                weight = salience[i] - salience[j]
                score += weight if costs[i] >= costs[j] else -weight
                total += abs(weight)
        assert found[row] == pytest.approx(score / total, abs=1e-5)


def test_bounds_of_naopc_by_enumeration() -> None:
    """Six features whose cost is no sum: 720 orders. A beam of 20 holds all sets of a size."""
    table = torch.rand(64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def cost(removed: Tensor) -> Tensor:
        return table[(removed.long() * 2 ** torch.arange(6)).sum(1)]

    every = []
    for order in permutations(range(6)):
        removed = torch.zeros(6, 6, dtype=torch.bool)
        for step in range(6):
            removed[step:, order[step]] = True
        every.append(float(cost(removed).mean()))
    assert best_order(cost, 6, beam=20) == pytest.approx(max(every))
    assert -best_order(lambda removed: -cost(removed), 6, beam=20) == pytest.approx(min(every))
    assert best_order(cost, 6, beam=1) <= max(every)


def test_naopc_of_the_best_and_the_worst_order(grid: Tensor) -> None:
    metric = NAOPC(regions=(4, 4))
    value, aopc, lower, upper = metric.measure(trial(), grid).T
    assert torch.allclose(value, (aopc - lower) / (upper - lower))
    scores = [curve_by_hand(example, list(range(1, 17))) for example in grid]
    clean = probability(logit_without(np.zeros(16, bool)))
    assert aopc.tolist() == pytest.approx([(clean - row).mean() for row in scores], abs=1e-6)
    assert metric.measure(trial(), WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert metric.measure(trial(), -WEIGHTS.expand(2, -1, -1))[:, 0].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_token_masking_is_the_area_under_accuracy(grid: Tensor) -> None:
    counts = [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 14, 15, 16]
    steps = sorted({*counts})
    found = preset("token-masking").measure(trial(), grid)[:, 0]
    for row, example in enumerate(grid):
        kept = [logit_without(removed, left=0) > 0 for removed in removals(order_of(example), steps)]
        assert found[row] == pytest.approx(auc(np.array(steps) / 16, np.array(kept, float)), abs=1e-6)


def test_token_masking_against_labels(grid: Tensor) -> None:
    on = trial()
    labelled = replace(on, label=torch.tensor([1, 0]))
    for name, sign in (("token-masking", 1), ("token-masking/lowest", -1)):
        metric = preset(name, target="label")
        assert isinstance(metric, Deletion | ReverseDeletion)
        steps = sorted({round(16 * step) for step in metric.protocol.steps})
        for row, example in enumerate(grid):
            kept = [logit_without(removed, left=0) > 0 for removed in removals(order_of(sign * example), steps)]
            right = np.array(kept if row == 0 else ~np.array(kept), float)
            assert metric.measure(labelled, grid)[row, 0] == pytest.approx(auc(np.array(steps) / 16, right), abs=1e-6)
        with pytest.raises(AttentionError, match="scores the right classes, but the trial has no labels"):
            metric.measure(on, grid)
    assert Protocol(score="accuracy", target="label").name == "mean/accuracy/label"


def test_curves_of_quantus() -> None:
    """Where definitions coincide: one channel, a constant baseline, no ties. Its areas do not run on this numpy."""
    model, images = Planted(1).eval(), lit(2, 1)
    x, y = images.numpy(), np.ones(2, int)
    saliency = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    shared: dict[str, Any] = {
        "perturb_baseline": 0.0,
        "normalise": False,
        "abs": False,
        "disable_warnings": True,
        "display_progressbar": False,
    }
    flipped = quantus.PixelFlipping(features_in_step=16, return_auc_per_sample=False, **shared)(
        model=model, x_batch=x, y_batch=y, a_batch=saliency[:, None].numpy()
    )
    ours = perturbation_curve(model, images, saliency, 1, occlusion="zero", features="pixel", fractions=16)
    assert np.allclose(np.array(flipped), ours.scores[:, 1:], atol=1e-5)
    grid = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))
    regions = quantus.RegionPerturbation(patch_size=4, regions_evaluation=16, order="morf", **shared)(
        model=model, x_batch=x, y_batch=y, a_batch=upscaled(grid)[:, None].numpy()
    )
    ours = perturbation_curve(model, images, grid, 1, occlusion="zero", fractions=16)
    assert np.allclose(np.array(regions), ours.scores[:, :1] - ours.scores[:, 1:], atol=1e-5)
