"""Integrated gradients beside a sum over the path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution
from captum.attr import IntegratedGradients as Captums
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import AttnLRP, IntegratedGradients

from .. import small_models as small
from ..text.texts import DECODER, TEXT


def test_on_a_decoder() -> None:
    model, ids = small.llama(), small.ids(1)
    table = model.get_input_embeddings().weight.detach()
    baseline, change = table.mean(0), table[ids] - table.mean(0)
    # Captum's points and weights
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(12))
    integral = torch.zeros_like(change)
    for alpha, weight in zip(nodes, weights, strict=True):
        point = (baseline + (1 + alpha) / 2 * change).requires_grad_()
        score = model(inputs_embeds=point).logits[0, 6].log_softmax(-1)[3]
        integral += weight / 2 * torch.autograd.grad(score, point)[0]
    expected = (change * integral).sum(-1)
    found = IntegratedGradients(model, n_steps=12, internal_steps=5).attribute(ids, (6, 3), output="tokens")
    assert torch.allclose(found, expected, atol=1e-6)
    embedded = IntegratedGradients(model, n_steps=12, internal_steps=12).attribute(table[ids], (6, 3), output="tokens")
    assert torch.allclose(embedded, found, atol=1e-9)


@pytest.mark.parametrize("n_steps", [1, 5, 50])
def test_the_integral_is_captums(n_steps: int) -> None:
    model, images = small.vit(), small.images()
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    pixels: Tensor = Captums(model).attribute(images, mean, 1, n_steps=n_steps)
    expected = pixels.sum(1).unflatten(1, (2, 4)).unflatten(3, (3, 4)).sum((2, 4))
    found = IntegratedGradients(model, n_steps=n_steps, score="logit").attribute(images, 1, output="grid")
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_an_output_that_is_detached_is_refused() -> None:
    model = small.vit()
    model.head.register_forward_hook(lambda *given: given[-1].detach())
    with pytest.raises(ac.AttentionError, match="does not depend on the inputs by a gradient"):
        IntegratedGradients(model).attribute(small.images(), 1)
    with torch.inference_mode(), pytest.raises(ac.AttentionError, match="inference_mode"):
        IntegratedGradients(small.vit()).attribute(small.images(), 1)


def test_scores_add_up_to_the_change_of_the_score() -> None:
    model, images = small.vit(), small.images()
    method = IntegratedGradients(model, n_steps=60, score="logit")
    assert isinstance(method, GradientAttribution)
    found = method.attribute(images, [1, 2], output="grid")
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    change = (model(images) - model(mean))[[0, 1], [1, 2]].detach()
    assert torch.allclose(found.sum((1, 2)), change, atol=0.02 * float(found.abs().sum((1, 2)).min()))
    with torch.no_grad():
        assert torch.allclose(method.attribute(images, [1, 2], output="grid"), found)


@pytest.mark.parametrize("model", small.seq2seq_classifiers(), ids=lambda model: type(model).__name__)
def test_scores_of_an_encoder_add_up(model: Any) -> None:
    """Classifiers of BART's kind take no embeddings: those of the encoder are changed inside."""
    ids = small.ids(1)
    ids[0, -1] = model.config.eos_token_id
    method = IntegratedGradients(model, n_steps=600, score="logit", internal_steps=200)
    found = method.attribute(ids, 1, output="tokens", reading=ac.Reading(kind="encoder"))
    embedding = model.get_encoder().embed_tokens
    with embedding.register_forward_hook(lambda *given: embedding.forward(torch.arange(60)).mean(0).expand_as(given[-1])):
        without = model(ids).logits[0, 1]
    assert torch.allclose(found.sum(), model(ids).logits[0, 1] - without, atol=0.01 * float(found.abs().sum()))


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
@pytest.mark.parametrize("method", [IntegratedGradients, AttnLRP])
def test_the_text_beside_an_image(name: str, method: Any) -> None:
    model, ids, image = small.two_towers(name), small.ids(1), torch.randn(1, 3, 16, 16).double()
    ids[0, -1] = 2
    options = {"model_kwargs": {"pixel_values": image}, "reading": ac.Reading(tower="text"), "output": "tokens"}
    found = method(model).attribute(ids, lambda output: output.logits_per_text[:, 0], **options)
    assert found.shape == (1, 7)
    assert float(found.abs().max()) > 0


def test_padding_and_texts() -> None:
    model, mask = small.bert(), torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    method = IntegratedGradients(model, n_steps=4)
    scores = method.attribute(small.ids(), 1, mask, output="tokens")
    assert torch.allclose(scores[1:, :3], method.attribute(small.ids()[1:, :3], 1, output="tokens"), atol=1e-7)
    assert not scores[1, 3:].any()
    result = IntegratedGradients(small.llama(), n_steps=4).attribute_text(TEXT, "a", DECODER)
    ids = torch.tensor([DECODER.encode(TEXT)])
    target = (ids.shape[1] - 1, DECODER.convert_tokens_to_ids("a"))
    expected: Tensor = IntegratedGradients(small.llama(), n_steps=4).attribute(ids, target, output="tokens")
    assert result.token_attr is not None
    assert torch.allclose(result.token_attr, expected, atol=1e-9)


def test_refusals() -> None:
    with pytest.raises(ac.AttentionError, match="n_steps"):
        IntegratedGradients(small.vit(), n_steps=0)
    with pytest.raises(ac.AttentionError, match="score='p'"):
        IntegratedGradients(small.vit(), score="p")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="internal_steps"):
        IntegratedGradients(small.vit(), internal_steps=0)
