"""Dashed frames around the patches that are attention sinks, and their names under the picture."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.pictures.sink_marks import list_sinks

mpl.use("Agg")
GRID, SINK = (2, 4), 6  # patch 1,1, after the class token


def planted(batch: int = 1) -> ac.AttentionStore:
    """Every token attends to one patch. Its values are as long as those of the others."""
    maps = torch.full((batch, 2, 9, 9), 0.04)
    maps[..., SINK] = 0.68
    layer = ac.LayerAttention("layer.0", maps, value_norms=torch.ones(batch, 2, 9))
    return ac.AttentionStore([layer], ac.TokenLayout.image(batch, GRID, class_token=True))


def framed(axis: Axes) -> list[tuple[Any, float, float]]:
    dashed = [each for each in axis.patches if to_hex(each.get_edgecolor()) == "#56b4e9"]
    return [(each.get_xy(), each.get_width(), each.get_height()) for each in dashed]  # type: ignore[attr-defined]


LINE = (
    "attention sink: patch 1,1 takes 68% of attention in 2 of 2 heads, and its values there are 1 times as long as the median"
)


@pytest.mark.parametrize(
    ("show", "maps"),
    [
        (lambda store: pictures.show_layers(store), 4),
        (lambda store: pictures.show_heads(store), 2),
        (lambda store: pictures.show_bounces(store, torch.rand(3, 8, 16), start=3, steps=(0, 1)), 3),
    ],
)
def test_maps_of_a_store_are_marked(show: Any, maps: int) -> None:
    figure = show(planted())
    marked = [framed(axis) for axis in figure.get_axes() if framed(axis)]
    assert marked == [[((0.5, 0.5), 1, 1)]] * maps
    assert " ".join(figure._supxlabel.get_text().split()).endswith(LINE)
    figure.canvas.draw()


def test_attributions_are_marked_where_sinks_are_given() -> None:
    found, maps = ac.sinks(planted(2)), torch.rand(2, *GRID)
    figure = pictures.show_attribution(maps, torch.rand(2, 3, 8, 16), titles=["cat", "dog"], sinks=found)
    axes = figure.get_axes()
    assert [framed(axis) for axis in axes[:3]] == [[], [((0.5, 0.5), 1, 1)], [((3.5, 3.5), 4, 4)]]
    assert figure._supxlabel.get_text().count("patch 1,1 takes") == 2  # type: ignore[attr-defined]
    assert "median (dog)" in figure._supxlabel.get_text()  # type: ignore[attr-defined]
    alone = pictures.show_attribution(maps[:1], sinks=ac.sinks(planted()))
    assert framed(alone.get_axes()[0]) == [((0.5, 0.5), 1, 1)]
    assert not framed(pictures.show_attribution(maps).get_axes()[0])
    with pytest.raises(ac.AttentionError, match="sinks are those of TokenLayout.*the picture shows 1 images"):
        pictures.show_attribution(maps[:1], sinks=found)


def test_a_store_without_values_has_no_marks() -> None:
    store = ac.AttentionStore.from_maps([planted().maps()[:, 0]], planted().tokens)
    figure = pictures.show_layers(store)
    assert not any(framed(axis) for axis in figure.get_axes())
    assert figure._supxlabel is None  # type: ignore[attr-defined]


def test_many_sinks_are_counted() -> None:
    figure = pictures.blank_axes(1, 4)[0]
    list_sinks(figure, [f"token {k} takes it" for k in range(8)])
    assert figure._supxlabel.get_text().endswith("token 5 takes it\n… and 2 more sinks")  # type: ignore[attr-defined]


def test_sinks_are_left_out_of_the_scale_unless_they_are_kept() -> None:
    store = planted()
    grid = store.tokens.to_grid(ac.ColumnSum().score(store))
    others = grid.clone()
    others[0, 1, 1] = 0
    found = ac.sinks(store)
    left, kept = (
        pictures.show_attribution(grid, sinks=found, keep_sinks=keep).get_axes()[0].images[0].get_clim()
        for keep in (False, True)
    )
    assert left[1] == pytest.approx(float(others.max()))
    assert kept[1] == pytest.approx(float(grid.max()))
    for show in (pictures.show_layers, pictures.show_heads, lambda *a, **k: pictures.show_bounces(*a, steps=[1], **k)):
        left, kept = (show(store, keep_sinks=keep) for keep in (False, True))
        ends = [figure.get_axes()[0].images[0].get_clim()[1] for figure in (left, kept)]
        assert ends[0] < ends[1] / 2
        assert "without attention sinks (dashed)" in left.get_supxlabel().replace("\n", " ")
        assert "without attention sinks" not in kept.get_supxlabel()
