import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, InputMagnitude, benchmark, bundled_vit, perturbation_curve, segmentation_scores
from attnchain_evals.demo import FRACTIONS
from attnchain_evals.statistics import Score, interval

METHODS = {"Rollout": ac.Rollout(), "TokenRank": ac.TokenRank(), "magnitude": InputMagnitude((14, 14))}


def test_figures_are_those_of_the_metrics_themselves() -> None:
    model = bundled_vit()
    batch = next(ClutteredDigits("validation", 4).batches(4))
    result = benchmark(model, [batch], METHODS, fractions=FRACTIONS)
    grid = ac.TokenRank(model).attribute(batch.image, output="grid")
    with torch.no_grad():
        target = model(batch.image).argmax(1)
    for k, occlusion in enumerate(("mean", "blur")):
        curves = [
            perturbation_curve(model, batch.image, grid, target, "deletion", occlusion, fractions=FRACTIONS),
            perturbation_curve(model, batch.image, grid, target, "insertion", occlusion, fractions=FRACTIONS),
        ]
        expected = torch.stack([curve.auc for curve in curves], 1)
        assert np.allclose(result.figures["TokenRank"][:, 2 * k : 2 * k + 2], expected, atol=1e-6)
    scores = result.scores
    local = segmentation_scores(grid, batch.mask)
    assert {name: scores["TokenRank"][name].value for name in local} == pytest.approx(local)
    srg = result.figures["TokenRank"][:, 1] - result.figures["TokenRank"][:, 0]
    assert scores["TokenRank"]["srg/mean"].value == pytest.approx(srg.mean())
    assert scores["Rollout"]["srg-baseline/blur"] == (0, 0, 0)
    assert "| TokenRank |" in result.markdown()


def test_class_specific_methods_explain_the_clean_prediction() -> None:
    model = bundled_vit()
    batch = next(ClutteredDigits("validation", 3).batches(3))
    with torch.no_grad():
        target = model(batch.image).argmax(1)
    methods = {"Rollout": ac.Rollout(), "shared": ac.GradientAttention(), "own": ac.GradientAttention(model)}
    result = benchmark(model, [batch], methods, fractions=2)
    assert np.allclose(result.figures["shared"], result.figures["own"], atol=1e-5)
    grid = ac.GradientAttention(model).attribute(batch.image, target, output="grid")
    curve = perturbation_curve(model, batch.image, grid, target, "deletion", "mean", fractions=2)
    assert np.allclose(result.figures["shared"][:, 0], curve.auc, atol=1e-6)


def test_examples_do_not_depend_on_the_batch() -> None:
    model = bundled_vit()
    data = ClutteredDigits("validation", 4)
    whole = benchmark(model, data.batches(4), METHODS, fractions=2)
    parts = benchmark(model, data.batches(3), METHODS, fractions=2)
    for method in METHODS:
        assert np.allclose(whole.figures[method], parts.figures[method], atol=1e-4)


@pytest.mark.parametrize("fractions", [[0.1, 0.9], [0.3, 0.5, 0.7], [1 / 3, 2 / 3], [0.0, 1.0]])
def test_complements_are_found_whatever_their_last_bit(fractions: list[float]) -> None:
    with pytest.raises(ac.AttentionError, match="no batch"):
        benchmark(bundled_vit(), [], METHODS, fractions=fractions)


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


def test_bad_calls() -> None:
    with pytest.raises(ac.AttentionError, match="baseline='Rollout' is not among the methods: TokenRank"):
        benchmark(bundled_vit(), [], {"TokenRank": ac.TokenRank()})
    with pytest.raises(ac.AttentionError, match="not symmetric: with every f there must be 1 − f"):
        benchmark(bundled_vit(), [], METHODS, fractions=[0.1, 0.5])
    with pytest.raises(ac.AttentionError, match="no batch"):
        benchmark(bundled_vit(), [], METHODS)
    with pytest.raises(ac.AttentionError, match='output "input" or "grid"'):
        InputMagnitude((2, 2)).attribute(torch.ones(1, 3, 4, 4), output="tokens")


def test_the_control_has_the_shape_of_the_input() -> None:
    images = torch.rand(2, 3, 8, 8)
    scores = InputMagnitude((2, 2)).attribute(images)
    assert (scores.shape, scores.is_contiguous()) == (images.shape, True)
    expected = (images - images.mean((2, 3), keepdim=True)).abs()[0, :, :4, :4].mean()
    assert float(scores[0, 0, 0, 0]) == pytest.approx(float(expected))
