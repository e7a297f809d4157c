"""`benchmark` on the bundled and on a tiny model, against its metrics called one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Attribution, Saliency
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, InputMagnitude, benchmark, bundled_vit, perturbation_curve, segmentation_scores
from attnchain_evals.bench.runner import Plan, Share, run
from attnchain_evals.cli.digits_demo import FRACTIONS
from attnchain_evals.metrics import AttributionMetric, Trial, curve_metrics, localisation_metrics
from attnchain_evals.metrics.statistics import Score, interval
from attnchain_evals.tasks.examples import Picture

from ..bench_tasks import Centre, Examples, tiny_vit, vit_methods

METHODS = {"Rollout": ac.Rollout(), "TokenRank": ac.TokenRank(), "magnitude": InputMagnitude((14, 14))}


def test_figures_are_those_of_the_metrics_themselves() -> None:
    model, data = bundled_vit(), ClutteredDigits("validation", 4)
    batch = next(data.batches(4))
    metrics = [*curve_metrics(fractions=FRACTIONS), *localisation_metrics()]
    result = benchmark(model, data, METHODS, metrics)
    grid = ac.TokenRank(model).attribute(batch.image, output="grid")
    with torch.no_grad():
        target = model(batch.image).argmax(1)
    for occlusion in ("mean", "blur"):
        areas = []
        for mode in ("deletion", "insertion"):
            curve = perturbation_curve(model, batch.image, grid, target, mode, occlusion=occlusion, fractions=FRACTIONS)  # type: ignore[arg-type]
            figures = result.figures("TokenRank", f"{mode}/{occlusion}")
            assert np.allclose(figures, torch.cat([curve.auc[:, None], curve.scores], 1), atol=1e-6)
            areas.append(figures[:, 0])
        gain = result.figures("TokenRank", f"srg/{occlusion}")[:, 0]
        assert np.allclose(gain, areas[1] - areas[0])
        assert result.scores["TokenRank"][f"srg/{occlusion}"].value == pytest.approx(gain.mean())
        base = result.figures("Rollout", f"srg/{occlusion}")[:, 0]
        assert result.differences["TokenRank"][f"srg/{occlusion}"].score.value == pytest.approx((gain - base).mean())
    local = segmentation_scores(grid, batch.mask)
    assert {name: result.scores["TokenRank"][name].value for name in local} == pytest.approx(local)
    assert "| TokenRank |" in result.markdown()


class Small(Examples):
    """Random images of 16 × 16 pixels, for the tiny model."""

    def __init__(self) -> None:
        super().__init__(5)
        self.images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        self.identity = {"small": 5}

    def __getitem__(self, index: int) -> Picture:
        return super().__getitem__(index)._replace(mask=torch.arange(16).expand(16, 16) < 7)


def test_class_specific_methods_explain_the_clean_prediction() -> None:
    model, images = tiny_vit(), Small().images
    with torch.no_grad():
        target = model(images).argmax(1)
    methods = {"Rollout": ac.Rollout(), "shared": ac.GradientAttention(), "own": ac.GradientAttention(model)}
    result = benchmark(model, Small(), methods, curve_metrics(("mean",)))
    shared = result.figures("shared", "deletion/mean")
    assert np.allclose(shared, result.figures("own", "deletion/mean"), atol=1e-5)
    grid = ac.GradientAttention(model).attribute(images, target, output="grid")
    assert np.allclose(shared[:, 0], perturbation_curve(model, images, grid, target).auc, atol=1e-6)


def test_examples_do_not_depend_on_the_batch_nor_on_the_number_of_processes(tmp_path: Path) -> None:
    model = tiny_vit()
    metrics = [*curve_metrics(fractions=(0.25, 0.75)), *localisation_metrics()]
    whole = benchmark(model, Small(), vit_methods(model), metrics, batch_size=5)
    parts = benchmark(model, Small(), vit_methods(model), metrics, batch_size=2)
    for method in whole.methods:
        if method != "RandomRanking":
            for metric in whole.metrics:
                # "map" ranks pixels: batches round maps differently, and two pixels that are nearly equal may change places
                bound = 2e-3 if metric == "map" else 1e-4
                assert np.allclose(whole.figures(method, metric), parts.figures(method, metric), atol=bound)
    plan = Plan(model, Small(), vit_methods(model), metrics, batch_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attnchain_evals.bench.runner.await_others", lambda *_: None)
        for rank in (0, 1):  # one after the other, each with its share
            run(plan, tmp_path, Share(rank, 2))
    shared = benchmark(model, Small(), vit_methods(model), metrics, batch_size=2, output=tmp_path)
    assert shared.table()["value"].equals(parts.table()["value"])


def test_random_rankings_differ_from_example_to_example() -> None:
    same = [torch.zeros(3, 16, 16)] * 3
    result = benchmark(tiny_vit(), same, {"RandomRanking": ac.RandomRanking()}, [Centre()], batch_size=1)
    assert len(np.unique(result.figures("RandomRanking", "centre"))) == 3


def test_intervals() -> None:
    values = np.random.default_rng(0).normal(5, 2, (400, 1))
    score = interval(lambda means: means[0], values)
    assert score.value == pytest.approx(values.mean())
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert interval(lambda means: means[0], values) == score, "the same seed, the same interval"
    paired = np.concatenate([values, values + 1], 1)
    assert interval(lambda means: means[1] - means[0], paired) == pytest.approx((1, 1, 1))
    assert str(Score(-0.0001, -0.25, 0.0004)) == "0.000 [-0.250, 0.000]"
    with pytest.raises(ac.AttentionError, match="at least two examples; there are 1"):
        interval(lambda means: means[0], values[:1])


def test_an_attribution_that_holds_nan_is_undefined_and_spoils_no_other() -> None:
    class Torn(Attribution):
        def attribute(self, inputs: Tensor, target: Any = None, output: str = "grid") -> Tensor:  # type: ignore[override]
            grid = torch.rand(len(inputs), 4, 4, generator=torch.Generator().manual_seed(0))
            grid[1, 0, 0] = torch.nan
            return grid

    metrics = [*curve_metrics(fractions=(0.5,)), *localisation_metrics()]
    result = benchmark(tiny_vit(), Small(), {"torn": Torn(lambda x: x)}, metrics)
    for metric in result.metrics:
        assert np.isnan(result.figures("torn", metric)).any(1).tolist() == [False, True, False, False, False]
    assert set(result.undefined["torn"].values()) == {1}


class Unsaid(AttributionMetric):
    def figures(self, trial: Trial, attributions: Tensor) -> Tensor:
        return attributions.flatten(1)[:, :1]


def test_bad_calls() -> None:
    with pytest.raises(ac.AttentionError, match="baseline='Rollout' is not among the methods.\nUse one of TokenRank"):
        benchmark(bundled_vit(), [], {"TokenRank": ac.TokenRank()}, baseline="Rollout")
    with pytest.raises(ac.AttentionError, match="(?s)methods is of type list; it must be of type Mapping.*{'TokenRank': ac"):
        benchmark(bundled_vit(), [], ["TokenRank"])  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="(?s)a metric is of type str; it must be .*ExampleMetric.*preset.'srg'"):
        benchmark(bundled_vit(), [], METHODS, ["srg"])  # type: ignore[list-item]
    with pytest.raises(ac.AttentionError, match="the metric 'unsaid' has no version and no higher_is_better"):
        benchmark(bundled_vit(), [], METHODS, [Unsaid("unsaid")])
    for given, said in (
        (bundled_vit(), r"VisionTransformer, which has no attribute\(inputs, target, output=…\)"),
        (Saliency(bundled_vit()), r"which has no attribute\(inputs, target, output=…\)"),
        (ac.TokenRank, r"the class TokenRank\.\nMake one of it: TokenRank\(\)"),
    ):
        with pytest.raises(ac.AttentionError, match=f"method 'own' is .*{said}"):
            benchmark(bundled_vit(), [], {"own": given})
    with pytest.raises(ac.AttentionError, match="held no example"):
        benchmark(bundled_vit(), [], METHODS)
    with pytest.raises(ac.AttentionError, match="(?s)the data have no masks, and acc asks.*leave acc out"):
        benchmark(tiny_vit(), [torch.rand(3, 16, 16)], {"Rollout": ac.Rollout()}, localisation_metrics())
    with pytest.raises(ac.AttentionError, match='output="input" or "grid"'):
        InputMagnitude((2, 2)).attribute(torch.ones(1, 3, 4, 4), output="tokens")


def test_a_method_without_attribute_is_refused() -> None:
    def function(inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    with pytest.raises(ac.AttentionError, match="method 'f' is .*function, which has no attribute.inputs, target"):
        benchmark(tiny_vit(), Small(), {"Rollout": ac.Rollout(), "f": function}, [Centre()])
    with pytest.raises(ac.AttentionError, match="seed is -1"):
        benchmark(tiny_vit(), Small(), {"Rollout": ac.Rollout()}, [Centre()], seed=-1)
