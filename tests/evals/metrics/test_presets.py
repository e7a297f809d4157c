"""Every preset ranks the planted truth first and its reverse last, and its figures on the bundled model stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import auc
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, bundled_vit
from attnchain_evals.metrics import OF_TEXT, PRESETS, TEXT, Deletion, ExampleMetric, Protocol, ReverseDeletion, Trial, preset
from attnchain_evals.metrics.saco import saco
from attnchain_evals.perturbation.class_score import ClassScore, class_score
from attnchain_evals.perturbation.occlusion import KernelBlur, NoisyLinear

from ..summed_tokens import ORACLE
from ..summed_tokens import trial as text_trial
from .planted import WEIGHTS, Planted, logit_without, order_of, removals, trial, upscaled

SETTINGS: dict[str, dict[str, Any]] = {
    "chefer/positive": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "chefer/negative": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "naopc": {"regions": (4, 4)},
    "sensitivity-n": {"samples": 40},
}
OF_IMAGES = [name for name in PRESETS if not name.startswith(("evidence", "sentence"))]
BY_PIXEL = {"rise/deletion", "rise/insertion", "chefer/positive", "chefer/negative", "road/morf", "road/lerf", "saco"}


def made(name: str) -> ExampleMetric:
    return preset(name, **SETTINGS.get(name, {}))


def score(metric: ExampleMetric, on: Trial, grid: Tensor) -> float:
    metric.reset()
    maps = grid.expand(len(on.inputs), -1, -1)
    metric.update(on, upscaled(maps) if metric.name in BY_PIXEL else maps)
    assert int(metric.undefined) == 0
    return float(metric.compute())


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_planted_ranking_is_best_and_its_reverse_worst(name: str) -> None:
    metric, on = made(name), trial()
    sign = 1 if metric.higher_is_better else -1
    best, worst = (sign * score(metric, on, grid) for grid in (WEIGHTS, WEIGHTS.max() - WEIGHTS))
    generator = torch.Generator().manual_seed(0)
    others = [sign * score(metric, on, torch.rand(4, 4, generator=generator)) for _ in range(4)]
    slack = 1e-6
    assert best > worst
    assert best >= max(others) - slack
    if name == "infidelity":  # 1 − w correlates with the truth as little as noise may
        assert worst < best
    else:
        assert worst <= min(others) + slack


@pytest.mark.parametrize("name", OF_IMAGES)
def test_what_is_not_finite_is_counted_and_left_out(name: str) -> None:
    metric, on = made(name), trial()
    grid = torch.stack([WEIGHTS, WEIGHTS * torch.nan])
    figures = metric.measure(on, grid)
    assert figures.shape == (2, len(metric.columns))
    assert figures.dtype == torch.float64
    assert figures[0].isfinite().all()
    assert figures[1].isnan().all()
    metric.update(on, grid)
    assert (int(metric.defined), int(metric.undefined)) == (1, 1)
    assert float(metric.compute()) == pytest.approx(float(metric.summary(figures[0].numpy())))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_an_example_has_the_same_figures_in_any_batch(name: str) -> None:
    grid = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    whole = made(name).measure(trial(3, first=5), grid)
    alone = made(name).measure(trial(1, first=7), grid[2:])
    assert torch.allclose(whole[2:], alone, atol=1e-6)


def test_noise_is_seeded_by_the_number_of_the_example() -> None:
    grid = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    metric = Deletion(Protocol(NoisyLinear(noise=0.5), fractions=4))
    assert torch.allclose(metric.measure(trial(3, first=5), grid)[2:], metric.measure(trial(1, first=7), grid[2:]), atol=1e-6)
    assert not torch.allclose(metric.measure(trial(1, first=0), grid[2:]), metric.measure(trial(1, first=7), grid[2:]))


TIES = {"sensitivity-n": np.nan, "saco": np.nan, "pointing-game": 0.5, "energy-inside": 0.5, "acc": 0.5}


@pytest.mark.parametrize("name", OF_IMAGES)
def test_constant_attributions(name: str) -> None:
    figure = made(name).measure(trial(), torch.ones(2, 4, 4))[:, 0]
    if name in TIES:
        assert figure.tolist() == pytest.approx([TIES[name]] * 2, nan_ok=True)
    else:  # raster order
        assert figure.isfinite().all()


GOLDEN = {  # of two images
    "rise/deletion": [0.0753, 0.55826],
    "rise/insertion": [0.26369, 0.71789],
    "chefer/positive": [0.12495, 0.56257],
    "chefer/negative": [0.31248, 0.81248],
    "road/morf": [0.0, 0.625],
    "road/lerf": [0.6876, 0.8126],
    "srg": [0.22063, 0.21733],
    "aopc": [0.68525, 0.41639],
    "naopc": [0.93279, 0.0],
    "comprehensiveness": [0.62577, 0.00414],
    "sufficiency": [0.74551, 0.66449],
    "sensitivity-n": [0.12476, 0.48889],
    "infidelity": [0.05295, 0.06119],
    "saco": [0.70763, 0.46807],
    "token-masking": [0.02551, 0.55102],
    "token-masking/lowest": [0.32653, 0.80102],
    "acc": [0.59184, 0.55102],
    "miou": [0.42347, 0.43367],
    "map": [0.76656, 0.74123],
    "pointing-game": [1.0, 1.0],
    "energy-inside": [0.33356, 0.24244],
}
SMALLER: dict[str, dict[str, Any]] = {
    "sensitivity-n": {"samples": 5, "fractions": (0.2, 0.8)},
    "infidelity": {"samples": 10},
    "naopc": {"regions": (2, 2)},
    "saco": {"groups": 5},
}
OF_MASKS = {"acc", "miou", "map", "pointing-game", "energy-inside"}


@pytest.fixture(scope="module")
def exact() -> tuple[Trial, Tensor]:
    """The bundled model on two images, with rectangles as masks, and attributions that are distinct multiples of 1/2.

    Ranks and thresholds are therefore exact on every processor. Only the model's outputs are rounded.
    """
    model = bundled_vit()
    images = next(ClutteredDigits("validation", 2, seed=0).batches(2)).image
    mask = torch.zeros(2, 56, 56, dtype=torch.bool)
    mask[0, 16:40, 12:44], mask[1, 8:32, 24:48] = True, True
    order = np.stack([np.random.default_rng([12, k]).permutation(196).reshape(14, 14) for k in range(2)])
    grid = (torch.from_numpy(order) + 60.5 * mask[:, ::4, ::4]).float()
    with torch.no_grad():
        return Trial(model, images, model(images).argmax(1), mask), grid


def golden(name: str, exact: tuple[Trial, Tensor]) -> Tensor:
    on, grid = exact
    metric = preset(name, **(SETTINGS.get(name, {}) | SMALLER.get(name, {})))
    return metric.measure(on, upscaled(grid) if name in BY_PIXEL | OF_MASKS else grid)[:, 0]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name: str, exact: tuple[Trial, Tensor]) -> None:
    assert golden(name, exact).tolist() == pytest.approx(GOLDEN[name], abs=2e-4)


def test_the_golden_numbers_rest_on_no_near_ties(exact: tuple[Trial, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """SaCo compares costs of groups, and accuracy compares logits: none of these are so close that rounding decides."""
    gaps: list[float] = []

    def compared(salience: Tensor, costs: Tensor) -> Tensor:
        gaps.append(float(costs.sort(1).values.diff(dim=1).min()))
        return saco(salience, costs)

    def scored(logits: Tensor, target: Tensor, kind: ClassScore) -> Tensor:
        gaps.append(float(logits.topk(2).values.diff(dim=-1).abs().min()))
        return class_score(logits, target, kind)

    monkeypatch.setattr("attnchain_evals.metrics.saco.saco", compared)
    golden("saco", exact)
    monkeypatch.setattr("attnchain_evals.perturbation.perturbation.class_score", scored)
    by_accuracy = ["chefer/positive", "chefer/negative", "road/morf", "road/lerf", "token-masking", "token-masking/lowest"]
    fresh = replace(exact[0])  # a trial of its own, whose curves are not taken yet
    for name in by_accuracy:
        golden(name, (fresh, exact[1]))
    assert len(gaps) > len(by_accuracy)
    assert gaps[0] > 2e-3
    assert min(gaps[1:]) > 0.05


def test_road_counts_lerf_by_what_is_kept() -> None:
    """Its code removes the first p of the order in MoRF, and all but the first p in LeRF."""
    morf, lerf = preset("road/morf"), preset("road/lerf")
    assert isinstance(morf, Deletion)
    assert isinstance(lerf, ReverseDeletion)
    assert sorted(round(1 - step, 9) for step in lerf.protocol.steps) == list(morf.protocol.steps)
    assert (morf.version, lerf.version) == (3, 4)


def test_bad_calls() -> None:
    with pytest.raises(ac.AttentionError, match="(?s)preset='rise' is unknown.*Use 'rise/deletion'"):
        preset("rise")
    with pytest.raises(ac.AttentionError, match="need mean= and std="):
        preset("chefer/positive")
    with pytest.raises(ac.AttentionError, match="not a normalisation of images of 3 channels"):
        preset("chefer/positive", mean=(0.5,), std=(1.0,)).measure(trial(), torch.rand(2, 16, 16))
    with pytest.raises(ac.AttentionError, match=r'(?s)shape \(2, 3, 16, 16\) for 2 inputs; srg needs.*output="grid"'):
        preset("srg").measure(trial(), torch.rand(2, 3, 16, 16))
    on = trial()
    lacking = Trial(on.model, on.inputs, torch.tensor([1, 2]), on.mask)
    for name in ("srg", "sensitivity-n", "saco", "infidelity", "naopc", "sufficiency"):
        with pytest.raises(ac.AttentionError, match="does not name classes of this model; it has 2"):
            preset(name).measure(lacking, torch.rand(2, 4, 4))


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


def test_token_masking_is_the_area_under_accuracy(grid: Tensor) -> None:
    counts = [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 14, 15, 16]
    steps = sorted({*counts})
    found = preset("token-masking").measure(trial(), grid)[:, 0]
    for row, example in enumerate(grid):
        kept = [logit_without(removed, left=0) > 0 for removed in removals(order_of(example), steps)]
        assert found[row] == pytest.approx(auc(np.array(steps) / 16, np.array(kept, float)), abs=1e-6)


@pytest.mark.parametrize("name", OF_TEXT)
def test_the_oracle_is_best_and_its_reverse_worst(name: str) -> None:
    settings = {**TEXT, "occlusion": "pad-token"} | ({"groups": 4} if name == "saco" else {})
    metric = preset(name, **settings)
    sign = 1 if metric.higher_is_better else -1
    generator = torch.Generator().manual_seed(0)

    def score(scores: Tensor) -> float:
        return sign * float(metric.measure(text_trial(), scores)[:, 0].mean())

    best, worst = score(ORACLE), score(-ORACLE)
    others = [score(torch.rand(2, 5, generator=generator)) for _ in range(20)]
    assert worst < best
    assert best >= max(others) - 1e-6
    assert name == "saco" or worst <= min(others) + 1e-6
