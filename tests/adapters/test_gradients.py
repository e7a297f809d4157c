"""Gradients through every adapter and by every route, beside finite differences of the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import transformers
from nnsight import NNsight
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import CaptureRequest, StoreCollector, adapter_of

from ..attribution import small_models as small


class Classifier(nn.Module):
    """A user's model around torch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 3, 32, batch_first=True, dropout=0)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def of_torch() -> tuple[Any, Tensor, Any]:
    torch.manual_seed(0)
    return Classifier().double().eval(), torch.randn(2, 5, 24, dtype=torch.float64), 1


def of_timm(name: str, **options: Any) -> Callable[[], tuple[Any, Tensor, Any]]:
    def build() -> tuple[Any, Tensor, Any]:
        torch.manual_seed(0)
        sizes = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 4}
        model = small.sharpened(timm.create_model(name, **{**sizes, **options}))
        for name_, parameter in model.named_parameters():
            if "relative_position_bias_table" in name_:
                parameter.data = torch.randn_like(parameter)
            if "gamma" in name_:  # of the layers' scales, near zero before training
                parameter.data = torch.ones_like(parameter)
        return model, torch.randn(2, 3, 32, 32, dtype=torch.float64), 1

    return build


def of_text(family: str, implementation: str, **options: Any) -> Callable[[], tuple[Any, Tensor, Any]]:
    def build() -> tuple[Any, Tensor, Any]:
        torch.manual_seed(0)
        sizes = {"num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 16, "attn_implementation": implementation}
        config = getattr(transformers, f"{family}Config")(**{**small.BERT, **sizes, **options})
        model = small.sharpened(getattr(transformers, f"{family}ForCausalLM")(config))
        return (model.float() if family in SINGLE else model), small.ids(), (5, 3)

    return build


SINGLE = ("GptOss",)  # families that cannot compute in float64
MODELS: dict[str, Callable[[], tuple[Any, Tensor, Any]]] = {
    "torch, multi-head": of_torch,
    "timm, fused": of_timm("vit_tiny_patch16_224", patch_size=8),
    "timm, a bias that is learned": of_timm("beit_base_patch16_224", patch_size=8),
    "timm, registers and rotary positions": of_timm("vit_small_patch16_dinov3", patch_size=8),
    "transformers, fused, grouped keys": of_text("Llama", "sdpa"),
    "transformers, eager": of_text("Llama", "eager"),
    "transformers, soft cap": of_text("Gemma2", "eager", attn_logit_softcapping=5.0),
    "transformers, a sink": of_text("GptOss", "eager", num_local_experts=2, num_experts_per_tok=1),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_the_change_of_the_score(name: str) -> None:
    model, inputs, target = MODELS[name]()
    adapter = adapter_of(model)
    assert adapter is not None
    found = ac.capture_gradients(model, inputs, target=target)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.allclose(found.store.maps(), ac.capture(model, inputs, keep="maps").maps(), atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    for number, layer in enumerate(found.store):
        gradient = found.gradient(number)
        direction = torch.randn(layer.maps.shape, generator=generator).to(layer.maps) * (layer.maps > 0)
        scores: list[Tensor] = []
        outputs: list[Any] = []

        def remember(_: Any, __: Any, output: Any, outputs: list[Any] = outputs) -> None:
            outputs.append(output)

        with torch.no_grad(), model.register_forward_hook(remember):
            for step in (1e-3, -1e-3):
                request = CaptureRequest(StoreCollector(), layer.name, edit=lambda _, maps, move=step * direction: maps + move)
                adapter.capture(model, (inputs,), {}, request)
                logits = outputs[-1] if isinstance(outputs[-1], Tensor) else outputs[-1].logits
                scores.append(logits[(slice(None), *target)] if isinstance(target, tuple) else logits[:, target])
        expected = (gradient * direction).sum((1, 2, 3)).double()
        assert float(expected.abs().max()) > 1e-6, "the map counts"
        rounding = 1e-3 if scores[0].dtype == torch.float32 else 1e-5
        assert torch.allclose((scores[0] - scores[1]).double() / 2e-3, expected, rtol=2e-3, atol=rounding)


def test_a_model_that_nnsight_wraps() -> None:
    model, ids = small.bert(), small.ids()
    expected = ac.GradientAttention(model).attribute(ids, [1, 2])
    assert torch.allclose(ac.GradientAttention(NNsight(model)).attribute(ids, [1, 2]), expected)


def test_attention_to_other_tokens_has_no_chain() -> None:
    torch.manual_seed(0)
    sizes = dict.fromkeys(("encoder_layers", "decoder_layers"), 2) | dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 3)
    config = transformers.BartConfig(vocab_size=60, d_model=48, max_position_embeddings=32, **sizes, **heads)
    model = small.sharpened(transformers.BartForConditionalGeneration(config))
    ids = small.ids()
    with pytest.raises(ac.AttentionError, match='(?s)this is attention to other tokens.*Choose Reading.kind="encoder". or'):
        ac.capture_gradients(model, ids, decoder_input_ids=ids[:, :4], target=(3, 5), reading=ac.Reading(kind="cross"))
    found = ac.capture_gradients(model, ids, decoder_input_ids=ids[:, :4], target=(3, 5), reading=ac.Reading(kind="encoder"))
    assert all(found.gradient(layer).any() for layer in range(len(found)))
