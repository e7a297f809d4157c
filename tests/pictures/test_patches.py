"""Places on an image: scores on its grid, and the patch of a token."""

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.pictures.panels import blank_axes
from attnchain_interp.pictures.patches import frame_patch, on_grid, patch_at

TOKENS = ac.TokenLayout.image(2, (2, 3), [ac.Role.CLASS])


def test_scores_of_an_example_on_the_grid() -> None:
    scores = torch.arange(14.0).view(2, 7)
    assert on_grid(TOKENS, scores, 1).tolist() == [[8, 9, 10], [11, 12, 13]]
    assert on_grid(TOKENS, scores[:, None], -1).shape == (1, 2, 3)
    for example in (2, -3, True):
        with pytest.raises(ac.AttentionError, match=f"example {example} does not exist"):
            on_grid(TOKENS, scores, example)
    with pytest.raises(ac.AttentionError, match="grid"):
        on_grid(ac.TokenLayout.text(torch.ones(2, 7)), scores, 0)


@pytest.mark.parametrize(
    ("token", "place"),
    [("center", (1, 1)), (1, (0, 0)), (-1, (1, 2)), ("class", None), ("uniform", None), (torch.ones(7), None)],
)
def test_the_patch_of_a_token(token: object, place: tuple[int, int] | None) -> None:
    assert patch_at(TOKENS, token) == place


def test_a_frame_lies_around_its_patch() -> None:
    _, axes = blank_axes(1, 1)
    frame_patch(axes[0, 0], (1, 2), (2, 3), (8, 12))
    (frame,) = axes[0, 0].patches
    assert np.allclose(frame.get_bbox().bounds, (7.5, 3.5, 4, 4))
