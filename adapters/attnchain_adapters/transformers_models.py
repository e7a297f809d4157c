"""Attention out of Hugging Face transformers' models."""

from __future__ import annotations

from typing import Any, Final, final

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, PreTrainedModel
from transformers.utils.output_capturing import OutputRecorder

from attnchain_adapters.checks import check_image, check_shown, check_text, refuse_dropout
from attnchain_adapters.recording import AttentionRecorder
from attnchain_interp import (
    AttentionStore,
    Keeping,
    LayerSelection,
    Loaded,
    Reductions,
    Role,
    TokenLayout,
    select_layers,
)

# Tokens before the patches; registers are counted from the configuration.
_PREFIX: Final[dict[str, list[Role]]] = {
    "vit": [Role.CLASS],
    "deit": [Role.CLASS, Role.SPECIAL],
    "beit": [Role.CLASS],
    "dinov2": [Role.CLASS],
    "dinov2_with_registers": [Role.CLASS],
    "dinov3_vit": [Role.CLASS],
    "clip_vision_model": [Role.CLASS],
    "siglip_vision_model": [],
}
_DECODERS: Final = {"llama", "mistral", "qwen2", "qwen3", "olmo2", "phi3", "gpt_neox"}
_ANY_SIZE: Final = {"dinov2", "dinov2_with_registers", "dinov3_vit"}  # they interpolate their positions themselves


@final
class TransformersAdapter:
    """Vision encoders whose layers attend globally over [prefix tokens, patches], and causal decoders of text."""

    supported = (
        "ViT, DeiT, BEiT, DINOv2 (with and without registers), DINOv3, CLIP and SigLIP vision towers; Llama, Mistral, Qwen 2"
        " and 3, OLMo 2, Phi-3 and GPT-NeoX decoders"
    )

    def recognises(self, model: nn.Module) -> bool:
        return isinstance(model, PreTrainedModel) and model.config.model_type in {*_PREFIX, *_DECODERS}

    def capture(
        self, model: nn.Module, inputs: tuple[Any, ...], layers: LayerSelection, keeping: Keeping, **kwargs: Any
    ) -> AttentionStore | Reductions:
        refuse_dropout(model)
        config: Any = model.config
        name = type(model).__name__
        tokens = (
            _text_layout(model, inputs, kwargs) if config.model_type in _DECODERS else _image_layout(model, inputs, kwargs)
        )
        kinds = _attention_classes(model)
        attention = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
        wanted = select_layers(list(attention), layers)
        keeping.expect(tokens, len(wanted), config.num_attention_heads, config._attn_implementation == "sdpa")
        with AttentionRecorder({layer: attention[layer] for layer in wanted}, keeping) as recorder:
            for layer in wanted:

                def eager(_: nn.Module, __: Any, output: Any, layer: str = layer) -> None:
                    weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
                    if layer not in recorder.routes and isinstance(weights, torch.Tensor) and weights.ndim == 4:
                        recorder.record(layer, weights, "eager")

                recorder.keep(attention[layer].register_forward_hook(eager))
            model(*inputs, **kwargs)
        advice = f'Its implementation is {config._attn_implementation!r}; load the model with "sdpa" or "eager".'
        check_shown(recorder, wanted, advice)
        return keeping.result(wanted, {"adapter": "transformers", "model": name, "route": recorder.route})

    def load(self, name: str) -> Loaded:
        processor = AutoImageProcessor.from_pretrained(name)
        saved_as = AutoConfig.from_pretrained(name).architectures or ["AutoModel"]
        model = getattr(transformers, saved_as[0]).from_pretrained(name)
        model = getattr(model, "vision_model", model).eval()  # of a two-tower model, the one that sees

        def preprocess(image: Any) -> torch.Tensor:
            return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]

        return Loaded(model, preprocess)


def _image_layout(model: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> TokenLayout:
    config, name = model.config, type(model).__name__
    images: Any = inputs[0] if inputs else kwargs.get("pixel_values")
    fixed = config.model_type not in _ANY_SIZE and not kwargs.get("interpolate_pos_encoding")
    height, width = check_image(name, images, _pair(config.image_size) if fixed else None)
    prefix = _PREFIX[config.model_type] + [Role.REGISTER] * getattr(config, "num_register_tokens", 0)
    patch = _pair(config.patch_size)
    return TokenLayout.image(len(images), (height // patch[0], width // patch[1]), prefix)


def _text_layout(model: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> TokenLayout:
    ids = inputs[0] if inputs else kwargs.get("input_ids")
    mask = inputs[1] if len(inputs) > 1 else kwargs.get("attention_mask")
    return check_text(type(model).__name__, ids, mask)


def _attention_classes(model: Any) -> tuple[type[nn.Module], ...]:
    """The module classes whose attention transformers itself records for this family."""
    recorded: Any = (model._can_record_outputs or {}).get("attentions", ())
    several = recorded if isinstance(recorded, list | tuple) else [recorded]
    return tuple(kind.target_class if isinstance(kind, OutputRecorder) else kind for kind in several)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
