"""Where walks lead to what the class token looks at."""

import numpy as np
import pytest
import torch

from attnchain_evals.segments.objects import object_scores, otsu, two_sided
from attnchain_interp import AttentionError, AttentionStore, MultiBounce, TokenLayout


def store(class_token: bool = True, layers: int = 2) -> AttentionStore:
    torch.manual_seed(0)
    size = 4 + class_token
    maps = [torch.randn(1, 3, size, size).softmax(-1) for _ in range(layers)]
    return AttentionStore.from_maps(maps, TokenLayout.image(grid=(2, 2), class_token=class_token))


def test_each_step_is_a_mean_over_where_a_patch_leads() -> None:
    held = store()
    bounced = MultiBounce(layers=-1, balanced=True, start="class").score(held)[0]
    assert torch.allclose(object_scores(held, 0), bounced)
    P = held.chain(balanced=True).matrix[0]
    assert torch.allclose(object_scores(held)[1:], (P @ P @ bounced)[1:], atol=1e-6)
    assert not torch.allclose(object_scores(held)[1:], (bounced @ P @ P)[1:], atol=1e-4), "not where the class token leads"
    with pytest.raises(AttentionError, match=r"(?s)no class token.*Give a point or a box"):
        object_scores(store(class_token=False))


def test_the_threshold_parts_two_kinds_and_is_the_middle_of_the_shares() -> None:
    scores = np.array([[1, 1, 2, 9], [1, 2, 9, 9]], np.float32)
    threshold = otsu(scores, (2, 4))
    assert 2 <= threshold < 9
    background, thing = two_sided(scores, threshold)
    assert ((thing > 0.5) == (scores == 9)).all()
    assert np.allclose(background + thing, 1)


@pytest.mark.parametrize("spread", [0.0, 1e-7])
def test_scores_that_are_all_but_equal_have_a_threshold(spread: float) -> None:
    scores = np.full((4, 4), 0.01, np.float32)
    scores[0, 0] += spread
    assert otsu(scores, (40, 40)) == pytest.approx(0.01, abs=1e-6)
