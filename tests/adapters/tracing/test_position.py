"""Where the model stands when a function of a trace is called."""

from __future__ import annotations

from typing import Any

import nnsight
import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.tracing import token_rank
from attnchain_adapters.tracing.position import position, reached

from ..nnsight_zoo import LONG, SHORT, decoder, refused, timm_model


def test_a_call_outside_a_trace_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no trace here.*\n*.*with model.trace\(prompt\):"):
        token_rank(decoder())


def test_places() -> None:
    model, found = decoder(), {}
    first, second = model.model.layers[0], model.model.layers[1]
    with model.generate(LONG, max_new_tokens=2, min_new_tokens=2) as tracer:
        for step in tracer.iter[:2]:
            found["before", step] = reached(first.self_attn)
            _ = first.self_attn.inputs
            found["at its input", step] = reached(first.self_attn)
            _ = first.self_attn.o_proj.input
            found["inside", step] = reached(first.self_attn)
            _ = first.self_attn.output
            found["at its output", step] = reached(first.self_attn)
            _ = second.self_attn.output
            found["behind", step] = reached(first.self_attn)
            found["location", step] = position(first).location
        nnsight.save(found)
    for step in range(2):
        assert found["before", step] == found["at its input", step] == ""
        assert found["inside", step] == found["at its output", step] == "inside"
        assert found["behind", step] == "behind"
        assert found["location", step] == "model.model.layers.1.self_attn.output"


def by_hook(model: Any, module: Any, zero: Any) -> torch.Tensor:
    with module.register_forward_pre_hook(zero):
        maps = ac.capture(model, LONG).maps()
    return ac.stationary(maps, 0.5, torch.eye(7)[-1])


def test_layers_in_which_an_intervention_happens_are_read() -> None:
    model = decoder()
    attention = model.model.layers[1].self_attn

    def without_head(_: Any, inputs: Any) -> Any:
        inputs[0][..., :12] = 0

    with model.trace(LONG):
        attention.o_proj.input[..., :12] = 0
        ranks = nnsight.save(token_rank(model, layers=slice(1, None)))
    wanted = by_hook(model, attention.o_proj._module, without_head)
    assert torch.allclose(ranks, wanted[:, 1:], atol=1e-5)
    assert float((wanted - by_hook(model, attention.o_proj._module, lambda *_: None)).abs().max()) > 1e-2
    with model.trace(LONG):
        each = nnsight.save([])
        for layer in model.model.layers:
            layer.self_attn.o_proj.input[..., :12] = 0
            each.append(token_rank(model, layers=[layer.self_attn]))
    assert len(each) == 3


def test_the_output_of_an_attention_may_be_changed_first() -> None:
    model = decoder()
    with model.trace(LONG):
        model.model.layers[0].self_attn.output[0][:, -1] = 0
        ranks = nnsight.save(token_rank(model))
    with model.trace() as tracer:
        with tracer.invoke(LONG):
            model.model.layers[0].self_attn.output[0][:, -1] = 0
        with tracer.invoke():
            wanted = nnsight.save(token_rank(model))
    assert torch.allclose(ranks, wanted, atol=1e-6)


def test_what_may_be_padding_is_not_guessed() -> None:
    def late(model: Any) -> None:
        model.model.layers[0].self_attn.output[0][:, -1] = 0
        token_rank(model)

    refused("layers.0.self_attn runs already. The mask, which tells padding, has passed", decoder(), late, [LONG, SHORT])


def test_a_fused_call_that_has_passed() -> None:
    model = timm_model()

    def late(model: Any) -> None:
        model.blocks[0].attn.output[:] = 0
        token_rank(model)

    refused("blocks.0.attn had run already", model, late, torch.ones(1, 3, 64, 64))
