"""The title of a picture: method, model, layers, and what was left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.attribution import described
from attnchain_interp.store import Role


def held(maps: str = "attention") -> ac.AttentionStore:
    layout = ac.TokenLayout.image(1, (2, 2), prefix=[Role.REGISTER] * 2, class_token=True)
    layers = [ac.LayerAttention(f"layer.{k}", torch.full((1, 2, 7, 7), 1 / 7)) for k in range(4)]
    return ac.AttentionStore(layers, layout, {"model": "Net", "maps": maps})


@pytest.mark.parametrize(
    ("method", "maps", "title"),
    [
        (ac.TokenRank(), "attention", "TokenRank, Net, last 2 of 4 layers, balanced"),
        (
            ac.TokenRank(layers="all", balanced=0.5),
            "alti",
            "TokenRank(layers='all', balanced=0.5), Net, all of 4 layers, balanced by 0.5, alti",
        ),
        (ac.ColumnSum(layers=[0, 2]), "attention", "ColumnSum(layers=[0, 2]), Net, 2 of 4 layers"),
        (ac.TokenRank(layer_weights="late", balanced=False, layers="all"), "attention", "late"),
    ],
)
def test_what_is_shown(method: Any, maps: str, title: str) -> None:
    first, last = described(method, held(maps)).split("\n")
    assert title in first
    assert last == "Without a score: 1 class token, 2 register tokens."


def test_nothing_is_left_out_of_a_text() -> None:
    store = ac.AttentionStore.from_maps([torch.full((1, 1, 3, 3), 1 / 3)], ac.TokenLayout.text(torch.ones(1, 3)))
    assert described(ac.ColumnSum(), store) == "ColumnSum, all of 1 layer"
