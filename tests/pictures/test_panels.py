"""Axes in a grid, and maps in them."""

import numpy as np
from matplotlib import pyplot

from attnchain_interp.pictures.panels import blank_axes, colour_bar, draw_map, name_column, name_row
from attnchain_interp.pictures.scale import Scale

MAP = np.array([[0.0, 1.0], [2.0, 4.0]])


def test_axes_are_a_grid_that_pyplot_does_not_know() -> None:
    figure, axes = blank_axes(2, 3, cell=2.0)
    assert axes.shape == (2, 3)
    assert not any(axis.axison for axis in axes.flat)
    assert figure.get_size_inches().tolist() == [6.0, 4.3]
    assert pyplot.get_fignums() == []


def test_a_map_over_an_image_covers_it_and_lets_it_through() -> None:
    _, axes = blank_axes(1, 1)
    drawn = draw_map(axes[0, 0], MAP, Scale.of([MAP]), np.zeros((8, 6, 3)))
    below, above = axes[0, 0].images
    assert above is drawn
    assert above.get_extent() == [-0.5, 5.5, 7.5, -0.5] == below.get_extent()
    assert (below.get_alpha(), above.get_alpha()) == (None, 0.6)


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
