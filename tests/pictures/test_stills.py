"""Still pictures that need no script."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from attnchain_interp.pictures.stills import overlaid, shaded


def test_a_heat_map_is_blended_with_the_grey_picture_and_keeps_the_proportions_of_the_grid() -> None:
    patches = np.array([[0.0, 1.0], [2.0, 4.0], [4.0, 0.0]])
    heat = colormaps["magma"](patches / 4)[..., :3]
    plain = overlaid(patches, None, 30)
    assert plain.shape == (30, 20, 3)
    assert np.abs(plain[5::10, 5::10] - heat).max() < 0.005
    white = overlaid(patches, np.ones((7, 5, 3)), 30)
    assert np.abs(white[5::10, 5::10] - (0.6 * heat + 0.4)).max() < 0.01


def test_neighbours_of_one_shade_share_an_element_and_sinks_are_out_of_the_scale() -> None:
    found = shaded(["<s>", "Ġa", "Ġb", "c", "\0"], np.array([9.0, 0, 0, 0.5, 1]), [0])
    assert found == (
        "<span style='background:#08306b;color:#fff'>&lt;s&gt;</span> a b"
        "<span style='background:#6aaed6;color:#000'>c</span>"
        "<span style='background:#08306b;color:#fff'>␀</span>"
    )
