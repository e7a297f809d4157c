"""Arguments of pictures of maps: where maps lie on images, colours, sinks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import pictures

IMAGES = torch.rand(2, 3, 23, 23, generator=torch.Generator().manual_seed(0))
PATCHES = {"patches": "2×2 patches of 9×9 pixels in 23×23"}
STORE = ac.AttentionStore(
    [ac.LayerAttention("layer", torch.full((2, 1, 4, 4), 0.25))], ac.TokenLayout.image(2, (2, 2)), metadata=PATCHES
)
CELLS, PIXELS = torch.rand(2, 2, 2), torch.rand(2, 3, 23, 23)
COVERED, WHOLE = [-0.5, 17.5, 17.5, -0.5], [-0.5, 22.5, 22.5, -0.5]


def extents(figure: Any) -> list[Any]:
    """Where the maps over images lie: those that are drawn on an image in grey."""
    return [axis.images[1].get_extent() for axis in figure.get_axes() if len(axis.images) == 2]


def caption(figure: Any) -> str:
    return "" if figure._supxlabel is None else figure._supxlabel.get_text().replace("\n", " ")


def test_a_store_says_where_its_patches_lie() -> None:
    alone = pictures.show_attribution(CELLS, IMAGES, read=STORE)
    assert extents(alone) == [COVERED] * 2
    several = pictures.show_grid({"cells": CELLS, "pixels": PIXELS}, IMAGES, read=STORE)
    assert extents(several) == [COVERED, WHOLE] * 2, "scores of pixels cover the image"
    for figure in (alone, several):
        framed = [axis for axis in figure.get_axes() if axis.patches and axis.images]
        assert [axis.patches[0].get_bbox().bounds for axis in framed] == [(-0.5, -0.5, 18, 18)] * len(framed)  # type: ignore[attr-defined]
        assert caption(figure) == "The model read the framed part, 61% of the image."
        figure.canvas.draw()
    assert extents(pictures.show_attribution(PIXELS, IMAGES, read=STORE)) == [WHOLE] * 2
    assert extents(pictures.show_grid({"cells": CELLS}, IMAGES)) == [WHOLE] * 2


def test_a_part_that_reaches_beyond_the_image_is_framed_inside_it() -> None:
    photograph = np.zeros((20, 30, 3))
    beyond = pictures.show_attribution(CELLS[:1], [photograph], read=[(-5, -5, 35, 25)])
    assert extents(beyond) == [[-5.5, 34.5, 24.5, -5.5]], "the map lies where the model saw it"
    assert not beyond.get_axes()[0].patches, "all of the image was read"
    assert not caption(beyond)
    half = pictures.show_attribution(CELLS[:1], [photograph], read=[(-5, 0, 15, 20)])
    assert half.get_axes()[0].patches[0].get_bbox().bounds == (-0.5, -0.5, 15, 20)  # type: ignore[attr-defined]
    assert caption(half) == "The model read the framed part, 50% of the image."


@pytest.mark.parametrize("show", [pictures.show_attribution, lambda *given, **read: as_grid(*given, **read)])
def test_a_map_stretched_over_a_photograph_that_was_perhaps_cropped_gets_a_warning(show: Any) -> None:
    photographs, square = [np.zeros((20, 20, 3)), np.zeros((20, 30, 3))], [np.zeros((20, 22, 3))] * 2
    with pytest.warns(UserWarning, match=r"map of 2 × 2 is stretched over all of image 2, of 30 × 20 pixels.*read_part"):
        show(np.ones((2, 2, 2)), photographs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        show(np.ones((2, 2, 2)), photographs, read=[None, None])
        show(np.ones((2, 2, 2)), photographs, read=[None, (5, 0, 25, 20)])
        show(np.ones((2, 2, 2)), square)
        show(np.ones((2, 2, 2)), np.zeros((2, 20, 30, 3)))
        show(np.ones((2, 2, 2)))


def test_each_image_has_a_line_where_parts_differ() -> None:
    figure = pictures.show_grid({"a": CELLS}, IMAGES, read=[(0, 0, 23, 11.5), None], rows=["cat", "dog"])
    assert caption(figure) == "The model read the framed part, 50% of the image. (cat)"


def as_grid(maps: Any, *given: Any, **named: Any) -> Any:
    return pictures.show_grid({"a": maps}, *given, **named)


@pytest.mark.parametrize("show", [pictures.show_attribution, as_grid])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cmap": "nope"}, "(?s)cmap is 'nope'.*viridis"),
        ({"cmap": 3}, "cmap is 3"),
        ({"signed": "yes"}, "signed='yes' is unknown"),
        ({"signed": np.ones(2)}, "signed=.*is unknown"),
        ({"read": True}, "(?s)read is of type bool.*or the store"),
        ({"read": [None]}, "read holds 1 parts, for 2 images"),
        ({"read": [STORE, STORE]}, "(?s)read holds a store in a list.*read=store"),
        (
            {"read": [(9, 0, 3, 9), None]},
            r"(?s)read holds the part \[9.0, 0.0, 3.0, 9.0\] of an image of 23 × 23.*left < right",
        ),
        ({"read": [(30, 0, 40, 9), None]}, "read holds the part"),
        ({"read": [(0, 0, 9), None]}, "read holds the part"),
        ({"read": [(0, 0, np.nan, 9), None]}, "a part in read holds 1 values"),
    ],
)
def test_arguments_are_refused_in_words(show: Any, given: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        show(CELLS, IMAGES, **given)


def test_sinks_are_those_of_a_store() -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)sinks is of type bool.*ac.sinks\(store\)"):
        pictures.show_attribution(CELLS, IMAGES, sinks=True)  # type: ignore[arg-type]
