from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, Perturbation, Superpixels, perturbation_curve, preset, words_of
from attnchain_evals.perturbation.features import each_token, ranked
from attnchain_evals.perturbation.patches import enlarged

from ...tiny_pipelines import tokenizer
from ..summed_tokens import IDS, ORACLE, Sum, p, trial

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


@pytest.mark.parametrize("sizes", [((14, 14), (56, 56)), ((24, 24), (336, 336)), ((3, 4), (9, 13))])
@pytest.mark.parametrize("value", [0.1, 1 / 196, 1.0, -0.7])
def test_a_constant_map_stays_constant(sizes: tuple[tuple[int, int], tuple[int, int]], value: float) -> None:
    cells, pixels = sizes
    large = enlarged(torch.full((2, *cells), value), pixels)
    assert (large == torch.tensor(value)).all()


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


def test_examples_with_equal_scores_are_known() -> None:
    """Entries beyond an example's own features have no meaning."""
    words = torch.tensor([[0, 1, 2], [0, 1, 1], [0, 0, 1]])
    scores = torch.tensor([[1.0, 2.0, 1.0], [1.0, 2.0, 0.0], [1.0, 1.0, 2.0]])
    assert ranked(scores, words, words).tied.tolist() == [True, False, True]


def test_a_random_order_is_seeded_by_example(images: Tensor) -> None:
    def order(first: int, count: int, seed: int = 0) -> Tensor:
        experiment = Perturbation(Linear().eval(), images[:count], "zero", first=first)
        options: dict[str, Any] = {"order": "random", "fractions": 8, "score": "logit", "seed": seed, "features": "pixel"}
        return experiment.curve(torch.zeros(count, 2, 4), 1, **options).scores

    both = order(3, 2)
    assert torch.equal(order(4, 1), both[1:])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(order(3, 2, seed=1), both)


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


def test_words_are_removed_together_and_score_the_sum_of_their_tokens() -> None:
    words = torch.tensor([[-1, 0, 1, 1, 0], [-1, 0, 0, 0, 1]])
    found = ranked(ORACLE, IDS, words)
    assert found.scores.tolist() == [[1, 1], [3, -1]]
    assert found.sizes.tolist() == [2, 2]
    curve = perturbation_curve(Sum().eval(), IDS, ORACLE, 1, occlusion="pad-token", features=words, fractions=2)
    assert curve.scores[0].tolist() == pytest.approx(p(0.5, -0.5, -1.5))
    assert curve.scores[1].tolist() == pytest.approx(p(0.5, -2.5, -1.5))
    metric = preset("srg", occlusion="pad-token", features="word", fractions=2)
    areas = metric.measure(trial(words=words), ORACLE)[1].tolist()
    clean, last, first, none = p(0.5, 1.5, -2.5, -1.5)
    assert areas[1:] == pytest.approx([(clean + none) / 4 + last / 2, (clean + none) / 4 + first / 2])
    assert each_token(words).tolist() == [[-1, 0, 1, 2, 3]] * 2


def test_words_of_a_tokenizer() -> None:
    encode = tokenizer()
    assert words_of(encode("a corgi hat")).tolist() == [[-1, 0, 1, 1, 2, -1]]
    texts = ["a corgi hat", "blue dog"]
    assert words_of(encode(texts, padding=True)).tolist() == [[-1, 0, 1, 1, 2, -1], [-1, 0, 1, -1, -1, -1]]
    with_gaps = [SimpleNamespace(word_ids=row) for row in ([None, 0, 0, 2, None], [None, 5, 6, None, None])]
    assert words_of(SimpleNamespace(encodings=with_gaps)).tolist() == [[-1, 0, 0, 1, -1], [-1, 0, 1, -1, -1]]
    with pytest.raises(ac.AttentionError, match=r"(?s)texts of \[4, 6\] tokens.*padding=True"):
        words_of(encode(texts))
    with pytest.raises(ac.AttentionError, match="(?s)dict knows no words .* fast tokenizer"):
        words_of({"input_ids": [0]})
    with pytest.raises(ac.AttentionError, match="str knows no words"):
        words_of("two words")
