"""Axes in a grid, and maps in them. Places on an image: scores on its grid, and the patch of a token."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib import pyplot, rc_context
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.pictures.figures import (
    blank_axes,
    colour_bar,
    draw_map,
    evenly_broken,
    frame_patch,
    name_column,
    name_row,
    on_grid,
    patch_at,
)
from attnchain_interp.pictures.scale import Scale

from .walks import small_store

MAP = np.array([[0.0, 1.0], [2.0, 4.0]])
TOKENS = ac.TokenLayout.image(2, (2, 3), prefix=[ac.Role.CLASS])


def test_axes_are_a_grid_that_pyplot_does_not_know() -> None:
    known = pyplot.get_fignums()  # other tests may have left figures
    figure, axes = blank_axes(2, 3, cell=2.0)
    assert axes.shape == (2, 3)
    assert not any(axis.axison for axis in axes.flat)
    assert figure.get_size_inches().tolist() == [6.0, 4.3]
    assert pyplot.get_fignums() == known


def test_axes_take_what_those_of_matplotlib_take() -> None:
    _, axes = blank_axes(1, 2)
    drawn = axes[0, 0].imshow(MAP, "gray", origin="lower"), axes[0, 1].imshow(X=MAP)
    assert [(each.origin, each.get_cmap().name) for each in drawn] == [("lower", "gray"), ("upper", "viridis")]


def test_a_notebook_shows_a_figure_where_pyplot_was_never_loaded() -> None:
    """IPython asks for these bytes; without them a cell would say `<Figure size …>`."""
    figure, axes = blank_axes(1, 2)
    axes[0, 0].imshow(MAP)
    with Image.open(BytesIO(figure._repr_png_())) as picture:  # type: ignore[attr-defined]
        assert picture.size == tuple((figure.get_size_inches() * figure.dpi).astype(int))
        assert len(set(picture.convert("L").tobytes())) > 3


def words() -> Figure:
    """The heads of a text, whose names no LaTeX can set."""
    layout = ac.TokenLayout.text(labels=[["a_b", "50%", "#"]])
    return ac.show_heads(ac.AttentionStore.from_maps([torch.eye(3)[None, None]], layout, ["layer_0"]))


def shades() -> Figure:
    scores = torch.tensor([[0.2, -0.3, 0.5]])
    return pictures.show_text(
        ac.TextAttributionResult(input_tokens=["a", "dog", "bit"], output_tokens=["me"], token_attr=scores, policy="own")
    )


IMAGE = torch.arange(24.0).reshape(1, 4, 6).expand(3, -1, -1) / 24
DRAWN: dict[str, Callable[[], Figure]] = {
    "an attribution": lambda: pictures.show_attribution(torch.arange(6.0).reshape(1, 2, 3), IMAGE[None], title="a_b"),
    "a walk": lambda: pictures.show_bounces(small_store(), IMAGE, start=6),
    "states": lambda: pictures.show_states(small_store(), [IMAGE, IMAGE]),
    "layers": lambda: pictures.show_layers(small_store(), IMAGE),
    "heads": lambda: ac.show_heads(small_store()),
    "heads of a text": words,
    "a text": shades,
    "a chain": lambda: pictures.show_chain(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), labels=["a_b", "%"]),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_settings_of_the_user_turn_no_image(draw: Callable[[], Figure]) -> None:
    with rc_context({"image.origin": "lower"}):
        turned = draw()._repr_png_()  # type: ignore[attr-defined]
    assert turned == draw()._repr_png_()  # type: ignore[attr-defined]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_no_name_is_latex(draw: Callable[[], Figure]) -> None:
    with rc_context({"text.usetex": True}):
        named = [text for text in draw().findobj(Text) if isinstance(text, Text) and text.get_text()]
    assert named
    assert not [text for text in named if text.get_usetex()]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_texts_can_be_read_on_a_dark_page(draw: Callable[[], Figure]) -> None:
    with pyplot.style.context("dark_background"):
        figure = draw()
        figure.draw_without_rendering()
        outside = [text for text in figure.findobj(Text) if isinstance(text, Text) and not text.get_path_effects()]
        inside = {text for axis in figure.axes for text in axis.texts if text.get_zorder() == 4}  # of states, on their colour
        assert not [text for text in outside if text not in inside and text.get_text() and sum(to_rgb(text.get_color())) < 1]
        marks = [text for axis in figure.axes for text in axis.texts if text.get_path_effects()]
        assert all(to_rgb(text.get_color()) == (0, 0, 0) for text in marks)  # within a white line


def test_a_map_over_an_image_covers_it_and_lets_it_through() -> None:
    _, axes = blank_axes(1, 1)
    drawn = draw_map(axes[0, 0], MAP, Scale.of([MAP]), np.zeros((8, 6, 3)))
    below, above = axes[0, 0].images
    assert above is drawn
    assert above.get_extent() == [-0.5, 5.5, 7.5, -0.5] == below.get_extent()
    assert below.get_alpha() is None
    depth = np.asarray(above.get_alpha())
    assert (depth.min(), depth.max()) == (pytest.approx(0.3 + 0.45 * MAP.min() / MAP.max()), pytest.approx(0.75))


def test_no_line_of_a_caption_is_a_single_word() -> None:
    text = "Each map has its own scale, from zero to its greatest value, and sinks are left out of it."
    for width in range(30, 100):
        lines = evenly_broken(text, width).splitlines()
        assert " ".join(lines) == text
        assert max(map(len, lines)) <= width
        assert max(map(len, lines)) - min(map(len, lines)) < 20
    assert evenly_broken("", 30) == ""
    assert evenly_broken("x" * 70, 30).count("\n") == 2, "a long word is cut"


def test_signs_choose_the_colours() -> None:
    _, axes = blank_axes(1, 2)
    for axis, scores, name, limits in ((axes[0, 0], MAP, "magma", (0, 4)), (axes[0, 1], -MAP, "RdBu_r", (-4, 4))):
        drawn = draw_map(axis, scores, Scale.of([scores]))
        assert drawn.get_cmap().name == name
        assert drawn.get_clim() == limits


def test_names_are_no_formulas_and_a_bar_stands_beside_its_axes() -> None:
    figure, axes = blank_axes(1, 2)
    name_row(axes[0, 0], "blocks.$0$")
    name_column(axes[0, 1], "$n$ = 1")
    assert not axes[0, 0].texts[0].get_parse_math()
    assert not axes[0, 1].title.get_parse_math()
    colour_bar(figure, draw_map(axes[0, 0], MAP, Scale.of([MAP])), axes)
    figure.draw_without_rendering()
    assert figure.axes[-1].get_position().x0 > axes[0, 1].get_position().x0


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
    frame_patch(axes[0, 0], (1, 2), (2, 3), (0, 0, 12, 8))
    (frame,) = axes[0, 0].patches
    assert np.allclose(frame.get_bbox().bounds, (7.5, 3.5, 4, 4))
