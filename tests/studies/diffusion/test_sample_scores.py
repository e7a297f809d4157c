import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_interp import AttentionError
from studies.diffusion.digit_classifier import DigitClassifier, trained_digit_classifier
from studies.diffusion.sample_scores import SampleScores


def with_parts(features: nn.Module, head: nn.Module) -> DigitClassifier:
    model = DigitClassifier()
    model.features, model.head = features, head  # type: ignore[assignment]
    return model


class Corner(nn.Module):
    """The first pixels as features."""

    num_features = 2

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :2]


def images_of(features: Tensor) -> Tensor:
    images = torch.zeros(len(features), 1, 32, 32)
    images[:, 0, 0, :2] = features
    return images


def test_the_frechet_distance_is_its_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.rand(40, 2, generator=generator), 0.5 * torch.rand(30, 2, generator=generator) + 0.2
    found = SampleScores(with_parts(Corner(), nn.Linear(2, 10)), images_of(real))(images_of(fake)).frechet
    first, second = np.cov(real.double().numpy().T), np.cov(fake.double().numpy().T)
    shift = (real.double().mean(0) - fake.double().mean(0)).square().sum()
    assert found == pytest.approx(float(shift) + np.trace(first + second - 2 * np.real(sqrtm(first @ second))), abs=1e-6)


def test_a_shift_of_one_distribution_is_as_far_as_it_goes() -> None:
    real = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)) / 2
    scores = SampleScores(with_parts(Corner(), nn.Linear(2, 10)), images_of(real))
    assert scores(images_of(real + torch.tensor([0.3, 0.4]))).frechet == pytest.approx(0.25, abs=1e-5)
    assert scores(images_of(real)).frechet == pytest.approx(0, abs=1e-5)


def test_the_inception_score_runs_from_one_to_the_number_of_classes_and_accuracy_counts() -> None:
    class Sure(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return 100 * F.one_hot((features[:, 0] * 10).round().long(), 10).float()

    scores = SampleScores(with_parts(Corner(), Sure()), images_of(torch.rand(20, 2)))
    each = images_of(torch.stack([torch.arange(10) / 10, torch.zeros(10)], 1))
    assert scores(each).inception == pytest.approx(10, rel=1e-4)
    assert scores(each[:1].expand(5, -1, -1, -1)).inception == pytest.approx(1, rel=1e-4)
    assert scores(each, torch.arange(10)).accuracy == 1
    assert scores(each, torch.tensor([0, 1, 2, 3, 4, 0, 0, 0, 0, 0])).accuracy == pytest.approx(0.5)
    assert np.isnan(scores(each).accuracy)


@pytest.mark.parametrize("samples", [torch.rand(1, 1, 32, 32), torch.rand(4, 3, 32, 32)])
def test_one_sample_and_colour_images_are_refused(samples: Tensor) -> None:
    with pytest.raises(AttentionError, match="at least two"):
        SampleScores(trained_digit_classifier(), torch.rand(4, 1, 32, 32))(samples)
