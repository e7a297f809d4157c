"""The picture of a page where scripts do not run."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

import attnchain_interp as ac

from .screen import exact_store


def test_an_image_shows_two_bounces_from_the_class_token_over_the_picture() -> None:
    still = ac.explore(exact_store(), torch.zeros(3, 30, 40)).still
    assert 'alt="2 bounces from class 0"' in still
    found = re.search(r"base64,([^\"]+)", still)
    assert found is not None
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))), dtype=float) / 255
    assert drawn.shape == (252, 336, 3)
    values = ac.bounce(exact_store().chain(balanced=True), 0, 2)[0, 1:].reshape(3, 4)
    wanted = 0.6 * colormaps["magma"]((values / values.max()).numpy())[..., :3]
    assert np.abs(drawn[42::84, 42::84] - wanted).max() < 0.03


def test_a_text_is_shaded_with_spaces_for_marks_and_stays_inert() -> None:
    maps = torch.full((1, 1, 3, 3), 1 / 3).tril()
    layout = ac.TokenLayout.text(torch.ones(1, 3), [["A", "Ġ<b>", "Ċ"]])
    store = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout)
    still = ac.explore(store).still
    assert " &lt;b&gt;" in still
    assert "Ġ" not in still
    assert "<b>" not in still
    assert still.startswith("<p>2 bounces from “↵”:</p>")
