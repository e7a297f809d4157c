"""Layers × ways of reading them, each map beside its formula. Heads in frames of the colour of their second eigenvalue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps

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


def test_the_centre_patch_is_framed_where_it_lies() -> None:
    """Patches of 3 × 3 pixels leave a rest of 2 rows and 3 columns of 8 × 12."""
    store = ac.AttentionStore([*small_store()], small_store().tokens, {"patches": "2×3 patches of 3×3 pixels in 8×12"})
    for figure in (pictures.show_layers(store, torch.rand(3, 8, 12)), pictures.show_bounces(store, torch.rand(3, 8, 12))):
        (frame,) = figure.get_axes()[0].patches
        assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((2.5, 2.5), 3, 3)  # type: ignore[attr-defined]


def test_without_an_image_and_a_class_token() -> None:
    axes = pictures.show_layers(small_store(()), layers=-1).get_axes()
    assert [axis.get_title() for axis in axes] == ["centre token", "column sum", "TokenRank"]
    assert axes[0].texts[0].get_text() == "layer.1"


def test_layers_of_balanced_chains() -> None:
    store = small_store()
    axes = pictures.show_layers(store, layers=-1, balanced=True).get_axes()
    chain = store.chain(-1, balanced=True)
    for axis, scores in zip(axes[2:4], (ac.bounce(chain, 0, 1), ac.stationary(chain)), strict=True):
        assert np.allclose(shown(axis), scores[0, 1:].view(GRID), atol=1e-6)


def test_what_show_layers_refuses() -> None:
    with pytest.raises(ac.AttentionError, match="example 2 does not exist; there are 2, numbered 0 to 1"):
        pictures.show_layers(small_store(), example=2)
    text = ac.AttentionStore.from_maps([torch.full((1, 1, 3, 3), 1 / 3)])
    for picture in (pictures.show_layers, pictures.show_bounces, lambda store: pictures.animate_bounces(store, "a.gif")):
        with pytest.raises(ac.AttentionError, match=r"no image grid to be drawn on.\nWrite show_heads\(store\)"):
            picture(text)


@pytest.mark.parametrize("order", ["head", "lambda2"])
def test_each_head_in_its_place(order: str) -> None:
    store = small_store()
    axes = pictures.show_heads(store, order=order, example=1).get_axes()  # type: ignore[arg-type]
    panels = np.array(axes[:4]).reshape(2, 2)
    assert len(axes) == 5, "one bar of colours"
    for row, layer in zip(panels, store, strict=True):
        patches = layer.maps[1].double()[:, 1:, 1:]
        matrices = patches / patches.sum(-1, keepdim=True)
        second = torch.linalg.eigvals(matrices).abs().sort(-1).values[:, -2]
        heads = [0, 1] if order == "head" else second.argsort(descending=True).tolist()
        for axis, head in zip(row, heads, strict=True):
            assert axis.get_title() == f"head {head}, |λ₂| = {second[head]:.3f}"
            endless = power(0.99 * matrices[head] + 0.01 / 6, 5000)[0]
            assert np.allclose(shown(axis), endless.view(GRID), atol=1e-6)
            assert np.allclose(axis.spines["top"].get_edgecolor(), colormaps["viridis"](float(second[head])), atol=0.01)
        assert row[0].texts[0].get_text() == layer.name


def test_what_show_heads_refuses() -> None:
    with pytest.raises(ac.AttentionError, match="order='slow' is unknown.\nUse 'head' or 'lambda2'"):
        pictures.show_heads(small_store(), order="slow")  # type: ignore[arg-type]
