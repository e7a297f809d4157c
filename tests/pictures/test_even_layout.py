"""Many axes have equal places, apart from each other, from the title, the caption and the colour bars."""

from __future__ import annotations

from io import BytesIO
from itertools import combinations
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.pictures.even_layout import EvenLayout
from attnchain_interp.pictures.figures import write_caption

MAPS = torch.rand(4, 3, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnchain_interp.pictures.figures._MANY", 11)


def drawn(share: Any) -> Figure:
    rows, columns = [f"layer {k}" for k in range(4)], [f"head {k}" for k in range(3)]
    figure = pictures.show_grid(MAPS, rows=rows, columns=columns, share=share, title="Many maps")
    write_caption(figure, ["A line under the figure."])
    figure.savefig(BytesIO())
    return figure


def boxes(figure: Figure) -> list[Bbox]:
    """The axes with their names, the title and the caption."""
    texts = [text.get_window_extent() for text in figure.texts]
    return [*texts, *(box for axis in figure.axes if (box := axis.get_tightbbox()) is not None)]


@pytest.mark.parametrize("share", ["all", "row", "column", "none"])
def test_nothing_lies_on_anything_else(share: str) -> None:
    figure = drawn(share)
    assert isinstance(figure.get_layout_engine(), EvenLayout)
    found = boxes(figure)
    assert len(found) == 2 + 12 + {"all": 1, "row": 4, "column": 3, "none": 0}[share]
    for box in found:
        assert figure.bbox.padded(1).contains(*box.min)
        assert figure.bbox.padded(1).contains(*box.max)
    for one, other in combinations(found, 2):
        shared = Bbox.intersection(one, other)
        assert shared is None or min(shared.size) < 1, (one, other)


def test_cells_are_equal() -> None:
    figure = drawn("all")
    sizes = {tuple(round(float(side), 3) for side in axis.get_window_extent().size) for axis in figure.axes[:12]}
    assert len(sizes) == 1
    assert figure.axes[0].get_window_extent().width > 80  # pixels of the 150 of a cell


def test_few_axes_have_the_layout_of_matplotlib() -> None:
    assert not isinstance(pictures.show_grid(MAPS[:3]).get_layout_engine(), EvenLayout)


def test_many_heads_are_placed_evenly() -> None:
    maps = torch.rand(1, 6, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    store = ac.AttentionStore.from_maps([maps, maps], ac.TokenLayout.image(1, (2, 2)))
    figure = pictures.show_heads(store)
    figure.savefig(BytesIO())
    bar, last = (figure.axes[k].get_tightbbox() for k in (-1, -2))
    assert bar is not None
    assert last is not None
    assert 0 < bar.y0 < bar.y1 < last.y0
