"""What stands in a figure: maps, their scales, the images under them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

import attnchain_interp as ac
from attnchain_interp import pictures

GRID = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.1
IMAGES = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def drawn(figure: Figure) -> list[AxesImage]:
    """The maps of a figure: what has colours."""
    axes = [axis for axis in figure.get_axes() if axis.get_label() != "<colorbar>"]
    return [image for axis in axes for image in axis.images if image.get_array().ndim == 2 and image.cmap.name != "gray"]  # type: ignore[union-attr]


def bars(figure: Figure) -> int:
    return sum(axis.get_label() == "<colorbar>" for axis in figure.get_axes())


def limits(figure: Figure) -> list[tuple[Any, Any]]:
    return [image.get_clim() for image in drawn(figure)]


def pixels(figure: Figure) -> Any:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_an_attribution_beside_its_image_and_over_it() -> None:
    before = plt.get_fignums()
    figure = pictures.show_attribution(GRID, IMAGES, titles=["one", "$^two"])
    assert pixels(figure).std() > 1
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes[:3]] == ["input", "attribution", "over the input"]
    assert [axis.texts[0].get_text() for axis in (axes[0], axes[3])] == ["one", "$^two"]
    greatest = float(GRID.max())
    assert limits(figure) == [(0, pytest.approx(greatest))] * 4
    assert bars(figure) == 1
    for k in range(2):
        shown, beside, over = axes[3 * k].images[0], axes[3 * k + 1].images[0], axes[3 * k + 2].images
        assert np.allclose(np.asarray(shown.get_array()), IMAGES[k].permute(1, 2, 0))
        assert np.allclose(np.asarray(over[0].get_array()), IMAGES[k].mean(0))
        assert over[0].get_clim() == (0, 1)
        assert over[1].get_extent() == over[0].get_extent() == [-0.5, 11.5, 7.5, -0.5], "patches are as large as their part"
        for image in (beside, over[1]):
            assert np.allclose(np.asarray(image.get_array()), GRID[k])
    assert plt.get_fignums() == before, "pyplot does not know the figure"


def test_each_example_with_a_scale_of_its_own() -> None:
    figure = pictures.show_attribution(GRID, share=False)
    assert limits(figure) == [(0, pytest.approx(float(grid.max()))) for grid in GRID]
    assert bars(figure) == 2


def test_channels_are_summed_as_captum_does() -> None:
    attributions = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    figure = pictures.show_attribution(attributions)
    assert np.allclose(np.asarray(drawn(figure)[1].get_array()), attributions[1].sum(0))
    greatest = float(attributions.sum(1).abs().max())
    assert limits(figure) == [(pytest.approx(-greatest), pytest.approx(greatest))] * 2
    assert {image.cmap.name for image in drawn(figure)} == {"RdBu_r"}


@pytest.mark.parametrize("value", [0.0, 0.25, -0.25, 1e-30, 1e30])
def test_constant_maps_are_drawn(value: float) -> None:
    constant = torch.full((1, 2, 3), value)
    figure = pictures.show_attribution(constant, IMAGES[:1])
    pixels(figure)
    low, high = limits(figure)[0]
    assert low < high
    image = drawn(figure)[0]
    rgba = image.cmap(image.norm(np.asarray(image.get_array())))
    expected = image.cmap({0.0: 0.0, -0.25: 0.0}.get(value, 1.0))
    assert np.allclose(rgba, expected), "zero has the colour of zero, all others that of the greatest"


def test_a_signed_map_of_zeros_is_in_the_middle() -> None:
    image = drawn(pictures.show_attribution(torch.zeros(1, 2, 2), signed=True))[0]
    assert image.get_clim() == (-1, 1)
    assert image.norm(np.zeros(1)) == 0.5


def test_methods_and_images_share_a_scale() -> None:
    maps = {"a": GRID, "b": 3 * GRID.double().numpy(), "zero": torch.zeros(2, 3, 8, 12)}
    figure = pictures.show_grid(maps, IMAGES, rows=["first", "second"])
    pixels(figure)
    assert limits(figure) == [(0, pytest.approx(3 * float(GRID.max())))] * 6
    assert bars(figure) == 1
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes[:4]] == ["input", "a", "b", "zero"]
    assert [axes[k].texts[0].get_text() for k in (0, 4)] == ["first", "second"]
    assert np.allclose(np.asarray(axes[5].images[1].get_array()), GRID[1])


def test_scales_of_rows_columns_and_each() -> None:
    maps = {"a": GRID, "b": -3 * GRID}
    columns = limits(pictures.show_grid(maps, share="column"))
    assert columns[0] == columns[2] == (0, pytest.approx(float(GRID.max()))), "another column's sign takes no colours"
    assert columns[1] == columns[3] == (pytest.approx(-3 * float(GRID.max())), pytest.approx(3 * float(GRID.max())))
    rows = limits(pictures.show_grid(maps, share="row"))
    assert rows[0] == rows[1] == (pytest.approx(-3 * float(GRID[0].max())), pytest.approx(3 * float(GRID[0].max())))
    assert rows[2] == rows[3] != rows[0]
    each = limits(pictures.show_grid(maps, share="none"))
    assert len(set(each)) == 4
    assert [least < 0 for least, _ in each] == [False, True] * 2
    mixed = torch.stack([GRID[0], -GRID[1]])
    assert all(least < 0 for least, _ in limits(pictures.show_grid({"a": mixed}, share="none"))), "a column has one kind"
    assert [bars(pictures.show_grid(maps, share=share)) for share in ("all", "row", "column", "none")] == [1, 2, 2, 0]


def test_maps_stand_beside_their_image() -> None:
    photographs = [np.zeros(size) for size in ((40, 60, 3), (60, 40, 3), (30, 60, 3))]
    figure = pictures.show_grid(
        {"a": torch.rand(3, 2, 2), "b": torch.rand(3, 2, 2)}, photographs, share="column", read=[None] * 3
    )
    pixels(figure)
    axes = figure.get_axes()[:9]
    heights = [axis.get_position().y0 for axis in axes]
    assert all(heights[k] == pytest.approx(heights[k // 3 * 3], abs=0.01) for k in range(9))


def test_layers_and_heads(store: Any) -> None:
    heads = torch.stack(
        [store.tokens.to_grid(ac.TokenRank(layers=k, heads="each").score(store))[0] for k in range(len(store))]
    )
    names = [f"head {k}" for k in range(3)]
    figure = pictures.show_grid(heads, rows=store.names, columns=names, cmap="viridis")
    assert len(drawn(figure)) == 9
    assert len(set(limits(figure))) == 1
    assert [axis.get_title() for axis in figure.get_axes()[:3]] == names
    assert drawn(figure)[0].cmap.name == "viridis"
    ragged = pictures.show_grid([list(heads[0]), list(heads[1, :2])])
    assert len(drawn(ragged)) == 5
    pixels(ragged)


def test_normalised_images_are_shown_as_they_were() -> None:
    figure = pictures.show_grid({"a": GRID}, (IMAGES - 0.5) / 0.25, (0.5, 0.25))
    assert np.allclose(np.asarray(figure.get_axes()[0].images[0].get_array()), IMAGES[0].permute(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pictures.show_attribution(GRID * torch.nan), "attributions holds 12 values of 12 .*NaN"),
        (
            lambda: pictures.show_attribution(torch.full((1, 2, 2), torch.inf)),
            "attributions holds 4 values of 4 .*infinite",
        ),
        (lambda: pictures.show_attribution(GRID[0]), r"(?s)attributions has shape \(2, 3\).*map\[None\]"),
        (lambda: pictures.show_attribution(GRID, IMAGES[:1]), "images holds 1, for 2 examples"),
        (
            lambda: pictures.show_attribution(GRID[:1], Image.new("RGB", (4, 4))),
            "(?s)images is of type Image; it must be a tensor or a list.*Pass a list",
        ),
        (lambda: pictures.show_attribution(GRID, titles=["a"]), "titles holds 1 names; 2 are needed"),
        (lambda: pictures.show_attribution(-GRID, signed=False), r"signed=False, but the scores go down to -0.996"),
        (lambda: pictures.show_grid({"a": GRID, "b": GRID * torch.nan}), "the map of 'b' holds 12 values"),
        (lambda: pictures.show_grid({"a": GRID, "b": GRID[:1]}), r"numbers of images that differ.*\{'a': 2, 'b': 1\}"),
        (lambda: pictures.show_grid({}), "no method"),
        (lambda: pictures.show_grid([]), "maps holds nothing"),
        (lambda: pictures.show_grid(GRID), r"maps holds \[\(3,\)\].\nGive \(row, column, height, width\)"),
        (lambda: pictures.show_grid({"a": GRID}, share="both"), "share='both' is unknown"),  # type: ignore[arg-type]
        (lambda: pictures.show_grid({"a": GRID}, columns=["a", "b"]), "columns holds 2 names; 1 are needed"),
    ],
)
def test_what_cannot_be_drawn(call: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        call()


def test_different_scales_have_different_pixels() -> None:
    figures = [pixels(pictures.show_grid({"a": GRID[:1], "b": k * GRID[:1]}, share="none")) for k in (1, 2)]
    assert all(np.array_equal(one, other) for one, other in pairwise(figures)), "a scale of its own hides a factor"
    figures = [pixels(pictures.show_grid({"a": GRID[:1], "b": k * GRID[:1]})) for k in (1, 2)]
    assert not np.array_equal(*figures)


def test_a_photograph_with_the_part_that_was_read() -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    figure = pictures.show_attribution(GRID[:1], [photograph], read=[(10, 5, 40, 25)], title="Method\nwithout", smooth=True)
    pixels(figure)
    first, alone, over = figure.get_axes()[:3]
    assert np.allclose(np.asarray(first.images[0].get_array()), photograph / 255)
    assert over.images[1].get_extent() == [9.5, 39.5, 24.5, 4.5]
    assert over.get_xlim() == (-0.5, 49.5), "all of the photograph is shown"
    assert [patch.get_bbox().bounds for patch in (*first.patches, *over.patches)] == [(9.5, 4.5, 30, 20)] * 2  # type: ignore[attr-defined]
    assert {image.get_interpolation() for image in (alone.images[0], over.images[1])} == {"bilinear"}
    assert "the framed part, 40% of the image." in figure._supxlabel.get_text().replace("\n", " ")  # type: ignore[attr-defined]
    assert figure._suptitle.get_text() == "Method\nwithout"  # type: ignore[attr-defined]
    whole = pictures.show_attribution(GRID[:1], [photograph], read=[(0, 0, 50, 30)])
    assert not whole.get_axes()[0].patches
    assert whole._supxlabel is None  # type: ignore[attr-defined]
    with pytest.raises(ac.AttentionError, match="read holds 2 parts, for 1 images"):
        pictures.show_attribution(GRID[:1], [photograph], read=[None, None])


def test_a_bar_says_where_its_colours_end() -> None:
    maps = torch.full((1, 20, 20), 0.5)
    maps[0, 3, 4] = 30
    for figure in (pictures.show_attribution(maps), pictures.show_grid({"a": maps})):
        assert limits(figure) == [(0, pytest.approx(0.5))]
        bar = next(axis for axis in figure.get_axes() if axis.get_label() == "<colorbar>")
        assert bar.get_ylabel() == "score, up to the 99.5% quantile"
        assert bar._colorbar.extend == "max"  # type: ignore[attr-defined]
