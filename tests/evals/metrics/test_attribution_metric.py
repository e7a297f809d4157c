from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.metrics import TEXT, AttributionMetric, Trial, preset
from attnchain_evals.metrics.attribution_metric import drops, features_of, perturbation, random_subsets
from attnchain_evals.perturbation.perturbation import Perturbation

from ..summed_tokens import ORACLE, WORDS, trial
from .planted import WEIGHTS
from .planted import trial as planted


def test_an_attribution_that_is_not_finite_has_no_figures() -> None:
    scores = ORACLE.clone()
    scores[1, 2] = torch.inf
    metric = preset("srg", **TEXT)
    figures = metric.measure(trial(), scores)
    assert torch.equal(figures[0], metric.measure(trial(), ORACLE)[0])
    assert figures[1].isnan().all()


def test_an_attribution_that_is_changed_in_place_has_new_figures() -> None:
    on, scores, metric = trial(), ORACLE.clone(), preset("srg", **TEXT)
    metric.measure(on, scores)
    scores.neg_()
    assert torch.equal(metric.measure(on, scores), metric.measure(trial(), -ORACLE))


def test_an_attribution_of_whole_numbers_has_figures() -> None:
    scores, metric = torch.arange(32).view(2, 4, 4), preset("srg")
    assert torch.equal(metric.measure(planted(), scores), metric.measure(planted(), scores.double()))


def test_an_attribution_of_inference_mode_has_figures() -> None:
    with torch.inference_mode():
        scores = ORACLE.clone()
    assert torch.equal(preset("srg", **TEXT).measure(trial(), scores), preset("srg", **TEXT).measure(trial(), ORACLE))


def test_an_experiment_is_made_once_for_each_occlusion_and_batch_size() -> None:
    on = trial()
    first = perturbation(on, "pad-token", 8)
    assert perturbation(on, "pad-token", 8) is first
    assert perturbation(on, "pad-token", 4) is not first
    assert perturbation(on, "token-delete", 8) is not first


def test_tokens_and_words_are_those_of_the_trial() -> None:
    words = torch.tensor([[-1, 0, 0, 1, -1]] * 2)
    on = trial(words=words)
    assert features_of(on, "word") is words
    tokens = features_of(on, "token")
    assert isinstance(tokens, torch.Tensor)
    assert tokens[0].tolist() == [-1, 0, 1, 2, -1]
    assert features_of(on, "token") is tokens, "made once"
    assert features_of(trial(words=None), "token") == "token"
    assert features_of(on, WORDS) is WORDS


def test_bad_calls() -> None:
    with pytest.raises(ac.AttentionError, match="give the trial words"):
        preset("srg", occlusion="pad-token", features="word").measure(trial(words=None), ORACLE)
    with pytest.raises(ac.AttentionError, match=r"shape \(2, 4\) for 2 inputs; srg needs \(batch, token\)"):
        preset("srg", **TEXT).measure(trial(), ORACLE[:, :4])
    with pytest.raises(ac.AttentionError, match=r"attributions is of type ndarray; .*\nPass torch.from_numpy\(attributions\)"):
        preset("srg", **TEXT).measure(trial(), ORACLE.numpy())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("made", "came"),
    [(lambda scores: scores.amax(1), r"float32 \(2,\)"), (lambda scores: scores.amax(1).tolist(), r"\[.*\]")],
    ids=["no columns", "a list"],
)
def test_figures_of_another_shape_are_refused(made: Callable[[Tensor], Any], came: str) -> None:
    class Greatest(AttributionMetric):
        def figures(self, trial: Trial, attributions: Tensor) -> Any:
            return made(attributions)

    with pytest.raises(ac.AttentionError, match=rf"the figures of greatest are {came}; .*\(batch, column\) of \(2, 1\)"):
        Greatest("greatest").measure(trial(), ORACLE)


@pytest.mark.parametrize("name", ["infidelity", "sensitivity-n", "naopc", "acc", "pointing-game"])
def test_a_metric_of_images_refuses_texts(name: str) -> None:
    with pytest.raises(
        ac.AttentionError, match=f"{name} is a metric of images, and the trial holds text.\nChoose a metric of text"
    ):
        preset(name).measure(trial(), ORACLE)


@pytest.mark.parametrize("name", ["evidence-ap", "evidence-first", "sentence-hit"])
def test_a_metric_of_texts_refuses_images(name: str) -> None:
    with pytest.raises(ac.AttentionError, match=f"{name} is a metric of text, and the trial holds images"):
        preset(name).measure(planted(), torch.rand(2, 4, 4))


def test_subsets_have_their_sizes_and_belong_to_the_number_of_the_example() -> None:
    subsets = random_subsets([1, 3, 5], features=6, examples=2, first=4, seed=0)
    assert subsets.sum(2).tolist() == [[1, 3, 5]] * 2
    assert torch.equal(random_subsets([1, 3, 5], 6, 1, first=5, seed=0), subsets[1:])
    assert not torch.equal(random_subsets([1, 3, 5], 6, 1, first=5, seed=1), subsets[1:])


def test_drops_of_a_linear_model_are_the_sums_of_its_weights() -> None:
    on = planted()
    experiment = Perturbation(on.model, on.inputs, "zero")
    labels = torch.arange(16).view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(2, -1, -1)
    subsets = random_subsets([2, 8], 16, 2, first=0, seed=0)
    expected = 8 * (subsets.double() @ WEIGHTS.double().flatten())
    found = drops(experiment, labels, subsets, on.explained, "logit")
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
