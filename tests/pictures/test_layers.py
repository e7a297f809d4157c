"""Layers × ways of reading them, each map beside its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import pictures

from .walks import GRID, power, shown, small_store


def test_each_map_is_what_its_column_says() -> None:
    store = small_store()
    figure = pictures.show_layers(store, torch.rand(3, 8, 12), example=1)
    axes = np.array(figure.get_axes()).reshape(3, 4)
    assert [axis.get_title() for axis in axes[1]] == ["centre token", "column sum", "class token", "TokenRank"]
    assert [axis.texts[0].get_text() for axis in axes[1:, 0]] == store.names
    for row, layer in zip(axes[1:], store, strict=True):
        patches = layer.maps[1].double()[:, :, 1:]
        matrix = (patches / patches.sum(-1, keepdim=True)).mean(0)  # (7, 6): the class token, then the patches
        endless = power(0.99 * matrix[1:] + 0.01 / 6, 5000)[0]
        wanted = [matrix[1 + 4], matrix[1:].mean(0), matrix[0], endless]  # the centre of 2 × 3 is row 1, column 1
        for axis, scores in zip(row, wanted, strict=True):
            assert np.allclose(shown(axis), scores.view(GRID), atol=1e-6)
    (frame,) = axes[0, 0].patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((3.5, 3.5), 4, 4)


def test_without_an_image_and_a_class_token() -> None:
    axes = pictures.show_layers(small_store(()), layers=-1).get_axes()
    assert [axis.get_title() for axis in axes] == ["centre token", "column sum", "TokenRank"]
    assert axes[0].texts[0].get_text() == "layer.1"


def test_what_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="example 2 does not exist; there are 2, numbered 0 to 1"):
        pictures.show_layers(small_store(), example=2)
    text = ac.AttentionStore.from_maps([torch.full((1, 1, 3, 3), 1 / 3)])
    with pytest.raises(ac.AttentionError, match="needs an image grid"):
        pictures.show_layers(text)
