"""The layers of a trace are chosen as those of a capture are."""

from __future__ import annotations

from typing import Any

import nnsight
import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.tracing import attention_modules, token_rank
from attnchain_adapters.tracing.layer_choice import chosen_layers

from ..nnsight_zoo import IMAGES, LONG, decoder, encoder, timm_model

SECOND = "model.layers.1.self_attn"


@pytest.mark.parametrize(
    "layers", ["all", 1, -1, SECOND, slice(1, None), slice(None, None, 2), [1], [-1, 0], [2, 0, 2], (SECOND, 0), [SECOND, -1]]
)
def test_they_are_those_of_a_capture(layers: Any) -> None:
    model = decoder()
    with model.trace(LONG):
        ranks = nnsight.save(token_rank(model, layers=layers))
    store = ac.capture(model, LONG, layers=layers)
    assert [envoy.path for envoy in chosen_layers(model, layers)] == [f"model.{name}" for name in store.names]
    assert torch.allclose(ranks, ac.stationary(store.maps(), 0.5, torch.eye(7)[-1]), atol=1e-5)


@pytest.mark.parametrize("build", [encoder, timm_model])
def test_numbers_and_names_are_the_same_for_images(build: Any) -> None:
    model = build()
    names = ac.capture(model, IMAGES).names
    assert [envoy.path for envoy in chosen_layers(model, names)] == [f"model.{name}" for name in names]
    assert chosen_layers(model, -1)[0].path == f"model.{names[-1]}"


def test_modules_may_be_mixed_with_numbers() -> None:
    model = decoder()
    known = attention_modules(model)
    assert chosen_layers(model, [known[2], 0]) == [known[0], known[2]]
    foreign = model.model.layers[2].mlp
    assert chosen_layers(model, [foreign, 0]) == [foreign, known[0]]
    assert chosen_layers(model.model, "layers.0.self_attn") == [known[0]]
    assert chosen_layers(model, None) == known
    assert chosen_layers(model, slice(5, 9)) == []


@pytest.mark.parametrize("layer", [3, -4, "layers.0", True, 0.5])
def test_a_layer_that_does_not_exist(layer: Any) -> None:
    names = "model.layers.0.self_attn, model.layers.1.self_attn, model.layers.2.self_attn"
    with pytest.raises(
        ValueError, match=f"there is no layer {layer!r}. 3 attention.*here: {names}. Give a number from -3 to 2"
    ):
        chosen_layers(decoder(), [layer])
