"""AttnLRP beside blocks that are written out with its rules, and Captum's contract of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from captum.attr import GradientAttribution, NoiseTunnel
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.attribution import AttnLRP

from .. import small_models as small
from ..text.texts import DECODER, ENCODER, TEXT, bart
from . import relevance_replicas as replicas

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
PATCHES: dict[str, Any] = {name: {"image_size": 8, "patch_size": 4, "attn_implementation": name} for name in ("sdpa", "eager")}


def gpt2(implementation: str = "sdpa") -> Any:
    torch.manual_seed(0)
    options = {**SIZES, "attn_implementation": implementation}
    config = transformers.GPT2Config(**options)
    return small.sharpened(transformers.GPT2LMHeadModel(config))


def dinov2(implementation: str = "sdpa") -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "num_labels": 4}
    config = transformers.Dinov2Config(**sizes, **PATCHES[implementation])
    return small.sharpened(transformers.Dinov2ForImageClassification(config))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("build", "replica"), [(small.llama, replicas.llama), (gpt2, replicas.gpt2)], ids=["llama", "gpt2"])
def test_on_decoders(build: Callable[..., Any], replica: Any, implementation: str) -> None:
    model, target = build(implementation), [(6, 3), (4, 7)]
    embedded = model.get_input_embeddings()(small.ids()).detach().requires_grad_()
    logits = replica(model, embedded)
    assert torch.allclose(logits, model(small.ids()).logits, atol=1e-6), "the replica is the model"
    expected = replicas.relevance(torch.stack([logits[k, p, c] for k, (p, c) in enumerate(target)]), embedded).sum(-1)
    found = AttnLRP(model).attribute(small.ids(), target, output="tokens")
    assert torch.allclose(found, expected, atol=1e-7)  # the eager softmax of transformers is in float32
    assert float(expected.abs().max()) > 1e-3
    assert not found[1, 5:].any()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_on_bert(implementation: str) -> None:
    model = small.bert(implementation)
    embedded = model.get_input_embeddings()(small.ids()).detach().requires_grad_()
    logits = replicas.bert(model, embedded)
    assert torch.allclose(logits, model(small.ids()).logits)
    expected = replicas.relevance(logits[:, 2], embedded).sum(-1)
    assert torch.allclose(AttnLRP(model).attribute(small.ids(), 2, output="tokens"), expected, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_on_timm(fused: bool) -> None:
    model, images = small.vit(fused=fused), small.images().requires_grad_()
    logits = replicas.timm_vit(model, images)
    assert torch.allclose(logits, model(images))
    expected = replicas.relevance(logits[:, 1], images).sum(1).unflatten(1, (2, 4)).unflatten(3, (3, 4)).sum((2, 4))
    assert torch.allclose(AttnLRP(model).attribute(images.detach(), 1, output="grid"), expected, atol=1e-12)
    assert not AttnLRP(model).attribute(images.detach(), 1, output="tokens")[:, 0].any(), "a class token has no pixels"


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_on_dinov2(implementation: str) -> None:
    model = dinov2(implementation)
    images = small.images()[..., :8].clone().requires_grad_()
    logits = replicas.dinov2(model, images)
    assert torch.allclose(logits, model(images).logits)
    expected = replicas.relevance(logits[:, 1], images).sum(1).unflatten(1, (2, 4)).unflatten(3, (2, 4)).sum((2, 4))
    assert torch.allclose(AttnLRP(model).attribute(images.detach(), 1, output="grid"), expected, atol=1e-12)


def test_a_text_with_an_image_has_the_relevance_of_its_merged_embeddings() -> None:
    model = small.llava()
    alone = transformers.LlamaForCausalLM(model.config.text_config).double().eval()
    alone.model, alone.lm_head = model.model.language_model, model.lm_head
    ids, pixels = torch.tensor([[1, 50, 50, 50, 50, 7, 8, 9]]), torch.randn(1, 3, 16, 16, dtype=torch.float64)
    found = AttnLRP(model).attribute(ids, (-1, 7), model_kwargs={"pixel_values": pixels}, reading=ac.Reading(tower="text"))
    merged = model.get_input_embeddings()(ids).detach()
    merged[ids == 50] = model.get_image_features(pixels).pooler_output[0].detach()
    expected = AttnLRP(alone).attribute(merged, (-1, 7), output="tokens")
    assert torch.allclose(found, expected * (ids != 50))
    assert bool(found[ids != 50].all())


def test_a_target_that_is_a_function_and_one_for_each_example() -> None:
    model, images = small.vit(), small.images(3)
    each = AttnLRP(model).attribute(images, [0, 3, 0], internal_batch_size=2)
    alone = [AttnLRP(model).attribute(images[k : k + 1], target) for k, target in enumerate((0, 3, 0))]
    assert torch.allclose(each, torch.cat(alone), atol=1e-12)
    assert torch.allclose(AttnLRP(model).attribute(images, lambda output: 2 * output[:, 3]),
                          2 * AttnLRP(model).attribute(images, 3))  # fmt: skip


def test_relevance_adds_up_where_nothing_takes_a_part_of_it() -> None:
    """Llama has no biases and no position embeddings. Without the output of attention its softmax takes nothing."""
    model = small.llama()
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    logits = model(small.ids()).logits[:, -1, 3]
    relevance = AttnLRP(model).attribute(small.ids(), (6, 3), output="tokens")
    assert torch.allclose(relevance.sum(1), logits, atol=1e-12)
    assert bool((logits.abs() > 1e-3).all())


def test_captum_contract() -> None:
    model, images = small.vit(), small.images(3)
    method = AttnLRP(model)
    assert isinstance(method, GradientAttribution)
    single = method.attribute(images, 1)
    assert (single.shape, single.dtype, single.is_contiguous(), single.requires_grad) == (
        images.shape,
        images.dtype,
        True,
        False,
    )
    several = method.attribute((images,), 1)
    assert isinstance(several, tuple)
    assert torch.equal(several[0], single)
    model.requires_grad_(False)
    with torch.no_grad():
        assert torch.allclose(method.attribute(images, 1), single, atol=1e-12)
    smooth = NoiseTunnel(method).attribute(images, nt_samples=2, stdevs=1e-9, target=1)
    assert isinstance(smooth, Tensor)
    assert torch.allclose(smooth, single, atol=1e-6)


def test_relevance_of_a_model_in_16_bits_is_summed_in_float32() -> None:
    model, ids = small.llama().bfloat16(), small.ids()
    scores = AttnLRP(model).attribute(ids, (6, 3), output="tokens")
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def test_the_model_is_left_as_it_was() -> None:
    model = small.bert()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    AttnLRP(model).attribute(small.ids(), 1, output="tokens")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_padding_has_no_relevance_and_embeddings_are_those_of_the_numbers() -> None:
    model, mask = small.bert(), torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    scores = AttnLRP(model).attribute(small.ids(), 1, mask, output="tokens")
    alone = AttnLRP(model).attribute(small.ids()[1:, :3], 1, output="tokens")
    assert torch.allclose(scores[1:, :3], alone, atol=1e-9)
    assert not scores[1, 3:].any()
    embedded = model.get_input_embeddings()(small.ids()).detach()
    given = AttnLRP(model).attribute(embedded, 1, output="tokens", model_kwargs={"attention_mask": mask})
    assert torch.allclose(given, scores, atol=1e-12)


def test_of_texts() -> None:
    model = small.llama()
    result = AttnLRP(model).attribute_text(TEXT, "a dog", DECODER)
    ids = DECODER.encode(TEXT) + DECODER.encode("a dog", add_special_tokens=False)
    assert result.token_attr is not None
    for k, length in enumerate((len(ids) - 2, len(ids) - 1)):
        row = AttnLRP(model).attribute(torch.tensor([ids[:length]]), (length - 1, ids[length]), output="tokens")[0]
        assert torch.allclose(result.token_attr[k], row[: len(ids) - 2], atol=1e-12)
    assert result.output_probs is not None
    assert torch.isclose(result.output_probs[1], model(torch.tensor([ids])).logits[0, -2].softmax(-1)[ids[-1]])
    whole = AttnLRP(small.bert()).attribute_text(TEXT, 1, ENCODER)
    assert whole.output_tokens == ["LABEL_1"]
    assert whole.token_attr is not None
    expected = AttnLRP(small.bert()).attribute(torch.tensor([ENCODER.encode(TEXT)]), 1, output="tokens")
    assert torch.allclose(whole.token_attr, expected, atol=1e-12)


def test_refusals() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.logcumsumexp(1)

    model = small.vit()
    model.blocks[1].mlp.act = Odd()  # type: ignore[union-attr]
    with pytest.raises(ac.AttentionError, match="Odd calls logcumsumexp, for which there is no rule"):
        AttnLRP(model).attribute(small.images(), 1)
    with pytest.raises(ac.AttentionError, match="BartForConditionalGeneration is an encoder–decoder"):
        AttnLRP(bart()).attribute(small.ids(), (0, 1))
    with pytest.raises(ac.AttentionError, match="does not depend on the inputs by a gradient"):
        AttnLRP(small.vit()).attribute(small.images(), lambda output: output[:, 0].detach())
    with pytest.raises(ac.AttentionError, match="has no get_input_embeddings"):
        AttnLRP(nn.Sequential(nn.Embedding(60, 12), nn.TransformerEncoderLayer(12, 3, 12, batch_first=True)).eval()).attribute(
            small.ids(), (0, 1), reading=ac.Reading(tokens=ac.TokenLayout.text())
        )


@pytest.mark.parametrize("name", ["Mixtral", "GptOss"])
def test_experts_that_change_their_tensors_in_place_are_refused(name: str) -> None:
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    options: dict[str, Any] = {"vocab_size": 60, "num_key_value_heads": 2, "num_local_experts": 4, "pad_token_id": 0}
    config = getattr(transformers, f"{name}Config")(**sizes, **options, head_dim=12)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with pytest.raises(ac.AttentionError, match="for which there is no rule of relevance"):
        AttnLRP(model).attribute(small.ids(1), (6, 3), output="tokens")
