"""A small chain as a graph: numbers in the circles, widths of the arrows."""

from __future__ import annotations

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch

import attnchain_interp as ac
from attnchain_interp import pictures

AUTHORS = torch.tensor(  # the example of the authors' project page
    [
        [0.01, 0.04, 0.02, 0.85, 0.08],
        [0.82, 0.04, 0.07, 0.01, 0.06],
        [0.80, 0.07, 0.03, 0.05, 0.05],
        [0.06, 0.06, 0.03, 0.04, 0.81],
        [0.53, 0.03, 0.03, 0.06, 0.35],
    ]
)


def numbers(axis: Axes) -> list[float]:
    return [float(text.get_text()) for text in axis.texts[1::2]]


def test_the_authors_example_has_the_numbers_of_their_figure() -> None:
    axes = pictures.show_chain(AUTHORS, 4).get_axes()
    assert [axis.get_title() for axis in axes] == ["n = 0", "n = 1", "n = 2", "n = ∞"]
    assert [numbers(axis) for axis in axes] == [
        [0, 0, 0, 0, 1],
        [0.53, 0.03, 0.03, 0.06, 0.35],
        pytest.approx([0.24, 0.04, 0.03, 0.48, 0.22]),
        pytest.approx([0.27, 0.04, 0.03, 0.27, 0.38], abs=0.0101),
    ]
    assert numbers(pictures.show_chain(AUTHORS, steps=(1,)).get_axes()[0]) == pytest.approx([0.44, 0.05, 0.04, 0.20, 0.27])


def test_arrows_are_as_wide_as_transitions_are_probable() -> None:
    chain = torch.tensor([[0.9, 0.1, 0.0], [0.04, 0.0, 0.96], [0.5, 0.5, 0.0]])
    axis = pictures.show_chain(chain, labels=["a", "b", "$c"]).get_axes()[0]
    assert [text.get_text() for text in axis.texts[::2]] == ["a", "b", "$c"]
    widths = sorted(patch.get_linewidth() for patch in axis.patches if isinstance(patch, FancyArrowPatch))
    assert widths == pytest.approx([0.3 + 3 * p for p in (0.1, 0.5, 0.5, 0.96)]), "0.04 is below the least"
    loops = [patch for patch in axis.patches if isinstance(patch, Circle) and not patch.get_fill()]
    assert [loop.get_linewidth() for loop in loops] == [pytest.approx(0.3 + 3 * 0.9)]


@pytest.mark.parametrize(
    ("chain", "options", "message"),
    [
        (torch.full((1, 2, 2), 0.5), {}, r"shape \(1, 2, 2\); a graph shows one chain .* of at most 12 tokens"),
        (torch.full((13, 13), 1 / 13), {}, "at most 12 tokens"),
        (AUTHORS, {"steps": ()}, r"steps is \(\)"),
        (AUTHORS, {"steps": (-1, 3)}, r"steps is \(-1, 3\)"),
        (AUTHORS, {"least": "0.1"}, "least is '0.1'"),
        (AUTHORS, {"labels": ["a"]}, "labels holds 1 names; 5 are needed"),
        (AUTHORS, {"start": 5}, "start token 5 does not exist"),
        (torch.rand(3, 3), {}, "sum"),
    ],
)
def test_what_is_refused(chain: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        pictures.show_chain(chain, **options)
