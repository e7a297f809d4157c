import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, Perturbation, Superpixels, perturbation_curve
from attnchain_evals.perturbation.class_score import class_score
from attnchain_evals.perturbation.features import ranked

WEIGHTS = torch.tensor([[4.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0]])


class Linear(nn.Module):
    """logits [0, Σ w x] of images 2 × 4."""

    def forward(self, images: Tensor) -> Tensor:
        total = (images[:, 0] * WEIGHTS).sum((1, 2))
        return torch.stack([torch.zeros_like(total), total], 1)


@pytest.fixture
def images() -> Tensor:
    return torch.ones(2, 1, 2, 4)


def logits(model: nn.Module, images: Tensor, scores: Tensor, **options: object) -> list[list[float]]:
    curve = perturbation_curve(model, images, scores, 1, occlusion="zero", score="logit", **options)  # type: ignore[arg-type]
    return curve.scores.tolist()


def test_pixels_in_closed_form(images: Tensor) -> None:
    by_pixel = logits(Linear().eval(), images, WEIGHTS.expand(2, -1, -1), features="pixel", fractions=8)
    assert by_pixel == [[8, 4, 2, 1, 0, 0, 0, 0, 0]] * 2
    enlarged = ranked(torch.tensor([[[0.0, 1.0]]]), images[:1], "pixel").scores
    assert enlarged.view(2, 4).tolist() == [[0.0, 0.25, 0.75, 1.0]] * 2


def test_regions_of_a_label_map_in_closed_form(images: Tensor) -> None:
    """Columns in the first image, halves in the second: as many features as the example has."""
    labels = torch.tensor([[[0, 1, 2, 3]] * 2, [[0, 0, 1, 1]] * 2])
    found = ranked(WEIGHTS.expand(2, -1, -1), images, labels)
    assert found.sizes.tolist() == [4, 2]
    assert found.scores[0].tolist() == [3, 1, 0, 0]
    assert found.scores[1, :2].tolist() == [2, 0]
    curve = perturbation_curve(
        Linear().eval(), images, WEIGHTS.expand(2, -1, -1), 1, occlusion="zero", score="logit", features=labels, fractions=4
    )
    assert curve.fractions.tolist() == [[0, 0.25, 0.5, 0.75, 1], [0, 0, 0.5, 1, 1]]
    assert curve.scores.tolist() == [[8, 2, 0, 0, 0], [8, 8, 0, 0, 0]]
    assert curve.auc.tolist() == [1.5, 2]
    lerf = logits(Linear().eval(), images, WEIGHTS.expand(2, -1, -1), features=labels, fractions=4, order="lerf")
    assert lerf == [[8, 8, 8, 6, 0], [8, 8, 8, 0, 0]]


def test_superpixels_cover_the_image_without_gaps() -> None:
    images = next(ClutteredDigits("validation", 2, seed=0).batches(2)).image
    labels = Superpixels(30)(images)
    assert labels.shape == (2, 56, 56)
    for row in labels:
        assert row.unique().tolist() == list(range(int(row.max()) + 1))
        assert 10 < int(row.max()) < 60
    found = ranked(torch.rand(2, 14, 14), images, Superpixels(30))
    assert torch.equal(found.labels, labels)


def test_a_random_order_is_seeded_by_example(images: Tensor) -> None:
    def order(first: int, count: int, seed: int = 0) -> Tensor:
        experiment = Perturbation(Linear().eval(), images[:count], "zero", first=first)
        return experiment.curve(torch.zeros(count, 2, 4), 1, order="random", fractions=8, score="logit", seed=seed).scores

    both = order(3, 2)
    assert torch.equal(order(4, 1), both[1:])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(order(3, 2, seed=1), both)


def test_scores_of_a_class() -> None:
    values = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([1, 2])
    p = values.softmax(1)[[0, 1], [1, 2]]
    assert torch.equal(class_score(values, target), p)
    assert class_score(values, target, "logit").tolist() == [2, 3]
    assert torch.allclose(class_score(values, target, "log-odds"), (p / (1 - p)).log())
    assert class_score(values, target, "accuracy").tolist() == [1, 0], "of equal logits the first counts"
    with pytest.raises(ac.AttentionError, match="(?s)score='odds' is unknown.*Use 'probability'"):
        class_score(values, target, "odds")  # type: ignore[arg-type]


def test_bad_features(images: Tensor) -> None:
    maps = torch.rand(2, 2, 4)
    for labels, message in (
        (torch.zeros(2, 4, 4, dtype=torch.long), r"label map is \(2, 4, 4\) of torch.int64; these inputs need \(2, 2, 4\)"),
        (torch.zeros(2, 2, 4), "of torch.float32"),
        (torch.full((2, 2, 4), -1), "integers from 0"),
        (torch.tensor([[[0, 0, 2, 2]] * 2] * 2), "has gaps"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            ranked(maps, images, labels)
    with pytest.raises(ac.AttentionError, match="features='word'"):
        ranked(maps, images, "word")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="3 × 4 cells are finer than images of 2 × 4 pixels"):
        ranked(torch.rand(2, 3, 4), images)
    with pytest.raises(ac.AttentionError, match="1 attributions hold NaN or infinity"):
        ranked(torch.stack([maps[0], maps[1] / 0]), images)
