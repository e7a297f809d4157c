"""On a model whose score is the share of planted evidence still there, every curve is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals import perturbation_curve

WEIGHTS = torch.tensor([[0.4, 0.0, 0.1], [0.2, 0.0, 0.3]])


class Planted(nn.Module):
    """P(class 1) = 0.01 + 0.98 × the weight of the patches (2 × 3, of 4 × 4 pixels) that are still lit."""

    def forward(self, images: Tensor) -> Tensor:
        lit = (nn.functional.avg_pool2d(images, 4)[:, 0] > 0.5).float()
        p = 0.01 + 0.98 * (lit * WEIGHTS).sum((1, 2))
        return torch.stack([(1 - p).log(), p.log()], 1)


class AsHuggingFace(Planted):
    def forward(self, images: Tensor) -> object:  # type: ignore[override]
        return type("Output", (), {"logits": super().forward(images)})()


@pytest.fixture
def model() -> nn.Module:
    return Planted().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.ones(2, 3, 8, 12)


def black(images: Tensor) -> Tensor:
    return torch.zeros_like(images)


def removed(share: list[float]) -> Tensor:
    return 0.01 + 0.98 * torch.tensor(share)


def test_deletion_in_closed_form(model: nn.Module, images: Tensor) -> None:
    scores = WEIGHTS.expand(2, -1, -1)
    curve = perturbation_curve(model, images, scores, occlusion=black, fractions=6)
    assert torch.allclose(curve.fractions, torch.arange(7) / 6)
    expected = removed([1, 0.6, 0.3, 0.1, 0, 0, 0])
    assert torch.allclose(curve.scores, expected.expand(2, -1), atol=1e-6)
    area = (expected.sum() - expected[0] / 2 - expected[-1] / 2) / 6
    assert torch.allclose(curve.auc, area.expand(2))


def test_insertion_in_closed_form(model: nn.Module, images: Tensor) -> None:
    curve = perturbation_curve(model, images, WEIGHTS.expand(2, -1, -1), 1, "insertion", occlusion=black, fractions=6)
    assert torch.allclose(curve.scores[0], removed([0, 0.4, 0.7, 0.9, 1, 1, 1]), atol=1e-6)


def test_insertion_is_deletion_of_the_least_relevant_read_backwards(model: nn.Module, images: Tensor) -> None:
    scores = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0))
    symmetric = [1 / 6, 1 / 2, 5 / 6]
    insertion = perturbation_curve(model, images, scores, 1, "insertion", occlusion=black, fractions=symmetric)
    lerf = perturbation_curve(model, images, scores, 1, "deletion", occlusion=black, order="lerf", fractions=symmetric)
    assert torch.allclose(insertion.scores, lerf.scores.flip(1))
    assert torch.allclose(insertion.auc, lerf.auc)


def test_the_true_ranking_is_best_and_its_reverse_worst(model: nn.Module, images: Tensor) -> None:
    def srg(scores: Tensor) -> float:
        pair = [
            perturbation_curve(model, images, scores.expand(2, -1, -1), 1, mode, occlusion=black, fractions=6).auc.mean()
            for mode in ("insertion", "deletion")
        ]
        return float(pair[0] - pair[1])

    best, worst = srg(WEIGHTS), srg(-WEIGHTS)
    generator = torch.Generator().manual_seed(0)
    others = [srg(torch.rand(2, 3, generator=generator)) for _ in range(20)]
    assert best > max(others)
    assert worst < min(others)
    assert best == pytest.approx(-worst)


def test_equal_scores_keep_raster_order(model: nn.Module, images: Tensor) -> None:
    curve = perturbation_curve(model, images, torch.zeros(2, 2, 3), 1, occlusion=black, fractions=6)
    assert torch.allclose(curve.scores[0], removed([1, 0.6, 0.6, 0.5, 0.3, 0.3, 0]), atol=1e-6)


def test_fractions_are_rounded_to_whole_patches_and_integrated_as_they_are(model: nn.Module, images: Tensor) -> None:
    curve = perturbation_curve(model, images, WEIGHTS.expand(2, -1, -1), 1, occlusion=black, fractions=[0.1, 0.2, 0.5])
    assert torch.allclose(curve.fractions, torch.tensor([0, 1, 3, 6]) / 6)
    assert torch.allclose(curve.auc, torch.trapezoid(removed([1, 0.6, 0.1, 0]), curve.fractions).expand(2))


def test_the_class_is_that_of_the_clean_prediction(model: nn.Module, images: Tensor) -> None:
    images[1] = 0
    curve = perturbation_curve(model, images, WEIGHTS.expand(2, -1, -1), occlusion=black, fractions=6)
    assert torch.allclose(curve.scores[1], torch.full((7,), 0.99)), "the dark image is of class 0, whatever is removed"
    fixed = perturbation_curve(model, images, WEIGHTS.expand(2, -1, -1), torch.tensor([1, 1]), occlusion=black)
    assert torch.allclose(fixed.scores[1], torch.full_like(fixed.scores[1], 0.01), atol=1e-6)


def test_batches_and_wrapped_outputs_change_nothing(model: nn.Module, images: Tensor) -> None:
    scores = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0))
    whole = perturbation_curve(model, images, scores)
    assert torch.equal(perturbation_curve(model, images, scores, batch_size=1).scores, whole.scores)
    assert torch.equal(perturbation_curve(AsHuggingFace().eval(), images, scores).scores, whole.scores)


def test_bad_calls(model: nn.Module, images: Tensor) -> None:
    good = WEIGHTS.expand(2, -1, -1)
    with pytest.raises(ac.AttentionError, match=r'(?s)shape \(2, 3\) for 2 inputs.*output="grid"'):
        perturbation_curve(model, images, torch.rand(2, 3))
    with pytest.raises(ac.AttentionError, match="1 attributions hold NaN"):
        perturbation_curve(model, images, torch.stack([WEIGHTS, WEIGHTS * torch.nan]))
    with pytest.raises(ac.AttentionError, match="target 2 does not name classes of this model; it has 2"):
        perturbation_curve(model, images, good, target=2)
    with pytest.raises(ac.AttentionError, match=r"target int64 \(3,\) .*\n.*one for each of the 2 examples"):
        perturbation_curve(model, images, good, target=torch.tensor([0, 1, 0]))
    for target in (0.9, True, "1", torch.tensor([0.0, 1.0]), torch.tensor([True, False]), np.array([0.5, 1.0]), {}, [0.5, 1]):
        with pytest.raises(
            ac.AttentionError, match="target is .*, and classes are whole numbers.\nPass one class, or one for"
        ):
            perturbation_curve(model, images, good, target=target)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="train mode"):
        perturbation_curve(model.train(), images, good)
    model.eval()
    noisy = nn.Sequential(model, nn.Dropout(0.5).train())
    noisy.training = False
    with pytest.raises(ac.AttentionError, match="(?s)train mode with dropout.*Call model.eval"):
        perturbation_curve(noisy, images, good)
    for wrong in ((images * 255).to(torch.uint8), images[:0]):
        with pytest.raises(ac.AttentionError, match=r"(?s)inputs has shape .* of torch\..*of floating-point numbers"):
            perturbation_curve(model, wrong, good[: len(wrong)])
    for fractions in (0, [], [0.5, 1.5], 0.5, np.array([0.5, 1.5]), torch.tensor(0.5), "x", None):
        with pytest.raises(ac.AttentionError, match="fractions="):
            perturbation_curve(model, images, good, fractions=fractions)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="batch_size is 0"):
        perturbation_curve(model, images, good, batch_size=0)
    with pytest.raises(ac.AttentionError, match="seed is -1"):
        perturbation_curve(model, images, good, order="random", seed=-1)
    with pytest.raises(ac.AttentionError, match="(?s)occlusion='noise' is unknown.*Use 'mean', 'blur', 'zero'"):
        perturbation_curve(model, images, good, occlusion="noise")
    with pytest.raises(ac.AttentionError, match="(?s)inputs is of type ndarray.*Pass torch.from_numpy.inputs"):
        perturbation_curve(model, images.numpy(), good)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="mode='remove'"):
        perturbation_curve(model, images, good, mode="remove")  # type: ignore[arg-type]
