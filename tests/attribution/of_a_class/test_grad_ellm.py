"""Grad-ELLM beside its formula, on the queries, keys and values that transformers' attention gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import GradELLM

from .. import small_models as small
from ..text.texts import DECODER, TEXT


def spied(model: Any, ids: Tensor, target: tuple[int, int]) -> Tensor:
    """(layer, batch, token): the scores of each layer, by w, v and Φ(q · k)."""
    registry, seen = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS, []
    fused = registry["sdpa"]

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        mixed, weights = fused(module, query, key, value, *args, **kwargs)
        mixed.retain_grad()
        repeats = query.shape[1] // key.shape[1]
        seen.append((query, key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1), mixed))
        return mixed, weights

    registry.register("spy", spy)
    model.set_attn_implementation("spy")
    place, number = target
    model(ids).logits[:, place, number].sum().backward()
    model.set_attn_implementation("sdpa")
    rows = []
    for query, key, value, mixed in seen:
        channels = value.transpose(1, 2).flatten(2)  # (batch, token, channel)
        weight = mixed.grad.flatten(2)[:, place]
        products = torch.einsum("bhc,bhjc->bj", query[:, :, place], key)[:, : place + 1]
        loosened = torch.zeros_like(channels[..., 0])
        least, most = products.amin(1, keepdim=True), products.amax(1, keepdim=True)
        loosened[:, : place + 1] = (products - least) / (most - least)
        rows.append((weight[:, None] * channels * loosened[..., None]).sum(-1).relu())
    return torch.stack(rows).detach()


@pytest.mark.parametrize("place", [6, 3])
def test_beside_its_formula(place: int) -> None:
    model = small.llama()
    expected = spied(model, small.ids(), (place, 3))
    found = GradELLM(model, start=place).attribute(small.ids(), (place, 3), output="tokens")
    assert torch.allclose(found, expected.sum(0), atol=1e-10)
    assert float(expected.sum(0).max()) > 1e-3
    last = GradELLM(model, start=place, layers=-1).attribute(small.ids(), (place, 3), output="tokens")
    assert torch.allclose(last, expected[-1], atol=1e-10)


def test_a_token_alone_has_nothing_to_compare() -> None:
    model, first = small.llama(), small.ids()[:, :1]
    assert not GradELLM(model).attribute(first, (0, 3), output="tokens").any()


def test_of_texts() -> None:
    model = small.llama()
    result = GradELLM(model).attribute_text(TEXT, "a dog", DECODER)
    assert result.policy == "the walk starts at the position that predicts the output token and sees the context alone"
    ids = torch.tensor([DECODER.encode(TEXT)])
    found = ac.capture_gradients(
        model, ids, target=lambda output: output.logits[:, -1].log_softmax(-1)[:, DECODER.convert_tokens_to_ids("a")]
    )
    assert result.token_attr is not None
    assert torch.allclose(result.token_attr[0], GradELLM().score(found)[0].double(), atol=1e-8)
