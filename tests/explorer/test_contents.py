"""What a page shows beside the maps, and what does not fit."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import attnchain_interp as ac
from attnchain_interp.explorer.contents import _pixels

from .stores import random_store


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"example": 1}, "example 1 does not exist; there are 1, numbered 0 to 0"),
        ({"max_mb": 0}, "max_mb is 0; it is the size"),
        ({"methods": {"m": torch.ones(3)}}, r"(?s)methods\['m'\] has shape \(3,\).*Give finite scores"),
        ({"methods": {"m": torch.full((10,), torch.nan)}}, "Give finite scores"),
        ({"curves": {"m": None}}, "curves names m, but methods has no scores"),
        (
            {"targets": {"c": torch.eye(10)}},
            r"targets\['c'\] is a Tensor that does not fit; it must be a Chain over the 10\s+tokens",
        ),
        ({"targets": {"c": ac.chain.as_chain(torch.eye(10))}}, "a chain over other states than the page"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        ac.explore(random_store(), **changes)


def test_gradients_of_a_class_give_its_chain() -> None:
    model = timm.create_model("test_vit", num_classes=3).eval()
    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    store, gradients = ac.capture(model, image), ac.capture_gradients(model, image, target=1)
    payload = ac.explore(store, targets={"one": gradients}).payload
    chain = ac.attribution.gradient_chain(gradients, None)
    states = chain.states[0]
    assert payload.header["targets"] == ["one"]
    held = payload.array("targets")[0].astype(float) ** 2
    held = (held / held.sum(-1, keepdims=True))[payload.header["states"]]
    assert held == pytest.approx(chain.matrix[0][states][:, states].detach().numpy(), abs=2e-3)
    with pytest.raises(ac.AttentionError, match=r"targets\['one'\] is a Chain that does not fit"):
        ac.explore(random_store(), targets={"one": gradients})


def test_a_picture_is_the_part_on_which_patches_lie() -> None:
    """Patches leave a rest of the image unread, or lie outside of it in part: there its edge goes on."""
    maps = torch.full((1, 1, 6, 6), 1 / 6)
    picture = np.random.default_rng(0).random((7, 9, 3))
    for patch in (3, 4):
        layout, lie = ac.TokenLayout.image(grid=(2, 3)), f"2×3 patches of {patch}×{patch} pixels in 7×9"
        store = ac.AttentionStore([ac.LayerAttention("layer.0", maps)], layout, {"patches": lie})
        found = _pixels(store, picture, None)
        assert found.shape == (2 * patch, 3 * patch, 3)
        assert (found[:6, :9] == picture[:6]).all()
        assert (found[-1, -1] == picture[min(6, 2 * patch - 1), -1]).all()
    shown = ac.explore(store, picture).payload.header["image"]
    with Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))) as image:
        assert image.size == (12, 8)


def test_attention_sinks_are_told_by_their_place_among_the_shown_tokens() -> None:
    maps, norms = torch.full((1, 2, 6, 6), 0.04), torch.ones(1, 2, 6)
    maps[..., 3] = 0.8
    tokens = ac.TokenLayout.text(torch.tensor([[0, 1, 1, 1, 1, 1]]))
    store = ac.AttentionStore([ac.LayerAttention("layer.0", maps, value_norms=norms)], tokens)
    told = ac.explore(store).payload.header["sinks"]
    assert list(told) == [2]
    assert told[2].startswith("takes 80% of attention in 2 of 2 heads")
    assert ac.explore(random_store()).payload.header["sinks"] == {}
