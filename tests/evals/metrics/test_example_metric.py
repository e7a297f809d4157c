import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_interp import AttentionError


class Ratio(ExampleMetric):
    """The ratio of the means of two given columns."""

    version = 1
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__("ratio", ("above", "below"))

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        return attributions.double()

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        return means[0] / means[1]


def trial() -> Trial:
    return Trial(lambda inputs: inputs, torch.zeros(3, 2), torch.zeros(3))


def test_the_score_is_the_summary_of_the_means_over_defined_examples() -> None:
    metric = Ratio()
    metric.update(trial(), torch.tensor([[1.0, 2.0], [torch.nan, 1.0], [5.0, 4.0]]))
    metric.update(trial(), torch.tensor([[3.0, 0.0]]))
    assert (int(metric.defined), int(metric.undefined)) == (3, 1)
    assert float(metric.compute()) == pytest.approx(3 / 2)
    metric.reset()
    assert int(metric.defined) == 0


def test_a_trial_without_classes_says_so_to_a_metric_that_asks() -> None:
    assert torch.equal(trial().explained, torch.zeros(3))
    with pytest.raises(AttentionError, match="the model outputs no logits.\nTake a model with a classification head, or"):
        _ = Trial(lambda inputs: inputs, torch.zeros(3, 2), None).explained
    with pytest.raises(AttentionError, match='the data explain whole answers.\nTake evidence-ap.*explained="first token"'):
        _ = Trial(lambda inputs: inputs, torch.zeros(3, 2), torch.zeros(3), answers=torch.zeros(3, 1)).explained


def test_what_is_known_of_the_inputs_of_a_trial_is_a_tensor() -> None:
    ids = torch.zeros(1, 3, dtype=torch.long)
    for name in ("mask", "words", "sentences", "answers"):
        with pytest.raises(AttentionError, match=rf"(?s){name} is of type ndarray.*Pass torch\.from_numpy"):
            Trial(torch.nn.Identity(), ids, None, **{name: np.zeros((1, 3))})  # type: ignore[arg-type]
    with pytest.raises(AttentionError, match="inputs is of type ndarray"):
        Trial(torch.nn.Identity(), ids.numpy(), None)  # type: ignore[arg-type]


def test_a_trial_makes_each_thing_once() -> None:
    on, made = trial(), list[int]()
    for _ in range(2):
        assert on.once("key", lambda: made.append(1) or "value") == "value"
    assert made == [1]
    assert trial().once("key", lambda: "other") == "other"
    assert repr(on).startswith("Trial(model=")
