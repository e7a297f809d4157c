"""Heads in frames of the colour of their second eigenvalue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps

import attnchain_interp as ac
from attnchain_interp import pictures

from .walks import GRID, power, shown, small_store


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


def test_what_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="order='slow' is unknown.\nUse 'head' or 'lambda2'"):
        pictures.show_heads(small_store(), order="slow")  # type: ignore[arg-type]
