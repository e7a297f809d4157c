"""The direction of a logit: ⟨d, x⟩ is the logit of a Llama; of other heads, up to biases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.gradients import SeveralScores, logit_direction

from ..attribution import small_models as small

LLAMA = [f"model.layers.{k}.self_attn" for k in range(3)]


def outputs_of(block: nn.Module, model: nn.Module, *inputs: Tensor) -> tuple[Tensor, Any]:
    seen: list[Any] = []
    with torch.no_grad(), block.register_forward_hook(lambda _, __, output: seen.append(output)):
        output = model(*inputs)
    return seen[0] if isinstance(seen[0], Tensor) else seen[0][0], output


def test_a_llamas_logit_is_the_product_with_its_last_tokens() -> None:
    model, ids = small.llama(), small.ids()
    d = logit_direction(model, ids, layers=LLAMA, batch=2, target=[(6, 3), (4, 5)])
    tokens, output = outputs_of(model.model.layers[-1], model, ids)
    assert d.shape == tokens.shape
    assert torch.allclose((d * tokens).sum((1, 2)), torch.stack([output.logits[0, 6, 3], output.logits[1, 4, 5]]), atol=1e-9)
    read = d.abs().amax(-1) > 0
    assert read.nonzero().tolist() == [[0, 6], [1, 4]]
    rms = (tokens[0, 6].square().mean() + model.config.rms_norm_eps).sqrt()
    assert torch.allclose(d[0, 6], model.lm_head.weight[3] * model.model.norm.weight / rms, atol=1e-9)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_vits_logit_is_read_off_the_class_token_or_off_the_patches(pool: str) -> None:
    """The product lacks the biases of the norm and of the classifier, which are the same for every image."""
    model, images = small.vit(global_pool=pool), small.images()
    d = logit_direction(model, images, layers=["blocks.0.attn", "blocks.1.attn"], batch=2, target=1)
    tokens, output = outputs_of(model.blocks[-1], model, images)
    assert (d.abs().amax(-1) > 0)[0].tolist() == ([True] + [False] * 6 if pool == "token" else [False] + [True] * 6)
    centred, norm = tokens - tokens.mean(-1, keepdim=True), model.norm if pool == "token" else model.fc_norm
    biases = model.head.weight[1] @ norm.bias + model.head.bias[1]
    assert torch.allclose((d * tokens).sum((1, 2)) + biases, output[:, 1], atol=1e-9)
    assert torch.allclose((d * centred).sum((1, 2)), (d * tokens).sum((1, 2)), atol=1e-9), "the mean has no effect"


@pytest.mark.parametrize("name", ["vit", "gpt2", "llama"])
def test_sixteen_bits(name: str) -> None:
    """Norms of the rules are computed in float32, as those of torch."""
    if name == "vit":
        model, inputs, layers, target = small.vit(), small.images(), ["blocks.0.attn", "blocks.1.attn"], 1
    elif name == "llama":
        model, inputs, layers, target = small.llama(), small.ids(), LLAMA, (6, 3)
    else:
        torch.manual_seed(0)
        config = transformers.GPT2Config(vocab_size=60, n_embd=48, n_layer=2, n_head=3, bos_token_id=0, eos_token_id=0)
        model, inputs = transformers.GPT2LMHeadModel(config).eval().double(), small.ids()
        layers, target = ["transformer.h.0.attn", "transformer.h.1.attn"], (6, 3)
    exact = logit_direction(model, inputs, layers=layers, batch=2, target=target)
    half = inputs.bfloat16() if inputs.is_floating_point() else inputs
    found = logit_direction(model.bfloat16(), half, layers=layers, batch=2, target=target)
    assert float((found.double() - exact).norm() / exact.norm()) < 0.05


def test_a_compiled_model_is_read_as_it_is_written() -> None:
    model, ids = small.llama(), small.ids()
    found = logit_direction(torch.compile(model), ids, layers=LLAMA, batch=2, target=(6, 3))
    assert torch.equal(found, logit_direction(model, ids, layers=LLAMA, batch=2, target=(6, 3)))


def test_a_model_that_was_compiled_in_place_and_has_run_is_read_too() -> None:
    model, ids = small.llama(), small.ids()
    expected = logit_direction(model, ids, layers=LLAMA, batch=2, target=(6, 3))
    model.compile(backend="aot_eager")
    with torch.no_grad():
        model(ids)
    assert torch.equal(logit_direction(model, ids, layers=LLAMA, batch=2, target=(6, 3)), expected)


def test_refusals() -> None:
    model, ids = small.llama(), small.ids()
    with pytest.raises(ac.AttentionError, match="cannot be selected from logits"):
        logit_direction(model, ids, layers=LLAMA, batch=2, target=(6, 99))
    with pytest.raises(ac.AttentionError, match="several scores have no direction in common"):
        logit_direction(model, ids[:1], layers=LLAMA, batch=1, target=SeveralScores(lambda output: output.logits[0, -1, :2]))
    with torch.inference_mode(), pytest.raises(ac.AttentionError, match="inference_mode"):
        logit_direction(model, ids, layers=LLAMA, batch=2, target=(6, 3))
    with pytest.raises(ac.AttentionError, match="does not depend on the tokens of the last block"):
        logit_direction(model, ids, layers=LLAMA, batch=2, target=lambda output: torch.ones(2))
    with pytest.raises(ac.AttentionError, match="is in no block of its own"):
        logit_direction(nn.Linear(2, 2), torch.ones(1, 2), layers=["a"], batch=1, target=0)
    with pytest.raises(ac.AttentionError, match=r"(?s)read off a module; got function.*Pass the module"):
        logit_direction(lambda x: x, ids, layers=LLAMA, batch=2)
